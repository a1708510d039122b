//! The few vector operations that the kernels are written in.

use crate::int8::are_short;

/// A token of an instruction set with vectors of `LANES` floats, and the operations on them.
///
/// A token is a value without content that exists only where the processor has the instructions,
/// which makes all operations safe that touch no memory.
///
/// Methods are inlined and so take on the target features of the function they end up in. Kernels
/// therefore call them in loops, never in closures (`array::from_fn`, `map`): a closure that is not
/// inlined has no target features, nor can its vectors stay in registers.
///
/// # Safety
/// An implementation's `load` and `store` access exactly [`Simd::LANES`] floats, `splat_nth` no others
/// than the `len` floats, `splat_at` the one float, and `transpose_8x8` exactly 8 rows of 8 floats on
/// each side.
pub(crate) unsafe trait Simd: Copy {
    /// The vector.
    type V: Copy;
    /// Floats in a vector.
    const LANES: usize;
    /// Output channels of the largest register tile, which has [`TILE_VECTORS`] vectors of
    /// pixels: sums for 6 x 2, two pixels and a weight take 15 of AVX2's 16 registers, those for
    /// 12 x 2 take 27 of AVX-512's 32. A vector of NEON is two registers: 6 x 2, two pixels and 6
    /// weights take 30 of its 32.
    ///
    /// [`TILE_VECTORS`]: crate::tile::TILE_VECTORS
    const TILE_CHANNELS: usize;
    /// The same for sums of few terms, where starting and storing a tile takes a larger part.
    const SHORT_TILE_CHANNELS: usize;
    /// Whether these are instructions of a virtual machine. Its compiler puts the multiply-adds of a basic block behind all its
    /// loads, and spills registers in large functions. So the largest loop is a function of its own, with a branch after each
    /// step.
    const IS_VIRTUAL: bool = false;

    /// Loads a vector.
    ///
    /// # Safety
    /// `LANES` floats can be read. They need no alignment.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// Stores a vector.
    ///
    /// # Safety
    /// `LANES` floats can be written. They need no alignment.
    unsafe fn store(self, to: *mut f32, value: Self::V);
    /// A vector of `LANES` times the float at `index` of `len`. All of them are used next to each other,
    /// so an implementation may load several at once.
    ///
    /// # Safety
    /// `len` floats can be read, and `index` is below `len`.
    #[inline(always)]
    unsafe fn splat_nth(self, from: *const f32, index: usize, _len: usize) -> Self::V {
        // SAFETY: the caller promises `len` readable floats, which are more than `index`.
        self.splat(unsafe { *from.add(index) })
    }
    /// A vector of `LANES` times the float at `index`, which needs no alignment.
    ///
    /// # Safety
    /// The float can be read.
    #[inline(always)]
    unsafe fn splat_at(self, from: *const f32, index: usize) -> Self::V {
        // SAFETY: the caller promises this float.
        self.splat(unsafe { from.add(index).read_unaligned() })
    }
    /// Prefetches the cache line at an address, which may be any.
    fn prefetch(self, at: *const f32);
    /// Transposes 8 rows of 8 floats.
    ///
    /// # Safety
    /// 8 floats can be read from each row, which lie `stride` floats apart, and written to each
    /// row of `to`, which lie `to_stride` floats apart.
    unsafe fn transpose_8x8(self, from: *const f32, stride: usize, to: *mut f32, to_stride: usize);

    /// A vector of `LANES` times the value.
    fn splat(self, value: f32) -> Self::V;
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a - b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c with one rounding; with two in WebAssembly without fused multiply-adds.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// max(a, 0), lane by lane.
    fn relu(self, a: Self::V) -> Self::V;
    /// `a` where `gate > 0`, else 0, lane by lane.
    fn where_positive(self, gate: Self::V, a: Self::V) -> Self::V;
    /// The sum of the lanes.
    fn sum(self, a: Self::V) -> f32;
}

/// Operations on lanes of two bfloat16.
pub(crate) trait Bf16Simd: Simd {
    /// Adds the products of lanes of two bfloat16 each, where all lanes of `a` are equal: `a`'s lower times `b`'s lower plus `a`'s
    /// upper times `b`'s upper plus `c`, a float.
    fn dot_bf16(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Lanes of two bfloat16: the lower from `low`, the upper from `high`, rounded to nearest.
    fn join_bf16(self, low: Self::V, high: Self::V) -> Self::V;
    /// The lanes of `first`, then those of `second`, rounded to nearest bfloat16: half a lane each.
    fn pack_bf16(self, first: Self::V, second: Self::V) -> Self::V;
}

/// Operations on lanes of four bytes, and on sums in 32-bit integers. Vectors of all of them have the type of floats.
pub(crate) trait ByteSimd: Simd {
    /// The weights of a lane, the same in all lanes.
    type Weights: Copy;
    /// Output channels of the largest register tile: a multiple of 4, at most [`Simd::TILE_CHANNELS`].
    const BYTE_TILE_CHANNELS: usize;
    /// Which lanes of four weights are multiplied at once.
    const PRODUCTS: ByteProducts;
    /// What products subtract from each byte: 0, or 128 if the instructions take signed bytes.
    const OFFSET: i32;

