//! Convolution of strips: the same equation as [`conv2d`](crate::conv2d), strip by strip.
//!
//! 1x1 and 5x5 kernels, and 3x3 kernels of few channels, are summed directly. Other 3x3 kernels
//! go through Winograd's transform along y, which halves the multiplications; these alone can
//! be computed in another [`Precision`] than f32.

mod reference;
mod simd;

use crate::simd::{dispatch, dispatch_in};
use crate::strip::{Offset, Scratch, Strip};
use crate::tile::Packing;
use crate::{Epilogue, Isa, Precision, winograd};

/// Weights of a convolution, arranged for one instruction set and for strips.
#[derive(Clone)]
pub struct StripConv {
    isa: Isa,
    in_channels: usize,
    out_channels: usize,
    form: Form,
    /// `F32` where the convolution's channels are few.
    precision: Precision,
    /// As [`Packing::pack`] arranges them; of Winograd's form, see [`winograd::pack`].
    weights: Vec<f32>,
    bias: Vec<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Direct { kernel: usize },
    Winograd,
}

/// Where the output's first pixel lies in what is read.
#[derive(Clone, Copy)]
struct Offsets {
    input: Offset,
    /// Of the epilogue.
    maps: Offset,
}

impl StripConv {
    /// Pixels that it reads on each side.
    fn reach_px(&self) -> usize {
        match self.form {
            Form::Direct { kernel } => kernel / 2,
            Form::Winograd => 1,
        }
    }

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
        precision: Precision,
        weight: &[f32],
        bias: &[f32],
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
    ) -> Self {
        crate::conv2d::check_weight(weight.len(), in_channels, out_channels, kernel);
        assert_eq!(bias.len(), out_channels, "biases");
        let many = winograd::pays(kernel, in_channels, out_channels);
        let precision = precision.of_conv(kernel, in_channels, out_channels);
        let form = if many && isa != Isa::REFERENCE {
            Form::Winograd
        } else {
            Form::Direct { kernel }
        };
        let taps = kernel * kernel;
        let at = |o: usize, i: usize, tap: usize| weight[(o * in_channels + i) * taps + tap];
        let weights = match form {
            Form::Winograd => winograd::pack(isa, precision, in_channels, out_channels, at),
            Form::Direct { .. } => {
                Packing::new(isa, precision, in_channels, out_channels, taps).pack(at)
            }
        };
        Self {
            isa,
            in_channels,
            out_channels,
            form,
            precision,
            weights,
            bias: bias.to_vec(),
        }
    }

    /// Convolves `input` into `output`.
    ///
    /// # Shapes
    /// - input: a strip of `in_channels`
    /// - output: a strip of `out_channels`. It may begin left of the input and above it by what the input
    ///   holds there beside the kernel's reach, and end before it: by the kernel's reach at least below, and
    ///   at the right unless the maps end there
    /// - maps of the epilogue: likewise, without the reach
    ///
    /// # Panics
    /// When the shapes differ, or the output's pixels are not to be had from the input's.
    pub fn run(
        &self,
        input: &Strip,
        epilogue: Epilogue<'_, Strip>,
        output: &mut Strip,
        scratch: &mut Scratch,
    ) {
        let of_maps = epilogue.maps().map_or(Offset { rows: 0, px: 0 }, |maps| {
            assert_eq!(maps.channels(), output.channels(), "maps of the epilogue");
            output.offset_in(maps, 0)
        });
        assert_eq!(input.channels(), self.in_channels, "input channels");
        assert_eq!(output.channels(), self.out_channels, "output channels");
        let conv = self;
        let offsets = Offsets {
            input: output.offset_in(input, self.reach_px()),
            maps: of_maps,
        };
        use simd::{direct, winograd};
        match self.form {
            Form::Winograd => dispatch_in!(self.precision, self.isa, reference::winograd, winograd(
                conv: &StripConv,
                input: &Strip,
                epilogue: Epilogue<'_, Strip>,
                offsets: Offsets,
                output: &mut Strip,
                scratch: &mut Scratch,
            )),
            Form::Direct { kernel } => dispatch!(self.isa, reference::direct, direct(
                conv: &StripConv,
                kernel: usize,
                input: &Strip,
                epilogue: Epilogue<'_, Strip>,
                offsets: Offsets,
                output: &mut Strip,
            )),
        }
        output.clear_border();
    }
}
