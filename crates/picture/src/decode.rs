//! Reading picture files.
//!
//! The `image` crate decodes. Around it: the size is checked from the header before any memory
//! for pixels is taken, the EXIF orientation is applied, truncated JPEG files and animations are
//! refused, and each failure names the file.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use image::codecs::{bmp, jpeg, png, tiff, webp};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat};

use crate::error::{Error, one_line};
use crate::format::Format;
use crate::icc;
use crate::jpeg_end::has_end_of_image;
use crate::picture::{Colour, Picture, Samples};

/// The largest picture that is decoded. The header is checked before memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest width in pixels; 1 000 000 by default.
    pub max_width_px: usize,
    /// Longest height in pixels; 1 000 000 by default.
    pub max_height_px: usize,
    /// Most pixels, width x height; 2^29 by default (1.6 GB as 8-bit RGB).
    pub max_pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_width_px: 1_000_000,
            max_height_px: 1_000_000,
            max_pixels: 1 << 29,
        }
    }
}

/// Memory that a decoder may take for anything but pixels: profiles, text, tables.
const MAX_METADATA_BYTES: u64 = 256 << 20;

/// Bytes of the widest pixel that is decoded: four 32-bit floats.
const MAX_PIXEL_BYTES: u64 = 16;

/// Reads a picture file of any of the formats. The content says which format, not the suffix.
///
/// Samples keep the file's depth; palettes and 1, 2 or 4-bit samples are expanded to 8 bit, CMYK
/// becomes RGB. The EXIF (or TIFF) orientation is applied, so the pixels are upright. The ICC
/// profile is kept unless it belongs to another colour space than the decoded pixels. Of a TIFF
/// with several pages the first is read.
///
/// # Errors
///
/// If the file cannot be read, is empty, no picture, truncated, damaged, above `limits`, an
/// animation, or of a kind that is not read.
pub fn decode(path: &Path, limits: &Limits) -> Result<Picture, Error> {
    let mut file = open(path)?;
    let format = format_of(&mut file, path)?;
    decode_stream(file, format, path, limits)
}

/// Decodes a file that is in memory, as [`decode`] does; `name` stands for it in messages.
///
/// # Errors
///
/// Those of [`decode`].
pub fn decode_bytes(bytes: &[u8], name: &Path, limits: &Limits) -> Result<Picture, Error> {
    let mut stream = Cursor::new(bytes);
    let format = format_of(&mut stream, name)?;
    decode_stream(stream, format, name, limits)
}

/// Width and height in pixels of the picture that [`decode`] would return, from the header (of a
/// JPEG the whole file is read, but not decoded).
///
/// # Errors
///
/// If the file cannot be read, is empty or no picture, or its header is damaged.
pub fn dimensions(path: &Path) -> Result<(usize, usize), Error> {
    let mut file = open(path)?;
    let format = format_of(&mut file, path)?;
    let failed = |error| read_error(error, format, path);
    let mut decoder = decoder_of(file, format, path)?;
    let (width_px, height_px) = size_of(&*decoder, path)?;
    Ok(match decoder.orientation().map_err(failed)? {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (height_px, width_px),
        _ => (width_px, height_px),
    })
}

/// The format of a file by its first bytes, whatever its suffix.
///
/// # Errors
///
/// If the file cannot be read, is empty, or is none of the formats.
pub fn format_of_file(path: &Path) -> Result<Format, Error> {
    format_of(&mut open(path)?, path)
}

fn open(path: &Path) -> Result<BufReader<File>, Error> {
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
fn format_of(stream: &mut (impl BufRead + Seek), path: &Path) -> Result<Format, Error> {
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
    let found = match image::guess_format(&start) {
        Ok(ImageFormat::Png) => return Ok(Format::Png),
        Ok(ImageFormat::Jpeg) => return Ok(Format::Jpeg),
        Ok(ImageFormat::WebP) => return Ok(Format::WebP),
        Ok(ImageFormat::Tiff) => return Ok(Format::Tiff),
        Ok(ImageFormat::Bmp) => return Ok(Format::Bmp),
        Ok(other) => format!("{other:?}").to_lowercase(),
        Err(_) => format!("\"{}\"", start.escape_ascii()),
    };
    Err(Error::NotAPicture {
        path: path.to_owned(),
        found,
    })
}

fn decode_stream<'a>(
    mut stream: impl BufRead + Seek + 'a,
    format: Format,
    path: &Path,
    limits: &Limits,
) -> Result<Picture, Error> {
    let failed = |error| read_error(error, format, path);
    if format == Format::WebP {
        check_riff_length(&mut stream, path)?;
    }
    if format != Format::Jpeg {
        return decode_with(decoder_of(stream, format, path)?, format, path, limits);
    }
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
    let decoder = jpeg::JpegDecoder::new(Cursor::new(&bytes)).map_err(failed)?;
    if !has_end_of_image(&bytes) {
        let reason = "no end-of-image marker".to_owned();
        return Err(Error::Truncated {
            path: path.to_owned(),
            format,
            reason,
        });
    }
    decode_with(Box::new(decoder), format, path, limits)
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
        return Err(Error::Truncated {
            path: path.to_owned(),
            format: Format::WebP,
            reason,
        });
    }
    Ok(())
}

