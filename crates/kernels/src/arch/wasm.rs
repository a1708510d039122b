//! WebAssembly's vectors of 4 floats, which become 16 registers on x86-64 and 32 on ARM.
//!
//! A module with such instructions is rejected as a whole where they are unknown, so the build chooses them
//! (`-C target-feature=+simd128`, and `+relaxed-simd` for multiply-adds), and nothing is detected at run time.

use std::arch::wasm32::*;

use crate::dispatch::Kernel;
use crate::int8::ByteKernel;
use crate::precision::Format;
use crate::simd::{Bf16Simd, ByteProducts, ByteSimd, Simd};

/// Proof that the module is compiled with vectors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Wasm(());

impl Wasm {
    /// A token: this file is a part of builds with vectors only.
    pub(crate) fn detect() -> Option<Self> {
        Some(Self(()))
    }

    /// `relaxedsimd` if a multiply-add is one instruction, else `simd128`.
    pub(crate) fn name(self) -> &'static str {
        match cfg!(target_feature = "relaxed-simd") {
            true => "relaxedsimd",
            false => "simd128",
        }
    }

    /// Runs a kernel.
    pub(crate) fn run<F: Format<Wasm>, K: Kernel>(self, kernel: K) -> K::Output {
        kernel.vectorized::<Wasm, F>(self)
    }

    /// Runs a kernel on bytes.
    pub(crate) fn run_bytes<K: ByteKernel>(self, kernel: K) -> K::Output {
        kernel.vectorized(self)
    }

    /// Whether a multiply-add rounds once. The engine that compiles the module chooses.
    pub(crate) fn rounds_once(self) -> bool {
        let [a, c] = std::hint::black_box([1.0 + f32::EPSILON, -1.0 - 2.0 * f32::EPSILON]);
        let error = self.mul_add(self.splat(a), self.splat(a), self.splat(c));
        f32x4_extract_lane::<0>(error) != 0.0
    }
}

