//! The register tile of all convolutions.
//!
//! A tile is a few output channels times [`TILE_VECTORS`] vectors of neighbouring pixels whose
//! sums stay in registers during the loop over input channels and taps. Each step loads the pixels
//! once and multiplies them by one weight for each output channel.

use crate::aligned::LINE;
use crate::precision::Format;
use crate::rows::Rows;
use crate::simd::Simd;

/// Vectors of pixels in a register tile. Two, because a weight then serves two multiply-adds: the
/// loads of a 6 x 2 tile (2 of pixels, 6 of weights for 12 multiply-adds) fit beside its
/// arithmetic on processors that do two of each in a cycle.
pub(crate) const TILE_VECTORS: usize = 2;

/// Sums of a tile of `N` output channels and `V` vectors of pixels: [`TILE_VECTORS`], or one at the
/// end of a row.
pub(crate) type Sums<S, const N: usize, const V: usize> = [[<S as Simd>::V; V]; N];

/// Pixels of a register tile.
pub(crate) const fn group_px<S: Simd>() -> usize {
    assert!(TILE_VECTORS * S::LANES <= MAX_GROUP_PX, "group");
    TILE_VECTORS * S::LANES
}

/// Pixels of the widest register tile of any instruction set.
pub(crate) const MAX_GROUP_PX: usize = 32;

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

/// Cuts channels into as few tiles as possible, of multiples of `unit` channels, as equal as
/// possible: (first channel, channels) each. A tile of one or two channels would wait for the
/// latency of its few sums.
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

/// Runs `$body` with the constant `$V` equal to the vectors of a tile when `$left` pixels of a row
/// are left: one if they fill no more, so that a row does not end in a half-empty tile.
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

/// Weights and biases of a tile's output channels, as [`Packing`](crate::packing::Packing)
/// arranges them.
#[derive(Clone, Copy)]
pub(crate) struct TileWeights {
    /// `[planes][rows][columns][N]`
    pub(crate) weights: *const f32,
    /// `[N]`
    pub(crate) bias: *const f32,
}

impl TileWeights {
    /// Those of the tile that begins at output channel `first` of a convolution with `terms` terms
    /// in a sum.
    ///
    /// # Panics
    /// If there are no such weights.
    pub(crate) fn of(weights: &[f32], bias: &[f32], first: usize, terms: usize) -> Self {
        Self {
            weights: weights[first * terms..].as_ptr(),
            bias: bias[first..].as_ptr(),
        }
    }

    /// Sums that start at the biases.
    ///
    /// # Safety
    /// `bias` holds `[N]`.
    #[inline(always)]
    pub(crate) unsafe fn start<S: Simd, const N: usize, const V: usize>(
        self,
        simd: S,
    ) -> Sums<S, N, V> {
        let mut sums = [[simd.splat(0.0); V]; N];
        for (o, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller promises `N` biases.
            *sums = [unsafe { simd.splat_nth(self.bias, o, N) }; V];
        }
        sums
    }
}

/// The tap of a 1x1 kernel, for [`Rows::accumulate`].
pub(crate) const ONE_TAP: [usize; 1] = [0];

impl Rows<1> {
    /// Adds to `sums` all planes and taps of a kernel, for the pixels from `pixel` on. Taps are
    /// offsets from the row, which points to the pixels under the kernel's first tap.
    ///
    /// # Safety
    /// `weights` holds `[planes][taps][N]`, and `V` vectors of pixels can be read behind each tap
    /// of each plane.
    #[inline(always)]
    pub(crate) unsafe fn accumulate<S: Simd, F: Format<S>, const N: usize, const V: usize>(
        &self,
        simd: S,
        pixel: usize,
        taps: &[usize],
        mut weights: *const f32,
        mut sums: Sums<S, N, V>,
    ) -> Sums<S, N, V> {
        let [row] = self.rows;
        let mut offset = pixel;
        for _ in 0..self.planes {
            for tap in taps {
                // SAFETY: the caller promises `V` vectors behind each tap of each plane, and `N`
                // weights for each of these taps.
                unsafe {
                    add_step::<S, F, N, V>(simd, row.add(offset + tap), weights, &mut sums);
                    weights = weights.add(N);
                }
            }
            offset += self.plane_len;
        }
        sums
    }

    /// [`Rows::accumulate`] for three taps in a row of one plane or more, with a branch after each tap
    /// ([`Simd::IS_VIRTUAL`]).
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub(crate) unsafe fn accumulate_three<S: Simd, F: Format<S>, const N: usize, const V: usize>(
        &self,
        simd: S,
        pixel: usize,
        mut weights: *const f32,
        mut sums: Sums<S, N, V>,
    ) -> Sums<S, N, V> {
        const TAPS: usize = 3;
        debug_assert!(self.planes > 0, "planes of a row");
        let [mut row] = self.skip(pixel).rows;
        let end = weights.wrapping_add(self.planes * TAPS * N);
        loop {
            for tap in 0..TAPS {
                // SAFETY: the caller promises `V` vectors behind each tap of each plane, and `N` weights for each of these
                // taps; `end` is behind the last.
                unsafe {
                    let weights = weights.add(tap * N);
                    add_step::<S, F, N, V>(simd, row.add(tap), weights, &mut sums);
                    if weights.add(N) == end {
                        return sums;
                    }
                }
            }
            weights = weights.wrapping_add(TAPS * N);
            row = row.wrapping_add(self.plane_len);
        }
    }
}

/// Adds to `sums` the products of `V` vectors of pixels and `N` weights.
///
/// # Safety
/// The pixels and the weights can be read.
#[inline(always)]
unsafe fn add_step<S: Simd, F: Format<S>, const N: usize, const V: usize>(
    simd: S,
    from: *const f32,
    weights: *const f32,
    sums: &mut Sums<S, N, V>,
) {
    // SAFETY: the caller promises the pixels and the weights.
    unsafe {
        let mut pixels = [simd.splat(0.0); V];
        for (v, pixels) in pixels.iter_mut().enumerate() {
            *pixels = simd.load(from.add(v * S::LANES));
        }
        for o in 0..N {
            let weight = simd.splat_nth(weights, o, N);
            for v in 0..V {
                sums[o][v] = F::multiply_add(simd, weight, pixels[v], sums[o][v]);
            }
        }
    }
}

/// Prefetches `len_px` pixels of each channel of a row: a row of many channels is read in more
/// streams than the processor follows by itself.
#[inline(always)]
pub(crate) fn prefetch<S: Simd>(
    simd: S,
    row: *const f32,
    plane_len: usize,
    channels: usize,
    len_px: usize,
) {
    for channel in 0..channels {
        for pixel in (0..len_px).step_by(LINE) {
            simd.prefetch(row.wrapping_add(channel * plane_len + pixel));
        }
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
