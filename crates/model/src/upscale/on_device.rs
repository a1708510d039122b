//! Upscaling on a [`Device`]: in tiles with a halo, several at a time under way.
//!
//! A tile's halo is the network's receptive radius, and the device computes every pixel in the same way
//! wherever it lies, so that tiles of any size give the same bits. Processors compute rows in groups, so their tiles begin
//! with a group, and their halo is that of [`Upscaler::halo_px`].

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rayon::prelude::*;
use wdsr_kernels::STRIP_ROWS;

use super::progress::{Progress, WorkCounter};
use super::rows::InputRows;
use super::{Sample, Upscaler};
use crate::config::BlockKind;
use crate::device::{
    Device, DeviceError, DeviceNetwork, DevicePrecision, DeviceTile, PendingTile, with_halo,
};
use crate::error::UpscaleError;
use crate::model::Model;
use crate::stream::{lock, turned_models};
use crate::upscale::colour_range::ColourRange;

/// Tiles under way, unless the device is several processors.
const IN_FLIGHT: usize = 2;

/// Wanted pixels on a side of the smallest tile. If memory does not suffice for it, the processor
/// computes.
const LEAST_TILE_PX: usize = 16;

/// Pixels of a tile until the device tells its limit.
const ASSUMED_TILE_PIXELS: usize = 1 << 20;

/// A device, and a model's networks that are prepared for it.
pub(super) struct OnDevice {
    device: Arc<dyn Device>,
    precision: DevicePrecision,
    /// Prepared at the first image, and again after a loss: the network, or with self-ensemble all eight.
    networks: Mutex<Option<Arc<Networks>>>,
    /// Shared by the upscalers of a model's strengths.
    memory: Arc<Memory>,
}

type Networks = Vec<Box<dyn DeviceNetwork>>;

/// What is known about the memory of a device.
struct Memory {
    /// A limit of the pixels of a tile that was found by trying; unlimited at first.
    max_tile_pixels: AtomicUsize,
    /// Whether not even the smallest tile fits or nothing could be prepared, so that the processor computes.
    is_insufficient: AtomicBool,
}

impl OnDevice {
    pub(super) fn new(device: Arc<dyn Device>, precision: DevicePrecision) -> Self {
        assert!(
            precision == DevicePrecision::F32 || device.has_f16(),
            "device: {} does not compute in f16",
            device.name()
        );
        Self {
            device,
            precision,
            networks: Mutex::default(),
            memory: Arc::new(Memory {
                max_tile_pixels: AtomicUsize::new(usize::MAX),
                is_insufficient: AtomicBool::new(false),
            }),
        }
    }

    /// The device, for another model or other options.
    pub(super) fn unprepared(&self) -> Self {
        Self {
            device: Arc::clone(&self.device),
            precision: self.precision,
            networks: Mutex::default(),
            memory: Arc::clone(&self.memory),
        }
    }

    /// The device's name, unless the processor computes for want of memory.
    pub(super) fn name(&self) -> Option<&str> {
        self.is_in_use().then(|| self.device.name())
    }

    pub(super) fn is_in_use(&self) -> bool {
        !self.memory.is_insufficient.load(Ordering::Relaxed)
    }

    fn networks(&self, upscaler: &Upscaler) -> Result<Arc<Networks>, DeviceError> {
        let mut networks = lock(&self.networks);
        if let Some(networks) = &*networks {
            return Ok(Arc::clone(networks));
        }
        let model = &upscaler.model;
        let kind = model.config().block;
        if kind == BlockKind::Rrdb {
            let device = self.device.name().to_owned();
            return Err(DeviceError::Unsupported { device, kind });
        }
        let prepare = |model: &Model| self.device.prepare(model, self.precision);
        let prepared = if upscaler.self_ensemble {
            let models = turned_models(model, upscaler.arithmetic);
            models.iter().map(prepare).collect()
        } else {
            prepare(model).map(|network| vec![network])
        };
        let prepared: Arc<Networks> = Arc::new(prepared?);
        *networks = Some(Arc::clone(&prepared));
        Ok(prepared)
    }

    fn max_tile_pixels(&self, upscaler: &Upscaler) -> usize {
        let networks = self.networks(upscaler);
        let of_device = networks.map_or(ASSUMED_TILE_PIXELS, |networks| {
            networks[0].max_tile_pixels()
        });
        of_device.min(self.memory.max_tile_pixels.load(Ordering::Relaxed))
    }

