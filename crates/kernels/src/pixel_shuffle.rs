//! Depth to space: s*s planes of a channel become one plane s times as wide and high.

use crate::Planes;

/// `output[c](y s + dy, x s + dx) = input[c s s + dy s + dx](y, x)`.
///
/// # Shapes
/// - input: `c * scale * scale` planes of `w` x `h`
/// - output: `c` planes of `w * scale` x `h * scale`
///
/// # Panics
/// If the shapes do not fit.
///
/// # Source
/// Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution Using an Efficient
/// Sub-Pixel Convolutional Neural Network", equation 4, with the channel order of PyTorch's
/// `PixelShuffle`.
pub fn pixel_shuffle(input: &Planes, scale: usize, output: &mut Planes) {
    check(input, scale, output);
    for channel in 0..output.channels() {
        for dy in 0..scale {
            for dx in 0..scale {
                let source = channel * scale * scale + dy * scale + dx;
                for y in 0..input.height_px() {
                    let to = output.row_mut(channel, y * scale + dy);
                    for (to, from) in to[dx..].iter_mut().step_by(scale).zip(input.row(source, y)) {
                        *to = *from;
                    }
                }
            }
        }
    }
}

/// The inverse of [`pixel_shuffle`], which is also its gradient.
///
/// # Panics
/// If the shapes do not fit.
pub fn pixel_unshuffle(output: &Planes, scale: usize, input: &mut Planes) {
    check(input, scale, output);
    for channel in 0..output.channels() {
        for dy in 0..scale {
            for dx in 0..scale {
                let target = channel * scale * scale + dy * scale + dx;
                for y in 0..input.height_px() {
                    let from = &output.row(channel, y * scale + dy)[dx..];
                    for (to, from) in input
                        .row_mut(target, y)
                        .iter_mut()
                        .zip(from.iter().step_by(scale))
                    {
                        *to = *from;
                    }
                }
            }
        }
    }
}

fn check(small: &Planes, scale: usize, large: &Planes) {
    let channels = large.channels().checked_mul(scale);
    assert_eq!(
        [
            Some(small.channels()),
            small.width_px().checked_mul(scale),
            small.height_px().checked_mul(scale)
        ],
        [
            channels.and_then(|channels| channels.checked_mul(scale)),
            Some(large.width_px()),
            Some(large.height_px())
        ],
        "planes before the shuffle by {scale} and after it (channels, width, height)"
    );
}
