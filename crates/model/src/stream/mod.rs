//! Inference: strips of the image stream through the network.
//!
//! An image is never held as feature maps. It passes the network in waves of four rows, and each
//! convolution is a [`Stage`](plan::Stage) that computes a strip of its map. A convolution reads rows
//! below its output that are not computed yet, so each map is delayed against its inputs; the rows above
//! are kept from wave to wave, one or two of each map. The network thus needs a few rows for an image
//! of any height, and no pixel is computed twice. A wave of a wide image is computed in
//! [`Tiles`], from left to right, which are delayed in the same way.

mod plan;
mod schedule;
mod symmetry;
mod tiles;

use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use wdsr_kernels::STRIP_ROWS;

use crate::error::UpscaleError;
use crate::model::Model;
pub(crate) use plan::{Arithmetic, Plan, turned_models};
use schedule::{Buffers, StageTimes, Waves};
pub(crate) use schedule::{StripReader, StripWriter, lock};
use symmetry::Symmetry;
pub(crate) use tiles::Tiles;

/// A model prepared for one instruction set and precision.
pub(crate) struct StreamingNetwork {
    plan: Plan,
    /// Buffers of the last image, for the next one. No call waits for them: in a forked process the lock
    /// of another thread is never released.
    spare: Mutex<Buffers>,
}

/// The inference of one image, from the top down.
pub(crate) struct Inference<'a> {
    network: &'a StreamingNetwork,
    tiles: Tiles,
    height_px: usize,
    waves_done: usize,
    buffers: Buffers,
    times: StageTimes,
}

/// The time that a part of the network took for an image.
#[derive(Clone, Debug)]
pub struct StageTime {
    /// Keys of its convolutions in the model's file, joined by `+`; or `image in`, `image out` or
    /// `pixel shuffle`.
    pub name: String,
    /// Multiply-adds of its convolutions for each pixel of the low-resolution image.
    pub multiply_adds_per_pixel: usize,
    /// Summed over all threads.
    pub time: Duration,
}

impl StreamingNetwork {
    /// Prepares the weights. With `self_ensemble` the network is computed in all eight symmetries, and
    /// the result is their mean.
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

    /// The stages.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Starts an image.
    pub(crate) fn start(&self, tiles: Tiles, height_px: usize) -> Inference<'_> {
        let spare = self.spare.try_lock();
        let buffers = spare.map_or_else(
            |_| Buffers::default(),
            |mut spare| std::mem::take(&mut *spare),
        );
        Inference {
            buffers: buffers.for_image(&self.plan, &tiles),
            times: StageTimes::new(self.plan.stages.len()),
            network: self,
            tiles,
            height_px,
            waves_done: 0,
        }
    }

    /// Memory in bytes of an image's feature maps, on rayon's current thread pool.
    pub(crate) fn memory_bytes(&self, tiles: &Tiles) -> u64 {
        Buffers::memory_bytes(&self.plan, tiles, rayon::current_num_threads())
    }
}

impl Inference<'_> {
    /// Waves that are not computed yet.
    pub(crate) fn waves_left(&self) -> usize {
        self.network.plan.waves(self.height_px) - self.waves_done
    }

    /// Rows of the image that the next `waves` read.
    pub(crate) fn input_rows(&self, waves: usize) -> Range<usize> {
        self.rows(waves, 0)
    }

    /// Rows of the image whose result the next `waves` compute.
    pub(crate) fn output_rows(&self, waves: usize) -> Range<usize> {
        self.rows(waves, self.network.plan.delay_rows())
    }

    /// Rows of the next `waves` in a map with the given delay.
    fn rows(&self, waves: usize, delay_px: usize) -> Range<usize> {
        let row = |wave: usize| {
            let row = (wave * STRIP_ROWS).saturating_sub(delay_px);
            row.min(self.height_px)
        };
        row(self.waves_done)..row(self.waves_done + waves)
    }

    /// Computes the next `waves` of the image, on rayon's current thread pool.
    ///
    /// - `read` fills the rows and columns of a strip of the input (3 channels, mean subtracted).
    /// - `write` takes a strip of the result (`Plan::output`). Strips come in any order, each pixel in
    ///   one of them.
    ///
    /// # Errors
    /// The first error of `read` and `write`; the other threads then stop.
    pub(crate) fn run(
        &mut self,
        waves: usize,
        read: &StripReader<'_>,
        write: &StripWriter<'_>,
    ) -> Result<(), UpscaleError> {
        let waves = Waves {
            plan: &self.network.plan,
            tiles: &self.tiles,
            height_px: self.height_px,
            indices: self.waves_done..self.waves_done + waves,
            read,
            write,
        };
        self.waves_done = waves.indices.end;
        let times = waves.run(&mut self.buffers)?;
        self.times.add(&times);
        Ok(())
    }

    /// Ends the image, and returns the time of each part of the network.
    pub(crate) fn finish(self) -> Vec<StageTime> {
        if let Ok(mut spare) = self.network.spare.try_lock() {
            *spare = self.buffers;
        }
        let stages = self.network.plan.stages.iter().zip(self.times.stages);
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
