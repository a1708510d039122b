//! The register tile that all convolutions are made of.
//!
//! A tile is a few output channels times [`TILE_VECTORS`] vectors of neighbouring pixels whose
//! sums stay in registers while input channels and taps go by. Each step loads the pixels once
//! and multiplies them by one weight for each output channel.

use crate::isa::Level;
use crate::planes::LINE;
use crate::precision::{Format, Precision};
use crate::simd::Simd;
use crate::{Isa, simd};

/// Vectors of pixels in a register tile. Two, because a weight then serves two multiply-adds: the
/// loads of a 6 x 2 tile (2 of pixels, 6 of weights for 12 multiply-adds) fit beside its
/// arithmetic on processors that do two of each in a cycle.
pub(crate) const TILE_VECTORS: usize = 2;

/// Sums of a tile of `N` output channels and `V` vectors of pixels: [`TILE_VECTORS`], or one where a row ends.
pub(crate) type Sums<S, const N: usize, const V: usize> = [[<S as Simd>::V; V]; N];

/// Pixels of a register tile.
pub(crate) const fn group_px<S: Simd>() -> usize {
    assert!(TILE_VECTORS * S::LANES <= LONGEST_GROUP_PX, "group");
    TILE_VECTORS * S::LANES
}

/// Pixels of the widest register tile of any instruction set.
pub(crate) const LONGEST_GROUP_PX: usize = 32;

/// Sums of fewer terms are short.
const SHORT_TERMS: usize = 64;

/// Output channels of the largest tile for sums of so many terms.
pub(crate) const fn tile_channels<S: Simd>(terms: usize) -> usize {
    if terms < SHORT_TERMS {
        S::SHORT_TILE_CHANNELS
    } else {
        S::TILE_CHANNELS
    }
}

/// The same for an instruction set; plain loops take one channel at a time.
fn largest_tile(isa: Isa, terms: usize) -> usize {
    match isa.0 {
        Level::Reference => 1,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => tile_channels::<simd::Avx2>(terms),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx512Bf16 => tile_channels::<simd::Avx512>(terms),
    }
}

/// Cuts channels into as few tiles as go, of multiples of `unit` channels as equal as go: (first
/// channel, channels) each. A tile of one or two channels would wait for the latency of its few
/// sums.
pub(crate) fn tiles(
    channels: usize,
    largest: usize,
    unit: usize,
) -> impl Iterator<Item = (usize, usize)> {
    let units = channels / unit;
    let count = units.div_ceil((largest / unit).max(1));
    (0..count).map(move |tile| {
        let [first, end] = [tile, tile + 1].map(|tile| tile * units / count * unit);
        (first, end - first)
    })
}

