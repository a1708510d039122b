//! Two 1x1 convolutions of bytes with a ReLU between them.

use super::conv::stored;
use super::layer::{ByteLayer, ByteScale, Bytes, PackedLayer, Prepared, check_output};
use super::quantize::{QuantizeRun, quantize};
use super::tiles::{self, LayerTiles, padded_planes};
use super::{ByteKernel, dispatch, reference};
use crate::epilogue::TileOutput;
use crate::simd::ByteSimd;
use crate::strip::{Strip, StripFormat};
use crate::tile::{MAX_GROUP_PX, ONE_TAP};
use crate::tiles::{TileKernel, Tiles};
use crate::{Isa, Scratch};

/// Pixels whose wide activation is kept: 192 channels of 64 pixels are 12 KB of the first-level cache.
const SEGMENT_PX: usize = 64;

/// Two 1x1 convolutions on [`Strip`]s, which are rounded to bytes, with a ReLU between them.
#[derive(Clone)]
pub struct BytePair {
    input: ByteScale,
    expand: PackedLayer,
    reduce: PackedLayer,
}

impl BytePair {
    /// Arranges the weights of `reduce(max(expand(x), 0))`. `input` is the scale that the input is rounded to, `hidden` that of
    /// the wide activation. The result is f32, or bytes of the scale `output`.
    ///
    /// # Panics
    /// If lengths differ, they are not two 1x1 convolutions that follow each other, `hidden` is signed, or a sum does not
    /// fit 31 bits.
    pub fn new(
        isa: Isa,
        input: &ByteScale,
        expand: ByteLayer<'_>,
        hidden: &ByteScale,
        reduce: ByteLayer<'_>,
        output: Option<&ByteScale>,
    ) -> Self {
        assert_eq!([expand.kernel, reduce.kernel], [1, 1], "kernels of a pair");
        assert_eq!(
            hidden.format(),
            StripFormat::UnsignedBytes,
            "format of the wide activation"
        );
        Self {
            input: input.clone(),
            expand: PackedLayer::new(isa, input, expand, Some(hidden), true),
            reduce: PackedLayer::new(isa, hidden, reduce, output, true),
        }
    }

    /// Computes `output = reduce(max(expand(input), 0))` of a strip.
    ///
    /// # Shapes
    /// - input: a strip of the first convolution's input channels, [`StripFormat::Planes`]
    /// - output: a strip of the second one's output channels, in the format of the output's scale or
    ///   [`StripFormat::Planes`], and the same layout except for `rows_above` and `format`, whose rows and columns the input
    ///   holds
    ///
    /// # Panics
    /// If the shapes differ, or the input does not cover the output.
    pub fn run(&self, input: &Strip, output: &mut Strip, scratch: &mut Scratch) {
        let isa = self.expand.isa;
        assert_eq!(input.channels(), self.expand.in_channels, "input channels");
        input.check_format(&[StripFormat::Planes]);
        check_output(&self.reduce, output);
        let offset = output.offset_in(input, 0);
        if isa == Isa::REFERENCE {
            let layers = [&self.expand, &self.reduce];
            return reference::pair(&self.input, layers, (input, offset), output);
        }
        let output_len = output.plane_len();
        let row = |output: &mut Strip, y: usize| Row {
            pair: self,
            input: input.at(y as isize + offset.rows, offset.px),
            plane_len: input.plane_len(),
            output: output.lanes_mut(y),
            output_len,
            width_px: output.width_px(),
        };
        if let (Some(expand), Some(reduce)) = (&self.expand.tiles, &self.reduce.tiles) {
            let planes = [&self.expand, &self.reduce].map(|layer| padded_planes(layer.in_lanes()));
            let [narrow, wide] = planes.map(|planes| [planes, SEGMENT_PX]);
            let [narrow, wide, sums] = scratch.arrays([narrow, wide, tiles::SUMS]);
            for y in output.inside() {
                expand.run_kernel(TileRun {
                    row: row(output, y),
                    tiles: [expand, reduce],
                    narrow,
                    wide,
                    sums,
                });
            }
            output.clear_border();
            return;
        }
        let lanes = [&self.expand, &self.reduce].map(PackedLayer::in_lanes);
        let [narrow, wide] = scratch.arrays(lanes.map(|lanes| [lanes, SEGMENT_PX]));
        for y in output.inside() {
            let run = PairRun {
                row: row(output, y),
                narrow,
                wide,
            };
            dispatch(isa, run);
        }
        output.clear_border();
    }
}

