//! Blur kernels and their convolution.

use std::f64::consts::PI;

use crate::linear::{PlacedTap, sum_taps};
use crate::planes::Planes;
use crate::resample::{GAUSSIAN_REACH, Taps, gaussian, resample};

/// A kernel with its values drawn. Lengths are in pixels of the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum BlurKernel {
    Isotropic { sigma_px: f64 },
    Anisotropic { sigma_px: [f64; 2], angle: f64 },
    Motion { length_px: f64, angle: f64 },
}

/// One weight of a kernel and its place.
struct Tap {
    right: isize,
    down: isize,
    weight: f32,
}

impl BlurKernel {
    /// Pixels from the centre that the kernel reaches, at most half of `kernel_px`.
    pub(crate) fn radius_px(&self, kernel_px: usize) -> usize {
        let reach = match *self {
            Self::Isotropic { sigma_px } => GAUSSIAN_REACH * sigma_px,
            Self::Anisotropic {
                sigma_px: [a, b], ..
            } => GAUSSIAN_REACH * a.max(b),
            Self::Motion { length_px, .. } => length_px / 2.0 + 0.5,
        };
        (reach.ceil() as usize).min(kernel_px / 2)
    }

    fn taps(&self, kernel_px: usize) -> Vec<Tap> {
        let radius = self.radius_px(kernel_px) as isize;
        let mut taps = Vec::new();
        for down in -radius..=radius {
            for right in -radius..=radius {
                let weight = self.weight(right as f64, down as f64);
                if weight > 1e-4 {
                    let weight = weight as f32;
                    taps.push(Tap {
                        right,
                        down,
                        weight,
                    });
                }
            }
        }
        let total: f32 = taps.iter().map(|tap| tap.weight).sum();
        taps.iter_mut().for_each(|tap| tap.weight /= total);
        taps
    }

    /// The weight relative to the centre's.
    fn weight(&self, x: f64, y: f64) -> f64 {
        let along = |angle: f64| {
            (
                x * angle.cos() + y * angle.sin(),
                y * angle.cos() - x * angle.sin(),
            )
        };
        match *self {
            Self::Isotropic { sigma_px } => (-0.5 * (x * x + y * y) / (sigma_px * sigma_px)).exp(),
            Self::Anisotropic {
                sigma_px: [a, b],
                angle,
            } => {
                let (u, v) = along(angle);
                (-0.5 * ((u / a).powi(2) + (v / b).powi(2))).exp()
            }
            // A line of half a pixel of soft edge on each side, and at its ends.
            Self::Motion { length_px, angle } => {
                let (u, v) = along(angle);
                let inside = |excess: f64| (1.0 - excess.max(0.0)).max(0.0);
                inside(v.abs()) * inside(u.abs() - (length_px / 2.0 - 0.5).max(0.0))
            }
        }
    }

    /// The kernel along each axis, if it is separable and `kernel_px` does not cut it.
    pub(crate) fn separable(&self, kernel_px: usize) -> Option<Taps> {
        match *self {
            Self::Isotropic { sigma_px } if GAUSSIAN_REACH * sigma_px <= (kernel_px / 2) as f64 => {
                Some(Taps::of(&gaussian(sigma_px), 1.0, 0.0))
            }
            _ => None,
        }
    }

    /// The taps of the kernel, whose places `offset` finds by columns and rows from its top left corner.
    pub(crate) fn placed_taps(
        &self,
        kernel_px: usize,
        offset: impl Fn(usize, usize) -> usize,
    ) -> Vec<PlacedTap> {
        let radius = self.radius_px(kernel_px) as isize;
        let taps = self.taps(kernel_px);
        let place = |tap: &Tap| PlacedTap {
            offset: offset((radius + tap.right) as usize, (radius + tap.down) as usize),
            weight: tap.weight,
        };
        taps.iter().map(place).collect()
    }

