//! Animations of every format: written, read back frame by frame, and damaged.

use std::io::Cursor;
use std::path::Path;

use wdsr_image::{
    Animation, AnimationWriter, Colour, Delay, Encoding, Error, Format, Frame, Image, Limits,
    Metadata, Reader, Samples, decode_bytes,
};

const SIZE: (usize, usize) = (13, 9);

/// A frame of few colours, so that GIF keeps them.
fn image(colour: Colour, seed: usize) -> Image {
    let channels = colour.channels();
    let mut samples = Vec::new();
    for i in 0..SIZE.0 * SIZE.1 {
        let alpha = if (i + seed).is_multiple_of(5) { 0 } else { 255 };
        // Programs agree on colours under transparency in nothing.
        let level = |c: usize| ((i * 40 + c * 90 + seed * 50) % 160) as u8 / 40 * 40;
        let mut pixel: Vec<u8> = (0..channels).map(level).collect();
        if colour.has_alpha() {
            if alpha == 0 {
                pixel = vec![0; channels];
            }
            pixel[channels - 1] = alpha;
        }
        samples.extend(pixel);
    }
    Image::new(SIZE.0, SIZE.1, colour, Samples::U8(samples))
}

fn frames(colour: Colour) -> Vec<Frame> {
    let delays = [(40, 1), (1000, 30), (1000, 30), (1000, 30), (70, 1)];
    let frames = delays.into_iter().enumerate();
    let frame = |(seed, (numerator, denominator))| Frame {
        image: image(colour, seed),
        delay: Delay::of_ms(numerator, denominator),
    };
    frames.map(frame).collect()
}

fn written(frames: &[Frame], format: Format, plays: u32, metadata: &Metadata) -> Vec<u8> {
    let animation = Animation {
        frames: frames.len(),
        plays,
    };
    let mut writer = AnimationWriter::new(
        Cursor::new(Vec::new()),
        Path::new("animation"),
        format,
        &frames[0].image.outline(),
        metadata,
        Encoding::DEFAULT,
        animation,
    )
    .expect("a header");
    for frame in frames {
        writer.write_frame(frame).expect("a frame");
    }
    writer.finish().expect("a file").into_inner()
}

fn open(bytes: &[u8]) -> Reader {
    Reader::from_bytes(bytes, Path::new("animation"), &Limits::default()).expect("a header")
}

/// Samples as RGB with alpha.
fn rgba(image: &Image) -> Vec<u8> {
    let image = image.clone().grey_to_rgb();
    let Samples::U8(samples) = &image.samples else {
        panic!("{:?}", image.outline());
    };
    if image.colour.has_alpha() {
        return samples.clone();
    }
    let pixels = samples.as_chunks::<3>().0.iter();
    pixels.flat_map(|&[r, g, b]| [r, g, b, 255]).collect()
}

#[test]
fn frames_and_times_are_kept_in_all_formats() {
    for format in [Format::Png, Format::WebP, Format::Gif] {
        for colour in [
            Colour::Grey,
            Colour::GreyAlpha,
            Colour::Rgb,
            Colour::RgbAlpha,
        ] {
            for plays in [0, 3] {
                let what = format!("{format} of {colour}, played {plays} times");
                let frames = frames(colour);
                let file = written(&frames, format, plays, &Metadata::default());
                let reader = open(&file);
                assert_eq!(reader.format(), format, "{what}");
                let expected = Animation { frames: 5, plays };
                assert_eq!(reader.animation(), Some(expected), "{what}");
                assert!(reader.omitted().is_empty(), "{what}");
                let read: Vec<Frame> = reader
                    .into_frames()
                    .expect("frames")
                    .map(|frame| frame.unwrap_or_else(|error| panic!("{what}: {error}")))
                    .collect();
                let delays_ms: Vec<f64> = read.iter().map(|frame| frame.delay.ms()).collect();
                let expected_ms = match format {
                    Format::Png => [40.0, 1000.0 / 30.0, 1000.0 / 30.0, 1000.0 / 30.0, 70.0],
                    Format::WebP => [40.0, 33.0, 34.0, 33.0, 70.0],
                    _ => [40.0, 30.0, 40.0, 30.0, 70.0],
                };
                assert_eq!(delays_ms, expected_ms, "{what}");
                for (read, frame) in read.iter().zip(&frames) {
                    assert_eq!(read.image.colour.has_alpha(), colour.has_alpha(), "{what}");
                    assert_eq!(rgba(&read.image), rgba(&frame.image), "{what}");
                }
                // Who reads one image is told.
                let error = decode_bytes(&file, Path::new("x"), &Limits::default());
                let error = error.expect_err("an animation").to_string();
                assert!(error.contains("it is an animation"), "{error}");
            }
        }
    }
}

#[test]
fn a_frame_without_alpha_is_opaque_in_an_animation_with_alpha() {
    for format in [Format::Png, Format::WebP, Format::Gif] {
        let mut frames = frames(Colour::RgbAlpha);
        frames[2].image = image(Colour::Rgb, 2);
        frames[3].image = image(Colour::Grey, 3);
        let file = written(&frames, format, 0, &Metadata::default());
        let read = open(&file).into_frames().expect("frames");
        for (read, frame) in read.zip(&frames) {
            let read = read.expect("a frame").image;
            assert_eq!(rgba(&read), rgba(&frame.image), "{format}");
        }
    }
}

