//! PNG.

use std::borrow::Cow;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::path::Path;

use ::png::{BitDepth, ColorType, DecodingError, Info, Limits as PngLimits, Transformations};
use image::codecs::png as image_png;
use image::error::{DecodingError as ImageDecodingError, ImageFormatHint};
use image::{AnimationDecoder, ImageError, ImageFormat};

use super::animation::FrameDecoder;
use super::{
    Decode, Header, Limits, MAX_METADATA_BYTES, Source, after_end, check_size, gif, read_error,
};
use crate::animation::Animation;
use crate::error::Error;
use crate::format::Format;
use crate::metadata::{self, png::PngChunks};
use crate::samples::{Colour, Depth, Outline, Samples};

/// The most bytes that a byte of deflated data can become.
///
/// Source: zlib's technical details: 258 bytes in two bits.
const MAX_INFLATION: u64 = 1032;

struct PngDecoder {
    reader: ::png::Reader<Source>,
    outline: Outline,
}

pub(super) fn open(
    mut source: Source,
    name: &Path,
    limits: &Limits,
) -> Result<(Header, Box<dyn Decode>), Error> {
    let io_failed = |source| Error::Read {
        path: name.to_owned(),
        source,
    };
    let mut chunks = PngChunks::read(&mut source).map_err(io_failed)?;
    let is_animation = chunks.frames > 1;
    match (chunks.is_beside_animation, is_animation) {
        (true, true) => {
            let still = "still image for programs without animations: the result has none";
            chunks.omitted.push(still.to_owned());
        }
        (true, false) => {
            let further = after_end::further_images(chunks.frames);
            chunks.omitted.extend(further);
        }
        (false, _) => {}
    }
    source.rewind().map_err(io_failed)?;
    let size = chunks.size_px.unwrap_or((1, 1));
    let (width_px, _) = check_size(size, name, limits)?;
    // Metadata may follow the pixels, so a first pass goes over the whole file, without inflating it.
    let mut reader = png_reader(&mut source, Pass::Metadata, width_px, name)?;
    let (width_px, height_px) = check_size(reader.info().size(), name, limits)?;
    let is_interlaced = reader.info().interlaced;
    // Damage behind the pixels costs no pixel; damage of the pixels is found when they are read.
    let is_complete = reader.finish().is_ok();
    let (metadata, orientation) = metadata::png::read(reader.info(), &chunks);
    let (_, depth) = colour_of(&reader);
    drop(reader);

    let file_bytes = source.len_bytes().map_err(io_failed)?;
    source.rewind().map_err(io_failed)?;
    if is_animation {
        if depth != Depth::U8 {
            let reason = format!("it is an animation of {depth} images");
            return Err(Error::unsupported(reason, Format::Png, name));
        }
        let outline = Outline {
            width_px,
            height_px,
            // Parts of a frame may clear the canvas.
            colour: Colour::RgbAlpha,
            depth,
        };
        let canvas_bytes = outline.row_bytes() as u64 * height_px as u64;
        let mut allowed = image::Limits::no_limits();
        allowed.max_alloc = Some(6 * canvas_bytes + MAX_METADATA_BYTES);
        let decoder = image_png::PngDecoder::with_limits(source, allowed)
            .and_then(image_png::PngDecoder::apng)
            .map_err(|error| read_error(error, Format::Png, name))?;
        let header = Header {
            outline,
            orientation,
            metadata,
            omitted: chunks.omitted,
            animation: Some(Animation {
                frames: chunks.frames,
                plays: gif::plays(decoder.loop_count()),
            }),
            pages: None,
            streams_rows: false,
            whole_bytes: 6 * canvas_bytes,
            rows_bytes: 0,
        };
        let decoder = FrameDecoder::new(outline, Format::Png, true, || Ok(decoder));
        return Ok((header, Box::new(decoder)));
    }
    let reader = png_reader(source, Pass::Pixels, width_px, name)?;
    let (colour, _) = colour_of(&reader);
    let outline = Outline {
        width_px,
        height_px,
        colour,
        depth,
    };
    let pixels = width_px as u64 * height_px as u64;
    let stored_bits = pixels.saturating_mul(reader.info().bits_per_pixel() as u64);
    if stored_bits / 8 / MAX_INFLATION > file_bytes {
        let reason = format!(
            "its header says {width_px} x {height_px} pixels, more than its {file_bytes} bytes can hold"
        );
        return Err(Error::truncated(reason, Format::Png, name));
    }
    let row_bytes = outline.row_bytes() as u64;
    let header = Header {
        outline,
        orientation,
        metadata,
        omitted: chunks.omitted,
        animation: None,
        pages: None,
        streams_rows: is_complete && !is_interlaced,
        whole_bytes: row_bytes.saturating_mul(height_px as u64),
        // Unfiltered rows, and what is inflated ahead.
        rows_bytes: 4 * row_bytes + (1 << 20),
    };
    Ok((header, Box::new(PngDecoder { reader, outline })))
}

