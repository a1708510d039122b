//! Reading image files.
//!
//! The crates `png`, `jpeg-decoder`, `tiff` and `jxl-oxide` and the `image` crate decode. Around them:
//! the size is checked from the header before any memory for pixels is taken, the orientation is
//! applied, truncated and corrupt JPEG files and animations are refused, and each failure names the
//! file.

mod jpeg;
mod jxl;
pub(crate) mod tiff;

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use image::codecs::{bmp, webp};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat};

use crate::error::{Error, one_line};
use crate::format::Format;
use crate::icc;
use crate::memory::is_memory_free;
use crate::metadata::{self, Metadata};
use crate::pixels::{Colour, Depth, Image, Samples};

/// The largest image that is decoded. The header is checked before memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels, width x height; a billion by default (3 GB as 8-bit RGB).
    pub max_pixels: u64,
    /// Most memory in bytes for the pixels while they are decoded, beside the file's own; by default
    /// what the system gives.
    pub max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pixels: 1_000_000_000,
            max_bytes: u64::MAX,
        }
    }
}

/// Memory that a decoder may take for anything but pixels: profiles, text, tables.
pub(crate) const MAX_METADATA_BYTES: u64 = 256 << 20;

/// Reads an image file of any of the formats. The content says which format, not the suffix.
///
/// Samples keep the file's depth; palettes and 1, 2 or 4-bit samples are expanded to 8 bit, CMYK
/// becomes RGB. The orientation (of EXIF, TIFF or JPEG XL) is applied, so the pixels are upright. The metadata
/// is kept, but for an ICC profile of another colour space than the decoded pixels and for what is
/// damaged; `left_out` names it. Of a TIFF with several pages the first is read.
///
/// # Errors
///
/// If the file cannot be read, is empty, no image, truncated, damaged (of a JPEG: a scan whose
/// codes do not make its blocks), above `limits`, an animation, or of a kind that is not read.
pub fn decode(path: &Path, limits: &Limits) -> Result<Image, Error> {
    let mut file = open(path)?;
    let format = format_of(&mut file, path)?;
    decode_stream(file, format, path, limits)
}

/// Decodes a file that is in memory, as [`decode`] does; `name` stands for it in messages.
///
/// # Errors
///
/// Those of [`decode`].
pub fn decode_bytes(bytes: &[u8], name: &Path, limits: &Limits) -> Result<Image, Error> {
    let mut stream = Cursor::new(bytes);
    let format = format_of(&mut stream, name)?;
    decode_stream(stream, format, name, limits)
}

/// Width and height in pixels of the image that [`decode`] would return, from the header (of a
/// JPEG or a JPEG XL the whole file is read, but not decoded).
///
/// # Errors
///
/// If the file cannot be read, is empty or no image, or its header is damaged.
pub fn dimensions(path: &Path) -> Result<(usize, usize), Error> {
    dimensions_of(open(path)?, path)
}

/// [`dimensions`] of a file that is in memory; `name` stands for it in messages.
///
/// # Errors
///
/// Those of [`dimensions`].
pub fn dimensions_of_bytes(bytes: &[u8], name: &Path) -> Result<(usize, usize), Error> {
    dimensions_of(Cursor::new(bytes), name)
}

fn dimensions_of(mut file: impl BufRead + Seek, path: &Path) -> Result<(usize, usize), Error> {
    let format = format_of(&mut file, path)?;
    let header = match format {
        Format::Png => {
            let reader = png_reader(file, path)?;
            let (width, height) = reader.info().size();
            let (_, orientation) = metadata::png::read(reader.info());
            Header {
                size: size_of((width, height), path)?,
                orientation,
            }
        }
        Format::Tiff => tiff::header(&mut file, path)?,
        Format::Jpeg => jpeg::header(&mut file, path)?,
        Format::JpegXl => jxl::header(&mut file, path)?,
        format => decoder_of(&mut file, format, path)?.header(path)?,
    };
    Ok(header.upright_size())
}