    /// The image convolved with the kernel. Beyond an edge its pixel repeats.
    pub(crate) fn apply(&self, image: &Planes, kernel_px: usize) -> Planes {
        let (width, height) = (image.width_px, image.height_px);
        if let Self::Isotropic { sigma_px } = *self
            && self.separable(kernel_px).is_some()
        {
            return resample(image, (width, height), 1.0, (0.0, 0.0), &gaussian(sigma_px));
        }
        let radius = self.radius_px(kernel_px);
        let padded_width = width + 2 * radius;
        let taps = self.placed_taps(kernel_px, |right, down| down * padded_width + right);
        let mut output = Planes::zeros(width, height);
        let mut padded = vec![0.0; padded_width * (height + 2 * radius)];
        for (from, to) in image.planes().zip(output.planes_mut()) {
            for (y, row) in padded.chunks_exact_mut(padded_width).enumerate() {
                let y = y.saturating_sub(radius).min(height - 1);
                let from = &from[y * width..][..width];
                row[..radius].fill(from[0]);
                row[radius..radius + width].copy_from_slice(from);
                row[radius + width..].fill(from[width - 1]);
            }
            for (y, to) in to.chunks_exact_mut(width).enumerate() {
                sum_taps(&padded[y * padded_width..], to, &taps);
            }
        }
        output
    }
}

/// Angles of a kernel: half a turn, since kernels are symmetric about their centre.
pub(crate) const ANGLES: std::ops::Range<f64> = 0.0..PI;

#[cfg(test)]
mod tests {
    use super::*;

    fn impulse(side: usize) -> Planes {
        let mut planes = Planes::zeros(side, side);
        for plane in planes.planes_mut() {
            plane[side / 2 * side + side / 2] = 1.0;
        }
        planes
    }

    /// Sum, and second moments along x, y and both, of the answer to an impulse.
    fn moments(kernel: BlurKernel) -> [f64; 4] {
        let side = 41;
        let found = kernel.apply(&impulse(side), 41);
        let mut moments = [0.0; 4];
        for (i, &v) in found.samples[..side * side].iter().enumerate() {
            let (x, y) = ((i % side) as f64 - 20.0, (i / side) as f64 - 20.0);
            let v = f64::from(v);
            moments[0] += v;
            moments[1] += v * x * x;
            moments[2] += v * y * y;
            moments[3] += v * x * y;
        }
        moments
    }

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!(
            (found - expected).abs() <= tolerance,
            "{found} for {expected}"
        );
    }

    #[test]
    fn gaussians_have_the_variance_asked_for() {
        // Cut off at three standard deviations, a Gaussian keeps 97% of its variance.
        let [sum, xx, yy, xy] = moments(BlurKernel::Isotropic { sigma_px: 2.0 });
        close(sum, 1.0, 1e-5);
        close(xx, 4.0, 0.15);
        close(yy, 4.0, 0.15);
        close(xy, 0.0, 1e-4);
        let kernel = BlurKernel::Anisotropic {
            sigma_px: [4.0, 1.0],
            angle: 0.0,
        };
        let [sum, xx, yy, _] = moments(kernel);
        close(sum, 1.0, 1e-5);
        close(xx, 16.0, 0.6);
        close(yy, 1.0, 0.1);
        let kernel = BlurKernel::Anisotropic {
            sigma_px: [4.0, 1.0],
            angle: PI / 4.0,
        };
        let [_, xx, yy, xy] = moments(kernel);
        close(xx, 8.5, 0.4);
        close(yy, 8.5, 0.4);
        close(xy, 7.5, 0.4);
    }

    #[test]
    fn a_motion_is_a_line_of_its_length() {
        // An even line of length n has the variance n^2 / 12.
        let kernel = BlurKernel::Motion {
            length_px: 9.0,
            angle: 0.0,
        };
        let [sum, xx, yy, _] = moments(kernel);
        close(sum, 1.0, 1e-5);
        close(xx, 81.0 / 12.0, 0.4);
        close(yy, 0.0, 1e-4);
    }

    #[test]
    fn both_ways_of_an_isotropic_blur_agree() {
        let mut image = Planes::zeros(37, 23);
        for (i, v) in image.samples.iter_mut().enumerate() {
            *v = ((i as u32).wrapping_mul(2_654_435_761) >> 24) as f32;
        }
        let separable = BlurKernel::Isotropic { sigma_px: 1.3 }.apply(&image, 21);
        let sigma_px = [1.3, 1.3];
        let direct = BlurKernel::Anisotropic {
            sigma_px,
            angle: 0.4,
        }
        .apply(&image, 21);
        for (a, b) in separable.samples.iter().zip(&direct.samples) {
            assert!((a - b).abs() < 1.0, "{a} and {b}");
        }
    }
}
