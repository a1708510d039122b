use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use wdsr_image::{Colour, Image, Samples};

use super::{image, wdsr, write};

#[test]
fn json_has_the_documented_fields() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a.png"), &image(40, 36, Colour::Rgb));
    write(&folder.path().join("b.png"), &image(41, 37, Colour::Grey));
    let output = wdsr()
        .args(["eval", "--json", "--set"])
        .arg(folder.path())
        .output()
        .expect("runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["scale"], 2);
    assert_eq!(report["protocol"], "benchmark");
    assert_eq!(report["images"].as_array().map(Vec::len), Some(2));
    let figures = ["psnr_db", "ssim", "bicubic_psnr_db", "bicubic_ssim"];
    for figure in figures {
        let of = |v: &serde_json::Value| v[figure].as_f64().expect("a number");
        let images = report["images"].as_array().expect("a list");
        let mean = images.iter().map(of).sum::<f64>() / 2.0;
        assert!((of(&report["mean"]) - mean).abs() < 1e-12, "{figure}");
    }
}

#[test]
fn prints_the_protocol_with_the_scores() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a.png"), &image(60, 50, Colour::Rgb));
    wdsr()
        .args(["eval", "--protocol", "div2k", "--set"])
        .arg(folder.path())
        .assert()
        .success()
        .stdout(contains("div2k: RGB, 8 bit, 8 px cropped on each side"));
}

#[test]
fn reports_the_loss_of_bf16() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a.png"), &image(60, 50, Colour::Rgb));
    let run = |more: &[&str]| {
        let output = wdsr()
            .args(["eval", "--precision", "bf16", "--set"])
            .arg(folder.path())
            .args(more)
            .output()
            .expect("runs");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let report: serde_json::Value = serde_json::from_slice(&run(&["--json"])).expect("JSON");
    let number = |v: &serde_json::Value| v.as_f64().expect("a number");
    assert_eq!(report["precision"], "bf16");
    let [bf16, f32] = ["mean", "f32_mean"].map(|mean| number(&report[mean]["psnr_db"]));
    assert!((number(&report["loss_db"]) - (f32 - bf16)).abs() < 1e-12);
    assert_ne!(bf16, f32, "bf16 and f32 have the same scores");
    assert!((f32 - bf16).abs() < 0.05, "bf16 {bf16}, f32 {f32}");
    let table = String::from_utf8(run(&[])).expect("text");
    let line = format!("bf16: {bf16:.4} dB; f32: {f32:.4} dB; loss ");
    assert!(table.contains(&line), "{table}, without {line}");
}

#[test]
fn scores_the_other_images_if_some_cannot_be_scored() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("damaged.png"), b"\x89PNG\r\n\x1a\n").expect("written");
    write(&path("tiny.png"), &image(12, 12, Colour::Rgb));
    let names_both = || contains("damaged.png").and(contains("tiny.png: 12 x 12 pixels"));
    // None can be scored.
    wdsr()
        .args(["eval", "--set"])
        .arg(folder.path())
        .assert()
        .code(3)
        .stdout("")
        .stderr(names_both());

    write(&path("whole.png"), &image(40, 36, Colour::Rgb));
    for precision in ["f32", "bf16"] {
        let assert = wdsr()
            .args(["eval", "--json", "--precision", precision, "--set"])
            .arg(folder.path())
            .assert()
            .code(1)
            .stderr(names_both());
        let report: serde_json::Value =
            serde_json::from_slice(&assert.get_output().stdout).expect("JSON");
        let names = |list: &str, key: &str| -> Vec<String> {
            let list = report[list].as_array().expect("a list");
            let name = |entry: &serde_json::Value| entry[key].as_str().expect("text").to_owned();
            list.iter().map(name).collect()
        };
        assert_eq!(names("images", "name"), ["whole"]);
        let failed = [path("damaged.png"), path("tiny.png")];
        assert_eq!(
            names("failed", "file"),
            failed.map(|p| p.display().to_string())
        );
        assert_eq!(report["mean"]["ssim"], report["images"][0]["ssim"]);
    }
    wdsr()
        .args(["eval", "--set"])
        .arg(folder.path())
        .assert()
        .code(1)
        .stdout(contains("not scored: 2 of 3 images"));
}

#[test]
fn scores_the_paired_images_if_some_have_no_counterpart() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, width) in [
        ("HR/a.png", 40),
        ("LR_bicubic/X2/a.png", 20),
        ("HR/b.png", 40),
    ] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        write(&path, &image(width, width, Colour::Rgb));
    }
    wdsr()
        .args(["eval", "--set"])
        .arg(folder.path())
        .assert()
        .code(1)
        .stdout(contains("not scored: 1 of 2 images"))
        .stderr(contains("b.png: no low-resolution image"));
}

