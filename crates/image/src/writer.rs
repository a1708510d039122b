//! Writing image files.
//!
//! PNG and TIFF are written as rows arrive. The other formats collect the rows and are encoded when
//! the image is complete.

mod animation;
mod png;
mod tiff;

use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use image::codecs::{bmp, jpeg};
use image::{ExtendedColorType, ImageEncoder};
use wdsr_atomic_file::AtomicFile;

use crate::deadline::{Checked, Deadline, Stops};
use crate::error::{Error, one_line};
use crate::format::Format;
use crate::metadata::{self, Metadata};
use crate::pixels::Image;
use crate::samples::{Colour, Outline, RowSample, SamplesRef};

pub use animation::AnimationWriter;

/// How images are encoded. None of it changes the samples of a lossless format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Encoding {
    /// Quality of JPEG files on libjpeg's scale of 1 to 100; the chroma is not subsampled.
    pub jpeg_quality: u8,
    /// Compression of PNG files.
    pub png_compression: PngCompression,
}

impl Encoding {
    /// JPEG of quality 95, PNG with [`PngCompression::Fast`].
    pub const DEFAULT: Self = Self {
        jpeg_quality: 95,
        png_compression: PngCompression::Fast,
    };
}

impl Default for Encoding {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How hard PNG files are compressed: the levels of the `png` crate, fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PngCompression {
    /// Not at all.
    None,
    /// As fast as possible.
    Fastest,
    /// Fast, and close to zlib's default.
    Fast,
    /// As zlib's default.
    Balanced,
    /// Small: takes many times as long.
    High,
}

impl PngCompression {
    /// All, with their names in arguments.
    pub const NAMED: [(&'static str, Self); 5] = [
        ("none", Self::None),
        ("fastest", Self::Fastest),
        ("fast", Self::Fast),
        ("balanced", Self::Balanced),
        ("high", Self::High),
    ];

    fn level(self) -> ::png::Compression {
        match self {
            Self::None => ::png::Compression::NoCompression,
            Self::Fastest => ::png::Compression::Fastest,
            Self::Fast => ::png::Compression::Fast,
            Self::Balanced => ::png::Compression::Balanced,
            Self::High => ::png::Compression::High,
        }
    }
}

/// Bytes that are collected for a write to the destination.
const BUFFER_BYTES: usize = 1 << 18;

/// Bytes of samples between two looks at the clock: even the slowest compression takes only milliseconds for them.
const CHECKED_BYTES: usize = 1 << 14;

/// Writes one image to a file, to memory or to any other destination that can be written and sought.
///
/// PNG, WebP (lossless), TIFF (BigTIFF near 4 GiB) and BMP keep every sample; JPEG is written with
/// [`Encoding::jpeg_quality`], GIF with 256 colours. Where a format has no grey, grey is stored as RGB ([`Format::supports`]). Sizes in
/// the metadata become that of the image, and what the format cannot hold is dropped
/// ([`Metadata::lost_in`] names it).
///
/// The destination holds a whole file after [`finish`](Self::finish) or [`write_all`](Self::write_all)
/// only. Files should be written through an [`AtomicFile`].
///
/// # Examples
/// ```
/// use std::io::Cursor;
/// use std::path::Path;
/// use wdsr_image::{Colour, Depth, Format, Metadata, Outline, Writer};
///
/// let outline = Outline { width_px: 4, height_px: 2, colour: Colour::Grey, depth: Depth::U8 };
/// let (file, name) = (Cursor::new(Vec::new()), Path::new("grey.png"));
/// let mut writer = Writer::new(file, name, Format::Png, &outline, &Metadata::default())?;
/// writer.write_rows(&[0_u8, 50, 100, 150])?;
/// writer.write_rows(&[10_u8, 60, 110, 160])?;
/// let file = writer.finish()?;
/// assert!(file.into_inner().starts_with(b"\x89PNG"));
/// # Ok::<(), wdsr_image::Error>(())
/// ```
pub struct Writer<W: Write + Seek + 'static> {
    name: PathBuf,
    format: Format,
    outline: Outline,
    metadata: Metadata,
    encoding: Encoding,
    rows_left: usize,
    deadline: Deadline,
    encoder: Encoder<W>,
}

enum Encoder<W: Write + Seek + 'static> {
    Png(png::PngWriter<BufWriter<W>>),
    Tiff(tiff::TiffWriter<BufWriter<W>>),
    /// The other formats: the samples so far, in bytes.
    Whole {
        destination: W,
        samples: Vec<u8>,
    },
}

