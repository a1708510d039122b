//! Pixels of TIFF files.
//!
//! The crate `tiff` reads strips, tiles, planes and compressions; their samples are interpreted
//! here: grey, RGB, palettes, CMYK and YCbCr, with or without alpha, in 1, 2, 4, 8 and 16 bits
//! and in floats.
//!
//! Source: TIFF 6.0, sections 3 to 8, 14, 16, 18, 19 and 21.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use ::tiff::decoder::{
    BufferLayoutPreference, ChunkType, Decoder, DecodingResult, Limits as TiffLimits,
};
use ::tiff::tags::Tag;
use ::tiff::{TiffError, TiffResult};
use image::metadata::Orientation;

use super::tiff_directories::{Directories, Directory};
use super::{
    Decode, Header, Limits, MAX_METADATA_BYTES, Source, after_end, check_size, read_error,
};
use crate::error::{Error, one_line};
use crate::format::Format;
use crate::metadata;
use crate::samples::{Colour, Depth, Outline, Samples};
use crate::unread;

const BLACK_IS_ZERO: u16 = 1;
const PALETTE: u16 = 3;
const UNSIGNED: u16 = 1;
const ASSOCIATED_ALPHA: u16 = 1;
const UNASSOCIATED_ALPHA: u16 = 2;

/// Most samples of a pixel: CMYK with alpha and some channels that are dropped.
const MAX_SAMPLES_PER_PIXEL: usize = 16;

type SourceDecoder = Decoder<Overlay<Source>>;

struct TiffDecoder {
    decoder: SourceDecoder,
    pages: Option<Pages>,
    kind: Kind,
    layout: BufferLayoutPreference,
    /// The colours of a palette.
    map: Vec<u16>,
    outline: Outline,
    band: Band,
}

/// The pages of a file, and one of them.
#[derive(Clone)]
pub(super) struct Pages {
    directories: Arc<Directories>,
    page: usize,
}

impl Pages {
    pub(super) fn count(&self) -> usize {
        self.directories.pages()
    }

    pub(super) fn next(&self) -> Option<Self> {
        let page = self.page + 1;
        let directories = Arc::clone(&self.directories);
        (page < self.count()).then_some(Self { directories, page })
    }

    fn directory(&self) -> &Directory {
        &self.directories.list[self.directories.at_page(self.page)]
    }
}

/// Opens the first page.
pub(super) fn open(
    mut source: Source,
    name: &Path,
    limits: &Limits,
) -> Result<(Header, Box<dyn Decode>), Error> {
    let failed = |source| Error::Read {
        path: name.to_owned(),
        source,
    };
    let file_bytes = source.len_bytes().map_err(failed)?;
    let directories = Directories::read(&mut source, file_bytes).map_err(failed)?;
    let omitted = match &directories {
        Some(directories) => check_directories(directories, name)?,
        None => Vec::new(),
    };
    let pages = directories.map(|directories| Pages {
        directories: Arc::new(directories),
        page: 0,
    });
    open_page(source, pages, omitted, name, limits)
}

