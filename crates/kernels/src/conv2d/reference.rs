//! The definition of the convolution and its gradient by the weight, in plain loops.

use super::PackedConv;
use super::weight_gradient::WeightGradient;
use crate::{BORDER_PX, Epilogue, Planes, Precision};

/// The pixel at (y, x), which may lie up to `BORDER_PX` outside.
fn pixel(planes: &Planes, channel: usize, y: isize, x: isize) -> f32 {
    let g = planes.geometry();
    debug_assert!(
        x >= -(BORDER_PX as isize) && y >= -(BORDER_PX as isize),
        "({y}, {x})"
    );
    let index = (channel * g.plane_len + g.origin) as isize + y * g.stride as isize + x;
    planes.as_slice()[index as usize]
}

pub(super) fn convolution(
    conv: &PackedConv,
    precision: Precision,
    input: &Planes,
    output: &mut Planes,
    epilogue: Epilogue<'_, Planes>,
) {
    let (kernel, reach) = (conv.kernel as isize, (conv.kernel / 2) as isize);
    let round = |value| precision.round(value);
    for o in 0..conv.out_channels {
        for y in 0..input.height_px() {
            for x in 0..input.width_px() {
                let mut sum = conv.bias[o];
                let mut weights =
                    conv.weights[o * conv.in_channels * conv.kernel * conv.kernel..].iter();
                for i in 0..conv.in_channels {
                    for ky in 0..kernel {
                        for kx in 0..kernel {
                            let (py, px) = (y as isize + ky - reach, x as isize + kx - reach);
                            let weight = round(*weights.next().unwrap_or(&0.0));
                            sum += weight * round(pixel(input, i, py, px));
                        }
                    }
                }
                let before = output.row(o, y)[x];
                output.row_mut(o, y)[x] = epilogue.apply(o, sum, before, |maps| maps.row(o, y)[x]);
            }
        }
    }
}

pub(super) fn weight_gradient(arguments: WeightGradient<'_>, precision: Precision) {
    let WeightGradient {
        kernel,
        input,
        output_gradient,
        gradients,
        ..
    } = arguments;
    let reach = (kernel / 2) as isize;
    let taps = kernel * kernel;
    for o in 0..output_gradient.channels() {
        for y in 0..input.height_px() {
            gradients.bias[o] += output_gradient.row(o, y).iter().sum::<f32>();
        }
        for i in 0..input.channels() {
            for tap in 0..taps {
                let (ky, kx) = ((tap / kernel) as isize, (tap % kernel) as isize);
                let mut sum = 0.0;
                for y in 0..input.height_px() {
                    for (x, gradient) in output_gradient.row(o, y).iter().enumerate() {
                        let (py, px) = (y as isize + ky - reach, x as isize + kx - reach);
                        let pixel = precision.round(pixel(input, i, py, px));
                        sum += precision.round(*gradient) * pixel;
                    }
                }
                gradients.weight[(o * input.channels() + i) * taps + tap] += sum;
            }
        }
    }
}