impl<W: Write + Seek + 'static> Writer<W> {
    /// Starts a file of `format`, whatever the suffix of `name` is. Errors name the file by `name`.
    ///
    /// # Errors
    ///
    /// If the format cannot hold such an image ([`Format::check`]), or the destination cannot be
    /// written.
    pub fn new(
        destination: W,
        name: &Path,
        format: Format,
        outline: &Outline,
        metadata: &Metadata,
    ) -> Result<Self, Error> {
        let encoding = Encoding::DEFAULT;
        let bytes = outline.sample_bytes();
        Self::with_pages(
            destination,
            name,
            format,
            outline,
            metadata,
            encoding,
            bytes,
        )
    }

    /// [`new`](Self::new) with a quality and compression of its own, and, where the format is TIFF, further pages
    /// by [`next_page`](Self::next_page). The samples of all pages take `all_bytes`, by which 32 or 64-bit offsets are
    /// chosen ([`Outline::sample_bytes`]).
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// If the quality is not within 1..=100.
    pub fn with_pages(
        destination: W,
        name: &Path,
        format: Format,
        outline: &Outline,
        metadata: &Metadata,
        encoding: Encoding,
        all_bytes: u64,
    ) -> Result<Self, Error> {
        let quality = encoding.jpeg_quality;
        assert!((1..=100).contains(&quality), "JPEG quality {quality}");
        format.check(outline, name)?;
        let size = (outline.width_px, outline.height_px);
        let metadata = metadata.fitted(format, size, outline.colour);
        let failed = |error| write_error(error, format, name);
        let buffered = |destination| BufWriter::with_capacity(BUFFER_BYTES, destination);
        let encoder = match format {
            Format::Png => {
                let writer = png::PngWriter::new(
                    buffered(destination),
                    outline,
                    &metadata,
                    encoding.png_compression.level(),
                    None,
                );
                Encoder::Png(writer.map_err(failed)?)
            }
            Format::Tiff => {
                let file = buffered(destination);
                let writer = tiff::TiffWriter::new(file, outline, &metadata, all_bytes);
                Encoder::Tiff(writer.map_err(|error| failed(error.into()))?)
            }
            _ => Encoder::Whole {
                destination,
                samples: Vec::new(),
            },
        };
        Ok(Self {
            name: name.to_owned(),
            format,
            outline: *outline,
            metadata,
            encoding,
            rows_left: outline.height_px,
            deadline: Deadline::default(),
            encoder,
        })
    }

    /// Sets when writing ends; never by default. The compressed bytes of a PNG that is written at once then
    /// are those of one that is written row by row.
    #[must_use]
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = deadline;
        self
    }

    /// Writes the next whole rows.
    ///
    /// # Errors
    ///
    /// If the destination cannot be written.
    ///
    /// # Panics
    ///
    /// If the samples have another depth than the image, or `rows` are not whole rows or more than are
    /// left.
    pub fn write_rows<T: RowSample>(&mut self, rows: &[T]) -> Result<(), Error> {
        self.count_rows(T::DEPTH, rows.len());
        self.write_bytes(bytemuck::cast_slice(rows))
    }

    fn write_bytes(&mut self, rows: &[u8]) -> Result<(), Error> {
        let piece_bytes = if self.deadline.is_set() {
            CHECKED_BYTES
        } else {
            usize::MAX
        };
        let mut pieces = rows.chunks(piece_bytes);
        let written = pieces.try_for_each(|piece| {
            self.deadline.check()?;
            match &mut self.encoder {
                Encoder::Png(writer) => writer.write_rows(piece)?,
                Encoder::Tiff(writer) => writer.write_rows(piece)?,
                Encoder::Whole { samples, .. } => samples.extend_from_slice(piece),
            }
            Ok(())
        });
        let written = written.map_err(|error| write_error(error, self.format, &self.name));
        self.deadline.explained(written, &self.name)
    }

    /// Writes all rows and finishes the file, and returns the destination.
    ///
    /// # Errors
    ///
    /// If the destination cannot be written.
    ///
    /// # Panics
    ///
    /// If rows were written before, or the samples are not those of the whole image.
    pub fn write_all(mut self, samples: SamplesRef<'_>) -> Result<W, Error> {
        self.count_rows(samples.depth(), samples.len());
        assert_eq!(self.rows_left, 0, "rows left of the image");
        let samples = samples.as_bytes();
        if self.deadline.is_set() && self.format.streams_rows() {
            self.write_bytes(samples)?;
            return self.finish();
        }
        let (name, format) = (self.name, self.format);
        let written = match self.encoder {
            Encoder::Png(writer) => writer.write_all(samples).and_then(unbuffered),
            Encoder::Tiff(mut writer) => writer
                .write_rows(samples)
                .and_then(|()| writer.finish())
                .map_err(Into::into)
                .and_then(unbuffered),
            Encoder::Whole { destination, .. } => {
                let (outline, metadata) = (&self.outline, &self.metadata);
                encode_whole(
                    destination,
                    format,
                    outline,
                    metadata,
                    samples,
                    self.encoding.jpeg_quality,
                    &self.deadline,
                )
            }
        };
        let written = written.map_err(|error| write_error(error, format, &name));
        self.deadline.explained(written, &name)
    }

    /// Writes all rows and ends the page, but not the file, if the format is TIFF; see [`next_page`](Self::next_page).
    ///
    /// # Errors
    ///
    /// If the destination cannot be written.
    ///
    /// # Panics
    ///
    /// If rows were written before, or the samples are not those of the whole image.
    pub fn write_page(&mut self, samples: SamplesRef<'_>) -> Result<(), Error> {
        self.count_rows(samples.depth(), samples.len());
        assert_eq!(self.rows_left, 0, "rows left of the image");
        self.write_bytes(samples.as_bytes())
    }

    /// Starts the next page of a TIFF file after the last row of a page.
    ///
    /// # Errors
    ///
    /// If the destination cannot be written.
    ///
    /// # Panics
    ///
    /// If rows are missing, or the format is not TIFF.
    pub fn next_page(self, outline: &Outline, metadata: &Metadata) -> Result<Self, Error> {
        assert_eq!(self.rows_left, 0, "rows left of the page");
        let (name, format) = (self.name, self.format);
        let Encoder::Tiff(writer) = self.encoder else {
            panic!("a further page in {format}");
        };
        format.check(outline, &name)?;
        let size = (outline.width_px, outline.height_px);
        let metadata = metadata.fitted(format, size, outline.colour);
        let writer = writer.next_page(outline, &metadata);
        let writer = writer.map_err(|error| write_error(error.into(), format, &name));
        Ok(Self {
            encoder: Encoder::Tiff(self.deadline.explained(writer, &name)?),
            name,
            format,
            outline: *outline,
            metadata,
            rows_left: outline.height_px,
            ..self
        })
    }

    /// Finishes the file after its last row, and returns the destination.
    ///
    /// # Errors
    ///
    /// If the destination cannot be written.
    ///
    /// # Panics
    ///
    /// If rows are missing.
    pub fn finish(self) -> Result<W, Error> {
        assert_eq!(self.rows_left, 0, "rows left of the image");
        let (name, format) = (self.name, self.format);
        let written = match self.encoder {
            Encoder::Png(writer) => writer.finish().and_then(unbuffered),
            Encoder::Tiff(writer) => writer.finish().map_err(Into::into).and_then(unbuffered),
            Encoder::Whole {
                destination,
                samples,
            } => {
                let (outline, metadata) = (&self.outline, &self.metadata);
                encode_whole(
                    destination,
                    format,
                    outline,
                    metadata,
                    &samples,
                    self.encoding.jpeg_quality,
                    &self.deadline,
                )
            }
        };
        let written = written.map_err(|error| write_error(error, format, &name));
        self.deadline.explained(written, &name)
    }

    fn count_rows(&mut self, depth: crate::samples::Depth, samples: usize) {
        assert_eq!(
            depth, self.outline.depth,
            "depth of the rows and of the image"
        );
        let row_len = self.outline.row_len();
        let rows = samples / row_len;
        assert!(
            samples == rows * row_len && rows <= self.rows_left,
            "{samples} samples, {} rows of {row_len} left",
            self.rows_left
        );
        self.rows_left -= rows;
    }
}

