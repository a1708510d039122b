//! Which model a command runs.

use std::path::{Path, PathBuf};

use wdsr_model::Model;

use crate::WrongUsage;

/// The model in the given file, or the one built in, checked for the scale asked for.
pub(crate) fn load(path: Option<&Path>, scale: Option<usize>) -> anyhow::Result<(String, Model)> {
    let (name, model) = match path {
        Some(path) => (path.display().to_string(), Model::load(path)?),
        None => ("small x2 (built in)".to_owned(), Model::embedded()),
    };
    let found = model.config().scale;
    if let Some(asked) = scale.filter(|asked| *asked != found) {
        return Err(WrongUsage(format!(
            "-s {asked}: model {name} enlarges {found} times; give a model of that scale by -m"
        ))
        .into());
    }
    Ok((name, model))
}

/// Arguments that choose a model.
#[derive(clap::Args)]
pub(crate) struct ModelArguments {
    /// Model file; without it the model that is built in
    #[arg(short = 'm', long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// Enlarge this many times; must be the model's scale
    #[arg(short = 's', long)]
    pub(crate) scale: Option<usize>,
    /// Width of the tiles in pixels of the input, each as high as the picture; 0: the full width.
    /// The result is the same, narrower tiles take less memory
    #[arg(short = 't', long, value_name = "PX", default_value_t = wdsr_model::DEFAULT_TILE_PX)]
    pub(crate) tile: usize,
    /// Threads; 0: one for each processor. The result is the same
    #[arg(short = 'j', long, default_value_t = 0)]
    pub(crate) threads: usize,
    /// Average over the 8 flips and rotations: slightly better, 8 times the work
    #[arg(short = 'x', long)]
    pub(crate) self_ensemble: bool,
}

impl ModelArguments {
    /// The model's name and the model, ready to run.
    pub(crate) fn upscaler(&self) -> anyhow::Result<(String, wdsr_model::Upscaler)> {
        let (name, model) = load(self.model.as_deref(), self.scale)?;
        Ok((name, self.upscaler_of(&model)?))
    }

    /// A model ready to run as these arguments say.
    pub(crate) fn upscaler_of(&self, model: &Model) -> anyhow::Result<wdsr_model::Upscaler> {
        let tile_px = (self.tile > 0).then_some(self.tile);
        let upscaler = wdsr_model::Upscaler::new(model)?;
        Ok(upscaler.tile_px(tile_px).self_ensemble(self.self_ensemble))
    }
}
