//! The device of `--device`: this processor or a GPU.

use std::sync::Arc;

use wdsr_model::{Device, DeviceChoice, Isa, Model, Precision, Upscaler};
use wdsr_train::Trainer;

use crate::exit::WrongUsage;
use crate::models::{ModelArguments, PrecisionArgument, tile_px};
#[cfg(feature = "gpu")]
use crate::progress;

/// A GPU that is open. There is none without the feature `gpu`.
#[derive(Clone)]
pub(crate) struct OpenGpu {
    #[cfg(feature = "gpu")]
    gpu: Arc<wdsr_gpu::Gpu>,
    #[cfg(feature = "gpu")]
    precision: wdsr_gpu::GpuPrecision,
    #[cfg(not(feature = "gpu"))]
    none: std::convert::Infallible,
}

#[cfg(feature = "gpu")]
impl OpenGpu {
    /// `None` if the choice is this processor, or `auto` finds no GPU, which is printed.
    pub(crate) fn open(
        choice: DeviceChoice,
        precision: PrecisionArgument,
    ) -> anyhow::Result<Option<Self>> {
        use wdsr_gpu::{Choice, Gpu, GpuPrecision};
        let adapter = match choice {
            DeviceChoice::Cpu => return Ok(None),
            DeviceChoice::Auto | DeviceChoice::Gpu(None) => Choice::Hardware,
            DeviceChoice::Gpu(Some(index)) => Choice::Index(index),
        };
        let precision = match precision {
            PrecisionArgument::F32 | PrecisionArgument::Auto => GpuPrecision::F32,
            PrecisionArgument::F16 => GpuPrecision::F16,
            PrecisionArgument::Bf16 => return Err(not_of_gpus("bf16").into()),
            PrecisionArgument::Int8 => return Err(not_of_gpus("int8").into()),
        };
        match Gpu::open(adapter, precision) {
            Ok(gpu) => {
                let gpu = Arc::new(gpu.optional(choice == DeviceChoice::Auto));
                Ok(Some(Self { gpu, precision }))
            }
            Err(error) if choice == DeviceChoice::Auto && precision == GpuPrecision::F32 => {
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

    pub(crate) fn precision_name(&self) -> &'static str {
        self.precision.name()
    }

    /// Name and driver, on which the last bits of a result depend.
    pub(crate) fn driver_text(&self) -> String {
        self.gpu.summary().driver_text()
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
    pub(crate) fn peak_gflops(&self, seconds: f64) -> anyhow::Result<f64> {
        Ok(self.gpu.peak_gflops(seconds)?)
    }
}

#[cfg(not(feature = "gpu"))]
impl OpenGpu {
    pub(crate) fn open(
        choice: DeviceChoice,
        _precision: PrecisionArgument,
    ) -> anyhow::Result<Option<Self>> {
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

    pub(crate) fn precision_name(&self) -> &'static str {
        match self.none {}
    }

    pub(crate) fn driver_text(&self) -> String {
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

    pub(crate) fn peak_gflops(&self, _seconds: f64) -> anyhow::Result<f64> {
        match self.none {}
    }
}

#[cfg(feature = "gpu")]
fn not_of_gpus(precision: &str) -> WrongUsage {
    WrongUsage(format!(
        "--precision {precision}: a GPU computes in f32 or f16; use one of these, or --device cpu"
    ))
}

/// How networks are computed, as arguments ask for it.
pub(crate) struct Computing<'a> {
    arguments: &'a ModelArguments,
    pub(crate) gpu: Option<OpenGpu>,
}

impl<'a> Computing<'a> {
    /// Opens the device of the arguments.
    pub(crate) fn open(arguments: &'a ModelArguments) -> anyhow::Result<Self> {
        let gpu = OpenGpu::open(arguments.device, arguments.precision)?;
        Ok(Self { arguments, gpu })
    }

    /// The arguments' precision of the processor for a model, however slow. Beside a GPU it is f32. `name` is the model's.
    pub(crate) fn precision(&self, name: &str, model: &Model) -> anyhow::Result<Precision> {
        Ok(match self.gpu {
            Some(_) => Precision::F32,
            None => (self.arguments.precision).of_model(name, model, Isa::detect()?)?,
        })
    }

    /// A precision of the processor for a model, or f32 with a warning if it would be slower than f32 on this processor. Beside
    /// a GPU it is f32. `name` is the model's.
    pub(crate) fn fastest_precision(
        &self,
        precision: PrecisionArgument,
        name: &str,
        model: &Model,
    ) -> anyhow::Result<Precision> {
        Ok(match self.gpu {
            Some(_) => Precision::F32,
            None => precision.or_f32(name, model, Isa::detect()?)?,
        })
    }

    /// The name of the precision that computes: the GPU's, or that of the processor.
    pub(crate) fn precision_name(&self, precision: Precision) -> &'static str {
        match &self.gpu {
            Some(gpu) => gpu.precision_name(),
            None => precision.name(),
        }
    }

    /// Precision, and a GPU with its driver, on which the bits of a result depend.
    pub(crate) fn arithmetic_text(&self, precision: Precision) -> String {
        let precision = self.precision_name(precision);
        match &self.gpu {
            Some(gpu) => format!("{precision}, {}", gpu.driver_text()),
            None => precision.to_owned(),
        }
    }

    /// A model with the arguments' options, on the device. `precision` is that of the processor.
    pub(crate) fn upscaler(&self, model: &Model, precision: Precision) -> anyhow::Result<Upscaler> {
        let upscaler = self.f32_upscaler(model)?.precision(precision);
        Ok(match &self.gpu {
            Some(gpu) => upscaler.on_device(gpu.device()),
            None => upscaler,
        })
    }

    /// The same in f32 on the processor.
    pub(crate) fn f32_upscaler(&self, model: &Model) -> anyhow::Result<Upscaler> {
        Ok(Upscaler::new(model)?
            .tile_px(tile_px(self.arguments.tile))
            .self_ensemble(self.arguments.self_ensemble))
    }
}
