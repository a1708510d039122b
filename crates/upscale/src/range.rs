//! The range of an image's values, stretched to the range that networks know.
//!
//! Networks are trained on samples from black to white. An image that uses a small part of that range (10
//! bits in a file of 16) or more than it (heights, radiance) comes out worse than interpolated, so its
//! values are mapped to the whole range before the network and back after it. Few values far beyond the
//! others (highlights, hot pixels) do not count for the range: the network gets them clipped, and what was
//! clipped is interpolated and added.

use rayon::prelude::*;
use wdsr_image::imresize::{Kernel, imresize_wrapped_to_f32};
use wdsr_image::{Depth, Image, Samples};
use wdsr_model::{Sample, UpscaleError};

use crate::alpha::spread_where;
use crate::progress::Check;
use crate::size::Size;
use crate::wrap::Wrap;

/// Room on either side of the stretched values, for results beyond the image's extremes.
const MARGIN: f32 = 1.0 / 32.0;

/// The least part of the range from black to white that is left as it is, and how far values may be beyond
/// it: measured in `docs/experiments/upscaling.md`.
const LEAST_RANGE: f32 = 0.5;
const TOLERANCE: f32 = 1.0 / 16.0;

/// The part of the values on either side that does not count for the range if it is far beyond the rest.
const OUTLIERS: f64 = 0.001;

/// Values from which on a float stands for no data: many programs write the least float.
const SENTINEL: f32 = 1e38;

/// At most so many values are looked at for the outliers.
const MAX_KEPT: usize = 1 << 20;

/// Whether a value stands for no data: declared so, or beyond all that is measured.
fn is_missing(value: f32, no_data: Option<f32>) -> bool {
    let is_declared = no_data.is_some_and(|none| value == none || value.is_nan() && none.is_nan());
    is_declared || value.is_finite() && value.abs() >= SENTINEL
}

/// Values of an image, from black (0) to white (1), looked at to find their range.
pub(crate) struct Survey {
    /// The value of no data.
    no_data: Option<f32>,
    /// Every `step`-th value.
    kept: Vec<f32>,
    step: usize,
    seen: usize,
    least: f32,
    most: f32,
    has_missing: bool,
}

impl Survey {
    /// Whether an image of that depth needs a survey: 8 bits are too few to be stretched.
    pub(crate) fn is_needed(depth: Depth, no_data: Option<f64>) -> bool {
        depth != Depth::U8 || no_data.is_some()
    }

    /// A survey of `count` samples.
    pub(crate) fn new(count: usize, depth: Depth, no_data: Option<f64>) -> Self {
        Self {
            no_data: no_data.map(|value| to_unit(value, depth)),
            kept: Vec::new(),
            step: count.div_ceil(MAX_KEPT).max(1),
            seen: 0,
            least: f32::INFINITY,
            most: f32::NEG_INFINITY,
            has_missing: false,
        }
    }

    /// Adds the next samples.
    pub(crate) fn add<T: Sample>(&mut self, samples: &[T]) {
        for sample in samples {
            let value = sample.to_unit();
            if is_missing(value, self.no_data) {
                self.has_missing = true;
            } else if value.is_finite() {
                self.least = self.least.min(value);
                self.most = self.most.max(value);
                if self.seen.is_multiple_of(self.step) {
                    self.kept.push(value);
                }
                self.seen += 1;
            }
        }
    }

    /// Whether some samples stand for no data.
    pub(crate) fn has_missing(&self) -> bool {
        self.has_missing
    }

