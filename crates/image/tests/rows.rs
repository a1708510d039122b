//! Images read and written row by row are those read and written whole.

use std::io::Cursor;
use std::path::Path;

use proptest::prelude::*;
use wdsr_image::{
    Colour, Depth, Error, Format, Image, Limits, Metadata, Outline, Resolution, RowReader,
    RowSample, Samples, decode, encode, encode_rows,
};
use wdsr_testing::random::Random;

fn image(width_px: usize, height_px: usize, colour: Colour, depth: Depth) -> Image {
    let count = width_px * height_px * colour.channels();
    let mut random = Random::new(1);
    let noise = (0..count).map(|_| random.bits() >> 40);
    let samples = match depth {
        Depth::U8 => Samples::U8(noise.map(|v| v as u8).collect()),
        Depth::U16 => Samples::U16(noise.map(|v| v as u16).collect()),
        Depth::F32 => Samples::F32(noise.map(|v| v as f32 / (1 << 23) as f32 - 0.5).collect()),
    };
    let mut image = Image::new(width_px, height_px, colour, samples);
    image.metadata.resolution = Some(Resolution::PerInch { x: 254.0, y: 508.0 });
    image
}

/// All rows of a file, in pieces of one row, two, three and so on.
fn read_all<T: RowSample>(reader: &mut RowReader) -> Vec<T> {
    let Outline { height_px, .. } = reader.outline();
    let row_len = reader.outline().row_len();
    let mut samples = vec![T::default(); row_len * height_px];
    let (mut rest, mut piece) = (&mut samples[..], 1);
    while !rest.is_empty() {
        let (rows, later) = rest.split_at_mut(rest.len().min(piece * row_len));
        reader.read(rows).expect("rows");
        (rest, piece) = (later, piece + 1);
    }
    samples
}

fn read(path: &Path) -> Option<Image> {
    let mut reader = RowReader::open(path, &Limits::default()).expect("an image")?;
    let Outline {
        width_px,
        height_px,
        colour,
        depth,
    } = reader.outline();
    let samples = match depth {
        Depth::U8 => Samples::U8(read_all(&mut reader)),
        Depth::U16 => Samples::U16(read_all(&mut reader)),
        Depth::F32 => Samples::F32(read_all(&mut reader)),
    };
    let mut image = Image::new(width_px, height_px, colour, samples);
    image.metadata = reader.metadata().clone();
    Some(image)
}

fn write<T: RowSample>(samples: &[T], image: &Image, format: Format, path: &Path, rows: usize) {
    let outline = image.outline();
    let file = encode_rows::<T, Error>(path, format, &outline, &image.metadata, |sink| {
        samples.chunks(rows * outline.row_len()).try_for_each(sink)
    })
    .expect("a file");
    assert!(!path.exists(), "under its name before it is published");
    let bytes = file.bytes().expect("a length");
    file.publish().expect("a name");
    assert_eq!(path.metadata().expect("a file").len(), bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_are_those_of_the_whole_image(
        width in 1_usize..700,
        height in 1_usize..40,
        rows in 1_usize..45,
        kind in prop::sample::select(vec![
            (Format::Png, Colour::Grey, Depth::U8),
            (Format::Png, Colour::GreyAlpha, Depth::U16),
            (Format::Png, Colour::Rgb, Depth::U16),
            (Format::Png, Colour::RgbAlpha, Depth::U8),
            (Format::Tiff, Colour::Grey, Depth::U8),
            (Format::Tiff, Colour::Grey, Depth::U16),
            (Format::Tiff, Colour::Rgb, Depth::U8),
            (Format::Tiff, Colour::Rgb, Depth::U16),
            (Format::Tiff, Colour::Rgb, Depth::F32),
        ]),
    ) {
        let (format, colour, depth) = kind;
        let folder = tempfile::tempdir().expect("a folder");
        let (whole, by_rows) = (folder.path().join("whole"), folder.path().join("rows"));
        let original = image(width, height, colour, depth);
        encode(&original, &whole, format).expect("a file");
        match &original.samples {
            Samples::U8(v) => write(v, &original, format, &by_rows, rows),
            Samples::U16(v) => write(v, &original, format, &by_rows, rows),
            Samples::F32(v) => write(v, &original, format, &by_rows, rows),
        }
        let expected = decode(&whole, &Limits::default()).expect("an image");
        prop_assert!(expected.samples == original.samples);
        for file in [&whole, &by_rows] {
            let found = read(file).expect("readable by rows");
            prop_assert!(found.samples == expected.samples, "{}", file.display());
            prop_assert_eq!(&found.metadata, &expected.metadata);
            let found = decode(file, &Limits::default()).expect("an image");
            prop_assert!(found == expected, "{} decoded", file.display());
        }
    }
}

#[test]
fn tiles_and_compressed_strips_of_tiff_are_read() {
    use tiff::encoder::{Compression, DeflateLevel, TiffEncoder, colortype::RGB8};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.tif");
    let original = image(70, 50, Colour::Rgb, Depth::U8);
    let Samples::U8(samples) = &original.samples else {
        panic!("8 bit");
    };
    for compression in [
        Compression::Lzw,
        Compression::Packbits,
        Compression::Deflate(DeflateLevel::Fast),
    ] {
        let mut bytes = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut bytes)
            .expect("an encoder")
            .with_compression(compression);
        encoder
            .write_image::<RGB8>(70, 50, samples)
            .expect("a file");
        std::fs::write(&path, bytes.into_inner()).expect("a file");
        let found = read(&path).expect("readable by rows");
        assert_eq!(found.samples, original.samples, "compressed");
    }
    std::fs::write(&path, tiled(samples, 70, 50)).expect("a file");
    let whole = decode(&path, &Limits::default()).expect("an image");
    assert_eq!(whole.samples, original.samples, "the test's own file");
    assert_eq!(
        read(&path).expect("readable by rows").samples,
        original.samples
    );
}

