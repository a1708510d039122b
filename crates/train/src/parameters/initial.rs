//! Random initial parameters.

use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wdsr_model::Network;

use super::layout::{ParameterLayout, row_lengths};
use crate::recipe::Initialization;

impl ParameterLayout {
    /// Random initial parameters: PyTorch's default for convolutions (weights and biases uniform
    /// within 1 / sqrt(fan in)), gains |v|, batch normalisation with factor 1 and offset 0. Edge
    /// branches have weights of the same distribution; their factors and the 1x1 branches are 0.
    /// `initialization` may replace gains and biases.
    pub fn initial(
        &self,
        network: &Network,
        initialization: Initialization,
        seed: u64,
    ) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        // The streams from 0 on belong to the batches of the updates.
        random.set_stream(u64::MAX);
        let mut parameters = vec![0.0; self.len()];
        let mut draw = |range: &Range<usize>, fan_in: usize, parameters: &mut [f32]| {
            let bound = 1.0 / (fan_in as f32).sqrt();
            for value in &mut parameters[range.clone()] {
                *value = random.random_range(-bound..bound);
            }
        };
        for (conv, ranges) in network.convs.iter().zip(&self.convs) {
            let fan_in = conv.in_channels * conv.kernel * conv.kernel;
            draw(&ranges.weight, fan_in, &mut parameters);
            draw(&ranges.bias, fan_in, &mut parameters);
            if let Some(gain) = &ranges.gain {
                let lengths = row_lengths(&parameters[ranges.weight.clone()], fan_in);
                parameters[gain.clone()].copy_from_slice(&lengths);
            }
        }
        for [factor, _] in &self.norms {
            parameters[factor.clone()].fill(1.0);
        }
        for (conv, ranges) in network.convs.iter().zip(&self.convs) {
            for [weight, _] in ranges.branches.iter().flat_map(|b| &b.edges) {
                draw(weight, conv.in_channels, &mut parameters);
            }
        }
        if initialization == Initialization::Reloaded {
            self.reloaded(network, &mut parameters);
        }
        parameters
    }

    /// Sets the gains and biases of [`Initialization::Reloaded`].
    fn reloaded(&self, network: &Network, parameters: &mut [f32]) {
        let last_gain = 1.0 / (network.config.blocks as f32).sqrt();
        let block = |conv: usize| network.convs.get(conv).and_then(|c| block_of(&c.name));
        for (conv, ranges) in self.convs.iter().enumerate() {
            parameters[ranges.bias.clone()].fill(0.0);
            let gain = match block(conv) {
                None => 1.0,
                here if here == block(conv + 1) => 2.0,
                Some(_) => last_gain,
            };
            if let Some(range) = &ranges.gain {
                parameters[range.clone()].fill(gain);
            }
        }
    }
}

/// The block of a convolution's name, such as 3 for `body.3.body.2`.
pub(crate) fn block_of(name: &str) -> Option<usize> {
    let (block, _) = name.strip_prefix("body.")?.split_once(".body.")?;
    block.parse().ok()
}
