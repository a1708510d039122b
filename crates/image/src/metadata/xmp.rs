//! XMP packets: properties of an image as RDF in XML, edited without touching the rest.
//!
//! A property is an element or an attribute of one. Namespaces count, not prefixes.
//!
//! Source: ISO 16684-1 (XMP), sections 7 and 8; CIPA DC-010 (Exif in XMP).

use std::ops::ControlFlow;

use image::metadata::Orientation;
use quick_xml::NsReader;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, QName, ResolveResult};

const TIFF: &str = "http://ns.adobe.com/tiff/1.0/";
const EXIF: &str = "http://ns.adobe.com/exif/1.0/";
const XMP: &str = "http://ns.adobe.com/xap/1.0/";
const XMP_NOTE: &str = "http://ns.adobe.com/xmp/note/";
const GEO: &str = "http://www.w3.org/2003/01/geo/wgs84_pos#";

/// The panorama of an image: sizes and positions in pixels.
const PANORAMA: &str = "http://ns.google.com/photos/1.0/panorama/";
/// Regions, such as faces, and the size of the image that they were marked on.
const REGIONS: &str = "http://www.metadataworkinggroup.com/schemas/regions/";
const DIMENSIONS: &str = "http://ns.adobe.com/xap/1.0/sType/Dimensions#";
/// The area of a region: its middle and size, in parts of the stored width and height.
const AREA: &str = "http://ns.adobe.com/xmp/sType/Area#";
const MICROSOFT_REGIONS: &str = "http://ns.microsoft.com/photo/1.2/";
const IPTC_EXTENSION: &str = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/";
const CAMERA: &str = "http://ns.google.com/photos/1.0/camera/";
/// Of further images and data in the same file: gain maps, depth maps, other images, sound, and lists of
/// what a file contains.
const CONTAINED: [&str; 7] = [
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/depthmap/",
    "http://ns.google.com/photos/1.0/image/",
    "http://ns.google.com/photos/1.0/audio/",
    "http://ns.google.com/photos/dd/1.0/device/",
];

/// Longest packet that is read.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// Most elements within one another, and most namespaces that hold at a place: the time to resolve a name
/// grows with them.
const MAX_DEPTH: usize = 128;
const MAX_NAMESPACES: usize = 256;

/// What to do with a property.
enum Fate {
    Keep,
    Remove,
    Set(String),
    /// Multiplies a number.
    Times(f64),
    /// Renames a number that is turned, and takes it from 1 if `mirrored`.
    Turned {
        name: &'static str,
        mirrored: bool,
    },
}

/// A property: namespace, name, and whether it is within the size that regions were marked on.
struct Property<'a> {
    namespace: &'a str,
    name: &'a str,
    in_dimensions: bool,
}

/// The packet of an image after its orientation was applied. Regions of the Metadata Working Group turn with
/// the image if `turns_regions`; other regions are removed. `None` if the packet is not XML, as for the
/// other functions here.
pub(super) fn upright(
    packet: &[u8],
    orientation: Orientation,
    turns_regions: bool,
) -> Option<Vec<u8>> {
    use Orientation::*;
    let swaps = matches!(
        orientation,
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH
    );
    let mirrors_x = matches!(
        orientation,
        FlipHorizontal | Rotate180 | Rotate270 | Rotate270FlipH
    );
    let mirrors_y = matches!(
        orientation,
        FlipVertical | Rotate180 | Rotate90 | Rotate270FlipH
    );
    let turned = |name: [&'static str; 2], mirrored| Fate::Turned {
        name: name[usize::from(swaps)],
        mirrored,
    };
    edit(
        packet,
        Extras::Kept,
        &|property| match (property.namespace, property.name) {
            (TIFF, "Orientation") => Fate::Set("1".to_owned()),
            (EXIF, "SubjectArea" | "SubjectLocation") => Fate::Remove,
            (AREA, "x") if turns_regions => turned(["x", "y"], mirrors_x),
            (AREA, "y") if turns_regions => turned(["y", "x"], mirrors_y),
            (AREA, "w") if turns_regions => turned(["w", "h"], false),
            (AREA, "h") if turns_regions => turned(["h", "w"], false),
            (DIMENSIONS, "w") if turns_regions && property.in_dimensions => {
                turned(["w", "h"], false)
            }
            (DIMENSIONS, "h") if turns_regions && property.in_dimensions => {
                turned(["h", "w"], false)
            }
            (REGIONS, "Regions") if turns_regions => Fate::Keep,
            _ if is_region(property) => Fate::Remove,
            _ => Fate::Keep,
        },
    )
}

