//! A network with its weights.

use std::borrow::Cow;
use std::collections::BTreeMap;

use wdsr_kernels::ConvLayer;

use crate::config::{NetworkConfig, Norm};
use crate::int8::Int8Scales;
use crate::network::{Activation, Conv, Network, Operation};

/// Weight `[out, in, kernel, kernel]`, bias and slopes `[out]` of one convolution, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvWeights {
    /// `[out, in, kernel, kernel]`
    pub weight: Vec<f32>,
    /// `[out]`
    pub bias: Vec<f32>,
    /// `[out]`, of the PReLU that follows; empty if none does.
    pub slopes: Vec<f32>,
}

impl Conv {
    /// A 1x1 convolution that multiplies each channel by `factor`, and its weights.
    pub(crate) fn multiplication(channels: usize, factor: f32) -> (Self, ConvWeights) {
        let (conv, mut weights) = Self::repetition("multiplication".to_owned(), channels, 1);
        for weight in &mut weights.weight {
            *weight *= factor;
        }
        (conv, weights)
    }

    /// A 1x1 convolution that repeats each channel `times` times ([`Operation::Repeat`]), and its
    /// weights. In f32 it is exact: x * 1 + 0 * y.
    pub fn repetition(name: String, channels: usize, times: usize) -> (Self, ConvWeights) {
        let of = |to| (0..channels).map(move |from| if to / times == from { 1.0 } else { 0.0 });
        let conv = Self {
            name,
            in_channels: channels,
            out_channels: channels * times,
            kernel: 1,
            slopes: None,
        };
        let weights = ConvWeights {
            weight: (0..channels * times).flat_map(of).collect(),
            bias: vec![0.0; channels * times],
            slopes: Vec::new(),
        };
        (conv, weights)
    }

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

impl ConvWeights {
    /// The slopes of an activation behind the convolution: those of PReLU, as many equal ones for a
    /// leaky ReLU; empty for the others.
    pub fn slopes_of(&self, activation: Activation) -> Cow<'_, [f32]> {
        match activation {
            Activation::LeakyRelu(slope) => vec![slope; self.bias.len()].into(),
            _ => (&self.slopes[..]).into(),
        }
    }

    /// The weights between these, at 0, and `strong`, at 1.
    ///
    /// # Panics
    /// If the lengths differ.
    #[must_use]
    pub fn between(&self, strong: &Self, strength: f32) -> Self {
        let mix = |at_0: &[f32], at_1: &[f32]| -> Vec<f32> {
            assert_eq!(at_0.len(), at_1.len(), "weights at strength 0 and 1");
            let pairs = at_0.iter().zip(at_1);
            pairs
                .map(|(at_0, at_1)| at_0 * (1.0 - strength) + at_1 * strength)
                .collect()
        };
        Self {
            weight: mix(&self.weight, &strong.weight),
            bias: mix(&self.bias, &strong.bias),
            slopes: mix(&self.slopes, &strong.slopes),
        }
    }
}

