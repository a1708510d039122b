use std::path::{Path, PathBuf};

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use wdsr_testing::paths::{built_in_model, checkout};

use super::wdsr;

fn recipe(name: &str) -> PathBuf {
    checkout("recipes").join(name)
}

fn json(file: Option<&Path>) -> serde_json::Value {
    let output = wdsr()
        .args(["info", "--json"])
        .args(file)
        .output()
        .expect("runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn counts_are_as_published_and_the_layers_add_up() {
    for (name, parameters, with_gains, multiply_adds, radius) in [
        (
            "paper-wdsr-a-x2.toml",
            1_187_484,
            1_190_100,
            1_184_868_u64 * 230_400,
            34,
        ),
        ("small-x2.toml", 152_420, 154_468, 150_372_u64 * 230_400, 10),
    ] {
        let info = json(Some(&recipe(name)));
        let number = |key: &str| info[key].as_u64().expect("a number");
        assert_eq!(number("parameters"), parameters, "{name}");
        assert_eq!(number("parameters_with_gains"), with_gains, "{name}");
        assert_eq!(number("multiply_adds_1280x720"), multiply_adds, "{name}");
        assert_eq!(number("receptive_radius_px"), radius, "{name}");
        let layers = info["layers"].as_array().expect("a list");
        for key in ["parameters", "multiply_adds_1280x720"] {
            let of = |layer: &serde_json::Value| layer[key].as_u64().expect("a number");
            assert_eq!(layers.iter().map(of).sum::<u64>(), number(key), "{key}");
        }
    }
}

#[test]
fn describes_model_files_and_the_builtin_model() {
    let built_in = json(None);
    let info = json(Some(&built_in_model("base-x2")));
    assert_eq!(info["layers"], built_in["layers"], "{info}");
    assert_eq!(info["label"], "wdsr-b 32/16 x2", "{info}");
    wdsr()
        .arg("info")
        .assert()
        .success()
        .stdout(contains("299,564"))
        .stdout(contains("68.09 G"))
        .stdout(contains("\nhead.0 "))
        .stdout(contains("\nbody.*.body.3 ").count(1))
        .stdout(contains("\nbody.15.").not());
    wdsr()
        .arg("info")
        .arg(recipe("README.md"))
        .assert()
        .code(1)
        .stderr(contains("README.md"));
}

#[test]
fn tells_the_strength_of_models_that_have_one() {
    let output = |arguments: &[&str]| {
        let output = wdsr().arg("info").args(arguments).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (
            output.status.code(),
            String::from_utf8(output.stdout).expect("text") + &text,
        )
    };
    for (arguments, scale) in [(&["photo"][..], 2), (&["photo", "-s", "1"], 1)] {
        let (code, text) = output(arguments);
        assert_eq!(code, Some(0), "{text}");
        assert!(
            text.starts_with(&format!("photo x{scale} (built in): ")),
            "{text}"
        );
        assert!(
            text.contains("strength (--strength)") && text.contains("0 to 1\n"),
            "{text}"
        );
    }
    let info = json(Some(Path::new("photo")));
    assert_eq!(info["strength"], serde_json::json!([0.0, 1.0]));
    assert_eq!(json(None).get("strength"), None);
    assert_eq!(json(Some(Path::new("small")))["label"], "wdsr-b 32/8 x2");
    let (code, text) = output(&["photo", "-s", "3"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("photo x2 (built in) has scale 2"), "{text}");
}
