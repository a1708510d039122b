use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use wdsr_image::{Colour, Image, Samples};

use super::{image, program, wdsr, write};

/// Soft blobs, different for every seed; `level` is added to all samples.
fn photograph(side_px: usize, seed: usize, level: u8) -> Image {
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
    Image::new(side_px, side_px, Colour::Rgb, Samples::U8(samples))
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
fn lists_every_problem() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for seed in 0..6 {
        write(&path(&format!("good{seed}.png")), &photograph(128, seed, 0));
    }
    let (code, report) = check(folder.path(), &[]);
    assert_eq!(found(&report), expected(&[]));
    assert_eq!((code, report["usable"].as_u64()), (0, Some(6)));
    write(&path("small.png"), &photograph(90, 11, 0));
    write(&path("grey.png"), &image(128, 120, Colour::Grey));
    std::fs::copy(path("good1.png"), path("twin.png")).expect("copied");
    write(&path("brighter.png"), &photograph(128, 2, 9));
    write(&path("compressed.jpg"), &photograph(200, 3, 0));
    let bytes = std::fs::read(path("good0.png")).expect("bytes");
    std::fs::write(path("half.png"), &bytes[..bytes.len() / 2]).expect("written");
    std::fs::write(path("text.png"), "not an image").expect("written");
    let (code, report) = check(folder.path(), &[]);
    let wrong = expected(&[
        ("broken", "half.png"),
        ("broken", "text.png"),
        ("too-small", "small.png"),
        ("grey", "grey.png"),
        ("duplicate", "twin.png"),
        // The first by name is not a duplicate.
        ("near-duplicate", "good2.png"),
        ("near-duplicate", "good3.png"),
    ]);
    assert_eq!(found(&report), wrong);
    assert_eq!(code, 1);
    assert_eq!(report["images"], 13);
    assert_eq!(report["usable"], 10);
    // With smaller patches, and as text.
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
fn images_of_formats_that_are_not_read_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = folder.path().join("set");
    std::fs::create_dir(&set).expect("a folder");
    write(&set.join("1.png"), &photograph(64, 1, 0));
    for name in ["2.heic", "3.HEIC", "sub/4.cr2", ".5.avif", "notes.txt"] {
        let path = set.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, b"not read").expect("a file");
    }
    let warning = "set: 3 images are of formats that are not read: 2 HEIC, 1 camera raw";
    let recipe = folder.path().join("recipe.toml");
    std::fs::write(&recipe, "[network]\n[training]\nupdates = 1\n").expect("a recipe");
    let set = set.to_str().expect("UTF-8");
    let recipe = recipe.to_str().expect("UTF-8");
    let out = folder.path().join("out");
    let out = out.to_str().expect("UTF-8");
    for command in [
        &["data", "check", "-s", "2", "--patch", "8", set][..],
        &["eval", "-m", "small", "--set", set],
        &["train", recipe, "--data", set, "--out", out],
    ] {
        // Whether the set serves is not the question here.
        let run = wdsr().args(command).output().expect("runs");
        let error = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(error.matches(warning).count(), 1, "{command:?}: {error}");
    }
}

