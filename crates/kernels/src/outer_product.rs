//! Sums of outer products over pixels: what gradients by weights are made of.
//!
//! `G[a][b] += sum over pixels p of A[a](p) B[p][b]`: the rows A are runs of pixels that are
//! broadcast, B holds the channels of each pixel side by side, in the vector lanes. So a tile of G
//! is a sum of outer products, and nothing has to be added across lanes.
//!
//! In bfloat16 a lane, of A and of B alike, holds two neighbouring pixels of a channel
//! ([`pack_pixels`]), and all else stays the same.

use crate::precision::Format;
use crate::simd::Simd;
use crate::tile::{Sums, TILE_VECTORS, group_px, tiles, with_tile_size};

/// Columns of B and G for so many channels: whole tiles, zero where no channel is.
pub(crate) fn padded<S: Simd>(channels: usize) -> usize {
    channels.next_multiple_of(group_px::<S>())
}

/// Packs `len` pixels of a run into lanes of the format `F`, which may take the place of the run.
///
/// # Safety
/// As for [`Simd`]. `len` pixels rounded up to a group can be read, and as many lanes written as
/// hold them.
#[inline(always)]
pub(crate) unsafe fn pack_pixels<S: Simd, F: Format>(from: *const f32, len: usize, to: *mut f32) {
    for pixel in (0..len).step_by(group_px::<S>()) {
        // SAFETY: the caller's promises.
        unsafe {
            let from = from.add(pixel);
            let pixels = [S::load(from), S::load(from.add(S::LANES))];
            F::store_pixels::<S>(to.add(pixel / F::CHANNELS), pixels);
        }
    }
}

/// Turns `channels` runs of `len` lanes, `plane_len` floats apart, into `len` rows of
/// `padded(channels)` channels.
///
/// # Safety
/// As for [`Simd`]. From each run `len` rounded up to 8 floats can be read, and so many rows be
/// written.
#[inline(always)]
pub(crate) unsafe fn transpose<S: Simd>(
    from: *const f32,
    plane_len: usize,
    channels: usize,
    len: usize,
    to: *mut f32,
) {
    let columns = padded::<S>(channels);
    // SAFETY: the caller's promises.
    unsafe {
        for pixel in (0..len).step_by(8) {
            for first in (0..channels).step_by(8) {
                let block = to.add(pixel * columns + first);
                if first + 8 <= channels {
                    let from = from.add(first * plane_len + pixel);
                    S::transpose_8x8(from, plane_len, block, columns);
                } else {
                    for channel in first..channels {
                        for p in 0..8 {
                            let value = *from.add(channel * plane_len + pixel + p);
                            *to.add((pixel + p) * columns + channel) = value;
                        }
                    }
                }
            }
            for p in 0..8 {
                for channel in channels..columns {
                    *to.add((pixel + p) * columns + channel) = 0.0;
                }
            }
        }
    }
}

/// Adds to `sums` (`[rows][columns]`) the outer products of `len` lanes.
///
/// # Safety
/// As for [`Simd`]. From each row `len` lanes can be read from `lane` on, which need no alignment;
/// `columns` is a multiple of [`group_px`], `transposed` holds `[len][columns]`, `sums`
/// `[rows][columns]`.
#[inline(always)]
pub(crate) unsafe fn add_outer_products<S: Simd, F: Format>(
    rows: &[*const f32],
    lane: usize,
    transposed: *const f32,
    columns: usize,
    len: usize,
    sums: *mut f32,
) {
    for (first, count) in tiles(rows.len(), S::TILE_CHANNELS, 1) {
        with_tile_size!(S, count, N => {
            // SAFETY: the tile lies below `rows.len()`; the caller's promises.
            unsafe {
                let mut at = [std::ptr::null(); N];
                for (at, row) in at.iter_mut().zip(&rows[first..]) {
                    *at = row.add(lane);
                }
                for column in (0..columns).step_by(group_px::<S>()) {
                    let mut tile: Sums<S, N, TILE_VECTORS> = [[S::splat(0.0); TILE_VECTORS]; N];
                    let mut from = transposed.add(column);
                    for p in 0..len {
                        let mut channels = [S::splat(0.0); TILE_VECTORS];
                        for (v, channels) in channels.iter_mut().enumerate() {
                            *channels = S::load(from.add(v * S::LANES));
                        }
                        for a in 0..N {
                            let value = S::splat(at[a].add(p).read_unaligned());
                            for v in 0..TILE_VECTORS {
                                tile[a][v] = F::multiply_add::<S>(value, channels[v], tile[a][v]);
                            }
                        }
                        from = from.add(columns);
                    }
                    for a in 0..N {
                        for v in 0..TILE_VECTORS {
                            let to = sums.add((first + a) * columns + column + v * S::LANES);
                            S::store(to, S::add(S::load(to), tile[a][v]));
                        }
                    }
                }
            }
        });
    }
}

/// Adds the pixels of each run to the sum for it.
///
/// # Safety
/// As for [`Simd`]. From each run `len` rounded up to a vector can be read, zeros behind `len`.
#[inline(always)]
pub(crate) unsafe fn add_sums<S: Simd>(
    from: *const f32,
    plane_len: usize,
    len: usize,
    sums: &mut [f32],
) {
    for (channel, total) in sums.iter_mut().enumerate() {
        // SAFETY: the caller's promises.
        unsafe {
            let mut sum = S::splat(0.0);
            for pixel in (0..len).step_by(S::LANES) {
                sum = S::add(sum, S::load(from.add(channel * plane_len + pixel)));
            }
            *total += S::sum(sum);
        }
    }
}
