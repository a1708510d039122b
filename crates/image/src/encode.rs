//! Writing image files, whole or not at all.

use std::fs::File;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};

use image::codecs::{bmp, jpeg};
use image::{ExtendedColorType, ImageEncoder};

use crate::error::{Error, one_line};
use crate::format::Format;
use crate::metadata::{self, Metadata};
use crate::pixels::{Colour, Depth, Image, Samples};
use crate::rows::{Outline, RowSample, write_tiff};

/// Quality of written JPEG files on libjpeg's scale of 1 to 100; the chroma is not subsampled.
pub const JPEG_QUALITY: u8 = 95;

/// Writes `image` to `path`, in `format` whatever the suffix says.
///
/// The file appears under its name only when it is complete and on the disk: it is written beside
/// it under a temporary name (hidden, `.wdsr-*.part`), synchronised and renamed. An existing file
/// is replaced, and keeps its content if anything fails; a symbolic link is replaced by a file.
///
/// PNG, WebP (lossless), TIFF (BigTIFF near 4 GB) and BMP keep every sample; JPEG is written with [`JPEG_QUALITY`].
/// Where a format has no grey, grey is stored as RGB ([`Format::supports`]). The metadata is
/// written with the size of this image wherever it tells one, and without what the format cannot
/// hold: [`Metadata::lost_in`] names it beforehand.
///
/// # Errors
///
/// If the format cannot hold the samples (size, alpha, depth; the message names formats that can),
/// or the file cannot be written.
pub fn encode(image: &Image, path: &Path, format: Format) -> Result<(), Error> {
    write_atomically(path, &encode_named(image, path, format)?)
}

/// Writes any file the way images are written: whole or not at all.
///
/// # Errors
///
/// If it cannot be written; then nothing has changed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    NewFile::with(path, bytes)?.publish()
}

/// A file that is not under its name yet: it stands beside it under a temporary one (hidden,
/// `.wdsr-*.part`), and is removed when this is dropped.
#[derive(Debug)]
pub struct NewFile {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl NewFile {
    /// A file of these bytes.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn with(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let mut file = Self::create(path)?;
        let written = file.file.write_all(bytes);
        written.map_err(|source| file.failed(source))?;
        file.synchronise()?;
        Ok(file)
    }

    /// Length of the file.
    ///
    /// # Errors
    ///
    /// If the system does not tell.
    pub fn bytes(&self) -> Result<u64, Error> {
        let metadata = self.as_file().metadata();
        Ok(metadata.map_err(|source| self.failed(source))?.len())
    }

    /// Gives the file its name, replacing one that has it.
    ///
    /// # Errors
    ///
    /// If that fails; then nothing has changed.
    pub fn publish(self) -> Result<(), Error> {
        let path = self.path;
        let published = self.file.persist(&path).map_err(|error| error.error);
        published.map_err(|source| Error::Write { path, source })?;
        Ok(())
    }

    /// An empty file, to be written.
    ///
    /// # Errors
    ///
    /// If it cannot be created.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let create = || {
            let folder = match path.parent() {
                Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
                Some(folder) => folder,
                None => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
            };
            let mut builder = tempfile::Builder::new();
            builder.prefix(".wdsr-").suffix(".part");
            #[cfg(unix)]
            {
                // As for any new file: what the umask leaves. The default of the crate is the
                // owner only.
                use std::os::unix::fs::PermissionsExt;
                builder.permissions(std::fs::Permissions::from_mode(0o666));
            }
            builder.tempfile_in(folder)
        };
        let path = path.to_owned();
        match create() {
            Ok(file) => Ok(Self { file, path }),
            Err(source) => Err(Error::Write { path, source }),
        }
    }

    pub(crate) fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// Puts what was written on the disk.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub fn synchronise(&self) -> Result<(), Error> {
        let synchronised = self.as_file().sync_all();
        synchronised.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> Error {
        let path = self.path.clone();
        Error::Write { path, source }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The bytes of a file of `format`, as [`encode`] writes them. Messages call the file "image".
///
/// # Errors
///
/// If the format cannot hold the image.
pub fn encode_bytes(image: &Image, format: Format) -> Result<Vec<u8>, Error> {
    encode_named(image, Path::new("image"), format)
}

/// The bytes of a file of `format`, as [`encode`] writes them; `path` stands for it in messages.
///
/// # Errors
///
/// If the format cannot hold the image.
pub fn encode_named(image: &Image, path: &Path, format: Format) -> Result<Vec<u8>, Error> {
    check(image, path, format)?;
    let metadata = image
        .metadata
        .fitted(format, (image.width_px, image.height_px), image.colour);
    let stored = format.stored_colour(image.colour);
    let expanded;
    let image = if stored == image.colour {
        image
    } else {
        expanded = image.clone().grey_to_rgb();
        &expanded
    };
    debug_assert_eq!(image.colour, stored, "colour after the expansion");
    encode_checked(image, path, &metadata, format).map_err(|error| {
        let path = path.to_owned();
        match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => match error.downcast() {
                Ok(source) => Error::Write {
                    path,
                    source: *source,
                },
                Err(error) => Error::Encode {
                    path,
                    format,
                    reason: one_line(&error),
                },
            },
        }
    })
}

