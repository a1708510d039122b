//! The pair on vectors: a few pixels through both convolutions at a time.

use super::PairWeights;
use crate::dispatch::Kernel;
use crate::epilogue::{TileEpilogue, TileOutput};
use crate::precision::Format;
use crate::rows::{Rows, store_channels};
use crate::simd::Simd;
use crate::tile::{
    ONE_TAP, TileWeights, group_px, prefetch, tile_channels, tiles, with_tile_size,
    with_tile_vectors,
};
use crate::{Precision, Scratch};

/// Pixels whose wide activation is kept: 192 channels of 32 pixels are 24 KB of the first-level
/// cache's 32 KB or more.
const SEGMENT_PX: usize = 32;

/// Both convolutions of a run of pixels.
pub(super) struct PairRun<'a> {
    pair: &'a PairWeights,
    input: Rows<1>,
    output: *mut f32,
    len_px: usize,
    scratch: &'a mut [f32],
}

impl<'a> PairRun<'a> {
    /// The pair from the given planes to those at `output`, which lie as far apart.
    ///
    /// # Safety
    /// `len_px` pixels rounded up to [`MAX_GROUP_PX`](crate::tile::MAX_GROUP_PX) can be read from
    /// each of the pair's input channels, and be written to each of its output channels.
    pub(super) unsafe fn new(
        pair: &'a PairWeights,
        input: Rows<1>,
        output: *mut f32,
        len_px: usize,
        scratch: &'a mut Scratch,
    ) -> Self {
        // A segment of the input's channels, packed, and behind it one of the wide channels.
        let scratch_len = (pair.in_channels + pair.wide_channels) * SEGMENT_PX;
        Self {
            pair,
            input,
            output,
            len_px,
            scratch: scratch.floats(scratch_len),
        }
    }
}

impl Kernel for PairRun<'_> {
    type Output = ();

    fn reference(self, _: Precision) {
        unreachable!("plain loops do not walk runs of pixels")
    }

    #[inline(always)]
    fn vectorized<S: Simd, F: Format<S>>(self, simd: S) {
        const {
            assert!(
                SEGMENT_PX.is_multiple_of(group_px::<S>()),
                "groups of a segment"
            );
        }
        let Self {
            pair,
            input,
            output,
            len_px,
            scratch,
        } = self;
        let scratch = scratch.as_mut_ptr();
        let plane_len = input.plane_len;
        for segment in (0..len_px).step_by(SEGMENT_PX) {
            let segment_len = SEGMENT_PX.min(len_px - segment);
            let (from, to) = (input.skip(segment), output.wrapping_add(segment));
            let [next] = from.skip(SEGMENT_PX).rows;
            prefetch(simd, next, plane_len, pair.in_channels, SEGMENT_PX);
            let next = to.wrapping_add(SEGMENT_PX).cast_const();
            prefetch(simd, next, plane_len, pair.out_channels, SEGMENT_PX);
            let expand = Pointwise {
                weights: &pair.expand,
                bias: &pair.expand_bias,
            };
            let reduce = Pointwise {
                weights: &pair.reduce,
                bias: &pair.reduce_bias,
            };
            let output = TileOutput {
                to,
                plane_len,
                epilogue: TileEpilogue::Store,
            };
            // SAFETY: the segment lies in the run, so `new` was promised its pixels, rounded up to a
            // group, which is at most `SEGMENT_PX`. The scratch memory holds a segment of the input's
            // channels, packed, and behind it one of the wide channels.
            unsafe {
                let narrow = from.pack_channels::<S, F>(simd, segment_len, scratch, SEGMENT_PX);
                let wide = scratch.add(pair.in_channels * SEGMENT_PX);
                expand.widen::<S, F>(simd, narrow, wide, segment_len);
                let wide = Rows {
                    rows: [wide.cast_const()],
                    plane_len: SEGMENT_PX,
                    planes: pair.wide_channels / F::PER_LANE,
                };
                reduce.run::<S, F>(simd, wide, output, segment_len);
            }
        }
    }
}

/// A 1x1 convolution, as [`Packing::pack`](crate::packing::Packing::pack) arranges its weights.
#[derive(Clone, Copy)]
pub(super) struct Pointwise<'a> {
    pub(super) weights: &'a [f32],
    pub(super) bias: &'a [f32],
}

impl Pointwise<'_> {
    /// Convolves `len` pixels in the format `F`.
    ///
    /// # Safety
    /// `len` pixels rounded up to a group can be read from each plane of `input`, written to each
    /// output channel, and read from the epilogue's maps.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd, F: Format<S>>(
        self,
        simd: S,
        input: Rows<1>,
        output: TileOutput,
        len: usize,
    ) {
        let terms = input.planes;
        for (first, count) in tiles(self.bias.len(), tile_channels::<S>(terms), 1) {
            let tile = TileWeights::of(self.weights, self.bias, first, terms);
            with_tile_size!(S, count, N => {
                for pixel in (0..len).step_by(group_px::<S>()) {
                    let at = first * output.plane_len + pixel;
                    with_tile_vectors!(S, len - pixel, V => {
                        // SAFETY: the tile lies below the output's channels, its pixels below `len`
                        // rounded up to a group: the caller's promises.
                        unsafe {
                            let sums = tile.start::<S, N, V>(simd);
                            let sums = input.accumulate::<S, F, N, V>(
                                simd, pixel, &ONE_TAP, tile.weights, sums,
                            );
                            output.store(simd, sums, at);
                        }
                    });
                }
            });
        }
    }

    /// Convolves `len` pixels, at most [`SEGMENT_PX`], to be read by another convolution in the
    /// format `F`: negative results become 0.
    ///
    /// # Safety
    /// `len` pixels rounded up to a group can be read from each plane of `input`. The output
    /// channels fill whole lanes, and `to` holds a plane of [`SEGMENT_PX`] for each lane.
    #[inline(always)]
    unsafe fn widen<S: Simd, F: Format<S>>(
        self,
        simd: S,
        input: Rows<1>,
        to: *mut f32,
        len: usize,
    ) {
        let terms = input.planes;
        for (first, count) in tiles(self.bias.len(), tile_channels::<S>(terms), F::PER_LANE) {
            let tile = TileWeights::of(self.weights, self.bias, first, terms);
            let to = to.wrapping_add(first / F::PER_LANE * SEGMENT_PX);
            with_tile_size!(S, count, N => {
                for pixel in (0..len).step_by(group_px::<S>()) {
                    let to = to.wrapping_add(pixel);
                    with_tile_vectors!(S, len - pixel, V => {
                        // SAFETY: the tile lies below the output's channels, its pixels below `len`
                        // rounded up to a group, which is at most `SEGMENT_PX`.
                        unsafe {
                            let sums = tile.start::<S, N, V>(simd);
                            let mut sums = input.accumulate::<S, F, N, V>(
                                simd, pixel, &ONE_TAP, tile.weights, sums,
                            );
                            for o in 0..N {
                                for v in 0..V {
                                    sums[o][v] = simd.relu(sums[o][v]);
                                }
                            }
                            store_channels::<S, F, N, V>(simd, sums, to, SEGMENT_PX);
                        }
                    });
                }
            });
        }
    }
}
