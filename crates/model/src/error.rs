use std::ops::Range;
use std::path::PathBuf;

use safetensors::SafeTensorError;
use safetensors::tensor::Dtype;

use crate::config::ConfigError;
use crate::device::DeviceError;

/// Why a model could not be read, written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system failed to read or write the file.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// "read" or "write".
        action: &'static str,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is not a model file, or is damaged.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: InvalidFile,
    },
    /// A weight cannot be written in float16.
    #[error(transparent)]
    Float16Range(#[from] Float16RangeError),
    /// An image was not upscaled.
    #[error(transparent)]
    Upscale(#[from] UpscaleError),
    /// `WDSR_ISA` does not name an instruction set.
    #[error(transparent)]
    Isa(#[from] wdsr_kernels::UnknownIsa),
}

/// Why a file is not a valid model file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidFile {
    /// The file is truncated, damaged, or of another format.
    #[error(
        "not a complete safetensors file ({0}); download it again, or convert another trainer's \
         checkpoint by `wdsr convert`"
    )]
    NotSafetensors(#[from] SafeTensorError),
    /// The file is a safetensors file of another program.
    #[error(
        "expected a wdsr model, found a safetensors file without `{0}` metadata; convert another \
         trainer's file by `wdsr convert`"
    )]
    NoMetadata(&'static str),
    /// The file is a checkpoint of a training.
    #[error(
        "expected a model, found a checkpoint of a training; use model.safetensors or \
         best.safetensors beside it"
    )]
    Checkpoint,
    /// The metadata names another format.
    #[error("expected format `wdsr`, found `{0}`; use a model of wdsr")]
    Format(String),
    /// The file was written by a newer version of the program.
    #[error("expected model file version {expected}, found version {found}; update the program")]
    Version {
        /// The version that this program reads.
        expected: &'static str,
        /// The version of the file.
        found: String,
    },
    /// The network's description is not the JSON of a [`NetworkConfig`](crate::NetworkConfig).
    #[error("network description: {0}; update the program, or use another model")]
    Description(#[from] serde_json::Error),
    /// The network's description is of no network.
    #[error("network description: {0}; use another model")]
    Config(#[from] ConfigError),
    /// The file has tensors of another network than the one described.
    #[error("expected {expected} tensors of {network}, found {found}; use another model")]
    TensorCount {
        /// Label of the network.
        network: String,
        /// Tensors of the network.
        expected: usize,
        /// Tensors in the file.
        found: usize,
    },
    /// A tensor of the network is missing.
    #[error("tensor `{0}` is missing; use another model")]
    MissingTensor(String),
    /// A tensor has another shape than the network's.
    #[error("expected tensor `{tensor}` of shape {expected:?}, found {found:?}; use another model")]
    Shape {
        /// Key of the tensor.
        tensor: String,
        /// Shape in the network.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A tensor has an unsupported number format.
    #[error("expected tensor `{tensor}` in F32, F16 or BF16, found {found:?}; convert it")]
    Type {
        /// Key of the tensor.
        tensor: String,
        /// Number format in the file.
        found: Dtype,
    },
    /// A weight is NaN or infinite.
    #[error(
        "expected finite weights in tensor `{tensor}`, found {value} at index {index}; use another \
         model"
    )]
    NotFinite {
        /// Key of the tensor.
        tensor: String,
        /// The weight.
        value: f32,
        /// Its index in the tensor.
        index: usize,
    },
    /// The scales for int8 were written by a newer version of the program.
    #[error(
        "expected int8 scales of version {expected}, found version {found}; update the program"
    )]
    Int8Version {
        /// The version that this program reads.
        expected: &'static str,
        /// The version of the file.
        found: String,
    },
    /// A step of int8 is not a positive number in range.
    #[error(
        "expected steps from 1e-20 to 1e20 in tensor `{tensor}`, found {value} at index {index}; \
         run `wdsr quantize` again"
    )]
    Int8Step {
        /// Key of the tensor.
        tensor: String,
        /// The step.
        value: f32,
        /// Its index in the tensor.
        index: usize,
    },
    /// A model with a strength has scales for int8.
    #[error("expected no int8 scales in a model with a strength; use another model")]
    Int8OfStrength,
}

/// A weight lies outside the range of float16.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "tensor `{tensor}` contains {value}, outside the range of float16 (+-65504); write the model \
     in float32"
)]
pub struct Float16RangeError {
    /// Key of the tensor.
    pub tensor: String,
    /// The weight.
    pub value: f32,
}

/// Why an image was not upscaled. The result must not be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UpscaleError {
    /// A sample of the image is NaN or infinite; only float images can have these.
    #[error(
        "the image contains {value} at pixel ({x}, {y}), expected finite samples; replace it in the \
         program that wrote the image"
    )]
    Input {
        /// The sample.
        value: f32,
        /// Column of the pixel.
        x: usize,
        /// Row of the pixel.
        y: usize,
    },
    /// The network computed NaN or an infinite value.
    #[error(
        "the network computed {value} at pixel ({x}, {y}) of the result, expected finite samples; \
         the model is damaged or its weights are too large for this image, use another one"
    )]
    NotFinite {
        /// The value, before it is rounded.
        value: f32,
        /// Column of the pixel, in the result.
        x: usize,
        /// Row of the pixel, in the result.
        y: usize,
    },
    /// The network computed a single colour for rows of the image that have several.
    #[error(
        "the network computed a single colour for rows {} to {} of the image, which have several; \
         the model is damaged, use another one",
        rows.start, rows.end
    )]
    Constant {
        /// Rows of the image.
        rows: Range<usize>,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The progress function cancelled the work.
    #[error("stopped")]
    Stopped,
}