/// Regions of an image.
#[derive(Clone, Copy, Default)]
pub(super) struct Regions {
    /// Whether there are regions that [`upright`] can turn.
    pub(super) turn: bool,
    /// Whether there are others.
    pub(super) others: bool,
}

/// The regions of a packet. Those of the Metadata Working Group can be turned if they are in parts of the size
/// and not rotated themselves.
pub(super) fn regions(packet: &[u8]) -> Regions {
    let found = std::cell::Cell::new(Regions::default());
    let edited = edit(packet, Extras::Kept, &|property| {
        let mut regions = found.get();
        match (property.namespace, property.name) {
            (REGIONS, "Regions") => regions.turn = true,
            (REGIONS, "Rotation") => regions.others = true,
            _ => regions.others |= is_region(property),
        }
        found.set(regions);
        Fate::Keep
    });
    let has = |text: &[u8]| packet.windows(text.len()).any(|w| w == text);
    let mut regions = found.get();
    if edited.is_none() {
        return Regions::default();
    }
    if regions.turn && !has(b"normalized") {
        regions = Regions {
            turn: false,
            others: true,
        };
    }
    regions
}

/// Regions in parts of the stored width and height.
fn is_region(property: &Property<'_>) -> bool {
    matches!(
        (property.namespace, property.name),
        (REGIONS, "Regions") | (MICROSOFT_REGIONS, "RegionInfo") | (IPTC_EXTENSION, "ImageRegion")
    )
}

/// The packet of the pixels alone: without thumbnails, and what describes or announces
/// further images, videos and sounds in the file.
pub(super) fn of_pixels(packet: &[u8]) -> Option<Vec<u8>> {
    edit(
        packet,
        Extras::Kept,
        &|property| match (property.namespace, property.name) {
        (XMP, "Thumbnails")
        // The second part of a packet in a JPEG file, which is not read.
        | (XMP_NOTE, "HasExtendedXMP") => Fate::Remove,
        (CAMERA, name) if name.starts_with("MicroVideo") || name.starts_with("MotionPhoto") => {
            Fate::Remove
        }
        (namespace, _) if CONTAINED.iter().any(|start| namespace.starts_with(start)) => Fate::Remove,
        _ => Fate::Keep,
    },
    )
}

/// The packet with the sizes of the image replaced.
pub(super) fn with_size(packet: &[u8], width_px: usize, height_px: usize) -> Option<Vec<u8>> {
    edit(
        packet,
        Extras::Kept,
        &|property| match (property.namespace, property.name) {
            (TIFF, "ImageWidth") | (EXIF, "PixelXDimension") => Fate::Set(width_px.to_string()),
            (TIFF, "ImageLength") | (EXIF, "PixelYDimension") => Fate::Set(height_px.to_string()),
            _ => Fate::Keep,
        },
    )
}

