//! Buffers of floats that begin on a cache line.

/// Floats in a cache line.
pub(crate) const LINE: usize = 16;

/// Floats of the largest buffer that Rust can allocate.
pub(crate) const MAX_FLOATS: usize = isize::MAX as usize / size_of::<f32>();

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

impl Line {
    const ZERO: Line = Line([0.0; LINE]);
}

/// A buffer of whole cache lines.
#[derive(Clone, Default)]
pub(crate) struct AlignedBuffer {
    lines: Vec<Line>,
}

impl AlignedBuffer {
    /// A buffer of `len` zeros, rounded up to a cache line.
    pub(crate) fn zeros(len: usize) -> Self {
        Self {
            lines: vec![Line::ZERO; len.div_ceil(LINE)],
        }
    }

    /// Makes this a buffer of `len` zeros, rounded up to a cache line. Keeps its memory if that is
    /// large enough. If the allocation panics, the buffer stays as it was.
    pub(crate) fn reset(&mut self, len: usize) {
        let lines = len.div_ceil(LINE);
        if lines > self.lines.capacity() {
            *self = Self::zeros(len);
        } else {
            self.lines.clear();
            self.lines.resize(lines, Line::ZERO);
        }
    }

    /// Makes the buffer at least `len` floats long.
    pub(crate) fn grow(&mut self, len: usize) {
        let lines = len.div_ceil(LINE);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line::ZERO);
        }
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        // SAFETY: a `Line` is 16 initialised floats without padding (repr(C), 64 bytes), so the
        // vector's lines are that many floats in a row, borrowed as long as `self`.
        unsafe {
            std::slice::from_raw_parts(self.lines.as_ptr().cast::<f32>(), self.lines.len() * LINE)
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: a `Line` is 16 initialised floats without padding (repr(C), 64 bytes), so the
        // vector's lines are that many floats in a row, borrowed exclusively as long as `self`.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.lines.as_mut_ptr().cast::<f32>(),
                self.lines.len() * LINE,
            )
        }
    }
}
