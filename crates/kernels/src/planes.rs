//! Channel planes with a zero border: the layout all kernels share.

/// Zero pixels kept around every plane: the reach of the largest kernel, 5x5.
pub const BORDER_PX: usize = 2;

/// Floats behind the last pixel that a kernel may write in its last vector group.
pub(crate) const OVERSHOOT: usize = 48;

/// Where the pixels of a plane lie.
///
/// Rows follow each other with `BORDER_PX` zeros between them, which serve as the right border
/// of one row and the left border of the next. So a plane is one flat run of pixels, a
/// neighbour (dy, dx) is always `dy * stride + dx` floats away, and a kernel need not know where
/// rows end: what it computes in the border it clears afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Pixels in a row.
    pub width_px: usize,
    /// Rows.
    pub height_px: usize,
    /// Floats from a pixel to the one below it.
    pub stride: usize,
    /// Index of the first pixel in its plane, a multiple of a cache line.
    pub origin: usize,
    /// Floats from a plane to the next: an odd number of cache lines, so that the same pixel of
    /// neighbouring channels never falls into the same set of the cache.
    pub plane_len: usize,
}

/// Floats in a cache line.
pub(crate) const LINE: usize = 16;

impl Geometry {
    /// Layout of a plane of `width_px` x `height_px` pixels.
    ///
    /// # Panics
    /// When a side is 0.
    pub fn new(width_px: usize, height_px: usize) -> Self {
        assert!(
            width_px > 0 && height_px > 0,
            "empty plane: {width_px} x {height_px} pixels"
        );
        let stride = width_px + BORDER_PX;
        let origin = (BORDER_PX * stride + BORDER_PX).next_multiple_of(LINE);
        let end = origin + height_px * stride + BORDER_PX * stride + BORDER_PX + OVERSHOOT;
        let plane_len = (end.div_ceil(LINE) | 1) * LINE;
        Self {
            width_px,
            height_px,
            stride,
            origin,
            plane_len,
        }
    }

    /// Floats from the first pixel to the last, borders between rows included.
    pub(crate) fn run_len(&self) -> usize {
        (self.height_px - 1) * self.stride + self.width_px
    }
}

/// A cache line: buffers are made of them to be aligned.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([f32; LINE]);

impl Line {
    pub(crate) const ZERO: Line = Line([0.0; LINE]);
}

pub(crate) fn as_floats(lines: &[Line]) -> &[f32] {
    // SAFETY: `Line` is 16 floats without padding (repr(C), 64 bytes), all initialised.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast::<f32>(), lines.len() * LINE) }
}

pub(crate) fn as_floats_mut(lines: &mut [Line]) -> &mut [f32] {
    // SAFETY: as in `as_floats`; the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<f32>(), lines.len() * LINE) }
}

/// Feature maps: `channels` planes of `f32`, each with a border of zeros.
///
/// Reading beyond an image's edge by up to [`BORDER_PX`] yields zeros: the zero padding of the
/// convolutions. All safe methods and kernels keep the border zero.
#[derive(Clone)]
pub struct Planes {
    geometry: Geometry,
    channels: usize,
    lines: Vec<Line>,
}

impl Planes {
    /// `channels` planes of zeros.
    ///
    /// # Panics
    /// When a side is 0.
    pub fn zeros(channels: usize, width_px: usize, height_px: usize) -> Self {
        let geometry = Geometry::new(width_px, height_px);
        let lines = vec![Line::ZERO; channels * geometry.plane_len / LINE];
        Self {
            geometry,
            channels,
            lines,
        }
    }

    /// Makes this a buffer of another size, with zeros in border and pixels, keeping its memory
    /// where it is large enough.
    pub fn resize(&mut self, channels: usize, width_px: usize, height_px: usize) {
        let geometry = Geometry::new(width_px, height_px);
        if geometry == self.geometry && channels == self.channels {
            return;
        }
        self.geometry = geometry;
        self.channels = channels;
        self.lines.clear();
        self.lines
            .resize(channels * geometry.plane_len / LINE, Line::ZERO);
    }

