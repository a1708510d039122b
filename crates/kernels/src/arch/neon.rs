//! NEON, which every 64-bit ARM processor has: 32 registers of 4 floats; with and without the
//! instructions for bfloat16.
//!
//! A vector is two registers. So a tile of 6 channels times two vectors takes 24 registers, beside 4
//! of pixels and 2 of weights, and a tile of few channels still has several sums for each of up to
//! four pipes. Everything that depends on the lanes of a vector is as with AVX2: so are the bits of
//! all results.

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::with_features;
use crate::dispatch::Kernel;
use crate::precision::Format;
use crate::simd::{Bf16Simd, Simd};

/// Proof that the processor has NEON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Neon(());

/// Proof that the processor has the instructions for bfloat16 too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NeonBf16(());

impl Neon {
    /// A token if the processor has NEON: always, on the targets of today.
    pub(crate) fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    /// Runs a kernel compiled for NEON.
    pub(crate) fn run<F: Format<Neon>, K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        fn compiled<F: Format<Neon>, K: Kernel>(simd: Neon, kernel: K) -> K::Output {
            kernel.vectorized::<Neon, F>(simd)
        }
        // SAFETY: a `Neon` exists only where `detect` found NEON.
        unsafe { compiled::<F, K>(self, kernel) }
    }
}

impl NeonBf16 {
    /// A token if the processor has NEON and its instructions for bfloat16.
    pub(crate) fn detect() -> Option<Self> {
        let detected = Neon::detect().is_some() && is_aarch64_feature_detected!("bf16");
        detected.then_some(Self(()))
    }

    /// The part without bfloat16.
    pub(crate) fn neon(self) -> Neon {
        Neon(())
    }

    /// Runs a kernel compiled for NEON with bfloat16.
    pub(crate) fn run<F: Format<NeonBf16>, K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon,bf16")]
        fn compiled<F: Format<NeonBf16>, K: Kernel>(simd: NeonBf16, kernel: K) -> K::Output {
            kernel.vectorized::<NeonBf16, F>(simd)
        }
        // SAFETY: a `NeonBf16` exists only where `detect` found both features.
        unsafe { compiled::<F, K>(self, kernel) }
    }
}

