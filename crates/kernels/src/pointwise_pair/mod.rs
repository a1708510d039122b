//! Two 1x1 convolutions with a ReLU between them, the wide activation in the first-level cache.
//!
//! This is the wide part of a WDSR-B block (Yu et al. 2018, section 3.2): 32 channels become 192
//! and then 25, and each pixel depends on itself alone. So a few pixels go through both
//! convolutions at a time and the 192 channels never reach memory.

mod reference;
mod simd;

use crate::simd::dispatch;
use crate::strip::{Scratch, Strip};
use crate::{Isa, tile};

/// Weights of both convolutions, arranged for one instruction set.
#[derive(Clone)]
pub struct PointwisePair {
    isa: Isa,
    in_channels: usize,
    wide_channels: usize,
    out_channels: usize,
    /// As [`tile::pack`] arranges them.
    expand: Vec<f32>,
    expand_bias: Vec<f32>,
    reduce: Vec<f32>,
    reduce_bias: Vec<f32>,
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
        Self {
            isa,
            in_channels,
            wide_channels,
            out_channels,
            expand: tile::pack(isa, in_channels, wide_channels, 1, |o, i, _| {
                expand[o * in_channels + i]
            }),
            expand_bias: expand_bias.to_vec(),
            reduce: tile::pack(isa, wide_channels, out_channels, 1, |o, i, _| {
                reduce[o * wide_channels + i]
            }),
            reduce_bias: reduce_bias.to_vec(),
        }
    }

    /// Computes `output = reduce(max(expand(input), 0))`.
    ///
    /// # Shapes
    /// - input: a strip of `in_channels`
    /// - output: a strip of `out_channels`, of the same width and rows
    ///
    /// # Panics
    /// When the shapes differ.
    pub fn run(&self, input: &Strip, output: &mut Strip, scratch: &mut Scratch) {
        assert_eq!(input.channels(), self.in_channels, "input channels");
        assert_eq!(output.channels(), self.out_channels, "output channels");
        let shape = |strip: &Strip| (strip.width_px(), strip.rows());
        assert_eq!(
            shape(output),
            shape(input),
            "output and input (width, rows)"
        );
        let pair = self;
        use simd::pointwise_pair;
        dispatch!(self.isa, reference::pointwise_pair, pointwise_pair(
            pair: &PointwisePair, input: &Strip, output: &mut Strip, scratch: &mut Scratch,
        ));
        output.clear_border();
    }
}
