//! 3x3 convolution of four rows by Winograd's F(4, 3) along y.
//!
//! Four rows of output are made from six rows of input. Both kernel and input are transformed
//! along y, so that six 1x3 convolutions along x take the place of twelve: half the
//! multiplications. Along x everything stays as in the direct form, pixels in the lanes.
//!
//! With d the six rows under a strip and g the three rows of a kernel, y = A (G g * B d), where
//! B, G and A evaluate polynomials at 0, 1, -1, 2, -2 and infinity (Lavin and Gray 2015, "Fast
//! Algorithms for Convolutional Neural Networks", section 4.3, in one dimension). The rounding
//! error is about twice that of the direct sum.

use crate::epilogue::Finish;
use crate::precision::Format;
use crate::simd::Simd;
use crate::strip::STRIP_ROWS;
use crate::tile::{
    LONGEST_GROUP_PX, Packing, Source, Sums, group_px, start, tile_channels, tiles, with_tile_size,
    with_tile_vectors,
};
use crate::{Isa, Precision};

/// Channels read and written from which on this form of a 3x3 convolution is the faster one.
const MIN_CHANNELS: usize = 8;

/// Whether this form is the faster one for a convolution.
pub(crate) fn pays(kernel: usize, in_channels: usize, out_channels: usize) -> bool {
    kernel == 3 && in_channels.min(out_channels) >= MIN_CHANNELS
}

/// Rows of the transformed kernel and input.
pub(crate) const POINTS: usize = 6;

/// Pixels whose transformed input lies in the cache together.
const SEGMENT_PX: usize = 64;

/// G: kernel rows to points.
pub(crate) const KERNEL_TRANSFORM: [[f64; 3]; POINTS] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// Transforms a 3x3 kernel and arranges it as `[tile][point][plane][column][out in tile]`, see
/// [`Packing::pack`].
pub(crate) fn pack(
    isa: Isa,
    precision: Precision,
    in_channels: usize,
    out_channels: usize,
    weight: impl Fn(usize, usize, usize) -> f32,
) -> Vec<f32> {
    let at = |o: usize, point: usize, i: usize, column: usize| {
        let rows = KERNEL_TRANSFORM[point].iter().enumerate();
        rows.map(|(row, factor)| factor * f64::from(weight(o, i, 3 * row + column)))
            .sum::<f64>() as f32
    };
    // Point and input channel together are the channel read; a lane holds those of one point.
    let padded = in_channels.next_multiple_of(precision.channels_per_lane());
    let packing = Packing::new(isa, precision, POINTS * padded, out_channels, 3);
    packing.pack(|o, i, column| match (i / padded, i % padded) {
        (point, channel) if channel < in_channels => at(o, point, channel, column),
        _ => 0.0,
    })
}

/// A 3x3 convolution in this form.
#[derive(Clone, Copy)]
pub(crate) struct Winograd<'a> {
    /// As [`pack`] arranges them.
    pub(crate) weights: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) in_channels: usize,
}

/// Floats of scratch memory that [`Winograd::four_rows`] needs.
pub(crate) fn scratch_len(in_channels: usize) -> usize {
    POINTS * in_channels * (SEGMENT_PX + LONGEST_GROUP_PX)
}

