//! What an image's file says beside its pixels, through the program; and its limits.

use std::io::Cursor;
use std::path::Path;

use exif::experimental::Writer;
use exif::{Field, In, Reader, Tag, Value};
use predicates::str::contains;
use wdsr_image::{Colour, Image, Resolution, Samples};

use super::upscale::read;
use super::{image, wdsr, write};

/// An orientation, a maker, a size, and a place.
fn exif_block(orientation: u16) -> Vec<u8> {
    let place = b"Greenwich".to_vec();
    let fields = [
        (Tag::Orientation, Value::Short(vec![orientation])),
        (Tag::Make, Value::Ascii(vec![b"Maker".to_vec()])),
        (Tag::PixelXDimension, Value::Short(vec![24])),
        (Tag::PixelYDimension, Value::Short(vec![16])),
        (Tag::GPSAreaInformation, Value::Undefined(place, 0)),
    ];
    let fields = fields.map(|(tag, value)| Field {
        tag,
        ifd_num: In::PRIMARY,
        value,
    });
    let mut writer = Writer::new();
    fields.iter().for_each(|field| writer.push_field(field));
    let mut block = Cursor::new(Vec::new());
    writer.write(&mut block, true).expect("a block");
    block.into_inner()
}

const XMP: &str = r#"<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 exif:GPSLatitude="51,28.6N" exif:PixelXDimension="24" xmp:Label="Greenwich Park"/></rdf:RDF>
</x:xmpmeta>"#;

fn rgb_profile() -> Vec<u8> {
    let mut profile: Vec<u8> = (0..500).map(|i| (i * 7) as u8).collect();
    profile[16..20].copy_from_slice(b"RGB ");
    profile
}

/// A value of the EXIF block, as another crate reads it out of the file.
fn exif_value(path: &Path, tag: Tag) -> Option<String> {
    let bytes = std::fs::read(path).expect("a file");
    let exif = Reader::new().read_from_container(&mut Cursor::new(bytes));
    let exif = exif.expect("EXIF in the file");
    let field = exif.get_field(tag, In::PRIMARY)?;
    Some(field.display_value().to_string())
}

/// Four flat quarters, in JPEG's blocks; the quarter (right, bottom) has that colour.
fn quarter(right: bool, bottom: bool) -> [u8; 3] {
    match (right, bottom) {
        (false, false) => [230, 30, 30],
        (true, false) => [30, 230, 30],
        (false, true) => [30, 30, 230],
        (true, true) => [220, 220, 220],
    }
}

#[test]
fn a_requested_size_is_that_of_the_upright_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let [input, output] = ["in.jpg", "out.png"].map(|name| folder.path().join(name));
    let samples = vec![90; 24 * 16 * 3];
    let mut stored = Image::new(24, 16, Colour::Rgb, Samples::U8(samples));
    stored.metadata.exif = Some(exif_block(6));
    write(&input, &stored);
    // Upright it is 16 x 24.
    for (request, size) in [
        (["--width", "40"], (40, 60)),
        (["--height", "40"], (27, 40)),
        (["--longest", "60"], (40, 60)),
        (["--size", "40x60"], (40, 60)),
    ] {
        wdsr()
            .arg("upscale")
            .args([&input, Path::new("-o"), &output])
            .args(["--if-exists", "overwrite"])
            .args(request)
            .assert()
            .success();
        let large = read(&output);
        assert_eq!((large.width_px, large.height_px), size, "{request:?}");
    }
}

#[test]
fn all_eight_orientations_come_out_upright_with_the_tag_reset() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::create_dir(&input).expect("a folder");
    // Whether the upright image's quarter (right, bottom) is a stored quarter mirrored in x or y,
    // and whether x and y change places: Exif 2.32, tag 0x0112.
    let cases = [
        (1, false, false, false),
        (2, true, false, false),
        (3, true, true, false),
        (4, false, true, false),
        (5, false, false, true),
        (6, true, false, true),
        (7, true, true, true),
        (8, false, true, true),
    ];
    let suffixes = ["jpg", "png", "webp"];
    for (orientation, mirror_x, mirror_y, swap) in cases {
        // The stored image that is upright after the turn.
        let samples = (0..24 * 16).flat_map(|i| {
            let (right, bottom) = (i % 24 >= 12, i / 24 >= 8);
            let (x, y) = if swap {
                (bottom, right)
            } else {
                (right, bottom)
            };
            quarter(x ^ mirror_x, y ^ mirror_y)
        });
        let mut stored = Image::new(24, 16, Colour::Rgb, Samples::U8(samples.collect()));
        stored.metadata.exif = Some(exif_block(orientation));
        for suffix in suffixes {
            write(
                &input.join(format!("{orientation}{suffix}.{suffix}")),
                &stored,
            );
        }
    }
    wdsr()
        .arg("upscale")
        .args([&input, Path::new("-o"), &output])
        .assert()
        .success();
    for (orientation, .., swap) in cases {
        for suffix in suffixes {
            let path = output.join(format!("{orientation}{suffix}.{suffix}"));
            let name = path.display();
            let large = read(&path);
            let size = if swap { (32, 48) } else { (48, 32) };
            assert_eq!((large.width_px, large.height_px), size, "{name}");
            let pixels = large.to_rgb8();
            for (right, bottom) in [(false, false), (true, false), (false, true), (true, true)] {
                let x = size.0 / 4 + if right { size.0 / 2 } else { 0 };
                let y = size.1 / 4 + if bottom { size.1 / 2 } else { 0 };
                let found = &pixels[(y * size.0 + x) * 3..][..3];
                let expected = quarter(right, bottom);
                let near = found.iter().zip(expected).all(|(a, b)| a.abs_diff(b) < 40);
                assert!(near, "{name}: {found:?} at {x}, {y}, not {expected:?}");
            }
            let value = |tag| exif_value(&path, tag);
            let upright = value(Tag::Orientation);
            assert_eq!(
                upright.as_deref(),
                Some("row 0 at top and column 0 at left")
            );
            assert_eq!(
                value(Tag::PixelXDimension),
                Some(size.0.to_string()),
                "{name}"
            );
            assert_eq!(
                value(Tag::PixelYDimension),
                Some(size.1.to_string()),
                "{name}"
            );
        }
    }
}

