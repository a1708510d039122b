use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use predicates::str::contains;
use wdsr_image::Colour;
use wdsr_model::Model;

use super::{image, program, wdsr, write};

pub(super) const RECIPE: &str = r#"
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
images = 1
"#;

pub(super) fn prepare(folder: &Path, recipe: &str) {
    std::fs::write(folder.join("recipe.toml"), recipe).expect("written");
    std::fs::create_dir(folder.join("data")).expect("a folder");
    for (name, size) in [("a", 64), ("b", 80), ("c", 72), ("d", 90)] {
        write(
            &folder.join(format!("data/{name}.png")),
            &image(size, size - 6, Colour::Rgb),
        );
    }
}

fn train(folder: &Path, out: &str) -> Command {
    let mut command = Command::new(program::path());
    command.arg("train").arg(folder.join("recipe.toml"));
    command
        .arg("--data")
        .arg(folder.join("data"))
        .arg("--out")
        .arg(folder.join(out));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Update, loss and PSNR of each line of a metrics log: what does not depend on time.
pub(super) fn losses(folder: &Path) -> Vec<(u64, f64, f64)> {
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
fn resumes_a_killed_training_to_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    prepare(root, RECIPE);
    let whole = train(root, "whole").arg("-j1").output().expect("it runs");
    assert!(
        whole.status.success(),
        "{}",
        String::from_utf8_lossy(&whole.stderr)
    );

    // Killed three times, each time after the log has grown, with another number of threads.
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

/// The weights of a run's model.
fn weights(folder: &Path, name: &str) -> Vec<wdsr_model::ConvWeights> {
    Model::load(&folder.join(name))
        .expect("a model")
        .convs()
        .to_vec()
}

#[test]
fn a_time_limit_saves_and_a_cool_down_ends_a_run_that_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let recipe = RECIPE
        .replace("kind = \"cosine\"", "kind = \"constant\"")
        .replace("updates = 60", "updates = 40");
    prepare(root, &recipe);
    let run = |out: &str, arguments: &[&str]| {
        let run = train(root, out).args(arguments).output().expect("it runs");
        let text = [run.stdout, run.stderr].map(|t| String::from_utf8_lossy(&t).into_owned());
        assert!(run.status.success(), "{arguments:?}: {text:?}");
        text.concat()
    };
    // A limit that is over after each update.
    let text = run("parts", &["--for", "0.001s"]);
    assert!(
        text.contains("stopped after update 1; resume from"),
        "{text}"
    );
    let text = run("parts", &["--for", "2h", "--resume"]);
    assert!(text.contains("model: "), "{text}");
    run("whole", &[]);
    let last = "model.safetensors";
    assert_eq!(
        weights(&root.join("parts"), last),
        weights(&root.join("whole"), last)
    );

    // From update 40 to 50; then from 40 on again, to 60 with a cool-down from 55 on.
    run("parts", &["--resume", "--cool-down", "10"]);
    let text = run(
        "parts",
        &["--resume", "--updates", "60", "--cool-down", "5"],
    );
    assert!(text.contains("update 60/60"), "{text}");
    run(
        "whole",
        &["--resume", "--updates", "60", "--cool-down", "5"],
    );
    let [parts, whole] = ["parts", "whole"].map(|out| root.join(out));
    let last = "cooled-60.safetensors";
    assert_eq!(weights(&parts, last), weights(&whole, last));

    let average = root.join("average.safetensors");
    let mut command = wdsr();
    command
        .arg("average")
        .arg(parts.join("cooled-50.safetensors"))
        .arg(parts.join(last));
    command.arg("-o").arg(&average).assert().success();
    let [a, b, mean] = [
        weights(&parts, "cooled-50.safetensors"),
        weights(&parts, last),
        weights(root, "average.safetensors"),
    ]
    .map(|convs| convs[0].weight[0]);
    assert!(
        (mean - (a + b) / 2.0).abs() < 1e-7 && a != b,
        "{mean} of {a} and {b}"
    );
    // The average of a file with itself would replace it.
    let mut command = wdsr();
    command
        .arg("average")
        .args([&average, &average])
        .arg("-o")
        .arg(&average);
    command
        .assert()
        .code(2)
        .stderr(contains("average.safetensors"));
}

#[test]
#[cfg(unix)]
fn signals_save_a_checkpoint_at_once_and_resuming_gives_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    // The validation comes too late for the signals.
    let recipe = RECIPE
        .replace("updates = 60", "updates = 2000")
        .replace("every_updates = 10", "every_updates = 1000")
        .replace("features = 8", "features = 16");
    prepare(root, &recipe);
    let whole = train(root, "whole").arg("-j1").output().expect("it runs");
    assert!(whole.status.success(), "{whole:?}");
    let checkpoint = root.join("stopped/last.checkpoint");
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let before = std::fs::read(&checkpoint).ok();
        let mut command = train(root, "stopped");
        command.arg("-j1");
        if before.is_some() {
            command.arg("--resume");
        }
        let mut child = command.spawn().expect("it runs");
        // The listener has started when the dataset is summed up.
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        lines
            .find(|line| line.as_ref().is_ok_and(|line| line.contains("megapixels")))
            .expect("a line")
            .expect("UTF-8");
        std::thread::sleep(Duration::from_millis(100));
        let kill = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(kill.expect("kill").success(), "{signal}: it has ended");
        let run = child.wait_with_output().expect("it ends");
        drop(lines);
        let text = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(code), "{signal}: {text}");
        assert!(text.contains("resume from"), "{signal}: {text}");
        let after = std::fs::read(&checkpoint).expect("a checkpoint");
        assert_ne!(before, Some(after), "{signal}: nothing is saved");
    }
    let last = train(root, "stopped")
        .arg("--resume")
        .output()
        .expect("it runs");
    assert!(last.status.success(), "{last:?}");
    assert_eq!(losses(&root.join("stopped")), losses(&root.join("whole")));
    let model =
        |out: &str| Model::load(&root.join(out).join("model.safetensors")).expect("a model");
    assert_eq!(model("stopped").convs(), model("whole").convs());
}

