//! What to train and how, read from a TOML file.
//!
//! [`file`] has the keys as they stand in the file; here is what they come to.

mod file;
mod suggestion;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wdsr_eval::{Protocol, Track};
use wdsr_model::{Model, NetworkConfig, Norm, Precision};

use crate::checkpoint::{load_model, load_recipe};
use crate::error::Error;
use file::{RecipeKeys, ScheduleKeys, TrainingKeys};

/// A training, described completely: together with the images (and the model it starts from, if
/// any) it decides every bit of the result.
///
/// Keys left out are the paper's (Yu et al. 2018; JiahuiYu/wdsr_ntire2018): WDSR-A with 32
/// features and 16 blocks, x2; 250 epochs of 1,000 updates of 16 patches of 48 x 48 low-resolution
/// pixels; L1 loss; Adam; a learning rate of 1e-3 with weight normalisation and of 1e-4 without,
/// halved after 200 epochs (EDSR-PyTorch's `--lr_decay`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RecipeKeys", into = "RecipeKeys")]
pub struct Recipe {
    /// The network.
    pub network: NetworkConfig,
    /// The weights it starts from.
    pub start: Start,
    /// A model that teaches it.
    pub teacher: Option<Teacher>,
    /// Where the images are.
    pub data: Data,
    /// Updates and batches.
    pub training: Training,
    /// Learning rate.
    pub schedule: Schedule,
    /// Validation and checkpoints.
    pub validation: Validation,
}

/// The weights a training starts from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Start {
    /// Model file or checkpoint; without it all weights are drawn at random. What fits by name
    /// and shape is taken, the rest is drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Spread the model's blocks over a deeper body. Those between begin as the identity (their
    /// last convolution is zero), so the network begins as the model's function.
    pub insert_blocks: bool,
    /// How weights are drawn.
    pub initialization: Initialization,
}

/// How the weights that a training draws begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Initialization {
    /// PyTorch's default for convolutions; under weight normalisation g = |v|.
    #[default]
    Pytorch,
    /// The same directions, but gains of 1 outside of the blocks, 2 in them, and 1 / sqrt(blocks)
    /// at the end of each, and biases of 0 (ychfan/wdsr): the sum over all blocks begins as long
    /// as one of them. Needs weight normalisation.
    Reloaded,
}

/// A model that teaches the network besides the images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Teacher {
    /// Model file or checkpoint, of the network's scale; relative to the recipe's own folder.
    pub model: PathBuf,
    /// Part of the loss, 0..1, that is taken against the teacher's images; the rest is against
    /// the originals.
    #[serde(default = "half")]
    pub weight: f64,
}

fn half() -> f64 {
    0.5
}

/// Where the images are. The command line may name other folders.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Folders to train on.
    pub folders: Vec<DataFolder>,
    /// Which low-resolution images of DIV2K.
    pub track: Track,
    /// Folder to validate on; without it, images are kept from those to train on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<PathBuf>,
}

/// A folder to train on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFolder {
    /// Relative to the recipe's own folder.
    pub path: PathBuf,
    /// Patches drawn from this folder, in proportion to the other folders' weights. Without
    /// weights every pixel of all folders is drawn equally often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

/// Updates and batches.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(into = "TrainingKeys")]
pub struct Training {
    /// Updates of the weights.
    pub updates: u64,
    /// Patches in an update.
    pub batch: usize,
    /// Side of a patch in low-resolution pixels.
    pub patch_px: usize,
    /// Mean difference of neighbouring samples, in levels of 0..255, below which a patch of the
    /// high resolution is flat. A flat patch is drawn again, up to 10 times. 0 takes every patch.
    pub least_detail: f64,
    /// Whether 3x3 convolutions are trained as sums of branches (1x1, and 1x1 before edge
    /// filters), which the model has no trace of: Zhang et al. 2021, ECB.
    pub branches: bool,
    /// Arithmetic of the convolutions, forwards and backwards. Weights and their updates are f32
    /// always. Where the processor has no bf16 arithmetic, f32 takes its place.
    pub precision: Precision,
    /// Of all random choices.
    pub seed: u64,
    /// What is minimised.
    pub loss: Loss,
    /// Longest gradient, as the Euclidean length over all parameters; a longer one is shortened
    /// to it. 0 turns it off.
    pub gradient_clip_norm: f64,
    /// Decay of the moving average of the weights that is validated and saved; 0 turns it off.
    pub average_decay: f64,
    /// How often a training may fall back to its last good checkpoint when the loss is no longer
    /// finite, before it stops.
    pub rollbacks: u32,
    /// Factor of the learning rate from there on, at each of them.
    pub rollback_factor: f64,
}

