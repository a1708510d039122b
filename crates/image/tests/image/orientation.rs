//! The eight EXIF orientations: the pixels come out upright and are not turned twice.

use std::path::Path;

use image::ImageEncoder;
use image::codecs::webp::WebPEncoder;
use wdsr_image::{Colour, Format, Image, Limits, Reader, Samples, decode_bytes, encode_bytes};

const WIDTH_PX: usize = 24;
const HEIGHT_PX: usize = 16;

/// A TIFF header and a directory whose one entry is the orientation, as a number of `length` bytes of
/// the TIFF field type `kind`. EXIF defines it as SHORT.
fn exif_of_kind(kind: u16, length: usize, orientation: u8, big_endian: bool) -> Vec<u8> {
    let number = |value: u32, length: usize| {
        let bytes = value.to_be_bytes()[4 - length..].to_vec();
        if big_endian {
            bytes
        } else {
            bytes.into_iter().rev().collect()
        }
    };
    let mut value = number(u32::from(orientation), length);
    value.resize(4, 0);
    [
        if big_endian { b"MM" } else { b"II" }.to_vec(),
        number(42, 2),
        number(8, 4),
        number(1, 2),
        number(0x0112, 2),
        number(u32::from(kind), 2),
        number(1, 4),
        value,
        number(0, 4),
    ]
    .concat()
}

fn exif(orientation: u8, big_endian: bool) -> Vec<u8> {
    exif_of_kind(3, 2, orientation, big_endian)
}

/// Where the stored pixel `(x, y)` belongs, by the EXIF standard (JEITA CP-3451, tag 0x0112):
/// which side the stored row 0 and column 0 are. Returns the upright `(x, y)`.
fn upright(orientation: u8, x: usize, y: usize) -> (usize, usize) {
    let (right, bottom) = (WIDTH_PX - 1 - x, HEIGHT_PX - 1 - y);
    match orientation {
        1 => (x, y),          // row 0 top, column 0 left
        2 => (right, y),      // top, right
        3 => (right, bottom), // bottom, right
        4 => (x, bottom),     // bottom, left
        5 => (y, x),          // left, top
        6 => (bottom, x),     // right, top
        7 => (bottom, right), // right, bottom
        8 => (y, right),      // left, bottom
        _ => unreachable!("orientation {orientation}"),
    }
}

/// Four flat quarters, aligned to JPEG's blocks of 8, so that JPEG keeps them nearly.
fn stored(x: usize, y: usize) -> [u8; 3] {
    match (x < 8, y < 8) {
        (true, true) => [250, 10, 10],
        (false, true) => [10, 250, 10],
        (true, false) => [10, 10, 250],
        (false, false) => [240, 240, 240],
    }
}

fn stored_pixels() -> Vec<u8> {
    let all = (0..WIDTH_PX * HEIGHT_PX).map(|i| (i % WIDTH_PX, i / WIDTH_PX));
    all.flat_map(|(x, y)| stored(x, y)).collect()
}

