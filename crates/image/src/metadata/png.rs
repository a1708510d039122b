//! Metadata in the chunks of PNG files.
//!
//! Source: PNG, third edition, section 11.3; "Raw profile type" is ImageMagick's older way to
//! store blocks as hexadecimal text.

use std::borrow::Cow;
use std::io::Write;

use ::png::{Info, PixelDimensions, ScaledFloat, SourceChromaticities, SrgbRenderingIntent, Unit};
use image::metadata::Orientation;

use super::{Metadata, PngColour, Resolution, iptc, jpeg};

const XMP_KEYWORD: &str = "XML:com.adobe.xmp";
const RAW_PROFILE: &str = "Raw profile type ";

/// Longest text of a chunk after decompression, and of all of them; longer ones are dropped.
pub(crate) const MAX_TEXT_BYTES: usize = 16 << 20;

const METRES_PER_INCH: f64 = 0.0254;

/// The metadata that the decoder has read. Chunks behind the pixels are included only after
/// [`Reader::finish`](::png::Reader::finish).
pub(crate) fn read(info: &Info<'_>) -> (Metadata, Orientation) {
    let mut metadata = Metadata {
        icc_profile: info.icc_profile.as_deref().map(<[u8]>::to_vec),
        png_colour: colour(info),
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
    let mut all_bytes = 0;
    for (keyword, text) in texts(info) {
        let Some(text) = text.filter(|text| {
            all_bytes += text.len();
            all_bytes <= MAX_TEXT_BYTES
        }) else {
            metadata.dropped.push(format!(
                "PNG text {keyword:?}: it is damaged, or texts are longer than {MAX_TEXT_BYTES} bytes"
            ));
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
            let what = format!("PNG text {keyword:?}: it is damaged");
            metadata.dropped.push(what);
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
    metadata.turned(orientation)
}

/// Keyword and text of every text chunk; no text if it is damaged or too long.
fn texts(info: &Info<'_>) -> Vec<(String, Option<String>)> {
    let plain = info.uncompressed_latin1_text.iter();
    let plain = plain.map(|chunk| (chunk.keyword.clone(), Some(chunk.text.clone())));
    let compressed = info.compressed_latin1_text.iter().map(|chunk| {
        let mut chunk = chunk.clone();
        let text = chunk.decompress_text_with_limit(MAX_TEXT_BYTES).ok();
        let text = text.and_then(|()| chunk.get_text().ok());
        (chunk.keyword, text)
    });
    let international = info.utf8_text.iter().map(|chunk| {
        let mut chunk = chunk.clone();
        let text = chunk.decompress_text_with_limit(MAX_TEXT_BYTES).ok();
        let text = text.and_then(|()| chunk.get_text().ok());
        (chunk.keyword, text)
    });
    plain.chain(compressed).chain(international).collect()
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

fn colour(info: &Info<'_>) -> Option<PngColour> {
    let points = info.coding_independent_code_points.map(|points| {
        [
            points.color_primaries,
            points.transfer_function,
            points.matrix_coefficients,
            u8::from(points.is_video_full_range_image),
        ]
    });
    let colour = PngColour {
        srgb_intent: info.srgb.map(|intent| intent as u8),
        gamma: info.gama_chunk.map(ScaledFloat::into_scaled),
        chromaticities: info.chrm_chunk.map(|c| {
            [c.white, c.red, c.green, c.blue]
                .map(|(x, y)| [x.into_scaled(), y.into_scaled()])
                .concat()
                .try_into()
                .unwrap_or_default()
        }),
        code_points: points,
    };
    // A profile outranks all of them but the code points, which a file with a profile does not have.
    (colour != PngColour::default() && info.icc_profile.is_none()).then_some(colour)
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
    use ::png::text_metadata::{ITXtChunk, TEXtChunk};
    if let Some(points) = metadata.png_colour.and_then(|colour| colour.code_points) {
        writer.write_chunk(::png::chunk::ChunkType(*b"cICP"), &points)?;
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
