//! AVX2 with fused multiply-add: 8 floats in a vector, 16 registers; with and without dot products of bytes (AVX-VNNI).

use std::arch::x86_64::*;

use super::avx512::Avx512;
use super::with_features;
use crate::dispatch::Kernel;
use crate::int8::{ByteKernel, WordKernel};
use crate::precision::Format;
use crate::simd::{Bf16Simd, ByteProducts, ByteSimd, Simd, WordSimd};

/// Proof that the processor has AVX2 and FMA.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Avx2(());

/// Proof that the processor has AVX-VNNI too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AvxVnni(());

impl Avx2 {
    /// A token if the processor has AVX2 and FMA.
    pub(crate) fn detect() -> Option<Self> {
        let detected = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        detected.then_some(Self(()))
    }

    /// A token from that of AVX-512, whose detection found AVX2 and FMA too.
    pub(crate) fn of_avx512(_: Avx512) -> Self {
        Self(())
    }

    /// Runs a kernel compiled for AVX2 and FMA.
    pub(crate) fn run<F: Format<Avx2>, K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<F: Format<Avx2>, K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.vectorized::<Avx2, F>(simd)
        }
        // SAFETY: an `Avx2` exists only where `detect` found AVX2 and FMA.
        unsafe { compiled::<F, K>(self, kernel) }
    }

    /// Runs a kernel on bytes compiled for AVX2 and FMA.
    pub(crate) fn run_bytes<K: ByteKernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<K: ByteKernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.vectorized(simd)
        }
        // SAFETY: an `Avx2` exists only where `detect` found AVX2 and FMA.
        unsafe { compiled(self, kernel) }
    }
}

impl Avx2 {
    /// Runs a kernel on 16-bit integers compiled for AVX2 and FMA.
    pub(crate) fn run_words<K: WordKernel>(self, kernel: K) {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<K: WordKernel>(simd: Avx2, kernel: K) {
            kernel.vectorized(simd);
        }
        // SAFETY: an `Avx2` exists only where `detect` found AVX2 and FMA.
        unsafe { compiled(self, kernel) }
    }
}

impl AvxVnni {
    /// A token if the processor has AVX-VNNI beside AVX2 and FMA.
    pub(crate) fn detect() -> Option<Self> {
        let detected = Avx2::detect().is_some() && is_x86_feature_detected!("avxvnni");
        detected.then_some(Self(()))
    }

    /// The part without dot products.
    pub(crate) fn avx2(self) -> Avx2 {
        Avx2(())
    }

    /// Runs a kernel on bytes compiled for AVX-VNNI.
    pub(crate) fn run_bytes<K: ByteKernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,avxvnni")]
        fn compiled<K: ByteKernel>(simd: AvxVnni, kernel: K) -> K::Output {
            kernel.vectorized(simd)
        }
        // SAFETY: an `AvxVnni` exists only where `detect` found all of these features.
        unsafe { compiled(self, kernel) }
    }
}

/// Implements [`Simd`] for a token.
macro_rules! impl_simd {
    ($Token:ident, $features:literal) => {
        // SAFETY: `load` and `store` access the `LANES` floats of a vector; `transpose_8x8` accesses 8 rows
        // of 8 floats.
        unsafe impl Simd for $Token {
            type V = __m256;
            const LANES: usize = 8;
            const TILE_CHANNELS: usize = 6;
            const SHORT_TILE_CHANNELS: usize = 4;

            #[inline(always)]
            unsafe fn load(self, from: *const f32) -> __m256 {
                // SAFETY: the processor has AVX2 (`self`), and the caller promises 8 readable floats.
                unsafe { _mm256_loadu_ps(from) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32, value: __m256) {
                // SAFETY: the processor has AVX2 (`self`), and the caller promises 8 writable floats.
                unsafe { _mm256_storeu_ps(to, value) }
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
                // SAFETY: the processor has AVX2 (`self`), and the caller promises 8 rows of 8 floats to
                // read and to write.
                unsafe { transpose_8x8(from, stride, to, to_stride) }
            }

            with_features! {
                $features,

                fn splat(value: f32) -> __m256 {
                    _mm256_set1_ps(value)
                }

                fn add(a: __m256, b: __m256) -> __m256 {
                    _mm256_add_ps(a, b)
                }

                fn sub(a: __m256, b: __m256) -> __m256 {
                    _mm256_sub_ps(a, b)
                }

                fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
                    _mm256_fmadd_ps(a, b, c)
                }

                fn relu(a: __m256) -> __m256 {
                    _mm256_max_ps(a, _mm256_setzero_ps())
                }

                fn where_positive(gate: __m256, a: __m256) -> __m256 {
                    _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(gate, _mm256_setzero_ps()), a)
                }

                fn sum(a: __m256) -> f32 {
                    let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                    let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
                    let one = _mm_add_ss(quarter, _mm_shuffle_ps::<0b01>(quarter, quarter));
                    _mm_cvtss_f32(one)
                }
            }
        }
    };
}
impl_simd!(Avx2, "avx2,fma");
impl_simd!(AvxVnni, "avx2,fma,avxvnni");

