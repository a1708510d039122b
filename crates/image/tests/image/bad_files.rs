//! Files that are no images, or only part of one: each gives its own error and no panic.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use wdsr_image::{
    Colour, Error, Format, Image, Limits, Reader, Samples, decode, decode_bytes, encode_bytes,
};
use wdsr_testing::random;

fn noise(width_px: usize, height_px: usize) -> Image {
    let samples = random::bytes(width_px * height_px * 3, 1);
    Image::new(width_px, height_px, Colour::Rgb, Samples::U8(samples))
}

fn file(format: Format) -> Vec<u8> {
    encode_bytes(&noise(40, 30), format).expect("any format can hold it")
}

fn read(bytes: &[u8]) -> Result<Image, Error> {
    decode_bytes(bytes, Path::new("folder/name.png"), &Limits::default())
}

/// The message, which is one line and names the file.
fn message(error: &Error) -> String {
    let message = error.to_string();
    assert!(message.contains("folder/name.png"), "{message}");
    assert_eq!(error.path(), Path::new("folder/name.png"), "{message}");
    assert!(
        !message.contains('\n') && !message.ends_with('.'),
        "{message}"
    );
    message
}

#[test]
fn truncated_files_of_every_format_are_errors() {
    for format in Format::WRITTEN {
        let whole = file(format);
        assert!(read(&whole).is_ok(), "{format}");
        // TIFF keeps its directory at the end and PNG an empty chunk. A JPEG may lack its marker.
        let last = match format {
            Format::Png => whole.len() - 13,
            Format::Jpeg => whole.len() - 3,
            _ => whole.len() - 1,
        };
        for cut in (1..last).step_by(17).chain([last]) {
            let error = read(&whole[..cut]).expect_err("truncated");
            let kind = matches!(
                error,
                Error::Truncated { .. } | Error::Damaged { .. } | Error::NotAnImage { .. }
            );
            assert!(kind, "{format} cut to {cut} of {}: {error:?}", whole.len());
            message(&error);
        }
        let half = read(&whole[..whole.len() / 2]).expect_err("truncated");
        assert!(
            matches!(half, Error::Truncated { .. }),
            "{format}: {half:?}"
        );
        assert!(message(&half).contains(&format!("is truncated: the {format} data ends")));
    }
}

/// JPEG files of every kind of scan: sequential, progressive with refinements, with restarts,
/// a scan for each colour.
fn jpegs() -> [Vec<u8>; 4] {
    [
        file(Format::Jpeg),
        include_bytes!("../jpeg/progressive.jpg").to_vec(),
        include_bytes!("../jpeg/restarts.jpg").to_vec(),
        include_bytes!("../jpeg/planes.jpg").to_vec(),
    ]
}

#[test]
fn a_jpeg_with_a_corrupt_scan_is_damaged() {
    for (kind, whole) in jpegs().into_iter().enumerate() {
        read(&whole).unwrap_or_else(|error| panic!("file {kind}: {error}"));
        let middle = whole.len() / 2;
        let mut corrupt = whole.clone();
        for (i, byte) in corrupt[middle..middle + 100].iter_mut().enumerate() {
            *byte = (i * 31) as u8 & 0x7f;
        }
        let error = match read(&corrupt) {
            Ok(_) => panic!("file {kind} is read"),
            Err(error) => error,
        };
        assert!(matches!(error, Error::Damaged { .. }), "{kind}: {error:?}");
        let message = message(&error);
        assert!(message.contains(" is damaged: scan "), "{message}");
        assert!(message.ends_with("export the jpeg file again"), "{message}");
        // Its header is whole.
        let name = Path::new("folder/name.png");
        Reader::from_bytes(corrupt, name, &Limits::default()).expect("a header");
    }
}

#[test]
fn a_scan_of_too_few_or_too_many_bytes_is_damaged() {
    let expect = |bytes: &[u8], what: &str| {
        let message = message(&read(bytes).expect_err(what));
        assert!(message.contains(what), "{message}");
    };
    let [sequential, progressive, restarts, _] = jpegs();
    // 5 x 4 MCUs of a block for each colour. The last two bytes are the end-of-image marker.
    let end = sequential.len() - 2;
    let short = [&sequential[..end - 40], &sequential[end..]].concat();
    expect(&short, "scan 1 ends in MCU 19 of 20");
    let long = [&sequential[..end], b"surplus", &sequential[end..]].concat();
    expect(&long, "scan 1 has 7 bytes too many after MCU 20 of 20");
    // Some writers append zeros.
    let padded = [&sequential[..end], &[0; 9], &sequential[end..]].concat();
    read(&padded).expect("padded with zeros");

    let end = progressive.len() - 2;
    let short = [&progressive[..end - 9], &progressive[end..]].concat();
    expect(&short, "scan 10 ends in MCU ");

    let mut swapped = restarts.clone();
    let second = restarts.windows(2).position(|pair| pair == [0xff, 0xd1]);
    swapped[second.expect("a second restart") + 1] = 0xd4;
    expect(&swapped, "scan 1 has marker 0xd4 after MCU 6 of ");
}

