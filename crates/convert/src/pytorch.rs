//! Models for the published PyTorch code, as safetensors with its keys and ranges:
//! `load_state_dict(safetensors.torch.load_file(path))` reads them, strictly.
//!
//! - WDSR-A, WDSR-B: JiahuiYu/wdsr_ntire2018, `wdsr_a.py` and `wdsr_b.py`. Every convolution has
//!   `bias`, `weight_g` (`[out, 1, 1, 1]`) and `weight_v` (`[out, in, k, k]`). Those networks work
//!   on x = (255 image - 255 mean) / 127.5, twice ours, and their output likewise.
//! - Compact: xinntao/Real-ESRGAN, `realesrgan/archs/srvgg_arch.py`, `SRVGGNetCompact`: plain
//!   convolutions and slopes of PReLUs, for images in 0..1.
//! - MSRResNet: XPixelGroup/BasicSR, `basicsr/archs/srresnet_arch.py`: plain convolutions, for images in
//!   0..1.
//! - RRDB: XPixelGroup/BasicSR, `basicsr/archs/rrdbnet_arch.py`, which has scale 4 alone: plain convolutions,
//!   for images in 0..1.
//! - EDSR: EDSR-PyTorch, `src/model/edsr.py`, with its default range of 255: plain convolutions and
//!   `sub_mean`, `add_mean`.
//!
//! The metadata has `options`: the options of EDSR-PyTorch, in which WDSR and EDSR run, or the call of
//! the others' class, that build the network.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use safetensors::tensor::{Dtype, TensorView};
use wdsr_model::{BlockKind, Model, NetworkConfig};

use crate::convention::Range;

/// The bytes of a safetensors file for the published PyTorch code, float32.
///
/// WDSR has `KEY.bias`, `KEY.weight_g` and `KEY.weight_v` of each convolution (weight
/// normalisation), EDSR `KEY.bias` and `KEY.weight`.
///
/// # Examples
/// ```
/// use wdsr_convert::{pytorch_options, to_pytorch};
/// use wdsr_model::{Model, NetworkConfig};
///
/// let model = Model::random(&NetworkConfig::wdsr_b(32, 16, 2), 1);
/// assert!(pytorch_options(&model).starts_with("--model wdsr_b --scale 2 --n_resblocks 16"));
/// assert!(to_pytorch(&model).len() > 4 * model.network().parameters());
/// ```
pub fn to_pytorch(model: &Model) -> Vec<u8> {
    let config = model.config();
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    let range = match config.block {
        BlockKind::WdsrA | BlockKind::WdsrB => Range::Signed,
        BlockKind::Edsr => Range::Byte,
        BlockKind::Compact | BlockKind::MsrResNet | BlockKind::Rrdb => Range::Unit,
    };
    let mut convs = model.convs().to_vec();
    range.unfold(model.network(), &mut convs);
    for (conv, weights) in model.network().convs.iter().zip(convs) {
        let shape = conv.weight_shape().to_vec();
        let name = |tensor: &str| format!("{}.{tensor}", conv.name);
        tensors.push((name("bias"), vec![conv.out_channels], weights.bias));
        if !config.block.is_wdsr() {
            tensors.push((name("weight"), shape, weights.weight));
            if let Some(slopes) = &conv.slopes {
                let key = format!("{slopes}.weight");
                tensors.push((key, vec![conv.out_channels], weights.slopes));
            }
        } else {
            let (gain, direction) = gain_and_direction(weights.weight, conv.out_channels);
            tensors.push((name("weight_g"), vec![conv.out_channels, 1, 1, 1], gain));
            tensors.push((name("weight_v"), shape, direction));
        }
    }
    if config.block == BlockKind::Edsr {
        for (name, factor) in [("sub_mean", -range.factor()), ("add_mean", range.factor())] {
            let identity = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
            let shift = config.mean.map(|mean| factor * mean).to_vec();
            tensors.push((format!("{name}.weight"), vec![3, 3, 1, 1], identity));
            tensors.push((format!("{name}.bias"), vec![3], shift));
        }
    }
    // A single entry, because a map with several has no fixed order in the file.
    let metadata = HashMap::from([("options".to_owned(), pytorch_options(model))]);
    safetensors_file(tensors, metadata)
}

fn safetensors_file(
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    metadata: HashMap<String, String>,
) -> Vec<u8> {
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(key, shape, values)| {
            let words: Vec<_> = values.iter().map(|v| v.to_le_bytes()).collect();
            (key, shape, words.into_flattened())
        })
        .collect();
    let views = tensors.iter().map(|(key, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes)
            .unwrap_or_else(|e| unreachable!("shape {shape:?} of {key}: {e}"));
        (key, view)
    });
    safetensors::serialize(views, Some(metadata))
        .unwrap_or_else(|e| unreachable!("valid tensors serialise: {e}"))
}

/// The command-line options of EDSR-PyTorch that build the network of [`to_pytorch`]; for Compact,
/// MSRResNet and RRDB, the call of their class.
///
/// `--block_feats` and the means are options of the official WDSR, which also fixes the expansion of
/// WDSR-B at 6 and its low-rank width at int(0.8 n).
pub fn pytorch_options(model: &Model) -> String {
    let NetworkConfig {
        block,
        features,
        blocks,
        expansion,
        growth,
        scale,
        residual_scale,
        mean: [r, g, b],
        ..
    } = model.config();
    let name = match block {
        BlockKind::WdsrA => "wdsr_a",
        BlockKind::WdsrB => "wdsr_b",
        BlockKind::Edsr => "edsr",
        BlockKind::MsrResNet => {
            return format!(
                "MSRResNet(num_in_ch=3, num_out_ch=3, num_feat={features}, num_block={blocks}, \
                 upscale={scale})"
            );
        }
        // BasicSR's networks of other scales reduce the image first.
        BlockKind::Rrdb if *scale == 4 => {
            return format!(
                "RRDBNet(num_in_ch=3, num_out_ch=3, num_feat={features}, num_block={blocks}, \
                 num_grow_ch={growth}, scale=4)"
            );
        }
        BlockKind::Rrdb => {
            return format!("ESRGAN's RRDB of scale {scale}, under the names of BasicSR's RRDBNet");
        }
        BlockKind::Compact => {
            return format!(
                "SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat={features}, \
                 num_conv={blocks}, upscale={scale}, act_type='prelu')"
            );
        }
    };
    let common = format!(
        "--model {name} --scale {scale} --n_resblocks {blocks} --n_feats {features} \
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

/// g = |w| for each output channel, and v = w, so that g v / |v| = w. A channel of zeros has g = 0
/// and v = 1, because v / |v| is undefined for zeros.
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
