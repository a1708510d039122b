//! Signals that end the program: SIGINT (Ctrl-C), SIGTERM and SIGHUP.
//!
//! The first Ctrl-C finishes the current image, the second drops it, the third ends the program at
//! once. SIGTERM and SIGHUP drop the current image, as their sender waits for seconds only. No
//! temporary file stays in any of these cases.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::progress;

/// Number of SIGINT, which is also that of Ctrl-C on other systems.
const SIGINT: i32 = 2;
/// How long a dropped image may take to stop. Container managers kill after ten seconds.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait at the end for a file that is being written.
const WRITING_GRACE: Duration = Duration::from_secs(2);

/// The last signal; 0 before the first.
static RECEIVED: AtomicI32 = AtomicI32::new(0);
static DROPPING: AtomicBool = AtomicBool::new(false);
/// Held while files are written, so that the program does not end meanwhile.
static WRITING: Mutex<()> = Mutex::new(());

/// Starts to listen. `note` is printed at the first Ctrl-C.
pub(crate) fn listen(note: &'static str) -> anyhow::Result<()> {
    listen_to(move |signal| on_signal(signal, note)).context("cannot listen for signals")
}

/// Calls `handle` with each signal.
#[cfg(unix)]
pub(crate) fn listen_to(handle: impl Fn(i32) + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGTERM};
    let ignored = ignored_signals();
    // nohup ignores SIGHUP, and a shell SIGINT for its background jobs; both mean the program to go on.
    let signals = [SIGINT, SIGTERM, SIGHUP]
        .into_iter()
        .filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = signal_hook::iterator::Signals::new(signals)?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || signals.forever().for_each(handle))?;
    Ok(())
}

/// The signals that the program ignores since its start, as a set of bits from signal 1. None where
/// the system does not tell.
#[cfg(unix)]
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or(0)
}

/// Calls `handle` with each Ctrl-C.
#[cfg(not(unix))]
pub(crate) fn listen_to(handle: impl Fn(i32) + Send + 'static) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(move || handle(SIGINT))
}

fn on_signal(signal: i32, note: &str) {
    let is_first = RECEIVED.swap(signal, Ordering::SeqCst) == 0;
    if is_first && signal == SIGINT {
        progress::note(note);
        return;
    }
    if DROPPING.swap(true, Ordering::SeqCst) {
        end(signal);
    }
    if signal != SIGINT {
        thread::spawn(move || {
            thread::sleep(GRACE);
            end(signal);
        });
    }
}

/// Ends the program: decoders and encoders cannot be stopped otherwise.
fn end(signal: i32) -> ! {
    let deadline = Instant::now() + WRITING_GRACE;
    let mut guard = WRITING.try_lock();
    while matches!(guard, Err(TryLockError::WouldBlock)) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
        guard = WRITING.try_lock();
    }
    wdsr_atomic_file::remove_unpublished();
    #[allow(clippy::exit, reason = "the main thread is busy")]
    std::process::exit(code_of(signal).into());
}

/// The exit code of a program that a signal ended, as shells report it.
fn code_of(signal: i32) -> u8 {
    128 + signal as u8
}

/// The exit code if a signal was received.
pub(crate) fn exit_code() -> Option<ExitCode> {
    match RECEIVED.load(Ordering::SeqCst) {
        0 => None,
        signal => Some(ExitCode::from(code_of(signal))),
    }
}

/// Whether the work should end.
pub(crate) fn requested() -> bool {
    RECEIVED.load(Ordering::SeqCst) != 0
}

/// Whether the current image should be dropped.
pub(crate) fn is_dropping() -> bool {
    DROPPING.load(Ordering::SeqCst)
}

/// [`is_dropping`] as the result of a progress function.
pub(crate) fn flow() -> ControlFlow<()> {
    match is_dropping() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// Keeps a signal from ending the program while the guard is held.
pub(crate) fn writing() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}
