use predicates::str::contains;
use wdsr_image::Colour;

use super::{image, wdsr, write};

#[test]
fn json_has_the_documented_fields() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a.png"), &image(40, 36, Colour::Rgb));
    write(&folder.path().join("b.png"), &image(41, 37, Colour::Grey));
    let output = wdsr()
        .args(["eval", "--json", "--set"])
        .arg(folder.path())
        .output()
        .expect("runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["scale"], 2);
    assert_eq!(report["protocol"], "benchmark");
    assert_eq!(report["images"].as_array().map(Vec::len), Some(2));
    let figures = ["psnr_db", "ssim", "bicubic_psnr_db", "bicubic_ssim"];
    for figure in figures {
        let of = |v: &serde_json::Value| v[figure].as_f64().expect("a number");
        let images = report["images"].as_array().expect("a list");
        let mean = images.iter().map(of).sum::<f64>() / 2.0;
        assert!((of(&report["mean"]) - mean).abs() < 1e-12, "{figure}");
    }
}

#[test]
fn the_protocol_is_printed_with_the_figures() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a.png"), &image(60, 50, Colour::Rgb));
    wdsr()
        .args(["eval", "--protocol", "div2k", "--set"])
        .arg(folder.path())
        .assert()
        .success()
        .stdout(contains("div2k: RGB, 8 bit, 8 px cut off each side"));
}

#[test]
fn the_loss_by_bf16_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a.png"), &image(60, 50, Colour::Rgb));
    let run = |more: &[&str]| {
        let output = wdsr()
            .args(["eval", "--precision", "bf16", "--set"])
            .arg(folder.path())
            .args(more)
            .output()
            .expect("runs");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let report: serde_json::Value = serde_json::from_slice(&run(&["--json"])).expect("JSON");
    let number = |v: &serde_json::Value| v.as_f64().expect("a number");
    assert_eq!(report["precision"], "bf16");
    let [bf16, f32] = ["mean", "f32_mean"].map(|mean| number(&report[mean]["psnr_db"]));
    assert!((number(&report["loss_db"]) - (f32 - bf16)).abs() < 1e-12);
    assert_ne!(bf16, f32, "the scores of bf16 are those of f32");
    assert!((f32 - bf16).abs() < 0.05, "bf16 {bf16}, f32 {f32}");
    let table = String::from_utf8(run(&[])).expect("text");
    let line = format!("bf16: {bf16:.4} dB; f32: {f32:.4} dB; loss ");
    assert!(table.contains(&line), "{table}, without {line}");
}

#[test]
fn an_image_too_small_to_score_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("tiny.png"), &image(12, 12, Colour::Rgb));
    wdsr()
        .args(["eval", "--set"])
        .arg(folder.path())
        .assert()
        .code(1)
        .stderr(contains("tiny.png"));
}