impl PngChunks {
    /// Walks through the chunks, up to the first that is not complete.
    fn read(source: &mut Source) -> io::Result<Self> {
        let mut chunks = Self::default();
        let mut header = [0; 8];
        source.seek(SeekFrom::Start(8))?;
        while source.read_exact(&mut header).is_ok() {
            let [a, b, c, d, kind @ ..] = header;
            let length = u32::from_be_bytes([a, b, c, d]);
            let mut content = Vec::new();
            if PngChunks::is_wanted(kind, length) {
                source
                    .by_ref()
                    .take(length.into())
                    .read_to_end(&mut content)?;
            } else {
                source.seek_relative(length.into())?;
            }
            // The checksum.
            source.seek_relative(4)?;
            chunks.add(kind, &content);
            if kind == *b"IEND" {
                let rest = after_end::rest_of(&mut *source)?;
                chunks.omitted.extend(after_end::described(&rest, false));
                break;
            }
        }
        Ok(chunks)
    }
}

impl Decode for PngDecoder {
    fn read_rows(&mut self, rows: &mut [u8], name: &Path) -> Result<(), Error> {
        for row in rows.chunks_exact_mut(self.outline.row_bytes()) {
            let read = self.reader.read_row(row);
            if read.map_err(|error| png_error(error, name))?.is_none() {
                return Err(Error::truncated("rows are missing", Format::Png, name));
            }
        }
        self.to_native(rows);
        Ok(())
    }

    fn restart(&mut self, source: Source, name: &Path) -> Result<(), Error> {
        self.reader = png_reader(source, Pass::Pixels, self.outline.width_px, name)?;
        Ok(())
    }

    fn read_all(mut self: Box<Self>, name: &Path) -> Result<Samples, Error> {
        let len = self.outline.row_len() * self.outline.height_px;
        let mut samples = Samples::zeros(self.outline.depth, len);
        let bytes = samples.as_bytes_mut();
        self.reader
            .next_frame(bytes)
            .map_err(|error| png_error(error, name))?;
        self.to_native(bytes);
        Ok(samples)
    }
}

impl PngDecoder {
    /// Turns samples of 16 bits into the machine's byte order.
    fn to_native(&self, samples: &mut [u8]) {
        if self.outline.depth == Depth::U16 {
            for sample in samples.as_chunks_mut::<2>().0 {
                *sample = u16::from_be_bytes(*sample).to_ne_bytes();
            }
        }
    }
}

/// What a decoder of PNG reads.
#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Metadata,
    Pixels,
}

/// A decoder of PNG that has read the header of an image of that width.
fn png_reader<R: BufRead + Seek>(
    stream: R,
    pass: Pass,
    width_px: usize,
    path: &Path,
) -> Result<::png::Reader<R>, Error> {
    // Texts within their own limit, a profile, and at most 8 bytes of each pixel in a row.
    const MOST_BYTES: usize = 32 << 20;
    let failed = |error| png_error(error, path);
    let bytes = MOST_BYTES + 8 * width_px;
    let mut decoder = ::png::Decoder::new_with_limits(stream, PngLimits { bytes });
    decoder.set_ignore_text_chunk(pass == Pass::Pixels);
    decoder.set_ignore_iccp_chunk(pass == Pass::Pixels);
    // Palettes become RGB, 1, 2 and 4 bits become 8, a transparent colour becomes alpha.
    decoder.set_transformations(Transformations::EXPAND);
    let reader = decoder.read_info().map_err(failed)?;
    check_palette(reader.info(), path)?;
    Ok(reader)
}

/// A palette holds three bytes for each colour, its transparency at most one: on others the decoder
/// panics.
fn check_palette(info: &Info<'_>, path: &Path) -> Result<(), Error> {
    let bytes = |chunk: &Option<Cow<'_, [u8]>>| chunk.as_ref().map_or(0, |chunk| chunk.len());
    let (palette, alphas) = (bytes(&info.palette), bytes(&info.trns));
    let whole = palette.is_multiple_of(3) && alphas <= palette / 3;
    if whole || info.color_type != ColorType::Indexed {
        return Ok(());
    }
    let reason = format!(
        "its palette and the transparency of it have {palette} and {alphas} bytes, expected three and \
         at most one for each colour"
    );
    Err(Error::damaged(reason, Format::Png, path))
}

/// Colour and depth of the samples that a decoder gives.
fn colour_of<R: BufRead + Seek>(reader: &::png::Reader<R>) -> (Colour, Depth) {
    let (colour, depth) = reader.output_color_type();
    let colour = match colour {
        ColorType::Grayscale => Colour::Grey,
        ColorType::GrayscaleAlpha => Colour::GreyAlpha,
        ColorType::Rgb | ColorType::Indexed => Colour::Rgb,
        ColorType::Rgba => Colour::RgbAlpha,
    };
    let depth = match depth {
        BitDepth::Sixteen => Depth::U16,
        _ => Depth::U8,
    };
    (colour, depth)
}

fn png_error(error: DecodingError, path: &Path) -> Error {
    let error = match error {
        DecodingError::IoError(error) => ImageError::IoError(error),
        error => {
            let hint = ImageFormatHint::Exact(ImageFormat::Png);
            ImageError::Decoding(ImageDecodingError::new(hint, error))
        }
    };
    read_error(error, Format::Png, path)
}
