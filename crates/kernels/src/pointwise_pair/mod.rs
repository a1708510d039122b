//! Two 1x1 convolutions with a ReLU between them, the wide activation in the first-level cache.
//!
//! This is the wide part of a WDSR-B block (Yu et al. 2018, section 3.2): 32 channels become 192
//! and then 25, and each pixel depends on itself alone. So a few pixels go through both
//! convolutions at a time and the 192 channels never reach memory, neither forwards nor backwards.

mod backward;
mod forward;
mod reference;

use crate::conv2d::ConvLayer;
use crate::dispatch::dispatch;
use crate::packing::Packing;
use crate::plane_tiles::{self, TilePair};
use crate::planes::OVERSHOOT;
use crate::rows::Rows;
use crate::scratch::Scratch;
use crate::strip::{STRIP_OVERSHOOT, Strip};
use crate::tile::MAX_GROUP_PX;
use crate::{Epilogue, Isa, Planes, Precision};
use backward::Backward;
use forward::PairRun;

/// Two 1x1 convolutions on [`Strip`]s, their weights arranged for an instruction set.
#[derive(Clone)]
pub struct StripPair {
    isa: Isa,
    weights: PairWeights,
}

/// Two 1x1 convolutions on [`Planes`] and their gradients, their weights arranged for an
/// instruction set.
#[derive(Clone)]
pub struct PlanesPair {
    isa: Isa,
    in_channels: usize,
    wide_channels: usize,
    out_channels: usize,
    form: PlanesForm,
}

#[derive(Clone)]
enum PlanesForm {
    /// For plain loops and vectors, where [`PairWeights::wide_channels`] are rounded up.
    Vectors(PairWeights, BackwardWeights),
    /// For products of tiles in bf16.
    Tiles(TilePair),
}

/// Weights of both convolutions, as [`Packing::pack`] arranges them.
#[derive(Clone)]
struct PairWeights {
    precision: Precision,
    in_channels: usize,
    /// Rounded up to whole lanes of the precision; the added channels stay zero.
    wide_channels: usize,
    out_channels: usize,
    expand: Vec<f32>,
    expand_bias: Vec<f32>,
    reduce: Vec<f32>,
    reduce_bias: Vec<f32>,
}

/// Weights of the convolutions that compute gradients: input and output exchanged.
#[derive(Clone)]
struct BackwardWeights {
    reduce: Vec<f32>,
    expand: Vec<f32>,
    /// The bias of the latter.
    zeros: Vec<f32>,
}

/// # Panics
/// If they are not two 1x1 convolutions that follow each other, or the lengths of their weights are
/// not those of the shapes.
pub(crate) fn check_layers(expand: &ConvLayer<'_>, reduce: &ConvLayer<'_>) {
    expand.check();
    reduce.check();
    assert_eq!([expand.kernel, reduce.kernel], [1, 1], "kernels of a pair");
    assert_eq!(
        expand.out_channels, reduce.in_channels,
        "channels between the convolutions of a pair"
    );
}

impl PairWeights {
    /// Of layers that are [checked](check_layers).
    fn new(isa: Isa, precision: Precision, expand: ConvLayer<'_>, reduce: ConvLayer<'_>) -> Self {
        let (in_channels, wide) = (expand.in_channels, expand.out_channels);
        let out_channels = reduce.out_channels;
        let unit = precision.per_lane();
        let wide_channels = wide.next_multiple_of(unit);
        let mut expand_bias = expand.bias.to_vec();
        expand_bias.resize(wide_channels, 0.0);
        let packing = Packing::new(isa, precision, in_channels, wide_channels, 1);
        let packed_expand = packing.in_units(unit).pack(|h, i, _| match h {
            h if h < wide => expand.weight(h, i, 0),
            _ => 0.0,
        });
        let packing = Packing::new(isa, precision, wide_channels, out_channels, 1);
        let packed_reduce = packing.pack(|o, h, _| match h {
            h if h < wide => reduce.weight(o, h, 0),
            _ => 0.0,
        });
        Self {
            precision,
            in_channels,
            wide_channels,
            out_channels,
            expand: packed_expand,
            expand_bias,
            reduce: packed_reduce,
            reduce_bias: reduce.bias.to_vec(),
        }
    }
}

