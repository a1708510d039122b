//! The gradient of the convolution by its weight, on vectors.
//!
//! It walks the flat run of pixels of a plane (see [`Geometry`](crate::Geometry)): a row of the
//! outer products is an input channel under one tap, a run of pixels that starts somewhat earlier
//! or later.

use crate::outer_product::{add_outer_products, add_sums, padded, transpose};
use crate::simd::Simd;
use crate::{Planes, Scratch};

/// Pixels whose outer products are added up in registers: the output gradient of so many stays in
/// the first-level cache.
const CHUNK_PX: usize = 96;

/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
pub(super) unsafe fn conv2d_backward_weight<S: Simd>(
    input: &Planes,
    output_gradient: &Planes,
    kernel: usize,
    weight_gradient: &mut [f32],
    bias_gradient: &mut [f32],
    scratch: &mut Scratch,
) {
    let g = input.geometry();
    let first_tap = g.origin - (kernel / 2) * (g.stride + 1);
    let taps = kernel * kernel;
    let rows: Vec<*const f32> = (0..input.channels() * taps)
        .map(|row| {
            let (channel, tap) = (row / taps, row % taps);
            let (ky, kx) = (tap / kernel, tap % kernel);
            input.as_slice()[channel * g.plane_len + first_tap + ky * g.stride + kx..].as_ptr()
        })
        .collect();
    let out_channels = output_gradient.channels();
    let columns = padded::<S>(out_channels);
    let scratch = scratch.floats((CHUNK_PX + rows.len()) * columns);
    let (transposed, sums) = scratch.split_at_mut(CHUNK_PX * columns);
    let sums = &mut sums[..rows.len() * columns];
    sums.fill(0.0);
    let gradient = output_gradient.as_slice()[g.origin..].as_ptr();
    for chunk in (0..g.run_len()).step_by(CHUNK_PX) {
        let len = CHUNK_PX.min(g.run_len() - chunk);
        // SAFETY: the chunk lies in the run; what is read behind it are floats of the border and
        // the overshoot, which are zero in the output gradient.
        unsafe {
            let from = gradient.add(chunk);
            transpose::<S>(
                from,
                g.plane_len,
                out_channels,
                len,
                transposed.as_mut_ptr(),
            );
            let (transposed, sums) = (transposed.as_ptr(), sums.as_mut_ptr());
            add_outer_products::<S>(&rows, chunk, transposed, columns, len, sums);
            add_sums::<S>(from, g.plane_len, len, bias_gradient);
        }
    }
    for (row, sums) in sums.chunks_exact(columns).enumerate() {
        for (o, sum) in sums.iter().take(out_channels).enumerate() {
            weight_gradient[o * rows.len() + row] += sum;
        }
    }
}
