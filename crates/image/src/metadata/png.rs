//! Metadata in the chunks of PNG files.
//!
//! Source: PNG, third edition, section 11.3; "Raw profile type" is ImageMagick's older way to
//! store blocks as hexadecimal text.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Write;

use ::png::{
    BitDepth, ColorType, DecodingError, Info, PixelDimensions, ScaledFloat, SourceChromaticities,
    SrgbRenderingIntent, Unit,
};
use image::metadata::Orientation;

use crate::samples::Colour;

use super::{Metadata, PngColour, Resolution, iptc, jpeg};

const XMP_KEYWORD: &str = "XML:com.adobe.xmp";
const RAW_PROFILE: &str = "Raw profile type ";

/// Longest text of a chunk after decompression, and of all of them; longer ones are dropped.
pub(crate) const MAX_TEXT_BYTES: usize = 16 << 20;

const METRES_PER_INCH: f64 = 0.0254;

/// The chunks that the decoder does not read.
#[derive(Default)]
pub(crate) struct PngChunks {
    /// Width and height.
    pub(crate) size_px: Option<(u32, u32)>,
    /// Frames of an animation.
    pub(crate) frames: usize,
    has_pixels: bool,
    /// Whether the image is shown only by programs that know no animations.
    pub(crate) is_beside_animation: bool,
    /// Contents by type.
    contents: Vec<([u8; 4], Vec<u8>)>,
    unknown: BTreeSet<[u8; 4]>,
    has_profile: bool,
    /// What follows the image in the file.
    pub(crate) omitted: Vec<String>,
}

impl PngChunks {
    /// Whether the content of a chunk is wanted.
    pub(crate) fn is_wanted(kind: [u8; 4], length: u32) -> bool {
        let known = match &kind {
            b"IHDR" => 13,
            b"mDCV" | b"mDCv" => 24,
            b"cLLI" | b"cLLi" => 8,
            b"bKGD" => 6,
            b"tIME" => 7,
            b"sBIT" => 4,
            _ => 0,
        };
        length <= known
    }

    /// Adds the next chunk, with its content if that is wanted.
    pub(crate) fn add(&mut self, kind: [u8; 4], content: &[u8]) {
        match &kind {
            b"IHDR" => {
                let number =
                    |at: usize| Some(u32::from_be_bytes(*content.get(at..)?.first_chunk()?));
                self.size_px = self.size_px.or(number(0).zip(number(4)));
            }
            b"IDAT" => self.has_pixels = true,
            b"fcTL" => {
                // Without a frame before its pixels, the image is none of the animation.
                self.is_beside_animation |= self.has_pixels && self.frames == 0;
                self.frames += 1;
            }
            b"iCCP" => self.has_profile = true,
            b"mDCV" | b"mDCv" | b"cLLI" | b"cLLi" | b"bKGD" | b"tIME" | b"sBIT"
                if self.content(&kind).is_none() =>
            {
                self.contents.push((kind, content.to_vec()));
            }
            b"mDCV" | b"mDCv" | b"cLLI" | b"cLLi" | b"bKGD" | b"tIME" | b"sBIT" => {}
            // Read by the decoder, or about how the file stores the pixels (iDOT).
            b"tRNS" | b"cHRM" | b"gAMA" | b"sRGB" | b"cICP" | b"eXIf" | b"iTXt" | b"tEXt"
            | b"zTXt" | b"pHYs" | b"acTL" | b"fdAT" | b"iDOT" => {}
            // A lower-case letter marks chunks that are not needed for the pixels.
            [b'a'..=b'z', ..] => drop(self.unknown.insert(kind)),
            _ => {}
        }
    }

    /// The content of the first chunk of a type; the case of the last letter does not count.
    fn content(&self, kind: &[u8; 4]) -> Option<&[u8]> {
        let found = self
            .contents
            .iter()
            .find(|(k, _)| k.eq_ignore_ascii_case(kind));
        found.map(|(_, content)| &**content)
    }

