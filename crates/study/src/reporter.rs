//! The report files of a run, written from the events of its trainer.

use std::path::PathBuf;

use wdsr_train::{Event, Metrics, Recipe, Trainer};

use crate::crop::Crop;
use crate::error::Error;
use crate::tensorboard::EventFile;
use crate::training_report::training_report;

/// Name of the report of a training.
pub const REPORT: &str = "report.html";
/// Validation images with a crop in the report.
const MAX_CROPS: usize = 4;

/// Writes `report.html` and the TensorBoard events of a training into the folder of its run.
pub struct TrainingReporter {
    folder: PathBuf,
    recipe: Recipe,
    events: EventFile,
    /// Crops of the current validation.
    crops: Vec<Crop>,
}

impl TrainingReporter {
    /// Starts the event file with the metrics of the run so far.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub fn new(trainer: &Trainer) -> Result<Self, Error> {
        let folder = trainer.folder();
        Ok(Self {
            folder: folder.to_owned(),
            recipe: trainer.recipe().clone(),
            events: EventFile::create(folder, trainer.history())?,
            crops: Vec::new(),
        })
    }

    /// Writes what an event adds to the reports.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn observe(&mut self, event: &Event<'_>) -> Result<(), Error> {
        match *event {
            Event::Update { .. } => Ok(()),
            Event::ValidationImage {
                name,
                pair,
                upscaled,
            } => {
                if self.crops.len() < MAX_CROPS {
                    self.crops.push(Crop::new(name, pair, upscaled));
                }
                Ok(())
            }
            Event::Validated {
                metrics, history, ..
            } => {
                self.events.append(metrics)?;
                self.write_report(history)
            }
            Event::RolledBack { history, .. } => {
                self.events = EventFile::create(&self.folder, history)?;
                Ok(())
            }
        }
    }

    fn write_report(&mut self, history: &[Metrics]) -> Result<(), Error> {
        let crops = std::mem::take(&mut self.crops);
        let report = training_report(&self.recipe, history, &crops);
        wdsr_image::write_atomically(&self.folder.join(REPORT), report.as_bytes())?;
        Ok(())
    }
}
