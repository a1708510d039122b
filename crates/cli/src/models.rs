//! The model that a command runs, and how it is computed.

use std::path::{Path, PathBuf};

use wdsr_model::{BuiltinModel, DeviceChoice, Isa, Model, Precision, PrecisionChoice, PrecisionOn};

use crate::device::OpenGpu;
use crate::exit::WrongUsage;
use crate::progress;

/// A model that a command may run.
pub(crate) struct Choice {
    /// Its file, or the name of the built-in model, for messages.
    pub(crate) name: String,
    pub(crate) model: Model,
}

/// The file of `-m`; `None` for built-in models.
pub(crate) fn file(choice: Option<&Path>) -> Option<&Path> {
    let is_built_in = |kind| !BuiltinModel::of_kind(kind).is_empty();
    choice.filter(|path| !path.to_str().is_some_and(is_built_in))
}

/// Checks that a name which looks like that of a built-in kind is one, or that of a file.
///
/// # Errors
/// If it is neither.
pub(crate) fn check_name(path: &Path) -> Result<(), WrongUsage> {
    if path.components().count() == 1 && path.extension().is_none() && !path.exists() {
        let kinds = Vec::from_iter(BuiltinModel::kinds()).join(", ");
        let message = format!(
            "model {}: expected a built-in kind ({kinds}) or a file, found neither",
            path.display()
        );
        return Err(WrongUsage(message));
    }
    Ok(())
}

/// The models of `-m`, one for each scale: those of a built-in kind (without `-m`, of the default one),
/// or the one in a file.
pub(crate) fn choose(choice: Option<&Path>) -> anyhow::Result<Vec<Choice>> {
    if let Some(path) = file(choice) {
        check_name(path)?;
        return Ok(vec![Choice {
            name: path.display().to_string(),
            model: Model::load(path).or_else(|error| or_of_others(path, error))?,
        }]);
    }
    let kind = choice.and_then(Path::to_str);
    let built_in = BuiltinModel::of_kind(kind.unwrap_or(BuiltinModel::DEFAULT.kind));
    let choice = |builtin: &BuiltinModel| Choice {
        name: format!("{} (built in)", builtin.name()),
        model: builtin.load(),
    };
    Ok(built_in.iter().map(choice).collect())
}

/// The model of a checkpoint of another trainer, if a file is one and so gave `error` when it was read as a
/// model of wdsr. What it was recognised as is printed.
pub(crate) fn or_of_others(path: &Path, error: impl Into<anyhow::Error>) -> anyhow::Result<Model> {
    if !std::fs::read(path).is_ok_and(|bytes| wdsr_convert::is_of_others(&bytes)) {
        return Err(error.into());
    }
    let imported = wdsr_convert::import(path, &wdsr_convert::Options::default())?;
    let recognised = imported.recognised.join("; ");
    progress::note(&format!("{}: {recognised}", path.display()));
    Ok(imported.model)
}

/// The error for `-s` beside a file, whose scale is its own.
pub(crate) fn scale_of_file() -> WrongUsage {
    WrongUsage("-s chooses a built-in model; remove it".to_owned())
}

/// The model of `-m` with the given scale, or the first one.
pub(crate) fn load(choice: Option<&Path>, scale: Option<usize>) -> anyhow::Result<Choice> {
    let models = choose(choice)?;
    let found: Vec<String> = models
        .iter()
        .map(|choice| format!("{} has scale {}", choice.name, choice.model.config().scale))
        .collect();
    let has_scale = |model: &Model| scale.is_none_or(|scale| scale == model.config().scale);
    models
        .into_iter()
        .find(|choice| has_scale(&choice.model))
        .ok_or_else(|| {
            let scale = scale.unwrap_or_default();
            let found = found.join(", ");
            let message = format!("-s {scale}: {found}; give a model of scale {scale} by -m");
            WrongUsage(message).into()
        })
}

/// [`Precision`] as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PrecisionArgument {
    /// 32-bit floating point
    F32,
    /// Products of bfloat16, sums of 32-bit: faster on processors with fast bfloat16
    Bf16,
    /// 16-bit floating point with sums of 32-bit: on GPUs only
    F16,
    /// Products of 8-bit integers, for models with scales for it (base, small, or by `wdsr quantize`)
    Int8,
    /// The fastest of int8 (if the model has scales for it), bf16 and f32 on this processor; f32 on GPUs
    Auto,
}

