//! AVX-512: 16 floats in a vector, 32 registers; with and without the instructions for bytes (VNNI) and bfloat16.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::avx2::{self, Avx2};
use super::with_features;
use crate::dispatch::Kernel;
use crate::int8::ByteKernel;
use crate::precision::Format;
use crate::simd::{Bf16Simd, ByteProducts, ByteSimd, Simd};

/// Proof that the processor has AVX-512F, AVX2 and FMA.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Avx512(());

/// Proof that the processor has AVX512-VNNI and AVX-512BW too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Avx512Vnni(());

/// Proof that the processor has AVX512-BF16, AVX512-VNNI and AVX-512BW too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Avx512Bf16(());

impl Avx512 {
    /// A token if the processor has AVX-512F and what that target feature implies in Rust.
    pub(crate) fn detect() -> Option<Self> {
        let detected = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("avx512f");
        detected.then_some(Self(()))
    }

    /// The part of 256 bits.
    pub(crate) fn avx2(self) -> Avx2 {
        Avx2::of_avx512(self)
    }

    /// Runs a kernel compiled for AVX-512F.
    pub(crate) fn run<F: Format<Avx512>, K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f")]
        fn compiled<F: Format<Avx512>, K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.vectorized::<Avx512, F>(simd)
        }
        // SAFETY: an `Avx512` exists only where `detect` found AVX-512F and what it implies.
        unsafe { compiled::<F, K>(self, kernel) }
    }
}

impl Avx512Vnni {
    /// A token if the processor has AVX512-VNNI and AVX-512BW beside AVX-512F.
    pub(crate) fn detect() -> Option<Self> {
        Avx512::detect()?;
        let detected =
            is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw");
        detected.then_some(Self(()))
    }

    /// The part without dot products of bytes.
    pub(crate) fn avx512(self) -> Avx512 {
        Avx512(())
    }

    /// Runs a kernel on bytes compiled for AVX512-VNNI, AVX-512BW and AVX-512F.
    pub(crate) fn run_bytes<K: ByteKernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
        fn compiled<K: ByteKernel>(simd: Avx512Vnni, kernel: K) -> K::Output {
            kernel.vectorized(simd)
        }
        // SAFETY: an `Avx512Vnni` exists only where `detect` found all three features.
        unsafe { compiled(self, kernel) }
    }
}

impl Avx512Bf16 {
    /// A token if the processor has AVX512-BF16 beside AVX512-VNNI, as all that have it do.
    pub(crate) fn detect() -> Option<Self> {
        Avx512Vnni::detect()?;
        is_x86_feature_detected!("avx512bf16").then_some(Self(()))
    }

    /// Whether networks are faster in bfloat16 than in floats: Zen 4 and 5 do twice as many multiply-adds in a cycle, Sapphire
    /// Rapids half as many.
    pub(crate) fn is_faster_than_f32(self) -> bool {
        let vendor = __cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx]
            .map(u32::to_le_bytes)
            .concat()
            == b"AuthenticAMD"
    }

    /// The part without bfloat16.
    pub(crate) fn vnni(self) -> Avx512Vnni {
        Avx512Vnni(())
    }

    /// The part of AVX-512F.
    pub(crate) fn avx512(self) -> Avx512 {
        Avx512(())
    }

    /// Runs a kernel compiled for AVX512-BF16, AVX-512BW and AVX-512F.
    pub(crate) fn run<F: Format<Avx512Bf16>, K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
        fn compiled<F: Format<Avx512Bf16>, K: Kernel>(simd: Avx512Bf16, kernel: K) -> K::Output {
            kernel.vectorized::<Avx512Bf16, F>(simd)
        }
        // SAFETY: an `Avx512Bf16` exists only where `detect` found all three features.
        unsafe { compiled::<F, K>(self, kernel) }
    }
}

