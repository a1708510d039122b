//! Names of files as Linux allows them: any bytes but `/` and NUL, 255 of them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use wdsr_image::{Colour, Format, encode};

use super::{image, wdsr, write};

fn write_png(path: &Path, width_px: usize) {
    let image = image(width_px, 6, Colour::Rgb);
    encode(&image, path, Format::Png).expect("written");
}

fn names_in(folder: &Path) -> BTreeSet<OsString> {
    std::fs::read_dir(folder)
        .expect("a folder")
        .map(|file| file.expect("a file").file_name())
        .filter(|name| name != ".wdsr-manifest.jsonl")
        .collect()
}

#[test]
fn names_of_any_bytes_are_kept_and_told_apart() {
    let root = tempfile::tempdir().expect("a folder");
    let (low, high) = (root.path().join("Bilder ä"), root.path().join("大きい"));
    std::fs::create_dir(&low).expect("a folder");
    let longest = format!("{}.png", "é".repeat(125) + "x");
    assert_eq!(longest.len(), 255);
    let names: [&[u8]; 9] = [
        "Übergröße.png".as_bytes(),
        "写真.png".as_bytes(),
        "🦀 👩‍🔬.png".as_bytes(),
        b"\xff.png",
        b"\xfe.png",
        br"\xff.png",
        b"-q.png",
        b"two\nlines.png",
        longest.as_bytes(),
    ];
    for (at, name) in names.iter().enumerate() {
        write_png(&low.join(OsStr::from_bytes(name)), 5 + at);
    }
    let report = root.path().join("report.jsonl");
    let run = || {
        wdsr()
            .args([OsStr::new("upscale"), low.as_os_str(), OsStr::new("-o")])
            .arg(&high)
            .arg("--report")
            .arg(&report)
            .assert()
            .success();
        let text = std::fs::read_to_string(&report).expect("UTF-8");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect::<Vec<serde_json::Value>>()
    };
    for status in ["done", "up_to_date"] {
        let lines = run();
        assert_eq!(names_in(&high), names_in(&low));
        assert!(lines.iter().all(|l| l["status"] == status), "{lines:?}");
    }
    let entries = std::fs::read_to_string(high.join(".wdsr-manifest.jsonl")).expect("UTF-8");
    let outputs: BTreeSet<String> = entries
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|entry| entry["output"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(outputs.len(), names.len(), "{outputs:?}");
}

#[test]
fn names_that_begin_with_a_dash_follow_two() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("-s.png"), &image(8, 6, Colour::Rgb));
    wdsr()
        .current_dir(folder.path())
        .args(["upscale", "-o", "large.png", "--", "-s.png"])
        .assert()
        .success();
    assert!(folder.path().join("large.png").exists());
}

#[test]
fn names_that_are_too_long_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let low = folder.path().join("low.png");
    write(&low, &image(8, 6, Colour::Rgb));
    let before = names_in(folder.path());
    let name = format!("{}.png", "n".repeat(252));
    let path = "p/".repeat(2100) + "high.png";
    for high in [&name, &path] {
        wdsr()
            .args([OsStr::new("upscale"), low.as_os_str(), OsStr::new("-o")])
            .arg(folder.path().join(high))
            .assert()
            .code(1)
            .stderr(contains(high.as_str()).and(contains("too long")));
        assert_eq!(names_in(folder.path()), before, "files left");
    }
    wdsr()
        .args(["upscale", &path, "-o"])
        .arg(folder.path().join("high.png"))
        .assert()
        .code(3)
        .stderr(contains("too long"));
}
