//! The numbers that convolutions multiply.

use crate::simd::Simd;

/// What the terms of a convolution's sums are made of. The sums, and the feature maps between
/// convolutions, are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// Weights and pixels are rounded to the nearest bfloat16, of 8 significant bits, where a
    /// convolution has many channels; others stay in f32. Every instruction set computes it;
    /// [`Isa::has_bf16`](crate::Isa::has_bf16) tells where it is the faster one.
    Bf16,
}

impl Precision {
    /// `f32` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// The nearest number that it has, ties to even.
    pub(crate) fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::Bf16 if value.is_nan() => value,
            Self::Bf16 => f32::from_bits(round_to_bf16(value.to_bits()) & 0xFFFF_0000),
        }
    }

    /// Channels that a lane of a vector holds.
    pub(crate) fn channels_per_lane(self) -> usize {
        match self {
            Self::F32 => F32::CHANNELS,
            Self::Bf16 => Bf16::CHANNELS,
        }
    }

    /// A lane of the given channels.
    pub(crate) fn lane(self, channel: impl Fn(usize) -> f32) -> f32 {
        match self {
            Self::F32 => channel(0),
            Self::Bf16 => {
                let [low, high] = [0, 1].map(|c| self.round(channel(c)).to_bits());
                f32::from_bits(low >> 16 | high)
            }
        }
    }
}

/// A number's bits plus half of the last one that bfloat16 keeps, so that cutting them off rounds
/// to nearest, ties to even.
fn round_to_bf16(bits: u32) -> u32 {
    bits.wrapping_add(0x7FFF + (bits >> 16 & 1))
}

/// A [`Precision`] as kernels are compiled for: what a lane of 32 bits holds of a pixel.
pub(crate) trait Format {
    /// Channels in a lane.
    const CHANNELS: usize;

    /// Adds to `sum` the products of a lane's channels.
    ///
    /// # Safety
    /// As for [`Simd`].
    unsafe fn multiply_add<S: Simd>(weight: S::V, pixels: S::V, sum: S::V) -> S::V;

    /// Makes lanes of [`Format::CHANNELS`] channels; `second` is ignored where that is one.
    ///
    /// # Safety
    /// As for [`Simd`].
    unsafe fn join<S: Simd>(first: S::V, second: S::V) -> S::V;

    /// Stores two vectors of neighbouring pixels of a channel as lanes of [`Format::CHANNELS`]
    /// neighbouring pixels: what sums over pixels are made of.
    ///
    /// # Safety
    /// As for [`Simd`]; `2 * LANES / CHANNELS` floats can be written.
    unsafe fn store_pixels<S: Simd>(to: *mut f32, pixels: [S::V; 2]);
}

/// A float.
pub(crate) struct F32;

// SAFETY (all methods): the contract is that of `Simd`.
impl Format for F32 {
    const CHANNELS: usize = 1;

    #[inline(always)]
    unsafe fn multiply_add<S: Simd>(weight: S::V, pixels: S::V, sum: S::V) -> S::V {
        // SAFETY: passed on.
        unsafe { S::mul_add(weight, pixels, sum) }
    }
    #[inline(always)]
    unsafe fn join<S: Simd>(first: S::V, _: S::V) -> S::V {
        first
    }
    #[inline(always)]
    unsafe fn store_pixels<S: Simd>(to: *mut f32, [first, second]: [S::V; 2]) {
        // SAFETY: passed on.
        unsafe {
            S::store(to, first);
            S::store(to.add(S::LANES), second);
        }
    }
}

/// Two bfloat16, the first channel or pixel in the lower half.
pub(crate) struct Bf16;

// SAFETY (all methods): the contract is that of `Simd`.
impl Format for Bf16 {
    const CHANNELS: usize = 2;

    #[inline(always)]
    unsafe fn multiply_add<S: Simd>(weight: S::V, pixels: S::V, sum: S::V) -> S::V {
        // SAFETY: passed on.
        unsafe { S::dot_bf16(weight, pixels, sum) }
    }
    #[inline(always)]
    unsafe fn join<S: Simd>(first: S::V, second: S::V) -> S::V {
        // SAFETY: passed on.
        unsafe { S::join_bf16(first, second) }
    }
    #[inline(always)]
    unsafe fn store_pixels<S: Simd>(to: *mut f32, [first, second]: [S::V; 2]) {
        // SAFETY: passed on.
        unsafe { S::store(to, S::pack_bf16(first, second)) }
    }
}

#[cfg(test)]
mod tests {
    use super::Precision;

    #[test]
    fn bf16_rounds_to_nearest_ties_to_even() {
        for (value, expected) in [
            (1.0, 1.0),
            (-1.0, -1.0),
            (1.0 + 1.0 / 128.0, 1.0 + 1.0 / 128.0),
            // Half-way between 1 and the next, and between the next two.
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 2.0 / 128.0),
            (1.0 + 1.001 / 256.0, 1.0 + 1.0 / 128.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
            (0.0, 0.0),
        ] {
            assert_eq!(Precision::Bf16.round(value), expected, "{value}");
        }
        assert!(Precision::Bf16.round(f32::from_bits(0x7FFF_FFFF)).is_nan());
    }

    #[test]
    fn a_lane_holds_the_first_channel_in_its_lower_half() {
        let lane = Precision::Bf16.lane(|channel| [1.0, -2.0][channel]);
        assert_eq!(lane.to_bits(), 0xC000_3F80);
    }
}