#[test]
fn trains_a_usable_model() {
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
    // The report is self-contained, with plots and crops.
    let report = std::fs::read_to_string(root.join("out/report.html")).expect("a report");
    assert_eq!(report.matches("<svg").count(), 4);
    assert_eq!(report.matches("data:image/png;base64,").count(), 4);
    assert!(!report.contains("http") && report.contains("60 of 60"));
    let events = std::fs::read_dir(root.join("out")).expect("a folder");
    let events: Vec<_> = events
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().contains("tfevents"))
        .collect();
    assert_eq!(events.len(), 1, "{events:?}");
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
fn stops_when_the_loss_is_never_finite_and_keeps_the_checkpoint() {
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
        text.contains("the loss of update")
            && text.contains("after 3 rollbacks")
            && text.contains("last.checkpoint"),
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
fn rolls_back_and_finishes_with_a_lower_rate() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    // The rate explodes after the first checkpoint, and a rollback makes up for it.
    let recipe = RECIPE
        .replace(
            "kind = \"cosine\"",
            "kind = \"step\"\nmilestones = [12]\nfactor = 1e30",
        )
        .replace("warm_up_updates = 5", "")
        .replace("[schedule]", "rollback_factor = 1e-30\n[schedule]");
    prepare(root, &recipe);
    let run = train(root, "out").output().expect("it runs");
    let text = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    assert!(run.status.success(), "{text}");
    assert!(
        text.contains("continuing from update 10 with 0.000000000000000000000000000001 times"),
        "{text}"
    );
    let updates: Vec<u64> = losses(&root.join("out")).iter().map(|l| l.0).collect();
    assert_eq!(updates, [10, 20, 30, 40, 50, 60]);
    let checkpoint = std::fs::read(root.join("out/last.checkpoint")).expect("a checkpoint");
    assert!(String::from_utf8_lossy(&checkpoint[..4000]).contains(r#""rollbacks":"1""#));
}

#[test]
#[cfg(unix)]
fn keeps_the_last_checkpoint_when_the_disk_is_full() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    prepare(root, RECIPE);
    let whole = train(root, "whole").output().expect("it runs");
    assert!(whole.status.success(), "the training without a limit");
    let first = RECIPE.replace("updates = 60", "updates = 60 # again");
    std::fs::write(root.join("recipe.toml"), first).expect("written");
    // With a limit on the size of files the log fits and a checkpoint does not. The first leaves no
    // checkpoint, a later one the one before.
    let out = root.join("out");
    let limited = |kib: u64, resume: &str| {
        let command = train(root, "out");
        let arguments = command.get_args().map(OsStr::to_owned);
        let arguments = arguments.chain(resume.split_whitespace().map(Into::into));
        program::under_limits(&format!("trap '' XFSZ; ulimit -f {kib}"), arguments)
    };
    let (code, text) = limited(4, "");
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("out") && text.contains("write"), "{text}");
    let (code, text) = limited(4, "--image-memory 1");
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("cannot keep the decoded images"), "{text}");
    assert!(!out.join("last.checkpoint").exists());
    // A training that is killed after 30 updates and resumed on a full disk.
    std::fs::remove_dir_all(&out).expect("removed");
    let mut child = train(root, "out").spawn().expect("it runs");
    let log = out.join("metrics.jsonl");
    while std::fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < 3 {
        if child.try_wait().expect("a child").is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    child.wait().expect("a child");
    let before = std::fs::read(out.join("last.checkpoint")).expect("a checkpoint");
    let (code, text) = limited(4, "--resume");
    if code == Some(0) {
        // Killed too late: the training was finished.
        assert_eq!(losses(&out), losses(&root.join("whole")));
        return;
    }
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("resume from") && text.contains("last.checkpoint with --resume"),
        "{text}"
    );
    let after = std::fs::read(out.join("last.checkpoint")).expect("a checkpoint");
    assert!(before == after, "the checkpoint has changed");
    let leftovers = std::fs::read_dir(&out).expect("a folder").filter(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        name.to_string_lossy().ends_with(".part")
    });
    assert_eq!(leftovers.count(), 0, "half-written files");
    assert!(
        train(root, "out")
            .arg("--resume")
            .output()
            .expect("it runs")
            .status
            .success()
    );
    assert_eq!(losses(&out), losses(&root.join("whole")));
}