    /// The mapping of the values.
    pub(crate) fn mapping(mut self, depth: Depth) -> Mapping {
        let (least, most) = (self.least, self.most);
        if depth == Depth::U8 || self.kept.is_empty() {
            return Mapping::IDENTITY;
        }
        let at = (self.kept.len() as f64 * OUTLIERS) as usize;
        let last = self.kept.len() - 1 - at;
        let low = *self.kept.select_nth_unstable_by(at, f32::total_cmp).1;
        let high = *self.kept.select_nth_unstable_by(last, f32::total_cmp).1;
        // All values, unless outliers beyond black and white would take a large part of the range. Others, such
        // as stars and sparse text, are what the network knows.
        let are_beyond = least < -TOLERANCE || most > 1.0 + TOLERANCE;
        let (low, high) = if are_beyond && high > low && most - least > 2.0 * (high - low) {
            (low, high)
        } else {
            (least, most)
        };
        let is_small = high - low < LEAST_RANGE;
        let is_beyond = low < -TOLERANCE || high > 1.0 + TOLERANCE;
        let mut mapping = Mapping::IDENTITY;
        if is_small || is_beyond {
            mapping.low = low;
            // An image of one value stays so: whatever the network returns is mapped back to it.
            mapping.factor = (1.0 - 2.0 * MARGIN) / (high - low).max(f32::MIN_POSITIVE);
            mapping.margin = MARGIN;
        }
        let bounds = [mapping.apply(least), mapping.apply(most)];
        mapping.clips = bounds[0] < -TOLERANCE || bounds[1] > 1.0 + TOLERANCE;
        if depth == Depth::U16 && !mapping.is_identity() {
            // Samples of 10 bits stay so.
            let most = (most * 65535.0).round() as u32;
            mapping.limit = (most + 1).next_power_of_two().saturating_sub(1) as f32 / 65535.0;
        }
        mapping
    }
}

/// A value of a file from black (0) to white (1).
fn to_unit(value: f64, depth: Depth) -> f32 {
    match depth {
        Depth::U8 => (value as f32) / 255.0,
        Depth::U16 => (value as f32) / 65535.0,
        Depth::F32 => value as f32,
    }
}

/// A linear mapping of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mapping {
    low: f32,
    factor: f32,
    margin: f32,
    /// The most that a value of a result may be.
    limit: f32,
    /// Whether some mapped values are far beyond black or white.
    pub(crate) clips: bool,
}

impl Mapping {
    pub(crate) const IDENTITY: Self = Self {
        low: 0.0,
        factor: 1.0,
        margin: 0.0,
        limit: f32::INFINITY,
        clips: false,
    };

    pub(crate) fn is_identity(&self) -> bool {
        self.factor == 1.0 && self.low == 0.0 && self.margin == 0.0
    }

    fn apply(&self, value: f32) -> f32 {
        if self.is_identity() {
            return value;
        }
        (value - self.low) * self.factor + self.margin
    }

    fn undo(&self, value: f32) -> f32 {
        if self.is_identity() {
            return value;
        }
        ((value - self.margin) / self.factor + self.low).min(self.limit)
    }

    /// Maps samples before the network.
    pub(crate) fn map<T: Sample>(&self, samples: &mut [T]) {
        let map = |sample: &mut T| *sample = T::from_unit(self.apply(sample.to_unit()));
        samples.par_iter_mut().for_each(map);
    }

    /// Maps samples back after the network.
    pub(crate) fn map_back<T: Sample>(&self, samples: &mut [T]) {
        let map = |sample: &mut T| *sample = T::from_unit(self.undo(sample.to_unit()));
        samples.par_iter_mut().for_each(map);
    }

    pub(crate) fn map_all(&self, samples: &mut Samples) {
        match samples {
            Samples::U8(samples) => self.map(samples),
            Samples::U16(samples) => self.map(samples),
            Samples::F32(samples) => self.map(samples),
        }
    }

    pub(crate) fn map_all_back(&self, samples: &mut Samples) {
        match samples {
            Samples::U8(samples) => self.map_back(samples),
            Samples::U16(samples) => self.map_back(samples),
            Samples::F32(samples) => self.map_back(samples),
        }
    }
}

