//! 3x3 convolution of a strip by Winograd's F(4, 3) along y.
//!
//! Four rows of output are made from six rows of input. Both kernel and input are transformed
//! along y, so that six 1x3 convolutions along x take the place of twelve: half the
//! multiplications. Along x everything stays as in the direct form, pixels in the lanes.
//!
//! With d the six rows under a strip and g the three rows of a kernel, y = A (G g * B d), where
//! B, G and A evaluate polynomials at 0, 1, -1, 2, -2 and infinity (Lavin and Gray 2015, "Fast
//! Algorithms for Convolutional Neural Networks", section 4.3, in one dimension). The rounding
//! error is about twice that of the direct sum.

use super::StripConv;
use super::direct::finish;
use crate::Isa;
use crate::simd::Simd;
use crate::strip::{STRIP_ROWS, Scratch, Strip, StripEpilogue, Window};
use crate::tile::{self, Source, Sums, TILE_VECTORS, group_px, start, tiles, with_tile_size};

/// Rows of the transformed kernel and input.
const POINTS: usize = 6;

/// Pixels whose transformed input lies in the cache together.
const SEGMENT_PX: usize = 64;

/// G: kernel rows to points.
const KERNEL_TRANSFORM: [[f64; 3]; POINTS] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// Transforms a 3x3 kernel and arranges it as `[tile][point][in][column][out in tile]`.
pub(super) fn pack(isa: Isa, weight: &[f32], in_channels: usize, out_channels: usize) -> Vec<f32> {
    let at = |o: usize, point: usize, i: usize, column: usize| {
        let kernel = &weight[(o * in_channels + i) * 9..];
        let rows = KERNEL_TRANSFORM[point].iter().enumerate();
        rows.map(|(row, factor)| factor * f64::from(kernel[3 * row + column]))
            .sum::<f64>() as f32
    };
    // To `tile::pack`, point and input channel together are the channel read.
    tile::pack(
        isa,
        POINTS * in_channels,
        out_channels,
        3,
        |o, i, column| at(o, i / in_channels, i % in_channels, column),
    )
}

/// # Safety
/// As for [`Simd`]; the shapes have been checked by the caller.
#[inline(always)]
pub(super) unsafe fn winograd<S: Simd>(
    conv: &StripConv,
    input: Window<'_>,
    epilogue: StripEpilogue<'_>,
    output: &mut Strip,
    scratch: &mut Scratch,
) {
    // A segment has a pixel more on each side; its last group may be followed by a vector.
    let segment_len = SEGMENT_PX + group_px::<S>();
    let transformed = scratch
        .floats(POINTS * conv.in_channels * segment_len)
        .as_mut_ptr();
    let (plane_len, width_px) = (output.plane_len(), output.width_px());
    let rows: [*const f32; POINTS] = std::array::from_fn(|row| input.at(row as isize - 1, -1));
    let targets = output.rows_mut();
    for segment in (0..width_px).step_by(SEGMENT_PX) {
        let len = SEGMENT_PX.min(width_px - segment);
        // SAFETY: the segment lies in the rows, which go on for `STRIP_OVERSHOOT` floats; the
        // scratch holds all points and channels of it.
        unsafe {
            transform_input::<S>(
                rows.map(|row| row.add(segment)),
                plane_len,
                conv.in_channels,
                len + 2,
                transformed,
                segment_len,
            );
        }
        let sources: [Source<1>; POINTS] = std::array::from_fn(|point| Source {
            rows: [transformed.wrapping_add(point * conv.in_channels * segment_len)],
            plane_len: segment_len,
            channels: conv.in_channels,
        });
        for (first, count) in tiles(conv.out_channels, S::TILE_CHANNELS) {
            // SAFETY: the tile lies below `out_channels`, its groups in the segment.
            unsafe {
                let weights = conv.weights.as_ptr();
                let weights = weights.add(first * POINTS * conv.in_channels * 3);
                let bias = conv.bias.as_ptr().add(first);
                with_tile_size!(S, count, N => {
                    for pixel in (0..len).step_by(group_px::<S>()) {
                        let sums = points::<S, N>(&sources, pixel, weights, bias);
                        let at = first * plane_len + segment + pixel;
                        for (y, sums) in transform_output::<S, N>(&sums).into_iter().enumerate() {
                            finish::<S, N>(sums, targets[y], y, at, plane_len, epilogue);
                        }
                    }
                });
            }
        }
    }
}

