//! Convolution with zero padding, stride 1 (1x1, 3x3 or 5x5), and its gradients.
//!
//! `y[o](p) = bias[o] + sum over i, (dy, dx) of w[o][i][dy][dx] x[i](p + (dy, dx))`
//!
//! The gradient by the input is the same operation with the kernel rotated by 180 degrees and its
//! channels exchanged, so there are two kernels: the convolution and the gradient by the weight.
//! Every output pixel is a sum in one fixed order (channels, then taps row by row), whatever its
//! place in the image: a tile gives the same bits as the whole image.

mod reference;
mod simd;
mod weight_gradient;

use weight_gradient::WeightGradient;

use crate::dispatch::{Kernel, dispatch};
use crate::packing::Packing;
use crate::precision::Format;
use crate::simd::Simd;
use crate::winograd::{self, WinogradWeights};
use crate::{Epilogue, Isa, Planes, Precision, Scratch};

/// A convolution as a network stores it.
#[derive(Clone, Copy)]
pub struct ConvLayer<'a> {
    /// Channels it reads.
    pub in_channels: usize,
    /// Channels it writes.
    pub out_channels: usize,
    /// Side of the kernel in pixels: 1, 3 or 5.
    pub kernel: usize,
    /// `[out_channels, in_channels, kernel, kernel]`, row-major
    pub weight: &'a [f32],
    /// `[out_channels]`
    pub bias: &'a [f32],
}

impl ConvLayer<'_> {
    /// # Panics
    /// If the kernel is not 1, 3 or 5, or the lengths are not those of the shapes.
    pub(crate) fn check(&self) {
        assert!(
            matches!(self.kernel, 1 | 3 | 5),
            "kernel {}, expected 1, 3 or 5",
            self.kernel
        );
        let weights = self
            .out_channels
            .checked_mul(self.in_channels)
            .and_then(|len| len.checked_mul(self.kernel * self.kernel));
        assert_eq!(
            Some(self.weight.len()),
            weights,
            "weights of a {0}x{0} convolution of {1} channels to {2}",
            self.kernel,
            self.in_channels,
            self.out_channels
        );
        assert_eq!(self.bias.len(), self.out_channels, "biases");
    }

    /// The weight of an output channel, an input channel and a tap.
    pub(crate) fn weight(&self, o: usize, i: usize, tap: usize) -> f32 {
        self.weight[(o * self.in_channels + i) * self.kernel * self.kernel + tap]
    }
}

/// A convolution on [`Planes`] and its gradients, its weights arranged for an instruction set.
#[derive(Clone)]
pub struct PlanesConv {
    isa: Isa,
    /// [`Precision::Bf16`] if that is chosen and the convolution has many channels.
    precision: Precision,
    forward: PackedConv,
    backward: PackedConv,
}

/// The convolution itself, or the gradient by its input.
#[derive(Clone)]
struct PackedConv {
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    /// In f32, as [`Packing::pack`] arranges them.
    weights: Vec<f32>,
    /// `[out_channels]`
    bias: Vec<f32>,
    /// For whole strips of rows, where that form is faster.
    winograd: Option<WinogradWeights>,
}

impl PackedConv {
    /// Arranges the weights `[out][in][tap]`, in Winograd's form too if that has a precision.
    fn new(
        isa: Isa,
        [in_channels, kernel]: [usize; 2],
        bias: Vec<f32>,
        winograd: Option<Precision>,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let (out_channels, taps) = (bias.len(), kernel * kernel);
        let packing = Packing::new(isa, Precision::F32, in_channels, out_channels, taps);
        Self {
            in_channels,
            out_channels,
            kernel,
            weights: packing.pack(&weight),
            winograd: winograd
                .map(|precision| WinogradWeights::new(isa, precision, in_channels, &bias, weight)),
            bias,
        }
    }
}

/// Where the gradients by weight and bias are added, in the shapes of [`ConvLayer`].
pub struct ConvGradients<'a> {
    /// `[out_channels, in_channels, kernel, kernel]`
    pub weight: &'a mut [f32],
    /// `[out_channels]`
    pub bias: &'a mut [f32],
}