/// The format of a file by its first bytes, whatever its suffix.
///
/// # Errors
///
/// If the file cannot be read, is empty, or is none of the formats.
pub fn format_of_file(path: &Path) -> Result<Format, Error> {
    format_of(&mut open(path)?, path)
}

/// [`format_of_file`] for a file that is in memory; `name` stands for it in messages.
///
/// # Errors
///
/// Those of [`format_of_file`].
pub fn format_of_bytes(bytes: &[u8], name: &Path) -> Result<Format, Error> {
    format_of(&mut Cursor::new(bytes), name)
}

pub(crate) fn open(path: &Path) -> Result<BufReader<File>, Error> {
    let read = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let kind = fs::metadata(path).map_err(read)?.file_type();
    // A pipe would block and a device might never end.
    if !kind.is_file() {
        let found = if kind.is_dir() {
            "a folder"
        } else {
            "no regular file"
        };
        return Err(Error::NotAFile {
            path: path.to_owned(),
            found,
        });
    }
    Ok(BufReader::new(File::open(path).map_err(read)?))
}

/// The format by the first bytes; the stream is left at its start.
pub(crate) fn format_of(stream: &mut (impl BufRead + Seek), path: &Path) -> Result<Format, Error> {
    let mut start = Vec::with_capacity(16);
    let read = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    stream
        .by_ref()
        .take(16)
        .read_to_end(&mut start)
        .map_err(read)?;
    stream.rewind().map_err(read)?;
    if start.is_empty() {
        return Err(Error::Empty {
            path: path.to_owned(),
        });
    }
    // BigTIFF, which the `image` crate does not know.
    if start.starts_with(b"II+\0") || start.starts_with(b"MM\0+") {
        return Ok(Format::Tiff);
    }
    if start.starts_with(jxl::CODESTREAM) || start.starts_with(jxl::CONTAINER) {
        return Ok(Format::JpegXl);
    }
    let found = match image::guess_format(&start) {
        Ok(ImageFormat::Png) => return Ok(Format::Png),
        Ok(ImageFormat::Jpeg) => return Ok(Format::Jpeg),
        Ok(ImageFormat::WebP) => return Ok(Format::WebP),
        Ok(ImageFormat::Tiff) => return Ok(Format::Tiff),
        Ok(ImageFormat::Bmp) => return Ok(Format::Bmp),
        Ok(other) => format!("{other:?}").to_lowercase(),
        Err(_) => format!("\"{}\"", start.escape_ascii()),
    };
    Err(Error::NotAImage {
        path: path.to_owned(),
        found,
    })
}

/// All bytes of a file.
fn whole(stream: &mut impl BufRead, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
    Ok(bytes)
}

fn decode_stream(
    mut stream: impl BufRead + Seek,
    format: Format,
    path: &Path,
    limits: &Limits,
) -> Result<Image, Error> {
    match format {
        Format::Png => return decode_png(stream, path, limits),
        Format::Tiff => return tiff::decode(&mut stream, path, limits),
        Format::JpegXl => return jxl::decode(&mut stream, path, limits),
        Format::Jpeg => return jpeg::decode(&mut stream, path, limits),
        Format::WebP => check_riff_length(&mut stream, path)?,
        Format::Bmp => {}
    }
    decode_with(decoder_of(&mut stream, format, path)?, path, limits)
}

/// What a header tells.
struct Header {
    /// Width and height in pixels as stored, neither of them 0.
    size: (usize, usize),
    orientation: Orientation,
}

impl Header {
    fn upright_size(&self) -> (usize, usize) {
        let (width_px, height_px) = self.size;
        match self.orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => (height_px, width_px),
            _ => (width_px, height_px),
        }
    }
}

/// A decoder of PNG that has read the header.
pub(crate) fn png_reader<R: BufRead + Seek>(
    stream: R,
    path: &Path,
) -> Result<png::Reader<R>, Error> {
    let failed = |error| read_error(png_error(error), Format::Png, path);
    let bytes = MAX_METADATA_BYTES as usize;
    let mut decoder = png::Decoder::new_with_limits(stream, png::Limits { bytes });
    // Palettes become RGB, 1, 2 and 4 bits become 8, a transparent colour becomes alpha.
    decoder.set_transformations(png::Transformations::EXPAND);
    let reader = decoder.read_info().map_err(failed)?;
    check_palette(reader.info(), path)?;
    Ok(reader)
}

