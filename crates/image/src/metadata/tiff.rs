//! Metadata in the tags of TIFF files.
//!
//! EXIF is TIFF: what a block has in its main directory stands among the tags of the image here,
//! and its other directories hang on pointers. Only tags that describe the image are carried;
//! those that say how it is stored belong to each file alone.
//!
//! Source: TIFF 6.0, sections 2 and 8; Exif 2.32, section 4.6; XMP part 3, section 3.2; ICC.1:2022,
//! annex B.3.

use std::io::{Read, Seek, Write};

use ::tiff::Directory;
use ::tiff::TiffResult;
use ::tiff::decoder::Decoder;
use ::tiff::decoder::ifd::Entry;
use ::tiff::encoder::{DirectoryEncoder, Rational, TiffEncoder, TiffKind};
use ::tiff::tags::{ByteOrder, IfdPointer, Tag, Type, ValueBuffer};
use image::metadata::Orientation;

use super::exif::{self, Field, Fields};
use super::{Metadata, Resolution, iptc};

const XMP: u16 = 700;
const IPTC: u16 = 33_723;
const PHOTOSHOP: u16 = 34_377;

/// Tags of the image's directory that describe it: name and description, camera, program, date,
/// author, rating, and the titles that Windows writes.
const DESCRIPTIVE: [u16; 17] = [
    269, 270, 271, 272, 285, 305, 306, 315, 316, 0x4746, 0x4749, 0x8298, 0x9c9b, 0x9c9c, 0x9c9d,
    0x9c9e, 0x9c9f,
];

/// Most bytes of values that are carried; a value beyond them is left out.
const MAX_VALUE_BYTES: u64 = 64 << 20;

/// Reads the metadata of the image at which the decoder stands. Its limits should allow values
/// of the length of a profile.
pub(crate) fn read<R: Read + Seek>(decoder: &mut Decoder<R>) -> (Metadata, Orientation) {
    let at = decoder.ifd_pointer();
    let Some(main) = at.and_then(|at| decoder.read_directory(at).ok()) else {
        return (Metadata::default(), Orientation::NoTransforms);
    };
    let mut tags = Tags {
        decoder,
        bytes_left: MAX_VALUE_BYTES,
    };
    let mut metadata = Metadata::default();
    let mut value = |tag: u16| tags.field(&main, tag).map(|field| field.value);
    metadata.icc_profile = value(Tag::IccProfile.to_u16());
    let xmp = value(XMP);
    // Photoshop's resources are kept up to date where both are there.
    metadata.iptc = value(PHOTOSHOP)
        .and_then(|resources| iptc::of_resources(&resources))
        .or_else(|| value(IPTC));
    if let Some(mut packet) = xmp {
        // Some writers end it as they end text.
        let end = packet
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |at| at + 1);
        packet.truncate(end);
        metadata.set_xmp(packet);
    }

    let unit = tags.number(&main, Tag::ResolutionUnit);
    metadata.resolution = tags
        .rational(&main, Tag::XResolution)
        .zip(tags.rational(&main, Tag::YResolution))
        .and_then(|(x, y)| exif::resolution_of(x, y, unit.map(|unit| unit as u32)));

    let exif = tags.directory(&main, exif::EXIF_DIRECTORY);
    let gps = tags.directory(&main, exif::GPS_DIRECTORY);
    let interoperability = exif
        .as_ref()
        .and_then(|exif| tags.directory(exif, exif::INTEROPERABILITY_DIRECTORY));
    // EXIF, too, tells the resolution in the main directory, for formats that have it nowhere else.
    let resolution: &[Tag] = match metadata.resolution {
        Some(Resolution::PerInch { .. }) => {
            &[Tag::XResolution, Tag::YResolution, Tag::ResolutionUnit]
        }
        _ => &[],
    };
    let carried = DESCRIPTIVE
        .into_iter()
        .chain(resolution.iter().map(Tag::to_u16));
    let fields = Fields {
        main: carried.filter_map(|tag| tags.field(&main, tag)).collect(),
        exif: tags.all(exif.as_ref()),
        gps: tags.all(gps.as_ref()),
        interoperability: tags.all(interoperability.as_ref()),
    };
    if let Some(block) = exif::block_of(&fields) {
        metadata.set_exif(block);
    }

    let orientation = tags
        .number(&main, Tag::Orientation)
        .and_then(|value| Orientation::from_exif(u8::try_from(value).ok()?))
        .unwrap_or(Orientation::NoTransforms);
    metadata.turned(orientation)
}

