//! Metadata in the tags of TIFF files.
//!
//! EXIF is TIFF: the main directory of a block becomes tags of the image, and pointers lead to its
//! other directories. Only tags that describe the image are copied, not those that say how it is
//! stored.
//!
//! Source: TIFF 6.0, sections 2 and 8; Exif 2.32, section 4.6; XMP part 3, section 3.2; ICC.1:2022,
//! annex B.3.

use std::collections::BTreeSet;
use std::io::{self, Read, Seek, Write};

use ::tiff::Directory;
use ::tiff::decoder::Decoder;
use ::tiff::tags::{ByteOrder, IfdPointer, Tag, Type, ValueBuffer};
use image::metadata::Orientation;

use super::exif::{self, Field, Fields};
use super::{GeoFields, Metadata, Resolution, geo, iptc};
use crate::band::Band;
use crate::tiff_file::{self, TiffFile, bytes_of_kind};

const XMP: u16 = 700;
const IPTC: u16 = 33_723;
const PHOTOSHOP: u16 = 34_377;

/// Tags that describe the image: name and description, camera, program, date, author, white point and
/// primaries, rating, and the titles that Windows writes.
const DESCRIPTIVE: [u16; 19] = [
    269, 270, 271, 272, 285, 305, 306, 315, 316, 318, 319, 0x4746, 0x4749, 0x8298, 0x9c9b, 0x9c9c,
    0x9c9d, 0x9c9e, 0x9c9f,
];

/// Most bytes of values that are copied; a value beyond them is dropped.
const MAX_VALUE_BYTES: u64 = 32 << 20;

/// Most tags that are named as not copied.
const MAX_NAMED: usize = 8;

/// Reads the metadata of the decoder's current image. The decoder's limits must allow values of the
/// length of a profile. `all_tags` are those of the image's directory. Returns the
/// number of images that ImageJ counts in the file, too: it may store them behind a single directory.
pub(crate) fn read<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    all_tags: &[u16],
) -> (Metadata, Orientation, usize) {
    let at = decoder.ifd_pointer();
    let Some(main) = at.and_then(|at| decoder.read_directory(at).ok()) else {
        return (Metadata::default(), Orientation::NoTransforms, 1);
    };
    let mut tags = Tags {
        decoder,
        bytes_left: MAX_VALUE_BYTES,
    };
    let mut metadata = Metadata::default();
    let mut value = |tag: u16| tags.block(&main, tag);
    metadata.icc_profile = value(Tag::IccProfile.to_u16());
    let xmp = value(XMP);
    let resources = value(PHOTOSHOP).unwrap_or_default();
    // If both are present, Photoshop's resources are the current ones.
    metadata.iptc = iptc::of_resources(&resources).or_else(|| iptc::of_tiff_field(value(IPTC)?));
    metadata.dropped.extend(iptc::dropped_resources(&resources));
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
    // The resolution is part of EXIF too, for formats that have no other place for it.
    let resolution: &[Tag] = match metadata.resolution {
        Some(Resolution::PerInch { .. }) => {
            &[Tag::XResolution, Tag::YResolution, Tag::ResolutionUnit]
        }
        _ => &[],
    };
    let copied = DESCRIPTIVE
        .into_iter()
        .chain(resolution.iter().map(Tag::to_u16));
    let fields = Fields {
        main: copied.filter_map(|tag| tags.field(&main, tag)).collect(),
        exif: tags.all(exif.as_ref()),
        gps: tags.all(gps.as_ref()),
        interoperability: tags.all(interoperability.as_ref()),
    };
    let description = fields
        .main
        .iter()
        .find(|field| field.tag == exif::IMAGE_DESCRIPTION);
    let images = description.and_then(|field| exif::images_of_imagej(&field.value));
    if let Some(block) = exif::block_of(&fields) {
        metadata.set_exif(block);
    }
    let geo = geo::TAGS
        .into_iter()
        .filter_map(|tag| tags.field(&main, tag));
    metadata.geo = GeoFields(geo.collect());
    metadata.band = tags.band(&main);
    metadata.dropped.extend(dropped_tags(all_tags));

    let orientation = tags
        .number(&main, Tag::Orientation)
        .and_then(|value| Orientation::from_exif(u8::try_from(value).ok()?))
        .unwrap_or(Orientation::NoTransforms);
    let (metadata, orientation) = metadata.turned(orientation);
    (metadata, orientation, images.unwrap_or(1))
}