impl PlanesConv {
    /// Arranges the weights.
    ///
    /// In f32 the convolution itself is summed directly, never by Winograd's form: the gradient of
    /// the L1 loss is a sign, which the larger rounding error would flip more often.
    ///
    /// # Panics
    /// If the lengths are not those of the shapes, or the kernel is not 1, 3 or 5.
    pub fn new(isa: Isa, precision: Precision, layer: ConvLayer<'_>) -> Self {
        layer.check();
        let ConvLayer {
            in_channels,
            out_channels,
            kernel,
            bias,
            ..
        } = layer;
        let taps = kernel * kernel;
        let is_winograd =
            isa != Isa::REFERENCE && winograd::is_faster(kernel, in_channels, out_channels);
        let forward = PackedConv::new(
            isa,
            [in_channels, kernel],
            bias.to_vec(),
            (is_winograd && precision == Precision::Bf16).then_some(precision),
            |o, i, tap| layer.weight(o, i, tap),
        );
        let backward = PackedConv::new(
            isa,
            [out_channels, kernel],
            vec![0.0; in_channels],
            is_winograd.then_some(precision),
            |i, o, tap| layer.weight(o, i, taps - 1 - tap),
        );
        Self {
            isa,
            precision: precision.of_conv(kernel, in_channels, out_channels),
            forward,
            backward,
        }
    }

    /// Convolves `input` into `output`.
    ///
    /// In bf16 a 3x3 convolution of many channels goes through Winograd's transform along y, four
    /// rows at a time from the top; the remaining rows are summed directly, in f32.
    ///
    /// # Shapes
    /// - input: `in_channels` planes
    /// - output, and the epilogue's maps: `out_channels` planes of the same size
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn forward(
        &self,
        input: &Planes,
        output: &mut Planes,
        epilogue: Epilogue<'_, Planes>,
        scratch: &mut Scratch,
    ) {
        self.run(&self.forward, input, output, epilogue, scratch);
    }

    /// Computes the gradient by the input.
    ///
    /// A 3x3 convolution of many channels goes through Winograd's transform along y, four rows at a
    /// time from the top; the remaining rows are summed directly, in f32.
    ///
    /// # Shapes
    /// - output_gradient: `out_channels` planes
    /// - input_gradient, and the epilogue's maps: `in_channels` planes of the same size
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn backward_input(
        &self,
        output_gradient: &Planes,
        input_gradient: &mut Planes,
        epilogue: Epilogue<'_, Planes>,
        scratch: &mut Scratch,
    ) {
        let (from, to) = (output_gradient, input_gradient);
        self.run(&self.backward, from, to, epilogue, scratch);
    }

    fn run(
        &self,
        conv: &PackedConv,
        input: &Planes,
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
        let kernel = Convolution {
            conv,
            input,
            output,
            epilogue,
            scratch,
        };
        dispatch(self.isa, self.precision, kernel);
    }

    /// Adds the gradients by weight and bias.
    ///
    /// # Shapes
    /// - input: `in_channels` planes, what the convolution read
    /// - output_gradient: `out_channels` planes of the same size, the gradient by its output
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn backward_weight(
        &self,
        input: &Planes,
        output_gradient: &Planes,
        gradients: ConvGradients<'_>,
        scratch: &mut Scratch,
    ) {
        let conv = &self.forward;
        let layer = ConvLayer {
            in_channels: conv.in_channels,
            out_channels: conv.out_channels,
            kernel: conv.kernel,
            weight: gradients.weight,
            bias: gradients.bias,
        };
        layer.check();
        assert_eq!(
            input.geometry(),
            output_gradient.geometry(),
            "input and output gradient"
        );
        assert_eq!(input.channels(), conv.in_channels, "input channels");
        assert_eq!(
            output_gradient.channels(),
            conv.out_channels,
            "channels of the output gradient"
        );
        let kernel = WeightGradient {
            kernel: conv.kernel,
            input,
            output_gradient,
            gradients,
            scratch,
        };
        dispatch(self.isa, self.precision, kernel);
    }
}

/// A convolution of planes.
///
/// Input, output and the epilogue's maps have the same geometry. The input has the convolution's
/// input channels; output and maps have its output channels.
struct Convolution<'a> {
    conv: &'a PackedConv,
    input: &'a Planes,
    output: &'a mut Planes,
    epilogue: Epilogue<'a, Planes>,
    scratch: &'a mut Scratch,
}

impl Kernel for Convolution<'_> {
    type Output = ();

    fn reference(self, precision: Precision) {
        reference::convolution(self, precision);
    }

    #[inline(always)]
    fn vectorized<S: Simd, F: Format>(self, simd: S) {
        simd::convolution::<S, F>(simd, self);
    }
}
