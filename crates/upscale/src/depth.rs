//! Between a picture's own depth and the floats that passes and resizing hand on.

use rayon::prelude::*;
use wdsr_model::{Sample, UpscaleError};
use wdsr_picture::{Depth, Picture, Samples};

/// The picture in floats, white 1.
pub(crate) fn to_float(picture: Picture) -> Picture {
    fn floats<T: Sample>(samples: &[T]) -> Vec<f32> {
        samples.par_iter().map(|sample| sample.to_unit()).collect()
    }
    let samples = Samples::F32(match picture.samples {
        Samples::U8(samples) => floats(&samples),
        Samples::U16(samples) => floats(&samples),
        Samples::F32(samples) => samples,
    });
    Picture { samples, ..picture }
}

/// The picture in the given depth; of floats, integers are rounded to nearest and clamped.
pub(crate) fn in_depth(picture: Picture, depth: Depth) -> Picture {
    fn rounded<T: Sample>(floats: &[f32]) -> Vec<T> {
        floats
            .par_iter()
            .map(|value| T::from_unit(*value))
            .collect()
    }
    let samples = match (picture.samples, depth) {
        (Samples::F32(floats), Depth::U8) => Samples::U8(rounded(&floats)),
        (Samples::F32(floats), Depth::U16) => Samples::U16(rounded(&floats)),
        (samples, _) => samples,
    };
    Picture { samples, ..picture }
}

/// Clamps floats to 0..1.
pub(crate) fn clamp_to_unit(picture: &mut Picture) {
    if let Samples::F32(floats) = &mut picture.samples {
        floats
            .par_iter_mut()
            .for_each(|value| *value = value.clamp(0.0, 1.0));
    }
}

/// Refuses floats that are NaN or infinite, as networks do.
pub(crate) fn check_finite(picture: &Picture) -> Result<(), UpscaleError> {
    let Samples::F32(floats) = &picture.samples else {
        return Ok(());
    };
    let Some(at) = floats.par_iter().position_first(|value| !value.is_finite()) else {
        return Ok(());
    };
    let pixel = at / picture.colour.channels();
    Err(UpscaleError::Input {
        value: floats[at],
        x: pixel % picture.width_px,
        y: pixel / picture.width_px,
    })
}
