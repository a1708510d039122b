//! Where the pixels of a low-resolution image lie in its original, and the pair cut accordingly.

use serde::{Deserialize, Serialize};
use wdsr_eval::ImagePair;
use wdsr_image::{Image, Samples};

/// Where a low-resolution image lies against its original, in high-resolution pixels.
///
/// The pixel of the aligned original at `p`, on the grid of the low-resolution image, is the original's
/// at `centre + matrix (p - centre) - shift`, where `centre` is that of the low-resolution image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// How far the content of the low-resolution image lies to the right of and below the original's:
    /// the shift that a degradation has applied.
    pub shift_px: [f64; 2],
    /// Rotation, zoom and shear, row-major; the identity for a shift alone.
    #[serde(default = "identity", skip_serializing_if = "is_identity")]
    pub matrix: [[f64; 2]; 2],
}

fn identity() -> [[f64; 2]; 2] {
    [[1.0, 0.0], [0.0, 1.0]]
}

fn is_identity(matrix: &[[f64; 2]; 2]) -> bool {
    *matrix == identity()
}

/// A part of an image in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Left edge.
    pub x: usize,
    /// Top edge.
    pub y: usize,
    /// Width.
    pub width_px: usize,
    /// Height.
    pub height_px: usize,
}

impl Part {
    /// The same part at `scale` times the resolution.
    fn at_scale(self, scale: usize) -> Self {
        Self {
            x: self.x * scale,
            y: self.y * scale,
            width_px: self.width_px * scale,
            height_px: self.height_px * scale,
        }
    }
}

/// Shifts that are nearer to a whole pixel count as whole: a registration is not more accurate, and
/// pixels that are copied stay exact.
const EXACT_PX: f64 = 0.05;
/// Radius of the Lanczos kernel that interpolates between pixels.
const RADIUS_PX: usize = 4;
const TAPS: usize = 2 * RADIUS_PX;

impl Placement {
    /// A shift alone, to the right and downwards.
    pub fn of_shift(shift_px: [f64; 2]) -> Self {
        Self {
            shift_px,
            matrix: identity(),
        }
    }

    /// Whether the shift along an axis counts as whole.
    fn is_whole(&self, axis: usize) -> bool {
        let shift = self.shift_px[axis];
        (shift - shift.round()).abs() <= EXACT_PX
    }

    /// The place in the original of a pixel on the grid of the low-resolution image whose centre is
    /// `centre`.
    fn source(&self, x: f64, y: f64, centre: [f64; 2]) -> [f64; 2] {
        let offset = [x - centre[0], y - centre[1]];
        std::array::from_fn(|axis| {
            let [a, b] = self.matrix[axis];
            centre[axis] + a * offset[0] + b * offset[1] - self.shift_px[axis]
        })
    }

    /// The largest part of a low-resolution image whose originals lie inside the high-resolution one,
    /// with the pixels that the interpolation reads; none if that is nothing.
    pub fn common_part(
        &self,
        (low_width_px, low_height_px): (usize, usize),
        (high_width_px, high_height_px): (usize, usize),
        scale: usize,
    ) -> Option<Part> {
        let centre = centre((low_width_px * scale, low_height_px * scale));
        let sizes = [high_width_px, high_height_px];
        // Edges: first and end of the columns and of the rows.
        let mut edges = [[0, low_width_px], [0, low_height_px]];
        loop {
            if edges.iter().any(|[first, end]| first >= end) {
                return None;
            }
            let mut moved = false;
            for corner in 0..4 {
                let sides = [corner & 1, corner >> 1];
                let place = |axis: usize| {
                    let [first, end] = edges[axis];
                    (if sides[axis] == 0 {
                        first * scale
                    } else {
                        end * scale - 1
                    }) as f64
                };
                let source = self.source(place(0), place(1), centre);
                for axis in 0..2 {
                    let margin = match is_identity(&self.matrix) && self.is_whole(axis) {
                        true => -EXACT_PX,
                        false => RADIUS_PX as f64 - 1.0,
                    };
                    let last = sizes[axis] as f64 - 1.0 - margin;
                    if source[axis] < margin || source[axis] > last {
                        match sides[axis] {
                            0 => edges[axis][0] += 1,
                            _ => edges[axis][1] -= 1,
                        }
                        moved = true;
                        break;
                    }
                }
                if moved {
                    break;
                }
            }
            if !moved {
                let [[x, right], [y, bottom]] = edges;
                return Some(Part {
                    x,
                    y,
                    width_px: right - x,
                    height_px: bottom - y,
                });
            }
        }
    }

