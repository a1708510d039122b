//! The definition of the pair and its gradients, pixel by pixel.

use super::PairWeights;
use super::backward::Backward;
use crate::strip::{Offset, Strip};
use crate::{Planes, Scratch};

impl PairWeights {
    /// The wide activation of a pixel.
    fn wide(&self, input: impl Fn(usize) -> f32, wide: &mut [f32]) {
        for (h, value) in wide.iter_mut().enumerate() {
            let mut sum = self.expand_bias[h];
            for i in 0..self.in_channels {
                sum += self.expand[h * self.in_channels + i] * self.precision.round(input(i));
            }
            *value = self.precision.round(sum.max(0.0));
        }
    }

    /// Both convolutions of a pixel.
    fn pixel(
        &self,
        input: impl Fn(usize) -> f32,
        wide: &mut [f32],
        mut write: impl FnMut(usize, f32),
    ) {
        self.wide(input, wide);
        for o in 0..self.out_channels {
            let mut sum = self.reduce_bias[o];
            for (h, value) in wide.iter().enumerate() {
                sum += self.reduce[o * self.wide_channels + h] * value;
            }
            write(o, sum);
        }
    }
}

/// The pair on a strip; the offset is that of the output in the input.
pub(super) fn pair_of_strip(
    pair: &PairWeights,
    (input, offset): (&Strip, Offset),
    output: &mut Strip,
    scratch: &mut Scratch,
) {
    let wide = &mut scratch.floats(pair.wide_channels)[..pair.wide_channels];
    for (row, y) in output.rows().zip(output.inside()) {
        for x in 0..output.width_px() {
            let (from_y, from_x) = (y as isize + offset.rows, x as isize + offset.px);
            let write = |o, value| output.row_mut(o, row)[x] = value;
            pair.pixel(|i| input.pixel(i, from_y, from_x), wide, write);
        }
    }
}

/// The pair on planes.
pub(super) fn pair_of_planes(
    pair: &PairWeights,
    input: &Planes,
    output: &mut Planes,
    scratch: &mut Scratch,
) {
    let wide = &mut scratch.floats(pair.wide_channels)[..pair.wide_channels];
    for y in 0..output.height_px() {
        for x in 0..output.width_px() {
            let write = |o, value| output.row_mut(o, y)[x] = value;
            pair.pixel(|i| input.row(i, y)[x], wide, write);
        }
    }
}

pub(super) fn backward(arguments: Backward<'_>) {
    let Backward {
        pair,
        input,
        output_gradient,
        input_gradient,
        epilogue,
        gradients,
        scratch,
        ..
    } = arguments;
    let wide = &mut scratch.floats(pair.wide_channels)[..pair.wide_channels];
    let mut by_input = vec![0.0; pair.in_channels];
    let round = |value| pair.precision.round(value);
    let given = gradients.expand_bias.len();
    for y in 0..input.height_px() {
        for x in 0..input.width_px() {
            pair.wide(|i| input.row(i, y)[x], wide);
            by_input.fill(0.0);
            for (h, value) in wide.iter().enumerate().take(given) {
                let mut by_wide = 0.0;
                for o in 0..pair.out_channels {
                    let gradient = round(output_gradient.row(o, y)[x]);
                    by_wide += pair.reduce[o * pair.wide_channels + h] * gradient;
                    gradients.reduce[o * given + h] += gradient * value;
                }
                if *value > 0.0 {
                    gradients.expand_bias[h] += by_wide;
                    let by_wide = round(by_wide);
                    for (i, sum) in by_input.iter_mut().enumerate() {
                        *sum += pair.expand[h * pair.in_channels + i] * by_wide;
                        let input = round(input.row(i, y)[x]);
                        gradients.expand[h * pair.in_channels + i] += by_wide * input;
                    }
                }
            }
            for o in 0..pair.out_channels {
                gradients.reduce_bias[o] += output_gradient.row(o, y)[x];
            }
            for (i, sum) in by_input.iter().enumerate() {
                let before = input_gradient.row(i, y)[x];
                let value = epilogue.apply(i, *sum, before, |maps| maps.row(i, y)[x]);
                input_gradient.row_mut(i, y)[x] = value;
            }
        }
    }
}
