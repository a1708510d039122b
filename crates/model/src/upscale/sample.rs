//! Number formats of image samples.

/// A sample: one channel of a pixel, in the number format of an image.
pub trait Sample: Copy + Default + Send + Sync {
    /// Converts it to 0..1.
    fn to_unit(self) -> f32;
    /// Converts 0..1 to a sample. Integers are rounded to nearest (half up) and clamped.
    fn from_unit(value: f32) -> Self;
}

impl Sample for u8 {
    fn to_unit(self) -> f32 {
        f32::from(self) / 255.0
    }
    fn from_unit(value: f32) -> Self {
        (value * 255.0 + 0.5) as u8
    }
}

impl Sample for u16 {
    fn to_unit(self) -> f32 {
        f32::from(self) / 65535.0
    }
    fn from_unit(value: f32) -> Self {
        (value * 65535.0 + 0.5) as u16
    }
}

/// Not clamped: values outside 0..1 are kept.
impl Sample for f32 {
    fn to_unit(self) -> f32 {
        self
    }
    fn from_unit(value: f32) -> Self {
        value
    }
}