impl Format {
    /// Whether [`Writer::write_rows`] writes rows as they arrive instead of collecting them.
    pub fn streams_rows(self) -> bool {
        matches!(self, Self::Png | Self::Tiff)
    }

    /// Whether [`Writer`] and [`AnimationWriter`] write from the first byte to the last and never seek, so that a
    /// file can be sent while it is made.
    pub fn is_sequential(self) -> bool {
        self == Self::Png
    }

    /// Checks that the format can hold an image. Errors name the file by `name`.
    ///
    /// # Errors
    ///
    /// If the format is not written, or a side, the colour or the depth is beyond what it holds; the
    /// message names the formats that can hold the image.
    pub fn check(self, outline: &Outline, name: &Path) -> Result<(), Error> {
        let Outline {
            width_px,
            height_px,
            colour,
            depth,
        } = *outline;
        let path = name.to_owned();
        if !self.is_written() {
            return Err(Error::NotWritten { path, format: self });
        }
        let longest_px = width_px.max(height_px);
        let what = if longest_px > self.max_side_px() {
            let side = self.max_side_px();
            format!("{width_px} x {height_px} pixels (at most {side} a side)")
        } else if !self.supports(colour, depth) {
            format!("{depth} {colour}")
        } else {
            return Ok(());
        };
        let fits = |other: &Self| {
            longest_px <= other.max_side_px()
                && other.supports(colour, depth)
                // It holds 256 colours.
                && *other != Self::Gif
        };
        let able: Vec<_> = Self::WRITTEN
            .into_iter()
            .filter(fits)
            .map(|f| f.to_string())
            .collect();
        let remedy = if able.is_empty() {
            "no format can, convert the image first".to_owned()
        } else {
            format!("{} can", able.join(", "))
        };
        Err(Error::CannotHold {
            path,
            format: self,
            what,
            remedy,
        })
    }
}

