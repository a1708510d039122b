//! The convolution and its gradient by the weight, written once over [`Simd`]
//! for every instruction set.
//!
//! Both walk the flat run of pixels of a plane (see [`Geometry`](crate::Geometry)) with pixels
//! in the vector lanes and keep a tile of sums in registers.

use super::{Epilogue, PackedConv2d};
use crate::Planes;
use crate::planes::OVERSHOOT;
use crate::simd::Simd;
use crate::tile::{Source, Sums, TILE_VECTORS, group_px, start, tiles, with_tile_size};

/// Output channels of a register tile of the gradient by the weight.
const TILE_ROWS: usize = 4;
/// (input channel, tap) pairs of a register tile of the gradient by the weight.
const TILE_COLUMNS: usize = 3;
/// Pixels over which a tile of the gradient by the weight sums before it adds the lanes: seven
/// runs of it stay in the first-level cache.
const GRADIENT_CHUNK_PX: usize = 800;

/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
pub(super) unsafe fn conv2d<S: Simd>(
    input: &Planes,
    conv: &PackedConv2d,
    output: &mut Planes,
    epilogue: Epilogue<'_>,
) {
    // SAFETY: passed on.
    unsafe {
        match conv.kernel {
            1 => conv2d_kernel::<S, 1>(input, conv, output, epilogue),
            3 => conv2d_kernel::<S, 3>(input, conv, output, epilogue),
            _ => conv2d_kernel::<S, 5>(input, conv, output, epilogue),
        }
    }
    for channel in 0..output.channels() {
        output.clear_border(channel);
    }
}

/// # Safety
/// As for [`conv2d`]; the kernel is `K` x `K`.
#[inline(always)]
unsafe fn conv2d_kernel<S: Simd, const K: usize>(
    input: &Planes,
    conv: &PackedConv2d,
    output: &mut Planes,
    epilogue: Epilogue<'_>,
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
        channels: conv.in_channels,
    };
    let target = output.as_mut_slice()[g.origin..].as_mut_ptr();
    let gate = match epilogue {
        Epilogue::WherePositive(gate) => gate.as_slice()[g.origin..].as_ptr(),
        _ => std::ptr::null(),
    };
    for pixel in (0..g.run_len()).step_by(group_px) {
        for (first, count) in tiles(conv.out_channels, S::TILE_CHANNELS) {
            let at = first * g.plane_len + pixel;
            // SAFETY: `pixel` is at most the last pixel of the run, and each plane has
            // BORDER_PX rows before its origin and BORDER_PX rows, BORDER_PX pixels and
            // OVERSHOOT floats behind its run, which covers every tap of every lane. The tile
            // lies below `out_channels`.
            unsafe {
                let weights = conv.weights.as_ptr().add(first * conv.in_channels * K * K);
                let bias = conv.bias.as_ptr().add(first);
                with_tile_size!(S, count, N => {
                    let sums = source.accumulate::<S, N, K>(pixel, weights, start::<S, N>(bias));
                    finish::<S, N>(sums, target.add(at), gate.wrapping_add(at), g.plane_len, epilogue);
                });
            }
        }
    }
}

/// Stores a tile of sums, `plane_len` floats from channel to channel.
///
/// # Safety
/// As for [`Simd`]; `to` (and `gate` where the epilogue has one) is the tile's first pixel.
#[inline(always)]
unsafe fn finish<S: Simd, const N: usize>(
    sums: Sums<S, N>,
    to: *mut f32,
    gate: *const f32,
    plane_len: usize,
    epilogue: Epilogue<'_>,
) {
    for o in 0..N {
        for v in 0..TILE_VECTORS {
            let at = o * plane_len + v * S::LANES;
            let sum = sums[o][v];
            // SAFETY: the caller's promises.
            unsafe {
                let value = match epilogue {
                    Epilogue::Store => sum,
                    Epilogue::Relu => S::relu(sum),
                    Epilogue::Accumulate => S::add(S::load(to.add(at)), sum),
                    Epilogue::WherePositive(_) => S::where_positive(S::load(gate.add(at)), sum),
                };
                S::store(to.add(at), value);
            }
        }
    }
}

