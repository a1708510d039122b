//! Scoring of upscaled images against the originals, bicubic interpolation beside it.

use wdsr_image::imresize::{Rounding, imresize_u8_rounded};
use wdsr_model::Upscaler;

use crate::error::Error;
use crate::metrics::{WINDOW_PX, psnr_db, ssim};
use crate::pairs::{ImagePair, Pair};
use crate::protocol::Protocol;
use crate::report::ImageScore;

/// Scores a model on pairs. One pair is in memory at a time; the model upscales it on rayon's
/// current thread pool. `progress` is told each score.
///
/// # Errors
/// When an image cannot be read, does not fit its counterpart or is too small for the protocol,
/// or the model gives what cannot be an image.
///
/// # Panics
/// When a pair's scale is not the model's.
pub fn score_set(
    pairs: &[Pair],
    upscaler: &Upscaler,
    protocol: Protocol,
    progress: impl FnMut(&ImageScore),
) -> Result<Vec<ImageScore>, Error> {
    for pair in pairs {
        check_scale(pair.scale, upscaler);
    }
    let upscale = |low: &[u8], w, h| Ok::<_, Error>(upscaler.upscale(low, w, h)?);
    score_set_with(pairs, protocol, upscale, progress)
}

/// [`score_set`] for whatever upscales images: `upscale(low, width_px, height_px)` is given the
/// low-resolution image, `[height_px, width_px, 3]` R G B row-major, 0..255, and returns one
/// `scale` times as wide and high.
///
/// # Errors
/// When an image cannot be read, does not fit its counterpart or is too small for the protocol,
/// or `upscale` fails.
///
/// # Panics
/// When `upscale` gives another number of samples than the original has.
pub fn score_set_with<E: From<Error>>(
    pairs: &[Pair],
    protocol: Protocol,
    mut upscale: impl FnMut(&[u8], usize, usize) -> Result<Vec<u8>, E>,
    mut progress: impl FnMut(&ImageScore),
) -> Result<Vec<ImageScore>, E> {
    pairs
        .iter()
        .map(|pair| {
            let images = pair.load()?;
            let (width_px, height_px) = images.high_size_px();
            let shave_px = protocol.shave_px(pair.scale);
            let least_px = 2 * shave_px + WINDOW_PX;
            if width_px.min(height_px) < least_px {
                let path = pair.high.clone();
                let too_small = Error::TooSmall {
                    path,
                    width_px,
                    height_px,
                    least_px,
                    shave_px,
                };
                return Err(too_small.into());
            }
            let made = upscale(&images.low, images.low_width_px, images.low_height_px)?;
            let score = score_pair_with(&pair.name, &images, &made, protocol);
            progress(&score);
            Ok(score)
        })
        .collect()
}

/// Scores an upscaled image: `made` is `[height, width, 3]` R G B row-major, 0..255, of the
/// original's size.
///
/// # Panics
/// When `made` has another number of samples than the original, or fewer than 11 pixels are left
/// on a side inside the protocol's border.
pub fn score_pair_with(
    name: &str,
    pair: &ImagePair,
    made: &[u8],
    protocol: Protocol,
) -> ImageScore {
    let bicubic = bicubic(pair);
    let (w, h) = pair.high_size_px();
    let (channel, shave_px) = (protocol.channel(pair.grey), protocol.shave_px(pair.scale));
    ImageScore {
        name: name.to_owned(),
        psnr_db: psnr_db(made, &pair.high, w, h, channel, shave_px),
        ssim: ssim(made, &pair.high, w, h, channel, shave_px),
        bicubic_psnr_db: psnr_db(&bicubic, &pair.high, w, h, channel, shave_px),
        bicubic_ssim: ssim(&bicubic, &pair.high, w, h, channel, shave_px),
    }
}

fn check_scale(scale: usize, upscaler: &Upscaler) {
    assert_eq!(
        scale,
        upscaler.scale(),
        "scale of the pair and of the model"
    );
}

/// The baseline: MATLAB's bicubic `imresize` of the low-resolution image, rounded to 8 bit once.
/// Same shape and range as the pair's high-resolution image.
///
/// Rounding after each dimension instead, as for the low-resolution images, loses up to 0.005 dB
/// on Set5 and misses its published x2 figure in the second decimal.
pub fn bicubic(pair: &ImagePair) -> Vec<u8> {
    let (w, h, scale) = (pair.low_width_px, pair.low_height_px, pair.scale as f64);
    imresize_u8_rounded(&pair.low, w, h, 3, scale, Rounding::Float).pixels
}
