//! Convolutions of [`Planes`] and their gradients in bf16, by products of tiles (`tiles.rs`, Intel AMX).
//!
//! Planes are copied as lanes first. Sums over channels multiply lanes of two channels of a pixel, as they lie
//! (`tile_sums.rs`). Sums over pixels, the gradients by weights, multiply lanes of two neighbouring pixels: rows of them by their
//! transpose.

mod conv;
mod pair;

use crate::aligned::LINE;
use crate::dispatch::{Kernel, dispatch};
use crate::epilogue::TileOutput;
use crate::outer_product::add_sums;
use crate::planes::OVERSHOOT;
use crate::precision::Format;
use crate::rows::{Rows, pack_pixels};
use crate::simd::Simd;
use crate::tile::{MAX_GROUP_PX, TILE_VECTORS, group_px};
use crate::tile_sums::{BLOCK, GROUP_PX, TileSums};
use crate::tiles::{OfBf16, ROW, ROWS, Tiles};
use crate::{Epilogue, Isa, Planes, Precision};

pub(crate) use conv::{TileConv, add_weight_gradient};
pub(crate) use pair::TilePair;

/// Channels of a lane.
const PER_LANE: usize = 2;

/// Channels that a product sums over.
const PRODUCT_CHANNELS: usize = PER_LANE * ROWS;

// What is read and written behind a run of pixels.
const _: () = assert!(GROUP_PX <= MAX_GROUP_PX && MAX_GROUP_PX <= OVERSHOOT);

/// Whether convolutions of planes run on tiles.
pub(crate) fn are_used(isa: Isa, precision: Precision) -> bool {
    // Vectors copy the planes.
    isa.has_tiles() && precision == Precision::Bf16 && isa.without_tiles() != Isa::REFERENCE
}

/// The sums of a convolution that has read lanes of `PER_LANE` channels: by taps, and then by blocks of channels.
fn sums_of_conv(
    isa: Isa,
    [in_channels, out_channels, taps]: [usize; 3],
    weight: impl Fn(usize, usize, usize) -> f32,
    bias: impl Fn(usize) -> f32,
) -> TileSums {
    let blocks = in_channels.div_ceil(PRODUCT_CHANNELS);
    let lane = |o: usize, product: usize, plane: usize| {
        let (tap, block) = (product / blocks, product % blocks);
        let first = block * PRODUCT_CHANNELS + plane * PER_LANE;
        Precision::Bf16.lane(|c| match first + c {
            i if i < in_channels => weight(o, i, tap),
            _ => 0.0,
        })
    };
    TileSums::new(isa, out_channels, taps * blocks, lane, bias)
}

/// Where the products of [`sums_of_conv`] begin in planes of lanes, given the offsets of the taps.
fn offsets(taps: &[usize], planes: usize, plane_len: usize) -> impl Iterator<Item = usize> + Clone {
    let blocks = (0..planes).step_by(ROWS);
    (taps.iter()).flat_map(move |tap| blocks.clone().map(move |plane| plane * plane_len + tap))
}

/// Planes of lanes of so many channels: those of whole products.
fn lane_planes(channels: usize) -> usize {
    channels.div_ceil(PRODUCT_CHANNELS) * ROWS
}

/// Pixels of a run, in whole groups.
fn whole_groups(len_px: usize) -> usize {
    len_px.next_multiple_of(GROUP_PX)
}

/// A length of planes from `len` floats on: an odd number of cache lines, as in [`Geometry`](crate::Geometry).
fn odd_lines(len: usize) -> usize {
    (len.div_ceil(LINE) | 1) * LINE
}

/// The pixels of planes from `before` pixels before their run on.
fn run_of(planes: &Planes, before: usize) -> Rows<1> {
    let g = planes.geometry();
    Rows {
        rows: [planes.as_slice()[g.origin - before..].as_ptr()],
        plane_len: g.plane_len,
        planes: planes.channels(),
    }
}

/// The run of planes, with an epilogue.
fn target(planes: &mut Planes, epilogue: Epilogue<'_, Planes>) -> TileOutput {
    let g = planes.geometry();
    TileOutput {
        to: planes.as_mut_slice()[g.origin..].as_mut_ptr(),
        plane_len: g.plane_len,
        epilogue: epilogue.at(|maps| maps.as_slice()[g.origin..].as_ptr()),
    }
}

