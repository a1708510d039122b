//! The progress of an image, by which it is also stopped.

use wdsr_model::UpscaleError;

/// Fails when the work is to stop. Steps without a network call it often enough that a cancelled image ends
/// within some hundredths of a second.
pub(crate) type Check<'a> = dyn Fn() -> Result<(), UpscaleError> + Sync + 'a;

/// Pixels between two checks of a step that takes some hundred nanoseconds for each.
pub(crate) const CHECKED_PIXELS: usize = 1 << 16;

/// Counts the pixels that networks have read.
pub(crate) struct Progress<'a> {
    report: &'a wdsr_model::Progress<'a>,
    done: u128,
    total: u128,
}

impl<'a> Progress<'a> {
    const STEPS: u128 = 1_000_000;

    /// The progress of passes that read `total` pixels.
    pub(crate) fn new(report: &'a wdsr_model::Progress<'a>, total: u128) -> Self {
        Self {
            report,
            done: 0,
            total,
        }
    }

    fn report(&self, done: u128) -> std::ops::ControlFlow<()> {
        let steps = done * Self::STEPS / self.total.max(1);
        (self.report)(steps as usize, Self::STEPS as usize)
    }

    /// Reports what is done so far.
    ///
    /// # Errors
    /// If the work is to stop.
    pub(crate) fn check(&self) -> Result<(), UpscaleError> {
        match self.report(self.done).is_break() {
            true => Err(UpscaleError::Stopped),
            false => Ok(()),
        }
    }

    /// Runs a pass over so many pixels, which reports its own progress.
    pub(crate) fn pass<T>(
        &mut self,
        pixels: u128,
        run: impl FnOnce(&wdsr_model::Progress) -> Result<T, UpscaleError>,
    ) -> Result<T, UpscaleError> {
        let result = run(&|done, of| self.report(self.done + pixels * done as u128 / of as u128))?;
        self.done += pixels;
        Ok(result)
    }
}
