//! `wdsr.imresize`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use wdsr_image::imresize::{
    Resized, Rounding, UnknownRounding, imresize_f32, imresize_u8_rounded, imresize_u16,
};
use wdsr_image::{Image, Samples, SamplesRef};

use crate::error::check_memory;
use crate::pixels::Pixels;
use crate::work;

/// The largest factor, and the inverse of the smallest: the taps of each pixel must fit into memory.
const MAX_SCALE: f64 = 1024.0;

/// Resizes an image as MATLAB's `imresize(image, scale)` does (bicubic, antialiased): with scale 1/2, 1/3,
/// 1/4 byte for byte the low-resolution images of DIV2K.
///
/// Parameters
/// ----------
/// image : numpy.ndarray or PIL.Image.Image
///     Array of uint8, uint16 or float32, [height, width] or [height, width, 1 to 4], or an image of
///     mode L, LA, RGB, RGBA or I;16. Each channel is resized by itself, alpha too.
/// scale : float
///     1/1024 to 1024.
/// rounding : {"8bit", "float"}, default "8bit"
///     When to round uint8 images. "8bit": after each dimension, as MATLAB does with uint8 and as DIV2K
///     was made. "float": once at the end, as `im2uint8(imresize(im2double(image), scale))` does and as
///     many copies of Set5 and Set14 were made. uint16 is rounded once at the end; float32 is neither
///     rounded nor clipped.
/// threads : int, default 0
///     Number of threads; 0: one for each processor. It does not change the result.
///
/// Returns
/// -------
/// numpy.ndarray or PIL.Image.Image
///     The same dtype and number of axes, [ceil(height * scale), ceil(width * scale), channels]. For a
///     Pillow image, an image of the same mode and `info`.
///
/// Raises
/// ------
/// TypeError
///     The image is neither, or has another dtype.
/// ValueError
///     The image has another shape or mode, or an argument is out of range.
/// MemoryError
///     The result needs more memory than is available.
#[pyfunction]
#[pyo3(signature = (image, scale, *, rounding = "8bit", threads = 0))]
pub(crate) fn imresize<'py>(
    image: &Bound<'py, PyAny>,
    scale: f64,
    rounding: &str,
    threads: i64,
) -> PyResult<Bound<'py, PyAny>> {
    let rounding: Rounding = rounding.parse().map_err(|_: UnknownRounding| {
        PyValueError::new_err(format!(
            "rounding is '{rounding}', expected '8bit' or 'float'"
        ))
    })?;
    if !(1.0 / MAX_SCALE..=MAX_SCALE).contains(&scale) {
        return Err(PyValueError::new_err(format!(
            "scale is {scale}, expected 1/{MAX_SCALE} to {MAX_SCALE}"
        )));
    }
    let pixels = Pixels::read(image, "image")?;
    let samples = pixels.samples.borrowed();
    let (w, h, colour) = (pixels.width_px, pixels.height_px, pixels.colour);
    let channels = colour.channels();
    check_memory(
        memory(w, h, channels * samples.depth().bytes(), scale),
        "the resized image",
    )?;
    let resized = work::run(image.py(), threads, None, |_| {
        let (width_px, height_px, samples) = match samples {
            SamplesRef::U8(v) => parts(
                imresize_u8_rounded(v, w, h, channels, scale, rounding),
                Samples::U8,
            ),
            SamplesRef::U16(v) => parts(imresize_u16(v, w, h, channels, scale), Samples::U16),
            SamplesRef::F32(v) => parts(imresize_f32(v, w, h, channels, scale), Samples::F32),
        };
        Image::new(width_px, height_px, colour, samples)
    })?;
    pixels.give_back(resized)
}

fn parts<T>(resized: Resized<T>, samples: fn(Vec<T>) -> Samples) -> (usize, usize, Samples) {
    (resized.width_px, resized.height_px, samples(resized.pixels))
}

/// Bytes of the result and of the taps: a position and two weights each.
fn memory(width_px: usize, height_px: usize, bytes_per_pixel: usize, scale: f64) -> u128 {
    let (width, height) = (
        (width_px as f64 * scale).ceil() as u128,
        (height_px as f64 * scale).ceil() as u128,
    );
    let taps = (4.0 / scale.min(1.0)).ceil() as u128 + 2;
    width * height * bytes_per_pixel as u128 + (width + height) * taps * 24
}
