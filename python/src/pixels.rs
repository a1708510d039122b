//! Images from and to Python: NumPy arrays and Pillow images.

use numpy::ndarray::ArrayD;
use numpy::{
    Element, IntoPyArray, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use wdsr_image::{Colour, Image, Samples};

use crate::error::check_memory;

/// A copy of a caller's image, and how to return one of the same kind.
///
/// It is a copy because the caller's array may be changed, resized or freed while the GIL is released.
pub(crate) struct Pixels<'py> {
    py: Python<'py>,
    /// `height_px * width_px * colour.channels()` samples, row-major, interleaved.
    pub(crate) samples: Samples,
    pub(crate) width_px: usize,
    pub(crate) height_px: usize,
    pub(crate) colour: Colour,
    form: Form<'py>,
}

enum Form<'py> {
    /// `[height, width]`
    Grey,
    /// `[height, width, channels]`
    Channels,
    /// `PIL.Image.Image`
    Pillow(Bound<'py, PyAny>),
}

impl<'py> Pixels<'py> {
    /// Copies an array of `uint8`, `uint16` or `float32`, `[height, width]` or
    /// `[height, width, 1 to 4]`, or the pixels of a Pillow image of mode L, LA, RGB, RGBA or I;16.
    ///
    /// Messages name the image by `name`.
    pub(crate) fn read(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Self> {
        let py = object.py();
        if let Ok(array) = object.cast::<PyUntypedArray>() {
            let form = match array.ndim() {
                2 => Form::Grey,
                _ => Form::Channels,
            };
            return Self::of_array(array, form, name);
        }
        if is_pillow_image(object)? {
            check_mode(object, name)?;
            let array = py
                .import(intern!(py, "numpy"))?
                .call_method1(intern!(py, "asarray"), (object,))?;
            return Self::of_array(array.cast()?, Form::Pillow(object.clone()), name);
        }
        Err(PyTypeError::new_err(format!(
            "{name} is {}, expected a numpy.ndarray or a PIL.Image.Image",
            object.get_type().fully_qualified_name()?
        )))
    }

    fn of_array(array: &Bound<'py, PyUntypedArray>, form: Form<'py>, name: &str) -> PyResult<Self> {
        let py = array.py();
        let shape = array.shape();
        let refused = |remedy: &str| {
            PyValueError::new_err(format!(
                "{name} has shape {shape:?}, expected [height, width] or [height, width, channels] \
                 with 1 to 4 channels and at least one pixel{remedy}"
            ))
        };
        let (height_px, width_px, channels) = match *shape {
            [height, width] => (height, width, 1),
            [height, width, channels] => (height, width, channels),
            [1, _, _, _] => return Err(refused("; give one image of the batch: array[0]")),
            _ => return Err(refused("")),
        };
        let colour = match channels {
            1 => Colour::Grey,
            2 => Colour::GreyAlpha,
            3 => Colour::Rgb,
            4 => Colour::RgbAlpha,
            _ if height_px <= 4 => {
                return Err(refused("; channels come last: array.transpose(1, 2, 0)"));
            }
            _ => return Err(refused("")),
        };
        if height_px == 0 || width_px == 0 {
            return Err(refused(""));
        }
        // Copies only if needed. Calling it from Rust would need unsafe code.
        let whole = py.import(intern!(py, "numpy"))?.call_method1(
            intern!(py, "require"),
            (array, py.None(), ["C_CONTIGUOUS", "ALIGNED"]),
        )?;
        let samples = if let Ok(array) = whole.cast::<PyArrayDyn<u8>>() {
            Samples::U8(copied(array)?)
        } else if let Ok(array) = whole.cast::<PyArrayDyn<u16>>() {
            Samples::U16(copied(array)?)
        } else if let Ok(array) = whole.cast::<PyArrayDyn<f32>>() {
            Samples::F32(copied(array)?)
        } else {
            return Err(PyTypeError::new_err(format!(
                "{name} has dtype {}, expected uint8 (0..255), uint16 (0..65535) or float32 (0..1) \
                 in the machine's byte order",
                array.dtype()
            )));
        };
        Ok(Self {
            py,
            samples,
            width_px,
            height_px,
            colour,
            form,
        })
    }

    /// Shape, such as `512 x 768 x 3`: height, width, channels.
    pub(crate) fn describe(&self) -> String {
        let channels = self.colour.channels();
        format!("{} x {} x {channels}", self.height_px, self.width_px)
    }

    /// An image of another size in the form of this one: an array of as many axes, or a Pillow
    /// image of the same mode with the same `info` (colour profile, EXIF).
    pub(crate) fn give_back(&self, image: Image) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let mut shape = vec![image.height_px, image.width_px];
        let channels = image.colour.channels();
        if matches!(self.form, Form::Channels) || channels > 1 {
            shape.push(channels);
        }
        let array = match image.samples {
            Samples::U8(samples) => owned(py, samples, shape)?,
            Samples::U16(samples) => owned(py, samples, shape)?,
            Samples::F32(samples) => owned(py, samples, shape)?,
        };
        let Form::Pillow(image) = &self.form else {
            return Ok(array);
        };
        let made = py
            .import(intern!(py, "PIL.Image"))?
            .call_method1(intern!(py, "fromarray"), (array,))?;
        let info = image.getattr(intern!(py, "info"))?.cast_into::<PyDict>()?;
        made.setattr(intern!(py, "info"), info.copy()?)?;
        Ok(made)
    }
}

