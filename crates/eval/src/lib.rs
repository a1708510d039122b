//! Scoring of super-resolution models: PSNR and SSIM by the protocols that papers use, on the
//! layouts that test sets have.
#![forbid(unsafe_code)]

mod error;
mod metrics;
mod pairs;
mod protocol;
mod report;
mod score;

pub use error::Error;
pub use metrics::{Channel, psnr_db, ssim};
pub use pairs::{Pair, PicturePair, Track, find_pairs};
pub use protocol::Protocol;
pub use report::{MeanScore, PictureScore, Report};
pub use score::{bicubic, score_pair, score_set};
