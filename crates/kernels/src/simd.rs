//! The few vector operations that the kernels need, once per instruction set.

/// A vector of `LANES` floats and the operations on it.
///
/// The methods are always inlined, so that they take on the target features of the function
/// they end up in. For the same reason kernels call them in loops, never in closures
/// (`array::from_fn`, `map`): one that is not inlined has no target features, nor can its vectors
/// stay in registers.
///
/// # Safety
/// Every method may be called only where the processor supports the instruction set, inside a
/// function compiled with its target features. Pointers need no alignment, but `LANES` floats
/// behind them must be readable (`load`) or writable (`store`).
pub(crate) trait Simd {
    /// The vector.
    type V: Copy;
    /// Floats in a vector.
    const LANES: usize;
    /// Output channels of the largest register tile, which has [`TILE_VECTORS`] vectors of
    /// pixels: sums for 6 x 2 and two pixels and a weight take 15 of AVX2's 16 registers, 12 x 2
    /// and those take 27 of AVX-512's 32.
    ///
    /// [`TILE_VECTORS`]: crate::tile::TILE_VECTORS
    const TILE_CHANNELS: usize;
    /// The same for sums of few terms, which begin and end so often that it shows.
    const SHORT_TILE_CHANNELS: usize;
    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, value: Self::V);
    /// Asks for the cache line at an address, which need not be readable.
    unsafe fn prefetch(at: *const f32);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c with one rounding.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// max(a, 0), lane by lane.
    unsafe fn relu(a: Self::V) -> Self::V;
    /// `a` where `gate > 0`, else 0, lane by lane.
    unsafe fn where_positive(gate: Self::V, a: Self::V) -> Self::V;
    /// The sum of the lanes.
    unsafe fn sum(a: Self::V) -> f32;
    /// Lanes of two bfloat16 each: `a`'s lower times `b`'s lower plus `a`'s upper times `b`'s upper
    /// plus `c`.
    unsafe fn dot_bf16(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Lanes of two bfloat16, the lower from `low`, the upper from `high`, rounded to nearest.
    unsafe fn join_bf16(low: Self::V, high: Self::V) -> Self::V;
    /// The lanes of `first`, then those of `second`, rounded to nearest bfloat16, each of half a
    /// lane.
    unsafe fn pack_bf16(first: Self::V, second: Self::V) -> Self::V;
    /// Transposes 8 rows of 8 floats, which lie `stride` floats apart.
    unsafe fn transpose_8x8(from: *const f32, stride: usize, to: *mut f32, to_stride: usize);
}

