//! The loss of a batch and its gradients: each operation forward beside backward.
//!
//! Patches run in parallel, each in its own buffers; their gradients are added in the order of
//! the batch, so the count of threads changes no bit. A network without batch normalisation runs
//! each patch forwards and backwards in one go, while its values are in the cache. A batch
//! normalisation needs all patches at once, so it cuts the operations into segments.

mod batch_norm;

use std::ops::Range;
use std::sync::Mutex;

use rayon::prelude::*;
use wdsr_kernels::{
    ConvGradients, Epilogue, Isa, PairGradients, Planes, PlanesConv, PlanesPair, Precision,
    Scratch, add_scaled, pixel_shuffle, pixel_unshuffle,
};
use wdsr_model::{ConvWeights, FusedOperation, Network, Operation, Value};

use crate::loss::LossOverPatches;
use crate::parameters::Gradients;
use crate::recipe::Loss;
pub use batch_norm::Statistics;
use batch_norm::Sums;

/// Patches to train on: images of 3 planes (R G B, 0..1), low and high resolution.
pub struct Batch {
    /// Low resolution.
    pub low: Vec<Planes>,
    /// High resolution.
    pub high: Vec<Planes>,
    /// What a teacher makes of the low resolution, of the shapes of `high`; empty without one.
    pub taught: Vec<Planes>,
}

/// What a patch should become.
#[derive(Clone, Copy)]
struct Target<'b> {
    high: &'b Planes,
    taught: Option<&'b Planes>,
}

impl Batch {
    fn target(&self, patch: usize) -> Target<'_> {
        Target {
            high: &self.high[patch],
            taught: self.taught.get(patch),
        }
    }
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

/// Runs batches of a network forwards and backwards.
pub struct GradientEngine {
    network: Network,
    isa: Isa,
    precision: Precision,
    /// Values that a ReLU made: the gradient is zero where they are.
    rectified: Vec<bool>,
    steps: Vec<FusedOperation>,
    /// Values that a step makes; the others are never stored.
    stored: Vec<bool>,
    /// Runs of steps between the points where all patches must meet: each begins with the first
    /// step or a batch normalisation.
    segments: Vec<Range<usize>>,
    idle: Mutex<Vec<Patch>>,
    loss: LossOverPatches,
    teacher_weight: f64,
}

/// The weights of one update, arranged for the kernels.
struct Weights<'w> {
    convs: Vec<Packed>,
    norms: &'w [[&'w [f32]; 2]],
}

/// A convolution in the forms that its step needs.
enum Packed {
    Conv(PlanesConv),
    /// The first of a pair, and the second with it.
    Pair(PlanesPair),
    /// The second of a pair.
    InPair,
}

impl Packed {
    fn conv(&self) -> &PlanesConv {
        match self {
            Self::Conv(conv) => conv,
            _ => unreachable!("a convolution of a pair by itself"),
        }
    }

    fn pair(&self) -> &PlanesPair {
        match self {
            Self::Pair(pair) => pair,
            _ => unreachable!("not the first convolution of a pair"),
        }
    }
}

