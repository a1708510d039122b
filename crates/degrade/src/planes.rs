//! Three planes of floats, in levels of 0..255.

/// An R G B image as three planes, one after another, each row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planes {
    pub(crate) width_px: usize,
    pub(crate) height_px: usize,
    pub(crate) samples: Vec<f32>,
}

impl Planes {
    pub(crate) fn zeros(width_px: usize, height_px: usize) -> Self {
        Self {
            width_px,
            height_px,
            samples: vec![0.0; 3 * width_px * height_px],
        }
    }

    /// From interleaved 8-bit samples.
    pub(crate) fn from_interleaved(width_px: usize, height_px: usize, pixels: &[u8]) -> Self {
        let mut planes = Self::zeros(width_px, height_px);
        for (channel, plane) in planes.planes_mut().enumerate() {
            for (to, pixel) in plane.iter_mut().zip(pixels.as_chunks::<3>().0) {
                *to = f32::from(pixel[channel]);
            }
        }
        planes
    }

    /// Interleaved samples, rounded half up and clipped to 0..255.
    pub(crate) fn to_interleaved(&self) -> Vec<u8> {
        let count = self.width_px * self.height_px;
        let mut pixels = vec![0; 3 * count];
        for (channel, plane) in self.samples.chunks_exact(count).enumerate() {
            for (pixel, &level) in pixels.as_chunks_mut::<3>().0.iter_mut().zip(plane) {
                // The cast clips.
                pixel[channel] = (level + 0.5) as u8;
            }
        }
        pixels
    }

    pub(crate) fn planes(&self) -> impl Iterator<Item = &[f32]> {
        self.samples.chunks_exact(self.width_px * self.height_px)
    }

    pub(crate) fn planes_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.samples
            .chunks_exact_mut(self.width_px * self.height_px)
    }
}
