//! A Bayer mosaic and its interpolation by Malvar's filters.
//!
//! Source: Malvar, He, Cutler: "High-quality linear interpolation for demosaicing of Bayer-patterned
//! color images", ICASSP 2004, figure 2.

use crate::planes::Planes;

/// Where the red pixels of the mosaic lie: column and row modulo 2. Blue lies diagonally opposite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Phase {
    pub(crate) x: usize,
    pub(crate) y: usize,
}

impl Phase {
    /// The channel that the sensor measures at a pixel.
    pub(crate) fn channel(self, x: usize, y: usize) -> usize {
        match (
            (x + self.x).is_multiple_of(2),
            (y + self.y).is_multiple_of(2),
        ) {
            (true, true) => 0,
            (false, false) => 2,
            _ => 1,
        }
    }
}

/// Pixels around a pixel that its interpolation reads.
pub(crate) const REACH_PX: usize = 2;

/// The mosaic of an image: of each pixel the sample of one channel.
pub(crate) fn mosaic(image: &Planes, phase: Phase) -> Vec<f32> {
    let (width, height) = (image.width_px, image.height_px);
    let count = width * height;
    (0..count)
        .map(|i| image.samples[phase.channel(i % width, i / width) * count + i])
        .collect()
}

/// The three planes interpolated from a mosaic. Beyond an edge it is mirrored, which keeps the
/// pattern.
pub(crate) fn demosaic(mosaic: &[f32], width_px: usize, height_px: usize, phase: Phase) -> Planes {
    let mirror = |i: isize, len: usize| -> usize {
        let last = len as isize - 1;
        if last == 0 {
            return 0;
        }
        let i = i.rem_euclid(2 * last);
        (if i > last { 2 * last - i } else { i }) as usize
    };
    let mut image = Planes::zeros(width_px, height_px);
    let count = width_px * height_px;
    for y in 0..height_px {
        let row_of = |down: isize| mirror(y as isize + down, height_px) * width_px;
        let rows = [-2, -1, 0, 1, 2].map(|down| &mosaic[row_of(down)..][..width_px]);
        for x in 0..width_px {
            let columns = [-2, -1, 0, 1, 2].map(|right| mirror(x as isize + right, width_px));
            let at = |down: usize, right: usize| rows[down][columns[right]];
            let centre = at(2, 2);
            let (left_right, up_down) = (at(2, 1) + at(2, 3), at(1, 2) + at(3, 2));
            let diagonal = at(1, 1) + at(1, 3) + at(3, 1) + at(3, 3);
            let (far_across, far_down) = (at(2, 0) + at(2, 4), at(0, 2) + at(4, 2));
            let far = far_across + far_down;
            let values = match phase.channel(x, y) {
                1 => {
                    // The colour whose pixels stand left and right, and the one above and below.
                    let across = (5.0 * centre + 4.0 * left_right - diagonal - far_across
                        + 0.5 * far_down)
                        / 8.0;
                    let down = (5.0 * centre + 4.0 * up_down - diagonal - far_down
                        + 0.5 * far_across)
                        / 8.0;
                    match phase.channel(x + 1, y) {
                        0 => [across, centre, down],
                        _ => [down, centre, across],
                    }
                }
                own => {
                    let green = (4.0 * centre + 2.0 * (left_right + up_down) - far) / 8.0;
                    let opposite = (6.0 * centre + 2.0 * diagonal - 1.5 * far) / 8.0;
                    match own {
                        0 => [centre, green, opposite],
                        _ => [opposite, green, centre],
                    }
                }
            };
            for (channel, value) in values.into_iter().enumerate() {
                image.samples[channel * count + y * width_px + x] = value;
            }
        }
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 4] = [
        Phase { x: 0, y: 0 },
        Phase { x: 1, y: 0 },
        Phase { x: 0, y: 1 },
        Phase { x: 1, y: 1 },
    ];

    #[test]
    fn measured_samples_stay_and_flat_colours_are_exact() {
        for phase in PHASES {
            let mut image = Planes::zeros(9, 8);
            for (plane, level) in image.planes_mut().zip([200.0, 100.0, 40.0]) {
                plane.fill(level);
            }
            let found = demosaic(&mosaic(&image, phase), 9, 8, phase);
            for (a, b) in found.samples.iter().zip(&image.samples) {
                assert!((a - b).abs() < 1e-3, "{a} for {b}");
            }
            for i in 0..72 {
                let measured = phase.channel(i % 9, i / 9) * 72 + i;
                assert_eq!(found.samples[measured], image.samples[measured]);
            }
        }
    }

    /// A grey ramp is linear in both directions, and the filters are exact on it.
    #[test]
    fn grey_ramps_are_exact() {
        for phase in PHASES {
            let mut image = Planes::zeros(12, 10);
            for plane in image.planes_mut() {
                for (i, v) in plane.iter_mut().enumerate() {
                    *v = 3.0 * (i % 12) as f32 + 5.0 * (i / 12) as f32;
                }
            }
            let found = demosaic(&mosaic(&image, phase), 12, 10, phase);
            for channel in 0..3 {
                for y in 2..8 {
                    for x in 2..10 {
                        let i = channel * 120 + y * 12 + x;
                        let (found, expected) = (found.samples[i], image.samples[i]);
                        assert!((found - expected).abs() < 1e-3, "{found} for {expected}");
                    }
                }
            }
        }
    }
}
