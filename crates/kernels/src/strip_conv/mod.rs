//! Convolution of strips: the same equation as in [`conv2d`](crate::conv2d), strip by strip.
//!
//! 1x1 and 5x5 kernels, and 3x3 kernels of few channels, are summed directly. Other 3x3 kernels
//! go through Winograd's transform along y, which halves the multiplications; only these are
//! computed in another [`Precision`] than f32.

mod reference;
mod simd;

use crate::conv2d::ConvLayer;
use crate::dispatch::{Kernel, dispatch};
use crate::packing::Packing;
use crate::precision::Format;
use crate::scratch::Scratch;
use crate::simd::Simd;
use crate::strip::{Offset, Strip};
use crate::winograd::{self, WinogradWeights};
use crate::{Epilogue, Isa, Precision};

/// A convolution on [`Strip`]s, its weights arranged for an instruction set.
#[derive(Clone)]
pub struct StripConv {
    isa: Isa,
    /// `F32` if the convolution has few channels.
    precision: Precision,
    in_channels: usize,
    out_channels: usize,
    /// 1, 3 or 5
    kernel: usize,
    weights: Weights,
}

#[derive(Clone)]
enum Weights {
    Direct {
        /// As [`Packing::pack`] arranges them.
        weights: Vec<f32>,
        /// `[out_channels]`
        bias: Vec<f32>,
    },
    Winograd(WinogradWeights),
}

impl StripConv {
    /// Arranges the weights.
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
        let precision = precision.of_conv(kernel, in_channels, out_channels);
        let weight = |o: usize, i: usize, tap: usize| layer.weight(o, i, tap);
        let weights =
            if isa != Isa::REFERENCE && winograd::is_faster(kernel, in_channels, out_channels) {
                let weights = WinogradWeights::new(isa, precision, in_channels, bias, weight);
                Weights::Winograd(weights)
            } else {
                let taps = kernel * kernel;
                let packing = Packing::new(isa, precision, in_channels, out_channels, taps);
                Weights::Direct {
                    weights: packing.pack(weight),
                    bias: bias.to_vec(),
                }
            };
        Self {
            isa,
            precision,
            in_channels,
            out_channels,
            kernel,
            weights,
        }
    }

    /// Convolves `input` into `output`.
    ///
    /// # Shapes
    /// - input: a strip of `in_channels`
    /// - output: a strip of `out_channels` and the same layout except for `rows_above`, `kernel / 2`
    ///   or more rows above the input, for which the input holds the rows and columns under the
    ///   kernel. Its last column may be the input's only where the maps end there; elsewhere it ends
    ///   `kernel / 2` pixels or more before it
    /// - maps of the epilogue: a strip of `out_channels` that holds the output's rows and columns
    ///
    /// # Panics
    /// If the shapes differ, or the input does not cover the output plus the kernel's reach.
    pub fn run(
        &self,
        input: &Strip,
        output: &mut Strip,
        epilogue: Epilogue<'_, Strip>,
        scratch: &mut Scratch,
    ) {
        assert_eq!(input.channels(), self.in_channels, "input channels");
        assert_eq!(output.channels(), self.out_channels, "output channels");
        let maps_offset = epilogue.maps().map_or(Offset::ZERO, |maps| {
            assert_eq!(maps.channels(), output.channels(), "maps of the epilogue");
            output.offset_in(maps, 0)
        });
        let convolution = Convolution {
            conv: self,
            input_offset: output.offset_in(input, self.kernel / 2),
            input,
            epilogue,
            maps_offset,
            output,
            scratch,
        };
        dispatch(self.isa, self.precision, convolution);
    }
}

/// A convolution of a strip.
///
/// Input, output and the epilogue's maps have the same layout except for `rows_above`. The input
/// has the convolution's input channels; output and maps have its output channels. The offsets are
/// those of [`Strip::offset_in`].
struct Convolution<'a> {
    conv: &'a StripConv,
    input: &'a Strip,
    /// Of the output in the input, with the kernel's reach on each side.
    input_offset: Offset,
    epilogue: Epilogue<'a, Strip>,
    /// Of the output in the epilogue's maps.
    maps_offset: Offset,
    output: &'a mut Strip,
    scratch: &'a mut Scratch,
}

impl Kernel for Convolution<'_> {
    type Output = ();

    fn reference(self, precision: Precision) {
        match &self.conv.weights {
            Weights::Direct { weights, bias } => {
                reference::direct(weights, bias, precision, self);
            }
            // `StripConv::new` arranges weights for the plain loops as `Direct`.
            Weights::Winograd(_) => unreachable!("Winograd's form in plain loops"),
        }
    }

    #[inline(always)]
    fn vectorized<S: Simd, F: Format>(self, simd: S) {
        simd::convolution::<S, F>(simd, self);
    }
}
