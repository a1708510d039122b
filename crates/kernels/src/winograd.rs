//! 3x3 convolution of four rows by Winograd's F(4, 3) along y.
//!
//! Four rows of output are computed from six rows of input. Both kernel and input are transformed
//! along y, so that six 1x3 convolutions along x take the place of twelve: half the
//! multiplications. Along x everything stays as in the direct form, pixels in the lanes.
//!
//! With d the six rows under a strip and g the three rows of a kernel, y = A (G g * B d), where
//! B, G and A evaluate polynomials at 0, 1, -1, 2, -2 and infinity (Lavin and Gray 2015, "Fast
//! Algorithms for Convolutional Neural Networks", section 4.3, in one dimension). The rounding
//! error is about twice that of the direct sum.

use crate::dispatch::Kernel;
use crate::epilogue::TileOutput;
use crate::packing::Packing;
use crate::precision::Format;
use crate::rows::Rows;
use crate::simd::Simd;
use crate::strip::STRIP_ROWS;
use crate::tile::{
    MAX_GROUP_PX, Sums, TileWeights, group_px, tile_channels, tiles, with_tile_size,
    with_tile_vectors,
};
use crate::{Isa, Precision, Scratch};

/// Input and output channels from which on this form of a 3x3 convolution is faster.
const MIN_CHANNELS: usize = 8;

/// Whether this form is faster for a convolution.
pub(crate) fn is_faster(kernel: usize, in_channels: usize, out_channels: usize) -> bool {
    kernel == 3 && in_channels.min(out_channels) >= MIN_CHANNELS
}

impl Precision {
    /// The precision in which a convolution is computed if this one is chosen: only convolutions in
    /// Winograd's form are computed in another one than f32.
    pub(crate) fn of_conv(self, kernel: usize, in_channels: usize, out_channels: usize) -> Self {
        match is_faster(kernel, in_channels, out_channels) {
            true => self,
            false => Self::F32,
        }
    }
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

/// Weights of 3x3 kernels in this form.
#[derive(Clone)]
pub(crate) struct WinogradWeights {
    /// `[tile][point][plane][column][out in tile]`, see [`Packing::pack`]
    weights: Vec<f32>,
    /// `[out_channels]`
    bias: Vec<f32>,
    in_channels: usize,
}

impl WinogradWeights {
    /// Transforms and arranges the weights `[out][in][tap]` of 3x3 kernels.
    pub(crate) fn new(
        isa: Isa,
        precision: Precision,
        in_channels: usize,
        bias: &[f32],
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let at = |o: usize, point: usize, i: usize, column: usize| {
            let rows = KERNEL_TRANSFORM[point].iter().enumerate();
            rows.map(|(row, factor)| factor * f64::from(weight(o, i, 3 * row + column)))
                .sum::<f64>() as f32
        };
        // The packing's input channels are pairs of point and channel; a lane has one point.
        let padded = in_channels.next_multiple_of(precision.per_lane());
        let packing = Packing::new(isa, precision, POINTS * padded, bias.len(), 3);
        let weights = packing.pack(|o, i, column| match (i / padded, i % padded) {
            (point, channel) if channel < in_channels => at(o, point, channel, column),
            _ => 0.0,
        });
        Self {
            weights,
            bias: bias.to_vec(),
            in_channels,
        }
    }

    /// Floats of scratch memory that [`FourRows`] needs.
    fn scratch_len(&self) -> usize {
        POINTS * self.in_channels * (SEGMENT_PX + MAX_GROUP_PX)
    }
}

/// Four rows of a convolution in Winograd's form, computed from six rows of input.
pub(crate) struct FourRows<'a> {
    weights: &'a WinogradWeights,
    input: Rows<POINTS>,
    output: [TileOutput; STRIP_ROWS],
    width_px: usize,
    scratch: &'a mut [f32],
}

impl<'a> FourRows<'a> {
    /// The convolution of rows of as many planes as it has input channels. Their first pixel is the
    /// one left of the output's and above it.
    ///
    /// # Safety
    /// From each row of each plane of the input `width_px + 1` pixels and a vector more can be
    /// read, to each row of each channel of the output `width_px` pixels be written. In the
    /// epilogue's maps the same pixels and a group more can be read.
    pub(crate) unsafe fn new(
        weights: &'a WinogradWeights,
        input: Rows<POINTS>,
        output: [TileOutput; STRIP_ROWS],
        width_px: usize,
        scratch: &'a mut Scratch,
    ) -> Self {
        Self {
            weights,
            input,
            output,
            width_px,
            scratch: scratch.floats(weights.scratch_len()),
        }
    }
}

