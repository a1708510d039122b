//! The pair on vectors: a few pixels through both convolutions at a time.

use super::{Gradients, PairWeights, TurnedWeights};
use crate::epilogue::Finish;
use crate::outer_product::{add_outer_products, add_sums, pack_pixels, padded, transpose};
use crate::precision::Format;
use crate::simd::Simd;
use crate::strip::{Offset, STRIP_OVERSHOOT, Scratch, Strip};
use crate::tile::{
    self, Source, Sums, TILE_VECTORS, group_px, start, tile_channels, tiles, with_tile_size,
    with_tile_vectors,
};
use crate::{Epilogue, Planes};

/// Pixels whose wide activation is kept: 192 channels of 32 pixels are 24 KB of the first-level
/// cache's 32 KB or more.
const SEGMENT_PX: usize = 32;

/// Pixels that go backwards at a time: the longer, the less often the sums of the gradients by the
/// weights, which do not fit the first-level cache, are loaded and stored.
const BACKWARD_PX: usize = 96;

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
                        let at = first * plane_len + pixel;
                        with_tile_vectors!(S, len - pixel, V => {
                            let sums = start::<S, N, V>(bias);
                            let sums = source.accumulate::<S, F, N, V, 1>(pixel, weights, sums);
                            finish.store::<S, N, V>(sums, to, at, plane_len);
                        });
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
                        let to = to.add(pixel);
                        with_tile_vectors!(S, len - pixel, V => {
                            let sums = start::<S, N, V>(bias);
                            let sums = source.accumulate::<S, F, N, V, 1>(pixel, weights, sums);
                            store_wide::<S, F, N, V>(sums, to);
                        });
                    }
                });
            }
        }
    }
}

/// Stores a tile of the wide activation: negative sums become 0.
///
/// # Safety
/// As for [`Simd`]; planes of [`SEGMENT_PX`] can be written.
#[inline(always)]
unsafe fn store_wide<S: Simd, F: Format, const N: usize, const V: usize>(
    sums: Sums<S, N, V>,
    to: *mut f32,
) {
    for o in (0..N).step_by(F::CHANNELS) {
        // A tile is made of whole lanes: both are below `N`.
        let last = usize::min(o + F::CHANNELS, N) - 1;
        for v in 0..V {
            let at = o / F::CHANNELS * SEGMENT_PX + v * S::LANES;
            // SAFETY: the caller's promises.
            unsafe {
                let (a, b) = (S::relu(sums[o][v]), S::relu(sums[last][v]));
                S::store(to.add(at), F::join::<S>(a, b));
            }
        }
    }
}

