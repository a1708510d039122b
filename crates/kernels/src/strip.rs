//! Strips: the rows of feature maps that inference keeps at a time.

use crate::planes::{BORDER_PX, LINE, Line, as_floats, as_floats_mut};

/// Rows of a strip. Strips are cut at multiples of it from the top of the picture, so that the
/// rows that one Winograd transform covers are the same ones however a picture is computed.
pub const STRIP_ROWS: usize = 4;

/// Floats in front of the first pixel of a row, of which the last [`BORDER_PX`] are zero.
const ORIGIN: usize = LINE;
/// Floats behind the last pixel of a row, of which the first [`BORDER_PX`] are zero; kernels
/// write what their last group of pixels computes too much into the others.
pub(crate) const STRIP_OVERSHOOT: usize = 48;

/// [`STRIP_ROWS`] rows of `channels` feature maps, with zeros to their left and right.
///
/// The last strip of a picture may hold fewer rows; the others are zero, as is what lies below.
#[derive(Clone)]
pub struct Strip {
    channels: usize,
    width_px: usize,
    rows: usize,
    plane_len: usize,
    lines: Vec<Line>,
}

impl Strip {
    /// A strip of zeros that holds `rows` rows.
    ///
    /// # Panics
    /// When a side is 0 or there are more than [`STRIP_ROWS`] rows.
    pub fn zeros(channels: usize, width_px: usize, rows: usize) -> Self {
        assert!(
            channels > 0 && width_px > 0 && (1..=STRIP_ROWS).contains(&rows),
            "strip of {channels} channels, {width_px} x {rows} pixels"
        );
        let plane_len = Self::plane_len_of(width_px);
        Self {
            channels,
            width_px,
            rows,
            plane_len,
            lines: vec![Line::ZERO; STRIP_ROWS * channels * plane_len / LINE],
        }
    }

    /// An odd number of cache lines: see `Geometry::plane_len`.
    fn plane_len_of(width_px: usize) -> usize {
        ((ORIGIN + width_px + STRIP_OVERSHOOT).div_ceil(LINE) | 1) * LINE
    }

    /// Memory of a strip in bytes.
    pub fn memory_bytes(channels: usize, width_px: usize) -> usize {
        STRIP_ROWS * channels * Self::plane_len_of(width_px) * size_of::<f32>()
    }

    /// Feature maps.
    pub fn channels(&self) -> usize {
        self.channels
    }
    /// Pixels in a row.
    pub fn width_px(&self) -> usize {
        self.width_px
    }
    /// Rows it holds.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Makes it hold `rows` rows; what they contain is to be written next.
    ///
    /// # Panics
    /// When there are no rows or more than [`STRIP_ROWS`].
    pub fn set_rows(&mut self, rows: usize) {
        assert!((1..=STRIP_ROWS).contains(&rows), "strip of {rows} rows");
        self.rows = rows;
        let row_len = self.channels * self.plane_len;
        as_floats_mut(&mut self.lines)[rows * row_len..].fill(0.0);
    }

    /// One row of pixels.
    ///
    /// # Panics
    /// When channel or row is out of range.
    pub fn row(&self, channel: usize, y: usize) -> &[f32] {
        let start = self.start(channel, y);
        &as_floats(&self.lines)[start..start + self.width_px]
    }

    /// One row of pixels, to write.
    ///
    /// # Panics
    /// When channel or row is out of range.
    pub fn row_mut(&mut self, channel: usize, y: usize) -> &mut [f32] {
        let start = self.start(channel, y);
        let width_px = self.width_px;
        &mut as_floats_mut(&mut self.lines)[start..start + width_px]
    }

    fn start(&self, channel: usize, y: usize) -> usize {
        assert!(
            channel < self.channels && y < self.rows,
            "row {y} of channel {channel} asked of {} channels of {} rows",
            self.channels,
            self.rows
        );
        (y * self.channels + channel) * self.plane_len + ORIGIN
    }

    /// Floats from a channel to the next.
    pub(crate) fn plane_len(&self) -> usize {
        self.plane_len
    }

