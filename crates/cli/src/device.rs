//! The device of `--device`: this processor or a GPU.

use std::str::FromStr;
#[cfg(feature = "gpu")]
use std::sync::Arc;

use wdsr_model::{Isa, Model, Precision, Upscaler};

use crate::exit::WrongUsage;
use crate::models::{ModelArguments, PrecisionArgument, tile_px};
use crate::progress;

/// The value of `--device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// This processor.
    #[default]
    Cpu,
    /// A GPU if there is one, else this processor.
    Auto,
    /// A GPU, by its number if one is given.
    Gpu(Option<usize>),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let index = text.strip_prefix("gpu:").map(str::parse);
        match (text, index) {
            ("cpu", _) => Ok(Self::Cpu),
            ("auto", _) => Ok(Self::Auto),
            ("gpu", _) => Ok(Self::Gpu(None)),
            (_, Some(Ok(index))) => Ok(Self::Gpu(Some(index))),
            _ => {
                Err("expected auto, cpu, gpu, or gpu:N with a number of `wdsr devices`".to_owned())
            }
        }
    }
}

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
            PrecisionArgument::F32 => GpuPrecision::F32,
            PrecisionArgument::F16 => GpuPrecision::F16,
            PrecisionArgument::Bf16 => {
                let message = "--precision bf16: a GPU computes in f32 or f16";
                return Err(WrongUsage(message.to_owned()).into());
            }
        };
        match Gpu::open(adapter, precision) {
            Ok(gpu) => {
                let gpu = Arc::new(gpu.optional(choice == DeviceChoice::Auto));
                Ok(Some(Self { gpu }))
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

    /// Name and driver, on which the last bits of a result depend.
    pub(crate) fn settings_text(&self) -> String {
        let summary = self.gpu.summary();
        format!("{} by {} {}", summary.name, summary.backend, summary.driver)
    }

    /// The upscaler on this GPU.
    pub(crate) fn upscaler(&self, upscaler: Upscaler) -> Upscaler {
        upscaler.on_device(self.gpu.clone())
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

    pub(crate) fn settings_text(&self) -> String {
        match self.none {}
    }

    pub(crate) fn upscaler(&self, _upscaler: Upscaler) -> Upscaler {
        match self.none {}
    }

    pub(crate) fn print_warnings(&self) -> bool {
        match self.none {}
    }

    pub(crate) fn peak_gflops(&self, _seconds: f64) -> anyhow::Result<f64> {
        match self.none {}
    }
}

/// How networks are computed, as arguments ask for it.
pub(crate) struct Computing<'a> {
    arguments: &'a ModelArguments,
    /// That of the processor.
    precision: Precision,
    pub(crate) gpu: Option<OpenGpu>,
}

impl<'a> Computing<'a> {
    /// In f32 with a warning if the precision would be slower than f32 on this processor.
    pub(crate) fn fastest(arguments: &'a ModelArguments) -> anyhow::Result<Self> {
        let mut computing = Self::exactly(arguments)?;
        if computing.gpu.is_none() {
            computing.precision = arguments.precision.or_f32(Isa::detect()?);
        }
        Ok(computing)
    }

    /// In the precision of the arguments, however slow.
    pub(crate) fn exactly(arguments: &'a ModelArguments) -> anyhow::Result<Self> {
        let gpu = OpenGpu::open(arguments.device, arguments.precision)?;
        if gpu.is_none() && arguments.precision == PrecisionArgument::F16 {
            let message = "--precision f16: only GPUs compute in f16; add --device gpu";
            return Err(WrongUsage(message.to_owned()).into());
        }
        Ok(Self {
            precision: match gpu {
                Some(_) => Precision::F32,
                None => arguments.precision.into(),
            },
            arguments,
            gpu,
        })
    }

    /// The name of the precision that computes.
    pub(crate) fn precision_name(&self) -> &'static str {
        match self.gpu {
            Some(_) => self.arguments.precision.name(),
            None => self.precision.name(),
        }
    }

    /// Precision and device, on which the bits of a result depend.
    pub(crate) fn settings_text(&self) -> String {
        match &self.gpu {
            Some(gpu) => format!("{}, {}", self.precision_name(), gpu.settings_text()),
            None => self.precision.name().to_owned(),
        }
    }

    /// A model with the arguments' options, on the device.
    pub(crate) fn upscaler(&self, model: &Model) -> anyhow::Result<Upscaler> {
        let upscaler = Upscaler::new(model)?
            .tile_px(tile_px(self.arguments.tile))
            .self_ensemble(self.arguments.self_ensemble)
            .precision(self.precision);
        Ok(match &self.gpu {
            Some(gpu) => gpu.upscaler(upscaler),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_choices_are_parsed() {
        for (text, choice) in [
            ("cpu", DeviceChoice::Cpu),
            ("auto", DeviceChoice::Auto),
            ("gpu", DeviceChoice::Gpu(None)),
            ("gpu:12", DeviceChoice::Gpu(Some(12))),
        ] {
            assert_eq!(text.parse(), Ok(choice), "{text}");
        }
        for text in ["", "gpu:", "gpu:-1", "gpu0", "cuda"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }
}