/// A convolution's weights as tiles read them.
pub(crate) struct Packing {
    isa: Isa,
    precision: Precision,
    in_channels: usize,
    out_channels: usize,
    taps: usize,
    /// Tiles are made of multiples of this many output channels.
    unit: usize,
    /// Tiles are as large as for so many input channels.
    cut_for: usize,
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
            cut_for: in_channels,
        }
    }

    /// In tiles of multiples of `unit` output channels.
    pub(crate) fn in_units(self, unit: usize) -> Self {
        Self { unit, ..self }
    }

    /// In the tiles of a convolution of `in_channels`, to run beside it.
    pub(crate) fn cut_for(self, in_channels: usize) -> Self {
        Self {
            cut_for: in_channels,
            ..self
        }
    }

    /// The weights `[out][in][tap]`, rounded to the precision, in the order
    /// `[tile][plane][tap][out in tile]`; a plane is what a lane holds of the input channels, one
    /// in the plain loops.
    pub(crate) fn pack(self, weight: impl Fn(usize, usize, usize) -> f32) -> Vec<f32> {
        let plain = self.isa == Isa::REFERENCE;
        let per_lane = if plain {
            1
        } else {
            self.precision.channels_per_lane()
        };
        let planes = self.in_channels.div_ceil(per_lane);
        let mut packed = Vec::with_capacity(self.out_channels * planes * self.taps);
        let terms = self.cut_for.div_ceil(per_lane) * self.taps;
        let largest = largest_tile(self.isa, terms);
        let unit = if plain { 1 } else { self.unit };
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

/// Runs `$body` with the constant `$N` equal to `$count`, the channels of a tile.
macro_rules! with_tile_size {
    ($S:ident, $count:expr, $N:ident => $body:expr) => {
        $crate::tile::with_tile_size!(@arms $S, $count, $N, $body, [1 2 3 4 5 6], [7 8 9 10 11 12])
    };
    (@arms $S:ident, $count:expr, $N:ident, $body:expr, [$($small:literal)*], [$($large:literal)*]) => {
        match $count {
            $($small => { const $N: usize = $small; $body })*
            count if count > $S::TILE_CHANNELS => unreachable!("a tile of {count} channels"),
            $($large => { const $N: usize = $large; $body })*
            count => unreachable!("a tile of {count} channels"),
        }
    };
}
pub(crate) use with_tile_size;

/// Runs `$body` with the constant `$V` equal to the vectors of a tile where `$left` pixels of a row are left:
/// one if they fill no more, so that a row does not end in a half-empty tile.
macro_rules! with_tile_vectors {
    ($S:ident, $left:expr, $V:ident => $body:expr) => {
        if $left <= $S::LANES {
            const $V: usize = 1;
            $body
        } else {
            const $V: usize = $crate::tile::TILE_VECTORS;
            $body
        }
    };
}
pub(crate) use with_tile_vectors;

/// What a tile reads: the rows under a kernel of `ROWS` rows, each pointing to the pixel under
/// the kernel's left column, in the first plane.
pub(crate) struct Source<const ROWS: usize> {
    pub(crate) rows: [*const f32; ROWS],
    /// Floats from a plane to the next.
    pub(crate) plane_len: usize,
    /// A plane holds a channel, or as many as the format has in a lane.
    pub(crate) planes: usize,
}

impl<const ROWS: usize> Source<ROWS> {
    /// Adds to `sums` all planes and taps of a kernel of `ROWS` x `COLUMNS`, for the
    /// pixels from `pixel` on.
    ///
    /// # Safety
    /// As for [`Simd`]. `weights` holds `[planes][ROWS][COLUMNS][N]`, and `V` vectors of pixels
    /// and `COLUMNS - 1` more can be read from each row of each plane.
    #[inline(always)]
    pub(crate) unsafe fn accumulate<
        S: Simd,
        F: Format,
        const N: usize,
        const V: usize,
        const COLUMNS: usize,
    >(
        &self,
        pixel: usize,
        mut weights: *const f32,
        mut sums: Sums<S, N, V>,
    ) -> Sums<S, N, V> {
        let mut offset = pixel;
        for _ in 0..self.planes {
            for row in self.rows {
                for column in 0..COLUMNS {
                    // SAFETY: the caller's promises.
                    unsafe {
                        let from = row.add(offset + column);
                        let mut pixels = [S::splat(0.0); V];
                        for (v, pixels) in pixels.iter_mut().enumerate() {
                            *pixels = S::load(from.add(v * S::LANES));
                        }
                        for o in 0..N {
                            let weight = S::splat(*weights.add(o));
                            for v in 0..V {
                                sums[o][v] = F::multiply_add::<S>(weight, pixels[v], sums[o][v]);
                            }
                        }
                        weights = weights.add(N);
                    }
                }
            }
            offset += self.plane_len;
        }
        sums
    }
}

/// Asks for `len_px` pixels of each channel of a row ahead of their use: a row of many channels
/// is read in more streams than the processor follows by itself.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
pub(crate) unsafe fn prefetch<S: Simd>(
    row: *const f32,
    plane_len: usize,
    channels: usize,
    len_px: usize,
) {
    for channel in 0..channels {
        for pixel in (0..len_px).step_by(LINE) {
            // SAFETY: any address may be prefetched.
            unsafe { S::prefetch(row.wrapping_add(channel * plane_len + pixel)) }
        }
    }
}

/// Sums that start at a bias for each output channel.
///
/// # Safety
/// As for [`Simd`]. `bias` holds `[N]`.
#[inline(always)]
pub(crate) unsafe fn start<S: Simd, const N: usize, const V: usize>(
    bias: *const f32,
) -> Sums<S, N, V> {
    // SAFETY: the caller's promises.
    unsafe {
        let mut sums = [[S::splat(0.0); V]; N];
        for (o, sums) in sums.iter_mut().enumerate() {
            *sums = [S::splat(*bias.add(o)); V];
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::tiles;

    #[test]
    fn tiles_cover_all_channels_evenly() {
        for channels in 1..200 {
            for (largest, unit) in [(1, 1), (6, 1), (12, 1), (4, 2), (6, 2), (12, 2)] {
                let channels = channels * unit;
                let all: Vec<_> = tiles(channels, largest, unit).collect();
                let mut next = 0;
                for (first, count) in &all {
                    assert_eq!(*first, next, "{channels} channels in tiles of {largest}");
                    assert!((1..=largest).contains(count), "{count} in {all:?}");
                    assert!(count.is_multiple_of(unit), "{count} in {all:?}");
                    next += count;
                }
                assert_eq!(next, channels, "{all:?}");
                let sizes = all.iter().map(|tile| tile.1);
                let (min, max) = (sizes.clone().min(), sizes.max());
                assert!(max.unwrap() - min.unwrap() <= unit, "{all:?}");
            }
        }
    }
}