impl Winograd<'_> {
    /// Convolves `width_px` pixels of six rows into four rows. `from` points to the pixel left of
    /// the first one, `to` to the first one.
    ///
    /// # Safety
    /// As for [`Simd`]. From each row `width_px + 1` pixels and a vector more can be read, to each
    /// row `width_px` pixels be written, for all channels, which lie
    /// `plane_len` floats apart; so for what `finish` reads, which may be a group more. `scratch` holds [`scratch_len`] floats.
    #[inline(always)]
    pub(crate) unsafe fn four_rows<S: Simd, F: Format>(
        self,
        from: [*const f32; POINTS],
        to: [*mut f32; STRIP_ROWS],
        finish: [Finish; STRIP_ROWS],
        plane_len: usize,
        width_px: usize,
        scratch: *mut f32,
    ) {
        // A segment has a pixel more on each side; its last group may be followed by a vector.
        let segment_len = SEGMENT_PX + group_px::<S>();
        let planes = self.in_channels.div_ceil(F::CHANNELS);
        for segment in (0..width_px).step_by(SEGMENT_PX) {
            let len = SEGMENT_PX.min(width_px - segment);
            // SAFETY: the segment lies in the rows, the points in the scratch memory.
            unsafe {
                let rows = from.map(|row| row.add(segment));
                let channels = self.in_channels;
                transform_input::<S, F>(rows, plane_len, channels, len + 2, scratch, segment_len);
            }
            let sources: [Source<1>; POINTS] = std::array::from_fn(|point| Source {
                rows: [scratch.wrapping_add(point * planes * segment_len)],
                plane_len: segment_len,
                planes,
            });
            let largest = tile_channels::<S>(POINTS * planes * 3);
            for (first, count) in tiles(self.bias.len(), largest, 1) {
                // SAFETY: the tile lies below the output's channels, its groups in the segment.
                unsafe {
                    let weights = self.weights.as_ptr().add(first * POINTS * planes * 3);
                    let bias = self.bias.as_ptr().add(first);
                    with_tile_size!(S, count, N => {
                        for pixel in (0..len).step_by(group_px::<S>()) {
                            let target = Target {
                                rows: to,
                                finish,
                                plane_len,
                                at: first * plane_len + segment + pixel,
                            };
                            let left = len - pixel;
                            with_tile_vectors!(S, left, V => {
                                let sums = points::<S, F, N, V>(&sources, pixel, weights, bias);
                                target.store::<S, N, V>(&sums, left);
                            });
                        }
                    });
                }
            }
        }
    }
}

/// Where the four rows of a tile go.
#[derive(Clone, Copy)]
struct Target {
    rows: [*mut f32; STRIP_ROWS],
    finish: [Finish; STRIP_ROWS],
    plane_len: usize,
    /// Floats from the rows' starts to the tile.
    at: usize,
}

impl Target {
    /// Stores the first `len` pixels of a tile given by its points, or all where there are fewer.
    ///
    /// # Safety
    /// As for [`Finish::store`] and [`Finish::store_first`], for each row.
    #[inline(always)]
    unsafe fn store<S: Simd, const N: usize, const V: usize>(
        self,
        sums: &[Sums<S, N, V>; POINTS],
        len: usize,
    ) {
        // SAFETY: the caller's promises.
        unsafe {
            let rows = transform_output::<S, N, V>(sums);
            for (y, row) in rows.into_iter().enumerate() {
                let (finish, to) = (self.finish[y], self.rows[y]);
                if len >= V * S::LANES {
                    finish.store::<S, N, V>(row, to, self.at, self.plane_len);
                } else {
                    finish.store_first::<S, N, V>(row, to, self.at, self.plane_len, len);
                }
            }
        }
    }
}

/// B: six rows of each channel to points, `len` pixels of each, in the format `F`.
///
/// # Safety
/// As for [`Simd`]; `len` floats rounded up to a vector can be read from each row and written
/// to each plane of each point, which lie `segment_len` apart.
#[inline(always)]
pub(crate) unsafe fn transform_input<S: Simd, F: Format>(
    rows: [*const f32; POINTS],
    plane_len: usize,
    channels: usize,
    len: usize,
    to: *mut f32,
    segment_len: usize,
) {
    for (plane, channel) in (0..channels).step_by(F::CHANNELS).enumerate() {
        for pixel in (0..len).step_by(S::LANES) {
            // SAFETY: the caller's promises.
            unsafe {
                let at = channel * plane_len + pixel;
                let first = at_points::<S>(rows, at);
                let second = if F::CHANNELS > 1 && channel + 1 < channels {
                    at_points::<S>(rows, at + plane_len)
                } else {
                    [S::splat(0.0); POINTS]
                };
                for point in 0..POINTS {
                    let value = F::join::<S>(first[point], second[point]);
                    let at = (point * channels.div_ceil(F::CHANNELS) + plane) * segment_len + pixel;
                    S::store(to.add(at), value);
                }
            }
        }
    }
}