/// Reads values until they are too many bytes: entries may all claim the same bytes of a file.
struct Tags<'a, R: Read + Seek> {
    decoder: &'a mut Decoder<R>,
    bytes_left: u64,
}

impl<R: Read + Seek> Tags<'_, R> {
    /// An entry of a directory, its value in this machine's byte order.
    fn field(&mut self, directory: &Directory, tag: u16) -> Option<Field> {
        let tag = Tag::from_u16_exhaustive(tag);
        let entry = directory.get(tag)?;
        let (size, _) = exif::bytes_of_kind(entry.field_type().to_u16())?;
        let length = entry.count().checked_mul(size as u64)?;
        self.bytes_left = self.bytes_left.checked_sub(length)?;
        let mut value = ValueBuffer::empty(Type::BYTE);
        self.decoder
            .read_directory_tags(directory)
            .find_tag_buf(tag, &mut value)
            .ok()??;
        value.set_byte_order(ByteOrder::native());
        Some(Field {
            tag: tag.to_u16(),
            kind: value.data_type().to_u16(),
            value: value.as_bytes().to_vec(),
        })
    }

    /// Every entry but pointers.
    fn all(&mut self, directory: Option<&Directory>) -> Vec<Field> {
        let tags = directory.iter().flat_map(|directory| {
            let tags = directory.iter().map(|(tag, _)| tag.to_u16());
            tags.map(move |tag| (*directory, tag))
        });
        tags.filter(|&(_, tag)| tag != exif::INTEROPERABILITY_DIRECTORY)
            .filter_map(|(directory, tag)| self.field(directory, tag))
            .collect()
    }

    fn directory(&mut self, parent: &Directory, tag: u16) -> Option<Directory> {
        let at = self.number(parent, Tag::from_u16_exhaustive(tag))?;
        self.decoder.read_directory(IfdPointer(at)).ok()
    }

    fn number(&mut self, directory: &Directory, tag: Tag) -> Option<u64> {
        let Field { kind, value, .. } = self.field(directory, tag.to_u16())?;
        exif::integer(kind, &value, cfg!(target_endian = "big"))
    }

    fn rational(&mut self, directory: &Directory, tag: Tag) -> Option<f64> {
        let field = self.field(directory, tag.to_u16())?;
        let number = |at: usize| {
            let bytes = *field.value.get(at..)?.first_chunk()?;
            Some(f64::from(u32::from_ne_bytes(bytes)))
        };
        match field.kind {
            5 => Some(number(0)? / number(4)?),
            _ => None,
        }
    }
}

/// Where the directories lie that hang on the image's.
#[derive(Default)]
pub(crate) struct SubDirectories {
    exif: Option<u64>,
    gps: Option<u64>,
}

/// Writes the directories that hang on the image's, before the image's own is begun.
pub(crate) fn write_sub_directories<W: Write + Seek, K: TiffKind>(
    metadata: &Metadata,
    encoder: &mut TiffEncoder<W, K>,
) -> TiffResult<SubDirectories> {
    let fields = metadata
        .exif
        .as_deref()
        .map(exif::fields)
        .unwrap_or_default();
    let mut write = |fields: &[Field], below: Option<u64>| -> TiffResult<Option<u64>> {
        if fields.is_empty() && below.is_none() {
            return Ok(None);
        }
        let mut directory = encoder.extra_directory()?;
        for field in fields {
            write_field(&mut directory, field)?;
        }
        write_pointer(&mut directory, exif::INTEROPERABILITY_DIRECTORY, below)?;
        Ok(Some(directory.finish_with_offsets()?.pointer.0))
    };
    let interoperability = write(&fields.interoperability, None)?;
    Ok(SubDirectories {
        exif: write(&fields.exif, interoperability)?,
        gps: write(&fields.gps, None)?,
    })
}

