//! EXIF blocks, edited in place.
//!
//! Values are changed and directories shortened in place, so that everything else in the block keeps
//! its offset: a camera maker's own note points into the block in undocumented ways. Nothing outside
//! the block is touched, whatever its offsets claim.
//!
//! Source: CIPA DC-008 (Exif 2.32), section 4.6; TIFF 6.0, section 2.

use std::collections::HashSet;
use std::ops::Range;

use image::metadata::Orientation;

use super::Resolution;
use crate::tiff_file::{LONG, RATIONAL, SHORT, bytes_of_kind};

const IMAGE_WIDTH: u16 = 0x0100;
pub(super) const IMAGE_DESCRIPTION: u16 = 0x010e;
const IMAGE_LENGTH: u16 = 0x0101;
const ORIENTATION: u16 = 0x0112;
const X_RESOLUTION: u16 = 0x011a;
const Y_RESOLUTION: u16 = 0x011b;
const RESOLUTION_UNIT: u16 = 0x0128;
const THUMBNAIL_OFFSET: u16 = 0x0201;
const THUMBNAIL_LENGTH: u16 = 0x0202;
/// Pointers to directories.
const SUB_DIRECTORIES: u16 = 0x014a;
pub(super) const EXIF_DIRECTORY: u16 = 0x8769;
pub(super) const GPS_DIRECTORY: u16 = 0x8825;
pub(super) const INTEROPERABILITY_DIRECTORY: u16 = 0xa005;
/// In the EXIF directory.
const SUBJECT_AREA: u16 = 0x9214;
const PIXEL_X_DIMENSION: u16 = 0xa002;
const PIXEL_Y_DIMENSION: u16 = 0xa003;
const SUBJECT_LOCATION: u16 = 0xa214;
/// In the interoperability directory.
const RELATED_IMAGE_WIDTH: u16 = 0x1001;
const RELATED_IMAGE_LENGTH: u16 = 0x1002;

/// The first number of a value of any integer type: some writers use other types than the standard (an
/// orientation as LONG or SLONG). `None` for a negative number.
pub(super) fn integer(kind: u16, value: &[u8], big_endian: bool) -> Option<u64> {
    let (length, is_signed) = match kind {
        1 | 7 => (1, false),
        6 => (1, true),
        SHORT => (2, false),
        8 => (2, true),
        LONG | 13 => (4, false),
        9 => (4, true),
        16 | 18 => (8, false),
        17 => (8, true),
        _ => return None,
    };
    let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    let bytes = value.get(..length)?;
    let number = if big_endian {
        bytes.iter().fold(0, fold)
    } else {
        bytes.iter().rev().fold(0, fold)
    };
    let is_negative = is_signed && number >> (length * 8 - 1) == 1;
    (!is_negative).then_some(number)
}

/// Most directories of a block that are searched, and most entries of all of them. Cameras write about
/// five directories of less than a hundred entries.
const MAX_DIRECTORIES: usize = 64;
const MAX_ENTRIES: usize = 20_000;

/// One entry of a directory.
#[derive(Clone, Copy)]
struct Entry {
    tag: u16,
    kind: u16,
    count: u32,
    /// Offset of its 12 bytes.
    at: usize,
}

/// A directory that is complete within the block.
struct Directory {
    entries: Vec<Entry>,
    /// Offset of its count.
    at: usize,
    /// Offset of the byte after the last entry, which starts the offset of the next directory.
    end: usize,
}

impl Directory {
    fn find(&self, tag: u16) -> Option<Entry> {
        self.entries.iter().copied().find(|entry| entry.tag == tag)
    }
}

/// A block and its byte order.
struct Block<'a> {
    bytes: &'a mut Vec<u8>,
    big_endian: bool,
    /// Bytes that may still be cleared. Values do not overlap, unless the block is made to cost time.
    clearable_bytes: usize,
}

impl<'a> Block<'a> {
    fn new(bytes: &'a mut Vec<u8>) -> Option<Self> {
        let big_endian = is_big_endian(bytes)?;
        let clearable_bytes = 4 * bytes.len();
        Some(Self {
            bytes,
            big_endian,
            clearable_bytes,
        })
    }

