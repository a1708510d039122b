//! Scoring of super-resolution models: PSNR and SSIM by the protocols that papers use, on the
//! layouts that test sets have.
//!
//! - [`find_pairs`] finds the pairs of low- and high-resolution images in a folder, [`Pair::load`]
//!   reads them.
//! - [`Protocol`] defines how published figures compare images; [`psnr_db`] and [`ssim`] compute them.
//! - [`score_pair`] and [`score_set`] score a model, [`score_pair_with`] and [`score_set_with`] any other
//!   upscaler, and [`find_finished`] finds images that are made already.
//! - [`Report`] has the figures, as JSON or as a table.
//!
//! Images are 8-bit RGB throughout, `[height, width, 3]` row-major, 0..255.
#![forbid(unsafe_code)]

mod error;
mod finished;
mod layouts;
mod metrics;
mod pairs;
mod protocol;
mod recognition;
mod report;
mod score;
mod scoring;
mod shifts;

pub use error::Error;
pub use finished::{FinishedImages, find_finished, load_finished};
pub use layouts::{Track, UnknownTrack, describe_low_images, find_pairs, find_pairs_and_problems};
pub use metrics::{Channel, psnr_db, ssim};
pub use pairs::{ImagePair, Pair};
pub use protocol::{Protocol, UnknownProtocol};
pub use report::{FailedImage, ImageScore, MeanScore, Report};
pub use score::{bicubic, score_image, score_pair, score_pair_with, score_set, score_set_with};
pub use scoring::Scoring;
pub use shifts::psnr_db_and_ssim_over_shifts;
