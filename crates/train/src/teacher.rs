//! Distillation: a larger model shows what it makes of each patch.
//!
//! With the weight w the loss is (1 - w) times that against the original plus w times that against
//! the teacher's image (Hinton et al. 2015, "Distilling the
//! Knowledge in a Neural Network", for images instead of classes). The
//! teacher's image has no detail that a network could not make, so less of the gradient is
//! spent on what cannot be learnt.

use std::path::PathBuf;

use wdsr_kernels::{Isa, Planes};
use wdsr_model::Upscaler;

use crate::checkpoint::model_of;
use crate::error::Error;
use crate::recipe::Recipe;

/// The model that a recipe names as a teacher.
pub(crate) struct Teacher {
    upscaler: Upscaler,
    path: PathBuf,
    fingerprint: String,
}

impl Teacher {
    /// Reads the recipe's teacher, if it has one.
    ///
    /// # Errors
    /// When the file cannot be read, or the model has another scale.
    pub(crate) fn load(recipe: &Recipe, isa: Isa) -> Result<Option<Self>, Error> {
        let Some(teacher) = &recipe.teacher else {
            return Ok(None);
        };
        let path = &teacher.model;
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, "read", source))?;
        let model = model_of(&bytes, path)?;
        let (found, expected) = (model.config().scale, recipe.network.scale);
        if found != expected {
            return Err(Error::Start {
                path: path.clone(),
                reason: format!(
                    "expected a teacher of scale {expected}, like the network, found one of scale \
                     {found}; name another by [teacher] model"
                ),
            });
        }
        Ok(Some(Self {
            upscaler: Upscaler::with_isa(&model, isa),
            path: path.clone(),
            fingerprint: format!("{:08x}", crc32c::crc32c(&bytes)),
        }))
    }

    /// Of its file.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What it makes of patches (3 planes each, R G B, 0..1): the same, not clamped.
    ///
    /// # Errors
    /// When that cannot be an image.
    pub(crate) fn upscale(&self, low: &[Planes]) -> Result<Vec<Planes>, Error> {
        low.iter().map(|patch| self.upscale_patch(patch)).collect()
    }

    fn upscale_patch(&self, low: &Planes) -> Result<Planes, Error> {
        let (width_px, height_px) = (low.width_px(), low.height_px());
        let planes = low.to_chw();
        let pixels = width_px * height_px;
        let interleaved: Vec<f32> = (0..3 * pixels)
            .map(|at| planes[at % 3 * pixels + at / 3])
            .collect();
        let large = self
            .upscaler
            .upscale(&interleaved, width_px, height_px)
            .map_err(|source| Error::Upscale {
                path: self.path.clone(),
                source,
            })?;
        let scale = self.upscaler.scale();
        let mut high = Planes::zeros(3, width_px * scale, height_px * scale);
        let pixels = pixels * scale * scale;
        let planes: Vec<f32> = (0..3 * pixels)
            .map(|at| large[at % pixels * 3 + at / pixels])
            .collect();
        high.copy_from_chw(&planes);
        Ok(high)
    }
}
