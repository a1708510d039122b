//! Inference: strips of the image stream through the network.
//!
//! An image is never held as feature maps. It goes through the network in waves of four rows, each
//! convolution a [`Stage`](plan::Stage) that makes a strip of its map. A convolution reads rows below
//! those that it makes, which are not there yet; so each map lags behind those it is made from, and
//! what is read further up is kept from wave to wave, a row or two of each map. So a network needs a
//! few rows, whatever the height of the image, and no pixel is computed twice. A wave of a wide image
//! goes through in [`Columns`], one after another, which lag likewise.

mod columns;
mod plan;
mod schedule;
mod symmetry;

use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use wdsr_kernels::{Isa, Precision, STRIP_ROWS, Strip};

use crate::model::Model;
use crate::upscale::UpscaleError;
pub(crate) use columns::Columns;
use plan::Plan;
use schedule::{Memory, Times};
use symmetry::Symmetry;

/// How a network is computed.
#[derive(Clone, Copy)]
pub(crate) struct Arithmetic {
    pub(crate) isa: Isa,
    pub(crate) precision: Precision,
}

/// A model arranged for one instruction set and precision.
pub(crate) struct Stream {
    plan: Plan,
    spare: Mutex<Memory>,
}

/// An image on its way through a network, from the top down.
pub(crate) struct Passage<'a> {
    stream: &'a Stream,
    columns: Columns,
    height_px: usize,
    waves_done: usize,
    memory: Memory,
    times: Times,
}

/// What a part of the network took of an image's time.
#[derive(Clone, Debug)]
pub struct StageTime {
    /// Keys of its convolutions in the model's file, joined by `+`; `image in`, `image out` and
    /// `pixel shuffle` are none.
    pub name: String,
    /// Multiply-adds of its convolutions for each pixel of the low-resolution image.
    pub multiply_adds_per_pixel: usize,
    /// Over all threads.
    pub time: Duration,
}

impl Stream {
    /// Arranges the weights; with `self_ensemble` the eight symmetric forms of the network stand
    /// side by side, and the mean of their results comes out.
    pub(crate) fn new(model: &Model, arithmetic: Arithmetic, self_ensemble: bool) -> Self {
        let symmetries = if self_ensemble {
            Symmetry::all()
        } else {
            vec![Symmetry::IDENTITY]
        };
        Self {
            plan: Plan::new(model, arithmetic, &symmetries),
            spare: Mutex::default(),
        }
    }

    /// The plan.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Begins an image.
    pub(crate) fn begin(&self, columns: Columns, height_px: usize) -> Passage<'_> {
        let memory = std::mem::take(&mut *lock(&self.spare));
        Passage {
            memory: memory.for_image(&self.plan, &columns),
            times: Times::new(self.plan.stages.len()),
            stream: self,
            columns,
            height_px,
            waves_done: 0,
        }
    }

    /// Memory in bytes of an image's feature maps, on rayon's current thread pool.
    pub(crate) fn bytes(&self, columns: &Columns) -> u64 {
        Memory::bytes(&self.plan, columns, rayon::current_num_threads())
    }
}

impl Passage<'_> {
    /// Waves that are still to come.
    pub(crate) fn waves_left(&self) -> usize {
        self.stream.plan.waves(self.height_px) - self.waves_done
    }

    /// Rows of the image that the next `waves` read.
    pub(crate) fn reads(&self, waves: usize) -> Range<usize> {
        self.rows(waves, 0)
    }

    /// Rows of the image whose result they make.
    pub(crate) fn makes(&self, waves: usize) -> Range<usize> {
        self.rows(waves, self.stream.plan.lag_rows())
    }

    /// Rows of the next `waves` in a map that lags by so many rows of the image.
    fn rows(&self, waves: usize, lag_px: usize) -> Range<usize> {
        let row = |wave: usize| {
            let row = (wave * STRIP_ROWS).saturating_sub(lag_px);
            row.min(self.height_px)
        };
        row(self.waves_done)..row(self.waves_done + waves)
    }

    /// Runs the network on the next `waves` of the image, on rayon's current thread pool.
    ///
    /// - `read` fills a strip of the input (3 channels, mean subtracted) in the strip's rows and columns.
    /// - `write` takes a strip of the result, see [`Plan::output`]; strips come in any order, each pixel in one
    ///   of them.
    ///
    /// # Errors
    /// The first of `read` and `write`; the others are not asked any more.
    pub(crate) fn run(
        &mut self,
        waves: usize,
        read: &(dyn Fn(&mut Strip) -> Result<(), UpscaleError> + Sync),
        write: &(dyn Fn(&Strip) -> Result<(), UpscaleError> + Sync),
    ) -> Result<(), UpscaleError> {
        let plan = &self.stream.plan;
        let image = (&self.columns, self.height_px);
        let waves = self.waves_done..self.waves_done + waves;
        self.waves_done = waves.end;
        let times = schedule::run(plan, image, waves, read, write, &mut self.memory)?;
        self.times.add(&times);
        Ok(())
    }

    /// Ends it; tells what each part of the network took.
    pub(crate) fn end(self) -> Vec<StageTime> {
        *lock(&self.stream.spare) = self.memory;
        let stages = self.stream.plan.stages.iter().zip(self.times.stages);
        let stage_times = stages.map(|(stage, time)| StageTime {
            name: stage.name.clone(),
            multiply_adds_per_pixel: stage.multiply_adds_per_pixel,
            time,
        });
        let image_out = StageTime {
            name: "image out".to_owned(),
            multiply_adds_per_pixel: 0,
            time: self.times.write,
        };
        stage_times.chain([image_out]).collect()
    }
}

/// A lock whose holder cannot have left a broken state behind: these guard buffers and counts
/// that are written as a whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
