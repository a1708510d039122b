//! The choice of a precision by model and processor.

use std::sync::Arc;

use wdsr_kernels::{Isa, Precision};

use crate::device::{Device, DevicePrecision};
use crate::model::Model;

/// A precision, or the choice of the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrecisionChoice {
    /// That precision. Devices compute in f32 only, of these.
    Of(Precision),
    /// 16-bit floating point, on devices that have it.
    F16,
    /// The fastest of int8 (if the model has scales for it), bf16 and f32 on the processor; f32 on devices.
    Auto,
}

/// Why a precision cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrecisionError {
    /// A model has no scales for int8.
    #[error(
        "precision int8: {model} has no scales for int8; add them by `wdsr quantize`, or use base or small"
    )]
    NoInt8 {
        /// The model's name.
        model: String,
    },
    /// The processor does not compute in f16.
    #[error("precision f16: only GPUs compute in f16; choose f32, bf16, int8 or auto, or a GPU")]
    OnlyOnDevices,
    /// A device computes in f32 and f16 only.
    #[error(
        "precision {precision}: {device} computes in f32 or f16; choose one of these, or the processor"
    )]
    OnlyOnProcessor {
        /// `bf16` or `int8`.
        precision: &'static str,
        /// The device.
        device: String,
    },
    /// A device does not compute in f16.
    #[error("precision f16: {device} has no f16 arithmetic; choose f32")]
    NoF16 {
        /// The device.
        device: String,
    },
}

impl PrecisionChoice {
    /// f32.
    pub const F32: Self = Self::Of(Precision::F32);

    /// All choices by their names.
    pub const NAMED: [(&str, Self); 5] = [
        ("f32", Self::F32),
        ("bf16", Self::Of(Precision::Bf16)),
        ("f16", Self::F16),
        ("int8", Self::Of(Precision::Int8)),
        ("auto", Self::Auto),
    ];

    /// The precision for a model on a device, or on a processor, whatever its speed; that of [`Auto`](Self::Auto) depends on
    /// the processor.
    ///
    /// # Errors
    /// If the device or the processor lacks it, or the model has no scales for int8. `name` is the model's.
    pub fn on(
        self,
        device: Option<&Arc<dyn Device>>,
        name: &str,
        model: &Model,
        isa: Isa,
    ) -> Result<PrecisionOn, PrecisionError> {
        match device {
            None => self
                .on_processor(name, model, isa)
                .map(PrecisionOn::Processor),
            Some(device) => {
                let precision = self.on_device(&**device)?;
                Ok(PrecisionOn::Device(Arc::clone(device), precision))
            }
        }
    }

    fn on_processor(
        self,
        name: &str,
        model: &Model,
        isa: Isa,
    ) -> Result<Precision, PrecisionError> {
        let has_int8 = model.int8().is_some();
        match self {
            Self::Of(Precision::Int8) if !has_int8 => Err(PrecisionError::NoInt8 {
                model: name.to_owned(),
            }),
            Self::Of(precision) => Ok(precision),
            Self::F16 => Err(PrecisionError::OnlyOnDevices),
            Self::Auto if has_int8 && isa.has_int8() => Ok(Precision::Int8),
            Self::Auto => Ok(isa.precision_for(Precision::Bf16)),
        }
    }

    fn on_device(self, device: &dyn Device) -> Result<DevicePrecision, PrecisionError> {
        let name = || device.name().to_owned();
        match self {
            Self::F32 | Self::Auto => Ok(DevicePrecision::F32),
            Self::F16 if device.has_f16() => Ok(DevicePrecision::F16),
            Self::F16 => Err(PrecisionError::NoF16 { device: name() }),
            Self::Of(precision) => Err(PrecisionError::OnlyOnProcessor {
                precision: precision.name(),
                device: name(),
            }),
        }
    }
}

/// What computes a network, and the number format of its products.
#[derive(Clone)]
pub enum PrecisionOn {
    /// This processor.
    Processor(Precision),
    /// A device.
    Device(Arc<dyn Device>, DevicePrecision),
}

impl PrecisionOn {
    /// f32 on this processor.
    pub const F32: Self = Self::Processor(Precision::F32);