    /// What is not copied, with the reasons.
    fn dropped(&self, info: &Info<'_>) -> Vec<String> {
        let mut dropped = Vec::new();
        if self.has_profile && info.icc_profile.is_none() {
            dropped.push("ICC profile: it is damaged or too long".to_owned());
        }
        let depth = match info.color_type {
            ColorType::Indexed => 8,
            _ => info.bit_depth as u8,
        };
        let bits = self.content(b"sBIT").unwrap_or_default();
        if bits.iter().any(|&bits| bits < depth) {
            dropped.push("PNG chunk sBIT: the result uses all bits of its samples".to_owned());
        }
        if !self.unknown.is_empty() {
            let names: Vec<String> = self
                .unknown
                .iter()
                .map(|k| k.escape_ascii().to_string())
                .collect();
            let noun = if names.len() == 1 { "chunk" } else { "chunks" };
            dropped.push(format!(
                "PNG {noun} {}: unknown, or about the input's own pixels",
                names.join(", ")
            ));
        }
        dropped
    }

    /// The chunks that are copied: the time of the last change, and the background in the colour and depth
    /// of the decoded samples.
    fn copied(&self, info: &Info<'_>) -> Vec<([u8; 4], Vec<u8>)> {
        let time = self.content(b"tIME").filter(|time| time.len() == 7);
        let background = self.content(b"bKGD").and_then(|background| {
            let big_endian = |v: u16| v.to_be_bytes();
            match (info.color_type, background) {
                (ColorType::Indexed, &[index]) => {
                    let palette = info.palette.as_deref()?;
                    let colour = palette.get(3 * usize::from(index)..)?.first_chunk::<3>()?;
                    Some(colour.map(|v| big_endian(v.into())).concat())
                }
                (ColorType::Indexed, _) => None,
                (_, &[high, low]) => {
                    let grey = u16::from_be_bytes([high, low]);
                    let factor = match info.bit_depth {
                        BitDepth::One => 255,
                        BitDepth::Two => 85,
                        BitDepth::Four => 17,
                        BitDepth::Eight | BitDepth::Sixteen => 1,
                    };
                    Some(big_endian(grey.saturating_mul(factor)).to_vec())
                }
                (_, colour) => (colour.len() == 6).then(|| colour.to_vec()),
            }
        });
        let time = time.map(|time| (*b"tIME", time.to_vec()));
        time.into_iter()
            .chain(background.map(|colour| (*b"bKGD", colour)))
            .collect()
    }
}

/// The metadata that the decoder has read. Chunks behind the pixels are included only after
/// [`Reader::finish`](::png::Reader::finish).
pub(crate) fn read(info: &Info<'_>, chunks: &PngChunks) -> (Metadata, Orientation) {
    let mut metadata = Metadata {
        icc_profile: info.icc_profile.as_deref().map(<[u8]>::to_vec),
        png_colour: colour(info, chunks),
        png_chunks: chunks.copied(info),
        dropped: chunks.dropped(info),
        resolution: info.pixel_dims.and_then(|size| {
            let per_inch = match size.unit {
                Unit::Meter => Some(METRES_PER_INCH),
                Unit::Unspecified => None,
            };
            Resolution::of(f64::from(size.xppu), f64::from(size.yppu), per_inch)
        }),
        ..Metadata::default()
    };
    let mut orientation = Orientation::NoTransforms;
    if let Some(block) = &info.exif_metadata {
        orientation = metadata.set_exif(block.to_vec());
    }
    let mut dropped_texts = Vec::new();
    for (keyword, text) in texts(info) {
        let Some(text) = text else {
            dropped_texts.push(keyword);
            continue;
        };
        let Some(kind) = keyword.strip_prefix(RAW_PROFILE) else {
            if keyword != XMP_KEYWORD {
                metadata.texts.push((keyword, text));
            } else if metadata.xmp.is_none() {
                metadata.set_xmp(text.into_bytes());
            }
            continue;
        };
        let Some(block) = raw_profile(&text) else {
            dropped_texts.push(keyword);
            continue;
        };
        let exif = matches!(kind, "exif") || block.starts_with(jpeg::EXIF_PREFIX);
        let xmp = block
            .strip_prefix(jpeg::XMP_PREFIX)
            .or((kind == "xmp").then_some(&block[..]));
        if exif && metadata.exif.is_none() {
            orientation = metadata.set_exif(block);
        } else if let (Some(packet), None) = (xmp, &metadata.xmp) {
            metadata.set_xmp(packet.to_vec());
        } else if matches!(kind, "iptc" | "8bim") && metadata.iptc.is_none() {
            metadata.iptc = iptc::of_resources(&block);
        }
    }
    if let Some(keyword) = dropped_texts.first() {
        let others = match dropped_texts.len() - 1 {
            0 => String::new(),
            count => format!(" and {count} others"),
        };
        metadata.dropped.push(format!(
            "PNG text {keyword:?}{others}: damaged, or longer together than {MAX_TEXT_BYTES} bytes"
        ));
    }
    metadata.turned(orientation)
}