/// Implements [`Simd`] for a token.
macro_rules! impl_simd {
    ($Token:ident, $features:literal) => {
        // SAFETY: `load` and `store` access the `LANES` floats of a vector; `transpose_8x8`
        // accesses 8 rows of 8 floats.
        unsafe impl Simd for $Token {
            type V = __m512;
            const LANES: usize = 16;
            const TILE_CHANNELS: usize = 12;
            const SHORT_TILE_CHANNELS: usize = 12;

            #[inline(always)]
            unsafe fn load(self, from: *const f32) -> __m512 {
                // SAFETY: the processor has AVX-512F (`self`), and the caller promises 16 readable
                // floats.
                unsafe { _mm512_loadu_ps(from) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32, value: __m512) {
                // SAFETY: the processor has AVX-512F (`self`), and the caller promises 16 writable
                // floats.
                unsafe { _mm512_storeu_ps(to, value) }
            }

            #[inline(always)]
            fn prefetch(self, at: *const f32) {
                // SAFETY: a prefetch of any address has no effect that the program can observe.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
            }

            #[inline(always)]
            unsafe fn transpose_8x8(
                self,
                from: *const f32,
                stride: usize,
                to: *mut f32,
                to_stride: usize,
            ) {
                // SAFETY: the processor has AVX2 (`self`), and the caller promises 8 rows of 8
                // floats to read and to write.
                unsafe { avx2::transpose_8x8(from, stride, to, to_stride) }
            }

            with_features! {
                $features,

                fn splat(value: f32) -> __m512 {
                    _mm512_set1_ps(value)
                }

                fn add(a: __m512, b: __m512) -> __m512 {
                    _mm512_add_ps(a, b)
                }

                fn sub(a: __m512, b: __m512) -> __m512 {
                    _mm512_sub_ps(a, b)
                }

                fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
                    _mm512_fmadd_ps(a, b, c)
                }

                fn relu(a: __m512) -> __m512 {
                    _mm512_max_ps(a, _mm512_setzero_ps())
                }

                fn where_positive(gate: __m512, a: __m512) -> __m512 {
                    let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps());
                    _mm512_maskz_mov_ps(positive, a)
                }

                fn sum(a: __m512) -> f32 {
                    _mm512_reduce_add_ps(a)
                }
            }
        }
    };
}
impl_simd!(Avx512, "avx512f");
impl_simd!(Avx512Vnni, "avx512f,avx512bw,avx512vnni");
impl_simd!(Avx512Bf16, "avx512f,avx512bw,avx512bf16");

impl ByteSimd for Avx512Vnni {
    type Weights = __m512i;
    const BYTE_TILE_CHANNELS: usize = 12;
    const PRODUCTS: ByteProducts = ByteProducts::All;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn weights(self, from: *const f32, index: usize) -> __m512i {
        // SAFETY: the processor has AVX-512F (`self`), and the caller promises this float.
        unsafe { _mm512_castps_si512(_mm512_set1_ps(*from.add(index))) }
    }

    with_features! {
        "avx512f,avx512bw,avx512vnni",

        fn prepared(lanes: __m512) -> __m512 {
            lanes
        }

        fn dot(weights: __m512i, lanes: __m512, sum: __m512) -> __m512 {
            let (bytes, sum) = (_mm512_castps_si512(lanes), _mm512_castps_si512(sum));
            _mm512_castsi512_ps(_mm512_dpbusd_epi32(sum, bytes, weights))
        }

        fn to_f32(integers: __m512) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_castps_si512(integers))
        }

        fn limit_byte(a: __m512) -> __m512 {
            // The second operand instead of a NaN.
            _mm512_min_ps(_mm512_max_ps(a, _mm512_setzero_ps()), _mm512_set1_ps(255.0))
        }

        fn join_bytes(channels: [__m512; 4]) -> __m512 {
            let [a, b, c, d] = channels;
            let (a, b) = (_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
            let (c, d) = (_mm512_cvtps_epi32(c), _mm512_cvtps_epi32(d));
            // In each quarter of the vector: four pixels of `a`, of `b`, of `c`, of `d`.
            let bytes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
            let order = _mm512_set4_epi32(0x0F0B_0703, 0x0E0A_0602, 0x0D09_0501, 0x0C08_0400);
            _mm512_castsi512_ps(_mm512_shuffle_epi8(bytes, order))
        }
    }
}

impl Bf16Simd for Avx512Bf16 {
    with_features! {
        "avx512f,avx512bw,avx512bf16",

        fn dot_bf16(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: both types are 512 bits, valid with any content.
            let a = unsafe { transmute::<__m512, __m512bh>(a) };
            // SAFETY: both types are 512 bits, valid with any content.
            let b = unsafe { transmute::<__m512, __m512bh>(b) };
            _mm512_dpbf16_ps(c, a, b)
        }

        fn join_bf16(low: __m512, high: __m512) -> __m512 {
            // All of `low`, then all of `high`; each lane takes one of both.
            let halves = _mm512_castps_si512(pack_bf16(low, high));
            let order = _mm512_set_epi16(
                31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                20, 4, 19, 3, 18, 2, 17, 1, 16, 0,
            );
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, halves))
        }

        fn pack_bf16(first: __m512, second: __m512) -> __m512 {
            pack_bf16(first, second)
        }
    }
}

/// The lanes of `first`, then those of `second`, rounded to nearest bfloat16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pack_bf16(first: __m512, second: __m512) -> __m512 {
    // One instruction, vcvtne2ps2bf16, does the same, but the emulator of the tests (Bochs)
    // computes it wrongly.
    let (first, second) = (_mm512_cvtneps_pbh(first), _mm512_cvtneps_pbh(second));
    // SAFETY: both types are 256 bits, valid with any content.
    let first = unsafe { transmute::<__m256bh, __m256i>(first) };
    // SAFETY: both types are 256 bits, valid with any content.
    let second = unsafe { transmute::<__m256bh, __m256i>(second) };
    let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
    _mm512_castsi512_ps(both)
}
