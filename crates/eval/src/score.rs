//! Scoring of a model's pictures against the originals, bicubic interpolation beside it.

use wdsr_model::Upscaler;
use wdsr_picture::imresize::{Rounding, imresize_u8_rounded};

use crate::error::Error;
use crate::metrics::{psnr_db, ssim};
use crate::pairs::{Pair, PicturePair};
use crate::protocol::Protocol;
use crate::report::PictureScore;

/// The least side that SSIM's window needs.
const LEAST_SIDE_PX: usize = 11;

/// Scores a model on pairs, one picture in memory at a time. `progress` is told each score.
///
/// # Errors
/// When a picture cannot be read or is too small for the protocol.
///
/// # Panics
/// When a pair's scale is not the model's.
pub fn score_set(
    pairs: &[Pair],
    upscaler: &Upscaler,
    protocol: Protocol,
    mut progress: impl FnMut(&PictureScore),
) -> Result<Vec<PictureScore>, Error> {
    pairs
        .iter()
        .map(|pair| {
            let pictures = pair.load()?;
            let (width_px, height_px) = pictures.high_size_px();
            let shave_px = protocol.shave_px(pair.scale);
            if width_px.min(height_px) < 2 * shave_px + LEAST_SIDE_PX {
                return Err(Error::TooSmall {
                    path: pair.high.clone(),
                    width_px,
                    height_px,
                    shave_px,
                });
            }
            let score = score_pair(&pair.name, &pictures, upscaler, protocol);
            progress(&score);
            Ok(score)
        })
        .collect()
}

/// Scores a model on one pair.
///
/// # Panics
/// When the pair's scale is not the model's, or too few pixels are left inside the protocol's
/// border.
pub fn score_pair(
    name: &str,
    pair: &PicturePair,
    upscaler: &Upscaler,
    protocol: Protocol,
) -> PictureScore {
    assert_eq!(
        pair.scale,
        upscaler.scale(),
        "scale of the pair {name} and of the model"
    );
    let (low_w, low_h) = (pair.low_width_px, pair.low_height_px);
    let made = upscaler.upscale(&pair.low, low_w, low_h);
    let bicubic = bicubic(pair);
    let (w, h) = pair.high_size_px();
    let (channel, shave_px) = (protocol.channel(pair.grey), protocol.shave_px(pair.scale));
    PictureScore {
        name: name.to_owned(),
        psnr_db: psnr_db(&made, &pair.high, w, h, channel, shave_px),
        ssim: ssim(&made, &pair.high, w, h, channel, shave_px),
        bicubic_psnr_db: psnr_db(&bicubic, &pair.high, w, h, channel, shave_px),
        bicubic_ssim: ssim(&bicubic, &pair.high, w, h, channel, shave_px),
    }
}

impl PicturePair {
    /// Width and height of the high-resolution picture.
    pub fn high_size_px(&self) -> (usize, usize) {
        (
            self.low_width_px * self.scale,
            self.low_height_px * self.scale,
        )
    }
}

/// The baseline: MATLAB's `imresize` of the low-resolution picture, rounded to 8 bit once.
pub fn bicubic(pair: &PicturePair) -> Vec<u8> {
    let (w, h, scale) = (pair.low_width_px, pair.low_height_px, pair.scale as f64);
    imresize_u8_rounded(&pair.low, w, h, 3, scale, Rounding::None).pixels
}
