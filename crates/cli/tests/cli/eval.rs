use predicates::str::contains;
use wdsr_picture::Colour;

use super::{picture, wdsr, write};

#[test]
fn json_has_the_documented_fields() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a.png"), &picture(40, 36, Colour::Rgb));
    write(&folder.path().join("b.png"), &picture(41, 37, Colour::Grey));
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
    assert_eq!(report["pictures"].as_array().map(Vec::len), Some(2));
    let figures = ["psnr_db", "ssim", "bicubic_psnr_db", "bicubic_ssim"];
    for figure in figures {
        let of = |v: &serde_json::Value| v[figure].as_f64().expect("a number");
        let pictures = report["pictures"].as_array().expect("a list");
        let mean = pictures.iter().map(of).sum::<f64>() / 2.0;
        assert!((of(&report["mean"]) - mean).abs() < 1e-12, "{figure}");
    }
}

#[test]
fn the_protocol_is_printed_with_the_figures() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a.png"), &picture(60, 50, Colour::Rgb));
    wdsr()
        .args(["eval", "--protocol", "div2k", "--set"])
        .arg(folder.path())
        .assert()
        .success()
        .stdout(contains("div2k: RGB, 8 bit, 8 px cut off each side"));
}

#[test]
fn a_picture_too_small_to_score_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    write(
        &folder.path().join("tiny.png"),
        &picture(12, 12, Colour::Rgb),
    );
    wdsr()
        .args(["eval", "--set"])
        .arg(folder.path())
        .assert()
        .code(1)
        .stderr(contains("tiny.png"));
}
