//! What files and folders contain beside the images that are upscaled, as a user is told.

use std::path::Path;
use std::time::Duration;

use wdsr_image::{Colour, Depth, Format, Image, Samples, decode_bytes, encode_bytes};
use wdsr_testing::containers::{ASCII, LONG, TiffBuilder, with_jpeg_segments, with_png_chunks};

use super::upscale::{names, read};
use super::{image, wdsr, write};

/// The exit code, the lines of standard error, and the report of `wdsr upscale IN... -o OUT EXTRA`.
struct Run {
    code: i32,
    stderr: String,
    report: Vec<serde_json::Value>,
}

impl Run {
    /// The line of the report about an input.
    fn about(&self, input: &str) -> &serde_json::Value {
        let ends =
            |line: &&serde_json::Value| line["input"].as_str().is_some_and(|i| i.ends_with(input));
        self.report
            .iter()
            .find(ends)
            .unwrap_or_else(|| panic!("{input} in {:?}", self.report))
    }

    /// What the report says was left out of an input's result.
    fn left_out(&self, input: &str) -> String {
        let line = self.about(input);
        assert_eq!(line["status"], "done", "{line}");
        let left_out = line["left_out"].as_array().cloned().unwrap_or_default();
        let lines: Vec<&str> = left_out.iter().filter_map(|l| l.as_str()).collect();
        lines.join("; ")
    }
}

fn run(folder: &Path, inputs: &[&str], output: &str, extra: &[&str]) -> Run {
    let run = wdsr()
        .current_dir(folder)
        .arg("upscale")
        .args(inputs)
        .args(["-o", output, "--report", "report.jsonl", "-m", "small"])
        .args(extra)
        .timeout(Duration::from_secs(60))
        .output()
        .expect("it runs");
    let report = std::fs::read_to_string(folder.join("report.jsonl")).expect("a report");
    Run {
        code: run.status.code().expect("a code"),
        stderr: String::from_utf8_lossy(&run.stderr).into_owned(),
        report: report
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect(),
    }
}

fn bytes_of(format: Format) -> Vec<u8> {
    encode_bytes(&image(16, 12, Colour::Rgb), format).expect("a file")
}

#[test]
fn every_image_of_a_folder_is_upscaled_or_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join("in").join(name);
    std::fs::create_dir(folder.path().join("in")).expect("a folder");
    write(&path("photo.png"), &image(8, 6, Colour::Rgb));
    let unread: [(&str, &[u8]); 6] = [
        // Of the same name as the image that is read.
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0"),
        ("photo.dng", &bytes_of(Format::Tiff)),
        ("b.exr", b"\x76\x2f\x31\x01"),
        ("c.psd", b"8BPS\0\x01"),
        ("d.jp2", b"\0\0\0\x0cjP  \r\n\x87\n"),
        ("e.jxr", b"II\xbc\x01"),
    ];
    for (name, bytes) in unread {
        std::fs::write(path(name), bytes).expect("a file");
    }
    std::fs::write(path("notes.txt"), "no image").expect("a file");
    for extra in [&[][..], &["-f", "png"]] {
        let run = run(folder.path(), &["in"], "out", extra);
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert_eq!(run.report.len(), unread.len() + 1, "{:?}", run.report);
        for (name, _) in unread {
            let line = run.about(name);
            assert_eq!(line["status"], "failed", "{line}");
            let error = line["error"].as_str().expect("an error");
            assert!(error.contains("files are not read"), "{error}");
            assert!(run.stderr.contains(error), "{}", run.stderr);
        }
        let done = run.about("photo.png")["status"].as_str();
        assert!(matches!(done, Some("done" | "up_to_date")), "{done:?}");
    }
    assert_eq!(
        names(&folder.path().join("out")),
        [".wdsr-manifest.jsonl", "photo.png"]
    );
}

