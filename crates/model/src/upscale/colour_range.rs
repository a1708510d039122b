//! Whether the output of the network can be an image.
//!
//! A damaged model, a faulty processor or extreme samples show as NaN, infinity or a single colour.
//! Rounded to integers the first would become black pixels in a file that looks intact, so all
//! values are checked before they are rounded.

/// The least and the largest sample of each channel.
#[derive(Clone, Copy)]
pub(super) struct ColourRange {
    channels: [(f32, f32); 3],
}

impl ColourRange {
    /// The range of no samples.
    pub(super) fn new() -> Self {
        Self {
            channels: [(f32::INFINITY, f32::NEG_INFINITY); 3],
        }
    }

    /// Adds samples of a channel. The error is index and value of the first one that is not finite.
    pub(super) fn add(&mut self, channel: usize, samples: &[f32]) -> Result<(), (usize, f32)> {
        let (least, largest) = &mut self.channels[channel];
        let mut finite = true;
        for &sample in samples {
            *least = if sample < *least { sample } else { *least };
            *largest = if sample > *largest { sample } else { *largest };
            finite &= sample.is_finite();
        }
        if finite {
            return Ok(());
        }
        let index = samples.iter().position(|sample| !sample.is_finite());
        let index = index.unwrap_or_else(|| unreachable!("one of them is not finite"));
        Err((index, samples[index]))
    }

    /// Adds pixels, R G B interleaved. The error is the pixel's index and the value of the first sample that is not
    /// finite.
    pub(super) fn add_pixels(&mut self, pixels: &[f32]) -> Result<(), (usize, f32)> {
        let mut is_finite = true;
        for pixel in pixels.as_chunks::<3>().0 {
            for (range, &sample) in self.channels.iter_mut().zip(pixel) {
                range.0 = if sample < range.0 { sample } else { range.0 };
                range.1 = if sample > range.1 { sample } else { range.1 };
                is_finite &= sample.is_finite();
            }
        }
        let first = pixels
            .iter()
            .position(|sample| !is_finite && !sample.is_finite());
        first.map_or(Ok(()), |at| Err((at / 3, pixels[at])))
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (range, other) in self.channels.iter_mut().zip(other.channels) {
            *range = (range.0.min(other.0), range.1.max(other.1));
        }
    }

    /// Whether all pixels have the same colour.
    pub(super) fn is_single_colour(&self) -> bool {
        self.channels
            .iter()
            .all(|(least, largest)| least >= largest)
    }
}