#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx2;

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Avx2, Simd};
    use std::arch::x86_64::*;

    /// Bits whose upper half is the nearest bfloat16, as `precision::round_to_bf16` makes them.
    ///
    /// # Safety
    /// AVX2 is there.
    #[inline(always)]
    unsafe fn rounded(v: __m256) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
            _mm256_add_epi32(bits, half)
        }
    }

    // SAFETY (all methods): the trait's contract gives avx2 and fma, and valid pointers.
    impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;
        const TILE_CHANNELS: usize = 6;
        const SHORT_TILE_CHANNELS: usize = 4;

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, value: __m256) {
            // SAFETY: see the trait.
            unsafe { _mm256_storeu_ps(to, value) }
        }
        #[inline(always)]
        unsafe fn prefetch(at: *const f32) {
            // SAFETY: a prefetch accesses no memory that the program can see.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn relu(a: __m256) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_max_ps(a, _mm256_setzero_ps()) }
        }
        #[inline(always)]
        unsafe fn where_positive(gate: __m256, a: __m256) -> __m256 {
            // SAFETY: see the trait.
            unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(gate, _mm256_setzero_ps()), a) }
        }
        #[inline(always)]
        unsafe fn sum(a: __m256) -> f32 {
            // SAFETY: see the trait.
            unsafe {
                let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
                let one = _mm_add_ss(quarter, _mm_shuffle_ps::<0b01>(quarter, quarter));
                _mm_cvtss_f32(one)
            }
        }
        #[inline(always)]
        unsafe fn dot_bf16(a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: see the trait.
            unsafe {
                let upper = _mm256_castsi256_ps(_mm256_set1_epi32(0xFFFF_0000_u32 as i32));
                let c = _mm256_fmadd_ps(_mm256_and_ps(upper, a), _mm256_and_ps(upper, b), c);
                let a = _mm256_slli_epi32::<16>(_mm256_castps_si256(a));
                let b = _mm256_slli_epi32::<16>(_mm256_castps_si256(b));
                _mm256_fmadd_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), c)
            }
        }
        #[inline(always)]
        unsafe fn join_bf16(low: __m256, high: __m256) -> __m256 {
            // SAFETY: see the trait.
            unsafe {
                let low = _mm256_srli_epi32::<16>(rounded(low));
                _mm256_castsi256_ps(_mm256_blend_epi16::<0b1010_1010>(low, rounded(high)))
            }
        }
        #[inline(always)]
        unsafe fn pack_bf16(first: __m256, second: __m256) -> __m256 {
            // SAFETY: see the trait.
            unsafe {
                let first = _mm256_srli_epi32::<16>(rounded(first));
                let second = _mm256_srli_epi32::<16>(rounded(second));
                // In each half of the vector: four of `first`, then four of `second`.
                let packed = _mm256_packus_epi32(first, second);
                _mm256_castsi256_ps(_mm256_permute4x64_epi64::<0b11_01_10_00>(packed))
            }
        }
        #[inline(always)]
        unsafe fn transpose_8x8(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
            // SAFETY: see the trait.
            unsafe { super::transpose_8x8(from, stride, to, to_stride) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx512;

/// AVX-512 with its dot products of bfloat16; everything else is as on [`Avx512`].
#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx512Bf16;

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{Avx512, Avx512Bf16, Simd};
    use std::arch::x86_64::*;

    macro_rules! avx512 {
        ($Isa:ident, $dot_bf16:path, $join_bf16:path, $pack_bf16:path) => {
            // SAFETY (all methods): the trait's contract gives avx512f, and valid pointers.
            impl Simd for $Isa {
                type V = __m512;
                const LANES: usize = 16;
                const TILE_CHANNELS: usize = 12;
                const SHORT_TILE_CHANNELS: usize = 12;

                #[inline(always)]
                unsafe fn splat(value: f32) -> __m512 {
                    // SAFETY: see the trait.
                    unsafe { _mm512_set1_ps(value) }
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> __m512 {
                    // SAFETY: see the trait.
                    unsafe { _mm512_loadu_ps(from) }
                }
                #[inline(always)]
                unsafe fn store(to: *mut f32, value: __m512) {
                    // SAFETY: see the trait.
                    unsafe { _mm512_storeu_ps(to, value) }
                }
                #[inline(always)]
                unsafe fn prefetch(at: *const f32) {
                    // SAFETY: a prefetch accesses no memory that the program can see.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
                }
                #[inline(always)]
                unsafe fn add(a: __m512, b: __m512) -> __m512 {
                    // SAFETY: see the trait.
                    unsafe { _mm512_add_ps(a, b) }
                }
                #[inline(always)]
                unsafe fn sub(a: __m512, b: __m512) -> __m512 {
                    // SAFETY: see the trait.
                    unsafe { _mm512_sub_ps(a, b) }
                }
                #[inline(always)]
                unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
                    // SAFETY: see the trait.
                    unsafe { _mm512_fmadd_ps(a, b, c) }
                }
                #[inline(always)]
                unsafe fn relu(a: __m512) -> __m512 {
                    // SAFETY: see the trait.
                    unsafe { _mm512_max_ps(a, _mm512_setzero_ps()) }
                }
                #[inline(always)]
                unsafe fn where_positive(gate: __m512, a: __m512) -> __m512 {
                    // SAFETY: see the trait.
                    unsafe {
                        let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps());
                        _mm512_maskz_mov_ps(positive, a)
                    }
                }
                #[inline(always)]
                unsafe fn sum(a: __m512) -> f32 {
                    // SAFETY: see the trait.
                    unsafe { _mm512_reduce_add_ps(a) }
                }
                #[inline(always)]
                unsafe fn dot_bf16(a: __m512, b: __m512, c: __m512) -> __m512 {
                    // SAFETY: see the trait.
                    unsafe { $dot_bf16(a, b, c) }
                }
                #[inline(always)]
                unsafe fn join_bf16(low: __m512, high: __m512) -> __m512 {
                    // SAFETY: see the trait.
                    unsafe { $join_bf16(low, high) }
                }
                #[inline(always)]
                unsafe fn pack_bf16(first: __m512, second: __m512) -> __m512 {
                    // SAFETY: see the trait.
                    unsafe { $pack_bf16(first, second) }
                }
                #[inline(always)]
                unsafe fn transpose_8x8(
                    from: *const f32,
                    stride: usize,
                    to: *mut f32,
                    to_stride: usize,
                ) {
                    // SAFETY: see the trait; AVX-512 processors have AVX2.
                    unsafe { super::transpose_8x8(from, stride, to, to_stride) }
                }
            }
        };
    }
    avx512!(Avx512, dot_in_f32, join_by_integers, pack_by_integers);
    avx512!(Avx512Bf16, dot, join, pack);

    /// # Safety
    /// AVX-512F is there.
    #[inline(always)]
    unsafe fn dot_in_f32(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe {
            let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
            let mask = _mm512_set1_epi32(0xFFFF_0000_u32 as i32);
            let upper_a = _mm512_castsi512_ps(_mm512_and_si512(mask, a));
            let upper_b = _mm512_castsi512_ps(_mm512_and_si512(mask, b));
            let c = _mm512_fmadd_ps(upper_a, upper_b, c);
            let lower_a = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(a));
            let lower_b = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(b));
            _mm512_fmadd_ps(lower_a, lower_b, c)
        }
    }

    /// Bits whose upper half is the nearest bfloat16, as `precision::round_to_bf16` makes them.
    ///
    /// # Safety
    /// AVX-512F is there.
    #[inline(always)]
    unsafe fn rounded(v: __m512) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe {
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
            _mm512_add_epi32(bits, half)
        }
    }

    /// # Safety
    /// AVX-512F is there.
    #[inline(always)]
    unsafe fn pack_by_integers(first: __m512, second: __m512) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe {
            let first = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded(first)));
            let second = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded(second)));
            let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
            _mm512_castsi512_ps(both)
        }
    }

    /// # Safety
    /// AVX-512F is there.
    #[inline(always)]
    unsafe fn join_by_integers(low: __m512, high: __m512) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe {
            let low = _mm512_srli_epi32::<16>(rounded(low));
            let mask = _mm512_set1_epi32(0xFFFF_0000_u32 as i32);
            let high = _mm512_and_si512(mask, rounded(high));
            _mm512_castsi512_ps(_mm512_or_si512(low, high))
        }
    }

    /// # Safety
    /// AVX512-BF16 is there.
    #[inline(always)]
    unsafe fn dot(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller's promise; both types are 512 bits of any content.
        unsafe {
            let a = std::mem::transmute::<__m512, __m512bh>(a);
            let b = std::mem::transmute::<__m512, __m512bh>(b);
            _mm512_dpbf16_ps(c, a, b)
        }
    }

    /// # Safety
    /// AVX512-BF16 is there.
    #[inline(always)]
    unsafe fn pack(first: __m512, second: __m512) -> __m512 {
        // SAFETY: the caller's promise; both types are 256 bits of any content.
        unsafe {
            // One instruction, vcvtne2ps2bf16, does as much, but Bochs, which tests this, gives it
            // a wrong result.
            let first = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(first));
            let second = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(second));
            let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second);
            _mm512_castsi512_ps(both)
        }
    }

    /// # Safety
    /// AVX512-BF16 and AVX-512BW are there.
    #[inline(always)]
    unsafe fn join(low: __m512, high: __m512) -> __m512 {
        // SAFETY: the caller's promise; both types are 512 bits of any content.
        unsafe {
            // All of `low`, then all of `high`; in each lane one of each is wanted.
            let halves = _mm512_castps_si512(pack(low, high));
            let order = _mm512_set_epi16(
                31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                20, 4, 19, 3, 18, 2, 17, 1, 16, 0,
            );
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, halves))
        }
    }
}

