use std::path::Path;

use predicates::str::contains;
use wdsr_image::{Colour, Image, Limits, Samples, decode};

use super::{image, wdsr, write};

pub(crate) fn read(path: &Path) -> Image {
    decode(path, &Limits::default()).expect("an image")
}

/// Names in a folder, hidden ones too: no temporary file may be left.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// The one line on stderr of a failing run.
fn error_line(arguments: &[&Path], code: i32) -> String {
    let output = wdsr()
        .arg("upscale")
        .args(arguments)
        .output()
        .expect("it runs");
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(code), "{text}");
    let errors: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    errors[0].to_owned()
}

#[test]
fn results_are_the_same_for_all_tiles_and_threads() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("in.png");
    write(&input, &image(70, 45, Colour::Rgb));
    let mut results = Vec::new();
    for (tile, threads) in [("0", "1"), ("16", "2"), ("33", "1"), ("256", "2")] {
        let output = folder.path().join(format!("out-{tile}-{threads}.png"));
        wdsr()
            .args(["upscale", "-t", tile, "-j", threads, "-o"])
            .args([&output, &input])
            .assert()
            .success();
        results.push(std::fs::read(&output).expect("written"));
    }
    assert!(
        results.iter().all(|bytes| *bytes == results[0]),
        "tile or threads change the file"
    );
    let large = read(&folder.path().join("out-0-1.png"));
    assert_eq!((large.width_px, large.height_px), (140, 90));
}

#[test]
fn keeps_depth_grey_and_alpha_and_chooses_formats() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let deep = Image::new(
        9,
        8,
        Colour::Rgb,
        Samples::U16((0..216).map(|i| i * 300).collect()),
    );
    write(&path("deep.png"), &deep);
    write(&path("grey.png"), &image(9, 8, Colour::Grey));
    write(&path("alpha.png"), &image(9, 8, Colour::RgbAlpha));
    for name in ["deep", "grey", "alpha"] {
        let (input, output) = (path(&format!("{name}.png")), path(&format!("{name}-2.png")));
        wdsr()
            .arg("upscale")
            .arg(&input)
            .arg("-o")
            .arg(&output)
            .assert()
            .success();
        let (small, large) = (read(&input), read(&output));
        assert_eq!(
            (large.colour, large.depth()),
            (small.colour, small.depth()),
            "{name}"
        );
        assert_eq!((large.width_px, large.height_px), (18, 16), "{name}");
    }
    for suffix in ["jpg", "webp", "tif", "bmp"] {
        let output = path(&format!("out.{suffix}"));
        wdsr()
            .arg("upscale")
            .arg(path("deep.png"))
            .arg("-o")
            .arg(path("x.tif"))
            .assert()
            .success();
        wdsr()
            .args(["upscale", "-q"])
            .arg(path("grey.png"))
            .arg("-o")
            .arg(&output)
            .assert()
            .success();
        assert_eq!(read(&output).width_px, 18, "{suffix}");
    }
    wdsr()
        .args(["upscale", "-f", "jpg", "-o"])
        .args([path("y.jpg"), path("alpha.png")])
        .assert()
        .code(3)
        .stderr(contains("alpha.png").and_also_names("png, webp, tiff, bmp can"));
}

/// Two conditions on one text.
trait Both {
    fn and_also_names(self, text: &'static str) -> predicates::BoxPredicate<str>;
}

impl<P: predicates::Predicate<str> + Send + Sync + 'static> Both for P {
    fn and_also_names(self, text: &'static str) -> predicates::BoxPredicate<str> {
        use predicates::prelude::PredicateBooleanExt;
        predicates::BoxPredicate::new(self.and(contains(text)))
    }
}

#[test]
fn the_environment_chooses_a_slower_instruction_set_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    write(&path("in.png"), &image(20, 16, Colour::Rgb));
    let run = |isa: &str, output: &Path| {
        let mut command = wdsr();
        command
            .env("WDSR_ISA", isa)
            .arg("upscale")
            .arg(path("in.png"))
            .arg("-o")
            .arg(output);
        command.assert()
    };
    run("reference", &path("a.png")).success();
    run("avx2", &path("b.png")).success();
    let (a, b) = (
        read(&path("a.png")).to_rgb8(),
        read(&path("b.png")).to_rgb8(),
    );
    assert!(
        a.iter().zip(&b).all(|(a, b)| a.abs_diff(*b) <= 1),
        "more than 1 level apart"
    );
    run("avx9", &path("c.png"))
        .code(1)
        .stderr(contains("WDSR_ISA is `avx9`"));
}

#[test]
fn bf16_is_f32_where_it_is_not_faster() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    write(&path("in.png"), &image(20, 16, Colour::Rgb));
    let run = |precision: &str, output: &Path| {
        let mut command = wdsr();
        command
            .env("WDSR_ISA", "reference")
            .args(["upscale", "--precision", precision])
            .arg(path("in.png"))
            .arg("-o")
            .arg(output);
        command.assert().success()
    };
    run("f32", &path("a.png"));
    run("bf16", &path("b.png"))
        .stderr(contains(
            "--precision bf16: not faster than f32 on this processor (reference)",
        ))
        .stderr(contains("computing in f32"));
    let bytes = |name: &str| std::fs::read(path(name)).expect("a file");
    assert_eq!(bytes("a.png"), bytes("b.png"));
}

