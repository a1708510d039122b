//! Training of super-resolution networks on the processor.
//!
//! A [`Recipe`] says what to train and how; [`Trainer`] carries it out on a folder of pictures,
//! writing checkpoints from which it continues bit for bit.
//!
//! Reading order: [`trainer`] (the loop), [`gradients`] (forward beside backward),
//! [`parameters`] (weight normalisation), [`optimizer`], [`patches`].
#![forbid(unsafe_code)]

pub mod checkpoint;
mod error;
pub mod gradients;
mod loss;
pub mod optimizer;
pub mod parameters;
pub mod patches;
mod recipe;
pub mod schedule;
pub mod trainer;

pub use error::Error;
pub use recipe::{
    Course, Data, DataFolder, Loss, Recipe, Schedule, Start, Training, Validation,
};
pub use trainer::{Event, Metrics, Trainer};
