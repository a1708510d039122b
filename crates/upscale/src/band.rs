//! Bands of a result, so that several machines make one image.

use std::ops::Range;

use wdsr_model::STRIP_ROWS;

use crate::wrap::Halo;

/// The rows of a result that are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BandRequest {
    /// From the first row up to, but without, the last; to the lower edge unless that is given.
    Rows {
        /// The first row.
        start: usize,
        /// The row after the last.
        end: Option<usize>,
    },
    /// One of `count` bands that are as high as each other, give or take a row.
    Part {
        /// Its number from the top, from 1.
        index: usize,
        /// The number of bands.
        count: usize,
    },
}

/// Why a result has no such band.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BandError {
    /// The rows are beyond the result.
    #[error("rows {start}:{end} are not within its result of {height_px} rows")]
    Outside {
        /// The first row.
        start: usize,
        /// The row after the last.
        end: usize,
        /// The height of the result.
        height_px: usize,
    },
    /// There are fewer rows than bands.
    #[error("its result of {height_px} rows has no {count} bands; use fewer")]
    TooMany {
        /// The height of the result.
        height_px: usize,
        /// The number of bands.
        count: usize,
    },
    /// The image cannot be upscaled in parts.
    #[error(
        "{reason}; a band takes a PNG or TIFF image of one page without transparency, one pass of a network, \
         and a TIFF result"
    )]
    Whole {
        /// What it has.
        reason: String,
    },
}

impl BandRequest {
    /// The rows of a result.
    ///
    /// # Errors
    /// If it has no such rows.
    pub fn within(self, height_px: usize) -> Result<Range<usize>, BandError> {
        match self {
            Self::Rows { start, end } => {
                let end = end.unwrap_or(height_px);
                let outside = BandError::Outside {
                    start,
                    end,
                    height_px,
                };
                let is_within = start < end && end <= height_px;
                is_within.then_some(start..end).ok_or(outside)
            }
            Self::Part { index, count } => {
                assert!((1..=count).contains(&index), "band {index} of {count}");
                let row = |index| (index as u128 * height_px as u128 / count as u128) as usize;
                let too_many = BandError::TooMany { height_px, count };
                let fits = count <= height_px;
                fits.then(|| row(index - 1)..row(index)).ok_or(too_many)
            }
        }
    }
}

/// The rows that a network reads and makes for a band of an image that streams.
pub(crate) struct BandRows {
    /// Rows of the image with the halo of [`Wrap`](crate::Wrap).
    pub(crate) read: Range<usize>,
    /// Those of the result of these that are the band's.
    pub(crate) made: Range<usize>,
}

impl BandRows {
    /// The rows for the rows `band` of the result of an image of `height_px` rows. Reads so many rows beyond that
    /// the band has the bits that it has in the whole image.
    pub(crate) fn new(
        band: &Range<usize>,
        height_px: usize,
        scale: usize,
        halo: Halo,
        reach_px: usize,
    ) -> Self {
        let first = (band.start / scale + halo.y_px).saturating_sub(reach_px);
        // Rows are computed in groups, which must stay together.
        let first = first / STRIP_ROWS * STRIP_ROWS;
        let end = band.end.div_ceil(scale) + halo.y_px + reach_px;
        let made = |row: usize| row + halo.y_px * scale - first * scale;
        Self {
            read: first..end.min(height_px + 2 * halo.y_px),
            made: made(band.start)..made(band.end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_result_once() {
        for height_px in [7, 8, 100, 1001] {
            for count in 1..=7 {
                let mut next = 0;
                for index in 1..=count {
                    let rows = BandRequest::Part { index, count }.within(height_px);
                    let rows = rows.expect("enough rows");
                    assert_eq!(rows.start, next);
                    assert!((height_px / count..=height_px / count + 1).contains(&rows.len()));
                    next = rows.end;
                }
                assert_eq!(next, height_px);
            }
        }
        let most = BandRequest::Part { index: 8, count: 8 };
        let too_many = BandError::TooMany {
            height_px: 7,
            count: 8,
        };
        assert_eq!(most.within(7), Err(too_many));
    }

    #[test]
    fn rows_are_within_the_result() {
        let rows = |start, end| BandRequest::Rows { start, end }.within(10);
        assert_eq!(rows(2, Some(10)), Ok(2..10));
        assert_eq!(rows(0, None), Ok(0..10));
        for (start, end) in [(2, Some(11)), (3, Some(3)), (5, Some(4)), (10, None)] {
            rows(start, end).expect_err("outside");
        }
    }
}
