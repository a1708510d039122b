use std::sync::Arc;
use std::time::{Duration, Instant};

use wdsr_model::DeviceError;

use crate::dataset::{Cutting, DrawnBatch};
use crate::device::{DeviceTraining, MAX_UNDER_WAY, TrainingDevice, UpdateRates, UpdateResult};
use crate::state::TrainingState;

/// A device waits for the host between groups of updates, so that groups are as long as progress may be late.
const GROUP_TIME: Duration = Duration::from_millis(250);

/// The updates of a training on a device, in groups whose results are awaited together.
pub(super) struct OnDevice {
    pub(super) device: Arc<dyn TrainingDevice>,
    pub(super) training: Box<dyn DeviceTraining>,
    pub(super) cutting: Cutting,
    under_way: usize,
    /// Updates of the present group.
    group: usize,
    group_started: Instant,
}

impl OnDevice {
    pub(super) fn new(
        device: Arc<dyn TrainingDevice>,
        mut training: Box<dyn DeviceTraining>,
        cutting: Cutting,
        state: &TrainingState,
    ) -> Result<Self, DeviceError> {
        training.write_state(state)?;
        Ok(Self {
            device,
            training,
            cutting,
            under_way: 0,
            group: 1,
            group_started: Instant::now(),
        })
    }

    /// Updates that are started and not finished.
    pub(super) fn under_way(&self) -> u64 {
        self.under_way as u64
    }

    /// Starts an update. Returns the results of its group if that is full.
    pub(super) fn update(
        &mut self,
        batch: &DrawnBatch,
        taught: &[f32],
        rates: UpdateRates,
    ) -> Result<Vec<UpdateResult>, DeviceError> {
        if self.under_way == 0 {
            self.group_started = Instant::now();
        }
        self.training.start_update(batch, taught, rates)?;
        self.under_way += 1;
        if self.under_way < self.group {
            return Ok(Vec::new());
        }
        let results = self.finish()?;
        self.group = match self.group_started.elapsed() < GROUP_TIME {
            true => (2 * self.group).min(MAX_UNDER_WAY),
            false => (self.group / 2).max(1),
        };
        Ok(results)
    }

    /// Waits for the updates under way.
    pub(super) fn finish(&mut self) -> Result<Vec<UpdateResult>, DeviceError> {
        let results = self.training.finish_updates()?;
        self.under_way = 0;
        Ok(results)
    }

    pub(super) fn read_state(&mut self, state: &mut TrainingState) -> Result<(), DeviceError> {
        self.training.read_state(state)
    }

    /// Replaces the state; what is under way is dropped.
    pub(super) fn write_state(&mut self, state: &TrainingState) -> Result<(), DeviceError> {
        self.finish()?;
        self.training.write_state(state)
    }
}