/// Opens a page; `omitted` is what the file contains beside the pages.
pub(super) fn open_page(
    mut source: Source,
    pages: Option<Pages>,
    mut omitted: Vec<String>,
    name: &Path,
    limits: &Limits,
) -> Result<(Header, Box<dyn Decode>), Error> {
    let failed = |error| tiff_error(error, name);
    let file_bytes = source.len_bytes().map_err(|error| failed(error.into()))?;
    let image = pages.as_ref().map(Pages::directory);
    let is_palette = image.is_some_and(|image| image.palette_at.is_some());
    let tags = image.map_or(Vec::new(), |image| image.tags.clone());
    let mut decoder = decoder_of(source, pages.as_ref()).map_err(failed)?;
    let size = decoder.dimensions().map_err(failed)?;
    let (width_px, height_px) = check_size(size, name, limits)?;
    let (mut metadata, orientation, images) = metadata::tiff::read(&mut decoder, &tags);
    let has_pages = pages.as_ref().is_some_and(|pages| pages.count() > 1);
    if omitted.is_empty() && !has_pages {
        omitted.extend(after_end::further_images(images.saturating_sub(1)));
    }
    let kind = Kind::read(&mut decoder, is_palette).map_err(failed)?;
    let unsupported = |reason: String| Error::unsupported(reason, Format::Tiff, name);
    if !kind.is_supported() {
        return Err(unsupported(kind.description()));
    }
    if kind.is_reversed {
        return Err(unsupported("the bits of its bytes are reversed".to_owned()));
    }
    check_compression(&mut decoder)
        .map_err(failed)?
        .map_err(unsupported)?;
    let map = if is_palette {
        let map: Option<Vec<u16>> = decoder
            .find_tag_unsigned_vec(Tag::ColorMap)
            .map_err(failed)?;
        map.filter(|map| map.len() >= 3 << kind.bits)
            .ok_or_else(|| unsupported("a palette without its colours".to_owned()))?
    } else {
        Vec::new()
    };

    let layout = decoder.image_buffer_layout().map_err(failed)?;
    let stored_channels = kind.stored_channels(&layout, width_px * height_px);
    let alpha = kind.alpha(stored_channels);
    let channels = kind.colour_samples() + usize::from(alpha.is_some());
    if channels > stored_channels {
        return Err(unsupported(kind.description()));
    }
    if kind.samples > channels {
        let dropped = "further channels of TIFF: they are neither colour nor alpha";
        metadata.dropped.push(dropped.to_owned());
    }
    let outline = Outline {
        width_px,
        height_px,
        colour: Colour::new(matches!(kind.photometric, 0 | 1), alpha.is_some()),
        depth: kind.depth(&map),
    };
    check_tiles(
        &decoder,
        outline.row_bytes() / width_px,
        layout.complete_len,
    )
    .map_err(unsupported)?;
    let chunks = Chunks::read(&mut decoder);
    if let Some(chunks) = &chunks {
        if let Some(reason) = chunks.first_short(&mut decoder).map_err(failed)? {
            return Err(Error::damaged(reason, Format::Tiff, name));
        }
        let most_bytes = chunks
            .most_bytes(file_bytes, &mut decoder)
            .map_err(failed)?;
        if most_bytes < layout.complete_len as u64 {
            let reason =
                format!("its {file_bytes} bytes cannot hold {width_px} x {height_px} pixels");
            return Err(Error::truncated(reason, Format::Tiff, name));
        }
    }
    let chunks_are_plain = kind.is_plain(&mut decoder);
    let (_, chunk_height) = decoder.chunk_dimensions();
    let chunk_rows = (chunk_height as usize).min(height_px);
    let header = Header {
        outline,
        orientation,
        metadata,
        omitted,
        animation: None,
        pages: pages.clone(),
        streams_rows: chunks_are_plain
            && orientation == Orientation::NoTransforms
            && chunks.is_some_and(|chunks| chunks.end_before(file_bytes)),
        whole_bytes: layout.complete_len as u64,
        // A row of chunks, and the same while one is decompressed.
        rows_bytes: 2 * outline.row_bytes() as u64 * chunk_rows as u64,
    };
    // A strip or tile may be as long as the image.
    let decoder = decoder.with_limits(decoder_limits(layout.complete_len));
    let decoder = TiffDecoder {
        decoder,
        pages,
        kind,
        layout,
        map,
        outline,
        band: Band::default(),
    };
    Ok((header, Box::new(decoder)))
}

/// Refuses camera raw files, whose pixels need developing, and describes what there is beside the pages.
fn check_directories(directories: &Directories, name: &Path) -> Result<Vec<String>, Error> {
    if directories.is_camera_raw() {
        let (path, found) = (name.to_owned(), unread::CAMERA_RAW);
        return Err(Error::UnreadFormat { path, found });
    }
    let mut omitted = Vec::new();
    omitted.extend(after_end::further_images(directories.files_after));
    if directories.masks() > 0 {
        omitted.push("transparency mask: masks of TIFF are not read".to_owned());
    }
    Ok(omitted)
}

/// Limits for samples of so many bytes, and for metadata beside them.
fn decoder_limits(sample_bytes: usize) -> TiffLimits {
    let mut limits = TiffLimits::default();
    limits.ifd_value_size = MAX_METADATA_BYTES as usize;
    limits.decoding_buffer_size = sample_bytes.saturating_add(MAX_METADATA_BYTES as usize);
    limits.intermediate_buffer_size = limits.decoding_buffer_size;
    limits
}

impl Decode for TiffDecoder {
    fn read_rows(&mut self, rows: &mut [u8], name: &Path) -> Result<(), Error> {
        for row in rows.chunks_exact_mut(self.outline.row_bytes()) {
            self.band
                .read_row(row, &mut self.decoder, &self.outline)
                .map_err(|error| tiff_error(error, name))?;
        }
        Ok(())
    }

