//! Enlarging pictures with a model, part by part, exactly.
//!
//! A picture is computed in columns as wide as cache and memory allow (`stream/columns.rs`), and in
//! bands of rows: the whole picture where that is in memory, else as many rows as fit
//! ([`Upscaler::upscale_rows`]), with a halo of rows on which the band's bits depend. Every pixel is
//! summed in the same order wherever it lies, so a picture in parts equals the whole one bit for bit,
//! for any columns, bands and count of threads.

mod check;
mod sample;

use std::ops::{ControlFlow, Range};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use wdsr_kernels::{Isa, Precision, STRIP_ROWS, Strip};

use crate::error::Error;
use crate::model::Model;
use crate::stream::{Arithmetic, Columns, StageTime, Stream, lock};
use check::Spread;
pub use check::UpscaleError;
pub use sample::Sample;

/// Width of a tile in low-resolution pixels unless asked otherwise: the rows alive at a time of
/// `base` are 15 MB then (docs/log.md, "Sizes").
pub const DEFAULT_TILE_PX: usize = 320;

/// Width of the narrowest tile that [`Upscaler::cut`] chooses.
const MIN_TILE_PX: usize = 64;

/// Pixels that a row of a tile costs beside its own: vectors that are not full, strips handed on.
const TILE_COST_PX: usize = 8;

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
    /// The result is the same; narrower tiles take less memory. Multiples of 64 are fastest. Tiles are
    /// as high as the picture: only a few of its rows are in memory at a time.
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

    /// [`Upscaler::upscale`] that reports (rows done, rows in all) every few rows of a tile, from any
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
        let columns = self.columns(width_px, self.tile_px);
        let counter = self.counter(&columns, height_px, progress);
        let times = self.enlarge_band(pixels, width_px, &columns, &band, &mut large, &counter)?;
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
        let columns = self.columns(width_px, Some(tile_px));
        let counter = self.counter(&columns, height_px, progress);
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
            self.enlarge_band(&low, width_px, &columns, &band, &mut large, &counter)?;
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
        // Halves and halves of it, down to where the ends of rows cost too much.
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
            let halo_px = if cut.band_px < height_px {
                2 * halo_px
            } else {
                0
            };
            let [tile_px, band_px] = [cut.tile_px, cut.band_px].map(|px| px as f64);
            (tile_px + TILE_COST_PX as f64) / tile_px * (band_px + halo_px as f64) / band_px
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
        let columns = self.columns(width_px, Some(cut.tile_px));
        let read_rows = cut.band_px + 2 * self.stream.plan().halo_rows;
        let rows = (read_rows + cut.band_px * self.scale() * self.scale()) as u64;
        self.stream.bytes(&columns, read_rows) + rows * (width_px * 3 * sample_bytes) as u64
    }

    /// Memory in bytes that enlarging a picture of that size takes beside the two pictures: feature
    /// maps for the threads of rayon's current pool, most of which is kept for the next picture.
    pub fn working_bytes(&self, (width_px, height_px): (usize, usize)) -> u64 {
        self.stream
            .bytes(&self.columns(width_px, self.tile_px), height_px)
    }

    fn columns(&self, width_px: usize, tile_px: Option<usize>) -> Columns {
        Columns::new(width_px, tile_px.unwrap_or(width_px))
    }

    /// The rows that are read for those kept, which begin at a whole strip: so do they.
    fn band(&self, rows: Range<usize>, height_px: usize) -> Band {
        let halo_px = self.stream.plan().halo_rows;
        Band {
            read_rows: rows.start.saturating_sub(halo_px)..height_px.min(rows.end + halo_px),
            rows,
        }
    }

    fn counter<'a>(
        &self,
        columns: &Columns,
        height_px: usize,
        progress: &'a Progress<'a>,
    ) -> Counter<'a> {
        Counter::new(columns.count() * height_px * self.map_scale(), progress)
    }

    /// Rows of the map that the result is read off, before its last pixel shuffle, for a row of the picture.
    fn map_scale(&self) -> usize {
        self.scale() / self.stream.plan().output_shuffle
    }

    /// Enlarges a band, column by column: `pixels` are the rows that it reads, `output` takes those it
    /// keeps.
    fn enlarge_band<T: Sample>(
        &self,
        pixels: &[T],
        width_px: usize,
        columns: &Columns,
        band: &Band,
        output: &mut [T],
        counter: &Counter,
    ) -> Result<Vec<StageTime>, UpscaleError> {
        let scale = self.scale();
        let skipped_rows = band.rows.start - band.read_rows.start;
        let skipped_map_rows = skipped_rows * self.map_scale();
        let out_rows = self.stream.plan().output_shuffle;
        let mut times: Vec<StageTime> = Vec::new();
        let margins = self.stream.margins(columns, band.read_rows.len());
        for column in columns.iter() {
            // What a row of the map becomes.
            let rows: Vec<Mutex<&mut [T]>> = output
                .chunks_mut(out_rows * width_px * scale * 3)
                .map(Mutex::new)
                .collect();
            let made = Mutex::new(Spread::new());
            let read = |strip: &mut Strip| self.read(pixels, width_px, band.read_rows.start, strip);
            let write = |strip: &Strip| {
                let (mut spread, mut count) = (Spread::new(), 0);
                for y in strip.rows() {
                    let kept = y.checked_sub(skipped_map_rows);
                    let Some((kept, rows)) = kept.and_then(|at| Some((at, rows.get(at)?))) else {
                        continue;
                    };
                    let top = band.rows.start * scale + kept * out_rows;
                    let out = &mut lock(rows);
                    spread.merge(&self.write(strip, y, width_px * scale, top, out)?);
                    count += 1;
                }
                lock(&made).merge(&spread);
                counter.count(count)
            };
            let height_px = band.read_rows.len();
            let stream_times = self
                .stream
                .run(column, height_px, &margins, &read, &write)
                .map_err(|error| first_of_input(error, pixels, width_px, band))?;
            let made_columns = self.stream.made(column);
            let rows_kept =
                &pixels[skipped_rows * width_px * 3..][..band.rows.len() * width_px * 3];
            if lock(&made).is_flat() && !is_flat(rows_kept, width_px, &made_columns) {
                return Err(UpscaleError::Constant {
                    columns: made_columns,
                    rows: band.rows.clone(),
                });
            }
            for (at, stage) in stream_times.into_iter().enumerate() {
                match times.get_mut(at) {
                    Some(sum) => sum.time += stage.time,
                    None => times.push(stage),
                }
            }
        }
        Ok(times)
    }

    /// A strip of the band whose rows begin at `top` of the picture, the mean subtracted.
    fn read<T: Sample>(
        &self,
        pixels: &[T],
        width_px: usize,
        top: usize,
        strip: &mut Strip,
    ) -> Result<(), UpscaleError> {
        let left = strip.columns().start;
        for y in strip.rows() {
            let from = &pixels[(y * width_px + left) * 3..];
            for (channel, mean) in self.model.config().mean.into_iter().enumerate() {
                let row = strip.row_mut(channel, y);
                for (to, from) in row.iter_mut().zip(from[channel..].iter().step_by(3)) {
                    *to = from.to_unit() - mean;
                }
                if let Some(x) = row.iter().position(|value| !value.is_finite()) {
                    return Err(UpscaleError::Input {
                        value: row[x],
                        x: left + x,
                        y: top + y,
                    });
                }
            }
        }
        Ok(())
    }

    /// Stores row `map_y` of the strip's map into the rows of the result that it becomes, from row `top` of
    /// the result on. Returns the spread of what is stored.
    fn write<T: Sample>(
        &self,
        strip: &Strip,
        map_y: usize,
        out_width_px: usize,
        top: usize,
        out: &mut [T],
    ) -> Result<Spread, UpscaleError> {
        let plan = self.stream.plan();
        let (shuffle, factor) = (plan.output_shuffle, plan.output_factor);
        let columns = strip.columns();
        let (first, out_len) = (columns.start * shuffle, columns.len() * shuffle);
        if columns.is_empty() {
            // A column narrower than the result's lag.
            return Ok(Spread::new());
        }
        let mut spread = Spread::new();
        for (channel, mean) in self.model.config().mean.into_iter().enumerate() {
            for y in 0..shuffle {
                let row = &mut out[(y * out_width_px + first) * 3..][..out_len * 3];
                for dx in 0..shuffle {
                    let map = (channel * shuffle + y) * shuffle + dx;
                    let from = strip.row(map, map_y);
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

/// Told (rows done, rows in all; those of every tile), from any thread; says whether to go on.
pub type Progress<'a> = dyn Fn(usize, usize) -> ControlFlow<()> + Sync + 'a;

/// Counts the rows of a picture's tiles.
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

    /// Counts `rows` more.
    fn count(&self, rows: usize) -> Result<(), UpscaleError> {
        if rows == 0 {
            return Ok(());
        }
        let done = self.done.fetch_add(rows, Ordering::Relaxed) + rows;
        match (self.progress)(done, self.total) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(UpscaleError::Stopped),
        }
    }
}

/// The rows of the picture that a band writes, and the more that it reads.
struct Band {
    rows: Range<usize>,
    read_rows: Range<usize>,
}

/// Whether some columns of rows hold one colour.
fn is_flat<T: Sample>(rows: &[T], width_px: usize, columns: &Range<usize>) -> bool {
    let mut spread = Spread::new();
    for row in rows.chunks_exact(width_px * 3) {
        for pixel in row[columns.start * 3..columns.end * 3].chunks_exact(3) {
            for (channel, sample) in pixel.iter().enumerate() {
                // They are finite, or the network would not have been asked.
                let _ = spread.add(channel, &[sample.to_unit()]);
            }
        }
    }
    spread.is_flat()
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
