//! Model files, and images upscaled by tiles, on processors and devices.
//!
//! One program: each one more takes seconds to compile and link.

mod devices;
mod files;
mod tiles;
