//! Files of every format: round trips, damage, orientation, whole-or-nothing writing.

use std::path::Path;

use image::ImageEncoder;
use wdsr_picture::{
    Colour, Depth, Error, Format, Limits, Picture, Samples, decode, decode_bytes, encode,
    encode_bytes, pictures_in,
};

const COLOURS: [Colour; 4] = [
    Colour::Grey,
    Colour::GreyAlpha,
    Colour::Rgb,
    Colour::RgbAlpha,
];

fn picture(colour: Colour, depth: Depth) -> Picture {
    let (width, height) = (13, 9);
    let count = width * height * colour.channels();
    let value = |i: usize| (i * 7919 + i * i * 31) % 65_536;
    let samples = match depth {
        Depth::U8 => Samples::U8((0..count).map(|i| (value(i) >> 8) as u8).collect()),
        Depth::U16 => Samples::U16((0..count).map(|i| value(i) as u16).collect()),
        Depth::F32 => Samples::F32(
            (0..count)
                .map(|i| value(i) as f32 / 40_000.0 - 0.2)
                .collect(),
        ),
    };
    Picture::new(width, height, colour, samples)
}

fn read(bytes: &[u8]) -> Result<Picture, Error> {
    decode_bytes(bytes, Path::new("some.file"), &Limits::default())
}

#[test]
fn lossless_formats_keep_every_sample() {
    let mut kept = 0;
    for format in [Format::Png, Format::WebP, Format::Tiff, Format::Bmp] {
        for colour in COLOURS {
            for depth in [Depth::U8, Depth::U16, Depth::F32] {
                let original = picture(colour, depth);
                let written = encode_bytes(&original, format);
                if !format.supports(colour, depth) {
                    let message = written.expect_err("it cannot hold this").to_string();
                    assert!(message.contains(" can"), "no remedy in: {message}");
                    continue;
                }
                let back = read(&written.expect("written")).expect("read");
                // Where a format has no grey, grey comes back as RGB of equal channels.
                let back = if original.colour.is_grey() && !back.colour.is_grey() {
                    let (colour, alpha) = back.split_alpha();
                    let grey = colour.rgb_to_grey();
                    alpha.map_or(grey.clone(), |alpha| grey.join_alpha(&alpha))
                } else {
                    back
                };
                assert_eq!(
                    back.samples, original.samples,
                    "{format} {colour:?} {depth:?}"
                );
                assert_eq!(
                    back.colour, original.colour,
                    "{format} {colour:?} {depth:?}"
                );
                kept += 1;
            }
        }
    }
    assert_eq!(kept, 8 + 4 + 12 + 4, "combinations kept");
}

#[test]
fn every_truncation_is_an_error_that_names_the_file() {
    for format in Format::ALL {
        let whole = encode_bytes(&picture(Colour::Rgb, Depth::U8), format).expect("written");
        for len in 0..whole.len() {
            match read(&whole[..len]) {
                Err(error) => assert!(error.to_string().starts_with("some.file"), "{error}"),
                // A file may end in bytes that say nothing about its pixels.
                Ok(_) => assert!(
                    whole.len() - len <= 16,
                    "{format} cut to {len} of {}",
                    whole.len()
                ),
            }
        }
    }
}

#[test]
fn a_picture_above_the_limit_is_refused_before_its_pixels() {
    let bytes = encode_bytes(&picture(Colour::Rgb, Depth::U8), Format::Png).expect("written");
    let limits = Limits {
        max_pixels: 13 * 9 - 1,
        ..Limits::default()
    };
    let error = decode_bytes(&bytes, Path::new("big.png"), &limits).expect_err("too large");
    let message = error.to_string();
    assert!(
        message.contains("big.png") && message.contains("13 x 9"),
        "{message}"
    );
}

/// An EXIF block whose one entry is the orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut block = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    block.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    block
}

