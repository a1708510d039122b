//! Images read and written row by row are the images read and written whole.

use std::io::Cursor;
use std::path::Path;

use proptest::prelude::*;
use wdsr_image::{
    AtomicFile, Colour, Depth, Error, Format, Image, Limits, Metadata, Outline, Reader, Resolution,
    RowSample, Samples, Writer, decode, encode, encode_bytes,
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
fn read_all<T: RowSample>(reader: &mut Reader) -> Vec<T> {
    let Outline { height_px, .. } = reader.outline();
    let row_len = reader.outline().row_len();
    let mut samples = vec![T::default(); row_len * height_px];
    let (mut rest, mut piece) = (&mut samples[..], 1);
    while !rest.is_empty() {
        let (rows, later) = rest.split_at_mut(rest.len().min(piece * row_len));
        reader.read_rows(rows).expect("rows");
        (rest, piece) = (later, piece + 1);
    }
    samples
}

/// The image read by rows; `None` if that is not possible.
fn read(path: &Path) -> Option<Image> {
    let mut reader = Reader::open(path, &Limits::default()).expect("an image");
    if !reader.streams_rows() {
        return None;
    }
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
    let file = AtomicFile::create(path).expect("a file");
    let mut writer = Writer::new(file, path, format, &outline, &image.metadata).expect("a header");
    for rows in samples.chunks(rows * outline.row_len()) {
        writer.write_rows(rows).expect("rows");
    }
    let file = writer.finish().expect("a file");
    assert!(!path.exists(), "under its name before it is published");
    let bytes = file.as_file().metadata().expect("a length").len();
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
            (Format::Jpeg, Colour::Grey, Depth::U8),
            (Format::WebP, Colour::GreyAlpha, Depth::U8),
            (Format::Bmp, Colour::Rgb, Depth::U8),
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
        if !format.streams_rows() {
            // Rows are collected, and the file is the same.
            let [whole, by_rows] = [whole, by_rows].map(|path| std::fs::read(path).expect("a file"));
            prop_assert!(whole == by_rows, "{format}");
            return Ok(());
        }
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

#[test]
fn rows_are_skipped_wherever_strips_and_tiles_end() {
    use tiff::encoder::{TiffEncoder, colortype::RGB8};
    let (width_px, height_px) = (70, 50);
    let original = image(width_px, height_px, Colour::Rgb, Depth::U8);
    let Samples::U8(samples) = &original.samples else {
        panic!("8 bit");
    };
    let mut strips = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut strips).expect("an encoder");
    let mut strip_image = encoder.new_image::<RGB8>(70, 50).expect("an image");
    strip_image.rows_per_strip(8).expect("strips");
    strip_image.write_data(samples).expect("a file");
    let png = encode_bytes(&original, Format::Png).expect("a file");
    for file in [
        tiled(samples, width_px, height_px),
        strips.into_inner(),
        png,
    ] {
        // Rows to read and to skip in turn, which end at, before and after strips and tiles.
        for turn in [[1, 1], [3, 5], [8, 8], [2, 30], [16, 17], [7, 43], [0, 50]] {
            let name = Path::new("x");
            let mut reader =
                Reader::from_bytes(file.clone(), name, &Limits::default()).expect("an image");
            let (mut row, mut skips, mut steps) = (0, false, 0);
            while row < height_px {
                let count = turn[usize::from(skips)].min(height_px - row);
                if skips {
                    reader.skip_rows(count).expect("rows");
                } else {
                    let mut rows = vec![0_u8; count * width_px * 3];
                    reader.read_rows(&mut rows).expect("rows");
                    assert!(
                        rows == samples[row * width_px * 3..][..rows.len()],
                        "{turn:?} {row}"
                    );
                }
                (row, skips, steps) = (row + count, !skips, steps + 1);
            }
            assert!(steps <= 50);
        }
    }
}

#[test]
fn strips_of_tiff_that_are_skipped_are_not_decoded() {
    use tiff::encoder::{Compression, DeflateLevel, TiffEncoder, colortype::Gray8};
    let original = image(70, 48, Colour::Grey, Depth::U8);
    let Samples::U8(samples) = &original.samples else {
        panic!("8 bit");
    };
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file)
        .expect("an encoder")
        .with_compression(Compression::Deflate(DeflateLevel::Fast));
    let mut strips = encoder.new_image::<Gray8>(70, 48).expect("an image");
    strips.rows_per_strip(16).expect("strips");
    strips.write_data(samples).expect("a file");
    let mut file = file.into_inner();
    // The first strip follows the header.
    file[8..200].fill(0xff);
    let open = || Reader::from_bytes(file.clone(), Path::new("x"), &Limits::default());
    let mut row = [0_u8; 70];
    open()
        .expect("a header")
        .read_rows(&mut row)
        .expect_err("damaged");
    let mut reader = open().expect("a header");
    reader.skip_rows(16).expect("not decoded");
    reader.read_rows(&mut row).expect("a row");
    assert_eq!(row, samples[16 * 70..17 * 70]);
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
fn other_kinds_are_read_whole_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a");
    let rgb = image(9, 8, Colour::Rgb, Depth::U8);
    for format in [Format::Jpeg, Format::WebP, Format::Bmp] {
        encode(&rgb, &path, format).expect("a file");
        assert!(read(&path).is_none(), "{format}");
    }
    // The writer writes the orientation that the EXIF block has.
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
    // A truncated file is refused before any work: by its header, or read whole.
    for format in [Format::Png, Format::Tiff] {
        let bytes = encode_bytes(&rgb, format).expect("a file");
        let reader = Reader::from_bytes(&bytes[..bytes.len() / 2], &path, &Limits::default());
        let is_streamed = reader.is_ok_and(|reader| reader.streams_rows());
        assert!(!is_streamed, "{format} truncated");
    }
}

