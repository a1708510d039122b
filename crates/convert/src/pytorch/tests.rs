use std::collections::BTreeMap;

use safetensors::SafeTensors;

use super::*;
use crate::interpreter::configs;

/// Shape and values of every tensor, by its key.
fn read(bytes: &[u8]) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let file = SafeTensors::deserialize(bytes).expect("a safetensors file");
    file.iter()
        .map(|(key, view)| {
            let floats = view.data().as_chunks::<4>().0.iter();
            let values = floats.map(|bytes| f32::from_le_bytes(*bytes)).collect();
            (key.to_owned(), (view.shape().to_vec(), values))
        })
        .collect()
}

/// The weights of a file converted back: g v / |v|, and for WDSR head * 2, tail * 0.5, skip's bias
/// * 0.5.
fn folded(config: &NetworkConfig, bytes: &[u8]) -> BTreeMap<String, Vec<f32>> {
    let tensors = read(bytes);
    let mut result = BTreeMap::new();
    for (key, (shape, values)) in &tensors {
        let (conv, tensor) = key.rsplit_once('.').expect("a tensor of a convolution");
        let (name, mut values) = match tensor {
            "weight_v" => {
                let (gain_shape, gain) = &tensors[&format!("{conv}.weight_g")];
                assert_eq!(gain_shape, &[shape[0], 1, 1, 1], "{key}");
                let mut weight = values.clone();
                for (channel, gain) in weight.chunks_mut(values.len() / shape[0]).zip(gain) {
                    let length = channel.iter().map(|v| v * v).sum::<f32>().sqrt();
                    channel.iter_mut().for_each(|v| *v *= gain / length);
                }
                (format!("{conv}.weight"), weight)
            }
            "weight_g" => continue,
            _ => (key.clone(), values.clone()),
        };
        let factor = match (config.block, name.as_str()) {
            (BlockKind::Compact | BlockKind::MsrResNet | BlockKind::Rrdb, _) => 1.0,
            (BlockKind::Edsr, "head.0.weight") => 255.0,
            (BlockKind::Edsr, "tail.1.weight" | "tail.1.bias") => 1.0 / 255.0,
            (BlockKind::Edsr, _) => 1.0,
            (_, "head.0.weight") => 2.0,
            (_, "tail.0.weight" | "tail.0.bias" | "skip.0.bias") => 0.5,
            _ => 1.0,
        };
        values.iter_mut().for_each(|v| *v *= factor);
        result.insert(name, values);
    }
    result
}

#[test]
fn weights_fold_back_to_those_of_the_model() {
    for config in configs() {
        let model = Model::random(&config, 1);
        let mut found = folded(&config, &to_pytorch(&model));
        for (conv, weights) in model.network().convs.iter().zip(model.convs()) {
            for (tensor, expected) in [("weight", &weights.weight), ("bias", &weights.bias)] {
                let key = format!("{}.{tensor}", conv.name);
                let values = found
                    .remove(&key)
                    .unwrap_or_else(|| panic!("{key} is missing"));
                assert_eq!(values.len(), expected.len(), "{key}");
                for (value, expected) in values.iter().zip(expected) {
                    assert!(
                        (value - expected).abs() <= 1e-6 * expected.abs(),
                        "{key} of {}: {value}, expected {expected}",
                        config.label()
                    );
                }
            }
        }
        for (conv, weights) in model.network().convs.iter().zip(model.convs()) {
            if let Some(slopes) = &conv.slopes {
                let found = found.remove(&format!("{slopes}.weight"));
                assert_eq!(found.as_ref(), Some(&weights.slopes), "{slopes}");
            }
        }
        let mut left: Vec<String> = found.into_keys().collect();
        left.retain(|key| !key.contains("_mean."));
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn keys_and_shapes_are_as_published() {
    let shapes = |config: &NetworkConfig| -> Vec<(String, Vec<usize>)> {
        let tensors = read(&to_pytorch(&Model::random(config, 1)));
        tensors
            .into_iter()
            .map(|(key, (shape, _))| (key, shape))
            .collect()
    };
    let normalised = |name: &str, [out, channels, k]: [usize; 3]| {
        vec![
            (format!("{name}.bias"), vec![out]),
            (format!("{name}.weight_g"), vec![out, 1, 1, 1]),
            (format!("{name}.weight_v"), vec![out, channels, k, k]),
        ]
    };
    let expected: Vec<_> = [
        ("body.0.body.0", [60, 10, 1]),
        ("body.0.body.2", [8, 60, 1]),
        ("body.0.body.3", [10, 8, 3]),
        ("head.0", [10, 3, 3]),
        ("skip.0", [27, 3, 5]),
        ("tail.0", [27, 10, 3]),
    ]
    .into_iter()
    .flat_map(|(name, sizes)| normalised(name, sizes))
    .collect();
    assert_eq!(shapes(&NetworkConfig::wdsr_b(10, 1, 3)), expected);

    let plain = |name: &str, [out, channels, k]: [usize; 3]| {
        vec![
            (format!("{name}.bias"), vec![out]),
            (format!("{name}.weight"), vec![out, channels, k, k]),
        ]
    };
    let expected: Vec<_> = [
        ("add_mean", [3, 3, 1]),
        ("body.0.body.0", [4, 4, 3]),
        ("body.0.body.2", [4, 4, 3]),
        ("body.1", [4, 4, 3]),
        ("head.0", [4, 3, 3]),
        ("sub_mean", [3, 3, 1]),
        ("tail.0.0", [16, 4, 3]),
        ("tail.0.2", [16, 4, 3]),
        ("tail.1", [3, 4, 3]),
    ]
    .into_iter()
    .flat_map(|(name, sizes)| plain(name, sizes))
    .collect();
    assert_eq!(shapes(&NetworkConfig::edsr(4, 1, 4)), expected);
}

#[test]
fn channels_of_zeros_stay_zero() {
    let config = NetworkConfig::wdsr_a(2, 1, 2);
    let mut convs = Model::random(&config, 1).convs().to_vec();
    convs[1].weight[..2 * 9].fill(0.0);
    let model = Model::new(&config, convs, BTreeMap::new());
    let weight = &folded(&config, &to_pytorch(&model))["body.0.body.0.weight"];
    assert!(
        weight[..2 * 9].iter().all(|&w| w == 0.0),
        "{:?}",
        &weight[..2 * 9]
    );
}

#[test]
fn options_describe_the_network() {
    let config = NetworkConfig {
        residual_scale: 0.1,
        ..NetworkConfig::wdsr_a(32, 16, 4)
    };
    assert_eq!(
        pytorch_options(&Model::random(&config, 1)),
        "--model wdsr_a --scale 4 --n_resblocks 16 --n_feats 32 --res_scale 0.1 \
         --block_feats 128 --r_mean 0.4488 --g_mean 0.4371 --b_mean 0.404"
    );
    assert_eq!(
        pytorch_options(&Model::random(&NetworkConfig::edsr(64, 2, 2), 1)),
        "--model edsr --scale 2 --n_resblocks 2 --n_feats 64 --res_scale 1"
    );
    assert_eq!(
        pytorch_options(&Model::random(&NetworkConfig::compact(64, 16, 4), 1)),
        "SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=64, num_conv=16, upscale=4, \
         act_type='prelu')"
    );
}