/// Refuses what the format cannot hold.
fn check(image: &Image, path: &Path, format: Format) -> Result<(), Error> {
    let Image {
        width_px,
        height_px,
        colour,
        ..
    } = *image;
    if !format.is_written() {
        return Err(Error::NotWritten {
            path: path.to_owned(),
            format,
        });
    }
    let depth = image.depth();
    let refuse = |what: String, can: &dyn Fn(Format) -> bool| {
        let able: Vec<_> = Format::WRITTEN
            .into_iter()
            .filter(|&other| can(other))
            .map(|f| f.to_string())
            .collect();
        let remedy = if able.is_empty() {
            "no format can, convert the image first".to_owned()
        } else {
            format!("{} can", able.join(", "))
        };
        Err(Error::CannotHold {
            path: path.to_owned(),
            format,
            what,
            remedy,
        })
    };
    let longest_px = width_px.max(height_px);
    let fits = |other: Format| longest_px <= other.max_side_px() && other.supports(colour, depth);
    if longest_px > format.max_side_px() {
        let side = format.max_side_px();
        return refuse(
            format!("{width_px} x {height_px} pixels (at most {side} a side)"),
            &fits,
        );
    }
    if !format.supports(colour, depth) {
        let bits = match depth {
            Depth::U8 => "8-bit",
            Depth::U16 => "16-bit",
            Depth::F32 => "float",
        };
        let channels = match colour {
            Colour::Grey => "grey",
            Colour::GreyAlpha => "grey with an alpha channel",
            Colour::Rgb => "rgb",
            Colour::RgbAlpha => "rgb with an alpha channel",
        };
        return refuse(format!("{bits} {channels}"), &fits);
    }
    Ok(())
}

/// Encodes an image that `check` has passed, in its own colour.
fn encode_checked(
    image: &Image,
    path: &Path,
    metadata: &Metadata,
    format: Format,
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    // No format takes a longer side than u32 holds.
    let (width, height) = (image.width_px as u32, image.height_px as u32);
    let samples = image.samples.as_bytes();
    let mut file = Vec::new();
    match format {
        Format::Png => encode_png(image, metadata, &mut file)?,
        Format::Jpeg => {
            let mut encoder = jpeg::JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY);
            encoder.set_pixel_density(metadata::jpeg::density_of(metadata.resolution));
            if let Some(profile) = &metadata.icc_profile {
                encoder.set_icc_profile(profile.clone())?;
            }
            if let Some(block) = &metadata.exif {
                encoder.set_exif_metadata(block.clone())?;
            }
            let colour = match image.colour {
                Colour::Grey => ExtendedColorType::L8,
                _ => ExtendedColorType::Rgb8,
            };
            encoder.write_image(samples, width, height, colour)?;
            metadata::jpeg::insert(&mut file, metadata);
        }
        Format::WebP => {
            let mut encoder = image_webp::WebPEncoder::new(&mut file);
            encoder.set_icc_profile(metadata.icc_profile.clone().unwrap_or_default());
            encoder.set_exif_metadata(metadata.exif.clone().unwrap_or_default());
            encoder.set_xmp_metadata(metadata.xmp.clone().unwrap_or_default());
            let colour = if image.colour.has_alpha() {
                image_webp::ColorType::Rgba8
            } else {
                image_webp::ColorType::Rgb8
            };
            encoder.encode(samples, width, height, colour)?;
        }
        Format::Tiff => return Ok(encode_tiff(image, path, metadata)?),
        Format::Bmp => {
            let colour = if image.colour.has_alpha() {
                ExtendedColorType::Rgba8
            } else {
                ExtendedColorType::Rgb8
            };
            bmp::BmpEncoder::new(&mut file).write_image(samples, width, height, colour)?;
            metadata::bmp::insert(&mut file, metadata);
        }
        Format::JpegXl => unreachable!("{format} is not written"),
    }
    Ok(file)
}

/// A PNG file up to its pixels.
pub(crate) fn png_writer<W: Write>(
    file: W,
    outline: &Outline,
    metadata: &Metadata,
) -> Result<png::Writer<W>, png::EncodingError> {
    let mut info = metadata::png::info_of(metadata);
    info.width = outline.width_px as u32;
    info.height = outline.height_px as u32;
    info.color_type = match outline.colour {
        Colour::Grey => png::ColorType::Grayscale,
        Colour::GreyAlpha => png::ColorType::GrayscaleAlpha,
        Colour::Rgb => png::ColorType::Rgb,
        Colour::RgbAlpha => png::ColorType::Rgba,
    };
    info.bit_depth = match outline.depth {
        Depth::U8 => png::BitDepth::Eight,
        _ => png::BitDepth::Sixteen,
    };
    let mut encoder = png::Encoder::with_info(file, info)?;
    encoder.set_compression(png::Compression::Fast);
    encoder.set_filter(png::Filter::Adaptive);
    let mut writer = encoder.write_header()?;
    metadata::png::write(metadata, &mut writer)?;
    Ok(writer)
}

fn encode_png(
    image: &Image,
    metadata: &Metadata,
    file: &mut Vec<u8>,
) -> Result<(), png::EncodingError> {
    let mut writer = png_writer(file, &image.outline(), metadata)?;
    match &image.samples {
        Samples::U16(samples) => {
            let big_endian: Vec<u16> = samples.iter().map(|v| v.to_be()).collect();
            writer.write_image_data(bytemuck::cast_slice(&big_endian))?;
        }
        samples => writer.write_image_data(samples.as_bytes())?,
    }
    writer.finish()
}

fn encode_tiff(image: &Image, path: &Path, metadata: &Metadata) -> Result<Vec<u8>, Error> {
    fn whole<T: RowSample>(
        samples: &[T],
        image: &Image,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<Vec<u8>, Error> {
        let mut file = Cursor::new(Vec::new());
        let outline = image.outline();
        write_tiff::<T, Error>(&mut file, path, &outline, metadata, |sink| sink(samples))?;
        Ok(file.into_inner())
    }
    match &image.samples {
        Samples::U8(samples) => whole(samples, image, path, metadata),
        Samples::U16(samples) => whole(samples, image, path, metadata),
        Samples::F32(samples) => whole(samples, image, path, metadata),
    }
}
