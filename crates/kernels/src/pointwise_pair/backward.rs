//! The gradients of the pair on vectors.
//!
//! A few pixels go backwards at a time, and all of it happens in the cache: the wide activation is
//! computed again, then its gradient, then what follows from both.

use super::forward::Pointwise;
use super::{BackwardWeights, PairGradients, PairWeights, reference};
use crate::dispatch::Kernel;
use crate::epilogue::TileOutput;
use crate::outer_product::{add_outer_products, add_sums};
use crate::planes::OVERSHOOT;
use crate::precision::Format;
use crate::rows::{Rows, store_channels, transposed_columns};
use crate::simd::Simd;
use crate::tile::{
    ONE_TAP, TILE_VECTORS, TileWeights, group_px, tile_channels, tiles, with_tile_size,
};
use crate::{Epilogue, Planes, Precision, Scratch};

/// Pixels that go backwards at a time: the more, the less often the sums of the gradients by the
/// weights, which do not fit the first-level cache, are loaded and stored.
const SEGMENT_PX: usize = 96;

/// The gradients of the pair.
///
/// All planes have the same geometry; input, input gradient and the epilogue's maps have the pair's
/// input channels, the output gradient its output channels. The gradients have the lengths of the
/// weights, where the wide channels may be fewer than the pair's, which are rounded up.
pub(super) struct Backward<'a> {
    pub(super) pair: &'a PairWeights,
    pub(super) weights: &'a BackwardWeights,
    pub(super) input: &'a Planes,
    pub(super) output_gradient: &'a Planes,
    pub(super) input_gradient: &'a mut Planes,
    pub(super) epilogue: Epilogue<'a, Planes>,
    pub(super) gradients: PairGradients<'a>,
    pub(super) scratch: &'a mut Scratch,
}

/// The wide activation of a segment and its gradient.
struct Wide {
    /// The activation in lanes of pixels, `[wide_channels][SEGMENT_PX / F::PER_LANE]`.
    activation: *mut f32,
    /// Its gradient in lanes of pixels, likewise.
    gradient: *mut f32,
    /// The gradient in lanes of channels, `[wide_channels / F::PER_LANE][SEGMENT_PX]`. Not used
    /// where a lane holds one number, since it is the same.
    gradient_by_lane: *mut f32,
    /// Sums of the gradient over pixels, `[wide_channels][LANES]`.
    bias_sums: *mut f32,
}

