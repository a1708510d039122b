//! The convolution of a strip on vectors.

use super::{Offsets, StripConv};
use crate::Epilogue;
use crate::precision::{F32, Format};
use crate::simd::Simd;
use crate::strip::{STRIP_OVERSHOOT, Scratch, Strip};
use crate::tile::{Source, TILE_VECTORS, group_px, start, tile_channels, tiles, with_tile_size};
use crate::winograd::{self, Winograd};

/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
pub(super) unsafe fn direct<S: Simd>(
    conv: &StripConv,
    kernel: usize,
    input: &Strip,
    epilogue: Epilogue<'_, Strip>,
    offsets: Offsets,
    output: &mut Strip,
) {
    // SAFETY: passed on.
    unsafe {
        match kernel {
            1 => direct_kernel::<S, 1>(conv, input, epilogue, offsets, output),
            3 => direct_kernel::<S, 3>(conv, input, epilogue, offsets, output),
            _ => direct_kernel::<S, 5>(conv, input, epilogue, offsets, output),
        }
    }
}

/// # Safety
/// As for [`direct`]; the kernel is `K` x `K`.
#[inline(always)]
unsafe fn direct_kernel<S: Simd, const K: usize>(
    conv: &StripConv,
    input: &Strip,
    epilogue: Epilogue<'_, Strip>,
    offsets: Offsets,
    output: &mut Strip,
) {
    const {
        assert!(group_px::<S>() + K <= STRIP_OVERSHOOT, "pixels read");
    }
    let (plane_len, width_px) = (output.plane_len(), output.width_px());
    let reach = (K / 2) as isize;
    for y in output.inside() {
        let row = y as isize + offsets.input.rows;
        let source = Source::<K> {
            rows: std::array::from_fn(|ky| {
                input.at(row + ky as isize - reach, offsets.input.px - reach)
            }),
            plane_len,
            planes: conv.in_channels,
        };
        let [target, ..] = output.rows_mut(y);
        let finish = epilogue.at(|maps| maps.at(y as isize + offsets.maps.rows, offsets.maps.px));
        for pixel in (0..width_px).step_by(group_px::<S>()) {
            let largest = tile_channels::<S>(conv.in_channels * K * K);
            for (first, count) in tiles(conv.out_channels, largest, 1) {
                let at = first * plane_len + pixel;
                // SAFETY: `pixel` lies in the row; the taps of its group and its sums lie
                // within the borders and `STRIP_OVERSHOOT`. The tile lies below `out_channels`.
                unsafe {
                    let weights = conv.weights.as_ptr().add(first * conv.in_channels * K * K);
                    let bias = conv.bias.as_ptr().add(first);
                    with_tile_size!(S, count, N => {
                        let sums = start::<S, N, TILE_VECTORS>(bias);
                        let sums = source.accumulate::<S, F32, N, TILE_VECTORS, K>(pixel, weights, sums);
                        finish.store::<S, N, TILE_VECTORS>(sums, target, at, plane_len);
                    });
                }
            }
        }
    }
}

/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
pub(super) unsafe fn winograd<S: Simd, F: Format>(
    conv: &StripConv,
    input: &Strip,
    epilogue: Epilogue<'_, Strip>,
    offsets: Offsets,
    output: &mut Strip,
    scratch: &mut Scratch,
) {
    let winograd = Winograd {
        weights: &conv.weights,
        bias: &conv.bias,
        in_channels: conv.in_channels,
    };
    let (plane_len, width_px) = (output.plane_len(), output.width_px());
    let scratch = scratch.floats(winograd::scratch_len(conv.in_channels));
    for first in output.groups() {
        let row = |y: usize| (first + y) as isize;
        let from = |y| input.at(row(y) + offsets.input.rows - 1, offsets.input.px - 1);
        let finish = |y| epilogue.at(|maps| maps.at(row(y) + offsets.maps.rows, offsets.maps.px));
        // SAFETY: rows have a border of two pixels and an overshoot of more than two vectors; all
        // rows of a strip may be written.
        unsafe {
            winograd.four_rows::<S, F>(
                std::array::from_fn(from),
                output.rows_mut(first),
                std::array::from_fn(finish),
                plane_len,
                width_px,
                scratch.as_mut_ptr(),
            );
        }
    }
}
