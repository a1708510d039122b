//! What is written is read back: samples, colour, depth and metadata, for every format.

use std::fs;
use std::path::Path;

use wdsr_image::{
    Colour, Depth, Error, Format, Image, Limits, Reader, Samples, decode, decode_bytes, encode,
    encode_bytes,
};

const COLOURS: [Colour; 4] = [
    Colour::Grey,
    Colour::GreyAlpha,
    Colour::Rgb,
    Colour::RgbAlpha,
];
const DEPTHS: [Depth; 3] = [Depth::U8, Depth::U16, Depth::F32];

/// An odd size (BMP pads its rows), every sample another value.
fn image(colour: Colour, depth: Depth) -> Image {
    let (width_px, height_px) = (13, 7);
    let raw = (0..width_px * height_px * colour.channels()).map(|i| (i * 40_503 % 65_536) as u16);
    let samples = match depth {
        Depth::U8 => Samples::U8(raw.map(|v| (v >> 8) as u8).collect()),
        Depth::U16 => Samples::U16(raw.collect()),
        Depth::F32 => Samples::F32(raw.map(|v| f32::from(v) / 50_000.0 - 0.1).collect()),
    };
    Image::new(width_px, height_px, colour, samples)
}

/// A profile that is nothing but the header's colour space.
fn profile(colour: Colour) -> Vec<u8> {
    let mut profile: Vec<u8> = (0..200).collect();
    profile[16..20].copy_from_slice(if colour.is_grey() { b"GRAY" } else { b"RGB " });
    profile
}

fn read_back(image: &Image, format: Format) -> Image {
    let bytes = encode_bytes(image, format).expect("the format can hold it");
    decode_bytes(&bytes, Path::new("read back"), &Limits::default()).expect("just written")
}

#[test]
fn lossless_formats_keep_every_sample() {
    let mut written = 0;
    for format in [Format::Png, Format::WebP, Format::Tiff, Format::Bmp] {
        for (colour, depth) in COLOURS.iter().flat_map(|&c| DEPTHS.map(|d| (c, d))) {
            if !format.supports(colour, depth) {
                continue;
            }
            let original = image(colour, depth);
            let read = read_back(&original, format);
            let grey_is_stored_as_rgb = read.colour != colour;
            let expected = if grey_is_stored_as_rgb {
                let no_grey = matches!(format, Format::WebP | Format::Bmp);
                assert!(no_grey, "{format} changed {colour:?} {depth:?}");
                original.grey_to_rgb()
            } else {
                original
            };
            assert!(read == expected, "{format} {colour:?} {depth:?} differs");
            written += 1;
        }
    }
    // PNG 4 colours x 2 depths, WebP 4, TIFF 4 x 3, BMP 4.
    assert_eq!(written, 28);
}

#[test]
fn jpeg_is_near_and_keeps_grey() {
    for colour in [Colour::Grey, Colour::Rgb] {
        let (width_px, height_px) = (64, 48);
        let smooth = (0..width_px * height_px)
            .flat_map(|i| {
                let (x, y) = (i % width_px, i / width_px);
                [x * 3, y * 4, 200 - x].into_iter().take(colour.channels())
            })
            .map(|v| v as u8);
        let original = Image::new(width_px, height_px, colour, Samples::U8(smooth.collect()));
        let read = read_back(&original, Format::Jpeg);
        assert_eq!(
            (read.width_px, read.height_px, read.colour),
            (64, 48, colour)
        );
        let errors = read.to_rgb8().into_iter().zip(original.to_rgb8());
        let worst = errors.map(|(a, b)| a.abs_diff(b)).max();
        assert!(worst <= Some(8), "{colour:?}: off by {worst:?}");
    }
}

#[test]
fn a_profile_of_another_colour_space_is_dropped_when_read() {
    let mut original = image(Colour::Rgb, Depth::U8);
    original.metadata.icc_profile = Some(profile(Colour::Rgb));
    // TIFF stores the profile plainly.
    let mut bytes = encode_bytes(&original, Format::Tiff).expect("tiff");
    let at = bytes
        .windows(4)
        .position(|w| w == b"RGB ")
        .expect("the profile");
    bytes[at..at + 4].copy_from_slice(b"CMYK");
    let read = decode_bytes(&bytes, Path::new("x"), &Limits::default()).expect("tiff");
    assert_eq!(read.metadata.icc_profile, None);
    assert_eq!(
        read.metadata.dropped,
        [
            "ICC profile: it is of colour space \"CMYK\", the pixels are RGB; it was not applied, so the colours \
          differ from those of a printer"
        ]
    );
}

