//! The job scripts of `deploy/`, with the variables that a scheduler sets.

use std::process::Command;

use wdsr_image::Colour;
use wdsr_testing::{paths, program};

use super::{image, wdsr, write};

#[test]
fn a_slurm_array_upscales_every_image_and_every_row_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let scans = folder.path().join("scans");
    std::fs::create_dir_all(scans.join("sub")).expect("a folder");
    for number in 0..9 {
        let name = format!("{}{number}.png", if number % 2 == 0 { "sub/" } else { "" });
        write(&scans.join(name), &image(6 + number, 5, Colour::Rgb));
    }
    let task_of = |source: &str, target: &str, id: u32, first: u32, count: u32| {
        Command::new("bash")
            .arg(paths::checkout("deploy/slurm.sbatch"))
            .args([source, target, "-m", "small", "-q"])
            .current_dir(folder.path())
            .env("WDSR", program::path())
            .env("SLURM_ARRAY_TASK_ID", id.to_string())
            .env("SLURM_ARRAY_TASK_COUNT", count.to_string())
            .env("SLURM_ARRAY_TASK_MIN", first.to_string())
            .env("SLURM_ARRAY_TASK_MAX", (first + count - 1).to_string())
            .env("SLURM_CPUS_PER_TASK", "1")
            .output()
            .expect("bash runs")
    };
    let task = |id, first, count| task_of("scans", "large", id, first, count);
    let report = |id: u32| {
        let path = folder.path().join(format!("large/report-{id}.jsonl"));
        std::fs::read_to_string(path).expect("a report")
    };
    // Counted from 0 and, the second time, from 1: the same shards, so nothing is done again.
    for (first, status) in [(0, "\"status\":\"done\""), (1, "\"status\":\"up_to_date\"")] {
        let mut done = 0;
        for id in first..first + 3 {
            let output = task(id, first, 3);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
            done += report(id).matches(status).count();
        }
        assert_eq!(done, 9, "{status}");
    }
    // A file is one image in bands.
    let whole = ["upscale", "scans/1.png", "-m", "small", "-o", "whole.tif"];
    wdsr()
        .args(whole)
        .current_dir(folder.path())
        .assert()
        .success();
    for id in 1..=3 {
        let output = task_of("scans/1.png", "bands", id, 1, 3);
        assert!(output.status.success(), "{output:?}");
    }
    let bands = (1..=3).map(|id| format!("bands/1-rows-{id}-of-3.tif"));
    let mut join = wdsr();
    join.arg("join").args(bands).args(["-o", "joined.tif"]);
    join.current_dir(folder.path()).assert().success();
    let [whole, joined] =
        ["whole.tif", "joined.tif"].map(|name| std::fs::read(folder.path().join(name)));
    assert!(whole.expect("read") == joined.expect("read"));
    let sparse = task(5, 5, 3);
    assert_eq!(sparse.status.code(), Some(2));
    let said = String::from_utf8_lossy(&sparse.stderr).into_owned();
    assert!(said.contains("found 3 tasks from 5 to 7"), "{said}");
}
