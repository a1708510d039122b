//! Upscales images with the networks of [`wdsr_model`]: to any size, in their own depth, with
//! transparency.
//!
//! - [`Plan`] says by which passes of networks an image gets the requested size ([`SizeRequest`]).
//! - [`ImageUpscaler`] upscales images in memory, alpha included ([`AlphaMethod`]).
//! - [`Job`] takes an image from a reader of [`wdsr_image`] to a file: it checks and plans, streams the
//!   image where it can, copies the metadata and reports what the result lacks.
//!
//! The work is done on rayon's current thread pool. The program `wdsr upscale` and the Python package
//! are built on this crate.
//!
//! # Examples
//! An image with transparency, upscaled 2.7 times by the built-in model:
//! ```
//! use std::ops::ControlFlow;
//! use wdsr_image::{Format, Limits, Reader};
//! use wdsr_model::{Model, Upscaler};
//! use wdsr_upscale::{Job, Settings, SizeRequest};
//!
//! # use wdsr_image::{Colour, Image, Samples, decode, encode};
//! # let folder = tempfile::tempdir()?;
//! # let [input, output] = ["small.png", "large.png"].map(|name| folder.path().join(name));
//! # let samples = (0..10 * 8 * 4).map(|i| i as u8).collect();
//! # encode(&Image::new(10, 8, Colour::RgbAlpha, Samples::U8(samples)), &input, Format::Png)?;
//! let network = Upscaler::new(&Model::builtin())?;
//! let reader = Reader::open(&input, &Limits::default())?;
//! let settings = Settings { size: SizeRequest::Factor(2.7), ..Settings::default() };
//! let job = Job::new(reader, &[&network], settings)?;
//! assert_eq!(job.plan().to_string(), "x2, x2, resized from 40 x 32");
//! let progress = |_done: usize, _total: usize| ControlFlow::Continue(());
//! let (file, summary) = job.into_file(&output, Format::Png, &progress)?;
//! file.publish()?;
//! assert!(summary.dropped.is_empty());
//! # let large = decode(&output, &Limits::default())?;
//! # assert_eq!((large.width_px, large.height_px, large.colour), (27, 22, Colour::RgbAlpha));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
// The README's example compiles.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod alpha;
mod band;
mod depth;
mod error;
mod image_upscaler;
mod job;
mod memory;
mod progress;
mod range;
mod settings;
mod size;
mod strength;
mod wrap;

pub use alpha::AlphaMethod;
pub use band::{BandError, BandRequest};
pub use error::{Error, ErrorKind, OutOfMemory, Work};
pub use image_upscaler::ImageUpscaler;
pub use job::{Choice, Job, Summary};
pub use settings::Settings;
pub use size::{MAX_SIDE_PX, Plan, Size, SizeError, SizeRequest};
pub use strength::{Damage, Strength};
pub use wrap::Wrap;
