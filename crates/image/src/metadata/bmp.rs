//! The resolution in the header of BMP files.
//!
//! Source: `BITMAPINFOHEADER`, fields `biXPelsPerMeter` and `biYPelsPerMeter`.

use super::{Metadata, Resolution};

/// Bytes of the file from its start: the resolution is in pixels per metre.
const X_AT: usize = 38;
const Y_AT: usize = 42;
/// Length of the header behind the file's own 14 bytes; older ones have no resolution.
const HEADER_LENGTH_AT: usize = 14;
const WITH_RESOLUTION: u32 = 40;

const METRES_PER_INCH: f64 = 0.0254;

/// Kind of the colour space in headers that have one, and the kinds that stand for a profile in the file
/// (`MBED`) or in another (`LINK`).
const COLOUR_SPACE_AT: usize = 14 + 56;
const WITH_COLOUR_SPACE: u32 = 124;
const PROFILES: [u32; 2] = [0x4d42_4544, 0x4c49_4e4b];

/// Reads the resolution; `start` is the first 128 bytes of the file, or all.
pub(crate) fn read(start: &[u8]) -> Metadata {
    let number = |at: usize| Some(u32::from_le_bytes(*start.get(at..)?.first_chunk()?));
    let read = || {
        number(HEADER_LENGTH_AT).filter(|&length| length >= WITH_RESOLUTION)?;
        let (x, y) = (f64::from(number(X_AT)?), f64::from(number(Y_AT)?));
        Resolution::of(x, y, Some(METRES_PER_INCH))
    };
    let has_profile = number(HEADER_LENGTH_AT).is_some_and(|length| length >= WITH_COLOUR_SPACE)
        && number(COLOUR_SPACE_AT).is_some_and(|kind| PROFILES.contains(&kind));
    let profile = has_profile.then(|| "ICC profile: profiles of BMP are not read".to_owned());
    Metadata {
        resolution: read(),
        dropped: profile.into_iter().collect(),
        ..Metadata::default()
    }
}

/// Sets the resolution in a written file.
pub(crate) fn insert(file: &mut [u8], metadata: &Metadata) {
    if let Some(Resolution::PerInch { x, y }) = metadata.resolution {
        for (at, per_inch) in [(X_AT, x), (Y_AT, y)] {
            let per_metre = (per_inch / METRES_PER_INCH).round() as u32;
            file[at..at + 4].copy_from_slice(&per_metre.to_le_bytes());
        }
    }
}
