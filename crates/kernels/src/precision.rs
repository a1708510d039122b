//! The numbers that convolutions multiply.

use crate::simd::{Bf16Simd, Simd};

/// The numbers that a convolution multiplies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// Weights and pixels are rounded to the nearest bfloat16 (8 significant bits) in
    /// convolutions of many channels; others stay in f32. Every instruction set computes it;
    /// [`Isa::has_bf16`](crate::Isa::has_bf16) says where it is faster than f32.
    Bf16,
    /// Convolutions of many channels multiply 8-bit integers and have kernels of their own ([`ByteConv`](crate::ByteConv),
    /// [`BytePair`](crate::BytePair)). Others stay in f32, summed in one order with one rounding for each product. So every
    /// instruction set gives the same bits.
    Int8,
}

impl Precision {
    /// `f32`, `bf16` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// The nearest number of this precision, ties to even.
    pub(crate) fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 | Self::Int8 => value,
            Self::Bf16 if value.is_nan() => value,
            Self::Bf16 => f32::from_bits(round_to_bf16(value.to_bits()) & 0xFFFF_0000),
        }
    }

    /// [`Format::PER_LANE`] of this precision.
    pub(crate) fn per_lane(self) -> usize {
        match self {
            Self::F32 | Self::Int8 => 1,
            Self::Bf16 => 2,
        }
    }

    /// A lane of the given channels.
    pub(crate) fn lane(self, channel: impl Fn(usize) -> f32) -> f32 {
        match self {
            Self::F32 | Self::Int8 => channel(0),
            Self::Bf16 => {
                let [low, high] = [0, 1].map(|c| self.round(channel(c)).to_bits());
                f32::from_bits(low >> 16 | high)
            }
        }
    }
}

/// Bits whose upper half is the nearest bfloat16, ties to even: half of the last bit that bfloat16
/// keeps is added, so that cutting off the lower half rounds.
fn round_to_bf16(bits: u32) -> u32 {
    bits.wrapping_add(0x7FFF + (bits >> 16 & 1))
}

/// A [`Precision`] as kernels are compiled for it: the content of a lane of 32 bits, and what an
/// instruction set does with it.
pub(crate) trait Format<S: Simd> {
    /// Numbers in a lane: channels of a pixel, or neighbouring pixels of a channel.
    const PER_LANE: usize;

    /// Adds the products of a lane's numbers to `sum`.
    fn multiply_add(simd: S, weight: S::V, pixels: S::V, sum: S::V) -> S::V;

    /// Joins vectors of [`Format::PER_LANE`] channels to lanes; `second` is ignored if that is 1.
    fn join(simd: S, first: S::V, second: S::V) -> S::V;

    /// Stores two vectors of neighbouring pixels of a channel as lanes of [`Format::PER_LANE`]
    /// neighbouring pixels: the terms of sums over pixels.
    ///
    /// # Safety
    /// `2 * LANES / PER_LANE` floats can be written.
    unsafe fn store_pixels(simd: S, to: *mut f32, pixels: [S::V; 2]);
}

/// A float.
pub(crate) struct F32;

impl<S: Simd> Format<S> for F32 {
    const PER_LANE: usize = 1;

    #[inline(always)]
    fn multiply_add(simd: S, weight: S::V, pixels: S::V, sum: S::V) -> S::V {
        simd.mul_add(weight, pixels, sum)
    }

    #[inline(always)]
    fn join(_: S, first: S::V, _: S::V) -> S::V {
        first
    }

    #[inline(always)]
    unsafe fn store_pixels(simd: S, to: *mut f32, [first, second]: [S::V; 2]) {
        // SAFETY: the caller promises two writable vectors.
        unsafe {
            simd.store(to, first);
            simd.store(to.add(S::LANES), second);
        }
    }
}

/// Two bfloat16, the first channel or pixel in the lower half.
pub(crate) struct Bf16;

impl<S: Bf16Simd> Format<S> for Bf16 {
    const PER_LANE: usize = 2;

    #[inline(always)]
    fn multiply_add(simd: S, weight: S::V, pixels: S::V, sum: S::V) -> S::V {
        simd.dot_bf16(weight, pixels, sum)
    }

    #[inline(always)]
    fn join(simd: S, first: S::V, second: S::V) -> S::V {
        simd.join_bf16(first, second)
    }

    #[inline(always)]
    unsafe fn store_pixels(simd: S, to: *mut f32, [first, second]: [S::V; 2]) {
        // SAFETY: the caller promises one writable vector.
        unsafe { simd.store(to, simd.pack_bf16(first, second)) }
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
    fn lane_holds_the_first_channel_in_its_lower_half() {
        let lane = Precision::Bf16.lane(|channel| [1.0, -2.0][channel]);
        assert_eq!(lane.to_bits(), 0xC000_3F80);
    }
}
