//! Decoded images from which patches are cut: in memory up to a limit, above it in a temporary file.
//!
//! Patches come from random places of random images, so a cache that evicts images would decode one
//! for almost every patch. All images are therefore decoded once, to 8 bits: 3 bytes for each
//! high-resolution pixel and 3 / scale^2 for its low-resolution pixel. Above the limit they are
//! written to a file without a name, which the system removes however the program ends, and which it
//! caches in free memory.
//!
//! In the file an image is cut into tiles of 32 x 32 low-resolution pixels, row by row: the
//! low-resolution pixels of a tile, then its high-resolution pixels, both row-major R G B. A patch
//! takes one read for each row of tiles that it touches.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use wdsr_data::align::{Part, Placement};
use wdsr_data::map_or_first_error;
use wdsr_eval::{ImagePair, Pair};

use crate::error::Error;

/// Side of a tile in low-resolution pixels. A patch of 48 touches 6.3 tiles on average, 2.8 times its
/// own pixels.
const TILE_PX: usize = 32;

/// A pair of images that is not decoded yet.
#[derive(Clone, Debug)]
pub struct PairSource {
    /// Its files.
    pub pair: Pair,
    /// Width of the low-resolution image.
    pub low_width_px: usize,
    /// Height of the low-resolution image.
    pub low_height_px: usize,
    /// Where the low-resolution image lies against its original, and the part of it that is used, if
    /// that is not the whole of both. The size is that of the part.
    pub alignment: Option<(Placement, Part)>,
}

impl PairSource {
    /// Reads the pair and aligns it.
    ///
    /// # Errors
    /// If an image cannot be read, or the sizes do not fit.
    pub fn load(&self) -> Result<ImagePair, Error> {
        let pair = self.pair.load()?;
        Ok(match self.alignment {
            Some((placement, part)) => placement.align_pair(&pair, part),
            None => pair,
        })
    }

    /// Size of the decoded pair.
    fn decoded_bytes(&self) -> u64 {
        let (pixels, scale) = (self.low_width_px * self.low_height_px, self.pair.scale);
        3 * pixels as u64 * (1 + scale * scale) as u64
    }
}

/// Decoded pairs of images of one scale.
pub struct ImageCache {
    scale: usize,
    images: Vec<CachedPair>,
    store: Store,
}

struct CachedPair {
    files: Pair,
    low_width_px: usize,
    low_height_px: usize,
    /// Position in the file.
    offset: u64,
}

enum Store {
    Memory(Vec<ImagePair>),
    File { file: Mutex<File>, folder: PathBuf },
}

/// A part of an image, in low-resolution pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// Left edge.
    pub x: usize,
    /// Top edge.
    pub y: usize,
    /// Width.
    pub width: usize,
    /// Height.
    pub height: usize,
}

impl Rectangle {
    /// The same part in pixels of `scale` times the resolution.
    fn at_scale(self, scale: usize) -> Self {
        Self {
            x: self.x * scale,
            y: self.y * scale,
            width: self.width * scale,
            height: self.height * scale,
        }
    }

    fn pixels(self) -> usize {
        self.width * self.height
    }
}

/// The pixels of a part of a pair, row-major R G B, 0..255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchPixels {
    /// `[height, width, 3]`
    pub low: Vec<u8>,
    /// `[scale height, scale width, 3]`
    pub high: Vec<u8>,
}

