//! A convolution of strips of pixels.

use super::{GROUP_PX, TILE, Target, Then, block_of, pack_tiles, padded, run_on_tiles};
use crate::aligned::AlignedBuffer;
use crate::conv2d::{ConvLayer, MAX_KERNEL};
use crate::strip::{BLOCK_CHANNELS, Offset, Strip, StripFormat};
use crate::tiles::{ROW, ROWS, TileKernel, Tiles};
use crate::{Epilogue, Isa, Precision, Scratch};

/// A convolution on [`Strip`]s of pixels in bf16, its weights arranged as tiles.
#[derive(Clone)]
pub struct PixelConv {
    isa: Isa,
    in_channels: usize,
    out_channels: usize,
    /// 1, 3 or 5
    kernel: usize,
    /// As [`pack_tiles`] arranges them.
    weights: AlignedBuffer,
    /// [`padded`]
    bias: Vec<f32>,
}

impl PixelConv {
    /// Whether [`StripConv`](crate::StripConv) would compute such a convolution in bf16: only those should be
    /// computed on pixels.
    pub fn suits(kernel: usize, in_channels: usize, out_channels: usize) -> bool {
        let precision = Precision::Bf16.of_conv(kernel, in_channels, out_channels);
        precision == Precision::Bf16
    }

    /// Arranges the weights.
    ///
    /// # Panics
    /// If the instruction set has no tiles, the lengths are not those of the shapes, or the kernel is not 1, 3 or 5.
    pub fn new(isa: Isa, layer: ConvLayer<'_>) -> Self {
        assert!(
            isa.has_tiles(),
            "convolution of pixels on {isa}, which has no tiles"
        );
        layer.check();
        let ConvLayer {
            in_channels,
            out_channels,
            kernel,
            bias,
            ..
        } = layer;
        let shape = [out_channels, in_channels, kernel * kernel];
        Self {
            isa,
            in_channels,
            out_channels,
            kernel,
            weights: pack_tiles(shape, |o, i, tap| layer.weight(o, i, tap)),
            bias: padded(bias),
        }
    }

    /// Convolves `input` into `output`. Rows and columns are as in [`StripConv::run`](crate::StripConv::run).
    ///
    /// # Shapes
    /// - input: a strip of `in_channels`, [`StripFormat::Bf16Pixels`]
    /// - output: a strip of `out_channels`, of either format of pixels
    /// - maps of the epilogue: a strip of `out_channels`, [`StripFormat::Pixels`]
    ///
    /// # Panics
    /// If the shapes differ, or the input does not cover the output plus the kernel's reach. If the epilogue is one of
    /// gradients.
    pub fn run(
        &self,
        input: &Strip,
        output: &mut Strip,
        epilogue: Epilogue<'_, Strip>,
        scratch: &mut Scratch,
    ) {
        assert_eq!(input.channels(), self.in_channels, "input channels");
        assert_eq!(output.channels(), self.out_channels, "output channels");
        input.check_format(&[StripFormat::Bf16Pixels]);
        output.check_format(&[StripFormat::Pixels, StripFormat::Bf16Pixels]);
        epilogue.check(self.out_channels);
        let epilogue = match epilogue {
            Epilogue::Store => PixelEpilogue::Store,
            Epilogue::Relu => PixelEpilogue::Relu,
            Epilogue::PRelu(slopes) => PixelEpilogue::PRelu(padded(slopes)),
            Epilogue::Add(maps) => {
                assert_eq!(maps.channels(), self.out_channels, "maps of the epilogue");
                maps.check_format(&[StripFormat::Pixels]);
                PixelEpilogue::Add(maps, output.offset_in(maps, 0))
            }
            Epilogue::AddPRelu(..) | Epilogue::Accumulate | Epilogue::WherePositive(_) => {
                panic!("expected an epilogue of one operation in use, in a convolution of pixels")
            }
        };
        let offset = output.offset_in(input, self.kernel / 2);
        let [sums] = scratch.arrays([[GROUP_PX, BLOCK_CHANNELS]]);
        let run = ConvRun {
            conv: self,
            input,
            offset,
            output,
            epilogue,
            sums,
        };
        run_on_tiles(self.isa, run);
    }
}

enum PixelEpilogue<'a> {
    Store,
    Relu,
    /// [`padded`]
    PRelu(Vec<f32>),
    /// The place of the output in these maps.
    Add(&'a Strip, Offset),
}

