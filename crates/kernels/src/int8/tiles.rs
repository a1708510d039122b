//! Sums of bytes by products of tiles (`tiles.rs`, Intel AMX).
//!
//! A lane of a strip holds four channels of a pixel, so planes of lanes are the rows of a tile of pixels as they lie in memory.
//! A tile of weights has 16 output channels. A product then has pixels in its lanes as all kernels of bytes do, and what
//! follows the sums is theirs.
//!
//! The planes of the rows that a kernel covers follow each other, so a product of 16 planes sums over channels and rows; what
//! remains is a loop over the kernel's columns. The last product of a column begins at planes that the one before has
//! summed, where its weights are 0.

use super::layer::{Bytes, PackedLayer};
use super::{BYTES_PER_LANE, ByteKernel, dispatch};
use crate::Isa;
use crate::aligned::AlignedBuffer;
use crate::epilogue::TileOutput;
use crate::simd::ByteSimd;
use crate::tile::{MAX_GROUP_PX, group_px, with_tile_size, with_tile_vectors};
use crate::tiles::{ROW, ROWS, TILE, TileKernel, Tiles, run_on_tiles, tile_len};

/// Output channels that are summed at a time, those of two tiles.
const BLOCK: usize = 2 * ROWS;

/// Pixels that are summed at a time, those of two tiles.
const GROUP_PX: usize = 2 * ROW;

/// Pixels whose sums are kept.
pub(super) const SEGMENT_PX: usize = 64;

/// Sums of a segment.
pub(super) const SUMS: [usize; 2] = [BLOCK, SEGMENT_PX];

/// Planes of an input that may be shorter than a tile of pixels: its rest is read and multiplied by 0.
pub(super) const fn padded_planes(planes: usize) -> usize {
    if planes < ROWS { ROWS } else { planes }
}

// Groups are read beyond the end of a row.
const _: () = assert!(GROUP_PX <= MAX_GROUP_PX && SEGMENT_PX.is_multiple_of(GROUP_PX));

/// The weights of a layer as tiles.
#[derive(Clone)]
pub(super) struct LayerTiles {
    isa: Isa,
    /// `[block][column of the kernel][product][2][16 out][16 planes]`
    weights: AlignedBuffer,
    /// What the sums start at: `[block][2][16 out][16 pixels]`
    start: AlignedBuffer,
    /// The first plane of each product of a column.
    firsts: Vec<usize>,
    columns: usize,
}

impl LayerTiles {
    /// `None` if the instruction set has no tiles, or the planes that a kernel covers are fewer than a tile's and
    /// those of the input are not [padded](padded_planes).
    pub(super) fn of(isa: Isa, layer: &PackedLayer, is_padded: bool) -> Option<Self> {
        let (lanes, columns) = (layer.in_lanes(), layer.kernel);
        let planes = lanes * layer.kernel;
        if !isa.has_tiles() || layer.isa == Isa::REFERENCE || (planes < ROWS && !is_padded) {
            return None;
        }
        let last = planes.saturating_sub(ROWS);
        let firsts: Vec<usize> = (0..planes.div_ceil(ROWS))
            .map(|product| last.min(product * ROWS))
            .collect();
        let blocks = layer.out_channels.div_ceil(BLOCK);
        let mut weights = AlignedBuffer::zeros(blocks * columns * firsts.len() * 2 * TILE);
        let mut start = AlignedBuffer::zeros(blocks * 2 * TILE);
        let taps = layer.kernel * layer.kernel;
        for (o, of_channel) in (layer.weight.chunks_exact(layer.in_channels * taps)).enumerate() {
            let sum: i32 = of_channel.iter().map(|w| i32::from(*w)).sum();
            let bits = f32::from_bits((-sum * layer.input_zero) as u32);
            start.as_mut_slice()[o * ROW..][..ROW].fill(bits);
            for column in 0..columns {
                let mut summed = 0;
                for (product, first) in firsts.iter().enumerate() {
                    let (block, row) = (o / BLOCK, o % BLOCK);
                    let tile = (block * columns + column) * firsts.len() + product;
                    let to = &mut weights.as_mut_slice()[tile * 2 * TILE + row * ROW..][..ROW];
                    for plane in summed..planes.min(first + ROWS) {
                        let (kernel_row, lane) = (plane / lanes, plane % lanes);
                        let weight = |c: usize| match lane * BYTES_PER_LANE + c {
                            i if i < layer.in_channels => {
                                of_channel[i * taps + kernel_row * layer.kernel + column] as u8
                            }
                            _ => 0,
                        };
                        to[plane - first] =
                            f32::from_bits(u32::from_le_bytes([0, 1, 2, 3].map(weight)));
                    }
                    summed = first + ROWS;
                }
            }
        }
        Some(Self {
            isa,
            weights,
            start,
            firsts,
            columns,
        })
    }

