//! The training loop.
//!
//! The folder of a training holds:
//! - `last.checkpoint`: where it stands; `--resume` goes on from here. `best.checkpoint`: where it
//!   stood at the best validation
//! - `model.safetensors`: the model at the last validation, `best.safetensors`: at the best one
//! - `metrics.jsonl`: one line for each validation; `events.out.tfevents.*`: the same for
//!   TensorBoard; `report.html`: the same as plots, with crops of the validation images
//! - `recipe.toml`: the recipe with all defaults filled in

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use wdsr_eval::{bicubic, psnr_db};
use wdsr_kernels::{Isa, Precision};
use wdsr_model::{Model, Network, Upscaler};

use crate::checkpoint::{Inputs, State, load_model};
use crate::error::Error;
use crate::export::{write_batches, write_images};
use crate::gradients::{Batch, GradientEngine};
use crate::images::{Found, Images, Storage, ValidationImage};
use crate::optimizer::{average, clip, length};
use crate::parameters::Layout;
use crate::patches::Patches;
use crate::recipe::Recipe;
use crate::report::{Crop, training_report};
use crate::schedule::learning_rate;
use crate::start::{Taken, start_from};
use crate::teacher::Teacher;
use crate::tensorboard::{EventFile, unix_seconds};

/// Where a training stands, within its folder.
pub const LAST_CHECKPOINT: &str = "last.checkpoint";
/// Locked by the program that trains there.
const LOCK: &str = ".wdsr-lock";
/// Where it stood at its best validation.
pub const BEST_CHECKPOINT: &str = "best.checkpoint";
/// The log of its validations.
pub const METRICS: &str = "metrics.jsonl";

/// Its plots.
pub const REPORT: &str = "report.html";

/// The recipe of a training, complete.
const RECIPE: &str = "recipe.toml";
/// Its model at the last validation.
const MODEL: &str = "model.safetensors";
/// Its model at the best validation.
const BEST_MODEL: &str = "best.safetensors";

/// Every file that a training replaces in its folder.
pub const FILES: [&str; 8] = [
    LOCK,
    RECIPE,
    LAST_CHECKPOINT,
    BEST_CHECKPOINT,
    METRICS,
    REPORT,
    MODEL,
    BEST_MODEL,
];

/// Validation images that the report shows.
const CROPS: usize = 4;

/// One line of the metrics log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Updates done.
    pub update: u64,
    /// Mean loss since the line before.
    pub loss: f64,
    /// Of the last update.
    pub learning_rate: f64,
    /// Of the validation images by the recipe's protocol; none without such images.
    pub psnr_db: Option<f64>,
    /// Of bicubic interpolation on the same.
    pub bicubic_psnr_db: Option<f64>,
    /// Since the line before, validation left out.
    pub patches_per_second: f64,
    /// Spent on this training in all.
    pub seconds: f64,
    /// When it was, in seconds since 1970.
    #[serde(default)]
    pub unix_seconds: f64,
}

/// What a training reports while it runs.
pub enum Event<'e> {
    /// An update is done.
    Update {
        /// Updates done.
        update: u64,
        /// Of this update.
        loss: f64,
        /// Of this update.
        learning_rate: f64,
    },
    /// A validation is done and its checkpoint written.
    Validated {
        /// Its line of the log.
        metrics: &'e Metrics,
        /// The best validation so far, dB.
        best_psnr_db: Option<f64>,
    },
    /// The loss was not finite, and the training has gone back.
    RolledBack {
        /// The update that failed.
        update: u64,
        /// Its loss.
        loss: f64,
        /// The update it goes on from.
        to_update: u64,
        /// What the schedule's learning rate is multiplied with from here on.
        learning_rate_factor: f64,
    },
}

/// What a training finds, and how many images of what size.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Images to train on.
    pub training: usize,
    /// Their high-resolution pixels.
    pub high_pixels: u64,
    /// Whether they are kept in a temporary file, not in memory.
    pub in_file: bool,
    /// Images to validate on.
    pub validation: usize,
    /// Images too small for a patch.
    pub too_small: usize,
    /// What it computes in: the recipe's precision where the processor has its arithmetic.
    pub precision: Precision,
    /// What was taken from the model it starts from; none without such a model, or when going on.
    pub taken: Option<Taken>,
}

