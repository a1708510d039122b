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

    /// The value between pixels by Keys' cubic with a = -0.5; none within a pixel of the edges.
    #[inline]
    pub(super) fn at(&self, x: f64, y: f64) -> Option<f32> {
        let (left, top) = (x.floor(), y.floor());
        let fits = |first: f64, len: usize| first >= 1.0 && first + 2.0 < len as f64;
        if !(fits(left, self.width_px) && fits(top, self.height_px)) {
            return None;
        }
        let across = cubic((x - left) as f32);
        let down = cubic((y - top) as f32);
        let start = (top as usize - 1) * self.width_px + left as usize - 1;
        let mut sum = 0.0;
        for (row, weight) in down.into_iter().enumerate() {
            let values = &self.samples[start + row * self.width_px..][..4];
            let in_row: f32 = values.iter().zip(across).map(|(v, w)| v * w).sum();
            sum += weight * in_row;
        }
        Some(sum)
    }
}

/// Weights of the four pixels around a place that lies `fraction` behind the second.
#[inline]
fn cubic(fraction: f32) -> [f32; 4] {
    let f = fraction;
    [
        ((-0.5 * f + 1.0) * f - 0.5) * f,
        (1.5 * f - 2.5) * f * f + 1.0,
        ((-1.5 * f + 2.0) * f + 0.5) * f,
        (0.5 * f - 0.5) * f * f,
    ]
}
