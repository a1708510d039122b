//! Enlarging pictures with a model, tile by tile, exactly.
//!
//! Each tile is computed from its pixels and a halo as wide as the network's receptive radius,
//! cut at the picture's edges. Beyond the halo the zero padding of the tile cannot reach the
//! pixels that are kept, and every pixel is summed in the same order wherever it lies, so a
//! tiled picture equals the untiled one bit for bit, for any tile size and count of threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use wdsr_kernels::{Isa, Planes};

use crate::error::Error;
use crate::forward::{Forward, Workspace};
use crate::model::Model;

/// Side of a tile in low-resolution pixels unless asked otherwise.
pub const DEFAULT_TILE_PX: usize = 256;

/// A channel of a pixel as pictures store it.
pub trait Sample: Copy + Default + Send + Sync {
    /// To 0..1.
    fn to_unit(self) -> f32;
    /// From 0..1; integers are rounded to nearest (half up) and clamped.
    fn from_unit(value: f32) -> Self;
}

impl Sample for u8 {
    fn to_unit(self) -> f32 {
        f32::from(self) / 255.0
    }
    fn from_unit(value: f32) -> Self {
        (value * 255.0 + 0.5) as u8
    }
}

impl Sample for u16 {
    fn to_unit(self) -> f32 {
        f32::from(self) / 65535.0
    }
    fn from_unit(value: f32) -> Self {
        (value * 65535.0 + 0.5) as u16
    }
}

/// Not clamped: what lies outside 0..1 is kept.
impl Sample for f32 {
    fn to_unit(self) -> f32 {
        self
    }
    fn from_unit(value: f32) -> Self {
        value
    }
}

/// Enlarges pictures with one model.
pub struct Upscaler {
    forward: Forward,
    tile_px: Option<usize>,
    self_ensemble: bool,
    /// Idle workspaces, at most one per thread.
    workspaces: Mutex<Vec<Workspace>>,
}

impl Upscaler {
    /// Prepares a model for this processor.
    ///
    /// # Errors
    /// When the environment variable `WDSR_ISA` names no instruction set.
    pub fn new(model: &Model) -> Result<Self, Error> {
        Ok(Self::with_isa(model, Isa::detect()?))
    }

    /// Prepares a model for one instruction set.
    pub fn with_isa(model: &Model, isa: Isa) -> Self {
        Self {
            forward: Forward::new(model, isa),
            tile_px: Some(DEFAULT_TILE_PX),
            self_ensemble: false,
            workspaces: Mutex::new(Vec::new()),
        }
    }

    /// Side of the tiles in low-resolution pixels; `None` computes the picture as one tile. The
    /// result is the same; smaller tiles take less memory and more time.
    ///
    /// # Panics
    /// When the tile is 0.
    #[must_use]
    pub fn tile_px(mut self, tile_px: Option<usize>) -> Self {
        assert_ne!(tile_px, Some(0), "tile of {tile_px:?} pixels");
        self.tile_px = tile_px;
        self
    }

    /// Whether to average over the eight flips and rotations of the picture: about 0.1 dB for
    /// eight times the work (Timofte et al. 2016, "Seven ways to improve example-based single
    /// image super resolution").
    #[must_use]
    pub fn self_ensemble(mut self, on: bool) -> Self {
        self.self_ensemble = on;
        self
    }

    /// Output pixels per input pixel on each side.
    pub fn scale(&self) -> usize {
        self.forward.network().config.scale
    }

    /// Enlarges a picture on rayon's current thread pool.
    ///
    /// # Shapes
    /// - pixels: R G B interleaved, row by row, `width_px * height_px * 3` samples
    /// - result: the same at `width_px * scale` x `height_px * scale`
    ///
    /// # Panics
    /// When the number of samples differs, or a side is 0.
    pub fn upscale<T: Sample>(&self, pixels: &[T], width_px: usize, height_px: usize) -> Vec<T> {
        self.upscale_with_progress(pixels, width_px, height_px, &|_, _| ())
    }

