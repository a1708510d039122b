//! TIFF files, uncompressed, strip by strip.

use std::io::{self, Seek, Write};

use ::tiff::tags::Tag;

use crate::metadata::{self, Metadata};
use crate::samples::{Depth, Outline};
use crate::tiff_file::{Directory, RATIONAL, TiffFile};

/// Bytes of a strip, rounded up to whole rows.
const STRIP_BYTES: usize = 1_000_000;

/// A TIFF file, its metadata written.
pub(super) struct TiffWriter<W> {
    file: TiffFile<W>,
    directory: Directory,
    strip_bytes: usize,
    /// The strip that is not complete yet.
    strip: Vec<u8>,
    offsets: Vec<u64>,
    lengths: Vec<u64>,
    /// Of a pixel: bits and format of each sample.
    bits: Vec<u16>,
    sample_formats: Vec<u16>,
}

impl<W: Write + Seek> TiffWriter<W> {
    /// Starts a file with its first page. The samples of all pages take so many bytes.
    pub(super) fn new(
        destination: W,
        outline: &Outline,
        metadata: &Metadata,
        sample_bytes: u64,
    ) -> io::Result<Self> {
        let file = TiffFile::new(destination, needs_big_tiff(sample_bytes))?;
        Self::page(file, outline, metadata)
    }

    /// Ends the page and starts the next.
    pub(super) fn next_page(self, outline: &Outline, metadata: &Metadata) -> io::Result<Self> {
        Self::page(self.end_page()?, outline, metadata)
    }

    fn page(mut file: TiffFile<W>, outline: &Outline, metadata: &Metadata) -> io::Result<Self> {
        const UNCOMPRESSED: u16 = 1;
        const NO_PREDICTOR: u16 = 1;
        const NO_UNIT: u16 = 1;
        const UNASSOCIATED_ALPHA: u16 = 2;
        let sub_directories = metadata::tiff::write_sub_directories(metadata, &mut file)?;
        let mut directory = file.start_directory()?;
        let colour_channels = outline.colour.without_alpha().channels();
        let colour_row_bytes = outline.width_px * colour_channels * outline.depth.bytes();
        let rows_per_strip = STRIP_BYTES.div_ceil(colour_row_bytes);

        let longs = [
            (Tag::ImageWidth, outline.width_px as u32),
            (Tag::ImageLength, outline.height_px as u32),
            (Tag::RowsPerStrip, rows_per_strip as u32),
        ];
        for (tag, value) in longs {
            file.add_long(&mut directory, tag.to_u16(), value)?;
        }
        let is_rgb = !outline.colour.is_grey();
        // 1: black is zero; 2: RGB.
        let photometric = if is_rgb { 2 } else { 1 };
        let channels = outline.colour.channels();
        for (tag, value) in [
            (Tag::Compression, UNCOMPRESSED),
            (Tag::Predictor, NO_PREDICTOR),
            (Tag::PhotometricInterpretation, photometric),
            (Tag::SamplesPerPixel, channels as u16),
            (Tag::ResolutionUnit, NO_UNIT),
        ] {
            file.add_shorts(&mut directory, tag.to_u16(), &[value])?;
        }
        // Square pixels, unless the metadata tells the resolution.
        let one = [1_u32, 1].map(u32::to_ne_bytes).concat();
        for tag in [Tag::XResolution, Tag::YResolution] {
            file.add(&mut directory, tag.to_u16(), RATIONAL, &one)?;
        }
        if outline.colour.has_alpha() {
            let tag = Tag::ExtraSamples.to_u16();
            file.add_shorts(&mut directory, tag, &[UNASSOCIATED_ALPHA])?;
        }
        metadata::tiff::write(metadata, &sub_directories, &mut file, &mut directory)?;
        // 1: unsigned; 3: float.
        let sample_format = if outline.depth == Depth::F32 { 3 } else { 1 };
        Ok(Self {
            file,
            directory,
            strip_bytes: rows_per_strip * outline.row_bytes(),
            strip: Vec::new(),
            offsets: Vec::new(),
            lengths: Vec::new(),
            bits: vec![8 * outline.depth.bytes() as u16; channels],
            sample_formats: vec![sample_format; channels],
        })
    }

