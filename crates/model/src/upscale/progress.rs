//! Progress of an image.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::UpscaleError;

/// Receives (rows done, rows in all), from any thread, and decides whether to continue.
pub type Progress<'a> = dyn Fn(usize, usize) -> ControlFlow<()> + Sync + 'a;

/// Counts the rows of an image that are done.
pub(super) struct RowCounter<'a> {
    done: AtomicUsize,
    total: usize,
    progress: &'a Progress<'a>,
}

impl<'a> RowCounter<'a> {
    pub(super) fn new(total: usize, progress: &'a Progress<'a>) -> Self {
        Self {
            done: AtomicUsize::new(0),
            total,
            progress,
        }
    }

    /// Adds rows that are done.
    ///
    /// # Errors
    /// If the progress function cancels the work.
    pub(super) fn add(&self, rows: usize) -> Result<(), UpscaleError> {
        if rows == 0 {
            return Ok(());
        }
        let done = self.done.fetch_add(rows, Ordering::Relaxed) + rows;
        match (self.progress)(done, self.total) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(UpscaleError::Stopped),
        }
    }
}
