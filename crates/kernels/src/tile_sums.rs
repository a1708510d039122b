//! Sums of lanes by products of tiles (`tiles.rs`, Intel AMX).
//!
//! A lane holds some channels of a pixel, so planes of lanes are the rows of a tile of pixels as they lie in memory, and a
//! tile of weights has 16 output channels. A product sums over 16 planes; a tap of a kernel is an offset of the pixels.

use crate::Isa;
use crate::aligned::AlignedBuffer;
use crate::tile::MAX_GROUP_PX;
use crate::tiles::{Product, ROW, ROWS, TILE, Tiles};

/// Output channels that are summed at a time, those of two tiles.
pub(crate) const BLOCK: usize = 2 * ROWS;

/// Pixels that are summed at a time, those of two tiles.
pub(crate) const GROUP_PX: usize = 2 * ROW;

// Groups are read beyond the end of a row.
const _: () = assert!(GROUP_PX <= MAX_GROUP_PX);

/// The weights of a convolution as tiles.
#[derive(Clone)]
pub(crate) struct TileSums {
    pub(crate) isa: Isa,
    out_channels: usize,
    /// `[block][product][2][16 out][16 planes]`
    weights: AlignedBuffer,
    /// What the sums start at: `[block][2][16 out][16 pixels]`
    start: AlignedBuffer,
}

impl TileSums {
    /// Sums of so many products for each output channel. `lane` is the lane of weights of an output channel, a product and one
    /// of its 16 planes; `start` is what the sums of a channel start at.
    pub(crate) fn new(
        isa: Isa,
        out_channels: usize,
        products: usize,
        lane: impl Fn(usize, usize, usize) -> f32,
        start: impl Fn(usize) -> f32,
    ) -> Self {
        let blocks = out_channels.div_ceil(BLOCK);
        let mut weights = AlignedBuffer::zeros(blocks * products * 2 * TILE);
        let mut starts = AlignedBuffer::zeros(blocks * 2 * TILE);
        for o in 0..out_channels {
            starts.as_mut_slice()[o * ROW..][..ROW].fill(start(o));
            let (block, row) = (o / BLOCK, o % BLOCK);
            for product in 0..products {
                let tiles = &mut weights.as_mut_slice()[(block * products + product) * 2 * TILE..];
                for (plane, to) in tiles[row * ROW..][..ROW].iter_mut().enumerate() {
                    *to = lane(o, product, plane);
                }
            }
        }
        Self {
            isa,
            out_channels,
            weights,
            start: starts,
        }
    }

    /// Blocks of [`BLOCK`] output channels: their first, and how many there are.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let out_channels = self.out_channels;
        (0..out_channels)
            .step_by(BLOCK)
            .map(move |first| (first, BLOCK.min(out_channels - first)))
    }

    /// Computes the sums of the block that begins at an output channel, for `len` pixels rounded up to [`GROUP_PX`].
    ///
    /// # Shapes
    /// - input: planes of lanes that lie `plane_len` floats apart. For each product, `offsets` has the place of its first
    ///   pixel and plane.
    /// - sums: `[BLOCK][pixels]`
    ///
    /// # Panics
    /// If the input or the sums are shorter.
    #[inline(always)]
    pub(crate) fn run<T: Tiles, P: Product>(
        &self,
        tiles: &mut T,
        first: usize,
        (input, plane_len): (&[f32], usize),
        offsets: impl Iterator<Item = usize> + Clone,
        len: usize,
        sums: &mut [f32],
    ) {
        let sums_len = sums.len() / BLOCK;
        let block = first / BLOCK;
        let blocks = self.out_channels.div_ceil(BLOCK);
        let weights_len = self.weights.as_slice().len() / blocks;
        let weights = &self.weights.as_slice()[block * weights_len..][..weights_len];
        let start = &self.start.as_slice()[block * 2 * TILE..][..2 * TILE];
        let has_second = self.out_channels - first > ROWS;
        for pixel in (0..len).step_by(GROUP_PX) {
            tiles.load::<0>(start, ROW);
            tiles.load::<1>(start, ROW);
            if has_second {
                tiles.load::<2>(&start[TILE..], ROW);
                tiles.load::<3>(&start[TILE..], ROW);
            }
            for (offset, weights) in offsets.clone().zip(weights.chunks_exact(2 * TILE)) {
                let from = &input[pixel + offset..];
                tiles.load::<4>(weights, ROW);
                tiles.load::<6>(from, plane_len);
                P::add::<T, 0, 4, 6>(tiles);
                tiles.load::<7>(&from[ROW..], plane_len);
                P::add::<T, 1, 4, 7>(tiles);
                if has_second {
                    tiles.load::<5>(&weights[TILE..], ROW);
                    P::add::<T, 2, 5, 6>(tiles);
                    P::add::<T, 3, 5, 7>(tiles);
                }
            }
            let sums = &mut sums[pixel..];
            if has_second {
                let second = &mut sums[ROWS * sums_len..];
                tiles.store::<2>(second, sums_len);
                tiles.store::<3>(&mut second[ROW..], sums_len);
            }
            tiles.store::<0>(sums, sums_len);
            tiles.store::<1>(&mut sums[ROW..], sums_len);
        }
    }
}
