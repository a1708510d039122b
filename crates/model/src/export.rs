//! What the formats that models are written in have in common.

use half::f16;

use crate::error::Error;

/// Numbers in a file. Input and output of the network are float32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportPrecision {
    /// float32 throughout.
    #[default]
    F32,
    /// float16 weights, half the size; the output differs by some 1e-3. An ONNX file also
    /// computes in float16, between the subtraction of the mean and its addition; an ncnn file
    /// leaves that to the engine's options, and this library computes in float32.
    F16,
}

/// A weight rounded to float16.
///
/// # Errors
/// When it lies outside the range; `tensor` stands in the message.
pub(crate) fn float16(tensor: &str, value: f32) -> Result<f16, Error> {
    let rounded = f16::from_f32(value);
    if rounded.is_finite() {
        Ok(rounded)
    } else {
        Err(Error::Float16Range {
            tensor: tensor.to_owned(),
            value,
        })
    }
}
