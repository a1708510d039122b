//! The convolution by direct sums: it walks a run of pixels with pixels in the vector lanes and keeps
//! a tile of sums in registers.

use crate::Precision;
use crate::dispatch::Kernel;
use crate::epilogue::TileOutput;
use crate::precision::{F32, Format};
use crate::rows::Rows;
use crate::simd::Simd;
use crate::tile::{TILE_VECTORS, TileWeights, group_px, tile_channels, tiles, with_tile_size};

/// The taps of a kernel of `size` x `size` on rows that lie `row_len` floats apart: offsets from the
/// first.
pub(crate) fn square_taps(size: usize, row_len: usize) -> Vec<usize> {
    (0..size * size)
        .map(|tap| tap / size * row_len + tap % size)
        .collect()
}

/// The convolution of a run of pixels, in f32 on vectors.
pub(crate) struct DirectRun<'a> {
    weights: &'a [f32],
    bias: &'a [f32],
    input: Rows<1>,
    taps: &'a [usize],
    output: TileOutput,
    len_px: usize,
}

impl<'a> DirectRun<'a> {
    /// The convolution with `weights`, which [`Packing::pack`](crate::packing::Packing::pack) has
    /// arranged, and a bias for each output channel. `input` points to the pixels under the first
    /// tap.
    ///
    /// # Safety
    /// `len_px` pixels rounded up to [`MAX_GROUP_PX`](crate::tile::MAX_GROUP_PX) can be read behind
    /// each tap of each plane of `input`, and be written to each channel of `output`; in the maps of
    /// its epilogue as many can be read.
    pub(crate) unsafe fn new(
        weights: &'a [f32],
        bias: &'a [f32],
        (input, taps): (Rows<1>, &'a [usize]),
        output: TileOutput,
        len_px: usize,
    ) -> Self {
        Self {
            weights,
            bias,
            input,
            taps,
            output,
            len_px,
        }
    }
}

impl Kernel for DirectRun<'_> {
    type Output = ();

    fn reference(self, _: Precision) {
        unreachable!("plain loops do not walk runs of pixels")
    }

    #[inline(always)]
    fn vectorized<S: Simd, F: Format<S>>(self, simd: S) {
        if F::PER_LANE > 1 {
            // Callers ask for f32: no code is compiled for another format.
            unreachable!("a direct sum in bf16");
        }
        let terms = self.input.planes * self.taps.len();
        for pixel in (0..self.len_px).step_by(group_px::<S>()) {
            for (first, count) in tiles(self.bias.len(), tile_channels::<S>(terms), 1) {
                let tile = TileWeights::of(self.weights, self.bias, first, terms);
                let at = first * self.output.plane_len + pixel;
                with_tile_size!(S, count, N => {
                    // SAFETY: the tile lies below the output's channels, and its pixels below
                    // `len_px` rounded up to a group: the promises given to `new`.
                    unsafe {
                        let sums = tile.start::<S, N, TILE_VECTORS>(simd);
                        let sums = self.input.accumulate::<S, F32, N, TILE_VECTORS>(
                            simd, pixel, self.taps, tile.weights, sums,
                        );
                        self.output.store(simd, sums, at);
                    }
                });
            }
        }
    }
}
