//! Convolutions on strips of pixels, by products of tiles (`tiles.rs`, Intel AMX).
//!
//! The channels of a pixel lie next to each other, so 16 pixels of a row are a tile of up to 32 input channels at a time, for every
//! tap of a kernel as they lie. The same equations as in [`StripConv`](crate::StripConv) and
//! [`StripPair`](crate::StripPair) in bf16: a pixel's sum is that of its products, by taps and then by 32 input
//! channels, plus the bias, plus the term of the epilogue.

mod conv;
mod convert;
mod pair;

use std::slice::{from_mut, from_ref};

pub use conv::PixelConv;
pub use convert::convert_strip;
pub use pair::PixelPair;

use crate::Precision;
use crate::aligned::AlignedBuffer;
use crate::strip::{BLOCK_CHANNELS, STRIP_OVERSHOOT, Strip, StripFormat};
use crate::tiles::{ROW, ROWS, TILE, Tiles, run_on_tiles};

/// Pixels that a convolution computes at a time, those of two tiles: each tile of weights is used twice.
const GROUP_PX: usize = 2 * ROWS;

// Groups read beyond the end of a row, and taps beyond the last pixel of a group.
const _: () = assert!(GROUP_PX + crate::conv2d::MAX_KERNEL <= STRIP_OVERSHOOT);

/// Values of a block of channels of a pixel.
type Block = [f32; BLOCK_CHANNELS];

const ZEROS: Block = [0.0; BLOCK_CHANNELS];

/// Weights `[out][in][tap]` as tiles `[block of 32 out][tap][block of 32 in][2]`. A tile has a row for each two input channels and
/// a lane for each of 16 output channels.
fn pack_tiles(
    [out_channels, in_channels, taps]: [usize; 3],
    weight: impl Fn(usize, usize, usize) -> f32,
) -> AlignedBuffer {
    let [out_blocks, in_blocks] =
        [out_channels, in_channels].map(|channels| channels.div_ceil(BLOCK_CHANNELS));
    let mut packed = AlignedBuffer::zeros(out_blocks * taps * in_blocks * 2 * TILE);
    let mut lanes = packed.as_mut_slice().iter_mut();
    for out_block in 0..out_blocks {
        for tap in 0..taps {
            for in_block in 0..in_blocks {
                for (half, row, column) in
                    (0..2 * TILE).map(|at| (at / TILE, at / ROW % ROWS, at % ROW))
                {
                    let o = out_block * BLOCK_CHANNELS + half * ROW + column;
                    let lane =
                        Precision::Bf16.lane(|c| match in_block * BLOCK_CHANNELS + 2 * row + c {
                            i if i < in_channels && o < out_channels => weight(o, i, tap),
                            _ => 0.0,
                        });
                    if let Some(to) = lanes.next() {
                        *to = lane;
                    }
                }
            }
        }
    }
    packed
}

/// Values by channel, filled up with zeros to whole blocks.
fn padded(values: &[f32]) -> Vec<f32> {
    let mut padded = values.to_vec();
    padded.resize(values.len().next_multiple_of(BLOCK_CHANNELS), 0.0);
    padded
}

/// What happens to the sums of a block of channels, plus bias.
#[derive(Clone, Copy)]
enum Then<'a> {
    Store,
    Relu,
    /// A slope for each channel of the block.
    PRelu(&'a Block),
    /// The block's values of the first pixel of a row, and floats from a pixel to the next.
    Add(&'a [f32], usize),
}

/// Where sums of a block of channels go: the first pixel of a row of a strip from the block on.
struct Target<'a> {
    to: &'a mut [f32],
    /// Floats from a pixel to the next.
    pixel_len: usize,
    format: StripFormat,
}

impl<'a> Target<'a> {
    /// A block of row `y` of a strip.
    fn new(strip: &'a mut Strip, y: usize, block: usize) -> Self {
        let (format, pixel_len) = (strip.layout().format, strip.pixel_len());
        let block_len = match format {
            StripFormat::Bf16Pixels => BLOCK_CHANNELS / 2,
            _ => BLOCK_CHANNELS,
        };
        let row = strip.row_of_pixels_mut(y);
        Self {
            to: if row.is_empty() {
                row
            } else {
                &mut row[block * block_len..]
            },
            pixel_len,
            format,
        }
    }

    /// Writes the values of the pixels from `x` on whose sums are given.
    #[inline(always)]
    fn finish<T: Tiles>(
        &mut self,
        tiles: &T,
        x: usize,
        sums: &[f32],
        bias: &Block,
        then: Then<'_>,
    ) {
        let to = self.to[x * self.pixel_len..].chunks_mut(self.pixel_len);
        let (blocks, _) = sums.as_chunks::<BLOCK_CHANNELS>();
        for (at, (to, sums)) in to.zip(blocks).enumerate() {
            let is_bf16 = self.format == StripFormat::Bf16Pixels;
            if is_bf16 && let Some(to) = to.first_chunk_mut() {
                let (sums, to) = (from_ref(sums), from_mut(to));
                match then {
                    Then::Store => tiles.round::<false>(sums, bias, to),
                    Then::Relu => tiles.round::<true>(sums, bias, to),
                    _ => {
                        let values = finished(&sums[0], bias, then, x + at);
                        tiles.round::<false>(&[values], &ZEROS, to);
                    }
                }
            } else if let Some(to) = to.first_chunk_mut() {
                *to = finished(sums, bias, then, x + at);
            }
        }
    }
}

/// The sums of the pixel `x` of a row, plus bias, and what happens then.
#[inline(always)]
fn finished(sums: &Block, bias: &Block, then: Then<'_>, x: usize) -> Block {
    let mut values = *bias;
    for c in 0..BLOCK_CHANNELS {
        values[c] += sums[c];
    }
    match then {
        Then::Store => {}
        Then::Relu => values = relu(values),
        Then::PRelu(slopes) => {
            let positive = relu(values);
            for c in 0..BLOCK_CHANNELS {
                values[c] = slopes[c].mul_add(values[c] - positive[c], positive[c]);
            }
        }
        Then::Add(term, pixel_len) => {
            let term = &term[x * pixel_len..][..BLOCK_CHANNELS];
            for c in 0..BLOCK_CHANNELS {
                values[c] += term[c];
            }
        }
    }
    values
}

/// max(value, 0) of each.
#[inline(always)]
fn relu(mut values: Block) -> Block {
    for value in &mut values {
        *value = if *value > 0.0 { *value } else { 0.0 };
    }
    values
}

/// A block of values by channel that are [`padded`].
#[inline(always)]
fn block_of(values: &[f32], block: usize) -> &Block {
    let (blocks, _) = values.as_chunks();
    &blocks[block]
}
