//! The definition of the convolution of a strip, in plain loops.

use super::StripConv;
use crate::strip::Offset;
use crate::{Epilogue, Precision, Strip};

/// Convolves with weights as [`Packing::pack`](crate::packing::Packing::pack) arranges them. The
/// offsets are those of the output in the input and in the epilogue's maps.
pub(super) fn direct(
    conv: &StripConv,
    (weights, bias): (&[f32], &[f32]),
    (input, input_offset): (&Strip, Offset),
    output: &mut Strip,
    (epilogue, maps_offset): (Epilogue<'_, Strip>, Offset),
) {
    let kernel = conv.kernel;
    let reach = (kernel / 2) as isize;
    let first_row = output.rows().start;
    for o in 0..conv.out_channels {
        for (row, y) in output.inside().enumerate() {
            for x in 0..output.width_px() {
                let (y, at_x) = (y as isize, x as isize);
                let mut sum = bias[o];
                let mut weights = weights[o * conv.in_channels * kernel * kernel..].iter();
                for i in 0..conv.in_channels {
                    for ky in -reach..=reach {
                        for kx in -reach..=reach {
                            let (y, x) = (y + input_offset.rows + ky, at_x + input_offset.px + kx);
                            let pixel = input.pixel(i, y, x);
                            let weight = weights.next().unwrap_or(&0.0);
                            sum = match conv.precision {
                                // With the rounding of vectors.
                                Precision::Int8 => weight.mul_add(pixel, sum),
                                _ => sum + weight * conv.precision.round(pixel),
                            };
                        }
                    }
                }
                let other =
                    |maps: &Strip| maps.pixel(o, y + maps_offset.rows, at_x + maps_offset.px);
                let to = &mut output.row_mut(o, first_row + row)[x];
                *to = epilogue.apply(o, sum, *to, other);
            }
        }
    }
}