fn check(bytes: &[u8], orientation: u8, tolerance: u8, what: &str) -> Image {
    let image = decode_bytes(bytes, Path::new("x"), &Limits::default()).expect("an image");
    let size = if orientation >= 5 {
        (HEIGHT_PX, WIDTH_PX)
    } else {
        (WIDTH_PX, HEIGHT_PX)
    };
    assert_eq!(
        (image.width_px, image.height_px),
        size,
        "{what} {orientation}"
    );
    let rgb = image.to_rgb8();
    for (x, y) in (0..WIDTH_PX).flat_map(|x| (0..HEIGHT_PX).map(move |y| (x, y))) {
        let (to_x, to_y) = upright(orientation, x, y);
        let at = (to_y * size.0 + to_x) * 3;
        for (found, expected) in rgb[at..at + 3].iter().zip(stored(x, y)) {
            assert!(
                found.abs_diff(expected) <= tolerance,
                "{what} {orientation}: stored ({x}, {y}) at ({to_x}, {to_y}) is {found}, not {expected}"
            );
        }
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("x");
    std::fs::write(&path, bytes).expect("written");
    let reader = Reader::open(&path, &Limits::default()).expect("header");
    assert_eq!(reader.outline(), image.outline(), "{what} {orientation}");
    assert_eq!(reader.metadata(), &image.metadata, "{what} {orientation}");
    image
}

#[test]
fn every_orientation_is_applied_once() {
    let pixels = stored_pixels();
    for orientation in 1..=8 {
        for big_endian in [false, true] {
            let exif = exif(orientation, big_endian);
            let mut plain = Image::new(
                WIDTH_PX,
                HEIGHT_PX,
                Colour::Rgb,
                Samples::U8(pixels.clone()),
            );
            plain.metadata.exif = Some(exif.clone());
            let jpeg = encode_bytes(&plain, Format::Jpeg).expect("jpeg");
            let mut png = Vec::new();
            let mut info = png::Info::with_size(WIDTH_PX as u32, HEIGHT_PX as u32);
            (info.color_type, info.bit_depth) = (png::ColorType::Rgb, png::BitDepth::Eight);
            info.exif_metadata = Some(exif.clone().into());
            let encoder = png::Encoder::with_info(&mut png, info).expect("png has exif");
            let mut writer = encoder.write_header().expect("png header");
            writer.write_image_data(&pixels).expect("png");
            writer.finish().expect("png");
            let mut webp = Vec::new();
            let mut encoder = WebPEncoder::new_lossless(&mut webp);
            encoder.set_exif_metadata(exif).expect("webp has exif");
            encoder
                .write_image(
                    &pixels,
                    WIDTH_PX as u32,
                    HEIGHT_PX as u32,
                    image::ExtendedColorType::Rgb8,
                )
                .expect("webp");

            check(&jpeg, orientation, 6, "jpeg");
            check(&webp, orientation, 0, "webp");
            let image = check(&png, orientation, 0, "png");
            // Written again, the image stays as it is.
            let again = encode_bytes(&image, Format::Png).expect("png");
            let again = decode_bytes(&again, Path::new("x"), &Limits::default()).expect("png");
            assert_eq!(again, image, "orientation {orientation} applied twice");
        }
    }
}

fn png_of(exif: Vec<u8>) -> Vec<u8> {
    let mut plain = Image::new(
        WIDTH_PX,
        HEIGHT_PX,
        Colour::Rgb,
        Samples::U8(stored_pixels()),
    );
    plain.metadata.exif = Some(exif);
    encode_bytes(&plain, Format::Png).expect("png")
}

/// As cameras and editors write it: a file of gdk-pixbuf's tests, from a Panasonic camera, has SLONG.
#[test]
fn an_orientation_of_any_integer_type_is_applied() {
    for (kind, length) in [(1, 1), (6, 1), (7, 1), (3, 2), (8, 2), (4, 4), (9, 4)] {
        for big_endian in [false, true] {
            let png = png_of(exif_of_kind(kind, length, 6, big_endian));
            let image = check(&png, 6, 0, &format!("type {kind}"));
            let reset = image.metadata.exif.expect("EXIF is kept");
            assert_eq!(
                reset,
                exif(1, big_endian),
                "type {kind}: the orientation is reset"
            );
        }
    }
}

/// What this program does not understand stays for those who may.
#[test]
fn an_unknown_orientation_is_kept_unapplied() {
    // A fraction, and numbers that are none of the eight.
    for exif in [
        exif(0, false),
        exif(9, true),
        exif(255, false),
        exif_of_kind(10, 4, 6, false),
    ] {
        let image = check(&png_of(exif.clone()), 1, 0, "unknown orientation");
        assert_eq!(image.metadata.exif, Some(exif));
    }
}
