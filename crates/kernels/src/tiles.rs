//! Products of tiles of bf16 and of bytes (Intel AMX).
//!
//! A tile has [`ROWS`] rows of [`ROW`] lanes of 32 bits: a float, or two bf16, the first in the lower half. A row of a tile of
//! pixels in bf16 is 32 channels of a pixel, so the pixels of a row of an image are a tile as they lie in memory. A tile of
//! weights has rows of 16 output channels with two input channels each.

use crate::isa::Level;
use crate::{Isa, Precision};

/// Rows of a tile.
pub(crate) const ROWS: usize = 16;

/// Lanes of a tile's row.
pub(crate) const ROW: usize = 16;

/// Lanes of a tile.
pub(crate) const TILE: usize = ROWS * ROW;

/// Floats of a tile in memory whose rows lie `stride` floats apart.
pub(crate) fn tile_len(stride: usize) -> usize {
    (ROWS - 1)
        .checked_mul(stride)
        .and_then(|len| len.checked_add(ROW))
        .unwrap_or_else(|| panic!("tile of rows {stride} floats apart is too large"))
}

/// Eight tile registers, numbered from 0.
pub(crate) trait Tiles {
    /// Makes a tile zero.
    fn zero<const T: usize>(&mut self);
    /// Loads a tile whose rows lie `stride` floats apart.
    ///
    /// # Panics
    /// If the slice is shorter than [`tile_len`].
    fn load<const T: usize>(&mut self, from: &[f32], stride: usize);
    /// Stores a tile whose rows lie `stride` floats apart.
    ///
    /// # Panics
    /// If the slice is shorter than [`tile_len`].
    fn store<const T: usize>(&mut self, to: &mut [f32], stride: usize);
    /// Adds to each float of tile C the sum over k of the products of lane k of its row of A and of its lane of row k of B.
    fn add_product<const C: usize, const A: usize, const B: usize>(&mut self);
    /// Adds to each 32-bit integer of tile C the sum over k of the products of the four signed bytes in lane k of its row of A
    /// and the four unsigned ones in its lane of row k of B.
    fn add_byte_product<const C: usize, const A: usize, const B: usize>(&mut self);
    /// 32 channels of each pixel, plus `bias`, as lanes of two bf16, rounded to nearest; denormal numbers become 0. With `RELU`,
    /// negative numbers become 0 too.
    fn round<const RELU: bool>(
        &self,
        values: &[[f32; 2 * ROW]],
        bias: &[f32; 2 * ROW],
        to: &mut [[f32; ROW]],
    );
}

/// What a product of tiles multiplies.
pub(crate) trait Product {
    /// Adds the product of tiles A and B to tile C.
    fn add<T: Tiles, const C: usize, const A: usize, const B: usize>(tiles: &mut T);
}

/// [`Tiles::add_product`]
pub(crate) struct OfBf16;

impl Product for OfBf16 {
    #[inline(always)]
    fn add<T: Tiles, const C: usize, const A: usize, const B: usize>(tiles: &mut T) {
        tiles.add_product::<C, A, B>();
    }
}

/// [`Tiles::add_byte_product`]
pub(crate) struct OfBytes;

impl Product for OfBytes {
    #[inline(always)]
    fn add<T: Tiles, const C: usize, const A: usize, const B: usize>(tiles: &mut T) {
        tiles.add_byte_product::<C, A, B>();
    }
}

/// A computation on tiles.
pub(crate) trait TileKernel {
    /// What it returns.
    type Output;

    /// Computes. Implementations are `#[inline(always)]`, as is what they call with the tiles: so all of it is compiled for the
    /// processor's vectors.
    fn run<T: Tiles>(self, tiles: &mut T) -> Self::Output;
}

/// Runs a kernel on the tiles of an instruction set.
///
/// # Panics
/// If it has none.
pub(crate) fn run_on_tiles<K: TileKernel>(isa: Isa, kernel: K) -> K::Output {
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        Level::Amx(amx) => amx.run(kernel),
        // Only tests ask for it: the page's module goes without.
        Level::EmulatedAmx if cfg!(any(debug_assertions, not(target_family = "wasm"))) => {
            EmulatedTiles::run(kernel)
        }
        _ => panic!("tiles of {isa}, which has none"),
    }
}