#[test]
fn a_jpeg_without_the_scan_of_a_colour_is_damaged() {
    let [.., whole] = jpegs();
    let third = whole.windows(2).rposition(|pair| pair == [0xff, 0xda]);
    let end = whole.len() - 2;
    let without = [&whole[..third.expect("a scan")], &whole[end..]].concat();
    let message = message(&read(&without).expect_err("two planes of three"));
    let expected = "1 of its colour components are in none of its 2 scans";
    assert!(message.contains(expected), "{message}");
}

/// A PNG of 8 bit from its colour type and the chunks behind its header.
fn png(width: u32, height: u32, colour_type: u8, chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, colour_type, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, data) in [(b"IHDR", &*header)].iter().chain(chunks) {
        png.extend((data.len() as u32).to_be_bytes());
        let start = png.len();
        png.extend(*name);
        png.extend(*data);
        png.extend(crc32fast::hash(&png[start..]).to_be_bytes());
    }
    png
}

/// A PNG of a header that claims a size, and nothing more than the start of its data.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    png(width, height, 2, &[(b"IDAT", &[0x78, 0x9c])])
}

/// The decoder panics on them.
#[test]
fn palettes_of_incomplete_colours_are_damaged() {
    // Two pixels of the first colour, deflated without compression.
    let data = [0x78, 1, 1, 3, 0, 0xfc, 0xff, 0, 0, 0, 0, 3, 0, 1];
    let palette = |colours: &[u8], alphas: &[u8]| {
        let chunks: [(&[u8; 4], &[u8]); 4] = [
            (b"PLTE", colours),
            (b"tRNS", alphas),
            (b"IDAT", &data),
            (b"IEND", &[]),
        ];
        read(&png(2, 1, 3, &chunks))
    };
    let image = palette(&[7; 6], &[9; 2]).expect("an image");
    assert_eq!(image.samples, Samples::U8(vec![7, 7, 7, 9, 7, 7, 7, 9]));
    for (colours, alphas) in [(17, 1), (16, 0), (6, 3), (3, 256)] {
        let error = palette(&vec![7; colours], &vec![9; alphas]).expect_err("a panic");
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        let message = message(&error);
        let bytes = format!("{colours} and {alphas} bytes");
        assert!(message.contains(&bytes), "{message}");
    }
}

#[test]
fn a_claimed_size_above_the_limits_is_refused_from_the_header() {
    let png = png_header(100_000, 100_000);
    let error = read(&png).expect_err("30 GB");
    assert!(
        matches!(
            error,
            Error::TooLarge {
                pixels: 10_000_000_000,
                ..
            }
        ),
        "{error:?}"
    );
    let message = message(&error);
    assert!(
        message.contains("100000 x 100000 = 10000000000 pixels"),
        "{message}"
    );
    assert!(
        message.ends_with("10000000000 pixels, allowed are 1000000000"),
        "{message}"
    );

    let small = file(Format::Bmp);
    let within = |max_pixels| {
        let limits = Limits {
            max_pixels,
            ..Limits::default()
        };
        decode_bytes(&small, Path::new("x"), &limits)
    };
    assert!(within(1200).is_ok());
    assert!(matches!(within(1199), Err(Error::TooLarge { .. })));
}

#[test]
fn memory_above_the_limit_is_refused_before_it_is_taken() {
    for format in Format::WRITTEN {
        let within = |max_bytes| {
            let limits = Limits {
                max_bytes,
                ..Limits::default()
            };
            decode_bytes(&file(format), Path::new("x"), &limits)
        };
        let pixel_bytes = match format {
            // A JPEG's planes stand beside the pixels that are made of them.
            Format::Jpeg => 6,
            // Frames are laid over each other.
            Format::Gif => 16,
            _ => 3,
        };
        let bytes = 40 * 30 * pixel_bytes;
        assert!(within(bytes).is_ok(), "{format}");
        let error = within(bytes - 1).expect_err("a byte too few");
        assert_eq!(
            error.to_string(),
            format!(
                "x takes {bytes} bytes of memory to decode, allowed are {}",
                bytes - 1
            )
        );
    }
}

