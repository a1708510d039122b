//! The definition of the convolution of a strip, in plain loops.

use super::{Offsets, StripConv};
use crate::Epilogue;
use crate::strip::{Scratch, Strip};

pub(super) fn direct(
    conv: &StripConv,
    kernel: usize,
    input: &Strip,
    epilogue: Epilogue<'_, Strip>,
    offsets: Offsets,
    output: &mut Strip,
) {
    let reach = (kernel / 2) as isize;
    let first_row = output.rows().start;
    for o in 0..conv.out_channels {
        for (row, y) in output.inside().enumerate() {
            for x in 0..output.width_px() {
                let (y, at_x) = (y as isize, x as isize);
                let mut sum = conv.bias[o];
                let mut weights = conv.weights[o * conv.in_channels * kernel * kernel..].iter();
                for i in 0..conv.in_channels {
                    for ky in -reach..=reach {
                        for kx in -reach..=reach {
                            let (y, x) =
                                (y + offsets.input.rows + ky, at_x + offsets.input.px + kx);
                            let pixel = input.pixel(i, y, x);
                            sum += weights.next().unwrap_or(&0.0) * conv.precision.round(pixel);
                        }
                    }
                }
                let other =
                    |maps: &Strip| maps.pixel(o, y + offsets.maps.rows, at_x + offsets.maps.px);
                let to = &mut output.row_mut(o, first_row + row)[x];
                *to = epilogue.apply(sum, *to, other);
            }
        }
    }
}

/// The plain loops sum directly: no weights are arranged for them in Winograd's form.
pub(super) fn winograd(
    _: &StripConv,
    _: &Strip,
    _: Epilogue<'_, Strip>,
    _: Offsets,
    _: &mut Strip,
    _: &mut Scratch,
) {
    unreachable!("Winograd's form on plain loops")
}