    /// Writes whole rows, in the machine's byte order.
    pub(super) fn write_rows(&mut self, mut rows: &[u8]) -> io::Result<()> {
        while !rows.is_empty() {
            if self.strip.is_empty() && rows.len() >= self.strip_bytes {
                let (strip, later) = rows.split_at(self.strip_bytes);
                self.write_strip(strip)?;
                rows = later;
                continue;
            }
            let missing = self.strip_bytes - self.strip.len();
            let (now, later) = rows.split_at(rows.len().min(missing));
            self.strip.extend_from_slice(now);
            rows = later;
            if self.strip.len() == self.strip_bytes {
                self.write_collected()?;
            }
        }
        Ok(())
    }

    fn write_collected(&mut self) -> io::Result<()> {
        let mut strip = std::mem::take(&mut self.strip);
        self.write_strip(&strip)?;
        strip.clear();
        self.strip = strip;
        Ok(())
    }

    fn write_strip(&mut self, strip: &[u8]) -> io::Result<()> {
        self.offsets.push(self.file.append(strip)?);
        self.lengths.push(strip.len() as u64);
        Ok(())
    }

    /// Writes the directory.
    fn end_page(mut self) -> io::Result<TiffFile<W>> {
        if !self.strip.is_empty() {
            self.write_collected()?;
        }
        let (file, directory) = (&mut self.file, &mut self.directory);
        file.add_shorts(directory, Tag::BitsPerSample.to_u16(), &self.bits)?;
        file.add_shorts(directory, Tag::SampleFormat.to_u16(), &self.sample_formats)?;
        file.add_offsets(directory, Tag::StripOffsets.to_u16(), &self.offsets)?;
        file.add_offsets(directory, Tag::StripByteCounts.to_u16(), &self.lengths)?;
        file.write_image_directory(directory)?;
        Ok(self.file)
    }

    /// Ends the page and the file.
    pub(super) fn finish(self) -> io::Result<W> {
        self.end_page().map(TiffFile::finish)
    }
}

/// Whether a TIFF file of so many bytes of samples needs the 64-bit offsets of BigTIFF. Metadata
/// and tables are not counted, and take far less than the reserve.
fn needs_big_tiff(sample_bytes: u64) -> bool {
    const RESERVE_BYTES: u64 = 512 << 20;
    sample_bytes > u64::from(u32::MAX) - RESERVE_BYTES
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::Path;

    use super::*;
    use crate::pixels::Image;
    use crate::reader::{Limits, decode_bytes};
    use crate::samples::{Colour, Samples};

    #[test]
    fn big_tiff_is_chosen_below_4_gib_and_can_be_read() {
        assert!(!needs_big_tiff(3_000_000_000));
        assert!(needs_big_tiff(4_000_000_000));
        assert!(needs_big_tiff(u64::MAX));
        let samples: Vec<u16> = (0..40 * 30 * 4).map(|i| i * 13).collect();
        let mut image = Image::new(40, 30, Colour::RgbAlpha, Samples::U16(samples.clone()));
        image.metadata.icc_profile = Some(b"0123456789abcdefRGB profile".to_vec());
        let outline = image.outline();
        let file = Cursor::new(Vec::new());
        let mut writer =
            TiffWriter::new(file, &outline, &image.metadata, u64::MAX).expect("a header");
        writer
            .write_rows(bytemuck::cast_slice(&samples))
            .expect("rows");
        let file = writer.finish().expect("an end").into_inner();
        assert_eq!(file[2], 43, "the number that marks BigTIFF");
        let read = decode_bytes(&file, Path::new("x"), &Limits::default()).expect("read");
        assert_eq!(read.samples, image.samples);
        assert_eq!(read.metadata.icc_profile, image.metadata.icc_profile);
    }
}
