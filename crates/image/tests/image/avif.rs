//! AVIF files are read as libavif reads them, with their metadata, and what is not read is named.

use std::fs;
use std::path::{Path, PathBuf};

use wdsr_image::{
    Colour, Depth, Error, Format, Image, Limits, Reader, Samples, decode, decode_bytes,
};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/avif")
        .join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(path(name)).expect("a file")
}

fn image(bytes: &[u8]) -> Image {
    decode_bytes(bytes, Path::new("x.avif"), &Limits::default()).expect("an image")
}

fn error(bytes: &[u8]) -> String {
    let read = decode_bytes(bytes, Path::new("x.avif"), &Limits::default());
    read.map(drop).expect_err("no image").to_string()
}

fn levels(samples: &Samples) -> Vec<i32> {
    match samples {
        Samples::U8(samples) => samples.iter().map(|&v| v.into()).collect(),
        Samples::U16(samples) => samples.iter().map(|&v| v.into()).collect(),
        Samples::F32(_) => panic!("expected integers"),
    }
}

/// The greatest difference from the image of the PNG file, which may store grey as RGB.
fn difference(name: &str) -> i32 {
    let avif = decode(&path(&format!("{name}.avif")), &Limits::default()).expect("an image");
    let png = decode(&path(&format!("{name}.png")), &Limits::default()).expect("an image");
    assert_eq!(
        (avif.width_px, avif.height_px),
        (png.width_px, png.height_px),
        "{name}"
    );
    assert_eq!(avif.outline().depth, png.outline().depth, "{name}");
    let step = png.colour.channels() / avif.colour.channels();
    let expected = levels(&png.samples).into_iter().step_by(step);
    let pairs = levels(&avif.samples).into_iter().zip(expected);
    pairs
        .map(|(found, expected)| (found - expected).abs())
        .max()
        .expect("samples")
}

#[test]
fn samples_are_those_of_libavif() {
    assert_eq!(difference("lossless"), 0);
    // libyuv rounds to 6 bits in between.
    for name in ["420-8", "grey-8", "alpha-8", "ycgco", "grid"] {
        let found = difference(name);
        assert!(found <= 2, "{name}: {found} of 255");
    }
    for name in [
        "444-10",
        "422-10-limited",
        "420-12-hdr",
        "grey-10-limited",
        "alpha-10",
    ] {
        let found = difference(name);
        assert!(found <= 2, "{name}: {found} of 65535");
    }
}

#[test]
fn headers_tell_colour_and_depth() {
    for (name, colour, depth) in [
        ("420-8", Colour::Rgb, Depth::U8),
        ("444-10", Colour::Rgb, Depth::U16),
        ("grey-8", Colour::Grey, Depth::U8),
        ("grey-10-limited", Colour::Grey, Depth::U16),
        ("alpha-8", Colour::RgbAlpha, Depth::U8),
    ] {
        let file = path(&format!("{name}.avif"));
        let reader = Reader::open(&file, &Limits::default()).expect("an image");
        assert_eq!(reader.format(), Format::Avif);
        assert_eq!(
            (reader.outline().colour, reader.outline().depth),
            (colour, depth),
            "{name}"
        );
        assert_eq!(reader.omitted(), &[] as &[String], "{name}");
        assert_eq!(reader.metadata().dropped, [] as [String; 0], "{name}");
    }
}

#[test]
fn metadata_is_kept() {
    let profile = image(&bytes("profile.avif")).metadata;
    assert!(
        profile
            .icc_profile
            .is_some_and(|icc| icc[36..40] == *b"acsp")
    );
    let exif = profile.exif.expect("a block");
    assert!(exif.windows(10).any(|text| text == b"a gradient"));
    let hdr = image(&bytes("420-12-hdr.avif")).metadata.png_colour;
    assert_eq!(hdr.expect("colours").code_points, Some([9, 16, 0, 1]));
    let plain = image(&bytes("420-8.avif")).metadata;
    assert_eq!((plain.png_colour, plain.icc_profile), (None, None));
}

/// A file with another value in the last byte of a box.
fn with(file: &[u8], kind: &[u8; 4], value: u8) -> Vec<u8> {
    let at = file
        .windows(4)
        .position(|found| found == kind)
        .expect("a box");
    let mut file = file.to_vec();
    file[at + 4] = value;
    file
}

#[test]
fn rotation_and_mirroring_are_applied() {
    let (turned, mirrored) = (bytes("turned.avif"), bytes("mirrored.avif"));
    let stored = image(&with(&turned, b"irot", 0));
    let (width, height) = (stored.width_px, stored.height_px);
    assert_eq!((width, height), (34, 21));
    let pixel = |image: &Image, x: usize, y: usize| {
        let at = 3 * (y * image.width_px + x);
        levels(&image.samples)[at..at + 3].to_vec()
    };
    for angle in 0..4 {
        for axis in [None, Some(0), Some(1)] {
            let file = match axis {
                None => with(&turned, b"irot", angle),
                Some(axis) => with(&with(&mirrored, b"irot", angle), b"imir", axis),
            };
            let upright = image(&file);
            let size = (upright.width_px, upright.height_px);
            for (x, y) in [(0, 0), (width - 1, 0), (0, height - 1), (7, 5)] {
                // A turn anti-clockwise takes the right edge to the top.
                let (mut to, mut of) = ((x, y), (width, height));
                for _ in 0..angle {
                    to = (to.1, of.0 - 1 - to.0);
                    of = (of.1, of.0);
                }
                assert_eq!(of, size);
                match axis {
                    None => {}
                    Some(0) => to.1 = of.1 - 1 - to.1,
                    Some(_) => to.0 = of.0 - 1 - to.0,
                }
                let case = format!("{angle} turns, axis {axis:?}, {x} {y}");
                assert_eq!(pixel(&upright, to.0, to.1), pixel(&stored, x, y), "{case}");
            }
        }
    }
}

#[test]
fn what_is_not_read_is_named() {
    assert!(error(&bytes("premultiplied.avif")).contains("its colours are multiplied by alpha"));
    assert!(error(&bytes("animated.avif")).contains("it is an animation"));
    let file = bytes("cropped.avif");
    let reader = Reader::from_bytes(file, Path::new("x"), &Limits::default()).expect("an image");
    assert_eq!(
        reader.omitted(),
        ["crop (clap): the whole image is upscaled"]
    );
    assert_eq!(
        reader.metadata().dropped,
        ["pixels of 2:1 (pasp): the result's are square"]
    );
    assert_eq!(reader.outline().width_px, 34);
}

#[test]
fn limits_are_checked_before_the_work() {
    let limits = Limits {
        max_pixels: 34 * 21 - 1,
        ..Limits::default()
    };
    for name in ["420-8.avif", "grid.avif"] {
        let read = Reader::open(&path(name), &limits);
        assert!(
            matches!(read.map(drop), Err(Error::TooLarge { .. })),
            "{name}"
        );
    }
}

#[test]
fn cut_and_changed_files_are_errors_or_images() {
    let limits = Limits {
        max_pixels: 1 << 16,
        ..Limits::default()
    };
    let read = |bytes: &[u8]| decode_bytes(bytes, Path::new("x"), &limits);
    for name in ["420-8.avif", "alpha-10.avif", "grid.avif", "profile.avif"] {
        let file = bytes(name);
        for end in (16..file.len()).step_by(41) {
            assert!(read(&file[..end]).is_err(), "{name} cut at {end}");
        }
        for (at, bit) in (16..file.len()).step_by(19).zip((0..8).cycle()) {
            let mut file = file.clone();
            file[at] ^= 1 << bit;
            drop(read(&file));
        }
    }
}
