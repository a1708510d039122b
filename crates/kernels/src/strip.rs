//! Strips: the rows of feature maps that inference keeps at a time.

use std::ops::Range;

use crate::aligned::{AlignedBuffer, LINE, MAX_FLOATS};
use crate::int8::BYTES_PER_LANE;
use crate::planes::BORDER_PX;

/// Rows that one Winograd transform computes. A strip has a multiple of it and lies at fixed places
/// of its maps, so that a transform always covers the same rows, however an image is computed.
pub const STRIP_ROWS: usize = 4;

/// Floats behind the last pixel of a row. The first [`BORDER_PX`] are zero; into the others kernels
/// write what their last group of pixels computes beyond the row.
pub(crate) const STRIP_OVERSHOOT: usize = 48;

/// The order of a strip's numbers in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum StripFormat {
    /// `[row][channel][pixel]` in f32: a plane for each channel.
    #[default]
    Planes,
    /// `[row][pixel][channel]` in f32, the channels filled up with zeros to a multiple
    /// of 32.
    Pixels,
    /// As `Pixels`, rounded to bf16.
    Bf16Pixels,
    /// `[row][channels of a lane][pixel]` in bytes: as `Planes`, four channels in the place of a float. What is outside the maps
    /// is 0.
    UnsignedBytes,
    /// The same with 128 for a value of 0, which is outside the maps.
    SignedBytes,
}

/// Channels of a pixel that a tile of 64 bytes per row holds in bf16.
pub(crate) const BLOCK_CHANNELS: usize = 32;

impl StripFormat {
    /// Planes of a row, and floats or pairs of bf16 of a pixel in a plane.
    fn planes_and_pixel_len(self, channels: usize) -> (usize, usize) {
        match self {
            Self::Planes => (channels, 1),
            Self::Pixels => (1, channels.next_multiple_of(BLOCK_CHANNELS)),
            Self::Bf16Pixels => (1, channels.next_multiple_of(BLOCK_CHANNELS) / 2),
            Self::UnsignedBytes | Self::SignedBytes => (channels.div_ceil(BYTES_PER_LANE), 1),
        }
    }

    /// What lies outside the maps.
    fn outside(self) -> f32 {
        match self {
            Self::SignedBytes => f32::from_bits(0x8080_8080),
            _ => 0.0,
        }
    }
}

/// The memory layout of a strip. The strips that a kernel reads and writes have the same, except
/// for `rows_above` and `format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StripLayout {
    /// Largest width of a strip in pixels.
    pub width_px: usize,
    /// Largest left margin in pixels.
    pub margin_px: usize,
    /// Rows, a multiple of [`STRIP_ROWS`].
    pub rows: usize,
    /// Rows kept above the strip's own.
    pub rows_above: usize,
    /// Order of the numbers.
    pub format: StripFormat,
}

impl StripLayout {
    /// Pixels left of a row that a kernel may read.
    fn left_px(self) -> usize {
        self.margin_px.max(BORDER_PX)
    }

    /// Pixels in front of the first one.
    fn origin(self) -> usize {
        self.left_px().next_multiple_of(LINE)
    }

    /// Pixels of a plane: of f32, an odd number of cache lines, for the reason
    /// given at [`Geometry::plane_len`](crate::Geometry::plane_len).
    fn plane_len(self) -> Option<usize> {
        let origin = self.left_px().checked_next_multiple_of(LINE)?;
        let end = origin
            .checked_add(self.width_px)?
            .checked_add(STRIP_OVERSHOOT)?;
        (end.div_ceil(LINE) | 1).checked_mul(LINE)
    }

    /// Floats of a plane and of a strip.
    ///
    /// # Panics
    /// If they exceed the address space.
    fn lengths(self, channels: usize) -> (usize, usize) {
        self.checked_lengths(channels).unwrap_or_else(|| {
            panic!("strip of {channels} channels in {self:?} exceeds the address space")
        })
    }

    fn checked_lengths(self, channels: usize) -> Option<(usize, usize)> {
        channels.checked_next_multiple_of(BLOCK_CHANNELS)?;
        let (planes, pixel_len) = self.format.planes_and_pixel_len(channels);
        let plane_len = self.plane_len()?.checked_mul(pixel_len)?;
        let rows = self.rows_above.checked_add(self.rows)?;
        let len = rows.checked_mul(planes)?.checked_mul(plane_len)?;
        (len <= MAX_FLOATS).then_some((plane_len, len))
    }