    fn view(&self) -> View<'_> {
        View {
            bytes: self.bytes,
            big_endian: self.big_endian,
        }
    }

    fn put_u16(&mut self, at: usize, value: u16) {
        let bytes = if self.big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.bytes[at..at + 2].copy_from_slice(&bytes);
    }

    fn put_u32(&mut self, at: usize, value: u32) {
        let bytes = if self.big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.bytes[at..at + 4].copy_from_slice(&bytes);
    }

    /// Sets an entry to one number.
    fn set(&mut self, entry: Entry, kind: u16, value: u32) {
        self.put_u16(entry.at + 2, kind);
        self.put_u32(entry.at + 4, 1);
        self.bytes[entry.at + 8..entry.at + 12].fill(0);
        if kind == SHORT {
            self.put_u16(entry.at + 8, value as u16);
        } else {
            self.put_u32(entry.at + 8, value);
        }
    }

    /// Removes an entry from its directory and clears its value.
    fn remove(&mut self, directory_at: usize, tag: u16) {
        let Some(directory) = self.view().directory(directory_at) else {
            return;
        };
        let Some(entry) = directory.find(tag) else {
            return;
        };
        self.clear_value(entry);
        // The offset of the next directory moves with the entries; some writers omit it.
        let end = (directory.end + 4).min(self.bytes.len());
        self.bytes.copy_within(entry.at + 12..end, entry.at);
        self.bytes[end - 12..end].fill(0);
        self.put_u16(directory_at, directory.entries.len() as u16 - 1);
    }

    /// Clears a value that lies outside its entry.
    fn clear_value(&mut self, entry: Entry) {
        if let Some(range) = self.view().value(entry)
            && range.start != entry.at + 8
        {
            self.clear_range(range);
        }
    }

    fn clear_range(&mut self, range: Range<usize>) {
        if let Some(left) = self.clearable_bytes.checked_sub(range.len()) {
            self.clearable_bytes = left;
            self.bytes[range].fill(0);
        }
    }

    /// Clears the directories that can be reached from an offset and are not in `kept`, and their values.
    fn clear_tree(&mut self, at: usize, kept: &[usize]) {
        let found = self.view().tree(at, kept);
        for at in found {
            let Some(directory) = self.view().directory(at) else {
                continue;
            };
            for &entry in &directory.entries {
                self.clear_value(entry);
            }
            let end = (directory.end + 4).min(self.bytes.len());
            self.clear_range(directory.at..end);
        }
    }
}

