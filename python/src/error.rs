//! The project's errors as Python's.

use std::io;
use std::path::Path;

use pyo3::PyErr;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use wdsr_model::{Error, UpscaleError};

/// `OSError` of the fitting kind (`FileNotFoundError`, `PermissionError`, ...) where the system
/// refused, else `ValueError`.
pub(crate) fn of_model(error: Error) -> PyErr {
    match error {
        Error::Io { path, source, .. } => os_error(&source, &path),
        other => PyValueError::new_err(other.to_string()),
    }
}

/// With `errno`, `strerror` and `filename` set, as Python's own.
fn os_error(error: &io::Error, path: &Path) -> PyErr {
    let Some(errno) = error.raw_os_error() else {
        return PyOSError::new_err(format!("{}: {error}", path.display()));
    };
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text).to_owned();
    PyOSError::new_err((errno, words, path.as_os_str().to_owned()))
}

/// Why there is no result.
pub(crate) enum Failure {
    Upscale(UpscaleError),
    /// Bytes that are needed, which the system does not give.
    Memory(u128),
}

impl From<Failure> for PyErr {
    /// `ValueError` where the image is what is wrong, `RuntimeError` where the model is.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Upscale(error @ UpscaleError::Input { .. }) => {
                PyValueError::new_err(error.to_string())
            }
            Failure::Upscale(error) => PyRuntimeError::new_err(error.to_string()),
            Failure::Memory(bytes) => out_of_memory(bytes, "upscaling the image"),
        }
    }
}

fn out_of_memory(bytes: u128, what: &str) -> PyErr {
    PyMemoryError::new_err(format!(
        "{what} needs about {} MB of memory, which the system does not give",
        bytes / 1_000_000
    ))
}

/// Checks that so much memory can be had now: a failed allocation in the midst of the work would
/// end the interpreter.
pub(crate) fn check_memory(bytes: u128, what: &str) -> Result<(), PyErr> {
    if wdsr_image::is_memory_free(bytes) {
        return Ok(());
    }
    Err(out_of_memory(bytes, what))
}
