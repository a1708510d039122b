//! The image in memory: size, colour, samples and metadata.

use image::metadata::Orientation;

use crate::metadata::Metadata;
use crate::samples::{Colour, Depth, Outline, RowSample, Samples};

/// A still image.
///
/// Samples are interleaved and row-major: sample `c` of pixel `(x, y)` is number
/// `(y * width_px + x) * colour.channels() + c`. The pixels are upright: [`Reader`](crate::Reader)
/// has applied an orientation.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Width in pixels, at least 1.
    pub width_px: usize,
    /// Height in pixels, at least 1.
    pub height_px: usize,
    /// Which channels a pixel has, and their order.
    pub colour: Colour,
    /// `width_px * height_px * colour.channels()` samples.
    pub samples: Samples,
    /// EXIF, ICC profile and other metadata.
    pub metadata: Metadata,
}

impl Image {
    /// An image of the given samples, without metadata.
    ///
    /// # Panics
    ///
    /// If a side is 0 or `samples` does not hold `width_px * height_px * colour.channels()`.
    pub fn new(width_px: usize, height_px: usize, colour: Colour, samples: Samples) -> Self {
        assert!(
            width_px > 0 && height_px > 0,
            "an image has at least one pixel, not {width_px} x {height_px}"
        );
        let expected = width_px
            .checked_mul(height_px)
            .and_then(|pixels| pixels.checked_mul(colour.channels()));
        assert_eq!(
            Some(samples.len()),
            expected,
            "samples of a {width_px} x {height_px} image of {colour:?}"
        );
        Self {
            width_px,
            height_px,
            colour,
            samples,
            metadata: Metadata::default(),
        }
    }

    /// Size, colour and depth.
    pub fn outline(&self) -> Outline {
        Outline {
            width_px: self.width_px,
            height_px: self.height_px,
            colour: self.colour,
            depth: self.depth(),
        }
    }

    /// Bits and kind of one sample.
    pub fn depth(&self) -> Depth {
        self.samples.depth()
    }

    /// Applies an orientation to the pixels.
    pub(crate) fn turned(self, orientation: Orientation) -> Self {
        use Orientation::*;
        fn turn<T: Copy>(
            samples: &[T],
            channels: usize,
            (width, height): (usize, usize),
            source: impl Fn(usize, usize) -> usize,
        ) -> Vec<T> {
            let mut out = Vec::with_capacity(samples.len());
            for y in 0..height {
                for x in 0..width {
                    let at = source(x, y) * channels;
                    out.extend_from_slice(&samples[at..at + channels]);
                }
            }
            out
        }
        let (right, bottom) = (self.width_px - 1, self.height_px - 1);
        let size = match orientation {
            NoTransforms => return self,
            Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH => {
                (self.height_px, self.width_px)
            }
            Rotate180 | FlipHorizontal | FlipVertical => (self.width_px, self.height_px),
        };
        // The number of the stored pixel that belongs at upright (x, y).
        let width_px = self.width_px;
        let source = |x: usize, y: usize| {
            let (source_x, source_y) = match orientation {
                NoTransforms => (x, y),
                FlipHorizontal => (right - x, y),
                Rotate180 => (right - x, bottom - y),
                FlipVertical => (x, bottom - y),
                Rotate90FlipH => (y, x),
                Rotate90 => (y, bottom - x),
                Rotate270FlipH => (right - y, bottom - x),
                Rotate270 => (right - y, x),
            };
            source_y * width_px + source_x
        };
        let channels = self.colour.channels();
        let samples = match &self.samples {
            Samples::U8(samples) => Samples::U8(turn(samples, channels, size, source)),
            Samples::U16(samples) => Samples::U16(turn(samples, channels, size, source)),
            Samples::F32(samples) => Samples::F32(turn(samples, channels, size, source)),
        };
        Self {
            width_px: size.0,
            height_px: size.1,
            samples,
            ..self
        }
    }

