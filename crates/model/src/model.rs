//! A network with its weights.

use std::collections::BTreeMap;

use wdsr_kernels::ConvLayer;

use crate::config::{NetworkConfig, Norm};
use crate::network::{Conv, Network, Operation};

/// Weight `[out, in, kernel, kernel]` and bias `[out]` of one convolution, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvWeights {
    /// `[out, in, kernel, kernel]`
    pub weight: Vec<f32>,
    /// `[out]`
    pub bias: Vec<f32>,
}

impl Conv {
    /// The convolution with its weights, as kernels take it.
    pub fn layer<'w>(&self, weights: &'w ConvWeights) -> ConvLayer<'w> {
        ConvLayer {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            kernel: self.kernel,
            weight: &weights.weight,
            bias: &weights.bias,
        }
    }
}

/// A network for use, with its weights: plain convolutions, normalisations folded in.
#[derive(Clone, Debug)]
pub struct Model {
    network: Network,
    convs: Vec<ConvWeights>,
    notes: BTreeMap<String, String>,
}

impl Model {
    /// A model of the given weights, in the order of the network's convolutions.
    ///
    /// `notes`, such as how it was trained and its scores, are written to the model's file.
    ///
    /// # Panics
    /// If the description is not valid or a length does not fit it.
    pub fn new(
        config: &NetworkConfig,
        convs: Vec<ConvWeights>,
        notes: BTreeMap<String, String>,
    ) -> Self {
        let network = Network::new(&NetworkConfig {
            norm: Norm::None,
            ..config.clone()
        });
        assert_eq!(convs.len(), network.convs.len(), "convolutions");
        for (conv, weights) in network.convs.iter().zip(&convs) {
            assert_eq!(
                weights.weight.len(),
                conv.weights(),
                "weights of {}",
                conv.name
            );
            assert_eq!(
                weights.bias.len(),
                conv.out_channels,
                "biases of {}",
                conv.name
            );
        }
        Self {
            network,
            convs,
            notes,
        }
    }

    /// A model with pseudorandom weights, for measurements and tests. They are small enough to keep
    /// values in the range of images.
    ///
    /// # Panics
    /// If the description is not valid.
    pub fn random(config: &NetworkConfig, seed: u32) -> Self {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let network = Network::new(config);
        let convs = network
            .convs
            .iter()
            .map(|conv| {
                let size = 2.5 / (conv.weights() as f32 / conv.out_channels as f32).sqrt();
                ConvWeights {
                    weight: (0..conv.weights()).map(|_| next() * size).collect(),
                    bias: (0..conv.out_channels).map(|_| next() * 0.1).collect(),
                }
            })
            .collect();
        Self::new(config, convs, BTreeMap::new())
    }

    /// The description of the network. Its norm is always [`Norm::None`].
    pub fn config(&self) -> &NetworkConfig {
        &self.network.config
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Weights of the convolutions, in the order of `network().convs`.
    pub fn convs(&self) -> &[ConvWeights] {
        &self.convs
    }

    /// Notes in the model's file, such as how it was trained.
    pub fn notes(&self) -> &BTreeMap<String, String> {
        &self.notes
    }

    /// The same function with a residual scale of 1: each block's scale is in the weights and biases
    /// of its last convolution.
    #[must_use]
    pub fn with_residual_scale_in_weights(&self) -> Self {
        let mut convs = self.convs.clone();
        for operation in &self.network.operations {
            let Operation::Add { branch, scale, .. } = *operation else {
                continue;
            };
            for operation in &self.network.operations {
                if let Operation::Conv { conv, output, .. } = *operation
                    && output == branch
                {
                    let ConvWeights { weight, bias } = &mut convs[conv];
                    weight
                        .iter_mut()
                        .chain(bias)
                        .for_each(|value| *value *= scale);
                }
            }
        }
        let config = NetworkConfig {
            residual_scale: 1.0,
            ..self.config().clone()
        };
        Self::new(&config, convs, self.notes.clone())
    }
}