/// A little-endian TIFF of RGB tiles of 32 x 16 pixels.
fn tiled(samples: &[u8], width_px: usize, height_px: usize) -> Vec<u8> {
    let (tile_w, tile_h) = (32, 16);
    let (across, down) = (width_px.div_ceil(tile_w), height_px.div_ceil(tile_h));
    let mut file = b"II*\0\0\0\0\0".to_vec();
    let mut offsets = Vec::new();
    for tile in 0..across * down {
        offsets.push(file.len() as u32);
        let (left, top) = (tile % across * tile_w, tile / across * tile_h);
        for y in top..top + tile_h {
            for x in left..left + tile_w {
                let inside = x < width_px && y < height_px;
                let at = (y * width_px + x) * 3;
                file.extend_from_slice(if inside {
                    &samples[at..at + 3]
                } else {
                    &[7; 3]
                });
            }
        }
    }
    let offsets_at = file.len() as u32;
    file.extend(offsets.iter().flat_map(|offset| offset.to_le_bytes()));
    let lengths_at = file.len() as u32;
    let length = (tile_w * tile_h * 3) as u32;
    file.extend(offsets.iter().flat_map(|_| length.to_le_bytes()));
    let bits_at = file.len() as u32;
    file.extend([8_u16; 3].iter().flat_map(|bits| bits.to_le_bytes()));
    let directory_at = file.len() as u32;
    file[4..8].copy_from_slice(&directory_at.to_le_bytes());
    let count = offsets.len() as u32;
    let fields: [(u16, u16, u32, u32); 11] = [
        (256, 4, 1, width_px as u32),
        (257, 4, 1, height_px as u32),
        (258, 3, 3, bits_at),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (277, 3, 1, 3),
        (284, 3, 1, 1),
        (322, 4, 1, tile_w as u32),
        (323, 4, 1, tile_h as u32),
        (324, 4, count, offsets_at),
        (325, 4, count, lengths_at),
    ];
    file.extend((fields.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in fields {
        file.extend(tag.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend(count.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend([0; 4]);
    file
}

#[test]
fn what_needs_the_whole_image_is_left_to_decode() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a");
    let rgb = image(9, 8, Colour::Rgb, Depth::U8);
    for format in [Format::Jpeg, Format::WebP, Format::Bmp] {
        encode(&rgb, &path, format).expect("a file");
        assert!(read(&path).is_none(), "{format}");
    }
    // An orientation, which the encoder writes as it is told.
    let mut turned = rgb.clone();
    turned.metadata.exif = Some(orientation_6());
    encode(&turned, &path, Format::Png).expect("a file");
    assert_eq!(
        decode(&path, &Limits::default())
            .expect("an image")
            .width_px,
        8
    );
    assert!(read(&path).is_none(), "turned");
    // A file that is cut short is refused by `decode` before any work.
    for format in [Format::Png, Format::Tiff] {
        encode(&rgb, &path, format).expect("a file");
        let bytes = std::fs::read(&path).expect("a file");
        std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("a file");
        assert!(read(&path).is_none(), "{format} cut short");
    }
}

fn orientation_6() -> Vec<u8> {
    let mut block = b"II*\0\x08\0\0\0\x01\0".to_vec();
    block.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0]);
    block.extend([0; 4]);
    block
}

#[test]
fn an_error_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.png");
    let outline = image(9, 8, Colour::Rgb, Depth::U8).outline();
    let error =
        encode_rows::<u8, Error>(&path, Format::Png, &outline, &Metadata::default(), |sink| {
            sink(&[0; 27])?;
            Err(Error::Empty {
                path: "source".into(),
            })
        })
        .expect_err("the producer's");
    assert!(matches!(error, Error::Empty { .. }), "{error}");
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        0
    );
}

/// Every kind of file that other programs wrote: what is read by rows is what is decoded.
#[test]
fn files_of_others_give_the_same_rows() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (folder, flows_at_least) in [("tiff", 8), ("pngsuite", 60)] {
        let mut flows = 0;
        for entry in std::fs::read_dir(tests.join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let Ok(Some(_)) = RowReader::open(&path, &Limits::default()) else {
                continue;
            };
            // Damage amid the rows shows as they are read, and is refused by either.
            let Ok(expected) = decode(&path, &Limits::default()) else {
                continue;
            };
            let found = read(&path).expect("it flows");
            assert!(found.samples == expected.samples, "{}", path.display());
            assert_eq!(found.colour, expected.colour, "{}", path.display());
            flows += 1;
        }
        assert!(flows >= flows_at_least, "{flows} files of {folder} flow");
    }
}

/// The decoder does not know of reversed bits and would give other samples.
#[test]
fn tiff_of_reversed_bits_is_left_to_decode_which_refuses_it() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiff");
    let mut bytes = std::fs::read(tests.join("grey8.tif")).expect("a file");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.tif");
    std::fs::write(&path, &bytes).expect("a file");
    assert!(read(&path).is_some(), "it flows as it is");
    // The entry FillOrder, of type SHORT, one value.
    let entry = [10, 1, 3, 0, 1, 0, 0, 0, 1, 0];
    let at = bytes.windows(10).position(|window| window == entry);
    bytes[at.expect("FillOrder 1") + 8] = 2;
    std::fs::write(&path, &bytes).expect("a file");
    assert!(read(&path).is_none(), "it flows with reversed bits");
}
