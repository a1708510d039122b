//! The gradient of the convolution by its weight, on vectors.
//!
//! It walks the flat run of pixels of a plane (see [`Geometry`](crate::Geometry)): a row of the
//! outer products is an input channel under one tap, a run of pixels that starts somewhat earlier
//! or later.

use crate::outer_product::{add_outer_products, add_sums, pack_pixels, padded, transpose};
use crate::planes::OVERSHOOT;
use crate::precision::{Format, Precision};
use crate::simd::Simd;
use crate::tile::{LONGEST_GROUP_PX, group_px};
use crate::{Planes, Scratch};

/// Pixels whose outer products are added up in registers: the output gradient of so many stays in
/// the first-level cache.
const CHUNK_PX: usize = 192;

/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
pub(super) unsafe fn conv2d_backward_weight<S: Simd, F: Format>(
    _: Precision,
    input: &Planes,
    output_gradient: &Planes,
    kernel: usize,
    weight_gradient: &mut [f32],
    bias_gradient: &mut [f32],
    scratch: &mut Scratch,
) {
    const {
        assert!(group_px::<S>() <= OVERSHOOT, "pixels read behind a run");
        assert!(
            CHUNK_PX.is_multiple_of(group_px::<S>()),
            "groups of a chunk"
        );
    }
    let g = input.geometry();
    let reach = (kernel / 2) * (g.stride + 1);
    let (taps, out_channels) = (kernel * kernel, output_gradient.channels());
    let columns = padded::<S>(out_channels);
    let rows_len = input.channels() * taps;
    // The input in lanes of pixels: each channel from the first tap of the first pixel to the last
    // tap of the last one, and one more, since a lane may begin there.
    let packed_px = g.run_len() + 2 * reach + 1;
    let input_len = match F::CHANNELS {
        1 => 0,
        _ => (packed_px + LONGEST_GROUP_PX) / F::CHANNELS,
    };
    let lanes = CHUNK_PX / F::CHANNELS;
    let [transposed, sums, input_packed, gradient_packed] = scratch.parts([
        lanes * columns,
        rows_len * columns,
        input.channels() * input_len,
        out_channels * lanes,
    ]);
    sums.fill(0.0);
    let first_tap =
        |channel: usize| input.as_slice()[channel * g.plane_len + g.origin - reach..].as_ptr();
    if F::CHANNELS > 1 {
        for (channel, to) in input_packed.chunks_exact_mut(input_len).enumerate() {
            // SAFETY: so many pixels lie behind the first tap, and the overshoot behind them.
            unsafe { pack_pixels::<S, F>(first_tap(channel), packed_px, to.as_mut_ptr()) }
        }
    }
    let rows: Vec<*const f32> = (0..rows_len)
        .map(|row| {
            let (channel, tap) = (row / taps, row % taps);
            let pixel = tap / kernel * g.stride + tap % kernel;
            let first = match F::CHANNELS {
                1 => first_tap(channel),
                _ => input_packed[channel * input_len..].as_ptr(),
            };
            // An odd pixel of lanes of two begins in the middle of one.
            first.wrapping_byte_add(pixel * size_of::<f32>() / F::CHANNELS)
        })
        .collect();
    let gradient = output_gradient.as_slice()[g.origin..].as_ptr();
    for chunk in (0..g.run_len()).step_by(CHUNK_PX) {
        let len = CHUNK_PX.min(g.run_len() - chunk);
        let lanes_of_chunk = len.div_ceil(F::CHANNELS);
        // SAFETY: the chunk lies in the run; what is read behind it are floats of the border and
        // the overshoot, which are zero in the output gradient.
        unsafe {
            let from = gradient.add(chunk);
            let to = transposed.as_mut_ptr();
            if F::CHANNELS == 1 {
                transpose::<S>(from, g.plane_len, out_channels, len, to);
            } else {
                for (channel, to) in gradient_packed.chunks_exact_mut(lanes).enumerate() {
                    let from = from.add(channel * g.plane_len);
                    pack_pixels::<S, F>(from, len, to.as_mut_ptr());
                }
                let packed = gradient_packed.as_ptr();
                transpose::<S>(packed, lanes, out_channels, lanes_of_chunk, to);
            }
            let (transposed, sums) = (transposed.as_ptr(), sums.as_mut_ptr());
            let lane = chunk / F::CHANNELS;
            add_outer_products::<S, F>(&rows, lane, transposed, columns, lanes_of_chunk, sums);
            add_sums::<S>(from, g.plane_len, len, bias_gradient);
        }
    }
    for (row, sums) in sums.chunks_exact(columns).enumerate() {
        for (o, sum) in sums.iter().take(out_channels).enumerate() {
            weight_gradient[o * rows.len() + row] += sum;
        }
    }
}
