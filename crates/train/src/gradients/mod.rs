//! The loss of a batch and its gradients.
//!
//! Patches run in parallel, each in buffers of its own; their gradients are added in the order of
//! the batch, so the number of threads does not change a bit. In a network without batch
//! normalisation each patch runs forwards and backwards in one go, while its values are in the
//! cache. A batch normalisation needs all patches at once, so it cuts the steps into segments.

mod batch_norm;
mod operations;
mod packed_weights;
mod patch_buffers;
mod rounding;

use std::ops::Range;
use std::sync::Mutex;

use rayon::prelude::*;
use wdsr_kernels::{Isa, Planes, Precision};
use wdsr_model::{Activation, ConvWeights, FusedOperation, Int8Scales, Network, Operation, Value};

pub use crate::batch::Batch;
use crate::loss::LossOverPatches;
use crate::parameters::Gradients;
use crate::ranks::{self, Alone, Ranks};
use crate::recipe::Loss;
pub use batch_norm::Statistics;
use batch_norm::Sums;
use packed_weights::PackedWeights;
use patch_buffers::PatchBuffers;
use rounding::Int8Rounding;

/// The targets of a patch.
#[derive(Clone, Copy)]
struct Target<'b> {
    high: &'b Planes,
    taught: Option<&'b Planes>,
}

impl<'b> Target<'b> {
    fn of(batch: &'b Batch, patch: usize) -> Self {
        Self {
            high: &batch.high[patch],
            taught: batch.taught.get(patch),
        }
    }
}

/// Loss and gradients of a batch.
pub struct BatchResult {
    /// Mean loss over all samples of the batch.
    pub loss: f64,
    /// Gradients of the loss.
    pub gradients: Gradients,
    /// Mean and biased variance of each batch normalisation's input.
    pub statistics: Vec<Statistics>,
}

/// Runs batches of a network forwards and backwards.
pub struct GradientEngine {
    network: Network,
    isa: Isa,
    precision: Precision,
    int8: Option<Int8Rounding>,
    /// Whether a value is the output of a ReLU: its gradient is zero where the value is.
    rectified: Vec<bool>,
    steps: Vec<FusedOperation>,
    /// Whether a value is the input or the output of a step; the others are never stored.
    stored: Vec<bool>,
    /// Ranges of steps between the points that all patches must reach together: each starts with
    /// the first step or a batch normalisation.
    segments: Vec<Range<usize>>,
    idle: Mutex<Vec<PatchBuffers>>,
    loss: LossOverPatches,
    teacher_weight: f64,
}

/// Loss and gradients of a patch, summed over its samples.
struct PatchResult {
    loss: f64,
    gradients: Gradients,
}

impl GradientEngine {
    /// An engine for a network made by [`Network::for_training`], with the L1 loss in f32.
    pub fn new(network: Network, isa: Isa) -> Self {
        let mut rectified = vec![false; network.values.len()];
        for operation in &network.operations {
            rectified[operation.output().0] = match *operation {
                Operation::Conv { activation, .. } => activation == Activation::Relu,
                Operation::BatchNorm { relu, .. } => relu,
                _ => false,
            };
        }
        let steps = network.fused_operations();
        let stored = stored(&network, &steps);
        let is_norm = |step: &FusedOperation| {
            matches!(step, FusedOperation::Single(Operation::BatchNorm { .. }))
        };
        let norms = steps.iter().enumerate().filter(|(_, step)| is_norm(step));
        let starts: Vec<usize> = std::iter::once(0).chain(norms.map(|(at, _)| at)).collect();
        let ends = starts[1..].iter().copied().chain([steps.len()]);
        let segments = starts
            .iter()
            .zip(ends)
            .map(|(start, end)| *start..end)
            .collect();
        Self {
            network,
            isa,
            precision: Precision::F32,
            int8: None,
            rectified,
            steps,
            stored,
            segments,
            idle: Mutex::new(Vec::new()),
            loss: LossOverPatches::new(Loss::L1),
            teacher_weight: 0.0,
        }
    }

    /// Computes convolutions of many channels in the given precision.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Rounds weights and activations as int8 does with these scales, in the order of [`Network::int8_convs`].
    ///
    /// # Panics
    /// If there are not as many scales, or the network has batch normalisations.
    pub fn with_int8(mut self, scales: &[Int8Scales]) -> Self {
        assert!(
            self.network.batch_norms.is_empty(),
            "batch normalisations in int8"
        );
        self.int8 = Some(Int8Rounding::new(&self.network, scales));
        // What convolutions read is rounded, so all of it is stored.
        let operations = self.network.operations.iter();
        self.steps = operations.map(|o| FusedOperation::Single(*o)).collect();
        self.stored = stored(&self.network, &self.steps);
        self.segments[0].end = self.steps.len();
        self
    }

