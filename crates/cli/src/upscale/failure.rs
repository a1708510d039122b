//! Errors of an image as the program reports them: with the options that help, and whether the input
//! is at fault.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use wdsr_image::{Error as ImageError, Limits};
use wdsr_upscale::{Error, ErrorKind, SizeError, Work};

use crate::exit::OutOfMemory;
use crate::signals;

/// An input that cannot be upscaled as requested.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

/// The error, with the options of the program that help.
pub(crate) fn explained(error: impl Into<Error>) -> anyhow::Error {
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
pub(crate) fn is_refusal(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Refused>()
            || cause
                .downcast_ref::<wdsr_batch::Error>()
                .is_some_and(wdsr_batch::Error::is_of_input)
            || cause
                .downcast_ref::<Error>()
                .is_some_and(|error| error.kind() == ErrorKind::Input)
            || cause
                .downcast_ref()
                .is_some_and(|e| !matches!(e, ImageError::Write { .. } | ImageError::Encode { .. }))
    })
}

/// The time that an image may take.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    timeout: Option<Duration>,
    started: Instant,
}

/// An image that takes longer than it may.
#[derive(Debug, thiserror::Error)]
#[error("{name}: not done within {} s; --timeout allows more", timeout.as_secs_f64())]
struct TimedOut {
    name: String,
    timeout: Duration,
}

impl Deadline {
    /// `None` for no limit.
    pub(super) fn start(timeout: Option<Duration>) -> Self {
        Self {
            timeout,
            started: Instant::now(),
        }
    }

    /// Whether to stop the work, by the deadline or a signal, as the result of a progress function.
    pub(super) fn flow(&self) -> ControlFlow<()> {
        match self.left() {
            Some(Duration::ZERO) => ControlFlow::Break(()),
            _ => signals::flow(),
        }
    }

    /// The time left; `None` for no limit.
    fn left(&self) -> Option<Duration> {
        Some(self.timeout?.saturating_sub(self.started.elapsed()))
    }

    /// Limits for reading and writing files that end at the deadline too.
    pub(super) fn limits(&self, limits: Limits) -> Limits {
        let end = self.timeout.and_then(|t| self.started.checked_add(t));
        let deadline = end.map_or_else(Default::default, wdsr_image::Deadline::at);
        Limits { deadline, ..limits }
    }

    /// The error of an image that is opened or published, which the deadline may have stopped.
    pub(super) fn explained_place(&self, name: &Path, error: wdsr_batch::Error) -> anyhow::Error {
        match error {
            wdsr_batch::Error::Image(error) => self.explained(name, error),
            error if error.is_stopped() && !signals::is_dropping() => self.timed_out(name),
            error => error.into(),
        }
    }

    fn timed_out(&self, name: &Path) -> anyhow::Error {
        TimedOut {
            name: name.display().to_string(),
            timeout: self.timeout.unwrap_or_default(),
        }
        .into()
    }

    /// [`explained`], where the deadline may have stopped the work on the image `name`.
    pub(super) fn explained(&self, name: &Path, error: impl Into<Error>) -> anyhow::Error {
        let error = error.into();
        let is_late = self.left() == Some(Duration::ZERO) && !signals::is_dropping();
        if error.kind() == ErrorKind::Stopped && is_late {
            return self.timed_out(name);
        }
        explained(error)
    }
}

/// Whether a signal stopped the work.
pub(super) fn is_stopped(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Error>()
        .is_some_and(|error| error.kind() == ErrorKind::Stopped)
        || error
            .downcast_ref::<wdsr_batch::Error>()
            .is_some_and(wdsr_batch::Error::is_stopped)
}
