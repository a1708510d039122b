//! The convolution of a strip on vectors.

use super::{Convolution, Weights};
use crate::epilogue::TileOutput;
use crate::precision::{F32, Format};
use crate::rows::Rows;
use crate::simd::Simd;
use crate::strip::STRIP_OVERSHOOT;
use crate::tile::{TILE_VECTORS, TileWeights, group_px, tile_channels, tiles, with_tile_size};
use crate::winograd::{FourRows, WinogradWeights};

#[inline(always)]
pub(super) fn convolution<S: Simd, F: Format>(simd: S, mut arguments: Convolution<'_>) {
    let conv = arguments.conv;
    match &conv.weights {
        Weights::Winograd(weights) => winograd::<S, F>(simd, weights, &mut arguments),
        // `Precision::of_conv` gives f32: no code is compiled for another format.
        Weights::Direct { .. } if F::PER_LANE > 1 => unreachable!("a direct sum in bf16"),
        Weights::Direct { weights, bias } => match conv.kernel {
            1 => direct::<S, 1>(simd, (weights, bias), &mut arguments),
            3 => direct::<S, 3>(simd, (weights, bias), &mut arguments),
            5 => direct::<S, 5>(simd, (weights, bias), &mut arguments),
            kernel => unreachable!("kernel {kernel}"),
        },
    }
    arguments.output.clear_border();
}

/// Convolves with a kernel of `K` x `K`.
#[inline(always)]
fn direct<S: Simd, const K: usize>(
    simd: S,
    (weights, bias): (&[f32], &[f32]),
    arguments: &mut Convolution<'_>,
) {
    const {
        assert!(group_px::<S>() + K <= STRIP_OVERSHOOT, "pixels read");
    }
    let Convolution {
        conv,
        input,
        input_offset,
        epilogue,
        maps_offset,
        output,
        ..
    } = arguments;
    let (plane_len, width_px) = (output.plane_len(), output.width_px());
    let reach = (K / 2) as isize;
    let terms = conv.in_channels * K * K;
    for y in output.inside() {
        let row = y as isize + input_offset.rows;
        let source = Rows::<K> {
            rows: std::array::from_fn(|ky| {
                input.at(row + ky as isize - reach, input_offset.px - reach)
            }),
            plane_len,
            planes: conv.in_channels,
        };
        let place = (y as isize + maps_offset.rows, maps_offset.px);
        let target = TileOutput {
            to: output.at_mut(y),
            plane_len,
            epilogue: epilogue.at(|maps| maps.at(place.0, place.1)),
        };
        for pixel in (0..width_px).step_by(group_px::<S>()) {
            for (first, count) in tiles(conv.out_channels, tile_channels::<S>(terms), 1) {
                let tile = TileWeights::of(weights, bias, first, terms);
                let at = first * plane_len + pixel;
                with_tile_size!(S, count, N => {
                    // SAFETY: all strips have rows of `plane_len` floats: a border, `width_px`
                    // pixels or more, and `STRIP_OVERSHOOT` floats for the rest of the group and
                    // the taps. The offsets say that the rows and pixels of all taps lie in the
                    // strips, which have the convolution's channels.
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
}

/// Convolves four rows at a time in Winograd's form.
#[inline(always)]
fn winograd<S: Simd, F: Format>(
    simd: S,
    weights: &WinogradWeights,
    arguments: &mut Convolution<'_>,
) {
    const {
        assert!(group_px::<S>() + 3 <= STRIP_OVERSHOOT, "pixels read");
    }
    let Convolution {
        conv,
        input,
        input_offset,
        epilogue,
        maps_offset,
        output,
        scratch,
    } = arguments;
    let (plane_len, width_px) = (output.plane_len(), output.width_px());
    let scratch = scratch.floats(weights.scratch_len());
    for first in output.groups() {
        let to = output.rows_mut(first);
        let row = |y: usize| (first + y) as isize;
        let from = |y| input.at(row(y) + input_offset.rows - 1, input_offset.px - 1);
        let maps = |y| epilogue.at(|maps| maps.at(row(y) + maps_offset.rows, maps_offset.px));
        let rows = FourRows {
            input: Rows {
                rows: std::array::from_fn(from),
                plane_len,
                planes: conv.in_channels,
            },
            output: std::array::from_fn(|y| TileOutput {
                to: to[y],
                plane_len,
                epilogue: maps(y),
            }),
            width_px,
        };
        // SAFETY: all strips have rows of `plane_len` floats: a border, `width_px` pixels or more,
        // and `STRIP_OVERSHOOT` floats for a vector or group behind them. The offsets say that the
        // rows around the group's four and the pixels beside theirs lie in the strips, which have
        // the convolution's channels.
        unsafe { weights.four_rows::<S, F>(simd, rows, scratch.as_mut_ptr()) }
    }
}
