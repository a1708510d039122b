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

use rayon::prelude::*;
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
}

impl PairSource {
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

/// The pixels of a patch, row-major R G B, 0..255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchPixels {
    /// `[side, side, 3]`
    pub low: Vec<u8>,
    /// `[scale side, scale side, 3]`
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
            let pair = source.pair.load()?;
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
            let pairs = sources.par_iter().map(decode).collect::<Result<_, _>>()?;
            return Ok(Self {
                scale,
                images: sources.iter().map(|source| decoded(source, 0)).collect(),
                store: Store::Memory(pairs),
            });
        }
        let file = tempfile::tempfile_in(folder).map_err(|source| cache_error(folder, source))?;
        let file = Mutex::new(file);
        let images = sources
            .par_iter()
            .map(|source| {
                let tiles = to_tiles(&decode(source)?);
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let offset = file
                    .seek(SeekFrom::End(0))
                    .and_then(|offset| file.write_all(&tiles).map(|()| offset))
                    .map_err(|source| cache_error(folder, source))?;
                Ok(decoded(source, offset))
            })
            .collect::<Result<_, Error>>()?;
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

    /// The patch of `side_px` x `side_px` low-resolution pixels whose first pixel is (`x`, `y`).
    ///
    /// # Errors
    /// If the temporary file cannot be read.
    ///
    /// # Panics
    /// If there is no such image or the patch does not lie within it.
    pub fn patch(
        &self,
        image: usize,
        x: usize,
        y: usize,
        side_px: usize,
    ) -> Result<PatchPixels, Error> {
        let (width_px, height_px) = self.low_size_px(image);
        assert!(
            side_px > 0 && x + side_px <= width_px && y + side_px <= height_px,
            "patch of {side_px} at ({x}, {y}) of {width_px} x {height_px}"
        );
        let scale = self.scale;
        match &self.store {
            Store::Memory(pairs) => {
                let pair = &pairs[image];
                Ok(PatchPixels {
                    low: rows(&pair.low, width_px, x, y, side_px),
                    high: rows(
                        &pair.high,
                        width_px * scale,
                        x * scale,
                        y * scale,
                        side_px * scale,
                    ),
                })
            }
            Store::File { file, folder } => self
                .patch_of_tiles(file, image, x, y, side_px)
                .map_err(|source| cache_error(folder, source)),
        }
    }

    fn patch_of_tiles(
        &self,
        file: &Mutex<File>,
        image: usize,
        x: usize,
        y: usize,
        side_px: usize,
    ) -> std::io::Result<PatchPixels> {
        let scale = self.scale;
        let decoded = &self.images[image];
        let tile_bytes = tile_bytes(scale);
        let tiles_across = decoded.low_width_px.div_ceil(TILE_PX);
        let (first, last) = (x / TILE_PX, (x + side_px - 1) / TILE_PX);
        let mut patch = PatchPixels {
            low: vec![0; 3 * side_px * side_px],
            high: vec![0; 3 * (side_px * scale).pow(2)],
        };
        let mut tiles = vec![0; (last - first + 1) * tile_bytes];
        for down in y / TILE_PX..=(y + side_px - 1) / TILE_PX {
            let at = (down * tiles_across + first) * tile_bytes;
            {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(decoded.offset + at as u64))?;
                file.read_exact(&mut tiles)?;
            }
            for (tile, across) in tiles.chunks_exact(tile_bytes).zip(first..=last) {
                let (low, high) = tile.split_at(3 * TILE_PX * TILE_PX);
                let corner = (across * TILE_PX, down * TILE_PX);
                copy_overlap(low, TILE_PX, corner, &mut patch.low, side_px, (x, y));
                copy_overlap(
                    high,
                    TILE_PX * scale,
                    (corner.0 * scale, corner.1 * scale),
                    &mut patch.high,
                    side_px * scale,
                    (x * scale, y * scale),
                );
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

/// A square cut from an image of the given width.
fn rows(pixels: &[u8], width_px: usize, x: usize, y: usize, side_px: usize) -> Vec<u8> {
    let mut square = Vec::with_capacity(3 * side_px * side_px);
    for row in y..y + side_px {
        let at = 3 * (row * width_px + x);
        square.extend_from_slice(&pixels[at..at + 3 * side_px]);
    }
    square
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

/// Copies the overlap of a tile and a square; both corners are in pixels of the whole image.
fn copy_overlap(
    tile: &[u8],
    tile_px: usize,
    tile_corner: (usize, usize),
    square: &mut [u8],
    side_px: usize,
    corner: (usize, usize),
) {
    let span = |tile: usize, square: usize| {
        let first = tile.max(square);
        let end = (tile + tile_px).min(square + side_px);
        (first, end)
    };
    let (left, right) = span(tile_corner.0, corner.0);
    let (top, bottom) = span(tile_corner.1, corner.1);
    let count = 3 * (right - left);
    for y in top..bottom {
        let from = 3 * ((y - tile_corner.1) * tile_px + left - tile_corner.0);
        let to = 3 * ((y - corner.1) * side_px + left - corner.0);
        square[to..to + count].copy_from_slice(&tile[from..from + count]);
    }
}
