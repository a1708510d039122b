//! Netpbm images: every kind, scaled to the whole range, and damaged ones.

use std::path::Path;

use wdsr_image::{Colour, Depth, Error, Format, Image, Limits, Reader, Samples, decode_bytes};

fn decoded(file: &[u8]) -> Result<Image, Error> {
    decode_bytes(file, Path::new("image.ppm"), &Limits::default())
}

fn image(file: &[u8]) -> Image {
    decoded(file).unwrap_or_else(|error| panic!("{}: {error}", file.escape_ascii()))
}

#[test]
fn all_kinds_are_read() {
    for (file, size, colour, samples) in [
        (
            &b"P1\n3 2\n1 0 1\n001\n"[..],
            (3, 2),
            Colour::Grey,
            vec![0, 255, 0, 255, 255, 0],
        ),
        (b"P2 2 1 255 7\n250", (2, 1), Colour::Grey, vec![7, 250]),
        (
            b"P3\n1 2\n255\n1 2 3\n4 5 6\n",
            (1, 2),
            Colour::Rgb,
            vec![1, 2, 3, 4, 5, 6],
        ),
        // Rows of bits end at whole bytes.
        (
            b"P4\n9 2\n\x80\x80\x01\x00",
            (9, 2),
            Colour::Grey,
            vec![
                0, 255, 255, 255, 255, 255, 255, 255, 0, 255, 255, 255, 255, 255, 255, 255, 0, 255,
            ],
        ),
        (
            b"P5\n3 1\n255\n\0\x80\xff",
            (3, 1),
            Colour::Grey,
            vec![0, 128, 255],
        ),
        (b"P6 1 1 255\nabc", (1, 1), Colour::Rgb, b"abc".to_vec()),
        // The first byte after one white space is a sample, whatever it is.
        (b"P6 1 1 255\n\n #", (1, 1), Colour::Rgb, b"\n #".to_vec()),
        // Other largest values are scaled to white.
        (
            b"P5 4 1 15 \x00\x01\x0e\x0f",
            (4, 1),
            Colour::Grey,
            vec![0, 17, 238, 255],
        ),
        (b"P2 3 1 2 0 1 2", (3, 1), Colour::Grey, vec![0, 128, 255]),
    ] {
        let image = image(file);
        assert_eq!(
            (image.width_px, image.height_px),
            size,
            "{}",
            file.escape_ascii()
        );
        assert_eq!(image.colour, colour, "{}", file.escape_ascii());
        assert_eq!(
            image.samples,
            Samples::U8(samples),
            "{}",
            file.escape_ascii()
        );
    }
}

