//! JPEG, by `jpeg-decoder`.
//!
//! It computes what libjpeg does, to a tenth of a level, whatever the order of blocks. Where a scan ends
//! early it fills the rest with grey, so the scans are checked before it decodes.
//!
//! Source: ITU-T T.81; T.872, section 6 (colours); libjpeg-turbo's `jdapimin.c` for files that break
//! the rules of JFIF.

use std::path::Path;

use jpeg_decoder::{CodingProcess, ColorTransform, Decoder, Error as JpegError, PixelFormat};

use super::jpeg_end::{END_OF_IMAGE, end_of_image};
use super::jpeg_scan::{check_scans, end_of_unmarked};
use super::{Decode, Header, Limits, Source, after_end, check_size};
use crate::deadline::{Checked, Deadline};
use crate::error::Error;
use crate::format::Format;
use crate::metadata;
use crate::samples::{Colour, Depth, Outline, Samples};

struct JpegDecoder {
    jpeg: Vec<u8>,
    deadline: Deadline,
}

pub(super) fn open(
    source: Source,
    name: &Path,
    limits: &Limits,
) -> Result<(Header, Box<dyn Decode>), Error> {
    let mut jpeg = source.into_bytes(name)?;
    let deadline = limits.deadline;
    let omitted = cut_after_end(&mut jpeg, name)?;
    let Started {
        size,
        colour,
        components,
        is_progressive,
        ..
    } = start(&jpeg, name, deadline)?;
    let (width_px, height_px) = check_size(size, name, limits)?;
    let (metadata, orientation) = metadata::jpeg::read(&jpeg);
    let pixels = width_px as u64 * height_px as u64;
    // Planes, of whole blocks at most twice as wide and high, and the pixels made of them; of a
    // progressive file all coefficients, of 16 bits.
    let per_sample = if is_progressive { 4 } else { 2 };
    let header = Header {
        outline: Outline {
            width_px,
            height_px,
            colour,
            depth: Depth::U8,
        },
        orientation,
        metadata,
        omitted,
        animation: None,
        pages: None,
        streams_rows: false,
        whole_bytes: pixels * components as u64 * per_sample,
        rows_bytes: 0,
    };
    Ok((header, Box::new(JpegDecoder { jpeg, deadline })))
}

impl Decode for JpegDecoder {
    fn jpeg_table_scale(&self) -> Option<f64> {
        metadata::jpeg::table_scale(&self.jpeg)
    }

    fn read_all(self: Box<Self>, name: &Path) -> Result<Samples, Error> {
        let damaged = |reason| Error::damaged(reason, Format::Jpeg, name);
        check_scans(&self.jpeg, self.deadline).map_err(damaged)?;
        let Started {
            mut decoder,
            components,
            ..
        } = start(&self.jpeg, name, self.deadline)?;
        let decoded = decoder.decode().map_err(|error| failed(error, name))?;
        Ok(Samples::U8(match components {
            4 => rgb_of_inks(&decoded),
            _ => decoded,
        }))
    }
}

/// Cuts off what follows the image, and describes it. An image without an end-of-image marker, as some
/// cameras write, gets one if its scans are complete.
fn cut_after_end(jpeg: &mut Vec<u8>, path: &Path) -> Result<Vec<String>, Error> {
    let marked = end_of_image(jpeg);
    let unmarked = match (marked, after_end::video_at(jpeg)) {
        // A video directly after the last scan may contain the marker by chance.
        (Some(end), Some(video_at)) if video_at < end => {
            end_of_unmarked(jpeg).filter(|end| *end <= video_at)
        }
        (Some(_), _) => None,
        (None, _) => {
            // The start also names files of kinds that are not supported.
            start(jpeg, path, Deadline::default())?;
            let end = end_of_unmarked(jpeg);
            Some(end.ok_or_else(|| Error::truncated("no end-of-image marker", Format::Jpeg, path))?)
        }
    };
    let mut omitted = Vec::new();
    if unmarked.is_some() {
        let remark = "end-of-image marker: the file has none, but the image is complete";
        omitted.push(remark.to_owned());
    }
    let end = unmarked.or(marked).unwrap_or(jpeg.len());
    omitted.extend(after_end::described(
        &jpeg[end..],
        after_end::announces_gain_map(&jpeg[..end]),
    ));
    jpeg.truncate(end);
    if unmarked.is_some() {
        jpeg.extend([0xff, END_OF_IMAGE]);
    }
    Ok(omitted)
}

/// A decoder that has read the header.
struct Started<'a> {
    decoder: Decoder<Checked<&'a [u8]>>,
    size: (u32, u32),
    /// Of the decoded image.
    colour: Colour,
    /// Of the file.
    components: usize,
    is_progressive: bool,
}

fn start<'a>(jpeg: &'a [u8], path: &Path, deadline: Deadline) -> Result<Started<'a>, Error> {
    let mut decoder = Decoder::new(Checked::new(jpeg, deadline));
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
    if components == 3 {
        decoder.set_color_transform(if metadata::jpeg::is_rgb(jpeg) {
            ColorTransform::RGB
        } else {
            ColorTransform::YCbCr
        });
    }
    Ok(Started {
        decoder,
        size: (info.width.into(), info.height.into()),
        colour,
        components,
        is_progressive: info.coding_process == CodingProcess::DctProgressive,
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
        // The file is in memory: reading fails at its end or at the deadline.
        JpegError::Io(_) => Error::truncated("it ends within its data", format, path),
        JpegError::Unsupported(feature) => {
            Error::unsupported(format!("it has {feature:?}"), format, path)
        }
        JpegError::Format(reason) => Error::damaged(reason, format, path),
        JpegError::Internal(error) => Error::damaged(error.to_string(), format, path),
    }
}
