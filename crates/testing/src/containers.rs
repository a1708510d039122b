//! Image files put together byte by byte: what no writer of the project makes.

/// A directory of a little-endian or big-endian TIFF file, with an uncompressed image of 8 bits.
#[derive(Clone, Debug, Default)]
pub struct TiffDirectory {
    /// Tag, type and value; numbers in the order of the file.
    pub fields: Vec<(u16, u16, Vec<u8>)>,
    /// The samples of its only strip.
    pub samples: Vec<u8>,
    /// Directories below it (SubIFDs).
    pub below: Vec<TiffDirectory>,
}

/// Types of TIFF fields.
pub const ASCII: u16 = 2;
/// 16-bit numbers.
pub const SHORT: u16 = 3;
/// 32-bit numbers.
pub const LONG: u16 = 4;
/// Floats of 64 bits.
pub const DOUBLE: u16 = 12;

/// A TIFF file under construction.
pub struct TiffBuilder {
    big_endian: bool,
    file: Vec<u8>,
}

impl TiffBuilder {
    /// An empty file.
    pub fn new(big_endian: bool) -> Self {
        let header: &[u8] = if big_endian {
            b"MM\0*\0\0\0\0"
        } else {
            b"II*\0\0\0\0\0"
        };
        Self {
            big_endian,
            file: header.to_vec(),
        }
    }

    /// 16-bit numbers in the order of the file.
    pub fn shorts(&self, numbers: &[u16]) -> Vec<u8> {
        let bytes = |v: &u16| {
            if self.big_endian {
                v.to_be_bytes()
            } else {
                v.to_le_bytes()
            }
        };
        numbers.iter().flat_map(bytes).collect()
    }

    /// 32-bit numbers in the order of the file.
    pub fn longs(&self, numbers: &[u32]) -> Vec<u8> {
        let bytes = |v: &u32| {
            if self.big_endian {
                v.to_be_bytes()
            } else {
                v.to_le_bytes()
            }
        };
        numbers.iter().flat_map(bytes).collect()
    }

    /// 64-bit floats in the order of the file.
    pub fn doubles(&self, numbers: &[f64]) -> Vec<u8> {
        let bytes = |v: &f64| {
            if self.big_endian {
                v.to_be_bytes()
            } else {
                v.to_le_bytes()
            }
        };
        numbers.iter().flat_map(bytes).collect()
    }

    /// A directory of a grey image.
    pub fn grey(&self, width_px: usize, height_px: usize, samples: Vec<u8>) -> TiffDirectory {
        assert_eq!(samples.len(), width_px * height_px, "samples");
        let sizes = [
            (256, width_px),
            (257, height_px),
            (278, height_px),
            (279, samples.len()),
        ];
        let sizes = sizes.map(|(tag, v)| (tag, LONG, self.longs(&[v as u32])));
        // 8 bits, uncompressed, black is zero, one sample.
        let kinds = [(258, 8), (259, 1), (262, 1), (277, 1)];
        let kinds = kinds.map(|(tag, v)| (tag, SHORT, self.shorts(&[v])));
        TiffDirectory {
            fields: sizes.into_iter().chain(kinds).collect(),
            samples,
            below: Vec::new(),
        }
    }

    /// The file of these directories, one after another.
    pub fn file(mut self, directories: &[TiffDirectory]) -> Vec<u8> {
        let mut link_at = 4;
        for directory in directories {
            let at = self.append(directory);
            let offset = self.longs(&[at]);
            self.file[link_at..link_at + 4].copy_from_slice(&offset);
            link_at = self.file.len() - 4;
        }
        self.file
    }

    /// Appends a directory without a successor; returns its offset.
    fn append(&mut self, directory: &TiffDirectory) -> u32 {
        let below: Vec<u32> = directory
            .below
            .iter()
            .map(|below| self.append(below))
            .collect();
        let mut fields = directory.fields.clone();
        if !below.is_empty() {
            fields.push((330, LONG, self.longs(&below)));
        }
        if !directory.samples.is_empty() {
            let at = self.file.len() as u32;
            self.file.extend(&directory.samples);
            fields.push((273, LONG, self.longs(&[at])));
        }
        fields.sort();
        let mut table = self.shorts(&[fields.len() as u16]);
        for (tag, kind, mut value) in fields {
            let size = match kind {
                SHORT => 2,
                LONG => 4,
                DOUBLE => 8,
                _ => 1,
            };
            let count = (value.len() / size) as u32;
            if value.len() > 4 {
                self.file.resize(self.file.len().next_multiple_of(2), 0);
                let at = self.file.len() as u32;
                self.file.append(&mut value);
                value = self.longs(&[at]);
            }
            value.resize(4, 0);
            table.extend(self.shorts(&[tag, kind]));
            table.extend(self.longs(&[count]));
            table.extend(value);
        }
        self.file.resize(self.file.len().next_multiple_of(2), 0);
        let at = self.file.len() as u32;
        self.file.extend(table);
        self.file.extend([0; 4]);
        at
    }
}

/// A JPEG file with further segments (marker and content) behind its start.
pub fn with_jpeg_segments(jpeg: &[u8], segments: &[(u8, &[u8])]) -> Vec<u8> {
    let mut file = jpeg[..2].to_vec();
    for (marker, content) in segments {
        file.extend([0xff, *marker]);
        file.extend((content.len() as u16 + 2).to_be_bytes());
        file.extend(*content);
    }
    file.extend(&jpeg[2..]);
    file
}

/// A PNG file with further chunks (type and content) behind its header.
pub fn with_png_chunks(png: &[u8], chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    const HEADER_END: usize = 8 + 25;
    let mut file = png[..HEADER_END].to_vec();
    for (kind, content) in chunks {
        file.extend((content.len() as u32).to_be_bytes());
        let from = file.len();
        file.extend(*kind);
        file.extend(*content);
        let checksum = crc32(&file[from..]);
        file.extend(checksum.to_be_bytes());
    }
    file.extend(&png[HEADER_END..]);
    file
}

/// The checksum of PNG chunks.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    })
}