#[test]
fn a_claimed_size_of_zero_is_refused() {
    for (width, height) in [(0, 5), (5, 0)] {
        let error = read(&png_header(width, height)).expect_err("no pixels");
        message(&error);
        let kind = matches!(error, Error::NoPixels { .. } | Error::Damaged { .. });
        assert!(kind, "{error:?}");
    }
}

#[test]
fn files_of_other_content_are_refused_with_what_was_found() {
    let text = read(b"hello, this is text").expect_err("text");
    assert!(matches!(text, Error::NotAnImage { .. }), "{text:?}");
    let message_of_text = message(&text);
    assert!(
        message_of_text.contains("found \"hello, this is t\""),
        "{message_of_text}"
    );
    let psd = message(&read(b"8BPS\0\x01").expect_err("psd"));
    assert!(
        psd.contains("Photoshop files are not read: expected png, jpeg"),
        "{psd}"
    );
    let empty = read(b"").expect_err("empty");
    assert!(message(&empty).contains("is empty (0 bytes)"));
}

#[test]
fn folders_and_devices_are_refused() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let error = decode(folder.path(), &Limits::default()).expect_err("a folder");
    assert!(
        error
            .to_string()
            .contains("is a folder; expected an image file"),
        "{error}"
    );
    let missing = folder.path().join("missing.png");
    let error = decode(&missing, &Limits::default()).expect_err("missing");
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot read {}", missing.display()))
    );
    let empty = folder.path().join("empty.png");
    fs::write(&empty, "").expect("empty file");
    let error = decode(&empty, &Limits::default()).expect_err("empty");
    assert!(matches!(error, Error::Empty { .. }), "{error:?}");
    #[cfg(unix)]
    {
        let error = decode(Path::new("/dev/zero"), &Limits::default()).expect_err("a device");
        assert!(matches!(error, Error::NotAFile { .. }), "{error:?}");
    }
}

/// A small file that would fill the memory: what is too long is left out, or refused.
#[test]
fn texts_that_decompress_beyond_the_limit_are_dropped() {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
    let text = |bytes| "0".repeat(bytes);
    encoder
        .add_ztxt_chunk("long".to_owned(), text(17 << 20))
        .expect("latin");
    for keyword in ["first", "second"] {
        encoder
            .add_ztxt_chunk(keyword.to_owned(), text(9 << 20))
            .expect("latin");
    }
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(&[7]).expect("a pixel");
    writer.finish().expect("an end");
    assert!(bytes.len() < 200_000, "{} bytes", bytes.len());
    let metadata = read(&bytes).expect("an image").metadata;
    let keywords: Vec<_> = metadata.texts.iter().map(|(k, _)| k.as_str()).collect();
    assert_eq!(keywords, ["first"]);
    let [dropped] = &metadata.dropped[..] else {
        panic!("{:?}", metadata.dropped);
    };
    assert!(
        dropped.starts_with("PNG text \"long\" and 1 others: "),
        "{dropped}"
    );
}

#[test]
fn tables_of_a_tiff_that_claim_gigabytes_take_no_memory() {
    let whole = file(Format::Tiff);
    let claiming = |tag: u16| {
        let mut bytes = whole.clone();
        let directory = u32::from_le_bytes(*bytes[4..].first_chunk().expect("an offset")) as usize;
        let entries = bytes[directory + 2..].chunks_exact(12);
        let entry = entries
            .take_while(|entry| entry[..2] != [0, 0])
            .position(|entry| entry[..2] == tag.to_le_bytes())
            .unwrap_or_else(|| panic!("tag {tag}"));
        let at = directory + 2 + entry * 12 + 4;
        bytes[at..at + 4].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
        read(&bytes)
    };
    // Where the strips lie, how long they are, and the resolution, without which the pixels are read.
    for tag in [273, 279] {
        message(&claiming(tag).expect_err("four billion strips"));
    }
    let image = claiming(282).expect("the pixels");
    assert_eq!(image.metadata.resolution, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Limits keep a damaged header from asking for gigabytes here.
    #[test]
    fn damaged_bytes_never_panic(
        format in prop::sample::select(Format::WRITTEN.to_vec()),
        damage in prop::collection::vec((0..400usize, any::<u8>()), 1..8),
        anywhere in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = file(format);
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        for (at, value) in anywhere {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let limits = Limits {
            max_pixels: 1 << 20,
            ..Limits::default()
        };
        if let Err(error) = decode_bytes(&bytes, Path::new("folder/name.png"), &limits) {
            message(&error);
        }
    }
}
