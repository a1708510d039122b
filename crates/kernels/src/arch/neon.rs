//! NEON, which every 64-bit ARM processor has: 32 registers of 4 floats; with and without the
//! instructions for bytes (dotprod) and bfloat16.
//!
//! A vector is two registers. So a tile of 6 channels times two vectors takes 24 registers, beside 4
//! of pixels and 2 of weights, and a tile of few channels still has several sums for each of up to
//! four pipes. Everything that depends on the lanes of a vector is as with AVX2: so are the bits of
//! all results.

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::with_features;
use crate::dispatch::Kernel;
use crate::int8::ByteKernel;
use crate::precision::Format;
use crate::simd::{Bf16Simd, ByteProducts, ByteSimd, Simd};

/// Proof that the processor has NEON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Neon(());

/// Proof that the processor has dot products of signed bytes too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NeonDot(());

/// Proof that the processor has the instructions for bfloat16, and dot products of unsigned and signed bytes (i8mm), too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NeonBf16(());

/// Defines how kernels on bytes are compiled for a token.
macro_rules! run_bytes {
    ($Token:ident, $features:literal) => {
        /// Runs a kernel on bytes.
        pub(crate) fn run_bytes<K: ByteKernel>(self, kernel: K) -> K::Output {
            #[target_feature(enable = $features)]
            fn compiled<K: ByteKernel>(simd: $Token, kernel: K) -> K::Output {
                kernel.vectorized(simd)
            }
            // SAFETY: the token exists only where `detect` found these features.
            unsafe { compiled(self, kernel) }
        }
    };
}

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

    run_bytes!(Neon, "neon");
}

impl NeonDot {
    /// A token if the processor has NEON and its dot products of bytes.
    pub(crate) fn detect() -> Option<Self> {
        let detected = Neon::detect().is_some() && is_aarch64_feature_detected!("dotprod");
        detected.then_some(Self(()))
    }

    /// The part without dot products.
    pub(crate) fn neon(self) -> Neon {
        Neon(())
    }

    run_bytes!(NeonDot, "neon,dotprod");
}

impl NeonBf16 {
    /// A token if the processor has NEON and its instructions for bfloat16 and bytes, which came together.
    pub(crate) fn detect() -> Option<Self> {
        let detected = NeonDot::detect().is_some()
            && is_aarch64_feature_detected!("bf16")
            && is_aarch64_feature_detected!("i8mm");
        detected.then_some(Self(()))
    }

