//! Which model a command runs.

use std::path::{Path, PathBuf};

use wdsr_model::{Isa, Model, Precision, Upscaler};

use crate::{WrongUsage, progress};

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

/// [`Precision`] as an argument.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum PrecisionArgument {
    /// 32-bit floats
    F32,
    /// Products of bfloat16, sums in f32: faster where the processor has AVX512-BF16
    Bf16,
}

impl PrecisionArgument {
    /// What was asked for.
    pub(crate) fn asked(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
        }
    }

    /// What was asked for, or f32, and a remark about it, where that would be slower than f32.
    pub(crate) fn or_f32(self, isa: Isa) -> Precision {
        let precision = self.asked();
        if precision == Precision::F32 || isa.has_bf16() {
            return precision;
        }
        progress::note(&format!(
            "--precision {}: expected a processor with AVX512-BF16, found {isa}; computing in f32",
            precision.name()
        ));
        Precision::F32
    }
}

/// Arguments that choose a model and how it is computed.
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
    /// Arithmetic of the network
    #[arg(long, value_enum, default_value_t = PrecisionArgument::F32)]
    pub(crate) precision: PrecisionArgument,
}

impl ModelArguments {
    /// The model's name and the model, ready to run in the given precision.
    pub(crate) fn upscaler(&self, precision: Precision) -> anyhow::Result<(String, Upscaler)> {
        let (name, model) = load(self.model.as_deref(), self.scale)?;
        Ok((name, self.upscaler_of(&model, precision)?))
    }

    /// A model ready to run as these arguments say, in the given precision.
    pub(crate) fn upscaler_of(
        &self,
        model: &Model,
        precision: Precision,
    ) -> anyhow::Result<Upscaler> {
        let tile_px = (self.tile > 0).then_some(self.tile);
        Ok(Upscaler::new(model)?
            .tile_px(tile_px)
            .self_ensemble(self.self_ensemble)
            .precision(precision))
    }
}
