//! Checkpoints as the public trainers write them, against what an independent implementation makes
//! of them (`../shared/golden/checkpoints`).

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use wdsr_import::{Options, import};
use wdsr_model::{BlockKind, Isa, Model, Upscaler};

/// Largest difference allowed, of outputs in 0..1.
const TOLERANCE: f32 = 1e-5;

fn checkpoints() -> PathBuf {
    let shared = std::env::var_os("WDSR_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let folder = shared.join("golden/checkpoints");
    assert!(
        folder.is_dir(),
        "{}: no golden checkpoints; put shared/ beside the workspace or set WDSR_SHARED",
        folder.display()
    );
    folder
}

/// A tensor of `expected.safetensors`: shape and values.
fn expected(key: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(checkpoints().join("expected.safetensors")).expect("golden file");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let view = tensors.tensor(key).expect("a tensor");
    let (numbers, _) = view.data().as_chunks::<4>();
    let values = numbers.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (view.shape().to_vec(), values)
}

/// The network's output for the golden input, in the order [channel, y, x] of every picture.
fn output(model: &Model) -> Vec<f32> {
    let (shape, input) = expected("input");
    let [_, 3, height, width] = shape[..] else {
        panic!("input of shape {shape:?}")
    };
    let isa = Isa::detect().expect("an instruction set");
    let upscaler = Upscaler::with_isa(model, isa);
    let mut all = Vec::new();
    for planes in input.chunks_exact(3 * height * width) {
        let pixels: Vec<f32> = (0..width * height * 3)
            .map(|at| planes[at % 3 * width * height + at / 3])
            .collect();
        let large = upscaler.upscale(&pixels, width, height);
        for channel in 0..3 {
            all.extend(large.iter().skip(channel).step_by(3));
        }
    }
    all
}

#[test]
fn every_golden_checkpoint_gives_the_expected_output() {
    let text =
        std::fs::read_to_string(checkpoints().join("checkpoints.json")).expect("golden file");
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
    assert_eq!(cases.len(), 7, "cases");
    for case in cases {
        let text = |key: &str| {
            case[key]
                .as_str()
                .unwrap_or_else(|| panic!("{key} of {case}"))
        };
        let number = |key: &str| {
            case[key]
                .as_u64()
                .unwrap_or_else(|| panic!("{key} of {case}"))
        };
        let file = text("file");
        let imported = import(&checkpoints().join(file), &Options::default())
            .unwrap_or_else(|e| panic!("{e}"));
        let config = imported.model.config();
        let kind = match config.block {
            BlockKind::WdsrA => "wdsr-a",
            BlockKind::WdsrB => "wdsr-b",
            BlockKind::Edsr => "edsr",
        };
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

        let (_, expected) = expected(&format!("out/{file}"));
        let found = output(&imported.model);
        assert_eq!(found.len(), expected.len(), "{file}");
        let error = found
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(error <= TOLERANCE, "{file}: {error:e} off");
    }
}
