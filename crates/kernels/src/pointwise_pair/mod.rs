//! Two 1x1 convolutions with a ReLU between them, the wide activation in the first-level cache.
//!
//! This is the wide part of a WDSR-B block (Yu et al. 2018, section 3.2): 32 channels become 192
//! and then 25, and each pixel depends on itself alone. So a few pixels go through both
//! convolutions at a time and the 192 channels never reach memory, neither forwards nor backwards.

mod reference;
mod simd;

use crate::simd::dispatch_in;
use crate::strip::{Offset, Scratch, Strip};
use crate::tile::Packing;
use crate::{Epilogue, Isa, Planes, Precision};

/// Weights of both convolutions, arranged for one instruction set and for strips.
#[derive(Clone)]
pub struct StripPair {
    isa: Isa,
    weights: PairWeights,
}

/// Weights of both convolutions and of their gradients, arranged for one instruction set and for
/// planes.
#[derive(Clone)]
pub struct PointwisePair {
    isa: Isa,
    /// As given, while [`PairWeights::wide_channels`] is rounded up.
    wide_channels: usize,
    weights: PairWeights,
    turned: TurnedWeights,
}

/// Weights as [`Packing::pack`] arranges them.
#[derive(Clone)]
struct PairWeights {
    precision: Precision,
    in_channels: usize,
    /// Rounded up to what lanes of the precision hold; what is added stays zero.
    wide_channels: usize,
    out_channels: usize,
    expand: Vec<f32>,
    expand_bias: Vec<f32>,
    reduce: Vec<f32>,
    reduce_bias: Vec<f32>,
}

/// The same of the convolutions that take gradients back: input and output exchanged.
#[derive(Clone)]
struct TurnedWeights {
    reduce: Vec<f32>,
    expand: Vec<f32>,
    /// The bias of the latter.
    zeros: Vec<f32>,
}

/// A convolution's weight `[out, in]` and bias `[out]`.
type Layer<'a> = (&'a [f32], &'a [f32]);

impl PairWeights {
    fn new(
        isa: Isa,
        precision: Precision,
        (expand, expand_bias): Layer<'_>,
        (reduce, reduce_bias): Layer<'_>,
        in_channels: usize,
    ) -> Self {
        let (wide, out_channels) = (expand_bias.len(), reduce_bias.len());
        assert_eq!(expand.len(), wide * in_channels, "weights, expand");
        assert_eq!(reduce.len(), out_channels * wide, "weights, reduce");
        let unit = precision.channels_per_lane();
        let wide_channels = wide.next_multiple_of(unit);
        let mut expand_bias = expand_bias.to_vec();
        expand_bias.resize(wide_channels, 0.0);
        let packing = Packing::new(isa, precision, in_channels, wide_channels, 1);
        let expand = packing.in_units(unit).pack(|h, i, _| match h {
            h if h < wide => expand[h * in_channels + i],
            _ => 0.0,
        });
        let packing = Packing::new(isa, precision, wide_channels, out_channels, 1);
        let reduce = packing.pack(|o, h, _| match h {
            h if h < wide => reduce[o * wide + h],
            _ => 0.0,
        });
        Self {
            precision,
            in_channels,
            wide_channels,
            out_channels,
            expand,
            expand_bias,
            reduce,
            reduce_bias: reduce_bias.to_vec(),
        }
    }

    fn check_channels(&self, input: usize, output: usize) {
        assert_eq!(input, self.in_channels, "input channels");
        assert_eq!(output, self.out_channels, "output channels");
    }
}

impl StripPair {
    /// Arranges the weights of `reduce(max(expand(x), 0))`.
    ///
    /// # Shapes
    /// - expand: weight `[wide_channels, in_channels]`, bias `[wide_channels]`
    /// - reduce: weight `[out_channels, wide_channels]`, bias `[out_channels]`
    ///
    /// # Panics
    /// When a weight's length is not that of its shape.
    pub fn new(
        isa: Isa,
        precision: Precision,
        expand: (&[f32], &[f32]),
        reduce: (&[f32], &[f32]),
        in_channels: usize,
    ) -> Self {
        let weights = PairWeights::new(isa, precision, expand, reduce, in_channels);
        Self { isa, weights }
    }

    /// Computes `output = reduce(max(expand(input), 0))` of a strip.
    ///
    /// # Shapes
    /// - input: a strip of `in_channels`
    /// - output: a strip of `out_channels`. It may begin left of the input and above it by what the input holds
    ///   there, and end before it
    ///
    /// # Panics
    /// When the shapes differ, or the output's pixels are not to be had from the input's.
    pub fn run(&self, input: &Strip, output: &mut Strip, scratch: &mut Scratch) {
        let pair = &self.weights;
        pair.check_channels(input.channels(), output.channels());
        let offset = output.offset_in(input, 0);
        use simd::pair_of_strip;
        dispatch_in!(pair.precision, self.isa, reference::pair_of_strip, pair_of_strip(
            pair: &PairWeights,
            input: &Strip,
            offset: Offset,
            output: &mut Strip,
            scratch: &mut Scratch,
        ));
        output.clear_border();
    }
}