/// A read-only block.
#[derive(Clone, Copy)]
struct View<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl<'a> View<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let big_endian = is_big_endian(bytes)?;
        Some(Self { bytes, big_endian })
    }

    fn u16(self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        })
    }

    fn u32(self, at: usize) -> Option<u32> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    /// The directory at an offset, if all its entries are within the block.
    fn directory(self, at: usize) -> Option<Directory> {
        // The header has 8 bytes.
        let count = usize::from(self.u16(at).filter(|_| at >= 8)?);
        let end = at + 2 + count * 12;
        if end > self.bytes.len() {
            return None;
        }
        let entries = (0..count).map(|i| {
            let at = at + 2 + i * 12;
            Some(Entry {
                tag: self.u16(at)?,
                kind: self.u16(at + 2)?,
                count: self.u32(at + 4)?,
                at,
            })
        });
        Some(Directory {
            entries: entries.collect::<Option<_>>()?,
            at,
            end,
        })
    }

    fn main_directory(self) -> Option<Directory> {
        self.directory(self.u32(4)? as usize)
    }

    /// The offsets of a directory and of all that it leads to: by pointers and as successors. Those in
    /// `known` are not followed. A tree beyond the limits ends early.
    fn tree(self, at: usize, known: &[usize]) -> Vec<usize> {
        self.bounded_tree(at, known).0
    }

    /// [`tree`](Self::tree), and whether it is all of it.
    fn bounded_tree(self, at: usize, known: &[usize]) -> (Vec<usize>, bool) {
        let mut is_whole = true;
        let mut seen: HashSet<usize> = known.iter().copied().collect();
        let mut entries_left = MAX_ENTRIES;
        let mut found = Vec::new();
        let mut next = vec![at];
        while let Some(at) = next.pop() {
            let Some(directory) = self.directory(at).filter(|_| seen.insert(at)) else {
                continue;
            };
            if found.len() == MAX_DIRECTORIES || directory.entries.len() > entries_left {
                is_whole = false;
                break;
            }
            entries_left -= directory.entries.len();
            found.push(at);
            for &entry in directory.entries.iter().filter(|e| is_pointer(e.tag)) {
                is_whole &= entry.count as usize <= MAX_DIRECTORIES;
                next.extend(self.numbers(entry));
            }
            let successor = self.u32(directory.end).filter(|&at| at != 0);
            next.extend(successor.map(|at| at as usize));
        }
        (found, is_whole)
    }

    /// The numbers of an entry, up to [`MAX_DIRECTORIES`], if they are 32-bit or 16-bit integers.
    fn numbers(self, entry: Entry) -> Vec<usize> {
        let size = match entry.kind {
            SHORT => 2,
            LONG | 13 => 4,
            _ => return Vec::new(),
        };
        let value = self.value(entry).unwrap_or_default();
        let values = self.bytes[value].chunks_exact(size).take(MAX_DIRECTORIES);
        values
            .filter_map(|value| integer(entry.kind, value, self.big_endian))
            .map(|number| number as usize)
            .collect()
    }

    /// The directory that an entry of `parent` points to.
    fn sub_directory(self, parent: &Directory, tag: u16) -> Option<Directory> {
        self.directory(self.number(parent.find(tag)?)? as usize)
    }

    /// The range of an entry's value.
    fn value(self, entry: Entry) -> Option<Range<usize>> {
        let length = bytes_of_kind(entry.kind)?
            .0
            .checked_mul(entry.count as usize)?;
        let start = if length <= 4 {
            entry.at + 8
        } else {
            self.u32(entry.at + 8)? as usize
        };
        let end = start.checked_add(length)?;
        (end <= self.bytes.len()).then_some(start..end)
    }

    /// The first number of an entry, if it is a non-negative integer.
    fn number(self, entry: Entry) -> Option<u32> {
        let value = &self.bytes[self.value(entry)?];
        u32::try_from(integer(entry.kind, value, self.big_endian)?).ok()
    }

    fn rational(self, entry: Entry) -> Option<f64> {
        let at = self
            .value(entry)
            .filter(|_| entry.kind == RATIONAL && entry.count >= 1)?
            .start;
        Some(f64::from(self.u32(at)?) / f64::from(self.u32(at + 4)?))
    }
}

fn is_big_endian(bytes: &[u8]) -> Option<bool> {
    match bytes.first_chunk()? {
        b"II*\0" => Some(false),
        b"MM\0*" => Some(true),
        _ => None,
    }
}

/// Makes the block that of an upright image: sets the orientation to 1 and removes the thumbnail, which
/// is not upright. Returns the orientation that the block had (upright if none or an
/// unknown one), or `None` if the block has no directory.
pub(super) fn make_upright(bytes: &mut Vec<u8>) -> Option<Orientation> {
    let mut block = Block::new(bytes)?;
    let main = block.view().main_directory()?;
    let entry = main.find(ORIENTATION);
    let told = entry.and_then(|entry| {
        let value = block.view().number(entry)?;
        Orientation::from_exif(u8::try_from(value).ok()?)
    });
    // An unknown orientation is kept, as other programs may know it.
    if let Some(entry) = entry.filter(|_| told.is_some()) {
        block.set(entry, SHORT, 1);
    }
    remove_thumbnail(&mut block, &main);
    Some(told.unwrap_or(Orientation::NoTransforms))
}

