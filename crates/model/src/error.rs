use std::path::PathBuf;

/// Why a model could not be read, written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// "read" or "write".
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no model of this program, or is damaged.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// A weight lies outside the number format asked for.
    #[error("tensor `{tensor}` holds {value}, float16 reaches +-65504; write the model in float32")]
    Float16Range {
        /// Key of the tensor.
        tensor: String,
        /// The weight.
        value: f32,
    },
    /// An image was not upscaled.
    #[error(transparent)]
    Upscale(#[from] crate::upscale::UpscaleError),
    /// `WDSR_ISA` names no instruction set.
    #[error(transparent)]
    Isa(#[from] wdsr_kernels::UnknownIsa),
}
