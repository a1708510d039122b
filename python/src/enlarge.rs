//! A picture without alpha through a network of three channels, as the program `wdsr` does it.

use wdsr_model::{Progress, UpscaleError, Upscaler};
use wdsr_picture::{Colour, Picture, Samples};

use crate::pixels::Borrowed;

/// Enlarges a picture of `width_px` x `height_px` in its own depth. RGB is read where it lies; grey
/// is copied as three equal colours.
///
/// # Panics
/// When there is alpha.
pub(crate) fn enlarge(
    samples: Borrowed<'_>,
    width_px: usize,
    height_px: usize,
    colour: Colour,
    upscaler: &Upscaler,
    progress: &Progress<'_>,
) -> Result<Picture, UpscaleError> {
    assert!(!colour.has_alpha(), "a picture of {colour:?}");
    if colour == Colour::Rgb {
        return enlarge_rgb(samples, width_px, height_px, upscaler, progress);
    }
    let rgb = Picture::new(width_px, height_px, colour, samples.to_samples()).grey_to_rgb();
    let samples = match &rgb.samples {
        Samples::U8(samples) => Borrowed::U8(samples),
        Samples::U16(samples) => Borrowed::U16(samples),
        Samples::F32(samples) => Borrowed::F32(samples),
    };
    let large = enlarge_rgb(samples, width_px, height_px, upscaler, progress)?;
    Ok(large.rgb_to_grey())
}

fn enlarge_rgb(
    samples: Borrowed<'_>,
    width_px: usize,
    height_px: usize,
    upscaler: &Upscaler,
    progress: &Progress<'_>,
) -> Result<Picture, UpscaleError> {
    let (w, h) = (width_px, height_px);
    let samples = match samples {
        Borrowed::U8(v) => Samples::U8(upscaler.upscale_with_progress(v, w, h, progress)?),
        Borrowed::U16(v) => Samples::U16(upscaler.upscale_with_progress(v, w, h, progress)?),
        Borrowed::F32(v) => Samples::F32(upscaler.upscale_with_progress(v, w, h, progress)?),
    };
    let scale = upscaler.scale();
    Ok(Picture::new(w * scale, h * scale, Colour::Rgb, samples))
}
