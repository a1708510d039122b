//! Two 1x1 convolutions of strips of pixels with a ReLU between them.

use super::{TILE, Target, Then, ZEROS, block_of, pack_tiles, padded, run_on_tiles};
use crate::aligned::AlignedBuffer;
use crate::conv2d::ConvLayer;
use crate::pointwise_pair::check_layers;
use crate::strip::{BLOCK_CHANNELS, Offset, Strip, StripFormat};
use crate::tiles::{ROW, ROWS, TileKernel, Tiles};
use crate::{Isa, Scratch};

/// Two 1x1 convolutions on [`Strip`]s of pixels, their weights arranged as tiles.
#[derive(Clone)]
pub struct PixelPair {
    isa: Isa,
    in_channels: usize,
    out_channels: usize,
    /// As [`pack_tiles`] arranges them.
    expand: AlignedBuffer,
    /// [`padded`]
    expand_bias: Vec<f32>,
    reduce: AlignedBuffer,
    reduce_bias: Vec<f32>,
}

impl PixelPair {
    /// Arranges the weights of `reduce(max(expand(x), 0))`.
    ///
    /// # Panics
    /// If the instruction set has no tiles, if they are not two 1x1 convolutions that follow each other, or the
    /// lengths of their weights are not those of the shapes.
    pub fn new(isa: Isa, expand: ConvLayer<'_>, reduce: ConvLayer<'_>) -> Self {
        assert!(
            isa.has_tiles(),
            "pair of pixels on {isa}, which has no tiles"
        );
        check_layers(&expand, &reduce);
        let pack = |layer: ConvLayer<'_>| {
            let shape = [layer.out_channels, layer.in_channels, 1];
            pack_tiles(shape, |o, i, _| layer.weight(o, i, 0))
        };
        Self {
            isa,
            in_channels: expand.in_channels,
            out_channels: reduce.out_channels,
            expand: pack(expand),
            expand_bias: padded(expand.bias),
            reduce: pack(reduce),
            reduce_bias: padded(reduce.bias),
        }
    }

    /// Computes `output = reduce(max(expand(input), 0))` of a strip.
    ///
    /// # Shapes
    /// - input: a strip of the first convolution's input channels, [`StripFormat::Pixels`]
    /// - output: a strip of the second one's output channels, of either format of pixels, and the same layout
    ///   except for `rows_above`, whose rows and columns the input holds
    ///
    /// # Panics
    /// If the shapes differ, or the input does not cover the output.
    pub fn run(&self, input: &Strip, output: &mut Strip, scratch: &mut Scratch) {
        assert_eq!(input.channels(), self.in_channels, "input channels");
        assert_eq!(output.channels(), self.out_channels, "output channels");
        input.check_format(&[StripFormat::Pixels]);
        output.check_format(&[StripFormat::Pixels, StripFormat::Bf16Pixels]);
        let hidden_len = self.expand_bias.len() / 2;
        let [narrow, sums, hidden] = scratch.arrays([
            [ROWS, input.pixel_len() / 2],
            [ROWS, BLOCK_CHANNELS],
            [ROWS, hidden_len],
        ]);
        let run = PairRun {
            pair: self,
            input,
            offset: output.offset_in(input, 0),
            output,
            narrow,
            sums,
            hidden,
        };
        run_on_tiles(self.isa, run);
    }
}

struct PairRun<'a> {
    pair: &'a PixelPair,
    input: &'a Strip,
    offset: Offset,
    output: &'a mut Strip,
    /// The input of 16 pixels in bf16.
    narrow: &'a mut [f32],
    /// Of 16 pixels and a block of channels.
    sums: &'a mut [f32],
    /// The wide activation of 16 pixels in bf16, by blocks of channels.
    hidden: &'a mut [f32],
}

