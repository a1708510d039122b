//! JPEG XL, by `jxl-oxide`.
//!
//! The boxes of a container are parsed here: the codestream goes to the decoder, and EXIF and XMP are
//! decompressed within a limit, which the decoder does not have. A panic of the decoder is reported as a
//! damaged file.
//!
//! Source: ISO/IEC 18181-1 (codestream: signature, orientation, colour) and 18181-2 (container).

use std::io::Read;
use std::path::Path;

use image::metadata::Orientation;
use jxl_oxide::color::{ColourEncoding, WhitePoint};
use jxl_oxide::image::BitDepth;
use jxl_oxide::{
    AllocTracker, ExtraChannelType, FrameBufferSample, InitializeResult, JxlImage, JxlThreadPool,
};

use super::{
    CONTAINER, Decode, Header, Limits, MAX_METADATA_BYTES, Source, animation, check_size, guarded,
};
use crate::error::{Error, one_line};
use crate::format::Format;
use crate::metadata::Metadata;
use crate::samples::{Colour, Depth, Outline, Samples};

/// Bytes per sample that the decoder holds while it works: two planes of 4, measured on 48
/// megapixels (lossy 9 with the samples of 8 bit, lossless 7).
const DECODER_BYTES: u64 = 8;
/// Bytes per sample that it may take at most: filters, blending and colour conversion need more
/// beside the planes.
const MAX_DECODER_BYTES: u64 = 24;

/// Most boxes that are named as not copied.
const MAX_NAMED: usize = 8;

/// The parts of a file.
#[derive(Default)]
struct Contents {
    codestream: Vec<u8>,
    metadata: MetadataBoxes,
}

#[derive(Default)]
struct MetadataBoxes {
    exif: Option<Vec<u8>>,
    xmp: Option<Vec<u8>>,
    dropped: Vec<String>,
    omitted: Vec<String>,
    unpacked: Vec<[u8; 4]>,
}

struct JxlDecoder {
    codestream: Vec<u8>,
    started: Started,
    outline: Outline,
}

pub(super) fn open(
    source: Source,
    name: &Path,
    limits: &Limits,
) -> Result<(Header, Box<dyn Decode>), Error> {
    let contents = contents(source.into_bytes(name)?, name)?;
    guarded(Format::JpegXl, name, || {
        let started = start(&contents.codestream, name)?;
        let jxl = &started.jxl;
        // The decoder applies the orientation, and tells the upright size.
        let (width_px, height_px) = check_size((jxl.width(), jxl.height()), name, limits)?;
        let (colour, depth) = colour(jxl, name)?;
        let outline = Outline {
            width_px,
            height_px,
            colour,
            depth,
        };
        let samples = width_px as u64 * height_px as u64 * colour.channels() as u64;
        let (codestream, metadata) = (contents.codestream, contents.metadata);
        let header = Header {
            outline,
            orientation: Orientation::NoTransforms,
            omitted: metadata.omitted.clone(),
            animation: None,
            metadata: read_metadata(metadata, jxl),
            pages: None,
            streams_rows: false,
            whole_bytes: samples.saturating_mul(depth.bytes() as u64 + DECODER_BYTES),
            rows_bytes: 0,
        };
        let decoder = JxlDecoder {
            codestream,
            started,
            outline,
        };
        Ok((header, Box::new(decoder) as Box<dyn Decode>))
    })
}

impl Decode for JxlDecoder {
    fn read_all(self: Box<Self>, name: &Path) -> Result<Samples, Error> {
        guarded(Format::JpegXl, name, || self.read(name))
    }
}

