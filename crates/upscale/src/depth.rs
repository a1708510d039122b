//! Conversion between an image's own depth and the floats between passes and resizing.

use rayon::prelude::*;
use wdsr_image::{Depth, Image, Samples};
use wdsr_model::{Sample, UpscaleError};

/// Converts to floats; white is 1.
pub(crate) fn to_float(image: Image) -> Image {
    fn floats<T: Sample>(samples: &[T]) -> Vec<f32> {
        samples.par_iter().map(|sample| sample.to_unit()).collect()
    }
    let samples = Samples::F32(match image.samples {
        Samples::U8(samples) => floats(&samples),
        Samples::U16(samples) => floats(&samples),
        Samples::F32(samples) => samples,
    });
    Image { samples, ..image }
}

/// Converts floats to a depth; integers are rounded to nearest and clamped.
pub(crate) fn in_depth(image: Image, depth: Depth) -> Image {
    fn rounded<T: Sample>(floats: &[f32]) -> Vec<T> {
        floats
            .par_iter()
            .map(|value| T::from_unit(*value))
            .collect()
    }
    let samples = match (image.samples, depth) {
        (Samples::F32(floats), Depth::U8) => Samples::U8(rounded(&floats)),
        (Samples::F32(floats), Depth::U16) => Samples::U16(rounded(&floats)),
        (samples, _) => samples,
    };
    Image { samples, ..image }
}

/// Clamps floats to 0..1.
pub(crate) fn clamp_to_unit(image: &mut Image) {
    if let Samples::F32(floats) = &mut image.samples {
        floats
            .par_iter_mut()
            .for_each(|value| *value = value.clamp(0.0, 1.0));
    }
}

/// Checks that no float is NaN or infinite, as networks do.
pub(crate) fn check_finite(image: &Image) -> Result<(), UpscaleError> {
    let Samples::F32(floats) = &image.samples else {
        return Ok(());
    };
    let Some(at) = floats.par_iter().position_first(|value| !value.is_finite()) else {
        return Ok(());
    };
    let pixel = at / image.colour.channels();
    Err(UpscaleError::Input {
        value: floats[at],
        x: pixel % image.width_px,
        y: pixel / image.width_px,
    })
}
