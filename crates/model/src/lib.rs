//! Super-resolution networks (WDSR-A, WDSR-B, EDSR): their description, their files, and exact
//! tiled upscaling with them.
//!
//! - [`NetworkConfig`] describes a network, [`Network`] writes its equations down.
//! - [`Model`] is a network with weights, read from and written to a file, or written as ONNX.
//! - [`Upscaler`] enlarges pictures with a model.
#![forbid(unsafe_code)]

mod atomic_file;
mod config;
mod embedded;
mod error;
mod model;
mod network;
mod onnx;
mod released;
mod stream;
mod upscale;

pub use config::{BlockKind, DIV2K_MEAN, NetworkConfig, Norm};
pub use error::Error;
pub use model::{ConvWeights, Model};
pub use network::{BatchNorm, Conv, Network, Operation, Value, ValueShape};
pub use onnx::OnnxPrecision;
pub use released::Released;
pub use stream::StageTime;
pub use upscale::{DEFAULT_TILE_PX, Progress, Sample, UpscaleError, Upscaler};
pub use wdsr_kernels::{Isa, Precision};