/// # Safety
/// AVX2 is there, and the blocks can be read and written.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose_8x8(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promises.
    unsafe {
        let row: [__m256; 8] = std::array::from_fn(|y| _mm256_loadu_ps(from.add(y * stride)));
        // Pairs of rows interleaved, then pairs of pairs, then the halves.
        let pair: [__m256; 8] = std::array::from_fn(|i| {
            let (a, b) = (row[i / 2 * 2], row[i / 2 * 2 + 1]);
            if i % 2 == 0 {
                _mm256_unpacklo_ps(a, b)
            } else {
                _mm256_unpackhi_ps(a, b)
            }
        });
        let quad: [__m256; 8] = std::array::from_fn(|i| {
            let (half, column) = (i / 4 * 4, i % 4);
            let (a, b) = (pair[half + column / 2], pair[half + 2 + column / 2]);
            if column % 2 == 0 {
                _mm256_shuffle_ps::<0x44>(a, b)
            } else {
                _mm256_shuffle_ps::<0xEE>(a, b)
            }
        });
        for column in 0..8 {
            let (a, b) = (quad[column % 4], quad[4 + column % 4]);
            let value = if column < 4 {
                _mm256_permute2f128_ps::<0x20>(a, b)
            } else {
                _mm256_permute2f128_ps::<0x31>(a, b)
            };
            _mm256_storeu_ps(to.add(column * to_stride), value);
        }
    }
}

