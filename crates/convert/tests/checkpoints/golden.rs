//! Checkpoints as the public trainers write them, against the output that an independent
//! implementation gives them (golden vectors).

use std::path::Path;

use wdsr_convert::{Options, Range, import, import_bytes};
use wdsr_model::{DIV2K_MEAN, Isa, Model, NetworkConfig, Norm, Upscaler};
use wdsr_testing::floats::assert_close;
use wdsr_testing::golden::{self, Tensor};
use wdsr_testing::images::{interleaved, planar};

use super::writer::{Checkpoint, Item, text};

/// Largest difference allowed, of outputs in 0..1.
const TOLERANCE: f64 = 1e-5;

/// Asserts that the model makes `expected` of `input`, both [image, channel, y, x].
fn check(model: &Model, input: &Tensor, expected: &[f32], name: &str) {
    let [_, 3, height, width] = input.shape[..] else {
        panic!("{name}: input of shape {:?}", input.shape)
    };
    let isa = Isa::detect().expect("an instruction set");
    let upscaler = Upscaler::with_isa(model, isa);
    let mut found: Vec<f32> = Vec::new();
    for planes in input.floats().chunks_exact(3 * height * width) {
        let large = upscaler
            .upscale(&interleaved(planes, 3), width, height)
            .expect("an image");
        found.extend(planar(&large, 3));
    }
    assert_close(&found, expected, TOLERANCE, name);
}

#[test]
fn every_golden_checkpoint_gives_the_expected_output() {
    let (input, cases) = golden::checkpoints();
    for case in cases {
        let file = case.file.as_str();
        let description = &case.description;
        let text = |key: &str| {
            description[key]
                .as_str()
                .unwrap_or_else(|| panic!("{key} of {description}"))
        };
        let number = |key: &str| {
            description[key]
                .as_u64()
                .unwrap_or_else(|| panic!("{key} of {description}"))
        };
        let imported = import(&case.path, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
        let config = imported.model.config();
        let kind = config.block.name();
        assert_eq!(kind, text("block"), "{file}");
        for (key, found) in [
            ("features", config.features),
            ("blocks", config.blocks),
            ("expansion", config.expansion),
            ("scale", config.scale),
        ] {
            assert_eq!(found as u64, number(key), "{file}: {key}");
        }
        if kind == "wdsr-b" {
            assert_eq!(config.low_rank, config.features * 4 / 5, "{file}");
        }
        let layout = text("layout").split(',').next().expect("a name");
        assert!(
            imported.recognised[0].contains(layout),
            "{file}: {:?}",
            imported.recognised
        );
        check(&imported.model, &input, &case.output, file);
    }
}

/// The networks of the golden vectors, as EDSR-PyTorch and the official WDSR would save them.
#[test]
fn golden_networks_are_read_from_checkpoints_of_their_parameters() {
    let mut compared = 0;
    for network in golden::networks() {
        let config: NetworkConfig = serde_json::from_str(&network.config).expect("a description");
        if config.norm == Norm::Batch {
            continue;
        }
        let name = network.name.as_str();
        let mut checkpoint = Checkpoint::default();
        let items = network.vectors.tensors.iter().filter_map(|(key, tensor)| {
            let key = key.strip_prefix("param/")?;
            let item = checkpoint.tensor(&tensor.shape, &tensor.floats());
            Some((text(key), item))
        });
        let object = Item::Dict(items.collect());
        let options = Options {
            range: Some(Range::Unit),
            mean: Some(DIV2K_MEAN),
            residual_scale: Some(config.residual_scale),
            ..Options::default()
        };
        let imported = import_bytes(&checkpoint.legacy(&object), Path::new(name), &options)
            .unwrap_or_else(|e| panic!("{e}"));
        let vectors = &network.vectors;
        let (input, expected) = (vectors.tensor("input"), vectors.floats("output_eval"));
        check(&imported.model, input, &expected, name);
        compared += 1;
    }
    assert!(compared > 0, "no network without batch normalisation");
}