#[test]
fn self_ensemble_differs_a_little() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    write(&path("in.png"), &image(20, 16, Colour::Rgb));
    wdsr()
        .arg("upscale")
        .arg(path("in.png"))
        .arg("-o")
        .arg(path("a.png"))
        .assert()
        .success();
    wdsr()
        .args(["upscale", "-x"])
        .arg(path("in.png"))
        .arg("-o")
        .arg(path("b.png"))
        .assert()
        .success();
    let (a, b) = (
        read(&path("a.png")).to_rgb8(),
        read(&path("b.png")).to_rgb8(),
    );
    let mean = a
        .iter()
        .zip(&b)
        .map(|(a, b)| f64::from(a.abs_diff(*b)))
        .sum::<f64>()
        / a.len() as f64;
    assert!(mean > 0.0 && mean < 8.0, "mean difference {mean}");
}

#[test]
fn a_broken_image_fails_alone_in_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::create_dir(&input).expect("a folder");
    write(&input.join("a.png"), &image(8, 8, Colour::Rgb));
    std::fs::write(input.join("b.png"), "no image at all").expect("written");
    let whole = std::fs::read(input.join("a.png")).expect("read");
    std::fs::write(input.join("c.png"), &whole[..whole.len() / 2]).expect("written");
    write(&input.join("d.jpg"), &image(8, 8, Colour::Rgb));
    std::fs::write(input.join("notes.txt"), "left alone").expect("written");
    wdsr()
        .arg("upscale")
        .arg(&input)
        .arg("-o")
        .arg(&output)
        .assert()
        .code(1)
        .stderr(contains("b.png").and_also_names("c.png"));
    assert_eq!(names(&output), [".wdsr-manifest.jsonl", "a.png", "d.jpg"]);
}

#[test]
fn bad_inputs_give_one_line_of_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let flag = Path::new("-o");
    let output = path("out.png");
    let line = |input: &Path| error_line(&[input, flag, &output], 3);

    std::fs::write(path("text.png"), "hello, this is text").expect("written");
    assert!(line(&path("text.png")).contains("text.png"));
    std::fs::write(path("empty.png"), "").expect("written");
    assert!(line(&path("empty.png")).contains("empty.png"));
    assert!(line(&path("missing.png")).contains("missing.png"));

    write(&path("one.png"), &image(1, 1, Colour::Rgb));
    let one = path("one.png");
    wdsr()
        .arg("upscale")
        .arg(&one)
        .arg("-o")
        .arg(path("two.png"))
        .assert()
        .success();
    assert_eq!(read(&path("two.png")).width_px, 2);

    let mut huge = std::fs::read(&one).expect("read");
    huge[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
    let checksum = crc32(&huge[12..29]);
    huge[29..33].copy_from_slice(&checksum.to_be_bytes());
    std::fs::write(path("huge.png"), &huge).expect("written");
    let message = line(&path("huge.png"));
    assert!(message.contains("100000"), "{message}");
    huge[16..24].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
    let checksum = crc32(&huge[12..29]);
    huge[29..33].copy_from_slice(&checksum.to_be_bytes());
    std::fs::write(path("zero.png"), &huge).expect("written");
    assert!(line(&path("zero.png")).contains("zero.png"));
    assert!(!output.exists(), "an output of a failed input");

    std::fs::create_dir(path("none")).expect("a folder");
    let message = error_line(&[&path("none"), flag, &path("out")], 3);
    assert!(message.contains("none"), "{message}");
    // A file where the output folder should be.
    let message = error_line(&[&one, &one, flag, &path("text.png/out")], 1);
    assert!(message.contains("text.png"), "{message}");
    // The input itself as output.
    let message = error_line(&[&one, flag, &one], 1);
    assert!(message.contains("would replace the input"), "{message}");
}

/// A device that is always full: the write fails, and nothing is left under the name.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_leaves_no_partial_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("in.png");
    write(&input, &image(100, 100, Colour::Rgb));
    let output = folder.path().join("out.bmp");
    // A limit on the size of files stands in for the full disk: the same error path, no mount.
    let arguments = ["upscale", "-m", "small", "-o"].map(Path::new);
    let (code, text) = super::program::under_limits(
        "trap '' XFSZ; ulimit -f 64",
        arguments.into_iter().chain([&*output, &*input]),
    );
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("out.bmp"), "{text}");
    assert_eq!(names(folder.path()), ["in.png"]);
}

#[test]
fn wrong_usage_ends_with_code_2() {
    wdsr().arg("upscale").assert().code(2);
    wdsr()
        .args(["upscale", "a.png", "-o", "b.png", "-f", "psd"])
        .assert()
        .code(2);
    wdsr().arg("no-such-command").assert().code(2);
}

/// PNG's checksum.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}