fn orientation_6() -> Vec<u8> {
    let mut block = b"II*\0\x08\0\0\0\x01\0".to_vec();
    block.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0]);
    block.extend([0; 4]);
    block
}

#[test]
fn an_unfinished_file_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.png");
    let outline = image(9, 8, Colour::Rgb, Depth::U8).outline();
    for format in Format::WRITTEN {
        let file = AtomicFile::create(&path).expect("a file");
        let metadata = Metadata::default();
        let mut writer = Writer::new(file, &path, format, &outline, &metadata).expect("a header");
        writer.write_rows(&[0_u8; 27]).expect("a row");
        drop(writer);
        let files = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(files, 0, "{format}");
    }
}

/// A destination that is full after some bytes.
#[derive(Clone, Copy)]
struct Full(usize);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl std::io::Seek for Full {
    fn seek(&mut self, _: std::io::SeekFrom) -> std::io::Result<u64> {
        Ok(0)
    }
}

#[test]
fn a_full_disk_is_an_error_wherever_it_ends_the_file() {
    let low = image(300, 200, Colour::Rgb, Depth::U8);
    let Samples::U8(samples) = &low.samples else {
        panic!("8 bit");
    };
    let (outline, name) = (low.outline(), Path::new("a"));
    for format in Format::WRITTEN {
        let len = encode_bytes(&low, format).expect("a file").len();
        for room in [0, 10, len / 2, len - 1] {
            let write = || {
                let mut writer = Writer::new(Full(room), name, format, &outline, &low.metadata)?;
                samples
                    .chunks(900 * 7)
                    .try_for_each(|rows| writer.write_rows(rows))?;
                writer.finish()
            };
            let by_rows = write().map(|_| ());
            let whole = Writer::new(Full(room), name, format, &outline, &low.metadata)
                .and_then(|writer| writer.write_all(low.samples.borrowed()))
                .map(|_| ());
            for (how, result) in [("rows", by_rows), ("whole", whole)] {
                let Err(Error::Write { source, .. }) = &result else {
                    panic!("{format} {how} with room for {room} of {len} bytes: {result:?}");
                };
                assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
            }
        }
    }
}

/// The sizes of the result of a x3 upscaling whose input is within all limits of pixels.
#[test]
fn sides_beyond_the_format_are_refused_before_a_byte_is_written() {
    let outline = Outline {
        width_px: 3,
        height_px: 3 * 715_827_883,
        colour: Colour::Grey,
        depth: Depth::U8,
    };
    let (name, metadata) = (Path::new("a.png"), Metadata::default());
    let result = Writer::new(Full(0), name, Format::Png, &outline, &metadata);
    let error = result.err().expect("2^31 + 1 rows");
    assert!(matches!(error, Error::CannotHold { .. }), "{error}");
    let expected = "cannot write a.png as png: it cannot hold 3 x 2147483649 pixels (at most \
                    2147483647 a side); tiff can";
    assert_eq!(error.to_string(), expected);
}