#[test]
fn infinite_psnr_is_null_in_json() {
    let folder = tempfile::tempdir().expect("a folder");
    // Bicubic interpolation reproduces a single colour.
    let samples = Samples::U8(vec![90; 40 * 36 * 3]);
    let single_colour = Image::new(40, 36, Colour::Rgb, samples);
    write(&folder.path().join("a.png"), &single_colour);
    let output = wdsr()
        .args(["eval", "--json", "--set"])
        .arg(folder.path())
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let report: serde_json::Value = serde_json::from_slice(&output).expect("JSON");
    for scores in [&report["images"][0], &report["mean"]] {
        assert!(scores["bicubic_psnr_db"].is_null(), "{report}");
        assert_eq!(scores["bicubic_ssim"], 1.0, "{report}");
    }
}

#[test]
fn says_where_the_low_resolution_images_come_from() {
    let set_of = |files: &[(&str, usize)]| {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, width) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            write(&path, &image(*width, *width, Colour::Rgb));
        }
        folder
    };
    let eval = |folder: &tempfile::TempDir| {
        let mut command = wdsr();
        command.args(["eval", "--set"]).arg(folder.path());
        command
    };
    for (files, expected) in [
        (
            &[("a.png", 40)][..],
            "low-resolution images: computed by imresize",
        ),
        (&[("HR/a.png", 40), ("LR/a.png", 20)], "/LR\n"),
        (
            &[
                ("original/a.png", 41),
                ("GTmod12/a.png", 36),
                ("LRbicx2/a.png", 18),
                ("LRbicx3/a.png", 12),
            ],
            "/LRbicx2\n",
        ),
        (
            &[("HR/a.png", 40), ("LR_bicubic/X3/a.png", 13)],
            "computed by imresize",
        ),
    ] {
        let folder = set_of(files);
        eval(&folder)
            .assert()
            .success()
            .stdout(contains(expected).and(contains("\na        ")));
        let json = eval(&folder)
            .arg("--json")
            .assert()
            .success()
            .get_output()
            .stdout
            .clone();
        let report: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(
            report["images"].as_array().map(Vec::len),
            Some(1),
            "{files:?}"
        );
        assert!(report["low_images"].is_string(), "{report}");
        let check = wdsr()
            .args(["data", "check", "--patch", "8"])
            .arg(folder.path())
            .assert();
        check.stdout(contains(expected).and(contains("1 images, 1 usable")));
    }
    let folder = set_of(&[("HR/a.png", 40), ("LR_blur/a.png", 20)]);
    for mut command in [eval(&folder), {
        let mut command = wdsr();
        command.args(["data", "check"]).arg(folder.path());
        command
    }] {
        command
            .assert()
            .code(1)
            .stderr(contains("LR_blur").and(contains("understood are")));
    }
}

#[test]
fn jpeg_protocols_degrade_the_input() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a.png"), &image(60, 50, Colour::Rgb));
    let eval = |more: &[&str]| {
        let mut command = wdsr();
        command
            .args(["eval", "--set"])
            .arg(folder.path())
            .args(more);
        command.assert()
    };
    let photo = ["-m", "photo", "-s", "1", "--strength", "0"];
    // The model is the identity, so that it scores as its input.
    let jpeg = [
        &photo[..],
        &["--protocol", "jpeg", "--quality", "50", "--json"],
    ]
    .concat();
    let output = eval(&jpeg).success().get_output().stdout.clone();
    let report: serde_json::Value = serde_json::from_slice(&output).expect("JSON");
    assert_eq!(report["protocol"], "jpeg");
    assert_eq!(report["mean"]["psnr_db"], report["mean"]["bicubic_psnr_db"]);
    assert!(report["mean"]["psnr_db"].as_f64().expect("a number") < 60.0);
    let sr_jpeg = ["--protocol", "sr-jpeg", "--quality", "75"];
    eval(&sr_jpeg)
        .success()
        .stdout(contains("input is imresize, then JPEG of quality 75"));
    eval(&["--protocol", "jpeg"])
        .code(3)
        .stderr(contains("jpeg expects x1, found x2"));
    eval(&["--protocol", "ntire2018", "-s", "4"])
        .code(3)
        .stderr(contains("expected at least 160 x 160"));
}