/// Whether a tag is about how a file stores its image: size, compression, strips, tiles, place on the page,
/// number of the page, resolution, ink sets, tables of JPEG.
fn is_of_storage(tag: u16) -> bool {
    matches!(
        tag,
        254..=266 | 273..=284 | 286..=297 | 317 | 320..=330 | 332 | 334 | 338..=347 | 512..=532 | 34_675
            // Padding of Windows, and of GDAL's cloud-optimised files.
            | 59_932 | 65_534
    )
}

/// Names the tags that are not copied, unless they are about how the file stores the image.
fn dropped_tags(tags: &[u16]) -> Option<String> {
    let is_copied = |tag: u16| {
        DESCRIPTIVE.contains(&tag)
            || geo::TAGS.contains(&tag)
            || matches!(
                tag,
                XMP | IPTC | PHOTOSHOP | Band::TAG | exif::EXIF_DIRECTORY | exif::GPS_DIRECTORY
            )
    };
    let names: BTreeSet<String> = tags
        .iter()
        .filter(|&&tag| !is_copied(tag) && !is_of_storage(tag))
        .map(|tag| match tag {
            37_724 => "Photoshop layers".to_owned(),
            tag => format!("tag {tag}"),
        })
        .take(MAX_NAMED)
        .collect();
    let names = Vec::from_iter(names).join(", ");
    (!names.is_empty()).then(|| format!("{names} of TIFF: not copied"))
}

/// Reads values up to a limit of bytes in total: all entries may claim the same bytes of a file.
struct Tags<'a, R: Read + Seek> {
    decoder: &'a mut Decoder<R>,
    bytes_left: u64,
}