fn unbuffered<W: Write>(buffered: BufWriter<W>) -> Result<W, EncodeError> {
    Ok(buffered
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?)
}

/// Encodes an image of a format that is not written row by row.
fn encode_whole<W: Write>(
    mut destination: W,
    format: Format,
    outline: &Outline,
    metadata: &Metadata,
    samples: &[u8],
    jpeg_quality: u8,
    deadline: &Deadline,
) -> Result<W, EncodeError> {
    deadline.check()?;
    // No format has a longer side than u32 holds.
    let (width, height) = (outline.width_px as u32, outline.height_px as u32);
    let stored = format.stored_colour(outline.colour);
    let expanded;
    let samples = if stored == outline.colour {
        samples
    } else {
        expanded = grey_as_rgb(samples, outline.colour);
        &expanded
    };
    let mut file = Vec::new();
    let extended = match stored {
        Colour::Grey => ExtendedColorType::L8,
        Colour::GreyAlpha => ExtendedColorType::La8,
        Colour::Rgb => ExtendedColorType::Rgb8,
        Colour::RgbAlpha => ExtendedColorType::Rgba8,
    };
    match format {
        Format::Jpeg => {
            let checked = Checked::new(&mut file, deadline.clone());
            let mut encoder = jpeg::JpegEncoder::new_with_quality(checked, jpeg_quality);
            encoder.set_pixel_density(metadata::jpeg::density_of(metadata.resolution));
            if let Some(profile) = &metadata.icc_profile {
                encoder.set_icc_profile(profile.clone())?;
            }
            if let Some(block) = &metadata.exif {
                encoder.set_exif_metadata(block.clone())?;
            }
            encoder.write_image(samples, width, height, extended)?;
            metadata::jpeg::insert(&mut file, metadata);
        }
        Format::WebP => {
            let colour = if stored.has_alpha() {
                image_webp::ColorType::Rgba8
            } else {
                image_webp::ColorType::Rgb8
            };
            let blocks = [&metadata.icc_profile, &metadata.exif, &metadata.xmp];
            let blocks = blocks.map(|block| block.clone().unwrap_or_default());
            file = if deadline.is_set() {
                // The encoder looks at no clock.
                let samples = samples.to_vec();
                let encode = move || Ok(encode_webp(&samples, (width, height), colour, blocks));
                deadline.within(Path::new(""), Stops::Late, encode)?
            } else {
                encode_webp(samples, (width, height), colour, blocks)
            }?;
        }
        Format::Bmp => {
            let mut checked = Checked::new(&mut file, deadline.clone());
            bmp::BmpEncoder::new(&mut checked).write_image(samples, width, height, extended)?;
            metadata::bmp::insert(&mut file, metadata);
        }
        Format::Gif => {
            let outline = Outline {
                colour: stored,
                ..*outline
            };
            file = animation::encode_gif(samples.to_vec(), outline, deadline)?;
        }
        _ => {
            unreachable!("{format} is written by rows or not at all")
        }
    }
    destination.write_all(&file)?;
    Ok(destination)
}