#[test]
fn what_a_format_cannot_hold_is_refused_with_the_formats_that_can() {
    let cases = [
        (
            Colour::Rgb,
            Depth::U16,
            Format::Jpeg,
            "16-bit rgb; png, tiff can",
        ),
        (
            Colour::RgbAlpha,
            Depth::U8,
            Format::Jpeg,
            "8-bit rgb with an alpha channel; png, webp, tiff, bmp can",
        ),
        (
            Colour::GreyAlpha,
            Depth::U8,
            Format::Jpeg,
            "8-bit grey with an alpha channel; png, webp, tiff, bmp can",
        ),
        (
            Colour::Grey,
            Depth::U16,
            Format::WebP,
            "16-bit grey; png, tiff can",
        ),
        (
            Colour::Rgb,
            Depth::U16,
            Format::Bmp,
            "16-bit rgb; png, tiff can",
        ),
        (Colour::Rgb, Depth::F32, Format::Png, "float rgb; tiff can"),
    ];
    let folder = tempfile::tempdir().expect("temporary folder");
    for (colour, depth, format, end) in cases {
        let path = folder.path().join("out");
        let error = encode(&image(colour, depth), &path, format).expect_err(end);
        let expected = format!(
            "cannot write {} as {format}: it cannot hold {end}",
            path.display()
        );
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
}

#[test]
fn sides_too_long_for_the_format_are_refused() {
    for (width_px, format, able) in [
        (16_384, Format::WebP, "png, jpeg, tiff, bmp can"),
        (65_536, Format::Jpeg, "png, tiff can"),
        (65_536, Format::Bmp, "png, tiff can"),
    ] {
        let wide =
            |width_px| Image::new(width_px, 1, Colour::Rgb, Samples::U8(vec![9; width_px * 3]));
        let longest = read_back(&wide(format.max_side_px()), format);
        assert_eq!(longest.width_px, format.max_side_px(), "{format}");
        let error = encode_bytes(&wide(width_px), format)
            .expect_err("too wide")
            .to_string();
        let side = format.max_side_px();
        let what = format!("{width_px} x 1 pixels (at most {side} a side); {able}");
        assert!(error.contains(&what), "{error}");
    }
}

#[test]
fn the_content_decides_the_format_not_the_suffix() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("image.jpg");
    let original = image(Colour::RgbAlpha, Depth::U16);
    encode(&original, &path, Format::Png).expect("written");
    assert_eq!(decode(&path, &Limits::default()).expect("read"), original);
    let reader = Reader::open(&path, &Limits::default()).expect("header");
    assert_eq!(reader.format(), Format::Png);
    assert_eq!(reader.outline(), original.outline());
}

#[test]
fn a_file_is_replaced_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("image.png");
    fs::write(&path, "old").expect("old file");
    let original = image(Colour::Grey, Depth::U8);
    encode(&original, &path, Format::Png).expect("written");
    let float = image(Colour::Grey, Depth::F32);
    encode(&float, &path, Format::Png).expect_err("refused");
    assert_eq!(decode(&path, &Limits::default()).expect("read"), original);
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1);
}

#[cfg(unix)]
#[test]
fn a_written_file_has_the_permissions_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("temporary folder");
    let (plain, written) = (folder.path().join("plain"), folder.path().join("written"));
    fs::write(&plain, "x").expect("plain file");
    encode(&image(Colour::Grey, Depth::U8), &written, Format::Png).expect("written");
    let mode = |path| fs::metadata(path).expect("there").permissions().mode();
    assert_eq!(mode(&written), mode(&plain));
}

#[test]
fn a_folder_that_cannot_be_written_gives_one_error_and_no_file() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("file");
    fs::write(&file, "old").expect("a file");
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).expect("a folder");
    let missing = folder.path().join("missing").join("x.png");
    // No folder, a file for a folder, and a folder of the file's name.
    for path in [&missing, &file.join("x.png"), &taken] {
        let image = image(Colour::Grey, Depth::U8);
        let error = encode(&image, path, Format::Png).expect_err("cannot be written");
        assert!(matches!(error, Error::Write { .. }), "{error:?}");
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("cannot write {}: ", path.display())),
            "{message}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 2);
    assert_eq!(fs::read(&file).expect("the file"), b"old");
}