/// The decoder of a format, its header read.
fn decoder_of<'a>(
    stream: impl BufRead + Seek + 'a,
    format: Format,
    path: &Path,
) -> Result<Box<dyn ImageDecoder + 'a>, Error> {
    let failed = |error| read_error(error, format, path);
    let animation = || Error::Unsupported {
        path: path.to_owned(),
        format,
        reason: "it is an animation".to_owned(),
    };
    let mut metadata_limits = image::Limits::no_limits();
    metadata_limits.max_alloc = Some(MAX_METADATA_BYTES);
    Ok(match format {
        Format::Png => {
            let decoder = png::PngDecoder::with_limits(stream, metadata_limits).map_err(failed)?;
            if decoder.is_apng().map_err(failed)? {
                return Err(animation());
            }
            Box::new(decoder)
        }
        Format::Jpeg => Box::new(jpeg::JpegDecoder::new(stream).map_err(failed)?),
        Format::WebP => {
            let decoder = webp::WebPDecoder::new(stream).map_err(failed)?;
            if decoder.has_animation() {
                return Err(animation());
            }
            Box::new(decoder)
        }
        Format::Tiff => Box::new(tiff::TiffDecoder::new(stream).map_err(failed)?),
        Format::Bmp => Box::new(bmp::BmpDecoder::new(stream).map_err(failed)?),
    })
}

fn decode_with(
    mut decoder: Box<dyn ImageDecoder + '_>,
    format: Format,
    path: &Path,
    limits: &Limits,
) -> Result<Picture, Error> {
    let failed = |error| read_error(error, format, path);
    let (width_px, height_px) = size_of(&*decoder, path)?;
    let pixels = width_px as u64 * height_px as u64;
    if width_px > limits.max_width_px
        || height_px > limits.max_height_px
        || pixels > limits.max_pixels
    {
        let Limits {
            max_width_px,
            max_height_px,
            max_pixels,
        } = limits;
        let allowed = format!("{max_width_px} x {max_height_px} and {max_pixels} pixels");
        return Err(Error::TooLarge {
            path: path.to_owned(),
            width_px,
            height_px,
            pixels,
            allowed,
        });
    }
    let orientation = decoder.orientation().map_err(failed)?;
    let icc_profile = decoder.icc_profile().map_err(failed)?;
    let mut exif = decoder.exif_metadata().map_err(failed)?;
    if let Some(exif) = &mut exif {
        // The pixels are made upright below; the entry must not turn them a second time.
        let _ = Orientation::remove_from_exif_chunk(exif);
    }
    // After the metadata: the TIFF decoder's limits count about 32 bytes for a byte of a profile.
    let mut decoder_limits = image::Limits::no_limits();
    // Decoders with a buffer of their own (TIFF) hold the pixels twice.
    decoder_limits.max_alloc = Some(pixels * 2 * MAX_PIXEL_BYTES + MAX_METADATA_BYTES);
    decoder.set_limits(decoder_limits).map_err(failed)?;
    let mut pixels = DynamicImage::from_decoder(decoder).map_err(failed)?;
    pixels.apply_orientation(orientation);

    let (width_px, height_px) = (pixels.width() as usize, pixels.height() as usize);
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
            return Err(Error::Unsupported {
                path: path.to_owned(),
                format,
                reason,
            });
        }
    };
    let mut picture = Picture::new(width_px, height_px, colour, samples);
    picture.icc_profile = icc_profile.filter(|profile| !icc::contradicts(profile, colour));
    picture.exif = exif;
    Ok(picture)
}

/// Width and height of the header, neither of them 0.
fn size_of(decoder: &dyn ImageDecoder, path: &Path) -> Result<(usize, usize), Error> {
    let (width, height) = decoder.dimensions();
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

fn read_error(error: ImageError, format: Format, path: &Path) -> Error {
    let path = path.to_owned();
    match error {
        ImageError::IoError(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
            Error::Truncated {
                path,
                format,
                reason: one_line(&source),
            }
        }
        // The decoders report some damage as an io error without a code of the system.
        ImageError::IoError(source) if source.raw_os_error().is_some() => {
            Error::Read { path, source }
        }
        ImageError::Unsupported(error) => Error::Unsupported {
            path,
            format,
            reason: one_line(&error),
        },
        error => Error::Damaged {
            path,
            format,
            reason: one_line(&error),
        },
    }
}
