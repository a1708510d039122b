//! Convolutions of 8-bit integers.
//!
//! A map of bytes holds `u = x / step + zero` for each value `x`, rounded to nearest (ties to even) and limited to 0..=255; a
//! channel has a step of its own, `zero` is 0 for maps behind a ReLU and 128 for others. A convolution sums
//! `weight * (u - zero)` in 32-bit integers, exactly, and returns `sum * weight_step + bias` in f32 with one rounding. What
//! becomes bytes again is multiplied by the next map's `1 / step` at the same time, and its ReLU is the limit at 0.
//!
//! Every step is an integer or one rounding of one value, so all instruction sets give the same bits. A lane of a strip
//! holds four channels of a pixel, pixels lie in the lanes as everywhere else.

mod conv;
mod layer;
mod pair;
mod quantize;
mod reference;
mod tiles;
#[cfg(target_arch = "x86_64")]
mod winograd;

pub use conv::ByteConv;
pub use layer::{ByteLayer, ByteScale};
pub use pair::BytePair;
pub use quantize::quantize_strip;

use std::hint::black_box;

use crate::Isa;
use crate::isa::Level;
#[cfg(target_arch = "x86_64")]
use crate::simd::WordSimd;
use crate::simd::{ByteProducts, ByteSimd, Simd};

/// Channels of a pixel in a lane.
pub(crate) const BYTES_PER_LANE: usize = 4;

/// Whether the sum of two weights' products with any two bytes fits 16 bits. AVX2 multiplies four weights at once where this holds for
/// the first two and the last two, those of an even channel and the one behind it; other weights take a third longer.
pub fn is_short_pair(weights: [i8; 2]) -> bool {
    are_short(&weights)
}

/// Whether the sum of some weights' products with any bytes fits 16 bits.
pub(crate) fn are_short(weights: &[i8]) -> bool {
    let sum = |limited: fn(i32) -> i32| weights.iter().map(|w| limited(i32::from(*w))).sum::<i32>();
    let (most, least) = (sum(|w| w.max(0)), sum(|w| w.min(0)));
    i16::try_from(255 * most).is_ok() && i16::try_from(255 * least).is_ok()
}

/// A computation on bytes, one algorithm for all instruction sets.
pub(crate) trait ByteKernel {
    /// What it returns.
    type Output;

    /// The algorithm over vectors. Implementations are `#[inline(always)]`, as is what they call with the token: so
    /// all of it is compiled with the target features of the token's `run_bytes`.
    fn vectorized<S: ByteSimd>(self, simd: S) -> Self::Output;
}

/// A computation on 16-bit integers.
#[cfg(target_arch = "x86_64")]
pub(crate) trait WordKernel {
    /// The algorithm over vectors, as [`ByteKernel::vectorized`].
    fn vectorized<S: WordSimd>(self, simd: S);
}

/// Runs a kernel in the version for an instruction set.
///
/// # Panics
/// If that is the reference, whose plain loops are in `reference.rs`.
pub(crate) fn dispatch<K: ByteKernel>(isa: Isa, kernel: K) -> K::Output {
    match isa.without_tiles().0 {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(simd) => simd.run_bytes(kernel),
        #[cfg(target_arch = "x86_64")]
        Level::AvxVnni(simd) => simd.run_bytes(kernel),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(simd) => simd.avx2().run_bytes(kernel),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vnni(simd) => simd.run_bytes(kernel),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Bf16(simd) => simd.vnni().run_bytes(kernel),
        #[cfg(target_arch = "aarch64")]
        Level::Neon(simd) => simd.run_bytes(kernel),
        #[cfg(target_arch = "aarch64")]
        Level::NeonDot(simd) => simd.run_bytes(kernel),
        #[cfg(target_arch = "aarch64")]
        Level::NeonBf16(simd) => simd.run_bytes(kernel),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Level::Wasm(simd) => simd.run_bytes(kernel),
        _ => unreachable!("kernels of bytes on {isa}"),
    }
}

/// Does nothing but independent multiply-adds of bytes, `rounds` of them in each of a few vectors. Returns the number
/// of operations, 2 for each multiply-add.
pub(crate) fn burst(isa: Isa, rounds: usize) -> u64 {
    /// Weights, each of which multiplies two vectors of pixels: as many chains as `peak` has for floats.
    const WEIGHTS: usize = 6;

    struct Burst {
        rounds: usize,
    }

    impl ByteKernel for Burst {
        type Output = u64;

        #[inline(always)]
        fn vectorized<S: ByteSimd>(self, simd: S) -> u64 {
            let is_split = S::PRODUCTS == ByteProducts::None;
            let one = if is_split { 0x0001_0001 } else { 0x0101_0101 };
            let mut ones = [f32::from_bits(one); WEIGHTS];
            let mut sums = [[simd.splat(0.0); 2]; WEIGHTS];
            for _ in 0..self.rounds {
                // Products that stay the same would be computed once.
                let ones = black_box(&mut ones);
                let pixels = [simd.splat(ones[0]), simd.splat(ones[1])];
                for (at, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: there are `WEIGHTS` floats.
                    let weight = unsafe { simd.weights(ones.as_ptr(), at) };
                    for v in 0..2 {
                        sums[v] = match is_split {
                            true => simd.dot_words([weight; 2], pixels[v], sums[v]),
                            false => simd.dot(weight, pixels[v], sums[v]),
                        };
                    }
                }
            }
            for sum in sums.into_iter().flatten() {
                black_box(simd.sum(simd.to_f32(sum)));
            }
            let products = 2 * WEIGHTS * BYTES_PER_LANE * <S as Simd>::LANES;
            2 * products as u64 * self.rounds as u64
        }
    }

    let isa = isa.with_one_rounding();
    if isa == Isa::REFERENCE {
        return reference::burst(rounds);
    }
    dispatch(isa, Burst { rounds })
}

#[cfg(test)]
mod tests {
    use super::is_short_pair;

    #[test]
    fn products_of_short_pairs_fit_16_bits() {
        let weights = || i8::MIN..=i8::MAX;
        for [a, b] in weights().flat_map(|a| weights().map(move |b| [a, b])) {
            let mut sums = [[0, 0], [0, 255], [255, 0], [255, 255]]
                .map(|[x, y]| i32::from(a) * x + i32::from(b) * y)
                .into_iter();
            let fits = sums.all(|sum| i16::try_from(sum).is_ok());
            assert_eq!(is_short_pair([a, b]), fits, "{a} {b}");
        }
    }
}
