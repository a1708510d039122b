//! Drawing the values of a degradation and carrying them out.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wdsr_image::imresize::imresize_u8;
use wdsr_model::strength;

use crate::blur::{ANGLES, BlurKernel};
use crate::jpeg::{CHROMA_REACH_PX, Compression, GRID_PX};
use crate::linear::{Extent, LinearChain};
use crate::mosaic::{self, Phase};
use crate::noise::{DrawnNoise, NoisePlace};
use crate::planes::Planes;
use crate::resample::{GAUSSIAN_REACH, area, cubic, gaussian, resample, triangle};
use crate::stage::{BlurShape, Degradation, Method, Per, Range, Stage};

/// A high-resolution image, or a part of one, with the patch in it that is to be degraded.
///
/// Samples are 8-bit R G B, interleaved and row-major. Where the region ends inside an image, the
/// patch needs [`Draw::margin_px`] around it; where the region ends with the image, it needs none.
#[derive(Clone, Copy, Debug)]
pub struct Region<'a> {
    width_px: usize,
    height_px: usize,
    pixels: &'a [u8],
}

impl<'a> Region<'a> {
    /// A region of `width_px` x `height_px` high-resolution pixels.
    ///
    /// # Panics
    ///
    /// If a side is 0 or `pixels` does not hold `width_px * height_px * 3`.
    pub fn new(width_px: usize, height_px: usize, pixels: &'a [u8]) -> Self {
        assert!(
            width_px > 0 && height_px > 0,
            "a region has at least one pixel, not {width_px} x {height_px}"
        );
        assert_eq!(
            pixels.len(),
            width_px * height_px * 3,
            "samples of a {width_px} x {height_px} region"
        );
        Self {
            width_px,
            height_px,
            pixels,
        }
    }

    /// A channel's samples, with those at the edges repeated beyond them.
    pub(crate) fn pad(&self, channel: usize, columns: &Extent, rows: &Extent, padded: &mut [f32]) {
        let inside = |at: isize, len: usize| at.clamp(0, len as isize - 1) as usize;
        // Padded columns before, in and after the region.
        let before = (-columns.first).clamp(0, columns.input as isize) as usize;
        let first = inside(columns.first, self.width_px);
        let within = (self.width_px - first).min(columns.input - before);
        for (y, to) in padded.chunks_exact_mut(columns.input).enumerate() {
            let y = inside(rows.first + y as isize, self.height_px);
            let row = self.pixels[3 * y * self.width_px..][..3 * self.width_px]
                .as_chunks::<3>()
                .0;
            let (start, rest) = to.split_at_mut(before);
            let (middle, end) = rest.split_at_mut(within);
            start.fill(f32::from(row[0][channel]));
            for (to, pixel) in middle.iter_mut().zip(&row[first..]) {
                *to = f32::from(pixel[channel]);
            }
            end.fill(f32::from(row[self.width_px - 1][channel]));
        }
    }
}

/// What came of a region.
#[derive(Clone, Debug, PartialEq)]
pub struct Degraded {
    /// Width in low-resolution pixels: the region's over the scale.
    pub width_px: usize,
    /// Height in low-resolution pixels.
    pub height_px: usize,
    /// 8-bit R G B, interleaved and row-major.
    pub pixels: Vec<u8>,
}

/// A degradation with its values drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    scale: usize,
    /// None: untouched.
    steps: Option<Vec<Step>>,
    noise_seed: u64,
    effects: Effects,
}

/// What the steps mean to the original: how much of it a patch needs, and how its target changes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Effects {
    margin_px: usize,
    known_shift_px: [f64; 2],
    gain: f64,
}

/// Where a patch is from. Stages whose values are drawn less often than for each patch draw them from
/// this alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Of the training.
    pub seed: u64,
    /// Number of the image.
    pub image: u64,
}