impl ImageCache {
    /// Decodes all pairs. If they need more than `memory_bytes`, they are kept in a temporary file in
    /// `folder`. Calls `progress` with (images decoded, all images).
    ///
    /// # Errors
    /// If an image cannot be read or its size has changed, or the temporary file cannot be written.
    pub fn load(
        sources: &[PairSource],
        memory_bytes: u64,
        folder: &Path,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self, Error> {
        let scale = sources.first().map_or(1, |source| source.pair.scale);
        let done = AtomicUsize::new(0);
        let decode = |source: &PairSource| -> Result<ImagePair, Error> {
            let pair = source.load()?;
            let found = (pair.low_width_px, pair.low_height_px);
            let expected = (source.low_width_px, source.low_height_px);
            if found != expected {
                let image = source.pair.high.clone();
                return Err(Error::ImageChanged {
                    image,
                    expected,
                    found,
                });
            }
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, sources.len());
            Ok(pair)
        };
        let decoded = |source: &PairSource, offset: u64| CachedPair {
            files: source.pair.clone(),
            low_width_px: source.low_width_px,
            low_height_px: source.low_height_px,
            offset,
        };
        if sources.iter().map(PairSource::decoded_bytes).sum::<u64>() <= memory_bytes {
            let pairs = map_or_first_error(sources, decode)?;
            return Ok(Self {
                scale,
                images: sources.iter().map(|source| decoded(source, 0)).collect(),
                store: Store::Memory(pairs),
            });
        }
        let file = tempfile::tempfile_in(folder).map_err(|source| cache_error(folder, source))?;
        let file = Mutex::new(file);
        let images = map_or_first_error(sources, |source| -> Result<_, Error> {
            let tiles = to_tiles(&decode(source)?);
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let offset = file
                .seek(SeekFrom::End(0))
                .and_then(|offset| file.write_all(&tiles).map(|()| offset))
                .map_err(|source| cache_error(folder, source))?;
            Ok(decoded(source, offset))
        })?;
        Ok(Self {
            scale,
            images,
            store: Store::File {
                file,
                folder: folder.to_owned(),
            },
        })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Whether the images are in a temporary file.
    pub fn is_in_file(&self) -> bool {
        matches!(self.store, Store::File { .. })
    }

    /// Scale from low to high resolution.
    pub fn scale(&self) -> usize {
        self.scale
    }

    /// Width and height of a low-resolution image.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn low_size_px(&self, image: usize) -> (usize, usize) {
        let decoded = &self.images[image];
        (decoded.low_width_px, decoded.low_height_px)
    }

    /// The files of an image.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn files(&self, image: usize) -> &Pair {
        &self.images[image].files
    }

    /// Number of high-resolution pixels of all images.
    pub fn high_pixels(&self) -> u64 {
        let low = |p: &CachedPair| (p.low_width_px * p.low_height_px) as u64;
        self.images.iter().map(low).sum::<u64>() * (self.scale * self.scale) as u64
    }

    /// The pixels of a part of an image, in both resolutions.
    ///
    /// # Errors
    /// If the temporary file cannot be read.
    ///
    /// # Panics
    /// If there is no such image or the part does not lie within it.
    pub fn patch(&self, image: usize, part: Rectangle) -> Result<PatchPixels, Error> {
        let (width_px, height_px) = self.low_size_px(image);
        assert!(
            part.pixels() > 0
                && part.x + part.width <= width_px
                && part.y + part.height <= height_px,
            "{part:?} of {width_px} x {height_px}"
        );
        let scale = self.scale;
        match &self.store {
            Store::Memory(pairs) => {
                let pair = &pairs[image];
                Ok(PatchPixels {
                    low: rows(&pair.low, width_px, part),
                    high: rows(&pair.high, width_px * scale, part.at_scale(scale)),
                })
            }
            Store::File { file, folder } => self
                .patch_of_tiles(file, image, part)
                .map_err(|source| cache_error(folder, source)),
        }
    }

    /// The pixels of a whole image, in both resolutions.
    ///
    /// # Errors
    /// If the temporary file cannot be read.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn whole(&self, image: usize) -> Result<PatchPixels, Error> {
        let (width, height) = self.low_size_px(image);
        let whole = Rectangle {
            x: 0,
            y: 0,
            width,
            height,
        };
        self.patch(image, whole)
    }

    fn patch_of_tiles(
        &self,
        file: &Mutex<File>,
        image: usize,
        part: Rectangle,
    ) -> std::io::Result<PatchPixels> {
        let scale = self.scale;
        let decoded = &self.images[image];
        let tile_bytes = tile_bytes(scale);
        let tiles_across = decoded.low_width_px.div_ceil(TILE_PX);
        let Rectangle {
            x,
            y,
            width,
            height,
        } = part;
        let (first, last) = (x / TILE_PX, (x + width - 1) / TILE_PX);
        let high = part.at_scale(scale);
        let mut patch = PatchPixels {
            low: vec![0; 3 * part.pixels()],
            high: vec![0; 3 * high.pixels()],
        };
        let mut tiles = vec![0; (last - first + 1) * tile_bytes];
        for down in y / TILE_PX..=(y + height - 1) / TILE_PX {
            let at = (down * tiles_across + first) * tile_bytes;
            {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(decoded.offset + at as u64))?;
                file.read_exact(&mut tiles)?;
            }
            for (pixels, across) in tiles.chunks_exact(tile_bytes).zip(first..=last) {
                let (low_pixels, high_pixels) = pixels.split_at(3 * TILE_PX * TILE_PX);
                let tile = Rectangle {
                    x: across * TILE_PX,
                    y: down * TILE_PX,
                    width: TILE_PX,
                    height: TILE_PX,
                };
                copy_overlap(low_pixels, tile, &mut patch.low, part);
                copy_overlap(high_pixels, tile.at_scale(scale), &mut patch.high, high);
            }
        }
        Ok(patch)
    }
}

