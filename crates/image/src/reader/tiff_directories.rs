//! The directories of a TIFF file: which of them is the image, and what the others are.
//!
//! Camera raw files are TIFF files whose first directory is often a small preview, and a TIFF file may hold
//! pages, reduced copies and masks. The crate `tiff` follows the main chain only, and knows no kinds.
//!
//! Source: TIFF 6.0, section 2 and NewSubfileType; TIFF Technical Note 1 (SubIFDs); DNG 1.7.

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom};

const NEW_SUBFILE_TYPE: u16 = 254;
const OLD_SUBFILE_TYPE: u16 = 255;
const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const PHOTOMETRIC_INTERPRETATION: u16 = 262;
const SUB_DIRECTORIES: u16 = 330;
const STRIP_OFFSETS: u16 = 273;
const STRIP_LENGTHS: u16 = 279;
const TILE_OFFSETS: u16 = 324;
const TILE_LENGTHS: u16 = 325;
const DNG_VERSION: u16 = 50_706;

/// Most numbers of an entry that are read: strips, tiles or directories.
const MAX_NUMBERS: u64 = 1 << 20;

const SHORT: u16 = 3;
const PALETTE: u64 = 3;
const TRANSPARENCY_MASK: u64 = 4;
const COLOUR_FILTER_ARRAY: u64 = 32_803;
const LINEAR_RAW: u64 = 34_892;

/// Bits of NewSubfileType.
const REDUCED: u64 = 1;
const MASK: u64 = 4;

/// One directory.
pub(super) struct Directory {
    /// Offset in the file.
    pub(super) at: u64,
    pub(super) tags: Vec<u16>,
    kind: u64,
    photometric: Option<u64>,
    has_size: bool,
    is_dng: bool,
    /// The offset of the lower byte of the number that says that the image has a palette.
    pub(super) palette_at: Option<u64>,
}

impl Directory {
    fn is_raw(&self) -> bool {
        self.is_dng || matches!(self.photometric, Some(COLOUR_FILTER_ARRAY | LINEAR_RAW))
    }

    fn is_mask(&self) -> bool {
        self.kind & MASK != 0 || self.photometric == Some(TRANSPARENCY_MASK)
    }

    fn is_image(&self) -> bool {
        self.has_size && self.kind & REDUCED == 0 && !self.is_mask()
    }
}

/// The directories of a file, those of the main chain first.
pub(super) struct Directories {
    pub(super) list: Vec<Directory>,
    /// Where the header says which directory is the first, and in how many bytes.
    pub(super) first_at: u64,
    pub(super) offset_bytes: usize,
    pub(super) is_big_endian: bool,
    is_camera_raw: bool,
    /// TIFF files after the end of this one, as in a pipe of several images.
    pub(super) files_after: usize,
}

impl Directories {
    /// Reads all directories. `None` if the file has no header or no first directory, which the decoder
    /// reports.
    pub(super) fn read(
        stream: &mut (impl Read + Seek),
        file_bytes: u64,
    ) -> io::Result<Option<Self>> {
        let mut walk = Walk {
            stream,
            is_big_endian: false,
            is_big: false,
            // Directories do not overlap, so each byte is read once; a little is allowed.
            bytes_left: file_bytes.saturating_mul(2),
            file_bytes,
            seen: HashSet::new(),
            base: 0,
            end: 0,
        };
        let mut directories = walk.run()?;
        if let Some(directories) = &mut directories {
            directories.files_after = walk.count_files_after()?;
        }
        Ok(directories)
    }

    /// The number of pages: images of full size. A file without any has its first directory as its page.
    pub(super) fn pages(&self) -> usize {
        self.images().count().max(1)
    }

    /// The index of a page.
    ///
    /// # Panics
    ///
    /// If there is no such page.
    pub(super) fn at_page(&self, page: usize) -> usize {
        let pages = self.pages();
        assert!(page < pages, "page {page} of {pages}");
        self.images().nth(page).unwrap_or(0)
    }

