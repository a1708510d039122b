//! The gradient of the convolution by its weight.
//!
//! 3x3 kernels of many channels go through Winograd's transform, four rows at a time. The others
//! walk the flat run of pixels of a plane (see [`Geometry`](crate::Geometry)): a row of the outer
//! products is an input channel under one tap, a run of pixels that starts somewhat earlier or
//! later.

use super::{ConvGradients, reference};
use crate::dispatch::Kernel;
use crate::outer_product::{add_outer_products, add_sums};
use crate::planes::{BORDER_PX, OVERSHOOT};
use crate::precision::{F32, Format};
use crate::rows::{Rows, pack_pixels, transposed_columns};
use crate::simd::Simd;
use crate::strip::STRIP_ROWS;
use crate::tile::{MAX_GROUP_PX, group_px};
use crate::winograd::{self, KERNEL_TRANSFORM, POINTS, transform_input, transform_output_gradient};
use crate::{Planes, Precision, Scratch};

/// Pixels whose outer products are summed in registers: the output gradient of so many stays in the
/// first-level cache.
const CHUNK_PX: usize = 192;

/// The gradient by a weight of `kernel` x `kernel` taps.
///
/// Input and output gradient have the same geometry; the gradients have the shapes of a
/// [`ConvLayer`](super::ConvLayer) of their channels.
pub(super) struct WeightGradient<'a> {
    pub(super) kernel: usize,
    pub(super) input: &'a Planes,
    pub(super) output_gradient: &'a Planes,
    pub(super) gradients: ConvGradients<'a>,
    pub(super) scratch: &'a mut Scratch,
}

impl Kernel for WeightGradient<'_> {
    type Output = ();

    fn reference(self, precision: Precision) {
        reference::weight_gradient(self, precision);
    }

    #[inline(always)]
    fn vectorized<S: Simd, F: Format<S>>(mut self, simd: S) {
        const {
            assert!(group_px::<S>() <= OVERSHOOT, "pixels read behind a run");
            assert!(
                CHUNK_PX.is_multiple_of(group_px::<S>()),
                "groups of a chunk"
            );
        }
        let g = self.input.geometry();
        let run = self.gradient_run();
        // SAFETY: each plane of the output gradient has the run of pixels and `OVERSHOOT` floats
        // behind it; there is a sum for each.
        unsafe { add_sums(simd, run, g.run_len(), self.gradients.bias) }
        let channels = (self.input.channels(), self.output_gradient.channels());
        let rows_done = if winograd::is_faster(self.kernel, channels.0, channels.1) {
            self.whole_strips::<S, F>(simd)
        } else {
            0
        };
        if rows_done < g.height_px {
            self.remaining_rows::<S, F>(simd, rows_done);
        }
    }
}