/// Calls for an [`Isa`](crate::Isa) the plain version `$reference`, or `$simd::<S>` compiled with the
/// target features of `S`; `$simd[$format]` is `$simd::<S, $format>`. Both take the same arguments,
/// the latter inlines everything it calls.
macro_rules! dispatch {
    ($isa:expr, $reference:path, $simd:ident $([$format:ty])? ($($arguments:tt)*)) => {
        match $isa.0 {
            $crate::isa::Level::Reference => {
                $crate::simd::dispatch!(@call $reference, ($($arguments)*))
            }
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Level::Avx2 => {
                $crate::simd::dispatch!(@simd "avx2,fma", Avx2, $simd $([$format])?, ($($arguments)*))
            }
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Level::Avx512 | $crate::isa::Level::Avx512Bf16 => {
                $crate::simd::dispatch!(@simd "avx512f", Avx512, $simd $([$format])?, ($($arguments)*))
            }
        }
    };
    (@call $function:path, ($($argument:ident: $type:ty),* $(,)?)) => {
        $function($($argument),*)
    };
    (
        @simd $features:literal, $S:ident, $simd:ident $([$format:ty])?,
        ($($argument:ident: $type:ty),* $(,)?)
    ) => {{
        #[target_feature(enable = $features)]
        fn compiled($($argument: $type),*) {
            // SAFETY: this function is compiled with the features of `$S`.
            unsafe { $simd::<$crate::simd::$S $(, $format)?>($($argument),*) }
        }
        // SAFETY: an `Isa` of this level exists only where the features were detected.
        unsafe { compiled($($argument),*) }
    }};
}
pub(crate) use dispatch;

/// [`dispatch`] for functions of the format [`Bf16`](crate::precision::Bf16), which have a version
/// more: the one on the processor's own dot products.
macro_rules! dispatch_bf16 {
    ($isa:expr, $reference:path, $simd:ident ($($arguments:tt)*)) => {
        match $isa.0 {
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Level::Avx512Bf16 => $crate::simd::dispatch!(
                @simd "avx512f,avx512bw,avx512bf16", Avx512Bf16,
                $simd[$crate::precision::Bf16], ($($arguments)*)
            ),
            _ => $crate::simd::dispatch!(
                $isa, $reference, $simd[$crate::precision::Bf16] ($($arguments)*)
            ),
        }
    };
}
pub(crate) use dispatch_bf16;

/// [`dispatch`] for functions of the format of a [`Precision`](crate::Precision).
macro_rules! dispatch_in {
    ($precision:expr, $isa:expr, $reference:path, $simd:ident ($($arguments:tt)*)) => {
        match $precision {
            $crate::Precision::F32 => $crate::simd::dispatch!(
                $isa, $reference, $simd[$crate::precision::F32] ($($arguments)*)
            ),
            $crate::Precision::Bf16 => {
                $crate::simd::dispatch_bf16!($isa, $reference, $simd ($($arguments)*))
            }
        }
    };
}
pub(crate) use dispatch_in;
