//! The structure of TIFF files that are written: header, values and directories.
//!
//! Numbers are in the machine's byte order. A value that does not fit its entry is written where the
//! file ends at that moment.
//!
//! Source: TIFF 6.0, section 2; BigTIFF (<https://www.awaresystems.be/imaging/tiff/bigtiff.html>).

use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};

/// Types of fields.
pub(crate) const BYTE: u16 = 1;
pub(crate) const ASCII: u16 = 2;
pub(crate) const SHORT: u16 = 3;
pub(crate) const LONG: u16 = 4;
pub(crate) const RATIONAL: u16 = 5;
pub(crate) const UNDEFINED: u16 = 7;
pub(crate) const DOUBLE: u16 = 12;
const LONG8: u16 = 16;

/// Bytes of one value of a field type, and of each number in it; `None` for an unknown type.
pub(crate) fn bytes_of_kind(kind: u16) -> Option<(usize, usize)> {
    Some(match kind {
        1 | 2 | 6 | 7 => (1, 1),
        3 | 8 => (2, 2),
        4 | 9 | 11 | 13 => (4, 4),
        5 | 10 => (8, 4),
        12 | 16 | 17 | 18 => (8, 8),
        _ => return None,
    })
}

/// A TIFF file up to its last byte so far.
pub(crate) struct TiffFile<W> {
    writer: W,
    /// The length so far.
    length: u64,
    /// Where the offset of the next directory of an image belongs.
    next_at: u64,
    /// BigTIFF, with offsets of 64 bits.
    is_big: bool,
}

/// The entries of a directory that is not written yet: type, count, and value or offset by tag.
#[derive(Default)]
pub(crate) struct Directory(BTreeMap<u16, (u16, u64, [u8; 8])>);

impl<W: Write> TiffFile<W> {
    /// Writes the header.
    pub(crate) fn new(mut writer: W, is_big: bool) -> io::Result<Self> {
        let order = if cfg!(target_endian = "big") {
            b"MM"
        } else {
            b"II"
        };
        writer.write_all(order)?;
        let version: &[u16] = if is_big { &[43, 8, 0] } else { &[42] };
        for number in version {
            writer.write_all(&number.to_ne_bytes())?;
        }
        let mut file = Self {
            writer,
            length: if is_big { 8 } else { 4 },
            next_at: if is_big { 8 } else { 4 },
            is_big,
        };
        let first_directory = file.offset_bytes(0)?;
        file.append(&first_directory)?;
        Ok(file)
    }

    /// Starts a directory at a multiple of four bytes.
    pub(crate) fn start_directory(&mut self) -> io::Result<Directory> {
        let padding = self.length.next_multiple_of(4) - self.length;
        self.append(&[0; 3][..padding as usize])?;
        Ok(Directory::default())
    }

    /// Appends bytes and returns their offset.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let offset = self.length;
        self.writer.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(offset)
    }

    /// Adds an entry of a known type, its value in the machine's byte order. Entries of unknown types
    /// are skipped.
    pub(crate) fn add(
        &mut self,
        directory: &mut Directory,
        tag: u16,
        kind: u16,
        value: &[u8],
    ) -> io::Result<()> {
        let Some((size, _)) = bytes_of_kind(kind) else {
            return Ok(());
        };
        let mut in_entry = [0; 8];
        if value.len() <= self.offset_len() {
            in_entry[..value.len()].copy_from_slice(value);
        } else {
            // Values begin at even offsets.
            self.append(&[0][..(self.length % 2) as usize])?;
            let offset = self.append(value)?;
            in_entry[..self.offset_len()].copy_from_slice(&self.offset_bytes(offset)?);
        }
        let count = (value.len() / size) as u64;
        directory.0.insert(tag, (kind, count, in_entry));
        Ok(())
    }

    pub(crate) fn add_shorts(
        &mut self,
        directory: &mut Directory,
        tag: u16,
        values: &[u16],
    ) -> io::Result<()> {
        self.add(directory, tag, SHORT, bytemuck::cast_slice(values))
    }

    pub(crate) fn add_long(
        &mut self,
        directory: &mut Directory,
        tag: u16,
        value: u32,
    ) -> io::Result<()> {
        self.add(directory, tag, LONG, &value.to_ne_bytes())
    }

    /// Adds an entry of offsets or lengths.
    pub(crate) fn add_offsets(
        &mut self,
        directory: &mut Directory,
        tag: u16,
        values: &[u64],
    ) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(values.len() * self.offset_len());
        for &value in values {
            bytes.extend(self.offset_bytes(value)?);
        }
        let kind = if self.is_big { LONG8 } else { LONG };
        self.add(directory, tag, kind, &bytes)
    }

    /// Writes a directory that has no successor. Returns its offset.
    pub(crate) fn write_directory(&mut self, directory: &Directory) -> io::Result<u64> {
        let count = directory.0.len();
        let mut bytes = if self.is_big {
            (count as u64).to_ne_bytes().to_vec()
        } else {
            (count as u16).to_ne_bytes().to_vec()
        };
        for (tag, (kind, count, in_entry)) in &directory.0 {
            bytes.extend(tag.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(self.offset_bytes(*count)?);
            bytes.extend(&in_entry[..self.offset_len()]);
        }
        bytes.extend(self.offset_bytes(0)?);
        self.append(&bytes)
    }

    fn offset_len(&self) -> usize {
        if self.is_big { 8 } else { 4 }
    }

    fn offset_bytes(&self, offset: u64) -> io::Result<Vec<u8>> {
        if self.is_big {
            return Ok(offset.to_ne_bytes().to_vec());
        }
        let narrow = u32::try_from(offset).map_err(|_| {
            let reason = format!("offset {offset} does not fit a TIFF file of 32-bit offsets");
            io::Error::new(io::ErrorKind::FileTooLarge, reason)
        })?;
        Ok(narrow.to_ne_bytes().to_vec())
    }
}

impl<W: Write + Seek> TiffFile<W> {
    /// Writes the directory of an image, which follows those written so far.
    pub(crate) fn write_image_directory(&mut self, directory: &Directory) -> io::Result<()> {
        let at = self.write_directory(directory)?;
        let offset = self.offset_bytes(at)?;
        self.writer.seek(SeekFrom::Start(self.next_at))?;
        self.writer.write_all(&offset)?;
        self.writer.seek(SeekFrom::Start(self.length))?;
        self.next_at = self.length - self.offset_len() as u64;
        Ok(())
    }

    /// The writer at the file's end.
    pub(crate) fn finish(self) -> W {
        self.writer
    }
}
