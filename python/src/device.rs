//! The device of a model: this processor or a GPU.

use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use wdsr_model::{Device, DeviceChoice};

/// The device that `wdsr.load` was asked for, open.
pub(crate) struct ModelDevice {
    /// As given: "cpu", "auto", "gpu" or "gpu:N".
    given: String,
    /// There is none without the feature `gpu`.
    gpu: Option<Arc<dyn Device>>,
}

impl ModelDevice {
    pub(crate) fn open(py: Python<'_>, text: &str) -> PyResult<Self> {
        let choice: DeviceChoice = text
            .parse()
            .map_err(|error| PyValueError::new_err(format!("device is '{text}', {error}")))?;
        Ok(Self {
            given: text.to_owned(),
            gpu: open(py, choice)?,
        })
    }

    /// The argument that opens it again.
    pub(crate) fn given(&self) -> &str {
        &self.given
    }

    /// The GPU; `None` if the processor computes.
    pub(crate) fn gpu(&self) -> Option<&Arc<dyn Device>> {
        self.gpu.as_ref()
    }

    /// Its name for people; "cpu" for the processor.
    pub(crate) fn name(&self) -> &str {
        self.gpu().map_or("cpu", |gpu| gpu.name())
    }

    /// Warns of what the processor computed for want of memory since the last call.
    pub(crate) fn warn(&self, py: Python<'_>) -> PyResult<()> {
        let warnings = self.gpu().map(|gpu| gpu.take_warnings());
        for warning in warnings.into_iter().flatten() {
            crate::model::warn(py, &for_python(&warning))?;
        }
        Ok(())
    }
}

#[cfg(feature = "gpu")]
fn open(py: Python<'_>, choice: DeviceChoice) -> PyResult<Option<Arc<dyn Device>>> {
    match py.detach(|| wdsr_gpu::Gpu::of_choice(choice)) {
        Ok(gpu) => Ok(gpu.map(|gpu| Arc::new(gpu) as Arc<dyn Device>)),
        Err(error) if choice == DeviceChoice::Auto => {
            let message = format!("device auto: {error}; computing on the processor");
            crate::model::warn(py, &for_python(&message))?;
            Ok(None)
        }
        Err(error) => Err(PyRuntimeError::new_err(for_python(&error.to_string()))),
    }
}

#[cfg(not(feature = "gpu"))]
fn open(_py: Python<'_>, choice: DeviceChoice) -> PyResult<Option<Arc<dyn Device>>> {
    match choice {
        DeviceChoice::Cpu | DeviceChoice::Auto => Ok(None),
        DeviceChoice::Gpu(_) => {
            let message = "this package was built without GPUs; install a wheel of PyPI (pip install wdsr), or build it by \
                           `maturin build --features gpu`";
            Err(PyRuntimeError::new_err(message))
        }
    }
}

/// A message with the remedy of the package instead of the program's.
pub(crate) fn for_python(message: &str) -> String {
    message.replace("--device cpu", "device=\"cpu\"")
}
