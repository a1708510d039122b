//! The loss and its gradient by the network's output.
//!
//! Sums and gradients are per sample, not divided by the number of samples: with L1 a gradient is
//! -1, 0 or 1, so sums that cancel are exactly zero, as in the float64 golden vectors. The caller
//! divides once, at the end.

use std::sync::{Mutex, PoisonError};

use rustfft::num_complex::Complex;
use rustfft::{FftDirection, FftPlanner};
use wdsr_kernels::Planes;

use crate::recipe::Loss;

impl Loss {
    /// Value and slope at the error of one sample.
    fn of(self, error: f32) -> (f32, f32) {
        match self {
            Self::L1 | Self::Fft { .. } => (error.abs(), sign(error)),
            Self::L2 => (error * error, 2.0 * error),
            Self::Charbonnier { epsilon } => {
                let epsilon = epsilon as f32;
                let root = (error * error + epsilon * epsilon).sqrt();
                // The slope is undefined for epsilon 0 and error 0.
                let slope = if root == 0.0 { 0.0 } else { error / root };
                (root, slope)
            }
        }
    }
}

/// -1, 0 or 1; NaN for NaN.
fn sign(error: f32) -> f32 {
    if error == 0.0 { 0.0 } else { error.signum() }
}

/// Computes a loss over patches.
pub(crate) struct LossOverPatches {
    loss: Loss,
    /// Plans by length; the lock is held only to fetch one.
    planner: Mutex<FftPlanner<f32>>,
}

impl LossOverPatches {
    pub(crate) fn new(loss: Loss) -> Self {
        let planner = Mutex::new(FftPlanner::new());
        Self { loss, planner }
    }

    /// The loss of a patch, `output + mean` against `high` (3 planes each, R G B), summed over its
    /// samples. `gradient`, of `output`'s shape, receives the gradient of that sum by each sample of
    /// `output`.
    ///
    /// # Panics
    /// If the shapes differ.
    pub(crate) fn run(
        &self,
        output: &Planes,
        mean: [f32; 3],
        high: &Planes,
        gradient: &mut Planes,
    ) -> f64 {
        assert_eq!(
            (high.channels(), high.width_px(), high.height_px()),
            (output.channels(), output.width_px(), output.height_px()),
            "high-resolution patch and output of the network (channels, width, height)"
        );
        let mut sum = 0.0;
        for (channel, mean) in mean.into_iter().enumerate() {
            for y in 0..high.height_px() {
                let to = gradient.row_mut(channel, y).iter_mut();
                let pairs = output.row(channel, y).iter().zip(high.row(channel, y));
                let mut row_sum = 0.0;
                for (to, (output, high)) in to.zip(pairs) {
                    let (value, slope) = self.loss.of(output + mean - high);
                    row_sum += value;
                    *to = slope;
                }
                sum += f64::from(row_sum);
            }
        }
        if let Loss::Fft { weight } = self.loss {
            self.add_spectrum(weight, output, mean, high, gradient, &mut sum);
        }
        sum
    }

    /// Adds the loss on the spectrum of [`Loss::Fft`] and its gradient. It is a mean over the real and
    /// imaginary parts of the half spectrum, scaled to a sum over samples.
    fn add_spectrum(
        &self,
        weight: f64,
        output: &Planes,
        mean: [f32; 3],
        high: &Planes,
        gradient: &mut Planes,
        sum: &mut f64,
    ) {
        let (width, height) = (high.width_px(), high.height_px());
        let parts = 2 * height * (width / 2 + 1);
        let factor = weight * (width * height) as f64 / parts as f64;
        for (channel, mean) in mean.into_iter().enumerate() {
            let error: Vec<f32> = (0..height)
                .flat_map(|y| {
                    let pairs = output.row(channel, y).iter().zip(high.row(channel, y));
                    pairs.map(move |(output, high)| output + mean - high)
                })
                .collect();
            let (value, slopes) = self.spectrum(&error, width, height);
            *sum += factor * value;
            for (y, slopes) in slopes.chunks_exact(width).enumerate() {
                let to = gradient.row_mut(channel, y).iter_mut();
                to.zip(slopes).for_each(|(to, s)| *to += factor as f32 * s);
            }
        }
    }

