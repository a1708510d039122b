use std::path::PathBuf;

/// Why a set could not be scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image could not be read.
    #[error(transparent)]
    Image(#[from] wdsr_image::Error),
    /// The model gives what cannot be an image.
    #[error(transparent)]
    Upscale(#[from] wdsr_model::UpscaleError),
    /// Low- and high-resolution images do not belong together.
    #[error(
        "{}: {low_width_px} x {low_height_px} pixels, expected {expected_width_px} x \
         {expected_height_px} (1/{scale} of {}, {high_width_px} x {high_height_px}); pair images \
         of this scale, or remove the low-resolution ones to have them made",
        low.display(),
        high.display()
    )]
    SizeMismatch {
        /// Low-resolution file.
        low: PathBuf,
        /// High-resolution file.
        high: PathBuf,
        /// Found width of the low-resolution image.
        low_width_px: usize,
        /// Found height of the low-resolution image.
        low_height_px: usize,
        /// Width that the low-resolution image should have.
        expected_width_px: usize,
        /// Height that the low-resolution image should have.
        expected_height_px: usize,
        /// Width of the high-resolution image as its file has it.
        high_width_px: usize,
        /// Height of the high-resolution image as its file has it.
        high_height_px: usize,
        /// Scale of the pair.
        scale: usize,
    },
    /// A high-resolution image has no whole low-resolution pixel.
    #[error(
        "{}: {width_px} x {height_px} pixels, expected at least {scale} x {scale} at x{scale}; \
         leave the image out of the set",
        path.display()
    )]
    SmallerThanScale {
        /// The high-resolution image.
        path: PathBuf,
        /// Its width.
        width_px: usize,
        /// Its height.
        height_px: usize,
        /// Scale of the pair.
        scale: usize,
    },
    /// An image is too small to be scored.
    #[error(
        "{}: {width_px} x {height_px} pixels at a multiple of the scale, expected at least \
         {least_px} x {least_px}: the protocol cuts {shave_px} off each side and SSIM's window is \
         11 x 11; leave the image out of the set",
        path.display()
    )]
    TooSmall {
        /// The high-resolution image.
        path: PathBuf,
        /// Its width, cut to a multiple of the scale.
        width_px: usize,
        /// Its height, cut to a multiple of the scale.
        height_px: usize,
        /// The least side that can be scored.
        least_px: usize,
        /// The border.
        shave_px: usize,
    },
    /// The folder's layout is not understood.
    #[error("{}: {reason}", path.display())]
    Layout {
        /// The folder, or the image in it that does not fit.
        path: PathBuf,
        /// What was expected, what was found and what to do.
        reason: String,
    },
}