/// The elements of an array without gaps.
fn copied<T: Element + Copy>(array: &Bound<'_, PyArrayDyn<T>>) -> PyResult<Vec<T>> {
    check_memory(
        (array.len() * size_of::<T>()) as u128,
        "a copy of the image",
    )?;
    let array = array.try_readonly()?;
    let gaps = |_| PyRuntimeError::new_err("numpy.require gave an array with gaps");
    Ok(array.as_slice().map_err(gaps)?.to_vec())
}

/// An array that owns the samples.
fn owned<T: Element>(
    py: Python<'_>,
    samples: Vec<T>,
    shape: Vec<usize>,
) -> PyResult<Bound<'_, PyAny>> {
    let array = ArrayD::from_shape_vec(shape, samples)
        .map_err(|e| PyRuntimeError::new_err(format!("samples of an image: {e}")))?;
    Ok(array.into_pyarray(py).into_any())
}

/// Whether it is a Pillow image. That is impossible before Pillow is imported, so the package never
/// imports it itself.
fn is_pillow_image(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    let modules = py
        .import(intern!(py, "sys"))?
        .getattr(intern!(py, "modules"))?;
    match modules.get_item(intern!(py, "PIL.Image")) {
        Ok(module) => object.is_instance(&module.getattr(intern!(py, "Image"))?),
        Err(_) => Ok(false),
    }
}

/// Refuses images of a mode that the result could not have.
fn check_mode(image: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
    let py = image.py();
    let mode: String = image.getattr(intern!(py, "mode"))?.extract()?;
    let remedy = match mode.as_str() {
        "L" | "RGB" => {
            let info = image.getattr(intern!(py, "info"))?;
            if !info.contains(intern!(py, "transparency"))? {
                return Ok(());
            }
            let mode = if mode == "L" { "LA" } else { "RGBA" };
            return Err(PyValueError::new_err(format!(
                "{name} has a transparent colour, which has no meaning between pixels; \
                 give image.convert({mode:?})"
            )));
        }
        "LA" | "RGBA" | "I;16" => return Ok(()),
        "1" => "image.convert(\"L\")",
        "La" => "image.convert(\"LA\")",
        "RGBa" => "image.convert(\"RGBA\")",
        "P" | "PA" => "image.convert(\"RGB\"), or \"RGBA\" where it is transparent",
        "I" => "numpy.asarray(image) as uint16",
        "F" => "numpy.asarray(image) scaled to 0..1",
        _ => "image.convert(\"RGB\")",
    };
    Err(PyValueError::new_err(format!(
        "{name} has mode {mode}, expected L, LA, RGB, RGBA or I;16; give {remedy}"
    )))
}
