//! Which model a command runs.

use std::path::{Path, PathBuf};

use wdsr_model::{Isa, Model, Precision, Released, Upscaler};

use crate::{WrongUsage, progress};

/// A model that a command may run.
pub(crate) struct Choice {
    /// A file, or a built-in model, for people.
    pub(crate) name: String,
    pub(crate) model: Model,
}

/// The file that `-m` means; `None` for built-in models.
pub(crate) fn file(choice: Option<&Path>) -> Option<&Path> {
    let is_built_in = |kind| !Released::of_kind(kind).is_empty();
    choice.filter(|path| !path.to_str().is_some_and(is_built_in))
}

/// The models that `-m` means, each of another scale: those of a built-in kind (without `-m`, of the
/// default one), or the one in a file.
pub(crate) fn choose(choice: Option<&Path>) -> anyhow::Result<Vec<Choice>> {
    if let Some(path) = file(choice) {
        if path.components().count() == 1 && path.extension().is_none() && !path.exists() {
            let kinds = Vec::from_iter(Released::kinds()).join(", ");
            let message = format!(
                "-m {}: expected a built-in kind ({kinds}) or a file, found neither",
                path.display()
            );
            return Err(WrongUsage(message).into());
        }
        return Ok(vec![Choice {
            name: path.display().to_string(),
            model: Model::load(path)?,
        }]);
    }
    let kind = choice.and_then(Path::to_str);
    let built_in = Released::of_kind(kind.unwrap_or(Released::DEFAULT.kind));
    let choice = |released: &Released| Choice {
        name: format!("{} (built in)", released.name()),
        model: released.load(),
    };
    Ok(built_in.iter().map(choice).collect())
}

/// Of the models that `-m` means, the one of the scale asked for, or the first.
pub(crate) fn load(choice: Option<&Path>, scale: Option<usize>) -> anyhow::Result<Choice> {
    let models = choose(choice)?;
    let found: Vec<String> = models
        .iter()
        .map(|choice| {
            format!(
                "{} upscales {} times",
                choice.name,
                choice.model.config().scale
            )
        })
        .collect();
    let asked = |model: &Model| scale.is_none_or(|scale| scale == model.config().scale);
    models
        .into_iter()
        .find(|choice| asked(&choice.model))
        .ok_or_else(|| {
            let scale = scale.unwrap_or_default();
            let found = found.join(", ");
            let message = format!("-s {scale}: model {found}; give a model of that scale by -m");
            WrongUsage(message).into()
        })
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
        let (asked, precision) = (self.asked(), isa.precision_for(self.asked()));
        if precision != asked {
            progress::note(&format!(
                "--precision {}: expected a processor with AVX512-BF16, found {isa}; computing in {}",
                asked.name(),
                precision.name()
            ));
        }
        precision
    }
}

/// Arguments that choose a model and how it is computed.
#[derive(clap::Args)]
pub(crate) struct ModelArguments {
    /// Model file, or a built-in kind: base (the default) or small
    ///
    /// A file called so is ./small.
    #[arg(short = 'm', long, value_name = "FILE|KIND")]
    pub(crate) model: Option<PathBuf>,
    /// Width of the tiles in pixels of the input at most; 0: the full width
    ///
    /// Each is four rows high. The result is the same; what is computed at a time should fit the processor's
    /// cache.
    #[arg(short = 't', long, value_name = "PX", default_value_t = wdsr_model::DEFAULT_TILE_PX)]
    pub(crate) tile: usize,
    /// Threads; 0: one for each processor
    ///
    /// The result is the same.
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    /// Average over 8 flips and rotations
    ///
    /// Slightly better, 8 times the work.
    #[arg(short = 'x', long)]
    pub(crate) self_ensemble: bool,
    /// Arithmetic of the network
    #[arg(long, value_enum, default_value_t = PrecisionArgument::F32)]
    pub(crate) precision: PrecisionArgument,
}

/// The width of tiles that `-t` asks for; 0 is the image's.
pub(crate) fn tile_px(tile: usize) -> Option<usize> {
    (tile > 0).then_some(tile)
}

impl ModelArguments {
    /// The model's file, if it has one, for [`FileClaims::of_inputs`].
    ///
    /// [`FileClaims::of_inputs`]: crate::file_claims::FileClaims::of_inputs
    pub(crate) fn file_claim(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        file(self.model.as_deref())
            .map(|file| ("model", file))
            .into_iter()
    }

    /// A model ready to run as these arguments say, in the given precision.
    pub(crate) fn upscaler_of(
        &self,
        model: &Model,
        precision: Precision,
    ) -> anyhow::Result<Upscaler> {
        Ok(Upscaler::new(model)?
            .tile_px(tile_px(self.tile))
            .self_ensemble(self.self_ensemble)
            .precision(precision))
    }
}
