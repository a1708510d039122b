//! AVX2 with fused multiply-add: 8 floats in a vector, 16 registers.

use std::arch::x86_64::*;

use super::avx512::Avx512;
use super::with_features;
use crate::dispatch::Kernel;
use crate::precision::Format;
use crate::simd::{Bf16Simd, Simd};

/// Proof that the processor has AVX2 and FMA.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Avx2(());

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
}

// SAFETY: `load` and `store` access the `LANES` floats of a vector; `transpose_8x8` accesses 8 rows
// of 8 floats.
unsafe impl Simd for Avx2 {
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
    unsafe fn transpose_8x8(self, from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the processor has AVX2 (`self`), and the caller promises 8 rows of 8 floats to
        // read and to write.
        unsafe { transpose_8x8(from, stride, to, to_stride) }
    }

    with_features! {
        "avx2,fma",

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
