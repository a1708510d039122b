//! The convolution and its gradient by the weight, written once over [`Simd`]
//! for every instruction set.
//!
//! Both walk the flat run of pixels of a plane (see [`Geometry`](crate::Geometry)) with pixels
//! in the vector lanes and keep a tile of sums in registers.

use super::{Epilogue, PackedConv2d, tap_offsets};
use crate::Planes;
use crate::planes::OVERSHOOT;
use crate::simd::Simd;

/// Output channels of a register tile. 4 x 2 sums hide the latency of the multiply-add and leave
/// half of AVX2's 16 registers to pixels and weights loaded ahead; 4 x 3 spills.
pub(super) const TILE_CHANNELS: usize = 4;
/// Vectors of pixels in a register tile.
const TILE_VECTORS: usize = 2;
/// (input channel, tap) pairs of a register tile of the gradient by the weight.
const TILE_COLUMNS: usize = 3;
/// Pixels over which a tile of the gradient by the weight sums before it adds the lanes: seven
/// runs of it stay in the first-level cache.
const GRADIENT_CHUNK_PX: usize = 800;

/// The kernels compiled for one instruction set: `$simd` implements it, `$features` are the
/// target features that `Isa::available` detects before it lists it.
macro_rules! kernels_for {
    ($module:ident, $simd:ident, $features:literal) => {
        #[cfg(target_arch = "x86_64")]
        pub(super) mod $module {
            use crate::conv2d::{Epilogue, PackedConv2d, simd};
            use crate::{Planes, simd::$simd};

            pub(in crate::conv2d) fn conv2d(
                input: &Planes,
                conv: &PackedConv2d,
                output: &mut Planes,
                epilogue: Epilogue<'_>,
            ) {
                #[target_feature(enable = $features)]
                fn compiled(i: &Planes, conv: &PackedConv2d, o: &mut Planes, e: Epilogue<'_>) {
                    // SAFETY: this function is compiled with the features of the set.
                    unsafe { simd::conv2d::<$simd>(i, conv, o, e) }
                }
                // SAFETY: an `Isa` of this level exists only where the features were detected.
                unsafe { compiled(input, conv, output, epilogue) }
            }

            pub(in crate::conv2d) fn conv2d_backward_weight(
                input: &Planes,
                output_gradient: &Planes,
                kernel: usize,
                weight_gradient: &mut [f32],
                bias_gradient: &mut [f32],
            ) {
                #[target_feature(enable = $features)]
                fn compiled(i: &Planes, o: &Planes, k: usize, w: &mut [f32], b: &mut [f32]) {
                    // SAFETY: this function is compiled with the features of the set.
                    unsafe { simd::conv2d_backward_weight::<$simd>(i, o, k, w, b) }
                }
                // SAFETY: an `Isa` of this level exists only where the features were detected.
                unsafe {
                    compiled(
                        input,
                        output_gradient,
                        kernel,
                        weight_gradient,
                        bias_gradient,
                    );
                }
            }
        }
    };
}

kernels_for!(avx2, Avx2, "avx2,fma");
kernels_for!(avx512, Avx512, "avx512f");

/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
unsafe fn conv2d<S: Simd>(
    input: &Planes,
    conv: &PackedConv2d,
    output: &mut Planes,
    epilogue: Epilogue<'_>,
) {
    // SAFETY: passed on.
    unsafe {
        match conv.kernel {
            1 => conv2d_taps::<S, 1>(input, conv, output, epilogue),
            3 => conv2d_taps::<S, 9>(input, conv, output, epilogue),
            _ => conv2d_taps::<S, 25>(input, conv, output, epilogue),
        }
    }
    for channel in 0..output.channels() {
        output.clear_border(channel);
    }
}

