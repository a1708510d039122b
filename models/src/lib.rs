//! The model files that are built into `wdsr-model`, a crate of their own because a package cannot
//! include files from outside its folder.
//!
//! Each is a safetensors file as `wdsr_model::Model` reads it. They are statics, of which a program has one
//! copy; a constant has one in each crate that uses it.
#![no_std]
#![forbid(unsafe_code)]

/// `base` x2: WDSR-B, 32 features, 16 blocks.
pub static BASE_X2: &[u8] = include_bytes!("../base-x2.safetensors");

/// `base` x3: WDSR-B, 32 features, 16 blocks.
pub static BASE_X3: &[u8] = include_bytes!("../base-x3.safetensors");

/// `base` x4: WDSR-B, 32 features, 16 blocks.
pub static BASE_X4: &[u8] = include_bytes!("../base-x4.safetensors");

/// `small` x2: WDSR-B, 32 features, 8 blocks.
pub static SMALL_X2: &[u8] = include_bytes!("../small-x2.safetensors");

/// `small` x3: WDSR-B, 32 features, 8 blocks.
pub static SMALL_X3: &[u8] = include_bytes!("../small-x3.safetensors");

/// `small` x4: WDSR-B, 32 features, 8 blocks.
pub static SMALL_X4: &[u8] = include_bytes!("../small-x4.safetensors");

/// `photo` x1: WDSR-B, 32 features, 16 blocks, with a strength.
pub static PHOTO_X1: &[u8] = include_bytes!("../photo-x1.safetensors");

/// `photo` x2: WDSR-B, 32 features, 16 blocks, with a strength.
pub static PHOTO_X2: &[u8] = include_bytes!("../photo-x2.safetensors");

/// `photo` x4: WDSR-B, 32 features, 16 blocks, with a strength.
pub static PHOTO_X4: &[u8] = include_bytes!("../photo-x4.safetensors");
