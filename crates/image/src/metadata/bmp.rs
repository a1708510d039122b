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

/// Reads the resolution; `start` is the first 46 or more bytes of the file.
pub(crate) fn read(start: &[u8]) -> Metadata {
    let number = |at: usize| Some(u32::from_le_bytes(*start.get(at..)?.first_chunk()?));
    let read = || {
        number(HEADER_LENGTH_AT).filter(|&length| length >= WITH_RESOLUTION)?;
        let (x, y) = (f64::from(number(X_AT)?), f64::from(number(Y_AT)?));
        Resolution::of(x, y, Some(METRES_PER_INCH))
    };
    Metadata {
        resolution: read(),
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
