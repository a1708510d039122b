//! Low-resolution patches that are made from the originals by a recipe's degradation.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wdsr_data::align::{Part, cut_shifted_rgb8};
use wdsr_degrade::{Degradation, Draw, Origin, Region};
use wdsr_eval::ImagePair;

use crate::recipe::Recipe;

/// Makes the low-resolution side of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Degrader {
    degradation: Degradation,
    strength: Option<[f64; 2]>,
    scale: usize,
    seed: u64,
}

impl Degrader {
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

    /// The values for a patch of an image.
    pub(crate) fn draw(&self, image: u64, strength: Option<f64>, rng: &mut impl Rng) -> Draw {
        let origin = Origin {
            seed: self.seed,
            image,
        };
        match strength {
            Some(strength) => self.degradation.draw_at(self.scale, strength, origin, rng),
            None => self.degradation.draw(self.scale, origin, rng),
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
        // Updates and training images count from 0.
        let image = u64::MAX - index as u64;
        rng.set_stream(image);
        let draw = self.draw(image, strength, &mut rng);
        let (width_px, height_px) = pair.high_size_px();
        let degraded = draw.apply(&Region::new(width_px, height_px, &pair.high));
        let mut pair = pair.clone();
        pair.low = degraded.pixels;
        let whole = Part {
            x: 0,
            y: 0,
            width_px,
            height_px,
        };
        pair.high = target(&draw, &pair.high, width_px, whole);
        (pair, strength.map(|strength| strength as f32))
    }
}

/// A part of an original as the target of a draw: shifted by the known shift and brightened. Beyond an
/// edge its pixel repeats.
pub(crate) fn target(draw: &Draw, original: &[u8], width_px: usize, part: Part) -> Vec<u8> {
    let mut target = cut_shifted_rgb8(original, width_px, part, draw.known_shift_px());
    let gain = draw.gain();
    if gain != 1.0 {
        for sample in &mut target {
            *sample = (f64::from(*sample) * gain).round().min(255.0) as u8;
        }
    }
    target
}
