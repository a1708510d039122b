//! Low-resolution patches that are made from the originals by a recipe's degradation.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wdsr_degrade::{Degradation, Draw, Region};
use wdsr_eval::ImagePair;

use crate::recipe::Recipe;

/// How the low-resolution side of a dataset is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Damage {
    degradation: Degradation,
    strength: Option<[f64; 2]>,
    scale: usize,
    seed: u64,
}

impl Damage {
    /// That of a recipe; none if its low-resolution images are the dataset's.
    pub fn of(recipe: &Recipe) -> Option<Self> {
        Some(Self {
            degradation: recipe.degradation.clone()?,
            strength: recipe.strength.as_ref().map(|strength| strength.range),
            scale: recipe.network.scale,
            seed: recipe.training.seed,
        })
    }

    /// The strength of an update, if there is one.
    pub(crate) fn draw_strength(&self, rng: &mut impl Rng) -> Option<f64> {
        let [min, max] = self.strength?;
        Some(rng.random_range(min..=max))
    }

    /// The values for a patch.
    pub(crate) fn draw(&self, strength: Option<f64>, rng: &mut impl Rng) -> Draw {
        match strength {
            Some(strength) => self.degradation.draw_at(self.scale, strength, rng),
            None => self.degradation.draw(self.scale, rng),
        }
    }

    /// The pair with its low-resolution side made by the degradation, and its strength if there is one:
    /// image `index` of `count`, whose strengths are spread evenly. The same call returns the same pair.
    pub fn degraded(
        &self,
        pair: &ImagePair,
        index: usize,
        count: usize,
    ) -> (ImagePair, Option<f32>) {
        let strength = self.strength.map(|[min, max]| {
            let share = (index as f64 + 0.5) / count as f64;
            min + (max - min) * share
        });
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        // Streams of updates count from 0.
        rng.set_stream(u64::MAX - index as u64);
        let draw = self.draw(strength, &mut rng);
        let (width_px, height_px) = pair.high_size_px();
        let degraded = draw.apply(&Region::new(width_px, height_px, &pair.high));
        let mut pair = pair.clone();
        pair.low = degraded.pixels;
        pair.high = target(&draw, pair.high, (width_px, height_px));
        (pair, strength.map(|strength| strength as f32))
    }
}

/// The target of a whole image: brightened as the low-resolution side is, and shifted by a known shift.
/// Beyond an edge its pixel repeats.
fn target(draw: &Draw, mut pixels: Vec<u8>, (width_px, height_px): (usize, usize)) -> Vec<u8> {
    brighten(&mut pixels, draw.gain());
    let (right, down) = draw.known_shift_px();
    if (right, down) == (0, 0) {
        return pixels;
    }
    let inside =
        |at: usize, shift: isize, len: usize| at.saturating_add_signed(-shift).min(len - 1);
    let mut shifted = Vec::with_capacity(pixels.len());
    for y in 0..height_px {
        let row = inside(y, down, height_px) * width_px;
        for x in 0..width_px {
            let at = 3 * (row + inside(x, right, width_px));
            shifted.extend_from_slice(&pixels[at..at + 3]);
        }
    }
    shifted
}

/// Multiplies samples by a gain.
pub(crate) fn brighten(pixels: &mut [u8], gain: f64) {
    if gain != 1.0 {
        for sample in pixels {
            *sample = (f64::from(*sample) * gain).round().min(255.0) as u8;
        }
    }
}