    fn processors(&self, upscaler: &Upscaler) -> Option<usize> {
        self.networks(upscaler).ok()?[0].processors()
    }

    /// Whether the processor computes after a failure to prepare.
    fn gives_up(&self, error: &DeviceError) -> bool {
        matches!(error, DeviceError::OutOfMemory { .. }) || self.device.is_optional()
    }

    fn give_up(&self, error: &DeviceError) {
        if !self.memory.is_insufficient.swap(true, Ordering::Relaxed) {
            self.device
                .warn(format!("{error}; computing on the processor"));
        }
    }
}

/// A tile under way, or its result.
enum Work<'a> {
    Pending(Vec<Box<dyn PendingTile + 'a>>),
    Done(Vec<f32>),
}

struct TileInFlight<'a> {
    tile: DeviceTile,
    /// Its columns in the image.
    columns: Range<usize>,
    work: Work<'a>,
}

/// Rows of the result whose tiles are under way.
struct Band<T> {
    rows: Range<usize>,
    large: Vec<T>,
    tiles_left: usize,
    range: ColourRange,
    is_input_single_colour: bool,
}

/// How an image is cut into tiles.
#[derive(Clone, Copy)]
struct Tiling {
    /// Wanted columns of a tile.
    columns_px: usize,
    /// Wanted rows of a tile.
    rows_px: usize,
    /// Columns and rows of the halo.
    halo_px: (usize, usize),
    /// A tile with its halo begins at a multiple of so many rows.
    row_group: usize,
    /// Tiles under way.
    in_flight: usize,
}

impl Tiling {
    /// Rows of an image of `height_px` rows that a tile of the wanted rows reads.
    fn rows_read(&self, rows: &Range<usize>, height_px: usize) -> Range<usize> {
        let rows = with_halo(rows, self.halo_px.1, height_px);
        rows.start / self.row_group * self.row_group..rows.end
    }
}

impl Upscaler {
    fn radius_px(&self) -> usize {
        self.model.network().receptive_radius_px()
    }

    fn tiling(&self, on: &OnDevice, width_px: usize) -> Tiling {
        let pixels = on.max_tile_pixels(self);
        let Some(processors) = on.processors(self) else {
            let radius_px = self.radius_px();
            let (columns_px, rows_px) = tile_size(pixels, 2 * radius_px, width_px);
            return Tiling {
                columns_px,
                rows_px,
                halo_px: (radius_px, radius_px),
                row_group: 1,
                in_flight: IN_FLIGHT,
            };
        };
        let halo_px = self.halo_px();
        // Side by side, because the halo has few columns and many rows. It takes no more than half of the work.
        let columns_px = width_px.div_ceil(processors).max(2 * halo_px.0);
        let columns_px = columns_px.min(width_px);
        let with_halo_px = (columns_px + 2 * halo_px.0).min(width_px);
        let rows_px = (pixels / with_halo_px).saturating_sub(2 * halo_px.1);
        Tiling {
            columns_px,
            rows_px: rows_px.max(LEAST_TILE_PX),
            halo_px,
            row_group: STRIP_ROWS,
            in_flight: processors,
        }
    }

    /// Bytes of a device's work in the program's memory, without the image and its result. `rows_px` rows are
    /// read at a time.
    fn transfer_bytes(&self, on: &OnDevice, width_px: usize, rows_px: usize) -> u64 {
        let tiling = self.tiling(on, width_px);
        let rows_px = rows_px.min(tiling.rows_px);
        let wanted = (tiling.columns_px * rows_px) as u64;
        let (halo_columns_px, halo_rows_px) = tiling.halo_px;
        let read = ((tiling.columns_px + 2 * halo_columns_px).min(width_px)
            * (rows_px + 2 * halo_rows_px)) as u64;
        let scale = self.scale() as u64;
        (tiling.in_flight as u64 + 1) * (read * 16 + wanted * scale * scale * 12)
    }

