//! What someone meets who has just installed the program: images without a command, names of results,
//! formats and qualities, lists of models, videos.

use std::path::Path;

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use wdsr_image::{Colour, Format, Limits, Reader};

use super::upscale::{names, read};
use super::{image, wdsr, write};

/// A folder with the images of these names.
fn folder_with(images: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in images {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        write(&path, &image(20, 12, Colour::Rgb));
    }
    folder
}

/// The program in a folder.
fn wdsr_in(folder: &Path, arguments: &[&str]) -> assert_cmd::assert::Assert {
    wdsr().current_dir(folder).args(arguments).assert()
}

#[test]
fn an_image_alone_is_upscaled_beside_itself() {
    let folder = folder_with(&["photo.jpg"]);
    let at = folder.path();
    wdsr_in(at, &["photo.jpg"])
        .success()
        .stderr(contains("photo.jpg -> photo-x2.jpg (40 x 24"));
    assert_eq!(names(at), ["photo-x2.jpg", "photo.jpg"]);
    assert_eq!(read(&at.join("photo-x2.jpg")).width_px, 40);
    // A file that the user did not name is kept.
    let before = std::fs::read(at.join("photo-x2.jpg")).expect("read");
    wdsr_in(at, &["photo.jpg", "-m", "small"])
        .code(1)
        .stderr(contains("photo-x2.jpg already exists; choose --if-exists"));
    assert_eq!(
        std::fs::read(at.join("photo-x2.jpg")).expect("read"),
        before
    );
    wdsr_in(
        at,
        &["photo.jpg", "-m", "small", "--if-exists", "overwrite"],
    )
    .success();
    assert_ne!(
        std::fs::read(at.join("photo-x2.jpg")).expect("read"),
        before
    );
}

#[test]
fn names_of_results_tell_the_size_that_was_asked_for() {
    let folder = folder_with(&["a.png"]);
    let at = folder.path();
    for (arguments, name) in [
        (&["-s", "4"][..], "a-x4.png"),
        (&["--factor", "2.5"], "a-x2.5.png"),
        (&["--width", "30"], "a-30w.png"),
        (&["--height", "30"], "a-30h.png"),
        (&["--longest", "30"], "a-30px.png"),
        (&["--size", "40x24"], "a-40x24.png"),
        (&["-f", "tif"], "a-x2.tif"),
        (&["-m", "photo", "-s", "1"], "a-x1.png"),
    ] {
        wdsr_in(at, &[arguments, &["a.png"]].concat()).success();
        assert!(at.join(name).is_file(), "{name}: {:?}", names(at));
    }
}

#[test]
fn a_folder_alone_is_upscaled_into_a_folder_beside_it() {
    let folder = folder_with(&["photos/a.png", "photos/b.png"]);
    let at = folder.path();
    wdsr_in(at, &["photos/"])
        .success()
        .stderr(contains("2 inputs: 2 done"));
    assert_eq!(names(&at.join("photos")), ["a.png", "b.png"]);
    assert_eq!(
        names(&at.join("photos-x2")),
        [".wdsr-manifest.jsonl", "a.png", "b.png"]
    );
    // Again from within: it resumes.
    wdsr_in(&at.join("photos"), &["."])
        .success()
        .stderr(contains("2 inputs: 2 up to date"));
    wdsr_in(at, &["photos", "photos/a.png"])
        .code(2)
        .stderr(contains("give the folder for the results by -o"));
}

#[test]
fn results_beside_their_images_are_no_inputs_of_the_next_run() {
    let folder = folder_with(&["a.png", "b.png"]);
    let at = folder.path();
    wdsr_in(at, &["*.png"])
        .success()
        .stderr(contains("2 inputs: 2 done"));
    wdsr_in(at, &["*.png", "--if-exists", "overwrite"])
        .success()
        .stderr(contains(
            "a-x2.png: skipped, it has the name of the result of a.png",
        ))
        .stderr(contains("2 inputs: 2 done"));
    assert_eq!(names(at), ["a-x2.png", "a.png", "b-x2.png", "b.png"]);
}