    fn skip_rows(&mut self, count: usize, _row_bytes: usize, name: &Path) -> Result<(), Error> {
        self.band
            .skip_rows(count, &mut self.decoder, &self.outline)
            .map_err(|error| tiff_error(error, name))
    }

    fn restart(&mut self, source: Source, name: &Path) -> Result<(), Error> {
        let decoder =
            decoder_of(source, self.pages.as_ref()).map_err(|error| tiff_error(error, name))?;
        self.decoder = decoder.with_limits(decoder_limits(self.layout.complete_len));
        self.band = Band::default();
        Ok(())
    }

    fn read_all(self: Box<Self>, name: &Path) -> Result<Samples, Error> {
        let Self {
            mut decoder,
            kind,
            layout,
            map,
            outline,
            ..
        } = *self;
        let unsupported = || Error::unsupported(kind.description(), Format::Tiff, name);
        let size = (outline.width_px, outline.height_px);
        let stored = read_stored(&mut decoder, size, &layout);
        let stored = stored.map_err(|error| tiff_error(error, name))?;
        let pixels = size.0 * size.1;
        let samples = match stored {
            DecodingResult::U8(bytes) if kind.bits < 8 => {
                let row_bytes = layout.row_stride.map_or(0, |stride| stride.get());
                Samples::U8(kind.unpack(&bytes, size.0, row_bytes))
            }
            DecodingResult::U8(v) => Samples::U8(interleaved(v, pixels, layout.planes)),
            DecodingResult::U16(v) => Samples::U16(interleaved(v, pixels, layout.planes)),
            DecodingResult::F16(v) => {
                let v = v.into_iter().map(f32::from).collect();
                Samples::F32(interleaved(v, pixels, layout.planes))
            }
            DecodingResult::F32(v) => Samples::F32(interleaved(v, pixels, layout.planes)),
            DecodingResult::F64(v) => {
                let v = v.into_iter().map(|v| v as f32).collect();
                Samples::F32(interleaved(v, pixels, layout.planes))
            }
            _ => return Err(unsupported()),
        };
        let stored_channels = kind.stored_channels(&layout, pixels);
        if stored_channels * pixels != samples.len() {
            return Err(unsupported());
        }
        let alpha = kind.alpha(stored_channels);
        let channels = kind.colour_samples() + usize::from(alpha.is_some());
        let samples = if channels == stored_channels {
            samples
        } else {
            samples.pick(stored_channels, &Vec::from_iter(0..channels))
        };
        let samples = match kind.photometric {
            PALETTE => of_palette(&samples, &map, kind.bits, channels),
            5 => of_cmyk(samples, channels),
            6 => of_ycbcr(samples, channels),
            _ => samples,
        };
        Ok(if alpha == Some(ASSOCIATED_ALPHA) {
            straight(samples, outline.colour.channels())
        } else {
            samples
        })
    }
}

/// A row of strips or tiles, from which rows are read.
#[derive(Default)]
struct Band {
    /// Its rows, in the machine's byte order.
    bytes: Vec<u8>,
    /// Bytes that were read.
    taken: usize,
    /// Number of the next row of chunks.
    next: usize,
    chunk: Vec<u8>,
}

impl Band {
    fn read_row(
        &mut self,
        row: &mut [u8],
        decoder: &mut SourceDecoder,
        outline: &Outline,
    ) -> TiffResult<()> {
        if self.taken == self.bytes.len() {
            self.read_chunks(decoder, outline)?;
        }
        row.copy_from_slice(&self.bytes[self.taken..][..row.len()]);
        self.taken += row.len();
        Ok(())
    }

    fn skip_rows(
        &mut self,
        count: usize,
        decoder: &mut SourceDecoder,
        outline: &Outline,
    ) -> TiffResult<()> {
        let row_bytes = outline.row_bytes();
        let from_these = count.min((self.bytes.len() - self.taken) / row_bytes);
        self.taken += from_these * row_bytes;
        let (_, chunk_height) = decoder.chunk_dimensions();
        let later = count - from_these;
        self.next += later / chunk_height as usize;
        let of_next = later % chunk_height as usize;
        if of_next > 0 {
            self.read_chunks(decoder, outline)?;
            self.taken = of_next * row_bytes;
        }
        Ok(())
    }