    /// [`Upscaler::memory_bytes`] on a device.
    pub(super) fn device_memory_bytes(
        &self,
        on: &OnDevice,
        width_px: usize,
        rows_px: usize,
        sample_bytes: usize,
    ) -> u64 {
        let low_rows = rows_px + 2 * self.tiling(on, width_px).halo_px.1;
        let bands = (IN_FLIGHT + 1) * rows_px * self.scale() * self.scale();
        let rows = (low_rows + bands) as u64 * (width_px * 3 * sample_bytes) as u64;
        rows + self.transfer_bytes(on, width_px, rows_px)
    }

    /// [`Upscaler::working_bytes`] on a device.
    pub(super) fn device_working_bytes(&self, on: &OnDevice, width_px: usize) -> u64 {
        self.transfer_bytes(on, width_px, usize::MAX)
    }

    /// [`Upscaler::rows_within`] on a device: as many rows as a tile has.
    pub(super) fn device_rows_within(
        &self,
        on: &OnDevice,
        width_px: usize,
        sample_bytes: usize,
        max_bytes: u64,
    ) -> Result<usize, u64> {
        let bytes = |rows_px| self.memory_bytes(width_px, rows_px, sample_bytes);
        let mut rows_px = self.tiling(on, width_px).rows_px;
        while bytes(rows_px) > max_bytes {
            if rows_px <= LEAST_TILE_PX {
                return Err(bytes(rows_px));
            }
            rows_px = (rows_px / 2).max(LEAST_TILE_PX);
        }
        Ok(rows_px)
    }

    /// [`Upscaler::upscale_timed`] on a device.
    pub(super) fn upscale_on_device<T: Sample>(
        &self,
        on: &OnDevice,
        pixels: &[T],
        (width_px, height_px): (usize, usize),
        progress: &Progress,
    ) -> Result<Vec<T>, UpscaleError> {
        let mut large = Vec::with_capacity(pixels.len() * self.scale() * self.scale());
        let mut rest = pixels;
        self.upscale_rows_on_device(
            on,
            (width_px, height_px),
            self.tiling(on, width_px).rows_px,
            |rows: &mut [T]| {
                let (next, others) = rest.split_at(rows.len());
                rows.copy_from_slice(next);
                rest = others;
                Ok::<(), UpscaleError>(())
            },
            |rows| {
                large.extend_from_slice(rows);
                Ok(())
            },
            progress,
        )?;
        Ok(large)
    }

    /// [`Upscaler::upscale_rows`] on a device.
    pub(super) fn upscale_rows_on_device<T: Sample, E: From<UpscaleError>>(
        &self,
        on: &OnDevice,
        (width_px, height_px): (usize, usize),
        rows_px: usize,
        mut read: impl FnMut(&mut [T]) -> Result<(), E>,
        mut write: impl FnMut(&[T]) -> Result<(), E>,
        progress: &Progress,
    ) -> Result<(), E> {
        let networks = match on.networks(self) {
            Ok(networks) => networks,
            Err(error) if on.gives_up(&error) => {
                on.give_up(&error);
                Arc::default()
            }
            Err(error) => return Err(UpscaleError::from(error).into()),
        };
        let row_len = width_px * 3;
        let mut pipeline = Pipeline {
            upscaler: self,
            counter: WorkCounter::new(width_px * height_px, progress),
            on,
            networks: &networks,
            width_px,
            tiles: VecDeque::new(),
            bands: VecDeque::new(),
        };
        let (mut low, mut first_row): (Vec<T>, usize) = (Vec::new(), 0);
        let (mut rows_read, mut next_row) = (0, 0);
        let mut band_done = |band: Option<Band<T>>| -> Result<(), E> {
            if let Some(band) = band {
                write(&band.large)?;
            }
            Ok(())
        };
        while next_row < height_px {
            if rows_read < height_px {
                let rows = rows_px.min(height_px - rows_read);
                let kept = low.len();
                low.resize(kept + rows * row_len, T::default());
                read(&mut low[kept..])?;
                rows_read += rows;
            }
            let end = if rows_read == height_px {
                height_px
            } else {
                rows_read.saturating_sub(self.tiling(on, width_px).halo_px.1)
            };
            while next_row < end {
                let tiling = self.tiling(on, width_px);
                let rows = next_row..end.min(next_row + tiling.rows_px);
                next_row = rows.end;
                let halo = tiling.rows_read(&rows, height_px);
                low.drain(..(halo.start - first_row) * row_len);
                first_row = halo.start;
                let row = |y: usize| &low[(y - first_row) * row_len..][..row_len];
                pipeline.bands.push_back(Band {
                    large: vec![T::default(); rows.len() * row_len * self.scale().pow(2)],
                    tiles_left: width_px.div_ceil(tiling.columns_px),
                    range: ColourRange::new(),
                    is_input_single_colour: is_single_colour(rows.clone().map(row)),
                    rows: rows.clone(),
                });
                for left in (0..width_px).step_by(tiling.columns_px) {
                    let columns = left..width_px.min(left + tiling.columns_px);
                    let x = with_halo(&columns, tiling.halo_px.0, width_px);
                    let tile = self.tile((&columns, &x), (&rows, &halo), row)?;
                    while pipeline.tiles.len() >= tiling.in_flight {
                        band_done(pipeline.finish_tile()?)?;
                    }
                    let work = loop {
                        match pipeline.start(&tile) {
                            // The memory of the tiles under way may suffice.
                            Err(DeviceError::OutOfMemory { .. }) if !pipeline.tiles.is_empty() => {
                                band_done(pipeline.finish_tile()?)?;
                            }
                            Err(DeviceError::OutOfMemory { .. }) => {
                                break Work::Done(pipeline.compute_in_parts(&tile)?);
                            }
                            work => break work.map_err(|error| pipeline.failed(error))?,
                        }
                    };
                    pipeline.tiles.push_back(TileInFlight {
                        tile,
                        columns,
                        work,
                    });
                }
            }
        }
        while !pipeline.tiles.is_empty() {
            band_done(pipeline.finish_tile()?)?;
        }
        Ok(())
    }

