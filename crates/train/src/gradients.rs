//! The loss of a batch and its gradients: each operation forward beside backward.
//!
//! Patches run in parallel, each in its own buffers; their gradients are added in the order of
//! the batch, so the count of threads changes no bit. A network without batch normalisation runs
//! each patch forwards and backwards in one go, while its values are in the cache. A batch
//! normalisation needs all patches at once, so it cuts the operations into segments.

use std::ops::Range;
use std::sync::Mutex;

use rayon::prelude::*;
use wdsr_kernels::{
    Epilogue, Isa, PackedConv2d, Planes, add_scaled, conv2d, conv2d_backward_weight, pixel_shuffle,
    pixel_unshuffle,
};
use wdsr_model::{ConvWeights, Network, Operation, Value};

use crate::loss::LossOverPatches;
use crate::parameters::{BATCH_NORM_EPSILON, Gradients};
use crate::recipe::Loss;

/// Patches to train on: pictures of 3 planes (R G B, 0..1), low and high resolution.
pub struct Batch {
    /// Low resolution.
    pub low: Vec<Planes>,
    /// High resolution.
    pub high: Vec<Planes>,
}

/// What a batch gives.
pub struct BatchResult {
    /// Mean over all samples of the batch.
    pub loss: f64,
    /// Of the loss.
    pub gradients: Gradients,
    /// Mean and biased variance of each batch normalisation's input.
    pub statistics: Vec<Statistics>,
}

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

/// Runs batches of a network forwards and backwards.
pub struct GradientEngine {
    network: Network,
    isa: Isa,
    /// Values that a ReLU made: the gradient is zero where they are.
    rectified: Vec<bool>,
    /// Runs of operations between the points where all patches must meet: each begins with the
    /// first operation or a batch normalisation.
    segments: Vec<Range<usize>>,
    idle: Mutex<Vec<Patch>>,
    loss: LossOverPatches,
}

/// The weights of one update, arranged for the kernels.
struct Weights<'w> {
    forward: Vec<PackedConv2d>,
    backward: Vec<PackedConv2d>,
    norms: &'w [[&'w [f32]; 2]],
}

/// The values of one patch and the gradients by those still needed: kept from batch to batch.
#[derive(Default)]
struct Patch {
    values: Vec<Planes>,
    by_value: Vec<Option<Planes>>,
    /// Buffers for gradients.
    spare: Vec<Planes>,
}

/// What one patch adds to the batch's result.
struct PatchResult {
    loss: f64,
    gradients: Gradients,
}

impl GradientEngine {
    /// For a network made by [`Network::for_training`], minimising the L1 loss.
    pub fn new(network: Network, isa: Isa) -> Self {
        let mut rectified = vec![false; network.values.len()];
        let mut starts = vec![0];
        for (at, operation) in network.operations.iter().enumerate() {
            match *operation {
                Operation::Conv { output, relu, .. } => rectified[output.0] = relu,
                Operation::BatchNorm { output, relu, .. } => {
                    rectified[output.0] = relu;
                    starts.push(at);
                }
                _ => {}
            }
        }
        let ends = starts[1..]
            .iter()
            .copied()
            .chain([network.operations.len()]);
        let segments = starts
            .iter()
            .zip(ends)
            .map(|(start, end)| *start..end)
            .collect();
        Self {
            network,
            isa,
            rectified,
            segments,
            idle: Mutex::new(Vec::new()),
            loss: LossOverPatches::new(Loss::L1),
        }
    }