/// Where the gradients by the weights are added, in the shapes of [`PointwisePair::new`].
#[allow(missing_docs, reason = "the names say it")]
pub struct Gradients<'a> {
    pub expand: &'a mut [f32],
    pub expand_bias: &'a mut [f32],
    pub reduce: &'a mut [f32],
    pub reduce_bias: &'a mut [f32],
}

impl PointwisePair {
    /// Arranges the weights of `reduce(max(expand(x), 0))`.
    ///
    /// # Shapes
    /// - expand: weight `[wide_channels, in_channels]`, bias `[wide_channels]`
    /// - reduce: weight `[out_channels, wide_channels]`, bias `[out_channels]`
    ///
    /// # Panics
    /// When a weight's length is not that of its shape.
    pub fn new(
        isa: Isa,
        precision: Precision,
        expand: (&[f32], &[f32]),
        reduce: (&[f32], &[f32]),
        in_channels: usize,
    ) -> Self {
        let weights = PairWeights::new(isa, precision, expand, reduce, in_channels);
        let (wide_channels, out_channels) = (weights.wide_channels, weights.out_channels);
        let wide = expand.1.len();
        // The wide activation and its gradient are computed tile by tile side by side.
        let reduce_packing = Packing::new(isa, precision, out_channels, wide_channels, 1)
            .in_units(precision.channels_per_lane())
            .cut_for(in_channels);
        let expand_packing = Packing::new(isa, precision, wide_channels, in_channels, 1);
        let turned = TurnedWeights {
            reduce: reduce_packing.pack(|h, o, _| match h {
                h if h < wide => reduce.0[o * wide + h],
                _ => 0.0,
            }),
            expand: expand_packing.pack(|i, h, _| match h {
                h if h < wide => expand.0[h * in_channels + i],
                _ => 0.0,
            }),
            zeros: vec![0.0; in_channels],
        };
        Self {
            isa,
            wide_channels: wide,
            weights,
            turned,
        }
    }

    /// Computes `output = reduce(max(expand(input), 0))` of planes.
    ///
    /// # Shapes
    /// - input: `in_channels` planes
    /// - output: `out_channels` planes of the same size
    ///
    /// # Panics
    /// When the shapes differ.
    pub fn forward(&self, input: &Planes, output: &mut Planes, scratch: &mut Scratch) {
        let pair = &self.weights;
        pair.check_channels(input.channels(), output.channels());
        assert_eq!(input.geometry(), output.geometry(), "input and output");
        use simd::pair_of_planes;
        dispatch_in!(pair.precision, self.isa, reference::pair_of_planes, pair_of_planes(
            pair: &PairWeights, input: &Planes, output: &mut Planes, scratch: &mut Scratch,
        ));
    }

    /// Adds the gradients by the weights, and hands the gradient by the output on to the input.
    ///
    /// # Shapes
    /// - input: `in_channels` planes, what the pair read
    /// - output_gradient: `out_channels` planes of the same size
    /// - input_gradient: `in_channels` planes of the same size, treated as `epilogue` says
    ///
    /// # Panics
    /// When the shapes differ.
    pub fn backward(
        &self,
        input: &Planes,
        output_gradient: &Planes,
        input_gradient: &mut Planes,
        epilogue: Epilogue<'_, Planes>,
        gradients: Gradients<'_>,
        scratch: &mut Scratch,
    ) {
        let (pair, turned) = (&self.weights, &self.turned);
        pair.check_channels(input.channels(), output_gradient.channels());
        assert_eq!(
            input_gradient.channels(),
            pair.in_channels,
            "input gradient"
        );
        for planes in [
            Some(output_gradient),
            Some(&*input_gradient),
            epilogue.maps(),
        ] {
            let geometry = planes.map_or(input.geometry(), Planes::geometry);
            assert_eq!(geometry, input.geometry(), "gradient and input");
        }
        let lengths = [
            gradients.expand.len(),
            gradients.expand_bias.len(),
            gradients.reduce.len(),
            gradients.reduce_bias.len(),
        ];
        let (wide, outputs) = (self.wide_channels, pair.out_channels);
        let expected = [wide * pair.in_channels, wide, outputs * wide, outputs];
        assert_eq!(lengths, expected, "gradients by the weights");
        use simd::backward;
        dispatch_in!(pair.precision, self.isa, reference::backward, backward(
            pair: &PairWeights,
            turned: &TurnedWeights,
            input: &Planes,
            output_gradient: &Planes,
            input_gradient: &mut Planes,
            epilogue: Epilogue<'_, Planes>,
            gradients: Gradients<'_>,
            scratch: &mut Scratch,
        ));
    }
}
