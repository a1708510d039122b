//! JPEG XL, by `jxl-oxide`.
//!
//! The boxes of a container are walked through here: the codestream goes to the decoder, EXIF and
//! XMP are unpacked within a limit, which the decoder has not. A panic of the decoder is a damaged file.
//!
//! Source: ISO/IEC 18181-1 (codestream: signature, orientation, colour) and 18181-2 (container).

use std::io::{BufRead, Read};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use image::metadata::Orientation;
use jxl_oxide::color::{ColourEncoding, WhitePoint};
use jxl_oxide::image::BitDepth;
use jxl_oxide::{
    AllocTracker, ExtraChannelType, FrameBufferSample, InitializeResult, JxlImage, JxlThreadPool,
};

use super::{
    Header, Limits, MAX_METADATA_BYTES, animation, check_memory, check_size, size_of, whole,
    without_foreign_profile,
};
use crate::error::{Error, one_line};
use crate::format::Format;
use crate::metadata::Metadata;
use crate::metadata::png::MAX_TEXT_BYTES;
use crate::pixels::{Colour, Depth, Image, Samples};

/// The signature of a bare codestream.
pub(crate) const CODESTREAM: &[u8] = &[0xff, 0x0a];
/// The signature of a container: a box of its own.
pub(crate) const CONTAINER: &[u8] = b"\0\0\0\x0cJXL \r\n\x87\n";

/// Bytes per sample that the decoder holds while it works: two planes of 4, measured on 48
/// megapixels (lossy 9 with the samples of 8 bit, lossless 7).
const DECODER_BYTES: u64 = 8;
/// Bytes per sample that it may take at most: filters, blending and colour conversion need more
/// beside the planes.
const MAX_DECODER_BYTES: u64 = 24;

/// What a file holds.
#[derive(Default)]
struct Contents {
    codestream: Vec<u8>,
    exif: Option<Vec<u8>>,
    xmp: Option<Vec<u8>>,
    left_out: Vec<String>,
}

/// Runs the decoder, which panics on some damaged files.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // What a panic leaves half done is dropped with it.
    panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::damaged("its decoder gives up", Format::JpegXl, path)))
}

pub(super) fn header(stream: &mut impl BufRead, path: &Path) -> Result<Header, Error> {
    let contents = contents(stream, path)?;
    let Started { jxl, .. } = guarded(path, || started(&contents.codestream, path))?;
    Ok(Header {
        size: size_of((jxl.width(), jxl.height()), path)?,
        // The decoder tells the upright size.
        orientation: Orientation::NoTransforms,
    })
}

pub(super) fn decode(
    stream: &mut impl BufRead,
    path: &Path,
    limits: &Limits,
) -> Result<Image, Error> {
    let contents = contents(stream, path)?;
    guarded(path, || image(contents, path, limits))
}

fn image(contents: Contents, path: &Path, limits: &Limits) -> Result<Image, Error> {
    let Started {
        mut jxl,
        limit,
        fed,
    } = started(&contents.codestream, path)?;
    let size = size_of((jxl.width(), jxl.height()), path)?;
    check_size(size, path, limits)?;
    let (colour, depth) = colour(&jxl, path)?;

    let count = size.0 as u64 * size.1 as u64 * colour.channels() as u64;
    check_memory(count * (depth.bytes() as u64 + DECODER_BYTES), path, limits)?;
    limit.expand_limit((count * MAX_DECODER_BYTES) as usize);
    let failed = |error| failed(error, path);
    jxl.feed_bytes(&contents.codestream[fed..])
        .map_err(failed)?;
    if !jxl.is_loading_done() || jxl.num_loaded_keyframes() == 0 {
        return Err(Error::truncated(
            "its last frame is not complete",
            Format::JpegXl,
            path,
        ));
    }
    let render = jxl.render_frame(0).map_err(failed)?;
    let mut samples = match depth {
        Depth::U8 => Samples::U8(vec![0; count as usize]),
        Depth::U16 => Samples::U16(vec![0; count as usize]),
        Depth::F32 => Samples::F32(vec![0.0; count as usize]),
    };
    fn fill<T: FrameBufferSample>(render: &jxl_oxide::Render, samples: &mut [T]) -> bool {
        render.stream().write_to_buffer(samples) == samples.len()
    }
    let is_full = match &mut samples {
        Samples::U8(samples) => fill(&render, samples),
        Samples::U16(samples) => fill(&render, samples),
        Samples::F32(samples) => fill(&render, samples),
    };
    if !is_full {
        return Err(Error::truncated(
            "its frame is smaller than the image",
            Format::JpegXl,
            path,
        ));
    }
    let mut image = Image::new(size.0, size.1, colour, samples);
    image.metadata = metadata(contents, &jxl);
    without_foreign_profile(&mut image.metadata, colour);
    Ok(image)
}

