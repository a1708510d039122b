use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use wdsr_eval::{Protocol, bicubic, psnr_db};
use wdsr_kernels::Isa;
use wdsr_model::{DevicePrecision, Model, Precision, Upscaler};

use super::event::Event;
use crate::dataset::{Degrader, ValidationImage};
use crate::device::TrainingDevice;
use crate::error::Error;

/// How a model is validated.
pub(super) struct Scoring<'s> {
    pub(super) model: &'s Model,
    pub(super) isa: Isa,
    /// Where images are computed, if not on this processor.
    pub(super) device: Option<Arc<dyn TrainingDevice>>,
    /// Of the low-resolution images.
    pub(super) degrader: Option<&'s Degrader>,
    pub(super) protocol: Protocol,
    /// Whether bicubic interpolation is scored too.
    pub(super) with_bicubic: bool,
}

impl Scoring<'_> {
    fn upscaler(&self, model: &Model) -> Upscaler {
        let precision = match model.int8() {
            Some(_) => Precision::Int8,
            None => Precision::F32,
        };
        let upscaler = Upscaler::with_isa(model, self.isa).precision(precision);
        match self.device.clone() {
            Some(device) => upscaler.on_device(device, DevicePrecision::F32),
            None => upscaler,
        }
    }

    /// Mean PSNR of the model over the validation images, and of bicubic interpolation if asked for.
    /// Observes [`Event::ValidationImage`] for each image.
    ///
    /// # Errors
    /// If an image cannot be read, or the model's output is not a valid image; and those of `observe`.
    ///
    /// # Panics
    /// If there is no image.
    pub(super) fn score<E: From<Error>>(
        &self,
        images: &[ValidationImage],
        observe: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(f64, Option<f64>), E> {
        assert!(!images.is_empty(), "no validation images");
        let mut upscaler = self.upscaler(self.model);
        let (mut sum, mut bicubic_sum) = (0.0, 0.0);
        for (index, image) in images.iter().enumerate() {
            let mut pair = image.load()?;
            if let Some(degrader) = self.degrader {
                let (degraded, strength) = degrader.degraded(&pair, index, images.len());
                pair = Cow::Owned(degraded);
                if let Some(strength) = strength {
                    let model = self.model.at_strength(strength);
                    upscaler = self.upscaler(&model);
                }
            }
            let (width_px, height_px) = (pair.low_width_px, pair.low_height_px);
            let upscaled = upscaler
                .upscale(&pair.low, width_px, height_px)
                .map_err(|source| Error::Upscale {
                    path: Path::new(&image.name).to_owned(),
                    source,
                })?;
            let (w, h) = pair.high_size_px();
            let protocol = self.protocol;
            let (channel, shave_px) = (protocol.channel(pair.grey), protocol.shave_px(pair.scale));
            let score = |pixels: &[u8]| psnr_db(pixels, &pair.high, w, h, channel, shave_px);
            sum += score(&upscaled);
            if self.with_bicubic {
                bicubic_sum += score(&bicubic(&pair));
            }
            observe(Event::ValidationImage {
                name: &image.name,
                pair: &pair,
                upscaled: &upscaled,
            })?;
        }
        let count = images.len() as f64;
        Ok((
            sum / count,
            self.with_bicubic.then_some(bicubic_sum / count),
        ))
    }
}