/// What is minimised, over samples in 0..1; e is a sample's error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Loss {
    /// Mean of |e|.
    #[default]
    L1,
    /// Mean of e^2.
    L2,
    /// Mean of sqrt(e^2 + epsilon^2): Lai et al. 2017 (LapSRN), where epsilon is 1e-3.
    Charbonnier {
        /// Where it turns from quadratic to linear.
        epsilon: f64,
    },
    /// Mean of |e|, plus `weight` times the mean absolute real and imaginary part of the error's
    /// two-dimensional spectrum (Cho et al. 2021, MIMO-UNet; SAFMN trains with weight 0.05).
    Fft {
        /// Of the spectrum's part.
        weight: f64,
    },
}

/// Learning rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(into = "ScheduleKeys")]
pub struct Schedule {
    /// The highest, after the warm-up.
    pub learning_rate: f64,
    /// Updates over which the rate rises.
    pub warm_up_updates: u64,
    /// How it goes on.
    pub course: Course,
}

/// The course of a learning rate after its warm-up.
#[derive(Clone, Debug, PartialEq)]
pub enum Course {
    /// Always the same.
    Constant,
    /// Half a cosine down to `final_learning_rate`, over all updates (the warm-up lies within).
    Cosine {
        /// At the end.
        final_learning_rate: f64,
    },
    /// Times `factor` at each milestone.
    Step {
        /// Updates.
        milestones: Vec<u64>,
        /// At each of them.
        factor: f64,
    },
    /// Half a cosine up from 1/25 of the rate over the warm-up, then half a cosine down to
    /// `final_learning_rate` (Smith and Topin 2018; as PyTorch's `OneCycleLR`).
    OneCycle {
        /// At the end.
        final_learning_rate: f64,
    },
}

/// Validation and checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Validation {
    /// Updates from one validation, with its checkpoint, to the next.
    pub every_updates: u64,
    /// Images kept from training, spread evenly over the folders; of a folder for validation,
    /// how many of its images are used, 0 being all.
    pub images: usize,
    /// What the PSNR compares.
    pub protocol: Protocol,
}

impl Default for Validation {
    fn default() -> Self {
        Self {
            every_updates: 1000,
            images: 10,
            protocol: Protocol::Benchmark,
        }
    }
}

/// High-resolution pixels of an update, at most: more than a hundred times what is published, 0.8 GB.
const MOST_PIXELS: usize = 1 << 26;

impl Recipe {
    /// Reads and checks a recipe. `from` is the model or checkpoint to start from, in place of
    /// the recipe's own; without a `[network]` table that model's network is trained, with weight
    /// normalisation.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, has an unknown key, a value out of range or a
    /// key that does nothing, neither it nor a model says which network to train, or the model
    /// cannot be read.
    pub fn load(path: &Path, from: Option<&Path>) -> Result<Self, Error> {
        let mut keys = RecipeKeys::load(path)?;
        if let Some(from) = from {
            keys.start.from = Some(absolute(from)?);
        }
        let model = match &keys.start.from {
            Some(from) if keys.network.is_none() => Some(load_model(from)?),
            _ => None,
        };
        keys.resolve_of(path, model.as_ref().map(Model::config))
    }

    /// Reads and checks the recipe of a training that goes on from a checkpoint: without a
    /// `[network]` table the network is that training's, and the model it started from is too.
    ///
    /// # Errors
    /// As for [`Recipe::load`], and when the checkpoint cannot be read.
    pub fn load_to_resume(path: &Path, checkpoint: &Path) -> Result<Self, Error> {
        let mut keys = RecipeKeys::load(path)?;
        let written = load_recipe(checkpoint)?;
        keys.start = written.start;
        keys.resolve_of(path, Some(&written.network))
    }

    /// Reads and checks the text of a recipe; without a `[network]` table `model`'s network is
    /// trained.
    ///
    /// # Errors
    /// A message that names line and key.
    pub fn parse(text: &str, model: Option<&NetworkConfig>) -> Result<Self, String> {
        RecipeKeys::parse(text)?.resolve(model)
    }

