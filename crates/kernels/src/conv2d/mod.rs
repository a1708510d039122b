//! Convolution with zero padding, stride 1 (1x1, 3x3 or 5x5), and its gradients.
//!
//! `y[o](p) = bias[o] + sum over i, (dy, dx) of w[o][i][dy][dx] x[i](p + (dy, dx))`
//!
//! The gradient by the input is the same operation with the kernel turned by 180 degrees and
//! its channels exchanged ([`PackedConv2d::backward`]), so there are two kernels: [`conv2d`] and
//! [`conv2d_backward_weight`]. Every output pixel is a sum in one fixed order (channels, then
//! taps row by row), whatever its place in the image: a tile computes the same bits as the
//! whole image.

mod gradient;
mod reference;
mod simd;

use crate::simd::dispatch_in;
use crate::tile::Packing;
use crate::{Epilogue, Isa, Planes, Precision, Scratch, winograd};

/// Weights of a convolution, arranged for one instruction set.
#[derive(Clone)]
pub struct PackedConv2d {
    isa: Isa,
    /// [`Precision::Bf16`] where both that and Winograd's form are wanted.
    precision: Precision,
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    /// As [`Packing::pack`] arranges them.
    weights: Vec<f32>,
    /// As [`winograd::pack`] arranges them, where that form is the faster one.
    winograd: Option<Vec<f32>>,
    bias: Vec<f32>,
}

impl PackedConv2d {
    /// The convolution itself. In f32 it is summed directly, never by Winograd's form: the gradient
    /// of the L1 loss is a sign, which the larger rounding error would flip more often.
    ///
    /// # Shapes
    /// - weight: `[out_channels, in_channels, kernel, kernel]`, row-major
    /// - bias: `[out_channels]`
    ///
    /// # Panics
    /// When the lengths differ, or the kernel is not 1, 3 or 5.
    pub fn forward(
        isa: Isa,
        precision: Precision,
        weight: &[f32],
        bias: &[f32],
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
    ) -> Self {
        let taps = kernel * kernel;
        check_weight(weight.len(), in_channels, out_channels, kernel);
        assert_eq!(bias.len(), out_channels, "biases");
        let shape = (in_channels, out_channels, kernel);
        let weight = |o: usize, i: usize, tap: usize| weight[(o * in_channels + i) * taps + tap];
        Self::pack(
            isa,
            precision,
            shape,
            bias.to_vec(),
            weight,
            precision == Precision::Bf16,
        )
    }

    /// The gradient by the input of the convolution with this weight: turns a gradient by the
    /// output (`out_channels` planes) into one by the input (`in_channels` planes).
    ///
    /// # Panics
    /// When the lengths differ, or the kernel is not 1, 3 or 5.
    pub fn backward(
        isa: Isa,
        precision: Precision,
        weight: &[f32],
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
    ) -> Self {
        let taps = kernel * kernel;
        check_weight(weight.len(), in_channels, out_channels, kernel);
        let turned =
            |i: usize, o: usize, tap: usize| weight[(o * in_channels + i) * taps + taps - 1 - tap];
        let shape = (out_channels, in_channels, kernel);
        Self::pack(isa, precision, shape, vec![0.0; in_channels], turned, true)
    }

    fn pack(
        isa: Isa,
        precision: Precision,
        (in_channels, out_channels, kernel): (usize, usize, usize),
        bias: Vec<f32>,
        weight: impl Fn(usize, usize, usize) -> f32,
        winograd: bool,
    ) -> Self {
        let winograd = winograd && isa != Isa::REFERENCE;
        let winograd = winograd && winograd::pays(kernel, in_channels, out_channels);
        let packing = Packing::new(
            isa,
            Precision::F32,
            in_channels,
            out_channels,
            kernel * kernel,
        );
        Self {
            isa,
            precision: precision.of_conv(kernel, in_channels, out_channels),
            in_channels,
            out_channels,
            kernel,
            weights: packing.pack(&weight),
            winograd: winograd
                .then(|| winograd::pack(isa, precision, in_channels, out_channels, weight)),
            bias,
        }
    }
}

impl Precision {
    /// The precision in which a convolution is computed when this one is asked for.
    pub(crate) fn of_conv(self, kernel: usize, in_channels: usize, out_channels: usize) -> Self {
        match winograd::pays(kernel, in_channels, out_channels) {
            true => self,
            false => Self::F32,
        }
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
/// A 3x3 gradient by an input of many channels, and in bf16 such a convolution too, goes through
/// Winograd's transform along y, four rows at a time from the top; what is left of the height is
/// summed directly, in f32.
///
/// # Shapes
/// - input: as many planes as the convolution reads
/// - output: as many of the same size as it writes
///
/// # Panics
/// When the shapes differ.
pub fn conv2d(
    input: &Planes,
    conv: &PackedConv2d,
    output: &mut Planes,
    epilogue: Epilogue<'_, Planes>,
    scratch: &mut Scratch,
) {
    assert_eq!(
        input.geometry(),
        output.geometry(),
        "input and output of a convolution"
    );
    assert_eq!(input.channels(), conv.in_channels, "input channels");
    assert_eq!(output.channels(), conv.out_channels, "output channels");
    if let Some(maps) = epilogue.maps() {
        assert_eq!(maps.geometry(), output.geometry(), "maps of the epilogue");
        assert_eq!(maps.channels(), output.channels(), "maps of the epilogue");
    }
    use simd::conv2d;
    dispatch_in!(conv.precision, conv.isa, reference::conv2d, conv2d(
        input: &Planes,
        conv: &PackedConv2d,
        output: &mut Planes,
        epilogue: Epilogue<'_, Planes>,
        scratch: &mut Scratch,
    ));
}

/// Adds the gradients by weight and bias to the given sums. `precision` is taken where
/// [`conv2d`] takes it.
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
    precision: Precision,
    input: &Planes,
    output_gradient: &Planes,
    kernel: usize,
    weight_gradient: &mut [f32],
    bias_gradient: &mut [f32],
    scratch: &mut Scratch,
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
    use gradient::conv2d_backward_weight;
    let precision = precision.of_conv(kernel, input.channels(), output_gradient.channels());
    dispatch_in!(precision, isa, reference::conv2d_backward_weight, conv2d_backward_weight(
        precision: Precision,
        input: &Planes,
        output_gradient: &Planes,
        kernel: usize,
        weight_gradient: &mut [f32],
        bias_gradient: &mut [f32],
        scratch: &mut Scratch,
    ));
}