impl TileKernel for PairRun<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tiles>(mut self, tiles: &mut T) {
        let out_blocks = self.pair.reduce_bias.len() / BLOCK_CHANNELS;
        let reduce = self.pair.reduce.as_slice();
        let reduce_len = reduce.len() / out_blocks;
        for y in self.output.inside() {
            for x in (0..self.output.width_px()).step_by(ROWS) {
                self.round_input(tiles, y, x);
                for block in 0..out_blocks {
                    let reduce = &reduce[block * reduce_len..][..reduce_len];
                    tiles.zero::<2>();
                    tiles.zero::<3>();
                    if block == 0 {
                        self.expand_and_reduce(tiles, reduce);
                    } else {
                        let hidden = self.hidden.chunks_exact(TILE);
                        for (hidden, reduce) in hidden.zip(reduce.chunks_exact(2 * TILE)) {
                            add_reduced(tiles, hidden, reduce);
                        }
                    }
                    tiles.store::<2>(self.sums, BLOCK_CHANNELS);
                    tiles.store::<3>(&mut self.sums[ROW..], BLOCK_CHANNELS);
                    let bias = block_of(&self.pair.reduce_bias, block);
                    let mut target = Target::new(self.output, y, block);
                    target.finish(tiles, x, self.sums, bias, Then::Store);
                }
            }
        }
    }
}

impl PairRun<'_> {
    /// Rounds the input of 16 pixels of row `y` of the output from `x` on.
    #[inline(always)]
    fn round_input<T: Tiles>(&mut self, tiles: &T, y: usize, x: usize) {
        let pixels = self
            .input
            .pixels(y as isize + self.offset.rows, self.offset.px + x as isize);
        let (blocks, _) = pixels.as_chunks();
        let (lanes, _) = self.narrow.as_chunks_mut();
        tiles.round::<false>(blocks, &ZEROS, lanes);
    }

    /// Computes the wide activation of 16 pixels, and adds the sums of a block of output channels to tiles 2 and 3. The
    /// processor rounds a block of wide channels while it multiplies the next one.
    #[inline(always)]
    fn expand_and_reduce<T: Tiles>(&mut self, tiles: &mut T, reduce: &[f32]) {
        let narrow_len = self.narrow.len() / ROWS;
        let in_blocks = narrow_len / ROW;
        let wide_blocks = self.pair.expand_bias.len() / BLOCK_CHANNELS;
        let mut expand = self.pair.expand.as_slice().chunks_exact(2 * TILE);
        for block in 0..=wide_blocks {
            if block < wide_blocks {
                tiles.zero::<0>();
                tiles.zero::<1>();
                for in_block in 0..in_blocks {
                    let Some(expand) = expand.next() else { return };
                    // A single tile of pixels stays loaded.
                    if block == 0 || in_blocks > 1 {
                        tiles.load::<4>(&self.narrow[in_block * ROW..], narrow_len);
                    }
                    tiles.load::<5>(expand, ROW);
                    tiles.add_product::<0, 4, 5>();
                    tiles.load::<6>(&expand[TILE..], ROW);
                    tiles.add_product::<1, 4, 6>();
                }
            }
            let before = block.checked_sub(1);
            if let Some(before) = before {
                let bias = block_of(&self.pair.expand_bias, before);
                let (hidden, _) = self.hidden[before * TILE..][..TILE].as_chunks_mut();
                let (sums, _) = self.sums.as_chunks();
                tiles.round::<true>(sums, bias, hidden);
            }
            if block < wide_blocks {
                tiles.store::<0>(self.sums, BLOCK_CHANNELS);
                tiles.store::<1>(&mut self.sums[ROW..], BLOCK_CHANNELS);
            }
            if let Some(before) = before {
                let hidden = &self.hidden[before * TILE..][..TILE];
                add_reduced(tiles, hidden, &reduce[before * 2 * TILE..][..2 * TILE]);
            }
        }
    }
}

/// Adds the products of a block of wide channels to tiles 2 and 3.
#[inline(always)]
fn add_reduced<T: Tiles>(tiles: &mut T, hidden: &[f32], reduce: &[f32]) {
    tiles.load::<7>(hidden, ROW);
    tiles.load::<5>(reduce, ROW);
    tiles.add_product::<2, 7, 5>();
    tiles.load::<6>(&reduce[TILE..], ROW);
    tiles.add_product::<3, 7, 6>();
}