impl Kernel for FourRows<'_> {
    type Output = ();

    fn reference(self, _: Precision) {
        unreachable!("Winograd's form in plain loops")
    }

    #[inline(always)]
    fn vectorized<S: Simd, F: Format<S>>(self, simd: S) {
        let Self {
            weights,
            input,
            output,
            width_px,
            scratch,
        } = self;
        let scratch = scratch.as_mut_ptr();
        // A segment has a pixel more on each side; its last group may be followed by a vector.
        let segment_len = SEGMENT_PX + group_px::<S>();
        let planes = weights.in_channels.div_ceil(F::PER_LANE);
        for segment in (0..width_px).step_by(SEGMENT_PX) {
            let len = SEGMENT_PX.min(width_px - segment);
            let input = input.skip(segment);
            // SAFETY: the segment and a pixel on each side, rounded up to a vector, lie in the rows
            // promised to `new`. `POINTS * planes` segments fit into the scratch memory,
            // as `segment_len` is at most `SEGMENT_PX + MAX_GROUP_PX`.
            unsafe { transform_input::<S, F>(simd, input, len + 2, scratch, segment_len) }
            let mut points = [Rows {
                rows: [scratch.cast_const()],
                plane_len: segment_len,
                planes,
            }; POINTS];
            for (point, row) in points.iter_mut().enumerate() {
                *row = row.skip(point * planes * segment_len);
            }
            let terms = POINTS * planes * 3;
            let largest = tile_channels::<S>(terms);
            for (first, count) in tiles(weights.bias.len(), largest, 1) {
                let tile = TileWeights::of(&weights.weights, &weights.bias, first, terms);
                with_tile_size!(S, count, N => {
                    for pixel in (0..len).step_by(group_px::<S>()) {
                        let left = len - pixel;
                        with_tile_vectors!(S, left, V => {
                            // SAFETY: the tile's group of pixels and the two pixels behind it lie
                            // in the transformed segment; `tile` has its weights.
                            let sums = unsafe {
                                if S::IS_VIRTUAL {
                                    convolve_points_apart::<S, F, N, V>(simd, &points, pixel, tile)
                                } else {
                                    convolve_points::<S, F, N, V>(simd, &points, pixel, tile)
                                }
                            };
                            let sums = transform_output(simd, &sums);
                            for (sums, output) in sums.into_iter().zip(output) {
                                let at = first * output.plane_len + segment + pixel;
                                // SAFETY: the tile lies below the output's channels, and its first
                                // `left` pixels in the rows promised to `new`.
                                unsafe {
                                    if left >= V * S::LANES {
                                        output.store(simd, sums, at);
                                    } else {
                                        output.store_first(simd, sums, at, left);
                                    }
                                }
                            }
                        });
                    }
                });
            }
        }
    }
}

/// B: the first `len` pixels of six rows of each channel to points, in the format `F`.
///
/// # Safety
/// `len` pixels rounded up to a vector can be read from each row and written to each plane of each
/// point: `to` holds `[POINTS][planes of lanes][to_len]`.
#[inline(always)]
pub(crate) unsafe fn transform_input<S: Simd, F: Format<S>>(
    simd: S,
    input: Rows<POINTS>,
    len: usize,
    to: *mut f32,
    to_len: usize,
) {
    let channels = input.planes;
    for (plane, channel) in (0..channels).step_by(F::PER_LANE).enumerate() {
        for pixel in (0..len).step_by(S::LANES) {
            let at = channel * input.plane_len + pixel;
            // SAFETY: the caller promises this vector in each row of each channel.
            let first = unsafe { at_points(simd, input.rows, at) };
            let second = if F::PER_LANE > 1 && channel + 1 < channels {
                // SAFETY: the caller promises this vector in each row of each channel.
                unsafe { at_points(simd, input.rows, at + input.plane_len) }
            } else {
                [simd.splat(0.0); POINTS]
            };
            for point in 0..POINTS {
                let value = F::join(simd, first[point], second[point]);
                let at = (point * channels.div_ceil(F::PER_LANE) + plane) * to_len + pixel;
                // SAFETY: the caller promises this vector in each plane of each point.
                unsafe { simd.store(to.add(at), value) }
            }
        }
    }
}

/// B: a vector of pixels of six rows to points.
///
/// # Safety
/// A vector can be read `at` floats behind the start of each row.
#[inline(always)]
unsafe fn at_points<S: Simd>(simd: S, rows: [*const f32; POINTS], at: usize) -> [S::V; POINTS] {
    let mut d = [simd.splat(0.0); POINTS];
    for (d, row) in d.iter_mut().zip(rows) {
        // SAFETY: the caller promises this vector.
        *d = unsafe { simd.load(row.add(at)) };
    }
    let (two, minus_two) = (simd.splat(2.0), simd.splat(-2.0));
    let (four, minus_four, minus_five) = (simd.splat(4.0), simd.splat(-4.0), simd.splat(-5.0));
    let even = simd.mul_add(minus_four, d[2], d[4]);
    let odd = simd.mul_add(minus_four, d[1], d[3]);
    let even_at_2 = simd.sub(d[4], d[2]);
    let odd_at_2 = simd.sub(d[3], d[1]);
    [
        simd.mul_add(four, d[0], simd.mul_add(minus_five, d[2], d[4])),
        simd.add(even, odd),
        simd.sub(even, odd),
        simd.mul_add(two, odd_at_2, even_at_2),
        simd.mul_add(minus_two, odd_at_2, even_at_2),
        simd.mul_add(four, d[1], simd.mul_add(minus_five, d[3], d[5])),
    ]
}

