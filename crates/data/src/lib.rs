//! Datasets for training super-resolution networks.
//!
//! [`fetch`] builds a folder of training images, [`check`] finds unusable images in a folder, [`align`]
//! makes pairs of a low- and a high-resolution image match, and [`kept_out`] recognises images of test
//! sets.
#![forbid(unsafe_code)]

pub mod align;
pub mod check;
mod contact_sheet;
mod detail;
mod error;
pub mod fetch;
pub mod kept_out;
mod manifest;
mod packages;
mod parallel;
mod perceptual_hash;
mod sources;

pub use error::{Error, PackageProblem};
pub use parallel::map_or_first_error;
pub use sources::Sources;