impl JxlDecoder {
    fn read(self: Box<Self>, name: &Path) -> Result<Samples, Error> {
        let Self {
            codestream,
            started,
            outline,
        } = *self;
        let Started {
            mut jxl,
            limit,
            fed,
        } = started;
        let truncated = |reason| Error::truncated(reason, Format::JpegXl, name);
        let count = outline.row_len() * outline.height_px;
        limit.expand_limit((count as u64 * MAX_DECODER_BYTES) as usize);
        let failed = |error| failed(error, name);
        jxl.feed_bytes(&codestream[fed..]).map_err(failed)?;
        if !jxl.is_loading_done() || jxl.num_loaded_keyframes() == 0 {
            return Err(truncated("its last frame is not complete"));
        }
        let render = jxl.render_frame(0).map_err(failed)?;
        fn fill<T: FrameBufferSample>(render: &jxl_oxide::Render, samples: &mut [T]) -> bool {
            render.stream().write_to_buffer(samples) == samples.len()
        }
        let mut samples = Samples::zeros(outline.depth, count);
        let is_full = match &mut samples {
            Samples::U8(samples) => fill(&render, samples),
            Samples::U16(samples) => fill(&render, samples),
            Samples::F32(samples) => fill(&render, samples),
        };
        if !is_full {
            return Err(truncated("its frame is smaller than the image"));
        }
        Ok(samples)
    }
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

fn start(codestream: &[u8], path: &Path) -> Result<Started, Error> {
    let failed = |error| failed(error, path);
    let limit = AllocTracker::with_limit(MAX_METADATA_BYTES as usize);
    let mut jxl = JxlImage::builder()
        .pool(JxlThreadPool::none())
        .alloc_tracker(limit.clone())
        .build_uninit();
    let mut fed = 0;
    // In steps, so that little more than the header is parsed before the size is checked.
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

/// Colour and depth of the decoded samples: the depth of the deepest channel, 8 or 16 bits, or float for
/// more.
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

fn read_metadata(boxes: MetadataBoxes, jxl: &JxlImage) -> Metadata {
    let header = &jxl.image_header().metadata;
    let orientation = u8::try_from(header.orientation).ok();
    let orientation = orientation.and_then(Orientation::from_exif);
    let mut dropped = boxes.dropped;
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
                dropped.push(
                    "ICC profile: the lossy JPEG XL image does not need it and is decoded to sRGB"
                        .to_owned(),
                );
            }
            (!is_srgb).then(|| jxl.rendered_icc())
        }
    };
    for channel in header.ec_info.iter().filter(|channel| !channel.is_alpha()) {
        if !matches!(channel.ty, ExtraChannelType::SpotColour { .. }) {
            dropped.push(format!("channel {:?}: it is no colour", channel.ty));
        }
    }
    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    // The file's own orientation takes precedence over that of EXIF.
    let (mut metadata, _) =
        Metadata::of_blocks(icc_profile, boxes.exif, boxes.xmp, Some(orientation));
    metadata.dropped.append(&mut dropped);
    metadata
}

/// Takes a file apart into its boxes, if it has any.
fn contents(file: Vec<u8>, path: &Path) -> Result<Contents, Error> {
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
                // Unpacking a box is work, so each kind is unpacked once.
                if let Some((kind @ (b"Exif" | b"xml "), packed)) = content.split_first_chunk()
                    && !self.metadata.unpacked.contains(kind)
                {
                    self.metadata.unpacked.push(*kind);
                    match unpacked(packed) {
                        Ok(content) => self.take_box(*kind, &content),
                        Err(why) => {
                            let what = if kind == b"Exif" { "EXIF" } else { "XMP" };
                            self.metadata.dropped.push(format!("{what}: {why}"));
                        }
                    }
                }
            }
            // The offset of the TIFF header behind it comes first.
            b"Exif" if self.metadata.exif.is_none() => {
                let block = content.split_first_chunk().and_then(|(&offset, block)| {
                    block.get(usize::try_from(u32::from_be_bytes(offset)).ok()?..)
                });
                match block {
                    Some(block) => self.metadata.exif = Some(block.to_vec()),
                    None => self.metadata.dropped.push("EXIF: it is damaged".to_owned()),
                }
            }
            b"xml " if self.metadata.xmp.is_none() => self.metadata.xmp = Some(content.to_vec()),
            b"jhgm" => {
                let gain_map = "gain map: results have no HDR part".to_owned();
                if !self.metadata.omitted.contains(&gain_map) {
                    self.metadata.omitted.push(gain_map);
                }
            }
            // Known, or about how the file stores the image.
            b"JXL " | b"ftyp" | b"jxll" | b"jxli" | b"jbrd" | b"Exif" | b"xml " | b"free" => {}
            _ => {
                let line = match &kind {
                    b"jumb" => "content credentials (JUMBF): not copied".to_owned(),
                    _ => format!(
                        "box {:?} of JPEG XL: not copied",
                        kind.escape_ascii().to_string()
                    ),
                };
                let dropped = &mut self.metadata.dropped;
                if dropped.len() < MAX_NAMED && !dropped.contains(&line) {
                    dropped.push(line);
                }
            }
        }
    }
}

fn unpacked(packed: &[u8]) -> Result<Vec<u8>, &'static str> {
    const MOST: u64 = 4 << 20;
    let mut content = Vec::new();
    let mut stream = brotli_decompressor::Decompressor::new(packed, 4096).take(MOST + 1);
    match stream.read_to_end(&mut content) {
        Err(_) => Err("it is damaged"),
        Ok(_) if content.len() as u64 > MOST => Err("it is longer than 4 MiB"),
        Ok(_) => Ok(content),
    }
}