/// # Panics
/// If the channels of input and output differ from those given.
fn check_channels(given: [usize; 2], [input, output]: [usize; 2]) {
    assert_eq!(given[0], input, "input channels");
    assert_eq!(given[1], output, "output channels");
}

impl StripPair {
    /// Arranges the weights of `reduce(max(expand(x), 0))`.
    ///
    /// # Panics
    /// If they are not two 1x1 convolutions that follow each other, or the lengths of their weights
    /// are not those of the shapes.
    pub fn new(
        isa: Isa,
        precision: Precision,
        expand: ConvLayer<'_>,
        reduce: ConvLayer<'_>,
    ) -> Self {
        check_layers(&expand, &reduce);
        let isa = isa.without_tiles();
        let weights = PairWeights::new(isa, precision, expand, reduce);
        Self { isa, weights }
    }

    /// Computes `output = reduce(max(expand(input), 0))` of a strip.
    ///
    /// # Shapes
    /// - input: a strip of the first convolution's input channels
    /// - output: a strip of the second one's output channels and the same layout except for
    ///   `rows_above`, whose rows and columns the input holds
    ///
    /// # Panics
    /// If the shapes differ, or the input does not cover the output.
    pub fn run(&self, input: &Strip, output: &mut Strip, scratch: &mut Scratch) {
        let pair = &self.weights;
        check_channels(
            [input.channels(), output.channels()],
            [pair.in_channels, pair.out_channels],
        );
        let offset = output.offset_in(input, 0);
        if self.isa == Isa::REFERENCE {
            return reference::pair_of_strip(pair, (input, offset), output, scratch);
        }
        let (plane_len, width_px) = (output.plane_len(), output.width_px());
        for y in output.inside() {
            const { assert!(MAX_GROUP_PX <= STRIP_OVERSHOOT, "pixels read") }
            let from = Rows {
                rows: [input.at(y as isize + offset.rows, offset.px)],
                plane_len,
                planes: pair.in_channels,
            };
            // SAFETY: both strips have rows of `plane_len` floats: a border, `width_px` pixels or
            // more, and `STRIP_OVERSHOOT` floats for the rest of a group. The offset says that the
            // row's pixels lie in the input. Both have the pair's channels.
            let run = unsafe { PairRun::new(pair, from, output.at_mut(y), width_px, scratch) };
            dispatch(self.isa, pair.precision, run);
        }
        output.clear_border();
    }
}

/// Where the gradients by the weights are added, in the shapes of the two [`ConvLayer`]s.
#[allow(missing_docs, reason = "the names say it")]
pub struct PairGradients<'a> {
    pub expand: &'a mut [f32],
    pub expand_bias: &'a mut [f32],
    pub reduce: &'a mut [f32],
    pub reduce_bias: &'a mut [f32],
}

impl PlanesPair {
    /// Arranges the weights of `reduce(max(expand(x), 0))`.
    ///
    /// # Panics
    /// If they are not two 1x1 convolutions that follow each other, or the lengths of their weights
    /// are not those of the shapes.
    pub fn new(
        isa: Isa,
        precision: Precision,
        expand: ConvLayer<'_>,
        reduce: ConvLayer<'_>,
    ) -> Self {
        check_layers(&expand, &reduce);
        let (in_channels, wide) = (expand.in_channels, expand.out_channels);
        let out_channels = reduce.out_channels;
        let planes_pair = |isa, form| Self {
            isa,
            in_channels,
            wide_channels: wide,
            out_channels,
            form,
        };
        if plane_tiles::are_used(isa, precision) {
            return planes_pair(isa, PlanesForm::Tiles(TilePair::new(isa, expand, reduce)));
        }
        let isa = isa.without_tiles();
        let weights = PairWeights::new(isa, precision, expand, reduce);
        let wide_channels = weights.wide_channels;
        // The wide activation and its gradient are computed side by side, tile by tile.
        let reduce_packing = Packing::new(isa, precision, out_channels, wide_channels, 1)
            .in_units(precision.per_lane())
            .tiled_for(in_channels);
        let expand_packing = Packing::new(isa, precision, wide_channels, in_channels, 1);
        let backward = BackwardWeights {
            reduce: reduce_packing.pack(|h, o, _| match h {
                h if h < wide => reduce.weight(o, h, 0),
                _ => 0.0,
            }),
            expand: expand_packing.pack(|i, h, _| match h {
                h if h < wide => expand.weight(h, i, 0),
                _ => 0.0,
            }),
            zeros: vec![0.0; in_channels],
        };
        planes_pair(isa, PlanesForm::Vectors(weights, backward))
    }

