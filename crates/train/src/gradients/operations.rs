//! The steps of a network, each forwards beside backwards.

use wdsr_kernels::{
    ConvGradients, Epilogue, PairGradients, Planes, add_scaled, pixel_shuffle, pixel_unshuffle,
};
use wdsr_model::{Activation, ConvWeights, FusedOperation, Operation, Value};

use super::GradientEngine;
use super::batch_norm::{self, Statistics};
use super::packed_weights::PackedWeights;
use super::patch_buffers::PatchBuffers;
use super::rounding::ConvRounding;
use crate::parameters::Gradients;

impl GradientEngine {
    /// Runs a step forwards.
    pub(super) fn forward(
        &self,
        step: FusedOperation,
        patch: &mut PatchBuffers,
        weights: &PackedWeights<'_>,
        statistics: &[Statistics],
    ) {
        // The output of a step comes after its inputs in the list of values.
        match step {
            FusedOperation::Single(operation) => {
                self.forward_single(operation, patch, weights, statistics);
            }
            FusedOperation::PointwisePair {
                expand,
                input,
                output,
                ..
            } => {
                let (before, rest) = patch.values.split_at_mut(output.0);
                let pair = weights.pair(expand);
                pair.forward(&before[input.0], &mut rest[0], &mut patch.scratch);
            }
            FusedOperation::ConvAdd {
                conv,
                input,
                identity,
                output,
            } => {
                let (before, rest) = patch.values.split_at_mut(output.0);
                let epilogue = Epilogue::Add(&before[identity.0]);
                let (from, to) = (&before[input.0], &mut rest[0]);
                let conv = weights.conv(conv);
                conv.forward(from, to, epilogue, &mut patch.scratch);
            }
        }
    }

    fn forward_single(
        &self,
        operation: Operation,
        patch: &mut PatchBuffers,
        weights: &PackedWeights<'_>,
        statistics: &[Statistics],
    ) {
        let mut rounded = patch.take_rounded();
        let (before, rest) = patch.values.split_at_mut(operation.output().0);
        let target = &mut rest[0];
        match operation {
            Operation::Conv {
                conv,
                input,
                activation,
                ..
            } => {
                let epilogue = match activation {
                    Activation::None => Epilogue::Store,
                    Activation::Relu => Epilogue::Relu,
                    Activation::PRelu | Activation::LeakyRelu(_) => {
                        unreachable!("{operation:?} in training")
                    }
                };
                let mut from = &before[input.0];
                if let Some(rounding) = self.rounding(conv) {
                    rounding.round(from, &mut rounded);
                    from = &rounded;
                }
                let conv = weights.conv(conv);
                conv.forward(from, target, epilogue, &mut patch.scratch);
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
            Operation::Repeat { .. } | Operation::Enlarge { .. } | Operation::Concat { .. } => {
                unreachable!("{operation:?} in training")
            }
            Operation::PixelShuffle { input, scale, .. } => {
                pixel_shuffle(&before[input.0], scale, target);
            }
        }
        patch.rounded = Some(rounded);
    }

    /// The rounding of a convolution in int8.
    fn rounding(&self, conv: usize) -> Option<&ConvRounding> {
        self.int8.as_ref()?.of(conv)
    }

    /// Backpropagates through a step.
    pub(super) fn backward(
        &self,
        step: FusedOperation,
        patch: &mut PatchBuffers,
        weights: &PackedWeights<'_>,
        sums: &mut Gradients,
    ) {
        match step {
            FusedOperation::Single(operation) => {
                self.backward_single(operation, patch, weights, sums);
            }
            FusedOperation::PointwisePair {
                expand,
                reduce,
                input,
                output,
            } => {
                let gradient = patch.take_gradient(output);
                let (mut target, adds) = patch.gradient_target(input);
                let epilogue = self.epilogue(input, adds, &patch.values);
                let pair = weights.pair(expand);
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
        let ConvWeights { weight, bias, .. } = &mut sums.convs[conv];
        let rounding = self.rounding(conv);
        let conv = weights.conv(conv);
        let gradients = ConvGradients { weight, bias };
        if let Some(rounding) = rounding {
            let mut rounded = patch.take_rounded();
            rounding.round(&patch.values[input.0], &mut rounded);
            conv.backward_weight(&rounded, gradient, gradients, &mut patch.scratch);
            patch.rounded = Some(rounded);
            let mut by_input = patch.buffer(input);
            conv.backward_input(gradient, &mut by_input, Epilogue::Store, &mut patch.scratch);
            // The limits are those of the ReLU that the input may come from, too.
            rounding.limit(&patch.values[input.0], &mut by_input);
            patch.add_gradient(input, by_input);
            return;
        }
        let from = &patch.values[input.0];
        conv.backward_weight(from, gradient, gradients, &mut patch.scratch);
        if input != self.network.input {
            let (mut target, adds) = patch.gradient_target(input);
            let epilogue = self.epilogue(input, adds, &patch.values);
            conv.backward_input(gradient, &mut target, epilogue, &mut patch.scratch);
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
        operation: Operation,
        patch: &mut PatchBuffers,
        weights: &PackedWeights<'_>,
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
            Operation::Repeat { .. } | Operation::Enlarge { .. } | Operation::Concat { .. } => {
                unreachable!("{operation:?} in training")
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