    run_bytes!(NeonBf16, "neon,bf16,dotprod,i8mm");

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
// `dot_bf16` and `dot` take their first factor from a lane, too, and the methods of the trait load it there.
impl_simd! { NeonDot, "neon,dotprod", }
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

/// Implements [`ByteSimd`] for a token: what is subtracted from bytes, and the dot product of four weights and the bytes of each
/// lane.
macro_rules! impl_byte_simd {
    ($Token:ident, $features:literal, $offset:literal, $dot:ident) => {
        impl ByteSimd for $Token {
            type Weights = f32;
            /// 4 x 4 sums, 4 registers of pixels and 4 weights take 24 of the 32 registers.
            const BYTE_TILE_CHANNELS: usize = 4;
            const PRODUCTS: ByteProducts = ByteProducts::All;
            const OFFSET: i32 = $offset;

            #[inline(always)]
            unsafe fn weights(self, from: *const f32, index: usize) -> f32 {
                // SAFETY: the caller promises this float.
                unsafe { *from.add(index) }
            }

            with_features! {
                $features,

                fn prepared(lanes: float32x4x2_t) -> float32x4x2_t {
                    if $offset == 0 {
                        return lanes;
                    }
                    let sign = vdupq_n_u32(0x8080_8080);
                    let low = veorq_u32(vreinterpretq_u32_f32(lanes.0), sign);
                    let high = veorq_u32(vreinterpretq_u32_f32(lanes.1), sign);
                    float32x4x2_t(vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(high))
                }

                fn dot(weights: f32, lanes: float32x4x2_t, sum: float32x4x2_t) -> float32x4x2_t {
                    float32x4x2_t($dot(weights, lanes.0, sum.0), $dot(weights, lanes.1, sum.1))
                }

                fn to_f32(integers: float32x4x2_t) -> float32x4x2_t {
                    let low = vcvtq_f32_s32(vreinterpretq_s32_f32(integers.0));
                    let high = vcvtq_f32_s32(vreinterpretq_s32_f32(integers.1));
                    float32x4x2_t(low, high)
                }

                fn limit_byte(a: float32x4x2_t) -> float32x4x2_t {
                    // The form that takes the number instead of a NaN.
                    let (zero, largest) = (vdupq_n_f32(0.0), vdupq_n_f32(255.0));
                    let low = vminnmq_f32(vmaxnmq_f32(a.0, zero), largest);
                    let high = vminnmq_f32(vmaxnmq_f32(a.1, zero), largest);
                    float32x4x2_t(low, high)
                }

                fn join_bytes(channels: [float32x4x2_t; 4]) -> float32x4x2_t {
                    let [a, b, c, d] = channels;
                    float32x4x2_t(
                        join_bytes(a.0, b.0, c.0, d.0),
                        join_bytes(a.1, b.1, c.1, d.1),
                    )
                }
            }
        }
    };
}
impl_byte_simd!(Neon, "neon", 128, dot_of_words);
impl_byte_simd!(NeonDot, "neon,dotprod", 128, sdot);
impl_byte_simd!(NeonBf16, "neon,bf16,dotprod,i8mm", 0, usdot);

/// Lanes of four bytes: the channels rounded to nearest and limited to 0..=255.
#[inline]
#[target_feature(enable = "neon")]
fn join_bytes(a: float32x4_t, b: float32x4_t, c: float32x4_t, d: float32x4_t) -> float32x4_t {
    let (a, b) = (
        vqmovun_s32(vcvtnq_s32_f32(a)),
        vqmovun_s32(vcvtnq_s32_f32(b)),
    );
    let (c, d) = (
        vqmovun_s32(vcvtnq_s32_f32(c)),
        vqmovun_s32(vcvtnq_s32_f32(d)),
    );
    // Four pixels of `a`, of `b`, of `c`, of `d`.
    let bytes = vcombine_u8(
        vqmovn_u16(vcombine_u16(a, b)),
        vqmovn_u16(vcombine_u16(c, d)),
    );
    let order = vreinterpretq_u8_u32(vcombine_u32(
        vcreate_u32(0x0D09_0501_0C08_0400),
        vcreate_u32(0x0F0B_0703_0E0A_0602),
    ));
    vreinterpretq_f32_u8(vqtbl1q_u8(bytes, order))
}

/// Adds to `sums` the products of the four weights and the signed bytes of each lane, in 16 bits, where they fit.
#[inline]
#[target_feature(enable = "neon")]
fn dot_of_words(weights: f32, bytes: float32x4_t, sums: float32x4_t) -> float32x4_t {
    let weights = vreinterpretq_s8_f32(vdupq_n_f32(weights));
    let bytes = vreinterpretq_s8_f32(bytes);
    let low = vpaddlq_s16(vmull_s8(vget_low_s8(bytes), vget_low_s8(weights)));
    let high = vpaddlq_s16(vmull_high_s8(bytes, weights));
    vreinterpretq_f32_s32(vaddq_s32(
        vreinterpretq_s32_f32(sums),
        vpaddq_s32(low, high),
    ))
}

/// Adds to `sums` the products of the four weights and the signed bytes of each lane. Rust has no stable function for it.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(weights: f32, bytes: float32x4_t, mut sums: float32x4_t) -> float32x4_t {
    // SAFETY: the instruction changes nothing but the register of `sums`.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {bytes:v}.16b, {weights:v}.4b[0]",
            sums = inout(vreg) sums,
            bytes = in(vreg) bytes,
            weights = in(vreg) weights,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// Adds to `sums` the products of the four weights and the unsigned bytes of each lane. Rust has no stable function for it.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn usdot(weights: f32, bytes: float32x4_t, mut sums: float32x4_t) -> float32x4_t {
    // SAFETY: the instruction changes nothing but the register of `sums`.
    unsafe {
        asm!(
            "usdot {sums:v}.4s, {bytes:v}.16b, {weights:v}.4b[0]",
            sums = inout(vreg) sums,
            bytes = in(vreg) bytes,
            weights = in(vreg) weights,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
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
