//! The operations of a network, with those that run as one joined.
//!
//! Inference and training both run this list. A fused operation never stores what its parts pass to
//! each other: of a pair of 1x1 convolutions that is the wide activation, the largest value of WDSR-B.

use crate::network::{Activation, Network, Operation, Value};

/// One step of a network: an operation, or two that run as one.
#[allow(missing_docs, reason = "the equation at each variant names its fields")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FusedOperation {
    /// An operation by itself.
    Single(Operation),
    /// `output = reduce(max(expand(input), 0))`: two 1x1 convolutions, indices into
    /// [`Network::convs`].
    PointwisePair {
        expand: usize,
        reduce: usize,
        input: Value,
        output: Value,
    },
    /// `output = conv(input) + identity`; `conv` is an index into [`Network::convs`].
    ConvAdd {
        conv: usize,
        input: Value,
        identity: Value,
        output: Value,
    },
}

impl FusedOperation {
    /// The value it computes.
    pub fn output(&self) -> Value {
        match *self {
            Self::Single(operation) => operation.output(),
            Self::PointwisePair { output, .. } | Self::ConvAdd { output, .. } => output,
        }
    }
}

impl Network {
    /// The network's operations in the order they run, fused where possible:
    ///
    /// - a 1x1 convolution with ReLU and the 1x1 convolution that reads it
    /// - a convolution and the sum, of scale 1, whose branch it is
    ///
    /// in both cases if nothing else reads the value between them. A batch normalisation after the
    /// convolution prevents either.
    ///
    /// # Examples
    /// ```
    /// use wdsr_model::{FusedOperation, Network, NetworkConfig};
    ///
    /// let operations = Network::new(&NetworkConfig::wdsr_b(32, 16, 2)).fused_operations();
    /// let is_pair = |o: &&FusedOperation| matches!(o, FusedOperation::PointwisePair { .. });
    /// assert_eq!(operations.iter().filter(is_pair).count(), 16);
    /// ```
    pub fn fused_operations(&self) -> Vec<FusedOperation> {
        let mut fused = Vec::new();
        // For each value, the convolution (index, input) that its only reader runs.
        let mut deferred = vec![None; self.values.len()];
        for &operation in &self.operations {
            fused.push(match operation {
                Operation::Conv {
                    conv,
                    input,
                    output,
                    ..
                } => match deferred[input.0] {
                    Some((expand, input)) => FusedOperation::PointwisePair {
                        expand,
                        reduce: conv,
                        input,
                        output,
                    },
                    None if self.is_run_by_reader(operation) => {
                        deferred[output.0] = Some((conv, input));
                        continue;
                    }
                    None => FusedOperation::Single(operation),
                },
                Operation::Add {
                    branch,
                    identity,
                    output,
                    ..
                } => match deferred[branch.0] {
                    Some((conv, input)) => FusedOperation::ConvAdd {
                        conv,
                        input,
                        identity,
                        output,
                    },
                    None => FusedOperation::Single(operation),
                },
                Operation::BatchNorm { .. }
                | Operation::PixelShuffle { .. }
                | Operation::Repeat { .. }
                | Operation::Enlarge { .. }
                | Operation::Concat { .. } => FusedOperation::Single(operation),
            });
        }
        fused
    }

    /// Whether a convolution is the first part of a fused operation.
    fn is_run_by_reader(&self, operation: Operation) -> bool {
        let Operation::Conv {
            conv,
            output,
            activation,
            ..
        } = operation
        else {
            return false;
        };
        let reads_output = |reader: &&Operation| reader.inputs().any(|value| value == output);
        let mut readers = self.operations.iter().filter(reads_output);
        let is_1x1 = |conv: usize| self.convs[conv].kernel == 1;
        match (readers.next(), readers.next()) {
            (
                Some(&Operation::Conv {
                    conv: next,
                    activation: Activation::None,
                    ..
                }),
                None,
            ) => activation == Activation::Relu && is_1x1(conv) && is_1x1(next),
            (Some(&Operation::Add { branch, scale, .. }), None) => {
                activation == Activation::None && branch == output && scale == 1.0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{NetworkConfig, Norm};

    fn count(operations: &[FusedOperation], is: fn(&FusedOperation) -> bool) -> usize {
        operations.iter().filter(|operation| is(operation)).count()
    }

    fn is_pair(operation: &FusedOperation) -> bool {
        matches!(operation, FusedOperation::PointwisePair { .. })
    }

    fn is_conv_add(operation: &FusedOperation) -> bool {
        matches!(operation, FusedOperation::ConvAdd { .. })
    }

    #[test]
    fn wide_activations_and_branches_are_fused_in_training_and_in_use() {
        let config = NetworkConfig::wdsr_b(32, 2, 2);
        for network in [Network::new(&config), Network::for_training(&config)] {
            let operations = network.fused_operations();
            assert_eq!(count(&operations, is_pair), 2, "{operations:?}");
            // Two blocks, and the sum of tail and skip.
            assert_eq!(count(&operations, is_conv_add), 3, "{operations:?}");
            for operation in &operations {
                let channels = network.shape(operation.output()).channels;
                assert_ne!(channels, 192, "{operation:?} stores a wide activation");
            }
        }
    }

    #[test]
    fn batch_normalisation_prevents_fusion() {
        let config = NetworkConfig {
            norm: Norm::Batch,
            ..NetworkConfig::wdsr_b(32, 2, 2)
        };
        let operations = Network::for_training(&config).fused_operations();
        assert_eq!(count(&operations, is_pair), 0, "{operations:?}");
        // The sum of tail and skip, which have no normalisation.
        assert_eq!(count(&operations, is_conv_add), 1, "{operations:?}");
    }

    #[test]
    fn a_scaled_branch_is_not_fused() {
        let config = NetworkConfig {
            residual_scale: 0.1,
            ..NetworkConfig::wdsr_a(8, 2, 2)
        };
        let operations = Network::new(&config).fused_operations();
        assert_eq!(count(&operations, is_conv_add), 1, "{operations:?}");
    }

    #[test]
    fn every_operation_runs_once_after_those_it_reads() {
        for config in [
            NetworkConfig::wdsr_a(8, 2, 3),
            NetworkConfig::wdsr_b(8, 2, 1),
            NetworkConfig::edsr(8, 2, 4),
        ] {
            let network = Network::new(&config);
            let mut stored = vec![false; network.values.len()];
            stored[network.input.0] = true;
            let mut operations = 0;
            for operation in network.fused_operations() {
                let (inputs, parts) = match operation {
                    FusedOperation::Single(single) => (single.inputs().collect(), 1),
                    FusedOperation::PointwisePair { input, .. } => (vec![input], 2),
                    FusedOperation::ConvAdd {
                        input, identity, ..
                    } => (vec![input, identity], 2),
                };
                for input in inputs {
                    assert!(stored[input.0], "{operation:?} reads {input:?} too early");
                }
                stored[operation.output().0] = true;
                operations += parts;
            }
            assert_eq!(operations, network.operations.len(), "{}", config.label());
            assert!(stored[network.output.0], "{}", config.label());
        }
    }
}
