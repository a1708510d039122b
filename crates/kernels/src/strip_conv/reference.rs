//! The definition of the convolution of a strip, in plain loops.

use super::{Offsets, StripConv};
use crate::Epilogue;
use crate::strip::{Scratch, Strip, Window};

pub(super) fn direct(
    conv: &StripConv,
    kernel: usize,
    input: Window<'_>,
    epilogue: Epilogue<'_, Strip>,
    offsets: Offsets,
    output: &mut Strip,
) {
    let reach = (kernel / 2) as isize;
    for o in 0..conv.out_channels {
        for y in 0..output.rows() {
            for x in 0..output.width_px() {
                let mut sum = conv.bias[o];
                let mut weights = conv.weights[o * conv.in_channels * kernel * kernel..].iter();
                for i in 0..conv.in_channels {
                    for ky in 0..kernel as isize {
                        for kx in 0..kernel as isize {
                            let (strip, row) = input.row(y as isize + ky - reach);
                            let x = x as isize + offsets.input + kx - reach;
                            let pixel = strip.pixel(i, row, x);
                            sum += weights.next().unwrap_or(&0.0) * conv.precision.round(pixel);
                        }
                    }
                }
                let before = output.row(o, y)[x];
                let other = |maps: &Strip| maps.pixel(o, y, x as isize + offsets.maps);
                output.row_mut(o, y)[x] = epilogue.apply(sum, before, other);
            }
        }
    }
}

/// The plain loops sum directly: no weights are arranged for them in Winograd's form.
pub(super) fn winograd(
    _: &StripConv,
    _: Window<'_>,
    _: Epilogue<'_, Strip>,
    _: Offsets,
    _: &mut Strip,
    _: &mut Scratch,
) {
    unreachable!("Winograd's form on plain loops")
}