impl Origin {
    /// The generator of the stage at `index`; none if its values are drawn for each patch.
    fn rng(self, per: Per, index: usize) -> Option<ChaCha8Rng> {
        let image = match per {
            Per::Patch => return None,
            Per::Image => [1, self.image],
            Per::Dataset => [2, 0],
        };
        let [kind, image] = image;
        let mut seed = [0; 32];
        for (to, value) in seed
            .chunks_exact_mut(8)
            .zip([self.seed, image, index as u64, kind])
        {
            to.copy_from_slice(&value.to_le_bytes());
        }
        Some(ChaCha8Rng::from_seed(seed))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    Blur {
        kernel: BlurKernel,
        kernel_px: usize,
    },
    Downsample {
        method: Method,
        sigma_px: f64,
    },
    Shift {
        offset_px: [f64; 2],
        is_known: bool,
    },
    Exposure {
        gain: f64,
    },
    Noise(DrawnNoise),
    Jpeg(Compression),
}

impl Range {
    fn draw(self, rng: &mut impl Rng) -> f64 {
        rng.random_range(self.min..=self.max)
    }
}

fn choose<T: Copy>(list: &[T], rng: &mut impl Rng) -> T {
    list[rng.random_range(0..list.len())]
}

impl Degradation {
    /// Chooses the values for one patch. The same origin and state of `rng` give the same values.
    ///
    /// # Panics
    ///
    /// If [`check`](Self::check) would refuse the degradation at this scale.
    pub fn draw(&self, scale: usize, origin: Origin, rng: &mut impl Rng) -> Draw {
        self.draw_by(scale, None, origin, rng)
    }

    /// Chooses the values for one patch that is damaged as a strength says
    /// ([`wdsr_model::strength`]), within the ranges of the stages. One stage of noise or JPEG, drawn
    /// by the probabilities, runs at that strength; the others run by their probabilities, each at a
    /// strength drawn up to it.
    ///
    /// # Panics
    /// If [`check`](Self::check) would refuse the degradation at this scale.
    pub fn draw_at(&self, scale: usize, strength: f64, origin: Origin, rng: &mut impl Rng) -> Draw {
        self.draw_by(scale, Some(strength), origin, rng)
    }

    fn draw_by(
        &self,
        scale: usize,
        strength: Option<f64>,
        origin: Origin,
        rng: &mut impl Rng,
    ) -> Draw {
        if let Err(error) = self.check(scale) {
            panic!("{error}");
        }
        let untouched = rng.random_bool(self.untouched);
        let noise_seed = rng.random();
        let full = strength.and_then(|_| self.draw_full_stage(rng));
        let mut steps = Vec::new();
        for (index, stage) in self.stages.iter().enumerate() {
            let level = strength.map(|strength| match full == Some(index) {
                true => Level {
                    strength,
                    is_full: true,
                },
                false => Level {
                    strength: strength * rng.random_range(0.0..1.0),
                    is_full: false,
                },
            });
            match origin.rng(stage.per(), index) {
                Some(mut own) => draw_stage(stage, level, &mut steps, &mut own),
                None => draw_stage(stage, level, &mut steps, rng),
            }
        }
        let steps = (!untouched).then_some(steps);
        Draw {
            scale,
            effects: Effects::of(steps.as_deref(), scale),
            steps,
            noise_seed,
        }
    }

