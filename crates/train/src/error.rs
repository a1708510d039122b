use std::path::{Path, PathBuf};

/// Why a training could not start or go on.
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
    /// The recipe is wrong.
    #[error("{}: {reason}", path.display())]
    Recipe {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// The checkpoint is damaged or belongs to another recipe.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// The images do not serve.
    #[error("{}: {reason}", path.display())]
    Data {
        /// The folder or file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// The decoded images need more than the memory they may take, and the disk does not serve.
    #[error(
        "{}: cannot keep the decoded images in a temporary file here: {source}; make room, or \
         allow more memory for images",
        folder.display()
    )]
    ImageFile {
        /// Where the file is.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The loss is no number any more, and going back did not help.
    #[error(
        "the loss of update {update} is {loss} after going back to a checkpoint {rollbacks} times; \
         the last good checkpoint is {}; train with a lower schedule.learning_rate, a longer \
         schedule.warm_up_updates or training.gradient_clip_norm, starting from it by --from in \
         another --out",
        checkpoint.as_ref().map_or("none yet".to_owned(), |path| path.display().to_string())
    )]
    NonFiniteLoss {
        /// The update that failed.
        update: u64,
        /// Its loss.
        loss: f64,
        /// How often the training has gone back.
        rollbacks: u32,
        /// Where the training stood last.
        checkpoint: Option<PathBuf>,
    },
    /// The weights to start from do not serve.
    #[error("{}: {reason}", path.display())]
    Start {
        /// The model's file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// A study's folder does not serve.
    #[error("{}: {reason}", path.display())]
    Study {
        /// The folder of a run.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// A model could not be written or prepared.
    #[error(transparent)]
    Model(#[from] wdsr_model::Error),
    /// The network or its teacher gives what cannot be an image.
    #[error("{}: {source}", path.display())]
    Upscale {
        /// The validation image, or the teacher's file.
        path: PathBuf,
        /// What it gives.
        source: wdsr_model::UpscaleError,
    },
    /// An image could not be read.
    #[error(transparent)]
    Image(#[from] wdsr_image::Error),
    /// Validation failed.
    #[error(transparent)]
    Eval(#[from] wdsr_eval::Error),
    /// `WDSR_ISA` names no instruction set.
    #[error(transparent)]
    Isa(#[from] wdsr_kernels::UnknownIsa),
}

impl Error {
    pub(crate) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action,
            source,
        }
    }
}
