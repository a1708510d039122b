//! The pair on vectors: a few pixels through both convolutions at a time.

use super::{PairWeights, reference};
use crate::dispatch::Kernel;
use crate::epilogue::{TileEpilogue, TileOutput};
use crate::planes::OVERSHOOT;
use crate::precision::Format;
use crate::rows::{Rows, store_channels};
use crate::simd::Simd;
use crate::strip::{Offset, STRIP_OVERSHOOT, Strip};
use crate::tile::{
    TileWeights, group_px, prefetch, tile_channels, tiles, with_tile_size, with_tile_vectors,
};
use crate::{Planes, Precision, Scratch};

/// Pixels whose wide activation is kept: 192 channels of 32 pixels are 24 KB of the first-level
/// cache's 32 KB or more.
const SEGMENT_PX: usize = 32;

/// The pair on a strip.
///
/// Input and output have the same layout except for `rows_above`, and the pair's channels. The
/// offset is that of [`Strip::offset_in`].
pub(super) struct PairOfStrip<'a> {
    pub(super) pair: &'a PairWeights,
    pub(super) input: &'a Strip,
    /// Of the output in the input.
    pub(super) offset: Offset,
    pub(super) output: &'a mut Strip,
    pub(super) scratch: &'a mut Scratch,
}

impl Kernel for PairOfStrip<'_> {
    type Output = ();

    fn reference(self, _: Precision) {
        reference::pair_of_strip(self);
    }

    #[inline(always)]
    fn vectorized<S: Simd, F: Format>(self, simd: S) {
        const {
            assert!(group_px::<S>() <= STRIP_OVERSHOOT, "pixels read");
        }
        let Self {
            pair,
            input,
            offset,
            output,
            scratch,
        } = self;
        let scratch = scratch.floats(pair.scratch_len()).as_mut_ptr();
        let (plane_len, width_px) = (output.plane_len(), output.width_px());
        for y in output.inside() {
            let from = Rows {
                rows: [input.at(y as isize + offset.rows, offset.px)],
                plane_len,
                planes: pair.in_channels,
            };
            let to = output.at_mut(y);
            // SAFETY: both strips have rows of `plane_len` floats: a border, `width_px` pixels or
            // more, and `STRIP_OVERSHOOT` floats for the rest of a group. The offset says that the
            // row's pixels lie in the input. Both have the pair's channels.
            unsafe { pair_of_run::<S, F>(simd, pair, from, to, width_px, scratch) }
        }
        output.clear_border();
    }
}

/// The pair on planes: input and output have the same geometry, and the pair's channels.
pub(super) struct PairOfPlanes<'a> {
    pub(super) pair: &'a PairWeights,
    pub(super) input: &'a Planes,
    pub(super) output: &'a mut Planes,
    pub(super) scratch: &'a mut Scratch,
}

impl Kernel for PairOfPlanes<'_> {
    type Output = ();

    fn reference(self, _: Precision) {
        reference::pair_of_planes(self);
    }

    #[inline(always)]
    fn vectorized<S: Simd, F: Format>(self, simd: S) {
        const {
            assert!(group_px::<S>() <= OVERSHOOT, "pixels read");
        }
        let Self {
            pair,
            input,
            output,
            scratch,
        } = self;
        let scratch = scratch.floats(pair.scratch_len()).as_mut_ptr();
        let g = input.geometry();
        let from = Rows {
            rows: [input.as_slice()[g.origin..].as_ptr()],
            plane_len: g.plane_len,
            planes: pair.in_channels,
        };
        let to = output.as_mut_slice()[g.origin..].as_mut_ptr();
        // SAFETY: both have the same geometry and the pair's channels. The run of pixels of a plane
        // is followed by `OVERSHOOT` floats for the rest of a group.
        unsafe { pair_of_run::<S, F>(simd, pair, from, to, g.run_len(), scratch) }
        output.clear_border();
    }
}

impl PairWeights {
    /// Floats of scratch memory that [`pair_of_run`] needs.
    fn scratch_len(&self) -> usize {
        (self.in_channels + self.wide_channels) * SEGMENT_PX
    }
}

/// Both convolutions of a run of `len` pixels, in the format `F`.
///
/// # Safety
/// `len` pixels rounded up to a group can be read from each of the pair's input channels, and
/// written to each of its output channels, which lie as far apart as those of the input. `scratch`
/// holds [`PairWeights::scratch_len`] floats.
#[inline(always)]
unsafe fn pair_of_run<S: Simd, F: Format>(
    simd: S,
    pair: &PairWeights,
    from: Rows<1>,
    to: *mut f32,
    len: usize,
    scratch: *mut f32,
) {
    const {
        assert!(
            SEGMENT_PX.is_multiple_of(group_px::<S>()),
            "groups of a segment"
        );
    }
    let plane_len = from.plane_len;
    for segment in (0..len).step_by(SEGMENT_PX) {
        let segment_len = SEGMENT_PX.min(len - segment);
        let (from, to) = (from.skip(segment), to.wrapping_add(segment));
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
        // SAFETY: the segment lies in the run, so the caller promises its pixels, rounded up to a
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
    pub(super) unsafe fn run<S: Simd, F: Format>(
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
                            let sums = input.accumulate::<S, F, N, V, 1>(
                                simd, pixel, tile.weights, sums,
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
    unsafe fn widen<S: Simd, F: Format>(self, simd: S, input: Rows<1>, to: *mut f32, len: usize) {
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
                            let mut sums = input.accumulate::<S, F, N, V, 1>(
                                simd, pixel, tile.weights, sums,
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
