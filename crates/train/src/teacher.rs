//! Distillation: a larger model upscales each patch as a second target.
//!
//! With the weight w the loss is (1 - w) times the loss against the original plus w times the loss
//! against the teacher's output (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network",
//! for images instead of classes). The teacher's output has only detail that a network can
//! reconstruct, so less of the gradient is spent on what cannot be learnt.

use std::path::PathBuf;

use wdsr_kernels::{Isa, Planes};
use wdsr_model::Upscaler;

use crate::checkpoint::parse_model;
use crate::error::Error;
use crate::recipe::Recipe;

/// The teacher of a recipe.
pub struct TeacherModel {
    upscaler: Upscaler,
    path: PathBuf,
    fingerprint: String,
}

impl TeacherModel {
    /// Reads the recipe's teacher; none if it has no teacher.
    ///
    /// # Errors
    /// If the file cannot be read, or the model has another scale than the network.
    pub fn load(recipe: &Recipe, isa: Isa) -> Result<Option<Self>, Error> {
        let Some(teacher) = &recipe.teacher else {
            return Ok(None);
        };
        let path = &teacher.model;
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, "read", source))?;
        let model = parse_model(&bytes, path)?;
        let (found, expected) = (model.config().scale, recipe.network.scale);
        if found != expected {
            return Err(Error::TeacherScale {
                path: path.clone(),
                expected,
                found,
            });
        }
        Ok(Some(Self {
            upscaler: Upscaler::with_isa(&model, isa),
            path: path.clone(),
            fingerprint: format!("{:08x}", crc32c::crc32c(&bytes)),
        }))
    }

    /// Fingerprint of its file.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Upscales patches (3 planes each, R G B, 0..1). The output is not clamped.
    ///
    /// # Errors
    /// If the output is not a valid image.
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
        let upscaled = self
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
            .map(|at| upscaled[at % pixels * 3 + at / pixels])
            .collect();
        high.copy_from_chw(&planes);
        Ok(high)
    }
}
