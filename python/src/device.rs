//! The device of a model: this processor or a GPU.

#[cfg(feature = "gpu")]
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use wdsr_model::{DeviceChoice, Precision, PrecisionChoice, Upscaler};

/// The device that `wdsr.load` was asked for, open. Without the feature `gpu` it is the processor.
pub(crate) struct ModelDevice {
    /// As given: "cpu", "auto", "gpu" or "gpu:N".
    given: String,
    #[cfg(feature = "gpu")]
    gpu: Option<Arc<wdsr_gpu::Gpu>>,
}

impl ModelDevice {
    pub(crate) fn open(py: Python<'_>, text: &str) -> PyResult<Self> {
        let choice: DeviceChoice = text
            .parse()
            .map_err(|error| PyValueError::new_err(format!("device is '{text}', {error}")))?;
        #[cfg(not(feature = "gpu"))]
        if let DeviceChoice::Gpu(_) = choice {
            let message = "this package was built without GPUs; install a wheel of PyPI (pip install wdsr), or build it by \
                           `maturin build --features gpu`";
            return Err(PyRuntimeError::new_err(message));
        }
        #[cfg(not(feature = "gpu"))]
        let _ = py;
        Ok(Self {
            given: text.to_owned(),
            #[cfg(feature = "gpu")]
            gpu: open(py, choice)?,
        })
    }

    /// The argument that opens it again.
    pub(crate) fn given(&self) -> &str {
        &self.given
    }
}

#[cfg(feature = "gpu")]
fn open(py: Python<'_>, choice: DeviceChoice) -> PyResult<Option<Arc<wdsr_gpu::Gpu>>> {
    use wdsr_gpu::{Choice, Gpu, GpuPrecision};
    let adapter = match choice {
        DeviceChoice::Cpu => return Ok(None),
        DeviceChoice::Gpu(Some(number)) => Choice::Index(number),
        DeviceChoice::Auto | DeviceChoice::Gpu(None) => Choice::Hardware,
    };
    let is_optional = choice == DeviceChoice::Auto;
    match py.detach(|| Gpu::open(adapter, GpuPrecision::F32)) {
        Ok(gpu) => Ok(Some(Arc::new(gpu.optional(is_optional)))),
        Err(error) if is_optional => {
            let message = format!("device auto: {error}; computing on the processor");
            crate::model::warn(py, &for_python(&message))?;
            Ok(None)
        }
        Err(error) => Err(PyRuntimeError::new_err(for_python(&error.to_string()))),
    }
}

/// A message with the remedy of the package instead of the program's.
pub(crate) fn for_python(message: &str) -> String {
    message.replace("--device cpu", "device=\"cpu\"")
}

#[cfg(feature = "gpu")]
impl ModelDevice {
    pub(crate) fn is_processor(&self) -> bool {
        self.gpu.is_none()
    }

    /// Its name for people; "cpu" for the processor.
    pub(crate) fn name(&self) -> &str {
        self.gpu.as_ref().map_or("cpu", |gpu| &gpu.summary().name)
    }

    /// The upscaler on the device.
    pub(crate) fn upscaler(&self, upscaler: Upscaler) -> Upscaler {
        match &self.gpu {
            Some(gpu) => upscaler.on_device(gpu.clone()),
            None => upscaler,
        }
    }

    /// Precision, and a GPU with its driver, on which the bits of a result depend; as the program records it.
    pub(crate) fn arithmetic_text(&self, precision: Precision) -> String {
        let precision = precision.name();
        match &self.gpu {
            Some(gpu) => format!("{precision}, {}", gpu.summary().driver_text()),
            None => precision.to_owned(),
        }
    }

    /// Warns of what the processor computed for want of memory since the last call.
    pub(crate) fn warn(&self, py: Python<'_>) -> PyResult<()> {
        let warnings = self.gpu.iter().flat_map(|gpu| gpu.take_warnings());
        for warning in warnings {
            crate::model::warn(py, &for_python(&warning))?;
        }
        Ok(())
    }
}

#[cfg(not(feature = "gpu"))]
impl ModelDevice {
    pub(crate) fn is_processor(&self) -> bool {
        true
    }

    pub(crate) fn name(&self) -> &str {
        "cpu"
    }

    pub(crate) fn upscaler(&self, upscaler: Upscaler) -> Upscaler {
        upscaler
    }

    pub(crate) fn arithmetic_text(&self, precision: Precision) -> String {
        precision.name().to_owned()
    }

    pub(crate) fn warn(&self, _py: Python<'_>) -> PyResult<()> {
        Ok(())
    }
}

impl ModelDevice {
    /// Refuses precisions of the processor on a GPU.
    pub(crate) fn check_precision(&self, choice: PrecisionChoice) -> PyResult<()> {
        match choice {
            PrecisionChoice::Of(precision @ (Precision::Bf16 | Precision::Int8))
                if !self.is_processor() =>
            {
                let (precision, name) = (precision.name(), self.name());
                let message = format!(
                    "precision is '{precision}', but {name} computes in f32; expected 'f32' or 'auto', or a model of \
                     device=\"cpu\""
                );
                Err(PyValueError::new_err(message))
            }
            _ => Ok(()),
        }
    }
}
