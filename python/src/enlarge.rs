//! A picture of any colour through a network of three channels, as the program `wdsr` does it.

use wdsr_model::{Progress, UpscaleError, Upscaler};
use wdsr_picture::{Colour, Picture, Samples};

use crate::pixels::Borrowed;

/// Enlarges a picture of `width_px` x `height_px` in its own depth. RGB is read where it lies; of
/// other colours a copy in RGB is made.
pub(crate) fn enlarge(
    samples: Borrowed<'_>,
    width_px: usize,
    height_px: usize,
    colour: Colour,
    upscaler: &Upscaler,
    progress: &Progress<'_>,
) -> Result<Picture, UpscaleError> {
    if colour == Colour::Rgb {
        return enlarge_rgb(samples, width_px, height_px, upscaler, progress);
    }
    enlarge_picture(
        Picture::new(width_px, height_px, colour, samples.to_samples()),
        upscaler,
        progress,
    )
}

/// Colour through the network, alpha by bicubic interpolation.
fn enlarge_picture(
    picture: Picture,
    upscaler: &Upscaler,
    progress: &Progress<'_>,
) -> Result<Picture, UpscaleError> {
    let (colour, alpha) = picture.split_alpha();
    let grey = colour.colour == Colour::Grey;
    let rgb = colour.grey_to_rgb();
    let samples = match &rgb.samples {
        Samples::U8(samples) => Borrowed::U8(samples),
        Samples::U16(samples) => Borrowed::U16(samples),
        Samples::F32(samples) => Borrowed::F32(samples),
    };
    let large = enlarge_rgb(samples, rgb.width_px, rgb.height_px, upscaler, progress)?;
    let large = if grey { large.rgb_to_grey() } else { large };
    Ok(match alpha {
        Some(alpha) => large.join_alpha(&alpha.imresize(upscaler.scale() as f64)),
        None => large,
    })
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
