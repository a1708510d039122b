//! Inference: strips of the picture stream through the network.
//!
//! A picture is never held as feature maps. It goes through the network in waves of four rows, each
//! convolution a [`Stage`](plan::Stage) that makes a strip of its map. A convolution reads rows below
//! those that it makes, which are not there yet; so each map lags behind those it is made from, and
//! what is read further up is kept from wave to wave, a row or two of each map. So a network needs a
//! few rows, whatever the height of the picture, and no pixel is computed twice. A wide picture goes
//! through in [`Columns`], one after another, which lag likewise.

mod columns;
mod plan;
mod schedule;
mod symmetry;

use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use wdsr_kernels::{Isa, Precision, Strip};

use crate::model::Model;
use crate::upscale::UpscaleError;
pub(crate) use columns::{Column, Columns, Margins};
use plan::Plan;
use schedule::{Part, Spare};
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
    spare: Mutex<Spare>,
}

/// What a part of the network took of a picture's time.
#[derive(Clone, Debug)]
pub struct StageTime {
    /// Keys of its convolutions in the model's file, joined by `+`; `picture in`, `picture out` and
    /// `pixel shuffle` are none.
    pub name: String,
    /// Multiply-adds of its convolutions for each pixel of the low-resolution picture.
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

    /// What the columns of a picture hand on from one to the next.
    pub(crate) fn margins(&self, columns: &Columns, height_px: usize) -> Margins {
        Margins::new(&self.plan, columns, height_px)
    }

    /// The columns of the picture whose result is made with a column.
    pub(crate) fn made(&self, column: Column<'_>) -> Range<usize> {
        column.lagging(self.plan.maps[self.plan.output].lag_px)
    }

    /// Runs the network on a column of a picture, on rayon's current thread pool. Columns come from the
    /// left to the right, with the same margins.
    ///
    /// - `read` fills a strip of the input (3 channels, mean subtracted) in the strip's rows and columns.
    /// - `write` takes a strip of the result, see [`Plan::output`]; strips come in any order, each row in one
    ///   of them, and hold the columns that [`Stream::made`] says.
    ///
    /// # Errors
    /// The first of `read` and `write`; the others are not asked any more.
    pub(crate) fn run(
        &self,
        column: Column<'_>,
        height_px: usize,
        margins: &Margins,
        read: &(dyn Fn(&mut Strip) -> Result<(), UpscaleError> + Sync),
        write: &(dyn Fn(&Strip) -> Result<(), UpscaleError> + Sync),
    ) -> Result<Vec<StageTime>, UpscaleError> {
        let mut spare = std::mem::take(&mut *lock(&self.spare));
        let part = Part {
            column,
            height_px,
            margins,
        };
        let times = schedule::run(&self.plan, part, read, write, &mut spare)?;
        *lock(&self.spare) = spare;
        let stages = self.plan.stages.iter().zip(times.stages);
        let stage_times = stages.map(|(stage, time)| StageTime {
            name: stage.name.clone(),
            multiply_adds_per_pixel: stage.multiply_adds_per_pixel,
            time,
        });
        let picture_out = StageTime {
            name: "picture out".to_owned(),
            multiply_adds_per_pixel: 0,
            time: times.write,
        };
        Ok(stage_times.chain([picture_out]).collect())
    }

    /// Memory in bytes of the feature maps of a picture of so many rows, on rayon's current thread pool.
    pub(crate) fn bytes(&self, columns: &Columns, height_px: usize) -> u64 {
        let rooms = columns.rooms(&self.plan);
        let strips = schedule::bytes(&self.plan, &rooms, rayon::current_num_threads());
        strips + Margins::bytes(&self.plan, columns, height_px)
    }
}

/// A lock whose holder cannot have left a broken state behind: these guard buffers and counts
/// that are written as a whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
