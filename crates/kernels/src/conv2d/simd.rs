//! The convolution on vectors.
//!
//! It walks the flat run of pixels of a plane (see [`Geometry`](crate::Geometry)) with pixels
//! in the vector lanes and keeps a tile of sums in registers.

use super::Convolution;
use crate::epilogue::TileOutput;
use crate::planes::{BORDER_PX, OVERSHOOT};
use crate::precision::{F32, Format};
use crate::rows::Rows;
use crate::simd::Simd;
use crate::strip::STRIP_ROWS;
use crate::tile::{TILE_VECTORS, TileWeights, group_px, tile_channels, tiles, with_tile_size};
use crate::winograd::{FourRows, WinogradWeights};

#[inline(always)]
pub(super) fn convolution<S: Simd, F: Format>(simd: S, mut arguments: Convolution<'_>) {
    let mut rows_done = 0;
    if let Some(weights) = &arguments.conv.winograd {
        rows_done = whole_strips::<S, F>(simd, weights, &mut arguments);
    }
    match arguments.conv.kernel {
        1 => direct::<S, 1>(simd, &mut arguments, rows_done),
        3 => direct::<S, 3>(simd, &mut arguments, rows_done),
        5 => direct::<S, 5>(simd, &mut arguments, rows_done),
        kernel => unreachable!("kernel {kernel}"),
    }
    arguments.output.clear_border();
}

/// Convolves as many rows as make whole strips, returns how many.
#[inline(always)]
fn whole_strips<S: Simd, F: Format>(
    simd: S,
    weights: &WinogradWeights,
    arguments: &mut Convolution<'_>,
) -> usize {
    let Convolution {
        input,
        output,
        epilogue,
        scratch,
        ..
    } = arguments;
    let g = input.geometry();
    let rows_done = g.height_px / STRIP_ROWS * STRIP_ROWS;
    let scratch = scratch.floats(weights.scratch_len());
    for y in (0..rows_done).step_by(STRIP_ROWS) {
        let at = |row: usize| g.origin + (y + row) * g.stride;
        let from = |row| input.as_slice()[at(row) - g.stride - 1..].as_ptr();
        let to = output.as_mut_slice()[at(0)..].as_mut_ptr();
        let rows = FourRows {
            input: Rows {
                rows: std::array::from_fn(from),
                plane_len: g.plane_len,
                planes: input.channels(),
            },
            output: std::array::from_fn(|row| TileOutput {
                to: to.wrapping_add(row * g.stride),
                plane_len: g.plane_len,
                epilogue: epilogue.at(|maps| maps.as_slice()[at(row)..].as_ptr()),
            }),
            width_px: g.width_px,
        };
        // SAFETY: input, output and maps have the same geometry and the channels of the
        // convolution. The four rows lie in each plane; the rows above and below them are pixels or
        // border, and each row is followed by two rows of border and `OVERSHOOT` floats at least.
        unsafe { weights.four_rows::<S, F>(simd, rows, scratch.as_mut_ptr()) }
    }
    rows_done
}

/// Convolves the rows from `rows_done` on with a kernel of `K` x `K`.
#[inline(always)]
fn direct<S: Simd, const K: usize>(simd: S, arguments: &mut Convolution<'_>, rows_done: usize) {
    const {
        assert!(group_px::<S>() <= OVERSHOOT, "pixels written behind a run");
        assert!(K / 2 <= BORDER_PX, "pixels read beside a run");
    }
    let Convolution {
        conv,
        input,
        output,
        epilogue,
        ..
    } = arguments;
    let g = input.geometry();
    let source = Rows::<K> {
        rows: std::array::from_fn(|row| {
            let first_tap = g.origin + row * g.stride - (K / 2) * (g.stride + 1);
            input.as_slice()[first_tap..].as_ptr()
        }),
        plane_len: g.plane_len,
        planes: conv.in_channels,
    };
    let target = TileOutput {
        to: output.as_mut_slice()[g.origin..].as_mut_ptr(),
        plane_len: g.plane_len,
        epilogue: epilogue.at(|maps| maps.as_slice()[g.origin..].as_ptr()),
    };
    let terms = conv.in_channels * K * K;
    for pixel in (rows_done * g.stride..g.run_len()).step_by(group_px::<S>()) {
        for (first, count) in tiles(conv.out_channels, tile_channels::<S>(terms), 1) {
            let tile = TileWeights::of(&conv.weights, &conv.bias, first, terms);
            let at = first * g.plane_len + pixel;
            with_tile_size!(S, count, N => {
                // SAFETY: input, output and maps have the same geometry and the channels of the
                // convolution. `pixel` lies in the run; before its origin a plane has `BORDER_PX`
                // rows and pixels, and behind the run too, and then `OVERSHOOT` floats: the taps
                // of each lane of the group, and its sums.
                unsafe {
                    let sums = tile.start::<S, N, TILE_VECTORS>(simd);
                    let sums = source.accumulate::<S, F32, N, TILE_VECTORS, K>(
                        simd, pixel, tile.weights, sums,
                    );
                    target.store(simd, sums, at);
                }
            });
        }
    }
}
