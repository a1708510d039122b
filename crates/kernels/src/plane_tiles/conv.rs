//! A convolution of planes on tiles, and its gradient by the weight.

use super::{
    PER_LANE, PackChannels, PackRows, TransposeRun, VectorKernel, add_outer_products, convolve,
    lane_planes, odd_lines, offsets, run_of, sums_of_conv, target, whole_groups,
};
use crate::conv2d::{ConvGradients, MAX_KERNEL};
use crate::direct::square_taps;
use crate::epilogue::TileOutput;
use crate::planes::{BORDER_PX, OVERSHOOT};
use crate::tile::MAX_GROUP_PX;
use crate::tile_sums::{BLOCK, TileSums};
use crate::tiles::{ROWS, TileKernel, Tiles, run_on_tiles};
use crate::{Epilogue, Isa, Planes, Scratch};

/// Pixels whose sums are kept.
const SEGMENT_PX: usize = 64;

/// Lanes of two pixels whose products are added in registers: those of an output gradient of 32 channels are 16 KB.
const CHUNK_LANES: usize = 128;

/// A convolution of planes, its weights arranged as tiles.
#[derive(Clone)]
pub(crate) struct TileConv {
    sums: TileSums,
    in_channels: usize,
    kernel: usize,
}

impl TileConv {
    /// Arranges the weights `[out][in][tap]`.
    pub(crate) fn new(
        isa: Isa,
        [in_channels, kernel]: [usize; 2],
        bias: &[f32],
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let shape = [in_channels, bias.len(), kernel * kernel];
        Self {
            sums: sums_of_conv(isa, shape, weight, |o| bias[o]),
            in_channels,
            kernel,
        }
    }

    /// Convolves planes of the same geometry, which have the convolution's channels; so have the epilogue's maps.
    pub(crate) fn run(
        &self,
        input: &Planes,
        output: &mut Planes,
        epilogue: Epilogue<'_, Planes>,
        scratch: &mut Scratch,
    ) {
        let (g, isa) = (input.geometry(), self.sums.isa);
        let reach = self.kernel / 2 * (g.stride + 1);
        let (len, planes) = (g.run_len(), lane_planes(self.in_channels));
        let plane_len = odd_lines(whole_groups(len) + 2 * reach + MAX_GROUP_PX);
        let [lanes, sums] = scratch.arrays([[planes, plane_len], [BLOCK, SEGMENT_PX]]);
        const { assert!(MAX_KERNEL / 2 <= BORDER_PX, "pixels read") }
        // The pixels from the first tap of the first one to the last tap of the last one; `OVERSHOOT` floats follow.
        let packed = PackChannels {
            from: run_of(input, reach),
            len: len + 2 * reach,
            to: lanes,
            to_len: plane_len,
        };
        packed.on(isa);
        let run = ConvRun {
            conv: self,
            lanes,
            plane_len,
            taps: &square_taps(self.kernel, g.stride),
            target: target(output, epilogue),
            len,
            sums,
        };
        run_on_tiles(isa, run);
        output.clear_border();
    }
}

/// A run of `len` pixels, which `OVERSHOOT` floats follow in the output and its maps.
struct ConvRun<'a> {
    conv: &'a TileConv,
    /// Lanes of the input from the first tap of the first pixel on.
    lanes: &'a [f32],
    plane_len: usize,
    taps: &'a [usize],
    target: TileOutput,
    len: usize,
    sums: &'a mut [f32],
}

impl TileKernel for ConvRun<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tiles>(self, tiles: &mut T) {
        let of_conv = &self.conv.sums;
        let planes = lane_planes(self.conv.in_channels);
        for segment in (0..self.len).step_by(SEGMENT_PX) {
            let len = SEGMENT_PX.min(self.len - segment);
            let input = (&self.lanes[segment..], self.plane_len);
            let offsets = offsets(self.taps, planes, self.plane_len);
            let output = self.target.skip(segment);
            convolve(tiles, of_conv, input, offsets, output, len, self.sums);
        }
    }
}

