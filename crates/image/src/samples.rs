//! Samples, and what describes them: colour, depth, size.

use std::fmt;

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
    pub(crate) fn new(is_grey: bool, has_alpha: bool) -> Self {
        match (is_grey, has_alpha) {
            (true, false) => Self::Grey,
            (true, true) => Self::GreyAlpha,
            (false, false) => Self::Rgb,
            (false, true) => Self::RgbAlpha,
        }
    }

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
        Self::new(self.is_grey(), false)
    }

    /// The same colour with an alpha channel.
    pub fn with_alpha(self) -> Self {
        Self::new(self.is_grey(), true)
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grey => "grey",
            Self::GreyAlpha => "grey with an alpha channel",
            Self::Rgb => "rgb",
            Self::RgbAlpha => "rgb with an alpha channel",
        })
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

impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "8-bit",
            Self::U16 => "16-bit",
            Self::F32 => "float",
        })
    }
}

/// Size, colour and depth of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Pixels in a row.
    pub width_px: usize,
    /// Rows.
    pub height_px: usize,
    /// Channels.
    pub colour: Colour,
    /// Bits and kind of a sample.
    pub depth: Depth,
}

impl Outline {
    /// Samples in a row.
    pub fn row_len(&self) -> usize {
        self.width_px * self.colour.channels()
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.row_len() * self.depth.bytes()
    }

    /// Bytes of all samples.
    pub fn sample_bytes(&self) -> u64 {
        self.row_bytes() as u64 * self.height_px as u64
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

/// Borrowed [`Samples`].
#[derive(Clone, Copy, Debug)]
pub enum SamplesRef<'a> {
    /// 0..255, full range.
    U8(&'a [u8]),
    /// 0..65535, full range.
    U16(&'a [u16]),
    /// 0..1 nominal; values outside are kept.
    F32(&'a [f32]),
}

impl<'a> SamplesRef<'a> {
    /// Number of samples.
    pub fn len(self) -> usize {
        self.as_bytes().len() / self.depth().bytes()
    }

    /// Whether there is no sample.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Bits and kind of one sample.
    pub fn depth(self) -> Depth {
        match self {
            Self::U8(_) => Depth::U8,
            Self::U16(_) => Depth::U16,
            Self::F32(_) => Depth::F32,
        }
    }

    /// Copies the samples.
    pub fn to_samples(self) -> Samples {
        match self {
            Self::U8(samples) => Samples::U8(samples.to_vec()),
            Self::U16(samples) => Samples::U16(samples.to_vec()),
            Self::F32(samples) => Samples::F32(samples.to_vec()),
        }
    }

    /// The samples as bytes in the machine's order.
    pub(crate) fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::U8(samples) => samples,
            Self::U16(samples) => bytemuck::cast_slice(samples),
            Self::F32(samples) => bytemuck::cast_slice(samples),
        }
    }
}

impl Samples {
    /// `len` samples of value 0.
    pub fn zeros(depth: Depth, len: usize) -> Self {
        match depth {
            Depth::U8 => Self::U8(vec![0; len]),
            Depth::U16 => Self::U16(vec![0; len]),
            Depth::F32 => Self::F32(vec![0.0; len]),
        }
    }

    /// Borrows the samples.
    pub fn borrowed(&self) -> SamplesRef<'_> {
        match self {
            Self::U8(samples) => SamplesRef::U8(samples),
            Self::U16(samples) => SamplesRef::U16(samples),
            Self::F32(samples) => SamplesRef::F32(samples),
        }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.borrowed().len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bits and kind of one sample.
    pub fn depth(&self) -> Depth {
        self.borrowed().depth()
    }

    /// The samples as bytes in the machine's order.
    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::U8(samples) => samples,
            Self::U16(samples) => bytemuck::cast_slice_mut(samples),
            Self::F32(samples) => bytemuck::cast_slice_mut(samples),
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

/// A type of samples: u8, u16 or f32.
pub trait RowSample: Copy + Default + private::Sealed {
    /// The depth of images of such samples.
    const DEPTH: Depth;

    /// The mean of red, green and blue, rounded half up in integer depths. The mean of three equal
    /// samples is that sample.
    fn mean(pixel: [Self; 3]) -> Self;
}

mod private {
    /// Keeps `bytemuck` out of the public bounds of `RowSample`.
    pub trait Sealed: bytemuck::Pod {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
    impl Sealed for f32 {}
}

impl RowSample for u8 {
    const DEPTH: Depth = Depth::U8;
    fn mean(pixel: [Self; 3]) -> Self {
        // (2 sum + 3) / 6.
        ((2 * pixel.map(u32::from).iter().sum::<u32>() + 3) / 6) as u8
    }
}

impl RowSample for u16 {
    const DEPTH: Depth = Depth::U16;
    fn mean(pixel: [Self; 3]) -> Self {
        ((2 * pixel.map(u32::from).iter().sum::<u32>() + 3) / 6) as u16
    }
}

impl RowSample for f32 {
    const DEPTH: Depth = Depth::F32;
    fn mean(pixel: [Self; 3]) -> Self {
        // In f64 three equal floats have exactly their value as the mean.
        (pixel.map(f64::from).iter().sum::<f64>() / 3.0) as f32
    }
}
