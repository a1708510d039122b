//! Upscaling of images with a model, in tiles that equal the whole image.
//!
//! An image streams through the network in waves of four rows (`stream`), from memory or while it is
//! decoded ([`Upscaler::upscale_rows`]). Every pixel is summed in the same order wherever it lies, so
//! the result is the same bit for bit, for any tiles and any number of threads.

mod colour_range;
mod on_device;
mod progress;
mod rows;
mod sample;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use wdsr_kernels::{Isa, Precision, STRIP_ROWS, Strip};

use crate::device::{Device, DevicePrecision};
use crate::error::{Error, UpscaleError};
use crate::model::Model;
use crate::precision::PrecisionOn;
use crate::stream::{Arithmetic, Inference, StageTime, StreamingNetwork, Tiles, lock};
use colour_range::ColourRange;
use on_device::OnDevice;
pub use progress::Progress;
use progress::WorkCounter;
use rows::{InputRows, OutputFormat};
pub use sample::Sample;

/// Default width of a tile in low-resolution pixels: the strips of `base` that are in use at a time
/// then take 2 MB for each thread (docs/experiments/kernels.md, "Image sizes").
pub const DEFAULT_TILE_PX: usize = 640;

/// Waves for each thread that [`Upscaler::upscale_rows`] computes at a time if memory allows. Threads
/// wait for each other and for the rows only once in as many.
const WAVES_AT_A_TIME: usize = 8;

/// Upscales images with one model.
pub struct Upscaler {
    model: Model,
    arithmetic: Arithmetic,
    self_ensemble: bool,
    /// The weights as the kernels read them, prepared when they are first needed.
    network: OnceLock<StreamingNetwork>,
    tile_px: Option<usize>,
    on_device: Option<OnDevice>,
}

impl Upscaler {
    /// An upscaler on this processor. The weights are prepared when they are first needed: by the first image, or by
    /// the first question about memory.
    ///
    /// # Errors
    /// If the environment variable `WDSR_ISA` does not name an instruction set.
    pub fn new(model: &Model) -> Result<Self, Error> {
        Ok(Self::with_isa(model, Isa::detect()?))
    }

    /// An upscaler on one instruction set.
    pub fn with_isa(model: &Model, isa: Isa) -> Self {
        let precision = Precision::F32;
        let arithmetic = Arithmetic { isa, precision };
        Self {
            model: model.clone(),
            arithmetic,
            self_ensemble: false,
            network: OnceLock::new(),
            tile_px: Some(DEFAULT_TILE_PX),
            on_device: None,
        }
    }

    /// Sets the largest width of a tile in low-resolution pixels; `None` computes the full width of the
    /// image at a time. The result is the same. Tiles are four rows high.
    ///
    /// # Panics
    /// If the width is 0.
    #[must_use]
    pub fn tile_px(mut self, tile_px: Option<usize>) -> Self {
        assert_ne!(tile_px, Some(0), "width of a tile");
        self.tile_px = tile_px;
        self
    }

    /// Sets whether the result is the average over the eight flips and rotations of the image: about
    /// 0.1 dB better for eight times the work (Timofte et al. 2016, "Seven ways to improve
    /// example-based single image super resolution").
    #[must_use]
    pub fn self_ensemble(mut self, on: bool) -> Self {
        if on != self.self_ensemble {
            self.self_ensemble = on;
            self.unprepare();
        }
        self
    }