impl PixelEpilogue<'_> {
    /// The epilogue of a block of row `y` of the output.
    fn of_row(&self, y: usize, block: usize) -> Then<'_> {
        match self {
            Self::Store => Then::Store,
            Self::Relu => Then::Relu,
            Self::PRelu(slopes) => Then::PRelu(block_of(slopes, block)),
            Self::Add(maps, offset) => {
                let row = maps.pixels(y as isize + offset.rows, offset.px);
                Then::Add(&row[block * BLOCK_CHANNELS..], maps.pixel_len())
            }
        }
    }
}

struct ConvRun<'a> {
    conv: &'a PixelConv,
    input: &'a Strip,
    offset: Offset,
    output: &'a mut Strip,
    epilogue: PixelEpilogue<'a>,
    sums: &'a mut [f32],
}

impl TileKernel for ConvRun<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tiles>(self, tiles: &mut T) {
        let (kernel, pixel_len) = (self.conv.kernel, self.input.pixel_len());
        let reach = (kernel / 2) as isize;
        let width_px = self.output.width_px();
        let blocks = self.conv.bias.len() / BLOCK_CHANNELS;
        let weights_len = self.conv.weights.as_slice().len() / blocks;
        for y in self.output.inside() {
            let rows: [&[f32]; MAX_KERNEL] = std::array::from_fn(|ky| {
                let ky = ky.min(kernel - 1) as isize;
                let row = y as isize + self.offset.rows + ky - reach;
                self.input.pixels(row, self.offset.px - reach)
            });
            // The weights of a block stay in the first-level cache over a row.
            for block in 0..blocks {
                let weights = &self.conv.weights.as_slice()[block * weights_len..][..weights_len];
                let bias = block_of(&self.conv.bias, block);
                let then = self.epilogue.of_row(y, block);
                let mut target = Target::new(self.output, y, block);
                let mut group = None;
                for x in (0..width_px).step_by(GROUP_PX) {
                    let products = Products {
                        rows: &rows[..kernel],
                        pixel_len,
                        weights,
                    };
                    products.compute(tiles, x);
                    // The processor finishes the group before while it multiplies this one.
                    if let Some(before) = group.replace(x) {
                        target.finish(tiles, before, self.sums, bias, then);
                    }
                    store_group(tiles, self.sums);
                }
                if let Some(last) = group {
                    target.finish(tiles, last, self.sums, bias, then);
                }
            }
        }
    }
}

/// The products of a block of output channels.
struct Products<'a> {
    /// From the first tap of the row's first pixel on.
    rows: &'a [&'a [f32]],
    /// Lanes of a pixel.
    pixel_len: usize,
    weights: &'a [f32],
}

impl Products<'_> {
    /// Sums of [`GROUP_PX`] pixels from `x` on: in tiles 0 and 1 those of the first 16, by 16 channels each, in
    /// 2 and 3 the others.
    #[inline(always)]
    fn compute<T: Tiles>(&self, tiles: &mut T, x: usize) {
        let Self {
            rows,
            pixel_len,
            weights,
        } = *self;
        tiles.zero::<0>();
        tiles.zero::<1>();
        tiles.zero::<2>();
        tiles.zero::<3>();
        let mut weights = weights.chunks_exact(2 * TILE);
        for row in rows {
            for tap in 0..rows.len() {
                for channel in (0..pixel_len).step_by(ROW) {
                    let Some(weights) = weights.next() else {
                        return;
                    };
                    let pixels = &row[(x + tap) * pixel_len + channel..];
                    tiles.load::<4>(pixels, pixel_len);
                    tiles.load::<6>(weights, ROW);
                    tiles.add_product::<0, 4, 6>();
                    tiles.load::<7>(&weights[TILE..], ROW);
                    tiles.add_product::<1, 4, 7>();
                    tiles.load::<5>(&pixels[ROWS * pixel_len..], pixel_len);
                    tiles.add_product::<2, 5, 6>();
                    tiles.add_product::<3, 5, 7>();
                }
            }
        }
    }
}

/// Stores the sums of [`Products::compute`] as `[pixel][channel]`.
#[inline(always)]
fn store_group<T: Tiles>(tiles: &mut T, sums: &mut [f32]) {
    tiles.store::<0>(sums, BLOCK_CHANNELS);
    tiles.store::<1>(&mut sums[ROW..], BLOCK_CHANNELS);
    let sums = &mut sums[ROWS * BLOCK_CHANNELS..];
    tiles.store::<2>(sums, BLOCK_CHANNELS);
    tiles.store::<3>(&mut sums[ROW..], BLOCK_CHANNELS);
}