/// Keyword and text of every text chunk; no text if it is damaged, or too long together with those before
/// it. Damaged texts cost the work of decompressing them, which the length of the file bounds.
fn texts(info: &Info<'_>) -> Vec<(String, Option<String>)> {
    let mut bytes_left = MAX_TEXT_BYTES;
    let mut texts = Vec::new();
    let mut add = |keyword: &str, text: Result<String, DecodingError>, left: &mut usize| {
        let text = text.ok().filter(|text| text.len() <= *left);
        *left -= text.as_ref().map_or(0, String::len);
        texts.push((keyword.to_owned(), text));
    };
    for chunk in &info.uncompressed_latin1_text {
        add(&chunk.keyword, Ok(chunk.text.clone()), &mut bytes_left);
    }
    for chunk in &info.compressed_latin1_text {
        let mut text = chunk.clone();
        let unpacked = text.decompress_text_with_limit(bytes_left);
        let text = unpacked.and_then(|()| text.get_text());
        add(&chunk.keyword, text, &mut bytes_left);
    }
    for chunk in &info.utf8_text {
        let mut text = chunk.clone();
        let unpacked = text.decompress_text_with_limit(bytes_left);
        let text = unpacked.and_then(|()| text.get_text());
        add(&chunk.keyword, text, &mut bytes_left);
    }
    texts
}

/// Decodes "\nname\n  length\nhexadecimal digits in lines".
fn raw_profile(text: &str) -> Option<Vec<u8>> {
    let mut lines = text.trim_start().lines();
    lines.next()?;
    let length: usize = lines.next()?.trim().parse().ok()?;
    let digits: Vec<u8> = lines
        .flat_map(str::bytes)
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let bytes = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]);
    Some(bytes.collect()).filter(|bytes: &Vec<u8>| bytes.len() == length)
}

fn colour(info: &Info<'_>, chunks: &PngChunks) -> Option<PngColour> {
    let points = info.coding_independent_code_points.map(|points| {
        [
            points.color_primaries,
            points.transfer_function,
            points.matrix_coefficients,
            u8::from(points.is_video_full_range_image),
        ]
    });
    let mut colour = PngColour {
        code_points: points,
        mastering_display: chunks.content(b"mDCV").and_then(|c| c.try_into().ok()),
        content_light: chunks.content(b"cLLI").and_then(|c| c.try_into().ok()),
        ..PngColour::default()
    };
    // A profile outranks these.
    if info.icc_profile.is_none() {
        colour.srgb_intent = info.srgb.map(|intent| intent as u8);
        colour.gamma = info.gama_chunk.map(ScaledFloat::into_scaled);
        colour.chromaticities = info.chrm_chunk.map(|c| {
            [c.white, c.red, c.green, c.blue]
                .map(|(x, y)| [x.into_scaled(), y.into_scaled()])
                .concat()
                .try_into()
                .unwrap_or_default()
        });
    }
    (colour != PngColour::default()).then_some(colour)
}