/// Pixels in the format `F`: where they lie, or in `scratch` when that is another than the f32 they
/// are stored in.
///
/// # Safety
/// As for [`Simd`]. `len` pixels, at most `scratch_len`, rounded up to a group can be read from
/// `channels` channels; `scratch` holds `[channels][scratch_len]`.
#[inline(always)]
unsafe fn in_format<S: Simd, F: Format>(
    from: *const f32,
    plane_len: usize,
    channels: usize,
    len: usize,
    scratch: *mut f32,
    scratch_len: usize,
) -> Source<1> {
    if F::CHANNELS == 1 {
        return Source {
            rows: [from],
            plane_len,
            planes: channels,
        };
    }
    for (plane, channel) in (0..channels).step_by(F::CHANNELS).enumerate() {
        for pixel in (0..len.next_multiple_of(group_px::<S>())).step_by(S::LANES) {
            // SAFETY: the caller's promises.
            unsafe {
                let from = from.add(channel * plane_len + pixel);
                let second = if channel + 1 < channels {
                    S::load(from.add(plane_len))
                } else {
                    S::splat(0.0)
                };
                let value = F::join::<S>(S::load(from), second);
                S::store(scratch.add(plane * scratch_len + pixel), value);
            }
        }
    }
    Source {
        rows: [scratch],
        plane_len: scratch_len,
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
            let channels = pair.in_channels;
            let narrow =
                in_format::<S, F>(from, plane_len, channels, segment_len, scratch, SEGMENT_PX);
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
    offset: Offset,
    output: &mut Strip,
    scratch: &mut Scratch,
) {
    const {
        assert!(group_px::<S>() <= STRIP_OVERSHOOT, "pixels read");
    }
    let scratch = scratch.floats(scratch_len(pair)).as_mut_ptr();
    let (plane_len, width_px) = (output.plane_len(), output.width_px());
    for y in output.inside() {
        let from = input.at(y as isize + offset.rows, offset.px);
        let [to, ..] = output.rows_mut(y);
        // SAFETY: a row goes on for its overshoot.
        unsafe { pair_of_run::<S, F>(pair, from, to, plane_len, width_px, scratch) }
    }
}

/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
pub(super) unsafe fn pair_of_planes<S: Simd, F: Format>(
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
    unsafe { pair_of_run::<S, F>(pair, from, to, g.plane_len, g.run_len(), scratch) }
    for channel in 0..output.channels() {
        output.clear_border(channel);
    }
}

/// The wide activation of a segment and its gradient, as what follows reads them.
struct Wide {
    /// The activation in lanes of pixels, `[wide_channels][BACKWARD_PX / F::CHANNELS]`.
    activation: *mut f32,
    /// Its gradient in lanes of pixels, likewise.
    gradient: *mut f32,
    /// The gradient in lanes of channels, `[wide_channels / F::CHANNELS][BACKWARD_PX]`. Where a
    /// lane holds one number, that is the same.
    gradient_by_lane: *mut f32,
    /// Sums of the gradient over pixels, `[wide_channels][LANES]`.
    bias_sums: *mut f32,
}

/// Computes the wide activation again, and its gradient, which is zero where the activation is.
///
/// # Safety
/// As for [`Simd`]. `len` pixels rounded up to a group can be read from both sources; what `wide`
/// points to has the lengths that its fields say.
#[inline(always)]
unsafe fn wide_and_gradient<S: Simd, F: Format>(
    pair: &PairWeights,
    turned: &TurnedWeights,
    input: &Source<1>,
    output_gradient: &Source<1>,
    wide: &Wide,
    len: usize,
) {
    let lanes = BACKWARD_PX / F::CHANNELS;
    let largest = tile_channels::<S>(input.planes);
    for (first, count) in tiles(pair.wide_channels, largest, F::CHANNELS) {
        // SAFETY: the tile lies below the wide channels; the caller's promises.
        unsafe {
            let expand = pair.expand.as_ptr().add(first * input.planes);
            let bias = pair.expand_bias.as_ptr().add(first);
            let reduce = turned.reduce.as_ptr().add(first * output_gradient.planes);
            with_tile_size!(S, count, N => {
                for pixel in (0..len).step_by(group_px::<S>()) {
                    let sums = start::<S, N, TILE_VECTORS>(bias);
                    let mut activation = input.accumulate::<S, F, N, TILE_VECTORS, 1>(pixel, expand, sums);
                    for o in 0..N {
                        for v in 0..TILE_VECTORS {
                            activation[o][v] = S::relu(activation[o][v]);
                        }
                        let to = wide.activation.add((first + o) * lanes + pixel / F::CHANNELS);
                        F::store_pixels::<S>(to, activation[o]);
                    }
                    let sums = [[S::splat(0.0); TILE_VECTORS]; N];
                    let mut gradient = output_gradient.accumulate::<S, F, N, TILE_VECTORS, 1>(pixel, reduce, sums);
                    // Loops as short as these are unrolled, and the tile stays in registers.
                    for o in 0..N {
                        for v in 0..TILE_VECTORS {
                            gradient[o][v] = S::where_positive(activation[o][v], gradient[o][v]);
                        }
                    }
                    for o in 0..N {
                        let to = wide.gradient.add((first + o) * lanes + pixel / F::CHANNELS);
                        F::store_pixels::<S>(to, gradient[o]);
                    }
                    for o in 0..N {
                        let sum = wide.bias_sums.add((first + o) * S::LANES);
                        let both = S::add(gradient[o][0], gradient[o][1]);
                        S::store(sum, S::add(S::load(sum), both));
                    }
                    if F::CHANNELS > 1 {
                        for o in (0..N).step_by(F::CHANNELS) {
                            // A tile is made of whole lanes: both are below `N`.
                            let last = usize::min(o + F::CHANNELS, N) - 1;
                            for v in 0..TILE_VECTORS {
                                let lane = F::join::<S>(gradient[o][v], gradient[last][v]);
                                let plane = (first + o) / F::CHANNELS;
                                let at = plane * BACKWARD_PX + pixel + v * S::LANES;
                                S::store(wide.gradient_by_lane.add(at), lane);
                            }
                        }
                    }
                }
            });
        }
    }
}

/// A run of pixels as the way back reads it.
struct Run {
    from: *const f32,
    plane_len: usize,
    channels: usize,
}

impl Run {
    /// The first `len` pixels in the format `F`.
    ///
    /// # Safety
    /// As for [`in_format`]; `scratch` holds `[channels][BACKWARD_PX]`.
    #[inline(always)]
    unsafe fn in_format<S: Simd, F: Format>(&self, len: usize, scratch: *mut f32) -> Source<1> {
        let (plane_len, channels) = (self.plane_len, self.channels);
        // SAFETY: passed on.
        unsafe { in_format::<S, F>(self.from, plane_len, channels, len, scratch, BACKWARD_PX) }
    }

    /// Turns `len` pixels so that their channels lie in the lanes: `[lane][padded(channels)]`.
    ///
    /// # Safety
    /// As for [`Simd`]. `len` pixels rounded up to a group can be read; `scratch` holds
    /// `[channels][BACKWARD_PX / F::CHANNELS]`, `to` as many rows as there are lanes, rounded up
    /// to 8.
    #[inline(always)]
    unsafe fn turn<S: Simd, F: Format>(&self, len: usize, scratch: *mut f32, to: *mut f32) {
        let lanes = BACKWARD_PX / F::CHANNELS;
        // SAFETY: the caller's promises.
        unsafe {
            if F::CHANNELS == 1 {
                transpose::<S>(self.from, self.plane_len, self.channels, len, to);
                return;
            }
            for channel in 0..self.channels {
                let from = self.from.add(channel * self.plane_len);
                pack_pixels::<S, F>(from, len, scratch.add(channel * lanes));
            }
            let len = len.div_ceil(F::CHANNELS);
            transpose::<S>(scratch, lanes, self.channels, len, to);
        }
    }
}

/// Everything of a few pixels happens in the cache: the wide activation is computed again, then
/// its gradient, then what follows from both.
///
/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
pub(super) unsafe fn backward<S: Simd, F: Format>(
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
    let (in_channels, out_channels) = (pair.in_channels, pair.out_channels);
    let (in_columns, out_columns) = (padded::<S>(in_channels), padded::<S>(out_channels));
    let lanes = BACKWARD_PX / F::CHANNELS;
    let narrow = in_channels.max(out_channels);
    let [
        activation,
        gradient,
        gradient_by_lane,
        bias_sums,
        input_turned,
        output_turned,
        expand_sums,
        reduce_sums,
        input_in_format,
        output_in_format,
    ] = scratch.parts([
        channels * lanes,
        channels * lanes,
        channels / F::CHANNELS * BACKWARD_PX,
        channels * S::LANES,
        lanes * in_columns,
        lanes * out_columns,
        channels * in_columns,
        channels * out_columns,
        narrow * BACKWARD_PX,
        narrow * BACKWARD_PX,
    ]);
    bias_sums.fill(0.0);
    expand_sums.fill(0.0);
    reduce_sums.fill(0.0);
    let wide = Wide {
        activation: activation.as_mut_ptr(),
        gradient: gradient.as_mut_ptr(),
        gradient_by_lane: gradient_by_lane.as_mut_ptr(),
        bias_sums: bias_sums.as_mut_ptr(),
    };
    let rows_of = |first: *const f32| -> Vec<*const f32> {
        (0..channels)
            .map(|channel| first.wrapping_add(channel * lanes))
            .collect()
    };
    let (activation_rows, gradient_rows) = (rows_of(wide.activation), rows_of(wide.gradient));
    let by_wide = Source {
        rows: [match F::CHANNELS {
            1 => wide.gradient.cast_const(),
            _ => wide.gradient_by_lane.cast_const(),
        }],
        plane_len: BACKWARD_PX,
        planes: channels / F::CHANNELS,
    };
    let run_of = |planes: &Planes, channels: usize| Run {
        from: planes.as_slice()[g.origin..].as_ptr(),
        plane_len: g.plane_len,
        channels,
    };
    let (mut from, mut from_gradient) = (
        run_of(input, in_channels),
        run_of(output_gradient, out_channels),
    );
    let to = input_gradient.as_mut_slice()[g.origin..].as_mut_ptr();
    let finish = epilogue.at(|maps| maps.as_slice()[g.origin..].as_ptr());
    for segment in (0..g.run_len()).step_by(BACKWARD_PX) {
        let len = BACKWARD_PX.min(g.run_len() - segment);
        // SAFETY: the segment lies in the run of pixels, which goes on for the overshoot; the parts
        // of the scratch memory have the lengths that the kernels ask for.
        unsafe {
            let input = from.in_format::<S, F>(len, input_in_format.as_mut_ptr());
            let output = from_gradient.in_format::<S, F>(len, output_in_format.as_mut_ptr());
            wide_and_gradient::<S, F>(pair, turned, &input, &output, &wide, len);
            let finish = finish.skip(segment);
            let expand_turned = Pointwise {
                weights: &turned.expand,
                bias: &turned.zeros[..in_channels],
            };
            expand_turned.run::<S, F>(&by_wide, to.add(segment), g.plane_len, len, finish);

            let lanes = len.div_ceil(F::CHANNELS);
            let scratch = input_in_format.as_mut_ptr();
            let columns = input_turned.as_mut_ptr();
            from.turn::<S, F>(len, scratch, columns);
            let sums = expand_sums.as_mut_ptr();
            add_outer_products::<S, F>(&gradient_rows, 0, columns, in_columns, lanes, sums);
            let columns = output_turned.as_mut_ptr();
            from_gradient.turn::<S, F>(len, scratch, columns);
            let sums = reduce_sums.as_mut_ptr();
            add_outer_products::<S, F>(&activation_rows, 0, columns, out_columns, lanes, sums);
            // Behind the run the output's gradient is zero, and so is that of the wide activation.
            let run = &from_gradient;
            add_sums::<S>(run.from, run.plane_len, len, gradients.reduce_bias);
            from.from = from.from.add(len);
            from_gradient.from = from_gradient.from.add(len);
        }
    }
    for channel in 0..input_gradient.channels() {
        input_gradient.clear_border(channel);
    }
    let given = gradients.expand_bias.len();
    for h in 0..given {
        for i in 0..in_channels {
            gradients.expand[h * in_channels + i] += expand_sums[h * in_columns + i];
        }
        for o in 0..out_channels {
            gradients.reduce[o * given + h] += reduce_sums[h * out_columns + o];
        }
        gradients.expand_bias[h] += bias_sums[h * S::LANES..][..S::LANES].iter().sum::<f32>();
    }
}
