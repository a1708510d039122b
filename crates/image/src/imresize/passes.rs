//! The two passes: whole rows down the height, then along each row.
//!
//! An output row is made at once: the rows it needs are summed into one row of sums, which stays
//! in the cache, and the taps along the width are taken from there.

use std::ops::{Add, Mul};

use rayon::prelude::*;

use super::taps::Taps;

/// The type sums are made in.
pub(super) trait Sum:
    Copy + Default + Send + Sync + Add<Output = Self> + Mul<Output = Self>
{
    /// The nearest value.
    fn of(weight: f64) -> Self;
}

impl Sum for f32 {
    fn of(weight: f64) -> Self {
        weight as Self
    }
}

impl Sum for f64 {
    fn of(weight: f64) -> Self {
        weight
    }
}

/// `v` rounded half up and clipped to 0..`max`; the fraction is left for the cast to drop.
#[inline(always)]
pub(super) fn round_half_up(v: f64, max: f64) -> f64 {
    // Below 0 the cast to an unsigned integer gives 0, and above `max` the minimum holds.
    (v + 0.5).min(max)
}

/// Columns summed together: few enough to stay in registers.
const COLUMNS: usize = 16;

/// Resizes interleaved pixels of `channels` samples, height first. `between` is applied to each
/// sum of the first pass, `finish` to each of the second.
pub(super) fn resize<T, A, U>(
    pixels: &[T],
    channels: usize,
    across: &Taps,
    down: &Taps,
    between: impl Fn(A) -> A + Sync,
    finish: impl Fn(A) -> U + Sync,
) -> Vec<U>
where
    T: Copy + Into<A> + Sync,
    A: Sum,
    U: Copy + Default + Send,
{
    let resized = try_resize(pixels, channels, across, down, between, finish, || false);
    resized.unwrap_or_else(|| unreachable!("it is never stopped"))
}

/// [`resize`] that asks before each row whether it is stopped; `None` if so.
pub(super) fn try_resize<T, A, U>(
    pixels: &[T],
    channels: usize,
    across: &Taps,
    down: &Taps,
    between: impl Fn(A) -> A + Sync,
    finish: impl Fn(A) -> U + Sync,
    is_stopped: impl Fn() -> bool + Sync,
) -> Option<Vec<U>>
where
    T: Copy + Into<A> + Sync,
    A: Sum,
    U: Copy + Default + Send,
{
    let row_len = across.input_len() * channels;
    let across_weights: Vec<A> = across
        .weights()
        .iter()
        .map(|&weight| A::of(weight))
        .collect();
    let down_weights: Vec<A> = down.weights().iter().map(|&weight| A::of(weight)).collect();
    let mut out = vec![U::default(); across.len() * down.len() * channels];
    // A lane more than three channels, read past the last pixel.
    let sums = || vec![A::default(); row_len + 1];
    out.par_chunks_mut(across.len() * channels)
        .enumerate()
        .try_for_each_init(sums, |sums, (y, out)| {
            if is_stopped() {
                return None;
            }
            let taps = y * down.count()..(y + 1) * down.count();
            let rows = &down.positions()[taps.clone()];
            let weights = &down_weights[taps];
            sum_rows(pixels, &mut sums[..row_len], rows, weights, &between);
            match channels {
                1 => along_row::<A, U, 1, 1>(sums, out, across, &across_weights, &finish),
                2 => along_row::<A, U, 2, 2>(sums, out, across, &across_weights, &finish),
                3 => along_row::<A, U, 3, 4>(sums, out, across, &across_weights, &finish),
                _ => along_row::<A, U, 4, 4>(sums, out, across, &across_weights, &finish),
            }
            Some(())
        })?;
    Some(out)
}

/// `sums[i] = between(sum over k of weights[k] pixels[rows[k], i])`.
fn sum_rows<T: Copy + Into<A>, A: Sum>(
    pixels: &[T],
    sums: &mut [A],
    rows: &[usize],
    weights: &[A],
    between: &impl Fn(A) -> A,
) {
    let row_len = sums.len();
    let whole = row_len / COLUMNS * COLUMNS;
    let (blocks, rest) = sums.split_at_mut(whole);
    for (block, sums) in blocks.as_chunks_mut::<COLUMNS>().0.iter_mut().enumerate() {
        let mut block_sums = [A::default(); COLUMNS];
        for (&row, &weight) in rows.iter().zip(weights) {
            let start = row * row_len + block * COLUMNS;
            let values = &pixels[start..start + COLUMNS];
            for (sum, &value) in block_sums.iter_mut().zip(values) {
                *sum = *sum + weight * value.into();
            }
        }
        *sums = block_sums.map(between);
    }
    for (i, sum) in rest.iter_mut().enumerate() {
        let mut total = A::default();
        for (&row, &weight) in rows.iter().zip(weights) {
            total = total + weight * pixels[row * row_len + whole + i].into();
        }
        *sum = between(total);
    }
}

/// Along one row of pixels of `C` channels, `LANES >= C` lanes of which are summed at once; the
/// lanes beyond `C` are dropped. `row` holds `LANES - C` samples after its last pixel.
fn along_row<A: Sum, U: Copy, const C: usize, const LANES: usize>(
    row: &[A],
    out: &mut [U],
    across: &Taps,
    weights: &[A],
    finish: &impl Fn(A) -> U,
) {
    let count = across.count();
    let taps = across
        .positions()
        .chunks_exact(count)
        .zip(weights.chunks_exact(count));
    for (out, (positions, weights)) in out.as_chunks_mut::<C>().0.iter_mut().zip(taps) {
        let mut sums = [A::default(); LANES];
        for (&position, &weight) in positions.iter().zip(weights) {
            let pixel = &row[position * C..position * C + LANES];
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum = *sum + weight * value;
            }
        }
        for (out, &sum) in out.iter_mut().zip(&sums) {
            *out = finish(sum);
        }
    }
}
