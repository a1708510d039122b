//! The limit that the kernels are measured against.

use std::hint::black_box;

use crate::precision::Format;
use crate::simd::{Simd, dispatch_in};
use crate::{Isa, Precision};

/// Vectors that are multiplied and added in turn: more than the latency of a multiply-add times
/// those that a processor begins in a cycle (8 to 10), few enough for 16 registers.
const CHAINS: usize = 12;

/// Does nothing but independent multiply-adds in registers, `rounds` of them in each of a few
/// vectors, of lanes of that precision. Returns how many floating-point operations that were (2 for each multiply-add of a
/// lane): divided by the time, the arithmetic peak of one core.
pub fn multiply_add_burst(isa: Isa, precision: Precision, rounds: usize) -> u64 {
    let mut operations = 0;
    let out = &mut operations;
    dispatch_in!(precision, isa, reference, burst(rounds: usize, out: &mut u64));
    operations
}

fn reference(rounds: usize, out: &mut u64) {
    let (factor, term) = (black_box(0.999_f32), black_box(0.001_f32));
    let mut sums = [1.0_f32; CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = factor * *sum + term;
        }
    }
    black_box(sums);
    *out = (2 * CHAINS * rounds) as u64;
}

/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn burst<S: Simd, F: Format>(rounds: usize, out: &mut u64) {
    // SAFETY: passed on.
    unsafe {
        // In bf16 each is two numbers of other sizes.
        let (weight, pixels) = (S::splat(black_box(0.999)), S::splat(black_box(0.001)));
        let mut sums = [S::splat(black_box(1.0)); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = F::multiply_add::<S>(weight, pixels, *sum);
            }
        }
        for sum in sums {
            black_box(S::sum(sum));
        }
    }
    *out = (2 * CHAINS * F::CHANNELS * S::LANES * rounds) as u64;
}
