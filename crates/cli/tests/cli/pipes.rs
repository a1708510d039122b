//! `wdsr upscale` by standard input and output: images and raw video.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Output, Stdio};

use wdsr_image::{Colour, Format, Image, Limits, Reader, Samples, decode_bytes, encode_bytes};

use super::sizes::result;
use super::upscale::{names, read};
use super::{image, program, wdsr, write};

/// Runs `wdsr upscale ARGUMENTS` with that on standard input.
fn run(arguments: &[&str], input: impl Into<Vec<u8>>) -> Output {
    wdsr()
        .arg("upscale")
        .args(arguments)
        .write_stdin(input.into())
        .output()
        .expect("it runs")
}

/// Standard output of a run that succeeds.
fn output(arguments: &[&str], input: impl Into<Vec<u8>>) -> Vec<u8> {
    let run = run(arguments, input);
    let text = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(0), "{arguments:?}: {text}");
    run.stdout
}

/// The one line of error of a run that fails.
fn error(run: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(code), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    assert_eq!(text.matches("error: ").count(), 1, "{text}");
    text
}

/// Starts `wdsr upscale ARGUMENTS`, of which the test holds the pipes.
fn start(arguments: &[&str], stdout: Stdio) -> Child {
    std::process::Command::new(program::path())
        .arg("upscale")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

fn format_of(bytes: &[u8]) -> Format {
    let reader = Reader::from_bytes(bytes, Path::new("output"), &Limits::default());
    reader.expect("an image").format()
}

fn pixels(bytes: &[u8]) -> Image {
    decode_bytes(bytes, Path::new("output"), &Limits::default()).expect("an image")
}

#[test]
fn pipes_give_the_same_image_as_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let deep = (0..30 * 20 * 4).map(|i| (i * 211 % 65521) as u16).collect();
    let deep = Image::new(30, 20, Colour::RgbAlpha, Samples::U16(deep));
    for (name, low) in [
        ("a.png", deep),
        ("b.jpg", image(30, 20, Colour::Rgb)),
        ("c.tif", image(30, 20, Colour::Grey)),
    ] {
        let input = path(name);
        let (input, large) = (
            input.to_str().expect("text"),
            path(&format!("large-{name}")),
        );
        write(Path::new(input), &low);
        let expected = result(Path::new(input), &large, &["--width", "50"]);
        let bytes = std::fs::read(input).expect("read");
        let format = Format::from_extension(Path::new(name)).expect("a suffix");
        for arguments in [["-i", "-"], ["-i", input], ["--input", "-"], ["-q", "-"]] {
            let arguments = [&arguments[..], &["-o", "-", "--width", "50"]].concat();
            let bytes = output(&arguments, bytes.clone());
            let found = format_of(&bytes);
            assert_eq!(
                (found, &pixels(&bytes)),
                (format, &expected),
                "{arguments:?}"
            );
        }
        let to_file = path(&format!("piped-{name}"));
        let to_file = to_file.to_str().expect("text");
        assert_eq!(output(&["-", "-o", to_file, "--width", "50"], bytes), b"");
        assert_eq!(read(Path::new(to_file)), expected);
    }
}

#[test]
fn pipes_honour_format_report_and_if_exists() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let low = image(9, 8, Colour::Rgb);
    let bytes = encode_bytes(&low, Format::Bmp).expect("encoded");
    let (report, large) = (path("report.jsonl"), path("large.png"));
    let webp = output(
        &["-", "-o", "-", "-f", "webp", "--report", &report],
        bytes.clone(),
    );
    let format = format_of(&webp);
    assert_eq!((format, pixels(&webp).width_px), (Format::WebP, 18));
    let line = std::fs::read_to_string(&report).expect("a report");
    assert!(
        line.contains(r#""input":"standard input","status":"done""#),
        "{line}"
    );

    std::fs::write(&large, "left").expect("written");
    let skip = run(&["-", "-o", &large, "--if-exists", "skip"], bytes.clone());
    assert_eq!(skip.status.code(), Some(0));
    error(
        &run(&["-", "-o", &large, "--if-exists", "error"], bytes.clone()),
        1,
    );
    assert_eq!(std::fs::read(&large).expect("read"), b"left");
    output(&["-", "-o", &large, "--if-exists", "rename"], bytes);
    assert_eq!(
        names(folder.path()),
        ["large-1.png", "large.png", "report.jsonl"]
    );
}

/// The decoder panics on this one; it is a damaged file like others.
#[test]
fn a_panic_of_the_jpeg_xl_decoder_is_one_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out.png");
    let file = "../image/tests/jxl/decoder-gives-up.jxl";
    let run = wdsr()
        .args(["upscale", file, "-o"])
        .arg(&out)
        .output()
        .expect("it runs");
    assert_eq!(run.status.code(), Some(3));
    let told = String::from_utf8(run.stderr).expect("text");
    assert!(told.contains("decoder-gives-up.jxl is damaged"), "{told}");
    assert!(!told.contains("panicked"), "{told}");
    assert!(!out.exists());
}

