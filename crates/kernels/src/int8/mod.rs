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

pub use conv::ByteConv;
pub use layer::{ByteLayer, ByteScale};
pub use pair::BytePair;
pub use quantize::quantize_strip;

use crate::Isa;
use crate::isa::Level;
use crate::simd::{ByteSimd, Simd};

/// Channels of a pixel in a lane.
pub(crate) const BYTES_PER_LANE: usize = 4;

/// A computation on bytes, one algorithm for all instruction sets.
pub(crate) trait ByteKernel {
    /// What it returns.
    type Output;

    /// The algorithm over vectors. Implementations are `#[inline(always)]`, as is what they call with the token: so
    /// all of it is compiled with the target features of the token's `run_bytes`.
    fn vectorized<S: ByteSimd>(self, simd: S) -> Self::Output;
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
    /// As many chains as `peak` has for floats.
    const CHAINS: usize = 12;

    struct Burst {
        rounds: usize,
    }

    impl ByteKernel for Burst {
        type Output = u64;

        #[inline(always)]
        fn vectorized<S: ByteSimd>(self, simd: S) -> u64 {
            let ones = [f32::from_bits(std::hint::black_box(0x0001_0001)); 2];
            // SAFETY: `ones` has the lanes of a weight.
            let weight = unsafe { simd.weights(ones.as_ptr(), 0) };
            let pixels = simd.bytes(simd.splat(ones[0]));
            let mut sums = [simd.splat(0.0); CHAINS];
            for _ in 0..self.rounds {
                for sum in &mut sums {
                    *sum = simd.dot_bytes(weight, pixels, *sum);
                }
            }
            for sum in sums {
                std::hint::black_box(simd.sum(simd.to_f32(sum)));
            }
            2 * (CHAINS * BYTES_PER_LANE * <S as Simd>::LANES) as u64 * self.rounds as u64
        }
    }

    let isa = isa.with_one_rounding();
    if isa == Isa::REFERENCE {
        return reference::burst(rounds);
    }
    dispatch(isa, Burst { rounds })
}