    /// Replaces the loss.
    pub fn with_loss(mut self, loss: Loss) -> Self {
        self.loss = LossOverPatches::new(loss);
        self
    }

    /// Sets the share of the loss, 0..1, against [`Batch::taught`], for batches that have it.
    pub fn with_teacher_weight(mut self, weight: f64) -> Self {
        self.teacher_weight = weight;
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
    /// If the batch is empty, or its shapes do not match each other or the network.
    pub fn run(&self, convs: &[ConvWeights], norms: &[[&[f32]; 2]], batch: &Batch) -> BatchResult {
        self.run_among(&Alone, convs, norms, batch)
    }

    /// Loss and gradients of a batch, of which each rank has consecutive patches, at least one. All ranks get the bits
    /// that [`run`](Self::run) gives one process for all patches.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    pub fn run_among(
        &self,
        ranks: &dyn Ranks,
        convs: &[ConvWeights],
        norms: &[[&[f32]; 2]],
        batch: &Batch,
    ) -> BatchResult {
        assert_eq!(
            batch.low.len(),
            batch.high.len(),
            "patches of a batch, low and high"
        );
        assert!(
            batch.taught.is_empty() || batch.taught.len() == batch.high.len(),
            "{} patches by a teacher, {} in the batch",
            batch.taught.len(),
            batch.high.len()
        );
        assert!(!batch.low.is_empty(), "empty batch");
        let (network, steps) = (&self.network, &self.steps);
        let rounded = self.int8.as_ref().map(|int8| int8.weights(network, convs));
        let unrounded = convs;
        let convs = rounded.as_deref().unwrap_or(convs);
        let weights = PackedWeights::new(network, steps, (self.isa, self.precision), convs, norms);
        let samples: usize = batch
            .high
            .iter()
            .map(|p| 3 * p.width_px() * p.height_px())
            .sum();
        let mut statistics = Vec::new();
        let results: Vec<PatchResult> = if self.segments.len() == 1 {
            let patches = batch.low.par_iter().enumerate();
            patches
                .map(|(at, low)| self.run_patch(low, Target::of(batch, at), &weights))
                .collect()
        } else {
            self.run_in_segments(ranks, batch, &weights, &mut statistics)
        };
        // The samples are few enough for f64.
        let mut loss_and_samples = [0.0_f64; 2];
        ranks::sum(ranks, &mut loss_and_samples, |_, sums| {
            for result in &results {
                sums[0] += result.loss;
            }
            sums[1] += samples as f64;
        });
        let [loss, samples] = loss_and_samples;
        let mut gradients = Gradients::zeros(&self.network);
        let terms: Vec<Vec<f32>> = results.iter().map(|r| r.gradients.to_vec()).collect();
        let mut sums = gradients.to_vec();
        ranks::sum(ranks, &mut sums, |range, sums| {
            for term in &terms {
                for (sum, term) in sums.iter_mut().zip(&term[range.clone()]) {
                    *sum += term;
                }
            }
        });
        gradients.copy_from(&sums);
        gradients.scale(1.0 / samples as f32);
        if let Some(int8) = &self.int8 {
            int8.limit(network, unrounded, &mut gradients);
        }
        BatchResult {
            loss: loss / samples,
            gradients,
            statistics,
        }
    }

    fn run_patch(&self, low: &Planes, target: Target<'_>, w: &PackedWeights<'_>) -> PatchResult {
        let mut patch = self.start(low);
        for step in &self.steps {
            self.forward(*step, &mut patch, w, &[]);
        }
        let mut result = self.loss(&mut patch, target);
        for step in self.steps.iter().rev() {
            self.backward(*step, &mut patch, w, &mut result.gradients);
        }
        self.finish(patch);
        result
    }

