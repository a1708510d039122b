//! Convolution of strips: the same equation as [`conv2d`](crate::conv2d), strip by strip.
//!
//! 1x1 and 5x5 kernels, and 3x3 kernels of few channels, are summed directly. Other 3x3 kernels
//! go through Winograd's transform along y ([`winograd`]), which halves the multiplications.

mod direct;
mod reference;
mod winograd;

use crate::simd::dispatch;
use crate::strip::{Scratch, Strip, StripEpilogue, Window};
use crate::{Isa, tile};

/// Channels read and written from which on Winograd's form of a 3x3 convolution is taken.
const WINOGRAD_CHANNELS: usize = 8;

/// Weights of a convolution, arranged for one instruction set and for strips.
#[derive(Clone)]
pub struct StripConv {
    isa: Isa,
    in_channels: usize,
    out_channels: usize,
    form: Form,
    /// As [`tile::pack`] arranges them; of Winograd's form, see [`winograd::pack`].
    weights: Vec<f32>,
    bias: Vec<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Direct { kernel: usize },
    Winograd,
}

impl StripConv {
    /// Arranges the weights.
    ///
    /// # Shapes
    /// - weight: `[out_channels, in_channels, kernel, kernel]`, row-major
    /// - bias: `[out_channels]`
    ///
    /// # Panics
    /// When the lengths differ, or the kernel is not 1, 3 or 5.
    pub fn new(
        isa: Isa,
        weight: &[f32],
        bias: &[f32],
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
    ) -> Self {
        crate::conv2d::check_weight(weight.len(), in_channels, out_channels, kernel);
        assert_eq!(bias.len(), out_channels, "biases");
        let many = in_channels.min(out_channels) >= WINOGRAD_CHANNELS;
        let form = if kernel == 3 && many && isa != Isa::REFERENCE {
            Form::Winograd
        } else {
            Form::Direct { kernel }
        };
        let taps = kernel * kernel;
        let weights = match form {
            Form::Winograd => winograd::pack(isa, weight, in_channels, out_channels),
            Form::Direct { .. } => tile::pack(isa, in_channels, out_channels, taps, |o, i, tap| {
                weight[(o * in_channels + i) * taps + tap]
            }),
        };
        Self {
            isa,
            in_channels,
            out_channels,
            form,
            weights,
            bias: bias.to_vec(),
        }
    }

    /// Convolves the centre of `input` into `output`.
    ///
    /// # Shapes
    /// - input: strips of `in_channels`
    /// - output: a strip of `out_channels`, of the width and rows of the centre
    ///
    /// # Panics
    /// When the shapes differ.
    pub fn run(
        &self,
        input: Window<'_>,
        epilogue: StripEpilogue<'_>,
        output: &mut Strip,
        scratch: &mut Scratch,
    ) {
        input.check();
        epilogue.check(output);
        assert_eq!(input.centre.channels(), self.in_channels, "input channels");
        assert_eq!(output.channels(), self.out_channels, "output channels");
        let shape = |strip: &Strip| (strip.width_px(), strip.rows());
        assert_eq!(
            shape(output),
            shape(input.centre),
            "output and input (width, rows)"
        );
        let conv = self;
        match self.form {
            Form::Winograd => {
                use winograd::winograd;
                dispatch!(self.isa, reference::winograd, winograd(
                    conv: &StripConv,
                    input: Window<'_>,
                    epilogue: StripEpilogue<'_>,
                    output: &mut Strip,
                    scratch: &mut Scratch,
                ));
            }
            Form::Direct { kernel } => {
                use direct::direct;
                dispatch!(self.isa, reference::direct, direct(
                    conv: &StripConv,
                    kernel: usize,
                    input: Window<'_>,
                    epilogue: StripEpilogue<'_>,
                    output: &mut Strip,
                ));
            }
        }
        output.clear_border();
    }
}