    /// Reads the next row of chunks.
    fn read_chunks(&mut self, decoder: &mut SourceDecoder, outline: &Outline) -> TiffResult<()> {
        let (chunk_width, chunk_height) = decoder.chunk_dimensions();
        let (chunk_width_px, chunk_height_px) = (chunk_width as usize, chunk_height as usize);
        let row_bytes = outline.row_bytes();
        let pixel_bytes = row_bytes / outline.width_px;
        let rows = chunk_height_px.min(outline.height_px - self.next * chunk_height_px);
        self.bytes.resize(rows * row_bytes, 0);
        self.taken = 0;
        let across = outline.width_px.div_ceil(chunk_width_px);
        for column in 0..across {
            let index = (self.next * across + column) as u32;
            let width_px = chunk_width_px.min(outline.width_px - column * chunk_width_px);
            let chunk_row_bytes = width_px * pixel_bytes;
            if across == 1 {
                decoder.read_chunk_bytes(index, &mut self.bytes)?;
                break;
            }
            self.chunk.resize(rows * chunk_row_bytes, 0);
            decoder.read_chunk_bytes(index, &mut self.chunk)?;
            let start = column * chunk_width_px * pixel_bytes;
            let to = self.bytes.chunks_exact_mut(row_bytes);
            for (to, from) in to.zip(self.chunk.chunks_exact(chunk_row_bytes)) {
                to[start..start + chunk_row_bytes].copy_from_slice(from);
            }
        }
        self.next += 1;
        Ok(())
    }
}

/// Refuses compressions that the decoder does not know, before it takes memory for the pixels.
fn check_compression(decoder: &mut SourceDecoder) -> TiffResult<Result<(), String>> {
    let compression = decoder
        .find_tag_unsigned(Tag::Compression)?
        .unwrap_or(1_u16);
    let name = match compression {
        1 | 4 | 5 | 7 | 8 | 32_773 | 32_946 => return Ok(Ok(())),
        6 => "old JPEG".to_owned(),
        34_887 => "LERC".to_owned(),
        34_925 => "LZMA".to_owned(),
        50_000 => "ZSTD".to_owned(),
        50_001 => "WebP".to_owned(),
        50_002 | 52_546 => "JPEG XL".to_owned(),
        number => format!("number {number}"),
    };
    Ok(Err(format!("its compression is {name}")))
}

/// Refuses tiles far larger than the image, as the decoder takes memory for whole tiles.
fn check_tiles(
    decoder: &SourceDecoder,
    pixel_bytes: usize,
    image_bytes: usize,
) -> Result<(), String> {
    const MOST_BYTES: u64 = 64 << 20;
    let (width, height) = decoder.chunk_dimensions();
    let tile_bytes = u64::from(width) * u64::from(height) * pixel_bytes as u64;
    let is_tiled = matches!(decoder.get_chunk_type(), ChunkType::Tile);
    if is_tiled && tile_bytes > MOST_BYTES.max(4 * image_bytes as u64) {
        return Err(format!(
            "its tiles of {width} x {height} pixels are larger than the image"
        ));
    }
    Ok(())
}

/// Where the strips or tiles of a file lie, in bytes.
struct Chunks {
    offsets: Vec<u64>,
    lengths: Vec<u64>,
}

impl Chunks {
    /// None if the file does not say it in a form that can be read.
    fn read(decoder: &mut SourceDecoder) -> Option<Self> {
        let (offsets, lengths) = match decoder.get_chunk_type() {
            ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
            ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
        };
        let mut numbers =
            |tag: Tag| -> Option<Vec<u64>> { decoder.find_tag_unsigned_vec(tag).ok()? };
        Some(Self {
            offsets: numbers(offsets)?,
            lengths: numbers(lengths)?,
        })
    }

    /// Whether all chunks lie in the file.
    fn end_before(&self, file_bytes: u64) -> bool {
        let chunks = self.offsets.iter().zip(&self.lengths);
        let mut ends = chunks.map(|(offset, length)| offset.checked_add(*length));
        ends.all(|end| end.is_some_and(|end| end <= file_bytes))
    }

    /// The most bytes that the chunks within the file can be decompressed to.
    fn most_bytes(&self, file_bytes: u64, decoder: &mut SourceDecoder) -> TiffResult<u64> {
        // At most one byte becomes this many. Source: TIFF 6.0, sections 9, 13 and 22; zlib's technical
        // details. LZW's longest string has 4096 bytes for a code of 9 to 12 bits.
        let inflation = match decoder
            .find_tag_unsigned(Tag::Compression)?
            .unwrap_or(1_u16)
        {
            1 => 1,
            5 => 4096,
            7 | 8 | 32_946 => 1032,
            32_773 => 64,
            _ => return Ok(u64::MAX),
        };
        // Length 0 stands for unknown.
        if self.lengths.contains(&0) {
            return Ok(u64::MAX);
        }
        let chunks = self.offsets.iter().zip(&self.lengths);
        let held = chunks.map(|(&offset, &length)| length.min(file_bytes.saturating_sub(offset)));
        let sum = held.fold(0, u64::saturating_add);
        Ok(sum.saturating_mul(inflation))
    }

