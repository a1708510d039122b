//! `wdsr bench`: its report.

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

use crate::wdsr;

fn report(arguments: &[&str]) -> serde_json::Value {
    let output = wdsr()
        .arg("bench")
        .args(arguments)
        .args(["-j", "1", "--json"])
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    serde_json::from_slice(&output).expect("JSON")
}

#[test]
fn measures_a_network_and_writes_it_for_other_engines() {
    let folder = tempfile::tempdir().expect("folder");
    let onnx = folder.path().join("network.onnx");
    let path = onnx.to_str().expect("UTF-8");
    let network = ["--network", "wdsr-b-8x2", "--scale", "3", "--size", "20x13"];
    let report = report(&[&network[..], &["--save-onnx", path]].concat());
    for (key, expected) in [
        ("network", "wdsr-b-8x2".into()),
        ("work", "upscale".into()),
        ("scale", 3.into()),
        ("width_px", 20.into()),
        ("height_px", 13.into()),
        ("precision", "f32".into()),
        ("threads", serde_json::Value::from(1)),
    ] {
        assert_eq!(report[key], expected, "{key} of {report}");
    }
    for key in ["median_ms", "gflops", "peak_gflops", "ratio_to_peak"] {
        assert!(report[key].as_f64() > Some(0.0), "{key} of {report}");
    }
    assert!(report["error"].as_f64() < Some(1e-5), "{report}");
    if cfg!(target_arch = "aarch64") && std::env::var_os("WDSR_ISA").is_none() {
        let isa = report["isa"].as_str();
        assert!(isa.is_some_and(|isa| isa.starts_with("neon")), "{report}");
    }
    let parts = report["parts"].as_array().expect("parts");
    let shares: f64 = parts.iter().filter_map(|part| part["share"].as_f64()).sum();
    assert!((shares - 1.0).abs() < 1e-6, "{report}");
    // Both blocks have one name.
    let name = "body.*.body.0 + body.*.body.2";
    let named = parts.iter().filter(|part| part["name"] == name);
    assert_eq!(named.count(), 1, "{report}");
    assert!(onnx.metadata().expect("written").len() > 1000);
}

#[test]
fn measures_a_training_step() {
    let report = report(&["--network", "wdsr-a-4x1", "--train"]);
    assert_eq!(report["work"], "train", "{report}");
    assert_eq!(report["width_px"], 48, "{report}");
    assert!(report["error"].as_f64() < Some(1e-3), "{report}");
}

#[test]
fn refuses_invalid_names_and_sizes() {
    wdsr()
        .args(["bench", "--network", "wdsr-c-32x16"])
        .assert()
        .code(2)
        .stderr(contains("wdsr-c-32x16").and(contains("wdsr-b-32x16")));
    wdsr()
        .args(["bench", "--size", "20"])
        .assert()
        .code(2)
        .stderr(contains("1280x720"));
}
