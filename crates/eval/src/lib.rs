//! Scoring of super-resolution models: PSNR and SSIM by the protocols that papers use, on the
//! layouts that test sets have.
//!
//! - [`find_pairs`] says which images of a folder belong together, [`Pair::load`] reads them.
//! - [`Protocol`] is what a published figure compares; [`psnr_db`] and [`ssim`] compute it.
//! - [`score_set`] scores a model, [`score_set_with`] anything else that upscales images.
//! - [`Report`] holds the figures, as JSON or as a table.
//!
//! Images are 8-bit RGB throughout, `[height, width, 3]` row-major, 0..255.
#![forbid(unsafe_code)]

mod error;
mod layouts;
mod metrics;
mod pairs;
mod protocol;
mod report;
mod score;

pub use error::Error;
pub use layouts::{Track, find_pairs, find_pairs_and_problems};
pub use metrics::{Channel, psnr_db, ssim};
pub use pairs::{ImagePair, Pair};
pub use protocol::Protocol;
pub use report::{ImageScore, MeanScore, Report};
pub use score::{bicubic, score_pair_with, score_set, score_set_with};