/// Surveys the samples of an image.
pub(crate) fn survey(image: &Image) -> Survey {
    let no_data = image.metadata.geo.no_data();
    let mut survey = Survey::new(image.samples.len(), image.depth(), no_data);
    match &image.samples {
        Samples::U8(samples) => survey.add(samples),
        Samples::U16(samples) => survey.add(samples),
        Samples::F32(samples) => survey.add(samples),
    }
    survey
}

/// Clips mapped floats to the range that networks know, and returns what was clipped.
///
/// # Panics
/// If the image is not of floats.
pub(crate) fn clip(image: &mut Image) -> Vec<f32> {
    let Samples::F32(values) = &mut image.samples else {
        panic!("floats are clipped, not {:?}", image.samples.depth());
    };
    let clip = |value: &mut f32| {
        let clipped = value.clamp(-TOLERANCE, 1.0 + TOLERANCE);
        let rest = *value - clipped;
        *value = clipped;
        rest
    };
    values.par_iter_mut().map(clip).collect()
}

/// Adds what was clipped of an image of that size, interpolated.
///
/// # Errors
/// If the work is to stop.
pub(crate) fn add_clipped(
    large: &mut Image,
    clipped: &[f32],
    size: Size,
    wrap: Wrap,
    check: &Check,
) -> Result<(), UpscaleError> {
    let to = (large.width_px, large.height_px);
    let channels = large.colour.channels();
    let from = (size.width_px, size.height_px);
    let (kernel, axes, is_stopped) = (Kernel::Cubic, wrap.axes(), || check().is_err());
    let rest = imresize_wrapped_to_f32(clipped, from, channels, to, kernel, axes, is_stopped);
    let rest = rest.ok_or(UpscaleError::Stopped)?;
    if let Samples::F32(values) = &mut large.samples {
        let pairs = values.par_iter_mut().zip(rest.pixels);
        pairs.for_each(|(value, rest)| *value += rest);
    }
    Ok(())
}

/// The pixels of an image that have no data.
pub(crate) struct Missing {
    is_missing: Vec<bool>,
    size: Size,
    /// The value of a sample of them.
    value: Samples,
}

impl Missing {
    /// Fills the pixels without data from those beside them. A pixel has no data if all its samples have the
    /// declared value, or one is beyond all that is measured. `None` if all pixels have data.
    ///
    /// # Errors
    /// If the work is to stop.
    pub(crate) fn fill(
        image: &mut Image,
        wrap: Wrap,
        check: &Check,
    ) -> Result<Option<Self>, UpscaleError> {
        fn find<T: Sample>(samples: &[T], channels: usize, no_data: Option<f32>) -> Vec<bool> {
            let pixels = samples.par_chunks_exact(channels);
            let values = |pixel: &[T]| pixel.iter().map(|v| v.to_unit()).collect::<Vec<f32>>();
            pixels
                .map(|pixel| {
                    let values = values(pixel);
                    values.iter().all(|&value| is_missing(value, no_data))
                        || values.iter().any(|&value| is_missing(value, None))
                })
                .collect()
        }
        let no_data = image.metadata.geo.no_data();
        let no_data = no_data.map(|value| to_unit(value, image.depth()));
        let channels = image.colour.channels();
        let is_missing = match &image.samples {
            Samples::U8(samples) => find(samples, channels, no_data),
            Samples::U16(samples) => find(samples, channels, no_data),
            Samples::F32(samples) => find(samples, channels, no_data),
        };
        let Some(first) = is_missing.iter().position(|missing| *missing) else {
            return Ok(None);
        };
        fn at<T: Copy>(samples: &[T], at: usize) -> Vec<T> {
            vec![samples[at]]
        }
        let value = match &image.samples {
            Samples::U8(samples) => Samples::U8(at(samples, first * channels)),
            Samples::U16(samples) => Samples::U16(at(samples, first * channels)),
            Samples::F32(samples) => Samples::F32(at(samples, first * channels)),
        };
        let has_data: Vec<bool> = is_missing.iter().map(|missing| !missing).collect();
        spread_where(image, &has_data, wrap, check)?;
        Ok(Some(Self {
            is_missing,
            size: Size::of(image),
            value,
        }))
    }

