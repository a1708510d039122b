//! Convolution of strips: the same equation as in [`conv2d`](crate::conv2d), strip by strip.
//!
//! 1x1 and 5x5 kernels, and 3x3 kernels of few channels, are summed directly. Other 3x3 kernels
//! go through Winograd's transform along y, which halves the multiplications; only these are
//! computed in another [`Precision`] than f32.

mod reference;

use crate::conv2d::{ConvLayer, MAX_KERNEL};
use crate::direct::{DirectRun, square_taps};
use crate::dispatch::dispatch;
use crate::epilogue::TileOutput;
use crate::packing::Packing;
use crate::rows::Rows;
use crate::scratch::Scratch;
use crate::strip::{Offset, STRIP_OVERSHOOT, Strip};
use crate::tile::MAX_GROUP_PX;
use crate::winograd::{self, FourRows, WinogradWeights};
use crate::{Epilogue, Isa, Precision};

/// A convolution on [`Strip`]s, its weights arranged for an instruction set.
#[derive(Clone)]
pub struct StripConv {
    isa: Isa,
    /// `F32` if the convolution has few channels; `Int8` for a direct sum that has the same bits on every instruction set.
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
        let isa = match precision {
            Precision::Int8 => isa.with_one_rounding(),
            _ => isa.without_tiles(),
        };
        let ConvLayer {
            in_channels,
            out_channels,
            kernel,
            bias,
            ..
        } = layer;
        let precision = match precision {
            Precision::Int8 => precision,
            _ => precision.of_conv(kernel, in_channels, out_channels),
        };
        let weight = |o: usize, i: usize, tap: usize| layer.weight(o, i, tap);
        let is_winograd = isa != Isa::REFERENCE
            && precision != Precision::Int8
            && winograd::is_faster(kernel, in_channels, out_channels);
        let weights = if is_winograd {
            let weights = WinogradWeights::new(isa, precision, in_channels, bias, weight);
            Weights::Winograd(weights)
        } else {
            let taps = kernel * kernel;
            let rounded = match precision {
                Precision::Int8 => Precision::F32,
                _ => precision,
            };
            let packing = Packing::new(isa, rounded, in_channels, out_channels, taps);
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
        epilogue.check(self.out_channels);
        let maps_offset = epilogue.maps().map_or(Offset::ZERO, |maps| {
            assert_eq!(maps.channels(), output.channels(), "maps of the epilogue");
            output.offset_in(maps, 0)
        });
        let input_offset = output.offset_in(input, self.kernel / 2);
        let reach = (self.kernel / 2) as isize;
        let (plane_len, width_px) = (output.plane_len(), output.width_px());
        let first_tap = |y: usize| {
            let row = y as isize + input_offset.rows - reach;
            input.at(row, input_offset.px - reach)
        };
        let epilogue_at =
            |y: usize| epilogue.at(|maps| maps.at(y as isize + maps_offset.rows, maps_offset.px));
        // All strips have rows of `plane_len` floats: a border, `width_px` pixels or more, and
        // `STRIP_OVERSHOOT` floats for the rest of a group and the taps. The offsets say that the
        // rows and pixels of all taps lie in the strips, which have the convolution's channels.
        const {
            assert!(MAX_GROUP_PX + MAX_KERNEL <= STRIP_OVERSHOOT, "pixels read");
        }
        match &self.weights {
            Weights::Direct { weights, bias } if self.isa == Isa::REFERENCE => {
                let (input, epilogue) = ((input, input_offset), (epilogue, maps_offset));
                reference::direct(self, (weights, bias), input, output, epilogue);
            }
            Weights::Direct { weights, bias } => {
                let taps = square_taps(self.kernel, self.in_channels * plane_len);
                for y in output.inside() {
                    let source = Rows {
                        rows: [first_tap(y)],
                        plane_len,
                        planes: self.in_channels,
                    };
                    let target = TileOutput {
                        to: output.at_mut(y),
                        plane_len,
                        epilogue: epilogue_at(y),
                    };
                    // SAFETY: the rows, see above.
                    let run =
                        unsafe { DirectRun::new(weights, bias, (source, &taps), target, width_px) };
                    dispatch(self.isa, Precision::F32, run);
                }
            }
            Weights::Winograd(weights) => {
                for first in output.groups() {
                    let to = output.rows_mut(first);
                    let source = Rows {
                        rows: std::array::from_fn(|row| first_tap(first + row)),
                        plane_len,
                        planes: self.in_channels,
                    };
                    let targets = std::array::from_fn(|row| TileOutput {
                        to: to[row],
                        plane_len,
                        epilogue: epilogue_at(first + row),
                    });
                    // SAFETY: the rows, see above.
                    let rows =
                        unsafe { FourRows::new(weights, source, targets, width_px, scratch) };
                    dispatch(self.isa, self.precision, rows);
                }
            }
        }
        output.clear_border();
    }
}