    /// The indices of images of full size.
    fn images(&self) -> impl Iterator<Item = usize> {
        let list = self.list.iter().enumerate();
        list.filter_map(|(index, directory)| directory.is_image().then_some(index))
    }

    /// The number of masks.
    pub(super) fn masks(&self) -> usize {
        let masks = self.list.iter().filter(|directory| directory.is_mask());
        masks.count()
    }

    /// Whether the file is a camera's raw image.
    pub(super) fn is_camera_raw(&self) -> bool {
        self.is_camera_raw || self.list.iter().any(Directory::is_raw)
    }
}

/// Bytes of a number of a TIFF type.
fn bytes_of(kind: u16) -> u64 {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => 1,
    }
}

struct Walk<'a, R> {
    stream: &'a mut R,
    is_big_endian: bool,
    is_big: bool,
    bytes_left: u64,
    file_bytes: u64,
    seen: HashSet<u64>,
    /// Where the file starts that is read; other offsets count from it.
    base: u64,
    /// The end of what the directories refer to.
    end: u64,
}

impl<R: Read + Seek> Walk<'_, R> {
    fn number(&self, bytes: &[u8]) -> u64 {
        let digit = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
        if self.is_big_endian {
            bytes.iter().fold(0, digit)
        } else {
            bytes.iter().rev().fold(0, digit)
        }
    }

    fn run(&mut self) -> io::Result<Option<Directories>> {
        let Some(start) = self.bytes(0, 16)? else {
            return Ok(None);
        };
        (self.is_big_endian, self.is_big) = match start[..] {
            [b'I', b'I', 42, 0, ..] => (false, false),
            [b'M', b'M', 0, 42, ..] => (true, false),
            [b'I', b'I', 43, 0, ..] => (false, true),
            [b'M', b'M', 0, 43, ..] => (true, true),
            _ => return Ok(None),
        };
        let (first_at, offset_bytes) = if self.is_big { (8, 8) } else { (4, 4) };
        let Some(first) = start.get(first_at..first_at + offset_bytes) else {
            return Ok(None);
        };
        let mut next = self.number(first);
        // Canon's CR2 and Phase One's IIQ have a signature behind the header.
        let behind = start.get(8..12).unwrap_or_default();
        let is_signed =
            !self.is_big && next != 8 && matches!(behind, b"CR\x02\0" | b"IIII" | b"MMMM");
        let mut list = Vec::new();
        let mut below = Vec::new();
        while let Some((directory, mut sub_directories, after)) = self.directory(next)? {
            list.push(directory);
            below.append(&mut sub_directories);
            next = after;
        }
        while let Some(at) = below.pop() {
            if let Some((directory, mut sub_directories, _)) = self.directory(at)? {
                list.push(directory);
                below.append(&mut sub_directories);
            }
        }
        Ok((!list.is_empty()).then_some(Directories {
            list,
            first_at: first_at as u64,
            offset_bytes,
            is_big_endian: self.is_big_endian,
            is_camera_raw: is_signed,
            files_after: 0,
        }))
    }

    /// Counts the files that follow, each directly at the end of the one before or after a filling byte.
    fn count_files_after(&mut self) -> io::Result<usize> {
        let mut count = 0;
        loop {
            let end = self.base.saturating_add(self.end);
            let mut is_found = false;
            for base in [end, end.saturating_add(1)] {
                (self.base, self.end) = (base, 0);
                self.seen.clear();
                is_found = self.run()?.is_some();
                if is_found {
                    break;
                }
            }
            if !is_found {
                return Ok(count);
            }
            count += 1;
        }
    }

    /// The numbers of an entry; none if there are too many.
    fn numbers(&mut self, kind: u16, count: u64, value: &[u8]) -> io::Result<Vec<u64>> {
        let size = bytes_of(kind) as usize;
        let length = count.saturating_mul(size as u64);
        let bytes = if length <= value.len() as u64 {
            Some(value[..length as usize].to_vec())
        } else if count > MAX_NUMBERS {
            None
        } else {
            self.bytes(self.number(value), length)?
        };
        let bytes = bytes.unwrap_or_default();
        Ok(bytes
            .chunks_exact(size)
            .map(|bytes| self.number(bytes))
            .collect())
    }

    /// Reads bytes within the budget; `None` if the file or the budget ends before.
    fn bytes(&mut self, at: u64, count: u64) -> io::Result<Option<Vec<u8>>> {
        let at = self.base.saturating_add(at);
        let Some(left) = self.bytes_left.checked_sub(count) else {
            return Ok(None);
        };
        if at.saturating_add(count) > self.file_bytes {
            return Ok(None);
        }
        self.bytes_left = left;
        self.stream.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        self.stream.by_ref().take(count).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 == count).then_some(bytes))
    }

    /// The directory at an offset, the offsets of those below it, and the offset of the next.
    fn directory(&mut self, at: u64) -> io::Result<Option<(Directory, Vec<u64>, u64)>> {
        if at == 0 || !self.seen.insert(at) {
            return Ok(None);
        }
        let (count_bytes, entry_bytes, value_at) =
            if self.is_big { (8, 20, 12) } else { (2, 12, 8) };
        let Some(count) = self.bytes(at, count_bytes)? else {
            return Ok(None);
        };
        let count = self.number(&count);
        let offset_bytes = entry_bytes - value_at;
        let entries_at = at + count_bytes;
        let Some(length) = count.checked_mul(entry_bytes as u64) else {
            return Ok(None);
        };
        let Some(entries) = self.bytes(entries_at, length)? else {
            return Ok(None);
        };
        let mut directory = Directory {
            at,
            tags: Vec::new(),
            kind: 0,
            photometric: None,
            has_size: false,
            is_dng: false,
            palette_at: None,
        };
        let (mut has_width, mut has_height) = (false, false);
        let mut below = Vec::new();
        let (mut starts, mut lengths) = (Vec::new(), Vec::new());
        for (i, entry) in entries.chunks_exact(entry_bytes).enumerate() {
            let tag = self.number(&entry[..2]) as u16;
            let kind = self.number(&entry[2..4]) as u16;
            let count = self.number(&entry[4..value_at]);
            let value = &entry[value_at..];
            let value_bytes = count.saturating_mul(bytes_of(kind));
            if value_bytes > offset_bytes as u64 {
                self.end = (self.end).max(self.number(value).saturating_add(value_bytes));
            }
            let number = if kind == SHORT {
                self.number(&value[..2])
            } else {
                self.number(&value[..4])
            };
            directory.tags.push(tag);
            match tag {
                NEW_SUBFILE_TYPE => directory.kind = number,
                // 1: full size, 2: reduced, 3: a page.
                OLD_SUBFILE_TYPE if number == 2 => directory.kind |= REDUCED,
                IMAGE_WIDTH => has_width = true,
                IMAGE_LENGTH => has_height = true,
                PHOTOMETRIC_INTERPRETATION => {
                    directory.photometric = Some(number);
                    let entry_at = entries_at + (i * entry_bytes) as u64;
                    let lower_byte = value_at as u64 + u64::from(self.is_big_endian);
                    if kind == SHORT && number == PALETTE {
                        directory.palette_at = Some(entry_at + lower_byte);
                    }
                }
                DNG_VERSION => directory.is_dng = true,
                SUB_DIRECTORIES => {
                    below.append(&mut self.numbers(kind, count, value)?);
                }
                STRIP_OFFSETS | TILE_OFFSETS => starts = self.numbers(kind, count, value)?,
                STRIP_LENGTHS | TILE_LENGTHS => lengths = self.numbers(kind, count, value)?,
                _ => {}
            }
        }
        directory.has_size = has_width && has_height;
        for (start, length) in starts.iter().zip(&lengths) {
            self.end = self.end.max(start.saturating_add(*length));
        }
        let after_at = entries_at + length;
        self.end = self.end.max(after_at + offset_bytes as u64);
        let after = self.bytes(after_at, offset_bytes as u64)?;
        let after = after.map_or(0, |bytes| self.number(&bytes));
        Ok(Some((directory, below, after)))
    }
}
