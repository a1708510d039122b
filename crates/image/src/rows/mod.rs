//! Images that need not be in memory: rows are read and written from the top down.
//!
//! PNG and TIFF store their rows that way. What they may hold besides (interlacing, planes,
//! palettes in TIFF, an orientation other than upright) needs the whole image, as do the other
//! formats: [`RowReader::open`] tells.

mod reader;
mod writer;

pub use reader::RowReader;
pub use writer::encode_rows;
pub(crate) use writer::write_tiff;

use crate::pixels::{Colour, Depth};

/// Size and kind of an image.
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
}

/// A type of samples: u8, u16 or f32.
pub trait RowSample: Copy + Default + private::Sealed {
    /// The depth of images that have it.
    const DEPTH: Depth;

    /// The mean of red, green and blue, rounded half up in integer depths. Of three equal samples
    /// it is that sample.
    fn mean(pixel: [Self; 3]) -> Self;
}

mod private {
    /// Not in `RowSample` itself, whose users need not know the crate.
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