#[test]
fn commands_win_over_files_of_their_names() {
    let folder = folder_with(&["info.png"]);
    let at = folder.path();
    std::fs::rename(at.join("info.png"), at.join("info")).expect("renamed");
    wdsr_in(at, &["info"])
        .success()
        .stdout(contains("parameters"));
    wdsr_in(at, &["--", "info"])
        .success()
        .stderr(contains("info -> info-x2.png"));
    wdsr_in(at, &["./info", "-s", "4"]).success();
    wdsr_in(at, &["upscle", "info"])
        .code(2)
        .stderr(contains("unrecognized subcommand 'upscle'").and(contains("'upscale'")));
    wdsr_in(at, &["missing.png"])
        .code(3)
        .stderr(contains("cannot read missing.png"));
}

#[test]
fn standard_input_goes_to_standard_output() {
    let folder = folder_with(&["a.png"]);
    let file = std::fs::read(folder.path().join("a.png")).expect("read");
    let output = wdsr().arg("-").write_stdin(file).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.starts_with(b"\x89PNG"), "{output:?}");
}

#[test]
fn contradictions_about_the_output_are_wrong_usage() {
    let folder = folder_with(&["a.png"]);
    let at = folder.path();
    for (arguments, expected) in [
        (
            &["-o", "x.png", "-f", "jpeg"][..],
            "x.png: -f jpeg contradicts the suffix; expected x.jpg",
        ),
        (&["-o", "x.heic"], "x.heic: expected a file for one image"),
        (
            &["-o", "x.heic", "-f", "png"],
            "x.heic: expected a file for one image",
        ),
        (
            &["-o", "x.pgn"],
            "for a new folder of that name give x.pgn/",
        ),
        (
            &["-o", "x.webp", "--quality", "80"],
            "webp, which is written lossless",
        ),
        (
            &["--quality", "80"],
            "--quality is for jpeg, and the result is png",
        ),
        (
            &["-o", "x.jpg", "--compression", "high"],
            "--compression is for png",
        ),
        (&["-o", "x.jpg", "--quality", "0"], "0 is not in 1..=100"),
    ] {
        wdsr_in(at, &[&["a.png"], arguments].concat())
            .code(2)
            .stderr(contains(expected));
    }
    assert_eq!(names(at), ["a.png"]);
    for arguments in [
        &["-o", "x.pgn/"][..],
        &["-o", "y.jpeg", "-f", "jpg"],
        &["-o", "z.data", "-f", "png"],
    ] {
        wdsr_in(at, &[&["a.png"], arguments].concat()).success();
    }
    assert_eq!(names(at), ["a.png", "x.pgn", "y.jpeg", "z.data"]);
}

#[test]
fn quality_and_compression_change_the_size_and_are_recorded() {
    let folder = folder_with(&["in/a.jpg", "in/b.png"]);
    let at = folder.path();
    let run = |arguments: &[&str]| {
        let line = [&["in", "-m", "small", "-o", "out"], arguments].concat();
        let run = wdsr_in(at, &line).success();
        let text = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
        let size = |name| {
            std::fs::metadata(at.join("out").join(name))
                .expect("a file")
                .len()
        };
        (text, size("a.jpg"), size("b.png"))
    };
    let (_, jpeg, png) = run(&[]);
    let pixels = read(&at.join("out/b.png"));
    let (text, low_jpeg, high_png) = run(&["--quality", "40", "--compression", "high"]);
    assert!(text.contains("2 done"), "{text}");
    assert!(
        low_jpeg < jpeg && high_png < png,
        "{low_jpeg} {jpeg} {high_png} {png}"
    );
    assert!(pixels.samples == read(&at.join("out/b.png")).samples);
    let (text, ..) = run(&["--quality", "40", "--compression", "high"]);
    assert!(text.contains("2 up to date"), "{text}");
    // Each is recorded for its own format only.
    let (text, ..) = run(&["--quality", "41", "--compression", "high"]);
    assert!(text.contains("1 done, 1 up to date"), "{text}");
    let (text, ..) = run(&["--quality", "95", "--compression", "fast"]);
    assert!(text.contains("2 done"), "{text}");
    let (text, ..) = run(&[]);
    assert!(text.contains("2 up to date"), "{text}");
}

#[test]
fn models_are_listed_with_scale_size_purpose_and_licence() {
    let table = wdsr().arg("models").assert().success();
    let table = String::from_utf8_lossy(&table.get_output().stdout).into_owned();
    assert!(table.contains("MIT OR Apache-2.0"), "{table}");
    assert_eq!(
        table.lines().filter(|line| line.contains(" KB ")).count(),
        9,
        "{table}"
    );
    assert!(
        table.lines().all(|line| line.chars().count() <= 100),
        "{table}"
    );
    let json = wdsr().args(["models", "--json"]).output().expect("it runs");
    let models: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let base = &models[0];
    assert_eq!(base["kind"], "base");
    assert_eq!(base["scale"], 2);
    assert_eq!(base["licence"], "MIT OR Apache-2.0");
    assert!(base["parameters"].as_u64() > Some(290_000), "{base}");
    assert!(base["bytes"].as_u64() > Some(500_000), "{base}");
}

