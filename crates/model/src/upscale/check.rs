//! Whether what comes out of the network can be an image.
//!
//! A damaged model, a faulty processor or wild samples show as NaN, infinity or one flat colour.
//! Rounded to integers the first would become black pixels in a file that looks whole, so all
//! is checked before rounding.

use std::ops::Range;

/// Why an image was not upscaled. Nothing of the result may be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UpscaleError {
    /// A sample of the image is NaN or infinite; only floats can be.
    #[error(
        "the image holds {value} at pixel ({x}, {y}), expected finite samples; replace it in the \
         program that made the image"
    )]
    Input {
        /// The sample.
        value: f32,
        /// Column of the pixel.
        x: usize,
        /// Row of the pixel.
        y: usize,
    },
    /// The network gave NaN or an infinite value.
    #[error(
        "the network gave {value} at pixel ({x}, {y}) of the result, expected finite samples; the \
         model is damaged or its weights are too large for this image, use another one"
    )]
    NotFinite {
        /// The value, before it is rounded.
        value: f32,
        /// Column of the pixel, in the result.
        x: usize,
        /// Row of the pixel, in the result.
        y: usize,
    },
    /// The network gave a single colour for rows of the image that have more of them.
    #[error(
        "the network gave one flat colour for rows {} to {} of the image, which hold several; the \
         model is damaged, use another one",
        rows.start, rows.end
    )]
    Constant {
        /// Rows of the image.
        rows: Range<usize>,
    },
    /// The progress function asked to stop.
    #[error("stopped")]
    Stopped,
}

/// The spread of samples seen so far, by channel.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    /// Least and largest.
    bounds: [(f32, f32); 3],
}

impl Spread {
    pub(super) fn new() -> Self {
        Self {
            bounds: [(f32::INFINITY, f32::NEG_INFINITY); 3],
        }
    }

    /// Takes in samples of a channel; the place and value of the first that is not finite.
    pub(super) fn add(&mut self, channel: usize, samples: &[f32]) -> Result<(), (usize, f32)> {
        let (least, largest) = &mut self.bounds[channel];
        let mut finite = true;
        for &sample in samples {
            *least = if sample < *least { sample } else { *least };
            *largest = if sample > *largest { sample } else { *largest };
            finite &= sample.is_finite();
        }
        if finite {
            return Ok(());
        }
        let at = samples.iter().position(|sample| !sample.is_finite());
        let at = at.unwrap_or_else(|| unreachable!("one of them is not finite"));
        Err((at, samples[at]))
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (bounds, other) in self.bounds.iter_mut().zip(other.bounds) {
            *bounds = (bounds.0.min(other.0), bounds.1.max(other.1));
        }
    }

    /// Whether all pixels have one colour.
    pub(super) fn is_flat(&self) -> bool {
        self.bounds.iter().all(|(least, largest)| least >= largest)
    }
}