#[test]
fn lists_wrong_pairs() {
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
    // Exchanged, of another size, without original, without low resolution.
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
fn refuses_a_folder_without_images() {
    let folder = tempfile::tempdir().expect("a folder");
    wdsr()
        .args(["data", "check"])
        .arg(folder.path())
        .assert()
        .code(1)
        .stderr(contains("no images"));
    wdsr()
        .args(["data", "check", "-s", "5"])
        .arg(folder.path())
        .assert()
        .code(2);
}

/// The packages among the sources.
pub(super) const PACKAGES: [&str; 6] = [
    "endless-sky-high-dpi",
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
    "plasma-workspace-wallpapers",
    "lxqt-themes",
    "mate-backgrounds",
];

/// `wdsr data fetch` into `out` from the folder `own` and the packages `with`.
fn fetch(root: &Path, out: &str, with: &[&str]) -> Command {
    let mut command = Command::new(program::path());
    command.args(["data", "fetch", out]).current_dir(root);
    command
        .arg("--from")
        .arg(format!("own={}", root.join("own").display()));
    for package in PACKAGES.iter().filter(|package| !with.contains(package)) {
        command.args(["--without", package]);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A [`photograph`] with noise, so that it is not flat.
fn noisy(seed: usize) -> Image {
    let mut image = photograph(200, seed, 30);
    if let Samples::U8(samples) = &mut image.samples {
        for (i, sample) in samples.iter_mut().enumerate() {
            let noise = (i + seed * 77).wrapping_mul(0x9e37_79b9) as u32;
            *sample += (noise.rotate_left(13) % 24) as u8;
        }
    }
    image
}

#[test]
fn a_killed_fetch_is_completed_to_the_same_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    std::fs::create_dir(root.join("own")).expect("a folder");
    for seed in 0..8 {
        write(&root.join(format!("own/{seed}.png")), &noisy(seed));
    }
    let whole = fetch(root, "whole", &[]).output().expect("it runs");
    let said = String::from_utf8_lossy(&whole.stdout).into_owned();
    assert!(
        whole.status.success() && said.contains("8 of unknown licence"),
        "{said}{}",
        String::from_utf8_lossy(&whole.stderr)
    );
    let manifest = |out: &str| std::fs::read_to_string(root.join(out).join("manifest.jsonl"));
    let lines = || manifest("killed").map_or(0, |text| text.lines().count());
    let mut killed = 0;
    loop {
        let before = lines();
        let mut child = fetch(root, "killed", &[])
            .arg("-j1")
            .spawn()
            .expect("it runs");
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break status;
            }
            if killed < 2 && lines() > before {
                child.kill().expect("killed");
                killed += 1;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        if status.success() {
            break;
        }
    }
    assert!(killed > 0, "never killed");
    for name in ["manifest.jsonl", "contact-sheet.html", "own/3.png"] {
        let [a, b] = ["whole", "killed"].map(|out| std::fs::read(root.join(out).join(name)));
        assert!(a.expect("read") == b.expect("read"), "{name} differs");
    }
    let again = fetch(root, "killed", &[]).output().expect("it runs");
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(said.contains(", 0 newly prepared"), "{said}");
    // The folder is a usable dataset.
    let (_, report) = check(&root.join("whole"), &[]);
    assert_eq!(
        (&report["images"], &report["usable"]),
        (&8.into(), &8.into())
    );
}

#[test]
#[cfg(unix)]
fn downloads_packages_and_checks_their_content() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    for sub in ["own", "programs"] {
        std::fs::create_dir(root.join(sub)).expect("a folder");
    }
    write(&root.join("own/a.png"), &noisy(1));
    let failed = |said: &[&str]| {
        let mut command = fetch(root, "out", &["lomiri-wallpapers-20.04"]);
        let path = format!("{}:/bin", root.join("programs").display());
        let path = if said[0] == "apt-get is not installed" {
            String::new()
        } else {
            path
        };
        let output = command.env("PATH", path).output().expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        for part in said {
            assert!(error.contains(part), "{part} in {error}");
        }
    };
    let remedy = "--from lomiri-wallpapers-20.04=FOLDER";
    failed(&[
        "apt-get is not installed",
        "https://packages.debian.org/",
        remedy,
    ]);
    let program = |name: &str, text: &str| {
        let path = root.join("programs").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("allowed");
    };
    program(
        "apt-get",
        "echo 'E: Unable to locate package' >&2; exit 100",
    );
    failed(&["E: Unable to locate package", "apt-get update", remedy]);
    program("apt-get", ":");
    failed(&["left no .deb file"]);
    program("apt-get", "test \"$1\" = download && : > \"$2_1_all.deb\"");
    let place = "usr/share/backgrounds";
    let own = root.join("own/a.png").display().to_string();
    program(
        "dpkg",
        &format!(
            "test -f \"$2\" && mkdir -p $3/{place} && cp {own} $3/{place}/Kleiber_by_Lukas_Baubkus.jpg"
        ),
    );
    failed(&[
        "1 of 1 images of lomiri-wallpapers-20.04",
        "Kleiber_by_Lukas_Baubkus.jpg has SHA-256",
        "--without lomiri-wallpapers-20.04",
    ]);
}

#[test]
fn refuses_invalid_sources() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    for (arguments, code, said) in [
        (["--without", "lomiri"], 1, "expected one of cid, bsds"),
        (["--from", "div2k"], 2, "expected NAME=FOLDER"),
        (["--from", "div2k=nowhere"], 2, "nowhere: no such folder"),
        (["--from", "../x=."], 1, "expected letters, digits"),
    ] {
        let mut command = wdsr();
        command.args(["data", "fetch"]).arg(&out).args(arguments);
        command.assert().code(code).stderr(contains(said));
    }
}

#[test]
fn degraded_sets_repeat_and_are_scored() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("in")).expect("a folder");
    for seed in 0..2 {
        write(&path(&format!("in/{seed}.png")), &photograph(65, seed, 0));
    }
    let recipe = "[network]\n[strength]\nclean = \"unread.safetensors\"\nrange = [0.5, 0.9]\n\
                  [[degradation.stages]]\nkind = \"downsample\"\nmethods = [\"bicubic\", \"area\"]\n\
                  [[degradation.stages]]\nkind = \"jpeg\"\nquality = [10, 95]\nsubsampling = [\"4:2:0\"]";
    std::fs::write(path("recipe.toml"), recipe).expect("written");
    let degrade = |out: &str| {
        let mut command = wdsr();
        command.args(["data", "degrade", "--recipe"]);
        command.arg(path("recipe.toml")).arg(path("in"));
        command.arg("-o").arg(path(out));
        command
    };
    let lines = contains("0, strength 0.60\n").and(contains("1, strength 0.80\n"));
    degrade("a").assert().success().stdout(lines);
    degrade("b").assert().success();
    let read = |name: &str| std::fs::read(path(name)).expect("a file");
    for name in ["input/0.png", "input/1.png", "target/0.png", "target/1.png"] {
        assert!(
            read(&format!("a/{name}")) == read(&format!("b/{name}")),
            "{name}"
        );
    }
    assert!(read("a/input/0.png") != read("a/input/1.png"));
    let mut eval = wdsr();
    eval.args(["eval", "-m", "small", "--set"]).arg(path("a"));
    eval.assert().success();

    // Without a degradation, and onto its own images.
    std::fs::write(path("plain.toml"), "[network]").expect("written");
    let mut plain = wdsr();
    plain
        .args(["data", "degrade", "--recipe"])
        .arg(path("plain.toml"));
    plain.arg(path("in")).arg("-o").arg(path("c"));
    let expected = "plain.toml: expected a [degradation] table, found none";
    plain.assert().code(2).stderr(contains(expected));
    assert!(!path("c").exists());
    let mut own = wdsr();
    own.args(["data", "degrade", "--recipe"])
        .arg(path("recipe.toml"));
    own.arg(path("a/target")).arg("-o").arg(path("a"));
    own.assert().code(2);
}
