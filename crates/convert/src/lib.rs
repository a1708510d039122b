//! Reads and writes super-resolution models in the formats of other programs.
//!
//! - [`import`] reads the checkpoints of other trainers of WDSR and EDSR: PyTorch, safetensors and,
//!   with the feature `keras`, HDF5. It recognises the published layouts, and folds weight
//!   normalisation and the range of the pixels that a network was trained on into plain convolutions.
//! - [`to_onnx`], [`to_ncnn`] and [`to_pytorch`] write models for other engines.
//!
//! Checkpoints of PyTorch are pickles, programs that can run any code. Here they are read without
//! running them (`pickle.rs`); a file that needs more than weights is refused with a reason.
//!
//! # Examples
//! A checkpoint of another trainer as an ONNX file:
//! ```no_run
//! use wdsr_convert::{Options, import, to_onnx};
//! use wdsr_model::WeightFormat;
//!
//! let imported = import("model_best.pt".as_ref(), &Options::default())?;
//! std::fs::write("model.onnx", to_onnx(&imported.model, WeightFormat::F32)?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
// The README's example compiles.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod container;
mod convention;
mod convolutions;
mod error;
mod import;
#[cfg(test)]
mod interpreter;
#[cfg(feature = "keras")]
mod keras;
mod layout;
mod ncnn;
mod onnx;
mod pickle;
mod pytorch;
mod state_dict;
mod tensor;

pub use convention::Range;
pub use error::Error;
pub use import::{Imported, Options, import, import_bytes, is_of_others};
pub use ncnn::{NcnnFiles, to_ncnn};
pub use onnx::to_onnx;
pub use pytorch::{pytorch_options, to_pytorch};
