//! The definition of the operations on bytes, in plain loops.

use std::hint::black_box;

use super::layer::{ByteScale, PackedLayer};
use crate::strip::Offset;
use crate::{Epilogue, Strip, StripFormat};

/// The nearest byte, ties to even; 0 of NaN.
fn byte(value: f32) -> u8 {
    // Numbers beyond the range become its ends.
    value.round_ties_even() as u8
}

impl ByteScale {
    /// The byte of a value of a channel.
    fn byte(&self, channel: usize, value: f32) -> u8 {
        byte(value.mul_add(self.inverse_steps()[channel], self.zero()))
    }
}

impl PackedLayer {
    /// The value of an output channel, whose kernel covers the bytes `input(channel, tap)`.
    fn value(&self, o: usize, input: impl Fn(usize, usize) -> u8) -> f32 {
        let taps = self.kernel * self.kernel;
        let weights = &self.weight[o * self.in_channels * taps..][..self.in_channels * taps];
        let products = weights.iter().enumerate().map(|(at, weight)| {
            let byte = i32::from(input(at / taps, at % taps));
            i32::from(*weight) * (byte - self.input_zero)
        });
        let sum: i32 = products.sum();
        (sum as f32).mul_add(self.factor[o], self.term[o])
    }
}

pub(super) fn quantize(input: &Strip, offset: Offset, scale: &ByteScale, output: &mut Strip) {
    for channel in 0..output.channels() {
        for y in output.inside() {
            for x in 0..output.width_px() {
                let (row, column) = (y as isize + offset.rows, x as isize + offset.px);
                let byte = scale.byte(channel, input.pixel(channel, row, column));
                output.set_byte(channel, y, x, byte);
            }
        }
    }
}

pub(super) fn convolution(
    layer: &PackedLayer,
    (input, offset): (&Strip, Offset),
    output: &mut Strip,
    (epilogue, maps_offset): (Epilogue<'_, Strip>, Offset),
) {
    let (kernel, reach) = (layer.kernel, (layer.kernel / 2) as isize);
    for o in 0..layer.out_channels {
        for y in output.inside() {
            for x in 0..output.width_px() {
                let (row, column) = (y as isize, x as isize);
                let value = layer.value(o, |i, tap| {
                    let ky = (tap / kernel) as isize - reach;
                    let kx = (tap % kernel) as isize - reach;
                    input.byte(i, row + offset.rows + ky, column + offset.px + kx)
                });
                let other =
                    |maps: &Strip| maps.pixel(o, row + maps_offset.rows, column + maps_offset.px);
                store(layer, output, (o, y, x), |before| {
                    epilogue.apply(o, value, before, other)
                });
            }
        }
    }
}

pub(super) fn pair(
    scale: &ByteScale,
    [expand, reduce]: [&PackedLayer; 2],
    (input, offset): (&Strip, Offset),
    output: &mut Strip,
) {
    for y in output.inside() {
        for x in 0..output.width_px() {
            let (row, column) = (y as isize + offset.rows, x as isize + offset.px);
            let narrow = |i: usize, _: usize| scale.byte(i, input.pixel(i, row, column));
            let wide: Vec<u8> = (0..expand.out_channels)
                .map(|h| byte(expand.value(h, narrow)))
                .collect();
            for o in 0..reduce.out_channels {
                let value = reduce.value(o, |h, _| wide[h]);
                store(reduce, output, (o, y, x), |_| value);
            }
        }
    }
}

/// Stores a value as the layer's output is: f32, given what is there, or a byte.
fn store(
    layer: &PackedLayer,
    output: &mut Strip,
    (channel, y, x): (usize, usize, usize),
    value: impl FnOnce(f32) -> f32,
) {
    match layer.output {
        Some(StripFormat::Planes) | None => {
            let pixel = &mut output.plane_mut(channel, y, x, 1)[0];
            *pixel = value(*pixel);
        }
        Some(_) => output.set_byte(channel, y, x, byte(value(0.0))),
    }
}

/// Multiply-adds of bytes.
pub(super) fn burst(rounds: usize) -> u64 {
    const CHAINS: usize = 12;
    let (weight, byte) = (black_box(3_i8), black_box(5_u8));
    let mut sums = [0_i32; CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = sum.wrapping_add(i32::from(weight) * i32::from(black_box(byte)));
        }
    }
    black_box(sums);
    2 * (CHAINS * rounds) as u64
}