/// Removes areas in pixels; returns whether there was one.
pub(super) fn remove_areas(bytes: &mut Vec<u8>) -> bool {
    let mut remove = || {
        let mut block = Block::new(bytes)?;
        let main = block.view().main_directory()?;
        let exif = block.view().sub_directory(&main, EXIF_DIRECTORY)?;
        let areas = [SUBJECT_AREA, SUBJECT_LOCATION];
        let found = areas.into_iter().filter(|tag| exif.find(*tag).is_some());
        let found: Vec<u16> = found.collect();
        found.iter().for_each(|tag| block.remove(exif.at, *tag));
        (!found.is_empty()).then_some(())
    };
    remove().is_some()
}

/// Adapts areas in pixels to an image of `factors` times the width and height: x and y of the middle, then
/// a diameter, or width and height. Returns `None` if one is not of 16-bit numbers, or would not fit them.
pub(super) fn scale_areas(bytes: &mut Vec<u8>, factors: [f64; 2]) -> Option<()> {
    let mut block = Block::new(bytes)?;
    let main = block.view().main_directory()?;
    let Some(exif) = block.view().sub_directory(&main, EXIF_DIRECTORY) else {
        return Some(());
    };
    let areas = [SUBJECT_AREA, SUBJECT_LOCATION];
    for entry in areas.into_iter().filter_map(|tag| exif.find(tag)) {
        let range = block.view().value(entry)?;
        if entry.kind != SHORT || entry.count > 4 {
            return None;
        }
        for (i, at) in range.step_by(2).enumerate() {
            let number = (f64::from(block.view().u16(at)?) * factors[i % 2]).round();
            if number > f64::from(u16::MAX) {
                return None;
            }
            block.put_u16(at, number as u16);
        }
    }
    Some(())
}

fn remove_thumbnail(block: &mut Block<'_>, main: &Directory) {
    let Some(next) = block.view().u32(main.end).filter(|&next| next != 0) else {
        return;
    };
    block.put_u32(main.end, 0);
    let view = block.view();
    let Some(directory) = view.directory(next as usize) else {
        return;
    };
    let number = |tag| directory.find(tag).and_then(|entry| view.number(entry));
    let range = number(THUMBNAIL_OFFSET)
        .zip(number(THUMBNAIL_LENGTH))
        .map(|(start, length)| start as usize..start as usize + length as usize)
        .filter(|range| range.start > main.end && range.end <= view.bytes.len());
    // What the main directory leads to is not the thumbnail's, whatever its directory says.
    let kept: Vec<usize> = view.tree(main.at, &[]);
    block.clear_tree(next as usize, &kept);
    if let Some(range) = range {
        block.clear_range(range.clone());
        // Most blocks end with it.
        if range.end == block.bytes.len() {
            block.bytes.truncate(range.start);
        }
    }
}

/// Replaces the sizes in the block.
pub(super) fn set_size(bytes: &mut Vec<u8>, width_px: usize, height_px: usize) {
    let Some(mut block) = Block::new(bytes) else {
        return;
    };
    let Some(main) = block.view().main_directory() else {
        return;
    };
    let view = block.view();
    let exif = view.sub_directory(&main, EXIF_DIRECTORY);
    let interoperability = exif
        .as_ref()
        .and_then(|exif| view.sub_directory(exif, INTEROPERABILITY_DIRECTORY));
    let (width, height) = (width_px as u32, height_px as u32);
    for (directory, width_tag, height_tag) in [
        (Some(main), IMAGE_WIDTH, IMAGE_LENGTH),
        (exif, PIXEL_X_DIMENSION, PIXEL_Y_DIMENSION),
        (interoperability, RELATED_IMAGE_WIDTH, RELATED_IMAGE_LENGTH),
    ] {
        for (tag, value) in [(width_tag, width), (height_tag, height)] {
            if let Some(entry) = directory.as_ref().and_then(|d| d.find(tag)) {
                block.set(entry, LONG, value);
            }
        }
    }
}