    /// Planes.
    pub fn channels(&self) -> usize {
        self.channels
    }
    /// Pixels in a row.
    pub fn width_px(&self) -> usize {
        self.geometry.width_px
    }
    /// Rows.
    pub fn height_px(&self) -> usize {
        self.geometry.height_px
    }
    /// Layout of each plane.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// One row of pixels.
    ///
    /// # Panics
    /// When channel or row is out of range.
    pub fn row(&self, channel: usize, y: usize) -> &[f32] {
        let start = self.row_start(channel, y);
        let width_px = self.geometry.width_px;
        &self.as_slice()[start..start + width_px]
    }

    /// One row of pixels, to write.
    ///
    /// # Panics
    /// When channel or row is out of range.
    pub fn row_mut(&mut self, channel: usize, y: usize) -> &mut [f32] {
        let start = self.row_start(channel, y);
        let width_px = self.geometry.width_px;
        &mut self.as_mut_slice()[start..start + width_px]
    }

    fn row_start(&self, channel: usize, y: usize) -> usize {
        assert!(
            channel < self.channels && y < self.geometry.height_px,
            "row {y} of channel {channel} asked of {} channels of {} rows",
            self.channels,
            self.geometry.height_px
        );
        channel * self.geometry.plane_len + self.geometry.origin + y * self.geometry.stride
    }

    /// All floats, borders included; plane `c` starts at `c * geometry().plane_len`.
    pub fn as_slice(&self) -> &[f32] {
        as_floats(&self.lines)
    }

    /// All floats, for whole-buffer arithmetic that maps zero to zero in the border (scaling,
    /// adding other planes of the same geometry).
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        as_floats_mut(&mut self.lines)
    }

    /// Sets everything to zero.
    pub fn clear(&mut self) {
        self.as_mut_slice().fill(0.0);
    }

    /// Makes the border zero again after a kernel wrote the flat run of pixels and up to
    /// `OVERSHOOT` floats behind it.
    pub(crate) fn clear_border(&mut self, channel: usize) {
        let g = self.geometry;
        let start = channel * g.plane_len + g.origin;
        let plane = &mut self.as_mut_slice()[start..start + g.run_len() + OVERSHOOT];
        for y in 0..g.height_px - 1 {
            let end = y * g.stride + g.width_px;
            plane[end..end + BORDER_PX].fill(0.0);
        }
        plane[g.run_len()..].fill(0.0);
    }

    /// Copies pixels in from channel-major, row-major values (`channels * height * width`).
    ///
    /// # Panics
    /// When the length differs.
    pub fn copy_from_chw(&mut self, values: &[f32]) {
        let (width, height) = (self.width_px(), self.height_px());
        assert_eq!(
            values.len(),
            self.channels * width * height,
            "values for the planes"
        );
        for (index, row) in values.chunks_exact(width).enumerate() {
            self.row_mut(index / height, index % height)
                .copy_from_slice(row);
        }
    }

    /// The pixels as channel-major, row-major values (`channels * height * width`).
    pub fn to_chw(&self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.channels * self.width_px() * self.height_px());
        for channel in 0..self.channels {
            for y in 0..self.height_px() {
                values.extend_from_slice(self.row(channel, y));
            }
        }
        values
    }
}

/// `sum = scale * sum + term`, pixel by pixel.
///
/// # Panics
/// When the shapes differ.
pub fn add_scaled(sum: &mut Planes, scale: f32, term: &Planes) {
    assert_eq!(sum.geometry(), term.geometry(), "planes of a sum");
    assert_eq!(sum.channels(), term.channels(), "planes of a sum");
    for (sum, term) in sum.as_mut_slice().iter_mut().zip(term.as_slice()) {
        *sum = scale * *sum + term;
    }
}