    /// The `part` of the low-resolution image and its original, aligned. Low-resolution pixels are
    /// copied. Those of the original are copied for a whole shift, else interpolated.
    pub fn align_images(&self, low: &Image, high: &Image, part: Part, scale: usize) -> [Image; 2] {
        let centre = centre((low.width_px * scale, low.height_px * scale));
        let still = Self::of_shift([0.0; 2]);
        [
            still.cut_image(low, part, [0.0; 2]),
            self.cut_image(high, part.at_scale(scale), centre),
        ]
    }

    fn cut_image(&self, image: &Image, part: Part, centre: [f64; 2]) -> Image {
        fn source<'p, T>(pixels: &'p [T], image: &Image) -> Source<'p, T> {
            Source {
                pixels,
                width_px: image.width_px,
                channels: image.colour.channels(),
            }
        }
        let samples = match &image.samples {
            Samples::U8(samples) => Samples::U8(self.cut(&source(samples, image), part, centre)),
            Samples::U16(samples) => Samples::U16(self.cut(&source(samples, image), part, centre)),
            Samples::F32(samples) => Samples::F32(self.cut(&source(samples, image), part, centre)),
        };
        Image::new(part.width_px, part.height_px, image.colour, samples)
    }

    /// A decoded pair, aligned and cropped to `part` of its low-resolution image.
    pub fn align_pair(&self, pair: &ImagePair, part: Part) -> ImagePair {
        let scale = pair.scale;
        let centre = centre(pair.high_size_px());
        let still = Self::of_shift([0.0; 2]);
        let source = |pixels, width_px| Source {
            pixels,
            width_px,
            channels: 3,
        };
        let low = source(&*pair.low, pair.low_width_px);
        let high = source(&*pair.high, pair.low_width_px * scale);
        ImagePair {
            low: still.cut(&low, part, [0.0; 2]),
            high: self.cut(&high, part.at_scale(scale), centre),
            low_width_px: part.width_px,
            low_height_px: part.height_px,
            ..*pair
        }
    }

    fn cut<T: Sample>(&self, source: &Source<'_, T>, part: Part, centre: [f64; 2]) -> Vec<T> {
        match is_identity(&self.matrix) {
            true => cut_shifted(source, part, self.shift_px),
            false => self.cut_by_matrix(source, part, centre),
        }
    }

    fn cut_by_matrix<T: Sample>(
        &self,
        source: &Source<'_, T>,
        part: Part,
        centre: [f64; 2],
    ) -> Vec<T> {
        let channels = source.channels;
        let mut cut = Vec::with_capacity(part.width_px * part.height_px * channels);
        for y in 0..part.height_px {
            for x in 0..part.width_px {
                let (x, y) = ((part.x + x) as f64, (part.y + y) as f64);
                let [x, y] = self.source(x, y, centre);
                let (left, top) = (x.floor(), y.floor());
                let (across, down) = (lanczos(x - left), lanczos(y - top));
                for channel in 0..channels {
                    let mut sum = 0.0;
                    for (row, weight) in down.into_iter().enumerate() {
                        let row = source.row(top as isize + row as isize - RADIUS_PX as isize + 1);
                        let mut in_row = 0.0;
                        for (column, weight) in across.into_iter().enumerate() {
                            let column = left as isize + column as isize - RADIUS_PX as isize + 1;
                            let column = source.column(column);
                            in_row += weight * row[column * channels + channel].to_f32();
                        }
                        sum += weight * in_row;
                    }
                    cut.push(T::from_f32(sum));
                }
            }
        }
        cut
    }
}

/// The centre of an image in pixels.
fn centre((width_px, height_px): (usize, usize)) -> [f64; 2] {
    [width_px, height_px].map(|len| (len as f64 - 1.0) / 2.0)
}

/// A sample that is interpolated.
trait Sample: Copy {
    fn to_f32(self) -> f32;
    /// Rounded half up and clipped to the range of the type.
    fn from_f32(value: f32) -> Self;
}

impl Sample for u8 {
    fn to_f32(self) -> f32 {
        f32::from(self)
    }
    fn from_f32(value: f32) -> Self {
        (value + 0.5) as Self
    }
}

impl Sample for u16 {
    fn to_f32(self) -> f32 {
        f32::from(self)
    }
    fn from_f32(value: f32) -> Self {
        (value + 0.5) as Self
    }
}

impl Sample for f32 {
    fn to_f32(self) -> f32 {
        self
    }
    fn from_f32(value: f32) -> Self {
        value
    }
}

/// Interleaved pixels to cut from.
struct Source<'p, T> {
    pixels: &'p [T],
    width_px: usize,
    channels: usize,
}