    /// Computes `output = reduce(max(expand(input), 0))` of planes.
    ///
    /// # Shapes
    /// - input: planes of the first convolution's input channels
    /// - output: planes of the second one's output channels, of the same size
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn forward(&self, input: &Planes, output: &mut Planes, scratch: &mut Scratch) {
        check_channels(
            [input.channels(), output.channels()],
            [self.in_channels, self.out_channels],
        );
        assert_eq!(input.geometry(), output.geometry(), "input and output");
        let pair = match &self.form {
            PlanesForm::Vectors(pair, _) => pair,
            PlanesForm::Tiles(tiles) => return tiles.forward(input, output, scratch),
        };
        if self.isa == Isa::REFERENCE {
            return reference::pair_of_planes(pair, input, output, scratch);
        }
        const { assert!(MAX_GROUP_PX <= OVERSHOOT, "pixels read") }
        let g = input.geometry();
        let from = Rows {
            rows: [input.as_slice()[g.origin..].as_ptr()],
            plane_len: g.plane_len,
            planes: pair.in_channels,
        };
        let to = output.as_mut_slice()[g.origin..].as_mut_ptr();
        // SAFETY: both have the same geometry and the pair's channels. The run of pixels of a plane
        // is followed by `OVERSHOOT` floats for the rest of a group.
        let run = unsafe { PairRun::new(pair, from, to, g.run_len(), scratch) };
        dispatch(self.isa, pair.precision, run);
        output.clear_border();
    }

    /// Adds the gradients by the weights, and computes the gradient by the input.
    ///
    /// # Shapes
    /// - input: planes of the first convolution's input channels, what the pair read
    /// - output_gradient: planes of the second one's output channels, of the same size
    /// - input_gradient, and the epilogue's maps: planes of the shape of the input
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn backward(
        &self,
        input: &Planes,
        output_gradient: &Planes,
        input_gradient: &mut Planes,
        epilogue: Epilogue<'_, Planes>,
        gradients: PairGradients<'_>,
        scratch: &mut Scratch,
    ) {
        check_channels(
            [input.channels(), output_gradient.channels()],
            [self.in_channels, self.out_channels],
        );
        assert_eq!(
            output_gradient.geometry(),
            input.geometry(),
            "output gradient and input"
        );
        epilogue.check(input.channels());
        for (planes, what) in [
            (Some(&*input_gradient), "input gradient and input"),
            (epilogue.maps(), "maps of the epilogue and input"),
        ] {
            let planes = planes.unwrap_or(input);
            assert_eq!(planes.geometry(), input.geometry(), "{what}");
            assert_eq!(planes.channels(), input.channels(), "{what}");
        }
        let lengths = [
            gradients.expand.len(),
            gradients.expand_bias.len(),
            gradients.reduce.len(),
            gradients.reduce_bias.len(),
        ];
        let (inputs, wide, outputs) = (self.in_channels, self.wide_channels, self.out_channels);
        let expected = [wide * inputs, wide, outputs * wide, outputs];
        assert_eq!(lengths, expected, "gradients by the weights");
        let (pair, weights) = match &self.form {
            PlanesForm::Vectors(pair, weights) => (pair, weights),
            PlanesForm::Tiles(tiles) => {
                let planes = [input, output_gradient];
                return tiles.backward(planes, input_gradient, epilogue, gradients, scratch);
            }
        };
        let kernel = Backward {
            pair,
            weights,
            input,
            output_gradient,
            input_gradient,
            epilogue,
            gradients,
            scratch,
        };
        dispatch(self.isa, pair.precision, kernel);
    }
}
