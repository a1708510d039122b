//! 3x3 convolution of four rows of bytes by Winograd's F(4, 3) along y, in integers.
//!
//! The points are those of [`winograd`](crate::winograd). The kernel's transform times 24 has integers alone, so sums are 24
//! times those of the direct form, exactly, and become the same bits. Transformed bytes are at most 10 * 255, transformed
//! weights 24 * 127: both fit 16 bits, so this form is for instruction sets that multiply such numbers instead of bytes.

use super::layer::{Bytes, PackedLayer, lane_of_words};
use super::{BYTES_PER_LANE, WordKernel};
use crate::Scratch;
use crate::epilogue::TileOutput;
use crate::isa::Level;
use crate::rows::Rows;
use crate::simd::WordSimd;
use crate::strip::STRIP_ROWS;
use crate::tile::{MAX_GROUP_PX, Sums, group_px, with_tile_size, with_tile_vectors};
use crate::winograd::{KERNEL_TRANSFORM, POINTS, is_faster};

/// Pixels whose transformed input lies in the cache together.
const SEGMENT_PX: usize = 64;

/// Taps along x.
const TAPS: [usize; 3] = [0, 1, 2];

/// What sums are multiples of.
const FACTOR: i32 = 24;

/// Input channels with which sums of multiples fit 32 bits.
const MAX_CHANNELS: usize = 300;

/// Weights of 3x3 kernels in this form.
#[derive(Clone)]
pub(super) struct WinogradBytes {
    /// `[tile][point][plane][tap][out in tile]`
    weights: Vec<f32>,
    /// What sums start at, in the bits of i32: `[out]`
    start: Vec<f32>,
}

impl WinogradBytes {
    /// The weights of a layer, if this form is faster for it.
    pub(super) fn of(layer: &PackedLayer) -> Option<Self> {
        let PackedLayer {
            in_channels,
            out_channels,
            kernel,
            ..
        } = *layer;
        let is_of_words = matches!(layer.isa.0, Level::Avx2(_) | Level::Avx512(_));
        if !is_of_words
            || !is_faster(kernel, in_channels, out_channels)
            || in_channels > MAX_CHANNELS
        {
            return None;
        }
        let at_point = |o: usize, i: usize, column: usize, point: usize| -> i16 {
            if i >= in_channels {
                return 0;
            }
            let taps = &layer.weight[(o * in_channels + i) * 9..][..9];
            let rows = KERNEL_TRANSFORM[point].iter().enumerate();
            let terms = rows.map(|(row, factor)| {
                // Rounding makes good what 1/6 and 1/24 lack.
                let factor = (f64::from(FACTOR) * factor).round() as i16;
                factor * i16::from(taps[3 * row + column])
            });
            terms.sum()
        };
        let mut weights = Vec::new();
        for (first, count) in layer.tiles() {
            for point in 0..POINTS {
                for plane in 0..planes(in_channels) {
                    let channel = plane / 2 * BYTES_PER_LANE + plane % 2;
                    for column in TAPS {
                        weights.extend((first..first + count).map(|o| {
                            lane_of_words([0, 2].map(|c| at_point(o, channel + c, column, point)))
                        }));
                    }
                }
            }
        }
        let start = layer.start.iter().map(|start| {
            let start = start.to_bits() as i32 * FACTOR;
            f32::from_bits(start as u32)
        });
        Some(Self {
            weights,
            start: start.collect(),
        })
    }
}

/// Planes of two channels: 0 and 2, then 1 and 3, and so on; without a last plane that has none.
fn planes(channels: usize) -> usize {
    let lanes = channels.div_ceil(BYTES_PER_LANE);
    2 * lanes - usize::from(channels % BYTES_PER_LANE == 1)
}

/// Four rows of a convolution, computed from six rows of input.
pub(super) struct FourRows<'a> {
    layer: &'a PackedLayer,
    winograd: &'a WinogradBytes,
    /// Lanes of bytes.
    input: Rows<POINTS>,
    output: [TileOutput; STRIP_ROWS],
    width_px: usize,
    scratch: &'a mut [f32],
}

