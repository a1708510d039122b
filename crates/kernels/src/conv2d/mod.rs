//! Convolution with zero padding, stride 1 (1x1, 3x3 or 5x5), and its gradients.
//!
//! `y[o](p) = bias[o] + sum over i, (dy, dx) of w[o][i][dy][dx] x[i](p + (dy, dx))`
//!
//! The gradient by the input is the same operation with the kernel turned by 180 degrees and
//! its channels exchanged ([`PackedConv2d::backward`]), so there are two kernels: [`conv2d`] and
//! [`conv2d_backward_weight`]. Every output pixel is a sum in one fixed order (channels, then
//! taps row by row), whatever its place in the picture: a tile computes the same bits as the
//! whole picture.

mod reference;
mod simd;

use crate::simd::dispatch;
use crate::{Isa, Planes, tile};

/// Weights of a convolution, arranged for one instruction set.
#[derive(Clone)]
pub struct PackedConv2d {
    isa: Isa,
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    /// As [`tile::pack`] arranges them.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

/// What happens to a sum before it is stored.
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// `output = sum`
    Store,
    /// `output = max(sum, 0)`
    Relu,
    /// `output += sum`
    Accumulate,
    /// `output = sum` where the given planes are positive, else 0: the gradient through a ReLU
    /// whose result is given.
    WherePositive(&'a Planes),
}

impl PackedConv2d {
    /// The convolution itself.
    ///
    /// # Shapes
    /// - weight: `[out_channels, in_channels, kernel, kernel]`, row-major
    /// - bias: `[out_channels]`
    ///
    /// # Panics
    /// When the lengths differ, or the kernel is not 1, 3 or 5.
    pub fn forward(
        isa: Isa,
        weight: &[f32],
        bias: &[f32],
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
    ) -> Self {
        let taps = kernel * kernel;
        check_weight(weight.len(), in_channels, out_channels, kernel);
        assert_eq!(bias.len(), out_channels, "biases");
        Self::pack(
            isa,
            in_channels,
            out_channels,
            kernel,
            bias.to_vec(),
            |o, i, tap| weight[(o * in_channels + i) * taps + tap],
        )
    }

    /// The gradient by the input of the convolution with this weight: turns a gradient by the
    /// output (`out_channels` planes) into one by the input (`in_channels` planes).
    ///
    /// # Panics
    /// When the lengths differ, or the kernel is not 1, 3 or 5.
    pub fn backward(
        isa: Isa,
        weight: &[f32],
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
    ) -> Self {
        let taps = kernel * kernel;
        check_weight(weight.len(), in_channels, out_channels, kernel);
        Self::pack(
            isa,
            out_channels,
            in_channels,
            kernel,
            vec![0.0; in_channels],
            |i, o, tap| weight[(o * in_channels + i) * taps + taps - 1 - tap],
        )
    }

    fn pack(
        isa: Isa,
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
        bias: Vec<f32>,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let weights = tile::pack(isa, in_channels, out_channels, kernel * kernel, weight);
        Self {
            isa,
            in_channels,
            out_channels,
            kernel,
            weights,
            bias,
        }
    }

    /// Channels it reads.
    pub fn in_channels(&self) -> usize {
        self.in_channels
    }
    /// Channels it writes.
    pub fn out_channels(&self) -> usize {
        self.out_channels
    }
}

pub(crate) fn check_weight(len: usize, in_channels: usize, out_channels: usize, kernel: usize) {
    assert!(
        matches!(kernel, 1 | 3 | 5),
        "kernel {kernel}, expected 1, 3 or 5"
    );
    assert_eq!(len, out_channels * in_channels * kernel * kernel, "weights");
}

/// Convolves `input` into `output`.
///
/// # Shapes
/// - input: `conv.in_channels()` planes
/// - output: `conv.out_channels()` planes of the same size
///
/// # Panics
/// When the shapes differ.
pub fn conv2d(input: &Planes, conv: &PackedConv2d, output: &mut Planes, epilogue: Epilogue<'_>) {
    assert_eq!(
        input.geometry(),
        output.geometry(),
        "input and output of a convolution"
    );
    assert_eq!(input.channels(), conv.in_channels, "input channels");
    assert_eq!(output.channels(), conv.out_channels, "output channels");
    if let Epilogue::WherePositive(gate) = epilogue {
        assert_eq!(gate.geometry(), output.geometry(), "gate and output");
        assert_eq!(gate.channels(), output.channels(), "gate channels");
    }
    use simd::conv2d;
    dispatch!(conv.isa, reference::conv2d, conv2d(
        input: &Planes, conv: &PackedConv2d, output: &mut Planes, epilogue: Epilogue<'_>,
    ));
}

/// Adds the gradients by weight and bias to the given sums.
///
/// # Shapes
/// - input: `i` planes, what the convolution read
/// - `output_gradient`: `o` planes of the same size, the gradient by what it wrote
/// - `weight_gradient`: `[o, i, kernel, kernel]`
/// - `bias_gradient`: `[o]`
///
/// # Panics
/// When the shapes differ, or the kernel is not 1, 3 or 5.
pub fn conv2d_backward_weight(
    isa: Isa,
    input: &Planes,
    output_gradient: &Planes,
    kernel: usize,
    weight_gradient: &mut [f32],
    bias_gradient: &mut [f32],
) {
    assert_eq!(
        input.geometry(),
        output_gradient.geometry(),
        "input and output gradient"
    );
    check_weight(
        weight_gradient.len(),
        input.channels(),
        output_gradient.channels(),
        kernel,
    );
    assert_eq!(
        bias_gradient.len(),
        output_gradient.channels(),
        "bias gradients"
    );
    use simd::conv2d_backward_weight;
    dispatch!(isa, reference::conv2d_backward_weight, conv2d_backward_weight(
        input: &Planes,
        output_gradient: &Planes,
        kernel: usize,
        weight_gradient: &mut [f32],
        bias_gradient: &mut [f32],
    ));
}