    /// `f32`, `bf16`, `int8` or `f16`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Processor(precision) => precision.name(),
            Self::Device(_, precision) => precision.name(),
        }
    }

    /// The precision, and a device with its driver, on which the bits of a result depend.
    pub fn text(&self) -> String {
        match self {
            Self::Processor(precision) => precision.name().to_owned(),
            Self::Device(device, precision) => {
                format!("{}, {}", precision.name(), device.driver_text())
            }
        }
    }

    /// Whether it is a precision of the processor in which f32 is faster.
    pub fn is_slower_than_f32(&self, isa: Isa) -> bool {
        matches!(self, Self::Processor(precision) if isa.precision_for(*precision) != *precision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Calibration, DeviceError, DeviceNetwork, NetworkConfig};

    #[test]
    fn int8_needs_scales_and_auto_takes_them_where_bytes_are_fast() {
        let model = Model::random(&NetworkConfig::wdsr_b(8, 1, 2), 1);
        let isa = Isa::REFERENCE;
        let int8 = PrecisionChoice::Of(Precision::Int8);
        let error = int8.on_processor("mine", &model, isa).unwrap_err();
        assert_eq!(
            error.to_string(),
            "precision int8: mine has no scales for int8; add them by `wdsr quantize`, or use base or small"
        );
        let mut calibration = Calibration::new(&model, isa).unwrap();
        calibration.add(&[0.5; 8 * 8 * 3], 8, 8);
        let model = calibration.finish(model);
        assert_eq!(int8.on_processor("mine", &model, isa), Ok(Precision::Int8));
        let auto = PrecisionChoice::Auto;
        assert_eq!(auto.on_processor("mine", &model, isa), Ok(Precision::F32));
        for isa in Isa::available() {
            let is_fast = !matches!(isa.name(), "reference" | "avx512" | "neon");
            let chosen = auto.on_processor("mine", &model, isa).unwrap();
            assert_eq!(chosen == Precision::Int8, is_fast, "{isa:?}: {chosen:?}");
        }
    }

    /// A device that computes nothing.
    struct Named {
        has_f16: bool,
    }

    impl Device for Named {
        fn name(&self) -> &str {
            "the card"
        }

        fn driver_text(&self) -> String {
            "the card, driver 1".to_owned()
        }

        fn has_f16(&self) -> bool {
            self.has_f16
        }

        fn prepare(
            &self,
            _: &Model,
            _: DevicePrecision,
        ) -> Result<Box<dyn DeviceNetwork>, DeviceError> {
            unreachable!("only asked for its precisions")
        }

        fn is_optional(&self) -> bool {
            false
        }

        fn warn(&self, _: String) {}

        fn take_warnings(&self) -> Vec<String> {
            Vec::new()
        }
    }

    #[test]
    fn devices_compute_in_f32_and_f16_and_processors_in_the_others() {
        let model = Model::random(&NetworkConfig::wdsr_b(8, 1, 2), 1);
        let device = |has_f16| Some(Arc::new(Named { has_f16 }) as Arc<dyn Device>);
        let found = |choice: PrecisionChoice, device: Option<Arc<dyn Device>>| {
            let on = choice.on(device.as_ref(), "mine", &model, Isa::REFERENCE);
            on.map_or_else(|error| error.to_string(), |on| on.text())
        };
        for (name, choice) in PrecisionChoice::NAMED {
            let expected = match name {
                "f32" | "auto" => ["f32", "f32, the card, driver 1", "f32, the card, driver 1"].map(str::to_owned),
                "f16" => [
                    "precision f16: only GPUs compute in f16; choose f32, bf16, int8 or auto, or a GPU",
                    "precision f16: the card has no f16 arithmetic; choose f32",
                    "f16, the card, driver 1",
                ]
                .map(str::to_owned),
                _ => {
                    let refused = format!(
                        "precision {name}: the card computes in f32 or f16; choose one of these, or the processor"
                    );
                    let on_processor = match name {
                        "bf16" => "bf16",
                        _ => "precision int8: mine has no scales for int8; add them by `wdsr quantize`, or use base or small",
                    };
                    [on_processor.to_owned(), refused.clone(), refused]
                }
            };
            let devices = [None, device(false), device(true)];
            let found = devices.map(|device| found(choice, device));
            assert_eq!(found, expected, "{name}");
        }
    }
}
