//! Whole shifts between two images, by phase correlation.
//!
//! Source: Kuglin and Hines 1975. The spectra are weighted by a Gaussian, because noise and aliasing
//! dominate the high frequencies.

use rustfft::FftPlanner;
use rustfft::num_complex::Complex;

use super::grey::Grey;

/// Peaks that are looked at.
const PEAKS: usize = 6;
/// Pixels around a peak that belong to it.
const PEAK_RADIUS_PX: usize = 3;
/// Frequency, in cycles per pixel, at which the weight of a spectrum has fallen to exp(-1).
const CUT_OFF: f32 = 0.2;
/// The least share of the smaller image's pixels that both images have in common.
const LEAST_OVERLAP: f64 = 0.3;
/// The least side of what both have in common.
const LEAST_SIDE_PX: usize = 12;
/// Shifts that correlate nearly as well as the best are as probable; the smallest of them counts.
/// Periodic textures have many.
const EQUAL_CORRELATION: f64 = 0.01;

/// A shift by whole pixels, and the correlation of the images' details there, -1..=1.
#[derive(Clone, Copy, Debug)]
pub(super) struct WholeShift {
    /// The second image's pixel at a pixel of the first: columns and rows to add.
    pub(super) offset_px: [isize; 2],
    pub(super) correlation: f64,
}

/// The shift at which `second` shows what `first` does. Both are details ([`Grey::detail`]). None if
/// they have too little in common at every shift.
pub(super) fn whole_shift(first: &Grey, second: &Grey) -> Option<WholeShift> {
    let size = [
        first.width_px.max(second.width_px),
        first.height_px.max(second.height_px),
    ];
    let surface = surface(first, second, size);
    let mut offsets = vec![[0, 0]];
    for [x, y] in peaks(surface, size) {
        // The surface is periodic.
        let either = |at: usize, len: usize| [at as isize, at as isize - len as isize];
        for x in either(x, size[0]) {
            offsets.extend(either(y, size[1]).map(|y| [x, y]));
        }
    }
    let found = offsets.into_iter().filter_map(|offset_px| {
        let correlation = correlation(first, second, offset_px)?;
        Some(WholeShift {
            offset_px,
            correlation,
        })
    });
    let found: Vec<WholeShift> = found.collect();
    let best = found
        .iter()
        .map(|shift| shift.correlation)
        .reduce(f64::max)?;
    let equal = found
        .into_iter()
        .filter(|shift| shift.correlation >= best - EQUAL_CORRELATION);
    equal.min_by_key(|shift| shift.offset_px.map(|px| px * px).iter().sum::<isize>())
}

/// The correlation at every shift of the period `size`.
fn surface(first: &Grey, second: &Grey, size: [usize; 2]) -> Vec<f32> {
    let mut first = spectrum(first, size);
    let second = spectrum(second, size);
    let mean = first.iter().zip(&second).map(|(a, b)| (a * b).norm());
    let mean = mean.sum::<f32>() / first.len() as f32;
    let frequency = |at: usize, len: usize| at.min(len - at) as f32 / len as f32;
    for (i, (a, b)) in first.iter_mut().zip(&second).enumerate() {
        let (x, y) = (i % size[0], i / size[0]);
        let squares = frequency(x, size[0]).powi(2) + frequency(y, size[1]).powi(2);
        let weight = (-squares / (CUT_OFF * CUT_OFF)).exp();
        let product = a.conj() * b;
        // Frequencies that neither image has do not count.
        *a = product * (weight / (product.norm() + 0.01 * mean + f32::MIN_POSITIVE));
    }
    transform(&mut first, size, true);
    first.into_iter().map(|value| value.re).collect()
}

/// The spectrum of an image that fades out towards its edges (Hann), padded to `size`.
fn spectrum(image: &Grey, size: [usize; 2]) -> Vec<Complex<f32>> {
    let fade = |at: usize, len: usize| {
        let angle = std::f32::consts::PI * (at as f32 + 0.5) / len as f32;
        angle.sin().powi(2)
    };
    let mut values = vec![Complex::default(); size[0] * size[1]];
    for (y, row) in image.samples.chunks_exact(image.width_px).enumerate() {
        let down = fade(y, image.height_px);
        for (x, &sample) in row.iter().enumerate() {
            let weight = down * fade(x, image.width_px);
            values[y * size[0] + x] = Complex::new(weight * sample, 0.0);
        }
    }
    transform(&mut values, size, false);
    values
}

