//! Batch normalisation over the patches of a batch, forwards and backwards (Ioffe and Szegedy 2015).

use rayon::prelude::*;
use wdsr_kernels::Planes;

use crate::parameters::BATCH_NORM_EPSILON;
use crate::ranks::{self, Ranks};

/// Partial sums: pixel i of a row is added to sum i modulo this, so that an addition does not wait for
/// the one before.
const LANES: usize = 8;
type Lanes = [f64; LANES];

/// Adds the terms of each pixel of two rows of the same length to `sums`.
#[inline(always)]
fn add_terms<const TERMS: usize>(
    a: &[f32],
    b: &[f32],
    sums: &mut [Lanes; TERMS],
    terms: impl Fn(f32, f32) -> [f64; TERMS],
) {
    let mut add = |lane: usize, a: f32, b: f32| {
        for (sum, term) in sums.iter_mut().zip(terms(a, b)) {
            sum[lane] += term;
        }
    };
    let (chunks_a, rest_a) = a.as_chunks::<LANES>();
    let (chunks_b, rest_b) = b.as_chunks::<LANES>();
    for (a, b) in chunks_a.iter().zip(chunks_b) {
        for lane in 0..LANES {
            add(lane, a[lane], b[lane]);
        }
    }
    for (lane, (a, b)) in rest_a.iter().zip(rest_b).enumerate() {
        add(lane, *a, *b);
    }
}

/// The sums of each channel over the images of all ranks. `add` adds the terms of this rank's to those of a channel.
fn sums_over_images<const TERMS: usize>(
    ranks: &dyn Ranks,
    channels: usize,
    add: impl Fn(usize, &mut [Lanes; TERMS]) + Sync,
) -> Vec<[Lanes; TERMS]> {
    let mut sums = vec![[[0.0; LANES]; TERMS]; channels];
    ranks::sum(ranks, &mut sums, |range, sums| {
        let sums = sums.par_iter_mut().zip(range);
        sums.for_each(|(sums, channel)| add(channel, sums));
    });
    sums
}

/// The mean of a term of each sample, by channel, over the images of all ranks, which have `count` samples in a
/// channel.
fn channel_means(
    ranks: &dyn Ranks,
    images: &[&Planes],
    count: usize,
    term: impl Fn(usize, f64) -> f64 + Sync,
) -> Vec<f64> {
    let channels = images.first().map_or(0, |image| image.channels());
    let sums = sums_over_images(ranks, channels, |channel, sums| {
        for image in images {
            for y in 0..image.height_px() {
                let row = image.row(channel, y);
                add_terms(row, row, sums, |v, _| [term(channel, f64::from(v))]);
            }
        }
    });
    let means = sums
        .iter()
        .map(|[sum]| sum.iter().sum::<f64>() / count as f64);
    means.collect()
}

/// Mean and biased variance of each channel over a batch.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// Mean per channel.
    pub mean: Vec<f32>,
    /// Biased variance per channel.
    pub variance: Vec<f32>,
    /// Pixels of a channel over the batch.
    pub count: usize,
}

impl Statistics {
    /// Those of the images of all ranks.
    pub(super) fn of<'p>(ranks: &dyn Ranks, images: impl Iterator<Item = &'p Planes>) -> Self {
        let images: Vec<&Planes> = images.collect();
        let mut count = [0_u64];
        ranks::sum(ranks, &mut count, |_, count| {
            let pixels = images.iter().map(|p| p.width_px() * p.height_px());
            count[0] += pixels.sum::<usize>() as u64;
        });
        let count = count[0] as usize;
        let mean = channel_means(ranks, &images, count, |_, v| v);
        let variance = channel_means(ranks, &images, count, |channel, v| {
            (v - mean[channel]).powi(2)
        });
        let narrow = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
        Self {
            variance: narrow(variance),
            mean: narrow(mean),
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

/// Normalises a patch: factor (x - mean) gain + offset, followed by a ReLU if `relu`.
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

/// Sums over the batch, per channel, for the gradient through a batch normalisation. They are also
/// the gradients by its offset and factor.
pub(super) struct Sums {
    gradient: Vec<f64>,
    gradient_times_normalised: Vec<f64>,
}

impl Sums {
    /// Sums over the (gradient by the output, input) of each patch. The ReLU after the normalisation,
    /// if any, has been applied to the gradients.
    pub(super) fn of(
        ranks: &dyn Ranks,
        pairs: &[(&Planes, &Planes)],
        statistics: &Statistics,
    ) -> Self {
        let channels = statistics.mean.len();
        let sums = sums_over_images(ranks, channels, |channel, sums| {
            let (mean, gain) = statistics.normaliser(channel);
            for (gradient, input) in pairs {
                for y in 0..gradient.height_px() {
                    let rows = (gradient.row(channel, y), input.row(channel, y));
                    add_terms(rows.0, rows.1, sums, |dy, x| {
                        [f64::from(dy), f64::from(dy * (x - mean) * gain)]
                    });
                }
            }
        });
        let of_channel = |sums: [Lanes; 2]| sums.map(|lanes| lanes.iter().sum::<f64>()).into();
        let (gradient, gradient_times_normalised) = sums.into_iter().map(of_channel).unzip();
        Self {
            gradient,
            gradient_times_normalised,
        }
    }

    /// The gradients by factor and offset.
    pub(super) fn into_gradients(self) -> [Vec<f32>; 2] {
        [self.gradient_times_normalised, self.gradient]
            .map(|sums| sums.into_iter().map(|v| v as f32).collect())
    }
}
