//! Separable resampling: reduction by a factor, and shifts by a fraction of a pixel.
//!
//! Output pixel `i` lies at input position `(i + 0.5) * factor - 0.5 - offset`; its value is the sum
//! of the inputs around it, weighted by the kernel and normalised. Beyond an edge its pixel repeats.

use std::borrow::Cow;

use crate::linear::PlacedTap;
use crate::planes::Planes;
use crate::stage::Method;

/// A kernel: its weight at a distance, and the distance beyond which that is 0, in input pixels.
pub(crate) struct Kernel<F> {
    pub(crate) weight: F,
    pub(crate) radius_px: f64,
}

/// Keys' cubic with a = -0.5, stretched by `factor`.
pub(crate) fn cubic(factor: f64) -> Kernel<impl Fn(f64) -> f64> {
    Kernel {
        weight: move |distance: f64| {
            let x = (distance / factor).abs();
            if x <= 1.0 {
                (1.5 * x - 2.5) * x * x + 1.0
            } else if x <= 2.0 {
                ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
            } else {
                0.0
            }
        },
        radius_px: 2.0 * factor,
    }
}

/// A triangle, stretched by `factor`.
pub(crate) fn triangle(factor: f64) -> Kernel<impl Fn(f64) -> f64> {
    Kernel {
        weight: move |distance: f64| (1.0 - (distance / factor).abs()).max(0.0),
        radius_px: factor,
    }
}

/// The part of an input pixel that an output pixel of `factor` input pixels covers.
pub(crate) fn area(factor: f64) -> Kernel<impl Fn(f64) -> f64> {
    Kernel {
        weight: move |distance: f64| ((factor + 1.0) / 2.0 - distance.abs()).clamp(0.0, 1.0),
        radius_px: (factor + 1.0) / 2.0,
    }
}

/// Standard deviations that a Gaussian kernel reaches.
pub(crate) const GAUSSIAN_REACH: f64 = 3.0;

/// A Gaussian, cut off at three standard deviations.
pub(crate) fn gaussian(sigma_px: f64) -> Kernel<impl Fn(f64) -> f64> {
    Kernel {
        weight: move |distance: f64| (-0.5 * (distance / sigma_px).powi(2)).exp(),
        radius_px: (GAUSSIAN_REACH * sigma_px).max(0.5),
    }
}

/// Weights along one axis that are the same for each output: output `i` reads the inputs from
/// `factor * i + first` on, where the factor is a whole number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Taps {
    pub(crate) first: isize,
    pub(crate) weights: Cow<'static, [f64]>,
}

impl Taps {
    /// The input itself.
    pub(crate) const ONE: Self = Self {
        first: 0,
        weights: Cow::Borrowed(&[1.0]),
    };

    /// Those of a kernel; `factor` is a whole number.
    pub(crate) fn of(kernel: &Kernel<impl Fn(f64) -> f64>, factor: f64, offset_px: f64) -> Self {
        let centre = 0.5 * factor - 0.5 - offset_px;
        let first = (centre - kernel.radius_px).ceil() as isize;
        let last = (centre + kernel.radius_px).floor() as isize;
        let mut weights: Vec<f64> = (first..=last)
            .map(|at| (kernel.weight)(at as f64 - centre))
            .collect();
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
        Self {
            first,
            weights: weights.into(),
        }
    }

    /// A shift by a fraction of a pixel.
    pub(crate) fn shift(offset_px: f64) -> Self {
        Self::of(&cubic(1.0), 1.0, offset_px)
    }

    /// A reduction.
    pub(crate) fn reduction(method: Method, factor: f64, sigma_px: f64) -> Self {
        match method {
            Method::Bicubic => Self::of(&cubic(factor), factor, 0.0),
            Method::Bilinear => Self::of(&triangle(factor), factor, 0.0),
            Method::Area => Self::of(&area(factor), factor, 0.0),
            Method::ShiftedGaussian => Self::of(&gaussian(sigma_px), factor, 0.0),
        }
    }

    /// These taps at every input, then `next` on what they give.
    pub(crate) fn followed_by(&self, next: &Self) -> Self {
        let mut weights = vec![0.0; self.weights.len() + next.weights.len() - 1];
        for (at, &outer) in next.weights.iter().enumerate() {
            for (weight, &inner) in weights[at..].iter_mut().zip(&*self.weights) {
                *weight += outer * inner;
            }
        }
        Self {
            first: self.first + next.first,
            weights: weights.into(),
        }
    }

    /// The taps with `stride` between their samples.
    pub(crate) fn placed(&self, stride: usize) -> Vec<PlacedTap> {
        self.placed_by(|at| at * stride)
    }

    /// The taps whose places `offset` finds.
    pub(crate) fn placed_by(&self, offset: impl Fn(usize) -> usize) -> Vec<PlacedTap> {
        let place = |(at, &weight): (usize, &f64)| PlacedTap {
            offset: offset(at),
            weight: weight as f32,
        };
        self.weights.iter().enumerate().map(place).collect()
    }
}

/// Weights of one axis: `count` inputs from `first[i]` on for output `i`, all inside the input.
struct Axis {
    count: usize,
    first: Vec<usize>,
    weights: Vec<f32>,
}

