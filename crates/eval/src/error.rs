use std::path::PathBuf;

/// Why a set could not be scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A picture could not be read.
    #[error(transparent)]
    Picture(#[from] wdsr_picture::Error),
    /// Low- and high-resolution pictures do not belong together.
    #[error(
        "{}: {low_width_px} x {low_height_px} pixels, expected {expected_width_px} x \
         {expected_height_px} (1/{scale} of {})",
        low.display(),
        high.display()
    )]
    SizeMismatch {
        /// Low-resolution file.
        low: PathBuf,
        /// High-resolution file.
        high: PathBuf,
        /// Found.
        low_width_px: usize,
        /// Found.
        low_height_px: usize,
        /// Wanted.
        expected_width_px: usize,
        /// Wanted.
        expected_height_px: usize,
        /// Scale of the pair.
        scale: usize,
    },
    /// A picture is too small to be scored.
    #[error(
        "{}: {width_px} x {height_px} pixels leave nothing to score once {shave_px} pixels are cut \
         off each side",
        path.display()
    )]
    TooSmall {
        /// The picture.
        path: PathBuf,
        /// Its width.
        width_px: usize,
        /// Its height.
        height_px: usize,
        /// The border.
        shave_px: usize,
    },
    /// The folder's layout is not understood.
    #[error("{}: {reason}", path.display())]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
}
