//! JPEG, by `jpeg-decoder`.
//!
//! It computes what libjpeg does, to a tenth of a level, whatever the order of blocks. Where a scan ends
//! early it goes on with grey, so the scans are checked before it is asked.
//!
//! Source: ITU-T T.81; T.872, section 6 (colours); libjpeg-turbo's `jdapimin.c` for files that break
//! the rules of JFIF.

use std::io::BufRead;
use std::path::Path;

use image::metadata::Orientation;
use jpeg_decoder::{CodingProcess, ColorTransform, Decoder, Error as JpegError, PixelFormat};

use super::{Header, Limits, check_memory, check_size, finished, size_of, whole};
use crate::error::Error;
use crate::format::Format;
use crate::jpeg_end::has_end_of_image;
use crate::jpeg_scan::check_scans;
use crate::metadata::{self, Metadata};
use crate::pixels::{Colour, Image, Samples};

/// A file, its header read.
struct Started<'a> {
    decoder: Decoder<&'a [u8]>,
    size: (usize, usize),
    /// Of the decoded image.
    colour: Colour,
    /// Of the file.
    components: usize,
    is_progressive: bool,
    metadata: Metadata,
    orientation: Orientation,
}

pub(super) fn header(stream: &mut impl BufRead, path: &Path) -> Result<Header, Error> {
    let jpeg = whole(stream, path)?;
    let started = started(&jpeg, path)?;
    Ok(Header {
        size: started.size,
        orientation: started.orientation,
    })
}

pub(super) fn decode(
    stream: &mut impl BufRead,
    path: &Path,
    limits: &Limits,
) -> Result<Image, Error> {
    let jpeg = whole(stream, path)?;
    let Started {
        mut decoder,
        size,
        colour,
        components,
        is_progressive,
        metadata,
        orientation,
    } = started(&jpeg, path)?;
    check_size(size, path, limits)?;
    let pixels = size.0 as u64 * size.1 as u64;
    // Planes, of whole blocks at most twice as wide and high, and the pixels made of them; of a
    // progressive file all coefficients, of 16 bits.
    let per_sample = if is_progressive { 4 } else { 2 };
    check_memory(pixels * components as u64 * per_sample, path, limits)?;
    check_scans(&jpeg).map_err(|reason| Error::damaged(reason, Format::Jpeg, path))?;
    let decoded = decoder.decode().map_err(|error| failed(error, path))?;
    let samples = match components {
        4 => rgb_of_inks(&decoded),
        _ => decoded,
    };
    let samples = Samples::U8(samples);
    Ok(finished(size, colour, samples, metadata, orientation))
}

fn started<'a>(jpeg: &'a [u8], path: &Path) -> Result<Started<'a>, Error> {
    let mut decoder = Decoder::new(jpeg);
    decoder.read_info().map_err(|error| failed(error, path))?;
    let info = decoder
        .info()
        .ok_or_else(|| Error::damaged("it has no frame", Format::Jpeg, path))?;
    let (colour, components) = match info.pixel_format {
        PixelFormat::L8 => (Colour::Grey, 1),
        PixelFormat::RGB24 => (Colour::Rgb, 3),
        PixelFormat::CMYK32 => (Colour::Rgb, 4),
        PixelFormat::L16 => {
            return Err(Error::unsupported(
                "its samples have more than 8 bits",
                Format::Jpeg,
                path,
            ));
        }
    };
    if info.coding_process == CodingProcess::Lossless {
        return Err(Error::unsupported(
            "it is a lossless JPEG",
            Format::Jpeg,
            path,
        ));
    }
    if !has_end_of_image(jpeg) {
        return Err(Error::truncated(
            "no end-of-image marker",
            Format::Jpeg,
            path,
        ));
    }
    if components == 3 {
        decoder.set_color_transform(if metadata::jpeg::is_rgb(jpeg) {
            ColorTransform::RGB
        } else {
            ColorTransform::YCbCr
        });
    }
    let (metadata, orientation) = metadata::jpeg::read(jpeg);
    Ok(Started {
        decoder,
        size: size_of((info.width.into(), info.height.into()), path)?,
        colour,
        components,
        is_progressive: info.coding_process == CodingProcess::DctProgressive,
        metadata,
        orientation,
    })
}

/// Pixels of inks, C M Y K from 0 (none) to 255, as light: R G B.
fn rgb_of_inks(inks: &[u8]) -> Vec<u8> {
    let light = |ink: u8, black: u8| {
        let product = u32::from(255 - ink) * u32::from(255 - black);
        ((product + 127) / 255) as u8
    };
    let (pixels, _) = inks.as_chunks::<4>();
    pixels
        .iter()
        .flat_map(|&[c, m, y, k]| [light(c, k), light(m, k), light(y, k)])
        .collect()
}

fn failed(error: JpegError, path: &Path) -> Error {
    let format = Format::Jpeg;
    match error {
        // The file is in memory: reading fails at its end alone.
        JpegError::Io(_) => Error::truncated("it ends within its data", format, path),
        JpegError::Unsupported(feature) => {
            Error::unsupported(format!("it has {feature:?}"), format, path)
        }
        JpegError::Format(reason) => Error::damaged(reason, format, path),
        JpegError::Internal(error) => Error::damaged(error.to_string(), format, path),
    }
}