impl<T> Source<'_, T> {
    /// A row; beyond an edge its last one.
    fn row(&self, y: isize) -> &[T] {
        let len = self.width_px * self.channels;
        let last = self.pixels.len() / len - 1;
        &self.pixels[(y.max(0) as usize).min(last) * len..][..len]
    }

    /// A column; beyond an edge the last one.
    fn column(&self, x: isize) -> usize {
        (x.max(0) as usize).min(self.width_px - 1)
    }
}

/// A part of an 8-bit R G B image that was shifted to the right and downwards by `shift_px`: whole
/// shifts are copied, others interpolated. Beyond an edge its pixel repeats.
///
/// # Panics
/// If the samples are no image of `width_px`.
pub fn cut_shifted_rgb8(pixels: &[u8], width_px: usize, part: Part, shift_px: [f64; 2]) -> Vec<u8> {
    assert!(
        width_px > 0 && !pixels.is_empty() && pixels.len().is_multiple_of(3 * width_px),
        "{} samples of an image {width_px} pixels wide",
        pixels.len()
    );
    let source = Source {
        pixels,
        width_px,
        channels: 3,
    };
    cut_shifted(&source, part, shift_px)
}

fn cut_shifted<T: Sample>(source: &Source<'_, T>, part: Part, shift_px: [f64; 2]) -> Vec<T> {
    let channels = source.channels;
    let [across, down] = shift_px.map(AxisShift::new);
    let (left, top) = (part.x as isize - across.whole, part.y as isize - down.whole);
    let is_inside = left >= 0 && left as usize + part.width_px <= source.width_px;
    let row_len = part.width_px * channels;
    if let (None, None) = (across.weights, down.weights) {
        let mut cut = Vec::with_capacity(part.height_px * row_len);
        for y in 0..part.height_px {
            let row = source.row(top + y as isize);
            if is_inside {
                cut.extend_from_slice(&row[left as usize * channels..][..row_len]);
                continue;
            }
            for x in 0..part.width_px {
                let at = source.column(left + x as isize) * channels;
                cut.extend_from_slice(&row[at..at + channels]);
            }
        }
        return cut;
    }
    let first_tap = 1 - RADIUS_PX as isize;
    let filtered_row = |y: isize| -> Vec<f32> {
        let row = source.row(y);
        let mut filtered = Vec::with_capacity(row_len);
        for x in 0..part.width_px {
            let at = left + x as isize;
            for channel in 0..channels {
                let sample = |x: isize| row[source.column(x) * channels + channel].to_f32();
                filtered.push(match across.weights {
                    None => sample(at),
                    Some(weights) => (0..TAPS)
                        .map(|tap| weights[tap] * sample(at + first_tap + tap as isize))
                        .sum(),
                });
            }
        }
        filtered
    };
    let (taps, first_row) = match down.weights {
        None => (1, top),
        Some(_) => (TAPS, top + first_tap),
    };
    let rows: Vec<Vec<f32>> = (0..part.height_px + taps - 1)
        .map(|y| filtered_row(first_row + y as isize))
        .collect();
    let mut cut = Vec::with_capacity(part.height_px * row_len);
    for window in rows.windows(taps) {
        for i in 0..row_len {
            cut.push(T::from_f32(match down.weights {
                None => window[0][i],
                Some(weights) => window.iter().zip(weights).map(|(row, w)| w * row[i]).sum(),
            }));
        }
    }
    cut
}

/// A shift along one axis: whole pixels, and the weights of the rest if there is one.
struct AxisShift {
    whole: isize,
    weights: Option<[f32; TAPS]>,
}

impl AxisShift {
    fn new(shift_px: f64) -> Self {
        let nearest = shift_px.round();
        if (shift_px - nearest).abs() <= EXACT_PX {
            return Self {
                whole: nearest as isize,
                weights: None,
            };
        }
        // The source lies at x - shift = x - ceil(shift) + fraction.
        let whole = shift_px.ceil();
        Self {
            whole: whole as isize,
            weights: Some(lanczos(whole - shift_px)),
        }
    }
}

/// Weights of the pixels around a place that lies `fraction`, 0..1, behind the one of tap
/// `RADIUS_PX - 1`.
fn lanczos(fraction: f64) -> [f32; TAPS] {
    let radius = RADIUS_PX as f64;
    let sinc = |x: f64| match x.abs() < 1e-9 {
        true => 1.0,
        false => (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x),
    };
    let weights: [f64; TAPS] = std::array::from_fn(|tap| {
        let distance = tap as f64 + 1.0 - radius - fraction;
        match distance.abs() < radius {
            true => sinc(distance) * sinc(distance / radius),
            false => 0.0,
        }
    });
    let total: f64 = weights.iter().sum();
    weights.map(|weight| (weight / total) as f32)
}
