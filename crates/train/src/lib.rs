//! Training of super-resolution networks on the processor, or on a [`device`].
//!
//! A [`Recipe`] describes a training; a [`Trainer`] runs it on folders of images, hands out
//! [`Event`]s, and writes checkpoints from which it is resumed to the same bits.
//!
//! Reading order: [`trainer`] (the loop), [`gradients`] (forwards and backwards), [`parameters`]
//! (weight normalisation), [`optimizer`], [`dataset`] (images and patches), [`checkpoint`].
#![forbid(unsafe_code)]

mod batch;
pub mod checkpoint;
mod clean;
pub mod dataset;
pub mod decibels;
pub mod device;
mod error;
pub mod export;
pub mod gradients;
mod int8;
mod loss;
pub mod metrics;
pub mod optimizer;
pub mod parameters;
mod ranks;
mod recipe;
mod recipe_file;
pub mod run_folder;
pub mod start;
pub mod state;
pub mod teacher;
pub mod trainer;

pub use error::{CheckpointError, Error, InputDifference, RecipeError, StartError};
pub use metrics::Metrics;
pub use ranks::{Alone, Ranks};
pub use recipe::{
    CoolDown, Data, DataFolder, Decay, Initialization, Loss, Overrides, Recipe, Schedule, Shifts,
    Start, StrengthRange, Teacher, Training, Validation,
};
pub use trainer::{Event, Trainer, TrainingSummary};