    /// [`Upscaler::upscale`] that reports (tiles done, tiles in all) after each tile.
    ///
    /// # Panics
    /// When the number of samples differs, or a side is 0.
    pub fn upscale_with_progress<T: Sample>(
        &self,
        pixels: &[T],
        width_px: usize,
        height_px: usize,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Vec<T> {
        assert!(
            width_px > 0 && height_px > 0,
            "empty picture: {width_px} x {height_px}"
        );
        assert_eq!(
            pixels.len(),
            width_px * height_px * 3,
            "samples of {width_px} x {height_px} RGB"
        );
        let scale = self.scale();
        let tile_px = self.tile_px.unwrap_or(width_px.max(height_px));
        let tiles: Vec<Tile> = Tile::grid(
            width_px,
            height_px,
            tile_px,
            self.forward.network().receptive_radius_px(),
        );
        let total = tiles.len();
        let done = AtomicUsize::new(0);
        let output = Mutex::new(vec![T::default(); pixels.len() * scale * scale]);
        tiles.into_par_iter().for_each(|tile| {
            let input = self.read(pixels, width_px, &tile);
            let mut workspace = lock(&self.workspaces).pop().unwrap_or_default();
            if self.self_ensemble {
                let mean = self.ensemble(&input, &mut workspace);
                self.write(&mean, &tile, width_px * scale, &mut lock(&output));
            } else {
                let result = self.forward.run(input, &mut workspace);
                self.write(result, &tile, width_px * scale, &mut lock(&output));
            }
            lock(&self.workspaces).push(workspace);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
        });
        output
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The tile with its halo as planes, the mean subtracted.
    fn read<T: Sample>(&self, pixels: &[T], width_px: usize, tile: &Tile) -> Planes {
        let mean = self.forward.network().config.mean;
        let (columns, rows) = (&tile.read_columns, &tile.read_rows);
        let mut planes = Planes::zeros(3, columns.len(), rows.len());
        for (channel, mean) in mean.into_iter().enumerate() {
            for y in rows.clone() {
                let from = &pixels[(y * width_px + columns.start) * 3..];
                let to = planes.row_mut(channel, y - rows.start);
                for (to, from) in to.iter_mut().zip(from.iter().skip(channel).step_by(3)) {
                    *to = from.to_unit() - mean;
                }
            }
        }
        planes
    }

    /// Stores the pixels of a tile without its halo.
    fn write<T: Sample>(&self, planes: &Planes, tile: &Tile, out_width_px: usize, out: &mut [T]) {
        let scale = self.scale();
        let mean = self.forward.network().config.mean;
        let skip_x = (tile.columns.start - tile.read_columns.start) * scale;
        let skip_y = (tile.rows.start - tile.read_rows.start) * scale;
        for (channel, mean) in mean.into_iter().enumerate() {
            for y in 0..tile.rows.len() * scale {
                let from = &planes.row(channel, skip_y + y)[skip_x..];
                let first =
                    (tile.rows.start * scale + y) * out_width_px + tile.columns.start * scale;
                let to = &mut out[first * 3..(first + tile.columns.len() * scale) * 3];
                for (to, from) in to.iter_mut().skip(channel).step_by(3).zip(from) {
                    *to = T::from_unit(from + mean);
                }
            }
        }
    }

    /// Mean over the eight symmetries of the square.
    fn ensemble(&self, input: &Planes, workspace: &mut Workspace) -> Planes {
        let scale = self.scale();
        let mut sum = Planes::zeros(3, input.width_px() * scale, input.height_px() * scale);
        for symmetry in 0..8 {
            let result = self.forward.run(Symmetry(symmetry).apply(input), workspace);
            crate::forward::add_scaled(&mut sum, 1.0, &Symmetry(symmetry).undo(result));
        }
        sum.as_mut_slice()
            .iter_mut()
            .for_each(|value| *value /= 8.0);
        sum
    }
}

/// One of the eight symmetries: bit 0 mirrors left-right, bit 1 top-bottom, then bit 2
/// transposes.
#[derive(Clone, Copy)]
struct Symmetry(u8);

impl Symmetry {
    fn apply(self, planes: &Planes) -> Planes {
        let (w, h) = (planes.width_px(), planes.height_px());
        let (out_w, out_h) = if self.0 & 4 == 0 { (w, h) } else { (h, w) };
        let mut out = Planes::zeros(planes.channels(), out_w, out_h);
        for channel in 0..planes.channels() {
            for y in 0..h {
                let row = planes.row(channel, y);
                for x in 0..w {
                    let (to_x, to_y) = self.place(x, y, w, h);
                    out.row_mut(channel, to_y)[to_x] = row[x];
                }
            }
        }
        out
    }

    fn undo(self, planes: &Planes) -> Planes {
        let (out_w, out_h) = (planes.width_px(), planes.height_px());
        let (w, h) = if self.0 & 4 == 0 {
            (out_w, out_h)
        } else {
            (out_h, out_w)
        };
        let mut back = Planes::zeros(planes.channels(), w, h);
        for channel in 0..planes.channels() {
            for y in 0..h {
                for x in 0..w {
                    let (from_x, from_y) = self.place(x, y, w, h);
                    back.row_mut(channel, y)[x] = planes.row(channel, from_y)[from_x];
                }
            }
        }
        back
    }

    /// Where the pixel (x, y) of a `w` x `h` picture goes.
    fn place(self, x: usize, y: usize, w: usize, h: usize) -> (usize, usize) {
        let x = if self.0 & 1 == 0 { x } else { w - 1 - x };
        let y = if self.0 & 2 == 0 { y } else { h - 1 - y };
        if self.0 & 4 == 0 { (x, y) } else { (y, x) }
    }
}

/// The part of the picture that a tile writes, and the larger part that it reads.
struct Tile {
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
    read_columns: std::ops::Range<usize>,
    read_rows: std::ops::Range<usize>,
}

impl Tile {
    fn grid(width_px: usize, height_px: usize, tile_px: usize, halo_px: usize) -> Vec<Tile> {
        let cut = |len: usize| {
            (0..len).step_by(tile_px).map(move |start| {
                let end = len.min(start + tile_px);
                (
                    start..end,
                    start.saturating_sub(halo_px)..len.min(end + halo_px),
                )
            })
        };
        cut(height_px)
            .flat_map(|(rows, read_rows)| {
                cut(width_px).map(move |(columns, read_columns)| Tile {
                    columns,
                    rows: rows.clone(),
                    read_columns,
                    read_rows: read_rows.clone(),
                })
            })
            .collect()
    }
}

/// A lock whose holder cannot have left a broken state behind: both locks guard plain buffers.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
