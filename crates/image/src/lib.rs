//! Images for super-resolution: reading and writing files, colour and depth, and the
//! MATLAB-exact `imresize` that made the DIV2K low-resolution images.
//!
//! An [`Image`] holds interleaved samples (row-major, `height_px x width_px x channels`) in the
//! depth of its file: 8 bit, 16 bit or 32-bit float. [`Reader`] reads one, whole or by rows, [`Writer`]
//! writes one, and an [`AtomicFile`] appears under its name only when it is complete. [`decode`] and
//! [`encode`] are the short forms for a whole image. [`Image::imresize`] resizes, [`images_in`] lists a
//! folder.
//!
//! There is no colour management: an ICC profile is copied from file to file and never applied. An animation
//! is read and written frame by frame ([`Reader::into_frames`], [`AnimationWriter`]).
#![forbid(unsafe_code)]

mod animation;
mod band;
mod deadline;
mod error;
mod folder;
mod format;
mod hash;
pub mod imresize;
mod memory;
mod metadata;
mod pixels;
mod reader;
mod samples;
mod tiff_file;
mod unread;
mod writer;

pub use animation::{Animation, Delay, Frame};
pub use band::{Band, JoinError, join_bands};
pub use deadline::{Deadline, MAX_LATE};
pub use error::Error;
pub use folder::{images_by_content, images_in, unread_images_in};
pub use format::{Format, UnknownFormat};
pub use hash::hash_of;
pub use memory::is_memory_free;
pub use metadata::{GeoFields, Metadata, MetadataPolicy, PngColour, Resolution};
pub use pixels::Image;
pub use reader::{Frames, Limits, Reader, decode, decode_bytes};
pub use samples::{Colour, Depth, Outline, RowSample, Samples, SamplesRef};
pub use unread::unread_by_suffix;
pub use wdsr_atomic_file::AtomicFile;
pub use writer::{
    AnimationWriter, Encoding, PngCompression, Writer, encode, encode_bytes, write_atomically,
};
