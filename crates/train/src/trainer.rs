//! The training loop.
//!
//! The folder of a training holds:
//! - `last.checkpoint`: where it stands; `--resume` goes on from here
//! - `model.safetensors`: the model at the last validation, `best.safetensors`: at the best one
//! - `metrics.jsonl`: one line for each validation
//! - `recipe.toml`: the recipe with all defaults filled in

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use wdsr_eval::{PicturePair, score_pair};
use wdsr_kernels::Isa;
use wdsr_model::{Model, Network, Upscaler};

use crate::checkpoint::State;
use crate::error::Error;
use crate::gradients::GradientEngine;
use crate::optimizer::{average, clip, length};
use crate::parameters::Layout;
use crate::patches::{Patches, Pictures};
use crate::recipe::Recipe;
use crate::schedule::learning_rate;

const CHECKPOINT: &str = "last.checkpoint";
const METRICS: &str = "metrics.jsonl";

/// One line of the metrics log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Updates done.
    pub update: u64,
    /// Mean loss since the line before.
    pub loss: f64,
    /// Of the last update.
    pub learning_rate: f64,
    /// Of the validation pictures by the recipe's protocol; none without such pictures.
    pub psnr_db: Option<f64>,
    /// Of bicubic interpolation on the same.
    pub bicubic_psnr_db: Option<f64>,
    /// Since the line before, validation left out.
    pub patches_per_second: f64,
    /// Spent on this training in all.
    pub seconds: f64,
}

/// What a training reports while it runs.
pub enum Event<'e> {
    /// An update is done.
    Update {
        /// Updates done.
        update: u64,
        /// Of this update.
        loss: f64,
    },
    /// A validation is done and its checkpoint written.
    Validated(&'e Metrics),
}

/// A training in its folder.
pub struct Trainer {
    recipe: Recipe,
    folder: PathBuf,
    layout: Layout,
    engine: GradientEngine,
    isa: Isa,
    patches: Arc<Patches>,
    validation: Vec<(String, PicturePair)>,
    state: State,
}

impl Trainer {
    /// Prepares a training in `folder`: a new one, or with `resume` the one that stands there.
    ///
    /// # Errors
    /// When a training stands there and `resume` is not set, there is none to resume, its
    /// checkpoint is damaged or of another recipe, or the folder cannot be written.
    pub fn new(
        recipe: Recipe,
        folder: &Path,
        pictures: Pictures,
        resume: bool,
    ) -> Result<Self, Error> {
        let isa = Isa::detect()?;
        let network = Network::for_training(&recipe.network);
        let layout = Layout::new(&network);
        std::fs::create_dir_all(folder).map_err(|source| Error::io(folder, "create", source))?;
        let checkpoint = folder.join(CHECKPOINT);
        let metrics = folder.join(METRICS);
        let state = if resume {
            State::load(&checkpoint, &recipe, &network, &layout)?
        } else {
            if checkpoint.exists() {
                let reason = "a training stands here; go on with it by --resume, or give --out \
                              another folder";
                return Err(Error::Checkpoint {
                    path: checkpoint,
                    reason: reason.to_owned(),
                });
            }
            State::initial(&network, &layout, recipe.training.seed)
        };
        forget_after(&metrics, state.updates)?;
        wdsr_picture::write_atomically(&folder.join("recipe.toml"), recipe.to_toml().as_bytes())?;
        let t = &recipe.training;
        let patches = Arc::new(Patches::new(pictures.training, t.patch_px, t.batch, t.seed));
        Ok(Self {
            folder: folder.to_owned(),
            engine: GradientEngine::new(network, isa).with_loss(t.loss),
            validation: pictures.validation,
            recipe,
            layout,
            isa,
            patches,
            state,
        })
    }

    /// Updates done so far.
    pub fn updates(&self) -> u64 {
        self.state.updates
    }

