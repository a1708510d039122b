//! Rounding of weights and activations as in int8, for quantisation-aware training.
//!
//! Convolutions read what int8 reads: bytes times their steps, and weights of 8 bits times theirs. Their sums are those of
//! int8 up to the rounding of f32. Gradients pass through the rounding, and end at the limits of a range (Jacob et al. 2018,
//! "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", section 3).

use wdsr_kernels::Planes;
use wdsr_model::{ConvWeights, Int8Scales, Network};

use crate::parameters::Gradients;

/// Least and largest byte.
const BYTES: [f32; 2] = [0.0, 255.0];

/// The rounding of each convolution's input and weights; none for convolutions that stay in f32.
pub(super) struct Int8Rounding(Vec<Option<ConvRounding>>);

/// The rounding of a convolution.
pub(super) struct ConvRounding {
    /// The byte of 0.
    zero: f32,
    scales: Int8Scales,
}

impl Int8Rounding {
    /// The rounding by the scales of each convolution in int8.
    pub(super) fn new(network: &Network, scales: &[Int8Scales]) -> Self {
        let mut convs: Vec<Option<ConvRounding>> = network.convs.iter().map(|_| None).collect();
        let int8_convs = Vec::from_iter(network.int8_convs());
        assert_eq!(
            scales.len(),
            int8_convs.len(),
            "scales of convolutions in int8"
        );
        for (conv, scales) in int8_convs.into_iter().zip(scales) {
            convs[conv] = Some(ConvRounding {
                zero: network.zero_byte(conv),
                scales: scales.clone(),
            });
        }
        Self(convs)
    }

    /// The rounding of a convolution, if int8 computes it.
    pub(super) fn of(&self, conv: usize) -> Option<&ConvRounding> {
        self.0[conv].as_ref()
    }

    /// The weights as int8 has them.
    pub(super) fn weights(&self, network: &Network, convs: &[ConvWeights]) -> Vec<ConvWeights> {
        let rounded = |(at, weights): (usize, &ConvWeights)| {
            let mut weights = weights.clone();
            if let Some(rounding) = self.of(at) {
                let conv = &network.convs[at];
                weights.weight = conv.rounded_to_int8(&weights.weight, &rounding.scales);
            }
            weights
        };
        convs.iter().enumerate().map(rounded).collect()
    }

    /// Ends the gradients by weights beyond the limits of int8.
    pub(super) fn limit(&self, network: &Network, convs: &[ConvWeights], sums: &mut Gradients) {
        for (at, (weights, sums)) in convs.iter().zip(&mut sums.convs).enumerate() {
            if let Some(rounding) = self.of(at) {
                let units = network.convs[at].int8_units(&weights.weight, &rounding.scales);
                for (sum, units) in sums.weight.iter_mut().zip(units) {
                    *sum = if units.abs() <= 127.5 { *sum } else { 0.0 };
                }
            }
        }
    }
}

impl ConvRounding {
    /// What the convolution reads in int8 of an input.
    pub(super) fn round(&self, input: &Planes, rounded: &mut Planes) {
        let [least, largest] = BYTES;
        rounded.resize(input.channels(), input.width_px(), input.height_px());
        for (channel, step) in self.scales.input_steps.iter().enumerate() {
            let inverse = 1.0 / step;
            for y in 0..input.height_px() {
                let to = rounded.row_mut(channel, y).iter_mut();
                for (to, value) in to.zip(input.row(channel, y)) {
                    let byte = value.mul_add(inverse, self.zero).round_ties_even();
                    *to = (byte.clamp(least, largest) - self.zero) * step;
                }
            }
        }
    }

    /// Ends the gradient by an input where that is at the limits of bytes, the output 0 of a ReLU among them.
    pub(super) fn limit(&self, input: &Planes, gradient: &mut Planes) {
        let [least, largest] = BYTES;
        for (channel, step) in self.scales.input_steps.iter().enumerate() {
            let inverse = 1.0 / step;
            for y in 0..input.height_px() {
                let gradients = gradient.row_mut(channel, y).iter_mut();
                for (gradient, value) in gradients.zip(input.row(channel, y)) {
                    let byte = value.mul_add(inverse, self.zero);
                    let is_inside = byte > least && byte <= largest;
                    *gradient = if is_inside { *gradient } else { 0.0 };
                }
            }
        }
    }
}
