//! Strips: the rows of feature maps that inference keeps at a time.

use std::ops::Range;

use crate::planes::{BORDER_PX, LINE, Line, as_floats, as_floats_mut};

/// Rows of a strip. Strips are cut at multiples of it from the top of the picture, so that the
/// rows that one Winograd transform covers are the same ones however a picture is computed.
pub const STRIP_ROWS: usize = 4;

/// Floats behind the last pixel of a row, of which the first [`BORDER_PX`] are zero; kernels
/// write what their last group of pixels computes too much into the others.
pub(crate) const STRIP_OVERSHOOT: usize = 48;

/// The memory of a row of pixels. Strips that a kernel works on have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Room {
    /// Pixels of a row at most.
    pub width_px: usize,
    /// Pixels to the left of a row that can be kept beside it.
    pub margin_px: usize,
}

impl Room {
    /// Pixels left of a row that may be read: zeros at least.
    fn left_px(self) -> usize {
        self.margin_px.max(BORDER_PX)
    }

    /// Floats in front of the first pixel.
    fn origin(self) -> usize {
        self.left_px().next_multiple_of(LINE)
    }

    /// # Panics
    /// When fewer pixels than these can be left of a row.
    fn check_margin(self, margin_px: usize) {
        assert!(
            margin_px <= self.left_px(),
            "margin of {margin_px} pixels in {self:?}"
        );
    }

    /// Floats from a row of a channel to the next: an odd number of cache lines, see
    /// `Geometry::plane_len`.
    fn plane_len(self) -> usize {
        ((self.origin() + self.width_px + STRIP_OVERSHOOT).div_ceil(LINE) | 1) * LINE
    }
}

/// [`STRIP_ROWS`] rows of some columns of `channels` feature maps.
///
/// Where the maps end at the right there are zeros. Left of the strip there are zeros or, once
/// [`Strip::set_margin`] has written them, the pixels to its left. The last strip of a picture may
/// hold fewer rows; the others are zero, as is what lies below.
#[derive(Clone)]
pub struct Strip {
    channels: usize,
    /// The column of the maps that it begins at.
    first_px: usize,
    width_px: usize,
    rows: usize,
    room: Room,
    plane_len: usize,
    lines: Vec<Line>,
}

impl Strip {
    /// A strip of zeros of whole maps, that holds `rows` rows.
    ///
    /// # Panics
    /// When there are no channels, no rows or more than [`STRIP_ROWS`].
    pub fn zeros(channels: usize, width_px: usize, rows: usize) -> Self {
        let room = Room {
            width_px,
            margin_px: 0,
        };
        let mut strip = Self::new(channels, room);
        strip.place(0..width_px, rows);
        strip
    }

    /// A strip of zeros that can be placed where its room allows.
    ///
    /// # Panics
    /// When there are no channels.
    pub fn new(channels: usize, room: Room) -> Self {
        assert_ne!(channels, 0, "channels of a strip");
        let plane_len = room.plane_len();
        Self {
            channels,
            first_px: 0,
            width_px: room.width_px,
            rows: STRIP_ROWS,
            room,
            plane_len,
            lines: vec![Line::ZERO; STRIP_ROWS * channels * plane_len / LINE],
        }
    }

    /// Memory of a strip in bytes.
    pub fn memory_bytes(channels: usize, room: Room) -> usize {
        STRIP_ROWS * channels * room.plane_len() * size_of::<f32>()
    }

    /// Feature maps.
    pub fn channels(&self) -> usize {
        self.channels
    }
    /// Pixels in a row.
    pub fn width_px(&self) -> usize {
        self.width_px
    }
    /// The columns of the maps that it holds.
    pub fn columns(&self) -> Range<usize> {
        self.first_px..self.first_px + self.width_px
    }
    /// Its memory.
    pub fn room(&self) -> Room {
        self.room
    }
    /// Rows it holds.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Makes it hold `rows` rows of the given columns; what they contain is to be written next.
    ///
    /// # Panics
    /// When there are no rows or more than [`STRIP_ROWS`], or the columns are more than fit.
    pub fn place(&mut self, columns: Range<usize>, rows: usize) {
        assert!((1..=STRIP_ROWS).contains(&rows), "strip of {rows} rows");
        assert!(
            columns.len() <= self.room.width_px,
            "columns {columns:?} in {:?}",
            self.room
        );
        (self.first_px, self.width_px, self.rows) = (columns.start, columns.len(), rows);
        self.clear_border();
    }

