//! WebP, BMP, DDS, QOI and TGA, by the crate `image`.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::path::Path;

use image::codecs::{bmp, dds, qoi, tga, webp};
use image::metadata::Orientation;
use image::{AnimationDecoder, ColorType, ImageDecoder, ImageError};

use super::animation::FrameDecoder;
use super::{
    Decode, Header, Limits, MAX_METADATA_BYTES, Source, after_end, check_size, gif, read_error,
};
use crate::animation::Animation;
use crate::error::Error;
use crate::format::Format;
use crate::metadata::{self, Metadata};
use crate::samples::{Colour, Depth, Outline, Samples};

struct PlainDecoder {
    decoder: Box<dyn ImageDecoder + Send>,
    format: Format,
}

/// A decoder that has read the header.
enum Opened {
    Still(Box<dyn ImageDecoder + Send>),
    Animated(Box<webp::WebPDecoder<Source>>),
}

pub(super) fn open(
    mut source: Source,
    format: Format,
    name: &Path,
    limits: &Limits,
) -> Result<(Header, Box<dyn Decode>), Error> {
    let failed = |error| read_error(error, format, name);
    let mut omitted = Vec::new();
    let mut metadata = Metadata::default();
    let mut orientation = Orientation::NoTransforms;
    let mut animation = None;
    let opened = match format {
        Format::WebP => {
            check_riff_length(&mut source, name)?;
            let chunks = RiffChunks::read(&mut source)
                .map_err(|error| failed(ImageError::IoError(error)))?;
            if chunks.frames == 1 {
                let bytes = source.into_bytes(name)?;
                source = Source::memory(still_of(&bytes).unwrap_or(bytes), limits.deadline.clone());
            }
            let mut decoder = webp::WebPDecoder::new(source).map_err(failed)?;
            omitted = chunks.omitted;
            let icc_profile = decoder.icc_profile().map_err(failed)?;
            let exif = decoder.exif_metadata().map_err(failed)?;
            let xmp = decoder.xmp_metadata().map_err(failed)?;
            (metadata, orientation) = Metadata::of_blocks(icc_profile, exif, xmp, None);
            metadata.dropped.extend(chunks.dropped);
            if decoder.has_animation() {
                animation = Some(Animation {
                    frames: chunks.frames,
                    plays: gif::plays(decoder.loop_count()),
                });
                Opened::Animated(Box::new(decoder))
            } else {
                Opened::Still(Box::new(decoder))
            }
        }
        Format::Dds => {
            omitted = other_images_of_dds(&start_of(&mut source).map_err(failed)?);
            source.rewind().map_err(|error| failed(error.into()))?;
            Opened::Still(Box::new(dds::DdsDecoder::new(source).map_err(failed)?))
        }
        Format::Qoi => Opened::Still(Box::new(qoi::QoiDecoder::new(source).map_err(failed)?)),
        Format::Tga => Opened::Still(Box::new(tga::TgaDecoder::new(source).map_err(failed)?)),
        _ => {
            let start = start_of(&mut source).map_err(failed)?;
            let after = images_after(&start, &mut source);
            omitted = after.map_err(|error| failed(ImageError::IoError(error)))?;
            metadata = metadata::bmp::read(&start);
            Opened::Still(Box::new(bmp::BmpDecoder::new(source).map_err(failed)?))
        }
    };
    let decoder: &dyn ImageDecoder = match &opened {
        Opened::Still(decoder) => decoder,
        Opened::Animated(decoder) => &**decoder,
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
    let outline = Outline {
        width_px,
        height_px,
        colour,
        depth: Depth::U8,
    };
    let header = Header {
        outline,
        orientation,
        metadata,
        omitted,
        animation,
        pages: None,
        streams_rows: false,
        // Frames are laid over each other, as RGB with alpha.
        whole_bytes: match animation {
            Some(_) => 16 * width_px as u64 * height_px as u64,
            None => decoder.total_bytes(),
        },
        rows_bytes: 0,
    };
    let decoder: Box<dyn Decode> = match opened {
        Opened::Still(decoder) => Box::new(PlainDecoder { decoder, format }),
        Opened::Animated(decoder) => {
            Box::new(FrameDecoder::new(outline, format, true, || Ok(*decoder)))
        }
    };
    Ok((header, decoder))
}

/// The first bytes of a file.
fn start_of(source: &mut Source) -> Result<Vec<u8>, ImageError> {
    let mut start = Vec::new();
    source.by_ref().take(128).read_to_end(&mut start)?;
    Ok(start)
}

/// Whether a file is a TGA file by its suffix and its first bytes, which have no mark.
///
/// Source: Truevision TGA 2.0, the fields ColorMapType and ImageType.
pub(super) fn may_be_tga(start: &[u8], path: &Path) -> bool {
    Format::from_extension(path) == Some(Format::Tga)
        && matches!(start, [_, 0 | 1, 1..=3 | 9..=11, ..])
}

/// The images of a DDS file beside the one that is read.
///
/// Source: Microsoft, "DDS_HEADER": dwMipMapCount, dwCaps2.
fn other_images_of_dds(start: &[u8]) -> Vec<String> {
    const CUBE_MAP: u32 = 0x200;
    const VOLUME: u32 = 0x20_0000;
    let number = |at: usize| {
        let bytes = start.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let mut omitted = Vec::new();
    let mut add = |is_there: bool, what: &str| {
        if is_there {
            omitted.push(what.to_owned());
        }
    };
    let kind = number(112);
    add(
        kind & CUBE_MAP != 0,
        "further faces of a cube map: only the first is upscaled",
    );
    add(
        kind & VOLUME != 0,
        "further slices of a volume: only the first is upscaled",
    );
    add(number(28) > 1, "mipmaps: the result has none");
    omitted
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

/// Images that follow a BMP file of the length that its header gives, in bytes 2 to 5. The source is left
/// at its start. Writers get the length wrong, so other data are not taken for more than padding.
fn images_after(start: &[u8], source: &mut Source) -> io::Result<Vec<String>> {
    let mut omitted = Vec::new();
    if let Some(&[a, b, c, d]) = start.get(2..6) {
        source.seek(SeekFrom::Start(u32::from_le_bytes([a, b, c, d]).into()))?;
        let rest = after_end::rest_of(&mut *source)?;
        if Format::of_start(&rest).is_some() {
            omitted = after_end::described(&rest, false);
        }
    }
    source.rewind()?;
    Ok(omitted)
}

/// An animated WebP file of one frame as a still one. `None` if the frame does not cover the image. (The
/// decoder would blend the frame, and lose up to a level.)
///
/// Source: RFC 9649, sections 2.7.1.1 (ANMF) and 2.7 (VP8X).
fn still_of(animated: &[u8]) -> Option<Vec<u8>> {
    const ANIMATION: u8 = 2;
    const FRAME_HEADER_BYTES: usize = 16;
    let mut still = b"RIFF\0\0\0\0WEBP".to_vec();
    let mut size = None;
    let mut rest = animated.get(12..)?;
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let [kind @ .., a, b, c, d] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let Some(content) = after.get(..length) else {
            break;
        };
        rest = after.get(length.next_multiple_of(2)..).unwrap_or_default();
        match &kind {
            b"VP8X" => {
                let mut content = *content.first_chunk::<10>()?;
                content[0] &= !ANIMATION;
                size = Some([
                    content[4], content[5], content[6], content[7], content[8], content[9],
                ]);
                still.extend(header);
                still.extend(content);
            }
            b"ANMF" => {
                let (frame, image) = content.split_at_checked(FRAME_HEADER_BYTES)?;
                if frame[..6] != [0; 6]
                    || size.as_ref().map(|size| &size[..]) != Some(&frame[6..12])
                {
                    return None;
                }
                still.extend(image);
            }
            b"ANIM" => {}
            _ => {
                still.extend(header);
                still.extend(content);
            }
        }
        still.resize(still.len().next_multiple_of(2), 0);
    }
    let length = u32::try_from(still.len() - 8).ok()?;
    still[4..8].copy_from_slice(&length.to_le_bytes());
    Some(still)
}

/// The chunks of a WebP file.
#[derive(Default)]
struct RiffChunks {
    /// Frames of an animation.
    frames: usize,
    /// Chunks that are not copied.
    dropped: Vec<String>,
    /// What follows the image in the file.
    omitted: Vec<String>,
}

impl RiffChunks {
    /// Walks through the chunks, and leaves the source at its start.
    ///
    /// Source: RFC 9649, section 2.
    fn read(source: &mut Source) -> io::Result<Self> {
        let mut chunks = Self::default();
        let mut unknown = BTreeSet::new();
        let mut header = [0; 12];
        source.read_exact(&mut header)?;
        let mut left = u64::from(u32::from_le_bytes([
            header[4], header[5], header[6], header[7],
        ]))
        .saturating_sub(4);
        let mut header = [0; 8];
        while left >= 8 && source.read_exact(&mut header).is_ok() {
            let [kind @ .., a, b, c, d] = header;
            let length = u64::from(u32::from_le_bytes([a, b, c, d])).next_multiple_of(2);
            left = left.saturating_sub(8 + length);
            match &kind {
                b"ANMF" => chunks.frames += 1,
                b"VP8 " | b"VP8L" | b"VP8X" | b"ALPH" | b"ANIM" | b"ICCP" | b"EXIF" | b"XMP " => {}
                _ => drop(unknown.insert(kind)),
            }
            source.seek_relative(length as i64)?;
        }
        let names: Vec<String> = unknown
            .iter()
            .take(8)
            .map(|k| k.escape_ascii().to_string())
            .collect();
        if !names.is_empty() {
            let names = names.join(", ");
            chunks
                .dropped
                .push(format!("WebP chunks {names}: not copied"));
        }
        source.seek(SeekFrom::Start(4))?;
        let mut length = [0; 4];
        source.read_exact(&mut length)?;
        let end = (8 + u64::from(u32::from_le_bytes(length))).next_multiple_of(2);
        source.seek(SeekFrom::Start(end))?;
        let rest = after_end::rest_of(&mut *source)?;
        chunks.omitted = after_end::described(&rest, false);
        source.rewind()?;
        Ok(chunks)
    }
}