/// A transposed: the first `len` pixels of four rows of each channel of the output's gradient to
/// points.
///
/// # Safety
/// `len` pixels rounded up to a vector can be read from each row and written to each channel of
/// each point: `to` holds `[POINTS][channels][to_len]`.
#[inline(always)]
pub(crate) unsafe fn transform_output_gradient<S: Simd>(
    simd: S,
    gradient: Rows<STRIP_ROWS>,
    len: usize,
    to: *mut f32,
    to_len: usize,
) {
    let (channels, four, eight) = (gradient.planes, simd.splat(4.0), simd.splat(8.0));
    for channel in 0..channels {
        for pixel in (0..len).step_by(S::LANES) {
            let mut y = [simd.splat(0.0); STRIP_ROWS];
            for (y, row) in y.iter_mut().zip(gradient.rows) {
                let at = channel * gradient.plane_len + pixel;
                // SAFETY: the caller promises this vector in each row of each channel.
                *y = unsafe { simd.load(row.add(at)) };
            }
            let (even, odd) = (simd.add(y[0], y[2]), simd.add(y[1], y[3]));
            let even_at_2 = simd.mul_add(four, y[2], y[0]);
            let odd_at_2 = simd.mul_add(eight, y[3], simd.add(y[1], y[1]));
            let points = [
                y[0],
                simd.add(even, odd),
                simd.sub(even, odd),
                simd.add(even_at_2, odd_at_2),
                simd.sub(even_at_2, odd_at_2),
                y[3],
            ];
            for (point, value) in points.into_iter().enumerate() {
                let at = (point * channels + channel) * to_len + pixel;
                // SAFETY: the caller promises this vector in each channel of each point.
                unsafe { simd.store(to.add(at), value) }
            }
        }
    }
}

/// The six 1x3 convolutions of a tile.
///
/// # Safety
/// `V` vectors of pixels from `pixel` on, and two pixels more, can be read from each plane of each
/// point. `weights` are those of a tile of `N` channels: `[POINTS][planes][3][N]`.
#[inline(always)]
unsafe fn convolve_points<S: Simd, F: Format<S>, const N: usize, const V: usize>(
    simd: S,
    points: &[Rows<1>; POINTS],
    pixel: usize,
    weights: TileWeights,
) -> [Sums<S, N, V>; POINTS] {
    let zero = [[simd.splat(0.0); V]; N];
    let mut sums = [zero; POINTS];
    for (point, row) in points.iter().enumerate() {
        // SAFETY: the caller promises the pixels, and weights and biases for this point.
        unsafe {
            // The sum of point 1 goes into all four rows with factor 1: so does the bias.
            let first = if point == 1 {
                weights.start::<S, N, V>(simd)
            } else {
                zero
            };
            let weights = weights.weights.add(point * row.planes * 3 * N);
            sums[point] = if S::IS_VIRTUAL {
                row.accumulate_three::<S, F, N, V>(simd, pixel, weights, first)
            } else {
                row.accumulate::<S, F, N, V>(simd, pixel, &[0, 1, 2], weights, first)
            };
        }
    }
    sums
}

/// [`convolve_points`] as a function of its own.
///
/// # Safety
/// As there.
#[inline(never)]
unsafe fn convolve_points_apart<S: Simd, F: Format<S>, const N: usize, const V: usize>(
    simd: S,
    points: &[Rows<1>; POINTS],
    pixel: usize,
    weights: TileWeights,
) -> [Sums<S, N, V>; POINTS] {
    // SAFETY: the caller's promises.
    unsafe { convolve_points::<S, F, N, V>(simd, points, pixel, weights) }
}

/// A: points to four rows.
#[inline(always)]
fn transform_output<S: Simd, const N: usize, const V: usize>(
    simd: S,
    m: &[Sums<S, N, V>; POINTS],
) -> [Sums<S, N, V>; STRIP_ROWS] {
    let zero = [[simd.splat(0.0); V]; N];
    let (two, four, eight) = (simd.splat(2.0), simd.splat(4.0), simd.splat(8.0));
    let mut rows = [zero; STRIP_ROWS];
    let [m0, m1, m2, m3, m4, m5] = m;
    for o in 0..N {
        for v in 0..V {
            let (even, odd) = (simd.add(m1[o][v], m2[o][v]), simd.sub(m1[o][v], m2[o][v]));
            let even_at_2 = simd.add(m3[o][v], m4[o][v]);
            let odd_at_2 = simd.sub(m3[o][v], m4[o][v]);
            rows[0][o][v] = simd.add(m0[o][v], simd.add(even, even_at_2));
            rows[1][o][v] = simd.mul_add(two, odd_at_2, odd);
            rows[2][o][v] = simd.mul_add(four, even_at_2, even);
            rows[3][o][v] = simd.add(m5[o][v], simd.mul_add(eight, odd_at_2, odd));
        }
    }
    rows
}
