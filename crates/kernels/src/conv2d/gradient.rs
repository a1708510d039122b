//! The gradient of the convolution by its weight, on vectors.
//!
//! 3x3 kernels of many channels go through Winograd's transform, four rows at a time. For the rest it
//! walks the flat run of pixels of a plane (see [`Geometry`](crate::Geometry)): a row of the outer
//! products is an input channel under one tap, a run of pixels that starts somewhat earlier or later.

use crate::outer_product::{add_outer_products, add_sums, pack_pixels, padded, transpose};
use crate::planes::OVERSHOOT;
use crate::precision::{F32, Format, Precision};
use crate::simd::Simd;
use crate::strip::STRIP_ROWS;
use crate::tile::{LONGEST_GROUP_PX, group_px};
use crate::winograd::{self, KERNEL_TRANSFORM, POINTS, transform_input, transform_output_gradient};
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
    let gradient = output_gradient.as_slice()[g.origin..].as_ptr();
    let mut rows_done = 0;
    // SAFETY: behind a run lie zeros; the caller's promises.
    unsafe {
        add_sums::<S>(gradient, g.plane_len, g.run_len(), bias_gradient);
        if winograd::pays(kernel, input.channels(), output_gradient.channels()) {
            rows_done = whole_strips::<S, F>(input, output_gradient, weight_gradient, scratch);
        }
    }
    if rows_done == g.height_px {
        return;
    }
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
    for chunk in (rows_done * g.stride..g.run_len()).step_by(CHUNK_PX) {
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
        }
    }
    for (row, sums) in sums.chunks_exact(columns).enumerate() {
        for (o, sum) in sums.iter().take(out_channels).enumerate() {
            weight_gradient[o * rows.len() + row] += sum;
        }
    }
}

/// Adds the gradient by a 3x3 weight of as many rows as make whole strips, and returns how many.
///
/// Winograd's transform along y halves the multiplications here too: with y = A (G g * B d), as in
/// [`winograd`], the gradient by g is G' (B d * A' e), where e is the gradient by y and ' transposes.
///
/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
unsafe fn whole_strips<S: Simd, F: Format>(
    input: &Planes,
    output_gradient: &Planes,
    weight_gradient: &mut [f32],
    scratch: &mut Scratch,
) -> usize {
    const COLUMNS: usize = 3;
    let g = input.geometry();
    let (in_channels, out_channels) = (input.channels(), output_gradient.channels());
    let columns = padded::<S>(out_channels);
    let rows_len = in_channels * COLUMNS;
    // Pixels under a row of the kernel and one more, since a lane may begin there; whole groups.
    let row_px = (g.width_px + COLUMNS).next_multiple_of(LONGEST_GROUP_PX);
    let lanes = g.width_px.div_ceil(F::CHANNELS);
    let [inputs, gradients, transposed, sums] = scratch.parts([
        POINTS * in_channels * row_px,
        POINTS * out_channels * row_px,
        lanes.next_multiple_of(8) * columns,
        POINTS * rows_len * columns,
    ]);
    sums.fill(0.0);
    let (inputs, gradients) = (inputs.as_mut_ptr(), gradients.as_mut_ptr());
    let rows: Vec<*const f32> = (0..rows_len)
        .map(|row| {
            let (channel, column) = (row / COLUMNS, row % COLUMNS);
            // An odd pixel of lanes of two begins in the middle of one.
            inputs
                .cast_const()
                .wrapping_add(channel * row_px)
                .wrapping_byte_add(column * size_of::<f32>() / F::CHANNELS)
        })
        .collect();
    let rows_done = g.height_px / STRIP_ROWS * STRIP_ROWS;
    for y in (0..rows_done).step_by(STRIP_ROWS) {
        let at = |row: usize| g.origin + (y + row) * g.stride;
        let from = |row: usize| input.as_slice()[at(row) - g.stride - 1..].as_ptr();
        let gradient = |row: usize| output_gradient.as_slice()[at(row)..].as_ptr();
        // SAFETY: six rows from the one above and the pixels beside them lie in the plane and its
        // border, vectors behind them in its overshoot. A row of a point has room for them. The
        // last lane of two may reach beyond the row, where the gradient is zero.
        unsafe {
            let (plane_len, px) = (g.plane_len, g.width_px);
            transform_input::<S, F32>(
                std::array::from_fn(from),
                plane_len,
                in_channels,
                px + COLUMNS,
                inputs,
                row_px,
            );
            transform_output_gradient::<S>(
                std::array::from_fn(gradient),
                plane_len,
                out_channels,
                px + 1,
                gradients,
                row_px,
            );
            if F::CHANNELS > 1 {
                for row in 0..POINTS * in_channels {
                    let row = inputs.add(row * row_px);
                    pack_pixels::<S, F>(row, px + COLUMNS, row);
                }
                for row in 0..POINTS * out_channels {
                    let row = gradients.add(row * row_px);
                    pack_pixels::<S, F>(row, px + 1, row);
                }
            }
            for point in 0..POINTS {
                let from = gradients.add(point * out_channels * row_px);
                let to = transposed.as_mut_ptr();
                transpose::<S>(from, row_px, out_channels, lanes, to);
                let first = point * in_channels * row_px;
                let sums = sums[point * rows_len * columns..].as_mut_ptr();
                add_outer_products::<S, F>(&rows, first, to, columns, lanes, sums);
            }
        }
    }
    for (point, sums) in sums.chunks_exact(rows_len * columns).enumerate() {
        for (row, sums) in sums.chunks_exact(columns).enumerate() {
            let (channel, column) = (row / COLUMNS, row % COLUMNS);
            for (o, sum) in sums.iter().take(out_channels).enumerate() {
                let taps = &mut weight_gradient[(o * in_channels + channel) * 9..][..9];
                for (ky, factor) in KERNEL_TRANSFORM[point].into_iter().enumerate() {
                    taps[ky * COLUMNS + column] += factor as f32 * sum;
                }
            }
        }
    }
    rows_done
}
