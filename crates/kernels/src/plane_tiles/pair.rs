//! Two 1x1 convolutions of planes with a ReLU between them, and their gradients, on tiles.

use super::{
    PER_LANE, PackChannels, TransposeRun, VectorKernel, add_outer_products, convolve, lane_planes,
    odd_lines, offsets, run_of, sums_of_conv, target, whole_groups,
};
use crate::conv2d::ConvLayer;
use crate::epilogue::TileOutput;
use crate::pointwise_pair::PairGradients;
use crate::precision::Format;
use crate::rows::store_channels;
use crate::simd::Simd;
use crate::tile::{MAX_GROUP_PX, ONE_TAP, TILE_VECTORS, group_px};
use crate::tile_sums::{BLOCK, TileSums};
use crate::tiles::{OfBf16, TileKernel, Tiles, run_on_tiles};
use crate::{Epilogue, Isa, Planes, Scratch};

/// Pixels whose wide activation is kept on the way forwards: 192 channels of 64 pixels are 24 KB of the first-level cache.
const FORWARD_PX: usize = 64;

/// Pixels that go backwards at a time: the more, the less often the sums of the gradients by the weights are loaded and stored.
const BACKWARD_PX: usize = 256;

const BACKWARD_LANES: usize = BACKWARD_PX / PER_LANE;

/// Both convolutions, their weights arranged as tiles.
#[derive(Clone)]
pub(crate) struct TilePair {
    in_channels: usize,
    wide_channels: usize,
    out_channels: usize,
    expand: TileSums,
    reduce: TileSums,
    /// The gradients by their inputs.
    expand_back: TileSums,
    reduce_back: TileSums,
}

