//! XMP packets: properties of an image as RDF in XML, edited without touching the rest.
//!
//! A property is an element or an attribute of one. Namespaces count, not prefixes.
//!
//! Source: ISO 16684-1 (XMP), sections 7 and 8; CIPA DC-010 (Exif in XMP).

use std::ops::ControlFlow;

use quick_xml::NsReader;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, QName, ResolveResult};

const TIFF: &str = "http://ns.adobe.com/tiff/1.0/";
const EXIF: &str = "http://ns.adobe.com/exif/1.0/";
const XMP: &str = "http://ns.adobe.com/xap/1.0/";
const XMP_NOTE: &str = "http://ns.adobe.com/xmp/note/";
const GEO: &str = "http://www.w3.org/2003/01/geo/wgs84_pos#";

/// What to do with a property.
enum Fate {
    Keep,
    Remove,
    Set(String),
}

/// The packet of an image after its orientation was applied. `None` if the packet is not XML, as for
/// the other functions here.
pub(super) fn upright(packet: &[u8]) -> Option<Vec<u8>> {
    edit(packet, &|namespace, name| match (namespace, name) {
        (TIFF, "Orientation") => Fate::Set("1".to_owned()),
        _ => Fate::Keep,
    })
}

/// The packet without thumbnails and areas in pixels.
pub(super) fn without_thumbnails(packet: &[u8]) -> Option<Vec<u8>> {
    edit(packet, &|namespace, name| match (namespace, name) {
        (XMP, "Thumbnails")
        | (EXIF, "SubjectArea" | "SubjectLocation")
        // The second part of a packet in a JPEG file, which is not read.
        | (XMP_NOTE, "HasExtendedXMP") => Fate::Remove,
        _ => Fate::Keep,
    })
}

/// The packet with its sizes replaced.
pub(super) fn with_size(packet: &[u8], width_px: usize, height_px: usize) -> Option<Vec<u8>> {
    edit(packet, &|namespace, name| match (namespace, name) {
        (TIFF, "ImageWidth") | (EXIF, "PixelXDimension") => Fate::Set(width_px.to_string()),
        (TIFF, "ImageLength") | (EXIF, "PixelYDimension") => Fate::Set(height_px.to_string()),
        _ => Fate::Keep,
    })
}

/// The packet without geographic coordinates: every property whose name begins with GPS, in any
/// case and namespace (cameras and drones have their own), and W3C's latitude and longitude.
pub(super) fn without_gps(packet: &[u8]) -> Option<Vec<u8>> {
    edit(packet, &|namespace, name| {
        let start = name.get(..3).unwrap_or_default();
        if start.eq_ignore_ascii_case("gps") || namespace == GEO {
            Fate::Remove
        } else {
            Fate::Keep
        }
    })
}

/// Copies the packet and applies `fate`, by namespace and name, to each property.
fn edit(packet: &[u8], fate: &dyn Fn(&str, &str) -> Fate) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(packet).ok()?;
    let mut reader = NsReader::from_str(text);
    let mut edited = String::with_capacity(text.len());
    loop {
        let start = reader.buffer_position() as usize;
        let event = reader.read_event().ok()?;
        let end = reader.buffer_position() as usize;
        let raw = &text[start..end];
        let (tag, is_empty) = match &event {
            Event::Eof => return Some(edited.into_bytes()),
            Event::Start(tag) => (tag, false),
            Event::Empty(tag) => (tag, true),
            _ => {
                edited.push_str(raw);
                continue;
            }
        };
        let (namespace, name) = reader.resolver().resolve_element(tag.name());
        let fate_of_element = fate(uri(&namespace), name.as_ref());
        match fate_of_element {
            Fate::Keep => edited.push_str(&edit_attributes(&reader, tag, raw, is_empty, fate)?),
            Fate::Remove if is_empty => {}
            Fate::Remove => {
                reader.read_to_end(tag.name()).ok()?;
            }
            Fate::Set(_) if is_empty => edited.push_str(raw),
            Fate::Set(value) => {
                reader.read_to_end(tag.name()).ok()?;
                let end = reader.buffer_position() as usize;
                let tag_end = text[..end].rfind('<')?;
                edited.push_str(raw);
                edited.push_str(&value);
                edited.push_str(&text[tag_end..end]);
            }
        }
    }
}

fn uri<'a>(namespace: &'a ResolveResult<'_>) -> &'a str {
    match namespace {
        ResolveResult::Bound(Namespace(uri)) => uri,
        _ => "",
    }
}

/// Copies the start tag `raw` and applies `fate` to its attributes.
fn edit_attributes(
    reader: &NsReader<&[u8]>,
    tag: &BytesStart<'_>,
    raw: &str,
    is_empty: bool,
    fate: &dyn Fn(&str, &str) -> Fate,
) -> Option<String> {
    let fate_of = |key: QName<'_>| {
        let (namespace, name) = reader.resolver().resolve_attribute(key);
        fate(uri(&namespace), name.as_ref())
    };
    let mut changed = false;
    let mut edited = format!("<{}", tag.name().as_ref());
    let attributes = tag.attributes().try_for_each(|attribute| {
        let Ok(attribute) = attribute else {
            return ControlFlow::Break(());
        };
        let value = match fate_of(attribute.key) {
            Fate::Keep => attribute.value.into_owned(),
            Fate::Remove => {
                changed = true;
                return ControlFlow::Continue(());
            }
            Fate::Set(value) => {
                changed = true;
                value
            }
        };
        // The value is as in the file, so it has at most the other kind of quotes.
        let quote = if value.contains('"') { '\'' } else { '"' };
        let key = attribute.key.as_ref();
        edited.push_str(&format!(" {key}={quote}{value}{quote}"));
        ControlFlow::Continue(())
    });
    if attributes.is_break() {
        return None;
    }
    if !changed {
        return Some(raw.to_owned());
    }
    edited.push_str(if is_empty { "/>" } else { ">" });
    Some(edited)
}