/// B: a vector of pixels of six rows, `at` floats behind their starts, to points.
///
/// # Safety
/// As for [`Simd`]; the vectors can be read.
#[inline(always)]
unsafe fn at_points<S: Simd>(rows: [*const f32; POINTS], at: usize) -> [S::V; POINTS] {
    // SAFETY: the caller's promises.
    unsafe {
        let mut d = [S::splat(0.0); POINTS];
        for (d, row) in d.iter_mut().zip(rows) {
            *d = S::load(row.add(at));
        }
        let (two, minus_two) = (S::splat(2.0), S::splat(-2.0));
        let (four, minus_four, minus_five) = (S::splat(4.0), S::splat(-4.0), S::splat(-5.0));
        let even = S::mul_add(minus_four, d[2], d[4]);
        let odd = S::mul_add(minus_four, d[1], d[3]);
        let even_at_2 = S::sub(d[4], d[2]);
        let odd_at_2 = S::sub(d[3], d[1]);
        [
            S::mul_add(four, d[0], S::mul_add(minus_five, d[2], d[4])),
            S::add(even, odd),
            S::sub(even, odd),
            S::mul_add(two, odd_at_2, even_at_2),
            S::mul_add(minus_two, odd_at_2, even_at_2),
            S::mul_add(four, d[1], S::mul_add(minus_five, d[3], d[5])),
        ]
    }
}

/// A transposed: four rows of the gradient by the output to points, `len` pixels of each channel.
///
/// # Safety
/// As for [`transform_input`].
#[inline(always)]
pub(crate) unsafe fn transform_output_gradient<S: Simd>(
    rows: [*const f32; STRIP_ROWS],
    plane_len: usize,
    channels: usize,
    len: usize,
    to: *mut f32,
    segment_len: usize,
) {
    // SAFETY: the caller's promise.
    let (four, eight) = unsafe { (S::splat(4.0), S::splat(8.0)) };
    for channel in 0..channels {
        for pixel in (0..len).step_by(S::LANES) {
            // SAFETY: the caller's promises.
            unsafe {
                let mut y = [S::splat(0.0); STRIP_ROWS];
                for (y, row) in y.iter_mut().zip(rows) {
                    *y = S::load(row.add(channel * plane_len + pixel));
                }
                let (even, odd) = (S::add(y[0], y[2]), S::add(y[1], y[3]));
                let even_at_2 = S::mul_add(four, y[2], y[0]);
                let odd_at_2 = S::mul_add(eight, y[3], S::add(y[1], y[1]));
                let points = [
                    y[0],
                    S::add(even, odd),
                    S::sub(even, odd),
                    S::add(even_at_2, odd_at_2),
                    S::sub(even_at_2, odd_at_2),
                    y[3],
                ];
                for (point, value) in points.into_iter().enumerate() {
                    S::store(
                        to.add((point * channels + channel) * segment_len + pixel),
                        value,
                    );
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
unsafe fn points<S: Simd, F: Format, const N: usize, const V: usize>(
    sources: &[Source<1>; POINTS],
    pixel: usize,
    weights: *const f32,
    bias: *const f32,
) -> [Sums<S, N, V>; POINTS] {
    // SAFETY: the caller's promises.
    unsafe {
        let zero = [[S::splat(0.0); V]; N];
        let mut sums = [zero; POINTS];
        for (point, source) in sources.iter().enumerate() {
            // The sum of point 1 goes into all four rows with factor 1: so does the bias.
            let first = if point == 1 {
                start::<S, N, V>(bias)
            } else {
                zero
            };
            let weights = weights.add(point * source.planes * 3 * N);
            sums[point] = source.accumulate::<S, F, N, V, 3>(pixel, weights, first);
        }
        sums
    }
}

/// A: points to four rows.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
unsafe fn transform_output<S: Simd, const N: usize, const V: usize>(
    m: &[Sums<S, N, V>; POINTS],
) -> [Sums<S, N, V>; STRIP_ROWS] {
    // SAFETY: the caller's promises.
    unsafe {
        let zero = [[S::splat(0.0); V]; N];
        let (two, four, eight) = (S::splat(2.0), S::splat(4.0), S::splat(8.0));
        let mut rows = [zero; STRIP_ROWS];
        let [m0, m1, m2, m3, m4, m5] = m;
        for o in 0..N {
            for v in 0..V {
                let (even, odd) = (S::add(m1[o][v], m2[o][v]), S::sub(m1[o][v], m2[o][v]));
                let even_at_2 = S::add(m3[o][v], m4[o][v]);
                let odd_at_2 = S::sub(m3[o][v], m4[o][v]);
                rows[0][o][v] = S::add(m0[o][v], S::add(even, even_at_2));
                rows[1][o][v] = S::mul_add(two, odd_at_2, odd);
                rows[2][o][v] = S::mul_add(four, even_at_2, even);
                rows[3][o][v] = S::add(m5[o][v], S::mul_add(eight, odd_at_2, odd));
            }
        }
        rows
    }
}