impl TilePair {
    /// Arranges the weights of `reduce(max(expand(x), 0))`.
    pub(crate) fn new(isa: Isa, expand: ConvLayer<'_>, reduce: ConvLayer<'_>) -> Self {
        let forward = |layer: ConvLayer<'_>| {
            let shape = [layer.in_channels, layer.out_channels, 1];
            let weight = |o, i, _| layer.weight(o, i, 0);
            sums_of_conv(isa, shape, weight, |o| layer.bias[o])
        };
        let backward = |layer: ConvLayer<'_>| {
            let shape = [layer.out_channels, layer.in_channels, 1];
            sums_of_conv(isa, shape, |i, o, _| layer.weight(o, i, 0), |_| 0.0)
        };
        Self {
            in_channels: expand.in_channels,
            wide_channels: expand.out_channels,
            out_channels: reduce.out_channels,
            expand: forward(expand),
            reduce: forward(reduce),
            expand_back: backward(expand),
            reduce_back: backward(reduce),
        }
    }

    /// The wide channels in whole blocks.
    fn whole_blocks(&self) -> usize {
        self.wide_channels.next_multiple_of(BLOCK)
    }

    /// Convolves planes of the same geometry, which have the pair's channels.
    pub(crate) fn forward(&self, input: &Planes, output: &mut Planes, scratch: &mut Scratch) {
        let (g, isa) = (input.geometry(), self.expand.isa);
        let len = whole_groups(g.run_len());
        let plane_len = odd_lines(len);
        let [narrow, wide, sums] = scratch.arrays([
            [lane_planes(self.in_channels), plane_len],
            [self.whole_blocks() / PER_LANE, FORWARD_PX],
            [BLOCK, FORWARD_PX],
        ]);
        // `OVERSHOOT` floats follow the run, more than a group.
        let packed = PackChannels {
            from: run_of(input, 0),
            len,
            to: narrow,
            to_len: plane_len,
        };
        packed.on(isa);
        let run = ForwardRun {
            pair: self,
            narrow,
            plane_len,
            wide,
            sums,
            output: target(output, Epilogue::Store),
            len: g.run_len(),
        };
        run_on_tiles(isa, run);
        output.clear_border();
    }

    /// Adds the gradients by the weights, and computes the gradient by the input. All planes have the same geometry; input, input
    /// gradient and the epilogue's maps have the pair's input channels, the output gradient its output channels.
    pub(crate) fn backward(
        &self,
        [input, output_gradient]: [&Planes; 2],
        input_gradient: &mut Planes,
        epilogue: Epilogue<'_, Planes>,
        gradients: PairGradients<'_>,
        scratch: &mut Scratch,
    ) {
        let (g, isa) = (input.geometry(), self.expand.isa);
        let (in_channels, out_channels) = (self.in_channels, self.out_channels);
        let len = whole_groups(g.run_len());
        let (lanes, plane_len) = (len / PER_LANE, odd_lines(len));
        let most_columns = |channels: usize| channels.next_multiple_of(MAX_GROUP_PX);
        let wide = self.whole_blocks();
        let [
            input_lanes,
            gradient_lanes,
            input_transposed,
            gradient_transposed,
            packed,
            activation_sums,
            gradient_sums,
            activation,
            gradient,
            gradient_by_lane,
            expand_sums,
            reduce_sums,
            bias_sums,
        ] = scratch.arrays([
            [lane_planes(in_channels), plane_len],
            [lane_planes(out_channels), plane_len],
            [lanes, most_columns(in_channels)],
            [lanes, most_columns(out_channels)],
            [in_channels.max(out_channels), lanes],
            [BLOCK, BACKWARD_PX],
            [BLOCK, BACKWARD_PX],
            [BLOCK, BACKWARD_LANES],
            [BLOCK, BACKWARD_LANES],
            [wide / PER_LANE, BACKWARD_PX],
            [wide, most_columns(in_channels)],
            [wide, most_columns(out_channels)],
            [1, wide],
        ]);
        for (planes, to) in [
            (input, &mut *input_lanes),
            (output_gradient, &mut *gradient_lanes),
        ] {
            let from = run_of(planes, 0);
            let packed = PackChannels {
                from,
                len,
                to,
                to_len: plane_len,
            };
            packed.on(isa);
        }
        let mut transpose = |planes, bias, to| {
            let transpose = TransposeRun {
                planes,
                bias,
                packed: &mut *packed,
                to,
            };
            transpose.on(isa)
        };
        let in_columns = transpose(input, &mut [], input_transposed);
        let out_columns = transpose(output_gradient, gradients.reduce_bias, gradient_transposed);
        let (expand_sums, reduce_sums) = (
            &mut expand_sums[..wide * in_columns],
            &mut reduce_sums[..wide * out_columns],
        );
        expand_sums.fill(0.0);
        reduce_sums.fill(0.0);
        bias_sums.fill(0.0);
        let run = BackwardRun {
            pair: self,
            plane_len,
            input_lanes,
            gradient_lanes,
            input_transposed: (input_transposed, in_columns),
            gradient_transposed: (gradient_transposed, out_columns),
            wide: Wide {
                sums: [activation_sums, gradient_sums],
                activation,
                gradient,
            },
            gradient_by_lane,
            expand_sums,
            reduce_sums,
            bias_sums,
            input_gradient: target(input_gradient, epilogue),
            len: g.run_len(),
        };
        run_on_tiles(isa, run);
        input_gradient.clear_border();
        let wide = self.wide_channels;
        for h in 0..wide {
            for i in 0..in_channels {
                gradients.expand[h * in_channels + i] += expand_sums[h * in_columns + i];
            }
            for o in 0..out_channels {
                gradients.reduce[o * wide + h] += reduce_sums[h * out_columns + o];
            }
            gradients.expand_bias[h] += bias_sums[h];
        }
    }
}

/// A run of `len` pixels, which `OVERSHOOT` floats follow in the output.
struct ForwardRun<'a> {
    pair: &'a TilePair,
    /// Lanes of the input.
    narrow: &'a [f32],
    plane_len: usize,
    /// Lanes of the wide activation of a segment, `[wide][FORWARD_PX]`.
    wide: &'a mut [f32],
    sums: &'a mut [f32],
    output: TileOutput,
    len: usize,
}