/// A network for use, with its weights: plain convolutions, normalisations folded in.
///
/// A model that removes damage (noise, JPEG's marks) may have a strength: its weights go in a straight
/// line from those of a clean image, at 0, to those of the most damaged one, at 1
/// ([`strength`](crate::strength)). It is used as the model that [`Model::at_strength`] returns; used
/// itself, it is that of strength 0.
#[derive(Clone, Debug)]
pub struct Model {
    network: Network,
    convs: Vec<ConvWeights>,
    strong: Option<Vec<ConvWeights>>,
    int8: Option<Vec<Int8Scales>>,
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
        assert_fits(&network, &convs);
        Self {
            network,
            convs,
            strong: None,
            int8: None,
            notes,
        }
    }

    /// The same model with scales for int8, one for each convolution of [`Network::int8_convs`].
    ///
    /// # Panics
    /// If a length does not fit the network.
    #[must_use]
    pub fn with_int8(self, scales: Vec<Int8Scales>) -> Self {
        self.assert_int8_fits(&scales);
        Self {
            int8: Some(scales),
            ..self
        }
    }

    /// The scales for int8, in the order of [`Network::int8_convs`]; none if the model has none.
    pub fn int8(&self) -> Option<&[Int8Scales]> {
        self.int8.as_deref()
    }

    /// The scales for int8 of a convolution.
    pub(crate) fn int8_of(&self, conv: usize) -> Option<&Int8Scales> {
        let at = self.network.int8_convs().position(|index| index == conv)?;
        self.int8.as_ref().map(|scales| &scales[at])
    }

    /// The same model with a strength: its weights are those of strength 0, `strong` those of 1. It has no scales for int8.
    ///
    /// # Panics
    /// If a length does not fit the network.
    #[must_use]
    pub fn with_strong(self, strong: Vec<ConvWeights>) -> Self {
        assert_fits(&self.network, &strong);
        Self {
            strong: Some(strong),
            int8: None,
            ..self
        }
    }

    /// Weights of the convolutions at strength 1, in the order of `network().convs`; none if the
    /// model has no strength.
    pub fn strong(&self) -> Option<&[ConvWeights]> {
        self.strong.as_deref()
    }

    /// The plain model of a strength, 0..=1; at 0 and 1 it has the very weights of the file. A model
    /// without a strength is returned as it is.
    ///
    /// # Panics
    /// If the strength is not within 0..=1.
    #[must_use]
    pub fn at_strength(&self, strength: f32) -> Self {
        assert!(
            (0.0..=1.0).contains(&strength),
            "a strength is within 0..=1, not {strength}"
        );
        let Some(strong) = &self.strong else {
            return self.clone();
        };
        let convs = self.convs.iter().zip(strong);
        Self {
            convs: convs
                .map(|(clean, strong)| clean.between(strong, strength))
                .collect(),
            strong: None,
            ..self.clone()
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
                    slopes: (0..conv.slope_count()).map(|_| next()).collect(),
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
    /// of its last convolution. RRDB keeps the factors of its outer branches, which no convolution
    /// computes.
    #[must_use]
    pub fn with_residual_scale_in_weights(&self) -> Self {
        let config = NetworkConfig {
            residual_scale: 1.0,
            ..self.config().clone()
        };
        let mut model = Self::new(&config, self.scaled(&self.convs), self.notes.clone());
        model.int8.clone_from(&self.int8);
        match &self.strong {
            Some(strong) => model.with_strong(self.scaled(strong)),
            None => model,
        }
    }

    /// Weights with each block's residual scale in those of its last convolution.
    fn scaled(&self, convs: &[ConvWeights]) -> Vec<ConvWeights> {
        let mut convs = convs.to_vec();
        for operation in &self.network.operations {
            let Operation::Add { branch, scale, .. } = *operation else {
                continue;
            };
            for operation in &self.network.operations {
                if let Operation::Conv { conv, output, .. } = *operation
                    && output == branch
                {
                    let ConvWeights { weight, bias, .. } = &mut convs[conv];
                    weight
                        .iter_mut()
                        .chain(bias)
                        .for_each(|value| *value *= scale);
                }
            }
        }
        convs
    }
}

/// Asserts that weights have the shapes of a network.
fn assert_fits(network: &Network, convs: &[ConvWeights]) {
    assert_eq!(convs.len(), network.convs.len(), "convolutions");
    for (conv, weights) in network.convs.iter().zip(convs) {
        let (found, expected) = (weights.weight.len(), conv.weights());
        assert_eq!(found, expected, "weights of {}", conv.name);
        let (found, expected) = (weights.bias.len(), conv.out_channels);
        assert_eq!(found, expected, "biases of {}", conv.name);
        let (found, expected) = (weights.slopes.len(), conv.slope_count());
        assert_eq!(found, expected, "slopes of {}", conv.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strength_goes_from_the_first_weights_to_the_second() {
        let config = NetworkConfig::wdsr_b(8, 2, 2);
        let (clean, strong) = (Model::random(&config, 1), Model::random(&config, 2));
        let model = clean.clone().with_strong(strong.convs().to_vec());
        assert_eq!(model.at_strength(0.0).convs(), clean.convs());
        assert_eq!(model.at_strength(1.0).convs(), strong.convs());
        assert!(model.at_strength(1.0).strong().is_none());
        let middle = model.at_strength(0.25).convs()[0].weight[3];
        let ends = [clean, strong].map(|model| model.convs()[0].weight[3]);
        assert!((middle - (0.75 * ends[0] + 0.25 * ends[1])).abs() < 1e-6);
    }
}