    fn run_in_segments(
        &self,
        ranks: &dyn Ranks,
        batch: &Batch,
        weights: &PackedWeights<'_>,
        statistics: &mut Vec<Statistics>,
    ) -> Vec<PatchResult> {
        let mut patches: Vec<PatchBuffers> = batch.low.iter().map(|low| self.start(low)).collect();
        for segment in &self.segments {
            if let Some((_, input, _)) = self.norm(segment.start) {
                let inputs = patches.iter().map(|patch| &patch.values[input.0]);
                statistics.push(Statistics::of(ranks, inputs));
            }
            patches.par_iter_mut().for_each(|patch| {
                for step in &self.steps[segment.clone()] {
                    self.forward(*step, patch, weights, statistics);
                }
            });
        }
        let mut results: Vec<PatchResult> = patches
            .iter_mut()
            .enumerate()
            .map(|(at, patch)| self.loss(patch, Target::of(batch, at)))
            .collect();
        for segment in self.segments.iter().rev() {
            let norm = self.norm(segment.start);
            let first = segment.start + usize::from(norm.is_some());
            patches
                .par_iter_mut()
                .zip(&mut results)
                .for_each(|(patch, result)| {
                    for step in self.steps[first..segment.end].iter().rev() {
                        self.backward(*step, patch, weights, &mut result.gradients);
                    }
                });
            if let Some((norm, input, output)) = norm {
                let pairs: Vec<(&Planes, &Planes)> = patches
                    .iter()
                    .filter_map(|patch| {
                        let gradient = patch.by_value[output.0].as_ref()?;
                        Some((gradient, &patch.values[input.0]))
                    })
                    .collect();
                let statistics = &statistics[norm];
                let sums = Sums::of(ranks, &pairs, statistics);
                let factor = weights.norms[norm][0];
                patches.par_iter_mut().for_each(|patch| {
                    let gradient = patch.take_gradient(output);
                    let mut target = patch.buffer(input);
                    let x = &patch.values[input.0];
                    batch_norm::backward(&gradient, x, factor, statistics, &sums, &mut target);
                    patch.by_value[input.0] = Some(target);
                    patch.spare.push(gradient);
                });
                // Gradients of the whole batch, added to those of its first patch.
                if ranks.rank() == 0 {
                    results[0].gradients.norms[norm] = sums.into_gradients();
                }
            }
        }
        patches.into_iter().for_each(|patch| self.finish(patch));
        results
    }

    /// Index, input and output of the batch normalisation that a step is.
    fn norm(&self, step: usize) -> Option<(usize, Value, Value)> {
        match self.steps[step] {
            FusedOperation::Single(Operation::BatchNorm {
                norm,
                input,
                output,
                ..
            }) => Some((norm, input, output)),
            _ => None,
        }
    }

    /// Buffers for a patch, with its input minus the mean.
    fn start(&self, low: &Planes) -> PatchBuffers {
        assert_eq!(low.channels(), 3, "planes of a low-resolution patch");
        let mut patch = lock(&self.idle).pop().unwrap_or_default();
        let (width, height) = (low.width_px(), low.height_px());
        if patch.values.is_empty() {
            let values = &self.network.values;
            patch.values = values.iter().map(|_| Planes::zeros(1, 1, 1)).collect();
            patch.by_value = values.iter().map(|_| None).collect();
        }
        let shapes = self.network.values.iter().zip(&self.stored);
        for (planes, (v, stored)) in patch.values.iter_mut().zip(shapes) {
            if *stored {
                planes.resize(v.channels, width * v.scale, height * v.scale);
            }
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

    /// Keeps the buffers for a later patch.
    fn finish(&self, mut patch: PatchBuffers) {
        let unused = patch.by_value.iter_mut().filter_map(Option::take);
        patch.spare.extend(unused);
        lock(&self.idle).push(patch);
    }

    /// The loss of the patch and its gradient by the network's output, both summed over samples;
    /// [`GradientEngine::run`] divides by the batch's samples at the end.
    fn loss(&self, patch: &mut PatchBuffers, target: Target<'_>) -> PatchResult {
        let output = self.network.output;
        let mut gradient = patch.buffer(output);
        let mut by_teacher = target.taught.map(|_| patch.buffer(output));
        let (values, mean) = (&patch.values[output.0], self.network.config.mean);
        let mut loss = self.loss.run(values, mean, target.high, &mut gradient);
        if let (Some(taught), Some(second)) = (target.taught, &mut by_teacher) {
            let weight = self.teacher_weight;
            let against_teacher = self.loss.run(values, mean, taught, second);
            loss += weight * (against_teacher - loss);
            let pairs = gradient.as_mut_slice().iter_mut().zip(second.as_slice());
            pairs.for_each(|(sum, taught)| *sum += weight as f32 * (taught - *sum));
        }
        patch.spare.extend(by_teacher);
        patch.by_value[output.0] = Some(gradient);
        PatchResult {
            loss,
            gradients: Gradients::zeros(&self.network),
        }
    }
}

/// Whether each value is the network's input or the output of a step.
fn stored(network: &Network, steps: &[FusedOperation]) -> Vec<bool> {
    let mut stored = vec![false; network.values.len()];
    stored[network.input.0] = true;
    for step in steps {
        stored[step.output().0] = true;
    }
    stored
}

/// Locks a list of buffers, which is valid even after a panic of another thread.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