impl From<PrecisionArgument> for PrecisionChoice {
    fn from(argument: PrecisionArgument) -> Self {
        match argument {
            PrecisionArgument::F32 => Self::F32,
            PrecisionArgument::Bf16 => Self::Of(Precision::Bf16),
            PrecisionArgument::F16 => Self::F16,
            PrecisionArgument::Int8 => Self::Of(Precision::Int8),
            PrecisionArgument::Auto => Self::Auto,
        }
    }
}

impl PrecisionArgument {
    /// The precision of a training.
    ///
    /// # Errors
    /// [`WrongUsage`] for f16, int8 and auto.
    pub(crate) fn of_training(self) -> Result<Precision, WrongUsage> {
        match self {
            Self::F32 => Ok(Precision::F32),
            Self::Bf16 => Ok(Precision::Bf16),
            Self::F16 | Self::Int8 | Self::Auto => Err(WrongUsage(
                "--precision: training runs in f32 or bf16; use one of these".to_owned(),
            )),
        }
    }

    /// The precision for a model on a GPU or this processor, however slow.
    ///
    /// # Errors
    /// [`WrongUsage`] if what computes lacks it, or the model has no scales for int8. `name` is the model's.
    pub(crate) fn on(
        self,
        gpu: Option<&OpenGpu>,
        name: &str,
        model: &Model,
        isa: Isa,
    ) -> Result<PrecisionOn, WrongUsage> {
        let device = gpu.map(OpenGpu::device);
        let on = PrecisionChoice::from(self).on(device.as_ref(), name, model, isa);
        on.map_err(|error| WrongUsage(format!("--{error}")))
    }
}

/// The precision, or f32 with a warning if it would be slower than f32 on this processor.
pub(crate) fn or_f32(on: PrecisionOn, isa: Isa) -> PrecisionOn {
    if !on.is_slower_than_f32(isa) {
        return on;
    }
    progress::note(&format!(
        "--precision {}: not faster than f32 on this processor ({isa}); computing in f32",
        on.name()
    ));
    PrecisionOn::F32
}

/// Arguments that choose a model and how it is computed.
#[derive(clap::Args)]
pub(crate) struct ModelArguments {
    /// Model file, or a built-in kind: base, photo (for damaged photographs) or small
    ///
    /// The default is base; `wdsr upscale` takes photo for images with marks of JPEG or noise. For a file
    /// of that name use ./small. Checkpoints that `wdsr convert` reads are model files too, such as
    /// realesr-general-x4v3.pth.
    #[arg(short = 'm', long, value_name = "FILE|KIND")]
    pub(crate) model: Option<PathBuf>,
    /// Largest width of a tile in input pixels; 0 for the full width
    ///
    /// Tiles are four rows high. The result is the same for every width; speed depends on whether a
    /// tile's feature maps fit the processor's cache.
    #[arg(short = 't', long, value_name = "PX", default_value_t = wdsr_model::DEFAULT_TILE_PX)]
    pub(crate) tile: usize,
    /// Number of threads; 0 for one per processor
    ///
    /// The result is the same for every number.
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    /// Average over the 8 flips and rotations of the image
    ///
    /// Slightly better results for 8 times the work.
    #[arg(short = 'x', long)]
    pub(crate) self_ensemble: bool,
    /// Number format of the network's arithmetic
    ///
    /// f32 and int8 give the same result on every processor, except for the last bits in f32.
    #[arg(long, value_enum, default_value_t = PrecisionArgument::F32)]
    pub(crate) precision: PrecisionArgument,
    /// What computes the network: cpu, gpu, gpu:N, or auto for a GPU if there is one
    ///
    /// `wdsr devices` lists GPUs and their numbers. Results of different devices may differ by rounding: a
    /// level of 8 bits in few pixels. If a GPU has not enough memory, the processor computes, with a warning.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: DeviceChoice,
}

/// The width of `-t`; `None` for the full width.
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
}
