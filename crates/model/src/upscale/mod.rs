//! Enlarging pictures with a model, tile by tile, exactly.
//!
//! Each tile is computed from its pixels and a halo as wide as the network's receptive radius,
//! cut at the picture's edges. Beyond the halo the zero padding of the tile cannot reach the
//! pixels that are kept, and every pixel is summed in the same order wherever it lies, so a
//! tiled picture equals the untiled one bit for bit, for any tile size and count of threads.
//!
//! A tile is as wide as memory and cache allow and as high as its band of rows: the whole picture
//! where that is in memory, else as many rows as fit ([`Upscaler::upscale_rows`]).

mod check;
mod sample;

use std::ops::{ControlFlow, Range};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use wdsr_kernels::{Isa, Precision, STRIP_ROWS, Strip};

use crate::error::Error;
use crate::model::Model;
use crate::stream::{Arithmetic, StageTime, Stream, lock};
use check::Spread;
pub use check::UpscaleError;
pub use sample::Sample;

/// Width of a tile in low-resolution pixels unless asked otherwise. Twice the receptive radius is
/// computed in vain for each tile of a wider picture: 2% here.
pub const DEFAULT_TILE_PX: usize = 2048;

/// Width of the narrowest tile that [`Upscaler::cut`] chooses.
const MIN_TILE_PX: usize = 128;

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
    /// # Errors
    /// When a sample is not finite, or the network gives what cannot be a picture.
    ///
    /// # Panics
    /// When the number of samples differs, or a side is 0.
    pub fn upscale<T: Sample>(
        &self,
        pixels: &[T],
        width_px: usize,
        height_px: usize,
    ) -> Result<Vec<T>, UpscaleError> {
        let progress = |_: usize, _: usize| ControlFlow::Continue(());
        self.upscale_with_progress(pixels, width_px, height_px, &progress)
    }

    /// [`Upscaler::upscale`] that reports (strips done, strips in all) after each strip, from any
    /// thread, and stops when told to.
    ///
    /// # Errors
    /// Those of [`Upscaler::upscale`], and [`UpscaleError::Stopped`].
    ///
    /// # Panics
    /// When the number of samples differs, or a side is 0.
    pub fn upscale_with_progress<T: Sample>(
        &self,
        pixels: &[T],
        width_px: usize,
        height_px: usize,
        progress: &Progress,
    ) -> Result<Vec<T>, UpscaleError> {
        let (large, _) = self.upscale_timed(pixels, width_px, height_px, progress)?;
        Ok(large)
    }

    /// [`Upscaler::upscale_with_progress`] that also tells what each part of the network took.
    ///
    /// # Errors
    /// Those of [`Upscaler::upscale_with_progress`].
    ///
    /// # Panics
    /// When the number of samples differs, or a side is 0.
    pub fn upscale_timed<T: Sample>(
        &self,
        pixels: &[T],
        width_px: usize,
        height_px: usize,
        progress: &Progress,
    ) -> Result<(Vec<T>, Vec<StageTime>), UpscaleError> {
        assert!(
            width_px > 0 && height_px > 0,
            "empty picture: {width_px} x {height_px}"
        );
        assert_eq!(
            pixels.len(),
            width_px * height_px * 3,
            "samples of {width_px} x {height_px} RGB"
        );
        let band = Band {
            rows: 0..height_px,
            read_rows: 0..height_px,
        };
        let mut large = vec![T::default(); pixels.len() * self.scale() * self.scale()];
        let tiles = self.tiles(width_px, self.tile_px);
        let counter = Counter::new(self.strips(&tiles, height_px), progress);
        let times = self.enlarge_band(pixels, width_px, &tiles, &band, &mut large, &counter)?;
        Ok((large, times))
    }

    /// Enlarges a picture that need not be in memory: rows are asked of `read` and given to
    /// `write`, both from the top down, on the thread of the caller. The bands of `cut` are enlarged
    /// one after another on rayon's current thread pool. The result is that of
    /// [`Upscaler::upscale`], bit for bit; for each band some rows above and below it, up to four
    /// for each layer of the network, are computed once more.
    ///
    /// # Shapes
    /// - `read` is to fill whole rows, `n * width_px * 3` samples, R G B interleaved; `n` differs
    ///   from call to call
    /// - `write` gets whole rows of `width_px * scale * 3` samples
    ///
    /// # Errors
    /// Those of `read` and `write`, and of [`Upscaler::upscale_with_progress`]. What `write` got
    /// before is then no whole picture.
    ///
    /// # Panics
    /// When a side of the picture or of the cut is 0.
    pub fn upscale_rows<T: Sample, E: From<UpscaleError>>(
        &self,
        (width_px, height_px): (usize, usize),
        cut: Cut,
        mut read: impl FnMut(&mut [T]) -> Result<(), E>,
        mut write: impl FnMut(&[T]) -> Result<(), E>,
        progress: &Progress,
    ) -> Result<(), E> {
        let Cut { tile_px, band_px } = cut;
        assert!(
            width_px > 0 && height_px > 0 && tile_px > 0 && band_px > 0,
            "picture of {width_px} x {height_px}, {cut:?}"
        );
        let band_px = band_px.next_multiple_of(STRIP_ROWS);
        let tiles = self.tiles(width_px, Some(tile_px));
        let counter = Counter::new(self.strips(&tiles, height_px), progress);
        let row_len = width_px * 3;
        // The rows in memory, the first of them `kept`.
        let (mut low, mut kept): (Vec<T>, usize) = (Vec::new(), 0);
        let mut large = Vec::new();
        for start in (0..height_px).step_by(band_px) {
            let band = self.band(start..height_px.min(start + band_px), height_px);
            low.drain(..(band.read_rows.start - kept) * row_len);
            kept = band.read_rows.start;
            let held = low.len();
            low.resize(band.read_rows.len() * row_len, T::default());
            read(&mut low[held..])?;
            large.clear();
            let scale = self.scale();
            large.resize(band.rows.len() * row_len * scale * scale, T::default());
            self.enlarge_band(&low, width_px, &tiles, &band, &mut large, &counter)?;
            write(&large)?;
        }
        Ok(())
    }

    /// The cut with the least work for which [`Upscaler::memory_bytes`] stays within `max_bytes`.
    /// Tiles are no wider than [`Upscaler::tile_px`] says.
    ///
    /// # Errors
    /// The bytes that the smallest cut takes, when those are more.
    ///
    /// # Panics
    /// When a side is 0.
    pub fn cut(
        &self,
        (width_px, height_px): (usize, usize),
        sample_bytes: usize,
        max_bytes: u64,
    ) -> Result<Cut, u64> {
        assert!(
            width_px > 0 && height_px > 0,
            "empty picture: {width_px} x {height_px}"
        );
        let widest_px = self.tile_px.unwrap_or(width_px).min(width_px);
        // Halves and halves of it, down to where the halo beside each tile costs too much.
        let widths = std::iter::successors(Some(widest_px), |px| {
            Some(px / 2).filter(|&px| px >= MIN_TILE_PX)
        });
        let cuts = widths.map(|tile_px| {
            let bytes =
                |band_px| self.memory_bytes(width_px, Cut { tile_px, band_px }, sample_bytes);
            let least_bytes = bytes(STRIP_ROWS);
            let strip_bytes = bytes(2 * STRIP_ROWS) - least_bytes;
            let strips = match max_bytes.checked_sub(least_bytes) {
                Some(more) => 1 + (more / strip_bytes) as usize,
                None => 0,
            };
            let band_px = strips.saturating_mul(STRIP_ROWS).min(height_px);
            (Cut { tile_px, band_px }, least_bytes)
        });
        let cuts: Vec<(Cut, u64)> = cuts.collect();
        let halo_px = self.stream.plan().halo_rows;
        let work = |cut: &Cut| {
            let tile = cut.tile_px + 2 * self.model.network().receptive_radius_px();
            let halo_px = if cut.band_px < height_px {
                2 * halo_px
            } else {
                0
            };
            tile as f64 / cut.tile_px as f64 * (cut.band_px + halo_px) as f64 / cut.band_px as f64
        };
        let possible = cuts
            .iter()
            .map(|(cut, _)| *cut)
            .filter(|cut| cut.band_px > 0);
        possible
            .min_by(|a, b| work(a).total_cmp(&work(b)))
            .ok_or_else(|| cuts.iter().map(|(_, least)| *least).min().unwrap_or(0))
    }

    /// Memory in bytes that [`Upscaler::upscale_rows`] takes: rows of both pictures, `sample_bytes`
    /// each sample, and the feature maps for the threads of rayon's current pool.
    pub fn memory_bytes(&self, width_px: usize, cut: Cut, sample_bytes: usize) -> u64 {
        let maps = self.maps_bytes(width_px, Some(cut.tile_px));
        let read_rows = cut.band_px + 2 * self.stream.plan().halo_rows;
        let rows = (read_rows + cut.band_px * self.scale() * self.scale()) as u64;
        maps + rows * (width_px * 3 * sample_bytes) as u64
    }

    /// Memory in bytes that enlarging a picture of that width takes beside the two pictures: feature
    /// maps for the threads of rayon's current pool. It is kept for the next picture of that width.
    pub fn working_bytes(&self, width_px: usize) -> u64 {
        self.maps_bytes(width_px, self.tile_px)
    }

    fn maps_bytes(&self, width_px: usize, tile_px: Option<usize>) -> u64 {
        let tiles = self.tiles(width_px, tile_px).into_iter();
        let widest = tiles.map(|tile| tile.read_columns.len()).max();
        self.stream.memory_bytes(widest.unwrap_or(0))
    }

    /// The rows that are read for those kept, which begin at a whole strip: so do they.
    fn band(&self, rows: Range<usize>, height_px: usize) -> Band {
        let halo_px = self.stream.plan().halo_rows;
        Band {
            read_rows: rows.start.saturating_sub(halo_px)..height_px.min(rows.end + halo_px),
            rows,
        }
    }

    /// Strips that a picture's result is written in.
    fn strips(&self, tiles: &[Tile], height_px: usize) -> usize {
        let out_rows = STRIP_ROWS * self.stream.plan().output_shuffle;
        tiles.len() * (height_px * self.scale()).div_ceil(out_rows)
    }

    /// Enlarges a band, tile by tile: `pixels` are the rows that it reads, `output` takes those it
    /// keeps.
    fn enlarge_band<T: Sample>(
        &self,
        pixels: &[T],
        width_px: usize,
        tiles: &[Tile],
        band: &Band,
        output: &mut [T],
        counter: &Counter,
    ) -> Result<Vec<StageTime>, UpscaleError> {
        let scale = self.scale();
        // Rows of the result in a strip: it is read off a map before its last pixel shuffle.
        let out_rows = STRIP_ROWS * self.stream.plan().output_shuffle;
        let skipped_rows = band.rows.start - band.read_rows.start;
        let skipped_strips = skipped_rows * scale / out_rows;
        let mut times: Vec<StageTime> = Vec::new();
        for tile in tiles {
            let rows: Vec<Mutex<&mut [T]>> = output
                .chunks_mut(out_rows * width_px * scale * 3)
                .map(Mutex::new)
                .collect();
            let (seen, made) = (Mutex::new(Spread::new()), Mutex::new(Spread::new()));
            let read = |index: usize, strip: &mut Strip| {
                let spread = self.read(pixels, width_px, tile, band, index, strip)?;
                lock(&seen).merge(&spread);
                Ok(())
            };
            let write = |index: usize, strip: &Strip| {
                let kept = index.checked_sub(skipped_strips);
                let Some((index, rows)) = kept.and_then(|at| Some((at, rows.get(at)?))) else {
                    return Ok(());
                };
                let top = band.rows.start * scale + index * out_rows;
                let spread = self.write(strip, tile, width_px * scale, top, &mut lock(rows))?;
                lock(&made).merge(&spread);
                counter.count()
            };
            let (width, height) = (tile.read_columns.len(), band.read_rows.len());
            let tile_times = self
                .stream
                .run(width, height, &read, &write)
                .map_err(|error| first_of_input(error, pixels, width_px, band))?;
            if lock(&made).is_flat() && !lock(&seen).is_flat() {
                return Err(UpscaleError::Constant {
                    columns: tile.columns.clone(),
                    rows: band.rows.clone(),
                });
            }
            for (at, stage) in tile_times.into_iter().enumerate() {
                match times.get_mut(at) {
                    Some(sum) => sum.time += stage.time,
                    None => times.push(stage),
                }
            }
        }
        Ok(times)
    }

    /// Cuts a picture's columns into tiles.
    fn tiles(&self, width_px: usize, tile_px: Option<usize>) -> Vec<Tile> {
        let halo_px = self.model.network().receptive_radius_px();
        let count = width_px.div_ceil(tile_px.unwrap_or(width_px));
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

    /// Strip `index` of a tile with its halo, the mean subtracted. Returns the spread of what the
    /// tile keeps.
    fn read<T: Sample>(
        &self,
        pixels: &[T],
        width_px: usize,
        tile: &Tile,
        band: &Band,
        index: usize,
        strip: &mut Strip,
    ) -> Result<Spread, UpscaleError> {
        let mut spread = Spread::new();
        let mut halo = Spread::new();
        let kept = tile.columns.start - tile.read_columns.start;
        for y in 0..strip.rows() {
            let y_in_band = index * STRIP_ROWS + y;
            let from = &pixels[(y_in_band * width_px + tile.read_columns.start) * 3..];
            let y_in_picture = band.read_rows.start + y_in_band;
            for (channel, mean) in self.model.config().mean.into_iter().enumerate() {
                let row = strip.row_mut(channel, y);
                for (to, from) in row.iter_mut().zip(from[channel..].iter().step_by(3)) {
                    *to = from.to_unit() - mean;
                }
                let (left, rest) = row.split_at(kept);
                let (middle, right) = rest.split_at(tile.columns.len());
                let of_rows = if band.rows.contains(&y_in_picture) {
                    &mut spread
                } else {
                    &mut halo
                };
                let checked = of_rows
                    .add(channel, middle)
                    .map_err(|(x, value)| (kept + x, value))
                    .and_then(|()| halo.add(channel, left))
                    .and_then(|()| {
                        let behind = kept + tile.columns.len();
                        halo.add(channel, right)
                            .map_err(|(x, value)| (behind + x, value))
                    });
                checked.map_err(|(x, value)| UpscaleError::Input {
                    value,
                    x: tile.read_columns.start + x,
                    y: y_in_picture,
                })?;
            }
        }
        Ok(spread)
    }

    /// Stores a strip of the result, without the tile's halo, into the rows it covers, from row
    /// `top` of the picture on. Returns the spread of what is stored.
    fn write<T: Sample>(
        &self,
        strip: &Strip,
        tile: &Tile,
        out_width_px: usize,
        top: usize,
        out: &mut [T],
    ) -> Result<Spread, UpscaleError> {
        let plan = self.stream.plan();
        let (shuffle, factor) = (plan.output_shuffle, plan.output_factor);
        // Strip pixels per pixel of the picture.
        let map_scale = self.scale() / shuffle;
        let skip = (tile.columns.start - tile.read_columns.start) * map_scale;
        let first = tile.columns.start * self.scale();
        let out_len = tile.columns.len() * self.scale();
        let mut spread = Spread::new();
        for (channel, mean) in self.model.config().mean.into_iter().enumerate() {
            for y in 0..strip.rows() * shuffle {
                let row = &mut out[(y * out_width_px + first) * 3..][..out_len * 3];
                for dx in 0..shuffle {
                    let map = (channel * shuffle + y % shuffle) * shuffle + dx;
                    let from = &strip.row(map, y / shuffle)[skip..][..out_len / shuffle];
                    spread
                        .add(channel, from)
                        .map_err(|(x, value)| UpscaleError::NotFinite {
                            value,
                            x: first + x * shuffle + dx,
                            y: top + y,
                        })?;
                    let to = row[dx * 3 + channel..].iter_mut().step_by(3 * shuffle);
                    for (to, from) in to.zip(from) {
                        *to = T::from_unit(from * factor + mean);
                    }
                }
            }
        }
        Ok(spread)
    }
}

