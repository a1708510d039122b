//! Images for super-resolution: reading and writing files, colour and depth, and the
//! MATLAB-exact `imresize` that made the DIV2K low-resolution images.
//!
//! A [`Image`] holds interleaved samples (row-major, `height_px x width_px x channels`) in the
//! depth of its file: 8 bit, 16 bit or 32-bit float. [`decode`] reads one, [`encode`] writes one
//! atomically, [`Image::imresize`] resizes one, [`images_in`] lists a folder.
//!
//! What it is not: there is no colour management (an ICC profile is carried from file to file and
//! never applied) and no animation.
#![forbid(unsafe_code)]

mod decode;
mod encode;
mod error;
mod folder;
mod format;
mod icc;
pub mod imresize;
mod jpeg_end;
mod jpeg_scan;
mod memory;
mod metadata;
mod pixels;
mod rows;

pub use decode::{
    Limits, decode, decode_bytes, dimensions, dimensions_of_bytes, format_of_bytes, format_of_file,
};
pub use encode::{JPEG_QUALITY, NewFile, encode, encode_bytes, encode_named, write_atomically};
pub use error::Error;
pub use folder::{images_by_content, images_in};
pub use format::{Format, UnknownFormat};
pub use memory::is_memory_free;
pub use metadata::{Metadata, MetadataPolicy, PngColour, Resolution};
pub use pixels::{Colour, Depth, Image, Samples, SamplesRef};
pub use rows::{Outline, RowReader, RowSample, encode_rows};
