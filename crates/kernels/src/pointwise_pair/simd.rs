//! The pair on vectors: a few pixels through both convolutions at a time.

use super::PointwisePair;
use crate::simd::Simd;
use crate::strip::{STRIP_OVERSHOOT, Scratch, Strip};
use crate::tile::{self, Source, TILE_VECTORS, group_px, start, tiles, with_tile_size};

/// Pixels whose wide activation is kept: 192 channels of 32 pixels are 24 KB of the first-level
/// cache's 32 KB or more.
const SEGMENT_PX: usize = 32;

/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
pub(super) unsafe fn pointwise_pair<S: Simd>(
    pair: &PointwisePair,
    input: &Strip,
    output: &mut Strip,
    scratch: &mut Scratch,
) {
    const {
        assert!(group_px::<S>() <= STRIP_OVERSHOOT, "pixels read");
        assert!(
            SEGMENT_PX.is_multiple_of(group_px::<S>()),
            "groups of a segment"
        );
    }
    let wide = scratch.floats(pair.wide_channels * SEGMENT_PX).as_mut_ptr();
    let (plane_len, width_px, rows) = (output.plane_len(), output.width_px(), output.rows());
    let targets = output.rows_mut();
    for (y, target) in targets.into_iter().enumerate().take(rows) {
        for segment in (0..width_px).step_by(SEGMENT_PX) {
            let len = SEGMENT_PX.min(width_px - segment);
            let narrow = Source {
                rows: [input.at(y, segment as isize)],
                plane_len,
                channels: pair.in_channels,
            };
            // SAFETY: any address may be prefetched.
            unsafe {
                let next = segment + SEGMENT_PX;
                let from = narrow.rows[0].wrapping_add(SEGMENT_PX);
                tile::prefetch::<S>(from, plane_len, pair.in_channels, SEGMENT_PX);
                let to = target.wrapping_add(next);
                tile::prefetch::<S>(to, plane_len, pair.out_channels, SEGMENT_PX);
            }
            for (first, count) in tiles(pair.wide_channels, S::TILE_CHANNELS) {
                // SAFETY: the groups of the segment lie in the row and its overshoot; the tile
                // lies below `wide_channels`.
                unsafe {
                    let weights = pair.expand.as_ptr().add(first * pair.in_channels);
                    let bias = pair.expand_bias.as_ptr().add(first);
                    with_tile_size!(S, count, N => {
                        for pixel in (0..len).step_by(group_px::<S>()) {
                            let sums = start::<S, N>(bias);
                            let sums = narrow.accumulate::<S, N, 1>(pixel, weights, sums);
                            for o in 0..N {
                                for v in 0..TILE_VECTORS {
                                    let at = (first + o) * SEGMENT_PX + pixel + v * S::LANES;
                                    S::store(wide.add(at), S::relu(sums[o][v]));
                                }
                            }
                        }
                    });
                }
            }
            let wide = Source {
                rows: [wide.cast_const()],
                plane_len: SEGMENT_PX,
                channels: pair.wide_channels,
            };
            for (first, count) in tiles(pair.out_channels, S::TILE_CHANNELS) {
                // SAFETY: as above; the groups of the segment were written for every channel.
                unsafe {
                    let weights = pair.reduce.as_ptr().add(first * pair.wide_channels);
                    let bias = pair.reduce_bias.as_ptr().add(first);
                    with_tile_size!(S, count, N => {
                        for pixel in (0..len).step_by(group_px::<S>()) {
                            let sums = start::<S, N>(bias);
                            let sums = wide.accumulate::<S, N, 1>(pixel, weights, sums);
                            for o in 0..N {
                                for v in 0..TILE_VECTORS {
                                    let at = (first + o) * plane_len + segment + pixel + v * S::LANES;
                                    S::store(target.add(at), sums[o][v]);
                                }
                            }
                        }
                    });
                }
            }
        }
    }
}