/// How a picture is cut for [`Upscaler::upscale_rows`]; the result is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Width of the tiles in pixels.
    pub tile_px: usize,
    /// Rows that are enlarged at a time, rounded up to a multiple of four.
    pub band_px: usize,
}

/// Told (strips done, strips in all), from any thread; says whether to go on.
pub type Progress<'a> = dyn Fn(usize, usize) -> ControlFlow<()> + Sync + 'a;

/// Counts the strips of a picture.
struct Counter<'a> {
    done: AtomicUsize,
    total: usize,
    progress: &'a Progress<'a>,
}

impl<'a> Counter<'a> {
    fn new(total: usize, progress: &'a Progress<'a>) -> Self {
        Self {
            done: AtomicUsize::new(0),
            total,
            progress,
        }
    }

    fn count(&self) -> Result<(), UpscaleError> {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        match (self.progress)(done, self.total) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(UpscaleError::Stopped),
        }
    }
}

/// The columns of the picture that a tile writes, and the more that it reads.
struct Tile {
    columns: Range<usize>,
    read_columns: Range<usize>,
}

/// The same for rows.
struct Band {
    rows: Range<usize>,
    read_rows: Range<usize>,
}

/// An error about the input, of the first sample that is not finite: which one a thread met first
/// is chance. Others as they are.
fn first_of_input<T: Sample>(
    error: UpscaleError,
    pixels: &[T],
    width_px: usize,
    band: &Band,
) -> UpscaleError {
    let UpscaleError::Input { .. } = error else {
        return error;
    };
    let samples = pixels.iter().map(|sample| sample.to_unit());
    let first = samples.enumerate().find(|(_, value)| !value.is_finite());
    first.map_or(error, |(at, value)| UpscaleError::Input {
        value,
        x: at / 3 % width_px,
        y: band.read_rows.start + at / 3 / width_px,
    })
}
