//! IPTC-IIM records inside Photoshop's image resources.
//!
//! Other resources, among them a thumbnail, are Photoshop's own and are not copied.
//!
//! Source: Adobe Photoshop File Formats Specification, "Image Resource Blocks".

/// The number of the resource with the records.
const IPTC: u16 = 0x0404;
const SIGNATURE: &[u8] = b"8BIM";

/// The records in a sequence of resources.
pub(super) fn of_resources(mut resources: &[u8]) -> Option<Vec<u8>> {
    loop {
        let rest = resources.strip_prefix(SIGNATURE)?;
        let id = u16::from_be_bytes(*rest.first_chunk()?);
        // The name with its length byte fills an even number of bytes.
        let name_length = usize::from(*rest.get(2)?);
        let rest = rest.get(2 + (name_length + 1).next_multiple_of(2)..)?;
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let data = rest.get(4..)?.get(..length)?;
        if id == IPTC {
            return (!data.is_empty()).then(|| data.to_vec());
        }
        resources = rest.get(4 + length.next_multiple_of(2)..)?;
    }
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