#[test]
fn trains_to_the_same_bits_with_images_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    prepare(root, RECIPE);
    let run = |out: &str, arguments: &[&str]| {
        let mut command = train(root, out);
        let run = command.arg("--image-memory").args(arguments).output();
        let run = run.expect("it runs");
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success(), "{text}");
        text
    };
    let memory = run("memory", &["100M"]);
    assert!(!memory.contains("temporary file"), "{memory}");
    let file = run("file", &["1", "-v"]);
    assert!(file.contains("temporary file"), "{file}");
    // The recipe is printed on request only; that a quarter of the images is not trained on, always.
    assert!(!memory.contains("average_decay"), "{memory}");
    assert!(file.contains("average_decay = 0.9\n"), "{file}");
    assert!(
        memory.contains("1 of 4 images are kept for validation"),
        "{memory}"
    );
    assert_eq!(losses(&root.join("memory")), losses(&root.join("file")));
    // The temporary file has no name, so it is not left behind.
    let names = |out: &str| {
        let entries = std::fs::read_dir(root.join(out)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        // Names of event files contain the time.
        let names = names.filter(|name| !name.to_string_lossy().contains("tfevents"));
        names.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names("memory"), names("file"));
}

#[test]
fn starts_from_a_model_of_another_scale_or_depth() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    prepare(root, RECIPE);
    let run = train(root, "x2").output().expect("it runs");
    assert!(run.status.success());
    let from = root.join("x2/model.safetensors");
    let further = |recipe: &str, out: &str, extra: &[&str]| {
        std::fs::write(root.join("recipe.toml"), recipe).expect("written");
        let mut command = train(root, out);
        let run = command.arg("--from").arg(&from).args(extra).output();
        let run = run.expect("it runs");
        let error = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{error}");
        String::from_utf8_lossy(&run.stdout).into_owned()
    };
    let text = further(&RECIPE.replace("scale = 2", "scale = 3"), "x3", &[]);
    assert!(
        text.contains("copied head.0, body.0; random: tail.0, skip.0"),
        "{text}"
    );
    let deeper = RECIPE.replace("blocks = 1", "blocks = 3");
    let text = further(&deeper, "deeper", &["--insert-blocks"]);
    assert!(
        text.contains("inserted as identity: body.1, body.2"),
        "{text}"
    );
    // Without a [network] table the network is the model's; a tiny rate keeps its weights.
    let fine_tune = "[training]\nupdates = 10\nbatch = 4\npatch_px = 16\n[schedule]\n\
                     kind = \"constant\"\nlearning_rate = 1e-9\n[validation]\nimages = 1";
    further(fine_tune, "further", &[]);
    // It is resumed without --from.
    let again = train(root, "further").arg("--resume").output();
    let again = again.expect("it runs");
    let error = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.success(), "{error}");
    let psnr = |out: &str| losses(&root.join(out)).last().expect("a line").2;
    assert!(
        (psnr("further") - psnr("x2")).abs() < 1e-3,
        "{} and {}",
        psnr("further"),
        psnr("x2")
    );
    // Several folders with weights, and one for validation, in the recipe itself.
    let own = format!(
        "{RECIPE}\n[data]\nfolders = [{{ path = \"data\", weight = 1 }}, {{ path = \"more\", \
         weight = 3 }}]\nvalidation = \"valid\"\n"
    );
    std::fs::write(root.join("recipe.toml"), own).expect("written");
    for (sub, name) in [("more", "e"), ("valid", "f")] {
        std::fs::create_dir(root.join(sub)).expect("a folder");
        let path = root.join(format!("{sub}/{name}.png"));
        write(&path, &image(60, 70, Colour::Rgb));
    }
    wdsr()
        .arg("train")
        .arg(root.join("recipe.toml"))
        .arg("--out")
        .arg(root.join("mixed"))
        .assert()
        .success()
        .stdout(contains("5 images"))
        .stdout(contains("1 for validation"));
    // A checkpoint belongs to its dataset.
    std::fs::remove_file(root.join("data/b.png")).expect("removed");
    wdsr()
        .arg("train")
        .arg(root.join("recipe.toml"))
        .arg("--out")
        .arg(root.join("mixed"))
        .arg("--resume")
        .assert()
        .code(1)
        .stderr(contains(
            "the dataset (image names, sizes or weights) differs",
        ));
}