// SAFETY: `load` and `store` access the `LANES` floats of a vector; `transpose_8x8` accesses 8 rows of 8
// floats.
unsafe impl Simd for Wasm {
    type V = v128;
    const LANES: usize = 4;
    const TILE_CHANNELS: usize = 4;
    const SHORT_TILE_CHANNELS: usize = 4;
    const IS_VIRTUAL: bool = true;

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> v128 {
        // SAFETY: the caller promises 4 readable floats.
        unsafe { v128_load(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: v128) {
        // SAFETY: the caller promises 4 writable floats.
        unsafe { v128_store(to.cast(), value) }
    }

    /// Does nothing: there is no such instruction.
    #[inline(always)]
    fn prefetch(self, _: *const f32) {}

    #[inline(always)]
    unsafe fn transpose_8x8(self, from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
        for y in [0, 4] {
            for x in [0, 4] {
                // SAFETY: the caller promises 8 rows of 8 floats to read and to write.
                unsafe {
                    let (from, to) = (from.add(y * stride + x), to.add(x * to_stride + y));
                    transpose_4x4(from, stride, to, to_stride);
                }
            }
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> v128 {
        f32x4_splat(value)
    }

    #[inline(always)]
    fn add(self, a: v128, b: v128) -> v128 {
        f32x4_add(a, b)
    }

    #[inline(always)]
    fn sub(self, a: v128, b: v128) -> v128 {
        f32x4_sub(a, b)
    }

    /// With one rounding where `relaxed-simd` is there and the processor has such an instruction, else with
    /// two.
    #[inline(always)]
    fn mul_add(self, a: v128, b: v128, c: v128) -> v128 {
        #[cfg(target_feature = "relaxed-simd")]
        return f32x4_relaxed_madd(a, b, c);
        #[cfg(not(target_feature = "relaxed-simd"))]
        return f32x4_add(f32x4_mul(a, b), c);
    }

    #[inline(always)]
    fn relu(self, a: v128) -> v128 {
        // `0 < a ? a : 0`: 0 instead of a NaN, as `f32::max` does.
        f32x4_pmax(f32x4_splat(0.0), a)
    }

    #[inline(always)]
    fn where_positive(self, gate: v128, a: v128) -> v128 {
        v128_and(f32x4_gt(gate, f32x4_splat(0.0)), a)
    }

    #[inline(always)]
    fn sum(self, a: v128) -> f32 {
        let half = f32x4_add(a, i32x4_shuffle::<2, 3, 0, 1>(a, a));
        f32x4_extract_lane::<0>(half) + f32x4_extract_lane::<1>(half)
    }
}

/// Products in f32, rounding by integer arithmetic, as with AVX2.
impl Bf16Simd for Wasm {
    #[inline(always)]
    fn dot_bf16(self, a: v128, b: v128, c: v128) -> v128 {
        let mask = u32x4_splat(0xFFFF_0000);
        let c = self.mul_add(v128_and(a, mask), v128_and(b, mask), c);
        self.mul_add(u32x4_shl(a, 16), u32x4_shl(b, 16), c)
    }

    #[inline(always)]
    fn join_bf16(self, low: v128, high: v128) -> v128 {
        let high = v128_and(rounded_to_bf16(high), u32x4_splat(0xFFFF_0000));
        v128_or(high, u32x4_shr(rounded_to_bf16(low), 16))
    }

    #[inline(always)]
    fn pack_bf16(self, first: v128, second: v128) -> v128 {
        let (first, second) = (rounded_to_bf16(first), rounded_to_bf16(second));
        i16x8_shuffle::<1, 3, 5, 7, 9, 11, 13, 15>(first, second)
    }
}

/// Products of 16-bit integers, which are exact: the dot product of bytes takes those of 7 bits only.
impl ByteSimd for Wasm {
    type Weights = v128;
    const BYTE_TILE_CHANNELS: usize = 4;
    const PRODUCTS: ByteProducts = ByteProducts::None;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn prepared(self, lanes: v128) -> v128 {
        lanes
    }

    #[inline(always)]
    unsafe fn weights(self, from: *const f32, index: usize) -> v128 {
        // SAFETY: the caller promises this float.
        unsafe { f32x4_splat(*from.add(index)) }
    }

    #[inline(always)]
    fn dot_words(self, weights: [v128; 2], lanes: v128, sum: v128) -> v128 {
        let (even, odd) = (v128_and(lanes, u16x8_splat(0xFF)), u16x8_shr(lanes, 8));
        let sum = i32x4_add(sum, i32x4_dot_i16x8(weights[0], even));
        i32x4_add(sum, i32x4_dot_i16x8(weights[1], odd))
    }

    #[inline(always)]
    fn to_f32(self, integers: v128) -> v128 {
        f32x4_convert_i32x4(integers)
    }

    #[inline(always)]
    fn limit_byte(self, a: v128) -> v128 {
        f32x4_pmin(self.relu(a), f32x4_splat(255.0))
    }

    #[inline(always)]
    fn join_bytes(self, channels: [v128; 4]) -> v128 {
        let [a, b, c, d] = channels;
        let nearest = |a| i32x4_trunc_sat_f32x4(f32x4_nearest(a));
        let first = i16x8_narrow_i32x4(nearest(a), nearest(b));
        let second = i16x8_narrow_i32x4(nearest(c), nearest(d));
        // Four pixels of `a`, of `b`, of `c`, of `d`.
        let bytes = u8x16_narrow_i16x8(first, second);
        i8x16_shuffle::<0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15>(bytes, bytes)
    }
}

/// Bits whose upper half is the nearest bfloat16, ties to even.
#[inline(always)]
fn rounded_to_bf16(bits: v128) -> v128 {
    let odd = v128_and(u32x4_shr(bits, 16), u32x4_splat(1));
    u32x4_add(bits, u32x4_add(odd, u32x4_splat(0x7FFF)))
}

/// Transposes 4 rows of 4 floats.
///
/// # Safety
/// 4 floats can be read from each row, which lie `stride` floats apart, and written to each row of
/// `to`, which lie `to_stride` floats apart.
#[inline(always)]
unsafe fn transpose_4x4(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
    let mut row = [f32x4_splat(0.0); 4];
    for (y, row) in row.iter_mut().enumerate() {
        // SAFETY: the caller promises 4 readable floats in each of the 4 rows.
        *row = unsafe { v128_load(from.add(y * stride).cast()) };
    }
    // Interleaves rows 0 and 2, and rows 1 and 3; then both.
    let low = |a, b| i32x4_shuffle::<0, 4, 1, 5>(a, b);
    let high = |a, b| i32x4_shuffle::<2, 6, 3, 7>(a, b);
    let even = [low(row[0], row[2]), high(row[0], row[2])];
    let odd = [low(row[1], row[3]), high(row[1], row[3])];
    for (half, x) in [(0, 0), (1, 2)] {
        // SAFETY: the caller promises 4 writable floats in each of the 4 rows.
        unsafe {
            v128_store(to.add(x * to_stride).cast(), low(even[half], odd[half]));
            v128_store(
                to.add((x + 1) * to_stride).cast(),
                high(even[half], odd[half]),
            );
        }
    }
}
