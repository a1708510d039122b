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
mod export;
#[cfg(test)]
mod interpreter;
mod model;
mod ncnn;
mod network;
mod official;
mod onnx;
mod stream;
mod upscale;

pub use config::{BlockKind, DIV2K_MEAN, NetworkConfig, Norm};
pub use error::Error;
pub use export::ExportPrecision;
pub use model::{ConvWeights, Model};
pub use ncnn::NcnnModel;
pub use network::{BatchNorm, Conv, Network, Operation, Value, ValueShape};
pub use stream::StageTime;
pub use upscale::{DEFAULT_TILE_PX, Sample, Upscaler};
pub use wdsr_kernels::{Isa, Precision};
