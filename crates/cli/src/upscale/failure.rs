//! Errors of an image as the program reports them: with the options that help, and whether the input
//! is at fault.

use wdsr_image::Error as ImageError;
use wdsr_upscale::{Error, ErrorKind, SizeError, Work};

use crate::exit::OutOfMemory;

/// An input that cannot be upscaled as requested.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

/// The error, with the options of the program that help.
pub(super) fn explained(error: impl Into<Error>) -> anyhow::Error {
    let error = error.into();
    match &error {
        Error::Memory { source, .. } => {
            let remedy = match (source.work, source.allowed_bytes) {
                (Work::Streaming { is_mostly_decoding, .. }, _) => {
                    let strips = if is_mostly_decoding {
                        ", or save the image with smaller strips or tiles"
                    } else {
                        ""
                    };
                    format!(
                        "raise --max-memory or free memory, or use fewer --threads or a narrower \
                         --tile{strips}"
                    )
                }
                (_, Some(_)) => "raise --max-memory, or save image and result as PNG or TIFF without \
                                 transparency, which need not be in memory as a whole"
                    .to_owned(),
                (_, None) => "free memory or cut the image".to_owned(),
            };
            OutOfMemory(format!("{error}; {remedy}")).into()
        }
        Error::Image(ImageError::TooLarge { pixels, .. }) => Refused(format!(
            "{error}; if you trust the file, --max-pixels {pixels} allows it"
        ))
        .into(),
        Error::ResultTooLarge { size, .. } => Refused(format!(
            "{error}; if you trust the file, --max-output-pixels {} allows it",
            size.pixels()
        ))
        .into(),
        Error::Size {
            name,
            source:
                SizeError::Stretches {
                    input,
                    requested,
                    by_width,
                    by_height,
                },
        } => Refused(format!(
            "{}: --size {requested} would stretch its {input}; --width {} gives {by_width}, --height \
             {} gives {by_height}",
            name.display(),
            requested.width_px,
            requested.height_px
        ))
        .into(),
        _ => error.into(),
    }
}

/// Whether the input is at fault.
pub(super) fn is_refusal(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Refused>()
            || cause
                .downcast_ref::<Error>()
                .is_some_and(|error| error.kind() == ErrorKind::Input)
            || cause
                .downcast_ref()
                .is_some_and(|e| !matches!(e, ImageError::Write { .. } | ImageError::Encode { .. }))
    })
}

/// Whether a second interrupt stopped the work.
pub(super) fn is_stopped(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::Stopped)
}