#[test]
fn metadata_is_kept_stripped_or_stripped_of_the_location() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let mut photo = image(24, 16, Colour::Rgb);
    photo.metadata.exif = Some(exif_block(1));
    photo.metadata.xmp = Some(XMP.as_bytes().to_vec());
    photo.metadata.icc_profile = Some(rgb_profile());
    photo.metadata.resolution = Some(Resolution::PerInch { x: 300.0, y: 300.0 });
    write(&path("in.jpg"), &photo);
    for choice in ["keep", "strip", "strip-gps"] {
        for suffix in ["jpg", "png", "webp", "tif"] {
            let output = path(&format!("{choice}.{suffix}"));
            let mut command = wdsr();
            command
                .arg("upscale")
                .arg(path("in.jpg"))
                .arg("-o")
                .arg(&output);
            if choice != "keep" {
                command.args(["--metadata", choice]);
            }
            command.assert().success();
            let metadata = read(&output).metadata;
            assert_eq!(
                metadata.icc_profile,
                Some(rgb_profile()),
                "{choice} {suffix}"
            );
            if choice == "strip" {
                assert_eq!((metadata.exif, metadata.xmp), (None, None), "{suffix}");
                assert_eq!(metadata.resolution, None, "{suffix}");
                continue;
            }
            let has_place = exif_value(&output, Tag::GPSAreaInformation).is_some();
            assert_eq!(has_place, choice == "keep", "{choice} {suffix}");
            let maker = exif_value(&output, Tag::Make);
            assert_eq!(maker.as_deref(), Some("\"Maker\""), "{choice} {suffix}");
            let xmp = String::from_utf8(metadata.xmp.expect("XMP")).expect("text");
            assert_eq!(xmp.contains("GPSLatitude"), choice == "keep", "{xmp}");
            assert!(xmp.contains("exif:PixelXDimension=\"48\""), "{xmp}");
            assert!(xmp.contains("xmp:Label=\"Greenwich Park\""), "{xmp}");
            if suffix != "webp" {
                let Some(Resolution::PerInch { x, .. }) = metadata.resolution else {
                    panic!("{choice} {suffix}: {:?}", metadata.resolution);
                };
                assert!((x - 300.0).abs() < 0.01, "{choice} {suffix}: {x}");
            }
        }
    }
}

#[test]
fn warns_once_of_metadata_that_the_format_cannot_hold() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let mut photo = image(8, 8, Colour::Rgb);
    photo.metadata.exif = Some(exif_block(1));
    std::fs::create_dir(path("in")).expect("a folder");
    for name in ["a.png", "b.png", "c.png"] {
        write(&path("in").join(name), &photo);
    }
    let report = path("report.jsonl");
    let output = wdsr()
        .args(["upscale", "-f", "bmp", "--report"])
        .args([&report, &path("in"), Path::new("-o"), &path("out")])
        .output()
        .expect("it runs");
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success(), "{text}");
    assert_eq!(
        text.matches("dropped EXIF: bmp cannot hold it (shown once; see --report)")
            .count(),
        1,
        "{text}"
    );
    let report = std::fs::read_to_string(report).expect("a report");
    assert_eq!(
        report.matches("\"left_out\":[\"EXIF: bmp").count(),
        3,
        "{report}"
    );

    let quiet = |arguments: &[&str]| {
        let output = wdsr()
            .args(["upscale", "-o"])
            .args([path("out.bmp"), path("in").join("a.png")])
            .args(arguments)
            .output()
            .expect("it runs");
        assert!(output.status.success());
        !String::from_utf8_lossy(&output.stderr).contains("dropped")
    };
    assert!(!quiet(&[]));
    assert!(quiet(&["-q"]));
    // Nothing is lost against what was asked for.
    assert!(quiet(&["--metadata", "strip"]));
}

#[test]
fn another_metadata_choice_reruns_a_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    write(&path("a.png"), &image(8, 8, Colour::Rgb));
    let run = |choice: &str| {
        wdsr()
            .args(["upscale", "--metadata", choice, "-o"])
            .args([path("out"), path("a.png")])
            .assert()
            .success()
    };
    run("keep").stderr(contains("->"));
    run("keep").stderr(contains("up to date"));
    run("strip").stderr(contains("->"));
}

#[test]
fn messages_name_the_option_that_raises_a_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in.png"), folder.path().join("out.png"));
    write(&input, &image(30, 20, Colour::Rgb));
    let run = |arguments: &[&str]| {
        wdsr()
            .args(["upscale", "-o"])
            .args([&output, &input])
            .args(arguments)
            .assert()
    };
    run(&["--max-pixels", "599"])
        .code(3)
        .stderr(contains("30 x 20 = 600 pixels, allowed are 599"))
        .stderr(contains("--max-pixels 600 allows it"));
    run(&["--max-pixels", "600", "--max-output-pixels", "2k"])
        .code(3)
        .stderr(contains("60 x 40 = 2400 pixels, allowed are 2000"))
        .stderr(contains("--max-output-pixels 2400 allows it"));
    assert!(!output.exists());
    run(&["--max-pixels", "600", "--max-output-pixels", "2400"]).success();
    run(&["--max-pixels", "many"]).code(2);
}
