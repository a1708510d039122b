//! Training of super-resolution networks on the processor.
//!
//! A [`Recipe`] says what to train and how; [`Trainer`] carries it out on a folder of images,
//! writing checkpoints from which it continues bit for bit.
//!
//! Reading order: [`trainer`] (the loop), [`gradients`] (forward beside backward),
//! [`parameters`] (weight normalisation), [`optimizer`], [`patches`] over [`image_cache`].
#![forbid(unsafe_code)]

mod branches;
pub mod checkpoint;
pub mod data_check;
pub mod data_fetch;
mod error;
pub mod export;
pub mod gradients;
pub mod image_cache;
pub mod images;
pub mod kept_out;
mod loss;
pub mod optimizer;
pub mod parameters;
pub mod patches;
mod perceptual_hash;
mod recipe;
pub mod report;
pub mod schedule;
pub mod start;
pub mod study;
mod teacher;
pub mod tensorboard;
pub mod trainer;

pub use error::Error;
pub use recipe::{
    Course, Data, DataFolder, Initialization, Loss, Recipe, Schedule, Start, Teacher, Training,
    Validation,
};
pub use trainer::{Event, Metrics, Summary, Trainer};
