//! Registration of pairs: where a low-resolution image lies against its original, and pairs cut so that
//! they match.
//!
//! [`register`] reduces the original to low resolution, finds the whole shift by phase correlation and
//! refines it by Gauss-Newton steps, both insensitive to brightness. [`Placement`] applies what it found.
//! [`align_pairs`] does so for a folder. The same images give the same result on every machine.

mod folder;
mod grey;
mod phase;
mod placement;
mod refine;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use folder::{AlignedFolders, Line, REPORT, align_pairs, read_report};
pub use grey::Grey;
use grey::Spline;
use phase::{Moments, whole_shift};
pub use placement::{Part, Placement, cut_shifted_rgb8};
use refine::{Failure, Refined, Warp, centre, refine};

/// What may differ between the images of a pair, besides sharpness, noise and brightness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Motion {
    /// A shift.
    #[default]
    Shift,
    /// A shift, a small rotation, zoom and shear.
    Affine,
}

/// The least side of a low-resolution image.
const LEAST_SIDE_PX: usize = 32;
/// The side of the images that are searched for the whole shift.
const SEARCH_SIDE_PX: usize = 192;
/// The least correlation of details at a whole shift, and after refinement. Unrelated photographs reach
/// 0.2.
const LEAST_WHOLE_CORRELATION: f64 = 0.25;
const LEAST_CORRELATION: f64 = 0.4;
/// Details below this deviation, in levels, are a flat image.
const FLAT_LEVELS: f64 = 1.5;
/// The largest standard deviation of a shift in low-resolution pixels.
const MAX_UNCERTAINTY_PX: f64 = 0.1;
/// The blur, in low-resolution pixels, after which the brightness is compared.
const SHADING_PX: f32 = 4.0;
/// The largest zoom of an affine registration against the scale.
const MAX_ZOOM: f64 = 0.05;

/// How a low-resolution image lies against its original.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// Where it lies.
    #[serde(flatten)]
    pub placement: Placement,
    /// Brightness of the low-resolution image over that of the original.
    pub gain: f64,
    /// Levels (0..255) that are added to that.
    pub offset_levels: f64,
    /// Correlation of the details of both images after alignment, -1..=1.
    pub correlation: f64,
    /// Root mean square of the difference at low resolution, in levels, before alignment. Both
    /// residuals are after adaption of gain and offset, and count the noise of the images.
    pub residual_before_levels: f64,
    /// The same after alignment.
    pub residual_after_levels: f64,
    /// Standard deviation of the shift in high-resolution pixels, as the residual lets expect.
    pub uncertainty_px: f64,
}

/// Why a pair cannot be aligned.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The sizes are not those of the scale.
    #[error(
        "scale mismatch: {} x {} pixels of {} x {} are not 1/{scale}; give the scale of the pair by -s", low.0, low.1, high.0, high.1
    )]
    Scale {
        /// Width and height of the low-resolution image.
        low: (usize, usize),
        /// Width and height of the high-resolution image.
        high: (usize, usize),
        /// The scale expected.
        scale: usize,
    },
    /// The images match at another scale.
    #[error("scale mismatch: the images match at a zoom of {zoom:.3}, expected 0.95 to 1.05")]
    Zoom {
        /// The zoom found.
        zoom: f64,
    },
    /// The low-resolution image is too small.
    #[error(
        "too small: {} x {} low-resolution pixels, expected at least {LEAST_SIDE_PX} on each side", .0.0, .0.1
    )]
    TooSmall((usize, usize)),
    /// The images have too little texture, in all directions or along one.
    #[error("flat: too little texture to tell the shift")]
    Flat,
    /// No shift makes the images match.
    #[error(
        "no overlap: the images match at no shift (correlation {correlation:.2}, expected at least \
         {LEAST_WHOLE_CORRELATION})"
    )]
    NoOverlap {
        /// The best correlation of details.
        correlation: f64,
    },
    /// The images do not match after alignment.
    #[error(
        "residual too large: {residual_levels:.1} levels remain after alignment (correlation \
         {correlation:.2}, expected at least {LEAST_CORRELATION})"
    )]
    Residual {
        /// Root mean square of the difference, in levels of 0..255.
        residual_levels: f64,
        /// Correlation of details.
        correlation: f64,
    },
}

impl Rejection {
    /// A short name, for reports.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Scale { .. } | Self::Zoom { .. } => Verdict::ScaleMismatch,
            Self::TooSmall(_) => Verdict::TooSmall,
            Self::Flat => Verdict::Flat,
            Self::NoOverlap { .. } => Verdict::NoOverlap,
            Self::Residual { .. } => Verdict::ResidualTooLarge,
        }
    }
}