impl TileKernel for ForwardRun<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tiles>(self, tiles: &mut T) {
        let Self {
            pair,
            narrow,
            plane_len,
            wide,
            sums,
            ..
        } = self;
        let isa = pair.expand.isa;
        let in_offsets = offsets(&ONE_TAP, lane_planes(pair.in_channels), plane_len);
        let wide_offsets = offsets(&ONE_TAP, wide.len() / FORWARD_PX, FORWARD_PX);
        for segment in (0..self.len).step_by(FORWARD_PX) {
            let len = FORWARD_PX.min(self.len - segment);
            for (first, _) in pair.expand.blocks() {
                let input = (&narrow[segment..], plane_len);
                let offsets = in_offsets.clone();
                (pair.expand).run::<T, OfBf16>(tiles, first, input, offsets, len, sums);
                let to =
                    &mut wide[first / PER_LANE * FORWARD_PX..][..BLOCK / PER_LANE * FORWARD_PX];
                Widen { sums, to, len }.on(isa);
            }
            let (input, offsets) = ((&*wide, FORWARD_PX), wide_offsets.clone());
            let output = self.output.skip(segment);
            convolve(tiles, &pair.reduce, input, offsets, output, len, sums);
        }
    }
}

/// Stores a block of sums, negative ones as 0, as lanes of two channels.
struct Widen<'a> {
    /// `[BLOCK][FORWARD_PX]`
    sums: &'a [f32],
    /// `[BLOCK / PER_LANE][FORWARD_PX]`
    to: &'a mut [f32],
    len: usize,
}

impl VectorKernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, F: Format<S>>(self, simd: S) {
        let lanes = self.to.chunks_exact_mut(FORWARD_PX);
        for (sums, to) in self.sums.chunks_exact(PER_LANE * FORWARD_PX).zip(lanes) {
            let (first, second) = sums.split_at(FORWARD_PX);
            for pixel in (0..whole_groups(self.len)).step_by(S::LANES) {
                // SAFETY: the slices hold a vector.
                unsafe {
                    let [first, second] =
                        [first, second].map(|row| simd.load(row[pixel..][..S::LANES].as_ptr()));
                    let lane = F::join(simd, simd.relu(first), simd.relu(second));
                    simd.store(to[pixel..][..S::LANES].as_mut_ptr(), lane);
                }
            }
        }
    }
}

/// A run of `len` pixels, which `OVERSHOOT` floats follow in the input gradient and the epilogue's maps.
struct BackwardRun<'a> {
    pair: &'a TilePair,
    /// Of lanes of two channels.
    plane_len: usize,
    input_lanes: &'a [f32],
    gradient_lanes: &'a [f32],
    /// Lanes of two pixels and columns.
    input_transposed: (&'a [f32], usize),
    gradient_transposed: (&'a [f32], usize),
    wide: Wide<'a>,
    /// The gradient by the wide activation of a segment in lanes of two channels, `[wide][BACKWARD_PX]`.
    gradient_by_lane: &'a mut [f32],
    /// `[wide][columns]`
    expand_sums: &'a mut [f32],
    reduce_sums: &'a mut [f32],
    bias_sums: &'a mut [f32],
    input_gradient: TileOutput,
    len: usize,
}

/// A block of the wide activation of a segment, and its gradient.
struct Wide<'a> {
    /// `[BLOCK][BACKWARD_PX]` each
    sums: [&'a mut [f32]; 2],
    /// In lanes of two pixels, `[BLOCK][BACKWARD_LANES]`.
    activation: &'a mut [f32],
    gradient: &'a mut [f32],
}

impl TileKernel for BackwardRun<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tiles>(mut self, tiles: &mut T) {
        let (pair, plane_len) = (self.pair, self.plane_len);
        let isa = pair.expand.isa;
        let in_offsets = offsets(&ONE_TAP, lane_planes(pair.in_channels), plane_len);
        let out_offsets = offsets(&ONE_TAP, lane_planes(pair.out_channels), plane_len);
        let wide_planes = self.gradient_by_lane.len() / BACKWARD_PX;
        let wide_offsets = offsets(&ONE_TAP, wide_planes, BACKWARD_PX);
        let (input_transposed, in_columns) = self.input_transposed;
        let (gradient_transposed, out_columns) = self.gradient_transposed;
        for segment in (0..self.len).step_by(BACKWARD_PX) {
            let len = BACKWARD_PX.min(self.len - segment);
            let (lane, lanes) = (segment / PER_LANE, whole_groups(len) / PER_LANE);
            for (first, _) in pair.expand.blocks() {
                let input = (&self.input_lanes[segment..], plane_len);
                let [activation, gradient] = &mut self.wide.sums;
                let offsets = in_offsets.clone();
                (pair.expand).run::<T, OfBf16>(tiles, first, input, offsets, len, activation);
                let input = (&self.gradient_lanes[segment..], plane_len);
                let offsets = out_offsets.clone();
                (pair.reduce_back).run::<T, OfBf16>(tiles, first, input, offsets, len, gradient);
                let by_lane = &mut self.gradient_by_lane[first / PER_LANE * BACKWARD_PX..];
                let back = WideBack {
                    wide: &mut self.wide,
                    gradient_by_lane: &mut by_lane[..BLOCK / PER_LANE * BACKWARD_PX],
                    bias_sums: &mut self.bias_sums[first..][..BLOCK],
                    len,
                };
                back.on(isa);
                for (rows, transposed, columns, sums) in [
                    (
                        &*self.wide.activation,
                        gradient_transposed,
                        out_columns,
                        &mut *self.reduce_sums,
                    ),
                    (
                        &*self.wide.gradient,
                        input_transposed,
                        in_columns,
                        &mut *self.expand_sums,
                    ),
                ] {
                    let transposed = (&transposed[lane * columns..], columns);
                    let sums = &mut sums[first * columns..][..BLOCK * columns];
                    add_outer_products(tiles, (rows, BACKWARD_LANES), transposed, lanes, sums);
                }
            }
            let [sums, _] = &mut self.wide.sums;
            let input = (&*self.gradient_by_lane, BACKWARD_PX);
            let (offsets, output) = (wide_offsets.clone(), self.input_gradient.skip(segment));
            convolve(tiles, &pair.expand_back, input, offsets, output, len, sums);
        }
    }
}