impl Axis {
    fn new(
        input_len: usize,
        output_len: usize,
        factor: f64,
        offset_px: f64,
        kernel: &Kernel<impl Fn(f64) -> f64>,
    ) -> Self {
        let count = (2.0 * kernel.radius_px).ceil() as usize + 1;
        let count = count.min(input_len);
        let mut first = Vec::with_capacity(output_len);
        let mut weights = vec![0.0; output_len * count];
        for (i, weights) in weights.chunks_exact_mut(count).enumerate() {
            let centre = (i as f64 + 0.5) * factor - 0.5 - offset_px;
            let begin = (centre - kernel.radius_px).ceil() as isize;
            let end = (centre + kernel.radius_px).floor() as isize;
            let last_start = (input_len - count) as isize;
            let start = begin.clamp(0, last_start);
            let mut sums = vec![0.0; count];
            for j in begin..=end {
                // Beyond an edge the pixel there takes the weight.
                let at = (j.clamp(0, input_len as isize - 1) - start).clamp(0, count as isize - 1);
                sums[at as usize] += (kernel.weight)(j as f64 - centre);
            }
            let total: f64 = sums.iter().sum();
            first.push(start as usize);
            for (weight, sum) in weights.iter_mut().zip(sums) {
                *weight = (sum / total) as f32;
            }
        }
        Self {
            count,
            first,
            weights,
        }
    }

    fn taps(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let weights = self.weights.chunks_exact(self.count);
        self.first.iter().copied().zip(weights)
    }
}

/// The image resampled to `width_px` x `height_px`; `offset_px` is (right, down) in input pixels.
pub(crate) fn resample(
    image: &Planes,
    (width_px, height_px): (usize, usize),
    factor: f64,
    (right_px, down_px): (f64, f64),
    kernel: &Kernel<impl Fn(f64) -> f64>,
) -> Planes {
    let across = Axis::new(image.width_px, width_px, factor, right_px, kernel);
    let down = Axis::new(image.height_px, height_px, factor, down_px, kernel);
    let mut output = Planes::zeros(width_px, height_px);
    let mut sums = vec![0.0_f32; image.width_px];
    for (from, to) in image.planes().zip(output.planes_mut()) {
        for ((first, weights), to) in down.taps().zip(to.chunks_exact_mut(width_px)) {
            sums.fill(0.0);
            let rows = from[first * image.width_px..].chunks_exact(image.width_px);
            for (row, &weight) in rows.zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(row) {
                    *sum += weight * value;
                }
            }
            for ((first, weights), to) in across.taps().zip(to) {
                let values = &sums[first..first + weights.len()];
                *to = values.iter().zip(weights).map(|(v, w)| v * w).sum();
            }
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use wdsr_image::imresize::imresize_f32;

    fn noise(width_px: usize, height_px: usize) -> Planes {
        let mut planes = Planes::zeros(width_px, height_px);
        for (i, v) in planes.samples.iter_mut().enumerate() {
            *v = ((i as u32).wrapping_mul(2_654_435_761) >> 24) as f32;
        }
        planes
    }

    #[test]
    fn bicubic_reduction_is_imresize() {
        for factor in [2, 3, 4] {
            let (w, h) = (12 * factor, 9 * factor);
            let image = noise(w, h);
            let found = resample(
                &image,
                (12, 9),
                factor as f64,
                (0.0, 0.0),
                &cubic(factor as f64),
            );
            for (found, plane) in found.planes().zip(image.planes()) {
                let expected = imresize_f32(plane, w, h, 1, 1.0 / factor as f64).pixels;
                // imresize mirrors at the edges, which are left out.
                for y in 2..7 {
                    for x in 2..10 {
                        let (found, expected) = (found[y * 12 + x], expected[y * 12 + x]);
                        assert!(
                            (found - expected).abs() < 1e-3,
                            "x{factor} ({x}, {y}): {found} for {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn area_is_the_mean_of_the_covered_pixels() {
        for factor in [2, 3, 4] {
            let image = noise(4 * factor, 4 * factor);
            let kernel = area(factor as f64);
            let found = resample(&image, (4, 4), factor as f64, (0.0, 0.0), &kernel);
            let side = 4 * factor;
            let mean: f32 = (0..factor * factor)
                .map(|i| image.samples[(factor + i / factor) * side + 2 * factor + i % factor])
                .sum::<f32>()
                / (factor * factor) as f32;
            assert!((found.samples[4 + 2] - mean).abs() < 1e-3, "x{factor}");
        }
    }

    #[test]
    fn a_whole_shift_moves_pixels() {
        let image = noise(9, 8);
        let moved = resample(&image, (9, 8), 1.0, (2.0, -1.0), &cubic(1.0));
        for y in 0..7 {
            for x in 2..9 {
                let (found, expected) =
                    (moved.samples[y * 9 + x], image.samples[(y + 1) * 9 + x - 2]);
                assert!((found - expected).abs() < 1e-3, "({x}, {y})");
            }
        }
    }

    #[test]
    fn constant_images_stay_constant() {
        let mut image = Planes::zeros(8, 12);
        image.samples.fill(77.0);
        let out = [
            resample(&image, (4, 6), 2.0, (0.3, 0.0), &cubic(2.0)),
            resample(&image, (4, 6), 2.0, (0.0, 0.0), &triangle(2.0)),
            resample(&image, (4, 6), 2.0, (0.0, 0.0), &area(2.0)),
            resample(&image, (4, 6), 2.0, (0.0, 0.0), &gaussian(0.1)),
        ];
        for out in out {
            assert!(out.samples.iter().all(|v| (v - 77.0).abs() < 1e-3));
        }
    }
}
