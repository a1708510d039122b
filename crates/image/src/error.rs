//! Errors of files, folders and formats.

use std::io;
use std::path::{Path, PathBuf};

use crate::deadline::MAX_LATE;
use crate::format::Format;

/// An image could not be read, written or found. The message is one line and names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The path is a folder, a pipe or a device.
    #[error("{} is {found}; expected an image file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The file has no bytes.
    #[error("{} is empty (0 bytes); expected an image ({READABLE})", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The content is in none of the formats that are read.
    #[error("{} is not an image that can be read: expected {READABLE}, found {found}", path.display())]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// The format or the text of the first bytes.
        found: String,
    },
    /// The file is an image of a format that is not read.
    #[error("{}: {found} files are not read: expected {READABLE}; convert it (a camera raw: develop it) to png or tiff first", path.display())]
    UnreadFormat {
        /// The file.
        path: PathBuf,
        /// The name of its format.
        found: &'static str,
    },
    /// The file ends before its image does.
    #[error("{} is truncated: the {format} data ends before the image does ({reason}); fetch or export the file again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its format, by content.
        format: Format,
        /// The decoder's message.
        reason: String,
    },
    /// The file violates its format.
    #[error("{} is damaged: {reason}; fetch or export the {format} file again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its format, by content.
        format: Format,
        /// The decoder's message.
        reason: String,
    },
    /// A valid file that uses an unsupported part of the format.
    #[error("{} is an unsupported kind of {format}: {reason}; convert it to an 8 or 16-bit png", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Its format, by content.
        format: Format,
        /// The part.
        reason: String,
    },
    /// The header gives a width or height of 0.
    #[error("{} has no pixels: its header says {width_px} x {height_px}", path.display())]
    NoPixels {
        /// The file.
        path: PathBuf,
        /// Width of the header.
        width_px: usize,
        /// Height of the header.
        height_px: usize,
    },
    /// The header gives a size above the [`Limits`](crate::Limits).
    #[error("{} is too large: {width_px} x {height_px} = {pixels} pixels, allowed are {max_pixels}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Width of the header.
        width_px: usize,
        /// Height of the header.
        height_px: usize,
        /// Their product.
        pixels: u64,
        /// The most that is allowed.
        max_pixels: u64,
    },
    /// The pixels take more memory than the [`Limits`](crate::Limits) allow.
    #[error("{} takes {bytes} bytes of memory to decode, allowed are {max_bytes}", path.display())]
    TooMuchMemory {
        /// The file.
        path: PathBuf,
        /// The memory that they take.
        bytes: u64,
        /// The most that is allowed.
        max_bytes: u64,
    },
    /// Reading or writing the file did not end before the [`Deadline`](crate::Deadline).
    #[error("{} took too long: its time is over", path.display())]
    TimedOut {
        /// The file.
        path: PathBuf,
    },
    /// [`MAX_LATE`] other images took too long, and none of their decoders and encoders ended before the
    /// [`Deadline`](crate::Deadline).
    #[error("{} was not tried: {MAX_LATE} images before it took too long, and their decoders or encoders still \
             run; try it again, or allow each image more time", path.display())]
    TooManyLate {
        /// The file.
        path: PathBuf,
    },
    /// The format cannot hold the image without loss.
    #[error("cannot write {} as {format}: it cannot hold {what}; {remedy}", path.display())]
    CannotHold {
        /// The file to write.
        path: PathBuf,
        /// The format asked for.
        format: Format,
        /// The property of the image.
        what: String,
        /// Formats that can hold it.
        remedy: String,
    },
    /// The format is read, not written.
    #[error("cannot write {} as {format}, which is only read; png, jpeg, webp, tiff, bmp and gif are written", path.display())]
    NotWritten {
        /// The file to write.
        path: PathBuf,
        /// The format asked for.
        format: Format,
    },
    /// The encoder refused the image.
    #[error("cannot encode {} as {format}: {reason}", path.display())]
    Encode {
        /// The file to write.
        path: PathBuf,
        /// The format asked for.
        format: Format,
        /// The encoder's message.
        reason: String,
    },
    /// The file cannot be written; no part of it is left behind.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The folder, or one below it, cannot be read.
    #[error("cannot read the folder {}: {source}", path.display())]
    Folder {
        /// The folder or the entry in it.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The folder contains no file with a known suffix.
    #[error("no images ({SUFFIXES}) in {}{}", path.display(), if *.recursive { " or below it" } else { "" })]
    NoImages {
        /// The folder.
        path: PathBuf,
        /// Whether the folders below were searched too.
        recursive: bool,
    },
}

const READABLE: &str = if cfg!(feature = "avif") {
    "png, jpeg, webp, tiff, bmp, gif, jxl, avif, netpbm, dds, qoi or tga"
} else {
    "png, jpeg, webp, tiff, bmp, gif, jxl, netpbm, dds, qoi or tga"
};
const SUFFIXES: &str = if cfg!(feature = "avif") {
    "png, apng, jpg, jpeg, webp, tif, tiff, bmp, gif, jxl, avif, ppm, pgm, pbm, pnm, dds, qoi, tga"
} else {
    "png, apng, jpg, jpeg, webp, tif, tiff, bmp, gif, jxl, ppm, pgm, pbm, pnm, dds, qoi, tga"
};

impl Error {
    /// The file or folder the error is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. }
            | Self::NotAFile { path, .. }
            | Self::Empty { path }
            | Self::NotAnImage { path, .. }
            | Self::UnreadFormat { path, .. }
            | Self::Truncated { path, .. }
            | Self::Damaged { path, .. }
            | Self::Unsupported { path, .. }
            | Self::NoPixels { path, .. }
            | Self::TooLarge { path, .. }
            | Self::TooMuchMemory { path, .. }
            | Self::TimedOut { path }
            | Self::TooManyLate { path }
            | Self::CannotHold { path, .. }
            | Self::NotWritten { path, .. }
            | Self::Encode { path, .. }
            | Self::Write { path, .. }
            | Self::Folder { path, .. }
            | Self::NoImages { path, .. } => path,
        }
    }
}

impl Error {
    pub(crate) fn truncated(reason: impl Into<String>, format: Format, path: &Path) -> Self {
        Self::Truncated {
            path: path.to_owned(),
            format,
            reason: reason.into(),
        }
    }

    pub(crate) fn damaged(reason: impl Into<String>, format: Format, path: &Path) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            format,
            reason: reason.into(),
        }
    }

    pub(crate) fn unsupported(reason: impl Into<String>, format: Format, path: &Path) -> Self {
        Self::Unsupported {
            path: path.to_owned(),
            format,
            reason: reason.into(),
        }
    }
}

/// The message of another crate's error on one line.
pub(crate) fn one_line(error: &dyn std::fmt::Display) -> String {
    let message = error.to_string();
    message
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .trim_end_matches('.')
        .to_owned()
}
