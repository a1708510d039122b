//! The order of a convolution's weights in memory: as tiles read them.

use crate::dispatch::{Kernel, dispatch};
use crate::precision::Format;
use crate::simd::Simd;
use crate::tile::{tile_channels, tiles};
use crate::{Isa, Precision};

/// How a convolution's weights are arranged.
pub(crate) struct Packing {
    isa: Isa,
    precision: Precision,
    in_channels: usize,
    out_channels: usize,
    taps: usize,
    /// Tiles have multiples of this many output channels.
    unit: usize,
    /// Tiles are as large as for so many input channels.
    tiled_for: usize,
}

impl Packing {
    pub(crate) fn new(
        isa: Isa,
        precision: Precision,
        in_channels: usize,
        out_channels: usize,
        taps: usize,
    ) -> Self {
        Self {
            isa,
            precision,
            in_channels,
            out_channels,
            taps,
            unit: 1,
            tiled_for: in_channels,
        }
    }

    /// Tiles of multiples of `unit` output channels.
    pub(crate) fn in_units(self, unit: usize) -> Self {
        Self { unit, ..self }
    }

    /// The tiles of a convolution of `in_channels`, to be computed beside that one.
    pub(crate) fn tiled_for(self, in_channels: usize) -> Self {
        Self {
            tiled_for: in_channels,
            ..self
        }
    }

    /// The weights `[out][in][tap]`, rounded to the precision, in the order
    /// `[tile][plane][tap][out in tile]`. A plane is a lane's input channels; in the plain loops,
    /// which have tiles of one output channel, one channel.
    pub(crate) fn pack(self, weight: impl Fn(usize, usize, usize) -> f32) -> Vec<f32> {
        let plain = self.isa == Isa::REFERENCE;
        let (per_lane, unit) = if plain {
            (1, 1)
        } else {
            (self.precision.per_lane(), self.unit)
        };
        let planes = self.in_channels.div_ceil(per_lane);
        let mut packed = Vec::with_capacity(self.out_channels * planes * self.taps);
        let terms = self.tiled_for.div_ceil(per_lane) * self.taps;
        let largest = dispatch(self.isa, self.precision, LargestTile { terms });
        for (first, count) in tiles(self.out_channels, largest, unit) {
            for plane in 0..planes {
                for tap in 0..self.taps {
                    packed.extend((first..first + count).map(|o| {
                        let channel = |c: usize| match plane * per_lane + c {
                            i if i < self.in_channels => weight(o, i, tap),
                            _ => 0.0,
                        };
                        if plain {
                            self.precision.round(channel(0))
                        } else {
                            self.precision.lane(channel)
                        }
                    }));
                }
            }
        }
        packed
    }
}

/// The channels of the largest tile for sums of so many terms.
struct LargestTile {
    terms: usize,
}

impl Kernel for LargestTile {
    type Output = usize;

    /// Plain loops compute one channel at a time.
    fn reference(self, _: Precision) -> usize {
        1
    }

    fn vectorized<S: Simd, F: Format<S>>(self, _: S) -> usize {
        tile_channels::<S>(self.terms)
    }
}