/// What follows from the sums of a block of [`Wide`]: its other fields, its gradient in lanes of two channels, and the sums of
/// the gradient over pixels.
struct WideBack<'a, 'b> {
    wide: &'a mut Wide<'b>,
    /// `[BLOCK / PER_LANE][BACKWARD_PX]`
    gradient_by_lane: &'a mut [f32],
    bias_sums: &'a mut [f32],
    len: usize,
}

impl VectorKernel for WideBack<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, F: Format<S>>(self, simd: S) {
        let Wide {
            sums: [activation_sums, gradient_sums],
            activation,
            gradient,
        } = self.wide;
        let group = group_px::<S>();
        let mut totals = [simd.splat(0.0); BLOCK];
        for pixel in (0..whole_groups(self.len)).step_by(group) {
            for h in (0..BLOCK).step_by(PER_LANE) {
                let mut gradients = [[simd.splat(0.0); TILE_VECTORS]; PER_LANE];
                for (c, gradients) in gradients.iter_mut().enumerate() {
                    let at = (h + c) * BACKWARD_PX + pixel;
                    let to = (h + c) * BACKWARD_LANES + pixel / PER_LANE;
                    // SAFETY: the slices hold a group of pixels, and its lanes.
                    unsafe {
                        let sums = activation_sums[at..][..group].as_ptr();
                        let values = [simd.load(sums), simd.load(sums.add(S::LANES))];
                        let values = values.map(|sum| simd.relu(sum));
                        let lanes = activation[to..][..group / PER_LANE].as_mut_ptr();
                        F::store_pixels(simd, lanes, values);
                        let sums = gradient_sums[at..][..group].as_ptr();
                        let by = [simd.load(sums), simd.load(sums.add(S::LANES))];
                        for v in 0..TILE_VECTORS {
                            gradients[v] = simd.where_positive(values[v], by[v]);
                        }
                        let lanes = gradient[to..][..group / PER_LANE].as_mut_ptr();
                        F::store_pixels(simd, lanes, *gradients);
                    }
                    let sum = simd.add(gradients[0], gradients[1]);
                    totals[h + c] = simd.add(totals[h + c], sum);
                }
                let at = h / PER_LANE * BACKWARD_PX + pixel;
                let to = self.gradient_by_lane[at..][..group].as_mut_ptr();
                // SAFETY: the slice holds a group.
                unsafe {
                    store_channels::<S, F, PER_LANE, TILE_VECTORS>(
                        simd,
                        gradients,
                        to,
                        BACKWARD_PX,
                    );
                }
            }
        }
        for (sum, total) in self.bias_sums.iter_mut().zip(totals) {
            *sum += simd.sum(total);
        }
    }
}
