//! The time at which reading or writing an image ends.

use std::io::{self, Read, Write};
use std::panic;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;

/// The time at which reading or writing an image ends with [`Error::TimedOut`]; by default there is none.
///
/// It is checked between rows, strips, scans and reads of the file. Decoders and encoders that compute a
/// whole image at once run on a thread that is left alone after the deadline, with its memory. At most
/// [`MAX_LATE`] such threads run beyond their deadline; further images of such a format wait for one of them
/// to end, and fail with [`Error::TooManyLate`] at their own deadline.
#[derive(Clone, Debug, Default)]
pub struct Deadline {
    time: Option<Instant>,
    stop: Option<Arc<AtomicBool>>,
}

/// Most threads that decode or encode beyond their deadline, in the whole process.
pub const MAX_LATE: usize = 2;

/// How long work may go on after its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stops {
    /// It looks at the clock itself.
    Soon,
    /// Until it is complete.
    Late,
}

/// The threads beyond their deadline.
#[derive(Default)]
struct LateThreads {
    count: Mutex<usize>,
    ended: Condvar,
}

static LATE: LateThreads = LateThreads {
    count: Mutex::new(0),
    ended: Condvar::new(),
};

impl LateThreads {
    /// The number of threads, to be changed. A panic leaves no count half changed.
    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until fewer than [`MAX_LATE`] threads are late; returns whether that was so before the deadline.
    fn wait_for_place(&self, deadline: &Deadline) -> bool {
        let mut count = self.count();
        while *count >= MAX_LATE && !deadline.is_over() {
            let waited = self.ended.wait_timeout(count, deadline.next_check());
            (count, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        *count < MAX_LATE
    }
}

/// A thread, which counts as late from its deadline to its end.
struct LateThread(Mutex<ThreadState>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum ThreadState {
    OnTime,
    Late,
    Ended,
}

impl LateThread {
    fn state(&self) -> MutexGuard<'_, ThreadState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_late(&self) {
        let mut state = self.state();
        if *state == ThreadState::OnTime {
            *state = ThreadState::Late;
            *LATE.count() += 1;
        }
    }

    fn set_ended(&self) {
        let mut state = self.state();
        if *state == ThreadState::Late {
            *LATE.count() -= 1;
            LATE.ended.notify_all();
        }
        *state = ThreadState::Ended;
    }
}

/// Ends the count of a thread, also after a panic.
struct EndsThread(Arc<LateThread>);

impl Drop for EndsThread {
    fn drop(&mut self) {
        self.0.set_ended();
    }
}

/// How long a stopped image may wait for a thread of its decoder before it looks at the flag.
const STOP_CHECK: Duration = Duration::from_millis(20);

/// Bytes of a [`Checked`] stream between two looks at the clock.
const CHECKED_BYTES: usize = 4096;

impl Deadline {
    /// No deadline.
    pub const NONE: Self = Self {
        time: None,
        stop: None,
    };

    /// A deadline at a time.
    pub fn at(time: Instant) -> Self {
        Self {
            time: Some(time),
            stop: None,
        }
    }

    /// With a flag that ends the time as soon as another thread sets it.
    #[must_use]
    pub fn or_when(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Whether there is a deadline.
    pub(crate) fn is_set(&self) -> bool {
        self.time.is_some() || self.stop.is_some()
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    /// The time until the flag must be looked at again, or all that is left; `None` for no deadline.
    fn left(&self) -> Option<Duration> {
        let is_stopped = |stop: &Arc<AtomicBool>| stop.load(Ordering::Relaxed);
        if self.stop.as_ref().is_some_and(is_stopped) {
            return Some(Duration::ZERO);
        }
        self.time
            .map(|time| time.saturating_duration_since(Instant::now()))
    }

    /// How long to wait before looking at the deadline again.
    fn next_check(&self) -> Duration {
        let left = self.left().unwrap_or(Duration::MAX);
        match self.stop {
            Some(_) => left.min(STOP_CHECK),
            None => left,
        }
    }

    /// An error if the time is over. Decoders and encoders wrap it; [`explained`](Self::explained) unwraps it.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.is_over() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the time is over"));
        }
        Ok(())
    }

    /// Makes an error after the deadline [`Error::TimedOut`].
    pub(crate) fn explained<T>(&self, result: Result<T, Error>, name: &Path) -> Result<T, Error> {
        let path = || name.to_owned();
        result.map_err(|error| match self.is_over() {
            true => Error::TimedOut { path: path() },
            false => error,
        })
    }

    /// Runs work that may compute long between two checks. After the deadline its thread is left alone.
    pub(crate) fn within<T: Send + 'static>(
        &self,
        name: &Path,
        stops: Stops,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if !self.is_set() {
            return work();
        }
        let path = || name.to_owned();
        if self.is_over() {
            return Err(Error::TimedOut { path: path() });
        }
        if stops == Stops::Late && !LATE.wait_for_place(self) {
            return Err(Error::TooManyLate { path: path() });
        }
        let thread = Arc::new(LateThread(Mutex::new(ThreadState::OnTime)));
        let ends = EndsThread(thread.clone());
        let (sender, receiver) = mpsc::channel();
        let spawned = thread::Builder::new().spawn(move || {
            // Dropped after the result.
            let _ends = ends;
            // After the deadline the receiver is gone.
            let _late = sender.send(work());
        });
        let handle = spawned.map_err(|source| Error::Read {
            path: path(),
            source,
        })?;
        loop {
            match receiver.recv_timeout(self.next_check()) {
                Ok(result) => return self.explained(result, name),
                Err(RecvTimeoutError::Timeout) if !self.is_over() => {}
                Err(RecvTimeoutError::Timeout) => {
                    thread.set_late();
                    return Err(Error::TimedOut { path: path() });
                }
                Err(RecvTimeoutError::Disconnected) => match handle.join() {
                    Err(panic) => panic::resume_unwind(panic),
                    Ok(()) => unreachable!("the thread has sent its result"),
                },
            }
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
        let mut read = Checked::new(&[1, 2][..], over.clone());
        let error = read.read(&mut byte).expect_err("the time is over");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut written = Checked::new(Vec::new(), over);
        assert!(written.write(&[1]).is_err());
        let mut read = Checked::new(&[1, 2][..], Deadline::default());
        assert_eq!(read.read(&mut byte).expect("no deadline"), 1);
    }

    fn soon() -> Deadline {
        Deadline::at(Instant::now() + Duration::from_millis(20))
    }

    fn far() -> Deadline {
        Deadline::at(Instant::now() + Duration::from_secs(3600))
    }

    #[test]
    fn work_beyond_its_deadline_is_left_alone_and_limited_in_number() {
        let name = Path::new("slow.jxl");
        // Each ends when its sender is dropped.
        let mut senders = Vec::new();
        for _ in 0..MAX_LATE {
            let (sender, receiver) = mpsc::channel::<()>();
            let work = move || Ok(receiver.recv());
            let error = soon().within(name, Stops::Late, work).expect_err("late");
            assert!(matches!(error, Error::TimedOut { .. }), "{error}");
            senders.push(sender);
        }
        let more = || soon().within(name, Stops::Late, || -> Result<(), _> { unreachable!() });
        let error = more().expect_err("no place");
        assert!(matches!(error, Error::TooManyLate { .. }), "{error}");
        // Work that stops by itself takes no place.
        soon().within(name, Stops::Soon, || Ok(())).expect("done");
        // The first that ends makes place.
        let waits = thread::spawn(move || far().within(name, Stops::Late, || Ok(7)));
        senders.pop();
        let result = waits.join().expect("no panic").expect("done");
        assert_eq!(result, 7);
        drop(senders);
    }

    #[test]
    fn a_flag_ends_the_time() {
        let stop = Arc::new(AtomicBool::new(false));
        let deadline = Deadline::NONE.or_when(stop.clone());
        let name = Path::new("x.webp");
        let sum = deadline.within(name, Stops::Late, || Ok(1 + 1));
        assert_eq!(sum.expect("not stopped"), 2);
        let (sender, receiver) = mpsc::channel::<()>();
        let started = Instant::now();
        let stops = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            stop.store(true, Ordering::Relaxed);
        });
        let error = deadline
            .within(name, Stops::Soon, move || Ok(receiver.recv()))
            .expect_err("stopped");
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5), "{started:?}");
        assert!(deadline.is_over() && deadline.check().is_err());
        drop(sender);
        stops.join().expect("no panic");
    }

    #[test]
    #[should_panic(expected = "a bug")]
    fn a_panic_of_the_work_is_passed_on() {
        let panics = || -> Result<(), Error> { panic!("a bug") };
        let _ = far().within(Path::new("x"), Stops::Soon, panics);
    }
}