    /// Takes the data from the pixels of an upscaled image that are nearest to pixels without data.
    pub(crate) fn restore(&self, large: &mut Image) {
        fn restore<T: Copy + Send + Sync>(
            large: &mut [T],
            (width, height, channels): (usize, usize, usize),
            missing: &Missing,
            value: T,
        ) {
            let nearest = |at: usize, len: usize, of: usize| (2 * at + 1) * of / (2 * len);
            let rows = large.par_chunks_exact_mut(width * channels).enumerate();
            rows.for_each(|(y, row)| {
                let from_y = nearest(y, height, missing.size.height_px);
                for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
                    let from_x = nearest(x, width, missing.size.width_px);
                    if missing.is_missing[from_y * missing.size.width_px + from_x] {
                        pixel.fill(value);
                    }
                }
            });
        }
        let shape = (large.width_px, large.height_px, large.colour.channels());
        match (&mut large.samples, &self.value) {
            (Samples::U8(large), Samples::U8(value)) => restore(large, shape, self, value[0]),
            (Samples::U16(large), Samples::U16(value)) => restore(large, shape, self, value[0]),
            (Samples::F32(large), Samples::F32(value)) => restore(large, shape, self, value[0]),
            (large, value) => panic!("depth {:?}, expected {:?}", large.depth(), value.depth()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(values: &[f32]) -> Mapping {
        let mut survey = Survey::new(values.len(), Depth::F32, None);
        survey.add(values);
        survey.mapping(Depth::F32)
    }

    #[test]
    fn usual_values_stay_and_others_are_mapped_to_the_range() {
        for usual in [&[0.0, 1.0][..], &[0.1, 0.7], &[-0.05, 1.05]] {
            assert_eq!(mapping(usual), Mapping::IDENTITY, "{usual:?}");
        }
        let flat = mapping(&[0.25; 4]);
        assert_eq!(flat.apply(0.25), MARGIN);
        assert_eq!([flat.undo(0.0), flat.undo(1.0)], [0.25; 2]);
        for (low, high) in [
            (0.0, 0.004),
            (0.0, 64.0),
            (-400.0, 8848.0),
            (0.4, 0.6),
            (0.0, 1e30),
        ] {
            let mapping = mapping(&[low, high]);
            let mut values = [low, high, (low + high) / 2.0];
            mapping.map(&mut values);
            let [least, most, middle] = values;
            let is_near = |value: f32, to: f32| (value - to).abs() < 1e-4;
            assert!(is_near(least, MARGIN) && is_near(most, 1.0 - MARGIN) && is_near(middle, 0.5));
            mapping.map_back(&mut values);
            for (value, expected) in values.iter().zip([low, high, (low + high) / 2.0]) {
                assert!(
                    (value - expected).abs() <= (high - low) * 1e-5,
                    "{value}, {expected}"
                );
            }
        }
    }

    #[test]
    fn few_highlights_do_not_darken_the_rest() {
        let mut values: Vec<f32> = (0..10_000).map(|i| i as f32 / 10_000.0).collect();
        values[77] = 500.0;
        let mapping = mapping(&values);
        assert!(mapping.is_identity() && mapping.clips, "{mapping:?}");
    }

    #[test]
    fn sparse_dark_text_is_no_outlier() {
        let mut values: Vec<f32> = (0..10_000).map(|i| 0.95 + i as f32 / 200_000.0).collect();
        values[77] = 0.0;
        assert_eq!(mapping(&values), Mapping::IDENTITY);
    }

    #[test]
    fn ten_bits_stay_ten_bits() {
        let mut survey = Survey::new(2, Depth::U16, None);
        survey.add(&[3_u16, 1000]);
        let mapping = survey.mapping(Depth::U16);
        let mut white = [u16::MAX];
        mapping.map_back(&mut white);
        assert_eq!(white, [1023]);
    }
}
