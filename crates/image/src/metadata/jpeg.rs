//! Metadata in the segments of JPEG files.
//!
//! Source: ITU-T T.81, annex B; JFIF 1.02 (T.871); Exif 2.32, section 4.7; XMP part 3, section
//! 1.1.3; ICC.1:2022, annex B.4.

use std::collections::BTreeSet;

use image::codecs::jpeg::{PixelDensity, PixelDensityUnit};
use image::metadata::Orientation;

use super::{Metadata, Resolution, iptc};

pub(super) const EXIF_PREFIX: &[u8] = b"Exif\0\0";
pub(super) const XMP_PREFIX: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
const ICC_PREFIX: &[u8] = b"ICC_PROFILE\0";
const EXTENDED_XMP_PREFIX: &[u8] = b"http://ns.adobe.com/xmp/extension/\0";
pub(super) const PHOTOSHOP_PREFIX: &[u8] = b"Photoshop 3.0\0";

const JFIF_PREFIX: &[u8] = b"JFIF\0";
/// A thumbnail.
const JFIF_EXTENSION_PREFIX: &[u8] = b"JFXX\0";
const MULTI_PICTURE_PREFIX: &[u8] = b"MPF\0";
const GAIN_MAP_PREFIX: &[u8] = b"urn:iso:std:iso:ts:21496:-1\0";
const ADOBE_PREFIX: &[u8] = b"Adobe";

const APP0: u8 = 0xe0;
const APP1: u8 = 0xe1;
const APP2: u8 = 0xe2;
const APP13: u8 = 0xed;
const APP14: u8 = 0xee;
const APP11: u8 = 0xeb;
const COMMENT: u8 = 0xfe;

/// Most segments that are named as not copied.
const MAX_NAMED: usize = 8;

/// The segments before the pixels: marker, content without its length, and the offset of its end.
fn segments(jpeg: &[u8]) -> impl Iterator<Item = (u8, &[u8], usize)> {
    const START_OF_SCAN: u8 = 0xda;
    let mut at = 2;
    std::iter::from_fn(move || {
        let rest = jpeg.get(at..)?;
        let fill = rest.iter().position(|&byte| byte != 0xff)?;
        let marker = *rest.get(fill).filter(|_| fill > 0)?;
        let &[high, low] = rest.get(fill + 1..)?.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let content = rest.get(fill + 3..fill + 1 + length)?;
        at += fill + 1 + length;
        (marker != START_OF_SCAN).then_some((marker, content, at))
    })
}

/// Factor of the luma quantisation table against that of Annex K (ITU-T T.81): 1 for libjpeg's quality
/// 50. None if there is no such table.
pub(crate) fn table_scale(jpeg: &[u8]) -> Option<f64> {
    const DEFINE_TABLES: u8 = 0xdb;
    /// The sum of Annex K's steps of luma.
    const ANNEX_K_SUM: f64 = 3688.0;
    let tables = segments(jpeg).filter(|(marker, ..)| *marker == DEFINE_TABLES);
    let mut scale = None;
    for (_, mut content, _) in tables {
        // Precision and number, then 64 steps.
        while let Some((&kind, rest)) = content.split_first() {
            let bytes = if kind >> 4 == 0 { 1 } else { 2 };
            let Some((steps, rest)) = rest.split_at_checked(64 * bytes) else {
                return scale;
            };
            if kind & 15 == 0 {
                let steps = steps.chunks_exact(bytes);
                let step = |s: &[u8]| s.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
                scale = Some(f64::from(steps.map(step).sum::<u32>()) / ANNEX_K_SUM);
            }
            content = rest;
        }
    }
    scale
}

/// Reads the metadata.
pub(crate) fn read(jpeg: &[u8]) -> (Metadata, Orientation) {
    let mut metadata = Metadata::default();
    let mut orientation = Orientation::NoTransforms;
    let mut profile: Vec<(u8, u8, &[u8])> = Vec::new();
    let mut resources = Vec::new();
    let mut xmp = None;
    let mut has_extension = false;
    let mut unknown = BTreeSet::new();
    for (marker, content, _) in segments(jpeg) {
        let part = |prefix: &[u8]| content.strip_prefix(prefix);
        match marker {
            APP0 if metadata.resolution.is_none() => {
                metadata.resolution = part(JFIF_PREFIX).and_then(density);
            }
            APP1 if metadata.exif.is_none() && part(EXIF_PREFIX).is_some() => {
                orientation = metadata.set_exif(content.to_vec());
            }
            APP1 if xmp.is_none() && part(XMP_PREFIX).is_some() => xmp = part(XMP_PREFIX),
            APP1 => has_extension |= part(EXTENDED_XMP_PREFIX).is_some(),
            APP2 => {
                let numbered = part(ICC_PREFIX).and_then(|part| part.split_first_chunk());
                profile.extend(numbered.map(|(&[number, count], data)| (number, count, data)));
            }
            // A resource may continue in the next segment.
            APP13 if part(PHOTOSHOP_PREFIX).is_some() => {
                resources.extend_from_slice(part(PHOTOSHOP_PREFIX).unwrap_or_default());
            }
            COMMENT => metadata.jpeg_comments.push(content.to_vec()),
            _ => {}
        }
        let is_known = match marker {
            APP0 => content.starts_with(JFIF_PREFIX) || content.starts_with(JFIF_EXTENSION_PREFIX),
            APP1 => [EXIF_PREFIX, XMP_PREFIX, EXTENDED_XMP_PREFIX]
                .iter()
                .any(|p| content.starts_with(p)),
            // An index of further images and a gain map's version go with what they describe.
            APP2 => [ICC_PREFIX, MULTI_PICTURE_PREFIX, GAIN_MAP_PREFIX]
                .iter()
                .any(|p| content.starts_with(p)),
            APP13 => content.starts_with(PHOTOSHOP_PREFIX),
            APP14 => content.starts_with(ADOBE_PREFIX),
            _ => true,
        };
        if marker == APP11 && content.get(..2) == Some(b"JP") {
            unknown.insert("content credentials (JUMBF)".to_owned());
        } else if !is_known || matches!(marker, 0xe3..=0xec | 0xef) {
            let name: Vec<u8> = content
                .iter()
                .copied()
                .take(16)
                .take_while(u8::is_ascii_graphic)
                .collect();
            let name = String::from_utf8_lossy(&name);
            unknown.insert(format!("segment APP{} {name:?}", marker - APP0));
        }
    }
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.into_iter().take(MAX_NAMED).collect();
        metadata
            .dropped
            .push(format!("{} of JPEG: not copied", names.join(", ")));
    }
    if let Some(packet) = xmp {
        metadata.set_xmp(packet.to_vec());
    }
    profile.sort_by_key(|&(number, ..)| number);
    let is_whole = profile.iter().enumerate().all(|(i, &(number, count, _))| {
        usize::from(number) == i + 1 && usize::from(count) == profile.len()
    });
    if !is_whole {
        metadata
            .dropped
            .push("ICC profile: a part of it is missing".to_owned());
    } else if !profile.is_empty() {
        let parts: Vec<&[u8]> = profile.iter().map(|&(.., data)| data).collect();
        metadata.icc_profile = Some(parts.concat());
    }
    if has_extension {
        let why = "second part of XMP: packets over several segments are not read";
        metadata.dropped.push(why.to_owned());
    }
    metadata.iptc = iptc::of_resources(&resources);
    metadata.dropped.extend(iptc::dropped_resources(&resources));
    metadata.turned(orientation)
}