    /// The fault of the first uncompressed chunk that is shorter than its samples: the decoder would
    /// read what lies behind it. Length 0 stands for unknown.
    fn first_short(&self, decoder: &mut SourceDecoder) -> TiffResult<Option<String>> {
        const UNCOMPRESSED: u16 = 1;
        let compression = decoder.find_tag_unsigned(Tag::Compression)?;
        if compression.unwrap_or(UNCOMPRESSED) != UNCOMPRESSED {
            return Ok(None);
        }
        for (number, &length) in self.lengths.iter().enumerate() {
            let Ok(layout) = decoder.image_chunk_buffer_layout(number as u32) else {
                break;
            };
            if length != 0 && length < layout.len as u64 {
                return Ok(Some(format!(
                    "strip or tile {number} has {length} bytes, its pixels take {}",
                    layout.len
                )));
            }
        }
        Ok(None)
    }
}

/// The samples as the file has them, plane after plane.
fn read_stored<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    (width_px, height_px): (usize, usize),
    layout: &BufferLayoutPreference,
) -> TiffResult<DecodingResult> {
    let mut stored = DecodingResult::U8(Vec::new());
    let is_tiled = matches!(decoder.get_chunk_type(), ChunkType::Tile);
    let (tile_width_px, tile_height_px) = decoder.chunk_dimensions();
    let (tile_width_px, tile_height_px) = (tile_width_px as usize, tile_height_px as usize);
    // The decoder takes memory for whole tiles.
    let most = |side_px: usize| side_px + 65_535;
    if is_tiled && (tile_width_px > most(width_px) || tile_height_px > most(height_px)) {
        return Err(TiffError::LimitsExceeded);
    }
    if layout.planes == 1 || !is_tiled {
        decoder.read_image_to_buffer(&mut stored)?;
        return Ok(stored);
    }

    // The decoder takes the lowest tiles of all planes but the first for whole ones, which would
    // spill into the next plane; so each is read by itself and cut.
    let strides = layout.row_stride.zip(layout.plane_stride);
    let Some((row_stride, plane_stride)) = strides.map(|(row, plane)| (row.get(), plane.get()))
    else {
        return Err(TiffError::IntSizeError);
    };
    let mut limits = ::tiff::decoder::Limits::default();
    limits.decoding_buffer_size = layout.complete_len;
    stored.resize_to(layout, &limits)?;
    let mut buffer = stored.as_buffer(0);
    let bytes = buffer.as_bytes_mut();
    let bytes_per_sample = row_stride / width_px;
    let across = width_px.div_ceil(tile_width_px);
    let down = height_px.div_ceil(tile_height_px);
    for (number, (plane, row, column)) in (0..layout.planes)
        .flat_map(|plane| (0..down).map(move |row| (plane, row)))
        .flat_map(|(plane, row)| (0..across).map(move |column| (plane, row, column)))
        .enumerate()
    {
        let tile_layout = decoder.image_chunk_buffer_layout(number as u32)?;
        let mut tile = vec![0; tile_layout.len];
        decoder.read_chunk_bytes(number as u32, &mut tile)?;
        let tile_stride = tile_layout.row_stride.map_or(1, |stride| stride.get());
        let left = column * tile_width_px * bytes_per_sample;
        let top = row * tile_height_px;
        let tile_rows = tile.chunks_exact(tile_stride).take(height_px - top);
        for (y, tile_row) in tile_rows.enumerate() {
            let at = plane * plane_stride + (top + y) * row_stride + left;
            bytes[at..at + tile_stride].copy_from_slice(tile_row);
        }
    }
    Ok(stored)
}

/// The meaning of the samples of a file.
struct Kind {
    /// Photometric interpretation: 0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK, 6
    /// YCbCr.
    photometric: u16,
    /// Samples of a pixel.
    samples: usize,
    /// Bits of a sample.
    bits: u16,
    /// Sample format: 1 unsigned, 2 signed, 3 float.
    format: u16,
    /// The kinds of the samples after the colour.
    extra: Vec<u16>,
    /// Whether the bits of each byte are reversed. The decoder ignores this and gives wrong samples.
    is_reversed: bool,
}