/// Adds the gradients by weight and bias of a convolution with `kernel` x `kernel` taps. Input and output gradient have the same
/// geometry, and the gradients the shapes of their channels.
pub(crate) fn add_weight_gradient(
    isa: Isa,
    kernel: usize,
    [input, output_gradient]: [&Planes; 2],
    gradients: ConvGradients<'_>,
    scratch: &mut Scratch,
) {
    let g = input.geometry();
    let (in_channels, out_channels) = (input.channels(), output_gradient.channels());
    let reach = kernel / 2 * (g.stride + 1);
    let taps = square_taps(kernel, g.stride);
    let len_lanes = whole_groups(g.run_len()) / PER_LANE;
    let rows = in_channels.next_multiple_of(ROWS);
    let rows_len = odd_lines(len_lanes + reach + MAX_GROUP_PX);
    let most_columns = out_channels.next_multiple_of(MAX_GROUP_PX);
    let [by_pixels, transposed, packed, sums] = scratch.arrays([
        [2 * rows, rows_len],
        [len_lanes, most_columns],
        [out_channels, len_lanes],
        [taps.len() * rows, most_columns],
    ]);
    // The pixels of all taps lie in a plane and its border, and `OVERSHOOT` floats follow, more than a group and one.
    const { assert!(MAX_GROUP_PX < OVERSHOOT, "pixels read behind the last tap") }
    for (parity, to) in by_pixels.chunks_exact_mut(rows * rows_len).enumerate() {
        let packed = PackRows {
            from: run_of(input, reach).skip(parity),
            len: g.run_len() + 2 * reach,
            to,
            to_len: rows_len,
        };
        packed.on(isa);
    }
    let transpose = TransposeRun {
        planes: output_gradient,
        bias: gradients.bias,
        packed,
        to: transposed,
    };
    let columns = transpose.on(isa);
    let sums = &mut sums[..taps.len() * rows * columns];
    sums.fill(0.0);
    let run = GradientRun {
        taps: &taps,
        by_pixels,
        rows_len,
        transposed: (&transposed[..len_lanes * columns], columns),
        sums,
    };
    run_on_tiles(isa, run);
    for (tap, sums) in sums.chunks_exact(rows * columns).enumerate() {
        for (i, sums) in sums.chunks_exact(columns).take(in_channels).enumerate() {
            for (o, sum) in sums.iter().take(out_channels).enumerate() {
                gradients.weight[(o * in_channels + i) * taps.len() + tap] += sum;
            }
        }
    }
}

/// The products of all taps. The transposed output gradient is in whole groups.
struct GradientRun<'a> {
    taps: &'a [usize],
    /// The input from the first tap of the first pixel on, and from the pixel behind it on: `[channels][rows_len]` each, in
    /// whole tiles of channels.
    by_pixels: &'a [f32],
    rows_len: usize,
    /// `[lanes][columns]`
    transposed: (&'a [f32], usize),
    /// `[taps][channels][columns]`
    sums: &'a mut [f32],
}

impl TileKernel for GradientRun<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tiles>(self, tiles: &mut T) {
        let (transposed, columns) = self.transposed;
        let sums_len = self.sums.len() / self.taps.len();
        let of_parity = self.by_pixels.len() / 2;
        for (chunk, transposed) in transposed.chunks(CHUNK_LANES * columns).enumerate() {
            let lanes = transposed.len() / columns;
            for (tap, sums) in self.taps.iter().zip(self.sums.chunks_exact_mut(sums_len)) {
                let lane = tap / PER_LANE + chunk * CHUNK_LANES;
                let rows = &self.by_pixels[tap % PER_LANE * of_parity + lane..];
                let transposed = (transposed, columns);
                add_outer_products(tiles, (rows, self.rows_len), transposed, lanes, sums);
            }
        }
    }
}
