//! One channel of floats: what a registration compares.

use wdsr_image::imresize::imresize_f32;
use wdsr_image::{Image, Samples};

/// A grey image in levels of 0..255, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Grey {
    pub(super) width_px: usize,
    pub(super) height_px: usize,
    pub(super) samples: Vec<f32>,
}

/// Standard deviations that a Gaussian kernel reaches.
const GAUSSIAN_REACH: f32 = 3.0;
/// Luma of R G B (ITU-R BT.601), as MATLAB's `rgb2gray`.
const WEIGHTS: [f32; 3] = [0.299, 0.587, 0.114];

impl Grey {
    /// The luma of an image of any colour and depth; alpha is ignored.
    pub fn of_image(image: &Image) -> Self {
        fn grey<T: Copy>(samples: &[T], image: &Image, level: impl Fn(T) -> f32) -> Vec<f32> {
            let pixels = samples.chunks_exact(image.colour.channels());
            match image.colour.is_grey() {
                true => pixels.map(|pixel| level(pixel[0])).collect(),
                false => pixels
                    .map(|pixel| (0..3).map(|c| WEIGHTS[c] * level(pixel[c])).sum())
                    .collect(),
            }
        }
        let samples = match &image.samples {
            Samples::U8(samples) => grey(samples, image, f32::from),
            Samples::U16(samples) => grey(samples, image, |v| f32::from(v) / 257.0),
            Samples::F32(samples) => grey(samples, image, |v| v.clamp(0.0, 1.0) * 255.0),
        };
        Self {
            width_px: image.width_px,
            height_px: image.height_px,
            samples,
        }
    }

    /// The luma of an 8-bit R G B image, `[height_px, width_px, 3]` row-major.
    ///
    /// # Panics
    /// If the number of samples is not that of the size.
    pub fn of_rgb8(pixels: &[u8], width_px: usize, height_px: usize) -> Self {
        assert_eq!(
            pixels.len(),
            3 * width_px * height_px,
            "samples of {width_px} x {height_px} R G B"
        );
        let luma = |p: &[u8; 3]| (0..3).map(|c| WEIGHTS[c] * f32::from(p[c])).sum();
        Self {
            width_px,
            height_px,
            samples: pixels.as_chunks::<3>().0.iter().map(luma).collect(),
        }
    }

    /// The image at 1 / `factor`, by MATLAB's bicubic `imresize`. Columns and rows beyond a multiple of
    /// the factor are cropped.
    pub(super) fn reduced(&self, factor: usize) -> Self {
        if factor == 1 {
            return self.clone();
        }
        let (width_px, height_px) = (self.width_px / factor, self.height_px / factor);
        let rows = self.samples.chunks_exact(self.width_px);
        let cropped: Vec<f32> = rows
            .take(height_px * factor)
            .flat_map(|row| &row[..width_px * factor])
            .copied()
            .collect();
        let (width, height) = (width_px * factor, height_px * factor);
        let samples = imresize_f32(&cropped, width, height, 1, 1.0 / factor as f64).pixels;
        Self {
            width_px,
            height_px,
            samples,
        }
    }

    /// The image convolved with a Gaussian. Beyond an edge its pixel repeats.
    pub(super) fn blurred(&self, sigma_px: f32) -> Self {
        let radius = (GAUSSIAN_REACH * sigma_px).ceil() as usize;
        let weight = |i: usize| {
            let distance = i as f32 - radius as f32;
            (-0.5 * (distance / sigma_px).powi(2)).exp()
        };
        let weights: Vec<f32> = (0..=2 * radius).map(weight).collect();
        let total: f32 = weights.iter().sum();
        let inside = |at: usize, len: usize| at.saturating_sub(radius).min(len - 1);
        let (width, height) = (self.width_px, self.height_px);
        let mut across = Vec::with_capacity(self.samples.len());
        let mut padded = vec![0.0; width + 2 * radius];
        for row in self.samples.chunks_exact(width) {
            for (x, to) in padded.iter_mut().enumerate() {
                *to = row[inside(x, width)];
            }
            across.extend(padded.windows(2 * radius + 1).map(|window| {
                let sum: f32 = window.iter().zip(&weights).map(|(v, w)| v * w).sum();
                sum / total
            }));
        }
        let mut samples = vec![0.0; self.samples.len()];
        for (y, to) in samples.chunks_exact_mut(width).enumerate() {
            for (tap, weight) in weights.iter().enumerate() {
                let row = &across[inside(y + tap, height) * width..][..width];
                for (to, value) in to.iter_mut().zip(row) {
                    *to += weight / total * value;
                }
            }
        }
        Self { samples, ..*self }
    }