/// JPEG XL is read and not written: without a format the result is a PNG, of as many bits.
#[test]
fn jpeg_xl_becomes_png() {
    let file = "../image/tests/jxl/greya16.jxl";
    let bytes = std::fs::read(file).expect("a file of the crate image");
    let png = output(&["-i", "-", "-o", "-"], bytes);
    let name = Path::new("output");
    assert_eq!(format_of(&png), Format::Png);
    let large = decode_bytes(&png, name, &Limits::default()).expect("an image");
    assert_eq!((large.width_px, large.height_px), (166, 122));
    assert_eq!(large.colour, Colour::GreyAlpha);
    assert!(matches!(large.samples, Samples::U16(_)), "16 bits stay");

    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let from_file = wdsr().args(["upscale", file, "-o"]).arg(&out).output();
    assert_eq!(from_file.expect("it runs").status.code(), Some(0));
    let made = std::fs::read(out.join("greya16.png")).expect("a result");
    assert!(made == png, "the same image from a file");
}

#[test]
fn broken_input_is_refused_and_nothing_is_written() {
    let png = encode_bytes(&image(40, 30, Colour::Rgb), Format::Png).expect("encoded");
    // Its file is small.
    let flat = Image::new(40, 30, Colour::Rgb, Samples::U8(vec![9; 40 * 30 * 3]));
    let flat = encode_bytes(&flat, Format::Png).expect("encoded");
    let mut jpeg = encode_bytes(&image(40, 30, Colour::Rgb), Format::Jpeg).expect("encoded");
    let middle = jpeg.len() - 200;
    jpeg[middle..middle + 100].fill(0x55);
    for (bytes, extra, code, word) in [
        (&b""[..], &[][..], 3, "standard input is empty"),
        (b"no image", &[], 3, "standard input is not an image"),
        (&png[..png.len() / 2], &[], 3, "standard input is"),
        (&jpeg, &[], 3, "standard input is damaged: scan 1"),
        (&png, &["--max-pixels", "1000"], 3, "--max-pixels 1200"),
        (
            &png,
            &["-f", "jpg", "--longest", "70000"],
            3,
            "at most 65535 a side",
        ),
        (&png, &["--max-memory", "1M"], 4, "--max-memory"),
        (&png, &["--max-memory", "1K"], 4, "--max-memory"),
        (
            &flat,
            &["--max-memory", "3K"],
            4,
            "decoding the image needs",
        ),
    ] {
        let run = run(&[&["-i", "-", "-o", "-"], extra].concat(), bytes);
        let text = error(&run, code);
        assert!(text.contains(word), "{extra:?}: {text}");
        assert_eq!(run.stdout, b"", "{extra:?}");
    }
}

