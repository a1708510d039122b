//! MATLAB's `imresize`, with the bicubic kernel and, to a given size, Lanczos's.
//!
//! `y[i] = sum_j w[i, j] x[j]` along one dimension after the other, height first; the weights are
//! in [`taps`](self). Kernel a = -0.5 (Keys) or Lanczos's of radius 3, widened by 1/scale when
//! reducing (antialiasing), weights normalised to sum 1, edges reflected about the outer pixel
//! border, output size `ceil(n scale)`.
//!
//! Source: MATLAB R2011a and later, `toolbox/images/images/imresize.m` (`contributions`, `cubic`).
//! The DIV2K `LR_bicubic` images are `imresize(uint8 image, 1/s, "bicubic")`: MATLAB rounds
//! and clips to 8 bit after each of the two dimensions, which [`Rounding::EightBitPasses`] does.
//!
//! Pixels are interleaved and row-major, 1 to 4 channels; alpha is a channel like any other.
//! Tensor-shaped arguments do not exist here.

mod passes;
mod taps;

use std::fmt;
use std::str::FromStr;

use crate::pixels::Image;
use crate::samples::Samples;
use passes::{resize, round_half_up, try_resize};
pub use taps::Kernel;
use taps::Taps;

/// When the 8-bit values are rounded. Reads and prints as `8bit` and `float`.
///
/// The two differ in 10 to 15 % of the samples, by a few levels at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// After each dimension, half up, clipped to 0..255: MATLAB's `imresize` of a uint8 array. Byte
    /// for byte the images of DIV2K and the published ones of Set5.
    #[default]
    EightBitPasses,
    /// Not between the dimensions, and once at the end: MATLAB's
    /// `im2uint8(imresize(im2double(a), scale))`, with which BasicSR and mmagic make theirs.
    Float,
}

impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EightBitPasses => "8bit",
            Self::Float => "float",
        })
    }
}

/// A text that names no [`Rounding`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 8bit or float, found `{0}`")]
pub struct UnknownRounding(pub String);

impl FromStr for Rounding {
    type Err = UnknownRounding;

    fn from_str(text: &str) -> Result<Self, UnknownRounding> {
        let found = [Self::EightBitPasses, Self::Float]
            .into_iter()
            .find(|rounding| rounding.to_string() == text);
        found.ok_or_else(|| UnknownRounding(text.to_owned()))
    }
}

/// A resized image.
#[derive(Clone, Debug, PartialEq)]
pub struct Resized<T> {
    /// Width in pixels.
    pub width_px: usize,
    /// Height in pixels.
    pub height_px: usize,
    /// Interleaved, row-major, as many channels as the input.
    pub pixels: Vec<T>,
}

/// Resizes 8-bit pixels with [`Rounding::EightBitPasses`]: byte-exact with DIV2K.
///
/// # Panics
///
/// As [`imresize_f32`].
///
/// # Examples
/// ```
/// use wdsr_image::imresize::imresize_u8;
///
/// // 8 x 6 pixels of grey, and the low-resolution image a x2 model is scored on.
/// let high = vec![200_u8; 8 * 6];
/// let low = imresize_u8(&high, 8, 6, 1, 0.5);
/// assert_eq!((low.width_px, low.height_px), (4, 3));
/// assert_eq!(low.pixels, [200; 4 * 3]);
/// ```
pub fn imresize_u8(
    pixels: &[u8],
    width_px: usize,
    height_px: usize,
    channels: usize,
    scale: f64,
) -> Resized<u8> {
    imresize_u8_rounded(
        pixels,
        width_px,
        height_px,
        channels,
        scale,
        Rounding::EightBitPasses,
    )
}

