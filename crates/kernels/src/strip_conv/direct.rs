//! The convolution of a strip, summed tap by tap.

use super::StripConv;
use crate::simd::Simd;
use crate::strip::{STRIP_OVERSHOOT, STRIP_ROWS, Strip, StripEpilogue, Window};
use crate::tile::{Source, Sums, TILE_VECTORS, group_px, start, tiles, with_tile_size};

/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
pub(super) unsafe fn direct<S: Simd>(
    conv: &StripConv,
    kernel: usize,
    input: Window<'_>,
    epilogue: StripEpilogue<'_>,
    output: &mut Strip,
) {
    // SAFETY: passed on.
    unsafe {
        match kernel {
            1 => direct_kernel::<S, 1>(conv, input, epilogue, output),
            3 => direct_kernel::<S, 3>(conv, input, epilogue, output),
            _ => direct_kernel::<S, 5>(conv, input, epilogue, output),
        }
    }
}

/// # Safety
/// As for [`direct`]; the kernel is `K` x `K`.
#[inline(always)]
unsafe fn direct_kernel<S: Simd, const K: usize>(
    conv: &StripConv,
    input: Window<'_>,
    epilogue: StripEpilogue<'_>,
    output: &mut Strip,
) {
    const {
        assert!(group_px::<S>() + K <= STRIP_OVERSHOOT, "pixels read");
    }
    let (plane_len, width_px, rows) = (output.plane_len(), output.width_px(), output.rows());
    let reach = (K / 2) as isize;
    let sources: [Source<K>; STRIP_ROWS] = std::array::from_fn(|y| Source {
        rows: std::array::from_fn(|ky| input.at((y + ky) as isize - reach, -reach)),
        plane_len,
        channels: conv.in_channels,
    });
    let targets = output.rows_mut();
    for (y, source) in sources.iter().enumerate().take(rows) {
        for pixel in (0..width_px).step_by(group_px::<S>()) {
            for (first, count) in tiles(conv.out_channels, S::TILE_CHANNELS) {
                let at = first * plane_len + pixel;
                // SAFETY: `pixel` lies in the row; the taps of its group and its sums lie
                // within the borders and `STRIP_OVERSHOOT`. The tile lies below `out_channels`.
                unsafe {
                    let weights = conv.weights.as_ptr().add(first * conv.in_channels * K * K);
                    let bias = conv.bias.as_ptr().add(first);
                    with_tile_size!(S, count, N => {
                        let sums = start::<S, N>(bias);
                        let sums = source.accumulate::<S, N, K>(pixel, weights, sums);
                        finish::<S, N>(sums, targets[y], y, at, plane_len, epilogue);
                    });
                }
            }
        }
    }
}

/// Stores a tile of sums at `row + at`, where `row` is row `y` of the output.
///
/// # Safety
/// As for [`Simd`]; the group lies in the row, its channels in the strip.
#[inline(always)]
pub(super) unsafe fn finish<S: Simd, const N: usize>(
    sums: Sums<S, N>,
    row: *mut f32,
    y: usize,
    at: usize,
    plane_len: usize,
    epilogue: StripEpilogue<'_>,
) {
    for o in 0..N {
        for v in 0..TILE_VECTORS {
            let at = at + o * plane_len + v * S::LANES;
            // SAFETY: the caller's promises; a term has the output's shape.
            unsafe {
                let value = match epilogue {
                    StripEpilogue::Store => sums[o][v],
                    StripEpilogue::Relu => S::relu(sums[o][v]),
                    StripEpilogue::Add(term) => S::add(sums[o][v], S::load(term.at(y, 0).add(at))),
                };
                S::store(row.add(at), value);
            }
        }
    }
}
