//! SIGINT, SIGTERM, SIGHUP and SIGKILL during a batch.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use wdsr_image::Colour;

use super::upscale::names;
use super::{image, program, write};

/// Images that take a second or more each on plain loops.
struct Batch {
    folder: tempfile::TempDir,
}

impl Batch {
    fn new(images: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let batch = Self { folder };
        std::fs::create_dir(batch.path("in")).expect("a folder");
        for i in 0..images {
            let path = batch.path("in").join(format!("{i}.png"));
            write(&path, &image(64, 64, Colour::Rgb));
        }
        batch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the batch by a program such as nohup, and waits until it writes the first result.
    fn start(&self, by: &[&str], isa: &str) -> Child {
        let program = program::path();
        let mut words = by.iter().map(Path::new).chain([&*program]);
        let child = Command::new(words.next().expect("a program"))
            .args(words)
            .env("WDSR_ISA", isa)
            .args(["upscale", "-q", "-j", "1", "-f", "tif", "--report"])
            .args([
                &self.path("report"),
                &self.path("in"),
                Path::new("-o"),
                &self.path("out"),
            ])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it runs");
        while !self.has_temporary_file() {
            std::thread::sleep(Duration::from_millis(2));
        }
        child
    }

    fn has_temporary_file(&self) -> bool {
        let out = self.path("out");
        out.exists() && names(&out).iter().any(|name| name.ends_with(".part"))
    }

    /// The status of each input in the report.
    fn statuses(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("report")).expect("a report");
        let status = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            line["status"].as_str().expect("a status").to_owned()
        };
        text.lines().map(status).collect()
    }
}

fn send(child: &Child, signal: &str) {
    let kill = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(kill.expect("kill").success(), "no such process");
}

#[test]
fn sigterm_and_sighup_drop_the_image_and_leave_no_file() {
    for (signal, code) in [("-TERM", 143), ("-HUP", 129)] {
        let batch = Batch::new(3);
        let mut child = batch.start(&[], "reference");
        send(&child, signal);
        assert_eq!(
            child.wait().expect("it ends").code(),
            Some(code),
            "{signal}"
        );
        assert_eq!(
            names(&batch.path("out")),
            [".wdsr-manifest.jsonl"],
            "{signal}"
        );
        assert_eq!(batch.statuses(), ["not_tried"; 3], "{signal}");
    }
}

#[test]
fn sigint_reports_the_images_that_were_not_tried() {
    let batch = Batch::new(3);
    let mut child = batch.start(&[], "reference");
    send(&child, "-INT");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(batch.statuses(), ["done", "not_tried", "not_tried"]);
}

#[test]
fn a_third_signal_ends_the_program_at_once_without_leftovers() {
    let batch = Batch::new(1);
    let mut child = batch.start(&[], "reference");
    for signal in ["-INT", "-TERM", "-TERM"] {
        send(&child, signal);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(child.wait().expect("it ends").code(), Some(143));
    assert!(!batch.has_temporary_file(), "a file is left");
}

#[test]
fn nohup_keeps_a_batch_running() {
    let batch = Batch::new(1);
    let mut child = batch.start(&["nohup"], "reference");
    send(&child, "-HUP");
    assert!(child.wait().expect("it ends").success(), "it was ended");
    assert_eq!(batch.statuses(), ["done"]);
}

#[test]
fn a_run_removes_what_killed_ones_left_and_nothing_of_running_ones() {
    let batch = Batch::new(1);
    let mut killed = batch.start(&[], "reference");
    send(&killed, "-KILL");
    killed.wait().expect("it ends");
    assert!(batch.has_temporary_file(), "SIGKILL leaves it");
    // Another shard of the same folder, whose file is held.
    let held = batch.path("out/.wdsr-Held99.part");
    std::fs::write(&held, "").expect("written");
    let holder = std::fs::File::open(&held).expect("open");
    holder.try_lock().expect("locked");
    std::fs::write(
        batch.path("in/0.png"),
        std::fs::read(batch.path("in/0.png")).expect("read"),
    )
    .expect("written");
    let run = super::wdsr()
        .args(["upscale", "-q", "-f", "tif"])
        .args([&batch.path("in"), Path::new("-o"), &batch.path("out")])
        .output()
        .expect("it runs");
    assert!(run.status.success(), "{run:?}");
    let expected = [".wdsr-Held99.part", ".wdsr-manifest.jsonl", "0.tif"];
    assert_eq!(names(&batch.path("out")), expected);
}
