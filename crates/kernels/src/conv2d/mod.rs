//! Convolution with zero padding, stride 1 (1x1, 3x3 or 5x5), and its gradients.
//!
//! `y[o](p) = bias[o] + sum over i, (dy, dx) of w[o][i][dy][dx] x[i](p + (dy, dx))`
//!
//! The gradient by the input is the same operation with the kernel turned by 180 degrees and
//! its channels exchanged ([`PackedConv2d::backward`]), so there are two kernels: [`conv2d`] and
//! [`conv2d_backward_weight`]. Every output pixel is a sum in one fixed order (channels, then
//! taps row by row), whatever its place in the picture: a tile computes the same bits as the
//! whole picture.

mod gradient;
mod reference;
mod simd;

use crate::simd::dispatch;
use crate::tile::Packing;
use crate::{Epilogue, Isa, Planes, Precision, Scratch, winograd};

/// Weights of a convolution, arranged for one instruction set.
#[derive(Clone)]
pub struct PackedConv2d {
    isa: Isa,
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    /// As [`Packing::pack`] arranges them.
    weights: Vec<f32>,
    /// As [`winograd::pack`] arranges them, of a gradient where that form is the faster one. The
    /// convolution itself is summed directly: the gradient of the L1 loss is a sign, which the
    /// larger rounding error would flip more often.
    winograd: Option<Vec<f32>>,
    bias: Vec<f32>,
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
        let turned =
            |i: usize, o: usize, tap: usize| weight[(o * in_channels + i) * taps + taps - 1 - tap];
        let bias = vec![0.0; in_channels];
        let mut packed = Self::pack(isa, out_channels, in_channels, kernel, bias, turned);
        let many = in_channels.min(out_channels) >= winograd::MIN_CHANNELS;
        if kernel == 3 && many && isa != Isa::REFERENCE {
            let precision = Precision::F32;
            packed.winograd = Some(winograd::pack(
                isa,
                precision,
                out_channels,
                in_channels,
                turned,
            ));
        }
        packed
    }

    fn pack(
        isa: Isa,
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
        bias: Vec<f32>,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        Self {
            isa,
            in_channels,
            out_channels,
            kernel,
            weights: Packing {
                isa,
                precision: Precision::F32,
                in_channels,
                out_channels,
                taps: kernel * kernel,
                unit: 1,
            }
            .pack(weight),
            winograd: None,
            bias,
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
/// A 3x3 gradient by an input of many channels goes through Winograd's transform along y, four rows
/// at a time from the top; what is left of the height is summed directly.
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
    dispatch!(conv.isa, reference::conv2d, conv2d(
        input: &Planes,
        conv: &PackedConv2d,
        output: &mut Planes,
        epilogue: Epilogue<'_, Planes>,
        scratch: &mut Scratch,
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
    dispatch!(isa, reference::conv2d_backward_weight, conv2d_backward_weight(
        input: &Planes,
        output_gradient: &Planes,
        kernel: usize,
        weight_gradient: &mut [f32],
        bias_gradient: &mut [f32],
        scratch: &mut Scratch,
    ));
}