    /// Sum of |re| + |im| over the half spectrum (frequencies 0 to width / 2 along the rows, all
    /// along the columns; not normalised, as `torch.fft.rfft2`), and its gradient by each of the
    /// `width * height` errors: the transposed transform of the signs.
    fn spectrum(&self, error: &[f32], width: usize, height: usize) -> (f64, Vec<f32>) {
        let plan = |length: usize, direction: FftDirection| {
            let mut planner = self.planner.lock().unwrap_or_else(PoisonError::into_inner);
            planner.plan_fft(length, direction)
        };
        let half = width / 2 + 1;
        let mut rows: Vec<Complex<f32>> = error.iter().map(|e| Complex::new(*e, 0.0)).collect();
        plan(width, FftDirection::Forward).process(&mut rows);
        let mut columns = vec![Complex::default(); half * height];
        for y in 0..height {
            for x in 0..half {
                columns[x * height + y] = rows[y * width + x];
            }
        }
        plan(height, FftDirection::Forward).process(&mut columns);
        let mut sum = 0.0;
        for value in &mut columns {
            sum += f64::from(value.re.abs()) + f64::from(value.im.abs());
            *value = Complex::new(sign(value.re), sign(value.im));
        }
        plan(height, FftDirection::Inverse).process(&mut columns);
        rows.fill(Complex::default());
        for y in 0..height {
            for x in 0..half {
                rows[y * width + x] = columns[x * height + y];
            }
        }
        plan(width, FftDirection::Inverse).process(&mut rows);
        (sum, rows.iter().map(|value| value.re).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    const MEAN: [f32; 3] = [0.4, 0.5, 0.3];
    const SIZE: (usize, usize) = (6, 5);

    fn planes(seed: u32) -> Planes {
        let (width, height) = SIZE;
        let mut planes = Planes::zeros(3, width, height);
        let sample = |i: u32| ((i * i * (31 + seed) + 7919 * i * seed) % 1009) as f32 / 1009.0;
        let values: Vec<f32> = (0..(3 * width * height) as u32).map(sample).collect();
        planes.copy_from_chw(&values);
        planes
    }

    /// The mean loss of errors `[3, height, width]` by its definition, in f64.
    fn reference(loss: Loss, errors: &[f64]) -> f64 {
        let (width, height) = SIZE;
        let mean = |of: &dyn Fn(f64) -> f64| {
            errors.iter().map(|e| of(*e)).sum::<f64>() / errors.len() as f64
        };
        match loss {
            Loss::L1 => mean(&f64::abs),
            Loss::L2 => mean(&|e| e * e),
            Loss::Charbonnier { epsilon } => mean(&|e| (e * e + epsilon * epsilon).sqrt()),
            Loss::Fft { weight } => {
                let (mut sum, mut parts) = (0.0, 0.0);
                for plane in errors.chunks_exact(width * height) {
                    for v in 0..height {
                        for u in 0..=width / 2 {
                            let (mut re, mut im) = (0.0, 0.0);
                            for (at, e) in plane.iter().enumerate() {
                                let (x, y) = (at % width, at / width);
                                let turns =
                                    (u * x) as f64 / width as f64 + (v * y) as f64 / height as f64;
                                re += e * (TAU * turns).cos();
                                im -= e * (TAU * turns).sin();
                            }
                            sum += re.abs() + im.abs();
                            parts += 2.0;
                        }
                    }
                }
                mean(&f64::abs) + weight * sum / parts
            }
        }
    }

    #[test]
    fn losses_and_gradients_match_their_definitions() {
        let (output, high) = (planes(1), planes(2));
        let samples = 3 * SIZE.0 * SIZE.1;
        let means = MEAN.iter().flat_map(|m| [*m; SIZE.0 * SIZE.1]);
        let pairs = output.to_chw().into_iter().zip(high.to_chw());
        let errors: Vec<f64> = pairs
            .zip(means)
            .map(|((output, high), mean)| f64::from(output + mean - high))
            .collect();
        for loss in [
            Loss::L1,
            Loss::L2,
            Loss::Charbonnier { epsilon: 0.2 },
            Loss::Fft { weight: 0.3 },
        ] {
            let mut gradient = Planes::zeros(3, SIZE.0, SIZE.1);
            let sum = LossOverPatches::new(loss).run(&output, MEAN, &high, &mut gradient);
            let expected = reference(loss, &errors);
            let found = sum / samples as f64;
            assert!(
                (found - expected).abs() < 1e-5 * expected,
                "{loss:?}: {found} and {expected}"
            );
            for (at, slope) in gradient.to_chw().into_iter().enumerate() {
                let step = 1e-6;
                let moved = |by: f64| {
                    let mut errors = errors.clone();
                    errors[at] += by;
                    reference(loss, &errors)
                };
                let expected = (moved(step) - moved(-step)) / (2.0 * step) * samples as f64;
                assert!(
                    (f64::from(slope) - expected).abs() < 1e-3,
                    "{loss:?} at {at}: {slope} and {expected}"
                );
            }
        }
    }
}
