//! The one field of an ICC profile that must agree with the pixels: its colour space.
//!
//! Source: ICC.1:2022, table 17 (profile header): bytes 16..20 are the data colour space
//! signature.

use crate::picture::Colour;

/// Whether a profile can describe pixels of that colour: `GRAY` for grey, `RGB ` for colour. A
/// profile too short for a header or of another colour space (a CMYK profile, once the pixels
/// are converted) cannot.
pub(crate) fn describes(profile: &[u8], colour: Colour) -> bool {
    let signature: &[u8] = if colour.is_grey() { b"GRAY" } else { b"RGB " };
    profile.get(16..20) == Some(signature)
}