#[test]
fn distils_a_teacher() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    prepare(root, RECIPE);
    assert!(
        train(root, "first")
            .output()
            .expect("it runs")
            .status
            .success()
    );
    // The teacher is the initial model: no loss except rounding.
    let taught = |weight: f64, scale: usize| {
        format!(
            "{}\n[start]\nfrom = \"first/model.safetensors\"\n[teacher]\n\
             model = \"first/model.safetensors\"\nweight = {weight}\n",
            RECIPE
                .replace("learning_rate = 1e-3", "learning_rate = 1e-9")
                .replace("scale = 2", &format!("scale = {scale}"))
        )
    };
    let mut first_loss = |weight: f64| {
        std::fs::write(root.join("recipe.toml"), taught(weight, 2)).expect("written");
        let out = format!("taught-{weight}");
        let run = train(root, &out).output().expect("it runs");
        assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        );
        losses(&root.join(out))[0].1
    };
    let [none, half, all] = [0.0, 0.5, 1.0].map(&mut first_loss);
    assert!(
        all < 1e-5 && none > 1e-3,
        "loss {all} against the teacher, {none} against the images"
    );
    assert!(
        (half - none / 2.0).abs() < 1e-5,
        "{half}, expected half of {none}"
    );
    std::fs::write(root.join("recipe.toml"), taught(0.5, 3)).expect("written");
    let run = train(root, "x3").output().expect("it runs");
    let error = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(1));
    assert!(error.contains("expected a teacher of scale 3"), "{error}");
}

#[test]
fn branches_are_merged_in_the_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let recipe = RECIPE.replace(
        "[training]",
        "[training]\nbranches = true\nleast_detail = 0.5",
    );
    prepare(
        root,
        &format!("{recipe}\n[start]\ninitialization = \"reloaded\"\n"),
    );
    assert!(
        train(root, "out")
            .output()
            .expect("it runs")
            .status
            .success()
    );
    let model = Model::load(&root.join("out/model.safetensors")).expect("a model");
    assert_eq!(
        model.network().parameters(),
        model
            .convs()
            .iter()
            .map(|c| c.weight.len() + c.bias.len())
            .sum::<usize>()
    );
    let log = losses(&root.join("out"));
    let (first, last) = (log[0], log[log.len() - 1]);
    assert!(
        last.1 < first.1,
        "loss {} at the end, {} at first",
        last.1,
        first.1
    );
    // The checkpoint has the branches and can be resumed.
    let again = train(root, "out")
        .arg("--resume")
        .output()
        .expect("it runs");
    assert!(
        again.status.success(),
        "{}",
        String::from_utf8_lossy(&again.stderr)
    );
}