/// A WebP file with an ICC profile, EXIF and XMP, unless these are empty.
fn encode_webp(
    samples: &[u8],
    (width, height): (u32, u32),
    colour: image_webp::ColorType,
    [icc_profile, exif, xmp]: [Vec<u8>; 3],
) -> Result<Vec<u8>, image_webp::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = image_webp::WebPEncoder::new(&mut file);
    encoder.set_icc_profile(icc_profile);
    encoder.set_exif_metadata(exif);
    encoder.set_xmp_metadata(xmp);
    encoder.encode(samples, width, height, colour)?;
    Ok(file)
}

/// 8-bit grey replicated to red, green and blue; alpha stays.
fn grey_as_rgb(samples: &[u8], colour: Colour) -> Vec<u8> {
    let channels = colour.channels();
    let mut out = Vec::with_capacity(samples.len() / channels * (channels + 2));
    for pixel in samples.chunks_exact(channels) {
        out.extend([pixel[0]; 3]);
        out.extend(&pixel[1..]);
    }
    out
}

/// Why an encoder failed: in the end an [`Error`].
type EncodeError = Box<dyn std::error::Error + Send + Sync>;

fn write_error(error: EncodeError, format: Format, name: &Path) -> Error {
    let path = name.to_owned();
    match error.downcast::<io::Error>() {
        Ok(source) => Error::Write {
            path,
            source: *source,
        },
        Err(error) => Error::Encode {
            path,
            format,
            reason: one_line(&error),
        },
    }
}

/// Writes an image to a file that appears under its name when it is complete. An existing file is
/// replaced, and keeps its content if anything fails.
///
/// # Errors
///
/// If the format cannot hold the image, or the file cannot be written.
pub fn encode(image: &Image, path: &Path, format: Format) -> Result<(), Error> {
    format.check(&image.outline(), path)?;
    let failed = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    let file = AtomicFile::create(path).map_err(failed)?;
    let file = Writer::new(file, path, format, &image.outline(), &image.metadata)?
        .write_all(image.samples.borrowed())?;
    file.publish().map_err(failed)
}

/// Writes a file of any kind through an [`AtomicFile`].
///
/// # Errors
///
/// If the file cannot be written; an existing file then keeps its content.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    wdsr_atomic_file::write(path, bytes).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

/// The bytes of an image file. Errors name it "image".
///
/// # Errors
///
/// If the format cannot hold the image.
pub fn encode_bytes(image: &Image, format: Format) -> Result<Vec<u8>, Error> {
    let (file, name) = (io::Cursor::new(Vec::new()), Path::new("image"));
    let file = Writer::new(file, name, format, &image.outline(), &image.metadata)?
        .write_all(image.samples.borrowed())?;
    Ok(file.into_inner())
}
