use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use tiff::decoder::{ChunkType, Decoder, Limits as TiffLimits};
use tiff::tags::Tag;

use super::{Outline, RowSample};
use crate::decode::tiff::{plain_kind, tiff_error};
use crate::decode::{
    self, Limits, MAX_METADATA_BYTES, check_size, format_of, png_colour, png_error, png_reader,
    read_error, size_of, without_foreign_profile,
};
use crate::error::Error;
use crate::format::Format;
use crate::metadata::{self, Metadata};
use crate::pixels::{Colour, Depth};

/// Reads the rows of an image file from the top down.
pub struct RowReader {
    path: PathBuf,
    outline: Outline,
    metadata: Metadata,
    rows_left: usize,
    source: Source,
}

enum Source {
    Png(Box<png::Reader<BufReader<File>>>),
    Tiff(Box<Tiff>),
}

/// A TIFF file, of which a row of strips or tiles is in memory.
struct Tiff {
    decoder: Decoder<BufReader<File>>,
    chunk_size_px: (usize, usize),
    /// The next row of chunks.
    next: usize,
    /// Bytes of the rows of the last row of chunks, in this machine's byte order.
    band: Vec<u8>,
    /// Of them, those that were handed out.
    taken: usize,
    chunk: Vec<u8>,
}

impl RowReader {
    /// Opens an image and reads its header and metadata, as [`decode`](crate::decode) does; `None`
    /// when its rows cannot be read one after another, or something about the file is wrong: then
    /// `decode` is to be asked.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no image, or above `limits`.
    pub fn open(path: &Path, limits: &Limits) -> Result<Option<Self>, Error> {
        let mut file = decode::open(path)?;
        match format_of(&mut file, path)? {
            Format::Png => Self::open_png(file, path, limits),
            Format::Tiff => Self::open_tiff(file, path, limits),
            _ => Ok(None),
        }
    }

    /// Size and kind of the image.
    pub fn outline(&self) -> Outline {
        self.outline
    }

    /// What the file says besides.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Memory in bytes that it takes beside the rows that it is given to fill.
    pub fn memory_bytes(&self) -> u64 {
        let row_bytes = (self.outline.row_len() * self.outline.depth.bytes()) as u64;
        match &self.source {
            // Unfiltered rows and what is inflated ahead.
            Source::Png(_) => 4 * row_bytes + (1 << 20),
            Source::Tiff(tiff) => {
                let (_, rows) = tiff.chunk_size_px;
                // The chunks, and once more while one is unpacked.
                2 * row_bytes * rows.min(self.outline.height_px) as u64
            }
        }
    }

    /// Fills `rows`, whole rows, with the next ones.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is damaged.
    ///
    /// # Panics
    ///
    /// If the samples are of another depth than the image, or `rows` are no whole rows or more
    /// than are left.
    pub fn read<T: RowSample>(&mut self, rows: &mut [T]) -> Result<(), Error> {
        assert_eq!(T::DEPTH, self.outline.depth, "depth of rows and of image");
        let row_len = self.outline.row_len();
        let count = rows.len() / row_len;
        assert!(
            rows.len() == count * row_len && count <= self.rows_left,
            "{} samples asked, {} rows of {row_len} left",
            rows.len(),
            self.rows_left
        );
        self.rows_left -= count;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(rows);
        let row_bytes = row_len * T::DEPTH.bytes();
        match &mut self.source {
            Source::Png(reader) => {
                let failed = |error| read_error(png_error(error), Format::Png, &self.path);
                for row in bytes.chunks_exact_mut(row_bytes) {
                    if reader.read_row(row).map_err(failed)?.is_none() {
                        let reason = "rows are missing";
                        return Err(Error::truncated(reason, Format::Png, &self.path));
                    }
                    if T::DEPTH == Depth::U16 {
                        row.as_chunks_mut::<2>().0.iter_mut().for_each(|sample| {
                            *sample = u16::from_be_bytes(*sample).to_ne_bytes();
                        });
                    }
                }
                Ok(())
            }
            Source::Tiff(tiff) => {
                for row in bytes.chunks_exact_mut(row_bytes) {
                    tiff.read_row(row, &self.outline)
                        .map_err(|error| tiff_error(error, &self.path))?;
                }
                Ok(())
            }
        }
    }

    fn open_png(
        mut file: BufReader<File>,
        path: &Path,
        limits: &Limits,
    ) -> Result<Option<Self>, Error> {
        // Metadata may stand behind the image. This does not unpack it.
        let mut reader = png_reader(&mut file, path)?;
        let info = reader.info();
        if info.interlaced || info.animation_control.is_some() || reader.finish().is_err() {
            return Ok(None);
        }
        let (metadata, orientation) = metadata::png::read(reader.info());
        drop(reader);
        file.rewind().map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        let reader = png_reader(file, path)?;
        let size = size_of(reader.info().size(), path)?;
        check_size(size, path, limits)?;
        if orientation != Orientation::NoTransforms {
            return Ok(None);
        }
        let (colour, depth) = png_colour(&reader);
        let source = Source::Png(Box::new(reader));
        Ok(Some(Self::new(
            path,
            size,
            (colour, depth),
            metadata,
            source,
        )))
    }