#[test]
fn images_beside_the_first_are_named_on_the_line_and_in_the_report() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let jpeg = bytes_of(Format::Jpeg);
    let iso: &[u8] = b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0";
    let ultra = [&with_jpeg_segments(&jpeg, &[(0xe2, iso)])[..], &jpeg].concat();
    let motion = [
        &jpeg[..],
        b"\0\0\0\x18ftypmp42\0\0\0\0isommp42\0\0\0\x08mdat",
    ]
    .concat();
    let builder = TiffBuilder::new(false);
    let pages = [1, 2, 3].map(|i| builder.grey(4, 3, vec![i; 12]));
    let files = [
        ("ultra.jpg", ultra, "gain map"),
        ("motion.jpg", motion, "video of a motion photo"),
        ("stereo.mpo", jpeg.repeat(2), "1 further image"),
        ("pages.tif", builder.file(&pages), "2 further pages"),
        (
            "unmarked.jpg",
            jpeg[..jpeg.len() - 2].to_vec(),
            "end-of-image marker",
        ),
    ];
    for (name, bytes, _) in &files {
        std::fs::write(path(name), bytes).expect("a file");
    }
    let inputs: Vec<&str> = files.iter().map(|(name, ..)| *name).collect();
    for extra in [&["-f", "png"][..], &["--metadata", "strip", "-f", "png"]] {
        let run = run(folder.path(), &inputs, "out", extra);
        assert_eq!(run.code, 0, "{}", run.stderr);
        for (name, _, expected) in &files {
            let left_out = run.left_out(name);
            assert!(left_out.contains(expected), "{name}: {left_out}");
            assert!(
                run.stderr.contains(&format!("{name}: dropped {expected}")),
                "{}",
                run.stderr
            );
        }
    }
    let unmarked = read(&path("out/unmarked.png"));
    std::fs::write(path("marked.jpg"), &jpeg).expect("a file");
    assert_eq!(
        run(folder.path(), &["marked.jpg"], "marked.png", &[]).code,
        0
    );
    assert_eq!(unmarked.samples, read(&path("marked.png")).samples);
}

#[test]
fn several_images_on_standard_input_are_named() {
    let png = bytes_of(Format::Png);
    let run = wdsr()
        .args(["upscale", "-m", "small", "-i", "-", "-o", "-"])
        .write_stdin(png.repeat(3))
        .output()
        .expect("it runs");
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{stderr}");
    assert!(
        stderr.contains("2 further images: only the first is upscaled"),
        "{stderr}"
    );
    let large = decode_bytes(&run.stdout, Path::new("x"), &Default::default()).expect("one image");
    assert_eq!((large.width_px, large.height_px), (32, 24));
}

#[test]
fn a_camera_raw_file_is_not_replaced_by_its_preview() {
    let folder = tempfile::tempdir().expect("a folder");
    let builder = TiffBuilder::new(true);
    let mut preview = builder.grey(4, 3, vec![9; 12]);
    preview.fields.push((254, LONG, builder.longs(&[1])));
    preview.fields.push((50_706, 1, vec![1, 4, 0, 0]));
    // Named as a TIFF file.
    std::fs::write(folder.path().join("raw.tif"), builder.file(&[preview])).expect("a file");
    let run = run(folder.path(), &["raw.tif"], "out.png", &[]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.contains("camera raw"), "{}", run.stderr);
    assert!(!folder.path().join("out.png").exists());
}

#[test]
fn chunks_tags_and_segments_are_copied_or_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let light: &[u8] = &[0, 0, 3, 232, 0, 0, 0, 90];
    let png = with_png_chunks(
        &bytes_of(Format::Png),
        &[(b"cICP", &[9, 16, 0, 1]), (b"cLLI", light), (b"sTER", &[0])],
    );
    let jpeg = with_jpeg_segments(&bytes_of(Format::Jpeg), &[(0xfe, b"a comment")]);
    let builder = TiffBuilder::new(false);
    let mut page = builder.grey(4, 3, vec![9; 12]);
    page.fields.push((42_113, ASCII, b"-9999\0".to_vec()));
    page.fields.push((40_001, LONG, builder.longs(&[1])));
    let files = [
        ("a.png", png),
        ("b.jpg", jpeg),
        ("c.tif", builder.file(&[page])),
    ];
    for (name, bytes) in &files {
        std::fs::write(path(name), bytes).expect("a file");
    }
    let inputs = files.each_ref().map(|(name, _)| *name);
    let same = run(folder.path(), &inputs, "out", &[]);
    assert_eq!(same.code, 0, "{}", same.stderr);
    let png = read(&path("out/a.png"));
    let colour = png.metadata.png_colour.expect("colour chunks");
    assert_eq!(colour.content_light.as_ref().map(|l| &l[..]), Some(light));
    assert!(same.left_out("a.png").contains("sTER"), "{:?}", same.report);
    assert_eq!(
        read(&path("out/b.jpg")).metadata.jpeg_comments,
        [b"a comment"]
    );
    assert_eq!(
        read(&path("out/c.tif")).metadata.geo.no_data(),
        Some(-9999.0)
    );
    assert!(
        same.left_out("c.tif").contains("tag 40001"),
        "{:?}",
        same.report
    );
    let other = run(folder.path(), &inputs, "webp", &["-f", "webp"]);
    assert!(
        other.left_out("a.png").contains("colour space chunks"),
        "{:?}",
        other.report
    );
    assert!(
        other.left_out("b.jpg").contains("comment of JPEG"),
        "{:?}",
        other.report
    );
    assert!(
        other.left_out("c.tif").contains("GeoTIFF tags"),
        "{:?}",
        other.report
    );
}

