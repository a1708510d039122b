use std::collections::BTreeSet;
use std::path::Path;

use predicates::str::contains;
use wdsr_picture::{Colour, Picture, Samples};

use super::{picture, wdsr, write};

/// A few soft blobs, different for every seed; `level` is added to all samples.
fn photograph(side_px: usize, seed: usize, level: u8) -> Picture {
    let blob = |k: usize| {
        let mixed = (seed * 7 + k + 1).wrapping_mul(0x9e37_79b9) as u32;
        let at = |m: u32| f64::from(mixed.rotate_left(m * 9) % 1009) / 1009.0;
        (at(1), at(2), 40.0 * at(3) + 10.0)
    };
    let sample = |i: usize| {
        let (pixel, channel) = (i / 3, i % 3);
        let x = (pixel % side_px) as f64 / side_px as f64;
        let y = (pixel / side_px) as f64 / side_px as f64;
        let value: f64 = (0..7)
            .map(|k| {
                let (cx, cy, height) = blob(k);
                let distance = (x - cx).powi(2) + (y - cy).powi(2);
                height * (-distance * 30.0).exp()
            })
            .sum();
        (value.min(200.0) as u8 + channel as u8 * 5).saturating_add(level)
    };
    let samples = (0..side_px * side_px * 3).map(sample).collect();
    Picture::new(side_px, side_px, Colour::Rgb, Samples::U8(samples))
}

fn check(folder: &Path, extra: &[&str]) -> (i32, serde_json::Value) {
    let output = wdsr()
        .args(["data", "check", "--json"])
        .args(extra)
        .arg(folder)
        .output()
        .expect("runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {error}"));
    (output.status.code().expect("a code"), json)
}

/// (kind, file name) of each problem.
fn found(report: &serde_json::Value) -> BTreeSet<(String, String)> {
    let problems = report["problems"].as_array().expect("a list").iter();
    problems
        .map(|problem| {
            let text = |key: &str| problem[key].as_str().expect("text").to_owned();
            let path = text("path");
            let name = Path::new(&path).file_name().expect("a name");
            (text("kind"), name.to_string_lossy().into_owned())
        })
        .collect()
}

fn expected(problems: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    let owned = |(kind, name): &(&str, &str)| ((*kind).to_owned(), (*name).to_owned());
    problems.iter().map(owned).collect()
}

#[test]
fn every_wrong_picture_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for seed in 0..6 {
        write(&path(&format!("good{seed}.png")), &photograph(128, seed, 0));
    }
    let (code, report) = check(folder.path(), &[]);
    assert_eq!(found(&report), expected(&[]));
    assert_eq!((code, report["usable"].as_u64()), (0, Some(6)));
    write(&path("small.png"), &photograph(90, 11, 0));
    write(&path("grey.png"), &picture(128, 120, Colour::Grey));
    std::fs::copy(path("good1.png"), path("twin.png")).expect("copied");
    write(&path("brighter.png"), &photograph(128, 2, 9));
    write(&path("compressed.jpg"), &photograph(200, 3, 0));
    let bytes = std::fs::read(path("good0.png")).expect("bytes");
    std::fs::write(path("half.png"), &bytes[..bytes.len() / 2]).expect("written");
    std::fs::write(path("text.png"), "not a picture").expect("written");
    let (code, report) = check(folder.path(), &[]);
    let wrong = expected(&[
        ("broken", "half.png"),
        ("broken", "text.png"),
        ("too-small", "small.png"),
        ("grey", "grey.png"),
        ("duplicate", "twin.png"),
        // The first by name stands, the others look like it.
        ("near-duplicate", "good2.png"),
        ("near-duplicate", "good3.png"),
    ]);
    assert_eq!(found(&report), wrong);
    assert_eq!(code, 1);
    assert_eq!(report["pictures"], 13);
    assert_eq!(report["usable"], 10);
    // Smaller patches, and the lines a person reads.
    let (_, report) = check(folder.path(), &["--patch", "40"]);
    assert_eq!(report["usable"], 11);
    wdsr()
        .args(["data", "check"])
        .arg(folder.path())
        .assert()
        .code(1)
        .stdout(contains("half.png"))
        .stdout(contains(
            "2 broken, 1 too small, 1 grey, 1 duplicate, 2 near-duplicate",
        ));
}

#[test]
fn pairs_that_do_not_belong_together_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (high, low) = (
        folder.path().join("HR"),
        folder.path().join("LR_bicubic/X2"),
    );
    for sub in [&high, &low] {
        std::fs::create_dir_all(sub).expect("a folder");
    }
    for seed in 0..6 {
        let original = photograph(128, seed, 0);
        write(&high.join(format!("{seed}.png")), &original);
        write(&low.join(format!("{seed}x2.png")), &original.imresize(0.5));
    }
    let (code, report) = check(folder.path(), &[]);
    assert_eq!((code, found(&report)), (0, expected(&[])));
    // Exchanged, of another size, alone on either side.
    write(&low.join("0x2.png"), &photograph(128, 1, 0).imresize(0.5));
    write(&low.join("2x2.png"), &photograph(126, 2, 0).imresize(0.5));
    std::fs::remove_file(low.join("3x2.png")).expect("removed");
    std::fs::remove_file(high.join("4.png")).expect("removed");
    let (code, report) = check(folder.path(), &[]);
    let wrong = expected(&[
        ("wrongly-paired", "0x2.png"),
        ("wrongly-paired", "2x2.png"),
        ("wrongly-paired", "3.png"),
        ("wrongly-paired", "4x2.png"),
    ]);
    assert_eq!(found(&report), wrong);
    assert_eq!(code, 1);
}

#[test]
fn a_folder_without_pictures_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    wdsr()
        .args(["data", "check"])
        .arg(folder.path())
        .assert()
        .code(1)
        .stderr(contains("no pictures"));
    wdsr()
        .args(["data", "check", "-s", "5"])
        .arg(folder.path())
        .assert()
        .code(2);
}
