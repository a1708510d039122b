//! Checkpoints as the public trainers write them, against what an independent implementation makes
//! of them (`../shared/golden/checkpoints`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use wdsr_import::{Options, Range, import, import_bytes};
use wdsr_model::{BlockKind, DIV2K_MEAN, Isa, Model, Upscaler};

use super::writer::{Checkpoint, Item, text};

/// Largest difference allowed, of outputs in 0..1.
const TOLERANCE: f32 = 1e-5;

fn golden() -> PathBuf {
    let shared = std::env::var_os("WDSR_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let folder = shared.join("golden");
    assert!(
        folder.join("checkpoints").is_dir(),
        "{}: no golden checkpoints; put shared/ beside the workspace or set WDSR_SHARED",
        folder.display()
    );
    folder
}

fn checkpoints() -> PathBuf {
    golden().join("checkpoints")
}

/// Tensors by their keys: shape and values.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn tensors(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).expect("golden file");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let read = |(key, view): (&str, TensorView<'_>)| {
        let (numbers, _) = view.data().as_chunks::<4>();
        let values = numbers.iter().map(|b| f32::from_le_bytes(*b)).collect();
        (key.to_owned(), (view.shape().to_vec(), values))
    };
    tensors.iter().map(read).collect()
}

/// Asserts that the model makes `expected` of `input`, both [image, channel, y, x].
fn check(model: &Model, tensors: &Tensors, expected: &str, name: &str) {
    let (shape, input) = &tensors["input"];
    let [_, 3, height, width] = shape[..] else {
        panic!("{name}: input of shape {shape:?}")
    };
    let isa = Isa::detect().expect("an instruction set");
    let upscaler = Upscaler::with_isa(model, isa);
    let mut found: Vec<f32> = Vec::new();
    for planes in input.chunks_exact(3 * height * width) {
        let pixels: Vec<f32> = (0..width * height * 3)
            .map(|at| planes[at % 3 * width * height + at / 3])
            .collect();
        let large = upscaler.upscale(&pixels, width, height).expect("an image");
        for channel in 0..3 {
            found.extend(large.iter().skip(channel).step_by(3));
        }
    }
    let (_, expected) = &tensors[expected];
    assert_eq!(found.len(), expected.len(), "{name}");
    let error = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(error <= TOLERANCE, "{name}: {error:e} off");
}

#[test]
fn every_golden_checkpoint_gives_the_expected_output() {
    let text =
        std::fs::read_to_string(checkpoints().join("checkpoints.json")).expect("golden file");
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
    assert_eq!(cases.len(), 7, "cases");
    let expected = tensors(&checkpoints().join("expected.safetensors"));
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

        let key = format!("out/{file}");
        check(&imported.model, &expected, &key, file);
    }
}

/// The networks of the golden vectors, as EDSR-PyTorch and the official WDSR would save them.
#[test]
fn golden_networks_are_read_from_checkpoints_of_their_parameters() {
    for (name, residual_scale) in [
        ("edsr_x2", 1.0),
        ("edsr_x3", 1.0),
        ("edsr_x4", 1.0),
        ("wdsr-b_x1", 1.0),
        ("wdsr-a_x8_res0.1", 0.1),
        ("wdsr-b_x2_none", 1.0),
    ] {
        let tensors = tensors(&golden().join(format!("{name}.safetensors")));
        let mut checkpoint = Checkpoint::default();
        let items = tensors.iter().filter_map(|(key, (shape, values))| {
            let key = key.strip_prefix("param/")?;
            Some((text(key), checkpoint.tensor(shape, values)))
        });
        let object = Item::Dict(items.collect());
        let options = Options {
            range: Some(Range::Unit),
            mean: Some(DIV2K_MEAN),
            residual_scale: Some(residual_scale),
            ..Options::default()
        };
        let imported = import_bytes(&checkpoint.legacy(&object), Path::new(name), &options)
            .unwrap_or_else(|e| panic!("{e}"));
        check(&imported.model, &tensors, "output_eval", name);
    }
}
