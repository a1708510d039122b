//! The training loop.

mod event;
mod on_device;
#[cfg(test)]
mod ranks_tests;
mod setup;
#[cfg(test)]
mod tests;
mod validation;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use wdsr_kernels::{Isa, Planes, Precision};
use wdsr_model::{DeviceError, DevicePrecision, Int8Scales, Model};

use crate::batch::Batch;
use crate::checkpoint;
use crate::dataset::{
    BatchStream, CacheOptions, Cutting, Dataset, DecodedDataset, Degrader, DrawnBatch, Patches,
    ValidationImage,
};
use crate::device::{DeviceTask, DeviceTraining, TrainingDevice, UpdateRates, UpdateResult};
use crate::error::{CheckpointError, Error};
use crate::export::{write_batches, write_images};
use crate::gradients::GradientEngine;
use crate::int8::with_scales;
use crate::metrics::{Metrics, truncate_metrics};
use crate::optimizer::{average, average_share, clip, length};
use crate::parameters::ParameterLayout;
use crate::ranks::{Alone, Ranks, decided_by_first, share_of_batch, wait_for_first};
use crate::recipe::Recipe;
use crate::run_folder::{
    BEST_CHECKPOINT, BEST_MODEL, LAST_CHECKPOINT, LAST_MODEL, METRICS, RECIPE, STABLE_CHECKPOINT,
    cooled_model,
};
use crate::state::{InputFingerprints, TrainingState};
use crate::teacher::TeacherModel;
pub use event::{Event, TrainingSummary};
use on_device::OnDevice;
use setup::{Setup, initial_state};

/// A training in the folder of its run ([`run_folder`](crate::run_folder)).
pub struct Trainer {
    recipe: Recipe,
    folder: PathBuf,
    layout: ParameterLayout,
    engine: GradientEngine,
    /// Where updates are computed, if not by the engine.
    on_device: Option<OnDevice>,
    teacher: Option<TeacherModel>,
    /// The model at strength 0.
    clean: Option<Model>,
    /// The scales for int8.
    int8: Option<Vec<Int8Scales>>,
    degrader: Option<Degrader>,
    isa: Isa,
    patches: Arc<Patches>,
    validation: Arc<[ValidationImage]>,
    state: TrainingState,
    summary: TrainingSummary,
    /// PSNR of bicubic interpolation on the validation images, after the first validation.
    bicubic_psnr_db: Option<f64>,
    /// All validations of the run.
    history: Vec<Metrics>,
    /// Whether the training should stop.
    is_stopping: Box<dyn Fn() -> bool>,
    ranks: Rc<dyn Ranks>,
    /// Locks the folder, by the first rank.
    _lock: Option<File>,
}

/// An update whose loss or gradient is not finite.
struct NotFinite {
    update: u64,
    loss: f64,
}

/// Updates and the time that they took, for the speed.
struct Interval {
    updates: u64,
    seconds: f64,
}

