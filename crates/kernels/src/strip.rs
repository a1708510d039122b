//! Strips: the rows of feature maps that inference keeps at a time.

use std::ops::Range;

use crate::planes::{BORDER_PX, LINE, Line, as_floats, as_floats_mut};

/// Rows that one Winograd transform makes. Strips hold whole multiples of it and lie at fixed places of
/// their maps, so that the rows that one transform covers are the same ones however an image is computed.
pub const STRIP_ROWS: usize = 4;

/// Floats behind the last pixel of a row, of which the first [`BORDER_PX`] are zero; kernels
/// write what their last group of pixels computes too much into the others.
pub(crate) const STRIP_OVERSHOOT: usize = 48;

/// The memory of a strip. Strips that a kernel works on have the same, but for `rows_above`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Room {
    /// Pixels of a row at most.
    pub width_px: usize,
    /// Pixels to the left of a row that can be kept beside it.
    pub margin_px: usize,
    /// Rows, a multiple of [`STRIP_ROWS`].
    pub rows: usize,
    /// Rows above them that are kept beside them.
    pub rows_above: usize,
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

/// Some rows of some columns of `channels` feature maps, and the rows above them.
///
/// What lies outside the maps is zero: rows above the first or below the last, and columns to the right.
/// Left of the strip there are zeros or, once [`Strip::set_left`] has written them, the pixels to its left;
/// above it what [`Strip::set_above`] has written.
#[derive(Clone)]
pub struct Strip {
    channels: usize,
    /// The column of the maps that it begins at.
    first_px: usize,
    width_px: usize,
    /// The row of the maps that it begins at, which may lie above them.
    first_row: isize,
    /// Its rows that lie in the maps.
    inside: Range<usize>,
    room: Room,
    plane_len: usize,
    /// `[rows_above + rows][channels][plane_len]`
    lines: Vec<Line>,
}

/// Where the first pixel of a strip lies in another one, from that one's first pixel on.
#[derive(Clone, Copy)]
pub(crate) struct Offset {
    pub(crate) rows: isize,
    pub(crate) px: isize,
}

impl Strip {
    /// A strip of zeros, the first rows of maps of its width.
    ///
    /// # Panics
    /// When there are no channels, or the rows are no multiple of [`STRIP_ROWS`].
    pub fn new(channels: usize, room: Room) -> Self {
        assert_ne!(channels, 0, "channels of a strip");
        assert!(
            room.rows > 0 && room.rows.is_multiple_of(STRIP_ROWS),
            "strip of {} rows",
            room.rows
        );
        let plane_len = room.plane_len();
        Self {
            channels,
            first_px: 0,
            width_px: room.width_px,
            first_row: 0,
            inside: 0..room.rows,
            room,
            plane_len,
            lines: vec![Line::ZERO; Self::memory_bytes(channels, room) / size_of::<Line>()],
        }
    }

