//! Random patches of images.
//!
//! The patches of an update follow from the seed and the number of the update alone: not from the
//! number of threads, nor from where the decoded images are kept. So a run can be resumed anywhere.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wdsr_data::align::Part;
use wdsr_degrade::{Draw, Region};
use wdsr_kernels::Planes;

use super::cache::{ImageCache, PatchPixels, Rectangle, rows};
use super::degrader::{Degrader, target};
use crate::batch::Batch;
use crate::error::Error;

/// Batches that a thread prepares ahead of their updates.
const BATCHES_AHEAD: usize = 4;

/// The patches of an update, as they are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawnBatch {
    /// The patches.
    pub patches: Vec<DrawnPatch>,
    /// The strength of the damage, if the recipe's weights depend on it.
    pub strength: Option<f32>,
}

/// A patch.
#[derive(Clone, Debug, PartialEq)]
pub enum DrawnPatch {
    /// Its pixels.
    Pixels(PatchPixels),
    /// Where they are, for a device that has the images.
    Place(PatchPlace),
}

/// Where a patch is cut, and how it is turned then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchPlace {
    /// The image.
    pub image: usize,
    /// Column of its first pixel in low resolution.
    pub x: usize,
    /// Row of its first pixel in low resolution.
    pub y: usize,
    /// How it is turned.
    pub orientation: Orientation,
}

impl DrawnBatch {
    /// The batch for gradients on this processor, without a teacher's output.
    ///
    /// # Panics
    /// If a patch is only a place.
    pub fn planes(&self) -> Batch {
        let of = |side: fn(&PatchPixels) -> &[u8]| self.pixels().map(|p| planes(side(p))).collect();
        Batch {
            low: of(|patch| &patch.low),
            high: of(|patch| &patch.high),
            taught: Vec::new(),
        }
    }