impl Kernel for Backward<'_> {
    type Output = ();

    fn reference(self, _: Precision) {
        reference::backward(self);
    }

    #[inline(always)]
    fn vectorized<S: Simd, F: Format<S>>(self, simd: S) {
        const {
            assert!(
                SEGMENT_PX.is_multiple_of(group_px::<S>()),
                "groups of a segment"
            );
            assert!(group_px::<S>() <= OVERSHOOT, "pixels read");
        }
        let Self {
            pair,
            weights,
            input,
            output_gradient,
            input_gradient,
            epilogue,
            gradients,
            scratch,
        } = self;
        let (g, channels) = (input.geometry(), pair.wide_channels);
        let (in_channels, out_channels) = (pair.in_channels, pair.out_channels);
        let in_columns = transposed_columns::<S>(in_channels);
        let out_columns = transposed_columns::<S>(out_channels);
        let segment_lanes = SEGMENT_PX / F::PER_LANE;
        let narrow = in_channels.max(out_channels);
        let [
            activation,
            gradient,
            gradient_by_lane,
            bias_sums,
            input_transposed,
            output_transposed,
            expand_sums,
            reduce_sums,
            input_packed,
            output_packed,
        ] = scratch.arrays([
            [channels, segment_lanes],
            [channels, segment_lanes],
            [channels / F::PER_LANE, SEGMENT_PX],
            [channels, S::LANES],
            [segment_lanes, in_columns],
            [segment_lanes, out_columns],
            [channels, in_columns],
            [channels, out_columns],
            [narrow, SEGMENT_PX],
            [narrow, SEGMENT_PX],
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
                .map(|channel| first.wrapping_add(channel * segment_lanes))
                .collect()
        };
        let (activation_rows, gradient_rows) = (rows_of(wide.activation), rows_of(wide.gradient));
        let wide_gradient = Rows {
            rows: [match F::PER_LANE {
                1 => wide.gradient.cast_const(),
                _ => wide.gradient_by_lane.cast_const(),
            }],
            plane_len: SEGMENT_PX,
            planes: channels / F::PER_LANE,
        };
        let run_of = |planes: &Planes| Rows {
            rows: [planes.as_slice()[g.origin..].as_ptr()],
            plane_len: g.plane_len,
            planes: planes.channels(),
        };
        let (input_run, gradient_run) = (run_of(input), run_of(output_gradient));
        let output = TileOutput {
            to: input_gradient.as_mut_slice()[g.origin..].as_mut_ptr(),
            plane_len: g.plane_len,
            epilogue: epilogue.at(|maps| maps.as_slice()[g.origin..].as_ptr()),
        };
        let expand = Pointwise {
            weights: &weights.expand,
            bias: &weights.zeros,
        };
        for segment in (0..g.run_len()).step_by(SEGMENT_PX) {
            let len = SEGMENT_PX.min(g.run_len() - segment);
            let (from, from_gradient) = (input_run.skip(segment), gradient_run.skip(segment));
            // SAFETY: all planes have the same geometry and the pair's channels. The segment lies
            // in the run of pixels, which `OVERSHOOT` floats follow for the rest of a group, and
            // which is zero behind its end in the output gradient. The scratch arrays hold a whole
            // segment, a multiple of a group, of the channels that they are used for.
            unsafe {
                let packed = input_packed.as_mut_ptr();
                let narrow = from.pack_channels::<S, F>(simd, len, packed, SEGMENT_PX);
                let packed = output_packed.as_mut_ptr();
                let by_output = from_gradient.pack_channels::<S, F>(simd, len, packed, SEGMENT_PX);
                wide.compute::<S, F>(simd, (pair, weights), narrow, by_output, len);
                expand.run::<S, F>(simd, wide_gradient, output.skip(segment), len);

                let packed = (input_packed.as_mut_ptr(), segment_lanes);
                let to = (input_transposed.as_mut_ptr(), in_columns);
                let transposed = from.transpose::<S, F>(simd, len, packed, to);
                let sums = expand_sums.as_mut_ptr();
                add_outer_products::<S, F>(simd, &gradient_rows, 0, transposed, sums);
                let to = (output_transposed.as_mut_ptr(), out_columns);
                let transposed = from_gradient.transpose::<S, F>(simd, len, packed, to);
                let sums = reduce_sums.as_mut_ptr();
                add_outer_products::<S, F>(simd, &activation_rows, 0, transposed, sums);
                add_sums(simd, from_gradient, len, gradients.reduce_bias);
            }
        }
        input_gradient.clear_border();
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
}

impl Wide {
    /// Computes the wide activation again, and its gradient, which is zero where the activation is.
    ///
    /// # Safety
    /// `len` pixels, at most [`SEGMENT_PX`], rounded up to a group can be read from `input` and
    /// `output_gradient`, which have the pair's input and output channels in lanes of `F`. The
    /// fields point to arrays of the shapes that they say.
    #[inline(always)]
    unsafe fn compute<S: Simd, F: Format<S>>(
        &self,
        simd: S,
        (pair, weights): (&PairWeights, &BackwardWeights),
        input: Rows<1>,
        output_gradient: Rows<1>,
        len: usize,
    ) {
        let lanes = SEGMENT_PX / F::PER_LANE;
        let terms = input.planes;
        for (first, count) in tiles(pair.wide_channels, tile_channels::<S>(terms), F::PER_LANE) {
            let expand = TileWeights::of(&pair.expand, &pair.expand_bias, first, terms);
            let reduce = weights.reduce[first * output_gradient.planes..].as_ptr();
            with_tile_size!(S, count, N => {
                for pixel in (0..len).step_by(group_px::<S>()) {
                    // SAFETY: the tile lies below the wide channels, its pixels below `len` rounded
                    // up to a group, which is at most `SEGMENT_PX`: the caller promises them in
                    // the input, the output gradient and the arrays. `expand` and `reduce` have
                    // the weights of this tile.
                    unsafe {
                        let sums = expand.start::<S, N, TILE_VECTORS>(simd);
                        let mut activation = input
                            .accumulate::<S, F, N, TILE_VECTORS>(
                                simd, pixel, &ONE_TAP, expand.weights, sums,
                            );
                        for o in 0..N {
                            for v in 0..TILE_VECTORS {
                                activation[o][v] = simd.relu(activation[o][v]);
                            }
                            let at = (first + o) * lanes + pixel / F::PER_LANE;
                            F::store_pixels(simd, self.activation.add(at), activation[o]);
                        }
                        let sums = [[simd.splat(0.0); TILE_VECTORS]; N];
                        let mut gradient = output_gradient
                            .accumulate::<S, F, N, TILE_VECTORS>(simd, pixel, &ONE_TAP, reduce, sums);
                        // Loops as short as these are unrolled, and the tile stays in registers.
                        for o in 0..N {
                            for v in 0..TILE_VECTORS {
                                gradient[o][v] =
                                    simd.where_positive(activation[o][v], gradient[o][v]);
                            }
                        }
                        for o in 0..N {
                            let at = (first + o) * lanes + pixel / F::PER_LANE;
                            F::store_pixels(simd, self.gradient.add(at), gradient[o]);
                        }
                        for o in 0..N {
                            let sum = self.bias_sums.add((first + o) * S::LANES);
                            let both = simd.add(gradient[o][0], gradient[o][1]);
                            simd.store(sum, simd.add(simd.load(sum), both));
                        }
                        if F::PER_LANE > 1 {
                            let at = first / F::PER_LANE * SEGMENT_PX + pixel;
                            let to = self.gradient_by_lane.add(at);
                            store_channels::<S, F, N, TILE_VECTORS>(
                                simd, gradient, to, SEGMENT_PX,
                            );
                        }
                    }
                }
            });
        }
    }
}