/// The packet of an image of `factors` times the width and height: with other sizes and positions in
/// pixels.
///
/// Subject areas, which EXIF has too, are removed. Regions of IPTC are in pixels or in parts of the size.
pub(super) fn scaled(packet: &[u8], [x, y]: [f64; 2]) -> Option<Vec<u8>> {
    let has = |text: &[u8]| packet.windows(text.len()).any(|w| w == text);
    let are_regions_in_pixels = has(b"rbUnit") && has(b"pixel") && !has(b"relative");
    edit(
        packet,
        Extras::Kept,
        &|property| match (property.namespace, property.name) {
            (
                PANORAMA,
                "FullPanoWidthPixels"
                | "CroppedAreaImageWidthPixels"
                | "CroppedAreaLeftPixels"
                | "LargestValidInteriorRectLeft"
                | "LargestValidInteriorRectWidth",
            ) => Fate::Times(x),
            (
                PANORAMA,
                "FullPanoHeightPixels"
                | "CroppedAreaImageHeightPixels"
                | "CroppedAreaTopPixels"
                | "LargestValidInteriorRectTop"
                | "LargestValidInteriorRectHeight",
            ) => Fate::Times(y),
            (EXIF, "SubjectArea" | "SubjectLocation") => Fate::Remove,
            (IPTC_EXTENSION, "rbX" | "rbW" | "rbRx") if are_regions_in_pixels => Fate::Times(x),
            (IPTC_EXTENSION, "rbY" | "rbH") if are_regions_in_pixels => Fate::Times(y),
            (DIMENSIONS, "w") if property.in_dimensions => Fate::Times(x),
            (DIMENSIONS, "h") if property.in_dimensions => Fate::Times(y),
            _ => Fate::Keep,
        },
    )
}

/// The packet without geographic coordinates: every property whose name is of GPS, latitude, longitude or
/// altitude, in any case and namespace (cameras and drones have their own), and W3C's. A packet that defines
/// entities, which may hide them, is not edited.
pub(super) fn without_gps(packet: &[u8]) -> Option<Vec<u8>> {
    edit(packet, Extras::Removed, &|property| {
        let name = property.name.to_ascii_lowercase();
        // "Longtitude" is what drones write.
        let words = ["gps", "latitude", "longitude", "longtitude", "altitude"];
        if words.iter().any(|word| name.contains(word)) || property.namespace == GEO {
            Fate::Remove
        } else {
            Fate::Keep
        }
    })
}

/// What to do with comments and the like between properties.
#[derive(Clone, Copy, PartialEq)]
enum Extras {
    Kept,
    /// Comments and instructions to programs are removed; a document type, whose entities may stand for
    /// any property, is an error.
    Removed,
}