impl<'a> FourRows<'a> {
    /// The convolution of rows of as many lanes as it has. Their first pixel is the one left of the output's and above it.
    ///
    /// # Safety
    /// From each row of each plane of the input `width_px + 2` pixels rounded up to a group can be read; to each plane of each
    /// row of the output, which has the layer's format, `width_px` pixels rounded up to a group be written, and as many be
    /// read from the epilogue's maps.
    pub(super) unsafe fn new(
        layer: &'a PackedLayer,
        winograd: &'a WinogradBytes,
        input: Rows<POINTS>,
        output: [TileOutput; STRIP_ROWS],
        width_px: usize,
        scratch: &'a mut Scratch,
    ) -> Self {
        let len = POINTS * planes(layer.in_channels) * (SEGMENT_PX + MAX_GROUP_PX);
        Self {
            layer,
            winograd,
            input,
            output,
            width_px,
            scratch: scratch.floats(len),
        }
    }

    /// Computes them.
    pub(super) fn run(self) {
        match self.layer.isa.0 {
            Level::Avx2(simd) => simd.run_words(self),
            Level::Avx512(simd) => simd.avx2().run_words(self),
            _ => unreachable!("this form on {}", self.layer.isa),
        }
    }
}

impl WordKernel for FourRows<'_> {
    #[inline(always)]
    fn vectorized<S: WordSimd>(self, simd: S) {
        let Self {
            layer,
            winograd,
            input,
            output,
            width_px,
            scratch,
        } = self;
        let scratch = scratch.as_mut_ptr();
        // A segment has two pixels more; its last group may be followed by a vector.
        let segment_len = SEGMENT_PX + group_px::<S>();
        let planes = planes(layer.in_channels);
        let terms = POINTS * planes * TAPS.len();
        for segment in (0..width_px).step_by(SEGMENT_PX) {
            let len = SEGMENT_PX.min(width_px - segment);
            let to = (scratch, segment_len, planes);
            // SAFETY: the segment and two pixels, rounded up to a vector, lie in the rows promised to `new`. `POINTS * planes`
            // segments fit into the scratch memory, as `segment_len` is at most `SEGMENT_PX + MAX_GROUP_PX`.
            unsafe { transform_input(simd, input.skip(segment), len + 2, to) }
            for (first, count) in layer.tiles() {
                let weights = winograd.weights[first * terms..].as_ptr();
                let start = winograd.start[first..].as_ptr();
                with_tile_size!(S, count, N => {
                    for pixel in (0..len).step_by(group_px::<S>()) {
                        with_tile_vectors!(S, len - pixel, V => {
                            let mut points = [[[simd.splat(0.0); V]; N]; POINTS];
                            // SAFETY: the tile lies below the output's channels, whose weights and starts the arrays hold;
                            // its pixels and two more lie in the transformed segment and in the rows promised to `new`.
                            unsafe {
                                // Point 1 goes into all four rows with the factor 1.
                                for (o, sums) in points[1].iter_mut().enumerate() {
                                    *sums = [simd.splat(*start.add(o)); V];
                                }
                                for (point, sums) in points.iter_mut().enumerate() {
                                    let from = scratch.add(point * planes * segment_len + pixel);
                                    let weights = weights.add(point * planes * TAPS.len() * N);
                                    *sums = accumulate::<S, N, V>(
                                        simd, (from.cast_const(), segment_len, planes), weights, *sums,
                                    );
                                }
                                let rows = transform_output(simd, &points);
                                for (sums, output) in rows.into_iter().zip(output) {
                                    let output = output.skip(segment);
                                    layer.store::<S, Bytes, N, V>(simd, sums, output, first, pixel);
                                }
                            }
                        });
                    }
                });
            }
        }
    }
}