#[test]
fn refuses_invalid_recipes_datasets_and_folders() {
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
    run(&["--data", &data])
        .code(1)
        .stderr(contains("recipe.toml: line 13: unknown key `bacth`"))
        .stderr(contains("did you mean `batch`?"));
    for (from, to, expected) in [
        ("batch = 4", "batch = 4000000000000", "pixels an update"),
        (
            "[training]",
            "[start]\ninsert_blocks = true\n[training]",
            "start.insert_blocks has no effect without start.from",
        ),
    ] {
        std::fs::write(root.join("recipe.toml"), RECIPE.replace(from, to)).expect("written");
        run(&["--data", &data]).code(1).stderr(contains(expected));
    }
    std::fs::write(root.join("recipe.toml"), RECIPE).expect("written");
    run(&["--data", &data, "--insert-blocks"])
        .code(2)
        .stderr(contains("--from MODEL"));
    // An image too small for validation is refused before the training.
    let tiny = root.join("tiny");
    std::fs::create_dir(&tiny).expect("a folder");
    write(&tiny.join("tiny.png"), &image(4, 40, Colour::Rgb));
    run(&["--data", &data, "--validation", &tiny.display().to_string()])
        .code(1)
        .stderr(contains(
            "tiny.png: 4 x 40 pixels to validate on, expected at least 5",
        ));
    let large_patch = RECIPE.replace("patch_px = 16", "patch_px = 60");
    std::fs::write(root.join("recipe.toml"), large_patch).expect("written");
    run(&["--data", &data])
        .code(1)
        .stderr(contains("at least 60 low-resolution pixels"));
    std::fs::write(root.join("recipe.toml"), RECIPE).expect("written");
    run(&[]).code(2).stderr(contains("--data"));
    let broken = root.join("broken");
    std::fs::create_dir(&broken).expect("a folder");
    std::fs::copy(root.join("data/a.png"), broken.join("whole.png")).expect("copied");
    let bytes = std::fs::read(root.join("data/a.png")).expect("bytes");
    std::fs::write(broken.join("half.png"), &bytes[..bytes.len() / 2]).expect("written");
    run(&["--data", &broken.display().to_string()])
        .code(1)
        .stderr(contains("half.png"));
    let pairs = root.join("pairs");
    for (sub, size) in [("HR", 64), ("LR_bicubic/X2", 31)] {
        std::fs::create_dir_all(pairs.join(sub)).expect("a folder");
        let path = pairs.join(sub).join("a.png");
        write(&path, &image(size, size, Colour::Rgb));
    }
    let no_validation = RECIPE.replace("images = 1", "images = 0");
    std::fs::write(root.join("recipe.toml"), no_validation).expect("written");
    run(&["--data", &pairs.display().to_string()])
        .code(1)
        .stderr(contains("31 x 31 pixels, expected 32 x 32"));
    std::fs::write(root.join("recipe.toml"), RECIPE).expect("written");
    run(&["--data", &data]).success();
    run(&["--data", &data]).code(1).stderr(contains("--resume"));
    std::fs::write(root.join("recipe.toml"), RECIPE.replace("= 60", "= 70")).expect("written");
    run(&["--data", &data, "--resume"])
        .code(1)
        .stderr(contains("training.updates"));
    let other_track = format!("{RECIPE}\n[data]\ntrack = \"wild\"");
    std::fs::write(root.join("recipe.toml"), other_track).expect("written");
    run(&["--data", &data, "--resume"])
        .code(1)
        .stderr(contains("data.track"));
}

/// The paths in it are absolute.
#[test]
fn written_recipe_can_be_trained_from_another_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    prepare(root, RECIPE);
    let first = ["train", "recipe.toml", "--data", "data", "--out", "out"];
    wdsr().current_dir(root).args(first).assert().success();
    let again = ["train", "../out/recipe.toml", "--out", "again"];
    wdsr()
        .current_dir(root.join("data"))
        .args(again)
        .assert()
        .success();
    assert_eq!(losses(&root.join("data/again")), losses(&root.join("out")));
    // A run that is resumed may read the recipe that it writes; a new one may not.
    let resumed = ["train", "out/recipe.toml", "--out", "out", "--resume"];
    wdsr().current_dir(root).args(resumed).assert().success();
    wdsr()
        .current_dir(root)
        .args(&resumed[..4])
        .assert()
        .code(2);
}