    /// The patches' pixels.
    ///
    /// # Panics
    /// If a patch is only a place.
    pub(crate) fn pixels(&self) -> impl Iterator<Item = &PatchPixels> {
        self.patches.iter().map(|patch| match patch {
            DrawnPatch::Pixels(pixels) => pixels,
            DrawnPatch::Place(place) => panic!("pixels of {place:?}, which are not cut"),
        })
    }
}

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
    /// The patches of each batch that are made.
    share: Range<usize>,
    seed: u64,
    degrader: Option<Degrader>,
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
            share: 0..batch,
            seed,
            degrader: None,
        }
    }

    /// Makes only some patches of each batch, the same as with the others.
    #[must_use]
    pub fn with_share(mut self, share: Range<usize>) -> Self {
        assert!(
            share.end <= self.batch,
            "{share:?} of {} patches",
            self.batch
        );
        self.share = share;
        self
    }

    /// Makes the low-resolution patches from the originals, as a recipe's degradation says.
    #[must_use]
    pub fn with_degrader(mut self, degrader: Option<Degrader>) -> Self {
        self.degrader = degrader;
        self
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
    pub fn batch(&self, update: u64) -> Result<DrawnBatch, Error> {
        self.drawn(update, Cutting::Here)
    }

    fn drawn(&self, update: u64, cutting: Cutting) -> Result<DrawnBatch, Error> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(update);
        let degrader = self.degrader.as_ref();
        let strength = degrader.and_then(|d| d.draw_strength(&mut rng));
        let mut patches = Vec::new();
        let high_px = self.patch_px * self.images.scale();
        for at in 0..self.share.end {
            let mut place = self.place(&mut rng);
            let mut patch = None;
            for _ in 1..MAX_DRAWS {
                if self.least_detail == 0.0 {
                    break;
                }
                let detailed = self.cut(place)?;
                if detail(&detailed.high, high_px) >= self.least_detail {
                    patch = Some(detailed);
                    break;
                }
                place = self.place(&mut rng);
            }
            let orientation = Orientation::from_bits(rng.random_range(0..8));
            let draw = degrader.map(|d| d.draw(place.image as u64, strength, &mut rng));
            if at < self.share.start {
                continue;
            }
            let Place { image, x, y } = place;
            patches.push(match (draw, cutting) {
                (Some(draw), _) => DrawnPatch::Pixels(self.degraded(place, orientation, &draw)?),
                (None, Cutting::OnDevice) => DrawnPatch::Place(PatchPlace {
                    image,
                    x,
                    y,
                    orientation,
                }),
                (None, Cutting::Here) => {
                    let patch = patch.map_or_else(|| self.cut(place), Ok)?;
                    let square = |px| (px, px);
                    let high = orientation.turned(&patch.high, square(high_px));
                    let low = orientation.turned(&patch.low, square(self.patch_px));
                    DrawnPatch::Pixels(PatchPixels { low, high })
                }
            });
        }
        Ok(DrawnBatch {
            patches,
            strength: strength.map(|strength| strength as f32),
        })
    }

    /// A random place of a random image.
    fn place(&self, rng: &mut ChaCha8Rng) -> Place {
        let image = self.image(rng);
        let (width_px, height_px) = self.images.low_size_px(image);
        Place {
            image,
            x: rng.random_range(0..=width_px - self.patch_px),
            y: rng.random_range(0..=height_px - self.patch_px),
        }
    }

    fn cut(&self, place: Place) -> Result<PatchPixels, Error> {
        let part = Rectangle {
            x: place.x,
            y: place.y,
            width: self.patch_px,
            height: self.patch_px,
        };
        self.images.patch(place.image, part)
    }

    /// The patch with its low-resolution side made from the original around it. The original is turned
    /// before it is degraded: JPEG and a mosaic treat rows and columns differently.
    fn degraded(
        &self,
        place: Place,
        orientation: Orientation,
        draw: &Draw,
    ) -> Result<PatchPixels, Error> {
        let (scale, patch_px) = (self.images.scale(), self.patch_px);
        let (width_px, height_px) = self.images.low_size_px(place.image);
        let span = |at: usize, len: usize| {
            let first = at.saturating_sub(draw.margin_px());
            let end = (at + patch_px + draw.margin_px()).min(len);
            (first, end - first)
        };
        let ((x, width), (y, height)) = (span(place.x, width_px), span(place.y, height_px));
        let part = Rectangle {
            x,
            y,
            width,
            height,
        };
        let original = self.images.patch(place.image, part)?.high;
        let original = orientation.turned(&original, (width * scale, height * scale));
        let (width, height) = orientation.turned_size((width, height));
        let (x, y) = orientation.turned_place(
            (place.x - x, place.y - y),
            patch_px,
            (part.width, part.height),
        );
        let high_width = width * scale;
        let region = Region::new(high_width, height * scale, &original);
        let low = draw.apply(&region).pixels;
        let high_part = Part {
            x: x * scale,
            y: y * scale,
            width_px: patch_px * scale,
            height_px: patch_px * scale,
        };
        let low_part = Rectangle {
            x,
            y,
            width: patch_px,
            height: patch_px,
        };
        Ok(PatchPixels {
            low: rows(&low, width, low_part),
            high: target(draw, &original, high_width, high_part),
        })
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

    /// Starts threads that prepare the batches of some updates, a few ahead. They come in the order of the updates, up to the
    /// first error.
    pub fn stream(
        self: &Arc<Self>,
        updates: Range<u64>,
        threads: usize,
        cutting: Cutting,
    ) -> BatchStream {
        let start = |thread: u64| {
            let (sender, receiver) = sync_channel(BATCHES_AHEAD);
            let (patches, updates) = (Arc::clone(self), updates.clone());
            std::thread::spawn(move || {
                for update in updates.skip(thread as usize).step_by(threads) {
                    let batch = patches.drawn(update, cutting);
                    let failed = batch.is_err();
                    if sender.send(batch).is_err() || failed {
                        break;
                    }
                }
            });
            receiver
        };
        BatchStream {
            threads: (0..threads as u64).map(start).collect(),
            next: 0,
        }
    }
}