    /// The index of a stage of noise or JPEG, drawn by the probabilities.
    fn draw_full_stage(&self, rng: &mut impl Rng) -> Option<usize> {
        let weights = || {
            self.stages.iter().map(|stage| match stage {
                Stage::Noise(noise) => noise.probability,
                Stage::Jpeg(jpeg) => jpeg.probability,
                _ => 0.0,
            })
        };
        let mut at = rng.random_range(0.0..1.0) * weights().sum::<f64>();
        let mut drawn = None;
        for (index, weight) in weights().enumerate().filter(|(_, weight)| *weight > 0.0) {
            // The last one, should the sum have been rounded up.
            drawn = Some(index);
            at -= weight;
            if at < 0.0 {
                break;
            }
        }
        drawn
    }
}

/// How strong a stage is, in a draw by strength.
#[derive(Clone, Copy)]
struct Level {
    strength: f64,
    /// Whether the stage runs in any case.
    is_full: bool,
}

/// Chooses the values of a stage and adds what is to be carried out.
fn draw_stage(stage: &Stage, level: Option<Level>, steps: &mut Vec<Step>, rng: &mut impl Rng) {
    let is_full = level.is_some_and(|level| level.is_full);
    match stage {
        Stage::Blur(blur) => {
            let runs = rng.random_bool(blur.probability);
            let angle = rng.random_range(ANGLES);
            let kernel = match choose(&blur.shapes, rng) {
                BlurShape::Isotropic => BlurKernel::Isotropic {
                    sigma_px: blur.sigma_px.draw(rng),
                },
                BlurShape::Anisotropic => BlurKernel::Anisotropic {
                    sigma_px: [blur.sigma_px.draw(rng), blur.sigma_px.draw(rng)],
                    angle,
                },
                BlurShape::Motion => BlurKernel::Motion {
                    length_px: blur.length_px.draw(rng),
                    angle,
                },
            };
            let kernel_px = blur.kernel_px;
            steps.extend(runs.then_some(Step::Blur { kernel, kernel_px }));
        }
        Stage::Downsample(downsample) => steps.push(Step::Downsample {
            method: choose(&downsample.methods, rng),
            sigma_px: downsample.sigma_px.draw(rng),
        }),
        Stage::Shift(shift) => {
            let runs = rng.random_bool(shift.probability);
            let offset_px = [shift.offset_px.draw(rng), shift.offset_px.draw(rng)];
            let is_known = shift.known;
            steps.extend(runs.then_some(Step::Shift {
                offset_px,
                is_known,
            }));
        }
        Stage::Exposure(exposure) => {
            let runs = rng.random_bool(exposure.probability);
            let gain = exposure.gain.draw(rng);
            steps.extend(runs.then_some(Step::Exposure { gain }));
        }
        Stage::Noise(noise) => {
            let runs = rng.random_bool(noise.probability) || is_full;
            let place = rng.random_range(0.0..1.0);
            let phase = Phase {
                x: rng.random_range(0..2),
                y: rng.random_range(0..2),
            };
            let (sigma, poisson) = (noise.sigma_levels, noise.poisson.draw(rng));
            let (sigma_levels, poisson) = match level {
                None => (sigma.draw(rng), poisson),
                Some(Level { strength, .. }) => (
                    strength::noise_at(strength).clamp(sigma.min, sigma.max),
                    poisson * strength,
                ),
            };
            let drawn = DrawnNoise {
                sigma_levels,
                poisson,
                place: if place < noise.grey {
                    NoisePlace::Grey
                } else if place < noise.grey + noise.bayer {
                    NoisePlace::Bayer(phase)
                } else {
                    NoisePlace::Channels
                },
            };
            steps.extend(runs.then_some(Step::Noise(drawn)));
        }
        Stage::Jpeg(jpeg) => {
            let runs = rng.random_bool(jpeg.probability) || is_full;
            let twice = rng.random_bool(jpeg.twice);
            let [min, max] = jpeg.quality;
            for repetition in 0..2 {
                let again = if repetition == 0 {
                    1.0
                } else {
                    rng.random_range(0.0..1.0)
                };
                let compression = Compression {
                    quality: match level {
                        None => rng.random_range(min..=max),
                        Some(Level { strength, .. }) => {
                            strength::jpeg_quality_at(strength * again).clamp(min, max)
                        }
                    },
                    subsampling: choose(&jpeg.subsampling, rng),
                    grid_px: (rng.random_range(0..GRID_PX), rng.random_range(0..GRID_PX)),
                };
                if runs && (repetition == 0 || twice) {
                    steps.push(Step::Jpeg(compression));
                }
            }
        }
    }
}

impl Draw {
    /// Low-resolution pixels that a region holds on each side of the patch, where the image goes on
    /// there. Fewer change the values near the patch's edges, as the end of an image would.
    pub fn margin_px(&self) -> usize {
        self.effects.margin_px
    }

    /// Whether no stage touches the patch.
    pub fn is_untouched(&self) -> bool {
        self.steps.is_none()
    }

    /// What the training target is multiplied with: the product of the exposures.
    pub fn gain(&self) -> f64 {
        self.effects.gain
    }

    /// The sum of the known shifts, to the right and downwards, in high-resolution pixels: the training
    /// target is shifted as far.
    pub fn known_shift_px(&self) -> [f64; 2] {
        self.effects.known_shift_px
    }

