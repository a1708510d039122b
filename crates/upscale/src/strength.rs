//! The strength that an image asks for: read off the quantisation tables of a JPEG file, off the marks
//! that JPEG left in the pixels of another file, and off the noise.
//!
//! Noise: per block of 8 x 8 pixels Immerkaer's estimate (1996, "Fast noise variance estimation") on
//! green; a low percentile over the blocks, so that texture does not count. In the smoothest blocks of a
//! noisy image noise is all there is, so that they deviate from planes by as much; those of a clean
//! image with fine texture everywhere deviate by more. JPEG's marks: coefficients of
//! the blocks' cosine transforms that lie on the multiples of the steps of one quality (Fan and de
//! Queiroz 2003, "Identification of bitmap compression history").

use std::fmt;

use wdsr_image::SamplesRef;
use wdsr_model::{Sample, strength};

/// The strength of an image, and what it was read off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strength {
    /// 0..=1.
    pub value: f32,
    /// The damage found.
    pub damage: Damage,
}

/// Damage of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Damage {
    /// Not looked for: the strength was given.
    Given,
    /// None found.
    None,
    /// A JPEG file of about this quality, as libjpeg counts it.
    JpegFile(u8),
    /// The marks of a JPEG file of about this quality.
    JpegMarks(u8),
    /// Noise of this standard deviation in levels of 0..255.
    Noise(f32),
}

impl fmt::Display for Strength {
    /// Such as `strength 0.46 (JPEG of quality 75)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "strength {:.2}", self.value)?;
        match self.damage {
            Damage::Given => Ok(()),
            damage => write!(f, " ({damage})"),
        }
    }
}

impl fmt::Display for Damage {
    /// Such as `JPEG of quality 75`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => write!(f, "strength given"),
            Self::None => write!(f, "clean"),
            Self::JpegFile(quality) => write!(f, "JPEG of quality {quality}"),
            Self::JpegMarks(quality) => write!(f, "was a JPEG of quality {quality}"),
            Self::Noise(sigma) => write!(f, "noise of {sigma:.1} levels"),
        }
    }
}

impl Strength {
    /// Whether a model that removes damage does better on the image than one for clean images.
    pub fn is_worth_removing(&self) -> bool {
        self.value >= LEAST_WORTH_REMOVING
    }

    /// A strength that was given.
    pub(crate) fn given(value: f32) -> Self {
        let damage = Damage::Given;
        Self { value, damage }
    }

    /// The strength of an image, read off its samples: interleaved, row-major, `width_px` pixels of
    /// `channels` in a row. `jpeg_table_scale` is that of its file
    /// ([`Reader::jpeg_table_scale`](wdsr_image::Reader::jpeg_table_scale)).
    ///
    /// # Panics
    /// If the image is empty or its rows are not whole.
    pub fn of_samples(
        samples: SamplesRef<'_>,
        width_px: usize,
        channels: usize,
        jpeg_table_scale: Option<f64>,
    ) -> Self {
        let row_len = width_px * channels;
        assert!(
            row_len > 0 && samples.len().is_multiple_of(row_len),
            "{} samples in rows of {row_len}",
            samples.len()
        );
        let mut survey = DamageSurvey::new(width_px, channels);
        match samples {
            SamplesRef::U8(v) => v.chunks_exact(row_len).for_each(|row| survey.add_row(row)),
            SamplesRef::U16(v) => v.chunks_exact(row_len).for_each(|row| survey.add_row(row)),
            SamplesRef::F32(v) => v.chunks_exact(row_len).for_each(|row| survey.add_row(row)),
        }
        survey.strength(jpeg_table_scale)
    }
}

/// Side of a block.
const SIDE: usize = 8;
/// Coefficients that are looked at: the first of the zigzag order after the mean.
const FREQUENCIES: usize = 20;
/// (row, column) of these.
const ZIGZAG: [(usize, usize); FREQUENCIES] = [
    (0, 1),
    (1, 0),
    (2, 0),
    (1, 1),
    (0, 2),
    (0, 3),
    (1, 2),
    (2, 1),
    (3, 0),
    (4, 0),
    (3, 1),
    (2, 2),
    (1, 3),
    (0, 4),
    (0, 5),
    (1, 4),
    (2, 3),
    (3, 2),
    (4, 1),
    (5, 0),
];
/// Smaller steps are lost in the rounding of samples.
const LEAST_STEP: usize = 3;
const MAX_STEP: usize = 255;
/// Blocks whose transforms are looked at.
const MAX_BLOCKS: usize = 4096;
/// Coefficients beyond half a step that a verdict takes.
const LEAST_COEFFICIENTS: u32 = 150;
/// Mean squared distance from the multiples of the steps, as a share of that of random coefficients.
const MAX_DISTANCE: f64 = 0.3;
/// Fewer blocks may all be texture.
const LEAST_BLOCKS: usize = 150;
/// The share of blocks with less noise than the estimate, and what that percentile of Immerkaer's
/// estimate is of the noise's deviation.
const NOISE_PERCENTILE: f64 = 0.01;
const PERCENTILE_OF_SIGMA: f32 = 0.63;
/// Less is no noise: noise of 2 levels seems to be more in 1 of 10 photographs, noise of 3 levels in 19 of 20.
const LEAST_NOISE: f32 = 2.8;
/// The same percentile of the blocks' deviations from planes is at most so many times the noise. Of 63
/// clean photographs that seem to have noise, 60 have more; of 309 with noise of 4 levels, 19
/// (docs/experiments/photo.md).
const MAX_DEVIATION_OF_SIGMA: f32 = 1.2;
/// Between those of JPEG of quality 98, which gains, and 99 (docs/experiments/photo.md).
const LEAST_WORTH_REMOVING: f32 = 0.07;

