//! Inference: strips of the picture stream through the network.
//!
//! A picture is never held as feature maps. Each convolution is a [`Stage`](plan::Stage) that
//! makes strips of four rows as soon as the strips that it reads are there, and a strip is given
//! back when its last reader has read it. So a network needs a few rows of each feature map,
//! whatever the height of the picture, and no pixel is computed twice.

mod plan;
mod schedule;
mod symmetry;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use wdsr_kernels::{Isa, Precision, Strip};

use crate::model::Model;
use crate::network::ValueShape;
use crate::upscale::UpscaleError;
use plan::Plan;
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

/// Strips not in use, kept from picture to picture of one width.
#[derive(Default)]
struct Spare {
    width_px: usize,
    /// By channels and scale.
    strips: HashMap<(usize, usize), Vec<Strip>>,
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

    /// Runs the network on a picture of the given size, on rayon's current thread pool.
    ///
    /// - `read` fills strip `k` of the input (3 channels, mean subtracted).
    /// - `write` takes strip `k` of the result, see [`Plan::output`]; strips come in any order, each
    ///   once.
    ///
    /// # Errors
    /// The first of `read` and `write`; the others are not asked any more.
    pub(crate) fn run(
        &self,
        width_px: usize,
        height_px: usize,
        read: &(dyn Fn(usize, &mut Strip) -> Result<(), UpscaleError> + Sync),
        write: &(dyn Fn(usize, &Strip) -> Result<(), UpscaleError> + Sync),
    ) -> Result<Vec<StageTime>, UpscaleError> {
        let mut spare = std::mem::take(&mut *lock(&self.spare));
        if spare.width_px != width_px {
            spare = Spare {
                width_px,
                strips: HashMap::new(),
            };
        }
        let (times, spare) = schedule::run(&self.plan, width_px, height_px, read, write, spare)?;
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

    /// Memory in bytes of the strips that are alive at a time in a picture of that width, on
    /// rayon's current thread pool.
    pub(crate) fn memory_bytes(&self, width_px: usize) -> u64 {
        let capacities = schedule::capacities(&self.plan);
        let maps = self.plan.maps.iter().zip(capacities);
        maps.map(|(map, capacity)| {
            let ValueShape { channels, scale } = map.shape;
            (capacity * Strip::memory_bytes(channels, width_px * scale)) as u64
        })
        .sum()
    }
}

/// A lock whose holder cannot have left a broken state behind: these guard buffers and counts
/// that are written as a whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
