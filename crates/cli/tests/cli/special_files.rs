//! Devices, named pipes and links as outputs: written to or refused, never replaced.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::Command;

use predicates::str::contains;
use wdsr_image::Colour;

use super::{image, wdsr, write};

fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().expect("mkfifo");
    assert!(made.success(), "mkfifo {}", path.display());
}

fn is_fifo(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_fifo())
}

#[test]
fn an_image_is_written_into_a_pipe_or_device() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    write(&path("in.png"), &image(8, 6, Colour::Rgb));
    let upscale = |output: &Path| {
        let mut command = wdsr();
        command
            .arg("upscale")
            .args([&path("in.png"), Path::new("-o"), output]);
        command
    };
    upscale(&path("file.png")).assert().success();
    let expected = fs::read(path("file.png")).expect("read");
    make_fifo(&path("pipe.png"));
    symlink("pipe.png", path("link.png")).expect("a link");
    for name in ["pipe.png", "link.png"] {
        let reader = std::thread::spawn({
            let pipe = path("pipe.png");
            move || {
                let mut bytes = Vec::new();
                File::open(pipe)
                    .expect("open")
                    .read_to_end(&mut bytes)
                    .expect("read");
                bytes
            }
        });
        upscale(&path(name)).assert().success();
        assert!(
            reader.join().expect("joined") == expected,
            "{name}: other bytes"
        );
        assert!(is_fifo(&path("pipe.png")), "{name}: the pipe is replaced");
    }
    upscale(Path::new("/dev/null")).assert().success();
    upscale(Path::new("/dev/full")).assert().code(4);
    for device in ["/dev/null", "/dev/full"] {
        let device = fs::metadata(device).expect("a device").file_type();
        assert!(device.is_char_device(), "it is replaced");
    }
}

#[test]
fn raw_video_streams_into_a_pipe() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("video");
    make_fifo(&pipe);
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).expect("read").len()
    });
    wdsr()
        .args(["upscale", "-i", "-", "--rawvideo", "4x3:rgb24", "-o"])
        .arg(&pipe)
        .write_stdin(vec![9; 2 * 36])
        .assert()
        .success();
    assert_eq!(reader.join().expect("joined"), 2 * 4 * 36);
    assert!(is_fifo(&pipe), "the pipe is replaced");
}

#[test]
fn other_outputs_are_refused_where_a_pipe_stands() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    write(&path("in.png"), &image(8, 6, Colour::Rgb));
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/small-x2.safetensors"
    );
    make_fifo(&path("pipe.onnx"));
    fs::create_dir(path("out")).expect("a folder");
    make_fifo(&path("out/in.png"));
    let pipe = path("pipe.onnx");
    let network = [
        "bench",
        "--network",
        "wdsr-b-4x1",
        "--size",
        "8x8",
        "-j",
        "1",
        "--save-onnx",
    ];
    let mut runs = [wdsr(), wdsr(), wdsr()];
    runs[0].args(["convert", model]).arg(&pipe);
    runs[1].args(network).arg(&pipe);
    runs[2]
        .arg("upscale")
        .args([&path("in.png"), Path::new("-o"), &path("out")]);
    for mut run in runs {
        run.timeout(std::time::Duration::from_secs(60))
            .assert()
            .code(1)
            .stderr(contains("not a regular file"));
    }
    assert!(
        is_fifo(&pipe) && is_fifo(&path("out/in.png")),
        "a pipe is replaced"
    );
}

#[test]
fn what_is_named_like_a_manifest_is_not_waited_for() {
    for name in [".wdsr-manifest.jsonl", ".wdsr-manifest-1-of-2.jsonl"] {
        for make in [make_fifo, |path: &Path| {
            symlink("/dev/zero", path).expect("a link")
        }] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = |name: &str| folder.path().join(name);
            write(&path("in.png"), &image(8, 6, Colour::Rgb));
            fs::create_dir(path("out")).expect("a folder");
            make(&path("out").join(name));
            wdsr()
                .arg("upscale")
                .args([&path("in.png"), Path::new("-o"), &path("out")])
                .timeout(std::time::Duration::from_secs(60))
                .assert()
                .code(1)
                .stderr(contains("expected a manifest"));
        }
    }
}

#[test]
fn the_target_of_a_link_is_replaced_and_the_link_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    write(&path("in.png"), &image(8, 6, Colour::Rgb));
    for name in ["disk", "out"] {
        fs::create_dir(path(name)).expect("a folder");
    }
    symlink("../disk/result.png", path("out/in.png")).expect("a link");
    for _ in 0..2 {
        wdsr()
            .arg("upscale")
            .args([&path("in.png"), Path::new("-o"), &path("out")])
            .assert()
            .success();
        assert!(path("out/in.png").is_symlink(), "the link is replaced");
        assert_eq!(super::upscale::read(&path("disk/result.png")).width_px, 16);
    }
    assert_eq!(super::upscale::names(&path("disk")), ["result.png"]);
}