    /// # Panics
    /// If the margin is larger than the layout's.
    fn check_margin(self, margin_px: usize) {
        assert!(
            margin_px <= self.left_px(),
            "margin of {margin_px} pixels in {self:?}"
        );
    }
}

/// Some rows of some columns of `channels` feature maps, and the rows above them.
///
/// What lies outside the maps is zero: rows above the first or below the last, and columns to the
/// right. Left of the strip are zeros or the pixels that [`Strip::set_left_margin`] has written;
/// above it are those that [`Strip::set_rows_above`] has written.
#[derive(Clone)]
pub struct Strip {
    channels: usize,
    /// The column of the maps that it begins at.
    first_px: usize,
    /// At most `layout.width_px`.
    width_px: usize,
    /// The row of the maps that it begins at, which may lie above them.
    first_row: isize,
    /// Its rows that lie in the maps.
    inside: Range<usize>,
    layout: StripLayout,
    /// Planes of a row: `channels` if the format has planes, those of lanes if it has bytes, else 1.
    planes: usize,
    /// Floats of a pixel in a plane.
    pixel_len: usize,
    /// Floats from a plane to the next.
    plane_len: usize,
    /// `[rows_above + rows][planes][plane_len]`
    buffer: AlignedBuffer,
}

/// The place of a strip's first pixel in another strip, relative to that one's first pixel.
#[derive(Clone, Copy)]
pub(crate) struct Offset {
    pub(crate) rows: isize,
    pub(crate) px: isize,
}

impl Offset {
    pub(crate) const ZERO: Self = Self { rows: 0, px: 0 };
}

impl Strip {
    /// A strip of zeros (bytes of 0), placed at the first rows of maps of its width.
    ///
    /// # Panics
    /// If there are no channels, if the rows are not a multiple of [`STRIP_ROWS`], or if the strip
    /// exceeds the address space.
    pub fn new(channels: usize, layout: StripLayout) -> Self {
        assert_ne!(channels, 0, "channels of a strip");
        assert!(
            layout.rows > 0 && layout.rows.is_multiple_of(STRIP_ROWS),
            "strip of {} rows, expected a multiple of {STRIP_ROWS}",
            layout.rows
        );
        let (plane_len, len) = layout.lengths(channels);
        let (planes, pixel_len) = layout.format.planes_and_pixel_len(channels);
        let mut buffer = AlignedBuffer::zeros(len);
        let outside = layout.format.outside();
        if outside != 0.0 {
            buffer.as_mut_slice().fill(outside);
        }
        Self {
            channels,
            first_px: 0,
            width_px: layout.width_px,
            first_row: 0,
            inside: 0..layout.rows,
            layout,
            planes,
            pixel_len,
            plane_len,
            buffer,
        }
    }

