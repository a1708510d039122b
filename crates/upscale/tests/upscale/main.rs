//! Images upscaled from a source to a sink: bands, ranges of values, strength, wrapped edges.
//!
//! One program: each one more takes seconds to compile and link.

mod bands;
mod job;
mod range;
mod strength;
mod wrap;