    /// Sets the precision of the products in convolutions of many channels; by default f32.
    /// [`Precision::Bf16`] is faster if [`Isa::has_bf16`] holds; other processors compute it in f32
    /// from rounded numbers. [`Precision::Int8`] gives the same bits on every processor. Tiles equal the whole image in all.
    ///
    /// # Panics
    /// If int8 is chosen and the model has no scales for it ([`Model::int8`]).
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        assert!(
            precision != Precision::Int8 || self.model.int8().is_some(),
            "int8 of a model without scales for it"
        );
        if precision != self.arithmetic.precision {
            self.arithmetic.precision = precision;
            self.unprepare();
        }
        self
    }

    /// Computes images on a device instead of this processor. Its last bits differ from the processor's;
    /// [`precision`](Self::precision) and [`tile_px`](Self::tile_px) have no effect on it. If its memory does not suffice for the
    /// smallest tile, the processor computes, and the device receives a warning.
    ///
    /// # Panics
    /// If f16 is chosen and the device lacks it ([`Device::has_f16`]).
    #[must_use]
    pub fn on_device(mut self, device: Arc<dyn Device>, precision: DevicePrecision) -> Self {
        self.on_device = Some(OnDevice::new(device, precision));
        self
    }

    /// Sets what computes, and in which precision: [`precision`](Self::precision) or [`on_device`](Self::on_device).
    #[must_use]
    pub fn computed(self, on: &PrecisionOn) -> Self {
        match on {
            PrecisionOn::Processor(precision) => self.precision(*precision),
            PrecisionOn::Device(device, precision) => {
                self.on_device(Arc::clone(device), *precision)
            }
        }
    }

    /// The name of the device that computes; `None` for this processor.
    pub fn device_name(&self) -> Option<&str> {
        self.on_device.as_ref()?.name()
    }

    /// The device, if it computes.
    fn device(&self) -> Option<&OnDevice> {
        self.on_device.as_ref().filter(|on| on.is_in_use())
    }

    /// Forgets what was prepared for other options.
    fn unprepare(&mut self) {
        self.on_device = self.on_device.as_ref().map(OnDevice::unprepared);
        self.network = OnceLock::new();
    }

    /// The network with weights prepared for the current options.
    fn network(&self) -> &StreamingNetwork {
        let prepare = || StreamingNetwork::new(&self.model, self.arithmetic, self.self_ensemble);
        self.network.get_or_init(prepare)
    }

    /// Whether the model has a strength; the upscaler itself computes strength 0.
    pub fn has_strength(&self) -> bool {
        self.model.strong().is_some()
    }

    /// The upscaler of the model at a strength, 0..=1, with the same options.
    ///
    /// # Panics
    /// If the strength is not within 0..=1.
    #[must_use]
    pub fn at_strength(&self, strength: f32) -> Self {
        Self {
            model: self.model.at_strength(strength),
            network: OnceLock::new(),
            on_device: self.on_device.as_ref().map(OnDevice::unprepared),
            ..*self
        }
    }

    /// Columns and rows to add on each side of an image so that no bit of its result depends on what lies beyond.
    ///
    /// Rows are computed in groups of four, whose rounding depends on every row of the group, so that a
    /// convolution reaches a whole group farther instead of a row. With
    /// [`self_ensemble`](Self::self_ensemble) columns are rows too.
    pub fn halo_px(&self) -> (usize, usize) {
        let radius_px = self.model.network().receptive_radius_px();
        let rows_px = radius_px * STRIP_ROWS;
        let columns_px = if self.self_ensemble {
            rows_px
        } else {
            radius_px
        };
        (columns_px, rows_px)
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
    /// If a sample is not finite, or the output of the network cannot be an image.
    ///
    /// # Panics
    /// If the number of samples differs, or a side is 0.
    pub fn upscale<T: Sample>(
        &self,
        pixels: &[T],
        width_px: usize,
        height_px: usize,
    ) -> Result<Vec<T>, UpscaleError> {
        let progress = |_: usize, _: usize| ControlFlow::Continue(());
        self.upscale_with_progress(pixels, width_px, height_px, &progress)
    }

    /// Upscales an image as [`Upscaler::upscale`], and calls `progress` every few rows. The work stops
    /// when it returns [`ControlFlow::Break`].
    ///
    /// # Errors
    /// Those of [`Upscaler::upscale`], and [`UpscaleError::Stopped`].
    ///
    /// # Panics
    /// If the number of samples differs, or a side is 0.
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

    /// Upscales an image as [`Upscaler::upscale_with_progress`], and also returns the time of each part
    /// of the network.
    ///
    /// # Errors
    /// Those of [`Upscaler::upscale_with_progress`].
    ///
    /// # Panics
    /// If the number of samples differs, or a side is 0.
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
        let Some(on) = self.device() else {
            return self.upscale_on_processor(pixels, width_px, height_px, progress);
        };
        let started = Instant::now();
        let large = self.upscale_on_device(on, pixels, (width_px, height_px), progress)?;
        let time = StageTime {
            name: "network".to_owned(),
            multiply_adds_per_pixel: self.model.network().multiply_adds_per_pixel(),
            time: started.elapsed(),
        };
        Ok((large, vec![time]))
    }

    fn upscale_on_processor<T: Sample>(
        &self,
        pixels: &[T],
        width_px: usize,
        height_px: usize,
        progress: &Progress,
    ) -> Result<(Vec<T>, Vec<StageTime>), UpscaleError> {
        let mut large = vec![T::default(); pixels.len() * self.scale() * self.scale()];
        let mut inference = self.start(width_px, height_px);
        let waves = inference.waves_left();
        let counter = self.counter(height_px, progress);
        let low = InputRows {
            samples: pixels,
            width_px,
            first_row: 0,
        };
        self.run(&mut inference, waves, low, &mut large, &counter)?;
        Ok((large, inference.finish()))
    }

    /// Upscales an image row by row, without the whole image in memory.
    ///
    /// Calls `read` for rows of the image and `write` with rows of the result, both from the top down
    /// and on the thread of the caller; between these calls some waves are computed on rayon's current
    /// thread pool. The result is that of [`Upscaler::upscale`], bit for bit.
    ///
    /// # Shapes
    /// - `rows_px`: rows to read at a time, rounded up to a multiple of four; see
    ///   [`Upscaler::rows_within`]
    /// - `read` must fill whole rows, `n * width_px * 3` samples, R G B interleaved; `n` is `rows_px`
    ///   except for the last rows
    /// - `write` gets whole rows of `width_px * scale * 3` samples, as many as are ready
    ///
    /// # Errors
    /// Those of `read` and `write`, and of [`Upscaler::upscale_with_progress`]. The rows that `write`
    /// got before are then an incomplete image.
    ///
    /// # Panics
    /// If a side of the image or `rows_px` is 0.
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
        if let Some(on) = self.device() {
            let size = (width_px, height_px);
            return self.upscale_rows_on_device(on, size, rows_px, read, write, progress);
        }
        let counter = self.counter(height_px, progress);
        let mut inference = self.start(width_px, height_px);
        let row_len = width_px * 3;
        // Rows that are read are kept until their result is computed, because `run` compares the two.
        let (mut low, mut first_row) = (Vec::new(), 0);
        let mut large = Vec::new();
        while inference.waves_left() > 0 {
            let waves = rows_px.div_ceil(STRIP_ROWS).min(inference.waves_left());
            let (inputs, outputs) = (inference.input_rows(waves), inference.output_rows(waves));
            low.drain(..(outputs.start - first_row) * row_len);
            first_row = outputs.start;
            if !inputs.is_empty() {
                let kept = low.len();
                low.resize(kept + inputs.len() * row_len, T::default());
                read(&mut low[kept..])?;
            }
            large.resize(
                outputs.len() * row_len * self.scale() * self.scale(),
                T::default(),
            );
            let rows = InputRows {
                samples: &low,
                width_px,
                first_row,
            };
            self.run(&mut inference, waves, rows, &mut large, &counter)?;
            if !large.is_empty() {
                write(&large)?;
            }
        }
        inference.finish();
        Ok(())
    }

    /// Rows to read at a time so that [`Upscaler::memory_bytes`] stays within `max_bytes`: if possible a
    /// multiple of the number of threads, and no more than make it faster.
    ///
    /// # Errors
    /// The bytes that the fewest rows take, if those exceed `max_bytes`.
    ///
    /// # Panics
    /// If the width is 0.
    pub fn rows_within(
        &self,
        width_px: usize,
        sample_bytes: usize,
        max_bytes: u64,
    ) -> Result<usize, u64> {
        assert_ne!(width_px, 0, "empty image");
        if let Some(on) = self.device() {
            return self.device_rows_within(on, width_px, sample_bytes, max_bytes);
        }
        let bytes = |waves: usize| self.memory_bytes(width_px, waves * STRIP_ROWS, sample_bytes);
        let threads = rayon::current_num_threads();
        let per_thread = (1..=WAVES_AT_A_TIME).rev().map(|waves| waves * threads);
        let mut waves = per_thread.chain((1..threads).rev());
        waves
            .find(|&waves| bytes(waves) <= max_bytes)
            .map(|waves| waves * STRIP_ROWS)
            .ok_or_else(|| bytes(1))
    }

    /// Memory in bytes of [`Upscaler::upscale_rows`]: rows of both images with samples of `sample_bytes`,
    /// and the feature maps for the threads of rayon's current pool.
    pub fn memory_bytes(&self, width_px: usize, rows_px: usize, sample_bytes: usize) -> u64 {
        if let Some(on) = self.device() {
            return self.device_memory_bytes(on, width_px, rows_px, sample_bytes);
        }
        let low_rows = rows_px + self.network().plan().delay_rows();
        let rows = (low_rows + rows_px * self.scale() * self.scale()) as u64;
        self.working_bytes(width_px) + rows * (width_px * 3 * sample_bytes) as u64
    }

    /// Memory in bytes of upscaling an image of the given width, without the two images: feature maps
    /// for the threads of rayon's current pool, most of which is kept for the next image.
    pub fn working_bytes(&self, width_px: usize) -> u64 {
        match self.device() {
            Some(on) => self.device_working_bytes(on, width_px),
            None => self.network().memory_bytes(&self.tiles(width_px)),
        }
    }

    fn tiles(&self, width_px: usize) -> Tiles {
        Tiles::new(width_px, self.tile_px.unwrap_or(width_px))
    }

    fn start(&self, width_px: usize, height_px: usize) -> Inference<'_> {
        self.network().start(self.tiles(width_px), height_px)
    }

    fn counter<'a>(&self, height_px: usize, progress: &'a Progress<'a>) -> WorkCounter<'a> {
        WorkCounter::new(height_px * self.output_map_scale(), progress)
    }

    /// Rows of the output's map, before the last pixel shuffle, for each row of the image.
    fn output_map_scale(&self) -> usize {
        self.scale() / self.network().plan().output_shuffle
    }

    /// Computes the next waves of an image. `low` has the rows that they read and those whose result
    /// they compute; the result is written to `output`.
    fn run<T: Sample>(
        &self,
        inference: &mut Inference<'_>,
        waves: usize,
        low: InputRows<'_, T>,
        output: &mut [T],
        counter: &WorkCounter,
    ) -> Result<(), UpscaleError> {
        let rows = inference.output_rows(waves);
        let mean = self.model.config().mean;
        let range = self.compute(inference, waves, mean, low, output, counter)?;
        if range.is_single_colour() && !low.are_single_colour(&rows) {
            return Err(UpscaleError::Constant { rows });
        }
        Ok(())
    }

    /// [`run`](Self::run) of an image of the given mean. Returns the range of the result.
    fn compute<T: Sample>(
        &self,
        inference: &mut Inference<'_>,
        waves: usize,
        mean: [f32; 3],
        low: InputRows<'_, T>,
        output: &mut [T],
        counter: &WorkCounter,
    ) -> Result<ColourRange, UpscaleError> {
        let (width_px, plan) = (low.width_px, self.network().plan());
        let format = OutputFormat {
            mean,
            shuffle: plan.output_shuffle,
            factor: plan.output_factor,
            width_px: width_px * self.scale(),
        };
        let output_rows = inference.output_rows(waves);
        let first_map_row = output_rows.start * self.output_map_scale();
        // The rows of the image that a row of the output's map becomes.
        let rows: Vec<Mutex<&mut [T]>> = output
            .chunks_mut(format.shuffle * format.width_px * 3)
            .map(Mutex::new)
            .collect();
        let output_range = Mutex::new(ColourRange::new());
        let read = |strip: &mut Strip| low.read(mean, strip);
        let write = |strip: &Strip| {
            let mut range = ColourRange::new();
            for y in strip.rows() {
                let out = &mut lock(&rows[y - first_map_row]);
                range.merge(&format.write(strip, y, out)?);
            }
            lock(&output_range).merge(&range);
            let is_last = strip.columns().end == width_px * self.output_map_scale();
            counter.add(if is_last { strip.rows().len() } else { 0 })
        };
        inference
            .run(waves, &read, &write)
            .map_err(|error| low.first_error(error))?;
        let range = *lock(&output_range);
        Ok(range)
    }
}