/// Does nothing but `rounds` products of tiles of bf16 or bytes. Returns the number of operations, 2 for each multiply-add.
pub(crate) fn product_burst(isa: Isa, precision: Precision, rounds: usize) -> u64 {
    struct Burst {
        of_bytes: bool,
        rounds: usize,
    }

    impl TileKernel for Burst {
        type Output = u64;

        #[inline(always)]
        fn run<T: Tiles>(self, tiles: &mut T) -> u64 {
            let ones = [1.0; TILE];
            tiles.zero::<0>();
            tiles.zero::<1>();
            tiles.zero::<2>();
            tiles.zero::<3>();
            tiles.load::<4>(&ones, ROW);
            tiles.load::<5>(&ones, ROW);
            tiles.load::<6>(&ones, ROW);
            tiles.load::<7>(&ones, ROW);
            let rounds = self.rounds.div_ceil(4);
            for _ in 0..rounds {
                if self.of_bytes {
                    tiles.add_byte_product::<0, 4, 6>();
                    tiles.add_byte_product::<1, 4, 7>();
                    tiles.add_byte_product::<2, 5, 6>();
                    tiles.add_byte_product::<3, 5, 7>();
                } else {
                    tiles.add_product::<0, 4, 6>();
                    tiles.add_product::<1, 4, 7>();
                    tiles.add_product::<2, 5, 6>();
                    tiles.add_product::<3, 5, 7>();
                }
            }
            let numbers_of_lane = if self.of_bytes { 4 } else { 2 };
            (4 * rounds * 2 * ROWS * ROW * numbers_of_lane * ROW) as u64
        }
    }
    let of_bytes = precision == Precision::Int8;
    run_on_tiles(isa, Burst { of_bytes, rounds })
}

/// Tile registers in plain Rust: the definition of the operations, for tests. Every bit is that of AMX.
///
/// # Source
/// Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2: TDPBF16PS, TDPBSUD, VCVTNE2PS2BF16.
pub(crate) struct EmulatedTiles {
    tiles: [[[f32; ROW]; ROWS]; 8],
}

impl EmulatedTiles {
    /// Runs a kernel.
    pub(crate) fn run<K: TileKernel>(kernel: K) -> K::Output {
        // Numbers that no kernel may depend on.
        kernel.run(&mut Self {
            tiles: [[[f32::NAN; ROW]; ROWS]; 8],
        })
    }
}

/// 0 of the same sign if the number is denormal.
fn flushed(value: f32) -> f32 {
    match value.abs() < f32::MIN_POSITIVE {
        true => 0.0_f32.copysign(value),
        false => value,
    }
}

/// The first and the second bf16 of the lanes of each row. Plain loops, which become vectors.
fn halves(tile: &[[f32; ROW]; ROWS]) -> [[[f32; ROW]; 2]; ROWS] {
    let mut halves = [[[0.0; ROW]; 2]; ROWS];
    for (row, [first, second]) in tile.iter().zip(&mut halves) {
        for lane in 0..ROW {
            let bits = row[lane].to_bits();
            first[lane] = flushed(f32::from_bits(bits << 16));
            second[lane] = flushed(f32::from_bits(bits & 0xFFFF_0000));
        }
    }
    halves
}

/// The sums over the first numbers of the lanes of a row, and over the second ones.
#[inline]
fn sums_of_products(
    row: &[[f32; ROW]; 2],
    columns: &[[[f32; ROW]; 2]; ROWS],
    multiply_add: impl Fn(f32, f32, f32) -> f32,
) -> [[f32; ROW]; 2] {
    let mut sums = [[0.0; ROW]; 2];
    for (half, sums) in sums.iter_mut().enumerate() {
        for (number, columns) in row[half].iter().zip(columns) {
            for (sum, column) in sums.iter_mut().zip(&columns[half]) {
                *sum = flushed(multiply_add(*number, *column, *sum));
            }
        }
    }
    sums
}

/// Whether products of such numbers are neither denormal nor too large, so that those of two bf16 are exact.
fn are_moderate(values: &[f32]) -> bool {
    const LARGE: f32 = (1_u64 << 60) as f32;
    let mut are_moderate = true;
    for value in values {
        are_moderate &= (*value == 0.0) | ((value.abs() >= 1.0 / LARGE) & (value.abs() < LARGE));
    }
    are_moderate
}