/// Products in f32, rounding by integer arithmetic.
impl Bf16Simd for Avx2 {
    with_features! {
        "avx2,fma",

        fn dot_bf16(a: __m256, b: __m256, c: __m256) -> __m256 {
            let upper = _mm256_castsi256_ps(_mm256_set1_epi32(0xFFFF_0000_u32 as i32));
            let c = _mm256_fmadd_ps(_mm256_and_ps(upper, a), _mm256_and_ps(upper, b), c);
            let a = _mm256_slli_epi32::<16>(_mm256_castps_si256(a));
            let b = _mm256_slli_epi32::<16>(_mm256_castps_si256(b));
            _mm256_fmadd_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), c)
        }

        fn join_bf16(low: __m256, high: __m256) -> __m256 {
            let low = _mm256_srli_epi32::<16>(rounded_to_bf16(low));
            let high = rounded_to_bf16(high);
            _mm256_castsi256_ps(_mm256_blend_epi16::<0b1010_1010>(low, high))
        }

        fn pack_bf16(first: __m256, second: __m256) -> __m256 {
            let first = _mm256_srli_epi32::<16>(rounded_to_bf16(first));
            let second = _mm256_srli_epi32::<16>(rounded_to_bf16(second));
            // In each half of the vector: four of `first`, then four of `second`.
            let packed = _mm256_packus_epi32(first, second);
            _mm256_castsi256_ps(_mm256_permute4x64_epi64::<0b11_01_10_00>(packed))
        }
    }
}

/// The operations on bytes that do not depend on the dot product.
macro_rules! common_operations_on_bytes {
    ($features:literal) => {
        with_features! {
            $features,

            fn to_f32(integers: __m256) -> __m256 {
                _mm256_cvtepi32_ps(_mm256_castps_si256(integers))
            }

            fn limit_byte(a: __m256) -> __m256 {
                // The second operand instead of a NaN.
                _mm256_min_ps(_mm256_max_ps(a, _mm256_setzero_ps()), _mm256_set1_ps(255.0))
            }

            fn join_bytes(channels: [__m256; 4]) -> __m256 {
                let [a, b, c, d] = channels;
                let (a, b) = (_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
                let (c, d) = (_mm256_cvtps_epi32(c), _mm256_cvtps_epi32(d));
                // In each half of the vector: four pixels of `a`, of `b`, of `c`, of `d`.
                let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
                let order = _mm256_setr_epi8(
                    0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9, 13, 2,
                    6, 10, 14, 3, 7, 11, 15,
                );
                _mm256_castsi256_ps(_mm256_shuffle_epi8(bytes, order))
            }
        }
    };
}

/// `vpmaddubsw` limits sums of two products to 16 bits: where they could be larger, 16-bit integers are multiplied.
impl ByteSimd for Avx2 {
    type Weights = __m256i;
    /// 4 x 2 sums, 4 vectors of pixels, one of weights and a product take 14 of the 16 registers.
    const BYTE_TILE_CHANNELS: usize = 4;
    const PRODUCTS: ByteProducts = ByteProducts::Short;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn weights(self, from: *const f32, index: usize) -> __m256i {
        // SAFETY: the processor has AVX2 (`self`), and the caller promises this float.
        unsafe { _mm256_castps_si256(_mm256_broadcast_ss(&*from.add(index))) }
    }

    with_features! {
        "avx2,fma",

        fn prepared(lanes: __m256) -> __m256 {
            lanes
        }

        fn dot(weights: __m256i, lanes: __m256, sum: __m256) -> __m256 {
            let pairs = _mm256_maddubs_epi16(_mm256_castps_si256(lanes), weights);
            let products = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum), products))
        }

        fn dot_two_lanes(weights: [__m256i; 2], lanes: [__m256; 2], sum: __m256) -> __m256 {
            let first = _mm256_maddubs_epi16(_mm256_castps_si256(lanes[0]), weights[0]);
            let second = _mm256_maddubs_epi16(_mm256_castps_si256(lanes[1]), weights[1]);
            let pairs = _mm256_add_epi16(first, second);
            let products = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum), products))
        }

        fn dot_words(weights: [__m256i; 2], lanes: __m256, sum: __m256) -> __m256 {
            let [even, odd] = [words::<0>(lanes), words::<1>(lanes)];
            dot_two(weights[1], odd, dot_two(weights[0], even, sum))
        }
    }

    common_operations_on_bytes!("avx2,fma");
}

/// Bytes 0 and 2 of each lane, or 1 and 3.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn words<const PART: usize>(lanes: __m256) -> __m256 {
    let lanes = _mm256_castps_si256(lanes);
    _mm256_castsi256_ps(match PART {
        0 => _mm256_and_si256(lanes, _mm256_set1_epi16(0xFF)),
        _ => _mm256_srli_epi16::<8>(lanes),
    })
}