impl Kind {
    fn read<R: Read + Seek>(decoder: &mut Decoder<R>, is_palette: bool) -> TiffResult<Self> {
        let photometric = decoder.find_tag_unsigned(Tag::PhotometricInterpretation)?;
        let first = |values: Option<Vec<u16>>, default| {
            values.and_then(|v| v.first().copied()).unwrap_or(default)
        };
        Ok(Self {
            photometric: if is_palette {
                PALETTE
            } else {
                photometric.unwrap_or(BLACK_IS_ZERO)
            },
            samples: decoder
                .find_tag_unsigned::<u16>(Tag::SamplesPerPixel)?
                .map_or(1, usize::from),
            bits: first(decoder.find_tag_unsigned_vec(Tag::BitsPerSample)?, 1),
            format: first(decoder.find_tag_unsigned_vec(Tag::SampleFormat)?, UNSIGNED),
            extra: decoder
                .find_tag_unsigned_vec(Tag::ExtraSamples)?
                .unwrap_or_default(),
            is_reversed: decoder.find_tag_unsigned::<u16>(Tag::FillOrder)? == Some(2),
        })
    }

    fn is_supported(&self) -> bool {
        let one_channel = matches!(self.photometric, 0 | 1 | PALETTE) && self.samples == 1;
        let depth = match (self.format, self.bits) {
            (UNSIGNED | 4, 1 | 2 | 4) => one_channel,
            (UNSIGNED | 4, 8) => true,
            (UNSIGNED | 4, 16) => !matches!(self.photometric, 6),
            (3, 16 | 32 | 64) => matches!(self.photometric, 0..=2),
            _ => false,
        };
        let colour = matches!(self.photometric, 0 | 1 | 2 | PALETTE | 5 | 6);
        depth && colour && self.samples <= MAX_SAMPLES_PER_PIXEL
    }

    /// Whether the chunks of the decoder's image hold the samples as [`Samples`] does.
    fn is_plain(&self, decoder: &mut SourceDecoder) -> bool {
        let planes = decoder.find_tag_unsigned::<u16>(Tag::PlanarConfiguration);
        matches!(planes, Ok(None | Some(1)))
            && self.samples == self.colour_samples()
            && matches!(self.photometric, 0..=2)
            && matches!((self.format, self.bits), (UNSIGNED | 4, 8 | 16) | (3, 32))
    }

    /// Samples of a pixel that the decoder gives.
    fn stored_channels(&self, layout: &BufferLayoutPreference, pixels: usize) -> usize {
        match self.bits {
            // Of grey or numbers in a palette.
            ..8 => 1,
            bits => layout.complete_len / (pixels * usize::from(bits / 8)),
        }
    }

    /// The depth of the image.
    fn depth(&self, map: &[u16]) -> Depth {
        match (self.format, self.bits) {
            (3, _) => Depth::F32,
            _ if self.photometric == PALETTE && palette_has_8_bits(map, self.bits) => Depth::U8,
            (_, 16) => Depth::U16,
            _ if self.photometric == PALETTE => Depth::U16,
            _ => Depth::U8,
        }
    }

    fn description(&self) -> String {
        let format = match self.format {
            UNSIGNED | 4 => "unsigned",
            2 => "signed",
            3 => "float",
            _ => "unknown",
        };
        let colour = match self.photometric {
            0 | 1 => "grey",
            2 => "RGB",
            PALETTE => "palette",
            5 => "CMYK",
            6 => "YCbCr",
            8..=10 => "Lab",
            32803 => "raw camera",
            34892 => "raw camera",
            _ => "unknown",
        };
        let (samples, bits) = (self.samples, self.bits);
        format!("{samples} {format} {bits}-bit samples per pixel of {colour} colour")
    }

    /// Samples that make the colour.
    fn colour_samples(&self) -> usize {
        match self.photometric {
            0 | 1 | PALETTE => 1,
            5 => 4,
            _ => 3,
        }
    }

    /// The kind of alpha, if the sample after the colour is alpha: straight, or multiplied into the colour
    /// ([`ASSOCIATED_ALPHA`]). A fourth sample of RGB without a description is straight alpha.
    fn alpha(&self, stored_channels: usize) -> Option<u16> {
        let base = self.colour_samples();
        if stored_channels <= base {
            return None;
        }
        match self.extra.first() {
            Some(&kind @ (ASSOCIATED_ALPHA | UNASSOCIATED_ALPHA)) => Some(kind),
            None if self.photometric == 2 => Some(UNASSOCIATED_ALPHA),
            _ => None,
        }
    }

