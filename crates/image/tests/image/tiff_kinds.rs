//! Every kind of TIFF that is read: depths, colours, alpha, layouts, compressions. libtiff wrote the
//! files and ImageMagick decoded them for the list (`reference/tiff_kinds.py`).

use std::path::Path;

use wdsr_image::{Limits, Samples, decode};

#[test]
fn every_kind_decodes_to_the_samples_of_another_decoder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiff");
    let list = std::fs::read_to_string(folder.join("expected.txt")).expect("the list");
    for line in list.lines() {
        let (name, expected) = line.split_once(' ').expect("a name and values");
        let image = decode(&folder.join(name), &Limits::default())
            .unwrap_or_else(|error| panic!("{error}"));
        let (bits, numbers): (_, Vec<u16>) = match &image.samples {
            Samples::U8(v) => (8, v.iter().map(|&v| u16::from(v)).collect()),
            Samples::U16(v) => (16, v.clone()),
            Samples::F32(v) => (
                32,
                v.iter().map(|v| (v * 65_535.0).round() as u16).collect(),
            ),
        };
        let head = format!(
            "{} {} {} {bits}",
            image.width_px,
            image.height_px,
            image.colour.channels()
        );
        let (expected_head, value) = expected.rsplit_once(' ').expect("a value");
        assert_eq!(head, expected_head, "{name}");
        if let Some(mean) = value.parse::<f64>().ok().filter(|_| value.contains('.')) {
            let sum: f64 = numbers.iter().map(|&v| f64::from(v)).sum();
            let found = sum / numbers.len() as f64;
            let most = if bits == 8 { 0.7 } else { 20.0 };
            assert!(
                (found - mean).abs() < most,
                "{name}: mean {found}, not {mean}"
            );
            continue;
        }
        let bytes: Vec<u8> = match bits {
            8 => numbers.iter().map(|&v| v as u8).collect(),
            _ => numbers.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        assert_eq!(format!("{:08x}", crc32fast::hash(&bytes)), value, "{name}");
    }
    assert_eq!(list.lines().count(), 28);
}

#[test]
fn reversed_bits_are_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiff");
    let mut bytes = std::fs::read(folder.join("grey8.tif")).expect("a file");
    // The entry FillOrder, of type SHORT, one value.
    let entry = [10, 1, 3, 0, 1, 0, 0, 0, 1, 0];
    let at = bytes.windows(10).position(|window| window == entry);
    bytes[at.expect("FillOrder 1") + 8] = 2;
    let error = wdsr_image::decode_bytes(&bytes, Path::new("x"), &Limits::default());
    let error = error.expect_err("refused").to_string();
    assert!(
        error.contains("the bits of its bytes are reversed"),
        "{error}"
    );
}
