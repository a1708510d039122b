//! Upscaling images with a model, part by part, exactly.
//!
//! An image streams through the network in waves of four rows (`stream`), from memory or as it is
//! decoded ([`Upscaler::upscale_rows`]). Every pixel is summed in the same order wherever it lies, so a
//! image in parts equals the whole one bit for bit, for any tiles and count of threads.

mod check;
mod sample;

use std::ops::{ControlFlow, Range};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use wdsr_kernels::{Isa, Precision, STRIP_ROWS, Strip};

use crate::error::Error;
use crate::model::Model;
use crate::stream::{Arithmetic, Columns, Passage, StageTime, Stream, lock};
use check::Spread;
pub use check::UpscaleError;
pub use sample::Sample;

/// Width of a tile in low-resolution pixels unless asked otherwise: the strips alive at a time of `base` are 2 MB
/// for each thread then (docs/log.md, "Sizes").
pub const DEFAULT_TILE_PX: usize = 640;

/// Waves for each thread that [`Upscaler::upscale_rows`] runs at a time, where memory allows: threads wait
/// for each other and for the rows only once in as many.
const WAVES_AT_A_TIME: usize = 8;

/// Upscales images with one model.
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

    /// Width of the tiles in low-resolution pixels at most; `None` computes the image in its full width.
    /// The result is the same. Tiles are four rows high.
    ///
    /// # Panics
    /// When the tile is 0.
    #[must_use]
    pub fn tile_px(mut self, tile_px: Option<usize>) -> Self {
        assert_ne!(tile_px, Some(0), "tile of {tile_px:?} pixels");
        self.tile_px = tile_px;
        self
    }

    /// Whether to average over the eight flips and rotations of the image: about 0.1 dB for eight times
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
    /// [`Precision::Bf16`] tiles of an image still fit bit for bit. It is the faster one where
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

    /// Upscales an image on rayon's current thread pool.
    ///
    /// # Shapes
    /// - pixels: R G B interleaved, row by row, `width_px * height_px * 3` samples
    /// - result: the same at `width_px * scale` x `height_px * scale`
    ///
    /// # Errors
    /// When a sample is not finite, or the network gives what cannot be an image.
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

    /// [`Upscaler::upscale`] that reports (rows done, rows in all) every few rows, from any
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
            "empty image: {width_px} x {height_px}"
        );
        assert_eq!(
            pixels.len(),
            width_px * height_px * 3,
            "samples of {width_px} x {height_px} RGB"
        );
        let mut large = vec![T::default(); pixels.len() * self.scale() * self.scale()];
        let mut passage = self.begin(width_px, height_px);
        let waves = passage.waves_left();
        let counter = self.counter(height_px, progress);
        let (low, result) = (Rows::whole(pixels, width_px), &mut large[..]);
        self.run(&mut passage, waves, low, result, &counter)?;
        Ok((large, passage.end()))
    }

    /// Upscales an image that need not be in memory: rows are asked of `read` and given to
    /// `write`, both from the top down, on the thread of the caller; in between, some waves are run on
    /// rayon's current thread pool. The result is that of [`Upscaler::upscale`], bit for bit.
    ///
    /// # Shapes
    /// - `rows_px`: rows to read at a time, rounded up to a multiple of four, as
    ///   [`Upscaler::rows_within`] finds them
    /// - `read` is to fill whole rows, `n * width_px * 3` samples, R G B interleaved; `n` is `rows_px` but
    ///   for the last rows
    /// - `write` gets whole rows of `width_px * scale * 3` samples, as many as are ready
    ///
    /// # Errors
    /// Those of `read` and `write`, and of [`Upscaler::upscale_with_progress`]. What `write` got
    /// before is then no whole image.
    ///
    /// # Panics
    /// When a side of the image or `rows_px` is 0.
    pub fn upscale_rows<T: Sample, E: From<UpscaleError>>(
        &self,
        (width_px, height_px): (usize, usize),
        rows_px: usize,
        mut read: impl FnMut(&mut [T]) -> Result<(), E>,
        mut write: impl FnMut(&[T]) -> Result<(), E>,
        progress: &Progress,
    ) -> Result<(), E> {
        assert!(
            width_px > 0 && height_px > 0 && rows_px > 0,
            "image of {width_px} x {height_px}, {rows_px} rows at a time"
        );
        let counter = self.counter(height_px, progress);
        let mut passage = self.begin(width_px, height_px);
        let row_len = width_px * 3;
        // Rows that are read and whose result is still to come, too: `run` compares the two.
        let (mut low, mut first_row) = (Vec::new(), 0);
        let mut large = Vec::new();
        while passage.waves_left() > 0 {
            let waves = rows_px.div_ceil(STRIP_ROWS).min(passage.waves_left());
            let (reads, makes) = (passage.reads(waves), passage.makes(waves));
            low.drain(..(makes.start - first_row) * row_len);
            first_row = makes.start;
            if !reads.is_empty() {
                let held = low.len();
                low.resize(held + reads.len() * row_len, T::default());
                read(&mut low[held..])?;
            }
            large.resize(
                makes.len() * row_len * self.scale() * self.scale(),
                T::default(),
            );
            let rows = Rows {
                samples: &low,
                width_px,
                first_row,
            };
            self.run(&mut passage, waves, rows, &mut large, &counter)?;
            if !large.is_empty() {
                write(&large)?;
            }
        }
        passage.end();
        Ok(())
    }

    /// Rows to read at a time for which [`Upscaler::memory_bytes`] stays within `max_bytes`: as many for each
    /// thread, and no more than make it faster.
    ///
    /// # Errors
    /// The bytes that the fewest rows take, when those are more.
    ///
    /// # Panics
    /// When the width is 0.
    pub fn rows_within(
        &self,
        width_px: usize,
        sample_bytes: usize,
        max_bytes: u64,
    ) -> Result<usize, u64> {
        assert_ne!(width_px, 0, "empty image");
        let bytes = |waves: usize| self.memory_bytes(width_px, waves * STRIP_ROWS, sample_bytes);
        let threads = rayon::current_num_threads();
        let for_each = (1..=WAVES_AT_A_TIME).rev().map(|waves| waves * threads);
        let mut waves = for_each.chain((1..threads).rev());
        waves
            .find(|&waves| bytes(waves) <= max_bytes)
            .map(|waves| waves * STRIP_ROWS)
            .ok_or_else(|| bytes(1))
    }

    /// Memory in bytes that [`Upscaler::upscale_rows`] takes: rows of both images, `sample_bytes`
    /// each sample, and the feature maps for the threads of rayon's current pool.
    pub fn memory_bytes(&self, width_px: usize, rows_px: usize, sample_bytes: usize) -> u64 {
        let low_rows = rows_px + self.stream.plan().lag_rows();
        let rows = (low_rows + rows_px * self.scale() * self.scale()) as u64;
        self.working_bytes(width_px) + rows * (width_px * 3 * sample_bytes) as u64
    }

    /// Memory in bytes that upscaling an image of that width takes beside the two images: feature
    /// maps for the threads of rayon's current pool, most of which is kept for the next image.
    pub fn working_bytes(&self, width_px: usize) -> u64 {
        self.stream.bytes(&self.columns(width_px))
    }

    fn columns(&self, width_px: usize) -> Columns {
        Columns::new(width_px, self.tile_px.unwrap_or(width_px))
    }

    fn begin(&self, width_px: usize, height_px: usize) -> Passage<'_> {
        self.stream.begin(self.columns(width_px), height_px)
    }

    fn counter<'a>(&self, height_px: usize, progress: &'a Progress<'a>) -> Counter<'a> {
        Counter::new(height_px * self.map_scale(), progress)
    }

    /// Rows of the map that the result is read off, before its last pixel shuffle, for a row of the image.
    fn map_scale(&self) -> usize {
        self.scale() / self.stream.plan().output_shuffle
    }

    /// Runs the next waves of an image: `low` holds the rows that they read and those whose result they
    /// make, `output` takes that.
    fn run<T: Sample>(
        &self,
        passage: &mut Passage<'_>,
        waves: usize,
        low: Rows<'_, T>,
        output: &mut [T],
        counter: &Counter,
    ) -> Result<(), UpscaleError> {
        let (width_px, scale) = (low.width_px, self.scale());
        let makes = passage.makes(waves);
        let first_map_row = makes.start * self.map_scale();
        let out_rows = self.stream.plan().output_shuffle;
        // What a row of the map becomes.
        let rows: Vec<Mutex<&mut [T]>> = output
            .chunks_mut(out_rows * width_px * scale * 3)
            .map(Mutex::new)
            .collect();
        let made = Mutex::new(Spread::new());
        let read = |strip: &mut Strip| self.read(low, strip);
        let write = |strip: &Strip| {
            let mut spread = Spread::new();
            for y in strip.rows() {
                let out = &mut lock(&rows[y - first_map_row]);
                spread.merge(&self.write(strip, y, width_px * scale, out)?);
            }
            lock(&made).merge(&spread);
            let is_last = strip.columns().end == width_px * self.map_scale();
            counter.count(if is_last { strip.rows().len() } else { 0 })
        };
        passage
            .run(waves, &read, &write)
            .map_err(|error| low.first_error(error))?;
        if lock(&made).is_flat() && !low.are_flat(&makes) {
            return Err(UpscaleError::Constant { rows: makes });
        }
        Ok(())
    }

    /// A strip of the image, the mean subtracted.
    fn read<T: Sample>(&self, low: Rows<'_, T>, strip: &mut Strip) -> Result<(), UpscaleError> {
        let left = strip.columns().start;
        for y in strip.rows() {
            let from = &low.row(y)[left * 3..];
            for (channel, mean) in self.model.config().mean.into_iter().enumerate() {
                let row = strip.row_mut(channel, y);
                for (to, from) in row.iter_mut().zip(from[channel..].iter().step_by(3)) {
                    *to = from.to_unit() - mean;
                }
                if let Some(x) = row.iter().position(|value| !value.is_finite()) {
                    return Err(UpscaleError::Input {
                        value: row[x],
                        x: left + x,
                        y,
                    });
                }
            }
        }
        Ok(())
    }

    /// Stores row `map_y` of the strip's map into the rows of the result that it becomes. Returns the spread
    /// of what is stored.
    fn write<T: Sample>(
        &self,
        strip: &Strip,
        map_y: usize,
        out_width_px: usize,
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
                            y: map_y * shuffle + y,
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

/// Told (rows done, rows in all), from any thread; says whether to go on.
pub type Progress<'a> = dyn Fn(usize, usize) -> ControlFlow<()> + Sync + 'a;

/// Counts the rows of an image.
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

/// Some rows of an image, from `first_row` on.
#[derive(Clone, Copy)]
struct Rows<'a, T> {
    samples: &'a [T],
    width_px: usize,
    first_row: usize,
}

impl<'a, T: Sample> Rows<'a, T> {
    fn whole(samples: &'a [T], width_px: usize) -> Self {
        Self {
            samples,
            width_px,
            first_row: 0,
        }
    }

    fn row(&self, y: usize) -> &'a [T] {
        let row_len = self.width_px * 3;
        &self.samples[(y - self.first_row) * row_len..][..row_len]
    }

    /// Whether these rows hold one colour.
    fn are_flat(&self, rows: &Range<usize>) -> bool {
        let mut spread = Spread::new();
        for y in rows.clone() {
            for pixel in self.row(y).as_chunks::<3>().0 {
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
    fn first_error(&self, error: UpscaleError) -> UpscaleError {
        let UpscaleError::Input { .. } = error else {
            return error;
        };
        let samples = self.samples.iter().map(|sample| sample.to_unit());
        let first = samples.enumerate().find(|(_, value)| !value.is_finite());
        first.map_or(error, |(at, value)| UpscaleError::Input {
            value,
            x: at / 3 % self.width_px,
            y: self.first_row + at / 3 / self.width_px,
        })
    }
}
