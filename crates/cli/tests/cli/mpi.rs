//! `wdsr train` by several processes, which MPI's mpirun starts.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use wdsr_model::{ConvWeights, Model};

use super::program;
use super::train::{RECIPE, losses, prepare};

/// `mpirun -n COUNT wdsr train ...` into the folder OUT. Also as root, on fewer processors than ranks.
fn train(folder: &Path, count: usize, out: &str) -> Command {
    let mut command = Command::new("mpirun");
    command
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
        .env("OMPI_MCA_mpi_yield_when_idle", "1")
        // Runs that end remove files that others share.
        .env("TMPDIR", folder)
        .args(["-n", &count.to_string()])
        .arg(program::path())
        .arg("train")
        .arg(folder.join("recipe.toml"))
        .arg("--data")
        .arg(folder.join("data"))
        .arg("--out")
        .arg(folder.join(out))
        .args(["-j", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The weights that a run ended with.
fn weights(out: &Path) -> Vec<ConvWeights> {
    let model = Model::load(&out.join("model.safetensors")).expect("a model");
    model.convs().to_vec()
}

fn succeed(mut command: Command) -> Output {
    let output = command.output().expect("mpirun runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    output
}

#[test]
#[ignore = "needs mpirun and a program with the feature mpi: .ci/run mpi"]
fn one_two_and_four_processes_train_the_same_model() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path(), RECIPE);
    let mut found = Vec::new();
    for count in [1, 2, 4] {
        let name = format!("out-{count}");
        let output = succeed(train(folder.path(), count, &name));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            text.matches("model: ").count(),
            1,
            "the first rank says it: {text}"
        );
        let out = folder.path().join(name);
        found.push((losses(&out), weights(&out)));
    }
    assert_eq!(found[0].0, found[1].0);
    assert_eq!(found[0].0, found[2].0);
    assert!(found[0].1 == found[1].1, "two processes");
    assert!(found[0].1 == found[2].1, "four processes");
}

#[test]
#[ignore = "needs mpirun and a program with the feature mpi: .ci/run mpi"]
fn a_killed_rank_ends_all_and_one_process_goes_on_to_the_same_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = RECIPE.replace("updates = 60", "updates = 400");
    prepare(folder.path(), &recipe);
    let mut run = train(folder.path(), 3, "killed")
        .spawn()
        .expect("it starts");
    let metrics = folder.path().join("killed/metrics.jsonl");
    let started = Instant::now();
    while fs::read_to_string(&metrics).map_or(0, |text| text.lines().count()) < 3 {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "no validation"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    // The last process of this training, which is not the first rank.
    let processes = Command::new("pgrep")
        .args(["-f", &format!("wdsr train {}", folder.path().display())])
        .output()
        .expect("pgrep runs");
    let processes = String::from_utf8_lossy(&processes.stdout).into_owned();
    let last = processes.lines().last().expect("a process");
    let killed = Command::new("kill").args(["-9", last]).status();
    assert!(killed.expect("kill runs").success());
    let ended = Instant::now();
    let status = run.wait().expect("mpirun ends");
    assert!(!status.success());
    assert!(ended.elapsed() < Duration::from_secs(20), "all end soon");
    let mut resumed = train(folder.path(), 1, "killed");
    resumed.arg("--resume");
    succeed(resumed);
    succeed(train(folder.path(), 2, "whole"));
    let outs = ["killed", "whole"].map(|out| folder.path().join(out));
    assert_eq!(losses(&outs[0]), losses(&outs[1]));
    assert!(weights(&outs[0]) == weights(&outs[1]));
}

#[test]
#[ignore = "needs mpirun and a program with the feature mpi: .ci/run mpi"]
fn an_error_is_told_once() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path(), RECIPE);
    fs::remove_dir_all(folder.path().join("data")).expect("removed");
    let output = train(folder.path(), 3, "out")
        .output()
        .expect("mpirun runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert_eq!(text.matches("error: rank 0: ").count(), 1, "{text}");
    assert_eq!(text.matches("error: rank").count(), 1, "{text}");
    assert!(text.contains("data"), "{text}");
    let output = train(folder.path(), 5, "out")
        .output()
        .expect("mpirun runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("5 processes cannot share a batch of 4 patches"),
        "{text}"
    );
}

#[cfg(not(feature = "mpi"))]
#[test]
fn a_program_without_mpi_refuses_to_be_several_processes() {
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path(), RECIPE);
    super::wdsr()
        .arg("train")
        .arg(folder.path().join("recipe.toml"))
        .args([Path::new("--out"), &folder.path().join("out")])
        .env("PMI_SIZE", "4")
        .assert()
        .code(2)
        .stderr(predicates::str::contains(
            "4 processes were started for one training, but this program was built without MPI",
        ));
    assert!(!folder.path().join("out").exists());
}