    /// The region at low resolution, degraded. Only the patch inside it, [`margin_px`](Self::margin_px)
    /// from the edges that are not the image's, has the values of the whole image degraded.
    ///
    /// # Panics
    ///
    /// If a side of the region is no multiple of the scale.
    pub fn apply(&self, region: &Region<'_>) -> Degraded {
        let (width_px, height_px, scale) = (region.width_px, region.height_px, self.scale);
        assert!(
            width_px.is_multiple_of(scale) && height_px.is_multiple_of(scale),
            "a region of {width_px} x {height_px} pixels at scale {scale}"
        );
        let low_size = (width_px / scale, height_px / scale);
        let pixels = match &self.steps {
            None if scale == 1 => region.pixels.to_vec(),
            None => imresize_u8(region.pixels, width_px, height_px, 3, 1.0 / scale as f64).pixels,
            Some(steps) => {
                let (mut image, steps) = match LinearChain::of(steps, scale) {
                    Some((chain, rest)) => (chain.apply(region, low_size), rest),
                    None => {
                        let image = Planes::from_interleaved(width_px, height_px, region.pixels);
                        (image, &steps[..])
                    }
                };
                let mut rng = ChaCha8Rng::seed_from_u64(self.noise_seed);
                for step in steps {
                    step.apply(&mut image, low_size, scale, &mut rng);
                }
                image.to_interleaved()
            }
        };
        Degraded {
            width_px: low_size.0,
            height_px: low_size.1,
            pixels,
        }
    }
}

impl Step {
    fn apply(
        &self,
        image: &mut Planes,
        low_size: (usize, usize),
        scale: usize,
        rng: &mut impl Rng,
    ) {
        match *self {
            Self::Blur { kernel, kernel_px } => *image = kernel.apply(image, kernel_px),
            Self::Downsample { method, sigma_px } => {
                let factor = scale as f64;
                let centred = (0.0, 0.0);
                *image = match method {
                    Method::Bicubic => resample(image, low_size, factor, centred, &cubic(factor)),
                    Method::Bilinear => {
                        resample(image, low_size, factor, centred, &triangle(factor))
                    }
                    Method::Area => resample(image, low_size, factor, centred, &area(factor)),
                    Method::ShiftedGaussian => {
                        resample(image, low_size, factor, centred, &gaussian(sigma_px))
                    }
                };
            }
            Self::Shift {
                offset_px: [right, down],
                ..
            } => {
                let size = (image.width_px, image.height_px);
                *image = resample(image, size, 1.0, (right, down), &cubic(1.0));
            }
            Self::Exposure { gain } => {
                let gain = gain as f32;
                let samples = image.samples.iter_mut();
                samples.for_each(|v| *v = (*v * gain).min(255.0));
            }
            Self::Noise(noise) => noise.apply(image, rng),
            Self::Jpeg(compression) => compression.apply(image),
        }
    }

    /// Applies a step that needs no random numbers.
    #[cfg(test)]
    pub(crate) fn apply_alone(&self, image: &mut Planes, low_size: (usize, usize), scale: usize) {
        self.apply(image, low_size, scale, &mut ChaCha8Rng::seed_from_u64(0));
    }

    /// Pixels around a pixel that its value depends on, at the resolution before the step.
    fn reach_px(&self, scale: usize) -> f64 {
        let factor = scale as f64;
        match *self {
            Self::Blur { kernel, kernel_px } => kernel.radius_px(kernel_px) as f64,
            Self::Downsample { method, sigma_px } => match method {
                Method::Bicubic => 2.0 * factor,
                Method::Bilinear => factor,
                Method::Area => factor / 2.0,
                Method::ShiftedGaussian => GAUSSIAN_REACH * sigma_px + factor / 2.0,
            },
            // The target is interpolated with a wider kernel.
            Self::Shift {
                offset_px: [right, down],
                is_known,
            } => right.abs().max(down.abs()) + if is_known { 4.0 } else { 2.0 },
            Self::Exposure { .. } => 0.0,
            Self::Noise(noise) => match noise.place {
                NoisePlace::Bayer(_) => mosaic::REACH_PX as f64,
                _ => 0.0,
            },
            Self::Jpeg(_) => (GRID_PX + CHROMA_REACH_PX) as f64,
        }
    }
}

impl Effects {
    /// Those of the steps; without steps, of the plain reduction.
    fn of(steps: Option<&[Step]>, scale: usize) -> Self {
        let factor = scale as f64;
        let Some(steps) = steps else {
            return Self {
                // What MATLAB's bicubic kernel reads, which is nothing at scale 1.
                margin_px: if scale == 1 { 0 } else { 2 },
                known_shift_px: [0.0; 2],
                gain: 1.0,
            };
        };
        let (mut margin_px, mut known_shift_px, mut gain) = (0.0, [0.0; 2], 1.0);
        // High-resolution pixels of a pixel. At a scale above 1 one of the steps is the reduction.
        let mut pixel_px = factor;
        for step in steps.iter().rev() {
            if matches!(step, Step::Downsample { .. }) {
                pixel_px = 1.0;
            }
            margin_px += pixel_px * step.reach_px(scale);
            match *step {
                Step::Shift {
                    offset_px,
                    is_known: true,
                } => {
                    for (sum, offset) in known_shift_px.iter_mut().zip(offset_px) {
                        *sum += pixel_px * offset;
                    }
                }
                Step::Exposure { gain: factor } => gain *= factor,
                _ => {}
            }
        }
        Self {
            margin_px: (margin_px / factor).ceil() as usize,
            known_shift_px,
            gain,
        }
    }
}

#[cfg(test)]
mod tests;