/// The first `len` pixels of six rows of lanes of bytes to points, in 16-bit integers: `to` holds `[POINTS][planes][to_len]`.
///
/// # Safety
/// `len` pixels rounded up to a vector can be read from each row of each plane, and written to each plane of `to`.
#[inline(always)]
unsafe fn transform_input<S: WordSimd>(
    simd: S,
    input: Rows<POINTS>,
    len: usize,
    (to, to_len, planes): (*mut f32, usize, usize),
) {
    for lane in 0..input.planes {
        for pixel in (0..len).step_by(S::LANES) {
            let mut rows = [simd.splat(0.0); POINTS];
            for (bytes, row) in rows.iter_mut().zip(input.rows) {
                // SAFETY: the caller promises this vector.
                *bytes = unsafe { simd.load(row.add(lane * input.plane_len + pixel)) };
            }
            for part in 0..2.min(planes - lane * 2) {
                let mut d = rows;
                for d in &mut d {
                    *d = simd.words(*d, part);
                }
                for (point, value) in at_points(simd, d).into_iter().enumerate() {
                    let plane = point * planes + lane * 2 + part;
                    // SAFETY: the caller promises this vector.
                    unsafe { simd.store(to.add(plane * to_len + pixel), value) }
                }
            }
        }
    }
}

/// Adds to `sums` all planes of words and taps of a row.
///
/// # Safety
/// `V` vectors can be read behind each tap of each of the `planes`, which are `plane_len` lanes long. `weights` holds
/// `[planes][taps][N]`.
#[inline(always)]
unsafe fn accumulate<S: WordSimd, const N: usize, const V: usize>(
    simd: S,
    (mut input, plane_len, planes): (*const f32, usize, usize),
    mut weights: *const f32,
    mut sums: Sums<S, N, V>,
) -> Sums<S, N, V> {
    for _ in 0..planes {
        for tap in TAPS {
            // SAFETY: the caller promises these vectors and weights.
            unsafe {
                let mut words = [simd.splat(0.0); V];
                for (v, words) in words.iter_mut().enumerate() {
                    *words = simd.load(input.add(tap + v * S::LANES));
                }
                for o in 0..N {
                    let weight = simd.weights(weights, o);
                    for v in 0..V {
                        sums[o][v] = simd.dot_two(weight, words[v], sums[o][v]);
                    }
                }
                weights = weights.add(N);
            }
        }
        input = input.wrapping_add(plane_len);
    }
    sums
}

/// Six rows to points.
#[inline(always)]
fn at_points<S: WordSimd>(simd: S, d: [S::V; POINTS]) -> [S::V; POINTS] {
    let even = simd.sub_words(d[4], simd.quadruple_words(d[2]));
    let odd = simd.sub_words(d[3], simd.quadruple_words(d[1]));
    let even_at_2 = simd.sub_words(d[4], d[2]);
    let half_odd_at_2 = simd.sub_words(d[3], d[1]);
    let odd_at_2 = simd.add_words(half_odd_at_2, half_odd_at_2);
    [
        // 4 d0 - 5 d2 + d4
        simd.add_words(simd.quadruple_words(simd.sub_words(d[0], d[2])), even_at_2),
        simd.add_words(even, odd),
        simd.sub_words(even, odd),
        simd.add_words(even_at_2, odd_at_2),
        simd.sub_words(even_at_2, odd_at_2),
        // 4 d1 - 5 d3 + d5
        simd.sub_words(
            simd.sub_words(d[5], d[3]),
            simd.quadruple_words(half_odd_at_2),
        ),
    ]
}

/// The sums of a tile at the points to those of four rows.
#[inline(always)]
fn transform_output<S: WordSimd, const N: usize, const V: usize>(
    simd: S,
    points: &[Sums<S, N, V>; POINTS],
) -> [Sums<S, N, V>; STRIP_ROWS] {
    let mut rows = [[[simd.splat(0.0); V]; N]; STRIP_ROWS];
    for o in 0..N {
        for v in 0..V {
            let point = |point: usize| points[point][o][v];
            let even = simd.add_integers(point(1), point(2));
            let odd = simd.sub_integers(point(1), point(2));
            let even_at_2 = simd.add_integers(point(3), point(4));
            let half = simd.sub_integers(point(3), point(4));
            let odd_at_2 = simd.add_integers(half, half);
            let sums = [
                simd.add_integers(simd.add_integers(point(0), even), even_at_2),
                simd.add_integers(odd, odd_at_2),
                simd.add_integers(even, simd.quadruple_integers(even_at_2)),
                simd.add_integers(
                    simd.add_integers(odd, point(5)),
                    simd.quadruple_integers(odd_at_2),
                ),
            ];
            for (row, sum) in sums.into_iter().enumerate() {
                rows[row][o][v] = simd.divide_by_24(sum);
            }
        }
    }
    rows
}
