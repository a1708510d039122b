//! The convolution on vectors.
//!
//! It walks the flat run of pixels of a plane (see [`Geometry`](crate::Geometry)) with pixels
//! in the vector lanes and keeps a tile of sums in registers.

use super::PackedConv2d;
use crate::planes::OVERSHOOT;
use crate::precision::{F32, Format};
use crate::simd::Simd;
use crate::strip::STRIP_ROWS;
use crate::tile::{Source, TILE_VECTORS, group_px, start, tile_channels, tiles, with_tile_size};
use crate::winograd::{self, Winograd};
use crate::{Epilogue, Planes, Scratch};

/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
pub(super) unsafe fn conv2d<S: Simd, F: Format>(
    input: &Planes,
    conv: &PackedConv2d,
    output: &mut Planes,
    epilogue: Epilogue<'_, Planes>,
    scratch: &mut Scratch,
) {
    let mut rows_done = 0;
    if let Some(weights) = &conv.winograd {
        let winograd = Winograd {
            weights,
            bias: &conv.bias,
            in_channels: conv.in_channels,
        };
        // SAFETY: passed on.
        rows_done = unsafe { whole_strips::<S, F>(input, winograd, output, epilogue, scratch) };
    }
    // SAFETY: passed on.
    unsafe {
        match conv.kernel {
            1 => conv2d_kernel::<S, 1>(input, conv, output, epilogue, rows_done),
            3 => conv2d_kernel::<S, 3>(input, conv, output, epilogue, rows_done),
            _ => conv2d_kernel::<S, 5>(input, conv, output, epilogue, rows_done),
        }
    }
    for channel in 0..output.channels() {
        output.clear_border(channel);
    }
}

/// Convolves as many rows as make whole strips, returns how many.
///
/// # Safety
/// As for [`conv2d`].
#[inline(always)]
unsafe fn whole_strips<S: Simd, F: Format>(
    input: &Planes,
    winograd: Winograd<'_>,
    output: &mut Planes,
    epilogue: Epilogue<'_, Planes>,
    scratch: &mut Scratch,
) -> usize {
    let g = input.geometry();
    let rows_done = g.height_px / STRIP_ROWS * STRIP_ROWS;
    let scratch = scratch.floats(winograd::scratch_len(winograd.in_channels));
    for y in (0..rows_done).step_by(STRIP_ROWS) {
        let at = |row: usize| g.origin + (y + row) * g.stride;
        let from = std::array::from_fn(|row| input.as_slice()[at(row) - g.stride - 1..].as_ptr());
        let finish =
            std::array::from_fn(|row| epilogue.at(|maps| maps.as_slice()[at(row)..].as_ptr()));
        let first = output.as_mut_slice()[at(0)..].as_mut_ptr();
        let to = std::array::from_fn(|row| first.wrapping_add(row * g.stride));
        // SAFETY: six rows from the one above lie in the plane and its border.
        unsafe {
            winograd.four_rows::<S, F>(
                from,
                to,
                finish,
                g.plane_len,
                g.width_px,
                scratch.as_mut_ptr(),
            );
        }
    }
    rows_done
}

/// # Safety
/// As for [`conv2d`]; the kernel is `K` x `K`, the first `rows_done` rows are left alone.
#[inline(always)]
unsafe fn conv2d_kernel<S: Simd, const K: usize>(
    input: &Planes,
    conv: &PackedConv2d,
    output: &mut Planes,
    epilogue: Epilogue<'_, Planes>,
    rows_done: usize,
) {
    let g = input.geometry();
    let group_px = group_px::<S>();
    assert!(
        group_px <= OVERSHOOT,
        "{group_px} pixels written, {OVERSHOOT} allowed"
    );
    let source = Source::<K> {
        rows: std::array::from_fn(|row| {
            let first_tap = g.origin + row * g.stride - (K / 2) * (g.stride + 1);
            input.as_slice()[first_tap..].as_ptr()
        }),
        plane_len: g.plane_len,
        planes: conv.in_channels,
    };
    let target = output.as_mut_slice()[g.origin..].as_mut_ptr();
    let finish = epilogue.at(|maps| maps.as_slice()[g.origin..].as_ptr());
    for pixel in (rows_done * g.stride..g.run_len()).step_by(group_px) {
        let largest = tile_channels::<S>(conv.in_channels * K * K);
        for (first, count) in tiles(conv.out_channels, largest, 1) {
            let at = first * g.plane_len + pixel;
            // SAFETY: `pixel` is at most the last pixel of the run, and each plane has
            // BORDER_PX rows before its origin and BORDER_PX rows, BORDER_PX pixels and
            // OVERSHOOT floats behind its run, which covers every tap of every lane. The tile
            // lies below `out_channels`.
            unsafe {
                let weights = conv.weights.as_ptr().add(first * conv.in_channels * K * K);
                let bias = conv.bias.as_ptr().add(first);
                with_tile_size!(S, count, N => {
                    let sums = source.accumulate::<S, F32, N, TILE_VECTORS, K>(pixel, weights, start::<S, N, TILE_VECTORS>(bias));
                    finish.store::<S, N, TILE_VECTORS>(sums, target, at, g.plane_len);
                });
            }
        }
    }
}