    /// The recipe as a file with every key written out; [`Recipe::load`] reads it to the same.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|e| unreachable!("a recipe is plain TOML: {e}"))
    }

    /// The recipe as one line of JSON, as checkpoints and models carry it.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|e| unreachable!("a recipe is plain JSON: {e}"))
    }

    /// The first key in which two recipes differ, with both values. Where the images and the
    /// teacher lie and where the first weights came from makes no difference to a training that
    /// goes on.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let of = |recipe: &Self| {
            serde_json::to_value(recipe).unwrap_or_else(|e| unreachable!("plain JSON: {e}"))
        };
        let (ours, theirs) = (of(self), of(other));
        for table in [
            "network",
            "teacher",
            "data",
            "training",
            "schedule",
            "validation",
        ] {
            let keys = |of: &serde_json::Value| of[table].as_object().cloned().unwrap_or_default();
            let (ours, theirs) = (keys(&ours), keys(&theirs));
            for key in ours.keys().chain(theirs.keys()) {
                let show = |keys: &serde_json::Map<String, serde_json::Value>| {
                    keys.get(key).map_or("unset".to_owned(), |v| v.to_string())
                };
                let (here, there) = (show(&ours), show(&theirs));
                let is_path = matches!(
                    (table, key.as_str()),
                    ("teacher", "model") | ("data", "folders" | "validation")
                );
                if here != there && !is_path {
                    return Some(format!("{table}.{key} is {there} there, {here} here"));
                }
            }
        }
        None
    }

    fn validate(&self) -> Result<(), String> {
        let Self {
            training,
            schedule,
            validation,
            ..
        } = self;
        self.network
            .validate()
            .map_err(|e| format!("[network] {e}"))?;
        let drawn = self.start.initialization;
        if drawn == Initialization::Reloaded && self.network.norm != Norm::Weight {
            return Err(format!(
                "start.initialization is \"reloaded\", which sets the gains of weight \
                 normalisation, but network.norm is {:?}",
                self.network.norm
            ));
        }
        if self.start.insert_blocks && self.start.from.is_none() {
            let reason = "start.insert_blocks does nothing without start.from, the model whose \
                          blocks are spread; remove it, or give one";
            return Err(reason.to_owned());
        }
        let at_least_one = [
            ("training.updates", training.updates),
            ("training.batch", training.batch as u64),
            ("training.patch_px", training.patch_px as u64),
            ("validation.every_updates", validation.every_updates),
        ];
        for (name, value) in at_least_one {
            if value == 0 {
                return Err(format!("{name} is 0, expected at least 1"));
            }
        }
        let side_px = training.patch_px.saturating_mul(self.network.scale);
        let pixels = side_px
            .saturating_mul(side_px)
            .saturating_mul(training.batch);
        if pixels > MOST_PIXELS {
            return Err(format!(
                "training.batch patches of training.patch_px x network.scale pixels on each side \
                 are {pixels} pixels an update, expected at most {MOST_PIXELS}"
            ));
        }
        if !(0.0..1.0).contains(&training.average_decay) {
            let found = training.average_decay;
            return Err(format!(
                "training.average_decay is {found}, expected 0 up to below 1"
            ));
        }
        let mut from_zero_up = vec![
            ("training.gradient_clip_norm", training.gradient_clip_norm),
            ("training.rollback_factor", training.rollback_factor),
            ("training.least_detail", training.least_detail),
            ("schedule.learning_rate", schedule.learning_rate),
        ];
        match &schedule.course {
            Course::Constant => {}
            Course::Cosine {
                final_learning_rate,
            }
            | Course::OneCycle {
                final_learning_rate,
            } => from_zero_up.push(("schedule.final_learning_rate", *final_learning_rate)),
            Course::Step { milestones, factor } => {
                from_zero_up.push(("schedule.factor", *factor));
                let late = milestones.iter().find(|m| **m >= training.updates);
                if let Some(late) = late {
                    return Err(format!(
                        "schedule.milestones has {late}, expected less than training.updates, {}",
                        training.updates
                    ));
                }
            }
        }
        match training.loss {
            Loss::L1 | Loss::L2 => {}
            Loss::Charbonnier { epsilon } => {
                from_zero_up.push(("training.charbonnier_epsilon", epsilon));
            }
            Loss::Fft { weight } => from_zero_up.push(("training.fft_weight", weight)),
        }
        for (name, value) in from_zero_up {
            if !value.is_finite() || value < 0.0 {
                return Err(format!("{name} is {value}, expected a number from 0 up"));
            }
        }
        if schedule.warm_up_updates > training.updates {
            return Err(format!(
                "schedule.warm_up_updates is {}, expected at most training.updates, {}",
                schedule.warm_up_updates, training.updates
            ));
        }
        if let Some(Teacher { weight, .. }) = self.teacher
            && !(0.0..=1.0).contains(&weight)
        {
            return Err(format!("teacher.weight is {weight}, expected 0 up to 1"));
        }
        let weights = self.data.folders.iter().filter_map(|f| f.weight);
        if weights.clone().any(|w| !w.is_finite() || w <= 0.0) {
            return Err("data.folders has a weight that is not above 0".to_owned());
        }
        let weighted = weights.count();
        if weighted != 0 && weighted != self.data.folders.len() {
            return Err(format!(
                "data.folders has {weighted} weights for {} folders, expected one for each or none",
                self.data.folders.len()
            ));
        }
        Ok(())
    }
}

/// The path wherever the program runs.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|source| Error::io(path, "find", source))
}

#[cfg(test)]
mod tests;
