//! `wdsr.psnr` and `wdsr.ssim`.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use wdsr_eval::{Channel, Protocol};
use wdsr_image::{Colour, Image, Samples};

use crate::pixels::Pixels;
use crate::work::{self, count};

/// Peak signal-to-noise ratio of two images in dB, by the protocol of published figures.
///
/// Parameters
/// ----------
/// a, b : numpy.ndarray or PIL.Image.Image
///     uint8, 0..255, [height, width, 3] R G B, or grey as [height, width] or [height, width, 1];
///     or images of mode RGB or L. Which one is the original makes no difference.
/// scale : int
///     How many times the image was upscaled; the border cut off follows from it.
/// protocol : {"benchmark", "div2k", "ntire"}, default "benchmark"
///     "benchmark": luma (grey images as they are), `scale` pixels cut off each side: Set5, Set14, B100,
///     Urban100. "div2k": RGB, `scale + 6` pixels: DIV2K figures of EDSR and WDSR. "ntire": RGB,
///     `scale` pixels: NTIRE challenges, BasicSR.
///
/// Returns
/// -------
/// float
///     dB, with a peak of 255; inf for equal images.
///
/// Raises
/// ------
/// TypeError
///     Another dtype than uint8: round and clip first, as the protocols do.
/// ValueError
///     The shapes differ, there is alpha, or the border leaves nothing.
#[pyfunction]
#[pyo3(signature = (a, b, scale, protocol = "benchmark"))]
pub(crate) fn psnr(
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    scale: i64,
    protocol: &str,
) -> PyResult<f64> {
    let pair = Pair::read(a, b, scale, protocol, 1)?;
    Ok(a.py().detach(|| {
        wdsr_eval::psnr_db(
            &pair.a,
            &pair.b,
            pair.width_px,
            pair.height_px,
            pair.channel,
            pair.shave_px,
        )
    }))
}

/// Mean structural similarity of two images (Wang et al. 2004: Gaussian window of 11 x 11, sigma 1.5),
/// by the protocol of published figures.
///
/// Parameters
/// ----------
/// a, b, scale, protocol
///     As for `psnr`.
/// threads : int, default 0
///     Number of threads; 0: one for each processor. It does not change the result.
///
/// Returns
/// -------
/// float
///     -1..1, 1 for equal images; of RGB the mean of the channels.
///
/// Raises
/// ------
/// TypeError
///     Another dtype than uint8.
/// ValueError
///     The shapes differ, there is alpha, or fewer than 11 pixels are left on a side.
#[pyfunction]
#[pyo3(signature = (a, b, scale, protocol = "benchmark", *, threads = 0))]
pub(crate) fn ssim(
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    scale: i64,
    protocol: &str,
    threads: i64,
) -> PyResult<f64> {
    /// Side of SSIM's window.
    const WINDOW_PX: usize = 11;
    let pair = Pair::read(a, b, scale, protocol, WINDOW_PX)?;
    work::run(a.py(), threads, None, |_| {
        wdsr_eval::ssim(
            &pair.a,
            &pair.b,
            pair.width_px,
            pair.height_px,
            pair.channel,
            pair.shave_px,
        )
    })
}

/// Two images that can be compared, as 8-bit RGB.
struct Pair {
    a: Vec<u8>,
    b: Vec<u8>,
    width_px: usize,
    height_px: usize,
    channel: Channel,
    shave_px: usize,
}

impl Pair {
    fn read(
        a: &Bound<'_, PyAny>,
        b: &Bound<'_, PyAny>,
        scale: i64,
        protocol: &str,
        least_px: usize,
    ) -> PyResult<Self> {
        let protocol: Protocol = protocol
            .parse()
            .map_err(|e| PyValueError::new_err(format!("protocol: {e}")))?;
        let scale = count("scale", scale)?;
        if scale == 0 || scale > MAX_SCALE {
            return Err(PyValueError::new_err(format!(
                "scale is {scale}, expected 1 to {MAX_SCALE}"
            )));
        }
        let (a, b) = (Pixels::read(a, "a")?, Pixels::read(b, "b")?);
        if (a.width_px, a.height_px, a.colour) != (b.width_px, b.height_px, b.colour) {
            return Err(PyValueError::new_err(format!(
                "a is {}, b is {} (height x width x channels), expected the same",
                a.describe(),
                b.describe()
            )));
        }
        if a.colour.has_alpha() {
            return Err(PyValueError::new_err(format!(
                "a is {} with alpha, expected RGB or grey: a[..., :{}]",
                a.describe(),
                a.colour.channels() - 1
            )));
        }
        let shave_px = protocol.shave_px(scale);
        if a.width_px.min(a.height_px) < 2 * shave_px + least_px {
            return Err(PyValueError::new_err(format!(
                "a is {}, expected sides of at least {} pixels: protocol {protocol} cuts \
                 {shave_px} off each side and {least_px} must be left",
                a.describe(),
                2 * shave_px + least_px
            )));
        }
        Ok(Self {
            width_px: a.width_px,
            height_px: a.height_px,
            channel: protocol.channel(a.colour == Colour::Grey),
            shave_px,
            a: rgb8(a, "a")?,
            b: rgb8(b, "b")?,
        })
    }
}

/// The largest scale that an image can have been upscaled by; keeps the border in range.
const MAX_SCALE: usize = 1024;

fn rgb8(pixels: Pixels<'_>, name: &str) -> PyResult<Vec<u8>> {
    let samples = pixels.samples;
    if !matches!(samples, Samples::U8(_)) {
        return Err(PyTypeError::new_err(format!(
            "{name} has samples of {} bytes, expected uint8: the protocols compare images of 8 bit",
            samples.depth().bytes()
        )));
    }
    let (width_px, height_px) = (pixels.width_px, pixels.height_px);
    Ok(Image::new(width_px, height_px, pixels.colour, samples).to_rgb8())
}