#[test]
fn metadata_is_kept_where_the_format_holds_it() {
    let xmp = b"<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF \
                xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><rdf:Description \
                xmlns:dc=\"http://purl.org/dc/elements/1.1/\" dc:format=\"x\"/></rdf:RDF></x:xmpmeta>";
    let mut metadata = Metadata::default();
    metadata.icc_profile = Some(b"0123456789abcdefRGB profile".to_vec());
    metadata.xmp = Some(xmp.to_vec());
    for (format, is_kept) in [
        (Format::Png, true),
        (Format::WebP, true),
        (Format::Gif, false),
    ] {
        let file = written(&frames(Colour::Rgb), format, 0, &metadata);
        let read = open(&file).metadata().clone();
        assert_eq!(read.icc_profile.is_some(), is_kept, "{format}");
        assert_eq!(read.xmp.is_some(), is_kept, "{format}");
        let lost = metadata.lost_in(format, Colour::Rgb);
        assert_eq!(lost.is_empty(), is_kept, "{lost:?}");
    }
}

#[test]
fn frames_of_gif_are_laid_over_each_other() {
    // A canvas of 4 x 4 pixels and two colours; frames of one pixel each, with what becomes of them.
    let pixel = |x: u8, disposal: u8, colour: u8| {
        let control = [0x21, 0xf9, 4, disposal << 2, 7, 0, 0, 0];
        let place = [0x2c, x, 0, 0, 0, 1, 0, 1, 0, 0];
        // Codes of three bits: clear, the colour, end.
        let codes = 0b100_u16 | u16::from(colour) << 3 | 0b101 << 6;
        let [a, b] = codes.to_le_bytes();
        [&control[..], &place, &[2, 2, a, b, 0]].concat()
    };
    let header = b"GIF89a\x04\0\x04\0\x80\0\0\x10\x20\x30\x40\x50\x60";
    let comment = b"\x21\xfe\x02hi\0";
    let (keep, background, previous) = (1, 2, 3);
    let file = [
        &header[..],
        comment,
        &pixel(0, keep, 0),
        &pixel(1, background, 1),
        &pixel(2, previous, 1),
        &pixel(3, keep, 0),
        b"\x3b",
    ]
    .concat();
    let reader = open(&file);
    assert_eq!(reader.metadata().dropped, ["comment of GIF: not copied"]);
    let rows = reader.into_frames().expect("frames").map(|frame| {
        let frame = frame.expect("a frame");
        assert_eq!(frame.delay, Delay::of_ms(70, 1));
        let row = rgba(&frame.image)[..16].to_vec();
        let red: Vec<u8> = row.as_chunks::<4>().0.iter().map(|p| p[0]).collect();
        red
    });
    let rows: Vec<_> = rows.collect();
    assert_eq!(
        rows,
        [
            [0x10, 0, 0, 0],
            [0x10, 0x40, 0, 0],
            [0x10, 0, 0x40, 0],
            [0x10, 0, 0, 0x10],
        ]
    );
    for cut in [1, 2, 8, 20] {
        let cut = &file[..file.len() - cut];
        let read = Reader::from_bytes(cut, Path::new("x"), &Limits::default());
        let error = read.map(drop).expect_err("a part");
        assert!(matches!(error, Error::Truncated { .. }), "{error}");
    }
    let mut unknown = file.clone();
    *unknown.last_mut().expect("the end") = b'?';
    let read = Reader::from_bytes(unknown, Path::new("x"), &Limits::default());
    let error = read.map(drop).expect_err("no end");
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn a_truncated_animation_is_no_shorter_one() {
    for format in [Format::Png, Format::WebP, Format::Gif] {
        let file = written(&frames(Colour::Rgb), format, 0, &Metadata::default());
        for share in [2, 3, 5] {
            let cut = &file[..file.len() - file.len() / share];
            let read = Reader::from_bytes(cut, Path::new("x"), &Limits::default());
            let Ok(reader) = read else { continue };
            let what = format!("{format} without 1/{share}");
            let announced = reader.animation().map_or(1, |animation| animation.frames);
            let ended = match reader.animation() {
                Some(_) => reader.into_frames().expect("frames").find_map(Result::err),
                None => reader.read_all().err(),
            };
            let error = ended.unwrap_or_else(|| panic!("{what}: {announced} frames"));
            assert!(
                matches!(error, Error::Truncated { .. } | Error::Damaged { .. }),
                "{what}: {error}"
            );
        }
    }
}

#[test]
fn formats_without_animations_are_refused() {
    let frame = image(Colour::Rgb, 0);
    let animation = Animation {
        frames: 2,
        plays: 0,
    };
    for format in [Format::Jpeg, Format::Tiff, Format::Bmp] {
        let writer = AnimationWriter::new(
            Cursor::new(Vec::new()),
            Path::new("out"),
            format,
            &frame.outline(),
            &Metadata::default(),
            Encoding::DEFAULT,
            animation,
        );
        let error = writer.err().expect("no animation").to_string();
        assert!(
            error.contains("an animation of 2 frames; png, webp, gif can"),
            "{error}"
        );
    }
}
