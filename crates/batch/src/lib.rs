//! Batches of images to upscale, as the program and the Python package share them.
//!
//! - [`collect`] lists the images that files, folders and patterns name; [`Shard`] divides them among runs.
//! - [`Manifest`] records the results in an output folder, so that a batch that was stopped resumes, and a changed
//!   input, model or option re-runs the images that it affects.
//! - [`open`], [`exists`] and [`Manifest::publish`] take URLs of object stores as they take paths.
//! - [`settings_text`] is what a result depends on beside its image.
#![forbid(unsafe_code)]

mod error;
mod inputs;
mod manifest;
mod place;
mod settings;

pub use error::Error;
pub use inputs::{Input, InputError, Shard, ShardError, collect, is_pattern};
pub use manifest::{
    Entry, Manifest, hash_of, hash_of_file, hash_of_model, hash_of_place, portable,
};
pub use place::{
    Flow, Opened, create_folder_of, exists, is_folder, is_http, is_url, local_target, open, place,
    publish,
};
pub use settings::{Computation, settings_text};
