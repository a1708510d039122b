//! The pair on vectors: a few pixels through both convolutions at a time.

use super::{Gradients, PairWeights, TurnedWeights};
use crate::epilogue::Finish;
use crate::outer_product::{add_outer_products, add_sums, padded, transpose};
use crate::precision::{F32, Format};
use crate::simd::Simd;
use crate::strip::{STRIP_OVERSHOOT, Scratch, Strip};
use crate::tile::{
    self, Source, TILE_VECTORS, group_px, start, tile_channels, tiles, with_tile_size,
};
use crate::{Epilogue, Planes};

/// Pixels whose wide activation is kept: 192 channels of 32 pixels are 24 KB of the first-level
/// cache's 32 KB or more.
const SEGMENT_PX: usize = 32;

/// Pixels that go backwards at a time: the longer, the less often the sums of the gradients by the
/// weights, which do not fit the first-level cache, are loaded and stored.
const BACKWARD_PX: usize = 64;

/// A 1x1 convolution, as [`Packing::pack`](tile::Packing::pack) arranges its weights.
struct Pointwise<'a> {
    weights: &'a [f32],
    bias: &'a [f32],
}

impl Pointwise<'_> {
    /// Convolves `len` pixels in the format `F`.
    ///
    /// # Safety
    /// As for [`Simd`]. `len` pixels rounded up to a group can be read from `source`, stored to
    /// `to`, whose channels lie `plane_len` floats apart, and read from the maps of `finish`.
    #[inline(always)]
    unsafe fn run<S: Simd, F: Format>(
        self,
        source: &Source<1>,
        to: *mut f32,
        plane_len: usize,
        len: usize,
        finish: Finish,
    ) {
        let largest = tile_channels::<S>(source.planes);
        for (first, count) in tiles(self.bias.len(), largest, 1) {
            // SAFETY: the tile lies below the output's channels; the caller's promises.
            unsafe {
                let weights = self.weights.as_ptr().add(first * source.planes);
                let bias = self.bias.as_ptr().add(first);
                with_tile_size!(S, count, N => {
                    for pixel in (0..len).step_by(group_px::<S>()) {
                        let sums = start::<S, N>(bias);
                        let sums = source.accumulate::<S, F, N, 1>(pixel, weights, sums);
                        finish.store::<S, N>(sums, to, first * plane_len + pixel, plane_len);
                    }
                });
            }
        }
    }

    /// Convolves `len` pixels, to be read by another convolution in the format `F`: negative
    /// results become 0. `bias` is as long as lanes of `F` fill up.
    ///
    /// # Safety
    /// As for [`Pointwise::run`]; `to` holds planes of [`SEGMENT_PX`].
    #[inline(always)]
    unsafe fn widen<S: Simd, F: Format>(self, source: &Source<1>, to: *mut f32, len: usize) {
        let largest = tile_channels::<S>(source.planes);
        for (first, count) in tiles(self.bias.len(), largest, F::CHANNELS) {
            // SAFETY: the tile lies below the output's channels; the caller's promises.
            unsafe {
                let weights = self.weights.as_ptr().add(first * source.planes);
                let bias = self.bias.as_ptr().add(first);
                let to = to.add(first / F::CHANNELS * SEGMENT_PX);
                with_tile_size!(S, count, N => {
                    for pixel in (0..len).step_by(group_px::<S>()) {
                        let sums = start::<S, N>(bias);
                        let sums = source.accumulate::<S, F, N, 1>(pixel, weights, sums);
                        for o in (0..N).step_by(F::CHANNELS) {
                            // A tile is made of whole lanes: both are below `N`.
                            let last = usize::min(o + F::CHANNELS, N) - 1;
                            for v in 0..TILE_VECTORS {
                                let (a, b) = (S::relu(sums[o][v]), S::relu(sums[last][v]));
                                let at = o / F::CHANNELS * SEGMENT_PX + pixel + v * S::LANES;
                                S::store(to.add(at), F::join::<S>(a, b));
                            }
                        }
                    }
                });
            }
        }
    }
}