/// B: six rows of each channel to points, `len` pixels of each.
///
/// # Safety
/// As for [`Simd`]; `len` floats rounded up to a vector can be read from each row and written
/// to each channel of each point, which lie `segment_len` apart.
#[inline(always)]
unsafe fn transform_input<S: Simd>(
    rows: [*const f32; POINTS],
    plane_len: usize,
    channels: usize,
    len: usize,
    to: *mut f32,
    segment_len: usize,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let (two, minus_two) = (S::splat(2.0), S::splat(-2.0));
        let (four, minus_four, minus_five) = (S::splat(4.0), S::splat(-4.0), S::splat(-5.0));
        for channel in 0..channels {
            for pixel in (0..len).step_by(S::LANES) {
                let d = rows.map(|row| S::load(row.add(channel * plane_len + pixel)));
                let even = S::mul_add(minus_four, d[2], d[4]);
                let odd = S::mul_add(minus_four, d[1], d[3]);
                let even_at_2 = S::sub(d[4], d[2]);
                let odd_at_2 = S::sub(d[3], d[1]);
                let points = [
                    S::mul_add(four, d[0], S::mul_add(minus_five, d[2], d[4])),
                    S::add(even, odd),
                    S::sub(even, odd),
                    S::mul_add(two, odd_at_2, even_at_2),
                    S::mul_add(minus_two, odd_at_2, even_at_2),
                    S::mul_add(four, d[1], S::mul_add(minus_five, d[3], d[5])),
                ];
                for (point, value) in points.into_iter().enumerate() {
                    let at = (point * channels + channel) * segment_len + pixel;
                    S::store(to.add(at), value);
                }
            }
        }
    }
}

/// The six 1x3 convolutions of a tile.
///
/// # Safety
/// As for [`Source::accumulate`].
#[inline(always)]
unsafe fn points<S: Simd, const N: usize>(
    sources: &[Source<1>; POINTS],
    pixel: usize,
    weights: *const f32,
    bias: *const f32,
) -> [Sums<S, N>; POINTS] {
    // SAFETY: the caller's promises.
    unsafe {
        let zero = [[S::splat(0.0); TILE_VECTORS]; N];
        let mut sums = [zero; POINTS];
        for (point, source) in sources.iter().enumerate() {
            // The sum of point 1 goes into all four rows with factor 1: so does the bias.
            let first = if point == 1 {
                start::<S, N>(bias)
            } else {
                zero
            };
            let weights = weights.add(point * source.channels * 3 * N);
            sums[point] = source.accumulate::<S, N, 3>(pixel, weights, first);
        }
        sums
    }
}

/// A: points to four rows.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn transform_output<S: Simd, const N: usize>(
    m: &[Sums<S, N>; POINTS],
) -> [Sums<S, N>; STRIP_ROWS] {
    // SAFETY: the caller's promises.
    unsafe {
        let zero = [[S::splat(0.0); TILE_VECTORS]; N];
        let (two, four, eight) = (S::splat(2.0), S::splat(4.0), S::splat(8.0));
        let mut rows = [zero; STRIP_ROWS];
        for o in 0..N {
            for v in 0..TILE_VECTORS {
                let [m0, m1, m2, m3, m4, m5] = std::array::from_fn(|point| m[point][o][v]);
                let (even, odd) = (S::add(m1, m2), S::sub(m1, m2));
                let (even_at_2, odd_at_2) = (S::add(m3, m4), S::sub(m3, m4));
                rows[0][o][v] = S::add(m0, S::add(even, even_at_2));
                rows[1][o][v] = S::mul_add(two, odd_at_2, odd);
                rows[2][o][v] = S::mul_add(four, even_at_2, even);
                rows[3][o][v] = S::add(m5, S::mul_add(eight, odd_at_2, odd));
            }
        }
        rows
    }
}
