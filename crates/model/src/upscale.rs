//! Enlarging pictures with a model, tile by tile, exactly.
//!
//! Each tile is computed from its pixels and a halo as wide as the network's receptive radius,
//! cut at the picture's edges. Beyond the halo the zero padding of the tile cannot reach the
//! pixels that are kept, and every pixel is summed in the same order wherever it lies, so a
//! tiled picture equals the untiled one bit for bit, for any tile size and count of threads.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use wdsr_kernels::{Isa, Precision, STRIP_ROWS, Strip};

use crate::error::Error;
use crate::model::Model;
use crate::stream::{Arithmetic, StageTime, Stream, lock};

/// Width of a tile in low-resolution pixels unless asked otherwise. Twice the receptive radius is
/// computed in vain for each tile of a wider picture: 2% here.
pub const DEFAULT_TILE_PX: usize = 2048;

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
    model: Model,
    arithmetic: Arithmetic,
    self_ensemble: bool,
    stream: Stream,
    tile_px: Option<usize>,
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
        let precision = Precision::F32;
        let arithmetic = Arithmetic { isa, precision };
        Self {
            model: model.clone(),
            arithmetic,
            self_ensemble: false,
            stream: Stream::new(model, arithmetic, false),
            tile_px: Some(DEFAULT_TILE_PX),
        }
    }

    /// Width of the tiles in low-resolution pixels; `None` computes the picture in its full width.
    /// The result is the same; narrower tiles take less memory and more time. Tiles are as high as
    /// the picture: only a few of its rows are in memory at a time.
    ///
    /// # Panics
    /// When the tile is 0.
    #[must_use]
    pub fn tile_px(mut self, tile_px: Option<usize>) -> Self {
        assert_ne!(tile_px, Some(0), "tile of {tile_px:?} pixels");
        self.tile_px = tile_px;
        self
    }

    /// Whether to average over the eight flips and rotations of the picture: about 0.1 dB for eight times
    /// the work (Timofte et al. 2016, "Seven ways to improve example-based single image super
    /// resolution").
    #[must_use]
    pub fn self_ensemble(mut self, on: bool) -> Self {
        if on != self.self_ensemble {
            self.self_ensemble = on;
            self.arrange();
        }
        self
    }

    /// What convolutions of many channels multiply; f32 unless asked otherwise. With
    /// [`Precision::Bf16`] tiles of a picture still fit bit for bit. It is the faster one where
    /// [`Isa::has_bf16`] holds; elsewhere it is computed in f32 from rounded numbers.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        if precision != self.arithmetic.precision {
            self.arithmetic.precision = precision;
            self.arrange();
        }
        self
    }

    /// Arranges the weights anew, as the options now say.
    fn arrange(&mut self) {
        self.stream = Stream::new(&self.model, self.arithmetic, self.self_ensemble);
    }

    /// Output pixels per input pixel on each side.
    pub fn scale(&self) -> usize {
        self.model.config().scale
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

    /// [`Upscaler::upscale`] that reports (strips done, strips in all) after each strip.
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
        self.upscale_timed(pixels, width_px, height_px, progress).0
    }

    /// [`Upscaler::upscale_with_progress`] that also tells what each part of the network took.
    ///
    /// # Panics
    /// When the number of samples differs, or a side is 0.
    pub fn upscale_timed<T: Sample>(
        &self,
        pixels: &[T],
        width_px: usize,
        height_px: usize,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> (Vec<T>, Vec<StageTime>) {
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
        let tiles = self.tiles(width_px);
        let plan = self.stream.plan();
        // Rows of the result in a strip: it is read off a map before its last pixel shuffle.
        let out_rows = STRIP_ROWS * plan.output_shuffle;
        let total = tiles.len() * (height_px * scale).div_ceil(out_rows);
        let done = AtomicUsize::new(0);
        let mut output = vec![T::default(); pixels.len() * scale * scale];
        let mut times: Vec<StageTime> = Vec::new();
        for tile in &tiles {
            let rows: Vec<Mutex<&mut [T]>> = output
                .chunks_mut(out_rows * width_px * scale * 3)
                .map(Mutex::new)
                .collect();
            let read = |index, strip: &mut Strip| self.read(pixels, width_px, tile, index, strip);
            let write = |index: usize, strip: &Strip| {
                self.write(strip, tile, width_px * scale, &mut lock(&rows[index]));
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            };
            let tile_times = self
                .stream
                .run(tile.read_columns.len(), height_px, &read, &write);
            for (at, stage) in tile_times.into_iter().enumerate() {
                match times.get_mut(at) {
                    Some(sum) => sum.time += stage.time,
                    None => times.push(stage),
                }
            }
        }
        (output, times)
    }

    /// Cuts a picture's columns into tiles.
    fn tiles(&self, width_px: usize) -> Vec<Tile> {
        let halo_px = self.model.network().receptive_radius_px();
        let count = width_px.div_ceil(self.tile_px.unwrap_or(width_px));
        (0..count)
            .map(|tile| {
                let columns = tile * width_px / count..(tile + 1) * width_px / count;
                let start = columns.start.saturating_sub(halo_px);
                let end = width_px.min(columns.end + halo_px);
                Tile {
                    columns,
                    read_columns: start..end,
                }
            })
            .collect()
    }

    /// Strip `index` of a tile with its halo, the mean subtracted.
    fn read<T: Sample>(
        &self,
        pixels: &[T],
        width_px: usize,
        tile: &Tile,
        index: usize,
        strip: &mut Strip,
    ) {
        for y in 0..strip.rows() {
            let row = (index * STRIP_ROWS + y) * width_px;
            let from = &pixels[(row + tile.read_columns.start) * 3..];
            for (channel, mean) in self.model.config().mean.into_iter().enumerate() {
                let to = strip.row_mut(channel, y).iter_mut();
                for (to, from) in to.zip(from[channel..].iter().step_by(3)) {
                    *to = from.to_unit() - mean;
                }
            }
        }
    }

    /// Stores a strip of the result, without the tile's halo, into the rows it covers.
    fn write<T: Sample>(&self, strip: &Strip, tile: &Tile, out_width_px: usize, out: &mut [T]) {
        let plan = self.stream.plan();
        let (shuffle, factor) = (plan.output_shuffle, plan.output_factor);
        // Strip pixels per pixel of the picture.
        let map_scale = self.scale() / shuffle;
        let skip = (tile.columns.start - tile.read_columns.start) * map_scale;
        let first = tile.columns.start * self.scale();
        let out_len = tile.columns.len() * self.scale();
        for (channel, mean) in self.model.config().mean.into_iter().enumerate() {
            for y in 0..strip.rows() * shuffle {
                let row = &mut out[(y * out_width_px + first) * 3..][..out_len * 3];
                for dx in 0..shuffle {
                    let map = (channel * shuffle + y % shuffle) * shuffle + dx;
                    let from = &strip.row(map, y / shuffle)[skip..];
                    let to = row[dx * 3 + channel..].iter_mut().step_by(3 * shuffle);
                    for (to, from) in to.zip(from) {
                        *to = T::from_unit(from * factor + mean);
                    }
                }
            }
        }
    }
}

/// The columns of the picture that a tile writes, and the more that it reads.
struct Tile {
    columns: Range<usize>,
    read_columns: Range<usize>,
}
