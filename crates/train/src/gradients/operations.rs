//! The steps of a network, each forwards beside backwards.

use wdsr_kernels::{
    Epilogue, PairGradients, Planes, add_scaled, conv2d, conv2d_backward_weight, pixel_shuffle,
    pixel_unshuffle,
};
use wdsr_model::{ConvWeights, Operation, Value};

use super::GradientEngine;
use super::batch_norm::{self, Statistics};
use super::packed_weights::PackedWeights;
use super::patch_buffers::PatchBuffers;
use super::steps::Step;
use crate::parameters::Gradients;

impl GradientEngine {
    /// Runs a step forwards.
    pub(super) fn forward(
        &self,
        step: Step,
        patch: &mut PatchBuffers,
        weights: &PackedWeights<'_>,
        statistics: &[Statistics],
    ) {
        // The output of a step comes after its inputs in the list of values.
        match step {
            Step::Single(at) => self.forward_single(at, patch, weights, statistics),
            Step::Pair {
                first,
                input,
                output,
                ..
            } => {
                let (before, rest) = patch.values.split_at_mut(output.0);
                let pair = weights.pair(first);
                pair.forward(&before[input.0], &mut rest[0], &mut patch.scratch);
            }
            Step::Residual {
                conv,
                input,
                identity,
                output,
            } => {
                let (before, rest) = patch.values.split_at_mut(output.0);
                let epilogue = Epilogue::Add(&before[identity.0]);
                let (from, to) = (&before[input.0], &mut rest[0]);
                conv2d(
                    from,
                    weights.forward(conv),
                    to,
                    epilogue,
                    &mut patch.scratch,
                );
            }
        }
    }

    fn forward_single(
        &self,
        at: usize,
        patch: &mut PatchBuffers,
        weights: &PackedWeights<'_>,
        statistics: &[Statistics],
    ) {
        let operation = self.network.operations[at];
        let (before, rest) = patch.values.split_at_mut(operation.output().0);
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
                let (from, forward) = (&before[input.0], weights.forward(conv));
                conv2d(from, forward, target, epilogue, &mut patch.scratch);
            }
            Operation::BatchNorm {
                norm, input, relu, ..
            } => {
                let input = &before[input.0];
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
                    .copy_from_slice(before[branch.0].as_slice());
                add_scaled(target, scale, &before[identity.0]);
            }
            Operation::PixelShuffle { input, scale, .. } => {
                pixel_shuffle(&before[input.0], scale, target);
            }
        }
    }

    /// Backpropagates through a step.
    pub(super) fn backward(
        &self,
        step: Step,
        patch: &mut PatchBuffers,
        weights: &PackedWeights<'_>,
        sums: &mut Gradients,
    ) {
        match step {
            Step::Single(at) => self.backward_single(at, patch, weights, sums),
            Step::Pair {
                first,
                second,
                input,
                output,
            } => {
                let gradient = patch.take_gradient(output);
                let (mut target, adds) = patch.gradient_target(input);
                let epilogue = self.epilogue(input, adds, &patch.values);
                let (before, from_second) = sums.convs.split_at_mut(second);
                let (expand, reduce) = (&mut before[first], &mut from_second[0]);
                weights.pair(first).backward(
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
            Step::Residual {
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

    /// Gradients by weight, bias and input of a convolution; none by the network's input.
    fn backward_conv(
        &self,
        conv: usize,
        input: Value,
        gradient: &Planes,
        patch: &mut PatchBuffers,
        weights: &PackedWeights<'_>,
        sums: &mut Gradients,
    ) {
        let kernel = self.network.convs[conv].kernel;
        let ConvWeights { weight, bias } = &mut sums.convs[conv];
        let from = &patch.values[input.0];
        let scratch = &mut patch.scratch;
        let (isa, precision) = (self.isa, self.precision);
        conv2d_backward_weight(
            isa, precision, from, gradient, kernel, weight, bias, scratch,
        );
        if input != self.network.input {
            let (mut target, adds) = patch.gradient_target(input);
            let epilogue = self.epilogue(input, adds, &patch.values);
            let (backward, scratch) = (weights.backward(conv), &mut patch.scratch);
            conv2d(gradient, backward, &mut target, epilogue, scratch);
            patch.by_value[input.0] = Some(target);
        }
    }

    /// How the gradient by a value is stored: through the ReLU that the value comes from, or added to
    /// the gradient so far.
    fn epilogue<'p>(&self, value: Value, adds: bool, values: &'p [Planes]) -> Epilogue<'p, Planes> {
        match (self.rectified[value.0], adds) {
            (false, false) => Epilogue::Store,
            (false, true) => Epilogue::Accumulate,
            (true, false) => Epilogue::WherePositive(&values[value.0]),
            (true, true) => unreachable!("the output of a ReLU is used twice"),
        }
    }

    fn backward_single(
        &self,
        at: usize,
        patch: &mut PatchBuffers,
        weights: &PackedWeights<'_>,
        sums: &mut Gradients,
    ) {
        let operation = self.network.operations[at];
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