/// What vectors do beside tiles, in lanes of two bf16.
trait VectorKernel: Sized {
    type Output;

    /// As [`Kernel::vectorized`].
    fn run<S: Simd, F: Format<S>>(self, simd: S) -> Self::Output;

    /// Runs it on the vectors beside the tiles.
    fn on(self, isa: Isa) -> Self::Output {
        dispatch(isa, Precision::Bf16, OnVectors(self))
    }
}

struct OnVectors<K>(K);

impl<K: VectorKernel> Kernel for OnVectors<K> {
    type Output = K::Output;

    fn reference(self, _: Precision) -> K::Output {
        unreachable!("tiles beside plain loops")
    }

    #[inline(always)]
    fn vectorized<S: Simd, F: Format<S>>(self, simd: S) -> K::Output {
        if F::PER_LANE != PER_LANE {
            // No code is compiled for f32.
            unreachable!("lanes of tiles in f32");
        }
        self.0.run::<S, F>(simd)
    }
}

/// Copies `len` pixels as lanes of two channels, whole products of planes. From each plane `len` pixels rounded up to a group can
/// be read.
struct PackChannels<'a> {
    from: Rows<1>,
    len: usize,
    /// `[lane_planes][to_len]`
    to: &'a mut [f32],
    to_len: usize,
}

impl VectorKernel for PackChannels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, F: Format<S>>(self, simd: S) {
        let Self {
            from,
            len,
            to,
            to_len,
        } = self;
        let planes = from.planes.div_ceil(PER_LANE);
        let (written, rest) = to.split_at_mut(planes * to_len);
        assert!(
            len.next_multiple_of(group_px::<S>()) <= to_len,
            "lanes of {len} pixels"
        );
        // SAFETY: see the type; `written` has a plane of `to_len` floats for each lane, which hold whole groups.
        unsafe { from.pack_channels::<S, F>(simd, len, written.as_mut_ptr(), to_len) };
        rest.fill(0.0);
    }
}

/// Stores the sums of a block of channels. The output and its maps hold `len` pixels, rounded up to a group, of `count` channels
/// from `first` on.
struct StoreSums<'a> {
    /// `[BLOCK][pixels]`
    sums: &'a [f32],
    output: TileOutput,
    first: usize,
    count: usize,
    len: usize,
}

impl VectorKernel for StoreSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, F: Format<S>>(self, simd: S) {
        let sums_len = self.sums.len() / BLOCK;
        let rows = self.sums.chunks_exact(sums_len).take(self.count);
        for (o, sums) in rows.enumerate() {
            let to = (self.first + o) * self.output.plane_len;
            for pixel in (0..self.len).step_by(group_px::<S>()) {
                let sums = &sums[pixel..][..group_px::<S>()];
                let mut tile = [[simd.splat(0.0); TILE_VECTORS]];
                for (v, vector) in tile[0].iter_mut().enumerate() {
                    // SAFETY: the slice holds a group.
                    *vector = unsafe { simd.load(sums[v * S::LANES..].as_ptr()) };
                }
                // SAFETY: see the type.
                unsafe { self.output.store(simd, tile, to + pixel) }
            }
        }
    }
}

/// Copies `len` pixels from each plane as lanes of two neighbouring ones, and zeros behind them. `len` pixels rounded up to a group
/// can be read.
struct PackRows<'a> {
    from: Rows<1>,
    len: usize,
    /// `[channels][to_len]`
    to: &'a mut [f32],
    to_len: usize,
}

impl VectorKernel for PackRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, F: Format<S>>(self, simd: S) {
        let Rows {
            rows: [row],
            plane_len,
            planes,
        } = self.from;
        let lanes = self.len.next_multiple_of(group_px::<S>()) / PER_LANE;
        let rows = self.to.chunks_exact_mut(self.to_len).take(planes);
        for (channel, to) in rows.enumerate() {
            let (lanes, rest) = to.split_at_mut(lanes);
            // SAFETY: see the type; the lanes of whole groups can be written.
            unsafe {
                let from = row.add(channel * plane_len);
                pack_pixels::<S, F>(simd, from, self.len, lanes.as_mut_ptr());
            }
            rest.fill(0.0);
        }
    }
}