/// Resizes 8-bit pixels with the rounding of choice.
///
/// # Panics
///
/// As [`imresize_f32`].
pub fn imresize_u8_rounded(
    pixels: &[u8],
    width_px: usize,
    height_px: usize,
    channels: usize,
    scale: f64,
    rounding: Rounding,
) -> Resized<u8> {
    let across = Taps::at_scale(width_px, scale);
    let down = Taps::at_scale(height_px, scale);
    check(pixels.len(), width_px, height_px, channels);
    // The second pass sees integers again only if the first is rounded.
    let exact_in_f32 =
        rounding == Rounding::EightBitPasses && across.exact_in_f32() && down.exact_in_f32();
    let pixels = if exact_in_f32 {
        let round = |v: f32| round_half_up_exact(v);
        resize::<u8, f32, u8>(pixels, channels, &across, &down, round, |v| round(v) as u8)
    } else {
        let round = |v: f64| f64::from(round_half_up(v, 255.0) as u8);
        let between = |v| {
            if rounding == Rounding::EightBitPasses {
                round(v)
            } else {
                v
            }
        };
        resize::<u8, f64, u8>(pixels, channels, &across, &down, between, |v| {
            round_half_up(v, 255.0) as u8
        })
    };
    Resized {
        width_px: across.len(),
        height_px: down.len(),
        pixels,
    }
}

/// Resizes 16-bit pixels: no rounding between the dimensions, rounded half up and clipped to
/// 0..65535 at the end.
///
/// # Panics
///
/// As [`imresize_f32`].
pub fn imresize_u16(
    pixels: &[u16],
    width_px: usize,
    height_px: usize,
    channels: usize,
    scale: f64,
) -> Resized<u16> {
    let across = Taps::at_scale(width_px, scale);
    let down = Taps::at_scale(height_px, scale);
    check(pixels.len(), width_px, height_px, channels);
    let pixels = resize::<u16, f64, u16>(
        pixels,
        channels,
        &across,
        &down,
        |v| v,
        |v| round_half_up(v, 65_535.0) as u16,
    );
    Resized {
        width_px: across.len(),
        height_px: down.len(),
        pixels,
    }
}

/// Resizes float pixels of any range; nothing is clipped, so the kernel's overshoot stays.
/// Computed in f64 and rounded once, to f32.
///
/// # Panics
///
/// If `pixels` does not hold `width_px * height_px * channels`, a side is 0, there are not 1 to 4
/// channels, or `scale` is not finite and above 0.
pub fn imresize_f32(
    pixels: &[f32],
    width_px: usize,
    height_px: usize,
    channels: usize,
    scale: f64,
) -> Resized<f32> {
    let across = Taps::at_scale(width_px, scale);
    let down = Taps::at_scale(height_px, scale);
    float(pixels, width_px, height_px, channels, &across, &down)
}

/// Resizes float pixels to a given size, as MATLAB's `imresize(a, [height width], kernel)`: the
/// scale is output over input, for each dimension by itself. Computed in f64 and rounded once, to
/// f32; nothing is clipped.
///
/// # Panics
///
/// If `pixels` does not hold `width_px * height_px * channels`, a side is 0, or there are not 1 to
/// 4 channels.
pub fn imresize_to_f32(
    pixels: &[f32],
    width_px: usize,
    height_px: usize,
    channels: usize,
    to_width_px: usize,
    to_height_px: usize,
    kernel: Kernel,
) -> Resized<f32> {
    let (size, to_size) = ((width_px, height_px), (to_width_px, to_height_px));
    let (wraps, never) = ((false, false), || false);
    let resized = imresize_wrapped_to_f32(pixels, size, channels, to_size, kernel, wraps, never);
    resized.unwrap_or_else(|| unreachable!("it is never stopped"))
}

