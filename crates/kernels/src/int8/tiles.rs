//! Sums of bytes by products of tiles (`tile_sums.rs`, Intel AMX).
//!
//! A lane of a strip holds four channels of a pixel. A product has pixels in its lanes as all kernels of bytes do, and what
//! follows the sums is theirs.
//!
//! The planes of the rows that a kernel covers follow each other, so a product of 16 planes sums over channels and rows; what
//! remains is a loop over the kernel's columns. The last product of a column begins at planes that the one before has
//! summed, where its weights are 0.

use super::layer::{Bytes, PackedLayer};
use super::{BYTES_PER_LANE, ByteKernel, dispatch};
use crate::Isa;
use crate::epilogue::TileOutput;
use crate::simd::ByteSimd;
use crate::tile::{group_px, with_tile_size, with_tile_vectors};
use crate::tile_sums::{BLOCK, GROUP_PX, TileSums};
use crate::tiles::{OfBytes, ROW, ROWS, TileKernel, Tiles, run_on_tiles, tile_len};

/// Pixels whose sums are kept.
pub(super) const SEGMENT_PX: usize = 64;

/// Sums of a segment.
pub(super) const SUMS: [usize; 2] = [BLOCK, SEGMENT_PX];

/// Planes of an input that may be shorter than a tile of pixels: its rest is read and multiplied by 0.
pub(super) const fn padded_planes(planes: usize) -> usize {
    if planes < ROWS { ROWS } else { planes }
}

const _: () = assert!(SEGMENT_PX.is_multiple_of(GROUP_PX));

/// The weights of a layer as tiles.
#[derive(Clone)]
pub(super) struct LayerTiles {
    /// Its products are those of the first column of the kernel, then those of the next.
    sums: TileSums,
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
        let taps = layer.kernel * layer.kernel;
        let weights_of =
            |o: usize| &layer.weight[o * layer.in_channels * taps..][..layer.in_channels * taps];
        let lane = |o: usize, product: usize, plane: usize| {
            let (column, product) = (product / firsts.len(), product % firsts.len());
            let plane = firsts[product] + plane;
            if plane < product * ROWS || plane >= planes {
                return 0.0;
            }
            let (row, lane) = (plane / lanes, plane % lanes);
            let weight = |c: usize| match lane * BYTES_PER_LANE + c {
                i if i < layer.in_channels => {
                    weights_of(o)[i * taps + row * layer.kernel + column] as u8
                }
                _ => 0,
            };
            f32::from_bits(u32::from_le_bytes([0, 1, 2, 3].map(weight)))
        };
        let start = |o: usize| {
            let sum: i32 = weights_of(o).iter().map(|w| i32::from(*w)).sum();
            f32::from_bits((-sum * layer.input_zero) as u32)
        };
        let products = columns * firsts.len();
        Some(Self {
            sums: TileSums::new(isa, layer.out_channels, products, lane, start),
            firsts,
            columns,
        })
    }

    /// Runs a kernel on the tiles that the weights are for.
    pub(super) fn run_kernel<K: TileKernel>(&self, kernel: K) -> K::Output {
        run_on_tiles(self.sums.isa, kernel)
    }

    /// [`PackedLayer::run`] of lanes of bytes, whose planes are at least those of a tile.
    ///
    /// # Safety
    /// As there, of `len` pixels rounded up to [`MAX_GROUP_PX`](crate::tile::MAX_GROUP_PX). The planes of the kernel's rows
    /// follow each other.
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
        let last_tile = last * plane_len + self.columns - 1 + tile_len(plane_len);
        let read = last_tile + len.next_multiple_of(GROUP_PX) - ROW;
        // SAFETY: the planes from the first of the kernel's rows to the last, and all groups of pixels in it: the caller's
        // promise.
        let input = unsafe { std::slice::from_raw_parts(input, read) };
        let offsets = (0..self.columns).flat_map(|column| {
            self.firsts
                .iter()
                .map(move |first| first * plane_len + column)
        });
        for (first, count) in self.sums.blocks() {
            let input = (input, plane_len);
            (self.sums).run::<T, OfBytes>(tiles, first, input, offsets.clone(), len, sums);
            let stored = StoreRun {
                layer,
                sums,
                output,
                first,
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
