//! The arithmetic peak of a core, which the kernels are measured against.

use std::hint::black_box;
#[cfg(target_arch = "aarch64")]
use std::time::{Duration, Instant};

use crate::dispatch::{Kernel, dispatch};
use crate::precision::Format;
use crate::simd::Simd;
use crate::{Isa, Precision, int8, tiles};

/// Independent chains of multiply-adds: more than the latency of a multiply-add times
/// those that a processor begins in a cycle (8 to 10), few enough for 16 registers.
const CHAINS: usize = 12;

/// Does nothing but independent multiply-adds in registers, `rounds` of them in each of a few
/// vectors, in lanes of that precision; or `rounds` products of tiles, if those are what multiplies it. Returns the number of floating-point operations (2 for
/// each multiply-add): divided by the time, the arithmetic peak of one core.
pub fn multiply_add_burst(isa: Isa, precision: Precision, rounds: usize) -> u64 {
    match precision {
        Precision::Bf16 | Precision::Int8 if isa.has_tiles() => {
            tiles::product_burst(isa, precision, rounds)
        }
        Precision::Int8 => int8::burst(isa, rounds),
        _ => dispatch(isa, precision, Burst { rounds }),
    }
}

/// Whether multiply-adds of bfloat16 are so much faster than those of f32 that a network is. The
/// difference pays for rounding and packing: Zen 4 multiplies bf16 twice as fast as f32 and computes
/// networks 1.7 times as fast.
#[cfg(target_arch = "aarch64")]
pub(crate) fn is_bf16_faster(isa: Isa) -> bool {
    const ROUNDS: usize = 500;
    const REPETITIONS: usize = 20;
    let precisions = [Precision::F32, Precision::Bf16];
    let mut shortest = [Duration::MAX; 2];
    let mut operations = [0; 2];
    for _ in 0..REPETITIONS {
        for i in 0..2 {
            let start = Instant::now();
            operations[i] = multiply_add_burst(isa, precisions[i], ROUNDS);
            shortest[i] = shortest[i].min(start.elapsed());
        }
    }
    let [f32, bf16] = [0, 1].map(|i| operations[i] as f64 / shortest[i].as_secs_f64());
    bf16 > 1.25 * f32
}

struct Burst {
    rounds: usize,
}

impl Kernel for Burst {
    type Output = u64;

    fn reference(self, _: Precision) -> u64 {
        let (factor, term) = (black_box(0.999_f32), black_box(0.001_f32));
        let mut sums = [1.0_f32; CHAINS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = factor * *sum + term;
            }
        }
        black_box(sums);
        2 * CHAINS as u64 * self.rounds as u64
    }

    #[inline(always)]
    fn vectorized<S: Simd, F: Format<S>>(self, simd: S) -> u64 {
        // In bf16 each of these is two numbers of other sizes.
        let (weight, pixels) = (simd.splat(black_box(0.999)), simd.splat(black_box(0.001)));
        let mut sums = [simd.splat(black_box(1.0)); CHAINS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = F::multiply_add(simd, weight, pixels, *sum);
            }
        }
        for sum in sums {
            black_box(simd.sum(sum));
        }
        2 * (CHAINS * F::PER_LANE * S::LANES) as u64 * self.rounds as u64
    }
}