/// Rows of an image, from the top down.
pub(crate) struct DamageSurvey {
    width_px: usize,
    channels: usize,
    /// Luma and green of the rows of a block, in levels.
    luma: Vec<f32>,
    green: Vec<f32>,
    /// Of each block that is neither black nor white: Immerkaer's estimate, and the deviation from a
    /// plane.
    noise: Vec<f32>,
    deviations: Vec<f32>,
    blocks: usize,
    /// By frequency and step: coefficients beyond half a step, and their squared distances.
    distances: Vec<(u32, f32)>,
    cosines: [[f32; SIDE]; SIDE],
}

impl DamageSurvey {
    pub(crate) fn new(width_px: usize, channels: usize) -> Self {
        let cosines = std::array::from_fn(|frequency| {
            std::array::from_fn(|at| {
                let angle = (2 * at + 1) as f32 * frequency as f32 * std::f32::consts::PI / 16.0;
                let norm = if frequency == 0 {
                    0.125_f32.sqrt()
                } else {
                    0.5
                };
                norm * angle.cos()
            })
        });
        Self {
            width_px,
            channels,
            luma: Vec::with_capacity(SIDE * width_px),
            green: Vec::with_capacity(SIDE * width_px),
            noise: Vec::new(),
            deviations: Vec::new(),
            blocks: 0,
            distances: vec![(0, 0.0); FREQUENCIES * (MAX_STEP + 1)],
            cosines,
        }
    }

    /// Adds the next row: interleaved samples of `width_px` pixels.
    pub(crate) fn add_row<T: Sample>(&mut self, row: &[T]) {
        let has_alpha = matches!(self.channels, 2 | 4);
        for pixel in row.chunks_exact(self.channels) {
            // What is hidden may be anything, and counts as black.
            let is_hidden = has_alpha && pixel[self.channels - 1].to_unit() == 0.0;
            let level = |channel: usize| match is_hidden {
                true => 0.0,
                false => pixel[channel].to_unit() * 255.0,
            };
            let (luma, green) = if self.channels < 3 {
                (level(0), level(0))
            } else {
                let [r, g, b] = [0, 1, 2].map(level);
                (0.299 * r + 0.587 * g + 0.114 * b, g)
            };
            self.luma.push(luma);
            self.green.push(green);
        }
        if self.luma.len() == SIDE * self.width_px {
            for block in 0..self.width_px / SIDE {
                self.add_block(block * SIDE);
            }
            self.luma.clear();
            self.green.clear();
        }
    }