    fn open_tiff(
        mut file: BufReader<File>,
        path: &Path,
        limits: &Limits,
    ) -> Result<Option<Self>, Error> {
        let io_failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let file_bytes = file.get_ref().metadata().map_err(io_failed)?.len();
        let mut tiff_limits = TiffLimits::default();
        tiff_limits.ifd_value_size = MAX_METADATA_BYTES as usize;
        let (metadata, orientation) = match Decoder::new(&mut file) {
            Ok(decoder) => metadata::tiff::read(&mut decoder.with_limits(tiff_limits.clone())),
            Err(_) => return Ok(None),
        };
        file.rewind().map_err(io_failed)?;
        let Ok(decoder) = Decoder::new(file) else {
            return Ok(None);
        };
        let mut decoder = decoder.with_limits(tiff_limits.clone());
        let Ok(size) = decoder.dimensions() else {
            return Ok(None);
        };
        let size = size_of(size, path)?;
        check_size(size, path, limits)?;
        // Four floats a pixel are the most.
        let most_bytes = size.0 as u64 * size.1 as u64 * 16;
        tiff_limits.decoding_buffer_size = usize::try_from(most_bytes).unwrap_or(usize::MAX);
        tiff_limits.intermediate_buffer_size = tiff_limits.decoding_buffer_size;
        let mut decoder = decoder.with_limits(tiff_limits);
        let Some(kind) = plain_kind(&mut decoder) else {
            return Ok(None);
        };
        if orientation != Orientation::NoTransforms || !is_whole(&mut decoder, file_bytes) {
            return Ok(None);
        }
        let (width, height) = decoder.chunk_dimensions();
        let source = Source::Tiff(Box::new(Tiff {
            decoder,
            chunk_size_px: (width as usize, height as usize),
            next: 0,
            band: Vec::new(),
            taken: 0,
            chunk: Vec::new(),
        }));
        Ok(Some(Self::new(path, size, kind, metadata, source)))
    }

    fn new(
        path: &Path,
        (width_px, height_px): (usize, usize),
        (colour, depth): (Colour, Depth),
        mut metadata: Metadata,
        source: Source,
    ) -> Self {
        without_foreign_profile(&mut metadata, colour);
        Self {
            path: path.to_owned(),
            outline: Outline {
                width_px,
                height_px,
                colour,
                depth,
            },
            metadata,
            rows_left: height_px,
            source,
        }
    }
}

/// Whether all chunks lie in the file.
fn is_whole(decoder: &mut Decoder<BufReader<File>>, file_bytes: u64) -> bool {
    let (offsets, lengths) = match decoder.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let mut numbers = |tag: Tag| -> Option<Vec<u64>> { decoder.find_tag_unsigned_vec(tag).ok()? };
    let Some((offsets, lengths)) = numbers(offsets).zip(numbers(lengths)) else {
        return false;
    };
    let mut ends = offsets.iter().zip(&lengths).map(|(a, b)| a.checked_add(*b));
    ends.all(|end| end.is_some_and(|end| end <= file_bytes))
}

impl Tiff {
    fn read_row(&mut self, row: &mut [u8], outline: &Outline) -> tiff::TiffResult<()> {
        if self.taken == self.band.len() {
            self.read_band(row.len(), outline)?;
        }
        row.copy_from_slice(&self.band[self.taken..][..row.len()]);
        self.taken += row.len();
        Ok(())
    }

    /// Reads the next row of chunks.
    fn read_band(&mut self, row_bytes: usize, outline: &Outline) -> tiff::TiffResult<()> {
        let (chunk_width_px, chunk_height_px) = self.chunk_size_px;
        let pixel_bytes = row_bytes / outline.width_px;
        let rows = chunk_height_px.min(outline.height_px - self.next * chunk_height_px);
        self.band.resize(rows * row_bytes, 0);
        self.taken = 0;
        let across = outline.width_px.div_ceil(chunk_width_px);
        for column in 0..across {
            let index = (self.next * across + column) as u32;
            let width_px = chunk_width_px.min(outline.width_px - column * chunk_width_px);
            let chunk_row_bytes = width_px * pixel_bytes;
            if across == 1 {
                self.decoder.read_chunk_bytes(index, &mut self.band)?;
                break;
            }
            self.chunk.resize(rows * chunk_row_bytes, 0);
            self.decoder.read_chunk_bytes(index, &mut self.chunk)?;
            let start = column * chunk_width_px * pixel_bytes;
            let to = self.band.chunks_exact_mut(row_bytes);
            for (to, from) in to.zip(self.chunk.chunks_exact(chunk_row_bytes)) {
                to[start..start + chunk_row_bytes].copy_from_slice(from);
            }
        }
        self.next += 1;
        Ok(())
    }
}
