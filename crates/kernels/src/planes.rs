//! Channel planes with a zero border: whole feature maps, for training.

use crate::aligned::{AlignedBuffer, LINE, MAX_FLOATS};

/// Zero pixels around every plane: the reach of the largest kernel, 5x5.
pub const BORDER_PX: usize = 2;

/// Floats behind the last pixel that a kernel may write with its last group of pixels.
pub(crate) const OVERSHOOT: usize = 48;

/// The layout of a plane.
///
/// Rows follow each other with `BORDER_PX` zeros between them, which serve as the right border
/// of one row and the left border of the next. So a plane is one flat run of pixels, a
/// neighbour (dy, dx) is always `dy * stride + dx` floats away, and a kernel need not know where
/// rows end: it clears the border afterwards.
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

impl Geometry {
    /// Layout of a plane of `width_px` x `height_px` pixels.
    ///
    /// # Panics
    /// If a side is 0, or the plane exceeds the address space.
    pub fn new(width_px: usize, height_px: usize) -> Self {
        assert!(
            width_px > 0 && height_px > 0,
            "empty plane: {width_px} x {height_px} pixels"
        );
        Self::checked(width_px, height_px).unwrap_or_else(|| {
            panic!("plane of {width_px} x {height_px} pixels exceeds the address space")
        })
    }

    /// None if the plane exceeds the address space.
    fn checked(width_px: usize, height_px: usize) -> Option<Self> {
        let stride = width_px.checked_add(BORDER_PX)?;
        let border = stride.checked_mul(BORDER_PX)?.checked_add(BORDER_PX)?;
        let origin = border.checked_next_multiple_of(LINE)?;
        let rows = height_px.checked_mul(stride)?;
        let end = origin
            .checked_add(rows)?
            .checked_add(border)?
            .checked_add(OVERSHOOT)?;
        let plane_len = (end.div_ceil(LINE) | 1).checked_mul(LINE)?;
        (plane_len <= MAX_FLOATS).then_some(Self {
            width_px,
            height_px,
            stride,
            origin,
            plane_len,
        })
    }

    /// Floats from the first pixel to the last, borders between rows included.
    pub(crate) fn run_len(&self) -> usize {
        (self.height_px - 1) * self.stride + self.width_px
    }

    /// Floats of so many planes.
    ///
    /// # Panics
    /// If they exceed the address space.
    fn len_of(&self, channels: usize) -> usize {
        let len = channels.checked_mul(self.plane_len);
        len.filter(|len| *len <= MAX_FLOATS).unwrap_or_else(|| {
            panic!(
                "{channels} planes of {} x {} pixels exceed the address space",
                self.width_px, self.height_px
            )
        })
    }
}

/// Feature maps: `channels` planes of `f32`, each with a border of zeros.
///
/// Reading up to [`BORDER_PX`] beyond an image's edge yields zeros: the zero padding of the
/// convolutions. All safe methods and kernels keep the border zero.
#[derive(Clone)]
pub struct Planes {
    geometry: Geometry,
    channels: usize,
    /// `channels` planes of `geometry.plane_len` floats.
    buffer: AlignedBuffer,
}

impl Planes {
    /// `channels` planes of zeros.
    ///
    /// # Panics
    /// If a side is 0, or the planes exceed the address space.
    pub fn zeros(channels: usize, width_px: usize, height_px: usize) -> Self {
        let geometry = Geometry::new(width_px, height_px);
        Self {
            geometry,
            channels,
            buffer: AlignedBuffer::zeros(geometry.len_of(channels)),
        }
    }

    /// Changes the size if it differs; then all pixels are zero. Keeps the memory if it is large
    /// enough.
    ///
    /// # Panics
    /// If a side is 0, or the planes exceed the address space.
    pub fn resize(&mut self, channels: usize, width_px: usize, height_px: usize) {
        let geometry = Geometry::new(width_px, height_px);
        if geometry == self.geometry && channels == self.channels {
            return;
        }
        self.buffer.reset(geometry.len_of(channels));
        self.geometry = geometry;
        self.channels = channels;
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
    /// If channel or row is out of range.
    pub fn row(&self, channel: usize, y: usize) -> &[f32] {
        let start = self.row_start(channel, y);
        let width_px = self.geometry.width_px;
        &self.as_slice()[start..start + width_px]
    }

    /// One row of pixels, to write.
    ///
    /// # Panics
    /// If channel or row is out of range.
    pub fn row_mut(&mut self, channel: usize, y: usize) -> &mut [f32] {
        let start = self.row_start(channel, y);
        let width_px = self.geometry.width_px;
        &mut self.as_mut_slice()[start..start + width_px]
    }

    fn row_start(&self, channel: usize, y: usize) -> usize {
        assert!(
            channel < self.channels && y < self.geometry.height_px,
            "row {y} of channel {channel}, expected one of {} channels of {} rows",
            self.channels,
            self.geometry.height_px
        );
        channel * self.geometry.plane_len + self.geometry.origin + y * self.geometry.stride
    }

    /// All floats, borders included; plane `c` starts at `c * geometry().plane_len`.
    pub fn as_slice(&self) -> &[f32] {
        self.buffer.as_slice()
    }

    /// All floats, for whole-buffer arithmetic that maps zero to zero in the border (scaling,
    /// adding other planes of the same geometry).
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        self.buffer.as_mut_slice()
    }

    /// Sets everything to zero.
    pub fn clear(&mut self) {
        self.as_mut_slice().fill(0.0);
    }

    /// Makes the border zero again after a kernel wrote the flat run of pixels and up to
    /// `OVERSHOOT` floats behind it.
    pub(crate) fn clear_border(&mut self) {
        let g = self.geometry;
        for plane in self.as_mut_slice().chunks_exact_mut(g.plane_len) {
            let plane = &mut plane[g.origin..g.origin + g.run_len() + OVERSHOOT];
            for y in 0..g.height_px - 1 {
                let end = y * g.stride + g.width_px;
                plane[end..end + BORDER_PX].fill(0.0);
            }
            plane[g.run_len()..].fill(0.0);
        }
    }

    /// Copies pixels from channel-major, row-major values (`channels * height * width`).
    ///
    /// # Panics
    /// If the length differs.
    pub fn copy_from_chw(&mut self, values: &[f32]) {
        let (width, height) = (self.width_px(), self.height_px());
        assert_eq!(
            values.len(),
            self.channels * width * height,
            "values for {} planes of {width} x {height} pixels",
            self.channels
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
/// If the shapes differ.
pub fn add_scaled(sum: &mut Planes, scale: f32, term: &Planes) {
    assert_eq!(sum.geometry(), term.geometry(), "planes of a sum");
    assert_eq!(sum.channels(), term.channels(), "planes of a sum");
    for (sum, term) in sum.as_mut_slice().iter_mut().zip(term.as_slice()) {
        *sum = scale * *sum + term;
    }
}