#[test]
fn options_that_contradict_pipes_are_wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().to_str().expect("text");
    for (arguments, word) in [
        (&["-", "a.png", "-o", "-"][..], "one input"),
        (&["a.png", "b.png", "-o", "-"], "one input"),
        (&["-", "-o", folder], "is a folder"),
        (&["-", "-r", "-o", "-"], "-r, --shard and --rows"),
        (
            &["-", "--shard", "1/2", "-o", "-"],
            "-r, --shard and --rows",
        ),
        (&["-", "--if-exists", "skip", "-o", "-"], "--if-exists"),
        (&["-", "-i", "-", "-o", "-"], "cannot be used with"),
        (&["-o", "-"], "required"),
        (
            &["-", "-o", "-", "--rawvideo", "4x4:yuv444p"],
            "640x360:yuv420p",
        ),
        (&["-", "-o", "-", "--matrix", "bt709"], "--rawvideo"),
        (
            &["-", "-o", "a.jxl"],
            "a.jxl: jxl is only read; expected a result of png, jpg, webp, tif, bmp",
        ),
        (&["a.png", "-o", "b", "-f", "jxl"], "jxl is only read"),
        (&["-", "-o", "-", "--range", "full"], "--rawvideo"),
    ] {
        let text = error(&run(arguments, ""), 2);
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
    for extra in [
        &["-r"][..],
        &["--shard", "1/2"],
        &["--report", "r"],
        &["-f", "png"],
    ]
    .into_iter()
    .chain([&["--metadata", "keep"][..], &["--alpha", "network"]])
    {
        let arguments = ["-", "-o", "-", "--rawvideo", "4x4:rgb24"];
        let text = error(&run(&[&arguments, extra].concat(), ""), 2);
        assert!(text.contains("cannot be used with"), "{extra:?}: {text}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn terminals_are_refused() {
    // The other end of a terminal, which is one itself.
    let terminal = || {
        let terminal = File::options().read(true).write(true).open("/dev/ptmx");
        Stdio::from(terminal.expect("a terminal"))
    };
    for extra in [&[][..], &["--rawvideo", "4x4:rgb24"]] {
        let command = || {
            let mut command = std::process::Command::new(program::path());
            command.args(["upscale", "-", "-o", "-"]).args(extra);
            command
        };
        let run = command().stdin(Stdio::null()).stdout(terminal()).output();
        let text = error(&run.expect("it runs"), 2);
        assert!(text.contains("standard output is a terminal"), "{text}");
        let run = command().stdin(terminal()).output().expect("it runs");
        let text = error(&run, 2);
        assert!(text.contains("standard input is a terminal"), "{text}");
    }
}

/// The result of an image's network, frame by frame.
fn frames(count: usize, width: usize, height: usize) -> (Vec<u8>, Vec<Image>) {
    let bytes = |image: &Image| match &image.samples {
        Samples::U8(samples) => samples.clone(),
        samples => panic!("8 bit, not {:?}", samples.depth()),
    };
    let whole = image(width, height * count, Colour::Rgb);
    let whole = bytes(&whole);
    let parts = whole.chunks(width * height * 3);
    let images =
        parts.map(|part| Image::new(width, height, Colour::Rgb, Samples::U8(part.to_vec())));
    let images = images.collect();
    (whole, images)
}

#[test]
fn every_rgb24_frame_is_upscaled_as_an_image_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, _) = frames(3, 21, 13);
    let raw = folder.path().join("in.rgb");
    std::fs::write(&raw, &input).expect("written");
    for size in [
        &[][..],
        &["--width", "30"],
        &["--factor", "0.5"],
        &["-s", "3"],
    ] {
        let mut expected = Vec::new();
        for image in frames(3, 21, 13).1 {
            let [low, high] = ["low.png", "high.png"].map(|name| folder.path().join(name));
            write(&low, &image);
            let Samples::U8(samples) = result(&low, &high, size).samples else {
                panic!("8 bit");
            };
            expected.extend(samples);
        }
        let video = [&["--rawvideo", "21x13:rgb24", "-j", "2"], size].concat();
        assert_eq!(
            output(&[&["-", "-o", "-"], &video[..]].concat(), input.clone()),
            expected
        );
        let to_file = folder.path().join("out.rgb");
        let (from, to) = (raw.to_str().expect("text"), to_file.to_str().expect("text"));
        let printed = output(&[&["-i", from, "-o", to], &video[..]].concat(), "");
        assert_eq!(printed, b"");
        assert_eq!(
            std::fs::read(&to_file).expect("written"),
            expected,
            "{size:?}"
        );
    }
    assert_eq!(
        names(folder.path()),
        ["high.png", "in.rgb", "low.png", "out.rgb"]
    );
}

#[test]
fn a_truncated_frame_is_an_error_after_the_whole_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, _) = frames(3, 21, 13);
    let frame = 21 * 13 * 3;
    let large = output(
        &["-", "-o", "-", "--rawvideo", "21x13:rgb24"],
        input.clone(),
    );
    let to_file = folder.path().join("out.rgb");
    let video = ["--rawvideo", "21x13:rgb24", "-o"];
    for whole in 0..3 {
        for found in [1, frame - 1] {
            let bytes = &input[..whole * frame + found];
            let code = if whole == 0 { 3 } else { 1 };
            let piped = run(&[&["-"], &video[..], &["-"]].concat(), bytes);
            let text = error(&piped, code);
            assert!(
                text.contains(&format!("expected 819 bytes, found {found}")),
                "{text}"
            );
            assert_eq!(piped.stdout, large[..whole * frame * 4], "{whole} frames");
            let to = to_file.to_str().expect("text");
            error(&run(&[&["-"], &video[..], &[to]].concat(), bytes), code);
            let written = std::fs::read(&to_file).unwrap_or_default();
            assert_eq!(written, large[..whole * frame * 4], "{whole} frames");
        }
    }
    assert_eq!(names(folder.path()), ["out.rgb"]);
    let text = error(&run(&[&["-"], &video[..], &["-"]].concat(), ""), 3);
    assert!(text.contains("expected 819 bytes, found 0"), "{text}");
    let little = [
        "-",
        "--max-memory",
        "1M",
        "-o",
        "-",
        "--rawvideo",
        "21x13:rgb24",
    ];
    let text = error(&run(&little, input), 4);
    assert!(text.contains("--max-memory"), "{text}");
}