#[test]
fn the_range_of_values_does_not_change_the_result() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let Samples::U8(bytes) = image(24, 16, Colour::Rgb).samples else {
        panic!("8 bits");
    };
    let large = |name: &str, samples: Samples| {
        write(&path(name), &Image::new(24, 16, Colour::Rgb, samples));
        let output = format!("large-{name}");
        let run = run(folder.path(), &[name], &output, &[]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        read(&path(&output))
    };
    let floats = |factor: f32| {
        let samples = bytes
            .iter()
            .map(|&v| f32::from(v) / 255.0 * factor)
            .collect();
        let large = large(&format!("{factor}.tif"), Samples::F32(samples));
        assert_eq!(large.depth(), Depth::F32);
        match large.samples {
            Samples::F32(samples) => samples.into_iter().map(|v| v / factor).collect::<Vec<_>>(),
            samples => panic!("{:?}", samples.depth()),
        }
    };
    let usual = floats(1.0);
    for factor in [1.0 / 256.0, 64.0, 255.0] {
        let found = floats(factor);
        let squares: f32 = found.iter().zip(&usual).map(|(a, b)| (a - b).powi(2)).sum();
        let rms = (squares / usual.len() as f32).sqrt();
        assert!(rms < 0.01, "{factor}: {rms}");
    }
}

#[test]
fn a_sprite_keeps_its_outline_and_its_shadow() {
    let folder = tempfile::tempdir().expect("a folder");
    let (width, height) = (40, 32);
    let alpha = |x: usize, y: usize| match (x as f32 - 18.0).hypot(y as f32 - 13.0) {
        ..10.0 => 255,
        _ if (x as f32 - 21.0).hypot(y as f32 - 17.0) < 10.0 => 96,
        _ => 0,
    };
    let samples = (0..width * height)
        .flat_map(|i| [200, 60, (i * 7 % 200) as u8, alpha(i % width, i / width)])
        .collect();
    let sprite = Image::new(width, height, Colour::RgbAlpha, Samples::U8(samples));
    write(&folder.path().join("a.png"), &sprite);
    assert_eq!(run(folder.path(), &["a.png"], "b.png", &[]).code, 0);
    let Samples::U8(large) = read(&folder.path().join("b.png")).samples else {
        panic!("8 bits");
    };
    for (i, pixel) in large.chunks_exact(4).enumerate() {
        let (x, y) = (i % (2 * width) / 2, i / (2 * width) / 2);
        let rows = y.saturating_sub(2)..(y + 3).min(height);
        let near =
            rows.flat_map(|y| (x.saturating_sub(2)..(x + 3).min(width)).map(move |x| alpha(x, y)));
        let (least, most) = near.fold((255, 0), |(a, b), v| (v.min(a), v.max(b)));
        assert!(
            (least..=most).contains(&pixel[3]),
            "alpha {} at {i}",
            pixel[3]
        );
    }
}

#[test]
fn hostile_files_are_refused_or_upscaled_in_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let frame: &[u8] = &[8, 0x3e, 0x80, 0x3e, 0x80, 1, 1, 0x11, 0];
    let frames = with_jpeg_segments(&bytes_of(Format::Jpeg), &vec![(0xc2, frame); 5_000]);
    // Texts of zeros, compressed: a zlib header, fixed blocks that repeat a byte, and no end.
    let text = |i: u8| [b"k", &[b'a' + i][..], b"\0\0\x78\x9c", &[0xcb; 4_000]].concat();
    let texts: Vec<Vec<u8>> = (0..20).map(text).collect();
    let texts: Vec<(&[u8; 4], &[u8])> = texts.iter().map(|text| (b"zTXt", &text[..])).collect();
    let texts = with_png_chunks(&bytes_of(Format::Png), &texts);
    std::fs::write(path("frames.jpg"), frames).expect("a file");
    std::fs::write(path("texts.png"), texts).expect("a file");
    let started = std::time::Instant::now();
    let run = run(folder.path(), &["frames.jpg", "texts.png"], "out", &[]);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("more than one frame"), "{}", run.stderr);
    assert!(
        run.left_out("texts.png").contains("PNG text"),
        "{:?}",
        run.report
    );
}

#[cfg(feature = "avif")]
#[test]
fn avif_images_are_upscaled_into_png_with_their_orientation() {
    let folder = tempfile::tempdir().expect("folder");
    let low = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../image/tests/avif/turned.avif"
    );
    std::fs::copy(low, folder.path().join("turned.avif")).expect("a copy");
    let out = folder.path().join("out");
    let run = wdsr()
        .args(["upscale", "-m", "small"])
        .arg(folder.path())
        .arg("-o")
        .arg(&out)
        .assert();
    run.success().stderr(predicates::str::contains("42 x 68"));
    let high = wdsr_image::decode(&out.join("turned.png"), &wdsr_image::Limits::default());
    let high = high.expect("an image");
    assert_eq!((high.width_px, high.height_px), (42, 68));
}