/// Copies the packet and applies `fate` to each property.
fn edit(packet: &[u8], extras: Extras, fate: &dyn Fn(&Property<'_>) -> Fate) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(packet).ok()?;
    let mut reader = NsReader::from_str(text);
    let mut edited = String::with_capacity(text.len());
    // Of each open element: the namespaces that hold in it, and whether it is within dimensions.
    let mut open: Vec<(usize, bool)> = Vec::new();
    loop {
        let start = reader.buffer_position() as usize;
        let event = reader.read_event().ok()?;
        let end = reader.buffer_position() as usize;
        let raw = &text[start..end];
        let (tag, is_empty) = match &event {
            Event::Eof => return Some(edited.into_bytes()),
            Event::Start(tag) => (tag, false),
            Event::Empty(tag) => (tag, true),
            Event::DocType(_) if extras == Extras::Removed => return None,
            Event::Comment(_) if extras == Extras::Removed => continue,
            Event::PI(instruction)
                if extras == Extras::Removed && !instruction.starts_with("xpacket") =>
            {
                continue;
            }
            event => {
                if matches!(event, Event::End(_)) {
                    open.pop();
                }
                edited.push_str(raw);
                continue;
            }
        };
        let (outer_namespaces, is_inner) = open.last().copied().unwrap_or((0, false));
        let namespaces = outer_namespaces + raw.matches("xmlns").count();
        if namespaces > MAX_NAMESPACES || open.len() > MAX_DEPTH {
            return None;
        }
        let (namespace, name) = reader.resolver().resolve_element(tag.name());
        let namespace = uri(&namespace);
        let in_dimensions =
            is_inner || (namespace, name.as_ref()) == (REGIONS, "AppliedToDimensions");
        let property = Property {
            namespace,
            name: name.as_ref(),
            in_dimensions,
        };
        let mut value = fate(&property);
        if !is_empty && matches!(value, Fate::Keep) {
            open.push((namespaces, in_dimensions));
        }
        if let Fate::Times(factor) = value {
            // The number is up to the end tag.
            let number = text[end..].split('<').next().unwrap_or_default();
            value = times(number, factor).map_or(Fate::Keep, Fate::Set);
            if !is_empty && matches!(value, Fate::Keep) {
                open.push((namespaces, in_dimensions));
            }
        }
        if let Fate::Turned { name, mirrored } = value {
            let text_of = text[end..].split('<').next().unwrap_or_default();
            // An empty element has no number, and another text is none.
            let number = turned(text_of, mirrored).filter(|_| !is_empty)?;
            reader.read_to_end(tag.name()).ok()?;
            let old = tag.name();
            let new = renamed(old.as_ref(), name);
            let rest = raw.get(1 + old.as_ref().len()..)?;
            edited.push_str(&format!("<{new}{rest}{number}</{new}>"));
            continue;
        }
        match value {
            Fate::Turned { .. } => unreachable!("written above"),
            Fate::Keep | Fate::Times(_) => {
                let fate = |namespace: &str, name: &str| {
                    fate(&Property {
                        namespace,
                        name,
                        in_dimensions,
                    })
                };
                edited.push_str(&edit_attributes(&reader, tag, raw, is_empty, &fate)?);
            }
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

/// A number times a factor, as a whole number if it was one. `None` if it is none.
fn times(number: &str, factor: f64) -> Option<String> {
    let number: f64 = number.trim().parse().ok().filter(|v: &f64| v.is_finite())?;
    let product = number * factor;
    Some(if number.fract() == 0.0 {
        format!("{:.0}", product.round())
    } else {
        product.to_string()
    })
}

/// A number in parts of a side, from the other end of it if `mirrored`. `None` if it is none.
fn turned(number: &str, mirrored: bool) -> Option<String> {
    if !mirrored {
        return Some(number.to_owned());
    }
    let number: f64 = number.trim().parse().ok().filter(|v: &f64| v.is_finite())?;
    // Without the noise of binary fractions.
    Some((((1.0 - number) * 1e9).round() / 1e9).to_string())
}

/// Another local name with the same prefix.
fn renamed(qualified: &str, name: &str) -> String {
    match qualified.split_once(':') {
        Some((prefix, _)) => format!("{prefix}:{name}"),
        None => name.to_owned(),
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
    // Comparing each name with all before it would take quadratic time.
    let mut attributes = tag.attributes();
    let attributes = attributes.with_checks(false).try_for_each(|attribute| {
        let Ok(attribute) = attribute else {
            return ControlFlow::Break(());
        };
        let mut key = attribute.key.as_ref().to_owned();
        let value = match fate_of(attribute.key) {
            Fate::Turned { name, mirrored } => {
                let Some(value) = turned(&attribute.value, mirrored) else {
                    return ControlFlow::Break(());
                };
                changed = true;
                key = renamed(&key, name);
                value
            }
            Fate::Keep => attribute.value.into_owned(),
            Fate::Remove => {
                changed = true;
                return ControlFlow::Continue(());
            }
            Fate::Set(value) => {
                changed = true;
                value
            }
            Fate::Times(factor) => match times(&attribute.value, factor) {
                Some(value) => {
                    changed = true;
                    value
                }
                None => attribute.value.into_owned(),
            },
        };
        // The value is as in the file, so it has at most the other kind of quotes.
        let quote = if value.contains('"') { '\'' } else { '"' };
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