/// Pixels in the format `F`: where they lie, or in `scratch` when that is another than the f32 they
/// are stored in.
///
/// # Safety
/// As for [`Simd`]. `len` pixels, at most [`SEGMENT_PX`], rounded up to a group can be read from
/// `channels` channels; `scratch` holds `[channels][SEGMENT_PX]`.
#[inline(always)]
unsafe fn in_format<S: Simd, F: Format>(
    from: *const f32,
    plane_len: usize,
    channels: usize,
    len: usize,
    scratch: *mut f32,
) -> Source<1> {
    if F::CHANNELS == 1 {
        return Source {
            rows: [from],
            plane_len,
            planes: channels,
        };
    }
    for (plane, channel) in (0..channels).step_by(F::CHANNELS).enumerate() {
        for pixel in (0..len).step_by(S::LANES) {
            // SAFETY: the caller's promises.
            unsafe {
                let load = |channel: usize| match channel < channels {
                    true => S::load(from.add(channel * plane_len + pixel)),
                    false => S::splat(0.0),
                };
                let value = F::join::<S>(load(channel), load(channel + 1));
                S::store(scratch.add(plane * SEGMENT_PX + pixel), value);
            }
        }
    }
    Source {
        rows: [scratch],
        plane_len: SEGMENT_PX,
        planes: channels.div_ceil(F::CHANNELS),
    }
}

/// Floats of scratch memory that [`pair_of_run`] needs.
fn scratch_len(pair: &PairWeights) -> usize {
    (pair.in_channels + pair.wide_channels) * SEGMENT_PX
}

/// Both convolutions of a run of pixels, in the format `F`.
///
/// # Safety
/// As for [`Simd`]. `len` pixels rounded up to a group can be read from `from` and written to `to`,
/// whose channels lie `plane_len` floats apart; `scratch` holds [`scratch_len`] floats.
#[inline(always)]
unsafe fn pair_of_run<S: Simd, F: Format>(
    pair: &PairWeights,
    from: *const f32,
    to: *mut f32,
    plane_len: usize,
    len: usize,
    scratch: *mut f32,
) {
    const {
        assert!(
            SEGMENT_PX.is_multiple_of(group_px::<S>()),
            "groups of a segment"
        );
    }
    for segment in (0..len).step_by(SEGMENT_PX) {
        let segment_len = SEGMENT_PX.min(len - segment);
        // SAFETY: the caller's promises; any address may be prefetched.
        unsafe {
            let (from, to) = (from.add(segment), to.add(segment));
            let next = from.wrapping_add(SEGMENT_PX);
            tile::prefetch::<S>(next, plane_len, pair.in_channels, SEGMENT_PX);
            let next = to.wrapping_add(SEGMENT_PX);
            tile::prefetch::<S>(next, plane_len, pair.out_channels, SEGMENT_PX);
            let wide = scratch.add(pair.in_channels * SEGMENT_PX);
            let narrow = in_format::<S, F>(from, plane_len, pair.in_channels, segment_len, scratch);
            let expand = Pointwise {
                weights: &pair.expand,
                bias: &pair.expand_bias,
            };
            expand.widen::<S, F>(&narrow, wide, segment_len);
            let wide = Source {
                rows: [wide.cast_const()],
                plane_len: SEGMENT_PX,
                planes: pair.wide_channels / F::CHANNELS,
            };
            let reduce = Pointwise {
                weights: &pair.reduce,
                bias: &pair.reduce_bias,
            };
            reduce.run::<S, F>(&wide, to, plane_len, segment_len, Finish::Store);
        }
    }
}

/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
pub(super) unsafe fn pair_of_strip<S: Simd, F: Format>(
    pair: &PairWeights,
    input: &Strip,
    output: &mut Strip,
    scratch: &mut Scratch,
) {
    const {
        assert!(group_px::<S>() <= STRIP_OVERSHOOT, "pixels read");
    }
    let scratch = scratch.floats(scratch_len(pair)).as_mut_ptr();
    let (plane_len, width_px, rows) = (output.plane_len(), output.width_px(), output.rows());
    let targets = output.rows_mut();
    for (y, to) in targets.into_iter().enumerate().take(rows) {
        // SAFETY: a row goes on for its overshoot.
        unsafe { pair_of_run::<S, F>(pair, input.at(y, 0), to, plane_len, width_px, scratch) }
    }
}

/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
pub(super) unsafe fn pair_of_planes<S: Simd>(
    pair: &PairWeights,
    input: &Planes,
    output: &mut Planes,
    scratch: &mut Scratch,
) {
    let scratch = scratch.floats(scratch_len(pair)).as_mut_ptr();
    let g = input.geometry();
    let from = input.as_slice()[g.origin..].as_ptr();
    let to = output.as_mut_slice()[g.origin..].as_mut_ptr();
    // SAFETY: the run of pixels of a plane goes on for its overshoot.
    unsafe { pair_of_run::<S, F32>(pair, from, to, g.plane_len, g.run_len(), scratch) }
    for channel in 0..output.channels() {
        output.clear_border(channel);
    }
}

