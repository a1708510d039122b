//! The image in memory: size, colour, samples and the metadata that travels with them.

use image::metadata::Orientation;

use crate::metadata::Metadata;
use crate::rows::{Outline, RowSample};

/// A still image.
///
/// Samples are interleaved and row-major: sample `c` of pixel `(x, y)` is number
/// `(y * width_px + x) * colour.channels() + c`. The pixels are upright: an EXIF orientation has
/// been applied by [`decode`](crate::decode).
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
    /// What the file says about the image.
    pub metadata: Metadata,
}

/// The channels of a pixel, in their order in memory. Alpha is straight (not premultiplied).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Colour {
    /// One channel.
    Grey,
    /// Grey, alpha.
    GreyAlpha,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, alpha.
    RgbAlpha,
}

impl Colour {
    /// Samples per pixel, 1 to 4.
    pub fn channels(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::GreyAlpha => 2,
            Self::Rgb => 3,
            Self::RgbAlpha => 4,
        }
    }

    /// Whether the last channel is alpha.
    pub fn has_alpha(self) -> bool {
        matches!(self, Self::GreyAlpha | Self::RgbAlpha)
    }

    /// Whether the colour is one channel (alpha aside).
    pub fn is_grey(self) -> bool {
        matches!(self, Self::Grey | Self::GreyAlpha)
    }

    /// The same colour without its alpha channel.
    pub fn without_alpha(self) -> Self {
        if self.is_grey() {
            Self::Grey
        } else {
            Self::Rgb
        }
    }

    /// The same colour with an alpha channel.
    pub fn with_alpha(self) -> Self {
        if self.is_grey() {
            Self::GreyAlpha
        } else {
            Self::RgbAlpha
        }
    }
}

/// Bits and kind of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Depth {
    /// 8-bit integer, 0..255.
    U8,
    /// 16-bit integer, 0..65535.
    U16,
    /// 32-bit float, 0..1 nominal; values outside are kept.
    F32,
}

impl Depth {
    /// Bytes of a sample.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::F32 => 4,
        }
    }
}

/// The samples of an image.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// 0..255, full range.
    U8(Vec<u8>),
    /// 0..65535, full range.
    U16(Vec<u16>),
    /// 0..1 nominal; values outside are kept.
    F32(Vec<f32>),
}

/// [`Samples`] that belong to someone else.
#[derive(Clone, Copy, Debug)]
pub enum SamplesRef<'a> {
    /// 0..255, full range.
    U8(&'a [u8]),
    /// 0..65535, full range.
    U16(&'a [u16]),
    /// 0..1 nominal; values outside are kept.
    F32(&'a [f32]),
}

impl SamplesRef<'_> {
    /// Bits and kind of one sample.
    pub fn depth(self) -> Depth {
        match self {
            Self::U8(_) => Depth::U8,
            Self::U16(_) => Depth::U16,
            Self::F32(_) => Depth::F32,
        }
    }

    /// A copy.
    pub fn to_samples(self) -> Samples {
        match self {
            Self::U8(samples) => Samples::U8(samples.to_vec()),
            Self::U16(samples) => Samples::U16(samples.to_vec()),
            Self::F32(samples) => Samples::F32(samples.to_vec()),
        }
    }
}

impl Samples {
    /// The same samples, without a copy.
    pub fn borrowed(&self) -> SamplesRef<'_> {
        match self {
            Self::U8(samples) => SamplesRef::U8(samples),
            Self::U16(samples) => SamplesRef::U16(samples),
            Self::F32(samples) => SamplesRef::F32(samples),
        }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(samples) => samples.len(),
            Self::U16(samples) => samples.len(),
            Self::F32(samples) => samples.len(),
        }
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bits and kind of one sample.
    pub fn depth(&self) -> Depth {
        match self {
            Self::U8(_) => Depth::U8,
            Self::U16(_) => Depth::U16,
            Self::F32(_) => Depth::F32,
        }
    }

    /// The samples as bytes in the machine's order.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::U8(samples) => samples,
            Self::U16(samples) => bytemuck::cast_slice(samples),
            Self::F32(samples) => bytemuck::cast_slice(samples),
        }
    }

    /// From every pixel of `channels` samples, the samples that `pick` names, in its order.
    pub(crate) fn pick(&self, channels: usize, pick: &[usize]) -> Self {
        fn picked<T: Copy>(samples: &[T], channels: usize, pick: &[usize]) -> Vec<T> {
            let mut out = Vec::with_capacity(samples.len() / channels * pick.len());
            for pixel in samples.chunks_exact(channels) {
                out.extend(pick.iter().map(|&c| pixel[c]));
            }
            out
        }
        match self {
            Self::U8(samples) => Self::U8(picked(samples, channels, pick)),
            Self::U16(samples) => Self::U16(picked(samples, channels, pick)),
            Self::F32(samples) => Self::F32(picked(samples, channels, pick)),
        }
    }
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

    /// Size and kind.
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

    /// The pixels turned as the orientation says.
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

    /// Grey replicated to red, green and blue; alpha stays. A colour image is returned as it
    /// is. The metadata is carried along, a grey ICC profile included: the way back is
    /// [`rgb_to_grey`](Self::rgb_to_grey).
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
    /// It undoes [`grey_to_rgb`](Self::grey_to_rgb) exactly. It is no luminance.
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
        let colour = if self.colour.has_alpha() {
            Colour::GreyAlpha
        } else {
            Colour::Grey
        };
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
