//! Super-resolution networks (WDSR-A, WDSR-B, EDSR): their description, their files, and inference.
//!
//! - [`NetworkConfig`] describes a network, [`Network`] has its equations.
//! - [`Model`] is a network with weights, read from and written to a file. `wdsr-convert` reads and
//!   writes the formats of other programs.
//! - [`Upscaler`] upscales images with a model, in tiles that equal the whole image bit for bit.
//!
//! With the feature `builtin` the library contains six trained models (3.1 MB, `BuiltinModel`).
//!
//! # Examples
//! An image twice as large, upscaled by the built-in model:
#![cfg_attr(feature = "builtin", doc = "```")]
#![cfg_attr(not(feature = "builtin"), doc = "```ignore")]
//! use wdsr_model::{Model, Upscaler};
//!
//! # let folder = tempfile::tempdir()?;
//! # let [source, target] = ["small.bmp", "large.bmp"].map(|name| folder.path().join(name));
//! # image::RgbImage::from_fn(8, 6, |x, y| image::Rgb([30 * x as u8, 40 * y as u8, 90])).save(&source)?;
//! let small = image::open(source)?.to_rgb8();
//! let (width, height) = small.dimensions();
//! let upscaler = Upscaler::new(&Model::builtin())?;
//! let large = upscaler.upscale(&small, width as usize, height as usize)?;
//! image::RgbImage::from_raw(2 * width, 2 * height, large)
//!     .expect("three samples per pixel")
//!     .save(&target)?;
//! # assert_eq!(image::image_dimensions(target)?, (16, 12));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
// The README's example compiles and runs.
#![cfg_attr(all(doctest, feature = "builtin"), doc = include_str!("../README.md"))]

mod average;
#[cfg(feature = "builtin")]
mod builtin;
mod config;
mod device;
mod error;
mod file;
mod fused;
mod int8;
mod model;
mod network;
mod precision;
mod quantize;
mod stream;
pub mod strength;
mod upscale;

pub use average::AverageError;
#[cfg(feature = "builtin")]
pub use builtin::BuiltinModel;
pub use config::{BlockKind, ConfigError, DIV2K_MEAN, NetworkConfig, Norm};
pub use device::{
    Device, DeviceChoice, DeviceError, DeviceNetwork, DevicePrecision, DeviceTile, PendingTile,
    UnknownDevice,
};
pub use error::{Error, Float16RangeError, InvalidFile, UpscaleError};
pub use file::{WeightFormat, float16};
pub use fused::FusedOperation;
pub use int8::Int8Scales;
pub use model::{ConvWeights, Model};
pub use network::{Activation, BatchNorm, Conv, Network, Operation, Value, ValueShape};
pub use precision::{PrecisionChoice, PrecisionError, PrecisionOn};
pub use quantize::{Calibration, QuantizeError};
pub use stream::StageTime;
pub use upscale::{DEFAULT_TILE_PX, Progress, Sample, Upscaler};
pub use wdsr_kernels::{Isa, Precision, STRIP_ROWS};
