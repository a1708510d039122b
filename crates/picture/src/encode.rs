//! Writing picture files, whole or not at all.

use std::io::{self, Cursor, Write};
use std::path::Path;

use image::codecs::{bmp, jpeg, png, tiff, webp};
use image::{ExtendedColorType, ImageEncoder, ImageError, ImageResult};

use crate::error::{Error, one_line};
use crate::format::Format;
use crate::icc;
use crate::picture::{Colour, Depth, Picture};

/// Quality of written JPEG files on libjpeg's scale of 1 to 100; the chroma is not subsampled.
pub const JPEG_QUALITY: u8 = 95;

/// Longest EXIF block of a JPEG: a segment of 65 535 bytes less its length and `Exif\0\0`.
const MAX_JPEG_EXIF_BYTES: usize = 65_535 - 2 - 6;

/// Writes `picture` to `path`, in `format` whatever the suffix says.
///
/// The file appears under its name only when it is complete and on the disk: it is written beside
/// it under a temporary name (hidden, `.wdsr-*.part`), synchronised and renamed. An existing file
/// is replaced, and keeps its content if anything fails; a symbolic link is replaced by a file.
///
/// PNG, WebP (lossless), TIFF and BMP keep every sample; JPEG is written with [`JPEG_QUALITY`].
/// Where a format has no grey, grey is stored as RGB ([`Format::supports`]). The ICC profile is
/// kept; EXIF is written to the formats that [hold it](Format::holds_exif) and left out of the
/// others.
///
/// # Errors
///
/// If the format cannot hold the picture (size, alpha, depth, ICC profile; the message names
/// formats that can), or the file cannot be written.
pub fn encode(picture: &Picture, path: &Path, format: Format) -> Result<(), Error> {
    write_atomically(path, &encode_named(picture, path, format)?)
}

/// Writes any file the way pictures are written: whole or not at all.
///
/// # Errors
///
/// If it cannot be written; then nothing has changed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_whole(bytes, path).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

/// The bytes of a file of `format`, as [`encode`] writes them. Messages call the file "picture".
///
/// # Errors
///
/// If the format cannot hold the picture.
pub fn encode_bytes(picture: &Picture, format: Format) -> Result<Vec<u8>, Error> {
    encode_named(picture, Path::new("picture"), format)
}

/// The bytes of a file of `format`, as [`encode`] writes them; `path` stands for it in messages.
///
/// # Errors
///
/// If the format cannot hold the picture.
pub fn encode_named(picture: &Picture, path: &Path, format: Format) -> Result<Vec<u8>, Error> {
    check(picture, path, format)?;
    let stored = format.stored_colour(picture.colour, picture.depth());
    let expanded;
    let picture = if stored == picture.colour {
        picture
    } else {
        expanded = picture.clone().grey_to_rgb();
        &expanded
    };
    debug_assert_eq!(picture.colour, stored, "colour after the expansion");
    encode_checked(picture, format).map_err(|error| match error {
        ImageError::IoError(source) => Error::Write {
            path: path.to_owned(),
            source,
        },
        error => Error::Encode {
            path: path.to_owned(),
            format,
            reason: one_line(&error),
        },
    })
}

/// Refuses what the format cannot hold.
fn check(picture: &Picture, path: &Path, format: Format) -> Result<(), Error> {
    let Picture {
        width_px,
        height_px,
        colour,
        ..
    } = *picture;
    let depth = picture.depth();
    let refuse = |what: String, can: &dyn Fn(Format) -> bool| {
        let able: Vec<_> = Format::ALL
            .into_iter()
            .filter(|&other| can(other))
            .map(|f| f.to_string())
            .collect();
        let remedy = if able.is_empty() {
            "no format can, convert the picture first".to_owned()
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
    if let Some(profile) = &picture.icc_profile {
        let describes = |other: Format| {
            other.holds_icc_profile()
                && !icc::contradicts(profile, other.stored_colour(colour, depth))
        };
        let what = if !format.holds_icc_profile() {
            "an ICC profile"
        } else if colour.is_grey() {
            "grey pixels with this ICC profile"
        } else {
            "rgb pixels with an ICC profile of another colour space"
        };
        if !describes(format) {
            return refuse(what.to_owned(), &|other| fits(other) && describes(other));
        }
    }
    if let Some(exif) = &picture.exif
        && format == Format::Jpeg
        && exif.len() > MAX_JPEG_EXIF_BYTES
    {
        let what = format!(
            "{} bytes of EXIF (at most {MAX_JPEG_EXIF_BYTES})",
            exif.len()
        );
        let can = |other: Format| fits(other) && other != format && other.holds_exif();
        return refuse(what, &can);
    }
    Ok(())
}

/// Encodes a picture that `check` has passed, in its own colour.
fn encode_checked(picture: &Picture, format: Format) -> ImageResult<Vec<u8>> {
    let mut file = Vec::new();
    match format {
        Format::Png => write(png::PngEncoder::new(&mut file), picture, format)?,
        Format::Jpeg => {
            let encoder = jpeg::JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY);
            write(encoder, picture, format)?;
        }
        Format::WebP => write(webp::WebPEncoder::new_lossless(&mut file), picture, format)?,
        Format::Tiff => {
            write(
                tiff::TiffEncoder::new(Cursor::new(&mut file)),
                picture,
                format,
            )?;
        }
        Format::Bmp => write(bmp::BmpEncoder::new(&mut file), picture, format)?,
    }
    Ok(file)
}

fn write(mut encoder: impl ImageEncoder, picture: &Picture, format: Format) -> ImageResult<()> {
    use ExtendedColorType as Type;
    if let Some(profile) = &picture.icc_profile {
        encoder
            .set_icc_profile(profile.clone())
            .map_err(ImageError::Unsupported)?;
    }
    if let Some(exif) = picture.exif.as_ref().filter(|_| format.holds_exif()) {
        encoder
            .set_exif_metadata(exif.clone())
            .map_err(ImageError::Unsupported)?;
    }
    let colour = match (picture.colour, picture.depth()) {
        (Colour::Grey, Depth::U8) => Type::L8,
        (Colour::GreyAlpha, Depth::U8) => Type::La8,
        (Colour::Rgb, Depth::U8) => Type::Rgb8,
        (Colour::RgbAlpha, Depth::U8) => Type::Rgba8,
        (Colour::Grey, Depth::U16) => Type::L16,
        (Colour::GreyAlpha, Depth::U16) => Type::La16,
        (Colour::Rgb, Depth::U16) => Type::Rgb16,
        (Colour::RgbAlpha, Depth::U16) => Type::Rgba16,
        (Colour::Rgb, Depth::F32) => Type::Rgb32F,
        (Colour::RgbAlpha, Depth::F32) => Type::Rgba32F,
        (Colour::Grey | Colour::GreyAlpha, Depth::F32) => {
            unreachable!("float grey is expanded to rgb before")
        }
    };
    // No format takes a longer side than u32 holds.
    let (width, height) = (picture.width_px as u32, picture.height_px as u32);
    encoder.write_image(picture.samples.as_bytes(), width, height, colour)
}

/// Puts `bytes` under the name `path`: all of them, or no file.
fn write_whole(bytes: &[u8], path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".wdsr-").suffix(".part");
    #[cfg(unix)]
    {
        // As for any new file: what the umask leaves. The default of the crate is the owner only.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    // An early return drops the temporary file, which removes it.
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
