//! `wdsr upscale` to any size.

use std::path::Path;

use predicates::str::contains;
use wdsr_image::imresize::{Kernel, imresize_to_f32};
use wdsr_image::{Colour, Image, Samples};
use wdsr_model::{Model, NetworkConfig, Sample, Upscaler};

use super::upscale::read;
use super::{image, wdsr, write};

/// Runs `wdsr upscale INPUT -o OUTPUT EXTRA`, returns the exit code and stderr.
pub(crate) fn run(input: &Path, output: &Path, extra: &[&str]) -> (i32, String) {
    let run = wdsr()
        .arg("upscale")
        .args([input, Path::new("-o"), output])
        .args(extra)
        .output()
        .expect("it runs");
    let text = String::from_utf8(run.stderr).expect("text");
    (run.status.code().expect("a code"), text)
}

/// The result of a run that succeeds.
pub(crate) fn result(input: &Path, output: &Path, extra: &[&str]) -> Image {
    let (code, text) = run(input, output, extra);
    assert_eq!(code, 0, "{extra:?}: {text}");
    read(output)
}

#[test]
fn results_have_the_requested_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in.png"), folder.path().join("out.png"));
    write(&input, &image(30, 20, Colour::Grey));
    let cases: [(&[&str], (usize, usize), &str); 11] = [
        (&[], (60, 40), "60 x 40: x2;"),
        (&["-s", "2"], (60, 40), "60 x 40: x2;"),
        (&["-s", "3"], (90, 60), "90 x 60: x3;"),
        (&["-s", "4"], (120, 80), "120 x 80: x4;"),
        (
            &["-s", "8", "-m", "small"],
            (240, 160),
            "240 x 160: x2, x4;",
        ),
        (
            &["--factor", "1.5"],
            (45, 30),
            "45 x 30: x2, resized from 60 x 40;",
        ),
        (&["--width", "50"], (50, 33), "resized from 60 x 40;"),
        (&["--height", "50"], (75, 50), "x3, resized from 90 x 60;"),
        (&["--longest", "60"], (60, 40), "60 x 40: x2;"),
        (&["--size", "60x41"], (60, 41), "x3, resized from 90 x 60;"),
        (
            &["--longest", "12"],
            (12, 8),
            "12 x 8: resized from 30 x 20;",
        ),
    ];
    for (extra, size, words) in cases {
        let (code, text) = run(&input, &output, extra);
        assert_eq!(code, 0, "{extra:?}: {text}");
        assert!(text.contains(words), "{extra:?}: {text}");
        let large = read(&output);
        assert_eq!((large.width_px, large.height_px), size, "{extra:?}");
        assert_eq!(large.colour, Colour::Grey, "{extra:?}");
    }
    let same = result(&input, &output, &["--longest", "30"]);
    assert_eq!(same, image(30, 20, Colour::Grey));
}

/// The samples of `-s 2` are those of the library in the image's own type, and other ways to ask
/// for that size make the same file.
#[test]
fn one_pass_is_the_network_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let upscaler = Upscaler::new(&Model::builtin()).expect("an upscaler");
    let values = || (0..30 * 20 * 3).map(|i| i * 7919 % 65_521);
    let bytes: Vec<u8> = values().map(|v| (v / 257) as u8).collect();
    let words: Vec<u16> = values().map(|v| v as u16).collect();
    // A little beyond black and white; of other ranges, values are stretched.
    let floats: Vec<f32> = values().map(|v| v as f32 / 62_000.0 - 0.03).collect();
    let cases = [
        (
            Samples::U8(upscaler.upscale(&bytes, 30, 20).expect("an image")),
            Samples::U8(bytes),
        ),
        (
            Samples::U16(upscaler.upscale(&words, 30, 20).expect("an image")),
            Samples::U16(words),
        ),
        (
            Samples::F32(upscaler.upscale(&floats, 30, 20).expect("an image")),
            Samples::F32(floats),
        ),
    ];
    for (expected, samples) in cases {
        write(&path("in.tif"), &Image::new(30, 20, Colour::Rgb, samples));
        for extra in [
            &["-s", "2"][..],
            &[],
            &["--factor", "2.0"],
            &["--size", "60x40"],
            &["--longest", "60"],
        ] {
            let large = result(&path("in.tif"), &path("out.tif"), extra);
            assert!(large.samples == expected, "{extra:?} differs");
        }
    }
}

