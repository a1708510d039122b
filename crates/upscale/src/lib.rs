//! Whole images made larger by the networks of [`wdsr_model`]: to any size, in their own depth,
//! with transparency.
//!
//! - [`Plan`] says by which passes of networks an image gets the size asked for ([`SizeRequest`]).
//! - [`ImageUpscaler`] makes it so, alpha included ([`AlphaMethod`]).
//!
//! It reads and writes no files ([`wdsr_image`] does) and starts no threads: the work is done on rayon's
//! current pool. The program `wdsr upscale` and the Python package are made of it.
//!
//! # Examples
//! An image with transparency 2.7 times as large, by the model built in:
//! ```
//! use wdsr_model::{Model, Upscaler};
//! use wdsr_image::{Format, Limits, decode, encode};
//! use wdsr_upscale::{ImageUpscaler, Plan, Size, SizeRequest};
//!
//! # use wdsr_image::{Colour, Image, Samples};
//! # let folder = tempfile::tempdir()?;
//! # let [source, target] = ["small.png", "large.png"].map(|name| folder.path().join(name));
//! # let samples = (0..10 * 8 * 4).map(|i| i as u8).collect();
//! # encode(&Image::new(10, 8, Colour::RgbAlpha, Samples::U8(samples)), &source, Format::Png)?;
//! let network = Upscaler::new(&Model::builtin())?;
//! let image = decode(&source, &Limits::default())?;
//! let request = SizeRequest::Factor(2.7);
//! let plan = Plan::new(Size::of(&image), request, &[network.scale()])?;
//! assert_eq!(plan.to_string(), "x2, x2, resized from 40 x 32");
//! let large = ImageUpscaler::new(&plan, &[&network]).upscale(image)?;
//! encode(&large, &target, Format::Png)?;
//! # let large = decode(&target, &Limits::default())?;
//! # assert_eq!((large.width_px, large.height_px, large.colour), (27, 22, Colour::RgbAlpha));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
// The README's example compiles.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod alpha;
mod depth;
mod image_upscaler;
mod memory;
mod size;

pub use alpha::AlphaMethod;
pub use image_upscaler::ImageUpscaler;
pub use size::{MAX_SIDE_PX, Plan, Size, SizeError, SizeRequest};
