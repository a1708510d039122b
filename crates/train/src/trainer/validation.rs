use std::path::Path;

use wdsr_eval::{Protocol, bicubic, psnr_db};
use wdsr_model::Upscaler;

use super::event::Event;
use crate::dataset::ValidationImage;
use crate::error::Error;

/// Mean PSNR of the model over the validation images, and of bicubic interpolation if
/// `with_bicubic`. Observes [`Event::ValidationImage`] for each image.
///
/// # Errors
/// If an image cannot be read, or the model's output is not a valid image; and those of `observe`.
///
/// # Panics
/// If there is no image.
pub(super) fn score<E: From<Error>>(
    upscaler: &Upscaler,
    images: &[ValidationImage],
    protocol: Protocol,
    with_bicubic: bool,
    observe: &mut impl FnMut(Event<'_>) -> Result<(), E>,
) -> Result<(f64, Option<f64>), E> {
    assert!(!images.is_empty(), "no validation images");
    let (mut sum, mut bicubic_sum) = (0.0, 0.0);
    for image in images {
        let pair = image.load()?;
        let (width_px, height_px) = (pair.low_width_px, pair.low_height_px);
        let upscaled = upscaler
            .upscale(&pair.low, width_px, height_px)
            .map_err(|source| Error::Upscale {
                path: Path::new(&image.name).to_owned(),
                source,
            })?;
        let (w, h) = pair.high_size_px();
        let (channel, shave_px) = (protocol.channel(pair.grey), protocol.shave_px(pair.scale));
        let score = |pixels: &[u8]| psnr_db(pixels, &pair.high, w, h, channel, shave_px);
        sum += score(&upscaled);
        if with_bicubic {
            bicubic_sum += score(&bicubic(&pair));
        }
        observe(Event::ValidationImage {
            name: &image.name,
            pair: &pair,
            upscaled: &upscaled,
        })?;
    }
    let count = images.len() as f64;
    Ok((sum / count, with_bicubic.then_some(bicubic_sum / count)))
}
