//! Animations and files of several pages, as a user upscales them.

use std::io::Cursor;
use std::path::Path;

use wdsr_image::{
    Animation, AnimationWriter, Colour, Delay, Depth, Encoding, Format, Frame, Image, Limits,
    Metadata, Reader, Samples, Writer,
};

use super::rows::small_network;
use super::upscale::read;
use super::{image, wdsr, write};

/// Frames of which the second is transparent in part.
fn frames() -> Vec<Frame> {
    let frames = [
        (Colour::Rgb, 40),
        (Colour::RgbAlpha, 100),
        (Colour::Rgb, 70),
    ];
    let frames = frames.into_iter().enumerate();
    let frame = |(number, (colour, ms))| {
        let mut image = image(16, 12, colour);
        if let Samples::U8(samples) = &mut image.samples {
            samples.rotate_left(number * colour.channels());
        }
        Frame {
            image,
            delay: Delay::of_ms(ms, 1),
        }
    };
    frames.map(frame).collect()
}

fn animation(frames: &[Frame], format: Format) -> Vec<u8> {
    let mut writer = AnimationWriter::new(
        Cursor::new(Vec::new()),
        Path::new("animation"),
        format,
        &frames[1].image.outline(),
        &Metadata::default(),
        Encoding::DEFAULT,
        Animation {
            frames: frames.len(),
            plays: 2,
        },
    )
    .expect("a header");
    for frame in frames {
        writer.write_frame(frame).expect("a frame");
    }
    writer.finish().expect("a file").into_inner()
}

fn open(path: &Path) -> Reader {
    let reader = Reader::open(path, &Limits::default());
    reader.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn each_frame_of_an_animation_is_upscaled_like_an_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let frames = frames();
    let mut stills = Vec::new();
    for (number, frame) in frames.iter().enumerate() {
        let name = format!("{number}.png");
        write(&path(&name), &frame.image);
        wdsr()
            .current_dir(folder.path())
            .args(["upscale", "-q", "-m", "small", &name, "-o", "stills/"])
            .assert()
            .success();
        stills.push(read(&path("stills").join(name)));
    }
    for (input, output) in [
        (Format::Png, "png"),
        (Format::Png, "webp"),
        (Format::WebP, "webp"),
        (Format::WebP, "png"),
    ] {
        let name = format!("in.{}", input.extension());
        std::fs::write(path(&name), animation(&frames, input)).expect("a file");
        let result = format!("{input}.{output}");
        let said = wdsr()
            .current_dir(folder.path())
            .args(["upscale", "-m", "small", &name, "-o", &result])
            .args(["--report", "report.jsonl"])
            .assert()
            .success();
        let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
        assert!(said.contains("(32 x 24, 3 frames: x2"), "{said}");
        assert!(!said.contains("dropped"), "{said}");
        let report = std::fs::read_to_string(path("report.jsonl")).expect("a report");
        assert!(report.contains("\"frames\":3"), "{report}");
        let reader = open(&path(&result));
        let expected = Animation {
            frames: 3,
            plays: 2,
        };
        assert_eq!(reader.animation(), Some(expected));
        let read = reader.into_frames().expect("frames");
        for (number, frame) in read.enumerate() {
            let frame = frame.expect("a frame");
            assert_eq!(frame.delay, frames[number].delay);
            let mut still = stills[number].clone();
            still.metadata = Metadata::default();
            // Colours of fully transparent pixels aside, which no format promises.
            assert_eq!(visible(&frame.image), visible(&still), "{result} {number}");
        }
    }
}

/// Samples, those under full transparency as zeros.
fn visible(image: &Image) -> Vec<u8> {
    let Samples::U8(samples) = &image.samples else {
        panic!("{:?}", image.outline());
    };
    let channels = image.colour.channels();
    let pixels = samples.chunks_exact(channels);
    pixels
        .flat_map(
            |pixel| match image.colour.has_alpha() && pixel[channels - 1] == 0 {
                true => vec![0; channels],
                false => pixel.to_vec(),
            },
        )
        .collect()
}

#[test]
fn gif_is_read_and_written_and_its_losses_are_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("moving.gif"), animation(&frames(), Format::Gif)).expect("a file");
    write(&path("still.gif"), &image(8, 6, Colour::Rgb));
    let said = wdsr()
        .current_dir(folder.path())
        .args(["-m", "small", "moving.gif", "still.gif", "-o", "out/"])
        .assert()
        .success();
    let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
    assert!(said.contains("gif cannot hold them"), "{said}");
    let moving = open(&path("out/moving.gif"));
    assert_eq!(moving.format(), Format::Gif);
    let expected = Animation {
        frames: 3,
        plays: 2,
    };
    assert_eq!(moving.animation(), Some(expected));
    assert_eq!(read(&path("out/still.gif")).width_px, 16);
    // A format of one image is refused before the work.
    wdsr()
        .current_dir(folder.path())
        .args(["moving.gif", "-o", "still.jpg"])
        .assert()
        .code(3)
        .stderr(predicates::str::contains(
            "cannot hold an animation of 3 frames; png, webp, gif can",
        ));
    assert!(!path("still.jpg").exists());
    // Other commands take images.
    wdsr()
        .current_dir(folder.path())
        .args(["compare", "moving.gif", "moving.gif"])
        .assert()
        .code(3)
        .stderr(predicates::str::contains("it is an animation"));
}