#[test]
fn continues_when_its_output_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    prepare(root, RECIPE);
    let mut child = train(root, "out").spawn().expect("it runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    assert_eq!(losses(&root.join("out")).len(), 6);
}

#[test]
fn upscale_refuses_a_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    prepare(root, &RECIPE.replace("updates = 60", "updates = 10"));
    assert!(
        train(root, "out")
            .output()
            .expect("it runs")
            .status
            .success()
    );
    wdsr()
        .arg("upscale")
        .arg(root.join("data/a.png"))
        .arg("-m")
        .arg(root.join("out/last.checkpoint"))
        .arg("-o")
        .arg(root.join("a.png"))
        .assert()
        .code(1)
        .stderr(contains("model.safetensors or best.safetensors beside it"));
}

/// Two updates on small images, with the command in the recipe's comment.
#[test]
fn recipes_of_released_models_can_be_trained() {
    let recipes = wdsr_testing::paths::checkout("recipes");
    let small = [
        ("updates = ", "updates = 2"),
        ("batch = ", "batch = 2"),
        ("patch_px = ", "patch_px = 16"),
        ("warm_up_updates = ", "warm_up_updates = 1"),
        ("every_updates = ", "every_updates = 1"),
        ("images = ", "images = 1"),
    ];
    let mut run = 0;
    for entry in std::fs::read_dir(&recipes).expect("recipes/") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if !name.starts_with("small-") && !name.starts_with("base-") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a recipe");
        let command = format!("#   wdsr train recipes/{name}.toml --data runs/data --out runs/");
        assert!(text.contains(&command), "{name}: no line {command:?}");
        let shortened: Vec<String> = text
            .lines()
            .map(|line| {
                let short = small.iter().find(|(key, _)| line.starts_with(key));
                let line = short.map_or(line, |(_, short)| short);
                line.replace("../models/", &format!("{}/../models/", recipes.display()))
            })
            .collect();
        let folder = tempfile::tempdir().expect("a folder");
        prepare(folder.path(), &shortened.join("\n"));
        let output = train(folder.path(), "out").output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {said}");
        let updates: Vec<u64> = losses(&folder.path().join("out"))
            .iter()
            .map(|l| l.0)
            .collect();
        assert_eq!(updates, [1, 2], "{name}");
        let model = Model::load(&folder.path().join("out/model.safetensors")).expect("a model");
        let scale = name
            .rsplit_once("-x")
            .and_then(|(_, scale)| scale.parse().ok());
        assert_eq!(Some(model.config().scale), scale, "{name}");
        run += 1;
    }
    assert!(run >= 4, "{run} recipes of released models");
}

/// Two updates of a small network, with the command in the recipe's comment.
#[test]
fn recipes_of_ntire_2018_can_be_trained() {
    let recipes = wdsr_testing::paths::checkout("recipes");
    let small = [
        ("features = ", "features = 8"),
        ("blocks = ", "blocks = 1"),
        ("updates = ", "updates = 2\nbatch = 2"),
        ("patch_px = ", "patch_px = 16"),
        ("milestones = ", "milestones = [1]"),
        (
            "protocol = ",
            "protocol = \"div2k\"\nevery_updates = 1\nimages = 1",
        ),
    ];
    for name in ["mild", "difficult", "wild-x4", "x8"] {
        let name = format!("ntire2018-{name}");
        let path = recipes.join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&path).expect("a recipe");
        let command = format!("#   wdsr train recipes/{name}.toml --data ");
        assert!(text.contains(&command), "{name}: no line {command:?}");
        let shortened: Vec<&str> = text
            .lines()
            .map(|line| {
                let short = small.iter().find(|(key, _)| line.starts_with(key));
                short.map_or(line, |(_, short)| short)
            })
            .collect();
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        std::fs::write(root.join("recipe.toml"), shortened.join("\n")).expect("written");
        std::fs::create_dir(root.join("data")).expect("a folder");
        for (at, size) in [160, 176, 168].into_iter().enumerate() {
            let path = root.join(format!("data/{at}.png"));
            write(&path, &image(size, size - 8, Colour::Rgb));
        }
        let run = |out: &str, threads: &str| {
            let output = train(root, out)
                .args(["-j", threads])
                .output()
                .expect("it runs");
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{name}: {text}");
            losses(&root.join(out))
        };
        let first = run("first", "1");
        assert_eq!(first.len(), 2, "{name}");
        assert_eq!(first, run("again", "2"), "{name}");
    }
}