/// A palette holds three bytes for each colour, its transparency at most one: on others the decoder
/// panics.
fn check_palette(info: &png::Info<'_>, path: &Path) -> Result<(), Error> {
    let bytes = |chunk: &Option<Cow<'_, [u8]>>| chunk.as_ref().map_or(0, |chunk| chunk.len());
    let (palette, alphas) = (bytes(&info.palette), bytes(&info.trns));
    let whole = palette.is_multiple_of(3) && alphas <= palette / 3;
    if whole || info.color_type != png::ColorType::Indexed {
        return Ok(());
    }
    let reason = format!(
        "its palette and the transparency of it have {palette} and {alphas} bytes, expected three and \
         at most one for each colour"
    );
    Err(Error::damaged(reason, Format::Png, path))
}

/// Colour and depth of the samples that a decoder of PNG gives.
pub(crate) fn png_colour<R: BufRead + Seek>(reader: &png::Reader<R>) -> (Colour, Depth) {
    let (colour, depth) = reader.output_color_type();
    let colour = match colour {
        png::ColorType::Grayscale => Colour::Grey,
        png::ColorType::GrayscaleAlpha => Colour::GreyAlpha,
        png::ColorType::Rgb | png::ColorType::Indexed => Colour::Rgb,
        png::ColorType::Rgba => Colour::RgbAlpha,
    };
    let sixteen = depth == png::BitDepth::Sixteen;
    (colour, if sixteen { Depth::U16 } else { Depth::U8 })
}

fn decode_png(stream: impl BufRead + Seek, path: &Path, limits: &Limits) -> Result<Image, Error> {
    let failed = |error| read_error(png_error(error), Format::Png, path);
    let mut reader = png_reader(stream, path)?;
    if reader.info().animation_control.is_some() {
        return Err(animation(Format::Png, path));
    }
    let size = size_of(reader.info().size(), path)?;
    check_size(size, path, limits)?;
    let (colour, depth) = png_colour(&reader);
    let pixels = size.0 as u64 * size.1 as u64;
    let pixel_bytes = (colour.channels() * depth.bytes()) as u64;
    check_memory(pixels.saturating_mul(pixel_bytes), path, limits)?;
    let count = size.0 * size.1 * colour.channels();
    let samples = if depth == Depth::U16 {
        let mut samples = vec![0_u16; count];
        let bytes = bytemuck::cast_slice_mut(&mut samples);
        reader.next_frame(bytes).map_err(failed)?;
        samples.iter_mut().for_each(|v| *v = u16::from_be(*v));
        Samples::U16(samples)
    } else {
        let mut samples = vec![0; count];
        reader.next_frame(&mut samples).map_err(failed)?;
        Samples::U8(samples)
    };
    // Metadata may stand behind the image; damage there costs no pixel.
    let _ = reader.finish();
    let (metadata, orientation) = metadata::png::read(reader.info());
    Ok(finished(size, colour, samples, metadata, orientation))
}

/// The image as the caller gets it.
fn finished(
    (width_px, height_px): (usize, usize),
    colour: Colour,
    samples: Samples,
    metadata: Metadata,
    orientation: Orientation,
) -> Image {
    let mut image = Image::new(width_px, height_px, colour, samples).turned(orientation);
    image.metadata = metadata;
    without_foreign_profile(&mut image.metadata, colour);
    image
}

/// Leaves out an ICC profile of another colour space than the pixels.
pub(crate) fn without_foreign_profile(metadata: &mut Metadata, colour: Colour) {
    if let Some(profile) = metadata
        .icc_profile
        .take_if(|profile| icc::contradicts(profile, colour))
    {
        let space = profile[16..20].escape_ascii();
        let pixels = if colour.is_grey() { "grey" } else { "RGB" };
        metadata.left_out.push(format!(
            "ICC profile: it is of colour space \"{space}\", the pixels are {pixels}"
        ));
    }
}