/// Writes the metadata among the tags of the image.
pub(crate) fn write<W: Write + Seek, K: TiffKind>(
    metadata: &Metadata,
    sub_directories: &SubDirectories,
    directory: &mut DirectoryEncoder<'_, W, K>,
) -> TiffResult<()> {
    let fields = metadata
        .exif
        .as_deref()
        .map(exif::fields)
        .unwrap_or_default();
    for field in &fields.main {
        if DESCRIPTIVE.contains(&field.tag) {
            write_field(directory, field)?;
        }
    }
    write_pointer(directory, exif::EXIF_DIRECTORY, sub_directories.exif)?;
    write_pointer(directory, exif::GPS_DIRECTORY, sub_directories.gps)?;
    if let Some(profile) = &metadata.icc_profile {
        // ICC.1 asks for type UNDEFINED.
        write_bytes(directory, Tag::IccProfile, Type::UNDEFINED, profile)?;
    }
    if let Some(packet) = &metadata.xmp {
        write_bytes(directory, Tag::Unknown(XMP), Type::BYTE, packet)?;
    }
    if let Some(records) = &metadata.iptc {
        write_bytes(directory, Tag::Unknown(IPTC), Type::BYTE, records)?;
    }
    if let Some(resolution) = metadata.resolution {
        let (x, y, unit) = match resolution {
            Resolution::Ratio { x, y } => (x, y, 1_u16),
            Resolution::PerInch { x, y } => (x, y, 2),
        };
        directory.write_tag(Tag::XResolution, rational_of(x))?;
        directory.write_tag(Tag::YResolution, rational_of(y))?;
        directory.write_tag(Tag::ResolutionUnit, unit)?;
    }
    Ok(())
}

/// A fraction that is near: whole numbers as they are, others with the digits that fit.
fn rational_of(value: f64) -> Rational {
    let d = [1, 1_000, 1_000_000]
        .into_iter()
        .filter(|&d| value * f64::from(d) < f64::from(u32::MAX))
        .find(|&d| (value * f64::from(d)).fract().abs() < 1e-6 || d == 1_000_000)
        .unwrap_or(1);
    Rational {
        n: (value * f64::from(d)).round() as u32,
        d,
    }
}

fn write_pointer<W: Write + Seek, K: TiffKind>(
    directory: &mut DirectoryEncoder<'_, W, K>,
    tag: u16,
    at: Option<u64>,
) -> TiffResult<()> {
    let Some(at) = at else {
        return Ok(());
    };
    // A file above 4 GB has the wider offsets.
    match u32::try_from(at) {
        Ok(at) => directory.write_tag(Tag::Unknown(tag), at),
        Err(_) => directory.write_tag(Tag::Unknown(tag), at),
    }
}

fn write_field<W: Write + Seek, K: TiffKind>(
    directory: &mut DirectoryEncoder<'_, W, K>,
    field: &Field,
) -> TiffResult<()> {
    match Type::from_u16(field.kind) {
        Some(kind) => write_bytes(directory, Tag::Unknown(field.tag), kind, &field.value),
        None => Ok(()),
    }
}

/// Writes a value of any type, in this machine's byte order as all of the file.
fn write_bytes<W: Write + Seek, K: TiffKind>(
    directory: &mut DirectoryEncoder<'_, W, K>,
    tag: Tag,
    kind: Type,
    value: &[u8],
) -> TiffResult<()> {
    let entry: Entry = directory.write_entry_bytes(kind, value)?;
    let mut one = Directory::empty();
    one.extend([(tag, entry)]);
    directory.extend_from(&one);
    Ok(())
}
