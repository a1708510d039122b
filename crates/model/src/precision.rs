//! The choice of a precision by model and processor.

use wdsr_kernels::{Isa, Precision};

use crate::model::Model;

/// A precision, or the choice of the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrecisionChoice {
    /// That precision.
    Of(Precision),
    /// The fastest of int8 (if the model has scales for it), bf16 and f32 on the processor.
    Auto,
}

/// A model has no scales for int8.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "precision int8: {model} has no scales for int8; add them by `wdsr quantize`, or use base or small"
)]
pub struct NoInt8 {
    /// The model's name.
    pub model: String,
}

impl PrecisionChoice {
    /// f32.
    pub const F32: Self = Self::Of(Precision::F32);

    /// All choices by their names.
    pub const NAMED: [(&str, Self); 4] = [
        ("f32", Self::F32),
        ("bf16", Self::Of(Precision::Bf16)),
        ("int8", Self::Of(Precision::Int8)),
        ("auto", Self::Auto),
    ];

    /// The precision for a model on any processor, whatever its speed; that of [`Auto`](Self::Auto) depends on the
    /// processor.
    ///
    /// # Errors
    /// If the model has no scales for int8. `name` is the model's.
    pub fn of_model(self, name: &str, model: &Model, isa: Isa) -> Result<Precision, NoInt8> {
        let has_int8 = model.int8().is_some();
        match self {
            Self::Of(Precision::Int8) if !has_int8 => Err(NoInt8 {
                model: name.to_owned(),
            }),
            Self::Of(precision) => Ok(precision),
            Self::Auto if has_int8 && isa.has_int8() => Ok(Precision::Int8),
            Self::Auto => Ok(isa.precision_for(Precision::Bf16)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Calibration, NetworkConfig};

    #[test]
    fn int8_needs_scales_and_auto_takes_them_where_bytes_are_fast() {
        let model = Model::random(&NetworkConfig::wdsr_b(8, 1, 2), 1);
        let isa = Isa::REFERENCE;
        let int8 = PrecisionChoice::Of(Precision::Int8);
        let error = int8.of_model("mine", &model, isa).unwrap_err();
        assert_eq!(
            error.to_string(),
            "precision int8: mine has no scales for int8; add them by `wdsr quantize`, or use base or small"
        );
        let mut calibration = Calibration::new(&model, isa).unwrap();
        calibration.add(&[0.5; 8 * 8 * 3], 8, 8);
        let model = calibration.finish(model);
        assert_eq!(int8.of_model("mine", &model, isa), Ok(Precision::Int8));
        let auto = PrecisionChoice::Auto;
        assert_eq!(auto.of_model("mine", &model, isa), Ok(Precision::F32));
        for isa in Isa::available() {
            let is_fast = !matches!(isa.name(), "reference" | "avx512" | "neon");
            let chosen = auto.of_model("mine", &model, isa).unwrap();
            assert_eq!(chosen == Precision::Int8, is_fast, "{isa:?}: {chosen:?}");
        }
    }
}