/// What became of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is aligned.
    Aligned,
    /// An image cannot be read.
    Broken,
    /// See [`Rejection::TooSmall`].
    TooSmall,
    /// See [`Rejection::Scale`] and [`Rejection::Zoom`].
    ScaleMismatch,
    /// See [`Rejection::Flat`].
    Flat,
    /// See [`Rejection::NoOverlap`].
    NoOverlap,
    /// See [`Rejection::Residual`].
    ResidualTooLarge,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Aligned => "aligned",
            Self::Broken => "broken",
            Self::TooSmall => "too small",
            Self::ScaleMismatch => "scale mismatch",
            Self::Flat => "flat",
            Self::NoOverlap => "no overlap",
            Self::ResidualTooLarge => "residual too large",
        })
    }
}

/// Registers a low-resolution image against its original, which is `scale` times as large.
///
/// # Errors
/// If the images cannot be aligned.
///
/// # Panics
/// If the scale is 0.
pub fn register(
    low: &Grey,
    high: &Grey,
    scale: usize,
    motion: Motion,
) -> Result<Registration, Rejection> {
    assert!(scale > 0, "scale {scale}");
    let low_size = (low.width_px, low.height_px);
    let high_size = (high.width_px, high.height_px);
    let nearest = |low: usize, high: usize| (high as f64 / low as f64).round() as usize;
    if nearest(low_size.0, high_size.0) != scale || nearest(low_size.1, high_size.1) != scale {
        return Err(Rejection::Scale {
            low: low_size,
            high: high_size,
            scale,
        });
    }
    let original = high.reduced(scale);
    let sides = [
        low.width_px,
        low.height_px,
        original.width_px,
        original.height_px,
    ];
    if sides.into_iter().any(|side| side < LEAST_SIDE_PX) {
        return Err(Rejection::TooSmall(low_size));
    }

    let factor = sides
        .into_iter()
        .max()
        .unwrap_or(1)
        .div_ceil(SEARCH_SIDE_PX);
    let shortest = sides.into_iter().min().unwrap_or(1);
    let factor = factor.min((shortest / LEAST_SIDE_PX).max(1));
    let details = [low, &original].map(|image| image.reduced(factor).detail());
    let found = whole_shift(&details[0], &details[1]);
    let is_flat = details
        .iter()
        .any(|detail| detail.root_mean_square() < FLAT_LEVELS);
    let whole = match found {
        Some(found) if found.correlation >= LEAST_WHOLE_CORRELATION => found,
        _ if is_flat => return Err(Rejection::Flat),
        _ => {
            let correlation = found.map_or(0.0, |found| found.correlation);
            return Err(Rejection::NoOverlap { correlation });
        }
    };
    let offset_px = whole.offset_px.map(|px| (px * factor as isize) as f64);
    let refined = refine(low, &original, offset_px, motion == Motion::Affine);
    let Refined {
        warp,
        uncertainty_px,
    } = refined.map_err(|failure| match failure {
        Failure::Apart if !is_flat => Rejection::NoOverlap {
            correlation: whole.correlation,
        },
        Failure::Apart | Failure::NoSlope => Rejection::Flat,
    })?;
    let details = Spline::new(original.detail());
    let correlation = compare(&low.detail(), &details, &warp).correlation();
    let matches = correlation >= LEAST_CORRELATION;
    // Images that do not match have a large residual, and with it a large uncertainty, too.
    if uncertainty_px > MAX_UNCERTAINTY_PX && (matches || is_flat) {
        return Err(Rejection::Flat);
    }
    let [[a, b], [c, d]] = warp.matrix;
    let zoom = (a * d - b * c).max(0.0).sqrt();
    if (zoom - 1.0).abs() > MAX_ZOOM {
        return Err(Rejection::Zoom { zoom });
    }
    // Sharpness differs, brightness does not depend on it.
    let shading = Spline::new(original.blurred(SHADING_PX));
    let (gain, offset_levels) = compare(&low.blurred(SHADING_PX), &shading, &warp).line();
    let original = Spline::new(original);
    let after = compare(low, &original, &warp);
    if !matches {
        return Err(Rejection::Residual {
            residual_levels: after.residual(),
            correlation,
        });
    }
    let before = compare(low, &original, &Warp::of_offset([0.0; 2]));
    Ok(Registration {
        placement: Placement {
            shift_px: warp.offset_px.map(|px| -px * scale as f64),
            matrix: warp.matrix,
        },
        gain,
        offset_levels,
        correlation,
        residual_before_levels: before.residual(),
        residual_after_levels: after.residual(),
        uncertainty_px: uncertainty_px * scale as f64,
    })
}

/// The original's samples at the low-resolution image's pixels beside that image's.
fn compare(low: &Grey, original: &Spline, warp: &Warp) -> Moments {
    let centre = centre(low.width_px, low.height_px);
    let mut moments = Moments::default();
    for (y, row) in low.samples.chunks_exact(low.width_px).enumerate() {
        for (x, &sample) in row.iter().enumerate() {
            let [at_x, at_y] = warp.place(x as f64, y as f64, centre);
            if let Some([value, ..]) = original.at(at_x, at_y) {
                moments.add(value, sample);
            }
        }
    }
    moments
}

#[cfg(test)]
mod tests;
