use std::path::Path;

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use wdsr_model::{ExportPrecision, Model, NetworkConfig};

use super::wdsr;

fn saved_model(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("small.safetensors");
    Model::embedded().save(&path).expect("written");
    path
}

#[test]
fn onnx_is_written_in_either_precision() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    for (flag, precision) in [
        (None, ExportPrecision::F32),
        (Some("--f16"), ExportPrecision::F16),
    ] {
        let output = folder.path().join("small.onnx");
        wdsr()
            .arg("convert")
            .args([&model, &output])
            .args(flag)
            .assert()
            .success()
            .stderr(contains("small.onnx (wdsr-b 32/8 x2)"));
        let expected = Model::embedded().to_onnx(precision).expect("in range");
        assert!(std::fs::read(&output).expect("written") == expected);
    }
    // The model and its conversion, no temporary file.
    let files = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(files, 2, "files left");
}

#[test]
fn ncnn_is_written_as_two_files_in_either_precision() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    for (flag, precision) in [
        (None, ExportPrecision::F32),
        (Some("--f16"), ExportPrecision::F16),
    ] {
        let output = folder.path().join("small-x2.param");
        wdsr()
            .arg("convert")
            .args([&model, &output])
            .args(flag)
            .assert()
            .success()
            .stderr(contains("small-x2.param (wdsr-b 32/8 x2)"))
            .stderr(contains("Upscayl").not());
        let expected = Model::embedded().to_ncnn(precision).expect("in range");
        let param = std::fs::read_to_string(&output).expect("written");
        assert_eq!(param, expected.param);
        let bin = std::fs::read(folder.path().join("small-x2.bin")).expect("written");
        assert!(bin == expected.bin, "weights of {precision:?}");
    }
    let files = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(files, 3, "files left");
}

#[test]
fn a_name_that_upscayl_takes_for_another_scale_is_noted() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    for (name, scale) in [
        ("wdsr-b-32x16-x2", 1),
        ("x3", 3),
        ("3x", 3),
        ("small", 4),
        ("8x", 8),
    ] {
        wdsr()
            .arg("convert")
            .args([&model, &folder.path().join(name).with_extension("param")])
            .assert()
            .success()
            .stderr(contains(format!(
                "Upscayl reads a scale of {scale} off the name {name}; call it model-x2"
            )));
    }
}

#[test]
fn the_official_layout_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    let output = folder.path().join("official.safetensors");
    wdsr()
        .arg("convert")
        .args([&model, &output])
        .args(["--layout", "official"])
        .assert()
        .success()
        .stderr(contains(
            "options: --model wdsr_b --scale 2 --n_resblocks 8",
        ))
        .stderr(contains("wdsr_b.py").not());
    assert!(std::fs::read(&output).expect("written") == Model::embedded().to_official());

    let config = NetworkConfig {
        expansion: 9,
        ..NetworkConfig::wdsr_b(10, 1, 2)
    };
    Model::random(&config, 1).save(&model).expect("written");
    wdsr()
        .arg("convert")
        .args([&model, &output])
        .args(["--layout", "official"])
        .assert()
        .success()
        .stderr(contains(
            "wdsr_b.py fixes an expansion of 6 and 8 low-rank channels; change it to 9 and 8",
        ));
}

#[test]
fn options_that_do_not_fit_the_format_are_wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    for (name, options, reason) in [
        (
            "out.onnx",
            &["--layout", "official"][..],
            "--layout is for .safetensors",
        ),
        ("out.safetensors", &["--f16"], "--f16 is for .onnx"),
        (
            "out.safetensors",
            &["--layout", "official", "--f16"],
            "--f16 is for .onnx",
        ),
    ] {
        wdsr()
            .arg("convert")
            .args([&model, &folder.path().join(name)])
            .args(options)
            .assert()
            .code(2)
            .stderr(contains(name).and(contains(reason)));
        assert!(!folder.path().join(name).exists(), "{name} is written");
    }
}

#[test]
fn an_unknown_format_is_wrong_usage_that_names_the_known_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    for (name, found) in [("out.tflite", "found .tflite"), ("out", "found no suffix")] {
        wdsr()
            .arg("convert")
            .args([&model, &folder.path().join(name)])
            .assert()
            .code(2)
            .stderr(contains(name).and(contains(
                "expected a name that ends in .safetensors, .onnx or",
            )))
            .stderr(contains(found));
        assert!(!folder.path().join(name).exists(), "{name} is written");
    }
}

#[test]
fn a_file_that_cannot_be_read_or_written_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = saved_model(folder.path());
    let damaged = folder.path().join("damaged.safetensors");
    std::fs::write(&damaged, b"not a model").expect("written");
    wdsr()
        .arg("convert")
        .args([&damaged, &folder.path().join("out.onnx")])
        .assert()
        .code(1)
        .stderr(contains(
            "damaged.safetensors: not a complete safetensors file",
        ));
    wdsr()
        .arg("convert")
        .args([&model, &folder.path().join("nowhere/out.onnx")])
        .assert()
        .code(1)
        .stderr(contains("nowhere/out.onnx: cannot write"));
}