/// Implements [`Simd`] for a token, with the given ways to broadcast a value.
macro_rules! impl_simd {
    ($Token:ident, $features:literal, $($broadcasts:tt)*) => {
        // SAFETY: `load` and `store` access the `LANES` floats of a vector, `splat_nth` the float at
        // `index` and others of `len`, `splat_at` one float; `transpose_8x8` accesses 8 rows of 8
        // floats.
        unsafe impl Simd for $Token {
            type V = float32x4x2_t;
            const LANES: usize = 8;
            const TILE_CHANNELS: usize = 6;
            const SHORT_TILE_CHANNELS: usize = 6;

            #[inline(always)]
            unsafe fn load(self, from: *const f32) -> float32x4x2_t {
                // SAFETY: the processor has NEON (`self`), and the caller promises 8 readable floats.
                unsafe { float32x4x2_t(vld1q_f32(from), vld1q_f32(from.add(4))) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32, value: float32x4x2_t) {
                // SAFETY: the processor has NEON (`self`), and the caller promises 8 writable floats.
                unsafe {
                    vst1q_f32(to, value.0);
                    vst1q_f32(to.add(4), value.1);
                }
            }

            #[inline(always)]
            fn prefetch(self, at: *const f32) {
                // SAFETY: a prefetch of any address has no effect that the program can observe.
                unsafe {
                    asm!("prfm pldl1keep, [{at}]", at = in(reg) at.addr(), options(nomem, nostack, preserves_flags));
                }
            }

            #[inline(always)]
            unsafe fn transpose_8x8(self, from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
                for y in [0, 4] {
                    for x in [0, 4] {
                        // SAFETY: the processor has NEON (`self`), and the caller promises 8 rows of 8 floats
                        // to read and to write.
                        unsafe {
                            let (from, to) = (from.add(y * stride + x), to.add(x * to_stride + y));
                            transpose_4x4(from, stride, to, to_stride);
                        }
                    }
                }
            }

            with_features! {
                $features,

                fn splat(value: f32) -> float32x4x2_t {
                    let value = vdupq_n_f32(value);
                    float32x4x2_t(value, value)
                }

                fn add(a: float32x4x2_t, b: float32x4x2_t) -> float32x4x2_t {
                    float32x4x2_t(vaddq_f32(a.0, b.0), vaddq_f32(a.1, b.1))
                }

                fn sub(a: float32x4x2_t, b: float32x4x2_t) -> float32x4x2_t {
                    float32x4x2_t(vsubq_f32(a.0, b.0), vsubq_f32(a.1, b.1))
                }

                fn mul_add(a: float32x4x2_t, b: float32x4x2_t, c: float32x4x2_t) -> float32x4x2_t {
                    float32x4x2_t(vfmaq_f32(c.0, a.0, b.0), vfmaq_f32(c.1, a.1, b.1))
                }

                fn relu(a: float32x4x2_t) -> float32x4x2_t {
                    // The form that takes 0 instead of a NaN, as `f32::max` does.
                    let zero = vdupq_n_f32(0.0);
                    float32x4x2_t(vmaxnmq_f32(a.0, zero), vmaxnmq_f32(a.1, zero))
                }

                fn where_positive(gate: float32x4x2_t, a: float32x4x2_t) -> float32x4x2_t {
                    let low = vandq_u32(vcgtzq_f32(gate.0), vreinterpretq_u32_f32(a.0));
                    let high = vandq_u32(vcgtzq_f32(gate.1), vreinterpretq_u32_f32(a.1));
                    float32x4x2_t(vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(high))
                }

                fn sum(a: float32x4x2_t) -> f32 {
                    // In the order of AVX2.
                    let half = vaddq_f32(a.0, a.1);
                    let quarter = vadd_f32(vget_low_f32(half), vget_high_f32(half));
                    vpadds_f32(quarter)
                }
            }

            $($broadcasts)*
        }
    };
}
impl_simd! {
    Neon, "neon",

    /// Loads the values four at a time, of which a multiply-add takes one lane: a broadcast of its own
    /// would take the place of a multiply-add.
    #[inline(always)]
    unsafe fn splat_nth(self, from: *const f32, index: usize, len: usize) -> float32x4x2_t {
        let (first, lane) = (index / 4 * 4, index % 4);
        // SAFETY: the processor has NEON (`self`), and the caller promises `len` readable floats, which
        // are more than `index`: four or two are loaded only if `len` has so many from `first` on.
        let value = unsafe {
            let from = from.add(first);
            match (len - first, lane) {
                (4.., 0) => vdupq_laneq_f32::<0>(vld1q_f32(from)),
                (4.., 1) => vdupq_laneq_f32::<1>(vld1q_f32(from)),
                (4.., 2) => vdupq_laneq_f32::<2>(vld1q_f32(from)),
                (4.., _) => vdupq_laneq_f32::<3>(vld1q_f32(from)),
                (2.., 0) => vdupq_lane_f32::<0>(vld1_f32(from)),
                (2.., 1) => vdupq_lane_f32::<1>(vld1_f32(from)),
                _ => vdupq_n_f32(*from.add(lane)),
            }
        };
        float32x4x2_t(value, value)
    }

    /// Loads into one lane, of which a multiply-add takes it. The compiler would choose `ld1r` for a walk
    /// along rows, whose broadcast takes the place of a multiply-add on Neoverse processors.
    #[inline(always)]
    unsafe fn splat_at(self, from: *const f32, index: usize) -> float32x4x2_t {
        let value: float32x4_t;
        // SAFETY: the caller promises this float. The instruction needs no alignment, reads nothing
        // else, and changes nothing but the register.
        let value = unsafe {
            asm!(
                "ldr {value:s}, [{from}, {index}, lsl #2]",
                value = out(vreg) value,
                from = in(reg) from,
                index = in(reg) index,
                options(pure, readonly, nostack, preserves_flags)
            );
            vdupq_laneq_f32::<0>(value)
        };
        float32x4x2_t(value, value)
    }
}
// `dot_bf16` takes its first factor from a lane, too, and the methods of the trait load it there.
impl_simd! { NeonBf16, "neon,bf16", }

/// Products in f32, rounding by integer arithmetic, as with AVX2.
impl Bf16Simd for Neon {
    with_features! {
        "neon",

        fn dot_bf16(a: float32x4x2_t, b: float32x4x2_t, c: float32x4x2_t) -> float32x4x2_t {
            float32x4x2_t(dot_bf16(a.0, b.0, c.0), dot_bf16(a.1, b.1, c.1))
        }

        fn join_bf16(low: float32x4x2_t, high: float32x4x2_t) -> float32x4x2_t {
            float32x4x2_t(join_bf16(low.0, high.0), join_bf16(low.1, high.1))
        }

        fn pack_bf16(first: float32x4x2_t, second: float32x4x2_t) -> float32x4x2_t {
            let first = pack_bf16(first.0, first.1);
            let second = pack_bf16(second.0, second.1);
            float32x4x2_t(first, second)
        }
    }
}

/// The instructions for bfloat16. Rust has no functions for them yet.
impl Bf16Simd for NeonBf16 {
    with_features! {
        "neon,bf16",

        fn dot_bf16(a: float32x4x2_t, b: float32x4x2_t, c: float32x4x2_t) -> float32x4x2_t {
            let a = vgetq_lane_f32::<0>(a.0);
            float32x4x2_t(bfdot(a, b.0, c.0), bfdot(a, b.1, c.1))
        }

        fn join_bf16(low: float32x4x2_t, high: float32x4x2_t) -> float32x4x2_t {
            let low = vreinterpretq_u16_f32(bfcvtn(low.0, low.1));
            let high = vreinterpretq_u16_f32(bfcvtn(high.0, high.1));
            let joined = vzipq_u16(low, high);
            float32x4x2_t(vreinterpretq_f32_u16(joined.0), vreinterpretq_f32_u16(joined.1))
        }

        fn pack_bf16(first: float32x4x2_t, second: float32x4x2_t) -> float32x4x2_t {
            float32x4x2_t(bfcvtn(first.0, first.1), bfcvtn(second.0, second.1))
        }
    }
}

/// Adds to `c` the products of the two bfloat16 of `a` with those of each lane of `b`.
///
/// Products and sums are rounded to odd, and denormal numbers are 0, on every processor, since programs
/// start with `FPCR.EBF` = 0.
#[inline]
#[target_feature(enable = "neon,bf16")]
fn bfdot(a: f32, b: float32x4_t, mut c: float32x4_t) -> float32x4_t {
    // SAFETY: the instruction changes nothing but the register of `c`.
    unsafe {
        asm!(
            "bfdot {c:v}.4s, {b:v}.8h, {a:v}.2h[0]",
            c = inout(vreg) c,
            b = in(vreg) b,
            a = in(vreg) a,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    c
}

/// The lanes of `first`, then those of `second`, rounded to nearest bfloat16.
#[inline]
#[target_feature(enable = "neon,bf16")]
fn bfcvtn(first: float32x4_t, second: float32x4_t) -> float32x4_t {
    let packed: float32x4_t;
    // SAFETY: the instructions change nothing but the register of `packed`.
    unsafe {
        asm!(
            "bfcvtn {packed:v}.4h, {first:v}.4s",
            "bfcvtn2 {packed:v}.8h, {second:v}.4s",
            packed = out(vreg) packed,
            first = in(vreg) first,
            second = in(vreg) second,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    packed
}

#[inline]
#[target_feature(enable = "neon")]
fn dot_bf16(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
    let (a, b) = (vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b));
    let mask = vdupq_n_u32(0xFFFF_0000);
    let upper = |v| vreinterpretq_f32_u32(vandq_u32(v, mask));
    let lower = |v| vreinterpretq_f32_u32(vshlq_n_u32::<16>(v));
    vfmaq_f32(vfmaq_f32(c, upper(a), upper(b)), lower(a), lower(b))
}

/// Lanes of two bfloat16.
#[inline]
#[target_feature(enable = "neon")]
fn join_bf16(low: float32x4_t, high: float32x4_t) -> float32x4_t {
    // The upper half of `high` stays, and that of `low` goes below it.
    vreinterpretq_f32_u32(vsriq_n_u32::<16>(
        rounded_to_bf16(high),
        rounded_to_bf16(low),
    ))
}

/// The lanes of `first`, then those of `second`, rounded to nearest bfloat16.
#[inline]
#[target_feature(enable = "neon")]
fn pack_bf16(first: float32x4_t, second: float32x4_t) -> float32x4_t {
    let first = vreinterpretq_u16_u32(rounded_to_bf16(first));
    let second = vreinterpretq_u16_u32(rounded_to_bf16(second));
    vreinterpretq_f32_u16(vuzp2q_u16(first, second))
}

/// Bits whose upper half is the nearest bfloat16, ties to even.
#[inline]
#[target_feature(enable = "neon")]
fn rounded_to_bf16(v: float32x4_t) -> uint32x4_t {
    let bits = vreinterpretq_u32_f32(v);
    let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
    vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7FFF)))
}

/// Transposes 4 rows of 4 floats.
///
/// # Safety
/// 4 floats can be read from each row, which lie `stride` floats apart, and written to each row of
/// `to`, which lie `to_stride` floats apart.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn transpose_4x4(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: the caller promises 4 readable floats in each of the 4 rows.
    let row = |y: usize| unsafe { vld1q_f32(from.add(y * stride)) };
    // Interleaves rows 0 and 2, and rows 1 and 3; then both.
    let (even, odd) = (vzipq_f32(row(0), row(2)), vzipq_f32(row(1), row(3)));
    let (upper, lower) = (vzipq_f32(even.0, odd.0), vzipq_f32(even.1, odd.1));
    for (x, column) in [upper.0, upper.1, lower.0, lower.1].into_iter().enumerate() {
        // SAFETY: the caller promises 4 writable floats in each of the 4 rows.
        unsafe { vst1q_f32(to.add(x * to_stride), column) }
    }
}
