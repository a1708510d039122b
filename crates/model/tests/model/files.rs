//! Model files: models are read back as written; invalid files are refused with a reason.

use std::collections::BTreeMap;
use std::path::Path;

use wdsr_model::{ConvWeights, Int8Scales, Model, Network, NetworkConfig, WeightFormat};

fn model() -> Model {
    let config = NetworkConfig::wdsr_b(4, 1, 2);
    let convs = Network::new(&config)
        .convs
        .iter()
        .map(|conv| ConvWeights {
            weight: vec![0.25; conv.weights()],
            bias: vec![-0.5; conv.out_channels],
            slopes: Vec::new(),
        })
        .collect();
    Model::new(
        &config,
        convs,
        BTreeMap::from([("trained".to_owned(), "never".to_owned())]),
    )
}

fn refusal(bytes: &[u8]) -> String {
    match Model::from_bytes(bytes, Path::new("some.safetensors")) {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    }
}

/// The file with a piece of its header replaced by another of the same length.
fn patched(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "length of the header");
    let mut bytes = model().to_bytes();
    let at = bytes
        .windows(from.len())
        .position(|w| w == from.as_bytes())
        .expect("in the header");
    bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    bytes
}

/// Weights of 0.1, which float16 rounds, and the given biases.
fn with_bias(bias: f32) -> Model {
    let plain = model();
    let convs = plain.convs().iter().map(|conv| ConvWeights {
        weight: vec![0.1; conv.weight.len()],
        bias: vec![bias; conv.bias.len()],
        slopes: Vec::new(),
    });
    Model::new(plain.config(), convs.collect(), BTreeMap::new())
}

#[test]
fn float16_models_are_half_as_large_and_read_back_rounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    with_bias(0.5)
        .save_in(&path, WeightFormat::F16)
        .expect("written");
    let read = Model::load(&path).expect("read");
    assert_eq!(read.config(), model().config());
    for conv in read.convs() {
        // 0.1 to 11 bits: 1638.4 / 16384 becomes 1638 / 16384.
        assert!(conv.weight.iter().all(|w| *w == 1638.0 / 16384.0));
        assert!(conv.bias.iter().all(|b| *b == 0.5));
    }
    let values: usize = read
        .convs()
        .iter()
        .map(|c| c.weight.len() + c.bias.len())
        .sum();
    let size = |bytes: &[u8]| {
        bytes.len() - 8 - u64::from_le_bytes(*bytes.first_chunk().expect("8 bytes")) as usize
    };
    assert_eq!(size(&std::fs::read(&path).expect("read")), 2 * values);

    let error = with_bias(100_000.5)
        .save_in(&path, WeightFormat::F16)
        .expect_err("beyond 65504");
    assert!(error.to_string().contains("100000.5"), "{error}");
    Model::load(&path).expect("the old file is kept");
}

#[test]
fn bfloat16_models_are_read() {
    // 1.0 in float16 is 0x3C00, in bfloat16 that is 0.0078125.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    with_bias(1.0)
        .save_in(&path, WeightFormat::F16)
        .expect("written");
    let bytes = std::fs::read(&path).expect("read");
    let length = u64::from_le_bytes(*bytes.first_chunk().expect("8 bytes")) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).expect("text");
    let header = header.trim_end().replace("\"F16\"", "\"BF16\"");
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend(header.as_bytes());
    changed.extend(&bytes[8 + length..]);
    let read = Model::from_bytes(&changed, Path::new("some.safetensors")).expect("read");
    assert!(
        read.convs()
            .iter()
            .all(|conv| conv.bias.iter().all(|b| *b == 0.007_812_5))
    );
}

#[test]
fn saved_models_are_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    model().save(&path).expect("written");
    let read = Model::load(&path).expect("read");
    assert_eq!(read.config(), model().config());
    assert_eq!(read.convs(), model().convs());
    assert_eq!(read.notes(), model().notes());
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        1,
        "files left"
    );
}

#[test]
fn truncated_files_are_refused() {
    let bytes = model().to_bytes();
    for len in 0..bytes.len() {
        let message = refusal(&bytes[..len]);
        assert!(
            message.starts_with("some.safetensors: not a complete safetensors file"),
            "{message}"
        );
    }
}

#[test]
fn invalid_files_are_refused_with_the_reason() {
    for (from, to, reason) in [
        (
            r#""version":"1""#,
            r#""version":"7""#,
            "expected model file version 1, found version 7",
        ),
        (
            r#""format":"wdsr""#,
            r#""format":"abcd""#,
            "expected format `wdsr`, found `abcd`",
        ),
        (
            r#"\"scale\":2"#,
            r#"\"scale\":5"#,
            "scale is 5, expected 1, 2, 3, 4 or 8",
        ),
        (r#"\"features\":4"#, r#"\"features\":3"#, "shape"),
        (r#"\"blocks\":1"#, r#"\"blocks\":2"#, "found 12"),
        (
            r#"\"blocks\":1"#,
            r#"\"blokcs\":1"#,
            "unknown field `blokcs`",
        ),
        (
            r#""head.0.bias""#,
            r#""haed.0.bias""#,
            "tensor `head.0.bias` is missing",
        ),
    ] {
        let message = refusal(&patched(from, to));
        assert!(message.contains(reason), "{to}: {message}");
    }
}

#[test]
fn non_finite_weights_are_refused() {
    let mut bytes = model().to_bytes();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let message = refusal(&bytes);
    assert!(message.contains("found NaN at index"), "{message}");
}

#[test]
fn the_default_builtin_model_is_read() {
    let model = Model::builtin();
    assert_eq!(model.config().label(), "wdsr-b 32/16 x2");
    assert_eq!(model.network().parameters(), 299_564);
}

/// Scales of int8 for [`model`].
fn scales() -> Vec<Int8Scales> {
    let network = Network::new(model().config());
    let scales = network.int8_convs().map(|conv| {
        let conv = &network.convs[conv];
        Int8Scales {
            input_steps: vec![1e-9; conv.in_channels],
            weight_steps: vec![0.5; conv.out_channels],
            bias: vec![0.125; conv.out_channels],
        }
    });
    scales.collect()
}

#[test]
fn scales_of_int8_are_read_back_in_float32_and_float16_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let quantized = model().with_int8(scales());
    for format in [WeightFormat::F32, WeightFormat::F16] {
        quantized.save_in(&path, format).expect("saved");
        let read = Model::load(&path).expect("read");
        assert_eq!(read.int8(), Some(&scales()[..]), "{format:?}");
        assert_eq!(read.convs(), quantized.convs(), "{format:?}");
        assert_eq!(read.notes(), quantized.notes(), "{format:?}");
    }
    assert_eq!(model().int8(), None);
}

#[test]
fn invalid_scales_of_int8_are_refused() {
    let mut zero = scales();
    zero[1].weight_steps[2] = 0.0;
    let message = refusal(&model().with_int8(zero).to_bytes());
    assert!(
        message.contains("weight_steps") && message.contains("index 2"),
        "{message}"
    );
    let mut newer = model().with_int8(scales()).to_bytes();
    let from = br#""int8":"1""#;
    let at = newer
        .windows(from.len())
        .position(|w| w == from)
        .expect("in the header");
    newer[at + from.len() - 2] = b'2';
    let message = refusal(&newer);
    assert!(
        message.contains("version 1") && message.contains("version 2"),
        "{message}"
    );
}
