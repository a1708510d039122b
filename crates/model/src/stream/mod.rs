//! Inference: strips of the picture stream through the network.
//!
//! A picture is never held as feature maps. Each convolution is a [`Stage`](plan::Stage) that
//! makes strips of four rows as soon as the strips that it reads are there, and a strip is given
//! back when its last reader has read it. So a network needs a few rows of each feature map,
//! whatever the height of the picture, and no pixel is computed twice. A wide picture goes through
//! in [`Columns`], one after another.

mod columns;
mod plan;
mod schedule;
mod symmetry;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wdsr_kernels::{Isa, Precision, Room, Strip};

use crate::model::Model;
use crate::network::ValueShape;
use crate::upscale::UpscaleError;
pub(crate) use columns::{Column, Columns, Margins};
use plan::Plan;
use schedule::Part;
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

/// Strips not in use, kept from picture to picture as long as they fit.
#[derive(Default)]
struct Spare {
    /// By scale.
    rooms: HashMap<usize, Room>,
    /// By channels and room.
    strips: HashMap<(usize, Room), Vec<Strip>>,
}

impl Spare {
    fn room(&self, scale: usize) -> Room {
        self.rooms[&scale]
    }

    /// A strip with any content.
    fn take(&mut self, shape: ValueShape) -> Strip {
        let ValueShape { channels, scale } = shape;
        let room = self.room(scale);
        let spare = self.strips.get_mut(&(channels, room)).and_then(Vec::pop);
        spare.unwrap_or_else(|| Strip::new(channels, room))
    }

    /// Keeps a strip's memory when nobody else holds it.
    fn give_back(&mut self, strip: Arc<Strip>) {
        if let Some(strip) = Arc::into_inner(strip) {
            let key = (strip.channels(), strip.room());
            self.strips.entry(key).or_default().push(strip);
        }
    }
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
    /// - `read` fills strip `k` of the input (3 channels, mean subtracted) in the strip's columns.
    /// - `write` takes strip `k` of the result, see [`Plan::output`]; strips come in any order, each
    ///   once, and hold the columns that [`Stream::made`] says.
    ///
    /// # Errors
    /// The first of `read` and `write`; the others are not asked any more.
    pub(crate) fn run(
        &self,
        column: Column<'_>,
        height_px: usize,
        margins: &Margins,
        read: &(dyn Fn(usize, &mut Strip) -> Result<(), UpscaleError> + Sync),
        write: &(dyn Fn(usize, &Strip) -> Result<(), UpscaleError> + Sync),
    ) -> Result<Vec<StageTime>, UpscaleError> {
        let mut spare = std::mem::take(&mut *lock(&self.spare));
        let rooms = column.all().rooms(&self.plan);
        if spare.rooms != rooms {
            spare = Spare {
                rooms,
                strips: HashMap::new(),
            };
        }
        let part = Part {
            column,
            height_px,
            margins,
        };
        let (times, spare) = schedule::run(&self.plan, part, read, write, spare)?;
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

    /// Memory in bytes of the strips that are alive at a time, on rayon's current thread pool.
    pub(crate) fn strips_bytes(&self, columns: &Columns) -> u64 {
        let capacities = schedule::capacities(&self.plan);
        let rooms = columns.rooms(&self.plan);
        let maps = self.plan.maps.iter().zip(capacities);
        maps.map(|(map, capacity)| {
            let ValueShape { channels, scale } = map.shape;
            (capacity * Strip::memory_bytes(channels, rooms[&scale])) as u64
        })
        .sum()
    }

    /// Memory in bytes of the margins, for each row of the picture.
    pub(crate) fn margins_bytes_per_row(&self, columns: &Columns) -> u64 {
        Margins::bytes_per_row(&self.plan, columns)
    }
}

/// A lock whose holder cannot have left a broken state behind: these guard buffers and counts
/// that are written as a whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
