use std::path::{Path, PathBuf};

use wdsr_train::{InputDifference, RecipeError};

use crate::kind::StudyKind;

/// An error of a study or a report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What failed: "read", "write" or "remove".
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// An option has no effect on the study.
    #[error("{option} has no effect on study {kind}, only on {on}; remove it")]
    NoEffect {
        /// The option.
        option: &'static str,
        /// The study.
        kind: StudyKind,
        /// The study that has the option.
        on: StudyKind,
    },
    /// An option is out of range.
    #[error("{option}: found {found}, expected {expected}")]
    OutOfRange {
        /// The option.
        option: &'static str,
        /// Its value.
        found: String,
        /// The valid values.
        expected: String,
    },
    /// The options do not make a valid recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A run in the folder has other settings than the study.
    #[error(
        "{}: contains a run with other settings ({difference}); choose another --out, or use the \
         same settings",
        folder.display()
    )]
    OtherSettings {
        /// The folder of the run.
        folder: PathBuf,
        /// The first difference.
        difference: String,
    },
    /// A run in the folder has another dataset or teacher.
    #[error(
        "{}: the {difference} from the run's in this folder; choose another --out, or use the same",
        folder.display()
    )]
    OtherInputs {
        /// The folder of the run.
        folder: PathBuf,
        /// What differs.
        difference: InputDifference,
    },
    /// The folder contains another study.
    #[error(
        "{}: expected a report of study {expected}, found study {found}; choose another --out",
        report.display()
    )]
    OtherStudy {
        /// The report.
        report: PathBuf,
        /// The study.
        expected: StudyKind,
        /// The study of the report.
        found: StudyKind,
    },
    /// A run has no validation images.
    #[error(
        "{}: the run has no validation images, so there is no PSNR to compare; give --validation or \
         --validation-images",
        .0.display()
    )]
    NoValidation(PathBuf),
    /// A training failed.
    #[error(transparent)]
    Train(#[from] wdsr_train::Error),
    /// A report cannot be written.
    #[error(transparent)]
    Image(#[from] wdsr_image::Error),
    /// `WDSR_ISA` is not a known instruction set.
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