fn animation(format: Format, path: &Path) -> Error {
    Error::unsupported("it is an animation", format, path)
}

/// Refuses a WebP file that is shorter than its header says: the decoder would call the missing
/// part a corrupt bitstream. The stream is left at its start.
///
/// Source: RFC 9649, section 2.4: bytes 4 to 7 are the length of the file less 8.
fn check_riff_length(stream: &mut (impl BufRead + Seek), path: &Path) -> Result<(), Error> {
    let mut measure = || {
        let mut header = [0; 8];
        stream.read_exact(&mut header)?;
        let length = stream.seek(SeekFrom::End(0))?;
        stream.rewind()?;
        let [.., a, b, c, d] = header;
        Ok((u64::from(u32::from_le_bytes([a, b, c, d])) + 8, length))
    };
    let (expected, found) =
        measure().map_err(|error| read_error(ImageError::IoError(error), Format::WebP, path))?;
    if found < expected {
        let reason = format!("{found} of {expected} bytes");
        return Err(Error::truncated(reason, Format::WebP, path));
    }
    Ok(())
}

/// A decoder of the `image` crate, its header and its metadata read.
struct Decoder<'a> {
    decoder: Box<dyn ImageDecoder + 'a>,
    format: Format,
    metadata: Metadata,
    orientation: Orientation,
}

impl Decoder<'_> {
    fn header(&self, path: &Path) -> Result<Header, Error> {
        Ok(Header {
            size: size_of(self.decoder.dimensions(), path)?,
            orientation: self.orientation,
        })
    }
}

/// The decoder of WebP or BMP.
fn decoder_of<'a>(
    stream: &'a mut (impl BufRead + Seek),
    format: Format,
    path: &Path,
) -> Result<Decoder<'a>, Error> {
    let failed = |error| read_error(error, format, path);
    let io_failed = |error| failed(ImageError::IoError(error));
    let (decoder, metadata, orientation): (Box<dyn ImageDecoder + 'a>, _, _) = match format {
        Format::Png | Format::Jpeg | Format::Tiff | Format::JpegXl => {
            unreachable!("{format} has functions of its own")
        }
        Format::WebP => {
            let mut decoder = webp::WebPDecoder::new(stream).map_err(failed)?;
            if decoder.has_animation() {
                return Err(animation(format, path));
            }
            let icc_profile = decoder.icc_profile().map_err(failed)?;
            let exif = decoder.exif_metadata().map_err(failed)?;
            let xmp = decoder.xmp_metadata().map_err(failed)?;
            let (metadata, orientation) = Metadata::of_blocks(icc_profile, exif, xmp, None);
            (Box::new(decoder), metadata, orientation)
        }
        Format::Bmp => {
            let mut start = Vec::new();
            stream
                .by_ref()
                .take(64)
                .read_to_end(&mut start)
                .map_err(io_failed)?;
            stream.rewind().map_err(io_failed)?;
            let decoder = bmp::BmpDecoder::new(stream).map_err(failed)?;
            let orientation = Orientation::NoTransforms;
            (Box::new(decoder), metadata::bmp::read(&start), orientation)
        }
    };
    Ok(Decoder {
        decoder,
        format,
        metadata,
        orientation,
    })
}

