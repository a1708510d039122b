//! Sums of outer products over pixels: the gradients by weights.
//!
//! `G[a][b] += sum over pixels p of A[a](p) B[p][b]`: the rows A are runs of pixels that are
//! broadcast, B holds the channels of each pixel side by side, in the vector lanes. So a tile of G
//! is a sum of outer products, and nothing has to be added across lanes.
//!
//! In bfloat16 a lane, of A and of B alike, holds two neighbouring pixels of a channel
//! ([`pack_pixels`](crate::rows::pack_pixels)), and all else stays the same.

use crate::precision::Format;
use crate::rows::{Rows, Transposed};
use crate::simd::Simd;
use crate::tile::{Sums, TILE_VECTORS, group_px, tiles, with_tile_size};

/// Adds to `sums` (`[rows][columns]`) the outer products of the `len` lanes of each row from
/// `first_lane` on with the rows of `transposed`.
///
/// # Safety
/// From each row `transposed.len` lanes can be read from `first_lane` on, which need no alignment.
/// `transposed` holds `[len][columns]`, where `columns` is a multiple of [`group_px`]; `sums` holds
/// `[rows][columns]`.
#[inline(always)]
pub(crate) unsafe fn add_outer_products<S: Simd, F: Format<S>>(
    simd: S,
    rows: &[*const f32],
    first_lane: usize,
    transposed: Transposed,
    sums: *mut f32,
) {
    let Transposed {
        start,
        columns,
        len,
    } = transposed;
    for (first, count) in tiles(rows.len(), S::TILE_CHANNELS, 1) {
        with_tile_size!(S, count, N => {
            // SAFETY: the tile's rows lie below `rows.len()`, a group of columns below `columns`;
            // the caller promises `len` lanes in each row and of `transposed`, and the sums.
            unsafe {
                let mut lanes = [std::ptr::null(); N];
                for (lanes, row) in lanes.iter_mut().zip(&rows[first..]) {
                    *lanes = row.add(first_lane);
                }
                for column in (0..columns).step_by(group_px::<S>()) {
                    let mut tile: Sums<S, N, TILE_VECTORS> = [[simd.splat(0.0); TILE_VECTORS]; N];
                    let mut from = start.add(column);
                    for p in 0..len {
                        let mut channels = [simd.splat(0.0); TILE_VECTORS];
                        for (v, channels) in channels.iter_mut().enumerate() {
                            *channels = simd.load(from.add(v * S::LANES));
                        }
                        for a in 0..N {
                            let value = simd.splat_at(lanes[a], p);
                            for v in 0..TILE_VECTORS {
                                tile[a][v] =
                                    F::multiply_add(simd, value, channels[v], tile[a][v]);
                            }
                        }
                        from = from.add(columns);
                    }
                    for a in 0..N {
                        for v in 0..TILE_VECTORS {
                            let to = sums.add((first + a) * columns + column + v * S::LANES);
                            simd.store(to, simd.add(simd.load(to), tile[a][v]));
                        }
                    }
                }
            }
        });
    }
}

/// Adds the pixels of each channel to its sum.
///
/// # Safety
/// From each plane of `input`, of which there are as many as sums, `len` pixels rounded up to a
/// vector can be read. Behind `len` they are zero.
#[inline(always)]
pub(crate) unsafe fn add_sums<S: Simd>(simd: S, input: Rows<1>, len: usize, sums: &mut [f32]) {
    let [row] = input.rows;
    for (channel, total) in sums.iter_mut().enumerate() {
        let mut sum = simd.splat(0.0);
        for pixel in (0..len).step_by(S::LANES) {
            // SAFETY: the caller promises this vector of this channel.
            let pixels = unsafe { simd.load(row.add(channel * input.plane_len + pixel)) };
            sum = simd.add(sum, pixels);
        }
        *total += simd.sum(sum);
    }
}
