//! Random patches of images.
//!
//! Which patches an update sees follows from the seed and the update's number alone: not from the
//! threads, nor from where the decoded images are kept. So a training can go on anywhere.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wdsr_kernels::Planes;

use crate::error::Error;
use crate::gradients::Batch;
use crate::image_cache::{ImageCache, Square};

/// Batches made ahead of the update that uses them.
const BATCHES_AHEAD: usize = 4;

/// Images that share a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Which images of the cache.
    pub images: Range<usize>,
    /// Patches drawn from them, in proportion to the other shares' weights.
    pub weight: f64,
}

/// Cuts patches for any update.
pub struct Patches {
    images: Arc<ImageCache>,
    /// Running sum of the images' low-resolution pixels: an image is chosen by its size.
    pixels_up_to: Vec<u64>,
    shares: Vec<Share>,
    patch_px: usize,
    least_detail: f64,
    batch: usize,
    seed: u64,
}

/// How often a flat patch is drawn again.
const MOST_DRAWS: usize = 10;

impl Patches {
    /// Patches of `patch_px` x `patch_px` low-resolution pixels. Without shares every pixel of
    /// every image is drawn equally often, within a share likewise.
    ///
    /// # Panics
    /// When there is no image, or one smaller than a patch, or a share is empty.
    pub fn new(
        images: Arc<ImageCache>,
        shares: Vec<Share>,
        patch_px: usize,
        batch: usize,
        seed: u64,
    ) -> Self {
        assert!(!images.is_empty(), "no images to cut patches from");
        assert!(
            shares.iter().all(|share| !share.images.is_empty()),
            "empty share in {shares:?}"
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
            shares,
            patch_px,
            least_detail: 0.0,
            batch,
            seed,
        }
    }

    /// Draws again, a few times, patches whose high resolution has less detail than this: mean
    /// difference of neighbouring samples, in levels of 0..255.
    #[must_use]
    pub fn least_detail(mut self, least_detail: f64) -> Self {
        self.least_detail = least_detail;
        self
    }

    /// The images that patches are cut from.
    pub fn images(&self) -> &ImageCache {
        &self.images
    }

    /// Patches of a batch.
    pub fn batch_size(&self) -> usize {
        self.batch
    }

    /// Side of a patch in low-resolution pixels.
    pub fn patch_px(&self) -> usize {
        self.patch_px
    }

    /// How probable each image is to be the next patch's.
    pub fn probabilities(&self) -> Vec<f64> {
        let pixels = |image: usize| {
            let (width_px, height_px) = self.images.low_size_px(image);
            (width_px * height_px) as f64
        };
        let all = [Share {
            images: 0..self.images.len(),
            weight: 1.0,
        }];
        let shares = match self.shares.as_slice() {
            [] => all.as_slice(),
            shares => shares,
        };
        let total: f64 = shares.iter().map(|share| share.weight).sum();
        let mut probabilities = vec![0.0; self.images.len()];
        for share in shares {
            let of_share: f64 = share.images.clone().map(pixels).sum();
            for image in share.images.clone() {
                probabilities[image] = share.weight / total * pixels(image) / of_share;
            }
        }
        probabilities
    }

    /// The batch of an update: random images, places, flips and transposes.
    ///
    /// # Errors
    /// When the temporary file of the images cannot be read.
    pub fn batch(&self, update: u64) -> Result<Batch, Error> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(update);
        let mut batch = Batch {
            low: Vec::new(),
            high: Vec::new(),
            taught: Vec::new(),
        };
        for _ in 0..self.batch {
            let mut square = self.square(&mut rng)?;
            let high_px = self.patch_px * self.images.scale();
            for _ in 1..MOST_DRAWS {
                if self.least_detail == 0.0 || detail(&square.high, high_px) >= self.least_detail {
                    break;
                }
                square = self.square(&mut rng)?;
            }
            let orientation = Orientation(rng.random_range(0..8));
            let (side, scale) = (self.patch_px, self.images.scale());
            batch.low.push(turned(&square.low, side, orientation));
            let side = side * scale;
            batch.high.push(turned(&square.high, side, orientation));
        }
        Ok(batch)
    }

    /// A random place of a random image.
    fn square(&self, rng: &mut ChaCha8Rng) -> Result<Square, Error> {
        let image = self.image(rng);
        let (width_px, height_px) = self.images.low_size_px(image);
        let x = rng.random_range(0..=width_px - self.patch_px);
        let y = rng.random_range(0..=height_px - self.patch_px);
        self.images.square(image, x, y, self.patch_px)
    }

    /// A random image.
    fn image(&self, rng: &mut ChaCha8Rng) -> usize {
        let of_all = 0..self.images.len();
        let images = if self.shares.is_empty() {
            of_all
        } else {
            let total: f64 = self.shares.iter().map(|share| share.weight).sum();
            let mut at = rng.random_range(0.0..total);
            let chosen = self.shares.iter().find(|share| {
                at -= share.weight;
                at < 0.0
            });
            // The sum above may round up past the last share's end.
            let last = self.shares.last();
            chosen.or(last).map_or(of_all, |share| share.images.clone())
        };
        let before = |image: usize| match image {
            0 => 0,
            _ => self.pixels_up_to[image - 1],
        };
        let at = rng.random_range(before(images.start)..before(images.end));
        self.pixels_up_to.partition_point(|sum| *sum <= at)
    }

    /// Starts a thread that makes the batches of updates from `first` on, a few ahead.
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

/// Mean difference of neighbouring samples of a square of 3 channels, over both directions.
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

/// Bit 0 mirrors left-right, bit 1 top-bottom, bit 2 transposes.
#[derive(Clone, Copy)]
struct Orientation(u8);

/// A square R G B image, 0..255, as planes in 0..1, turned.
fn turned(pixels: &[u8], side_px: usize, orientation: Orientation) -> Planes {
    let mut planes = Planes::zeros(3, side_px, side_px);
    let last = side_px - 1;
    for channel in 0..3 {
        for to_y in 0..side_px {
            // Source of the first pixel of the row, and from one to the next.
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
mod tests;
