//! Standard output that is closed or full.

use std::fs::OpenOptions;
use std::process::{Output, Stdio};

use wdsr_image::Colour;

use super::{image, program, write};

/// Runs the program with the given standard output.
fn run(arguments: &[&str], stdout: impl Into<Stdio>) -> Output {
    std::process::Command::new(program::path())
        .args(arguments)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .output()
        .expect("the program runs")
}

#[test]
fn commands_end_quietly_if_the_pipe_is_closed_and_fail_if_the_disk_is_full() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a.png"), &image(40, 36, Colour::Rgb));
    let set = folder.path().to_str().expect("UTF-8");
    let network = ["--network", "wdsr-b-4x1", "--size", "8x8", "-j", "1"];
    let bench = [&["bench"], &network[..]].concat();
    for arguments in [
        &["info"][..],
        &["info", "--json"],
        &["completions", "bash"],
        &["eval", "--set", set],
        &["data", "check", "-s", "2", set],
        &bench,
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let closed = run(arguments, writer);
        let text = String::from_utf8_lossy(&closed.stderr);
        assert_eq!(closed.status.code(), Some(0), "{arguments:?}: {text}");
        assert!(!text.contains("error"), "{arguments:?}: {text}");

        let full = OpenOptions::new().write(true).open("/dev/full");
        let full = run(arguments, full.expect("/dev/full"));
        let text = String::from_utf8_lossy(&full.stderr);
        assert_eq!(full.status.code(), Some(4), "{arguments:?}: {text}");
        let expected = "error: standard output: cannot write: No space left on device";
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn the_work_does_not_depend_on_the_reader_of_messages() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("out.onnx");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let input = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/small-x2.safetensors"
    );
    let status = std::process::Command::new(program::path())
        .args(["convert", input])
        .arg(&model)
        .stderr(writer)
        .status()
        .expect("the program runs");
    assert!(status.success(), "{status}");
    assert!(model.is_file(), "the model is not written");
}
