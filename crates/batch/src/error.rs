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
    /// An object of a store cannot be listed, read or written.
    #[cfg(feature = "stores")]
    #[error(transparent)]
    Store(#[from] wdsr_stores::Error),
    /// The path is a URL, and the program was built without stores.
    #[error("{}: built without object stores; build with --features stores", path.display())]
    WithoutStores {
        /// The URL.
        path: PathBuf,
    },
    /// The folder for temporary files cannot hold a copy of an object.
    #[error("{}: cannot write to the folder for temporary files {}; TMPDIR names another", path.display(), folder.display())]
    Temporary {
        /// The URL of the object.
        path: PathBuf,
        /// The folder.
        folder: PathBuf,
        /// The cause.
        source: io::Error,
    },
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
        match self {
            Self::Pattern { .. } => true,
            Self::Image(error) => !matches!(error, wdsr_image::Error::Write { .. }),
            #[cfg(feature = "stores")]
            Self::Store(error) => matches!(
                error,
                wdsr_stores::Error::NotFound { .. } | wdsr_stores::Error::TooLarge { .. }
            ),
            _ => false,
        }
    }

    /// Whether the caller stopped the work.
    pub fn is_stopped(&self) -> bool {
        match self {
            #[cfg(feature = "stores")]
            Self::Store(error) => matches!(error, wdsr_stores::Error::Stopped { .. }),
            _ => false,
        }
    }
}
