//! The networks of [`wdsr_model`] on GPUs, through wgpu.
//!
//! - `adapters` lists the adapters of this computer, and `Gpu::open` opens one.
//! - An [`Upscaler`](wdsr_model::Upscaler) that gets a `Gpu` by
//!   [`on_device`](wdsr_model::Upscaler::on_device) computes images there.
//!
//! They need the feature `wgpu`. With the feature `train` a `Gpu` also trains, as a device of `wdsr_train`.
//!
//! Without the feature `wgpu` the crate only describes: [`NetworkKernels`] has the kernels of a
//! network and their order, for a driver outside it, such as a page with WebGPU.
//!
//! `wgsl` writes the kernels of a network, `matrices` those for tensor cores and their like, `plan` their order and buffers,
//! `network` runs them.
//! Every pixel is computed by the same instructions wherever it lies, so that tiles equal the whole image bit for bit on one
//! adapter. Different adapters may differ in the last bits.
// Experimental features of wgpu are switched on by an unsafe call, in `gpu`.
#![deny(unsafe_code)]
// The README's example compiles.
#![cfg_attr(all(doctest, feature = "wgpu"), doc = include_str!("../README.md"))]

#[cfg(feature = "wgpu")]
mod adapter;
#[cfg(feature = "wgpu")]
mod gpu;
mod kernels;
mod matrices;
#[cfg(feature = "wgpu")]
mod network;
#[cfg(feature = "wgpu")]
mod peak;
mod plan;
#[cfg(feature = "train")]
mod training;
#[cfg(feature = "wgpu")]
mod tuning;
mod wgsl;

#[cfg(feature = "wgpu")]
pub use adapter::{AdapterKind, AdapterSummary, Choice, adapters};
#[cfg(feature = "wgpu")]
pub use gpu::{Gpu, OpenError};
pub use kernels::{KernelStep, NetworkKernels};