/// Everything of a few pixels happens in the cache: the wide activation is computed again, then
/// its gradient, then what follows from both.
///
/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
pub(super) unsafe fn backward<S: Simd>(
    pair: &PairWeights,
    turned: &TurnedWeights,
    input: &Planes,
    output_gradient: &Planes,
    input_gradient: &mut Planes,
    epilogue: Epilogue<'_, Planes>,
    gradients: Gradients<'_>,
    scratch: &mut Scratch,
) {
    let (g, channels) = (input.geometry(), pair.wide_channels);
    let (in_columns, out_columns) = (
        padded::<S>(pair.in_channels),
        padded::<S>(pair.out_channels),
    );
    let scratch = scratch
        .floats(2 * channels * BACKWARD_PX + (BACKWARD_PX + channels) * (in_columns + out_columns));
    let (wide, rest) = scratch.split_at_mut(channels * BACKWARD_PX);
    let (wide_gradient, rest) = rest.split_at_mut(channels * BACKWARD_PX);
    let (input_turned, rest) = rest.split_at_mut(BACKWARD_PX * in_columns);
    let (output_turned, rest) = rest.split_at_mut(BACKWARD_PX * out_columns);
    let (expand_sums, rest) = rest.split_at_mut(channels * in_columns);
    let reduce_sums = &mut rest[..channels * out_columns];
    expand_sums.fill(0.0);
    reduce_sums.fill(0.0);
    let (wide, wide_gradient) = (wide.as_mut_ptr(), wide_gradient.as_mut_ptr());
    let rows_of = |first: *const f32| -> Vec<*const f32> {
        (0..channels)
            .map(|channel| first.wrapping_add(channel * BACKWARD_PX))
            .collect()
    };
    let (wide_rows, gradient_rows) = (rows_of(wide), rows_of(wide_gradient));
    let from = input.as_slice()[g.origin..].as_ptr();
    let from_gradient = output_gradient.as_slice()[g.origin..].as_ptr();
    let to = input_gradient.as_mut_slice()[g.origin..].as_mut_ptr();
    let finish = epilogue.at(|maps| maps.as_slice()[g.origin..].as_ptr());
    for segment in (0..g.run_len()).step_by(BACKWARD_PX) {
        let len = BACKWARD_PX.min(g.run_len() - segment);
        // SAFETY: the segment lies in the run of pixels, which goes on for the overshoot; the parts
        // of the scratch memory have the lengths that the kernels ask for.
        unsafe {
            let source = |from: *const f32, plane_len: usize, channels: usize| Source {
                rows: [from],
                plane_len,
                planes: channels,
            };
            let (from, from_gradient) = (from.add(segment), from_gradient.add(segment));
            let expand = Pointwise {
                weights: &pair.expand,
                bias: &pair.expand_bias,
            };
            let narrow = source(from, g.plane_len, pair.in_channels);
            expand.run::<S, F32>(&narrow, wide, BACKWARD_PX, len, Finish::Relu);
            let reduce_turned = Pointwise {
                weights: &turned.reduce,
                bias: &turned.zeros[..channels],
            };
            let narrow = source(from_gradient, g.plane_len, pair.out_channels);
            let gate = Finish::WherePositive(wide);
            reduce_turned.run::<S, F32>(&narrow, wide_gradient, BACKWARD_PX, len, gate);

            let columns = input_turned.as_mut_ptr();
            transpose::<S>(from, g.plane_len, pair.in_channels, len, columns);
            let sums = expand_sums.as_mut_ptr();
            add_outer_products::<S>(&gradient_rows, 0, columns, in_columns, len, sums);
            let columns = output_turned.as_mut_ptr();
            transpose::<S>(from_gradient, g.plane_len, pair.out_channels, len, columns);
            let sums = reduce_sums.as_mut_ptr();
            add_outer_products::<S>(&wide_rows, 0, columns, out_columns, len, sums);
            // Behind the run the output's gradient is zero, and so is that of the wide activation.
            add_sums::<S>(wide_gradient, BACKWARD_PX, len, gradients.expand_bias);
            add_sums::<S>(from_gradient, g.plane_len, len, gradients.reduce_bias);

            let expand_turned = Pointwise {
                weights: &turned.expand,
                bias: &turned.zeros[..pair.in_channels],
            };
            let wide = source(wide_gradient, BACKWARD_PX, channels);
            let finish = finish.skip(segment);
            expand_turned.run::<S, F32>(&wide, to.add(segment), g.plane_len, len, finish);
        }
    }
    for channel in 0..input_gradient.channels() {
        input_gradient.clear_border(channel);
    }
    for h in 0..channels {
        for i in 0..pair.in_channels {
            gradients.expand[h * pair.in_channels + i] += expand_sums[h * in_columns + i];
        }
        for o in 0..pair.out_channels {
            gradients.reduce[o * channels + h] += reduce_sums[h * out_columns + o];
        }
    }
}
