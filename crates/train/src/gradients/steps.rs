//! The operations of a network, fused into the steps that training runs.

use wdsr_model::{Network, Operation, Value};

/// One operation, or two that run as one: the value between them is never stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// A single operation: its index.
    Single(usize),
    /// Two 1x1 convolutions with a ReLU between them.
    Pair {
        first: usize,
        second: usize,
        input: Value,
        output: Value,
    },
    /// `output = conv(input) + identity`
    Residual {
        conv: usize,
        input: Value,
        identity: Value,
        output: Value,
    },
}

/// The steps of a network, in order.
pub(super) fn steps(network: &Network) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut operations = network.operations.iter().enumerate().peekable();
    while let Some((at, operation)) = operations.next() {
        let next = operations.peek().map(|(_, next)| **next);
        let step = match (*operation, next) {
            (
                Operation::Conv {
                    conv: first,
                    input,
                    output: wide,
                    relu: true,
                },
                Some(Operation::Conv {
                    conv: second,
                    input: from,
                    output,
                    relu: false,
                }),
            ) if from == wide
                && network.convs[first].kernel == 1
                && network.convs[second].kernel == 1 =>
            {
                Some(Step::Pair {
                    first,
                    second,
                    input,
                    output,
                })
            }
            (
                Operation::Conv {
                    conv,
                    input,
                    output: conv_output,
                    relu: false,
                },
                Some(Operation::Add {
                    branch,
                    identity,
                    output,
                    scale: 1.0,
                }),
            ) if branch == conv_output || identity == conv_output => Some(Step::Residual {
                conv,
                input,
                identity: if branch == conv_output {
                    identity
                } else {
                    branch
                },
                output,
            }),
            _ => None,
        };
        match step {
            Some(step) => {
                operations.next();
                steps.push(step);
            }
            None => steps.push(Step::Single(at)),
        }
    }
    steps
}

/// For each value, whether it is stored.
pub(super) fn stored(network: &Network, steps: &[Step]) -> Vec<bool> {
    let mut stored = vec![false; network.values.len()];
    stored[network.input.0] = true;
    for step in steps {
        let output = match *step {
            Step::Single(at) => network.operations[at].output(),
            Step::Pair { output, .. } | Step::Residual { output, .. } => output,
        };
        stored[output.0] = true;
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;
    use wdsr_model::{NetworkConfig, Norm};

    #[test]
    fn values_inside_a_step_are_not_stored() {
        let network = Network::for_training(&NetworkConfig::wdsr_b(32, 2, 2));
        let steps = steps(&network);
        let count = |is: fn(&Step) -> bool| steps.iter().filter(|step| is(step)).count();
        assert_eq!(count(|s| matches!(s, Step::Pair { .. })), 2, "{steps:?}");
        // Two blocks, and the sum of tail and skip.
        assert_eq!(
            count(|s| matches!(s, Step::Residual { .. })),
            3,
            "{steps:?}"
        );
        let stored = stored(&network, &steps);
        for (value, shape) in network.values.iter().enumerate() {
            assert!(shape.channels != 192 || !stored[value], "value {value}");
        }
    }

    #[test]
    fn batch_normalisation_prevents_fusion() {
        let config = NetworkConfig {
            norm: Norm::Batch,
            ..NetworkConfig::wdsr_b(32, 2, 2)
        };
        let network = Network::for_training(&config);
        let steps = steps(&network);
        let single = |step: &&Step| matches!(step, Step::Single(_));
        // All but the sum of tail and skip.
        assert_eq!(steps.iter().filter(single).count(), steps.len() - 1);
    }
}
