use std::io::{BufWriter, Seek, Write};
use std::path::Path;

use tiff::encoder::colortype::{ColorType, Gray8, Gray16, Gray32Float, RGB8, RGB16, RGB32Float};
use tiff::encoder::{TiffEncoder, TiffKind, TiffKindBig, TiffKindStandard, TiffValue};
use tiff::tags::ExtraSamples;

use super::{Outline, RowSample};
use crate::encode::{NewFile, png_writer};
use crate::error::{Error, one_line};
use crate::format::Format;
use crate::metadata::{self, Metadata};
use crate::pixels::Depth;

/// Bytes of a PNG chunk, and of what is collected for a write to the disk.
const CHUNK_BYTES: usize = 1 << 18;

/// What [`encode_rows`] gives rows to.
type Sink<'a, T> = dyn FnMut(&[T]) -> Result<(), Error> + 'a;

/// Writes a PNG or TIFF image row by row, a TIFF above 4 GB as BigTIFF: `produce` is given a
/// function that takes the next whole rows. The file is not under its name yet.
///
/// # Errors
///
/// Those of `produce`, and if the file cannot be written. No part of it is left behind.
///
/// # Panics
///
/// If the format is another one or cannot hold such an image, the samples are of another depth,
/// or `produce` gives another number of rows than the image has.
pub fn encode_rows<T: RowSample, E: From<Error>>(
    path: &Path,
    format: Format,
    outline: &Outline,
    metadata: &Metadata,
    produce: impl FnOnce(&mut Sink<'_, T>) -> Result<(), E>,
) -> Result<NewFile, E> {
    assert!(
        format.supports(outline.colour, outline.depth)
            && outline.width_px.max(outline.height_px) <= format.max_side_px(),
        "{format} of {outline:?}"
    );
    assert_eq!(T::DEPTH, outline.depth, "depth of rows and of image");
    let metadata = metadata.fitted(
        format,
        (outline.width_px, outline.height_px),
        outline.colour,
    );
    let file = NewFile::create(path)?;
    let writer = BufWriter::with_capacity(CHUNK_BYTES, file.as_file());
    match format {
        Format::Png => write_png(writer, path, outline, &metadata, produce)?,
        Format::Tiff => write_tiff(writer, path, outline, &metadata, produce)?,
        _ => panic!("{format} is not written row by row"),
    }
    file.synchronise()?;
    Ok(file)
}

fn failed(error: &dyn std::error::Error, path: &Path, format: Format) -> Error {
    Error::Encode {
        path: path.to_owned(),
        format,
        reason: one_line(error),
    }
}

fn write_failed(source: std::io::Error, path: &Path) -> Error {
    Error::Write {
        path: path.to_owned(),
        source,
    }
}

fn write_png<T: RowSample, E: From<Error>>(
    writer: impl Write,
    path: &Path,
    outline: &Outline,
    metadata: &Metadata,
    produce: impl FnOnce(&mut Sink<'_, T>) -> Result<(), E>,
) -> Result<(), E> {
    let png_failed = |error| match error {
        png::EncodingError::IoError(source) => write_failed(source, path),
        error => failed(&error, path, Format::Png),
    };
    let mut writer = png_writer(writer, outline, metadata).map_err(png_failed)?;
    let mut stream = writer
        .stream_writer_with_size(CHUNK_BYTES)
        .map_err(png_failed)?;
    let mut big_endian = Vec::new();
    produce(&mut |rows: &[T]| {
        let bytes: &[u8] = bytemuck::cast_slice(rows);
        let mut pieces = bytes.chunks(CHUNK_BYTES);
        let write = |piece: &[u8]| {
            if outline.depth != Depth::U16 {
                return stream.write_all(piece);
            }
            big_endian.clear();
            let samples = piece.as_chunks::<2>().0.iter();
            big_endian.extend(samples.flat_map(|&v| u16::from_ne_bytes(v).to_be_bytes()));
            stream.write_all(&big_endian)
        };
        let written = pieces.try_for_each(write);
        written.map_err(|source| write_failed(source, path))
    })?;
    stream.finish().map_err(png_failed)?;
    writer.finish().map_err(png_failed)?;
    Ok(())
}

/// Whether a TIFF file of so many bytes of samples needs the 64-bit offsets of BigTIFF. Metadata
/// and tables, which are not counted, take far less than what is left here.
fn needs_big_tiff(sample_bytes: u64) -> bool {
    const FOR_THE_REST: u64 = 512 << 20;
    sample_bytes > u64::from(u32::MAX) - FOR_THE_REST
}

/// Writes a TIFF file of the rows that `produce` gives; `path` stands for it in messages.
pub(crate) fn write_tiff<T: RowSample, E: From<Error>>(
    writer: impl Write + Seek,
    path: &Path,
    outline: &Outline,
    metadata: &Metadata,
    produce: impl FnOnce(&mut Sink<'_, T>) -> Result<(), E>,
) -> Result<(), E> {
    let bytes = (outline.row_len() * size_of::<T>()) as u64 * outline.height_px as u64;
    if needs_big_tiff(bytes) {
        write_tiff_of::<T, E, _, TiffKindBig, _>(writer, path, outline, metadata, produce)
    } else {
        write_tiff_of::<T, E, _, TiffKindStandard, _>(writer, path, outline, metadata, produce)
    }
}

fn write_tiff_of<T, E, P, K, W>(
    writer: W,
    path: &Path,
    outline: &Outline,
    metadata: &Metadata,
    produce: P,
) -> Result<(), E>
where
    T: RowSample,
    E: From<Error>,
    P: FnOnce(&mut Sink<'_, T>) -> Result<(), E>,
    K: TiffKind,
    W: Write + Seek,
{
    let write = match (outline.depth, outline.colour.is_grey()) {
        (Depth::U8, true) => write_strips::<Gray8, T, E, P, K, _>,
        (Depth::U8, false) => write_strips::<RGB8, T, E, P, K, _>,
        (Depth::U16, true) => write_strips::<Gray16, T, E, P, K, _>,
        (Depth::U16, false) => write_strips::<RGB16, T, E, P, K, _>,
        (Depth::F32, true) => write_strips::<Gray32Float, T, E, P, K, _>,
        (Depth::F32, false) => write_strips::<RGB32Float, T, E, P, K, _>,
    };
    write(writer, path, outline, metadata, produce)
}

fn write_strips<C, T, E, P, K, W>(
    writer: W,
    path: &Path,
    outline: &Outline,
    metadata: &Metadata,
    produce: P,
) -> Result<(), E>
where
    C: ColorType,
    C::Inner: bytemuck::Pod,
    [C::Inner]: TiffValue,
    T: RowSample,
    E: From<Error>,
    P: FnOnce(&mut Sink<'_, T>) -> Result<(), E>,
    K: TiffKind,
    W: Write + Seek,
{
    let tiff_failed = |error| match error {
        tiff::TiffError::IoError(source) => write_failed(source, path),
        error => failed(&error, path, Format::Tiff),
    };
    let mut encoder = TiffEncoder::<_, K>::new_generic(writer).map_err(tiff_failed)?;
    let sub_directories =
        metadata::tiff::write_sub_directories(metadata, &mut encoder).map_err(tiff_failed)?;
    let (width, height) = (outline.width_px as u32, outline.height_px as u32);
    let mut image = encoder.new_image::<C>(width, height).map_err(tiff_failed)?;
    if outline.colour.has_alpha() {
        let alpha = [ExtraSamples::UnassociatedAlpha];
        image.extra_samples(&alpha).map_err(tiff_failed)?;
    }
    metadata::tiff::write(metadata, &sub_directories, image.encoder()).map_err(tiff_failed)?;
    // Samples of a strip that is not whole yet.
    let mut strip: Vec<C::Inner> = Vec::new();
    produce(&mut |rows: &[T]| {
        let mut rows: &[C::Inner] = bytemuck::cast_slice(rows);
        while !rows.is_empty() {
            let strip_len = image.next_strip_sample_count() as usize;
            assert!(strip_len > 0, "more than the {height} rows of the image");
            let (now, later) = rows.split_at(rows.len().min(strip_len - strip.len()));
            strip.extend_from_slice(now);
            rows = later;
            if strip.len() == strip_len {
                image.write_strip(&strip).map_err(tiff_failed)?;
                strip.clear();
            }
        }
        Ok(())
    })?;
    assert_eq!(
        image.next_strip_sample_count(),
        0,
        "samples left of the image"
    );
    image.finish().map_err(tiff_failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::pixels::{Colour, Image, Samples};
    use crate::{Limits, decode_bytes};

    #[test]
    fn big_tiff_is_read_back_and_taken_before_4_gb() {
        assert!(!needs_big_tiff(3_000_000_000));
        assert!(needs_big_tiff(4_000_000_000));
        assert!(needs_big_tiff(u64::MAX));
        let samples: Vec<u16> = (0..40 * 30 * 4).map(|i| i * 13).collect();
        let mut image = Image::new(40, 30, Colour::RgbAlpha, Samples::U16(samples.clone()));
        image.metadata.icc_profile = Some(b"0123456789abcdefRGB profile".to_vec());
        let mut file = Cursor::new(Vec::new());
        write_tiff_of::<u16, Error, _, TiffKindBig, _>(
            &mut file,
            Path::new("x"),
            &image.outline(),
            &image.metadata,
            |sink| sink(&samples),
        )
        .expect("written");
        let file = file.into_inner();
        assert_eq!(file[2], 43, "the number that marks BigTIFF");
        let read = decode_bytes(&file, Path::new("x"), &Limits::default()).expect("read");
        assert_eq!(read.samples, image.samples);
        assert_eq!(read.metadata.icc_profile, image.metadata.icc_profile);
    }
}