/// # Safety
/// As for [`conv2d`]; the convolution has `TAPS` taps.
#[inline(always)]
unsafe fn conv2d_taps<S: Simd, const TAPS: usize>(
    input: &Planes,
    conv: &PackedConv2d,
    output: &mut Planes,
    epilogue: Epilogue<'_>,
) {
    let g = input.geometry();
    let source = Source::<TAPS> {
        first_pixel: input.as_slice()[g.origin..].as_ptr(),
        plane_len: g.plane_len,
        channels: conv.in_channels,
        offsets: tap_offsets::<TAPS>(g),
    };
    let target = output.as_mut_slice()[g.origin..].as_mut_ptr();
    let group_px = TILE_VECTORS * S::LANES;
    assert!(
        group_px <= OVERSHOOT,
        "{group_px} pixels written, {OVERSHOOT} allowed"
    );
    let weights_per_channel = conv.in_channels * TAPS;
    for pixel in (0..g.run_len()).step_by(group_px) {
        for first in (0..conv.out_channels).step_by(TILE_CHANNELS) {
            // SAFETY: `pixel` is at most the last pixel of the run, and each plane has
            // BORDER_PX rows before its origin and BORDER_PX rows, BORDER_PX pixels and
            // OVERSHOOT floats behind its run, which covers every tap of every lane. The tile
            // lies below `out_channels`.
            unsafe {
                let weights = conv.weights.as_ptr().add(first * weights_per_channel);
                let bias = conv.bias.as_ptr().add(first);
                let to = target.add(first * g.plane_len + pixel);
                let gate = match epilogue {
                    Epilogue::WherePositive(gate) => gate
                        .as_slice()
                        .as_ptr()
                        .add(g.origin + first * g.plane_len + pixel),
                    _ => std::ptr::null(),
                };
                match (conv.out_channels - first).min(TILE_CHANNELS) {
                    1 => source.tile::<S, 1>(pixel, weights, bias, to, epilogue, gate),
                    2 => source.tile::<S, 2>(pixel, weights, bias, to, epilogue, gate),
                    3 => source.tile::<S, 3>(pixel, weights, bias, to, epilogue, gate),
                    _ => source.tile::<S, 4>(pixel, weights, bias, to, epilogue, gate),
                }
            }
        }
    }
}

/// The input planes as a tile reads them.
struct Source<const TAPS: usize> {
    first_pixel: *const f32,
    plane_len: usize,
    channels: usize,
    offsets: [isize; TAPS],
}

impl<const TAPS: usize> Source<TAPS> {
    /// Computes and stores `TILE_VECTORS` vectors of pixels of `N` output channels.
    ///
    /// # Safety
    /// As for [`Simd`]. `weights` holds `[channels][TAPS][N]`, `bias` `[N]`; `to` (and `gate`
    /// where the epilogue has one) is a plane's pixel followed by the other planes.
    #[inline(always)]
    unsafe fn tile<S: Simd, const N: usize>(
        &self,
        pixel: usize,
        mut weights: *const f32,
        bias: *const f32,
        to: *mut f32,
        epilogue: Epilogue<'_>,
        gate: *const f32,
    ) {
        // SAFETY: the caller's promises.
        unsafe {
            let mut sums: [[S::V; TILE_VECTORS]; N] =
                std::array::from_fn(|o| [S::splat(*bias.add(o)); TILE_VECTORS]);
            let mut plane = self.first_pixel.add(pixel);
            for _ in 0..self.channels {
                for tap in 0..TAPS {
                    let from = plane.offset(self.offsets[tap]);
                    let pixels: [S::V; TILE_VECTORS] =
                        std::array::from_fn(|v| S::load(from.add(v * S::LANES)));
                    for o in 0..N {
                        let weight = S::splat(*weights.add(o));
                        for v in 0..TILE_VECTORS {
                            sums[o][v] = S::mul_add(weight, pixels[v], sums[o][v]);
                        }
                    }
                    weights = weights.add(N);
                }
                plane = plane.add(self.plane_len);
            }
            for o in 0..N {
                for v in 0..TILE_VECTORS {
                    let at = o * self.plane_len + v * S::LANES;
                    let sum = sums[o][v];
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
}

/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
unsafe fn conv2d_backward_weight<S: Simd>(
    input: &Planes,
    output_gradient: &Planes,
    kernel: usize,
    weight_gradient: &mut [f32],
    bias_gradient: &mut [f32],
) {
    let g = input.geometry();
    let offsets: Vec<isize> = match kernel {
        1 => tap_offsets::<1>(g).to_vec(),
        3 => tap_offsets::<9>(g).to_vec(),
        _ => tap_offsets::<25>(g).to_vec(),
    };
    let from = input.as_slice()[g.origin..].as_ptr();
    // A column is an (input channel, tap) pair: its pixels start here.
    let columns: Vec<*const f32> = (0..input.channels() * offsets.len())
        .map(|column| {
            let (channel, tap) = (column / offsets.len(), column % offsets.len());
            // SAFETY: a tap of the first pixel lies in the border of its plane.
            unsafe { from.add(channel * g.plane_len).offset(offsets[tap]) }
        })
        .collect();
    let gradient = output_gradient.as_slice()[g.origin..].as_ptr();
    let out_channels = output_gradient.channels();
    for chunk in (0..g.run_len()).step_by(GRADIENT_CHUNK_PX) {
        let len = GRADIENT_CHUNK_PX.min(g.run_len() - chunk);
        for first in (0..out_channels).step_by(TILE_CHANNELS) {
            // SAFETY: the chunk lies in the run; a last vector that is not full reads the
            // zero border behind the run of the output gradient, and finite floats behind
            // the run of the input.
            unsafe {
                let rows = gradient.add(first * g.plane_len + chunk);
                let sums = &mut weight_gradient[first * columns.len()..];
                let bias = &mut bias_gradient[first..];
                match (out_channels - first).min(TILE_CHANNELS) {
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
