//! Progress of an image.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::UpscaleError;

/// Receives (work done, work in all), from any thread, and decides whether to continue.
pub type Progress<'a> = dyn Fn(usize, usize) -> ControlFlow<()> + Sync + 'a;

/// Counts the parts of an image that are done: rows, or pixels.
pub(super) struct WorkCounter<'a> {
    done: AtomicUsize,
    /// Parts that were reported before they were added.
    reported: AtomicUsize,
    total: usize,
    progress: &'a Progress<'a>,
}

impl<'a> WorkCounter<'a> {
    pub(super) fn new(total: usize, progress: &'a Progress<'a>) -> Self {
        Self {
            done: AtomicUsize::new(0),
            reported: AtomicUsize::new(0),
            total,
            progress,
        }
    }

    /// Reports parts that are done beside those that were added, without adding them.
    pub(super) fn report(&self, under_way: usize) {
        let done = (self.done.load(Ordering::Relaxed) + under_way).min(self.total);
        let done = self.reported.fetch_max(done, Ordering::Relaxed).max(done);
        let _ = (self.progress)(done, self.total);
    }

    /// Adds parts that are done.
    ///
    /// # Errors
    /// If the progress function cancels the work.
    pub(super) fn add(&self, parts: usize) -> Result<(), UpscaleError> {
        if parts == 0 {
            return Ok(());
        }
        let done = self.done.fetch_add(parts, Ordering::Relaxed) + parts;
        let done = self.reported.load(Ordering::Relaxed).max(done);
        match (self.progress)(done, self.total) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(UpscaleError::Stopped),
        }
    }
}
