//! The program as a user runs it.

mod alpha;
mod batches;
mod bench;
mod convert;
mod data;
mod docs;
mod eval;
mod info;
mod metadata;
#[cfg(target_os = "linux")]
mod names;
mod overwrites;
mod pipes;
mod rows;
mod sizes;
mod study;
mod train;
mod upscale;

use std::path::Path;

use assert_cmd::Command;
use wdsr_image::{Colour, Format, Image, Samples, encode};

fn wdsr() -> Command {
    Command::cargo_bin("wdsr").expect("the program is built")
}

/// Runs the program under limits that bash sets first, and returns its exit code and what it said on
/// standard error.
#[cfg(target_os = "linux")]
fn limited<A: AsRef<std::ffi::OsStr>>(
    limits: &str,
    arguments: impl IntoIterator<Item = A>,
) -> (Option<i32>, String) {
    let run = std::process::Command::new("bash")
        .args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")])
        .arg(assert_cmd::cargo::cargo_bin("wdsr"))
        .args(arguments)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    (run.status.code(), text)
}

/// A smooth image with some texture.
fn image(width: usize, height: usize, colour: Colour) -> Image {
    let channels = colour.channels();
    let sample = |i: usize| {
        let (pixel, channel) = (i / channels, i % channels);
        let (x, y) = (pixel % width, pixel / width);
        (((x * 5 + y * 3 + channel * 40) % 200) + (x * y) % 17) as u8
    };
    let samples = (0..width * height * channels).map(sample).collect();
    Image::new(width, height, colour, Samples::U8(samples))
}

fn write(path: &Path, image: &Image) {
    encode(image, path, Format::from_extension(path).expect("a suffix")).expect("written");
}