/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
pub(super) unsafe fn conv2d_backward_weight<S: Simd>(
    input: &Planes,
    output_gradient: &Planes,
    kernel: usize,
    weight_gradient: &mut [f32],
    bias_gradient: &mut [f32],
) {
    let g = input.geometry();
    let first_tap = g.origin - (kernel / 2) * (g.stride + 1);
    let taps = kernel * kernel;
    // A column is an (input channel, tap) pair: its pixels start here.
    let columns: Vec<*const f32> = (0..input.channels() * taps)
        .map(|column| {
            let (channel, tap) = (column / taps, column % taps);
            let (row, column) = (tap / kernel, tap % kernel);
            input.as_slice()[channel * g.plane_len + first_tap + row * g.stride + column..].as_ptr()
        })
        .collect();
    let gradient = output_gradient.as_slice()[g.origin..].as_ptr();
    let out_channels = output_gradient.channels();
    for chunk in (0..g.run_len()).step_by(GRADIENT_CHUNK_PX) {
        let len = GRADIENT_CHUNK_PX.min(g.run_len() - chunk);
        for first in (0..out_channels).step_by(TILE_ROWS) {
            // SAFETY: the chunk lies in the run; a last vector that is not full reads the
            // zero border behind the run of the output gradient, and finite floats behind
            // the run of the input.
            unsafe {
                let rows = gradient.add(first * g.plane_len + chunk);
                let sums = &mut weight_gradient[first * columns.len()..];
                let bias = &mut bias_gradient[first..];
                match (out_channels - first).min(TILE_ROWS) {
                    1 => gradient_rows::<S, 1>(rows, g.plane_len, &columns, chunk, len, sums, bias),
                    2 => gradient_rows::<S, 2>(rows, g.plane_len, &columns, chunk, len, sums, bias),
                    3 => gradient_rows::<S, 3>(rows, g.plane_len, &columns, chunk, len, sums, bias),
                    _ => gradient_rows::<S, 4>(rows, g.plane_len, &columns, chunk, len, sums, bias),
                }
            }
        }
    }
}

/// Gradients of `N` output channels over one chunk of pixels, all columns.
///
/// # Safety
/// As for [`Simd`]; `len` floats, rounded up to a vector, are readable from each row and from
/// each column at `chunk`.
#[inline(always)]
unsafe fn gradient_rows<S: Simd, const N: usize>(
    rows: *const f32,
    plane_len: usize,
    columns: &[*const f32],
    chunk: usize,
    len: usize,
    weight_gradient: &mut [f32],
    bias_gradient: &mut [f32],
) {
    // SAFETY: the caller's promises.
    unsafe {
        for o in 0..N {
            let mut sum = S::splat(0.0);
            for pixel in (0..len).step_by(S::LANES) {
                sum = S::add(sum, S::load(rows.add(o * plane_len + pixel)));
            }
            bias_gradient[o] += S::sum(sum);
        }
        for first in (0..columns.len()).step_by(TILE_COLUMNS) {
            let tile = &columns[first..columns.len().min(first + TILE_COLUMNS)];
            let sums = &mut weight_gradient[first..];
            match *tile {
                [a] => gradient_tile::<S, N, 1>(
                    rows,
                    plane_len,
                    [a].map(|c| c.add(chunk)),
                    len,
                    columns.len(),
                    sums,
                ),
                [a, b] => gradient_tile::<S, N, 2>(
                    rows,
                    plane_len,
                    [a, b].map(|c| c.add(chunk)),
                    len,
                    columns.len(),
                    sums,
                ),
                [a, b, c] => gradient_tile::<S, N, 3>(
                    rows,
                    plane_len,
                    [a, b, c].map(|c| c.add(chunk)),
                    len,
                    columns.len(),
                    sums,
                ),
                _ => unreachable!("a tile of {} columns", tile.len()),
            }
        }
    }
}

/// Adds the dot products of `N` rows with `M` columns to the sums, which lie `sums_stride`
/// apart from row to row.
///
/// # Safety
/// As for [`gradient_rows`].
#[inline(always)]
unsafe fn gradient_tile<S: Simd, const N: usize, const M: usize>(
    rows: *const f32,
    plane_len: usize,
    columns: [*const f32; M],
    len: usize,
    sums_stride: usize,
    weight_gradient: &mut [f32],
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut sums = [[S::splat(0.0); M]; N];
        for pixel in (0..len).step_by(S::LANES) {
            let values: [S::V; M] = std::array::from_fn(|m| S::load(columns[m].add(pixel)));
            for o in 0..N {
                let row = S::load(rows.add(o * plane_len + pixel));
                for m in 0..M {
                    sums[o][m] = S::mul_add(row, values[m], sums[o][m]);
                }
            }
        }
        for o in 0..N {
            for m in 0..M {
                weight_gradient[o * sums_stride + m] += S::sum(sums[o][m]);
            }
        }
    }
}
