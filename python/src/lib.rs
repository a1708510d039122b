//! The Python package `wdsr`: what users see is documented in the docstrings here and typed in
//! `wdsr.pyi`.
#![forbid(unsafe_code)]

mod device;
mod error;
mod files;
mod manifest;
mod model;
mod pixels;
mod resize;
mod scores;
mod size;
mod work;

/// Image super-resolution with WDSR networks, on the processor, for NumPy arrays and Pillow images.
///
///     >>> import wdsr
///     >>> model = wdsr.load("small", scale=2)
///     >>> large = model.upscale(image)
#[pyo3::pymodule]
mod wdsr {
    use pyo3::prelude::*;
    use pyo3::types::PyModule;

    #[pymodule_export]
    use crate::files::{upscale_file, upscale_files};
    #[pymodule_export]
    use crate::manifest::{Manifest, find_images};
    #[pymodule_export]
    use crate::model::{Model, load};
    #[pymodule_export]
    use crate::resize::imresize;
    #[pymodule_export]
    use crate::scores::{psnr, ssim};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // Where it is missing this is an ImportError; the crate `numpy` would panic later.
        module.py().import("numpy")?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