    /// Expands samples of 1, 2 or 4 bits to 8: over the whole range, or unchanged for numbers in a
    /// palette.
    fn unpack(&self, bytes: &[u8], width_px: usize, row_bytes: usize) -> Vec<u8> {
        let bits = usize::from(self.bits);
        let most = (1 << bits) - 1;
        let factor = if self.photometric == PALETTE {
            1
        } else {
            255 / most
        };
        let rows = bytes.chunks_exact(row_bytes.max(1));
        rows.flat_map(|row| {
            (0..width_px).map(move |x| {
                let shift = 8 - bits - x * bits % 8;
                (row[x * bits / 8] >> shift & most) * factor
            })
        })
        .collect()
    }
}

/// One plane after the other as pixel after pixel.
fn interleaved<T: Copy>(stored: Vec<T>, pixels: usize, planes: usize) -> Vec<T> {
    if planes <= 1 || stored.len() != pixels * planes {
        return stored;
    }
    let mut out = Vec::with_capacity(stored.len());
    for pixel in 0..pixels {
        out.extend((0..planes).map(|plane| stored[plane * pixels + pixel]));
    }
    out
}

/// Whether 8 bits hold the colours of a palette: 8 bits were widened by repeating them or by zeros, or
/// a sloppy writer stored 8 bits.
fn palette_has_8_bits(map: &[u16], bits: u16) -> bool {
    let map = &map[..3 << bits];
    let is_eight = |&v: &u16| v >> 8 == v & 255 || v & 255 == 0;
    map.iter().all(|&v| v < 256) || map.iter().all(is_eight)
}

/// The colours of a palette, whose map holds all reds, all greens and all blues in 16 bits.
fn of_palette(numbers: &Samples, map: &[u16], bits: u16, channels: usize) -> Samples {
    let colours = 1 << bits;
    let numbers: Vec<usize> = match numbers {
        Samples::U8(v) => v.iter().map(|&v| usize::from(v)).collect(),
        Samples::U16(v) => v.iter().map(|&v| usize::from(v)).collect(),
        Samples::F32(_) => unreachable!("palettes have numbers"),
    };
    let sloppy = map[..3 * colours].iter().all(|&v| v < 256);
    let eight = |v: u16| if sloppy { v as u8 } else { (v >> 8) as u8 };
    let has_alpha = channels == 2;
    let rgb = |number: usize| [0, 1, 2].map(|c| map[c * colours + number]);
    let pixels = numbers.chunks_exact(channels);
    if palette_has_8_bits(map, bits) {
        Samples::U8(
            pixels
                .flat_map(|pixel| {
                    let alpha = has_alpha.then(|| (pixel[1] >> (bits.max(8) - 8)) as u8);
                    rgb(pixel[0]).map(eight).into_iter().chain(alpha)
                })
                .collect(),
        )
    } else {
        Samples::U16(
            pixels
                .flat_map(|pixel| {
                    let factor = if bits == 16 { 1 } else { 257 };
                    let alpha = has_alpha.then(|| (pixel[1] * factor) as u16);
                    rgb(pixel[0]).into_iter().chain(alpha)
                })
                .collect(),
        )
    }
}

/// Inks as light, without a profile: the light that an ink passes, times the light that black passes.
fn of_cmyk(samples: Samples, channels: usize) -> Samples {
    fn rgb<T: Copy>(samples: &[T], channels: usize, mix: impl Fn(T, T) -> T) -> Vec<T> {
        let pixels = samples.chunks_exact(channels);
        pixels
            .flat_map(|pixel| {
                let light = [0, 1, 2].map(|ink| mix(pixel[ink], pixel[3]));
                light.into_iter().chain(pixel[4..].iter().copied())
            })
            .collect()
    }
    let mix = |ink: u32, black: u32, most: u32| {
        let light = u64::from(most - ink) * u64::from(most - black);
        (light + u64::from(most / 2)) / u64::from(most)
    };
    match samples {
        Samples::U8(v) => Samples::U8(rgb(&v, channels, |a, k| mix(a.into(), k.into(), 255) as u8)),
        Samples::U16(v) => Samples::U16(rgb(&v, channels, |a, k| {
            mix(a.into(), k.into(), 65_535) as u16
        })),
        Samples::F32(_) => unreachable!("float CMYK is refused"),
    }
}

