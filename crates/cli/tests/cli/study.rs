use std::path::Path;

use predicates::str::contains;
use wdsr_image::Colour;
use wdsr_testing::paths::built_in_model;

use super::{image, wdsr, write};

pub(crate) fn study(root: &Path, extra: &[&str]) -> assert_cmd::Command {
    let mut command = wdsr();
    let out = root.join("out");
    command
        .args(["study"])
        .args(extra)
        .arg("--data")
        .arg(root.join("data"))
        .arg("--out")
        .arg(&out)
        .args(["--batch", "2", "--patch", "12", "--validation-images", "1"]);
    command
}

pub(crate) fn prepare(root: &Path) {
    std::fs::create_dir(root.join("data")).expect("a folder");
    for (name, size) in [("a", 48), ("b", 56)] {
        let path = root.join(format!("data/{name}.png"));
        write(&path, &image(size, size - 6, Colour::Rgb));
    }
}

#[test]
fn resumes_a_study_and_reports() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    prepare(root);
    let depth = ["depth", "--blocks", "1", "--updates", "4", "--seeds", "2"];
    let first = study(root, &depth).output().expect("runs");
    let text = String::from_utf8_lossy(&first.stdout).into_owned();
    let error = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(first.status.success(), "{error}");
    assert!(
        text.contains("run 8 of 8: edsr-1-1e-3, seed 2: starting"),
        "{text}"
    );
    // Four updates do not reach bicubic interpolation.
    assert!(
        text.contains("of 5 statements 0 held") && text.contains("5 have no verdict (untrained"),
        "{text}"
    );
    let report = |name: &str| std::fs::read_to_string(root.join("out").join(name)).expect("read");
    let json: serde_json::Value = serde_json::from_str(&report("report.json")).expect("JSON");
    let outcomes = &json["configurations"][1]["outcomes_by_seed"];
    assert!(
        outcomes[1]["finished"]["psnr_db"].as_f64().is_some(),
        "{json}"
    );
    assert_eq!(json["protocol"], "div2k");
    assert!(report("report.html").contains("<svg"));

    // A removed run is trained again, to the same PSNR; no other is.
    let before = report("report.json");
    std::fs::remove_dir_all(root.join("out/runs/wdsr-a-1-seed2")).expect("removed");
    study(root, &depth)
        .assert()
        .success()
        .stdout(contains("run 1 of 8: edsr-1, seed 1: finished"))
        .stdout(contains("run 6 of 8: wdsr-a-1, seed 2: starting"));
    let psnr = |text: &str| {
        let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
        json["configurations"][1]["mean_psnr_db"].clone()
    };
    assert_eq!(psnr(&before), psnr(&report("report.json")));

    // Other settings in the same folder are refused.
    study(
        root,
        &["depth", "--blocks", "1", "--updates", "5", "--seeds", "2"],
    )
    .assert()
    .code(1)
    .stderr(contains("other settings"));
    // So are another table and another dataset.
    study(root, &["norm", "--blocks", "1", "--updates", "4"])
        .assert()
        .code(1)
        .stderr(contains(
            "expected a report of study norm, found study depth",
        ));
    write(&root.join("data/c.png"), &image(60, 50, Colour::Rgb));
    study(root, &depth)
        .assert()
        .code(1)
        .stderr(contains("weights) differs from the run's"));
}

#[test]
fn checks_the_teacher_before_training() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    prepare(root);
    let teacher = root.join("teacher.safetensors");
    let run = |seeds: &str| {
        let teacher = teacher.display().to_string();
        let points = ["gains", "--blocks", "1", "--updates", "2"];
        let more = ["--seeds", seeds, "--teacher", &teacher];
        study(root, &[&points[..], &more[..]].concat()).assert()
    };
    run("1").code(1).stderr(contains("teacher.safetensors"));
    std::fs::copy(built_in_model("small-x3"), &teacher).expect("copied");
    run("1").code(1).stderr(contains("found one of scale 3"));
    assert!(!root.join("out/runs").exists(), "a run was started");
    std::fs::copy(built_in_model("small-x2"), &teacher).expect("copied");
    run("1").success();
    std::fs::copy(built_in_model("base-x2"), &teacher).expect("copied");
    run("2")
        .code(1)
        .stderr(contains("the teacher differs from the run's"));
}

#[test]
fn trains_every_table() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, options, runs) in [
        ("norm", vec!["--blocks", "1"], "run 6 of 6"),
        (
            "width",
            vec!["--blocks", "1", "--expansions", "1,4"],
            "run 4 of 4",
        ),
        ("gains", vec!["--blocks", "1"], "run 6 of 6"),
    ] {
        let root = folder.path().join(name);
        std::fs::create_dir(&root).expect("a folder");
        prepare(&root);
        let budget = ["--updates", "2", "--seeds", "1"];
        study(&root, &[&[name], &options[..], &budget].concat())
            .assert()
            .success()
            .stdout(contains(runs));
        let report = std::fs::read_to_string(root.join("out/report.md")).expect("a report");
        assert!(
            report.contains("one seed, so differences cannot"),
            "{report}"
        );
    }
}

#[test]
fn refuses_invalid_options() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path());
    for (arguments, expected) in [
        (vec!["depth", "--blocks", "2"], "2 blocks"),
        (vec!["norm", "--blocks", "1,3"], "expected one"),
        (vec!["width", "--expansions", "12"], "expansion 12"),
        (vec!["depth", "--seeds", "0"], "0 seeds"),
        (
            vec!["norm", "--teacher", "a.safetensors"],
            "teacher has no effect on study norm, only on gains",
        ),
        (
            vec!["depth", "--expansions", "4"],
            "expansions has no effect on study depth, only on width",
        ),
    ] {
        study(folder.path(), &arguments)
            .assert()
            .code(2)
            .stderr(contains(expected));
    }
    study(folder.path(), &["deep"]).assert().code(2);
}