    /// A tile of some columns and rows of an image, each without and with the halo; `row` returns the samples of a
    /// row.
    fn tile<'r, T: Sample + 'r>(
        &self,
        (columns, x): (&Range<usize>, &Range<usize>),
        (rows, halo): (&Range<usize>, &Range<usize>),
        row: impl Fn(usize) -> &'r [T] + Sync,
    ) -> Result<DeviceTile, UpscaleError> {
        let mean = self.model.config().mean;
        let mut pixels = vec![[0.0; 4]; x.len() * halo.len()];
        let not_finite = pixels
            .par_chunks_mut(x.len())
            .enumerate()
            .filter_map(|(at, pixels)| {
                let samples = row(halo.start + at).as_chunks::<3>().0[x.clone()].iter();
                let mut is_finite = true;
                for (pixel, samples) in pixels.iter_mut().zip(samples) {
                    for channel in 0..3 {
                        pixel[channel] = samples[channel].to_unit() - mean[channel];
                        is_finite &= pixel[channel].is_finite();
                    }
                }
                (!is_finite).then_some(at)
            })
            .min();
        if let Some(at) = not_finite {
            let y = halo.start + at;
            let samples = row(y)[x.start * 3..].iter().map(|sample| sample.to_unit());
            let found = samples.enumerate().find(|(_, value)| !value.is_finite());
            if let Some((at, value)) = found {
                let x = x.start + at / 3;
                return Err(UpscaleError::Input { value, x, y });
            }
        }
        Ok(DeviceTile {
            pixels,
            width_px: x.len(),
            columns: columns.start - x.start..columns.end - x.start,
            rows: rows.start - halo.start..rows.end - halo.start,
        })
    }

    /// Computes a tile on this processor: R G B interleaved, row-major, of the wanted pixels at the network's scale, without
    /// the mean. A tile whose halo is that of [`halo_px`](Self::halo_px), or ends at the image's edges, and whose first
    /// row is a multiple of [`STRIP_ROWS`] in the image, gives the bits that the whole image has there.
    ///
    /// # Errors
    /// If a sample or a value of the result is not finite, or `progress` stops the work.
    pub fn compute_tile(
        &self,
        tile: &DeviceTile,
        progress: &Progress,
    ) -> Result<Vec<f32>, UpscaleError> {
        let (width_px, height_px, scale) = (tile.width_px, tile.height_px(), self.scale());
        let samples: Vec<f32> = tile
            .pixels
            .iter()
            .flat_map(|p| [p[0], p[1], p[2]])
            .collect();
        let low = InputRows {
            samples: &samples,
            width_px,
            first_row: 0,
        };
        let mut large = vec![0.0; samples.len() * scale * scale];
        let mut inference = self.start(width_px, height_px);
        let waves = inference.waves_left();
        let counter = self.counter(height_px, progress);
        self.compute(&mut inference, waves, [0.0; 3], low, &mut large, &counter)?;
        inference.finish();
        let columns = tile.columns.start * scale * 3..tile.columns.end * scale * 3;
        let rows = large.chunks_exact(width_px * scale * 3);
        let rows = rows
            .skip(tile.rows.start * scale)
            .take(tile.rows.len() * scale);
        Ok(rows
            .flat_map(|row| &row[columns.clone()])
            .copied()
            .collect())
    }
}