/// A PNG of the given header, one small chunk of pixels and the end.
fn lying_png(width: u32, height: u32) -> Vec<u8> {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 0, 0, 0, 0]);
    let pixels = [0x78, 1, 1, 2, 0, 0xfd, 0xff, 0, 0, 0, 2, 0, 1];
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, data) in [(b"IHDR", &header[..]), (b"IDAT", &pixels), (b"IEND", &[])] {
        png.extend((data.len() as u32).to_be_bytes());
        let start = png.len();
        png.extend(name);
        png.extend(data);
        png.extend(crc32fast::hash(&png[start..]).to_be_bytes());
    }
    png
}

#[test]
fn a_png_whose_bytes_cannot_hold_its_pixels_is_refused_when_it_is_opened() {
    let open = |width, height| {
        let png = lying_png(width, height);
        Reader::from_bytes(png, Path::new("a.png"), &Limits::default())
    };
    assert!(open(1, 1).is_ok());
    let error = open(1, 715_827_883).err().expect("700 million rows");
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    let expected = "its header says 1 x 715827883 pixels, more than its 70 bytes can hold";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn the_hash_is_of_the_content_and_keeps_the_position() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.tif");
    // Small, and beyond what is read into memory.
    for (width_px, height_px) in [(40, 30), (2000, 1500)] {
        let original = image(width_px, height_px, Colour::Rgb, Depth::U8);
        encode(&original, &path, Format::Tiff).expect("a file");
        let bytes = std::fs::read(&path).expect("a file");
        let hash = Reader::from_bytes(bytes, &path, &Limits::default())
            .and_then(|mut reader| reader.content_hash())
            .expect("a hash");
        let mut reader = Reader::open(&path, &Limits::default()).expect("an image");
        let mut samples = vec![0; width_px * 3 * height_px];
        let (first, rest) = samples.split_at_mut(width_px * 3 * 20);
        reader.read_rows(first).expect("rows");
        assert_eq!(reader.content_hash().expect("a hash"), hash);
        reader.read_rows(rest).expect("rows");
        assert!(Samples::U8(samples) == original.samples);
    }
}

/// Every kind of file that other programs wrote: the header announces what is decoded, by rows and
/// whole.
#[test]
fn files_of_other_programs_give_the_same_image_by_rows_and_whole() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (folder, streams_at_least) in [("tiff", 8), ("pngsuite", 60), ("jpeg", 0)] {
        let mut streams = 0;
        for entry in std::fs::read_dir(tests.join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let Ok(reader) = Reader::open(&path, &Limits::default()) else {
                decode(&path, &Limits::default()).expect_err("refused when it is opened");
                continue;
            };
            let (outline, metadata) = (reader.outline(), reader.metadata().clone());
            let is_streamed = reader.streams_rows();
            // Damage amid the rows shows as they are read, and is refused either way.
            let Ok(expected) = reader.read_all() else {
                continue;
            };
            assert_eq!(outline, expected.outline(), "{}", path.display());
            assert_eq!(metadata, expected.metadata, "{}", path.display());
            if is_streamed {
                let found = read(&path).expect("rows");
                assert!(found.samples == expected.samples, "{}", path.display());
                streams += 1;
            }
        }
        assert!(streams >= streams_at_least, "{streams} files of {folder}");
    }
}

/// The decoder does not know reversed bits and would give other samples.
#[test]
fn tiff_of_reversed_bits_is_refused() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiff");
    let mut bytes = std::fs::read(tests.join("grey8.tif")).expect("a file");
    let open = |bytes: &[u8]| Reader::from_bytes(bytes, Path::new("a.tif"), &Limits::default());
    assert!(open(&bytes).is_ok_and(|reader| reader.streams_rows()));
    // The entry FillOrder, of type SHORT, one value.
    let entry = [10, 1, 3, 0, 1, 0, 0, 0, 1, 0];
    let at = bytes.windows(10).position(|window| window == entry);
    bytes[at.expect("FillOrder 1") + 8] = 2;
    let error = open(&bytes).err().expect("reversed bits");
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}