    /// Trains to the recipe's last update. `observe` is told of every update and validation.
    ///
    /// # Errors
    /// When the loss is no longer finite (the last checkpoint stays as it is), or a file cannot
    /// be written.
    pub fn run(&mut self, mut observe: impl FnMut(Event<'_>)) -> Result<(), Error> {
        let end = self.recipe.training.updates;
        let batches = self.patches.stream(self.state.updates, end);
        let mut losses = 0.0;
        let mut since = self.state.updates;
        let mut started = Instant::now();
        for batch in batches {
            let update = self.state.updates;
            let rate = learning_rate(&self.recipe.schedule, update, end);
            let loss = self.update(&batch, rate)?;
            losses += loss;
            let done = self.state.updates;
            observe(Event::Update { update: done, loss });
            if done.is_multiple_of(self.recipe.validation.every_updates) || done == end {
                let seconds = started.elapsed().as_secs_f64();
                let updates = (done - since) as f64;
                self.state.seconds += seconds;
                let (psnr_db, bicubic_psnr_db) = self.validate()?;
                let metrics = Metrics {
                    update: done,
                    loss: losses / updates,
                    learning_rate: rate,
                    psnr_db,
                    bicubic_psnr_db,
                    patches_per_second: updates * self.recipe.training.batch as f64 / seconds,
                    seconds: self.state.seconds,
                };
                self.log(&metrics)?;
                self.save()?;
                observe(Event::Validated(&metrics));
                (losses, since, started) = (0.0, done, Instant::now());
            }
        }
        Ok(())
    }

    /// One update of the weights; the loss is that before it.
    fn update(&mut self, batch: &crate::gradients::Batch, rate: f64) -> Result<f64, Error> {
        let network = self.engine.network();
        let state = &mut self.state;
        let convs = self.layout.convs(network, &state.parameters);
        let norms = self.layout.norms(&state.parameters);
        let result = self.engine.run(&convs, &norms, batch);
        if !result.loss.is_finite() {
            let checkpoint = Some(self.folder.join(CHECKPOINT)).filter(|path| path.exists());
            let update = state.updates + 1;
            return Err(Error::NonFiniteLoss {
                update,
                loss: result.loss,
                checkpoint,
            });
        }
        let mut gradient = self.layout.gradient(&state.parameters, &result.gradients);
        let longest = self.recipe.training.gradient_clip_norm;
        let length = length(&gradient);
        clip(&mut gradient, length, longest);
        state.adam.update(&mut state.parameters, &gradient, rate);
        for (running, batch) in state.running.iter_mut().zip(&result.statistics) {
            running.update(&batch.mean, &batch.variance, batch.count);
        }
        state.updates += 1;
        let decay = self.recipe.training.average_decay;
        average(&mut state.average, &state.parameters, decay, state.updates);
        Ok(result.loss)
    }

    /// The model as it stands: averaged weights where the recipe averages.
    pub fn model(&self) -> Model {
        let network = self.engine.network();
        let convs = self
            .layout
            .folded(network, &self.state.average, &self.state.running);
        let notes = BTreeMap::from([
            ("recipe".to_owned(), self.recipe.to_json()),
            ("updates".to_owned(), self.state.updates.to_string()),
        ]);
        Model::new(&self.recipe.network, convs, notes)
    }

    /// Mean PSNR of the model and of bicubic interpolation on the validation pictures.
    fn validate(&mut self) -> Result<(Option<f64>, Option<f64>), Error> {
        let model = self.model();
        let mut psnr_db = None;
        let mut bicubic_psnr_db = None;
        if !self.validation.is_empty() {
            let upscaler = Upscaler::with_isa(&model, self.isa);
            let (mut sum, mut bicubic_sum) = (0.0, 0.0);
            for (name, pair) in &self.validation {
                let score = score_pair(name, pair, &upscaler, self.recipe.validation.protocol);
                sum += score.psnr_db;
                bicubic_sum += score.bicubic_psnr_db;
            }
            let count = self.validation.len() as f64;
            psnr_db = Some(sum / count);
            bicubic_psnr_db = Some(bicubic_sum / count);
        }
        model.save(&self.folder.join("model.safetensors"))?;
        if self.state.best_psnr_db.is_none() || psnr_db > self.state.best_psnr_db {
            self.state.best_psnr_db = psnr_db;
            model.save(&self.folder.join("best.safetensors"))?;
        }
        Ok((psnr_db, bicubic_psnr_db))
    }

    fn log(&self, metrics: &Metrics) -> Result<(), Error> {
        let path = self.folder.join(METRICS);
        let line = serde_json::to_string(metrics)
            .unwrap_or_else(|e| unreachable!("metrics are plain JSON: {e}"));
        let append = || -> std::io::Result<()> {
            let mut file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)?;
            file.write_all(format!("{line}\n").as_bytes())
        };
        append().map_err(|source| Error::io(&path, "write", source))
    }

    fn save(&self) -> Result<(), Error> {
        let path = self.folder.join(CHECKPOINT);
        self.state
            .save(&path, &self.recipe, self.engine.network(), &self.layout)
    }
}

/// Drops the lines of a metrics log that lie behind a checkpoint: the updates they tell of will
/// be done again.
fn forget_after(path: &Path, updates: u64) -> Result<(), Error> {
    if !path.exists() {
        return Ok(());
    }
    let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, "read", source))?;
    let kept: String = text
        .lines()
        .filter(|line| serde_json::from_str::<Metrics>(line).is_ok_and(|m| m.update <= updates))
        .flat_map(|line| [line, "\n"])
        .collect();
    wdsr_picture::write_atomically(path, kept.as_bytes())?;
    Ok(())
}