/// Wanted columns and rows of a tile of so many pixels with its halo, `halo_px` on both sides together.
fn tile_size(pixels: usize, halo_px: usize, width_px: usize) -> (usize, usize) {
    let rows_px = (pixels / width_px).saturating_sub(halo_px);
    // The halo of full rows takes no more than half of the work.
    if rows_px >= halo_px.max(LEAST_TILE_PX) {
        return (width_px, rows_px);
    }
    let side_px = pixels.isqrt();
    let columns_px = side_px.saturating_sub(halo_px).max(LEAST_TILE_PX);
    let columns_px = columns_px.min(width_px);
    let with_halo_px = (columns_px + halo_px).min(width_px);
    let rows_px = (pixels / with_halo_px).saturating_sub(halo_px);
    (columns_px, rows_px.max(LEAST_TILE_PX))
}

/// The tiles and bands under way.
struct Pipeline<'a, T> {
    upscaler: &'a Upscaler,
    /// Of pixels.
    counter: WorkCounter<'a>,
    on: &'a OnDevice,
    networks: &'a Networks,
    width_px: usize,
    tiles: VecDeque<TileInFlight<'a>>,
    bands: VecDeque<Band<T>>,
}

impl<'a, T: Sample> Pipeline<'a, T> {
    fn start(&self, tile: &DeviceTile) -> Result<Work<'a>, DeviceError> {
        if !self.on.is_in_use() {
            // `compute_in_parts` computes on the processor.
            let device = self.on.device.name().to_owned();
            return Err(DeviceError::OutOfMemory { device });
        }
        let started = self.networks.iter().map(|network| network.start(tile));
        Ok(Work::Pending(started.collect::<Result<_, _>>()?))
    }

    /// The error of an image. After a loss the next image prepares the networks again.
    fn failed(&self, error: DeviceError) -> UpscaleError {
        if matches!(error, DeviceError::Lost { .. }) {
            *lock(&self.on.networks) = None;
        }
        error.into()
    }

    /// Waits for the result of a tile, and calls `read` once with it.
    fn wait(
        &self,
        tile: &DeviceTile,
        work: Work<'a>,
        read: &mut dyn FnMut(&[f32]),
    ) -> Result<(), UpscaleError> {
        let pending = match work {
            Work::Done(done) => {
                read(&done);
                return Ok(());
            }
            Work::Pending(pending) => pending,
        };
        let progress = |pixels| self.counter.report(pixels);
        let (count, mut sum) = (pending.len(), Vec::new());
        let mut add = |part: &[f32]| match sum.is_empty() {
            true => sum.extend_from_slice(part),
            false => sum.iter_mut().zip(part).for_each(|(sum, v)| *sum += v),
        };
        for pending in pending {
            let finished = match count {
                1 => pending.finish(&progress, read),
                _ => pending.finish(&progress, &mut add),
            };
            match finished {
                Ok(()) => {}
                Err(DeviceError::OutOfMemory { .. }) => {
                    read(&self.compute_in_parts(tile)?);
                    return Ok(());
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        if count > 1 {
            let factor = 1.0 / count as f32;
            sum.iter_mut().for_each(|v| *v *= factor);
            read(&sum);
        }
        Ok(())
    }

    /// Computes a tile for which memory does not suffice in smaller tiles, or on the processor.
    fn compute_in_parts(&self, tile: &DeviceTile) -> Result<Vec<f32>, UpscaleError> {
        let (width_px, height_px) = (tile.columns.len(), tile.rows.len());
        let is_processors = self.networks.iter().any(|n| n.processors().is_some());
        let is_smallest = width_px.max(height_px) <= LEAST_TILE_PX;
        if !self.on.is_in_use() || is_smallest || is_processors {
            let device = self.on.device.name().to_owned();
            self.on.give_up(&DeviceError::OutOfMemory { device });
            let progress = |_: usize, _: usize| ControlFlow::Continue(());
            return self.upscaler.compute_tile(tile, &progress);
        }
        // The tiles that follow are as small.
        let limit = &self.on.memory.max_tile_pixels;
        limit.fetch_min(tile.pixels.len() / 2, Ordering::Relaxed);
        let radius_px = self.upscaler.radius_px();
        let part = |columns: Range<usize>, rows: Range<usize>| {
            let part = tile.part(columns, rows, radius_px);
            match self.start(&part) {
                Ok(work) => {
                    let mut values = Vec::new();
                    self.wait(&part, work, &mut |part| values.extend_from_slice(part))?;
                    Ok(values)
                }
                Err(DeviceError::OutOfMemory { .. }) => self.compute_in_parts(&part),
                Err(error) => Err(self.failed(error)),
            }
        };
        if height_px >= width_px {
            let middle = tile.rows.start + height_px / 2;
            let mut top = part(tile.columns.clone(), tile.rows.start..middle)?;
            top.extend(part(tile.columns.clone(), middle..tile.rows.end)?);
            return Ok(top);
        }
        let middle = tile.columns.start + width_px / 2;
        let left = part(tile.columns.start..middle, tile.rows.clone())?;
        let right = part(middle..tile.columns.end, tile.rows.clone())?;
        let row_len = |columns: usize| columns * self.upscaler.scale() * 3;
        let left = left.chunks_exact(row_len(width_px / 2));
        let right = right.chunks_exact(row_len(width_px - width_px / 2));
        Ok(left.zip(right).flat_map(|(l, r)| [l, r].concat()).collect())
    }

    /// Waits for the oldest tile. Returns its band if that is complete.
    fn finish_tile(&mut self) -> Result<Option<Band<T>>, UpscaleError> {
        let (Some(tile), Some(mut band)) = (self.tiles.pop_front(), self.bands.pop_front()) else {
            return Ok(None);
        };
        let scale = self.upscaler.scale();
        let mean = self.upscaler.model.config().mean;
        let row_len = self.width_px * scale * 3;
        let columns = tile.columns.start * scale * 3..tile.columns.end * scale * 3;
        let first_row = band.rows.start * scale;
        let mut range: Result<_, UpscaleError> = Ok(ColourRange::new());
        self.wait(&tile.tile, tile.work, &mut |values| {
            let rows = band.large.par_chunks_mut(row_len);
            range = rows
                .zip(values.par_chunks_exact(columns.len()))
                .enumerate()
                .map(|(y, (row, values))| {
                    let mut range = ColourRange::new();
                    range
                        .add_pixels(values)
                        .map_err(|(x, value)| UpscaleError::NotFinite {
                            value,
                            x: tile.columns.start * scale + x,
                            y: first_row + y,
                        })?;
                    let row = row[columns.clone()].iter_mut();
                    for ((to, value), mean) in row.zip(values).zip(mean.iter().cycle()) {
                        *to = T::from_unit(value + mean);
                    }
                    Ok(range)
                })
                .try_reduce(ColourRange::new, |mut range, other| {
                    range.merge(&other);
                    Ok(range)
                });
        })?;
        band.range.merge(&range?);
        band.tiles_left -= 1;
        let pixels = tile.columns.len() * band.rows.len();
        self.counter.add(pixels)?;
        if band.tiles_left > 0 {
            self.bands.push_front(band);
            return Ok(None);
        }
        if band.range.is_single_colour() && !band.is_input_single_colour {
            let rows = band.rows.clone();
            return Err(UpscaleError::Constant { rows });
        }
        Ok(Some(band))
    }
}

/// Whether rows have a single colour; they may contain values that are not finite.
fn is_single_colour<'r, T: Sample + 'r>(rows: impl Iterator<Item = &'r [T]>) -> bool {
    let mut first = None;
    rows.flat_map(|row| row.as_chunks::<3>().0)
        .map(|pixel| pixel.map(Sample::to_unit))
        .all(|pixel| *first.get_or_insert(pixel) == pixel)
}