impl<R: Read + Seek> Tags<'_, R> {
    /// The bytes of an entry, as they are in the file.
    fn block(&mut self, directory: &Directory, tag: u16) -> Option<Vec<u8>> {
        let Field {
            kind, mut value, ..
        } = self.field(directory, tag)?;
        let is_big_endian = matches!(self.decoder.byte_order(), ByteOrder::BigEndian);
        exif::swap_to_native(kind, &mut value, is_big_endian);
        Some(value)
    }

    /// An entry of a directory, its value in this machine's byte order.
    fn field(&mut self, directory: &Directory, tag: u16) -> Option<Field> {
        let tag = Tag::from_u16_exhaustive(tag);
        let entry = directory.get(tag)?;
        let (size, _) = bytes_of_kind(entry.field_type().to_u16())?;
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

    /// The place of a band.
    fn band(&mut self, main: &Directory) -> Option<Band> {
        let text = self.field(main, Band::TAG)?.value;
        let text = String::from_utf8(text).ok()?;
        let height_px = self.number(main, Tag::ImageLength)?;
        Band::of_text(
            text.trim_end_matches('\0'),
            usize::try_from(height_px).ok()?,
        )
    }

    /// Every entry but pointers.
    fn all(&mut self, directory: Option<&Directory>) -> Vec<Field> {
        let tags = directory.iter().flat_map(|directory| {
            let tags = directory.iter().map(|(tag, _)| tag.to_u16());
            tags.map(move |tag| (*directory, tag))
        });
        tags.filter(|&(_, tag)| !exif::is_pointer(tag))
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

/// Offsets of the directories that the image's directory points to.
#[derive(Default)]
pub(crate) struct SubDirectories {
    exif: Option<u64>,
    gps: Option<u64>,
}

/// Writes the directories that the image's directory will point to.
pub(crate) fn write_sub_directories<W: Write>(
    metadata: &Metadata,
    file: &mut TiffFile<W>,
) -> io::Result<SubDirectories> {
    let fields = exif_fields(metadata);
    let mut write = |fields: &[Field], below: Option<u64>| -> io::Result<Option<u64>> {
        if fields.is_empty() && below.is_none() {
            return Ok(None);
        }
        let mut directory = file.start_directory()?;
        for field in fields {
            file.add(&mut directory, field.tag, field.kind, &field.value)?;
        }
        add_pointer(
            file,
            &mut directory,
            exif::INTEROPERABILITY_DIRECTORY,
            below,
        )?;
        file.write_directory(&directory).map(Some)
    };
    let interoperability = write(&fields.interoperability, None)?;
    Ok(SubDirectories {
        exif: write(&fields.exif, interoperability)?,
        gps: write(&fields.gps, None)?,
    })
}

/// Adds the metadata to the directory of the image.
pub(crate) fn write<W: Write>(
    metadata: &Metadata,
    sub_directories: &SubDirectories,
    file: &mut TiffFile<W>,
    directory: &mut tiff_file::Directory,
) -> io::Result<()> {
    for field in &exif_fields(metadata).main {
        let is_block =
            matches!(field.tag, XMP | IPTC | PHOTOSHOP) || geo::TAGS.contains(&field.tag);
        if DESCRIPTIVE.contains(&field.tag) || !is_of_storage(field.tag) && !is_block {
            file.add(directory, field.tag, field.kind, &field.value)?;
        }
    }
    add_pointer(file, directory, exif::EXIF_DIRECTORY, sub_directories.exif)?;
    add_pointer(file, directory, exif::GPS_DIRECTORY, sub_directories.gps)?;
    for (tag, kind, block) in [
        // ICC.1 asks for type UNDEFINED.
        (
            Tag::IccProfile.to_u16(),
            tiff_file::UNDEFINED,
            &metadata.icc_profile,
        ),
        (XMP, tiff_file::BYTE, &metadata.xmp),
        (IPTC, tiff_file::BYTE, &metadata.iptc),
    ] {
        if let Some(block) = block {
            file.add(directory, tag, kind, block)?;
        }
    }
    for field in &metadata.geo.0 {
        file.add(directory, field.tag, field.kind, &field.value)?;
    }
    if let Some(band) = &metadata.band {
        let text = format!("{}\0", band.to_text());
        file.add(directory, Band::TAG, tiff_file::ASCII, text.as_bytes())?;
    }
    if let Some(resolution) = metadata.resolution {
        let (x, y, unit) = match resolution {
            Resolution::Ratio { x, y } => (x, y, 1),
            Resolution::PerInch { x, y } => (x, y, 2),
        };
        for (tag, value) in [(Tag::XResolution, x), (Tag::YResolution, y)] {
            let rational = rational_of(value).map(u32::to_ne_bytes).concat();
            file.add(directory, tag.to_u16(), tiff_file::RATIONAL, &rational)?;
        }
        file.add_shorts(directory, Tag::ResolutionUnit.to_u16(), &[unit])?;
    }
    Ok(())
}

fn exif_fields(metadata: &Metadata) -> Fields {
    metadata
        .exif
        .as_deref()
        .map(exif::fields)
        .unwrap_or_default()
}

/// Numerator and denominator near a value: whole numbers exactly, others with the digits that fit.
fn rational_of(value: f64) -> [u32; 2] {
    let d = [1, 1_000, 1_000_000]
        .into_iter()
        .filter(|&d| value * f64::from(d) < f64::from(u32::MAX))
        .find(|&d| (value * f64::from(d)).fract().abs() < 1e-6 || d == 1_000_000)
        .unwrap_or(1);
    [(value * f64::from(d)).round() as u32, d]
}

fn add_pointer<W: Write>(
    file: &mut TiffFile<W>,
    directory: &mut tiff_file::Directory,
    tag: u16,
    offset: Option<u64>,
) -> io::Result<()> {
    match offset.map(u32::try_from) {
        None => Ok(()),
        Some(Ok(offset)) => file.add_long(directory, tag, offset),
        // Beyond 4 GiB, in a BigTIFF.
        Some(Err(_)) => file.add_offsets(directory, tag, &offset.map_or(vec![], |at| vec![at])),
    }
}