/// Removes all GPS directories, wherever a pointer to one is. Returns false if there are too many
/// directories to search all of them.
pub(super) fn strip_gps(bytes: &mut Vec<u8>) -> bool {
    let Some(mut block) = Block::new(bytes) else {
        return true;
    };
    let Some(main) = block.view().main_directory() else {
        return true;
    };
    let (directories, is_whole) = block.view().bounded_tree(main.at, &[]);
    for at in directories {
        let entry = |block: &Block<'_>| block.view().directory(at)?.find(GPS_DIRECTORY);
        while let Some(entry) = entry(&block) {
            for gps in block.view().numbers(entry) {
                block.clear_tree(gps, &[main.at, at]);
            }
            block.remove(at, GPS_DIRECTORY);
        }
    }
    is_whole
}

/// Removes the description if programs read it as the structure of the file, with sizes and numbers of
/// images. Returns the name of the program.
pub(super) fn remove_structure(bytes: &mut Vec<u8>) -> Option<&'static str> {
    let mut block = Block::new(bytes)?;
    let main = block.view().main_directory()?;
    let value = block.view().value(main.find(IMAGE_DESCRIPTION)?)?;
    let program = structure_in(&block.bytes[value])?;
    block.remove(main.at, IMAGE_DESCRIPTION);
    Some(program)
}

/// The program that writes such a description of the structure of its files.
pub(super) fn structure_in(description: &[u8]) -> Option<&'static str> {
    let start = &description[..description.len().min(1024)];
    let has = |text: &[u8]| start.windows(text.len()).any(|w| w == text);
    let text = start.trim_ascii_start();
    if text.starts_with(b"ImageJ=") {
        Some("ImageJ")
    } else if text.starts_with(b"{\"shape\"") {
        Some("tifffile")
    } else if has(b"<OME") {
        Some("OME")
    } else if text.starts_with(b"Aperio") {
        Some("Aperio")
    } else if text.starts_with(b"SI.") || text.starts_with(b"scanimage.") {
        Some("ScanImage")
    } else {
        None
    }
}

/// The number of images in ImageJ's description of a file.
pub(super) fn images_of_imagej(description: &[u8]) -> Option<usize> {
    let text = description.trim_ascii_start().strip_prefix(b"ImageJ=")?;
    let line = text
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(b"images="))?;
    std::str::from_utf8(line)
        .ok()?
        .trim_end_matches(['\0', '\r'])
        .parse()
        .ok()
}

/// The resolution in the main directory.
pub(super) fn resolution(bytes: &[u8]) -> Option<Resolution> {
    let view = View::new(bytes)?;
    let main = view.main_directory()?;
    let rational = |tag| view.rational(main.find(tag)?);
    let unit = main
        .find(RESOLUTION_UNIT)
        .and_then(|entry| view.number(entry));
    resolution_of(rational(X_RESOLUTION)?, rational(Y_RESOLUTION)?, unit)
}

/// The resolution by the units of TIFF and EXIF: 1 (none), 2 (inch, the default) and 3 (centimetre).
pub(super) fn resolution_of(x: f64, y: f64, unit: Option<u32>) -> Option<Resolution> {
    match unit {
        Some(1) => Resolution::of(x, y, None),
        Some(3) => Resolution::of(x, y, Some(2.54)),
        _ => Resolution::of(x, y, Some(1.0)),
    }
}

/// An entry outside of a block.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) tag: u16,
    /// TIFF field type.
    pub(super) kind: u16,
    /// The values in the byte order of this machine.
    pub(super) value: Vec<u8>,
}

/// The directories of a block, without the pointers between them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Fields {
    pub(super) main: Vec<Field>,
    pub(super) exif: Vec<Field>,
    pub(super) gps: Vec<Field>,
    pub(super) interoperability: Vec<Field>,
}

pub(super) fn is_pointer(tag: u16) -> bool {
    matches!(
        tag,
        SUB_DIRECTORIES | EXIF_DIRECTORY | GPS_DIRECTORY | INTEROPERABILITY_DIRECTORY
    )
}

/// Converts the numbers of a value from a byte order to the machine's, or back.
pub(super) fn swap_to_native(kind: u16, value: &mut [u8], big_endian: bool) {
    if let Some((_, number)) = bytes_of_kind(kind)
        && big_endian != cfg!(target_endian = "big")
    {
        value.chunks_exact_mut(number).for_each(<[u8]>::reverse);
    }
}

