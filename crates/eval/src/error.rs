use std::path::{Path, PathBuf};

/// Why a set or an image of it could not be scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image could not be read.
    #[error(transparent)]
    Image(#[from] wdsr_image::Error),
    /// The model failed to upscale an image.
    #[error("{}: {source}", path.display())]
    Upscale {
        /// The high-resolution image of the pair.
        path: PathBuf,
        /// The error of the model.
        source: wdsr_model::UpscaleError,
    },
    /// The size of the low-resolution image is not that of the high-resolution one, divided by the
    /// scale.
    #[error(
        "{}: {low_width_px} x {low_height_px} pixels, expected {expected_width_px} x \
         {expected_height_px} (1/{scale} of {}, {high_width_px} x {high_height_px}); replace it by an \
         image of this scale, or remove the folder of low-resolution images to compute them",
        low.display(),
        high.display()
    )]
    SizeMismatch {
        /// Low-resolution file.
        low: PathBuf,
        /// High-resolution file.
        high: PathBuf,
        /// Width of the low-resolution image.
        low_width_px: usize,
        /// Height of the low-resolution image.
        low_height_px: usize,
        /// Expected width of the low-resolution image.
        expected_width_px: usize,
        /// Expected height of the low-resolution image.
        expected_height_px: usize,
        /// Width of the high-resolution image in its file.
        high_width_px: usize,
        /// Height of the high-resolution image in its file.
        high_height_px: usize,
        /// Scale of the pair.
        scale: usize,
    },
    /// A high-resolution image is smaller than a low-resolution pixel.
    #[error(
        "{}: {width_px} x {height_px} pixels, expected at least {scale} x {scale} at x{scale}; \
         remove the image from the set",
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
         {least_px} x {least_px}: the protocol crops {shave_px} pixels on each side, and SSIM needs \
         11 x 11 pixels; remove the image from the set",
        path.display()
    )]
    TooSmall {
        /// The high-resolution image.
        path: PathBuf,
        /// Its width, cropped to a multiple of the scale.
        width_px: usize,
        /// Its height, cropped to a multiple of the scale.
        height_px: usize,
        /// The smallest side that can be scored.
        least_px: usize,
        /// Pixels that the protocol crops on each side.
        shave_px: usize,
    },
    /// An image is too small for the shifts of the NTIRE 2018 protocol.
    #[error(
        "{}: {width_px} x {height_px} pixels, expected at least {least_px} x {least_px}: ntire2018 \
         shifts a patch by 40 pixels; remove the image from the set or use another protocol",
        path.display()
    )]
    TooSmallToShift {
        /// The high-resolution image.
        path: PathBuf,
        /// Its width, cropped to a multiple of 4.
        width_px: usize,
        /// Its height, cropped to a multiple of 4.
        height_px: usize,
        /// The smallest side that can be scored.
        least_px: usize,
    },
    /// The protocol is of another scale than the model.
    #[error("{}: {protocol} expects {expected}, found x{scale}; use a model of that scale", path.display())]
    ProtocolScale {
        /// The high-resolution image.
        path: PathBuf,
        /// Name of the protocol.
        protocol: &'static str,
        /// Scales that it is defined for.
        expected: &'static str,
        /// Scale of the pair.
        scale: usize,
    },
    /// The layout of the folder is not a known one, or an image does not fit it.
    #[error("{}: {reason}", path.display())]
    Layout {
        /// The folder, or the image in it.
        path: PathBuf,
        /// What was expected, what was found and what to do.
        reason: String,
    },
}

impl Error {
    /// The file or folder that the error is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Image(error) => error.path(),
            Self::SizeMismatch { low: path, .. }
            | Self::Upscale { path, .. }
            | Self::SmallerThanScale { path, .. }
            | Self::TooSmall { path, .. }
            | Self::TooSmallToShift { path, .. }
            | Self::ProtocolScale { path, .. }
            | Self::Layout { path, .. } => path,
        }
    }
}