    /// The pixel at `x`, from `-BORDER_PX` to `width_px + BORDER_PX - 1`, of a row below
    /// [`STRIP_ROWS`].
    pub(crate) fn pixel(&self, channel: usize, y: usize, x: isize) -> f32 {
        let row = (y * self.channels + channel) * self.plane_len + ORIGIN;
        as_floats(&self.lines)[row.wrapping_add_signed(x)]
    }

    /// Where the pixel at `x` >= `-BORDER_PX` of the first channel of a row below [`STRIP_ROWS`]
    /// lies, and everything behind it.
    pub(crate) fn at(&self, y: usize, x: isize) -> *const f32 {
        let row = y * self.channels * self.plane_len + ORIGIN;
        as_floats(&self.lines)[row.wrapping_add_signed(x)..].as_ptr()
    }

    /// The first pixel of the first channel of each row, to write.
    pub(crate) fn rows_mut(&mut self) -> [*mut f32; STRIP_ROWS] {
        let row_len = self.channels * self.plane_len;
        let first = as_floats_mut(&mut self.lines)[ORIGIN..].as_mut_ptr();
        std::array::from_fn(|y| first.wrapping_add(y * row_len))
    }

    /// Makes the border and the rows that it does not hold zero again, after a kernel wrote all
    /// pixels and up to [`STRIP_OVERSHOOT`] floats behind each row.
    pub(crate) fn clear_border(&mut self) {
        let (rows, row_len) = (self.rows, self.channels * self.plane_len);
        let (end, plane_len) = (ORIGIN + self.width_px, self.plane_len);
        let floats = as_floats_mut(&mut self.lines);
        floats[rows * row_len..].fill(0.0);
        for plane in floats[..rows * row_len].chunks_exact_mut(plane_len) {
            plane[end..end + BORDER_PX].fill(0.0);
        }
    }
}

/// A strip and its neighbours; outside the picture they are zero.
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Window<'a> {
    pub above: &'a Strip,
    pub centre: &'a Strip,
    pub below: &'a Strip,
}

impl Window<'_> {
    /// # Panics
    /// When the strips differ in channels or width.
    pub(crate) fn check(&self) {
        let shape = |strip: &Strip| (strip.channels, strip.width_px);
        assert_eq!(shape(self.above), shape(self.centre), "strip above");
        assert_eq!(shape(self.below), shape(self.centre), "strip below");
    }

    /// Strip and row in it of row `y` of the centre, from `-STRIP_ROWS` to `2 STRIP_ROWS - 1`.
    pub(crate) fn row(&self, y: isize) -> (&Strip, usize) {
        let y = y.wrapping_add_unsigned(STRIP_ROWS) as usize;
        let strip = [self.above, self.centre, self.below][y / STRIP_ROWS];
        (strip, y % STRIP_ROWS)
    }

    /// Where the pixel at (`y`, `x`) of the first channel lies.
    pub(crate) fn at(&self, y: isize, x: isize) -> *const f32 {
        let (strip, row) = self.row(y);
        strip.at(row, x)
    }
}

/// Memory for what a kernel computes in between, one per thread, kept from strip to strip.
#[derive(Default)]
pub struct Scratch {
    lines: Vec<Line>,
}

impl Scratch {
    /// At least `len` floats with any content.
    pub(crate) fn floats(&mut self, len: usize) -> &mut [f32] {
        if self.lines.len() * LINE < len {
            self.lines.resize(len.div_ceil(LINE), Line::ZERO);
        }
        as_floats_mut(&mut self.lines)
    }

    /// Parts of so many floats with any content, each on a cache line of its own.
    pub(crate) fn parts<const N: usize>(&mut self, lengths: [usize; N]) -> [&mut [f32]; N] {
        let whole_lines = |len: usize| len.next_multiple_of(LINE);
        let mut rest = self.floats(lengths.iter().map(|len| whole_lines(*len)).sum());
        lengths.map(|len| {
            let (part, left) = std::mem::take(&mut rest).split_at_mut(whole_lines(len));
            rest = left;
            &mut part[..len]
        })
    }
}
