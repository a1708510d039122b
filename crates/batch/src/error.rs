//! Errors of inputs and of the manifest.

use std::io;
use std::path::PathBuf;

/// An input that cannot be listed, or a manifest that cannot be used. The message is one line and names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pattern that matches nothing or is invalid.
    #[error("{}: {reason}", pattern.display())]
    Pattern {
        /// The pattern.
        pattern: PathBuf,
        /// The reason.
        reason: String,
    },
    /// An image or a folder that cannot be read.
    #[error(transparent)]
    Image(#[from] wdsr_image::Error),
    /// The output folder cannot be created.
    #[error("{}: cannot create the folder", path.display())]
    CreateFolder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A manifest cannot be read.
    #[error("{}: cannot read the manifest", path.display())]
    ReadManifest {
        /// The manifest or its folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The manifest cannot be written.
    #[error("{}: cannot write the manifest", path.display())]
    WriteManifest {
        /// The manifest.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Something else has the name of a manifest.
    #[error("{}: expected a manifest, found a device, a pipe or a folder; remove it", path.display())]
    NoManifest {
        /// The path.
        path: PathBuf,
    },
}

impl Error {
    /// Whether an input is at fault.
    pub fn is_of_input(&self) -> bool {
        matches!(self, Self::Pattern { .. } | Self::Image(_))
    }
}
