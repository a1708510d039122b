//! Models under the keys and for the ranges of the published PyTorch code, as safetensors:
//! `load_state_dict(safetensors.torch.load_file(path))` takes them, strictly.
//!
//! - WDSR-A, WDSR-B: JiahuiYu/wdsr_ntire2018, `wdsr_a.py` and `wdsr_b.py`. Every convolution has
//!   `bias`, `weight_g` (`[out, 1, 1, 1]`) and `weight_v` (`[out, in, k, k]`). Those networks work
//!   on x = (255 image - 255 mean) / 127.5, twice ours, and their output likewise.
//! - EDSR: EDSR-PyTorch, `src/model/edsr.py`, with its default range of 255: plain convolutions and
//!   `sub_mean`, `add_mean`.
//!
//! What the weights do not tell stands in the metadata: `options`, the options of EDSR-PyTorch,
//! in which both run, that build the network.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;

use crate::atomic_file;
use crate::config::{BlockKind, NetworkConfig};
use crate::error::Error;
use crate::model::{ConvWeights, Model, serialize};
use crate::network::Conv;

/// Length of the range the official code computes in, over ours.
const WDSR_RANGE: f32 = 255.0 / 127.5;
const EDSR_RANGE: f32 = 255.0;

impl Model {
    /// The bytes of a safetensors file for the published PyTorch code.
    ///
    /// WDSR has `KEY.bias`, `KEY.weight_g` and `KEY.weight_v` of each convolution (weight
    /// normalisation), EDSR `KEY.bias` and `KEY.weight`; f32.
    ///
    /// # Examples
    /// ```
    /// use wdsr_model::Model;
    ///
    /// let model = Model::embedded();
    /// assert!(model.official_options().starts_with("--model wdsr_b --scale 2 --n_resblocks 16"));
    /// assert!(model.to_official().len() > 4 * model.network().parameters());
    /// ```
    pub fn to_official(&self) -> Vec<u8> {
        let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
        for (conv, weights) in self.network().convs.iter().zip(self.convs()) {
            let weights = rescaled(self.config().block, conv, weights);
            let shape = conv.weight_shape().to_vec();
            let name = |tensor: &str| format!("{}.{tensor}", conv.name);
            tensors.push((name("bias"), vec![conv.out_channels], weights.bias));
            if self.config().block == BlockKind::Edsr {
                tensors.push((name("weight"), shape, weights.weight));
            } else {
                let (gain, direction) = gain_and_direction(weights.weight, conv.out_channels);
                tensors.push((name("weight_g"), vec![conv.out_channels, 1, 1, 1], gain));
                tensors.push((name("weight_v"), shape, direction));
            }
        }
        if self.config().block == BlockKind::Edsr {
            for (name, range) in [("sub_mean", -EDSR_RANGE), ("add_mean", EDSR_RANGE)] {
                let identity = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
                let shift = self.config().mean.map(|mean| range * mean).to_vec();
                tensors.push((format!("{name}.weight"), vec![3, 3, 1, 1], identity));
                tensors.push((format!("{name}.bias"), vec![3], shift));
            }
        }
        // One entry, since those of a map have no order and the file should be the same each time.
        let metadata = HashMap::from([("options".to_owned(), self.official_options())]);
        serialize(tensors, metadata)
    }

    /// Options of EDSR-PyTorch that build the network of [`Model::to_official`], as on its command
    /// line. `--block_feats` and the means are those of the official WDSR, which also fixes the
    /// expansion of WDSR-B at 6 and its low-rank width at int(0.8 n).
    pub fn official_options(&self) -> String {
        let NetworkConfig {
            block,
            features,
            blocks,
            expansion,
            scale,
            residual_scale,
            mean: [r, g, b],
            ..
        } = self.config();
        let model = match block {
            BlockKind::WdsrA => "wdsr_a",
            BlockKind::WdsrB => "wdsr_b",
            BlockKind::Edsr => "edsr",
        };
        let common = format!(
            "--model {model} --scale {scale} --n_resblocks {blocks} --n_feats {features} \
             --res_scale {residual_scale}"
        );
        let block_feats = match block {
            BlockKind::WdsrA => format!(" --block_feats {}", features * expansion),
            _ => String::new(),
        };
        match block {
            BlockKind::Edsr => common,
            _ => format!("{common}{block_feats} --r_mean {r} --g_mean {g} --b_mean {b}"),
        }
    }

    /// Writes [`Model::to_official`] to a file, which has its name only when complete.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_official(&self, path: &Path) -> Result<(), Error> {
        atomic_file::write(path, &self.to_official())
    }
}

/// A convolution's weights for the ranges of the official code: the convolutions that read the
/// image get a larger one, those that write it have to make a larger one.
fn rescaled(block: BlockKind, conv: &Conv, weights: &ConvWeights) -> ConvWeights {
    let range = match block {
        BlockKind::WdsrA | BlockKind::WdsrB => WDSR_RANGE,
        BlockKind::Edsr => EDSR_RANGE,
    };
    let (weight, bias) = match conv.name.as_str() {
        "head.0" => (1.0 / range, 1.0),
        "skip.0" => (1.0, range),
        // EDSR's `tail.0.0` and so on keep the features' range.
        "tail.0" | "tail.1" => (range, range),
        _ => (1.0, 1.0),
    };
    ConvWeights {
        weight: weights.weight.iter().map(|w| w * weight).collect(),
        bias: weights.bias.iter().map(|b| b * bias).collect(),
    }
}

/// g = |w| for each output channel, and v = w, so that g v / |v| = w. A channel of zeros has g = 0
/// and any v but zeros, for which the quotient has no meaning.
fn gain_and_direction(weight: Vec<f32>, out_channels: usize) -> (Vec<f32>, Vec<f32>) {
    let mut direction = weight;
    let len = direction.len() / out_channels;
    let gain = direction
        .chunks_mut(len)
        .map(|channel| {
            let squares: f64 = channel.iter().map(|&v| f64::from(v).powi(2)).sum();
            if squares == 0.0 {
                channel.fill(1.0);
            }
            squares.sqrt() as f32
        })
        .collect();
    (gain, direction)
}
