//! How a set is scored: a comparison of whole images, or one with its own input or alignment.

use std::fmt;

use serde::{Serialize, Serializer};
use wdsr_degrade::{Subsampling, jpeg_grey, jpeg_rgb, jpeg_table_scale};

use crate::error::Error;
use crate::metrics::{Channel, planes};
use crate::pairs::{ImagePair, Pair};
use crate::protocol::Protocol;

/// How a set is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// Whole images are compared.
    Whole(Protocol),
    /// The realistic tracks of NTIRE 2018, x4:
    /// [`psnr_db_and_ssim_over_shifts`](crate::psnr_db_and_ssim_over_shifts).
    Ntire2018,
    /// Restoration at x1: the input is the original as JPEG of this quality, 4:2:0 or grey. The
    /// baseline is the input itself. RGB; grey images as they are.
    Jpeg {
        /// Quality of libjpeg, 1..=100.
        quality: u8,
        /// Whether colour originals are converted to grey first: the Y of MATLAB's
        /// `rgb2ycbcr`, 16..235, rounded, as for the published figures of LIVE1.
        grey: bool,
    },
    /// Upscaling of an image that MATLAB's `imresize` reduced and that was then saved as JPEG of this
    /// quality, 4:2:0 or grey. RGB, scale pixels cropped.
    SrJpeg {
        /// Quality of libjpeg, 1..=100.
        quality: u8,
    },
}

impl From<Protocol> for Scoring {
    fn from(protocol: Protocol) -> Self {
        Self::Whole(protocol)
    }
}

impl Scoring {
    /// The channel of an image that is compared. `grey`: the image is grey in its file.
    pub(crate) fn channel(self, grey: bool) -> Channel {
        match self {
            Self::Whole(protocol) => protocol.channel(grey),
            Self::Jpeg { .. } if grey => Channel::Grey,
            Self::Ntire2018 | Self::Jpeg { .. } | Self::SrJpeg { .. } => Channel::Rgb,
        }
    }

    /// Pixels cropped on each side.
    pub(crate) fn shave_px(self, scale: usize) -> usize {
        match self {
            Self::Whole(protocol) => protocol.shave_px(scale),
            Self::Ntire2018 => scale + 6,
            Self::Jpeg { .. } => 0,
            Self::SrJpeg { .. } => scale,
        }
    }

    /// Its definition in one line.
    pub fn describe(self, scale: usize) -> String {
        match self {
            Self::Whole(protocol) => protocol.describe(scale),
            Self::Ntire2018 => format!(
                "{self}: RGB, 8 bit, central 60 x 60 px, best shift of -40..40 px, PSNR at equal \
                 brightness"
            ),
            Self::Jpeg { quality, grey } => {
                let channel = if grey {
                    "grey"
                } else {
                    "RGB (grey images: as stored)"
                };
                format!("{self}: {channel}, 8 bit, input is JPEG of quality {quality}, 4:2:0")
            }
            Self::SrJpeg { quality } => format!(
                "{self}: RGB, 8 bit, {scale} px cropped on each side, input is imresize, then JPEG of \
                 quality {quality}, 4:2:0"
            ),
        }
    }

    /// Reads a pair, with the input that is scored.
    pub(crate) fn load(self, pair: &Pair) -> Result<ImagePair, Error> {
        let (protocol, expected, is_defined) = match self {
            Self::Whole(_) => ("", "", true),
            Self::Ntire2018 => ("ntire2018", "x4", pair.scale == 4),
            Self::Jpeg { .. } => ("jpeg", "x1", pair.scale == 1),
            Self::SrJpeg { .. } => ("sr-jpeg", "x2 or more", pair.scale > 1),
        };
        if !is_defined {
            return Err(Error::ProtocolScale {
                path: pair.high.clone(),
                protocol,
                expected,
                scale: pair.scale,
            });
        }
        match self {
            Self::Whole(_) | Self::Ntire2018 => pair.load(),
            Self::Jpeg { quality, grey } => {
                let mut images = without_low(pair).load()?;
                if grey && !images.grey {
                    let (width_px, height_px) = images.high_size_px();
                    let (luma, ..) = planes(&images.high, width_px, height_px, Channel::Y, 0);
                    let levels = luma[0].iter().map(|level| level.round() as u8);
                    images.high = levels.flat_map(|level| [level; 3]).collect();
                    images.grey = true;
                }
                images.low = images.high.clone();
                compress(&mut images, quality);
                Ok(images)
            }
            Self::SrJpeg { quality } => {
                let mut images = without_low(pair).load()?;
                compress(&mut images, quality);
                Ok(images)
            }
        }
    }
}

fn without_low(pair: &Pair) -> Pair {
    Pair {
        low: None,
        ..pair.clone()
    }
}

/// Replaces the low-resolution image by itself as JPEG, whose tables are known as those of a file.
fn compress(images: &mut ImagePair, quality: u8) {
    let (width, height) = (images.low_width_px, images.low_height_px);
    images.low = if images.grey {
        let grey: Vec<u8> = images.low.iter().step_by(3).copied().collect();
        let grey = jpeg_grey(&grey, width, height, quality);
        grey.iter().flat_map(|&level| [level; 3]).collect()
    } else {
        jpeg_rgb(&images.low, width, height, quality, Subsampling::S420)
    };
    images.jpeg_table_scale = Some(jpeg_table_scale(quality));
}

impl fmt::Display for Scoring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(protocol) => protocol.fmt(f),
            Self::Ntire2018 => f.write_str("ntire2018"),
            Self::Jpeg { .. } => f.write_str("jpeg"),
            Self::SrJpeg { .. } => f.write_str("sr-jpeg"),
        }
    }
}

impl Serialize for Scoring {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