/// Adds the products of two weights and the integers of each lane.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn dot_two(weights: __m256i, words: __m256, sum: __m256) -> __m256 {
    let products = _mm256_madd_epi16(weights, _mm256_castps_si256(words));
    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum), products))
}

impl WordSimd for Avx2 {
    with_features! {
        "avx2,fma",

        fn words(lanes: __m256, part: usize) -> __m256 {
            if part == 0 { words::<0>(lanes) } else { words::<1>(lanes) }
        }

        fn dot_two(weights: __m256i, words: __m256, sum: __m256) -> __m256 {
            dot_two(weights, words, sum)
        }

        fn add_words(a: __m256, b: __m256) -> __m256 {
            _mm256_castsi256_ps(_mm256_add_epi16(_mm256_castps_si256(a), _mm256_castps_si256(b)))
        }

        fn sub_words(a: __m256, b: __m256) -> __m256 {
            _mm256_castsi256_ps(_mm256_sub_epi16(_mm256_castps_si256(a), _mm256_castps_si256(b)))
        }

        fn quadruple_words(a: __m256) -> __m256 {
            _mm256_castsi256_ps(_mm256_slli_epi16::<2>(_mm256_castps_si256(a)))
        }

        fn add_integers(a: __m256, b: __m256) -> __m256 {
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)))
        }

        fn sub_integers(a: __m256, b: __m256) -> __m256 {
            _mm256_castsi256_ps(_mm256_sub_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)))
        }

        fn quadruple_integers(a: __m256) -> __m256 {
            _mm256_castsi256_ps(_mm256_slli_epi32::<2>(_mm256_castps_si256(a)))
        }

        fn divide_by_24(a: __m256) -> __m256 {
            // The inverse of 3 modulo 2^32.
            let inverse = _mm256_set1_epi32(0xAAAA_AAAB_u32 as i32);
            let eighth = _mm256_srai_epi32::<3>(_mm256_castps_si256(a));
            _mm256_castsi256_ps(_mm256_mullo_epi32(eighth, inverse))
        }
    }
}

impl ByteSimd for AvxVnni {
    type Weights = __m256i;
    /// 4 x 2 sums; 6 x 2 would fit, but tiles of bytes are multiples of 4.
    const BYTE_TILE_CHANNELS: usize = 4;
    const PRODUCTS: ByteProducts = ByteProducts::All;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn weights(self, from: *const f32, index: usize) -> __m256i {
        // SAFETY: the processor has AVX2 (`self`), and the caller promises this float.
        unsafe { _mm256_castps_si256(_mm256_broadcast_ss(&*from.add(index))) }
    }

    with_features! {
        "avx2,fma,avxvnni",

        fn prepared(lanes: __m256) -> __m256 {
            lanes
        }

        fn dot(weights: __m256i, lanes: __m256, sum: __m256) -> __m256 {
            let (bytes, sum) = (_mm256_castps_si256(lanes), _mm256_castps_si256(sum));
            _mm256_castsi256_ps(_mm256_dpbusd_avx_epi32(sum, bytes, weights))
        }
    }

    common_operations_on_bytes!("avx2,fma,avxvnni");
}

/// Bits whose upper half is the nearest bfloat16, ties to even.
#[inline]
#[target_feature(enable = "avx2")]
fn rounded_to_bf16(v: __m256) -> __m256i {
    let bits = _mm256_castps_si256(v);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
    _mm256_add_epi32(bits, half)
}

/// Transposes 8 rows of 8 floats.
///
/// # Safety
/// 8 floats can be read from each row, which lie `stride` floats apart, and written to each row of
/// `to`, which lie `to_stride` floats apart.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn transpose_8x8(
    from: *const f32,
    stride: usize,
    to: *mut f32,
    to_stride: usize,
) {
    let zero = [_mm256_setzero_ps(); 8];
    let (mut row, mut pair, mut quad) = (zero, zero, zero);
    for y in 0..8 {
        // SAFETY: the caller promises 8 readable floats in each of the 8 rows.
        row[y] = unsafe { _mm256_loadu_ps(from.add(y * stride)) };
    }
    // Interleaves pairs of rows, then pairs of pairs, then the halves.
    for i in (0..8).step_by(2) {
        pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
        pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
    }
    for half in [0, 4] {
        for i in 0..2 {
            let (a, b) = (pair[half + i], pair[half + 2 + i]);
            quad[half + 2 * i] = _mm256_shuffle_ps::<0x44>(a, b);
            quad[half + 2 * i + 1] = _mm256_shuffle_ps::<0xEE>(a, b);
        }
    }
    for column in 0..4 {
        let (a, b) = (quad[column], quad[4 + column]);
        // SAFETY: the caller promises 8 writable floats in each of the 8 rows.
        unsafe {
            let upper = to.add(column * to_stride);
            _mm256_storeu_ps(upper, _mm256_permute2f128_ps::<0x20>(a, b));
            let lower = to.add((4 + column) * to_stride);
            _mm256_storeu_ps(lower, _mm256_permute2f128_ps::<0x31>(a, b));
        }
    }
}
