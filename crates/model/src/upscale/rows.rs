//! Rows of images, and the strips of the network's input and output.

use std::ops::Range;

use wdsr_kernels::Strip;

use super::colour_range::ColourRange;
use super::sample::Sample;
use crate::error::UpscaleError;

/// Some rows of an RGB image, from `first_row` on.
#[derive(Clone, Copy)]
pub(super) struct InputRows<'a, T> {
    pub(super) samples: &'a [T],
    pub(super) width_px: usize,
    pub(super) first_row: usize,
}

impl<'a, T: Sample> InputRows<'a, T> {
    fn row(&self, y: usize) -> &'a [T] {
        let row_len = self.width_px * 3;
        &self.samples[(y - self.first_row) * row_len..][..row_len]
    }

    /// Fills a strip of the network's input: the image minus the mean.
    pub(super) fn read(&self, mean: [f32; 3], strip: &mut Strip) -> Result<(), UpscaleError> {
        let left = strip.columns().start;
        for y in strip.rows() {
            let from = &self.row(y)[left * 3..];
            for (channel, mean) in mean.into_iter().enumerate() {
                let row = strip.row_mut(channel, y);
                for (to, from) in row.iter_mut().zip(from[channel..].iter().step_by(3)) {
                    *to = from.to_unit() - mean;
                }
                if let Some(x) = row.iter().position(|value| !value.is_finite()) {
                    return Err(UpscaleError::Input {
                        value: row[x],
                        x: left + x,
                        y,
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether the given rows have a single colour.
    pub(super) fn are_single_colour(&self, rows: &Range<usize>) -> bool {
        let mut range = ColourRange::new();
        for y in rows.clone() {
            for pixel in self.row(y).as_chunks::<3>().0 {
                for (channel, sample) in pixel.iter().enumerate() {
                    // They are finite: `read` has checked them.
                    let _ = range.add(channel, &[sample.to_unit()]);
                }
            }
        }
        range.is_single_colour()
    }

    /// Makes an error about the input one about its first sample that is not finite, because chance
    /// decides which one a thread finds first. Returns other errors unchanged.
    pub(super) fn first_error(&self, error: UpscaleError) -> UpscaleError {
        let UpscaleError::Input { .. } = error else {
            return error;
        };
        let samples = self.samples.iter().map(|sample| sample.to_unit());
        let first = samples.enumerate().find(|(_, value)| !value.is_finite());
        first.map_or(error, |(at, value)| UpscaleError::Input {
            value,
            x: at / 3 % self.width_px,
            y: self.first_row + at / 3 / self.width_px,
        })
    }
}

/// How the network's output becomes an image.
#[derive(Clone, Copy)]
pub(super) struct OutputFormat {
    pub(super) mean: [f32; 3],
    /// Pixel shuffle that is applied.
    pub(super) shuffle: usize,
    /// Factor of the output, before the mean is added.
    pub(super) factor: f32,
    /// Width of the upscaled image.
    pub(super) width_px: usize,
}

impl OutputFormat {
    /// Writes row `map_y` of a strip of the network's output to `out`, the `shuffle` rows of the image
    /// that it becomes. Returns the range of the values.
    pub(super) fn write<T: Sample>(
        &self,
        strip: &Strip,
        map_y: usize,
        out: &mut [T],
    ) -> Result<ColourRange, UpscaleError> {
        let &Self {
            mean,
            shuffle,
            factor,
            width_px,
        } = self;
        let columns = strip.columns();
        let (first, out_len) = (columns.start * shuffle, columns.len() * shuffle);
        let mut range = ColourRange::new();
        if columns.is_empty() {
            // The tile is narrower than the delay of the output.
            return Ok(range);
        }
        for (channel, mean) in mean.into_iter().enumerate() {
            for y in 0..shuffle {
                let row = &mut out[(y * width_px + first) * 3..][..out_len * 3];
                for dx in 0..shuffle {
                    let map = (channel * shuffle + y) * shuffle + dx;
                    let from = strip.row(map, map_y);
                    range
                        .add(channel, from)
                        .map_err(|(x, value)| UpscaleError::NotFinite {
                            value,
                            x: first + x * shuffle + dx,
                            y: map_y * shuffle + y,
                        })?;
                    let to = row[dx * 3 + channel..].iter_mut().step_by(3 * shuffle);
                    for (to, from) in to.zip(from) {
                        *to = T::from_unit(from * factor + mean);
                    }
                }
            }
        }
        Ok(range)
    }
}