/// The two-dimensional Fourier transform, in place.
fn transform(values: &mut Vec<Complex<f32>>, [width, height]: [usize; 2], inverse: bool) {
    let mut planner = FftPlanner::new();
    let mut plan = |len| match inverse {
        true => planner.plan_fft_inverse(len),
        false => planner.plan_fft_forward(len),
    };
    plan(width).process(values);
    let mut columns = transposed(values, width, height);
    plan(height).process(&mut columns);
    *values = transposed(&columns, height, width);
}

fn transposed(values: &[Complex<f32>], width: usize, height: usize) -> Vec<Complex<f32>> {
    let at = |i: usize| values[i % height * width + i / height];
    (0..width * height).map(at).collect()
}

/// Places of the highest peaks, the highest first.
fn peaks(mut surface: Vec<f32>, [width, height]: [usize; 2]) -> Vec<[usize; 2]> {
    let mut peaks = Vec::new();
    for _ in 0..PEAKS {
        let highest = surface.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let Some((at, _)) = highest else {
            break;
        };
        let [x, y] = [at % width, at / width];
        peaks.push([x, y]);
        let around = |at: usize, len: usize| {
            (0..=2 * PEAK_RADIUS_PX)
                .map(move |i| (at + i + len * PEAK_RADIUS_PX - PEAK_RADIUS_PX) % len)
        };
        for y in around(y, height) {
            for x in around(x, width) {
                surface[y * width + x] = f32::NEG_INFINITY;
            }
        }
    }
    peaks
}

/// The correlation coefficient of what the images have in common at a shift; none if that is too
/// little.
fn correlation(first: &Grey, second: &Grey, [right, down]: [isize; 2]) -> Option<f64> {
    let span = |shift: isize, first: usize, second: usize| {
        let begin = (-shift).max(0);
        let end = (second as isize - shift).min(first as isize);
        (begin < end).then_some(begin as usize..end as usize)
    };
    let columns = span(right, first.width_px, second.width_px)?;
    let rows = span(down, first.height_px, second.height_px)?;
    let common = columns.len() * rows.len();
    let smaller = first.samples.len().min(second.samples.len());
    if columns.len().min(rows.len()) < LEAST_SIDE_PX
        || (common as f64) < LEAST_OVERLAP * smaller as f64
    {
        return None;
    }
    let mut moments = Moments::default();
    for y in rows {
        let first = &first.samples[y * first.width_px..][..first.width_px];
        let start = y.checked_add_signed(down)? * second.width_px;
        let second = &second.samples[start..][..second.width_px];
        for x in columns.clone() {
            moments.add(first[x], second[x.checked_add_signed(right)?]);
        }
    }
    Some(moments.correlation())
}

/// Sums over pairs of samples.
#[derive(Default)]
pub(super) struct Moments {
    pub(super) count: f64,
    a: f64,
    b: f64,
    aa: f64,
    bb: f64,
    ab: f64,
}

impl Moments {
    pub(super) fn add(&mut self, a: f32, b: f32) {
        let (a, b) = (f64::from(a), f64::from(b));
        self.count += 1.0;
        self.a += a;
        self.b += b;
        self.aa += a * a;
        self.bb += b * b;
        self.ab += a * b;
    }

    /// Sums of products about the means: of a with itself, of b with itself, of a and b.
    fn central(&self) -> [f64; 3] {
        let about = |sum: f64, a: f64, b: f64| sum - a * b / self.count.max(1.0);
        [
            about(self.aa, self.a, self.a).max(0.0),
            about(self.bb, self.b, self.b).max(0.0),
            about(self.ab, self.a, self.b),
        ]
    }

    /// The correlation coefficient; 0 if one of them is constant.
    pub(super) fn correlation(&self) -> f64 {
        let [aa, bb, ab] = self.central();
        let product = (aa * bb).sqrt();
        if product > 1e-9 * self.count {
            ab / product
        } else {
            0.0
        }
    }

    /// (gain, offset) of the line of least squares b = gain a + offset.
    pub(super) fn line(&self) -> (f64, f64) {
        let [aa, _, ab] = self.central();
        let gain = if aa > 0.0 { ab / aa } else { 1.0 };
        (gain, (self.b - gain * self.a) / self.count.max(1.0))
    }

    /// Root mean square of b about that line.
    pub(super) fn residual(&self) -> f64 {
        let [aa, bb, ab] = self.central();
        let explained = if aa > 0.0 { ab * ab / aa } else { 0.0 };
        ((bb - explained).max(0.0) / self.count.max(1.0)).sqrt()
    }
}