/// A row. Both strips have rows of a border, `width_px` pixels or more, and
/// [`STRIP_OVERSHOOT`](crate::strip::STRIP_OVERSHOOT) lanes for the rest of a group, in the pair's channels.
struct Row<'a> {
    pair: &'a BytePair,
    input: *const f32,
    plane_len: usize,
    output: *mut f32,
    output_len: usize,
    width_px: usize,
}

impl Row<'_> {
    /// Its segments: pixels, planes of the input, and the output.
    fn segments(&self) -> impl Iterator<Item = (usize, (*const f32, usize), TileOutput)> {
        (0..self.width_px).step_by(SEGMENT_PX).map(|first| {
            let len = SEGMENT_PX.min(self.width_px - first);
            let from = (self.input.wrapping_add(first), self.plane_len);
            let to = stored(self.output.wrapping_add(first), self.output_len);
            (len, from, to)
        })
    }
}

/// A row on vectors. `narrow` and `wide` hold a segment of the lanes of the input and of the wide activation.
struct PairRun<'a> {
    row: Row<'a>,
    narrow: &'a mut [f32],
    wide: &'a mut [f32],
}

/// A row on tiles. `narrow` and `wide` hold a segment of the lanes of the input and of the wide activation, with the planes that a
/// tile has.
struct TileRun<'a> {
    row: Row<'a>,
    tiles: [&'a LayerTiles; 2],
    narrow: &'a mut [f32],
    wide: &'a mut [f32],
    sums: &'a mut [f32],
}

impl TileKernel for TileRun<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tiles>(self, tiles: &mut T) {
        const { assert!(SEGMENT_PX == tiles::SEGMENT_PX, "pixels of a segment") }
        let BytePair {
            input,
            expand,
            reduce,
        } = self.row.pair;
        let (narrow, wide) = (self.narrow.as_mut_ptr(), self.wide.as_mut_ptr());
        for (len, from, to) in self.row.segments() {
            let quantized = QuantizeRun {
                scale: input,
                from: from.0,
                from_len: from.1,
                to: narrow,
                to_len: SEGMENT_PX,
                len_px: len,
            };
            dispatch(expand.isa, quantized);
            let narrow = (narrow.cast_const(), SEGMENT_PX);
            let between = stored(wide, SEGMENT_PX);
            let wide = (wide.cast_const(), SEGMENT_PX);
            // SAFETY: see the type.
            unsafe {
                (self.tiles[0]).run(tiles, expand, narrow, between, len, self.sums);
                (self.tiles[1]).run(tiles, reduce, wide, to, len, self.sums);
            }
        }
    }
}

impl ByteKernel for PairRun<'_> {
    type Output = ();

    #[inline(always)]
    fn vectorized<S: ByteSimd>(self, simd: S) {
        const {
            assert!(
                SEGMENT_PX.is_multiple_of(MAX_GROUP_PX),
                "groups of a segment"
            )
        }
        let BytePair {
            input,
            expand,
            reduce,
        } = self.row.pair;
        let (narrow, wide) = (self.narrow.as_mut_ptr(), self.wide.as_mut_ptr());
        for (len, from, to) in self.row.segments() {
            // SAFETY: see the type.
            unsafe {
                quantize::<S, Prepared>(simd, input, from, (narrow, SEGMENT_PX), len);
                let narrow = (narrow.cast_const(), SEGMENT_PX);
                expand.run::<S, Prepared, Prepared>(
                    simd,
                    narrow,
                    &ONE_TAP,
                    stored(wide, SEGMENT_PX),
                    len,
                );
                let wide = (wide.cast_const(), SEGMENT_PX);
                reduce.run::<S, Prepared, Bytes>(simd, wide, &ONE_TAP, to, len);
            }
        }
    }
}
