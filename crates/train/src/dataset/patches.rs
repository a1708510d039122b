//! Random patches of images.
//!
//! The patches of an update follow from the seed and the number of the update alone: not from the
//! number of threads, nor from where the decoded images are kept. So a run can be resumed anywhere.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wdsr_kernels::Planes;

use super::cache::{ImageCache, PatchPixels};
use crate::batch::Batch;
use crate::error::Error;

/// Batches prepared ahead of their updates.
const BATCHES_AHEAD: usize = 4;

/// The images of a folder with a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedImages {
    /// Range of images in the cache.
    pub images: Range<usize>,
    /// Share of the patches drawn from them, relative to the other weights.
    pub weight: f64,
}

/// Cuts the patches of any update.
pub struct Patches {
    images: Arc<ImageCache>,
    /// Running sum of the images' low-resolution pixels: an image is drawn in proportion to its size.
    pixels_up_to: Vec<u64>,
    weights: Vec<WeightedImages>,
    patch_px: usize,
    least_detail: f64,
    batch: usize,
    seed: u64,
}

/// Draws of a patch, if all are flat.
const MAX_DRAWS: usize = 10;

impl Patches {
    /// Patches of `patch_px` x `patch_px` low-resolution pixels. Without weights every pixel of
    /// all images is drawn equally often; with weights, every pixel of the images of a weight.
    ///
    /// # Panics
    /// If there is no image, an image is smaller than a patch, or a range of images is empty.
    pub fn new(
        images: Arc<ImageCache>,
        weights: Vec<WeightedImages>,
        patch_px: usize,
        batch: usize,
        seed: u64,
    ) -> Self {
        assert!(!images.is_empty(), "no images to cut patches from");
        assert!(
            weights.iter().all(|of| !of.images.is_empty()),
            "empty range of images in {weights:?}"
        );
        let mut sum = 0;
        let pixels_up_to = (0..images.len())
            .map(|image| {
                let (width_px, height_px) = images.low_size_px(image);
                let side = width_px.min(height_px);
                assert!(
                    side >= patch_px,
                    "patch of {patch_px} from a side of {side}"
                );
                sum += (width_px * height_px) as u64;
                sum
            })
            .collect();
        Self {
            images,
            pixels_up_to,
            weights,
            patch_px,
            least_detail: 0.0,
            batch,
            seed,
        }
    }

    /// Draws flat patches again, up to 10 times: those whose high-resolution neighbouring samples
    /// differ by less than `least_detail` on average, in levels of 0..255.
    #[must_use]
    pub fn with_least_detail(mut self, least_detail: f64) -> Self {
        self.least_detail = least_detail;
        self
    }

    /// The images.
    pub fn images(&self) -> &ImageCache {
        &self.images
    }

    /// Number of patches of a batch.
    pub fn batch_size(&self) -> usize {
        self.batch
    }

    /// Side of a patch in low-resolution pixels.
    pub fn patch_px(&self) -> usize {
        self.patch_px
    }

    /// The probability of each image to be drawn.
    pub fn probabilities(&self) -> Vec<f64> {
        let pixels = |image: usize| {
            let (width_px, height_px) = self.images.low_size_px(image);
            (width_px * height_px) as f64
        };
        let all = [WeightedImages {
            images: 0..self.images.len(),
            weight: 1.0,
        }];
        let weights = match self.weights.as_slice() {
            [] => all.as_slice(),
            weights => weights,
        };
        let total: f64 = weights.iter().map(|of| of.weight).sum();
        let mut probabilities = vec![0.0; self.images.len()];
        for WeightedImages { images, weight } in weights {
            let pixels_of_weight: f64 = images.clone().map(pixels).sum();
            for image in images.clone() {
                probabilities[image] = weight / total * pixels(image) / pixels_of_weight;
            }
        }
        probabilities
    }

