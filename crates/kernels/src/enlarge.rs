//! Enlargement by bilinear interpolation.

use crate::strip::Strip;

/// Enlarges maps `scale` times each way by bilinear interpolation between the centres of pixels. Beyond
/// its outermost pixels an image goes on as they are. Adds `term`, if there is one.
///
/// # Shapes
/// - input: a strip of maps of `width_px` x `height_px`. It holds all pixels that those of the output lie
///   between: those under it, and one beside them on each side
/// - output: a strip of as many channels, of maps `scale` times as wide and high
/// - term: a strip of as many channels that holds the output's rows and columns
///
/// # Panics
/// If the channels differ, or the input does not hold a pixel.
///
/// # Source
/// PyTorch, `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`.
pub fn enlarge_bilinear(
    input: &Strip,
    (width_px, height_px): (usize, usize),
    scale: usize,
    term: Option<&Strip>,
    output: &mut Strip,
) {
    let channels = output.channels();
    assert_eq!(input.channels(), channels, "input and output channels");
    if let Some(term) = term {
        assert_eq!(term.channels(), channels, "channels of term and output");
    }
    let columns = output.columns();
    let columns = columns.map(|x| (x, Between::new(x, scale, width_px)));
    let columns: Vec<_> = columns.collect();
    for y in output.rows() {
        let rows = Between::new(y, scale, height_px);
        for channel in 0..channels {
            for (at, (x, column)) in columns.iter().enumerate() {
                let [top, bottom] = rows.places.map(|y| {
                    let pixels = column.places.map(|x| input.pixel_of_maps(channel, y, x));
                    column.mix(pixels)
                });
                let term = term.map_or(0.0, |term| term.pixel_of_maps(channel, y, *x));
                output.row_mut(channel, y)[at] = rows.mix([top, bottom]) + term;
            }
        }
    }
}

/// The two pixels that an enlarged one lies between, along an axis.
struct Between {
    places: [usize; 2],
    weights: [f32; 2],
}

impl Between {
    fn new(at: usize, scale: usize, len: usize) -> Self {
        let (pixel, phase) = (at / scale, at % scale);
        // From the pixel's centre, in pixels.
        let from_centre = (2 * phase + 1) as f32 / (2 * scale) as f32 - 0.5;
        if from_centre < 0.0 {
            Self {
                places: [pixel.saturating_sub(1), pixel],
                weights: [-from_centre, 1.0 + from_centre],
            }
        } else {
            Self {
                places: [pixel, (pixel + 1).min(len - 1)],
                weights: [1.0 - from_centre, from_centre],
            }
        }
    }

    fn mix(&self, [a, b]: [f32; 2]) -> f32 {
        self.weights[0] * a + self.weights[1] * b
    }
}
