//! Why a request is not fulfilled.

use wdsr_image::Error as ImageError;
use wdsr_upscale::ErrorKind;

/// Why a request is not fulfilled. Each message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter that does not make sense.
    #[error("{0}")]
    Invalid(String),
    /// The image is not upscaled.
    #[error(transparent)]
    Upscale(#[from] wdsr_upscale::Error),
}

impl Error {
    /// The kind of the error, for programs.
    pub fn code(&self) -> &'static str {
        use wdsr_upscale::Error as Upscale;
        let Self::Upscale(error) = self else {
            return "invalid_request";
        };
        match (error, error.kind()) {
            (Upscale::Image(ImageError::TooLarge { .. }), _) => "image_too_large",
            (
                Upscale::Image(ImageError::NotAnImage { .. } | ImageError::UnreadFormat { .. }),
                _,
            ) => "unsupported_format",
            (Upscale::ResultTooLarge { .. }, _) => "result_too_large",
            (Upscale::Memory { source, .. }, _) if source.allowed_bytes.is_some() => {
                "too_much_memory"
            }
            (_, ErrorKind::Input) => "unusable_image",
            (_, ErrorKind::Memory) => "out_of_memory",
            (_, ErrorKind::Stopped) => "stopped",
            (_, ErrorKind::Device) => "device_failed",
            (_, ErrorKind::Output | ErrorKind::Model) => "internal_error",
        }
    }
}

impl From<ImageError> for Error {
    fn from(error: ImageError) -> Self {
        Self::Upscale(error.into())
    }
}