fn cache_error(folder: &Path, source: std::io::Error) -> Error {
    Error::ImageCache {
        folder: folder.to_owned(),
        source,
    }
}

fn tile_bytes(scale: usize) -> usize {
    3 * TILE_PX * TILE_PX * (1 + scale * scale)
}

/// A part cut from an image of the given width.
pub(super) fn rows(pixels: &[u8], width_px: usize, part: Rectangle) -> Vec<u8> {
    let mut cut = Vec::with_capacity(3 * part.pixels());
    for row in part.y..part.y + part.height {
        let at = 3 * (row * width_px + part.x);
        cut.extend_from_slice(&pixels[at..at + 3 * part.width]);
    }
    cut
}

/// All tiles of a pair; those at the right and the bottom are padded with zeros.
fn to_tiles(pair: &ImagePair) -> Vec<u8> {
    let scale = pair.scale;
    let (width, height) = (pair.low_width_px, pair.low_height_px);
    let tile_bytes = tile_bytes(scale);
    let (across, down) = (width.div_ceil(TILE_PX), height.div_ceil(TILE_PX));
    let mut tiles = vec![0; across * down * tile_bytes];
    for (at, tile) in tiles.chunks_exact_mut(tile_bytes).enumerate() {
        let (x, y) = (at % across * TILE_PX, at / across * TILE_PX);
        let (low, high) = tile.split_at_mut(3 * TILE_PX * TILE_PX);
        for (pixels, tile, scale) in [(&pair.low, low, 1), (&pair.high, high, scale)] {
            let columns = 3 * (width - x).min(TILE_PX) * scale;
            for row in 0..(height - y).min(TILE_PX) * scale {
                let from = 3 * ((y * scale + row) * width * scale + x * scale);
                let to = 3 * row * TILE_PX * scale;
                tile[to..to + columns].copy_from_slice(&pixels[from..from + columns]);
            }
        }
    }
    tiles
}

/// Copies the pixels of a tile that lie in a part of the same image.
fn copy_overlap(from: &[u8], tile: Rectangle, to: &mut [u8], part: Rectangle) {
    let (left, right) = (
        tile.x.max(part.x),
        (tile.x + tile.width).min(part.x + part.width),
    );
    let (top, bottom) = (
        tile.y.max(part.y),
        (tile.y + tile.height).min(part.y + part.height),
    );
    let count = 3 * (right - left);
    for y in top..bottom {
        let at = 3 * ((y - tile.y) * tile.width + left - tile.x);
        let into = 3 * ((y - part.y) * part.width + left - part.x);
        to[into..into + count].copy_from_slice(&from[at..at + count]);
    }
}