/// Two passes and a resize by the library, in floats, clamped between and rounded once.
#[test]
fn passes_and_resizing_round_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in.png"), folder.path().join("out.png"));
    let small = image(30, 20, Colour::Rgb);
    write(&input, &small);
    let upscaler = Upscaler::new(&Model::builtin()).expect("an upscaler");
    let pass = |floats: &[f32], width, height| -> Vec<f32> {
        let large = upscaler.upscale(floats, width, height).expect("an image");
        large
            .into_iter()
            .map(|value| value.clamp(0.0, 1.0))
            .collect()
    };
    let rounded = |floats: &[f32]| floats.iter().map(|v| u8::from_unit(*v)).collect::<Vec<_>>();
    let floats: Vec<f32> = small.to_rgb8().iter().map(|v| v.to_unit()).collect();
    let first = pass(&floats, 30, 20);
    let second = pass(&first, 60, 40);
    // A file is the only network there is.
    let model = folder.path().join("x2.safetensors");
    Model::builtin().save(&model).expect("written");
    let model = model.to_str().expect("text");
    let large = result(&input, &output, &["-m", model, "-s", "4"]);
    assert!(large.to_rgb8() == rounded(&second), "-s 4 differs");
    let resized = imresize_to_f32(&second, 120, 80, 3, 81, 54, Kernel::Lanczos3);
    let large = result(&input, &output, &["-m", model, "--factor", "2.7"]);
    assert!(
        large.to_rgb8() == rounded(&resized.pixels),
        "--factor 2.7 differs"
    );
    // With 8 bits between the passes it would be another image.
    let between: Vec<f32> = rounded(&first).iter().map(|v| v.to_unit()).collect();
    assert!(
        rounded(&pass(&between, 60, 40)) != rounded(&second),
        "no difference to find"
    );
}

#[test]
fn a_model_of_any_scale_is_used_as_often_as_needed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    write(&path("in.png"), &image(10, 8, Colour::Rgb));
    let mut models = Vec::new();
    for scale in [1, 3] {
        let model = path(&format!("x{scale}.safetensors"));
        Model::random(&NetworkConfig::wdsr_b(8, 1, scale), 1)
            .save(&model)
            .expect("saved");
        models.push(model.to_str().expect("text").to_owned());
    }
    let (code, text) = run(
        &path("in.png"),
        &path("a.png"),
        &["-m", &models[1], "-s", "2"],
    );
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("20 x 16: x3, resized from 30 x 24;"),
        "{text}"
    );
    let (_, text) = run(
        &path("in.png"),
        &path("a.png"),
        &["-m", &models[1], "-s", "4"],
    );
    assert!(
        text.contains("40 x 32: x3, x3, resized from 90 x 72;"),
        "{text}"
    );
    // A network that cleans, and does not upscale.
    let (code, text) = run(&path("in.png"), &path("a.png"), &["-m", &models[0]]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("10 x 8: x1;"), "{text}");
    let (code, text) = run(
        &path("in.png"),
        &path("a.png"),
        &["-m", &models[0], "-s", "2"],
    );
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("the network has scale 1"), "{text}");
    // Asked for by its scale.
    let (code, text) = run(
        &path("in.png"),
        &path("a.png"),
        &["-m", &models[0], "-s", "1"],
    );
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("10 x 8: x1;"), "{text}");
}

#[test]
fn impossible_sizes_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in.png"), folder.path().join("out.png"));
    write(&input, &image(30, 20, Colour::Rgb));
    let cases: [(&[&str], i32, &str); 8] = [
        (&["--size", "60x60"], 3, "--width 60 gives 60 x 40"),
        (&["--width", "4000000000"], 3, "4000000000"),
        (&["--factor", "1e9"], 3, "which no format holds"),
        (&["-s", "5"], 2, "--factor takes any other"),
        (&["-s", "2", "--width", "60"], 2, "cannot be used with"),
        (
            &["--factor", "2", "--longest", "60"],
            2,
            "cannot be used with",
        ),
        (&["--factor", "-2"], 2, ""),
        (
            &["-m", "huge"],
            2,
            "model huge: expected a built-in kind (base, photo, small) or a file",
        ),
    ];
    for (extra, code, words) in cases {
        let (found, text) = run(&input, &output, extra);
        assert_eq!(found, code, "{extra:?}: {text}");
        assert!(text.contains(words), "{extra:?}: {text}");
        assert!(!output.exists(), "{extra:?}: a file");
    }
}

#[test]
fn only_another_size_reruns_a_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("in")).expect("a folder");
    write(&path("in/a.png"), &image(8, 6, Colour::GreyAlpha));
    let status = |extra: &[&str]| {
        let report = path("report");
        let report_arguments = ["--report", report.to_str().expect("text")];
        let (code, text) = run(
            &path("in"),
            &path("out"),
            &[extra, &report_arguments].concat(),
        );
        assert_eq!(code, 0, "{text}");
        let line = std::fs::read_to_string(report).expect("a report");
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        line["status"].as_str().expect("a status").to_owned()
    };
    for (extra, expected) in [
        (&["-s", "3"][..], "done"),
        (&["-s", "3"], "up_to_date"),
        (&["--factor", "3"], "up_to_date"),
        (&["--width", "24"], "up_to_date"),
        (&["--width", "25"], "done"),
        (&["--width", "25", "--alpha", "lanczos"], "done"),
        (&["-s", "2", "--alpha", "lanczos"], "done"),
        (&["-s", "2"], "done"),
        (&[], "up_to_date"),
    ] {
        assert_eq!(status(extra), expected, "{extra:?}");
    }
}

#[test]
fn eval_requires_a_model_of_its_scale() {
    wdsr()
        .args(["eval", "-s", "8", "--set", "none"])
        .assert()
        .code(2)
        .stderr(contains("has scale 2"));
}