/// The fields of a block.
pub(super) fn fields(bytes: &[u8]) -> Fields {
    let read = || {
        let view = View::new(bytes)?;
        let main = view.main_directory()?;
        let exif = view.sub_directory(&main, EXIF_DIRECTORY);
        let gps = view.sub_directory(&main, GPS_DIRECTORY);
        let interoperability = exif
            .as_ref()
            .and_then(|exif| view.sub_directory(exif, INTEROPERABILITY_DIRECTORY));
        // Values do not overlap, unless the block is made to cost memory.
        let mut bytes_left = 2 * bytes.len();
        let mut fields = |directory: &Directory| {
            let field = |entry: &Entry| {
                let range = view.value(*entry)?;
                bytes_left = bytes_left.checked_sub(range.len())?;
                let mut value = bytes[range].to_vec();
                swap_to_native(entry.kind, &mut value, view.big_endian);
                Some(Field {
                    tag: entry.tag,
                    kind: entry.kind,
                    value,
                })
            };
            let kept = directory.entries.iter().filter(|e| !is_pointer(e.tag));
            kept.filter_map(field).collect()
        };
        Some(Fields {
            main: fields(&main),
            exif: exif.as_ref().map(&mut fields).unwrap_or_default(),
            gps: gps.as_ref().map(&mut fields).unwrap_or_default(),
            interoperability: interoperability
                .as_ref()
                .map(&mut fields)
                .unwrap_or_default(),
        })
    };
    read().unwrap_or_default()
}

/// A block of these fields; `None` if there is none.
pub(super) fn block_of(fields: &Fields) -> Option<Vec<u8>> {
    let Fields {
        main,
        exif,
        gps,
        interoperability,
    } = fields;
    if [main, exif, gps, interoperability]
        .iter()
        .all(|d| d.is_empty())
    {
        return None;
    }
    let mut block = if cfg!(target_endian = "big") {
        b"MM\0*".to_vec()
    } else {
        b"II*\0".to_vec()
    };
    block.extend([0; 4]);
    // Deepest first, so that each offset is known when it is needed.
    let pointer = |tag, at: u32| Field {
        tag,
        kind: LONG,
        value: at.to_ne_bytes().to_vec(),
    };
    let mut exif = exif.clone();
    if !interoperability.is_empty() {
        let at = append_directory(&mut block, interoperability.clone());
        exif.push(pointer(INTEROPERABILITY_DIRECTORY, at));
    }
    let mut main = main.clone();
    for (tag, directory) in [(EXIF_DIRECTORY, exif), (GPS_DIRECTORY, gps.clone())] {
        if !directory.is_empty() {
            let at = append_directory(&mut block, directory);
            main.push(pointer(tag, at));
        }
    }
    let at = append_directory(&mut block, main);
    block[4..8].copy_from_slice(&at.to_ne_bytes());
    Some(block)
}

/// Appends a directory and its values; returns its offset.
fn append_directory(block: &mut Vec<u8>, mut fields: Vec<Field>) -> u32 {
    fields.retain(|field| bytes_of_kind(field.kind).is_some());
    fields.sort_by_key(|field| field.tag);
    let mut table = (fields.len() as u16).to_ne_bytes().to_vec();
    for field in &fields {
        let size = bytes_of_kind(field.kind).map_or(1, |(size, _)| size);
        table.extend(field.tag.to_ne_bytes());
        table.extend(field.kind.to_ne_bytes());
        table.extend(((field.value.len() / size) as u32).to_ne_bytes());
        let mut in_place = [0; 4];
        if field.value.len() <= 4 {
            in_place[..field.value.len()].copy_from_slice(&field.value);
        } else {
            in_place = (block.len() as u32).to_ne_bytes();
            block.extend_from_slice(&field.value);
            // Directories and values begin at even offsets.
            block.resize(block.len().next_multiple_of(2), 0);
        }
        table.extend(in_place);
    }
    let at = block.len() as u32;
    block.extend(table);
    block.extend([0; 4]);
    at
}
