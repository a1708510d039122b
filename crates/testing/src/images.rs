//! Samples of images, row by row, interleaved.

/// A smooth 8-bit image with some texture: diagonal ramps that differ from channel to channel.
pub fn texture(width_px: usize, height_px: usize, channels: usize) -> Vec<u8> {
    let sample = |i: usize| {
        let (pixel, channel) = (i / channels, i % channels);
        let (x, y) = (pixel % width_px, pixel / width_px);
        (((x * 5 + y * 3 + channel * 40) % 200) + (x * y) % 17) as u8
    };
    (0..width_px * height_px * channels).map(sample).collect()
}

/// Interleaved samples `[y, x, channel]` of planar ones `[channel, y, x]`.
pub fn interleaved(planes: &[f32], channels: usize) -> Vec<f32> {
    let pixels = planes.len() / channels;
    assert_eq!(planes.len(), channels * pixels, "{channels} channels");
    (0..planes.len())
        .map(|at| planes[at % channels * pixels + at / channels])
        .collect()
}

/// Planar samples `[channel, y, x]` of interleaved ones `[y, x, channel]`.
pub fn planar(samples: &[f32], channels: usize) -> Vec<f32> {
    let channel = |c| samples.iter().skip(c).step_by(channels).copied();
    (0..channels).flat_map(channel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planar_and_interleaved_are_inverse() {
        let planes = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let samples = interleaved(&planes, 3);
        assert_eq!(samples, [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        assert_eq!(planar(&samples, 3), planes);
    }
}
