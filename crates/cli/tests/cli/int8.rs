//! `wdsr quantize`, and `--precision int8` of models with scales for it.

use std::path::{Path, PathBuf};

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use wdsr_image::Colour;
use wdsr_model::{Model, NetworkConfig};

use super::{image, wdsr, write};

/// A folder with images and a small model, and that model with scales.
fn quantized(root: &Path) -> [PathBuf; 2] {
    let data = root.join("data");
    std::fs::create_dir(&data).expect("a folder");
    write(&data.join("a.png"), &image(60, 50, Colour::Rgb));
    write(&data.join("b.png"), &image(41, 37, Colour::Grey));
    let [model, out] = ["model", "int8"].map(|name| root.join(name).with_extension("safetensors"));
    let random = Model::random(&NetworkConfig::wdsr_b(8, 2, 2), 1);
    random.save(&model).expect("saved");
    wdsr()
        .arg("quantize")
        .arg(&model)
        .arg("--data")
        .arg(&data)
        .arg("-o")
        .arg(&out)
        .assert()
        .success()
        .stdout(contains("with scales for int8 from 2 images, a to b"));
    [model, out]
}

#[test]
fn quantize_adds_scales_and_keeps_the_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    let [model, out] = quantized(folder.path());
    let [before, after] = [&model, &out].map(|path| Model::load(path).expect("a model"));
    assert_eq!(before.convs(), after.convs());
    assert!(before.int8().is_none() && after.int8().is_some());
    // The same images give the same file, on any number of threads.
    let again = folder.path().join("again.safetensors");
    let mut command = wdsr();
    command.arg("quantize").arg(&model).arg("--data");
    command
        .arg(folder.path().join("data"))
        .args(["-j", "2", "-o"])
        .arg(&again)
        .assert()
        .success();
    let again = Model::load(&again).expect("a model");
    assert_eq!(after.convs(), again.convs());
    assert_eq!(after.int8(), again.int8());
    assert_eq!(after.notes(), again.notes());
    wdsr()
        .arg("info")
        .arg(&out)
        .assert()
        .success()
        .stdout(contains("--precision int8").and(contains("2 images, a to b")));
}

#[test]
fn int8_gives_the_same_image_on_every_instruction_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let [_, model] = quantized(folder.path());
    let data = folder.path().join("data");
    let run = |isa: &str| {
        let output = wdsr()
            .env("WDSR_ISA", isa)
            .args(["eval", "--precision", "int8", "--json", "-m"])
            .arg(&model)
            .arg("--set")
            .arg(&data)
            .output()
            .expect("runs");
        assert!(output.status.success(), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["precision"], "int8");
        report["images"].clone()
    };
    let expected = run("reference");
    for isa in ["avx2", "avx512vnni", "neondot", "neon"] {
        assert_eq!(run(isa), expected, "{isa}");
    }
}

#[test]
fn int8_without_scales_is_wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    let [model, _] = quantized(folder.path());
    let image = folder.path().join("data/a.png");
    wdsr()
        .arg("upscale")
        .arg(&image)
        .args(["--precision", "int8", "-m"])
        .arg(&model)
        .assert()
        .code(2)
        .stderr(contains("has no scales for int8").and(contains("wdsr quantize")));
    // auto runs it in another precision.
    wdsr()
        .arg("upscale")
        .arg(&image)
        .args(["--precision", "auto", "-m"])
        .arg(&model)
        .arg("-o")
        .arg(folder.path().join("large.png"))
        .assert()
        .success();
}

#[test]
fn quantize_names_what_it_cannot_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |model: &str, data: &Path| {
        let out = folder.path().join("out.safetensors");
        let mut command = wdsr();
        command.args(["quantize", model, "--data"]).arg(data);
        command.arg("-o").arg(out).assert().code(2)
    };
    run("photo", folder.path()).stderr(contains("strength"));
}
