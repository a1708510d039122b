//! Work without the GIL, interruptible.

use std::ffi::CString;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyValueError};
use pyo3::prelude::*;
use wdsr_model::Progress;

/// How often to check for Ctrl-C.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// Runs `work` on a pool of `threads` threads (0: one for each processor) with the GIL released.
///
/// `progress` is called with rising counts, always in the calling thread, as GUIs need it; a slow one
/// skips counts. An exception in it or in a signal handler (Ctrl-C: `KeyboardInterrupt`) stops the work
/// and is returned.
///
/// The pool lives only as long as the work: in a process forked by `os.fork` (so by
/// `multiprocessing`) a longer-lived pool would have no threads, and hang.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    threads: i64,
    progress: Option<&Py<PyAny>>,
    work: impl FnOnce(&Progress<'_>) -> T + Send,
) -> PyResult<T> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(capped(py, count("threads", threads)?)?)
        .build()
        .map_err(cannot_start)?;
    let reports = progress.is_some();
    let stopped = AtomicBool::new(false);
    let stopped = &stopped;
    py.detach(|| {
        thread::scope(|scope| {
            let (sender, receiver) = channel();
            let on_pool = move || {
                pool.install(|| {
                    work(&|done, total| {
                        if stopped.load(Ordering::Relaxed) {
                            return ControlFlow::Break(());
                        }
                        if reports {
                            // The receiver is gone while the work is being stopped.
                            let _ = sender.send((done, total));
                        }
                        ControlFlow::Continue(())
                    })
                })
            };
            let worker = thread::Builder::new()
                .spawn_scoped(scope, on_pool)
                .map_err(cannot_start)?;
            let mut reported = 0;
            let raised = loop {
                let counts = match receiver.recv_timeout(SIGNALS_EVERY) {
                    Ok(first) => Some(receiver.try_iter().fold(first, Ord::max)),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break None,
                };
                // Threads report in any order.
                let counts = counts.filter(|(done, _)| *done > reported);
                let report = Python::attach(|py| {
                    py.check_signals()?;
                    if let (Some(progress), Some(counts)) = (progress, counts) {
                        progress.call1(py, counts)?;
                        reported = counts.0;
                    }
                    PyResult::Ok(())
                });
                if let Err(error) = report {
                    stopped.store(true, Ordering::Relaxed);
                    break Some(error);
                }
            };
            drop(receiver);
            let result = worker.join();
            match raised {
                Some(error) => Err(error),
                None => result.map_err(|_| {
                    PyRuntimeError::new_err(
                        "internal error of wdsr (see standard error); please report it",
                    )
                }),
            }
        })
    })
}

/// Threads for each processor that may be asked for. More are no faster, and thousands take minutes, in
/// which Ctrl-C is not noticed.
const MAX_PER_PROCESSOR: usize = 16;

/// The number of threads that was asked for here or, for 0, by RAYON_NUM_THREADS; capped with a
/// `RuntimeWarning`.
fn capped(py: Python<'_>, threads: usize) -> PyResult<usize> {
    let of_variable = || std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok();
    let requested = match threads {
        0 => of_variable().unwrap_or(0),
        threads => threads,
    };
    let most = MAX_PER_PROCESSOR * thread::available_parallelism().map_or(1, usize::from);
    if requested > most {
        let message = CString::new(format!(
            "{requested} threads are more than {MAX_PER_PROCESSOR} for each processor; using {most}"
        ))?;
        PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &message, 1)?;
    }
    Ok(requested.min(most))
}

fn cannot_start(error: impl std::fmt::Display) -> PyErr {
    PyRuntimeError::new_err(format!("cannot start threads: {error}; ask for fewer"))
}

/// An argument that counts something, 0 or more.
pub(crate) fn count(name: &str, value: i64) -> PyResult<usize> {
    usize::try_from(value)
        .map_err(|_| PyValueError::new_err(format!("{name} is {value}, expected 0 or more")))
}