/// Whether three components are R G B instead of luma and chroma. By libjpeg's rules they are not if
/// there is a JFIF segment; else Adobe's segment decides, and without it the names of the components.
pub(crate) fn is_rgb(jpeg: &[u8]) -> bool {
    let mut of_adobe = None;
    let mut of_names = false;
    for (marker, content, _) in segments(jpeg) {
        match marker {
            APP0 if content.starts_with(JFIF_PREFIX) => return false,
            // Version and two flags, of 2 bytes each, then the transform.
            APP14 => {
                if let Some(transform) = content
                    .strip_prefix(ADOBE_PREFIX)
                    .and_then(|adobe| adobe.get(6))
                {
                    of_adobe = Some(*transform == 0);
                }
            }
            // Start of frame: precision, height, width, number of components, then three bytes each.
            0xc0..=0xc2 => {
                of_names = content
                    .get(6..15)
                    .is_some_and(|c| [c[0], c[3], c[6]] == *b"RGB");
            }
            _ => {}
        }
    }
    of_adobe.unwrap_or(of_names)
}

/// The density of a JFIF segment, without its name.
fn density(jfif: &[u8]) -> Option<Resolution> {
    let &[_, _, unit, x_high, x_low, y_high, y_low] = jfif.first_chunk()?;
    let x = f64::from(u16::from_be_bytes([x_high, x_low]));
    let y = f64::from(u16::from_be_bytes([y_high, y_low]));
    match unit {
        0 => Resolution::of(x, y, None),
        1 => Resolution::of(x, y, Some(1.0)),
        2 => Resolution::of(x, y, Some(2.54)),
        _ => None,
    }
}

/// The density for JFIF: whole numbers per inch or per centimetre, whichever is nearer.
pub(crate) fn density_of(resolution: Option<Resolution>) -> PixelDensity {
    let (unit, x, y) = match resolution {
        None => return PixelDensity::default(),
        // The ratio in the largest numbers that fit.
        Some(Resolution::Ratio { x, y }) => {
            let scale = if x.max(y) > 65_535.0 || x.fract() != 0.0 || y.fract() != 0.0 {
                65_535.0 / x.max(y)
            } else {
                1.0
            };
            (PixelDensityUnit::PixelAspectRatio, x * scale, y * scale)
        }
        Some(Resolution::PerInch { x, y }) => {
            let error = |v: f64| (v.round() - v).abs() / v;
            if error(x / 2.54) + error(y / 2.54) < error(x) + error(y) {
                (PixelDensityUnit::Centimeters, x / 2.54, y / 2.54)
            } else {
                (PixelDensityUnit::Inches, x, y)
            }
        }
    };
    let whole = |v: f64| v.round().clamp(1.0, 65_535.0) as u16;
    PixelDensity {
        density: (whole(x), whole(y)),
        unit,
    }
}

/// Inserts the blocks that the encoder does not support, XMP and IPTC, after its segments of metadata.
pub(crate) fn insert(jpeg: &mut Vec<u8>, metadata: &Metadata) {
    let mut added = Vec::new();
    let mut add = |marker, parts: [&[u8]; 2]| {
        let length = 2 + parts.iter().map(|part| part.len()).sum::<usize>();
        added.extend([0xff, marker]);
        added.extend((length as u16).to_be_bytes());
        parts.iter().for_each(|part| added.extend_from_slice(part));
    };
    if let Some(packet) = &metadata.xmp {
        add(APP1, [XMP_PREFIX, packet]);
    }
    if let Some(records) = &metadata.iptc {
        add(APP13, [PHOTOSHOP_PREFIX, &iptc::resource_of(records)]);
    }
    for comment in &metadata.jpeg_comments {
        add(COMMENT, [comment, &[]]);
    }
    let at = segments(jpeg)
        .take_while(|(marker, ..)| (APP0..=0xef).contains(marker))
        .map(|(_, _, end)| end)
        .last()
        .unwrap_or(2);
    jpeg.splice(at..at, added);
}
