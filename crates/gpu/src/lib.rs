//! The networks of [`wdsr_model`] on GPUs, through wgpu.
//!
//! - [`adapters`] lists the adapters of this computer, and [`Gpu::open`] opens one.
//! - An [`Upscaler`](wdsr_model::Upscaler) that gets a [`Gpu`] by
//!   [`on_device`](wdsr_model::Upscaler::on_device) computes images there.
//!
//! With the feature `train` a [`Gpu`] also trains, as a device of `wdsr_train`.
//!
//! `wgsl` writes the kernels of a network, `plan` their order and buffers, `network` runs them.
//! Every pixel is computed by the same instructions wherever it lies, so that tiles equal the whole image bit for bit on one
//! adapter. Different adapters may differ in the last bits.
#![forbid(unsafe_code)]
// The README's example compiles.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod adapter;
mod gpu;
mod network;
mod peak;
mod plan;
#[cfg(feature = "train")]
mod training;
mod wgsl;

pub use adapter::{AdapterKind, AdapterSummary, Choice, adapters};
pub use gpu::{Gpu, OpenError};
pub use wgsl::GpuPrecision;