/// 8-bit YCbCr of full range by the coefficients of BT.601, TIFF's default.
fn of_ycbcr(samples: Samples, channels: usize) -> Samples {
    let Samples::U8(samples) = samples else {
        unreachable!("YCbCr of other depths is refused");
    };
    let pixels = samples.chunks_exact(channels);
    let rgb = pixels.flat_map(|pixel| {
        let [y, b, r] = [0, 1, 2].map(|c| f32::from(pixel[c]));
        let (b, r) = (b - 128.0, r - 128.0);
        let rgb = [
            y + 1.402 * r,
            y - 0.344_136 * b - 0.714_136 * r,
            y + 1.772 * b,
        ];
        let rounded = rgb.map(|v| (v + 0.5).clamp(0.0, 255.0) as u8);
        rounded.into_iter().chain(pixel[3..].iter().copied())
    });
    Samples::U8(rgb.collect())
}

/// Colours that alpha was multiplied into, divided by it.
fn straight(samples: Samples, channels: usize) -> Samples {
    fn divide<T: Copy>(samples: &mut [T], channels: usize, divided: impl Fn(T, T) -> T) {
        for pixel in samples.chunks_exact_mut(channels) {
            let alpha = pixel[channels - 1];
            for v in &mut pixel[..channels - 1] {
                *v = divided(*v, alpha);
            }
        }
    }
    let whole = |v: u32, alpha: u32, most: u32| match alpha {
        0 => 0,
        alpha => ((v * 2 * most + alpha) / (2 * alpha)).min(most),
    };
    match samples {
        Samples::U8(mut v) => {
            divide(&mut v, channels, |v, a| {
                whole(v.into(), a.into(), 255) as u8
            });
            Samples::U8(v)
        }
        Samples::U16(mut v) => {
            divide(&mut v, channels, |v, a| {
                let (v, a) = (u64::from(v), u64::from(a));
                match a {
                    0 => 0,
                    a => ((v * 2 * 65_535 + a) / (2 * a)).min(65_535) as u16,
                }
            });
            Samples::U16(v)
        }
        Samples::F32(mut v) => {
            divide(&mut v, channels, |v, a| if a > 0.0 { v / a } else { 0.0 });
            Samples::F32(v)
        }
    }
}

/// A decoder of an image of the file. The decoder starts with the first directory of the header, so it is
/// shown a header with another. It refuses palettes but reads their numbers as grey, so it is shown a grey
/// image.
fn decoder_of(mut source: Source, pages: Option<&Pages>) -> TiffResult<SourceDecoder> {
    source.rewind()?;
    let mut patches = Vec::new();
    if let Some(pages) = pages {
        let (directories, image) = (&pages.directories, pages.directory());
        if image.at != directories.list[0].at {
            let bytes = image.at.to_be_bytes();
            let offset = &bytes[8 - directories.offset_bytes..];
            for (i, &byte) in offset.iter().enumerate() {
                let i = if directories.is_big_endian {
                    i
                } else {
                    offset.len() - 1 - i
                };
                patches.push((directories.first_at + i as u64, byte));
            }
        }
        patches.extend(image.palette_at.map(|at| (at, BLACK_IS_ZERO as u8)));
    }
    let decoder = Decoder::new(Overlay { source, patches })?;
    // The size of the pixels is not known yet.
    Ok(decoder.with_limits(decoder_limits(0)))
}

/// A file, some bytes of which read as others: their offsets and values.
struct Overlay<S> {
    source: S,
    patches: Vec<(u64, u8)>,
}

impl<S: Read + Seek> Read for Overlay<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.patches.is_empty() {
            return self.source.read(buffer);
        }
        let start = self.source.stream_position()?;
        let length = self.source.read(buffer)?;
        for &(at, byte) in &self.patches {
            if (start..start + length as u64).contains(&at) {
                buffer[(at - start) as usize] = byte;
            }
        }
        Ok(length)
    }
}

impl<S: Seek> Seek for Overlay<S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.source.seek(to)
    }
}

fn tiff_error(error: TiffError, path: &Path) -> Error {
    let format = Format::Tiff;
    match error {
        TiffError::IoError(error) => read_error(image::ImageError::IoError(error), format, path),
        TiffError::UnsupportedError(error) => Error::unsupported(one_line(&error), format, path),
        error => Error::damaged(one_line(&error), format, path),
    }
}
