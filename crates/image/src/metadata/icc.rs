//! The little of an ICC profile that this crate reads.

use crate::samples::Colour;

/// Whether the profile's header says that it describes another colour space than pixels of this
/// colour have: `GRAY` against `RGB ` (ICC.1:2022, section 7.2.6, bytes 16 to 19). A profile too
/// short to say contradicts nothing.
pub(super) fn contradicts(profile: &[u8], colour: Colour) -> bool {
    match profile.get(16..20) {
        Some(space) => space != if colour.is_grey() { b"GRAY" } else { b"RGB " },
        None => false,
    }
}