    /// The pixels as 8-bit RGB, interleaved, `width_px * height_px * 3` bytes.
    ///
    /// Grey is replicated, alpha is dropped. 16-bit samples become `round(v / 257)`, floats
    /// `round(255 v)` after clipping to 0..1 (NaN becomes 0).
    pub fn to_rgb8(&self) -> Vec<u8> {
        fn rgb8<T: Copy>(samples: &[T], colour: Colour, to_u8: impl Fn(T) -> u8) -> Vec<u8> {
            let channels = colour.channels();
            let [r, g, b] = if colour.is_grey() { [0; 3] } else { [0, 1, 2] };
            let mut out = Vec::with_capacity(samples.len() / channels * 3);
            for pixel in samples.chunks_exact(channels) {
                out.extend_from_slice(&[to_u8(pixel[r]), to_u8(pixel[g]), to_u8(pixel[b])]);
            }
            out
        }
        match &self.samples {
            Samples::U8(samples) if self.colour == Colour::Rgb => samples.clone(),
            Samples::U8(samples) => rgb8(samples, self.colour, |v| v),
            Samples::U16(samples) => rgb8(samples, self.colour, |v| {
                ((u32::from(v) * 2 + 257) / 514) as u8
            }),
            Samples::F32(samples) => rgb8(samples, self.colour, |v| {
                (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8
            }),
        }
    }

    /// The colour (Grey or Rgb, with the metadata) and, if there is one, the alpha channel as a
    /// Grey image of the same size and depth.
    pub fn split_alpha(self) -> (Self, Option<Self>) {
        if !self.colour.has_alpha() {
            return (self, None);
        }
        let channels = self.colour.channels();
        let colour = self.colour.without_alpha();
        let all: Vec<usize> = (0..channels).collect();
        let alpha = Self::new(
            self.width_px,
            self.height_px,
            Colour::Grey,
            self.samples.pick(channels, &all[channels - 1..]),
        );
        let samples = self.samples.pick(channels, &all[..channels - 1]);
        (
            Self {
                colour,
                samples,
                ..self
            },
            Some(alpha),
        )
    }

    /// The inverse of [`split_alpha`](Self::split_alpha): this image with `alpha` as its alpha
    /// channel.
    ///
    /// # Panics
    ///
    /// If this image has alpha already, `alpha` is not [`Colour::Grey`], or size or depth
    /// differ.
    pub fn join_alpha(self, alpha: &Self) -> Self {
        assert!(
            !self.colour.has_alpha(),
            "the colour image is {:?} already",
            self.colour
        );
        assert_eq!(alpha.colour, Colour::Grey, "colour of the alpha image");
        assert_eq!(
            (alpha.width_px, alpha.height_px, alpha.depth()),
            (self.width_px, self.height_px, self.depth()),
            "size and depth of the alpha image and of the colour image"
        );
        fn joined<T: Copy>(colour: &[T], alpha: &[T], channels: usize) -> Vec<T> {
            let mut out = Vec::with_capacity(colour.len() + alpha.len());
            for (pixel, &alpha) in colour.chunks_exact(channels).zip(alpha) {
                out.extend_from_slice(pixel);
                out.push(alpha);
            }
            out
        }
        let channels = self.colour.channels();
        let samples = match (&self.samples, &alpha.samples) {
            (Samples::U8(c), Samples::U8(a)) => Samples::U8(joined(c, a, channels)),
            (Samples::U16(c), Samples::U16(a)) => Samples::U16(joined(c, a, channels)),
            (Samples::F32(c), Samples::F32(a)) => Samples::F32(joined(c, a, channels)),
            _ => unreachable!("the depths were compared above"),
        };
        Self {
            colour: self.colour.with_alpha(),
            samples,
            ..self
        }
    }

    /// Grey replicated to red, green and blue; alpha stays. A colour image is returned as it is.
    /// The metadata stays, a grey ICC profile included. [`rgb_to_grey`](Self::rgb_to_grey) is the
    /// inverse.
    pub fn grey_to_rgb(self) -> Self {
        let (colour, pick): (_, &[usize]) = match self.colour {
            Colour::Rgb | Colour::RgbAlpha => return self,
            Colour::Grey => (Colour::Rgb, &[0, 0, 0]),
            Colour::GreyAlpha => (Colour::RgbAlpha, &[0, 0, 0, 1]),
        };
        let samples = self.samples.pick(self.colour.channels(), pick);
        Self {
            colour,
            samples,
            ..self
        }
    }

    /// The mean of red, green and blue, rounded half up in integer depths; alpha stays. A grey
    /// image is returned as it is.
    ///
    /// Undoes [`grey_to_rgb`](Self::grey_to_rgb) exactly. The mean is not the luminance.
    pub fn rgb_to_grey(self) -> Self {
        fn grey<T: RowSample>(samples: &[T], channels: usize) -> Vec<T> {
            let mut out = Vec::with_capacity(samples.len() / channels * (channels - 2));
            for pixel in samples.chunks_exact(channels) {
                out.push(T::mean([pixel[0], pixel[1], pixel[2]]));
                out.extend_from_slice(&pixel[3..]);
            }
            out
        }
        if self.colour.is_grey() {
            return self;
        }
        let colour = Colour::new(true, self.colour.has_alpha());
        let channels = self.colour.channels();
        let samples = match &self.samples {
            Samples::U8(samples) => Samples::U8(grey(samples, channels)),
            Samples::U16(samples) => Samples::U16(grey(samples, channels)),
            Samples::F32(samples) => Samples::F32(grey(samples, channels)),
        };
        Self {
            colour,
            samples,
            ..self
        }
    }
}

#[cfg(test)]
mod tests;
