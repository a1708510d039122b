//! PngSuite, Willem van Schaik's test of PNG readers: every kind of good file against what
//! ImageMagick decodes (`reference/pngsuite.py` made the list), every broken one an error.

use std::path::{Path, PathBuf};

use wdsr_image::{Colour, Depth, Image, Limits, Samples, decode};

fn suite() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pngsuite")
}

fn read(name: &str) -> Result<Image, wdsr_image::Error> {
    decode(&suite().join(name), &Limits::default())
}

fn checksum(samples: &Samples) -> u32 {
    match samples {
        Samples::U8(samples) => crc32fast::hash(samples),
        Samples::U16(samples) => {
            let bytes: Vec<u8> = samples.iter().flat_map(|v| v.to_le_bytes()).collect();
            crc32fast::hash(&bytes)
        }
        Samples::F32(_) => unreachable!("PNG has no floats"),
    }
}

#[test]
fn good_files_decode_to_the_samples_of_another_decoder() {
    let list = std::fs::read_to_string(suite().join("expected.txt")).expect("the list");
    for line in list.lines() {
        let (name, expected) = line.split_once(' ').expect("a name and values");
        let image = read(name).unwrap_or_else(|error| panic!("{error}"));
        let bits = match image.depth() {
            Depth::U8 => 8,
            Depth::U16 => 16,
            Depth::F32 => 32,
        };
        let found = format!(
            "{} {} {} {bits} {:08x}",
            image.width_px,
            image.height_px,
            image.colour.channels(),
            checksum(&image.samples)
        );
        assert_eq!(found, expected, "{name}");
    }
    assert_eq!(list.lines().count(), 161);
}

#[test]
fn broken_files_are_errors_that_say_what_is_wrong() {
    for (name, expected) in [
        ("xc1n0g08", "is damaged: "),    // colour type 1
        ("xc9n2c08", "is damaged: "),    // colour type 9
        ("xcrn0g04", "is not an image"), // carriage returns added
        ("xcsn0g01", "is damaged: "),    // wrong checksum of the image
        ("xd0n2c08", "is damaged: "),    // 0 bits
        ("xd3n2c08", "is damaged: "),    // 3 bits
        ("xd9n2c08", "is damaged: "),    // 99 bits
        ("xdtn0g01", "is damaged: "),    // no image
        ("xhdn0g08", "is damaged: "),    // wrong checksum of the header
        ("xlfn0g04", "is not an image"), // line feeds added
        ("xs1n0g01", "is not an image"), // signatures of the suite
        ("xs2n0g01", "is not an image"),
        ("xs4n0g01", "is not an image"),
        ("xs7n0g01", "is not an image"),
    ] {
        let error = read(&format!("{name}.png")).expect_err(name).to_string();
        assert!(error.contains(&format!("{name}.png {expected}")), "{error}");
    }
}

#[test]
fn colour_physical_size_and_texts_are_read() {
    let metadata = |name: &str| read(name).expect(name).metadata;
    let gamma = metadata("g10n2c08.png").png_colour.expect("gAMA").gamma;
    assert_eq!(gamma, Some(100_000));
    let colour = metadata("ccwn2c08.png").png_colour.expect("cHRM");
    let chromaticities = colour.chromaticities.expect("cHRM");
    assert_eq!(chromaticities[..2], [31_270, 32_900]);
    // 1 x 4 pixels to the unit, which is not said.
    let ratio = metadata("cdfn2c08.png").resolution;
    let wdsr_image::Resolution::Ratio { x, y } = ratio.expect("pHYs") else {
        panic!("{ratio:?}");
    };
    assert_eq!(x / y, 0.25);
    let texts = metadata("ctzn0g04.png").texts;
    let title = texts.iter().find(|(keyword, _)| keyword == "Title");
    assert_eq!(title.map(|(_, text)| text.as_str()), Some("PngSuite"));
    let hindi = metadata("cthn0g04.png").texts;
    assert!(hindi.iter().any(|(_, text)| !text.is_ascii()));
    assert!(metadata("exif2c08.png").exif.is_some());
    assert_eq!(read("basn0g01.png").expect("1 bit").colour, Colour::Grey);
}