/// Adds the sums of planes to as many as are given, and transposes their run in whole groups as lanes of two pixels. Returns the
/// columns.
struct TransposeRun<'a> {
    planes: &'a Planes,
    bias: &'a mut [f32],
    /// `[channels][lanes]`
    packed: &'a mut [f32],
    /// `[lanes][columns]`, with a column for each channel, at most rounded up to [`MAX_GROUP_PX`]
    to: &'a mut [f32],
}

impl VectorKernel for TransposeRun<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd, F: Format<S>>(self, simd: S) -> usize {
        let Self {
            planes,
            bias,
            packed,
            to,
        } = self;
        let run = run_of(planes, 0);
        let len = planes.geometry().run_len();
        let lanes = whole_groups(len) / PER_LANE;
        // Whole tiles, which are wider than the groups of short vectors.
        let columns = run.planes.next_multiple_of(ROW.max(group_px::<S>()));
        assert!(packed.len() >= run.planes * lanes, "lanes of pixels");
        assert!(to.len() >= lanes * columns, "columns");
        // SAFETY: `OVERSHOOT` zeros follow the run, more than a group. The arrays hold it.
        unsafe {
            add_sums(simd, run, len, bias);
            let packed = (packed.as_mut_ptr(), lanes);
            let to = (to.as_mut_ptr(), columns);
            run.transpose::<S, F>(simd, whole_groups(len), packed, to);
        }
        columns
    }
}

/// Convolves `len` pixels of planes of lanes ([`TileSums::run`]) into an output that holds them, rounded up to a group, as do
/// its maps.
#[inline(always)]
fn convolve<T: Tiles>(
    tiles: &mut T,
    conv: &TileSums,
    input: (&[f32], usize),
    offsets: impl Iterator<Item = usize> + Clone,
    output: TileOutput,
    len: usize,
    sums: &mut [f32],
) {
    for (first, count) in conv.blocks() {
        conv.run::<T, OfBf16>(tiles, first, input, offsets.clone(), len, sums);
        let stored = StoreSums {
            sums,
            output,
            first,
            count,
            len,
        };
        stored.on(conv.isa);
    }
}

/// Adds the products of rows of lanes and `lanes` transposed ones, a multiple of 16.
///
/// # Shapes
/// - rows: `[count][rows_len]`, where `count` is a multiple of 16
/// - transposed: `[lanes][columns]`, where `columns` is a multiple of 16
/// - sums: `[count][columns]`
#[inline(always)]
fn add_outer_products<T: Tiles>(
    tiles: &mut T,
    (rows, rows_len): (&[f32], usize),
    (transposed, columns): (&[f32], usize),
    lanes: usize,
    sums: &mut [f32],
) {
    let count = sums.len() / columns;
    for row in (0..count).step_by(2 * ROWS) {
        for column in (0..columns).step_by(2 * ROW) {
            let (has_lower, has_right) = (row + ROWS < count, column + ROW < columns);
            let sums = &mut sums[row * columns + column..];
            tiles.load::<0>(sums, columns);
            if has_right {
                tiles.load::<1>(&sums[ROW..], columns);
            }
            if has_lower {
                tiles.load::<2>(&sums[ROWS * columns..], columns);
            }
            if has_lower && has_right {
                tiles.load::<3>(&sums[ROWS * columns + ROW..], columns);
            }
            for lane in (0..lanes).step_by(ROW) {
                let rows = &rows[row * rows_len + lane..];
                let transposed = &transposed[lane * columns + column..];
                tiles.load::<4>(rows, rows_len);
                tiles.load::<6>(transposed, columns);
                tiles.add_product::<0, 4, 6>();
                if has_right {
                    tiles.load::<7>(&transposed[ROW..], columns);
                    tiles.add_product::<1, 4, 7>();
                }
                if has_lower {
                    tiles.load::<5>(&rows[ROWS * rows_len..], rows_len);
                    tiles.add_product::<2, 5, 6>();
                }
                if has_lower && has_right {
                    tiles.add_product::<3, 5, 7>();
                }
            }
            tiles.store::<0>(sums, columns);
            if has_right {
                tiles.store::<1>(&mut sums[ROW..], columns);
            }
            if has_lower {
                tiles.store::<2>(&mut sums[ROWS * columns..], columns);
            }
            if has_lower && has_right {
                tiles.store::<3>(&mut sums[ROWS * columns + ROW..], columns);
            }
        }
    }
}
