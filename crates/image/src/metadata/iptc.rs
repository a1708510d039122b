//! IPTC-IIM records inside Photoshop's image resources.
//!
//! Other resources, among them a thumbnail, are Photoshop's own and are not copied.
//!
//! Source: Adobe Photoshop File Formats Specification, "Image Resource Blocks".

use std::collections::BTreeSet;

/// Most resources that are named as not copied.
const MAX_NAMED: usize = 8;

/// The number of the resource with the records.
const IPTC: u16 = 0x0404;
const SIGNATURE: &[u8] = b"8BIM";

/// Resources that are copied in another way (resolution, EXIF, XMP, profile), that are about the stored file
/// (thumbnails, checksum of the records, JPEG quality), or that only Photoshop uses while it edits (guides,
/// print settings, colour of warnings, number of the next layer, version and the like).
const COVERED: [u16; 33] = [
    1000, 1002, 1005, 1006, 1007, 1008, 1010, 1011, 1012, 1013, 1016, 1030, 1032, 1033, 1034, 1036,
    1037, 1039, 1041, 1044, 1045, 1049, 1050, 1054, 1057, 1058, 1059, 1060, 1061, 1062, 1082, 1083,
    10_000,
];

/// The resources in a sequence, up to the first that is damaged: number and content.
fn resources(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let after_signature = rest.strip_prefix(SIGNATURE)?;
        let id = u16::from_be_bytes(*after_signature.first_chunk()?);
        // The name with its length byte fills an even number of bytes.
        let name_length = usize::from(*after_signature.get(2)?);
        let after_name = after_signature.get(2 + (name_length + 1).next_multiple_of(2)..)?;
        let length = u32::from_be_bytes(*after_name.first_chunk()?) as usize;
        let content = after_name.get(4..)?.get(..length)?;
        rest = after_name
            .get(4 + length.next_multiple_of(2)..)
            .unwrap_or_default();
        Some((id, content))
    })
}

/// The records in a sequence of resources.
pub(super) fn of_resources(sequence: &[u8]) -> Option<Vec<u8>> {
    let (_, records) = resources(sequence).find(|(id, _)| *id == IPTC)?;
    (!records.is_empty()).then(|| records.to_vec())
}

/// Names the resources that are not copied.
pub(super) fn dropped_resources(sequence: &[u8]) -> Option<String> {
    let ids: BTreeSet<u16> = resources(sequence)
        .map(|(id, _)| id)
        .filter(|id| *id != IPTC && !COVERED.contains(id))
        .collect();
    let names: Vec<String> = ids.iter().take(MAX_NAMED).map(u16::to_string).collect();
    (!ids.is_empty()).then(|| {
        format!(
            "Photoshop resources {}: only Photoshop reads them",
            names.join(", ")
        )
    })
}

/// The records of a TIFF field. Most files have them as bytes or as 32-bit numbers that stand for four
/// bytes in the order of the file; some writers swapped the numbers.
pub(super) fn of_tiff_field(raw: Vec<u8>) -> Option<Vec<u8>> {
    const TAG_MARKER: u8 = 0x1c;
    let mut records = raw;
    if records.first() != Some(&TAG_MARKER) && records.get(3) == Some(&TAG_MARKER) {
        records
            .as_chunks_mut::<4>()
            .0
            .iter_mut()
            .for_each(|number| number.reverse());
    }
    (!records.is_empty()).then_some(records)
}

/// A resource with the records.
pub(super) fn resource_of(records: &[u8]) -> Vec<u8> {
    let mut resource = SIGNATURE.to_vec();
    resource.extend(IPTC.to_be_bytes());
    // No name.
    resource.extend([0, 0]);
    resource.extend((records.len() as u32).to_be_bytes());
    resource.extend_from_slice(records);
    resource.resize(resource.len().next_multiple_of(2), 0);
    resource
}
