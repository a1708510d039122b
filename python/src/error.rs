//! Errors as Python exceptions.

use std::io;
use std::path::Path;

use pyo3::PyErr;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use wdsr_model::{Error, UpscaleError};
use wdsr_upscale::OutOfMemory;

use crate::device::for_python;

/// `OSError` of the fitting kind (`FileNotFoundError`, `PermissionError`, ...) for errors of the
/// system, else `ValueError`.
pub(crate) fn of_model(error: Error) -> PyErr {
    match error {
        Error::Io { path, source, .. } => os_error(&source, &path),
        other => PyValueError::new_err(other.to_string()),
    }
}

/// With `errno`, `strerror` and `filename` set, as Python sets them.
fn os_error(error: &io::Error, path: &Path) -> PyErr {
    let Some(errno) = error.raw_os_error() else {
        return PyOSError::new_err(format!("{}: {error}", path.display()));
    };
    let text = error.to_string();
    let message = text.split(" (os error").next().unwrap_or(&text).to_owned();
    PyOSError::new_err((errno, message, path.as_os_str().to_owned()))
}

/// Why there is no result.
pub(crate) enum Failure {
    Upscale(UpscaleError),
    Memory(OutOfMemory),
}

impl From<OutOfMemory> for Failure {
    fn from(error: OutOfMemory) -> Self {
        Self::Memory(error)
    }
}

impl From<Failure> for PyErr {
    /// `ValueError` if the image is at fault, `RuntimeError` if the model or the device is.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Upscale(error @ UpscaleError::Input { .. }) => {
                PyValueError::new_err(error.to_string())
            }
            Failure::Upscale(error) => PyRuntimeError::new_err(for_python(&error.to_string())),
            Failure::Memory(error) => PyMemoryError::new_err(error.to_string()),
        }
    }
}

/// Checks that memory is available: a failed allocation amid the work would end the interpreter.
pub(crate) fn check_memory(bytes: u128, what: &str) -> Result<(), PyErr> {
    if wdsr_image::is_memory_free(bytes) {
        return Ok(());
    }
    Err(PyMemoryError::new_err(format!(
        "{what} needs about {} MiB of memory, more than is available",
        bytes.div_ceil(1 << 20)
    )))
}