/// [`imresize_to_f32`] of an image that continues beyond an edge at the opposite one, if `wraps` says so: along
/// x and along y. Other edges are reflected. `None` if `is_stopped`, which is asked before each row of the result, from
/// any thread.
///
/// # Panics
///
/// As [`imresize_to_f32`].
pub fn imresize_wrapped_to_f32(
    pixels: &[f32],
    (width_px, height_px): (usize, usize),
    channels: usize,
    (to_width_px, to_height_px): (usize, usize),
    kernel: Kernel,
    (wraps_x, wraps_y): (bool, bool),
    is_stopped: impl Fn() -> bool + Sync,
) -> Option<Resized<f32>> {
    let edge = |wraps| if wraps { taps::wrap } else { taps::reflect };
    let across = Taps::to_len(width_px, to_width_px, kernel, edge(wraps_x));
    let down = Taps::to_len(height_px, to_height_px, kernel, edge(wraps_y));
    check(pixels.len(), width_px, height_px, channels);
    let rounded = |v: f64| v as f32;
    let pixels = try_resize(pixels, channels, &across, &down, |v| v, rounded, is_stopped);
    Some(Resized {
        width_px: across.len(),
        height_px: down.len(),
        pixels: pixels?,
    })
}

fn float(
    pixels: &[f32],
    width_px: usize,
    height_px: usize,
    channels: usize,
    across: &Taps,
    down: &Taps,
) -> Resized<f32> {
    check(pixels.len(), width_px, height_px, channels);
    let pixels = resize::<f32, f64, f32>(pixels, channels, across, down, |v| v, |v| v as f32);
    Resized {
        width_px: across.len(),
        height_px: down.len(),
        pixels,
    }
}

fn check(len: usize, width_px: usize, height_px: usize, channels: usize) {
    assert!(
        (1..=4).contains(&channels),
        "imresize takes 1 to 4 channels, not {channels}"
    );
    assert_eq!(
        Some(len),
        width_px
            .checked_mul(height_px)
            .and_then(|pixels| pixels.checked_mul(channels)),
        "samples of a {width_px} x {height_px} image of {channels} channels"
    );
}

/// Rounds half up and clips to 0..255 a sum that is exact in f32 with at most
/// [`taps::EXACT_FRACTION_BITS`] fraction bits, without a conversion to integer.
///
/// A quarter of the last fraction bit lifts a tie above the middle and nothing else across it, so
/// that the addition of 2^23, which rounds to the nearest integer, rounds half up.
#[inline(always)]
fn round_half_up_exact(v: f32) -> f32 {
    const LIFT: f32 = 1.0 / (1u32 << (taps::EXACT_FRACTION_BITS + 2)) as f32;
    const INTEGERS: f32 = (1u32 << 23) as f32;
    (v.clamp(0.0, 255.0) + LIFT + INTEGERS) - INTEGERS
}

impl Image {
    /// This image resized by MATLAB's bicubic `imresize`; the metadata is carried along.
    ///
    /// 8 bit is rounded after each dimension ([`imresize_u8`]), 16 bit once at the end
    /// ([`imresize_u16`]), float is not clipped ([`imresize_f32`]). The size becomes
    /// `ceil(width scale)` by `ceil(height scale)`. Alpha is resized like a colour.
    ///
    /// # Panics
    ///
    /// If `scale` is not finite and above 0.
    pub fn imresize(&self, scale: f64) -> Self {
        fn parts<T>(resized: Resized<T>) -> (usize, usize, Vec<T>) {
            (resized.width_px, resized.height_px, resized.pixels)
        }
        let (w, h, channels) = (self.width_px, self.height_px, self.colour.channels());
        let (width_px, height_px, samples) = match &self.samples {
            Samples::U8(samples) => {
                let (w, h, out) = parts(imresize_u8(samples, w, h, channels, scale));
                (w, h, Samples::U8(out))
            }
            Samples::U16(samples) => {
                let (w, h, out) = parts(imresize_u16(samples, w, h, channels, scale));
                (w, h, Samples::U16(out))
            }
            Samples::F32(samples) => {
                let (w, h, out) = parts(imresize_f32(samples, w, h, channels, scale));
                (w, h, Samples::F32(out))
            }
        };
        Self {
            metadata: self.metadata.clone(),
            ..Self::new(width_px, height_px, self.colour, samples)
        }
    }
}
