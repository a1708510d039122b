//! Writes a model with random weights, for checks and timings that need no trained one:
//! `random_model NETWORK SCALE OUT.safetensors`, with NETWORK as `wdsr-b-32x16`: block kind,
//! features, blocks.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use wdsr_model::{ConvWeights, Model, Network, NetworkConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, scale, path] = arguments.as_slice() else {
        return Err(
            "expected NETWORK SCALE OUT.safetensors, as wdsr-b-32x16 2 out.safetensors".into(),
        );
    };
    let config = parse(name, scale.parse()?)
        .ok_or_else(|| format!("expected a network such as wdsr-b-32x16, found {name}"))?;
    config.validate()?;
    let convs = random_weights(&config);
    Model::new(&config, convs, BTreeMap::new()).save(Path::new(path))?;
    Ok(())
}

fn parse(name: &str, scale: usize) -> Option<NetworkConfig> {
    let (kind, size) = name.rsplit_once('-')?;
    let (features, blocks) = size.split_once('x')?;
    let (features, blocks) = (features.parse().ok()?, blocks.parse().ok()?);
    match kind {
        "wdsr-a" => Some(NetworkConfig::wdsr_a(features, blocks, scale)),
        "wdsr-b" => Some(NetworkConfig::wdsr_b(features, blocks, scale)),
        "edsr" => Some(NetworkConfig::edsr(features, blocks, scale)),
        _ => None,
    }
}

/// Uniform within 1 / sqrt(fan-in), the default of PyTorch's convolutions; always the same.
fn random_weights(config: &NetworkConfig) -> Vec<ConvWeights> {
    let mut state = 1_u32;
    let mut uniform = |bound: f32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bound * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
    };
    Network::new(config)
        .convs
        .iter()
        .map(|conv| {
            let bound = 1.0 / ((conv.weights() / conv.out_channels) as f32).sqrt();
            ConvWeights {
                weight: (0..conv.weights()).map(|_| uniform(bound)).collect(),
                bias: (0..conv.out_channels).map(|_| uniform(bound)).collect(),
            }
        })
        .collect()
}