#[test]
fn yuv420p_keeps_its_colours_and_odd_sizes() {
    // As large as before: the conversions alone.
    let (width, height) = (21, 13);
    let luma = (0..width * height).map(|i| 40 + (i % width * 7 + i / width * 3) as u8);
    let chroma = (0..2 * 11 * 7).map(|i| 100 + (i % 11 * 4) as u8);
    let frame: Vec<u8> = luma.chain(chroma).collect();
    let video = ["-", "-o", "-", "--rawvideo", "21x13:yuv420p"];
    let same = output(&[&video[..], &["--factor", "1"]].concat(), frame.repeat(2));
    let worst = same
        .iter()
        .zip(frame.repeat(2))
        .map(|(a, b)| a.abs_diff(b))
        .max();
    assert_eq!(
        (same.len(), worst),
        (2 * frame.len(), Some(1)),
        "worst difference"
    );

    // 43 x 27 comes of 42 x 26 only by upscaling further and resizing.
    for (size, bytes) in [
        (&[][..], 42 * 26 + 2 * 21 * 13),
        (&["--size", "43x27"], 43 * 27 + 2 * 22 * 14),
    ] {
        let by = |extra: &[&str]| output(&[&video[..], size, extra].concat(), frame.clone());
        let large = by(&[]);
        assert_eq!(large.len(), bytes, "{size:?}");
        // Small frames are bt601 and limited unless asked otherwise.
        assert_eq!(by(&["--matrix", "bt601", "--range", "limited"]), large);
        assert_ne!(by(&["--matrix", "bt709"]), large);
        assert_ne!(by(&["--range", "full"]), large);
    }
}

#[test]
fn luma_of_grey_frames_is_upscaled_as_a_grey_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let [low, high] = ["low.png", "high.png"].map(|name| folder.path().join(name));
    let grey = image(20, 12, Colour::Grey);
    write(&low, &grey);
    let (Samples::U8(grey), Samples::U8(large)) = (grey.samples, result(&low, &high, &[]).samples)
    else {
        panic!("8 bit");
    };
    let frame = [grey, vec![128; 2 * 60]].concat();
    let video = [
        "-",
        "-o",
        "-",
        "--rawvideo",
        "20x12:yuv420p",
        "--range",
        "full",
    ];
    for matrix in ["bt601", "bt709"] {
        let frame = output(&[&video[..], &["--matrix", matrix]].concat(), frame.clone());
        // Grey is the mean of the network's colours, luma a weighted one.
        let luma = large.iter().zip(&frame);
        let worst = luma.map(|(a, b)| a.abs_diff(*b)).max().expect("pixels");
        assert!(worst <= 4, "{matrix}: luma is off by {worst}");
        let chroma = frame[large.len()..]
            .iter()
            .map(|code| code.abs_diff(128))
            .max();
        assert!(chroma <= Some(4), "{matrix}: chroma is off by {chroma:?}");
    }
}

#[test]
fn frames_stream_until_an_interrupt() {
    let (input, _) = frames(3, 21, 13);
    let mut child = start(
        &["-", "-o", "-", "--rawvideo", "21x13:rgb24"],
        Stdio::piped(),
    );
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&input).expect("written");
    // All of them come while the source is still open.
    let mut large = vec![0; 4 * input.len()];
    let stdout = child.stdout.as_mut().expect("a pipe");
    stdout.read_exact(&mut large).expect("three frames");
    let expected = output(&["-", "-o", "-", "--rawvideo", "21x13:rgb24"], input);
    assert_eq!(large, expected);
    #[cfg(unix)]
    {
        let kill = std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(kill.expect("it runs").success(), "interrupted");
        assert_eq!(child.wait().expect("it ends").code(), Some(130));
    }
    drop(stdin);
    child.wait().expect("it ends");
}

#[test]
fn a_closed_pipe_and_a_full_disk_are_errors_without_a_panic() {
    let (video, _) = frames(3, 21, 13);
    let png = encode_bytes(&image(40, 30, Colour::Rgb), Format::Png).expect("encoded");
    let cases: [(&[&str], &[u8], &str); 2] = [
        (&["-", "-o", "-"], &png, "all of the image"),
        (
            &["-", "-o", "-", "--rawvideo", "21x13:rgb24"],
            &video,
            "all of frame 1",
        ),
    ];
    for (arguments, input, word) in cases {
        let mut child = start(arguments, Stdio::piped());
        drop(child.stdout.take());
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input).expect("written");
        drop(stdin);
        let text = error(&child.wait_with_output().expect("it ends"), 1);
        assert!(
            text.contains("its reader closed it") && text.contains(word),
            "{text}"
        );
        #[cfg(target_os = "linux")]
        {
            let full = File::options()
                .write(true)
                .open("/dev/full")
                .expect("opened");
            let mut child = start(arguments, Stdio::from(full));
            let mut stdin = child.stdin.take().expect("a pipe");
            stdin.write_all(input).expect("written");
            drop(stdin);
            let text = error(&child.wait_with_output().expect("it ends"), 4);
            assert!(text.contains("standard output: cannot write"), "{text}");
        }
    }
}