    /// Memory of a strip in bytes.
    pub fn memory_bytes(channels: usize, room: Room) -> usize {
        (room.rows_above + room.rows) * channels * room.plane_len() * size_of::<f32>()
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
    /// The rows of the maps that it holds.
    pub fn rows(&self) -> Range<usize> {
        let row = |y: usize| self.first_row.saturating_add_unsigned(y).max(0) as usize;
        row(self.inside.start)..row(self.inside.end)
    }
    /// Its memory.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Puts it at the given columns and from row `first_row` on into maps of `height_px` rows; what it
    /// contains is to be written next.
    ///
    /// # Panics
    /// When the columns are more than fit.
    pub fn place(&mut self, columns: Range<usize>, first_row: isize, height_px: usize) {
        assert!(
            columns.len() <= self.room.width_px,
            "columns {columns:?} in {:?}",
            self.room
        );
        (self.first_px, self.width_px) = (columns.start, columns.len());
        let inside = |row: isize| (row - first_row).clamp(0, self.room.rows as isize) as usize;
        self.inside = inside(0)..inside(height_px as isize);
        self.first_row = first_row;
        self.clear_border();
    }

    /// Writes what lies left of the strip: `margin_px` pixels of each row, as [`Strip::right_end`] gave
    /// them, or zeros.
    ///
    /// # Panics
    /// When the pixels are not as many, or the room's margin is smaller.
    pub fn set_left(&mut self, margin_px: usize, pixels: Option<&[f32]>) {
        self.room.check_margin(margin_px);
        let (origin, plane_len) = (self.room.origin(), self.plane_len);
        let (above, planes) = (self.above_len(), self.room.rows * self.channels);
        let floats = &mut as_floats_mut(&mut self.lines)[above..];
        let margins = floats.chunks_exact_mut(plane_len);
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
    pub fn right_end(&self, margin_px: usize, pixels: &mut Vec<f32>) {
        self.room.check_margin(margin_px);
        let end = self.room.origin() + self.width_px;
        pixels.clear();
        pixels.reserve_exact(self.room.rows * self.channels * margin_px);
        let floats = &as_floats(&self.lines)[self.above_len()..];
        for plane in floats.chunks_exact(self.plane_len) {
            pixels.extend_from_slice(&plane[end - margin_px..end]);
        }
    }

    /// Writes the rows above the strip, as [`Strip::lower_end`] of the strip above gave them, or zeros.
    ///
    /// # Panics
    /// When they are those of a strip of another shape.
    pub fn set_above(&mut self, rows: Option<&[f32]>) {
        let above_len = self.above_len();
        let above = &mut as_floats_mut(&mut self.lines)[..above_len];
        match rows {
            None => above.fill(0.0),
            Some(rows) => {
                assert_eq!(rows.len(), above_len, "pixels of the rows above");
                above.copy_from_slice(rows);
            }
        }
    }

    /// Puts the last rows, margins included, into `rows`: what will lie above the strip below.
    pub fn lower_end(&self, rows: &mut Vec<f32>) {
        let floats = as_floats(&self.lines);
        let above_len = self.above_len();
        rows.clear();
        rows.reserve_exact(above_len);
        rows.extend_from_slice(&floats[floats.len() - above_len..]);
    }

    /// Floats of the rows above.
    fn above_len(&self) -> usize {
        self.room.rows_above * self.channels * self.plane_len
    }

    /// Row `y` of the maps.
    ///
    /// # Panics
    /// When the strip does not hold it, or the channel is out of range.
    pub fn row(&self, channel: usize, y: usize) -> &[f32] {
        let start = self.start(channel, y);
        &as_floats(&self.lines)[start..start + self.width_px]
    }

    /// Row `y` of the maps, to write.
    ///
    /// # Panics
    /// When the strip does not hold it, or the channel is out of range.
    pub fn row_mut(&mut self, channel: usize, y: usize) -> &mut [f32] {
        let start = self.start(channel, y);
        let width_px = self.width_px;
        &mut as_floats_mut(&mut self.lines)[start..start + width_px]
    }

    fn start(&self, channel: usize, y: usize) -> usize {
        assert!(
            channel < self.channels && self.rows().contains(&y),
            "row {y} of channel {channel} asked of {} channels of rows {:?}",
            self.channels,
            self.rows()
        );
        self.index(channel, y as isize - self.first_row, 0)
    }

    /// The float of the pixel at (`y`, `x`) of the strip.
    fn index(&self, channel: usize, y: isize, x: isize) -> usize {
        let row = self.room.rows_above.wrapping_add_signed(y);
        ((row * self.channels + channel) * self.plane_len + self.room.origin())
            .wrapping_add_signed(x)
    }

    /// Floats from a channel to the next.
    pub(crate) fn plane_len(&self) -> usize {
        self.plane_len
    }

    /// The rows of the strip that lie in the maps, counted from its first.
    pub(crate) fn inside(&self) -> Range<usize> {
        self.inside.clone()
    }

    /// The first of each [`STRIP_ROWS`] rows of which some lie in the maps.
    pub(crate) fn groups(&self) -> impl Iterator<Item = usize> + use<> {
        let inside = self.inside.clone();
        let first = inside.start / STRIP_ROWS * STRIP_ROWS;
        (first..inside.end).step_by(STRIP_ROWS)
    }

    /// Where the first pixel lies in another strip.
    ///
    /// # Panics
    /// When a kernel that reads `reach_px` pixels on each side for a pixel of this strip would not find
    /// them in the other.
    pub(crate) fn offset_in(&self, read: &Self, reach_px: usize) -> Offset {
        let rooms = [self.room, read.room].map(|room| Room {
            rows_above: 0,
            ..room
        });
        assert_eq!(rooms[0], rooms[1], "room of output and input");
        let (columns, reads) = (self.columns(), read.columns());
        assert!(
            columns.start <= reads.start
                && reads.start - columns.start + reach_px <= self.room.left_px()
                && columns.end <= reads.end,
            "columns {columns:?}, {reach_px} on each side, of {reads:?} in {:?}",
            self.room
        );
        let (rows, reach) = (self.first_row - read.first_row, reach_px as isize);
        assert!(
            rows + reach <= 0 && reach - rows <= read.room.rows_above as isize,
            "rows from {} on, {reach_px} on each side, of those from {} on in {:?}",
            self.first_row,
            read.first_row,
            read.room
        );
        Offset {
            rows,
            px: columns.start as isize - reads.start as isize,
        }
    }

    /// The pixel at (`y`, `x`) of the strip: of the rows above, the margin and [`BORDER_PX`] pixels to the
    /// right too.
    pub(crate) fn pixel(&self, channel: usize, y: isize, x: isize) -> f32 {
        as_floats(&self.lines)[self.index(channel, y, x)]
    }

    /// Where the pixel at (`y`, `x`) of the strip's first channel lies, of the rows above and the margin too,
    /// and everything behind it.
    pub(crate) fn at(&self, y: isize, x: isize) -> *const f32 {
        as_floats(&self.lines)[self.index(0, y, x)..].as_ptr()
    }

    /// The first pixel of the first channel of [`STRIP_ROWS`] rows from `first` on, to write.
    pub(crate) fn rows_mut(&mut self, first: usize) -> [*mut f32; STRIP_ROWS] {
        let row_len = self.channels * self.plane_len;
        let start = self.index(0, first as isize, 0);
        let first = as_floats_mut(&mut self.lines)[start..].as_mut_ptr();
        std::array::from_fn(|y| first.wrapping_add(y * row_len))
    }

    /// Makes the border to the right and the rows outside the maps zero again, after a kernel wrote all
    /// pixels and up to [`STRIP_OVERSHOOT`] floats behind each row.
    pub(crate) fn clear_border(&mut self) {
        let (inside, row_len) = (self.inside.clone(), self.channels * self.plane_len);
        let (end, plane_len) = (self.room.origin() + self.width_px, self.plane_len);
        let above_len = self.above_len();
        let floats = &mut as_floats_mut(&mut self.lines)[above_len..];
        floats[..inside.start * row_len].fill(0.0);
        floats[inside.end * row_len..].fill(0.0);
        let floats = &mut floats[inside.start * row_len..inside.end * row_len];
        for plane in floats.chunks_exact_mut(plane_len) {
            plane[end..end + BORDER_PX].fill(0.0);
        }
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