fn failed(error: Box<dyn std::error::Error + Send + Sync>, path: &Path) -> Error {
    Error::damaged(one_line(&error), Format::JpegXl, path)
}

/// A decoder that has read the header.
struct Started {
    jxl: JxlImage,
    /// The memory that it may take.
    limit: AllocTracker,
    /// Bytes of the codestream that it has taken.
    fed: usize,
}

fn started(codestream: &[u8], path: &Path) -> Result<Started, Error> {
    let failed = |error| failed(error, path);
    let limit = AllocTracker::with_limit(MAX_METADATA_BYTES as usize);
    let mut jxl = JxlImage::builder()
        .pool(JxlThreadPool::none())
        .alloc_tracker(limit.clone())
        .build_uninit();
    let mut fed = 0;
    // In steps, so that little more than the header is taken before the size is known.
    for step in codestream.chunks(4096) {
        jxl.feed_bytes(step).map_err(failed)?;
        fed += step.len();
        match jxl.try_init().map_err(failed)? {
            InitializeResult::NeedMoreData(more) => jxl = more,
            InitializeResult::Initialized(jxl) => return Ok(Started { jxl, limit, fed }),
        }
    }
    Err(Error::truncated(
        "its header is not complete",
        Format::JpegXl,
        path,
    ))
}

/// Colour and depth of the samples that are made of the file's: as many bits as the deepest channel
/// has, 8, 16, or float for more.
fn colour(jxl: &JxlImage, path: &Path) -> Result<(Colour, Depth), Error> {
    let metadata = &jxl.image_header().metadata;
    if metadata.animation.is_some() {
        return Err(animation(Format::JpegXl, path));
    }
    let format = jxl.pixel_format();
    if format.has_black() {
        return Err(Error::unsupported(
            "its colours are CMYK",
            Format::JpegXl,
            path,
        ));
    }
    let colour = match (format.is_grayscale(), format.has_alpha()) {
        (true, false) => Colour::Grey,
        (true, true) => Colour::GreyAlpha,
        (false, false) => Colour::Rgb,
        (false, true) => Colour::RgbAlpha,
    };
    let mut bits = vec![&metadata.bit_depth];
    if let Some(alpha) = metadata.ec_info.iter().find(|channel| channel.is_alpha()) {
        if let ExtraChannelType::Alpha {
            alpha_associated: true,
        } = alpha.ty
        {
            return Err(Error::unsupported(
                "its colours are multiplied by alpha",
                Format::JpegXl,
                path,
            ));
        }
        bits.push(&alpha.bit_depth);
    }
    let depth = bits.into_iter().map(|bits| match bits {
        BitDepth::IntegerSample {
            bits_per_sample: ..=8,
        } => Depth::U8,
        BitDepth::IntegerSample {
            bits_per_sample: ..=16,
        } => Depth::U16,
        BitDepth::IntegerSample { .. } | BitDepth::FloatSample { .. } => Depth::F32,
    });
    let deepest = depth.max_by_key(|depth| depth.bytes());
    Ok((colour, deepest.unwrap_or(Depth::U8)))
}