#[test]
fn every_kind_of_pam_is_read() {
    let head = |depth: u8, white: u32, kind: &str| {
        format!("P7\n# by hand\nWIDTH 1\nHEIGHT 2\nDEPTH {depth}\nMAXVAL {white}\n{kind}ENDHDR\n")
    };
    for (depth, white, kind, colour) in [
        (1, 255, "TUPLTYPE GRAYSCALE\n", Colour::Grey),
        (1, 255, "", Colour::Grey),
        (2, 255, "TUPLTYPE GRAYSCALE_ALPHA\n", Colour::GreyAlpha),
        (
            2,
            255,
            "TUPLTYPE  BLACKANDWHITE_ALPHA \n",
            Colour::GreyAlpha,
        ),
        (3, 255, "TUPLTYPE RGB\n\n", Colour::Rgb),
        (4, 255, "TUPLTYPE RGB_ALPHA\n", Colour::RgbAlpha),
        (4, 255, "", Colour::RgbAlpha),
        (3, 65535, "TUPLTYPE RGB\n", Colour::Rgb),
        (1, 1, "TUPLTYPE BLACKANDWHITE\n", Colour::Grey),
    ] {
        let bytes = if white > 255 { 4 } else { 2 } * depth;
        let samples: Vec<u8> = (0..bytes)
            .map(|i| if white == 1 { i % 2 } else { 3 * i })
            .collect();
        let file = [head(depth, white, kind).as_bytes(), &samples].concat();
        let image = image(&file);
        assert_eq!((image.width_px, image.height_px), (1, 2));
        assert_eq!(image.colour, colour, "{kind}");
        assert_eq!(image.metadata.texts[0].1, "by hand");
        let expected = match white {
            255 => Samples::U8(samples),
            // In PAM a bit of 1 is white.
            1 => Samples::U8(vec![0, 255]),
            _ => {
                let pairs = samples.as_chunks::<2>().0.iter();
                Samples::U16(pairs.map(|pair| u16::from_be_bytes(*pair)).collect())
            }
        };
        assert_eq!(image.samples, expected, "{kind}");
    }
    for (file, expected) in [
        (
            head(4, 255, "TUPLTYPE CMYK\n"),
            "4 samples per pixel of kind \"CMYK\"",
        ),
        (head(5, 255, ""), "5 samples per pixel"),
        (
            head(1, 255, "TUPLTYPE RGB\n"),
            "1 samples per pixel of kind \"RGB\"",
        ),
        (head(1, 70_000, ""), "its largest value is 70000"),
        (head(1, 255, "COLOR RED\n"), "an unknown key, \"COLOR\""),
        (
            "P7\nWIDTH 1\nENDHDR\n".to_owned(),
            "its header has no DEPTH",
        ),
        ("P7\nWIDTH -1\nENDHDR\n".to_owned(), "its WIDTH is \"-1\""),
        ("P7\nWIDTH 1\n".to_owned(), "is truncated"),
        (format!("P7\nWIDTH {}", "1".repeat(5000)), "an endless line"),
        (head(3, 255, "TUPLTYPE RGB\n") + "12345", "5 of 6 bytes"),
    ] {
        let error = decoded(file.as_bytes())
            .map(drop)
            .expect_err("refused")
            .to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn pfm_has_floats_and_its_lowest_row_first() {
    let values = [0.25_f32, -1.5, 3.0, f32::MIN_POSITIVE, 1.0, 0.5];
    let big: Vec<u8> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
    let little: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    for (head, bytes) in [("1.0", &big), ("-1.0", &little), ("-0.003", &little)] {
        let grey = image(&[format!("Pf\n2 3\n{head}\n").as_bytes(), bytes].concat());
        assert_eq!(
            (grey.colour, grey.width_px, grey.height_px),
            (Colour::Grey, 2, 3)
        );
        let turned = [1.0, 0.5, 3.0, f32::MIN_POSITIVE, 0.25, -1.5];
        assert_eq!(grey.samples, Samples::F32(turned.to_vec()));
        let rgb = image(&[format!("PF 1 2 {head}\n").as_bytes(), bytes].concat());
        assert_eq!(rgb.colour, Colour::Rgb);
        let turned = [&values[3..], &values[..3]].concat();
        assert_eq!(rgb.samples, Samples::F32(turned));
    }
    for (file, expected) in [
        (&b"Pf 1 1 0\n1234"[..], "its header has no scale"),
        (b"Pf 1 1 nan\n1234", "its header has no scale"),
        (b"Pf 1 1 -1.0\n123", "3 of 4 bytes"),
        (b"PF 1 -1 -1.0\n123", "its header has no height"),
        (b"PF 1 1", "is truncated"),
    ] {
        let error = decoded(file).map(drop).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn samples_of_two_bytes_are_16_bit() {
    let white = image(b"P5 3 1 65535\n\0\0\x12\x34\xff\xff");
    assert_eq!(white.samples, Samples::U16(vec![0, 0x1234, 0xffff]));
    // 10 bits of a camera.
    let ten = image(b"P5 3 1 1023\n\0\0\x02\0\x03\xff");
    assert_eq!(ten.samples, Samples::U16(vec![0, 32800, 0xffff]));
    assert_eq!(
        image(b"P3 1 1 256 0 128 256").samples,
        Samples::U16(vec![0, 32768, 0xffff])
    );
    assert_eq!(ten.depth(), Depth::U16);
}

#[test]
fn comments_become_texts() {
    let file = b"P6 # made by hand\n# on a Monday\n1 #one\n 1 255\n123";
    let image = image(file);
    let comments = " made by hand\n on a Monday\none\n".trim().to_owned();
    assert_eq!(image.metadata.texts, [("Comment".to_owned(), comments)]);
    assert_eq!(image.samples, Samples::U8(b"123".to_vec()));
    let plain = b"P1 2 1 # in the header\n1 # in the raster 1 1\n0";
    assert_eq!(self::image(plain).samples, Samples::U8(vec![0, 255]));
}

#[test]
fn what_follows_the_raster_is_named() {
    for (file, expected) in [
        (&b"P5 1 1 255\nx"[..], None),
        (b"P5 1 1 255\nx\n", None),
        (b"P5 1 1 255\nxP5 1 1 255\ny", Some("1 further image")),
        (b"P5 1 1 255\nxsomething", Some("data after the end")),
    ] {
        let name = Path::new("a.pgm");
        let reader = Reader::from_bytes(file, name, &Limits::default()).expect("a header");
        assert_eq!(reader.format(), Format::Netpbm);
        let omitted = reader.omitted().join("; ");
        match expected {
            None => assert_eq!(omitted, "", "{}", file.escape_ascii()),
            Some(words) => assert!(omitted.contains(words), "{omitted}"),
        }
    }
}

#[test]
fn damaged_and_truncated_files_are_errors() {
    for (file, expected) in [
        (&b"P6 2 2 255\n12345678901"[..], "11 of 12 bytes"),
        (b"P5 2 2 65535\n1234567", "7 of 8 bytes"),
        (b"P4 9 1\n1", "1 of 2 bytes"),
        (b"P2 2 1 255 123", "ends before the image does"),
        (b"P2 2 1 255 1 x", "expected a number, found x"),
        (
            b"P2 1 1 255 256",
            "a sample is 256, above the largest value",
        ),
        (b"P2 1 1 65535 99999", "a sample is above 65535"),
        (
            b"P5 1 1 15 \x10",
            "a sample is 16, above the largest value of its header, 15",
        ),
        (b"P1 1 1 2", "expected a number"),
        (b"P6 1 1 0 123", "its largest value is 0"),
        (b"P6 1 1 65536 123456", "its largest value is 65536"),
        (b"P6 1 -1 255 123", "its header has no height"),
        (b"P6 99999999999 1 255 1", "its header has no width"),
        (b"P6 0 1 255 123", "has no pixels"),
        (b"P6 1", "is truncated"),
        // Refused before memory is allocated.
        (b"P6 30000 30000 255 123", "3 of 2700000000 bytes"),
    ] {
        let error = decoded(file).map(drop).expect_err("damaged");
        let text = error.to_string();
        assert!(text.contains(expected) && !text.contains('\n'), "{text}");
    }
    let whole = b"P3 2 2 255 1 2 3 4 5 6 7 8 9 10 11 12 ";
    for length in 3..whole.len() - 4 {
        decoded(&whole[..length]).map(drop).expect_err("truncated");
    }
}

#[test]
fn texts_that_start_alike_are_no_images() {
    for text in [
        &b"P1 is the first place"[..],
        b"P7 332\n1",
        b"P7\na list",
        b"P8 1 1",
        b"PF is short",
        b"P61 1 255",
    ] {
        let error = decoded(text).map(drop).expect_err("no image");
        let is_other = matches!(error, Error::NotAnImage { .. } | Error::UnreadFormat { .. });
        assert!(is_other, "{error:?}");
    }
}