    /// The batch of an update: random images, positions, flips and transpositions.
    ///
    /// # Errors
    /// If the temporary file of the images cannot be read.
    pub fn batch(&self, update: u64) -> Result<Batch, Error> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(update);
        let mut batch = Batch {
            low: Vec::new(),
            high: Vec::new(),
            taught: Vec::new(),
        };
        for _ in 0..self.batch {
            let mut patch = self.patch(&mut rng)?;
            let high_px = self.patch_px * self.images.scale();
            for _ in 1..MAX_DRAWS {
                if self.least_detail == 0.0 || detail(&patch.high, high_px) >= self.least_detail {
                    break;
                }
                patch = self.patch(&mut rng)?;
            }
            let orientation = Orientation(rng.random_range(0..8));
            let low = oriented_planes(&patch.low, self.patch_px, orientation);
            batch.low.push(low);
            let high = oriented_planes(&patch.high, high_px, orientation);
            batch.high.push(high);
        }
        Ok(batch)
    }

    /// A random patch of a random image.
    fn patch(&self, rng: &mut ChaCha8Rng) -> Result<PatchPixels, Error> {
        let image = self.image(rng);
        let (width_px, height_px) = self.images.low_size_px(image);
        let x = rng.random_range(0..=width_px - self.patch_px);
        let y = rng.random_range(0..=height_px - self.patch_px);
        self.images.patch(image, x, y, self.patch_px)
    }

    /// A random image.
    fn image(&self, rng: &mut ChaCha8Rng) -> usize {
        let all = 0..self.images.len();
        let images = if self.weights.is_empty() {
            all
        } else {
            let total: f64 = self.weights.iter().map(|of| of.weight).sum();
            let mut at = rng.random_range(0.0..total);
            let drawn = self.weights.iter().find(|of| {
                at -= of.weight;
                at < 0.0
            });
            // The total may round up past the last weight.
            let last = self.weights.last();
            drawn.or(last).map_or(all, |of| of.images.clone())
        };
        let before = |image: usize| match image {
            0 => 0,
            _ => self.pixels_up_to[image - 1],
        };
        let at = rng.random_range(before(images.start)..before(images.end));
        self.pixels_up_to.partition_point(|sum| *sum <= at)
    }

    /// Starts a thread that prepares the batches of the updates `first..end`, a few ahead.
    pub fn stream(self: &Arc<Self>, first: u64, end: u64) -> Receiver<Result<Batch, Error>> {
        let (sender, receiver) = sync_channel(BATCHES_AHEAD);
        let patches = Arc::clone(self);
        std::thread::spawn(move || {
            for update in first..end {
                let batch = patches.batch(update);
                let failed = batch.is_err();
                if sender.send(batch).is_err() || failed {
                    break;
                }
            }
        });
        receiver
    }
}

/// Mean difference of neighbouring samples of an R G B square, over both directions.
fn detail(pixels: &[u8], side_px: usize) -> f64 {
    let row_len = 3 * side_px;
    let difference = |(a, b): (&u8, &u8)| u64::from(a.abs_diff(*b));
    let rows = pixels.chunks_exact(row_len);
    let across: u64 = rows
        .map(|row| row.iter().zip(&row[3..]).map(difference).sum::<u64>())
        .sum();
    let down: u64 = pixels.iter().zip(&pixels[row_len..]).map(difference).sum();
    let pairs = 2 * side_px * (side_px - 1) * 3;
    (across + down) as f64 / pairs.max(1) as f64
}

/// Bit 0 flips left to right, bit 1 top to bottom, bit 2 transposes.
#[derive(Clone, Copy)]
struct Orientation(u8);

/// Flips and transposes a square R G B image, 0..255, into planes in 0..1.
fn oriented_planes(pixels: &[u8], side_px: usize, orientation: Orientation) -> Planes {
    let mut planes = Planes::zeros(3, side_px, side_px);
    let last = side_px - 1;
    for channel in 0..3 {
        for to_y in 0..side_px {
            // Source of the first pixel of the row, and the step to the next.
            let (mut first, mut step): ((usize, usize), (isize, isize)) = if orientation.0 & 4 == 0
            {
                ((0, to_y), (1, 0))
            } else {
                ((to_y, 0), (0, 1))
            };
            if orientation.0 & 1 != 0 {
                (first.0, step.0) = (last - first.0, -step.0);
            }
            if orientation.0 & 2 != 0 {
                (first.1, step.1) = (last - first.1, -step.1);
            }
            let mut at = (3 * (first.1 * side_px + first.0) + channel) as isize;
            let step = 3 * (step.1 * side_px as isize + step.0);
            for to in planes.row_mut(channel, to_y) {
                *to = f32::from(pixels[at as usize]) / 255.0;
                at += step;
            }
        }
    }
    planes
}

#[cfg(test)]
#[path = "patches_tests.rs"]
mod tests;