/// Where patches are cut from their images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cutting {
    /// By the threads that prepare batches.
    Here,
    /// On a device that has the images. Degraded patches are made here all the same.
    OnDevice,
}

/// The batches of a range of updates.
pub struct BatchStream {
    /// Each sends the batch of every update whose number has the same remainder.
    threads: Vec<Receiver<Result<DrawnBatch, Error>>>,
    next: usize,
}

impl Iterator for BatchStream {
    type Item = Result<DrawnBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        // A thread that is done has no sender any more: the updates are at their end.
        let batch = self.threads[self.next].recv().ok()?;
        self.next = (self.next + 1) % self.threads.len();
        Some(batch)
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

/// Where a patch lies: its first pixel in low resolution.
#[derive(Clone, Copy)]
struct Place {
    image: usize,
    x: usize,
    y: usize,
}

/// Bit 0 flips left to right, bit 1 top to bottom, bit 2 transposes the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orientation(u8);

impl Orientation {
    /// From its bits.
    ///
    /// # Panics
    /// If there are more than three.
    pub fn from_bits(bits: u8) -> Self {
        assert!(bits < 8, "{bits:#b} as an orientation, at most 0b111");
        Self(bits)
    }

    /// The bits: 1 flips left to right, 2 top to bottom, 4 transposes the result.
    pub fn bits(self) -> u8 {
        self.0
    }

    fn flips_columns(self) -> bool {
        self.0 & 1 != 0
    }

    fn flips_rows(self) -> bool {
        self.0 & 2 != 0
    }

    fn transposes(self) -> bool {
        self.0 & 4 != 0
    }

    fn turned_size(self, (width, height): (usize, usize)) -> (usize, usize) {
        match self.transposes() {
            true => (height, width),
            false => (width, height),
        }
    }

    /// Where the first pixel of a square of `side` at (`x`, `y`) comes to lie.
    fn turned_place(
        self,
        (x, y): (usize, usize),
        side: usize,
        (width, height): (usize, usize),
    ) -> (usize, usize) {
        let x = if self.flips_columns() {
            width - side - x
        } else {
            x
        };
        let y = if self.flips_rows() {
            height - side - y
        } else {
            y
        };
        match self.transposes() {
            true => (y, x),
            false => (x, y),
        }
    }

    /// An R G B image turned.
    fn turned(self, pixels: &[u8], (width, height): (usize, usize)) -> Vec<u8> {
        let (turned_width, turned_height) = self.turned_size((width, height));
        let mut turned = Vec::with_capacity(pixels.len());
        for y in 0..turned_height {
            for x in 0..turned_width {
                let (x, y) = if self.transposes() { (y, x) } else { (x, y) };
                let x = if self.flips_columns() {
                    width - 1 - x
                } else {
                    x
                };
                let y = if self.flips_rows() { height - 1 - y } else { y };
                let at = 3 * (y * width + x);
                turned.extend_from_slice(&pixels[at..at + 3]);
            }
        }
        turned
    }
}

/// A square R G B image, 0..255, as planes in 0..1.
fn planes(pixels: &[u8]) -> Planes {
    let side_px = (pixels.len() / 3).isqrt();
    let mut planes = Planes::zeros(3, side_px, side_px);
    for channel in 0..3 {
        for (y, row) in pixels.chunks_exact(3 * side_px).enumerate() {
            let samples = row[channel..].iter().step_by(3);
            for (to, sample) in planes.row_mut(channel, y).iter_mut().zip(samples) {
                *to = f32::from(*sample) / 255.0;
            }
        }
    }
    planes
}

#[cfg(test)]
#[path = "patches_tests.rs"]
mod tests;