impl Tiles for EmulatedTiles {
    fn zero<const T: usize>(&mut self) {
        self.tiles[T] = [[0.0; ROW]; ROWS];
    }

    fn load<const T: usize>(&mut self, from: &[f32], stride: usize) {
        let from = &from[..tile_len(stride)];
        for (row, to) in self.tiles[T].iter_mut().enumerate() {
            to.copy_from_slice(&from[row * stride..][..ROW]);
        }
    }

    fn store<const T: usize>(&mut self, to: &mut [f32], stride: usize) {
        let to = &mut to[..tile_len(stride)];
        for (row, from) in self.tiles[T].iter().enumerate() {
            to[row * stride..][..ROW].copy_from_slice(from);
        }
    }

    fn add_product<const C: usize, const A: usize, const B: usize>(&mut self) {
        let (a, b) = (halves(&self.tiles[A]), halves(&self.tiles[B]));
        let is_exact = [&a, &b].map(|tile| are_moderate(tile.as_flattened().as_flattened()));
        let is_exact = is_exact == [true; 2];
        for (sums, pixel) in self.tiles[C].iter_mut().zip(&a) {
            // Each with one rounding. A call for each of the latter keeps a loop from vectors, so there are two.
            let [first, second] = match is_exact {
                true => sums_of_products(pixel, &b, |pixel, weight, sum| pixel * weight + sum),
                false => sums_of_products(pixel, &b, f32::mul_add),
            };
            for c in 0..ROW {
                sums[c] = flushed(flushed(sums[c]) + flushed(first[c] + second[c]));
            }
        }
    }

    fn add_byte_product<const C: usize, const A: usize, const B: usize>(&mut self) {
        let bytes = |lane: f32| lane.to_bits().to_le_bytes();
        let (a, b) = (self.tiles[A], self.tiles[B]);
        for (sums, weights) in self.tiles[C].iter_mut().zip(&a) {
            for (column, sum) in sums.iter_mut().enumerate() {
                let mut total = sum.to_bits() as i32;
                for (weights, pixels) in weights.iter().zip(&b) {
                    for (weight, pixel) in bytes(*weights).into_iter().zip(bytes(pixels[column])) {
                        total = total.wrapping_add(i32::from(weight as i8) * i32::from(pixel));
                    }
                }
                *sum = f32::from_bits(total as u32);
            }
        }
    }

