//! Layouts of test sets, and scores.
//!
//! One program: each one more takes seconds to compile and link.

mod degraded_inputs;
mod golden;
mod layouts;
mod scoring;