impl WeightGradient<'_> {
    /// The run of pixels of the output gradient.
    fn gradient_run(&self) -> Rows<1> {
        let g = self.output_gradient.geometry();
        Rows {
            rows: [self.output_gradient.as_slice()[g.origin..].as_ptr()],
            plane_len: g.plane_len,
            planes: self.output_gradient.channels(),
        }
    }

    /// Adds the gradient of the rows from `rows_done` on.
    #[inline(always)]
    fn remaining_rows<S: Simd, F: Format<S>>(&mut self, simd: S, rows_done: usize) {
        let gradient = self.gradient_run();
        let Self {
            kernel,
            input,
            gradients,
            scratch,
            ..
        } = self;
        let (g, kernel) = (input.geometry(), *kernel);
        let reach = (kernel / 2) * (g.stride + 1);
        let (taps, out_channels) = (kernel * kernel, gradient.planes);
        let columns = transposed_columns::<S>(out_channels);
        let rows_len = input.channels() * taps;
        // The input in lanes of pixels: each channel from the first tap of the first pixel to the
        // last tap of the last one, and one more, since a lane may begin there.
        let packed_px = g.run_len() + 2 * reach + 1;
        let input_len = match F::PER_LANE {
            1 => 0,
            _ => (packed_px + MAX_GROUP_PX) / F::PER_LANE,
        };
        let chunk_lanes = CHUNK_PX / F::PER_LANE;
        let [transposed, sums, input_packed, gradient_packed] = scratch.arrays([
            [chunk_lanes, columns],
            [rows_len, columns],
            [input.channels(), input_len],
            [out_channels, chunk_lanes],
        ]);
        sums.fill(0.0);
        let first_tap =
            |channel: usize| input.as_slice()[channel * g.plane_len + g.origin - reach..].as_ptr();
        if F::PER_LANE > 1 {
            for (channel, to) in input_packed.chunks_exact_mut(input_len).enumerate() {
                const {
                    assert!(MAX_GROUP_PX <= OVERSHOOT, "pixels read behind the last tap");
                }
                // SAFETY: the first tap lies at most `BORDER_PX` rows and pixels before the origin,
                // the last as far behind the run, and `OVERSHOOT` floats follow. `to` holds the
                // lanes of `packed_px` pixels rounded up to a group.
                unsafe {
                    pack_pixels::<S, F>(simd, first_tap(channel), packed_px, to.as_mut_ptr());
                }
            }
        }
        let rows: Vec<*const f32> = (0..rows_len)
            .map(|row| {
                let (channel, tap) = (row / taps, row % taps);
                let pixel = tap / kernel * g.stride + tap % kernel;
                let first = match F::PER_LANE {
                    1 => first_tap(channel),
                    _ => input_packed[channel * input_len..].as_ptr(),
                };
                // In lanes of two, an odd pixel begins in the middle of one.
                first.wrapping_byte_add(pixel * size_of::<f32>() / F::PER_LANE)
            })
            .collect();
        for chunk in (rows_done * g.stride..g.run_len()).step_by(CHUNK_PX) {
            let len = CHUNK_PX.min(g.run_len() - chunk);
            // SAFETY: the chunk lies in the run, which `OVERSHOOT` floats follow that are zero in
            // the output gradient. The scratch arrays hold a whole chunk. Under each tap lie as
            // many lanes of the input from its row's start on as the chunk has, and one more.
            unsafe {
                let packed = (gradient_packed.as_mut_ptr(), chunk_lanes);
                let gradient = gradient.skip(chunk);
                let to = (transposed.as_mut_ptr(), columns);
                let transposed = gradient.transpose::<S, F>(simd, len, packed, to);
                let first_lane = chunk / F::PER_LANE;
                let sums = sums.as_mut_ptr();
                add_outer_products::<S, F>(simd, &rows, first_lane, transposed, sums);
            }
        }
        for (row, sums) in sums.chunks_exact(columns).enumerate() {
            for (o, sum) in sums.iter().take(out_channels).enumerate() {
                gradients.weight[o * rows.len() + row] += sum;
            }
        }
    }

    /// Adds the gradient by a 3x3 weight of as many rows as make whole strips, and returns how
    /// many.
    ///
    /// Winograd's transform along y halves the multiplications here too: with y = A (G g * B d),
    /// as in [`winograd`], the gradient by g is G' (B d * A' e), where e is the gradient by y and '
    /// transposes.
    #[inline(always)]
    fn whole_strips<S: Simd, F: Format<S>>(&mut self, simd: S) -> usize {
        const COLUMNS: usize = 3;
        let Self {
            input,
            output_gradient,
            gradients,
            scratch,
            ..
        } = self;
        let g = input.geometry();
        let (in_channels, out_channels) = (input.channels(), output_gradient.channels());
        let columns = transposed_columns::<S>(out_channels);
        let rows_len = in_channels * COLUMNS;
        // Pixels under a row of the kernel and one more, since a lane may begin there; whole groups.
        let row_px = (g.width_px + COLUMNS).next_multiple_of(MAX_GROUP_PX);
        let lanes = g.width_px.div_ceil(F::PER_LANE);
        let [inputs, outputs, transposed, sums] = scratch.arrays([
            [POINTS * in_channels, row_px],
            [POINTS * out_channels, row_px],
            [lanes.next_multiple_of(8), columns],
            [POINTS * rows_len, columns],
        ]);
        sums.fill(0.0);
        let (inputs, outputs) = (inputs.as_mut_ptr(), outputs.as_mut_ptr());
        let rows: Vec<*const f32> = (0..rows_len)
            .map(|row| {
                let (channel, column) = (row / COLUMNS, row % COLUMNS);
                // In lanes of two, an odd pixel begins in the middle of one.
                inputs
                    .cast_const()
                    .wrapping_add(channel * row_px)
                    .wrapping_byte_add(column * size_of::<f32>() / F::PER_LANE)
            })
            .collect();
        let rows_done = g.height_px / STRIP_ROWS * STRIP_ROWS;
        for y in (0..rows_done).step_by(STRIP_ROWS) {
            const {
                assert!(group_px::<S>() + COLUMNS <= OVERSHOOT, "pixels read");
                assert!(COLUMNS / 2 <= BORDER_PX, "pixels read beside a row");
            }
            let at = |row: usize| g.origin + (y + row) * g.stride;
            let input_rows = Rows {
                rows: std::array::from_fn(|row| {
                    input.as_slice()[at(row) - g.stride - 1..].as_ptr()
                }),
                plane_len: g.plane_len,
                planes: in_channels,
            };
            let gradient_rows = Rows {
                rows: std::array::from_fn(|row| output_gradient.as_slice()[at(row)..].as_ptr()),
                plane_len: g.plane_len,
                planes: out_channels,
            };
            // SAFETY: the six rows from the one above and the pixels beside them lie in the plane
            // and its border, vectors behind them in `OVERSHOOT`. A row of a point holds whole
            // groups of all pixels that are read or written. The last lane of two may reach beyond
            // the row, where the gradient is zero.
            unsafe {
                let (input_px, gradient_px) = (g.width_px + COLUMNS, g.width_px + 1);
                transform_input::<S, F32>(simd, input_rows, input_px, inputs, row_px);
                transform_output_gradient(simd, gradient_rows, gradient_px, outputs, row_px);
                if F::PER_LANE > 1 {
                    for row in 0..POINTS * in_channels {
                        let row = inputs.add(row * row_px);
                        pack_pixels::<S, F>(simd, row, input_px, row);
                    }
                    for row in 0..POINTS * out_channels {
                        let row = outputs.add(row * row_px);
                        pack_pixels::<S, F>(simd, row, gradient_px, row);
                    }
                }
                for point in 0..POINTS {
                    let gradient = Rows {
                        rows: [outputs.add(point * out_channels * row_px).cast_const()],
                        plane_len: row_px,
                        planes: out_channels,
                    };
                    let to = (transposed.as_mut_ptr(), columns);
                    let transposed = gradient.transpose_lanes(simd, lanes, to);
                    let first_lane = point * in_channels * row_px;
                    let sums = sums[point * rows_len * columns..].as_mut_ptr();
                    add_outer_products::<S, F>(simd, &rows, first_lane, transposed, sums);
                }
            }
        }
        for (point, sums) in sums.chunks_exact(rows_len * columns).enumerate() {
            for (row, sums) in sums.chunks_exact(columns).enumerate() {
                let (channel, column) = (row / COLUMNS, row % COLUMNS);
                for (o, sum) in sums.iter().take(out_channels).enumerate() {
                    let taps = &mut gradients.weight[(o * in_channels + channel) * 9..][..9];
                    for (ky, factor) in KERNEL_TRANSFORM[point].into_iter().enumerate() {
                        taps[ky * COLUMNS + column] += factor as f32 * sum;
                    }
                }
            }
        }
        rows_done
    }
}