impl Trainer {
    /// Prepares a training in `folder`: a new run, or with `resume` the run in the folder. Calls
    /// `progress` with (images decoded, all images).
    ///
    /// # Errors
    /// If `resume` is not set and the folder contains a run, or is set and it contains none; if the
    /// checkpoint is corrupt or has another recipe, dataset or teacher; if the dataset is unusable or
    /// a file cannot be read or written.
    ///
    /// # Panics
    /// If the recipe names no folder of images.
    pub fn prepare(
        recipe: Recipe,
        folder: &Path,
        resume: bool,
        image_memory_bytes: u64,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self, Error> {
        Self::prepare_among(
            Rc::new(Alone),
            recipe,
            folder,
            resume,
            image_memory_bytes,
            progress,
        )
    }

    /// Prepares a training as [`Trainer::prepare`] does, which several processes run together: each calls this,
    /// and then [`run`](Self::run), with the same recipe and folder and its own `ranks`. Each reads the
    /// images; the first rank alone writes the files of the run, which all must see. The bits are those of one process.
    ///
    /// # Errors
    /// As [`Trainer::prepare`], if a batch has fewer patches than there are ranks, or if images, recipe,
    /// program or arithmetic of two ranks differ. An error of one rank must end the others.
    pub fn prepare_among(
        ranks: Rc<dyn Ranks>,
        recipe: Recipe,
        folder: &Path,
        resume: bool,
        image_memory_bytes: u64,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self, Error> {
        let (batch, count) = (recipe.training.batch, ranks.count());
        if batch < count {
            return Err(Error::TooManyRanks { batch, count });
        }
        let setup = Setup::new(recipe, folder, resume, &*ranks)?;
        let options = CacheOptions {
            memory_bytes: image_memory_bytes,
            folder,
        };
        let dataset = Dataset::scan(&setup.recipe)?.decode(&options, progress)?;
        Self::new(setup, folder, dataset, ranks)
    }

    /// Prepares a training as [`Trainer::prepare`] does, on a dataset that several trainings share:
    /// one that was scanned for the same data, scale, patches and validation.
    ///
    /// # Errors
    /// As [`Trainer::prepare`].
    ///
    /// # Panics
    /// If the dataset has another scale, or an image smaller than a patch.
    pub fn prepare_with(
        recipe: Recipe,
        folder: &Path,
        resume: bool,
        dataset: DecodedDataset,
    ) -> Result<Self, Error> {
        let setup = Setup::new(recipe, folder, resume, &Alone)?;
        assert_eq!(
            dataset.training.scale(),
            setup.recipe.network.scale,
            "scale of the dataset and of the network"
        );
        Self::new(setup, folder, dataset, Rc::new(Alone))
    }

    fn new(
        setup: Setup,
        folder: &Path,
        dataset: DecodedDataset,
        ranks: Rc<dyn Ranks>,
    ) -> Result<Self, Error> {
        let Setup {
            recipe,
            network,
            layout,
            mut state,
            start,
            teacher,
            clean,
            int8,
            isa,
            lock,
        } = setup;
        let inputs = InputFingerprints {
            dataset: Some(dataset.fingerprint),
            teacher: teacher.as_ref().map(|t| t.fingerprint().to_owned()),
        };
        if let Some(difference) = state.inputs.difference(&inputs) {
            return Err(Error::Checkpoint {
                path: folder.join(LAST_CHECKPOINT),
                source: CheckpointError::OtherInputs(difference),
            });
        }
        state.inputs = inputs;
        let t = &recipe.training;
        let precision = isa.precision_for(t.precision);
        setup::check_same(&*ranks, &recipe, &state, precision)?;
        let mut history = Vec::new();
        if ranks.rank() == 0 {
            history = truncate_metrics(&folder.join(METRICS), state.last_logged_update())?;
            wdsr_image::write_atomically(&folder.join(RECIPE), recipe.to_toml().as_bytes())?;
        }
        let summary = TrainingSummary {
            training_images: dataset.training.len(),
            high_pixels: dataset.training.high_pixels(),
            low_images: dataset.low_images,
            shifts: dataset.shifts,
            not_aligned: dataset.not_aligned,
            in_file: dataset.training.is_in_file(),
            validation_images: dataset.validation.len(),
            too_small: dataset.too_small.len(),
            precision,
            start,
        };
        let (images, weights) = (dataset.training, dataset.weights);
        let patches = Patches::new(images, weights, t.patch_px, t.batch, t.seed)
            .with_share(share_of_batch(&*ranks, t.batch))
            .with_least_detail(t.least_detail)
            .with_degrader(Degrader::of(&recipe));
        let mut engine = GradientEngine::new(network, isa)
            .with_precision(precision)
            .with_loss(t.loss)
            .with_teacher_weight(recipe.teacher.as_ref().map_or(0.0, |t| t.weight));
        if let Some(scales) = &int8 {
            engine = engine.with_int8(scales);
        }
        Ok(Self {
            folder: folder.to_owned(),
            engine,
            on_device: None,
            teacher,
            clean,
            int8,
            degrader: Degrader::of(&recipe),
            validation: dataset.validation,
            recipe,
            layout,
            isa,
            patches: Arc::new(patches),
            state,
            summary,
            bicubic_psnr_db: None,
            history,
            is_stopping: Box::new(|| false),
            ranks,
            _lock: lock,
        })
    }

    /// Computes updates and validations on a device instead of this processor, in the device's number format. Checkpoints are
    /// the same; the last bits of weights differ from the processor's.
    ///
    /// # Errors
    /// If the device does not support the recipe, or cannot compute it. The processor then computes as before.
    ///
    /// # Panics
    /// If several processes train together.
    pub fn use_device(&mut self, device: Arc<dyn TrainingDevice>) -> Result<(), Error> {
        assert_eq!(self.ranks.count(), 1, "processes of a training on a device");
        let task = DeviceTask::new(&self.recipe, &self.layout, self.clean.as_ref());
        let task = task.map_err(|key| Error::NotOnDevice {
            device: device.name().to_owned(),
            key,
        })?;
        let failed = |error| self.device_error(error);
        let mut training = device.prepare_training(&task).map_err(failed)?;
        let cutting = self.copy_images(&mut *training)?;
        let on_device = OnDevice::new(device, training, cutting, &self.state);
        self.on_device = Some(on_device.map_err(failed)?);
        self.summary.precision = Precision::F32;
        Ok(())
    }

    /// Copies the images to a device, if its patches are cut from them alone and they fit.
    fn copy_images(&self, training: &mut dyn DeviceTraining) -> Result<Cutting, Error> {
        let images = self.patches.images();
        let needs_pixels = self.degrader.is_some() || self.teacher.is_some() || images.is_in_file();
        let failed = |error| self.device_error(error);
        if needs_pixels || !training.reserve_images(images).map_err(failed)? {
            return Ok(Cutting::Here);
        }
        for image in 0..images.len() {
            let pixels = images.whole(image)?;
            training.write_image(image, &pixels).map_err(failed)?;
        }
        Ok(Cutting::OnDevice)
    }

    /// The name of the device that computes; `None` for this processor.
    pub fn device_name(&self) -> Option<&str> {
        Some(self.on_device.as_ref()?.device.name())
    }

    /// The format of the products of that device.
    pub fn device_precision(&self) -> Option<DevicePrecision> {
        Some(self.on_device.as_ref()?.training.precision())
    }

    /// Where patches are cut for that device.
    pub fn device_cutting(&self) -> Option<Cutting> {
        Some(self.on_device.as_ref()?.cutting)
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The folder of the run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Updates done so far.
    pub fn updates(&self) -> u64 {
        self.state.updates
    }

    /// The metrics of all validations so far.
    pub fn history(&self) -> &[Metrics] {
        &self.history
    }

    /// The dataset and the start of the training.
    pub fn summary(&self) -> &TrainingSummary {
        &self.summary
    }

    /// Writes [`LAST_CHECKPOINT`] and the batches of the next `updates` updates, up to the recipe's
    /// last, for a trainer in another program ([`crate::export`]). Returns the files.
    ///
    /// # Errors
    /// If a file cannot be written, or the temporary file of the images cannot be read.
    pub fn export_batches(&self, updates: u64) -> Result<Vec<PathBuf>, Error> {
        self.save(LAST_CHECKPOINT)?;
        let first = self.state.updates;
        let end = first.saturating_add(updates);
        let range = first..end.min(self.recipe.training.updates);
        let batches = write_batches(&self.patches, range, &self.folder)?;
        Ok(vec![self.folder.join(LAST_CHECKPOINT), batches])
    }

    /// Writes [`LAST_CHECKPOINT`] and the training images, for a trainer in another program
    /// ([`crate::export`]). Returns the files.
    ///
    /// # Errors
    /// If a file cannot be written, or an image cannot be read.
    pub fn export_images(&self) -> Result<Vec<PathBuf>, Error> {
        self.save(LAST_CHECKPOINT)?;
        let mut files = vec![self.folder.join(LAST_CHECKPOINT)];
        files.extend(write_images(&self.patches, &self.folder)?);
        Ok(files)
    }

    /// Stops the training after the current update, or after the current image of a validation, once
    /// `is_stopping` returns true. The state is saved first. Of several ranks, the first decides.
    pub fn stop_when(&mut self, is_stopping: impl Fn() -> bool + 'static) {
        self.is_stopping = Box::new(is_stopping);
    }

    /// Trains to the recipe's last update and calls `observe` for each event. If the loss is not
    /// finite, rolls back to the last good checkpoint and continues with a lower learning rate, as
    /// often as the recipe allows.
    ///
    /// # Errors
    /// If rolling back did not help (the last good checkpoint remains), a file cannot be read or
    /// written, or `observe` fails; [`Error::Stopped`] after [`stop_when`](Self::stop_when).
    pub fn run<E: From<Error>>(
        &mut self,
        mut observe: impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let end = self.recipe.training.updates;
        // The last run may have ended before or amid a validation.
        if self.state.unvalidated_updates > 0 && self.is_at_validation() {
            let learning_rate = self.learning_rate(self.state.updates - 1);
            let all = Interval {
                updates: self.state.updates,
                seconds: self.state.seconds,
            };
            self.validate_and_save(&all, learning_rate, &mut observe)?;
        }
        while self.state.updates < end {
            let (threads, cutting) = match &self.on_device {
                // Gradients need the processor more.
                None => (1, Cutting::Here),
                Some(on_device) => (rayon::current_num_threads(), on_device.cutting),
            };
            let updates = self.state.updates..end;
            let batches = self.patches.stream(updates, threads, cutting);
            if let Some(failed) = self.run_batches(batches, &mut observe)? {
                self.roll_back(&failed)?;
                observe(Event::RolledBack {
                    update: failed.update,
                    loss: failed.loss,
                    to_update: self.state.updates,
                    learning_rate_factor: self.state.learning_rate_factor,
                    history: &self.history,
                })?;
            }
        }
        Ok(())
    }

    /// Runs updates until the batches end or an update is not finite.
    fn run_batches<E: From<Error>>(
        &mut self,
        batches: BatchStream,
        observe: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<Option<NotFinite>, E> {
        let (mut first_update, mut started) = (self.state.updates, Instant::now());
        for batch in batches {
            if self.is_cool_down_next() {
                if let Some(failed) = self.synchronize(observe)? {
                    return Ok(Some(failed));
                }
                self.save(STABLE_CHECKPOINT)?;
            }
            let learning_rate = self.learning_rate(self.state.updates);
            let results = self.update(&batch?, learning_rate)?;
            if let Some(failed) = self.observe_updates(&results, observe)? {
                return Ok(Some(failed));
            }
            let loss = results.last().map_or(f64::NAN, |result| result.loss);
            let update = self.state.updates;
            if self.is_at_validation() || decided_by_first(&*self.ranks, (self.is_stopping)()) {
                if let Some(failed) = self.synchronize(observe)? {
                    return Ok(Some(failed));
                }
                if !self.state.is_finite() {
                    return Ok(Some(NotFinite { update, loss }));
                }
                let interval = Interval {
                    updates: update - first_update,
                    seconds: started.elapsed().as_secs_f64(),
                };
                self.state.seconds += interval.seconds;
                // A validation may take minutes, and resuming makes up for it.
                self.save(LAST_CHECKPOINT)?;
                self.validate_and_save(&interval, learning_rate, observe)?;
                (first_update, started) = (update, Instant::now());
            }
        }
        Ok(None)
    }

    /// Counts and observes updates that are done: those before the updates under way.
    fn observe_updates<E: From<Error>>(
        &mut self,
        results: &[UpdateResult],
        observe: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<Option<NotFinite>, E> {
        let first = self.finished_updates() - results.len() as u64;
        for (result, update) in results.iter().zip(first + 1..) {
            let loss = result.loss;
            if !result.is_finite() {
                return Ok(Some(NotFinite { update, loss }));
            }
            self.state.unvalidated_updates += 1;
            self.state.unvalidated_losses += loss;
            observe(Event::Update {
                update,
                loss,
                learning_rate: self.learning_rate(update - 1),
            })?;
        }
        Ok(None)
    }

    /// Waits for the updates under way on a device, and copies their state.
    fn synchronize<E: From<Error>>(
        &mut self,
        observe: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<Option<NotFinite>, E> {
        let Some(on_device) = &mut self.on_device else {
            return Ok(None);
        };
        let results = on_device.finish();
        let results = results.map_err(|error| self.device_error(error))?;
        if let Some(failed) = self.observe_updates(&results, observe)? {
            return Ok(Some(failed));
        }
        if let Some(on_device) = &mut self.on_device {
            let read = on_device.read_state(&mut self.state);
            read.map_err(|error| self.device_error(error))?;
        }
        Ok(None)
    }

    /// Updates that are not under way on a device.
    fn finished_updates(&self) -> u64 {
        let under_way = self.on_device.as_ref().map_or(0, OnDevice::under_way);
        self.state.updates - under_way
    }

    fn device_error(&self, error: DeviceError) -> Error {
        let checkpoint = self.folder.join(LAST_CHECKPOINT);
        match error {
            DeviceError::Lost { device, reason } => Error::DeviceLost {
                device,
                reason,
                update: self.finished_updates(),
                checkpoint: Some(checkpoint).filter(|path| path.exists()),
            },
            DeviceError::OutOfMemory { device } => Error::DeviceMemory { device },
            error => error.into(),
        }
    }

    /// Whether the next update is the first of a cool-down.
    fn is_cool_down_next(&self) -> bool {
        let stable = self.recipe.updates_before_cool_down();
        self.state.updates == stable && stable < self.recipe.training.updates
    }

    /// Whether the state so far is to be validated.
    fn is_at_validation(&self) -> bool {
        let update = self.state.updates;
        update == self.recipe.training.updates
            || update.is_multiple_of(self.recipe.validation.every_updates)
    }

    /// The learning rate of the update after `updates`.
    fn learning_rate(&self, updates: u64) -> f64 {
        self.recipe.learning_rate(updates) * self.state.learning_rate_factor
    }

    fn check_stop(&self) -> Result<(), Error> {
        match (self.is_stopping)() {
            true => Err(self.stopped()),
            false => Ok(()),
        }
    }

    fn stopped(&self) -> Error {
        Error::Stopped {
            update: self.state.updates,
            checkpoint: self.folder.join(LAST_CHECKPOINT),
        }
    }

    /// Updates the weights, or starts to on a device. Returns the results of updates that are done.
    fn update(
        &mut self,
        batch: &DrawnBatch,
        learning_rate: f64,
    ) -> Result<Vec<UpdateResult>, Error> {
        self.state.updates += 1;
        let taught = match &self.teacher {
            None => Vec::new(),
            Some(teacher) => teacher.upscale(&batch.planes().low)?,
        };
        let Some(on_device) = &mut self.on_device else {
            return Ok(vec![self.update_here(batch, taught, learning_rate)]);
        };
        let (step, root) = self.state.adam.start_update(learning_rate);
        let decay = self.recipe.training.average_decay;
        let rates = UpdateRates {
            step,
            root,
            average_share: average_share(decay, self.state.updates),
        };
        let taught: Vec<f32> = taught.iter().flat_map(Planes::to_chw).collect();
        let results = on_device.update(batch, &taught, rates);
        results.map_err(|error| self.device_error(error))
    }

    /// Updates the weights on this processor, unless the result is not finite.
    fn update_here(
        &mut self,
        batch: &DrawnBatch,
        taught: Vec<Planes>,
        learning_rate: f64,
    ) -> UpdateResult {
        let network = self.engine.network();
        let state = &mut self.state;
        let mut convs = self.layout.convs(network, &state.parameters);
        let norms = self.layout.norms(&state.parameters);
        let strength = batch.strength.unwrap_or(1.0);
        if let Some(clean) = &self.clean {
            for (strong, clean) in convs.iter_mut().zip(clean.convs()) {
                *strong = clean.between(strong, strength);
            }
        }
        let planes = Batch {
            taught,
            ..batch.planes()
        };
        let mut result = self.engine.run_among(&*self.ranks, &convs, &norms, &planes);
        if self.clean.is_some() {
            // The weights at a strength are linear in those at strength 1.
            result.gradients.scale(strength);
        }
        let mut gradient = self.layout.gradient(&state.parameters, &result.gradients);
        let update = UpdateResult {
            loss: result.loss,
            gradient_length: length(&gradient),
        };
        if !update.is_finite() {
            return update;
        }
        let training = &self.recipe.training;
        clip(
            &mut gradient,
            update.gradient_length,
            training.gradient_clip_norm,
        );
        let adam = &mut state.adam;
        adam.update(&mut state.parameters, &gradient, learning_rate);
        for (running, batch) in state.running.iter_mut().zip(&result.statistics) {
            running.update(&batch.mean, &batch.variance, batch.count);
        }
        let decay = training.average_decay;
        average(&mut state.average, &state.parameters, decay, state.updates);
        update
    }

    /// Validates, unless the training should stop before or amid that, and saves. The ranks after the first wait.
    fn validate_and_save<E: From<Error>>(
        &mut self,
        interval: &Interval,
        learning_rate: f64,
        observe: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let validated = match self.ranks.rank() {
            0 => {
                let stop = self.check_stop().map_err(E::from);
                stop.and_then(|()| self.validate(interval, learning_rate, observe))
            }
            _ => Ok(()),
        };
        // Errors other than to stop end all ranks.
        if decided_by_first(&*self.ranks, validated.is_err()) {
            validated?;
            return Err(self.stopped().into());
        }
        self.state.unvalidated_losses = 0.0;
        self.state.unvalidated_updates = 0;
        self.save(LAST_CHECKPOINT)?;
        Ok(())
    }

    /// Scores and writes the model, and logs its metrics.
    fn validate<E: From<Error>>(
        &mut self,
        interval: &Interval,
        learning_rate: f64,
        observe: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let update = self.state.updates;
        let model = self.model();
        let mut psnr_db = None;
        if !self.validation.is_empty() {
            let scoring = validation::Scoring {
                model: &model,
                isa: self.isa,
                device: self.on_device.as_ref().map(|on| Arc::clone(&on.device)),
                degrader: self.degrader.as_ref(),
                protocol: self.recipe.validation.protocol,
                with_bicubic: self.bicubic_psnr_db.is_none(),
            };
            let mut observe = |event: Event<'_>| {
                self.check_stop()?;
                observe(event)
            };
            let (mean, bicubic) = scoring.score(&self.validation, &mut observe)?;
            psnr_db = Some(mean);
            self.bicubic_psnr_db = self.bicubic_psnr_db.or(bicubic);
        }
        let loss = self.state.unvalidated_losses / self.state.unvalidated_updates as f64;
        (
            self.state.unvalidated_losses,
            self.state.unvalidated_updates,
        ) = (0.0, 0);
        self.write_models(&model, psnr_db)?;
        let metrics = Metrics {
            update,
            loss,
            learning_rate,
            psnr_db,
            bicubic_psnr_db: self.bicubic_psnr_db,
            patches_per_second: interval.updates as f64 * self.recipe.training.batch as f64
                / interval.seconds,
            seconds: self.state.seconds,
            unix_seconds: unix_seconds(),
        };
        metrics.append_to(&self.folder.join(METRICS))?;
        self.history.push(metrics.clone());
        observe(Event::Validated {
            metrics: &metrics,
            history: &self.history,
            best_psnr_db: self.state.best_psnr_db,
        })
    }

    /// Writes the model, and the best model and checkpoint if there is no better one.
    fn write_models(&mut self, model: &Model, psnr_db: Option<f64>) -> Result<(), Error> {
        model.save(&self.folder.join(LAST_MODEL))?;
        let (updates, recipe) = (self.state.updates, &self.recipe);
        if updates == recipe.training.updates && updates > recipe.updates_before_cool_down() {
            model.save(&self.folder.join(cooled_model(updates)))?;
        }
        if self.state.best_psnr_db.is_none() || psnr_db > self.state.best_psnr_db {
            self.state.best_psnr_db = psnr_db;
            model.save(&self.folder.join(BEST_MODEL))?;
            self.save(BEST_CHECKPOINT)?;
        }
        Ok(())
    }

    /// Rolls back to the last checkpoint; to the best one if the last one has failed before; to the
    /// start if there is none yet.
    ///
    /// The first rank does, and the others take its state.
    fn roll_back(&mut self, failed: &NotFinite) -> Result<(), Error> {
        if self.ranks.rank() == 0 {
            self.roll_back_first(failed)?;
        }
        wait_for_first(&*self.ranks);
        if self.ranks.rank() > 0 {
            let (path, network) = (self.folder.join(LAST_CHECKPOINT), self.engine.network());
            self.state = checkpoint::load(&path, &self.recipe, network, &self.layout)?;
        }
        if let Some(on_device) = &mut self.on_device {
            let written = on_device.write_state(&self.state);
            written.map_err(|error| self.device_error(error))?;
        }
        Ok(())
    }

    fn roll_back_first(&mut self, failed: &NotFinite) -> Result<(), Error> {
        let [last, best] = [LAST_CHECKPOINT, BEST_CHECKPOINT].map(|name| self.folder.join(name));
        let rollbacks = self.state.rollbacks + 1;
        if rollbacks > self.recipe.training.rollbacks {
            return Err(Error::NonFiniteLoss {
                update: failed.update,
                loss: failed.loss,
                rollbacks: self.state.rollbacks,
                checkpoint: Some(last).filter(|path| path.exists()),
            });
        }
        let network = self.engine.network();
        let load = |path: &Path| checkpoint::load(path, &self.recipe, network, &self.layout);
        let mut state = if last.exists() {
            let state = load(&last)?;
            if state.rolled_back_to == Some(state.updates) && best.exists() {
                load(&best)?
            } else {
                state
            }
        } else {
            let (mut state, _) = initial_state(&self.recipe, network, &self.layout)?;
            state.inputs.clone_from(&self.state.inputs);
            state
        };
        state.rolled_back_to = Some(state.updates);
        state.rollbacks = rollbacks;
        state.learning_rate_factor =
            self.state.learning_rate_factor * self.recipe.training.rollback_factor;
        self.state = state;
        let last = self.state.last_logged_update();
        self.history = truncate_metrics(&self.folder.join(METRICS), last)?;
        self.save(LAST_CHECKPOINT)
    }

    /// The model of the averaged weights (the weights themselves if the recipe does not average).
    pub fn model(&self) -> Model {
        let network = self.engine.network();
        let model = self.state.model(&self.recipe, network, &self.layout);
        if let Some(scales) = &self.int8 {
            return with_scales(model, scales);
        }
        match &self.clean {
            None => model,
            Some(clean) => {
                let (config, notes) = (model.config(), model.notes().clone());
                let at_0 = Model::new(config, clean.convs().to_vec(), notes);
                at_0.with_strong(model.convs().to_vec())
            }
        }
    }

    fn save(&self, name: &str) -> Result<(), Error> {
        if self.ranks.rank() > 0 {
            return Ok(());
        }
        let (path, network) = (self.folder.join(name), self.engine.network());
        checkpoint::save(&path, &self.state, &self.recipe, network, &self.layout)
    }
}

fn unix_seconds() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
