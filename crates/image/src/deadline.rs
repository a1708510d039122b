//! The time at which reading or writing an image ends.

use std::io::{self, Read, Write};
use std::panic;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use crate::error::Error;

/// The time at which reading or writing an image ends with [`Error::TimedOut`]; by default there is none.
///
/// It is checked between rows, strips, scans and reads of the file. Decoders and encoders that compute a
/// whole image at once run on a thread that is left alone after the deadline, with its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

/// Bytes of a [`Checked`] stream between two looks at the clock.
const CHECKED_BYTES: usize = 4096;

impl Deadline {
    /// No deadline.
    pub const NONE: Self = Self(None);

    /// A deadline at a time.
    pub fn at(time: Instant) -> Self {
        Self(Some(time))
    }

    /// Whether there is a deadline.
    pub(crate) fn is_set(self) -> bool {
        self.0.is_some()
    }

    /// Whether the time is over.
    pub fn is_over(self) -> bool {
        self.0.is_some_and(|time| Instant::now() >= time)
    }

    /// An error if the time is over. Decoders and encoders wrap it; [`explained`](Self::explained) unwraps it.
    pub(crate) fn check(self) -> io::Result<()> {
        if self.is_over() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the time is over"));
        }
        Ok(())
    }

    /// Makes an error after the deadline [`Error::TimedOut`].
    pub(crate) fn explained<T>(self, result: Result<T, Error>, name: &Path) -> Result<T, Error> {
        let path = || name.to_owned();
        result.map_err(|error| match self.is_over() {
            true => Error::TimedOut { path: path() },
            false => error,
        })
    }

    /// Runs work that may compute long between two checks. After the deadline its thread is left alone.
    pub(crate) fn within<T: Send + 'static>(
        self,
        name: &Path,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let Some(time) = self.0 else {
            return work();
        };
        let timed_out = || Error::TimedOut {
            path: name.to_owned(),
        };
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out());
        }
        let (sender, receiver) = mpsc::channel();
        let spawned = thread::Builder::new().spawn(move || {
            // After the deadline the receiver is gone.
            let _late = sender.send(work());
        });
        let thread = spawned.map_err(|source| Error::Read {
            path: name.to_owned(),
            source,
        })?;
        match receiver.recv_timeout(left) {
            Ok(result) => self.explained(result, name),
            Err(RecvTimeoutError::Timeout) => Err(timed_out()),
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => panic::resume_unwind(panic),
                Ok(()) => unreachable!("the thread has sent its result"),
            },
        }
    }
}

/// A stream that fails after the deadline.
pub(crate) struct Checked<S> {
    stream: S,
    deadline: Deadline,
    bytes: usize,
}

impl<S> Checked<S> {
    pub(crate) fn new(stream: S, deadline: Deadline) -> Self {
        Self {
            stream,
            deadline,
            bytes: CHECKED_BYTES,
        }
    }

    fn count(&mut self, bytes: usize) -> io::Result<()> {
        self.bytes += bytes;
        if self.bytes >= CHECKED_BYTES {
            self.bytes = 0;
            self.deadline.check()?;
        }
        Ok(())
    }
}

impl<S: Read> Read for Checked<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.count(buffer.len())?;
        self.stream.read(buffer)
    }
}

impl<S: Write> Write for Checked<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.count(bytes.len())?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn streams_fail_after_the_deadline() {
        let over = Deadline::at(Instant::now());
        let mut byte = [0];
        let mut read = Checked::new(&[1, 2][..], over);
        let error = read.read(&mut byte).expect_err("the time is over");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut written = Checked::new(Vec::new(), over);
        assert!(written.write(&[1]).is_err());
        let mut read = Checked::new(&[1, 2][..], Deadline::default());
        assert_eq!(read.read(&mut byte).expect("no deadline"), 1);
    }

    #[test]
    fn work_that_does_not_end_is_left_alone() {
        let (sender, receiver) = mpsc::channel::<()>();
        let deadline = Deadline::at(Instant::now() + Duration::from_millis(1));
        // It ends when the test does.
        let work = move || Ok(receiver.recv());
        let error = deadline
            .within(Path::new("slow.jxl"), work)
            .expect_err("late");
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        drop(sender);
    }

    #[test]
    #[should_panic(expected = "a bug")]
    fn a_panic_of_the_work_is_passed_on() {
        let deadline = Deadline::at(Instant::now() + Duration::from_secs(3600));
        let _ = deadline.within(Path::new("x"), || -> Result<(), Error> { panic!("a bug") });
    }
}