    /// Runs a kernel on the tiles that the weights are for.
    pub(super) fn run_kernel<K: TileKernel>(&self, kernel: K) -> K::Output {
        run_on_tiles(self.isa, kernel)
    }

    /// [`PackedLayer::run`] of lanes of bytes, whose planes are at least those of a tile.
    ///
    /// # Safety
    /// As there, of `len` pixels rounded up to [`MAX_GROUP_PX`]. The planes of the kernel's rows follow each other.
    #[inline(always)]
    pub(super) unsafe fn run<T: Tiles>(
        &self,
        tiles: &mut T,
        layer: &PackedLayer,
        (input, plane_len): (*const f32, usize),
        output: TileOutput,
        len: usize,
        sums: &mut [f32],
    ) {
        let last = self.firsts.last().copied().unwrap_or(0);
        let read = last * plane_len + self.columns - 1 + ROW + tile_len(plane_len);
        let weights_len = self.columns * self.firsts.len() * 2 * TILE;
        let weights = self.weights.as_slice().chunks_exact(weights_len);
        let starts = self.start.as_slice().chunks_exact(2 * TILE);
        for (block, (weights, start)) in weights.zip(starts).enumerate() {
            let count = BLOCK.min(layer.out_channels - block * BLOCK);
            for pixel in (0..len).step_by(GROUP_PX) {
                // SAFETY: the planes from the first of the kernel's rows to the last, and a group of pixels in it: the
                // caller's promise.
                let from = unsafe { std::slice::from_raw_parts(input.add(pixel), read) };
                let products = (0..self.columns)
                    .flat_map(|column| self.firsts.iter().map(move |first| (column, *first)))
                    .map(|(column, first)| &from[first * plane_len + column..])
                    .zip(weights.chunks_exact(2 * TILE));
                let sums = &mut sums[pixel..];
                tiles.load::<0>(start, ROW);
                tiles.load::<1>(start, ROW);
                let has_second = count > ROWS;
                if has_second {
                    tiles.load::<2>(&start[TILE..], ROW);
                    tiles.load::<3>(&start[TILE..], ROW);
                }
                for (from, weights) in products {
                    tiles.load::<4>(weights, ROW);
                    tiles.load::<6>(from, plane_len);
                    tiles.add_byte_product::<0, 4, 6>();
                    tiles.load::<7>(&from[ROW..], plane_len);
                    tiles.add_byte_product::<1, 4, 7>();
                    if has_second {
                        tiles.load::<5>(&weights[TILE..], ROW);
                        tiles.add_byte_product::<2, 5, 6>();
                        tiles.add_byte_product::<3, 5, 7>();
                    }
                }
                if has_second {
                    let second = &mut sums[ROWS * SEGMENT_PX..];
                    tiles.store::<2>(second, SEGMENT_PX);
                    tiles.store::<3>(&mut second[ROW..], SEGMENT_PX);
                }
                tiles.store::<0>(sums, SEGMENT_PX);
                tiles.store::<1>(&mut sums[ROW..], SEGMENT_PX);
            }
            let stored = StoreRun {
                layer,
                sums,
                output,
                first: block * BLOCK,
                count,
                len,
            };
            dispatch(layer.isa, stored);
        }
    }
}

/// What becomes of the sums of a block of channels and `len` pixels, which the output and its maps hold, rounded up to a
/// group. The output has the layer's format.
struct StoreRun<'a> {
    layer: &'a PackedLayer,
    /// `[channel][SEGMENT_PX]`
    sums: &'a [f32],
    output: TileOutput,
    first: usize,
    count: usize,
    len: usize,
}

impl ByteKernel for StoreRun<'_> {
    type Output = ();

    #[inline(always)]
    fn vectorized<S: ByteSimd>(self, simd: S) {
        let Self {
            layer,
            sums,
            output,
            first,
            count,
            len,
        } = self;
        assert_eq!(sums.len(), BLOCK * SEGMENT_PX, "sums of a segment");
        for (at, count) in layer.tiles_of(count) {
            with_tile_size!(S, count, N => {
                for pixel in (0..len).step_by(group_px::<S>()) {
                    with_tile_vectors!(S, len - pixel, V => {
                        // SAFETY: the tile lies in the block, its pixels in the segment and, like its channels, in the
                        // output and its maps: see the type.
                        unsafe {
                            let mut tile = [[simd.splat(0.0); V]; N];
                            for o in 0..N {
                                for v in 0..V {
                                    let from = (at + o) * SEGMENT_PX + pixel + v * S::LANES;
                                    tile[o][v] = simd.load(sums.as_ptr().add(from));
                                }
                            }
                            layer.store::<S, Bytes, N, V>(simd, tile, output, first + at, pixel);
                        }
                    });
                }
            });
        }
    }
}
