//! The time that a training may take.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::units;

/// The option that limits the time of a training.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct TimeArgument {
    /// Save and stop before TIME is over, such as 90 (seconds), 160m or 1h30m
    ///
    /// It counts from the start of the program. --resume goes on later.
    #[arg(long = "for", value_name = "TIME", value_parser = units::duration)]
    limit: Option<Duration>,
}

impl TimeArgument {
    /// Starts to count.
    pub(crate) fn start(self) -> TimeLimit {
        TimeLimit {
            limit: self.limit,
            start: Instant::now(),
            last_step: Cell::new(None),
            longest_step: Cell::new(Duration::ZERO),
        }
    }
}

/// A time limit that is kept by looking ahead: a step is expected to take as long as the longest so far.
pub(crate) struct TimeLimit {
    limit: Option<Duration>,
    start: Instant,
    last_step: Cell<Option<Instant>>,
    longest_step: Cell<Duration>,
}

impl TimeLimit {
    /// Whether the limit would be exceeded by another step; called after each. The longest step counts
    /// twice, since the end is a checkpoint, and steps differ.
    pub(crate) fn is_over(&self) -> bool {
        let Some(limit) = self.limit else {
            return false;
        };
        let now = Instant::now();
        if let Some(last) = self.last_step.replace(Some(now)) {
            let longest = self.longest_step.get();
            self.longest_step.set(longest.max(now - last));
        }
        now - self.start + 2 * self.longest_step.get() >= limit
    }
}