    /// Writes what lies left of the strip: `margin_px` pixels of each row, as [`Strip::end`] gave
    /// them, or zeros.
    ///
    /// # Panics
    /// When the pixels are not as many, or the room's margin is smaller.
    pub fn set_margin(&mut self, margin_px: usize, pixels: Option<&[f32]>) {
        self.room.check_margin(margin_px);
        let (origin, plane_len) = (self.room.origin(), self.plane_len);
        let planes = self.rows * self.channels;
        let floats = as_floats_mut(&mut self.lines);
        let margins = floats.chunks_exact_mut(plane_len).take(planes);
        match pixels {
            None => margins.for_each(|plane| plane[..origin].fill(0.0)),
            Some(pixels) => {
                assert_eq!(pixels.len(), planes * margin_px, "pixels of the margin");
                for (plane, pixels) in margins.zip(pixels.chunks_exact(margin_px)) {
                    plane[origin - margin_px..origin].copy_from_slice(pixels);
                }
            }
        }
    }

    /// Puts the last `margin_px` pixels of each row into `pixels`: what will lie left of the strip to
    /// the right. Of a narrow strip some are of its own margin.
    ///
    /// # Panics
    /// When the room's margin is smaller.
    pub fn end(&self, margin_px: usize, pixels: &mut Vec<f32>) {
        self.room.check_margin(margin_px);
        let end = self.room.origin() + self.width_px;
        pixels.clear();
        let planes = as_floats(&self.lines).chunks_exact(self.plane_len);
        for plane in planes.take(self.rows * self.channels) {
            pixels.extend_from_slice(&plane[end - margin_px..end]);
        }
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
        (y * self.channels + channel) * self.plane_len + self.room.origin()
    }

    /// Floats from a channel to the next.
    pub(crate) fn plane_len(&self) -> usize {
        self.plane_len
    }

    /// Where the first pixel lies in the rows of another strip.
    ///
    /// # Panics
    /// When a kernel that reads `reach_px` pixels on each side for a pixel of this strip would not find
    /// them in the other.
    pub(crate) fn offset_in(&self, read: &Self, reach_px: usize) -> isize {
        assert_eq!(self.rows, read.rows, "rows of output and input");
        assert_eq!(self.room, read.room, "room of output and input");
        let (columns, reads) = (self.columns(), read.columns());
        assert!(
            columns.start <= reads.start
                && reads.start - columns.start + reach_px <= self.room.left_px()
                && columns.end <= reads.end,
            "columns {columns:?}, {reach_px} on each side, of {reads:?} in {:?}",
            self.room
        );
        columns.start as isize - reads.start as isize
    }

    /// The pixel at `x`, from the margin's first to `width_px + BORDER_PX - 1`, of a row below
    /// [`STRIP_ROWS`].
    pub(crate) fn pixel(&self, channel: usize, y: usize, x: isize) -> f32 {
        let row = (y * self.channels + channel) * self.plane_len + self.room.origin();
        as_floats(&self.lines)[row.wrapping_add_signed(x)]
    }

    /// Where the pixel at `x`, from the margin's first on, of the first channel of a row below [`STRIP_ROWS`]
    /// lies, and everything behind it.
    pub(crate) fn at(&self, y: usize, x: isize) -> *const f32 {
        let row = y * self.channels * self.plane_len + self.room.origin();
        as_floats(&self.lines)[row.wrapping_add_signed(x)..].as_ptr()
    }

    /// The first pixel of the first channel of each row, to write.
    pub(crate) fn rows_mut(&mut self) -> [*mut f32; STRIP_ROWS] {
        let row_len = self.channels * self.plane_len;
        let first = as_floats_mut(&mut self.lines)[self.room.origin()..].as_mut_ptr();
        std::array::from_fn(|y| first.wrapping_add(y * row_len))
    }

    /// Makes the border to the right and the rows that it does not hold zero again, after a kernel wrote all
    /// pixels and up to [`STRIP_OVERSHOOT`] floats behind each row.
    pub(crate) fn clear_border(&mut self) {
        let (rows, row_len) = (self.rows, self.channels * self.plane_len);
        let (end, plane_len) = (self.room.origin() + self.width_px, self.plane_len);
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
    /// When the strips differ in channels or room.
    pub(crate) fn check(&self) {
        let shape = |strip: &Strip| (strip.channels, strip.room);
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