    /// What remains of the image between two blurs: texture and edges without noise and shading.
    pub(super) fn detail(&self) -> Self {
        let (fine, coarse) = (self.blurred(1.0), self.blurred(4.0));
        let samples = fine.samples.iter().zip(&coarse.samples);
        Self {
            samples: samples.map(|(fine, coarse)| fine - coarse).collect(),
            ..*self
        }
    }

    /// Root mean square of the samples.
    pub(super) fn root_mean_square(&self) -> f64 {
        let squares = self.samples.iter().map(|v| f64::from(*v).powi(2));
        (squares.sum::<f64>() / self.samples.len() as f64).sqrt()
    }
}

/// An image between its pixels: the cubic spline through them, whose phase is nearly exact.
///
/// Source: Unser 1999, "Splines: A perfect fit for signal and image processing".
pub(super) struct Spline(Grey);

/// The pole of the filter that turns samples into coefficients.
const POLE: f32 = -0.267_949_2;

impl Spline {
    pub(super) fn new(mut image: Grey) -> Self {
        let (width, height) = (image.width_px, image.height_px);
        for row in image.samples.chunks_exact_mut(width) {
            filter(row, width, 1);
        }
        for x in 0..width {
            filter(&mut image.samples[x..], height, width);
        }
        Self(image)
    }

    /// The value at a place, and its slopes to the right and downwards; none within a pixel of the
    /// edges.
    #[inline]
    pub(super) fn at(&self, x: f64, y: f64) -> Option<[f32; 3]> {
        let (left, top) = (x.floor(), y.floor());
        let fits = |first: f64, len: usize| first >= 1.0 && first + 2.0 < len as f64;
        if !(fits(left, self.0.width_px) && fits(top, self.0.height_px)) {
            return None;
        }
        let [across, slope_across] = weights((x - left) as f32);
        let [down, slope_down] = weights((y - top) as f32);
        let start = (top as usize - 1) * self.0.width_px + left as usize - 1;
        let mut sums = [0.0; 3];
        for row in 0..4 {
            let values = &self.0.samples[start + row * self.0.width_px..][..4];
            let of = |weights: &[f32; 4]| -> f32 {
                values.iter().zip(weights).map(|(v, w)| v * w).sum()
            };
            let (value, slope) = (of(&across), of(&slope_across));
            sums[0] += down[row] * value;
            sums[1] += down[row] * slope;
            sums[2] += slope_down[row] * value;
        }
        Some(sums)
    }
}

/// Turns `count` samples, `stride` apart, into coefficients of a spline. Beyond an end its samples
/// are mirrored.
fn filter(samples: &mut [f32], count: usize, stride: usize) {
    if count < 2 {
        return;
    }
    let gain = (1.0 - POLE) * (1.0 - 1.0 / POLE);
    // The pole's powers vanish after a few samples.
    let (mut first, mut power) = (0.0, 1.0);
    for i in 0..count.min(20) {
        first += power * samples[i * stride];
        power *= POLE;
    }
    samples[0] = gain * first;
    for i in 1..count {
        samples[i * stride] = gain * samples[i * stride] + POLE * samples[(i - 1) * stride];
    }
    let last = (count - 1) * stride;
    samples[last] = POLE / (POLE * POLE - 1.0) * (samples[last] + POLE * samples[last - stride]);
    for i in (0..count - 1).rev() {
        samples[i * stride] = POLE * (samples[(i + 1) * stride] - samples[i * stride]);
    }
}

/// Weights of the four coefficients around a place that lies `fraction` behind the second: of the value,
/// and of its slope.
#[inline]
fn weights(fraction: f32) -> [[f32; 4]; 2] {
    let (f, rest) = (fraction, 1.0 - fraction);
    let (squares, rest_squares) = (f * f, rest * rest);
    [
        [
            rest_squares * rest / 6.0,
            2.0 / 3.0 - 0.5 * squares * (2.0 - f),
            2.0 / 3.0 - 0.5 * rest_squares * (1.0 + f),
            squares * f / 6.0,
        ],
        [
            -0.5 * rest_squares,
            f * (1.5 * f - 2.0),
            -rest * (1.5 * rest - 2.0),
            0.5 * squares,
        ],
    ]
}