    /// Memory of a strip in bytes.
    ///
    /// # Panics
    /// If it exceeds the address space.
    pub fn memory_bytes(channels: usize, layout: StripLayout) -> usize {
        layout.lengths(channels).1 * size_of::<f32>()
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

    /// Its memory layout.
    pub fn layout(&self) -> StripLayout {
        self.layout
    }

    /// Moves it to the given columns and to the rows from `first_row` on of maps of `height_px`
    /// rows. Its pixels are to be written next; what lies outside the maps becomes zero.
    ///
    /// # Panics
    /// If the columns are more than the layout's.
    pub fn place(&mut self, columns: Range<usize>, first_row: isize, height_px: usize) {
        assert!(
            columns.len() <= self.layout.width_px,
            "columns {columns:?} in {:?}",
            self.layout
        );
        let rows = self.layout.rows as isize;
        let inside = |row: isize| row.saturating_sub(first_row).clamp(0, rows) as usize;
        let height_px = isize::try_from(height_px).unwrap_or(isize::MAX);
        (self.first_px, self.width_px) = (columns.start, columns.len());
        self.inside = inside(0)..inside(height_px);
        self.first_row = first_row;
        self.clear_border();
    }

    /// Writes the pixels left of the strip: `margin_px` of each row as copied by
    /// [`Strip::copy_right_margin`], or zeros.
    ///
    /// # Panics
    /// If the number of pixels differs, or `margin_px` is larger than the layout's margin.
    pub fn set_left_margin(&mut self, margin_px: usize, pixels: Option<&[f32]>) {
        self.layout.check_margin(margin_px);
        let (origin, plane_len) = (self.layout.origin() * self.pixel_len, self.plane_len);
        let (above, planes) = (self.above_len(), self.layout.rows * self.planes);
        let margin = margin_px * self.pixel_len;
        let outside = self.layout.format.outside();
        let floats = &mut self.buffer.as_mut_slice()[above..];
        let margins = floats.chunks_exact_mut(plane_len);
        match pixels {
            None => margins.for_each(|plane| plane[..origin].fill(outside)),
            Some(pixels) => {
                assert_eq!(pixels.len(), planes * margin, "pixels of the margin");
                for (row, plane) in margins.enumerate() {
                    plane[origin - margin..origin]
                        .copy_from_slice(&pixels[row * margin..][..margin]);
                }
            }
        }
    }

    /// Copies the last `margin_px` pixels of each row to `pixels`: the left margin of the strip to
    /// the right. If the strip is narrower, some of them are of its own margin.
    ///
    /// # Panics
    /// If `margin_px` is larger than the layout's margin.
    pub fn copy_right_margin(&self, margin_px: usize, pixels: &mut Vec<f32>) {
        self.layout.check_margin(margin_px);
        let end = (self.layout.origin() + self.width_px) * self.pixel_len;
        let margin = margin_px * self.pixel_len;
        pixels.clear();
        pixels.reserve_exact(self.layout.rows * self.planes * margin);
        let floats = &self.buffer.as_slice()[self.above_len()..];
        for plane in floats.chunks_exact(self.plane_len) {
            pixels.extend_from_slice(&plane[end - margin..end]);
        }
    }

    /// Writes the rows above the strip: as copied by [`Strip::copy_last_rows`] from the strip
    /// above, or zeros.
    ///
    /// # Panics
    /// If they are those of a strip of another shape.
    pub fn set_rows_above(&mut self, rows: Option<&[f32]>) {
        let (above_len, outside) = (self.above_len(), self.layout.format.outside());
        let above = &mut self.buffer.as_mut_slice()[..above_len];
        match rows {
            None => above.fill(outside),
            Some(rows) => {
                assert_eq!(rows.len(), above_len, "pixels of the rows above");
                above.copy_from_slice(rows);
            }
        }
    }

    /// Copies the last rows, margins included, to `rows`: the rows above the strip below.
    pub fn copy_last_rows(&self, rows: &mut Vec<f32>) {
        let floats = self.buffer.as_slice();
        let above_len = self.above_len();
        rows.clear();
        rows.reserve_exact(above_len);
        rows.extend_from_slice(&floats[floats.len() - above_len..]);
    }

    /// Floats of the rows above.
    fn above_len(&self) -> usize {
        self.layout.rows_above * self.planes * self.plane_len
    }

    /// Row `y` of the maps.
    ///
    /// # Panics
    /// If the strip does not hold it, the channel is out of range, or the format has no planes.
    pub fn row(&self, channel: usize, y: usize) -> &[f32] {
        let start = self.row_start(channel, y);
        &self.buffer.as_slice()[start..start + self.width_px]
    }

    /// Row `y` of the maps, to write.
    ///
    /// # Panics
    /// If the strip does not hold it, the channel is out of range, or the format has no planes.
    pub fn row_mut(&mut self, channel: usize, y: usize) -> &mut [f32] {
        let start = self.row_start(channel, y);
        let width_px = self.width_px;
        &mut self.buffer.as_mut_slice()[start..start + width_px]
    }

    fn row_start(&self, channel: usize, y: usize) -> usize {
        self.check_format(&[StripFormat::Planes]);
        assert!(
            channel < self.channels && self.rows().contains(&y),
            "row {y} of channel {channel}, expected one of {} channels of rows {:?}",
            self.channels,
            self.rows()
        );
        self.index(channel, y as isize - self.first_row, 0)
    }

    /// The first float of the pixel at (`y`, `x`) of the strip.
    fn index(&self, plane: usize, y: isize, x: isize) -> usize {
        let row = self.layout.rows_above.wrapping_add_signed(y);
        let x = self.layout.origin().wrapping_add_signed(x);
        (row * self.planes + plane) * self.plane_len + x * self.pixel_len
    }

    /// # Panics
    /// If its format is none of these.
    pub(crate) fn check_format(&self, expected: &[StripFormat]) {
        let found = self.layout.format;
        assert!(
            expected.contains(&found),
            "strip of {found:?}, expected {expected:?}"
        );
    }

    /// Floats, or pairs of bf16, from a pixel to the next, if the format has pixels.
    pub(crate) fn pixel_len(&self) -> usize {
        self.pixel_len
    }

    /// The pixel at (`y`, `x`) of the strip and everything behind it, if the format has pixels: also
    /// of the rows above, the margin, and up to [`STRIP_OVERSHOOT`] pixels to the right.
    pub(crate) fn pixels(&self, y: isize, x: isize) -> &[f32] {
        &self.buffer.as_slice()[self.index(0, y, x)..]
    }

    /// Row `y` of the strip, if the format has pixels, to write it.
    pub(crate) fn row_of_pixels_mut(&mut self, y: usize) -> &mut [f32] {
        let start = self.index(0, y as isize, 0);
        let len = self.width_px * self.pixel_len;
        &mut self.buffer.as_mut_slice()[start..start + len]
    }

    /// `len` pixels of a channel from (`y`, `x`) of the strip on, if the format has planes: also of the rows above and
    /// the margin.
    pub(crate) fn plane(&self, channel: usize, y: isize, x: isize, len: usize) -> &[f32] {
        let start = self.index(channel, y, x);
        &self.buffer.as_slice()[start..start + len]
    }

    /// `len` pixels of a channel from (`y`, `x`) of the strip on, if the format has planes, to write them.
    pub(crate) fn plane_mut(
        &mut self,
        channel: usize,
        y: usize,
        x: usize,
        len: usize,
    ) -> &mut [f32] {
        let start = self.index(channel, y as isize, x as isize);
        &mut self.buffer.as_mut_slice()[start..start + len]
    }

    /// Floats from a channel to the next.
    pub(crate) fn plane_len(&self) -> usize {
        self.plane_len
    }

    /// The rows of the strip that lie in the maps, counted from its first.
    pub(crate) fn inside(&self) -> Range<usize> {
        self.inside.clone()
    }

    /// The first row of each [`STRIP_ROWS`] rows of which some lie in the maps.
    pub(crate) fn groups(&self) -> impl Iterator<Item = usize> + use<> {
        let inside = self.inside.clone();
        let first = inside.start / STRIP_ROWS * STRIP_ROWS;
        (first..inside.end).step_by(STRIP_ROWS)
    }

    /// The place of the first pixel in another strip of the same layout.
    ///
    /// For each pixel of this strip's rows, the other one then holds the pixels up to `reach_px` on
    /// each side, in a row or a border that is followed by [`STRIP_OVERSHOOT`] floats.
    ///
    /// # Panics
    /// If the other strip does not hold them.
    pub(crate) fn offset_in(&self, other: &Self, reach_px: usize) -> Offset {
        let layouts = [self.layout, other.layout].map(|layout| StripLayout {
            rows_above: 0,
            format: StripFormat::Planes,
            ..layout
        });
        assert_eq!(layouts[0], layouts[1], "layout of output and input");
        let (columns, others) = (self.columns(), other.columns());
        let left = others.start.checked_sub(columns.start);
        assert!(
            reach_px <= BORDER_PX
                && left.is_some_and(|left| left <= self.layout.left_px() - reach_px)
                && columns.end <= others.end,
            "columns {columns:?} and {reach_px} on each side are not in {others:?} of {:?}",
            self.layout
        );
        let above = other.first_row.checked_sub(self.first_row);
        let above = above.and_then(|above| usize::try_from(above).ok());
        assert!(
            above.is_some_and(|above| {
                above >= reach_px
                    && above
                        .checked_add(reach_px)
                        .is_some_and(|rows| rows <= other.layout.rows_above)
            }),
            "rows from {} on and {reach_px} on each side are not in those from {} on in {:?}",
            self.first_row,
            other.first_row,
            other.layout
        );
        Offset {
            rows: self.first_row - other.first_row,
            px: -(left.unwrap_or(0) as isize),
        }
    }

    /// The pixel at (`y`, `x`) of the strip: also of the rows above, the margin and [`BORDER_PX`]
    /// pixels to the right.
    pub(crate) fn pixel(&self, channel: usize, y: isize, x: isize) -> f32 {
        self.check_format(&[StripFormat::Planes]);
        self.buffer.as_slice()[self.index(channel, y, x)]
    }

    /// The pixel at (`y`, `x`) of the maps: also of the rows above and the left margin.
    ///
    /// # Panics
    /// If the strip does not hold it.
    pub(crate) fn pixel_of_maps(&self, channel: usize, y: usize, x: usize) -> f32 {
        let row = (y as isize).wrapping_sub(self.first_row);
        let column = (x as isize).wrapping_sub_unsigned(self.first_px);
        let (above, left) = (
            self.layout.rows_above as isize,
            self.layout.left_px() as isize,
        );
        assert!(
            channel < self.channels
                && (-above..self.layout.rows as isize).contains(&row)
                && (-left..self.width_px as isize).contains(&column),
            "pixel ({y}, {x}) of channel {channel}, expected rows {:?}, columns {:?} or before them",
            self.rows(),
            self.columns()
        );
        self.pixel(channel, row, column)
    }

    /// The byte of a channel at (`y`, `x`) of the strip, if the format has bytes: also of the rows above, the margin and
    /// [`BORDER_PX`] pixels to the right.
    pub(crate) fn byte(&self, channel: usize, y: isize, x: isize) -> u8 {
        self.check_format(&[StripFormat::UnsignedBytes, StripFormat::SignedBytes]);
        let lane = self.buffer.as_slice()[self.index(channel / BYTES_PER_LANE, y, x)];
        lane.to_bits().to_le_bytes()[channel % BYTES_PER_LANE]
    }

    /// Writes the byte of a channel at (`y`, `x`) of the strip, if the format has bytes.
    pub(crate) fn set_byte(&mut self, channel: usize, y: usize, x: usize, byte: u8) {
        self.check_format(&[StripFormat::UnsignedBytes, StripFormat::SignedBytes]);
        let index = self.index(channel / BYTES_PER_LANE, y as isize, x as isize);
        let lane = &mut self.buffer.as_mut_slice()[index];
        let mut bytes = lane.to_bits().to_le_bytes();
        bytes[channel % BYTES_PER_LANE] = byte;
        *lane = f32::from_bits(u32::from_le_bytes(bytes));
    }

    /// [`Strip::at`] of a strip of bytes: the lane of the first channels.
    pub(crate) fn lanes(&self, y: isize, x: isize) -> *const f32 {
        self.check_format(&[StripFormat::UnsignedBytes, StripFormat::SignedBytes]);
        self.buffer.as_slice()[self.index(0, y, x)..].as_ptr()
    }

    /// [`Strip::at_mut`] of a strip of planes or bytes.
    pub(crate) fn lanes_mut(&mut self, y: usize) -> *mut f32 {
        self.check_format(&[
            StripFormat::Planes,
            StripFormat::UnsignedBytes,
            StripFormat::SignedBytes,
        ]);
        let start = self.index(0, y as isize, 0);
        self.buffer.as_mut_slice()[start..].as_mut_ptr()
    }

    /// The address of the pixel at (`y`, `x`) of the strip's first channel: also of the rows above
    /// and the margin. It may be used for everything behind it.
    ///
    /// # Panics
    /// If it lies outside the strip's memory, or the format has no planes.
    pub(crate) fn at(&self, y: isize, x: isize) -> *const f32 {
        self.check_format(&[StripFormat::Planes]);
        self.buffer.as_slice()[self.index(0, y, x)..].as_ptr()
    }

    /// The first pixel of the first channel of row `y`, to write it and everything behind it.
    ///
    /// # Panics
    /// If the strip has no such row, or the format has no planes.
    pub(crate) fn at_mut(&mut self, y: usize) -> *mut f32 {
        self.check_format(&[StripFormat::Planes]);
        let start = self.index(0, y as isize, 0);
        self.buffer.as_mut_slice()[start..].as_mut_ptr()
    }

    /// [`Strip::at_mut`] of [`STRIP_ROWS`] rows from `first` on.
    pub(crate) fn rows_mut(&mut self, first: usize) -> [*mut f32; STRIP_ROWS] {
        let row_len = self.channels * self.plane_len;
        let first = self.at_mut(first);
        std::array::from_fn(|y| first.wrapping_add(y * row_len))
    }

    /// Makes zero again what lies outside the maps, after a kernel wrote all pixels and up to
    /// [`STRIP_OVERSHOOT`] floats behind each row.
    pub(crate) fn clear_border(&mut self) {
        let (inside, row_len) = (self.inside.clone(), self.planes * self.plane_len);
        let (end, border) = (
            (self.layout.origin() + self.width_px) * self.pixel_len,
            BORDER_PX * self.pixel_len,
        );
        let plane_len = self.plane_len;
        let above_len = self.above_len();
        let outside = self.layout.format.outside();
        let floats = &mut self.buffer.as_mut_slice()[above_len..];
        floats[..inside.start * row_len].fill(outside);
        floats[inside.end * row_len..].fill(outside);
        let floats = &mut floats[inside.start * row_len..inside.end * row_len];
        for plane in floats.chunks_exact_mut(plane_len) {
            plane[end..end + border].fill(outside);
        }
    }
}
