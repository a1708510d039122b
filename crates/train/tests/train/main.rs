//! Golden vectors, checkpoints and starting weights of trainings.
//!
//! One program: each one more takes seconds to compile and link.

mod branches;
mod checkpoints;
mod golden;
mod start;
