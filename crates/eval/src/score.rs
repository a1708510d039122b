//! Scores of upscaled images against the originals, beside those of bicubic interpolation.

use wdsr_image::imresize::{Rounding, imresize_u8_rounded};
use wdsr_model::Upscaler;

use crate::error::Error;
use crate::metrics::{WINDOW_PX, psnr_db, ssim};
use crate::pairs::{ImagePair, Pair};
use crate::report::ImageScore;
use crate::scoring::Scoring;
use crate::shifts;

/// Scores a model on pairs, one after another, on rayon's current thread pool. Calls `progress` with
/// each score.
///
/// # Errors
/// The first error of [`score_pair`].
///
/// # Panics
/// If the scale of a pair is not that of the model.
pub fn score_set(
    pairs: &[Pair],
    upscaler: &Upscaler,
    protocol: impl Into<Scoring>,
    mut progress: impl FnMut(&ImageScore),
) -> Result<Vec<ImageScore>, Error> {
    let protocol = protocol.into();
    pairs
        .iter()
        .map(|pair| {
            let score = score_pair(pair, upscaler, protocol)?;
            progress(&score);
            Ok(score)
        })
        .collect()
}

/// Scores a model on a pair, on rayon's current thread pool.
///
/// # Errors
/// If an image cannot be read, does not fit its counterpart or is too small for the protocol, or the
/// output of the model cannot be an image.
///
/// # Panics
/// If the scale of the pair is not that of the model.
pub fn score_pair(
    pair: &Pair,
    upscaler: &Upscaler,
    protocol: impl Into<Scoring>,
) -> Result<ImageScore, Error> {
    assert_eq!(
        pair.scale,
        upscaler.scale(),
        "scale of the pair and of the model"
    );
    score_pair_with(pair, protocol, |images| {
        let (width_px, height_px) = (images.low_width_px, images.low_height_px);
        let upscaled = upscaler.upscale(&images.low, width_px, height_px);
        upscaled.map_err(|source| Error::Upscale {
            path: pair.high.clone(),
            source,
        })
    })
}

/// Scores any upscaler on pairs, as [`score_set`] does a model. `upscale(low, width_px, height_px)`
/// gets the low-resolution image, `[height_px, width_px, 3]` R G B row-major, 0..255, and returns one
/// `scale` times as wide and high.
///
/// # Errors
/// The first error: an image cannot be read, does not fit its counterpart or is too small for the
/// protocol, or `upscale` fails.
///
/// # Panics
/// If the result of `upscale` and the original differ in the number of samples.
pub fn score_set_with<E: From<Error>>(
    pairs: &[Pair],
    protocol: impl Into<Scoring>,
    mut upscale: impl FnMut(&[u8], usize, usize) -> Result<Vec<u8>, E>,
    mut progress: impl FnMut(&ImageScore),
) -> Result<Vec<ImageScore>, E> {
    let protocol = protocol.into();
    pairs
        .iter()
        .map(|pair| {
            let score = score_pair_with(pair, protocol, |images| {
                upscale(&images.low, images.low_width_px, images.low_height_px)
            })?;
            progress(&score);
            Ok(score)
        })
        .collect()
}

/// Scores any upscaler on a pair. `upscale` gets the images, of which it should use the low-resolution one,
/// and returns an image of the high-resolution one's size, R G B row-major, 0..255.
///
/// # Errors
/// If an image cannot be read, does not fit its counterpart or is too small for the protocol, or
/// `upscale` fails.
///
/// # Panics
/// If the result of `upscale` and the original differ in the number of samples.
pub fn score_pair_with<E: From<Error>>(
    pair: &Pair,
    protocol: impl Into<Scoring>,
    upscale: impl FnOnce(&ImagePair) -> Result<Vec<u8>, E>,
) -> Result<ImageScore, E> {
    let protocol = protocol.into();
    let images = protocol.load(pair)?;
    let (width_px, height_px) = images.high_size_px();
    if protocol == Scoring::Ntire2018 && width_px.min(height_px) < shifts::LEAST_PX {
        let too_small = Error::TooSmallToShift {
            path: pair.high.clone(),
            width_px,
            height_px,
            least_px: shifts::LEAST_PX,
        };
        return Err(too_small.into());
    }
    let shave_px = protocol.shave_px(pair.scale);
    let least_px = 2 * shave_px + WINDOW_PX;
    if width_px.min(height_px) < least_px {
        let too_small = Error::TooSmall {
            path: pair.high.clone(),
            width_px,
            height_px,
            least_px,
            shave_px,
        };
        return Err(too_small.into());
    }
    let upscaled = upscale(&images)?;
    Ok(score_image(&pair.name, &images, &upscaled, protocol))
}

/// Scores an upscaled image: `upscaled` is `[height, width, 3]` R G B row-major, 0..255, of the
/// original's size.
///
/// # Panics
/// If `upscaled` and the original differ in the number of samples, or a side is shorter than 11 pixels
/// inside the protocol's border.
pub fn score_image(
    name: &str,
    pair: &ImagePair,
    upscaled: &[u8],
    protocol: impl Into<Scoring>,
) -> ImageScore {
    let protocol = protocol.into();
    let (w, h) = pair.high_size_px();
    let (channel, shave_px) = (protocol.channel(pair.grey), protocol.shave_px(pair.scale));
    let score = |image: &[u8]| match protocol {
        Scoring::Ntire2018 => shifts::psnr_db_and_ssim_over_shifts(image, &pair.high, w, h),
        _ => (
            psnr_db(image, &pair.high, w, h, channel, shave_px),
            ssim(image, &pair.high, w, h, channel, shave_px),
        ),
    };
    let (psnr_db, ssim) = score(upscaled);
    let (bicubic_psnr_db, bicubic_ssim) = score(&bicubic(pair));
    ImageScore {
        name: name.to_owned(),
        psnr_db,
        ssim,
        bicubic_psnr_db,
        bicubic_ssim,
        strength: None,
        damage: None,
    }
}

/// The baseline: MATLAB's bicubic `imresize` of the low-resolution image, rounded to 8 bit once.
/// Same shape and range as the pair's high-resolution image.
///
/// Rounding after each dimension, as for the low-resolution images, loses up to 0.005 dB on Set5 and
/// misses its published x2 figure in the second decimal.
pub fn bicubic(pair: &ImagePair) -> Vec<u8> {
    let (w, h, scale) = (pair.low_width_px, pair.low_height_px, pair.scale as f64);
    imresize_u8_rounded(&pair.low, w, h, 3, scale, Rounding::Float).pixels
}
