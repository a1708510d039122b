//! Degradations of photographs, for training networks on what cameras and encoders do to images.
//!
//! A [`Degradation`] is a list of [`Stage`]s in order, each with a probability and ranges of values.
//! [`Degradation::draw`] chooses the values for one patch, some once for an image or a dataset
//! ([`Per`]); [`Draw::apply`] carries them out on a
//! [`Region`] of a high-resolution image, the patch and a margin around it, and returns the
//! low-resolution patch. The same generator state gives the same bits, on every machine with the
//! same floating-point functions.
//!
//! Samples are 8-bit R G B, full range, interleaved and row-major; between the stages they are
//! floats in levels (0..255), and each JPEG stage rounds them as a file would. [`jpeg_rgb`] and
//! [`jpeg_grey`] are that stage alone.
//!
//! Sources: NTIRE 2018 (Timofte et al. 2018) for the kinds of damage; Malvar, He and Cutler 2004 for
//! the demosaicing; BSRGAN (Zhang et al. 2021) and Real-ESRGAN (Wang et al. 2021) for the stages.
#![forbid(unsafe_code)]

mod apply;
mod blur;
mod jpeg;
mod linear;
mod mosaic;
mod noise;
mod planes;
mod resample;
mod stage;

pub use apply::{Degraded, Draw, Origin, Region};
pub use jpeg::{jpeg_grey, jpeg_rgb, jpeg_table_scale, luma};
pub use stage::{
    Blur, BlurShape, Degradation, Downsample, Error, Exposure, Jpeg, Method, Noise, Per, Range,
    Shift, Stage, Subsampling,
};