fn metadata(contents: Contents, jxl: &JxlImage) -> Metadata {
    let header = &jxl.image_header().metadata;
    let orientation = u8::try_from(header.orientation).ok();
    let orientation = orientation.and_then(Orientation::from_exif);
    let mut left_out = contents.left_out;
    let icc_profile = match jxl.original_icc() {
        Some(profile) if !header.xyb_encoded => Some(profile.to_vec()),
        original => {
            let d65 = match &header.colour_encoding {
                ColourEncoding::Enum(encoding) => matches!(encoding.white_point, WhitePoint::D65),
                ColourEncoding::IccProfile(_) => true,
            };
            // BT.709 primaries and the transfer function of sRGB, which is meant without a profile.
            let is_srgb = d65 && matches!(jxl.rendered_cicp(), Some([1, 13, ..]));
            if original.is_some() && is_srgb {
                left_out.push(
                    "ICC profile: the lossy JPEG XL image does not need it and is decoded to sRGB"
                        .to_owned(),
                );
            }
            (!is_srgb).then(|| jxl.rendered_icc())
        }
    };
    for channel in header.ec_info.iter().filter(|channel| !channel.is_alpha()) {
        if !matches!(channel.ty, ExtraChannelType::SpotColour { .. }) {
            left_out.push(format!("channel {:?}: it is no colour", channel.ty));
        }
    }
    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    // The file's own orientation counts, not that of EXIF.
    let (mut metadata, _) =
        Metadata::of_blocks(icc_profile, contents.exif, contents.xmp, Some(orientation));
    metadata.left_out.append(&mut left_out);
    metadata
}

/// Reads the whole file, and its boxes if it has any.
fn contents(stream: &mut impl BufRead, path: &Path) -> Result<Contents, Error> {
    let file = whole(stream, path)?;
    if !file.starts_with(CONTAINER) {
        return Ok(Contents {
            codestream: file,
            ..Contents::default()
        });
    }
    let mut contents = Contents::default();
    let mut rest = &file[..];
    while !rest.is_empty() {
        let (kind, content, after) = next_box(rest).ok_or_else(|| {
            Error::truncated("its last box is not complete", Format::JpegXl, path)
        })?;
        rest = after;
        contents.take_box(kind, content);
    }
    Ok(contents)
}

/// The kind and content of the first box, and what follows it.
fn next_box(file: &[u8]) -> Option<([u8; 4], &[u8], &[u8])> {
    let (&size, rest) = file.split_first_chunk()?;
    let (&kind, rest) = rest.split_first_chunk()?;
    let (content, after) = match u32::from_be_bytes(size) {
        // To the end of the file.
        0 => (rest, &[][..]),
        1 => {
            let (&size, rest) = rest.split_first_chunk()?;
            let size = usize::try_from(u64::from_be_bytes(size)).ok()?;
            rest.split_at_checked(size.checked_sub(16)?)?
        }
        size => rest.split_at_checked((size as usize).checked_sub(8)?)?,
    };
    Some((kind, content, after))
}

impl Contents {
    fn take_box(&mut self, kind: [u8; 4], content: &[u8]) {
        match &kind {
            b"jxlc" => self.codestream.extend_from_slice(content),
            // Parts in order, behind their number.
            b"jxlp" => {
                let part = content.get(4..).unwrap_or_default();
                self.codestream.extend_from_slice(part);
            }
            b"brob" => {
                if let Some((kind @ (b"Exif" | b"xml "), packed)) = content.split_first_chunk() {
                    match unpacked(packed) {
                        Ok(content) => self.take_box(*kind, &content),
                        Err(why) => {
                            let what = if kind == b"Exif" { "EXIF" } else { "XMP" };
                            self.left_out.push(format!("{what}: {why}"));
                        }
                    }
                }
            }
            // The offset of the TIFF header behind it comes first.
            b"Exif" if self.exif.is_none() => {
                let block = content.split_first_chunk().and_then(|(&offset, block)| {
                    block.get(usize::try_from(u32::from_be_bytes(offset)).ok()?..)
                });
                match block {
                    Some(block) => self.exif = Some(block.to_vec()),
                    None => self.left_out.push("EXIF: it is damaged".to_owned()),
                }
            }
            b"xml " if self.xmp.is_none() => self.xmp = Some(content.to_vec()),
            _ => {}
        }
    }
}

fn unpacked(packed: &[u8]) -> Result<Vec<u8>, &'static str> {
    const MOST: u64 = MAX_TEXT_BYTES as u64;
    let mut content = Vec::new();
    let mut stream = brotli_decompressor::Decompressor::new(packed, 4096).take(MOST + 1);
    match stream.read_to_end(&mut content) {
        Err(_) => Err("it is damaged"),
        Ok(_) if content.len() as u64 > MOST => Err("it is longer than 16 MiB"),
        Ok(_) => Ok(content),
    }
}