/// The chunks that suit an image of this colour: a background has two bytes for each channel.
pub(super) fn fitting_chunks(
    chunks: &[([u8; 4], Vec<u8>)],
    colour: Colour,
) -> Vec<([u8; 4], Vec<u8>)> {
    let channels = colour.without_alpha().channels();
    let fits =
        |(kind, content): &&([u8; 4], Vec<u8>)| kind != b"bKGD" || content.len() == 2 * channels;
    chunks.iter().filter(fits).cloned().collect()
}

/// The header for an encoder, without size and colour type. [`write`] writes the metadata that it
/// cannot hold.
pub(crate) fn info_of(metadata: &Metadata) -> Info<'_> {
    let whole = |v: f64| v.round().clamp(1.0, f64::from(i32::MAX)) as u32;
    let mut info = Info::default();
    info.icc_profile = metadata.icc_profile.as_deref().map(Cow::Borrowed);
    info.exif_metadata = metadata.exif.as_deref().map(Cow::Borrowed);
    info.pixel_dims = metadata.resolution.map(|resolution| {
        let (x, y, unit) = match resolution {
            Resolution::PerInch { x, y } => (x / METRES_PER_INCH, y / METRES_PER_INCH, Unit::Meter),
            Resolution::Ratio { x, y } if x.fract() == 0.0 && y.fract() == 0.0 => {
                (x, y, Unit::Unspecified)
            }
            // Fractions keep six digits.
            Resolution::Ratio { x, y } => {
                (x / x.max(y) * 1e6, y / x.max(y) * 1e6, Unit::Unspecified)
            }
        };
        PixelDimensions {
            xppu: whole(x),
            yppu: whole(y),
            unit,
        }
    });
    if let Some(colour) = &metadata.png_colour {
        info.srgb = colour.srgb_intent.and_then(|intent| match intent {
            0 => Some(SrgbRenderingIntent::Perceptual),
            1 => Some(SrgbRenderingIntent::RelativeColorimetric),
            2 => Some(SrgbRenderingIntent::Saturation),
            3 => Some(SrgbRenderingIntent::AbsoluteColorimetric),
            _ => None,
        });
        info.source_gamma = colour.gamma.map(ScaledFloat::from_scaled);
        info.source_chromaticities = colour.chromaticities.map(|c| {
            let at = |i: usize| {
                (
                    ScaledFloat::from_scaled(c[i]),
                    ScaledFloat::from_scaled(c[i + 1]),
                )
            };
            SourceChromaticities {
                white: at(0),
                red: at(2),
                green: at(4),
                blue: at(6),
            }
        });
    }
    info
}

/// Writes the metadata that [`info_of`] cannot hold, between the header and the pixels.
pub(crate) fn write<W: Write>(
    metadata: &Metadata,
    writer: &mut ::png::Writer<W>,
) -> Result<(), ::png::EncodingError> {
    use ::png::chunk::ChunkType;
    use ::png::text_metadata::{ITXtChunk, TEXtChunk};
    let mut write = |kind, content: &[u8]| writer.write_chunk(ChunkType(kind), content);
    if let Some(colour) = &metadata.png_colour {
        if let Some(points) = &colour.code_points {
            write(*b"cICP", points)?;
        }
        if let Some(display) = &colour.mastering_display {
            write(*b"mDCV", display)?;
        }
        if let Some(light) = &colour.content_light {
            write(*b"cLLI", light)?;
        }
    }
    for (kind, content) in &metadata.png_chunks {
        write(*kind, content)?;
    }
    if let Some(packet) = &metadata.xmp {
        let text = String::from_utf8_lossy(packet);
        writer.write_text_chunk(&ITXtChunk::new(XMP_KEYWORD, text))?;
    }
    for (keyword, text) in &metadata.texts {
        if text.chars().all(|c| u32::from(c) < 256) {
            writer.write_text_chunk(&TEXtChunk::new(keyword, text))?;
        } else {
            writer.write_text_chunk(&ITXtChunk::new(keyword, text))?;
        }
    }
    Ok(())
}
