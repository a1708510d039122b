//! Super-resolution networks (WDSR-A, WDSR-B, EDSR): their description, their files, and exact
//! tiled upscaling with them.
//!
//! - [`NetworkConfig`] describes a network, [`Network`] writes its equations down.
//! - [`Model`] is a network with weights, read from and written to a file, or written for other
//!   engines: ONNX, ncnn, PyTorch.
//! - [`Upscaler`] upscales images with a model.
//!
//! # Examples
//! An image twice as large, by the model built in:
//! ```
//! use wdsr_model::{Model, Upscaler};
//!
//! # let folder = tempfile::tempdir()?;
//! # let [source, target] = ["small.png", "large.png"].map(|name| folder.path().join(name));
//! # image::RgbImage::from_fn(8, 6, |x, y| image::Rgb([30 * x as u8, 40 * y as u8, 90])).save(&source)?;
//! let small = image::open(source)?.to_rgb8();
//! let (width, height) = small.dimensions();
//! let upscaler = Upscaler::new(&Model::embedded())?;
//! let large = upscaler.upscale(&small, width as usize, height as usize)?;
//! image::RgbImage::from_raw(2 * width, 2 * height, large)
//!     .expect("three samples a pixel")
//!     .save(&target)?;
//! # assert_eq!(image::image_dimensions(target)?, (16, 12));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
// The README's example compiles and runs.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod atomic_file;
mod config;
mod error;
mod export;
#[cfg(test)]
mod interpreter;
mod model;
mod ncnn;
mod network;
mod official;
mod onnx;
mod released;
mod stream;
mod upscale;

pub use config::{BlockKind, DIV2K_MEAN, NetworkConfig, Norm};
pub use error::Error;
pub use export::ExportPrecision;
pub use model::{ConvWeights, Model};
pub use ncnn::NcnnModel;
pub use network::{BatchNorm, Conv, Network, Operation, Value, ValueShape};
pub use released::Released;
pub use stream::StageTime;
pub use upscale::{DEFAULT_TILE_PX, Progress, Sample, UpscaleError, Upscaler};
pub use wdsr_kernels::{Isa, Precision};