fn decode_with(decoder: Decoder<'_>, path: &Path, limits: &Limits) -> Result<Image, Error> {
    let size = decoder.header(path)?.size;
    check_size(size, path, limits)?;
    let Decoder {
        mut decoder,
        format,
        metadata,
        orientation,
    } = decoder;
    let failed = |error| read_error(error, format, path);
    check_memory(decoder.total_bytes(), path, limits)?;
    let mut decoder_limits = image::Limits::no_limits();
    decoder_limits.max_alloc = Some(decoder.total_bytes() + MAX_METADATA_BYTES);
    decoder.set_limits(decoder_limits).map_err(failed)?;
    let pixels = DynamicImage::from_decoder(decoder).map_err(failed)?;

    let (colour, samples) = match pixels {
        DynamicImage::ImageLuma8(p) => (Colour::Grey, Samples::U8(p.into_raw())),
        DynamicImage::ImageLumaA8(p) => (Colour::GreyAlpha, Samples::U8(p.into_raw())),
        DynamicImage::ImageRgb8(p) => (Colour::Rgb, Samples::U8(p.into_raw())),
        DynamicImage::ImageRgba8(p) => (Colour::RgbAlpha, Samples::U8(p.into_raw())),
        DynamicImage::ImageLuma16(p) => (Colour::Grey, Samples::U16(p.into_raw())),
        DynamicImage::ImageLumaA16(p) => (Colour::GreyAlpha, Samples::U16(p.into_raw())),
        DynamicImage::ImageRgb16(p) => (Colour::Rgb, Samples::U16(p.into_raw())),
        DynamicImage::ImageRgba16(p) => (Colour::RgbAlpha, Samples::U16(p.into_raw())),
        DynamicImage::ImageRgb32F(p) => (Colour::Rgb, Samples::F32(p.into_raw())),
        DynamicImage::ImageRgba32F(p) => (Colour::RgbAlpha, Samples::F32(p.into_raw())),
        other => {
            let reason = format!("pixels of {:?}", other.color());
            return Err(Error::unsupported(reason, format, path));
        }
    };
    Ok(finished(size, colour, samples, metadata, orientation))
}

pub(crate) fn check_size(
    (width_px, height_px): (usize, usize),
    path: &Path,
    limits: &Limits,
) -> Result<(), Error> {
    let pixels = width_px as u64 * height_px as u64;
    let max_pixels = limits.max_pixels;
    if pixels <= max_pixels {
        return Ok(());
    }
    Err(Error::TooLarge {
        path: path.to_owned(),
        width_px,
        height_px,
        pixels,
        max_pixels,
    })
}

/// Refuses an image whose header claims more than is allowed or the system gives.
fn check_memory(bytes: u64, path: &Path, limits: &Limits) -> Result<(), Error> {
    if bytes > limits.max_bytes {
        return Err(Error::TooMuchMemory {
            path: path.to_owned(),
            bytes,
            max_bytes: limits.max_bytes,
        });
    }
    if is_memory_free(u128::from(bytes)) {
        return Ok(());
    }
    Err(Error::Read {
        path: path.to_owned(),
        source: io::Error::new(
            io::ErrorKind::OutOfMemory,
            format!("its pixels need {bytes} bytes of memory, which the system does not give"),
        ),
    })
}

/// Width and height of a header, neither of them 0.
pub(crate) fn size_of((width, height): (u32, u32), path: &Path) -> Result<(usize, usize), Error> {
    let (width_px, height_px) = (width as usize, height as usize);
    if width == 0 || height == 0 {
        return Err(Error::NoPixels {
            path: path.to_owned(),
            width_px,
            height_px,
        });
    }
    Ok((width_px, height_px))
}

/// As the `image` crate wraps it.
pub(crate) fn png_error(error: png::DecodingError) -> ImageError {
    use image::error::{DecodingError, ImageFormatHint};
    match error {
        png::DecodingError::IoError(error) => ImageError::IoError(error),
        error => {
            let hint = ImageFormatHint::Exact(ImageFormat::Png);
            ImageError::Decoding(DecodingError::new(hint, error))
        }
    }
}

pub(crate) fn read_error(error: ImageError, format: Format, path: &Path) -> Error {
    match error {
        ImageError::IoError(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
            Error::truncated(one_line(&source), format, path)
        }
        // The decoders report some damage as an io error without a code of the system.
        ImageError::IoError(source) if source.raw_os_error().is_some() => Error::Read {
            path: path.to_owned(),
            source,
        },
        ImageError::Unsupported(error) => Error::unsupported(one_line(&error), format, path),
        error => Error::damaged(one_line(&error), format, path),
    }
}
