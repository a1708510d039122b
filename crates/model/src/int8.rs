//! The scales of a model in int8.
//!
//! A convolution in int8 reads bytes, `x / input_step + zero` for each channel, and multiplies them by 8-bit weights,
//! `weight * input_step / weight_step`, rounded to nearest. The scales lie beside the weights of a model, which stay as they are:
//! the integers follow from both. `wdsr-kernels` defines the arithmetic.

use wdsr_kernels::{ByteLayer, ByteScale};

use crate::model::{ConvWeights, Model};
use crate::network::{Activation, Conv, Network, Operation, Value};

/// The scales of a convolution in int8. Of a block with a residual scale they are those of the weights times that scale
/// ([`Model::with_residual_scale_in_weights`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Int8Scales {
    /// The value of a unit of the input's bytes, by channel: `[in]`
    pub input_steps: Vec<f32>,
    /// The value of a unit of the sums, by output channel: `[out]`
    pub weight_steps: Vec<f32>,
    /// `[out]`, in the place of the convolution's
    pub bias: Vec<f32>,
}

/// The least and the largest step.
pub(crate) const STEP_RANGE: [f32; 2] = [1e-20, 1e20];

/// The largest weight in int8; the least is -127.
pub(crate) const LARGEST_WEIGHT: f32 = 127.0;

/// Terms of a sum that always fit 32 bits.
const MAX_TERMS: usize = 65_000;

/// The 8-bit weight nearest to one in units of int8.
pub(crate) fn integer(units: f32) -> i8 {
    let rounded = units.round_ties_even();
    rounded.clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT) as i8
}

impl Conv {
    /// Whether int8 computes it: convolutions of few channels, which read or write images, stay in f32.
    pub fn is_int8(&self) -> bool {
        let is_wide = self.kernel == 1 || self.in_channels.min(self.out_channels) >= 4;
        is_wide && self.in_channels * self.kernel * self.kernel <= MAX_TERMS
    }

    /// Output and input channel of the weight at an index.
    fn channels_of_weight(&self, at: usize) -> (usize, usize) {
        let kernel = at / (self.kernel * self.kernel);
        (kernel / self.in_channels, kernel % self.in_channels)
    }

    /// Float weights `[out, in, kernel, kernel]` in units of int8, before they are rounded.
    pub fn int8_units(&self, weight: &[f32], scales: &Int8Scales) -> impl Iterator<Item = f32> {
        weight.iter().enumerate().map(|(at, weight)| {
            let (o, i) = self.channels_of_weight(at);
            weight * scales.input_steps[i] / scales.weight_steps[o]
        })
    }

    /// The 8-bit weights `[out, in, kernel, kernel]` of float weights.
    pub(crate) fn int8_weights(&self, weight: &[f32], scales: &Int8Scales) -> Vec<i8> {
        self.int8_units(weight, scales).map(integer).collect()
    }

    /// The float weights `[out, in, kernel, kernel]` that the 8-bit weights of float weights stand for.
    pub fn rounded_to_int8(&self, weight: &[f32], scales: &Int8Scales) -> Vec<f32> {
        let integers = self.int8_weights(weight, scales).into_iter().enumerate();
        let value = |(at, integer): (usize, i8)| {
            let (o, i) = self.channels_of_weight(at);
            f32::from(integer) * scales.weight_steps[o] / scales.input_steps[i]
        };
        integers.map(value).collect()
    }
}

impl Network {
    /// The convolutions that int8 computes: indices into `convs`.
    pub fn int8_convs(&self) -> impl Iterator<Item = usize> {
        (0..self.convs.len()).filter(|conv| self.convs[*conv].is_int8())
    }

    /// The operation that runs a convolution: its input, output and activation.
    pub(crate) fn run_of(&self, conv: usize) -> (Value, Value, Activation) {
        let found = self
            .operations
            .iter()
            .find_map(|operation| match *operation {
                Operation::Conv {
                    conv: index,
                    input,
                    output,
                    activation,
                } if index == conv => Some((input, output, activation)),
                _ => None,
            });
        found.unwrap_or_else(|| unreachable!("no operation runs convolution {conv}"))
    }

    /// Whether the bytes of a convolution's input are signed: they are not behind a ReLU.
    pub(crate) fn has_signed_input(&self, conv: usize) -> bool {
        let (input, ..) = self.run_of(conv);
        !self.operations.iter().any(|operation| {
            let is_relu = matches!(
                operation,
                Operation::Conv {
                    activation: Activation::Relu,
                    ..
                }
            );
            is_relu && operation.output() == input
        })
    }

    /// The byte of 0 in a convolution's input in int8.
    pub fn zero_byte(&self, conv: usize) -> f32 {
        if self.has_signed_input(conv) {
            128.0
        } else {
            0.0
        }
    }

    /// The scale of a convolution's input.
    pub(crate) fn input_scale(&self, conv: usize, scales: &Int8Scales) -> ByteScale {
        ByteScale::new(&scales.input_steps, self.has_signed_input(conv))
    }
}

/// A convolution with its integers, as kernels take it.
pub(crate) struct Int8Weights {
    shape: [usize; 3],
    weight: Vec<i8>,
    pub(crate) scales: Int8Scales,
}

impl Int8Weights {
    pub(crate) fn new(conv: &Conv, weights: &ConvWeights, scales: Int8Scales) -> Self {
        Self {
            shape: [conv.in_channels, conv.out_channels, conv.kernel],
            weight: conv.int8_weights(&weights.weight, &scales),
            scales,
        }
    }

    pub(crate) fn layer(&self) -> ByteLayer<'_> {
        let [in_channels, out_channels, kernel] = self.shape;
        ByteLayer {
            in_channels,
            out_channels,
            kernel,
            weight: &self.weight,
            weight_steps: &self.scales.weight_steps,
            bias: &self.scales.bias,
        }
    }
}

impl Model {
    /// Asserts that scales have the shapes of the network.
    pub(crate) fn assert_int8_fits(&self, scales: &[Int8Scales]) {
        let convs = Vec::from_iter(self.network().int8_convs());
        assert_eq!(scales.len(), convs.len(), "scales of convolutions in int8");
        for (conv, scales) in convs.into_iter().zip(scales) {
            let conv = &self.network().convs[conv];
            let found = [&scales.input_steps, &scales.weight_steps, &scales.bias].map(Vec::len);
            let expected = [conv.in_channels, conv.out_channels, conv.out_channels];
            assert_eq!(found, expected, "scales of {}", conv.name);
        }
    }
}
