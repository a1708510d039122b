//! Batch normalisation over the patches of a batch, forwards and backwards (Ioffe and Szegedy 2015).

use rayon::prelude::*;
use wdsr_kernels::Planes;

use crate::parameters::BATCH_NORM_EPSILON;

/// Mean and biased variance of each channel over a batch.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// Per channel.
    pub mean: Vec<f32>,
    /// Per channel.
    pub variance: Vec<f32>,
    /// Pixels it was taken over.
    pub count: usize,
}

impl Statistics {
    pub(super) fn of<'p>(pictures: impl Iterator<Item = &'p Planes> + Clone) -> Self {
        let channels = pictures.clone().next().map_or(0, Planes::channels);
        let count: usize = pictures.clone().map(|p| p.width_px() * p.height_px()).sum();
        let per_channel = |term: &(dyn Fn(usize, f32) -> f64 + Sync)| -> Vec<f64> {
            let pictures: Vec<&Planes> = pictures.clone().collect();
            (0..channels)
                .into_par_iter()
                .map(|channel| {
                    let rows = |p: &Planes| {
                        (0..p.height_px())
                            .map(|y| {
                                p.row(channel, y)
                                    .iter()
                                    .map(|v| term(channel, *v))
                                    .sum::<f64>()
                            })
                            .sum::<f64>()
                    };
                    pictures.iter().map(|p| rows(p)).sum::<f64>() / count as f64
                })
                .collect()
        };
        let mean = per_channel(&|_, v| f64::from(v));
        let variance = per_channel(&|channel, v| (f64::from(v) - mean[channel]).powi(2));
        let narrow = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
        Self {
            mean: narrow(mean),
            variance: narrow(variance),
            count,
        }
    }

    /// Mean and 1 / standard deviation of a channel.
    fn normaliser(&self, channel: usize) -> (f32, f32) {
        (
            self.mean[channel],
            1.0 / (self.variance[channel] + BATCH_NORM_EPSILON).sqrt(),
        )
    }
}

/// Normalises the pixels of a patch: factor (x - mean) gain + offset, through a ReLU if that follows.
pub(super) fn forward(
    input: &Planes,
    statistics: &Statistics,
    [factor, offset]: [&[f32]; 2],
    relu: bool,
    target: &mut Planes,
) {
    for channel in 0..target.channels() {
        let (mean, gain) = statistics.normaliser(channel);
        for y in 0..target.height_px() {
            let from = input.row(channel, y);
            for (to, from) in target.row_mut(channel, y).iter_mut().zip(from) {
                let value = (from - mean) * gain * factor[channel] + offset[channel];
                *to = if relu { value.max(0.0) } else { value };
            }
        }
    }
}

/// dx = factor gain (dy - mean(dy) - x^ mean(dy x^)), with x^ = (x - mean) gain; the means
/// run over the batch (section 3).
pub(super) fn backward(
    gradient: &Planes,
    input: &Planes,
    factor: &[f32],
    statistics: &Statistics,
    sums: &Sums,
    target: &mut Planes,
) {
    for channel in 0..target.channels() {
        let (mean, gain) = statistics.normaliser(channel);
        let count = statistics.count as f64;
        let mean_gradient = (sums.gradient[channel] / count) as f32;
        let mean_product = (sums.gradient_times_normalised[channel] / count) as f32;
        for y in 0..target.height_px() {
            let pairs = gradient.row(channel, y).iter().zip(input.row(channel, y));
            for (to, (gradient, x)) in target.row_mut(channel, y).iter_mut().zip(pairs) {
                let normalised = (x - mean) * gain;
                *to =
                    factor[channel] * gain * (gradient - mean_gradient - normalised * mean_product);
            }
        }
    }
}

/// Sums over the batch, per channel, that the gradient through a batch normalisation needs.
/// They are also the gradients by its offset and its factor.
pub(super) struct Sums {
    gradient: Vec<f64>,
    gradient_times_normalised: Vec<f64>,
}

impl Sums {
    /// Of each patch's gradient by the output and input. Where a ReLU follows, those gradients have
    /// been set to zero already.
    pub(super) fn of(pairs: &[(&Planes, &Planes)], statistics: &Statistics) -> Self {
        let (gradient, gradient_times_normalised) = (0..statistics.mean.len())
            .into_par_iter()
            .map(|channel| {
                let (mean, gain) = statistics.normaliser(channel);
                let (mut sum, mut product) = (0.0, 0.0);
                for (gradient, input) in pairs {
                    for y in 0..gradient.height_px() {
                        let x = input.row(channel, y);
                        for (dy, x) in gradient.row(channel, y).iter().zip(x) {
                            sum += f64::from(*dy);
                            product += f64::from(dy * (x - mean) * gain);
                        }
                    }
                }
                (sum, product)
            })
            .unzip();
        Self {
            gradient,
            gradient_times_normalised,
        }
    }

    /// By factor and offset.
    pub(super) fn into_gradients(self) -> [Vec<f32>; 2] {
        [self.gradient_times_normalised, self.gradient]
            .map(|sums| sums.into_iter().map(|v| v as f32).collect())
    }
}
