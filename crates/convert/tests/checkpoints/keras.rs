//! Weights as Keras saves krasserm/super-resolution's networks, against their output by
//! `reference/keras_checkpoint.py`.

use std::path::{Path, PathBuf};

use wdsr_convert::{Options, import, import_bytes};
use wdsr_model::{DIV2K_MEAN, Isa, NetworkConfig, Norm, Upscaler};
use wdsr_testing::floats::assert_close;

/// Largest difference allowed, of outputs in 0..1.
const TOLERANCE: f64 = 1e-5;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn numbers(name: &str) -> Vec<f32> {
    let bytes = std::fs::read(data(name)).expect("readable");
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn keras_weights_compute_the_output_of_their_network() {
    let plain = |config: NetworkConfig| NetworkConfig {
        norm: Norm::None,
        ..config
    };
    for (name, config) in [
        ("wdsr-a-x2", plain(NetworkConfig::wdsr_a(4, 2, 2))),
        ("wdsr-b-x3", plain(NetworkConfig::wdsr_b(8, 2, 3))),
    ] {
        let imported = import(&data(&format!("{name}.h5")), &Options::default())
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(imported.model.config(), &config, "{name}");
        assert_eq!(config.mean, DIV2K_MEAN);
        let layout = &imported.recognised[0];
        assert!(layout.contains("krasserm/super-resolution"), "{layout}");

        let isa = Isa::detect().expect("an instruction set");
        let (width, height) = (7, 6);
        let input = numbers("input.f32");
        let upscaler = Upscaler::with_isa(&imported.model, isa);
        let found = upscaler.upscale(&input, width, height).expect("an image");
        let expected = numbers(&format!("{name}.f32"));
        assert_close(&found, &expected, TOLERANCE, name);
    }
}

#[test]
fn other_and_damaged_hdf5_files_are_refused() {
    let bytes = std::fs::read(data("wdsr-b-x3.h5")).expect("readable");
    let refusal = |bytes: &[u8]| {
        let imported = import_bytes(bytes, Path::new("bad.h5"), &Options::default());
        let reason = imported.expect_err("a bad file").to_string();
        assert!(reason.starts_with("bad.h5: "), "{reason}");
        reason
    };
    let short = refusal(&bytes[..bytes.len() / 2]);
    assert!(
        short.contains("download it again") || short.contains("layer"),
        "{short}"
    );
    // The attribute and the gains under other names of the same length.
    for (from, to, expected) in [
        ("layer_names", "other_names", "found no `layer_names`"),
        (
            "g:0",
            "h:0",
            "expected WDSR, whose convolutions have weight",
        ),
    ] {
        let mut bytes = bytes.clone();
        for at in 0..bytes.len() - from.len() {
            if bytes[at..].starts_with(from.as_bytes()) {
                bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            }
        }
        let reason = refusal(&bytes);
        assert!(reason.contains(expected), "{reason}");
    }
}
