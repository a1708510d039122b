//! WebP and BMP, by the crate `image`.

use std::io::{BufRead, Read, Seek, SeekFrom};
use std::path::Path;

use image::codecs::{bmp, webp};
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError};

use super::{
    Decode, Header, Limits, MAX_METADATA_BYTES, Source, animation, check_size, read_error,
};
use crate::error::Error;
use crate::format::Format;
use crate::metadata::{self, Metadata};
use crate::samples::{Colour, Depth, Outline, Samples};

struct PlainDecoder {
    decoder: Box<dyn ImageDecoder + Send>,
    format: Format,
}

pub(super) fn open(
    mut source: Source,
    format: Format,
    name: &Path,
    limits: &Limits,
) -> Result<(Header, Box<dyn Decode>), Error> {
    let failed = |error| read_error(error, format, name);
    let (decoder, metadata, orientation): (Box<dyn ImageDecoder + Send>, _, _) =
        if format == Format::WebP {
            check_riff_length(&mut source, name)?;
            let mut decoder = webp::WebPDecoder::new(source).map_err(failed)?;
            if decoder.has_animation() {
                return Err(animation(format, name));
            }
            let icc_profile = decoder.icc_profile().map_err(failed)?;
            let exif = decoder.exif_metadata().map_err(failed)?;
            let xmp = decoder.xmp_metadata().map_err(failed)?;
            let (metadata, orientation) = Metadata::of_blocks(icc_profile, exif, xmp, None);
            (Box::new(decoder), metadata, orientation)
        } else {
            let mut start = Vec::new();
            let read = source.by_ref().take(64).read_to_end(&mut start);
            let read = read.and_then(|_| source.rewind());
            read.map_err(|error| failed(ImageError::IoError(error)))?;
            let decoder = bmp::BmpDecoder::new(source).map_err(failed)?;
            let metadata = metadata::bmp::read(&start);
            (Box::new(decoder), metadata, Orientation::NoTransforms)
        };
    let (width_px, height_px) = check_size(decoder.dimensions(), name, limits)?;
    let colour = match decoder.color_type() {
        ColorType::L8 => Colour::Grey,
        ColorType::La8 => Colour::GreyAlpha,
        ColorType::Rgb8 => Colour::Rgb,
        ColorType::Rgba8 => Colour::RgbAlpha,
        other => {
            let reason = format!("pixels of {other:?}");
            return Err(Error::unsupported(reason, format, name));
        }
    };
    let header = Header {
        outline: Outline {
            width_px,
            height_px,
            colour,
            depth: Depth::U8,
        },
        orientation,
        metadata,
        streams_rows: false,
        whole_bytes: decoder.total_bytes(),
        rows_bytes: 0,
    };
    Ok((header, Box::new(PlainDecoder { decoder, format })))
}

impl Decode for PlainDecoder {
    fn read_all(self: Box<Self>, name: &Path) -> Result<Samples, Error> {
        let Self {
            mut decoder,
            format,
        } = *self;
        let failed = |error| read_error(error, format, name);
        let mut limits = image::Limits::no_limits();
        limits.max_alloc = Some(decoder.total_bytes() + MAX_METADATA_BYTES);
        decoder.set_limits(limits).map_err(failed)?;
        let mut samples = vec![0; decoder.total_bytes() as usize];
        decoder.read_image(&mut samples).map_err(failed)?;
        Ok(Samples::U8(samples))
    }
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