#[test]
fn options_of_other_protocols_and_models_are_refused() {
    for (arguments, message) in [
        (
            &["--quality", "50"][..],
            "--quality: expected --protocol jpeg or sr-jpeg",
        ),
        (
            &["--protocol", "sr-jpeg", "--grey"],
            "--grey: expected --protocol jpeg",
        ),
        (&["--strength", "0.5"], "has no strength"),
        (&["--strength", "auto"], "has no strength"),
        (&["--images", "."], "give it by -s"),
        (&["--images", ".", "-m", "base"], "cannot be used with"),
    ] {
        wdsr()
            .args(["eval", "--set", "."])
            .args(arguments)
            .assert()
            .code(2)
            .stderr(contains(message));
    }
}

#[test]
fn strengths_are_read_off_the_tables_of_the_protocols_jpeg() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a.png"), &image(96, 64, Colour::Rgb));
    let eval = |more: &[&str]| {
        let mut command = wdsr();
        command.args(["eval", "-m", "photo", "--set"]);
        command
            .arg(folder.path())
            .args(more)
            .output()
            .expect("runs")
    };
    let report = |more: &[&str]| -> serde_json::Value {
        let output = eval(&[more, &["--json"]].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    for protocol in [
        &["-s", "1", "--protocol", "jpeg", "--quality", "50"][..],
        &["--protocol", "sr-jpeg", "--quality", "50"],
    ] {
        let auto = report(protocol);
        assert_eq!(auto["strength"], "read off the tables of each input");
        assert_eq!(auto["images"][0]["damage"], "JPEG of quality 50");
        let strength = auto["images"][0]["strength"].as_f64().expect("a number");
        let given = report(&[protocol, &["--strength", &format!("{strength}")]].concat());
        assert_eq!(given["mean"], auto["mean"], "{protocol:?}");
    }
    let clean = eval(&["--strength", "auto"]);
    let table = String::from_utf8(clean.stdout).expect("text");
    assert!(
        table.contains("\nstrength: read off each input: the tables of"),
        "{table}"
    );
    assert!(table.contains("  0.00 (clean)\n"), "{table}");
}

#[test]
fn finished_images_are_scored_as_a_model_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for name in ["set", "low", "out"] {
        std::fs::create_dir(path(name)).expect("created");
    }
    for name in ["a", "b", "c"] {
        let high = image(60, 50 + usize::from(name == "b"), Colour::Rgb);
        write(&path(&format!("set/{name}.png")), &high);
        let samples = high.to_rgb8()[..60 * 50 * 3].to_vec();
        let cropped = Image::new(60, 50, Colour::Rgb, Samples::U8(samples));
        write(&path(&format!("low/{name}.png")), &cropped.imresize(0.5));
    }
    wdsr()
        .args(["upscale", "-q", "-m", "base", "-o"])
        .args([path("out"), path("low")])
        .assert()
        .success();
    let eval = |more: &[&str]| {
        let mut command = wdsr();
        command.args(["eval", "--set"]).arg(path("set")).args(more);
        command.args(["-s", "2"]).output().expect("runs")
    };
    let out = path("out");
    let images = ["--images", out.to_str().expect("text")];
    let parsed = |output: &std::process::Output| -> serde_json::Value {
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    std::fs::rename(path("out/a.png"), path("out/A_x2.png")).expect("renamed");
    std::fs::rename(path("out/b.png"), path("out/bx2_SR.png")).expect("renamed");
    for protocol in ["benchmark", "div2k", "ntire", "sr-jpeg"] {
        let of_images = eval(&[&images[..], &["--json", "--protocol", protocol]].concat());
        assert!(of_images.status.success(), "{of_images:?}");
        let of_images = parsed(&of_images);
        assert_eq!(of_images["images"].as_array().map(Vec::len), Some(3));
        if protocol != "sr-jpeg" {
            let of_model = parsed(&eval(&["-m", "base", "--json", "--protocol", protocol]));
            assert_eq!(of_images["mean"], of_model["mean"], "{protocol}");
        }
    }
    // An original without an image, one with two, an image of another size and one too many.
    std::fs::copy(path("out/A_x2.png"), path("out/a-2x.png")).expect("copied");
    std::fs::rename(path("out/bx2_SR.png"), path("out/d.png")).expect("renamed");
    write(&path("out/c.png"), &image(61, 50, Colour::Rgb));
    let output = eval(&images);
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(3), "{text}");
    for words in [
        "b.png: no finished image for it in",
        "a.png: several finished images are for it: ",
        "A_x2.png, ",
        "a-2x.png; leave one of them",
        "c.png: 61 x 50 pixels, expected 60 x 50",
        "without original: ",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    write(&path("out/c.png"), &image(60, 50, Colour::Rgb));
    let output = eval(&images);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(table.contains("not scored: 2 of 3 images"), "{table}");
}