    /// Minimises another loss than L1.
    pub fn with_loss(mut self, loss: Loss) -> Self {
        self.loss = LossOverPatches::new(loss);
        self
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Loss and gradients of a batch for the given convolutions and batch normalisations
    /// (factor, offset).
    ///
    /// # Panics
    /// When the batch is empty, or its pictures do not fit each other or the network.
    pub fn run(&self, convs: &[ConvWeights], norms: &[[&[f32]; 2]], batch: &Batch) -> BatchResult {
        assert_eq!(
            batch.low.len(),
            batch.high.len(),
            "patches of a batch, low and high"
        );
        assert!(!batch.low.is_empty(), "empty batch");
        let weights = self.arrange(convs, norms);
        let samples: usize = batch
            .high
            .iter()
            .map(|p| 3 * p.width_px() * p.height_px())
            .sum();
        let mut statistics = Vec::new();
        let results: Vec<PatchResult> = if self.segments.len() == 1 {
            let pairs = batch.low.par_iter().zip(&batch.high);
            pairs
                .map(|(low, high)| self.run_patch(low, high, &weights))
                .collect()
        } else {
            self.run_in_segments(batch, &weights, &mut statistics)
        };
        let mut loss = 0.0;
        let mut gradients = Gradients::zeros(&self.network);
        for result in &results {
            loss += result.loss;
            gradients.add(&result.gradients);
        }
        gradients.scale(1.0 / samples as f32);
        BatchResult {
            loss: loss / samples as f64,
            gradients,
            statistics,
        }
    }

    fn run_patch(&self, low: &Planes, high: &Planes, w: &Weights<'_>) -> PatchResult {
        let mut patch = self.start(low);
        let operations = 0..self.network.operations.len();
        for at in operations.clone() {
            self.forward(at, &mut patch, w, &[]);
        }
        let mut result = self.loss(&mut patch, high);
        for at in operations.rev() {
            self.backward(at, &mut patch, w, &mut result.gradients);
        }
        self.finish(patch);
        result
    }

    fn run_in_segments(
        &self,
        batch: &Batch,
        weights: &Weights<'_>,
        statistics: &mut Vec<Statistics>,
    ) -> Vec<PatchResult> {
        let mut patches: Vec<Patch> = batch.low.iter().map(|low| self.start(low)).collect();
        for segment in &self.segments {
            if let Operation::BatchNorm { input, .. } = self.network.operations[segment.start] {
                statistics.push(Statistics::of(
                    patches.iter().map(|patch| &patch.values[input.0]),
                ));
            }
            patches.par_iter_mut().for_each(|patch| {
                for at in segment.clone() {
                    self.forward(at, patch, weights, statistics);
                }
            });
        }
        let mut results: Vec<PatchResult> = patches
            .iter_mut()
            .zip(&batch.high)
            .map(|(patch, high)| self.loss(patch, high))
            .collect();
        for segment in self.segments.iter().rev() {
            let norm = match self.network.operations[segment.start] {
                Operation::BatchNorm {
                    norm,
                    input,
                    output,
                    ..
                } => Some((norm, input, output)),
                _ => None,
            };
            let first = segment.start + usize::from(norm.is_some());
            patches
                .par_iter_mut()
                .zip(&mut results)
                .for_each(|(patch, result)| {
                    for at in (first..segment.end).rev() {
                        self.backward(at, patch, weights, &mut result.gradients);
                    }
                });
            if let Some((norm, input, output)) = norm {
                let sums = NormSums::of(&patches, input, output, &statistics[norm]);
                let factor = weights.norms[norm][0];
                patches.par_iter_mut().for_each(|patch| {
                    self.backward_norm(patch, input, output, factor, &statistics[norm], &sums);
                });
                // The batch's gradients, booked to its first patch.
                results[0].gradients.norms[norm] = sums.into_gradients();
            }
        }
        patches.into_iter().for_each(|patch| self.finish(patch));
        results
    }

    fn arrange<'w>(&self, convs: &[ConvWeights], norms: &'w [[&'w [f32]; 2]]) -> Weights<'w> {
        assert_eq!(convs.len(), self.network.convs.len(), "convolutions");
        assert_eq!(
            norms.len(),
            self.network.batch_norms.len(),
            "batch normalisations"
        );
        let (forward, backward) = self
            .network
            .convs
            .par_iter()
            .zip(convs)
            .map(|(conv, w)| {
                let (i, o, k) = (conv.in_channels, conv.out_channels, conv.kernel);
                (
                    PackedConv2d::forward(self.isa, &w.weight, &w.bias, i, o, k),
                    PackedConv2d::backward(self.isa, &w.weight, i, o, k),
                )
            })
            .unzip();
        Weights {
            forward,
            backward,
            norms,
        }
    }

    /// Buffers for a patch, its input minus the mean in place.
    fn start(&self, low: &Planes) -> Patch {
        assert_eq!(low.channels(), 3, "planes of a low-resolution patch");
        let mut patch = lock(&self.idle).pop().unwrap_or_default();
        let (width, height) = (low.width_px(), low.height_px());
        if patch.values.is_empty() {
            let zeros = |v: &wdsr_model::ValueShape| {
                Planes::zeros(v.channels, width * v.scale, height * v.scale)
            };
            patch.values = self.network.values.iter().map(zeros).collect();
            patch.by_value = self.network.values.iter().map(|_| None).collect();
        }
        for (planes, v) in patch.values.iter_mut().zip(&self.network.values) {
            planes.resize(v.channels, width * v.scale, height * v.scale);
        }
        let input = &mut patch.values[self.network.input.0];
        for (channel, mean) in self.network.config.mean.into_iter().enumerate() {
            for y in 0..height {
                for (to, from) in input
                    .row_mut(channel, y)
                    .iter_mut()
                    .zip(low.row(channel, y))
                {
                    *to = from - mean;
                }
            }
        }
        patch
    }

    fn finish(&self, mut patch: Patch) {
        let left = patch.by_value.iter_mut().filter_map(Option::take);
        patch.spare.extend(left);
        lock(&self.idle).push(patch);
    }

    /// The loss of the patch and its gradient by the network's output, both summed over samples;
    /// [`GradientEngine::run`] divides by the batch's samples at the end.
    fn loss(&self, patch: &mut Patch, high: &Planes) -> PatchResult {
        let output = self.network.output;
        let mut gradient = patch.buffer(output);
        let (made, mean) = (&patch.values[output.0], self.network.config.mean);
        let loss = self.loss.run(made, mean, high, &mut gradient);
        patch.by_value[output.0] = Some(gradient);
        PatchResult {
            loss,
            gradients: Gradients::zeros(&self.network),
        }
    }

    fn forward(
        &self,
        at: usize,
        patch: &mut Patch,
        weights: &Weights<'_>,
        statistics: &[Statistics],
    ) {
        let operation = self.network.operations[at];
        // An operation's output comes after its inputs in the list of values.
        let (made, rest) = patch.values.split_at_mut(operation.output().0);
        let target = &mut rest[0];
        match operation {
            Operation::Conv {
                conv, input, relu, ..
            } => {
                let epilogue = if relu {
                    Epilogue::Relu
                } else {
                    Epilogue::Store
                };
                conv2d(&made[input.0], &weights.forward[conv], target, epilogue);
            }
            Operation::BatchNorm {
                norm, input, relu, ..
            } => {
                let [factor, offset] = weights.norms[norm];
                for channel in 0..target.channels() {
                    let (mean, gain) = statistics[norm].normaliser(channel);
                    for y in 0..target.height_px() {
                        let from = made[input.0].row(channel, y);
                        for (to, from) in target.row_mut(channel, y).iter_mut().zip(from) {
                            let value = (from - mean) * gain * factor[channel] + offset[channel];
                            *to = if relu { value.max(0.0) } else { value };
                        }
                    }
                }
            }
            Operation::Add {
                branch,
                identity,
                scale,
                ..
            } => {
                target
                    .as_mut_slice()
                    .copy_from_slice(made[branch.0].as_slice());
                add_scaled(target, scale, &made[identity.0]);
            }
            Operation::PixelShuffle { input, scale, .. } => {
                pixel_shuffle(&made[input.0], scale, target);
            }
        }
    }

    /// Hands the gradient by an operation's output on to its inputs and weights.
    fn backward(&self, at: usize, patch: &mut Patch, weights: &Weights<'_>, sums: &mut Gradients) {
        let operation = self.network.operations[at];
        let gradient = patch.take_gradient(operation.output());
        match operation {
            Operation::Conv { conv, input, .. } => {
                let kernel = self.network.convs[conv].kernel;
                let ConvWeights { weight, bias } = &mut sums.convs[conv];
                let from = &patch.values[input.0];
                conv2d_backward_weight(self.isa, from, &gradient, kernel, weight, bias);
                if input != self.network.input {
                    let (mut target, epilogue) = match patch.by_value[input.0].take() {
                        None if self.rectified[input.0] => (
                            patch.buffer(input),
                            Epilogue::WherePositive(&patch.values[input.0]),
                        ),
                        None => (patch.buffer(input), Epilogue::Store),
                        Some(sum) => {
                            assert!(!self.rectified[input.0], "a rectified value used twice");
                            (sum, Epilogue::Accumulate)
                        }
                    };
                    conv2d(&gradient, &weights.backward[conv], &mut target, epilogue);
                    patch.by_value[input.0] = Some(target);
                }
                patch.spare.push(gradient);
            }
            Operation::BatchNorm { .. } => unreachable!("batch normalisation runs on all patches"),
            Operation::Add {
                branch,
                identity,
                scale,
                ..
            } => {
                let mut by_branch = patch.buffer(branch);
                for (to, from) in by_branch.as_mut_slice().iter_mut().zip(gradient.as_slice()) {
                    *to = scale * from;
                }
                patch.by_value[branch.0] = Some(by_branch);
                match &mut patch.by_value[identity.0] {
                    Some(sum) => {
                        add_scaled(sum, 1.0, &gradient);
                        patch.spare.push(gradient);
                    }
                    empty => *empty = Some(gradient),
                }
            }
            Operation::PixelShuffle { input, scale, .. } => {
                let mut target = patch.buffer(input);
                pixel_unshuffle(&gradient, scale, &mut target);
                patch.by_value[input.0] = Some(target);
                patch.spare.push(gradient);
            }
        }
    }

    /// dx = factor gain (dy - mean(dy) - x^ mean(dy x^)), with x^ = (x - mean) gain; the means
    /// run over the batch (Ioffe and Szegedy 2015, section 3).
    fn backward_norm(
        &self,
        patch: &mut Patch,
        input: Value,
        output: Value,
        factor: &[f32],
        statistics: &Statistics,
        sums: &NormSums,
    ) {
        let gradient = patch.take_gradient(output);
        let mut target = patch.buffer(input);
        for channel in 0..target.channels() {
            let (mean, gain) = statistics.normaliser(channel);
            let count = statistics.count as f64;
            let mean_gradient = (sums.gradient[channel] / count) as f32;
            let mean_product = (sums.gradient_times_normalised[channel] / count) as f32;
            for y in 0..target.height_px() {
                let pairs = gradient
                    .row(channel, y)
                    .iter()
                    .zip(patch.values[input.0].row(channel, y));
                for (to, (gradient, x)) in target.row_mut(channel, y).iter_mut().zip(pairs) {
                    let normalised = (x - mean) * gain;
                    *to = factor[channel]
                        * gain
                        * (gradient - mean_gradient - normalised * mean_product);
                }
            }
        }
        patch.by_value[input.0] = Some(target);
        patch.spare.push(gradient);
    }
}

impl Patch {
    fn take_gradient(&mut self, value: Value) -> Planes {
        self.by_value[value.0]
            .take()
            .unwrap_or_else(|| unreachable!("no gradient has reached value {}", value.0))
    }

    /// A buffer in the shape of a value, with any pixels and a zero border.
    fn buffer(&mut self, value: Value) -> Planes {
        let like = &self.values[value.0];
        let fits = |p: &Planes| p.geometry() == like.geometry() && p.channels() == like.channels();
        match self.spare.iter().position(fits) {
            Some(at) => self.spare.swap_remove(at),
            None => Planes::zeros(like.channels(), like.width_px(), like.height_px()),
        }
    }
}

impl Statistics {
    fn of<'p>(pictures: impl Iterator<Item = &'p Planes> + Clone) -> Self {
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

/// Sums over the batch, per channel, that the gradient through a batch normalisation needs.
/// They are also the gradients by its offset and its factor.
struct NormSums {
    gradient: Vec<f64>,
    gradient_times_normalised: Vec<f64>,
}

impl NormSums {
    /// Of the gradients by a batch normalisation's output. Where a ReLU follows, those have been
    /// set to zero already.
    fn of(patches: &[Patch], input: Value, output: Value, statistics: &Statistics) -> Self {
        let (gradient, gradient_times_normalised) = (0..statistics.mean.len())
            .into_par_iter()
            .map(|channel| {
                let (mean, gain) = statistics.normaliser(channel);
                let (mut sum, mut product) = (0.0, 0.0);
                for patch in patches {
                    let Some(gradient) = &patch.by_value[output.0] else {
                        continue;
                    };
                    for y in 0..gradient.height_px() {
                        let x = patch.values[input.0].row(channel, y);
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
    fn into_gradients(self) -> [Vec<f32>; 2] {
        [self.gradient_times_normalised, self.gradient]
            .map(|sums| sums.into_iter().map(|v| v as f32).collect())
    }
}

/// The guarded list of buffers is whole even after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