    fn add_block(&mut self, left: usize) {
        let width = self.width_px;
        let at = |plane: &[f32], x: usize, y: usize| plane[y * width + left + x];
        let (mut sum, mut mean) = (0.0_f32, 0.0_f32);
        for y in 1..SIDE - 1 {
            for x in 1..SIDE - 1 {
                let v = |dx: usize, dy: usize| at(&self.green, x + dx - 1, y + dy - 1);
                let corners = v(0, 0) + v(2, 0) + v(0, 2) + v(2, 2);
                let sides = v(1, 0) + v(0, 1) + v(2, 1) + v(1, 2);
                sum += (corners - 2.0 * sides + 4.0 * v(1, 1)).abs();
                mean += v(1, 1);
            }
        }
        let count = ((SIDE - 2) * (SIDE - 2)) as f32;
        // Black and white clip noise.
        if (8.0..=247.0).contains(&(mean / count)) {
            let sigma = sum / count * (std::f32::consts::FRAC_PI_2).sqrt() / 6.0;
            self.noise.push(sigma);
            let values = (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (x, y)));
            let values = values.map(|(x, y)| (x, y, at(&self.green, x, y)));
            self.deviations.push(deviation_from_plane(values));
        }
        if self.blocks == MAX_BLOCKS {
            return;
        }
        let rows: [[f32; SIDE]; SIDE] = std::array::from_fn(|y| {
            std::array::from_fn(|frequency| {
                let cosines = self.cosines[frequency].iter().enumerate();
                cosines.map(|(x, c)| c * at(&self.luma, x, y)).sum()
            })
        });
        let mut is_flat = true;
        for (index, (down, across)) in ZIGZAG.into_iter().enumerate() {
            let cosines = self.cosines[down].iter().zip(&rows);
            let coefficient: f32 = cosines.map(|(c, row)| c * row[across]).sum::<f32>().abs();
            let largest = ((2.0 * coefficient) as usize).min(MAX_STEP);
            is_flat &= largest < LEAST_STEP;
            for step in LEAST_STEP..=largest {
                let distance = coefficient - (coefficient / step as f32).round() * step as f32;
                let (count, sum) = &mut self.distances[index * (MAX_STEP + 1) + step];
                *count += 1;
                *sum += distance * distance;
            }
        }
        self.blocks += usize::from(!is_flat);
    }

    /// The strength; `jpeg_table_scale` is that of the image's file.
    pub(crate) fn strength(mut self, jpeg_table_scale: Option<f64>) -> Strength {
        let noise = self.noise_levels();
        let by_noise = strength::of_noise(f64::from(noise));
        let (by_jpeg, jpeg) = match (jpeg_table_scale, self.jpeg_quality()) {
            (Some(scale), _) => {
                let strength = strength::of_jpeg_scale(scale);
                (
                    strength,
                    Damage::JpegFile(strength::jpeg_quality_at(strength)),
                )
            }
            (None, Some(quality)) => (
                strength::of_jpeg_quality(quality),
                Damage::JpegMarks(quality),
            ),
            (None, None) => (0.0, Damage::None),
        };
        let (value, damage) = match by_noise > by_jpeg {
            true => (by_noise, Damage::Noise(noise)),
            false => (by_jpeg, jpeg),
        };
        let value = value as f32;
        Strength { value, damage }
    }

    /// Standard deviation of the noise; 0 if it is no more than clean photographs seem to have.
    fn noise_levels(&mut self) -> f32 {
        if self.noise.len() < LEAST_BLOCKS {
            return 0.0;
        }
        let at = (self.noise.len() as f64 * NOISE_PERCENTILE) as usize;
        let low = |values: &mut Vec<f32>| *values.select_nth_unstable_by(at, f32::total_cmp).1;
        let sigma = low(&mut self.noise) / PERCENTILE_OF_SIGMA;
        let is_texture = low(&mut self.deviations) > MAX_DEVIATION_OF_SIGMA * sigma;
        if sigma < LEAST_NOISE || is_texture {
            0.0
        } else {
            sigma
        }
    }

    /// The quality whose steps the coefficients lie on.
    fn jpeg_quality(&self) -> Option<u8> {
        let distance = |quality: u8| {
            let (mut count, mut found, mut random) = (0, 0.0, 0.0);
            for (index, (row, column)) in ZIGZAG.into_iter().enumerate() {
                let base = strength::ANNEX_K_LUMA[SIDE * row + column];
                let step = usize::from(strength::jpeg_step(base, quality));
                let (coefficients, squares) = self.distances[index * (MAX_STEP + 1) + step];
                count += coefficients;
                found += f64::from(squares);
                random += f64::from(coefficients) * (step * step) as f64 / 12.0;
            }
            (count >= LEAST_COEFFICIENTS).then_some(found / random)
        };
        let distances = (5..=95).filter_map(|quality| Some((quality, distance(quality)?)));
        let (quality, distance) = distances.min_by(|a, b| f64::total_cmp(&a.1, &b.1))?;
        (distance < MAX_DISTANCE).then_some(quality)
    }
}

/// Standard deviation of a block's values (x, y, value) from the plane that fits them best.
fn deviation_from_plane(values: impl Iterator<Item = (usize, usize, f32)> + Clone) -> f32 {
    const COUNT: f32 = (SIDE * SIDE) as f32;
    const CENTRE: f32 = (SIDE as f32 - 1.0) / 2.0;
    /// Sum of the squares of a coordinate, from the centre.
    const SQUARES: f32 = COUNT * (COUNT - 1.0) / 12.0;
    let mean = values.clone().map(|(.., v)| v).sum::<f32>() / COUNT;
    let (mut by_x, mut by_y, mut squares) = (0.0, 0.0, 0.0);
    for (x, y, v) in values {
        let v = v - mean;
        by_x += (x as f32 - CENTRE) * v;
        by_y += (y as f32 - CENTRE) * v;
        squares += v * v;
    }
    let rest = squares - (by_x * by_x + by_y * by_y) / SQUARES;
    (rest.max(0.0) / (COUNT - 3.0)).sqrt()
}