#[test]
fn commands_take_names_of_built_in_models() {
    let folder = folder_with(&[]);
    let at = folder.path();
    wdsr_in(at, &["convert", "small", "out.safetensors", "-s", "4"])
        .success()
        .stderr(contains("small x4 (built in)"));
    wdsr_in(at, &["info", "out.safetensors", "--json"])
        .success()
        .stdout(contains("\"scale\": 4"));
    std::fs::copy(at.join("out.safetensors"), at.join("small")).expect("copied");
    // The built-in model wins.
    wdsr_in(at, &["convert", "small", "x2.onnx"])
        .success()
        .stderr(contains("small x2 (built in)"));
    wdsr_in(at, &["convert", "./small", "x4.onnx"])
        .success()
        .stderr(contains("model of wdsr"));
    for (arguments, expected) in [
        (
            &["convert", "smal", "x.onnx"][..],
            "expected a built-in kind (base, photo, small) or a file",
        ),
        (
            &["info", "smal"],
            "expected a built-in kind (base, photo, small) or a file",
        ),
        (
            &["convert", "./small", "x.onnx", "-s", "4"],
            "-s chooses a built-in model",
        ),
        (
            &["convert", "small", "x.onnx", "--mean", "0.5"],
            "a built-in model has its weights",
        ),
        (
            &["convert", "small", "x.onnx", "-s", "8"],
            "small x2 (built in) has scale 2",
        ),
        (&["convert", "photo", "x.onnx"], "give --strength"),
    ] {
        wdsr_in(at, arguments).code(2).stderr(contains(expected));
    }
}

#[test]
fn manual_pages_are_printed() {
    for (words, title) in [
        (&["man"][..], ".TH wdsr 1"),
        (&["man", "upscale"], ".TH wdsr-upscale 1"),
        (&["man", "data", "fetch"], ".TH wdsr-data-fetch 1"),
    ] {
        wdsr()
            .args(words)
            .assert()
            .success()
            .stdout(contains(title));
    }
    wdsr()
        .args(["man", "upscle"])
        .assert()
        .code(2)
        .stderr(contains("upscle: no such command"));
}

#[test]
fn a_video_is_named_with_the_command_for_it() {
    let folder = folder_with(&["photos/a.png"]);
    let at = folder.path();
    let video = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41\0\0\0\x08free";
    for name in ["clip.mp4", "clip.jpg", "photos/clip.mov"] {
        std::fs::write(at.join(name), video).expect("written");
    }
    for name in ["clip.mp4", "clip.jpg"] {
        wdsr_in(at, &[name])
            .code(3)
            .stderr(contains(format!(
                "{name} is a video (MP4), expected an image"
            )))
            .stderr(contains(format!("`wdsr video {name} OUT.mkv` upscales it")));
    }
    wdsr()
        .arg("-")
        .write_stdin(&video[..])
        .assert()
        .code(3)
        .stderr(contains("standard input is a video (MP4)"));
    // In a folder, videos are no images.
    wdsr_in(at, &["photos"]).success();
    // An image in the same container is none.
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
    std::fs::write(at.join("b.heic"), heic).expect("written");
    wdsr_in(at, &["b.heic"])
        .code(3)
        .stderr(contains("HEIC").and(contains("video").not()));
}

#[test]
fn quality_is_that_of_the_quantisation_tables() {
    let folder = folder_with(&["a.png"]);
    let at = folder.path();
    let mut scales = Vec::new();
    for quality in ["95", "50", "10"] {
        let name = format!("{quality}.jpg");
        wdsr_in(at, &["a.png", "-o", &name, "--quality", quality]).success();
        let reader = Reader::open(&at.join(&name), &Limits::default()).expect("a file");
        assert_eq!(reader.format(), Format::Jpeg);
        scales.push(reader.jpeg_table_scale().expect("tables"));
    }
    assert!(
        scales[0] < 0.2 && (scales[1] - 1.0).abs() < 0.05 && scales[2] > 3.0,
        "{scales:?}"
    );
}
