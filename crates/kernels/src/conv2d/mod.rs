//! Convolution with zero padding, stride 1 (1x1, 3x3 or 5x5), and its gradients.
//!
//! `y[o](p) = bias[o] + sum over i, (dy, dx) of w[o][i][dy][dx] x[i](p + (dy, dx))`
//!
//! The gradient by the input is the same operation with the kernel rotated by 180 degrees and its
//! channels exchanged, so there are two kernels: the convolution and the gradient by the weight.
//! Every output pixel is a sum in one fixed order (channels, then taps row by row), whatever its
//! place in the image: a tile gives the same bits as the whole image.

mod reference;
mod weight_gradient;

use weight_gradient::WeightGradient;

use crate::direct::{DirectRun, square_taps};
use crate::dispatch::dispatch;
use crate::epilogue::TileOutput;
use crate::packing::Packing;
use crate::plane_tiles::{self, TileConv};
use crate::planes::{BORDER_PX, OVERSHOOT};
use crate::rows::Rows;
use crate::strip::STRIP_ROWS;
use crate::tile::MAX_GROUP_PX;
use crate::winograd::{self, FourRows, WinogradWeights};
use crate::{Epilogue, Isa, Planes, Precision, Scratch};

/// The largest side of a kernel in pixels.
pub(crate) const MAX_KERNEL: usize = 5;

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
    /// Without tiles if none are used.
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
    /// In f32, as [`Packing::pack`] arranges them. None beside tiles.
    weights: Vec<f32>,
    /// `[out_channels]`
    bias: Vec<f32>,
    /// For whole strips of rows, where that form is faster.
    winograd: Option<WinogradWeights>,
    /// On instruction sets that have them, in bf16.
    tiles: Option<TileConv>,
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
            tiles: None,
        }
    }

    /// Arranges the weights `[out][in][tap]` as tiles.
    fn of_tiles(
        isa: Isa,
        [in_channels, kernel]: [usize; 2],
        bias: Vec<f32>,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        Self {
            in_channels,
            out_channels: bias.len(),
            kernel,
            weights: Vec::new(),
            winograd: None,
            tiles: Some(TileConv::new(isa, [in_channels, kernel], &bias, weight)),
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
    /// the L1 loss is a sign, which the larger rounding error would flip more often. On instruction sets with tiles all of a
    /// convolution in bf16 is summed directly, by products of tiles.
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
        let precision = precision.of_conv(kernel, in_channels, out_channels);
        let forward_weight = |o: usize, i: usize, tap: usize| layer.weight(o, i, tap);
        let backward_weight = |i: usize, o: usize, tap: usize| layer.weight(o, i, taps - 1 - tap);
        if plane_tiles::are_used(isa, precision) {
            let zeros = vec![0.0; in_channels];
            let (input, output) = ([in_channels, kernel], [out_channels, kernel]);
            return Self {
                isa,
                precision,
                forward: PackedConv::of_tiles(isa, input, bias.to_vec(), forward_weight),
                backward: PackedConv::of_tiles(isa, output, zeros, backward_weight),
            };
        }
        let isa = isa.without_tiles();
        let is_winograd =
            isa != Isa::REFERENCE && winograd::is_faster(kernel, in_channels, out_channels);
        let forward = PackedConv::new(
            isa,
            [in_channels, kernel],
            bias.to_vec(),
            (is_winograd && precision == Precision::Bf16).then_some(precision),
            forward_weight,
        );
        let backward = PackedConv::new(
            isa,
            [out_channels, kernel],
            vec![0.0; in_channels],
            is_winograd.then_some(precision),
            backward_weight,
        );
        Self {
            isa,
            precision,
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
        epilogue.check(conv.out_channels);
        if let Some(maps) = epilogue.maps() {
            assert_eq!(maps.geometry(), output.geometry(), "maps of the epilogue");
            assert_eq!(maps.channels(), output.channels(), "maps of the epilogue");
        }
        if let Some(tiles) = &conv.tiles {
            return tiles.run(input, output, epilogue, scratch);
        }
        if self.isa == Isa::REFERENCE {
            return reference::convolution(conv, self.precision, input, output, epilogue);
        }
        let g = input.geometry();
        let mut rows_done = 0;
        if let Some(weights) = &conv.winograd {
            rows_done = g.height_px / STRIP_ROWS * STRIP_ROWS;
            for y in (0..rows_done).step_by(STRIP_ROWS) {
                const { assert!(MAX_GROUP_PX <= OVERSHOOT, "pixels read behind a row") }
                let at = |row: usize| g.origin + (y + row) * g.stride;
                let from = |row| input.as_slice()[at(row) - g.stride - 1..].as_ptr();
                let to = output.as_mut_slice()[at(0)..].as_mut_ptr();
                let rows = Rows {
                    rows: std::array::from_fn(from),
                    plane_len: g.plane_len,
                    planes: conv.in_channels,
                };
                let outputs = std::array::from_fn(|row| TileOutput {
                    to: to.wrapping_add(row * g.stride),
                    plane_len: g.plane_len,
                    epilogue: epilogue.at(|maps| maps.as_slice()[at(row)..].as_ptr()),
                });
                // SAFETY: input, output and maps have the same geometry and the channels of the
                // convolution. The four rows lie in each plane; the rows above and below them are
                // pixels or border, and each row is followed by two rows of border and `OVERSHOOT`
                // floats at least.
                let rows = unsafe { FourRows::new(weights, rows, outputs, g.width_px, scratch) };
                dispatch(self.isa, self.precision, rows);
            }
        }
        const {
            assert!(MAX_GROUP_PX <= OVERSHOOT, "pixels written behind a run");
            assert!(MAX_KERNEL / 2 <= BORDER_PX, "pixels read beside a run");
        }
        let origin = g.origin + rows_done * g.stride;
        let first_tap = origin - (conv.kernel / 2) * (g.stride + 1);
        let source = Rows {
            rows: [input.as_slice()[first_tap..].as_ptr()],
            plane_len: g.plane_len,
            planes: conv.in_channels,
        };
        let target = TileOutput {
            to: output.as_mut_slice()[origin..].as_mut_ptr(),
            plane_len: g.plane_len,
            epilogue: epilogue.at(|maps| maps.as_slice()[origin..].as_ptr()),
        };
        let taps = square_taps(conv.kernel, g.stride);
        let len_px = g.run_len() - (rows_done * g.stride).min(g.run_len());
        // SAFETY: input, output and maps have the same geometry and the channels of the convolution.
        // Before its origin a plane has `BORDER_PX` rows and pixels, behind the run too, and then
        // `OVERSHOOT` floats: the taps of each lane of the last group, and its sums.
        let run =
            unsafe { DirectRun::new(&conv.weights, &conv.bias, (source, &taps), target, len_px) };
        dispatch(self.isa, Precision::F32, run);
        output.clear_border();
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
        if conv.tiles.is_some() {
            let (isa, kernel) = (self.isa, conv.kernel);
            let planes = [input, output_gradient];
            return plane_tiles::add_weight_gradient(isa, kernel, planes, gradients, scratch);
        }
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