    /// Lanes of bytes as products take them.
    fn prepared(self, lanes: Self::V) -> Self::V;
    /// The weights at `index` of some lanes of weights.
    ///
    /// # Safety
    /// The float at `index` can be read.
    unsafe fn weights(self, from: *const f32, index: usize) -> Self::Weights;
    /// Adds the products of four weights, which [`ByteSimd::PRODUCTS`] takes at once, and the bytes of each lane less
    /// [`ByteSimd::OFFSET`] to integers.
    fn dot(self, _weights: Self::Weights, _lanes: Self::V, _sum: Self::V) -> Self::V {
        unreachable!("products of bytes")
    }
    /// The same for the weights of two lanes, whose products are added in 16 bits.
    fn dot_two_lanes(
        self,
        _weights: [Self::Weights; 2],
        _lanes: [Self::V; 2],
        _sum: Self::V,
    ) -> Self::V {
        unreachable!("products of bytes in 16 bits")
    }
    /// The same for other weights: 0 and 2, then 1 and 3, as 16-bit integers.
    fn dot_words(self, _weights: [Self::Weights; 2], _lanes: Self::V, _sum: Self::V) -> Self::V {
        unreachable!("products of 16-bit integers")
    }
    /// The floats nearest to integers.
    fn to_f32(self, integers: Self::V) -> Self::V;
    /// Limits floats to 0..=255; NaN becomes 0.
    fn limit_byte(self, a: Self::V) -> Self::V;
    /// Lanes of four bytes, the first in the lowest: floats below 2^31 rounded to nearest, ties to even, and
    /// limited to 0..=255.
    fn join_bytes(self, channels: [Self::V; 4]) -> Self::V;
}

/// Which lanes of four weights an instruction multiplies by lanes of bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "an architecture has some of them")]
pub(crate) enum ByteProducts {
    /// All of them.
    All,
    /// Those of two short pairs ([`is_short_pair`](crate::is_short_pair)); lanes in twos where their sums are short too.
    Short,
    /// None: 16-bit integers are multiplied.
    None,
}

impl ByteProducts {
    /// Whether four weights are multiplied at once.
    pub(crate) fn take_one(self, [a, b, c, d]: [i8; 4]) -> bool {
        match self {
            Self::All => true,
            Self::Short => are_short(&[a, b]) && are_short(&[c, d]),
            Self::None => false,
        }
    }

    /// Whether the products of four weights and of four others are added in 16 bits.
    pub(crate) fn take_two(self, [[a, b, c, d], [e, f, g, h]]: [[i8; 4]; 2]) -> bool {
        self == Self::Short && are_short(&[a, b, e, f]) && are_short(&[c, d, g, h])
    }
}

/// Operations on lanes of two 16-bit integers and on 32-bit integers: what a transform around products of such needs. All wrap
/// around.
#[cfg(target_arch = "x86_64")]
pub(crate) trait WordSimd: ByteSimd {
    /// Bytes 0 and 2 of each lane, or 1 and 3 of `part` 1.
    fn words(self, lanes: Self::V, part: usize) -> Self::V;
    /// Adds the products of two weights and the integers of each lane.
    fn dot_two(self, weights: Self::Weights, words: Self::V, sum: Self::V) -> Self::V;
    /// a + b, in 16 bits
    fn add_words(self, a: Self::V, b: Self::V) -> Self::V;
    /// a - b, in 16 bits
    fn sub_words(self, a: Self::V, b: Self::V) -> Self::V;
    /// 4 a, in 16 bits
    fn quadruple_words(self, a: Self::V) -> Self::V;
    /// a + b, in 32 bits
    fn add_integers(self, a: Self::V, b: Self::V) -> Self::V;
    /// a - b, in 32 bits
    fn sub_integers(self, a: Self::V, b: Self::V) -> Self::V;
    /// 4 a, in 32 bits
    fn quadruple_integers(self, a: Self::V) -> Self::V;
    /// a / 24, of multiples of 24 in 32 bits
    fn divide_by_24(self, a: Self::V) -> Self::V;
}
