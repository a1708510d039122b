//! Two 1x1 convolutions with a ReLU between them, the wide activation in the first-level cache.
//!
//! This is the wide part of a WDSR-B block (Yu et al. 2018, section 3.2): 32 channels become 192
//! and then 25, and each pixel depends on itself alone. So a few pixels go through both
//! convolutions at a time and the 192 channels never reach memory, neither forwards nor backwards.

mod reference;
mod simd;

use crate::simd::dispatch;
use crate::strip::{Scratch, Strip};
use crate::{Epilogue, Isa, Planes, tile};

/// Weights of both convolutions, arranged for one instruction set.
#[derive(Clone)]
pub struct PointwisePair {
    isa: Isa,
    weights: PairWeights,
}

/// Weights as [`tile::pack`] arranges them.
#[derive(Clone)]
struct PairWeights {
    in_channels: usize,
    wide_channels: usize,
    out_channels: usize,
    expand: Vec<f32>,
    expand_bias: Vec<f32>,
    reduce: Vec<f32>,
    reduce_bias: Vec<f32>,
    /// Of the convolutions that take gradients back: input and output exchanged.
    reduce_turned: Vec<f32>,
    expand_turned: Vec<f32>,
    /// Biases of those.
    zeros: Vec<f32>,
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
        (expand, expand_bias): (&[f32], &[f32]),
        (reduce, reduce_bias): (&[f32], &[f32]),
        in_channels: usize,
    ) -> Self {
        let (wide_channels, out_channels) = (expand_bias.len(), reduce_bias.len());
        assert_eq!(expand.len(), wide_channels * in_channels, "weights, expand");
        assert_eq!(
            reduce.len(),
            out_channels * wide_channels,
            "weights, reduce"
        );
        let expand_at = |h: usize, i: usize| expand[h * in_channels + i];
        let reduce_at = |o: usize, h: usize| reduce[o * wide_channels + h];
        let (i, h, o) = (in_channels, wide_channels, out_channels);
        Self {
            isa,
            weights: PairWeights {
                in_channels,
                wide_channels,
                out_channels,
                expand: tile::pack(isa, i, h, 1, |h, i, _| expand_at(h, i)),
                expand_bias: expand_bias.to_vec(),
                reduce: tile::pack(isa, h, o, 1, |o, h, _| reduce_at(o, h)),
                reduce_bias: reduce_bias.to_vec(),
                reduce_turned: tile::pack(isa, o, h, 1, |h, o, _| reduce_at(o, h)),
                expand_turned: tile::pack(isa, h, i, 1, |i, h, _| expand_at(h, i)),
                zeros: vec![0.0; in_channels.max(wide_channels)],
            },
        }
    }

    /// Computes `output = reduce(max(expand(input), 0))` of a strip.
    ///
    /// # Shapes
    /// - input: a strip of `in_channels`
    /// - output: a strip of `out_channels`, of the same width and rows
    ///
    /// # Panics
    /// When the shapes differ.
    pub fn run(&self, input: &Strip, output: &mut Strip, scratch: &mut Scratch) {
        self.check_channels(input.channels(), output.channels());
        let shape = |strip: &Strip| (strip.width_px(), strip.rows());
        assert_eq!(
            shape(output),
            shape(input),
            "output and input (width, rows)"
        );
        let pair = &self.weights;
        use simd::pair_of_strip;
        dispatch!(self.isa, reference::pair_of_strip, pair_of_strip(
            pair: &PairWeights, input: &Strip, output: &mut Strip, scratch: &mut Scratch,
        ));
        output.clear_border();
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
        self.check_channels(input.channels(), output.channels());
        assert_eq!(input.geometry(), output.geometry(), "input and output");
        let pair = &self.weights;
        use simd::pair_of_planes;
        dispatch!(self.isa, reference::pair_of_planes, pair_of_planes(
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
        let pair = &self.weights;
        self.check_channels(input.channels(), output_gradient.channels());
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
        let expected = [
            pair.expand.len(),
            pair.wide_channels,
            pair.reduce.len(),
            pair.out_channels,
        ];
        assert_eq!(lengths, expected, "gradients by the weights");
        use simd::backward;
        dispatch!(self.isa, reference::backward, backward(
            pair: &PairWeights,
            input: &Planes,
            output_gradient: &Planes,
            input_gradient: &mut Planes,
            epilogue: Epilogue<'_, Planes>,
            gradients: Gradients<'_>,
            scratch: &mut Scratch,
        ));
    }

    fn check_channels(&self, input: usize, output: usize) {
        assert_eq!(input, self.weights.in_channels, "input channels");
        assert_eq!(output, self.weights.out_channels, "output channels");
    }
}