/// The values of one patch and the gradients by those still needed: kept from batch to batch.
#[derive(Default)]
struct Patch {
    values: Vec<Planes>,
    by_value: Vec<Option<Planes>>,
    /// Buffers for gradients.
    spare: Vec<Planes>,
    scratch: Scratch,
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
        for operation in &network.operations {
            if let Operation::Conv { output, relu, .. }
            | Operation::BatchNorm { output, relu, .. } = *operation
            {
                rectified[output.0] = relu;
            }
        }
        let steps = network.fused_operations();
        let mut stored = vec![false; network.values.len()];
        stored[network.input.0] = true;
        for step in &steps {
            stored[step.output().0] = true;
        }
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
            rectified,
            steps,
            stored,
            segments,
            idle: Mutex::new(Vec::new()),
            loss: LossOverPatches::new(Loss::L1),
            teacher_weight: 0.0,
        }
    }

    /// Computes convolutions of many channels in another precision than f32.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Minimises another loss than L1.
    pub fn with_loss(mut self, loss: Loss) -> Self {
        self.loss = LossOverPatches::new(loss);
        self
    }

    /// The part of the loss, 0..1, that is taken against [`Batch::taught`] where a batch has it.
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
    /// When the batch is empty, or its images do not fit each other or the network.
    pub fn run(&self, convs: &[ConvWeights], norms: &[[&[f32]; 2]], batch: &Batch) -> BatchResult {
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
        let weights = self.arrange(convs, norms);
        let samples: usize = batch
            .high
            .iter()
            .map(|p| 3 * p.width_px() * p.height_px())
            .sum();
        let mut statistics = Vec::new();
        let results: Vec<PatchResult> = if self.segments.len() == 1 {
            let patches = batch.low.par_iter().enumerate();
            patches
                .map(|(at, low)| self.run_patch(low, batch.target(at), &weights))
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

    fn run_patch(&self, low: &Planes, target: Target<'_>, w: &Weights<'_>) -> PatchResult {
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
        batch: &Batch,
        weights: &Weights<'_>,
        statistics: &mut Vec<Statistics>,
    ) -> Vec<PatchResult> {
        let mut patches: Vec<Patch> = batch.low.iter().map(|low| self.start(low)).collect();
        for segment in &self.segments {
            if let Some((_, input, _)) = self.norm(segment.start) {
                statistics.push(Statistics::of(
                    patches.iter().map(|patch| &patch.values[input.0]),
                ));
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
            .map(|(at, patch)| self.loss(patch, batch.target(at)))
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
                let sums = Sums::of(&pairs, statistics);
                let factor = weights.norms[norm][0];
                patches.par_iter_mut().for_each(|patch| {
                    let gradient = patch.take_gradient(output);
                    let mut target = patch.buffer(input);
                    let x = &patch.values[input.0];
                    batch_norm::backward(&gradient, x, factor, statistics, &sums, &mut target);
                    patch.by_value[input.0] = Some(target);
                    patch.spare.push(gradient);
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
        let mut second_of = vec![None; convs.len()];
        let mut in_pair = vec![false; convs.len()];
        for step in &self.steps {
            if let FusedOperation::PointwisePair { expand, reduce, .. } = *step {
                second_of[expand] = Some(reduce);
                in_pair[reduce] = true;
            }
        }
        let (isa, precision) = (self.isa, self.precision);
        let pack = |conv: usize| {
            let (shape, w) = (&self.network.convs[conv], &convs[conv]);
            if in_pair[conv] {
                return Packed::InPair;
            }
            let layer = shape.layer(w);
            match second_of[conv] {
                Some(second) => {
                    let reduce = self.network.convs[second].layer(&convs[second]);
                    Packed::Pair(PlanesPair::new(isa, precision, layer, reduce))
                }
                None => Packed::Conv(PlanesConv::new(isa, precision, layer)),
            }
        };
        Weights {
            convs: (0..convs.len()).into_par_iter().map(pack).collect(),
            norms,
        }
    }

    /// The batch normalisation that a step is: itself, what it reads and what it makes.
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

    /// Buffers for a patch, its input minus the mean in place.
    fn start(&self, low: &Planes) -> Patch {
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

    fn finish(&self, mut patch: Patch) {
        let left = patch.by_value.iter_mut().filter_map(Option::take);
        patch.spare.extend(left);
        lock(&self.idle).push(patch);
    }

    /// The loss of the patch and its gradient by the network's output, both summed over samples;
    /// [`GradientEngine::run`] divides by the batch's samples at the end.
    fn loss(&self, patch: &mut Patch, target: Target<'_>) -> PatchResult {
        let output = self.network.output;
        let mut gradient = patch.buffer(output);
        let mut by_teacher = target.taught.map(|_| patch.buffer(output));
        let (made, mean) = (&patch.values[output.0], self.network.config.mean);
        let mut loss = self.loss.run(made, mean, target.high, &mut gradient);
        if let (Some(taught), Some(second)) = (target.taught, &mut by_teacher) {
            let weight = self.teacher_weight;
            let against_teacher = self.loss.run(made, mean, taught, second);
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

    fn forward(
        &self,
        step: FusedOperation,
        patch: &mut Patch,
        weights: &Weights<'_>,
        statistics: &[Statistics],
    ) {
        // What a step makes comes after what it reads in the list of values.
        match step {
            FusedOperation::Single(operation) => {
                self.forward_alone(operation, patch, weights, statistics);
            }
            FusedOperation::PointwisePair {
                expand,
                input,
                output,
                ..
            } => {
                let (made, rest) = patch.values.split_at_mut(output.0);
                let pair = weights.convs[expand].pair();
                pair.forward(&made[input.0], &mut rest[0], &mut patch.scratch);
            }
            FusedOperation::ConvAdd {
                conv,
                input,
                identity,
                output,
            } => {
                let (made, rest) = patch.values.split_at_mut(output.0);
                let epilogue = Epilogue::Add(&made[identity.0]);
                let (from, to) = (&made[input.0], &mut rest[0]);
                let conv = weights.convs[conv].conv();
                conv.forward(from, to, epilogue, &mut patch.scratch);
            }
        }
    }

    fn forward_alone(
        &self,
        operation: Operation,
        patch: &mut Patch,
        weights: &Weights<'_>,
        statistics: &[Statistics],
    ) {
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
                let conv = weights.convs[conv].conv();
                conv.forward(&made[input.0], target, epilogue, &mut patch.scratch);
            }
            Operation::BatchNorm {
                norm, input, relu, ..
            } => {
                let input = &made[input.0];
                batch_norm::forward(input, &statistics[norm], weights.norms[norm], relu, target);
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

    /// Hands the gradient by what a step made on to what it read and to its weights.
    fn backward(
        &self,
        step: FusedOperation,
        patch: &mut Patch,
        weights: &Weights<'_>,
        sums: &mut Gradients,
    ) {
        match step {
            FusedOperation::Single(operation) => {
                self.backward_alone(operation, patch, weights, sums);
            }
            FusedOperation::PointwisePair {
                expand,
                reduce,
                input,
                output,
            } => {
                let gradient = patch.take_gradient(output);
                let (mut target, adds) = patch.target(input);
                let epilogue = self.epilogue(input, adds, &patch.values);
                let pair = weights.convs[expand].pair();
                let (before, after) = sums.convs.split_at_mut(reduce);
                let (expand, reduce) = (&mut before[expand], &mut after[0]);
                pair.backward(
                    &patch.values[input.0],
                    &gradient,
                    &mut target,
                    epilogue,
                    PairGradients {
                        expand: &mut expand.weight,
                        expand_bias: &mut expand.bias,
                        reduce: &mut reduce.weight,
                        reduce_bias: &mut reduce.bias,
                    },
                    &mut patch.scratch,
                );
                patch.by_value[input.0] = Some(target);
                patch.spare.push(gradient);
            }
            FusedOperation::ConvAdd {
                conv,
                input,
                identity,
                output,
            } => {
                let gradient = patch.take_gradient(output);
                self.backward_conv(conv, input, &gradient, patch, weights, sums);
                patch.add_gradient(identity, gradient);
            }
        }
    }

    fn backward_conv(
        &self,
        conv: usize,
        input: Value,
        gradient: &Planes,
        patch: &mut Patch,
        weights: &Weights<'_>,
        sums: &mut Gradients,
    ) {
        let ConvWeights { weight, bias } = &mut sums.convs[conv];
        let conv = weights.convs[conv].conv();
        let from = &patch.values[input.0];
        let gradients = ConvGradients { weight, bias };
        conv.backward_weight(from, gradient, gradients, &mut patch.scratch);
        if input != self.network.input {
            let (mut target, adds) = patch.target(input);
            let epilogue = self.epilogue(input, adds, &patch.values);
            conv.backward_input(gradient, &mut target, epilogue, &mut patch.scratch);
            patch.by_value[input.0] = Some(target);
        }
    }

    /// How a gradient by a value is stored: through the ReLU that made the value, or added to
    /// what is there.
    fn epilogue<'p>(&self, value: Value, adds: bool, values: &'p [Planes]) -> Epilogue<'p, Planes> {
        match (self.rectified[value.0], adds) {
            (false, false) => Epilogue::Store,
            (false, true) => Epilogue::Accumulate,
            (true, false) => Epilogue::WherePositive(&values[value.0]),
            (true, true) => unreachable!("a rectified value used twice"),
        }
    }

    fn backward_alone(
        &self,
        operation: Operation,
        patch: &mut Patch,
        weights: &Weights<'_>,
        sums: &mut Gradients,
    ) {
        let gradient = patch.take_gradient(operation.output());
        match operation {
            Operation::Conv { conv, input, .. } => {
                self.backward_conv(conv, input, &gradient, patch, weights, sums);
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
                patch.add_gradient(identity, gradient);
            }
            Operation::PixelShuffle { input, scale, .. } => {
                let mut target = patch.buffer(input);
                pixel_unshuffle(&gradient, scale, &mut target);
                patch.by_value[input.0] = Some(target);
                patch.spare.push(gradient);
            }
        }
    }
}

impl Patch {
    fn take_gradient(&mut self, value: Value) -> Planes {
        self.by_value[value.0]
            .take()
            .unwrap_or_else(|| unreachable!("no gradient has reached value {}", value.0))
    }

    fn add_gradient(&mut self, value: Value, gradient: Planes) {
        match &mut self.by_value[value.0] {
            Some(sum) => {
                add_scaled(sum, 1.0, &gradient);
                self.spare.push(gradient);
            }
            empty => *empty = Some(gradient),
        }
    }

    /// Where the gradient by a value goes, and whether it is to be added to what is there.
    fn target(&mut self, value: Value) -> (Planes, bool) {
        match self.by_value[value.0].take() {
            Some(sum) => (sum, true),
            None => (self.buffer(value), false),
        }
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

/// The guarded list of buffers is whole even after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