#[test]
fn all_pages_of_a_tiff_are_upscaled() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    small_network(folder.path());
    // The last page is large enough for several reads, and the file is not read into memory.
    let mut pages = vec![
        image(16, 12, Colour::Rgb),
        image(9, 7, Colour::GreyAlpha),
        image(1300, 1100, Colour::Grey),
        image(1800, 1600, Colour::Rgb),
    ];
    let wide = image(20, 10, Colour::Grey);
    let wide_samples = match &wide.samples {
        Samples::U8(samples) => samples.iter().map(|&v| u16::from(v) * 257).collect(),
        _ => panic!("8 bits"),
    };
    pages.push(Image::new(20, 10, Colour::Grey, Samples::U16(wide_samples)));
    let bytes = pages.iter().map(|page| page.outline().sample_bytes()).sum();
    let mut writer: Option<Writer<Cursor<Vec<u8>>>> = None;
    for page in &pages {
        let (outline, none) = (page.outline(), Metadata::default());
        let next = match writer.take() {
            Some(writer) => writer.next_page(&outline, &none),
            None => Writer::with_pages(
                Cursor::new(Vec::new()),
                Path::new("pages"),
                Format::Tiff,
                &outline,
                &none,
                Encoding::DEFAULT,
                bytes,
            ),
        };
        let mut next = next.expect("a page");
        next.write_page(page.samples.borrowed()).expect("rows");
        writer = Some(next);
    }
    let file = writer.expect("pages").finish().expect("a file");
    assert!(
        file.get_ref().len() > 8 << 20,
        "a file that is not held in memory"
    );
    std::fs::write(path("pages.tif"), file.into_inner()).expect("a file");

    let run = |output: &str, extra: &[&str]| {
        let run = wdsr()
            .current_dir(folder.path())
            .args([
                "upscale",
                "-m",
                "small.safetensors",
                "pages.tif",
                "-o",
                output,
            ])
            .args(extra)
            .assert()
            .success();
        String::from_utf8_lossy(&run.get_output().stderr).into_owned()
    };
    let said = run("out.tif", &["--width", "40", "--report", "report.jsonl"]);
    assert!(said.contains("(40 x 30, 5 pages: "), "{said}");
    assert!(!said.contains("dropped"), "{said}");
    let report = std::fs::read_to_string(path("report.jsonl")).expect("a report");
    assert!(report.contains("\"pages\":5"), "{report}");
    run("whole.tif", &[]);
    let mut results = Some(open(&path("out.tif")));
    let mut whole_results = Some(open(&path("whole.tif")));
    for (number, page) in pages.iter().enumerate() {
        let name = format!("{number}.tif");
        write(&path(&name), page);
        for (output, extra, results) in [
            ("single.tif", &["--width", "40"][..], &mut results),
            ("single-whole.tif", &[], &mut whole_results),
        ] {
            wdsr()
                .current_dir(folder.path())
                .args([
                    "upscale",
                    "-q",
                    "-m",
                    "small.safetensors",
                    &name,
                    "-o",
                    output,
                ])
                .args(["--if-exists", "overwrite"])
                .args(extra)
                .assert()
                .success();
            let reader = results.take().expect("a page");
            *results = reader.next_page().expect("a page");
            let result = reader.read_all().expect("pixels");
            let single = read(&path(output));
            assert_eq!(result.outline(), single.outline(), "page {number}");
            assert!(result.samples == single.samples, "page {number}");
        }
    }
    assert!(results.is_none() && whole_results.is_none());
    // A page that the options do not fit is found before the work.
    wdsr()
        .current_dir(folder.path())
        .args([
            "upscale",
            "pages.tif",
            "-o",
            "none.tif",
            "--max-output-pixels",
            "3M",
        ])
        .assert()
        .code(3)
        .stderr(predicates::str::contains("its result is too large"));
    assert!(!path("none.tif").exists());
    let said = run("first.png", &[]);
    assert!(
        said.contains("dropped 4 further pages: only the first is upscaled; a tiff result has all"),
        "{said}"
    );
    assert_eq!(read(&path("first.png")).depth(), Depth::U8);
}
