//! The device of `--device`: this processor or a GPU.

use std::sync::Arc;

use wdsr_model::{Device, DeviceChoice, DevicePrecision, Isa, Model, PrecisionOn, Upscaler};
use wdsr_train::Trainer;

#[cfg(not(feature = "gpu"))]
use crate::exit::WrongUsage;
use crate::models::{ModelArguments, PrecisionArgument, tile_px};
#[cfg(feature = "gpu")]
use crate::progress;

/// A GPU that is open. There is none without the feature `gpu`.
#[derive(Clone)]
pub(crate) struct OpenGpu {
    #[cfg(feature = "gpu")]
    gpu: Arc<wdsr_gpu::Gpu>,
    #[cfg(not(feature = "gpu"))]
    none: std::convert::Infallible,
}

#[cfg(feature = "gpu")]
impl OpenGpu {
    /// `None` if the choice is this processor, or `auto` finds no GPU, which is printed.
    pub(crate) fn open(choice: DeviceChoice) -> anyhow::Result<Option<Self>> {
        match wdsr_gpu::Gpu::of_choice(choice) {
            Ok(gpu) => Ok(gpu.map(|gpu| Self { gpu: Arc::new(gpu) })),
            Err(error) if choice == DeviceChoice::Auto => {
                progress::note(&format!(
                    "--device auto: {error}; computing on the processor"
                ));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.gpu.summary().name
    }

    /// Moves a training to this GPU. What `auto` has found and cannot train, the processor trains, which is printed.
    pub(crate) fn train(&self, trainer: &mut Trainer) -> anyhow::Result<()> {
        match trainer.use_device(self.gpu.clone()) {
            Err(error) if self.gpu.is_optional() => {
                progress::note(&format!(
                    "--device auto: {error}; training on the processor"
                ));
                Ok(())
            }
            result => Ok(result?),
        }
    }

    /// The device of networks.
    pub(crate) fn device(&self) -> Arc<dyn Device> {
        self.gpu.clone()
    }

    /// Prints the warnings since the last call. Returns whether there are any.
    pub(crate) fn print_warnings(&self) -> bool {
        let warnings = self.gpu.take_warnings();
        for warning in &warnings {
            progress::note(&format!("warning: {warning}"));
        }
        !warnings.is_empty()
    }

    /// Multiply-adds in GFLOP/s, measured for about so long.
    pub(crate) fn peak_gflops(
        &self,
        precision: DevicePrecision,
        seconds: f64,
    ) -> anyhow::Result<f64> {
        Ok(self.gpu.peak_gflops(precision, seconds)?)
    }
}

#[cfg(not(feature = "gpu"))]
impl OpenGpu {
    pub(crate) fn open(choice: DeviceChoice) -> anyhow::Result<Option<Self>> {
        match choice {
            DeviceChoice::Cpu | DeviceChoice::Auto => Ok(None),
            DeviceChoice::Gpu(_) => {
                let message = "this program was built without GPUs; build it with --features gpu";
                Err(WrongUsage(message.to_owned()).into())
            }
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self.none {}
    }

    pub(crate) fn train(&self, _trainer: &mut Trainer) -> anyhow::Result<()> {
        match self.none {}
    }

    pub(crate) fn device(&self) -> Arc<dyn Device> {
        match self.none {}
    }

    pub(crate) fn print_warnings(&self) -> bool {
        match self.none {}
    }

    pub(crate) fn peak_gflops(
        &self,
        _precision: DevicePrecision,
        _seconds: f64,
    ) -> anyhow::Result<f64> {
        match self.none {}
    }
}

/// How networks are computed, as arguments ask for it.
pub(crate) struct Computing<'a> {
    arguments: &'a ModelArguments,
    pub(crate) gpu: Option<OpenGpu>,
}

impl<'a> Computing<'a> {
    /// Opens the device of the arguments.
    pub(crate) fn open(arguments: &'a ModelArguments) -> anyhow::Result<Self> {
        let gpu = OpenGpu::open(arguments.device)?;
        Ok(Self { arguments, gpu })
    }

    /// A precision for a model, however slow. `name` is the model's.
    pub(crate) fn precision(
        &self,
        precision: PrecisionArgument,
        name: &str,
        model: &Model,
    ) -> anyhow::Result<PrecisionOn> {
        Ok(precision.on(self.gpu.as_ref(), name, model, Isa::detect()?)?)
    }

    /// A model with the arguments' options.
    pub(crate) fn upscaler(&self, model: &Model, on: &PrecisionOn) -> anyhow::Result<Upscaler> {
        Ok(self.f32_upscaler(model)?.computed(on))
    }

    /// The same in f32 on the processor.
    pub(crate) fn f32_upscaler(&self, model: &Model) -> anyhow::Result<Upscaler> {
        Ok(Upscaler::new(model)?
            .tile_px(tile_px(self.arguments.tile))
            .self_ensemble(self.arguments.self_ensemble))
    }
}