    fn round<const RELU: bool>(
        &self,
        values: &[[f32; 2 * ROW]],
        bias: &[f32; 2 * ROW],
        to: &mut [[f32; ROW]],
    ) {
        for (to, values) in to.iter_mut().zip(values) {
            *to = std::array::from_fn(|lane| {
                Precision::Bf16.lane(|c| {
                    let at = 2 * lane + c;
                    match flushed(values[at] + bias[at]) {
                        value if RELU && value.is_sign_negative() => 0.0,
                        value => value,
                    }
                })
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tile of the given lanes of two bf16.
    fn tile(lane: impl Fn(usize, usize) -> [f32; 2]) -> Vec<f32> {
        let lanes = (0..ROWS * ROW).map(|at| {
            let numbers = lane(at / ROW, at % ROW);
            Precision::Bf16.lane(|c| numbers[c])
        });
        lanes.collect()
    }

    /// The product of two tiles, added to 1.
    struct Product<'a>(&'a [f32], &'a [f32]);

    impl TileKernel for Product<'_> {
        type Output = Vec<f32>;

        fn run<T: Tiles>(self, tiles: &mut T) -> Vec<f32> {
            let mut sums = vec![1.0; ROWS * ROW];
            tiles.load::<2>(&sums, ROW);
            tiles.load::<0>(self.0, ROW);
            tiles.load::<1>(self.1, ROW);
            tiles.add_product::<2, 0, 1>();
            tiles.store::<2>(&mut sums, ROW);
            sums
        }
    }

    #[test]
    fn product_sums_over_both_halves_of_all_lanes() {
        let a = |row: usize, k: usize| [row as f32 - 7.0, k as f32];
        let b = |k: usize, column: usize| [k as f32, column as f32 - 3.0];
        let found = EmulatedTiles::run(Product(&tile(a), &tile(b)));
        for row in 0..ROWS {
            for column in 0..ROW {
                let terms = (0..ROW).map(|k| {
                    let (a, b) = (a(row, k), b(k, column));
                    a[0] * b[0] + a[1] * b[1]
                });
                let expected = 1.0 + terms.sum::<f32>();
                assert_eq!(found[row * ROW + column], expected, "({row}, {column})");
            }
        }
    }

    struct ByteProduct<'a>(&'a [f32], &'a [f32]);

    impl TileKernel for ByteProduct<'_> {
        type Output = Vec<i32>;

        fn run<T: Tiles>(self, tiles: &mut T) -> Vec<i32> {
            let mut sums = vec![f32::from_bits((-5_i32) as u32); TILE];
            tiles.load::<2>(&sums, ROW);
            tiles.load::<0>(self.0, ROW);
            tiles.load::<1>(self.1, ROW);
            tiles.add_byte_product::<2, 0, 1>();
            tiles.store::<2>(&mut sums, ROW);
            sums.iter().map(|sum| sum.to_bits() as i32).collect()
        }
    }

    #[test]
    fn products_of_bytes_sum_signed_by_unsigned_over_all_lanes() {
        let a = |row: usize, k: usize, c: usize| ((row * 31 + k * 7 + c * 101) % 256) as u8;
        let b = |k: usize, column: usize, c: usize| ((k * 13 + column * 17 + c * 89) % 256) as u8;
        let tile = |byte: &dyn Fn(usize, usize, usize) -> u8| -> Vec<f32> {
            let lane = |at: usize| [0, 1, 2, 3].map(|c| byte(at / ROW, at % ROW, c));
            let lanes = (0..TILE).map(|at| f32::from_bits(u32::from_le_bytes(lane(at))));
            lanes.collect()
        };
        let [weights, pixels] = [tile(&a), tile(&b)];
        let check = |found: Vec<i32>, on: &str| {
            for (at, found) in found.into_iter().enumerate() {
                let (row, column) = (at / ROW, at % ROW);
                let products = (0..ROWS).flat_map(|k| (0..4).map(move |c| (k, c)));
                let sum: i32 = products
                    .map(|(k, c)| i32::from(a(row, k, c) as i8) * i32::from(b(k, column, c)))
                    .sum();
                assert_eq!(found, sum - 5, "({row}, {column}) on {on}");
            }
        };
        let isas = Isa::available().into_iter().filter(|isa| isa.has_tiles());
        for isa in isas.chain([Isa::emulated_amx()]) {
            let found = run_on_tiles(isa, ByteProduct(&weights, &pixels));
            check(found, isa.name());
        }
    }

    #[test]
    fn denormal_numbers_are_zero() {
        let tiny = f32::MIN_POSITIVE;
        let one = tile(|_, _| [1.0, 0.0]);
        // Denormal factors.
        let found = EmulatedTiles::run(Product(&tile(|_, _| [tiny / 2.0, 0.0]), &one));
        assert_eq!(found, [1.0; ROWS * ROW]);
        // A denormal product in a sum of nothing else.
        let small = tile(|_, k| [if k == 0 { 2.0_f32.powi(-70) } else { 0.0 }, 0.0]);
        let found = EmulatedTiles::run(Product(&small, &small));
        assert_eq!(found, [1.0; ROWS * ROW]);
        let mut values = [tiny / 2.0; 2 * ROW];
        values[3] = 1.0 + 1.5 / 128.0;
        let expected: [f32; ROW] = std::array::from_fn(|lane| match lane {
            1 => Precision::Bf16.lane(|c| [0.0, 1.0 + 2.0 / 128.0][c]),
            _ => 0.0,
        });
        assert_eq!(EmulatedTiles::run(Round(&values)), expected);
    }

    struct Round<'a>(&'a [f32; 2 * ROW]);

    impl TileKernel for Round<'_> {
        type Output = [f32; ROW];

        fn run<T: Tiles>(self, tiles: &mut T) -> [f32; ROW] {
            let mut rounded = [[1.0; ROW]];
            tiles.round::<false>(&[*self.0], &[0.0; 2 * ROW], &mut rounded);
            rounded[0]
        }
    }
}
