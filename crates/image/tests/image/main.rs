//! Files of every format, read and written, and their metadata; resizing.
//!
//! One program: each one more takes seconds to compile and link.

mod animations;
#[cfg(feature = "avif")]
mod avif;
mod bad_files;
mod contents;
mod folder;
mod formats;
mod imresize;
mod imresize_properties;
mod jpeg_kinds;
#[cfg(feature = "jpeg-xl")]
mod jxl;
mod metadata;
mod netpbm;
mod orientation;
mod pngsuite;
mod rows;
mod textures;
mod tiff_kinds;
