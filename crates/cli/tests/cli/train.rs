use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use predicates::str::contains;
use wdsr_model::Model;
use wdsr_picture::Colour;

use super::{picture, wdsr, write};

const RECIPE: &str = r#"
[network]
block = "wdsr-b"
features = 8
blocks = 1
expansion = 2
low_rank = 6
norm = "weight"
scale = 2

[training]
updates = 60
batch = 4
patch_px = 16
average_decay = 0.9

[schedule]
kind = "cosine"
learning_rate = 1e-3
warm_up_updates = 5

[validation]
every_updates = 10
pictures = 1
"#;

fn prepare(folder: &Path, recipe: &str) {
    std::fs::write(folder.join("recipe.toml"), recipe).expect("written");
    std::fs::create_dir(folder.join("data")).expect("a folder");
    for (name, size) in [("a", 64), ("b", 80), ("c", 72), ("d", 90)] {
        write(
            &folder.join(format!("data/{name}.png")),
            &picture(size, size - 6, Colour::Rgb),
        );
    }
}

fn train(folder: &Path, out: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("wdsr"));
    command.arg("train").arg(folder.join("recipe.toml"));
    command
        .arg("--data")
        .arg(folder.join("data"))
        .arg("--out")
        .arg(folder.join(out));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Update and loss of each line of a metrics log, which no clock can change.
fn losses(folder: &Path) -> Vec<(u64, f64, f64)> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).expect("a log");
    text.lines()
        .map(|line| {
            let m: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let number = |key: &str| m[key].as_f64().expect("a number");
            (
                m["update"].as_u64().expect("a number"),
                number("loss"),
                number("psnr_db"),
            )
        })
        .collect()
}

#[test]
fn a_killed_training_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    prepare(root, RECIPE);
    let whole = train(root, "whole").arg("-j1").output().expect("it runs");
    assert!(
        whole.status.success(),
        "{}",
        String::from_utf8_lossy(&whole.stderr)
    );

    // Killed again and again, each time once the log has grown, on another count of threads.
    let out = root.join("killed");
    let log = out.join("metrics.jsonl");
    let lines = || std::fs::read_to_string(&log).map_or(0, |text| text.lines().count());
    let mut kills = 0;
    loop {
        let mut command = train(root, "killed");
        command.arg("-j2");
        if out.join("last.checkpoint").exists() {
            command.arg("--resume");
        }
        let mut child = command.spawn().expect("it runs");
        let (before, started) = (lines(), Instant::now());
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break status;
            }
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "the training hangs"
            );
            if kills < 3 && lines() > before {
                child.kill().expect("killed");
                kills += 1;
                break child.wait().expect("a child");
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if status.success() {
            break;
        }
    }
    assert!(kills > 0, "never killed");
    let weights = |run: &str| {
        let model = Model::load(&root.join(run).join("model.safetensors")).expect("a model");
        let convs = model
            .convs()
            .iter()
            .flat_map(|conv| conv.weight.iter().chain(&conv.bias));
        convs.map(|value| value.to_bits()).collect::<Vec<u32>>()
    };
    assert!(
        weights("whole") == weights("killed"),
        "the models differ after {kills} kills"
    );
    assert_eq!(losses(&root.join("whole")), losses(&out));
}

#[test]
fn the_loss_falls_and_the_model_can_be_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    prepare(root, RECIPE);
    assert!(
        train(root, "out")
            .output()
            .expect("it runs")
            .status
            .success()
    );
    let losses = losses(&root.join("out"));
    assert_eq!(losses.len(), 6);
    assert!(losses[5].1 < 0.6 * losses[0].1, "{losses:?}");
    wdsr()
        .args(["upscale", "-m"])
        .arg(root.join("out/best.safetensors"))
        .arg(root.join("data/a.png"))
        .arg("-o")
        .arg(root.join("large.png"))
        .assert()
        .success();
}

#[test]
fn a_loss_that_is_not_finite_stops_the_training_and_keeps_the_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    // The rate explodes after the first checkpoint.
    let recipe = RECIPE
        .replace(
            "kind = \"cosine\"",
            "kind = \"step\"\nmilestones = [12]\nfactor = 1e30",
        )
        .replace("warm_up_updates = 5", "");
    prepare(root, &recipe);
    let run = train(root, "out").output().expect("it runs");
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(1), "{text}");
    assert!(
        text.contains("the loss of update") && text.contains("last.checkpoint"),
        "{text}"
    );
    assert_eq!(
        losses(&root.join("out")).last().map(|line| line.0),
        Some(10)
    );
    let checkpoint = std::fs::read(root.join("out/last.checkpoint")).expect("a checkpoint");
    assert!(String::from_utf8_lossy(&checkpoint[..4000]).contains(r#""updates":"10""#));
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    prepare(root, RECIPE);
    let run = |extra: &[&str]| {
        let mut command = wdsr();
        command
            .arg("train")
            .arg(root.join("recipe.toml"))
            .arg("--out")
            .arg(root.join("out"));
        command.args(extra);
        command.assert()
    };
    let data = root.join("data").display().to_string();
    run(&["--data", &data, "--resume"])
        .code(1)
        .stderr(contains("last.checkpoint"));
    let empty = root.join("empty");
    std::fs::create_dir(&empty).expect("a folder");
    run(&["--data", &empty.display().to_string()])
        .code(1)
        .stderr(contains("empty"));
    std::fs::write(root.join("recipe.toml"), RECIPE.replace("batch", "bacth")).expect("written");
    run(&["--data", &data]).code(1).stderr(contains("bacth"));
    std::fs::write(root.join("recipe.toml"), RECIPE).expect("written");
    run(&["--data", &data]).success();
    run(&["--data", &data]).code(1).stderr(contains("--resume"));
    std::fs::write(root.join("recipe.toml"), RECIPE.replace("= 60", "= 70")).expect("written");
    run(&["--data", &data, "--resume"])
        .code(1)
        .stderr(contains("training.updates"));
}