/// A training in its folder.
pub struct Trainer {
    recipe: Recipe,
    folder: PathBuf,
    layout: Layout,
    engine: GradientEngine,
    teacher: Option<Teacher>,
    isa: Isa,
    patches: Arc<Patches>,
    validation: Arc<[ValidationImage]>,
    state: State,
    summary: Summary,
    /// Of bicubic interpolation on the validation images, once it is known.
    bicubic_psnr_db: Option<f64>,
    /// All validations up to here.
    metrics: Vec<Metrics>,
    events: EventFile,
    /// Keeps other trainings out of the folder while this one lives.
    _lock: File,
}

/// What a validation gave.
struct Validated {
    psnr_db: Option<f64>,
    crops: Vec<Crop>,
}

/// An update whose loss or gradient is not finite.
struct NotFinite {
    update: u64,
    loss: f64,
}

impl Trainer {
    /// Prepares a training in `folder`: a new one, or with `resume` the one that stands there.
    /// Decoded images may take `image_memory_bytes`. `progress` is told (images decoded,
    /// images in all).
    ///
    /// # Errors
    /// When a training stands there and `resume` is not set, there is none to resume, its
    /// checkpoint is damaged, of another recipe or of other images, the images do not serve,
    /// or the folder cannot be written.
    ///
    /// # Panics
    /// When the recipe names no folder of images.
    pub fn prepare(
        recipe: Recipe,
        folder: &Path,
        resume: bool,
        image_memory_bytes: u64,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self, Error> {
        let opened = Opened::new(recipe, folder, resume)?;
        let storage = Storage {
            memory_bytes: image_memory_bytes,
            folder,
        };
        let images = Found::find(&opened.recipe)?.decode(&storage, progress)?;
        Self::new(opened, folder, images)
    }

    /// [`Trainer::prepare`] with images that several trainings share: those that
    /// [`Found::find`] has found for the same data, scale, patches and validation.
    ///
    /// # Errors
    /// As for [`Trainer::prepare`].
    ///
    /// # Panics
    /// When the images have another scale or are smaller than a patch.
    pub fn prepare_with(
        recipe: Recipe,
        folder: &Path,
        resume: bool,
        images: Images,
    ) -> Result<Self, Error> {
        let opened = Opened::new(recipe, folder, resume)?;
        assert_eq!(
            images.training.scale(),
            opened.recipe.network.scale,
            "scale of the images and of the network"
        );
        Self::new(opened, folder, images)
    }

    fn new(opened: Opened, folder: &Path, images: Images) -> Result<Self, Error> {
        let Opened {
            recipe,
            network,
            layout,
            mut state,
            taken,
            teacher,
            isa,
            lock,
        } = opened;
        let inputs = Inputs {
            images: Some(images.fingerprint),
            teacher: teacher.as_ref().map(|t| t.fingerprint().to_owned()),
        };
        if let Some(what) = state.inputs.difference(&inputs) {
            let reason = format!(
                "its training began with other {what}; give the same, or start another training \
                 from its weights by --from"
            );
            let path = folder.join(LAST_CHECKPOINT);
            return Err(Error::Checkpoint { path, reason });
        }
        state.inputs = inputs;
        let metrics = forget_after(&folder.join(METRICS), state.updates)?;
        let events = EventFile::create(folder, &metrics)?;
        wdsr_image::write_atomically(&folder.join(RECIPE), recipe.to_toml().as_bytes())?;
        let t = &recipe.training;
        let precision = isa.precision_for(t.precision);
        let summary = Summary {
            training: images.training.len(),
            high_pixels: images.training.high_pixels(),
            in_file: images.training.is_in_file(),
            validation: images.validation.len(),
            too_small: images.too_small.len(),
            precision,
            taken,
        };
        let (training, shares) = (images.training, images.shares);
        let patches = Patches::new(training, shares, t.patch_px, t.batch, t.seed);
        let patches = Arc::new(patches.least_detail(t.least_detail));
        Ok(Self {
            folder: folder.to_owned(),
            engine: GradientEngine::new(network, isa)
                .with_precision(precision)
                .with_loss(t.loss)
                .with_teacher_weight(recipe.teacher.as_ref().map_or(0.0, |t| t.weight)),
            teacher,
            validation: images.validation,
            recipe,
            layout,
            isa,
            patches,
            state,
            summary,
            bicubic_psnr_db: None,
            metrics,
            events,
            _lock: lock,
        })
    }

    /// Updates done so far.
    pub fn updates(&self) -> u64 {
        self.state.updates
    }

    /// What it found.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Writes [`LAST_CHECKPOINT`] as the training stands now, and beside it the batches of the next
    /// `updates` updates, those after the recipe's last left out, for a trainer in another program
    /// ([`crate::export`]). Returns the files.
    ///
    /// # Errors
    /// When a file cannot be written, or the temporary file of the images cannot be read.
    pub fn export_batches(&self, updates: u64) -> Result<Vec<PathBuf>, Error> {
        self.save(LAST_CHECKPOINT)?;
        let first = self.state.updates;
        let end = first.saturating_add(updates);
        let range = first..end.min(self.recipe.training.updates);
        let batches = write_batches(&self.patches, range, &self.folder)?;
        Ok(vec![self.folder.join(LAST_CHECKPOINT), batches])
    }

    /// Writes [`LAST_CHECKPOINT`] as the training stands now, and beside it the images to train
    /// on, for a trainer in another program ([`crate::export`]). Returns the files.
    ///
    /// # Errors
    /// When a file cannot be written, or an image cannot be read.
    pub fn export_images(&self) -> Result<Vec<PathBuf>, Error> {
        self.save(LAST_CHECKPOINT)?;
        let mut files = vec![self.folder.join(LAST_CHECKPOINT)];
        files.extend(write_images(&self.patches, &self.folder)?);
        Ok(files)
    }

    /// Trains to the recipe's last update. `observe` is told of every update and validation. When
    /// the loss is no longer finite, the training goes back to its last good checkpoint and on
    /// with a lower learning rate, as often as the recipe allows.
    ///
    /// # Errors
    /// When going back did not help (the last good checkpoint stays), or a file cannot be read or
    /// written.
    pub fn run(&mut self, mut observe: impl FnMut(Event<'_>)) -> Result<(), Error> {
        let end = self.recipe.training.updates;
        while self.state.updates < end {
            let batches = self.patches.stream(self.state.updates, end);
            if let Some(failed) = self.run_batches(&batches, &mut observe)? {
                self.roll_back(&failed)?;
                observe(Event::RolledBack {
                    update: failed.update,
                    loss: failed.loss,
                    to_update: self.state.updates,
                    learning_rate_factor: self.state.learning_rate_factor,
                });
            }
        }
        Ok(())
    }

    /// Updates until the batches end or one is not finite.
    fn run_batches(
        &mut self,
        batches: &Receiver<Result<Batch, Error>>,
        observe: &mut impl FnMut(Event<'_>),
    ) -> Result<Option<NotFinite>, Error> {
        let end = self.recipe.training.updates;
        let mut losses = 0.0;
        let mut since = self.state.updates;
        let mut started = Instant::now();
        for batch in batches {
            let update = self.state.updates;
            let rate =
                learning_rate(&self.recipe.schedule, update, end) * self.state.learning_rate_factor;
            let mut batch = batch?;
            if let Some(teacher) = &self.teacher {
                batch.taught = teacher.upscale(&batch.low)?;
            }
            let loss = match self.update(&batch, rate) {
                Ok(loss) => loss,
                Err(failed) => return Ok(Some(failed)),
            };
            losses += loss;
            let done = self.state.updates;
            observe(Event::Update {
                update: done,
                loss,
                learning_rate: rate,
            });
            if done.is_multiple_of(self.recipe.validation.every_updates) || done == end {
                if !self.state.is_finite() {
                    return Ok(Some(NotFinite { update: done, loss }));
                }
                let seconds = started.elapsed().as_secs_f64();
                let updates = (done - since) as f64;
                self.state.seconds += seconds;
                let Validated { psnr_db, crops } = self.validate()?;
                let metrics = Metrics {
                    update: done,
                    loss: losses / updates,
                    learning_rate: rate,
                    psnr_db,
                    bicubic_psnr_db: self.bicubic_psnr_db,
                    patches_per_second: updates * self.recipe.training.batch as f64 / seconds,
                    seconds: self.state.seconds,
                    unix_seconds: unix_seconds(),
                };
                self.log(&metrics, &crops)?;
                self.save(LAST_CHECKPOINT)?;
                observe(Event::Validated {
                    metrics: &metrics,
                    best_psnr_db: self.state.best_psnr_db,
                });
                (losses, since, started) = (0.0, done, Instant::now());
            }
        }
        Ok(None)
    }

    /// One update of the weights; the loss is that before it.
    fn update(&mut self, batch: &Batch, rate: f64) -> Result<f64, NotFinite> {
        let network = self.engine.network();
        let state = &mut self.state;
        let convs = self.layout.convs(network, &state.parameters);
        let norms = self.layout.norms(&state.parameters);
        let result = self.engine.run(&convs, &norms, batch);
        let mut gradient = self.layout.gradient(&state.parameters, &result.gradients);
        let length = length(&gradient);
        if !result.loss.is_finite() || !length.is_finite() {
            return Err(NotFinite {
                update: state.updates + 1,
                loss: result.loss,
            });
        }
        clip(
            &mut gradient,
            length,
            self.recipe.training.gradient_clip_norm,
        );
        state.adam.update(&mut state.parameters, &gradient, rate);
        for (running, batch) in state.running.iter_mut().zip(&result.statistics) {
            running.update(&batch.mean, &batch.variance, batch.count);
        }
        state.updates += 1;
        let decay = self.recipe.training.average_decay;
        average(&mut state.average, &state.parameters, decay, state.updates);
        Ok(result.loss)
    }

    /// Goes back to the last checkpoint, or where that one has failed already to the best one, or
    /// before the first one to the start.
    fn roll_back(&mut self, failed: &NotFinite) -> Result<(), Error> {
        let (last, best) = [LAST_CHECKPOINT, BEST_CHECKPOINT]
            .map(|name| self.folder.join(name))
            .into();
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
        let load = |path: &Path| State::load(path, &self.recipe, network, &self.layout);
        let mut state = if last.exists() {
            let state = load(&last)?;
            if state.went_back_to == Some(state.updates) && best.exists() {
                load(&best)?
            } else {
                state
            }
        } else {
            let (mut state, _) = initial(&self.recipe, network, &self.layout)?;
            state.inputs.clone_from(&self.state.inputs);
            state
        };
        state.went_back_to = Some(state.updates);
        state.rollbacks = rollbacks;
        state.learning_rate_factor =
            self.state.learning_rate_factor * self.recipe.training.rollback_factor;
        self.state = state;
        self.metrics = forget_after(&self.folder.join(METRICS), self.state.updates)?;
        self.events = EventFile::create(&self.folder, &self.metrics)?;
        self.save(LAST_CHECKPOINT)
    }

    /// The model as it stands: averaged weights where the recipe averages.
    pub fn model(&self) -> Model {
        let network = self.engine.network();
        self.state.model(&self.recipe, network, &self.layout)
    }

    /// Scores the model on the validation images and writes it.
    fn validate(&mut self) -> Result<Validated, Error> {
        let model = self.model();
        let mut mean_psnr_db = None;
        let mut crops = Vec::new();
        if !self.validation.is_empty() {
            let upscaler = Upscaler::with_isa(&model, self.isa);
            let protocol = self.recipe.validation.protocol;
            let (mut sum, mut bicubic_sum) = (0.0, 0.0);
            for image in self.validation.iter() {
                let pair = image.load()?;
                let (width_px, height_px) = (pair.low_width_px, pair.low_height_px);
                let made = upscaler
                    .upscale(&pair.low, width_px, height_px)
                    .map_err(|source| Error::Upscale {
                        path: PathBuf::from(&image.name),
                        source,
                    })?;
                let (w, h) = pair.high_size_px();
                let (channel, shave_px) =
                    (protocol.channel(pair.grey), protocol.shave_px(pair.scale));
                let against_original =
                    |pixels: &[u8]| psnr_db(pixels, &pair.high, w, h, channel, shave_px);
                sum += against_original(&made);
                if self.bicubic_psnr_db.is_none() {
                    bicubic_sum += against_original(&bicubic(&pair));
                }
                if crops.len() < CROPS {
                    crops.push(Crop::new(&image.name, &pair, &made));
                }
            }
            let count = self.validation.len() as f64;
            mean_psnr_db = Some(sum / count);
            self.bicubic_psnr_db.get_or_insert(bicubic_sum / count);
        }
        model.save(&self.folder.join(MODEL))?;
        if self.state.best_psnr_db.is_none() || mean_psnr_db > self.state.best_psnr_db {
            self.state.best_psnr_db = mean_psnr_db;
            model.save(&self.folder.join(BEST_MODEL))?;
            self.save(BEST_CHECKPOINT)?;
        }
        Ok(Validated {
            psnr_db: mean_psnr_db,
            crops,
        })
    }

    fn log(&mut self, metrics: &Metrics, crops: &[Crop]) -> Result<(), Error> {
        let path = self.folder.join(METRICS);
        let append = || -> std::io::Result<()> {
            let mut file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)?;
            file.write_all(line(metrics).as_bytes())
        };
        append().map_err(|source| Error::io(&path, "write", source))?;
        self.events.append(metrics)?;
        self.metrics.push(metrics.clone());
        let report = training_report(&self.recipe, &self.metrics, crops);
        wdsr_image::write_atomically(&self.folder.join(REPORT), report.as_bytes())?;
        Ok(())
    }

    fn save(&self, name: &str) -> Result<(), Error> {
        let path = self.folder.join(name);
        self.state
            .save(&path, &self.recipe, self.engine.network(), &self.layout)
    }
}

/// A training before its images: what stands in its folder, or a fresh start.
struct Opened {
    recipe: Recipe,
    network: Network,
    layout: Layout,
    state: State,
    taken: Option<Taken>,
    teacher: Option<Teacher>,
    isa: Isa,
    lock: File,
}

impl Opened {
    fn new(recipe: Recipe, folder: &Path, resume: bool) -> Result<Self, Error> {
        let isa = Isa::detect()?;
        let network = Network::for_training(&recipe.network);
        let layout = Layout::new(&network, recipe.training.branches);
        let teacher = Teacher::load(&recipe, isa)?;
        if !resume {
            std::fs::create_dir_all(folder)
                .map_err(|source| Error::io(folder, "create", source))?;
        }
        let lock = lock(folder)?;
        let checkpoint = folder.join(LAST_CHECKPOINT);
        let (state, taken) = if resume {
            (State::load(&checkpoint, &recipe, &network, &layout)?, None)
        } else {
            if checkpoint.exists() {
                let reason = "a training stands here; go on with it by --resume, or give --out \
                              another folder";
                return Err(Error::Checkpoint {
                    path: checkpoint,
                    reason: reason.to_owned(),
                });
            }
            initial(&recipe, &network, &layout)?
        };
        remove_unfinished(folder)?;
        Ok(Self {
            recipe,
            network,
            layout,
            state,
            taken,
            teacher,
            isa,
            lock,
        })
    }
}

/// Takes the folder for this program, until the file is closed.
fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(|source| Error::io(&path, "write", source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Checkpoint {
            path: folder.to_owned(),
            reason: "another program trains here; wait until it ends, or give --out another folder"
                .to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(Error::io(&path, "lock", source)),
    }
}

/// Before the first update: fresh weights, with what fits of the model the recipe starts from.
fn initial(
    recipe: &Recipe,
    network: &Network,
    layout: &Layout,
) -> Result<(State, Option<Taken>), Error> {
    let drawn = recipe.start.initialization;
    let mut state = State::initial(network, layout, drawn, recipe.training.seed);
    let Some(path) = &recipe.start.from else {
        return Ok((state, None));
    };
    let model = load_model(path)?;
    let insert_blocks = recipe.start.insert_blocks;
    let taken = start_from(
        &model,
        insert_blocks,
        network,
        layout,
        &mut state.parameters,
    );
    let taken = taken.map_err(|reason| Error::Start {
        path: path.clone(),
        reason,
    })?;
    state.average.clone_from(&state.parameters);
    Ok((state, Some(taken)))
}

/// Removes what a killed process had begun to write: files of a training appear under their names
/// only when complete, and are written under such names until then.
fn remove_unfinished(folder: &Path) -> Result<(), Error> {
    let entries = std::fs::read_dir(folder).map_err(|source| Error::io(folder, "read", source))?;
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        if name.starts_with(".wdsr-") && name.ends_with(".part") {
            std::fs::remove_file(&path).map_err(|source| Error::io(&path, "remove", source))?;
        }
    }
    Ok(())
}

/// A line of the metrics log.
fn line(metrics: &Metrics) -> String {
    let json = serde_json::to_string(metrics)
        .unwrap_or_else(|e| unreachable!("metrics are plain JSON: {e}"));
    json + "\n"
}

/// Reads a metrics log; a line cut short by a full disk or a killed process is left out.
///
/// # Errors
/// When there is one but it cannot be read.
pub fn read_metrics(path: &Path) -> Result<Vec<Metrics>, Error> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, "read", source))?;
    let lines = text.lines();
    Ok(lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// Drops the lines of a metrics log that lie behind a checkpoint, as the updates they tell of will
/// be done again, and returns the others.
fn forget_after(path: &Path, updates: u64) -> Result<Vec<Metrics>, Error> {
    let mut metrics = read_metrics(path)?;
    metrics.retain(|metrics| metrics.update <= updates);
    if path.exists() {
        let kept: String = metrics.iter().map(line).collect();
        wdsr_image::write_atomically(path, kept.as_bytes())?;
    }
    Ok(metrics)
}

#[cfg(test)]
mod tests;
