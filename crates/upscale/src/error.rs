//! Why an image was not upscaled.

use std::path::PathBuf;

use wdsr_model::UpscaleError;

use crate::{BandError, Size, SizeError};

/// An image was not upscaled. Each message is one line that names the image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image cannot be read, or the result cannot be written.
    #[error(transparent)]
    Image(#[from] wdsr_image::Error),
    /// The format of the result cannot hold it.
    #[error("{}: {source}", name.display())]
    Format {
        /// The image.
        name: PathBuf,
        /// The property that the format lacks, and the formats that have it.
        source: wdsr_image::Error,
    },
    /// The image cannot get the requested size.
    #[error("{}: {source}", name.display())]
    Size {
        /// The image.
        name: PathBuf,
        /// The reason.
        source: SizeError,
    },
    /// The result has no such band, or the image cannot be upscaled in bands.
    #[error("{}: {source}", name.display())]
    Band {
        /// The image.
        name: PathBuf,
        /// The reason.
        source: BandError,
    },
    /// The result would have too many pixels.
    #[error(
        "{}: its result is too large: {size} = {} pixels, allowed are {max_pixels}",
        name.display(), size.pixels()
    )]
    ResultTooLarge {
        /// The image.
        name: PathBuf,
        /// The size of the result.
        size: Size,
        /// The limit.
        max_pixels: u64,
    },
    /// The work needs more memory than is allowed or available.
    #[error("{}: {source}", name.display())]
    Memory {
        /// The image.
        name: PathBuf,
        /// What needs how much.
        source: OutOfMemory,
    },
    /// The network refuses the image, its result is not an image, or the work was stopped.
    #[error("{}: {source}", name.display())]
    Network {
        /// The image.
        name: PathBuf,
        /// The reason.
        source: UpscaleError,
    },
}

/// Memory that is more than allowed or available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{work} needs about {} MiB of memory, {}",
    needed_bytes.div_ceil(1 << 20),
    match allowed_bytes {
        Some(allowed) => format!("allowed are {} MiB", allowed >> 20),
        None => "more than is available".to_owned(),
    }
)]
pub struct OutOfMemory {
    /// The part of the work.
    pub work: Work,
    /// The memory that it needs.
    pub needed_bytes: u128,
    /// The memory that is allowed; `None` if the need is more than is available.
    pub allowed_bytes: Option<u64>,
}

/// A part of the work, for [`OutOfMemory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Decoding the whole image.
    Decoding,
    /// Upscaling the whole image to this size.
    Upscaling(Size),
    /// Upscaling an image of this size row by row. The decoder may need most of the memory, for long
    /// strips or tiles.
    Streaming {
        /// The size of the image.
        input: Size,
        /// Whether the decoder needs more than the network.
        is_mostly_decoding: bool,
    },
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Decoding => f.write_str("decoding the image"),
            Self::Upscaling(target) => write!(f, "upscaling the image to {target} pixels"),
            Self::Streaming { input, .. } => write!(f, "upscaling {input} pixels row by row"),
        }
    }
}

/// What an [`Error`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The image: it is unreadable, damaged or unsupported, too large, or does not fit the requested size
    /// or format.
    Input,
    /// The result cannot be written.
    Output,
    /// The memory.
    Memory,
    /// The model: its output is not an image.
    Model,
    /// The device that computes: it was lost or its driver failed.
    Device,
    /// Nothing: the progress function or the deadline of reading and writing stopped the work.
    Stopped,
}

impl Error {
    /// What the error is about.
    pub fn kind(&self) -> ErrorKind {
        use wdsr_image::Error as Image;
        match self {
            Self::Image(Image::TimedOut { .. }) => ErrorKind::Stopped,
            Self::Image(Image::TooManyLate { .. }) => ErrorKind::Memory,
            Self::Image(Image::Write { .. } | Image::Encode { .. }) => ErrorKind::Output,
            Self::Image(_)
            | Self::Format { .. }
            | Self::Size { .. }
            | Self::Band { .. }
            | Self::ResultTooLarge { .. } => ErrorKind::Input,
            Self::Memory { .. } => ErrorKind::Memory,
            Self::Network { source, .. } => match source {
                UpscaleError::Input { .. } => ErrorKind::Input,
                UpscaleError::Stopped => ErrorKind::Stopped,
                UpscaleError::Device(_) => ErrorKind::Device,
                _ => ErrorKind::Model,
            },
        }
    }
}