/// Where the stored picture's corner pixels are shown, for each of the eight orientations
/// (EXIF 2.32, tag 0x0112: 1 is upright, 6 is to be turned clockwise, ...).
#[test]
fn all_eight_orientations_are_applied() {
    let (width, height) = (3_u32, 2_u32);
    let stored: Vec<u8> = (0..6).map(|i| i * 40).collect();
    let shown: [(usize, [u8; 6]); 8] = [
        (3, [0, 1, 2, 3, 4, 5]),
        (3, [2, 1, 0, 5, 4, 3]),
        (3, [5, 4, 3, 2, 1, 0]),
        (3, [3, 4, 5, 0, 1, 2]),
        (2, [0, 3, 1, 4, 2, 5]),
        (2, [3, 0, 4, 1, 5, 2]),
        (2, [5, 2, 4, 1, 3, 0]),
        (2, [2, 5, 1, 4, 0, 3]),
    ];
    for (orientation, (shown_width, order)) in (1..=8).zip(shown) {
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
        encoder
            .set_exif_metadata(exif(orientation))
            .expect("PNG holds EXIF");
        encoder
            .write_image(&stored, width, height, image::ExtendedColorType::L8)
            .expect("written");
        let upright = read(&bytes).expect("read");
        assert_eq!(upright.width_px, shown_width, "orientation {orientation}");
        let expected: Vec<u8> = order.iter().map(|i| i * 40).collect();
        assert_eq!(
            upright.samples,
            Samples::U8(expected),
            "orientation {orientation}"
        );
        // Written again, it is not turned a second time.
        let again = encode_bytes(&upright, Format::Png).expect("written");
        assert_eq!(read(&again).expect("read").samples, upright.samples);
    }
}

#[test]
fn a_colour_profile_is_carried() {
    let mut profile = vec![0_u8; 200];
    profile[16..20].copy_from_slice(b"RGB ");
    let mut original = picture(Colour::Rgb, Depth::U8);
    original.icc_profile = Some(profile.clone());
    for format in [Format::Png, Format::Jpeg, Format::WebP, Format::Tiff] {
        let bytes = encode_bytes(&original, format).expect("written");
        assert_eq!(
            read(&bytes).expect("read").icc_profile.as_ref(),
            Some(&profile),
            "{format}"
        );
    }
    let message = encode_bytes(&original, Format::Bmp)
        .expect_err("no place for it")
        .to_string();
    assert!(message.contains("ICC profile"), "{message}");
}

#[test]
fn a_failed_write_leaves_nothing_and_keeps_what_was_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.png");
    std::fs::write(&path, "old").expect("written");
    let deep = picture(Colour::Rgb, Depth::F32);
    assert!(encode(&deep, &path, Format::Png).is_err());
    assert_eq!(std::fs::read(&path).expect("read"), b"old");
    let below_a_file = path.join("out.png");
    let error = encode(&picture(Colour::Rgb, Depth::U8), &below_a_file, Format::Png);
    assert!(
        error
            .expect_err("no folder")
            .to_string()
            .contains("out.png")
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        1,
        "files left"
    );
}

#[test]
fn the_content_decides_the_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("really-a-png.jpg");
    let original = picture(Colour::Rgb, Depth::U8);
    encode(&original, &path, Format::Png).expect("written");
    assert_eq!(
        decode(&path, &Limits::default()).expect("read").samples,
        original.samples
    );
}

#[test]
fn folders_are_listed_in_order_without_hidden_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    std::fs::create_dir(root.join("sub")).expect("a folder");
    for name in ["b.PNG", "a.jpeg", ".hidden.png", "notes.txt", "sub/c.tiff"] {
        std::fs::write(root.join(name), "").expect("written");
    }
    let names = |recursive| -> Vec<String> {
        let found = pictures_in(root, recursive).expect("pictures");
        let relative =
            |p: &std::path::PathBuf| p.strip_prefix(root).map(|p| p.display().to_string());
        found.iter().map(|p| relative(p).expect("inside")).collect()
    };
    assert_eq!(names(false), ["a.jpeg", "b.PNG"]);
    assert_eq!(names(true), ["a.jpeg", "b.PNG", "sub/c.tiff"]);
    let empty = root.join("empty");
    std::fs::create_dir(&empty).expect("a folder");
    assert!(
        pictures_in(&empty, true)
            .expect_err("nothing")
            .to_string()
            .contains("empty")
    );
}
