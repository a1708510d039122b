//! Random patches of a folder of pictures.
//!
//! All pictures are held decoded in memory, 8 bit: 3 bytes for each high-resolution pixel and
//! 3 / scale^2 for its low-resolution one. Which patches an update sees follows from the seed and
//! the update's number alone, so a training can go on anywhere.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use wdsr_eval::{PicturePair, Track, find_pairs};
use wdsr_kernels::Planes;

use crate::error::Error;
use crate::gradients::Batch;

/// Batches made ahead of the update that uses them.
const BATCHES_AHEAD: usize = 4;

/// Pictures to train on, and those kept from it for validation.
pub struct Pictures {
    /// Patches are cut from these.
    pub training: Vec<PicturePair>,
    /// Never trained on: name and pictures.
    pub validation: Vec<(String, PicturePair)>,
    /// Pictures too small for a patch, left out.
    pub too_small: Vec<String>,
}

impl Pictures {
    /// Reads all pictures of a folder (pictures alone, or any layout of pairs that
    /// [`find_pairs`] knows). `validation` of them, spread evenly, are kept from training.
    /// `progress` is told (pictures read, pictures in all).
    ///
    /// # Errors
    /// When the folder has no pictures, one cannot be read, or too few are large enough for a
    /// patch.
    pub fn load(
        folder: &Path,
        scale: usize,
        patch_px: usize,
        validation: usize,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self, Error> {
        let pairs = find_pairs(folder, scale, Track::Bicubic)?;
        let done = std::sync::atomic::AtomicUsize::new(0);
        let loaded: Vec<(String, PicturePair)> = pairs
            .par_iter()
            .map(|pair| {
                let pictures = pair.load()?;
                progress(
                    done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1,
                    pairs.len(),
                );
                Ok((pair.name.clone(), pictures))
            })
            .collect::<Result<_, Error>>()?;
        let fits = |pair: &PicturePair| pair.low_width_px.min(pair.low_height_px) >= patch_px;
        let (large, small): (Vec<_>, Vec<_>) = loaded.into_iter().partition(|(_, pair)| fits(pair));
        if large.len() <= validation {
            let reason = format!(
                "{} pictures of at least {patch_px} low-resolution pixels on each side, expected \
                 more than the {validation} kept for validation",
                large.len()
            );
            return Err(Error::Data {
                path: folder.to_owned(),
                reason,
            });
        }
        // Picture i of n is kept where i * validation / n steps up.
        let count = large.len();
        let keep = |i: usize| (i + 1) * validation / count != i * validation / count;
        let mut split = Self {
            training: Vec::new(),
            validation: Vec::new(),
            too_small: Vec::new(),
        };
        for (i, (name, pair)) in large.into_iter().enumerate() {
            if keep(i) {
                split.validation.push((name, pair));
            } else {
                split.training.push(pair);
            }
        }
        split.too_small = small.into_iter().map(|(name, _)| name).collect();
        Ok(split)
    }
}

/// Cuts patches for any update.
pub struct Patches {
    pictures: Vec<PicturePair>,
    /// Running sum of the pictures' low-resolution pixels: a picture is chosen by its size.
    pixels_up_to: Vec<u64>,
    patch_px: usize,
    batch: usize,
    seed: u64,
}

impl Patches {
    /// Patches of `patch_px` x `patch_px` low-resolution pixels.
    ///
    /// # Panics
    /// When there is no picture, or one smaller than a patch.
    pub fn new(pictures: Vec<PicturePair>, patch_px: usize, batch: usize, seed: u64) -> Self {
        assert!(!pictures.is_empty(), "no pictures to cut patches from");
        let mut sum = 0;
        let pixels_up_to = pictures
            .iter()
            .map(|pair| {
                let side = pair.low_width_px.min(pair.low_height_px);
                assert!(
                    side >= patch_px,
                    "patch of {patch_px} from a side of {side}"
                );
                sum += (pair.low_width_px * pair.low_height_px) as u64;
                sum
            })
            .collect();
        Self {
            pictures,
            pixels_up_to,
            patch_px,
            batch,
            seed,
        }
    }

    /// The batch of an update: random pictures, places, flips and transposes.
    pub fn batch(&self, update: u64) -> Batch {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(update);
        let total = self.pixels_up_to[self.pixels_up_to.len() - 1];
        let mut batch = Batch {
            low: Vec::new(),
            high: Vec::new(),
        };
        for _ in 0..self.batch {
            let at = rng.random_range(0..total);
            let pair = &self.pictures[self.pixels_up_to.partition_point(|sum| *sum <= at)];
            let x = rng.random_range(0..=pair.low_width_px - self.patch_px);
            let y = rng.random_range(0..=pair.low_height_px - self.patch_px);
            let orientation = Orientation(rng.random_range(0..8));
            let (scale, side) = (pair.scale, self.patch_px);
            batch
                .low
                .push(cut(&pair.low, pair.low_width_px, x, y, side, orientation));
            let width = pair.low_width_px * scale;
            batch.high.push(cut(
                &pair.high,
                width,
                x * scale,
                y * scale,
                side * scale,
                orientation,
            ));
        }
        batch
    }

    /// Starts a thread that makes the batches of updates from `first` on, a few ahead.
    pub fn stream(self: &Arc<Self>, first: u64, end: u64) -> Receiver<Batch> {
        let (sender, receiver) = sync_channel(BATCHES_AHEAD);
        let patches = Arc::clone(self);
        std::thread::spawn(move || {
            for update in first..end {
                if sender.send(patches.batch(update)).is_err() {
                    break;
                }
            }
        });
        receiver
    }
}

/// Bit 0 mirrors left-right, bit 1 top-bottom, bit 2 transposes.
#[derive(Clone, Copy)]
struct Orientation(u8);

/// A square of an interleaved RGB picture as planes in 0..1.
fn cut(
    pixels: &[u8],
    width_px: usize,
    x: usize,
    y: usize,
    side_px: usize,
    orientation: Orientation,
) -> Planes {
    let mut planes = Planes::zeros(3, side_px, side_px);
    for channel in 0..3 {
        for to_y in 0..side_px {
            let row = planes.row_mut(channel, to_y);
            for (to_x, to) in row.iter_mut().enumerate() {
                let (mut from_x, mut from_y) = if orientation.0 & 4 == 0 {
                    (to_x, to_y)
                } else {
                    (to_y, to_x)
                };
                if orientation.0 & 1 != 0 {
                    from_x = side_px - 1 - from_x;
                }
                if orientation.0 & 2 != 0 {
                    from_y = side_px - 1 - from_y;
                }
                let at = ((y + from_y) * width_px + x + from_x) * 3 + channel;
                *to = f32::from(pixels[at]) / 255.0;
            }
        }
    }
    planes
}
