//! What to train and how.
//!
//! [`keys`] has the keys of a recipe's file and their defaults, [`check`] their ranges.

mod check;
pub(crate) mod keys;
mod schedule;
mod suggestion;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wdsr_degrade::Degradation;
use wdsr_eval::{Protocol, Track};
use wdsr_model::{NetworkConfig, Precision};

pub use keys::Overrides;
use schedule::learning_rate;

/// A complete description of a training. With the images, the teacher and the model it starts from
/// (if any) it determines every bit of the result.
///
/// The defaults are the paper's (Yu et al. 2018; JiahuiYu/wdsr_ntire2018): WDSR-A with 32
/// features and 16 blocks, x2; 250 epochs of 1,000 updates of 16 patches of 48 x 48 low-resolution
/// pixels; L1 loss; Adam; a learning rate of 1e-3 with weight normalisation and of 1e-4 without,
/// halved after 200 epochs (EDSR-PyTorch's `--lr_decay`).
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The network.
    pub network: NetworkConfig,
    /// The initial weights.
    pub start: Start,
    /// A model to distil.
    pub teacher: Option<Teacher>,
    /// How the low-resolution patches are made; without it they are the dataset's, or MATLAB's bicubic
    /// reduction.
    pub degradation: Option<Degradation>,
    /// Weights that depend on a strength.
    pub strength: Option<StrengthRange>,
    /// The dataset.
    pub data: Data,
    /// Updates and batches.
    pub training: Training,
    /// The learning rate.
    pub schedule: Schedule,
    /// Validation and checkpoints.
    pub validation: Validation,
}

/// The initial weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Start {
    /// Model file or checkpoint. Convolutions that match by name and shape are copied, the others
    /// are initialised at random; without a model all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Spread the model's blocks over a deeper body. The blocks between them start as the identity
    /// (their last convolution is zero), so the network starts as the model's function.
    pub insert_blocks: bool,
    /// Random initialisation.
    pub initialization: Initialization,
}

/// Random initialisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Initialization {
    /// PyTorch's default for convolutions; with weight normalisation g = |v|.
    #[default]
    Pytorch,
    /// The same directions, but gains of 1 outside of the blocks, 2 inside and 1 / sqrt(blocks)
    /// at the end of each, and zero biases (ychfan/wdsr): the sum over all blocks starts as large
    /// as one of them. Needs weight normalisation.
    Reloaded,
}

/// A model to distil.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Teacher {
    /// Model file or checkpoint of the network's scale, relative to the recipe's folder.
    pub model: PathBuf,
    /// Share of the loss, 0..1, against the teacher's output; the rest is against the originals.
    #[serde(default = "half")]
    pub weight: f64,
}

fn half() -> f64 {
    0.5
}

/// Weights that depend on a strength ([`wdsr_model::strength`]): those of strength 0 are a clean model's
/// and stay as they are; those of strength 1 are trained. Each update has a strength, which is that of
/// its damage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StrengthRange {
    /// Model file of the recipe's network, relative to the recipe's folder. Without it, at scale 1,
    /// strength 0 leaves the image as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean: Option<PathBuf>,
    /// The smallest and the largest strength of an update.
    #[serde(default = "any_strength")]
    pub range: [f64; 2],
}

fn any_strength() -> [f64; 2] {
    [0.0, 1.0]
}

/// The dataset. The command line may override the folders.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Folders of training images.
    pub folders: Vec<DataFolder>,
    /// Which low-resolution images of DIV2K.
    pub track: Track,
    /// How the low-resolution images are shifted against their originals; without it they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shifts: Option<Shifts>,
    /// Folder of validation images; without it some of the training images are kept for validation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<PathBuf>,
}

/// Shifts of low-resolution images against their originals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"estimate\" or a list of reports of wdsr data align"
)]
pub enum Shifts {
    /// Estimated for each image before the training.
    Estimated(Estimate),
    /// Those of reports of `wdsr data align` on these images, relative to the recipe's folder. Images
    /// that could not be aligned are skipped.
    Reports(Vec<PathBuf>),
}

/// The word for estimated shifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Estimate {
    /// `"estimate"`
    Estimate,
}

/// A folder of training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFolder {
    /// Relative to the recipe's folder.
    pub path: PathBuf,
    /// Share of the patches drawn from this folder, relative to the other folders' weights. Without
    /// weights every pixel of all folders is drawn equally often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

/// Updates and batches.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// Updates of the weights.
    pub updates: u64,
    /// Patches of an update.
    pub batch: usize,
    /// Side of a patch in low-resolution pixels.
    pub patch_px: usize,
    /// Mean difference of neighbouring samples, in levels of 0..255, below which a
    /// high-resolution patch is flat. A flat patch is drawn again, up to 10 times. 0 accepts all.
    pub least_detail: f64,
    /// Train 3x3 convolutions as sums of branches (1x1, and 1x1 before edge filters), which are
    /// merged in the model: Zhang et al. 2021, ECB.
    pub branches: bool,
    /// Arithmetic of the convolutions, forwards and backwards. Weights and their updates are always
    /// f32. A processor on which bf16 is not faster uses f32. For a GPU bf16 stands for f16, which it uses if it
    /// multiplies matrices.
    pub precision: Precision,
    /// Round weights and activations as int8 does, forwards, by the scales of the model that the training starts from:
    /// quantisation-aware training. Validation runs in int8.
    pub int8: bool,
    /// Seed of all random choices.
    pub seed: u64,
    /// The loss.
    pub loss: Loss,
    /// Maximum Euclidean length of the gradient over all parameters; 0 turns clipping off.
    pub gradient_clip_norm: f64,
    /// Decay of the moving average of the weights that is validated and saved; 0 turns it off.
    pub average_decay: f64,
    /// Maximum number of rollbacks to the last good checkpoint when the loss is not finite.
    pub rollbacks: u32,
    /// Factor that each rollback multiplies the learning rate by.
    pub rollback_factor: f64,
}

/// The loss over samples in 0..1; e is the error of a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Loss {
    /// Mean of |e|.
    #[default]
    L1,
    /// Mean of e^2.
    L2,
    /// Mean of sqrt(e^2 + epsilon^2): Lai et al. 2017 (LapSRN), where epsilon is 1e-3.
    Charbonnier {
        /// The error where the loss turns from quadratic to linear.
        epsilon: f64,
    },
    /// Mean of |e|, plus `weight` times the mean absolute real and imaginary part of the error's
    /// two-dimensional spectrum (Cho et al. 2021, MIMO-UNet; SAFMN trains with weight 0.05).
    Fft {
        /// Weight of the spectrum.
        weight: f64,
    },
}

/// The learning rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate, after the warm-up.
    pub learning_rate: f64,
    /// Updates of the warm-up.
    pub warm_up_updates: u64,
    /// The rate after the warm-up.
    pub decay: Decay,
}

/// The learning rate after its warm-up.
#[derive(Clone, Debug, PartialEq)]
pub enum Decay {
    /// Constant, and then, if it has one, a cool-down.
    Constant {
        /// The last updates.
        cool_down: Option<CoolDown>,
    },
    /// Half a cosine down to `final_learning_rate` over all updates, the warm-up included.
    Cosine {
        /// The rate at the end.
        final_learning_rate: f64,
    },
    /// Multiplied by `factor` at each milestone.
    Step {
        /// Updates.
        milestones: Vec<u64>,
        /// Factor at each of them.
        factor: f64,
    },
    /// Half a cosine up from 1/25 of the rate over the warm-up, then half a cosine down to
    /// `final_learning_rate` (Smith and Topin 2018; PyTorch's `OneCycleLR`).
    OneCycle {
        /// The rate at the end.
        final_learning_rate: f64,
    },
}

/// The end of a constant learning rate: down to `final_learning_rate` with the root of the progress.
///
/// Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations",
/// section 3: as good as a cosine of the same length, but the updates before it are the same whatever
/// the length, so a run can be lengthened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoolDown {
    /// How many updates.
    pub updates: u64,
    /// The rate at the end.
    pub final_learning_rate: f64,
}

/// Validation and checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Validation {
    /// Updates between validations; each writes a checkpoint.
    pub every_updates: u64,
    /// Training images kept for validation, spread evenly over the folders; with a folder of
    /// validation images, how many of these are used, 0 for all.
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

impl Recipe {
    /// The number of updates before the cool-down; all if there is none.
    pub fn updates_before_cool_down(&self) -> u64 {
        let cool_down = match self.schedule.decay {
            Decay::Constant { cool_down } => cool_down.map_or(0, |c| c.updates),
            _ => 0,
        };
        self.training.updates.saturating_sub(cool_down)
    }

    /// The learning rate of the update after `updates`.
    pub fn learning_rate(&self, updates: u64) -> f64 {
        learning_rate(&self.schedule, updates, self.training.updates)
    }

    /// Whether the first `updates` updates have the same learning rate by both recipes, so that these
    /// may differ in the number of updates and in the schedule.
    fn has_rates_of(&self, other: &Self, updates: u64) -> bool {
        updates <= self.training.updates
            && updates <= other.training.updates
            && (0..updates).all(|update| self.learning_rate(update) == other.learning_rate(update))
    }

    /// The first key in which two recipes differ, with both values. The paths of the images and of
    /// the teacher and the initial weights are not compared: they do not matter to a training that
    /// is resumed.
    pub fn difference(&self, other: &Self) -> Option<String> {
        self.find_difference(other, false)
    }

    /// [`Recipe::difference`] for a training that has done `updates` by the other recipe: the number of
    /// updates and the schedule may differ if the learning rates so far are the same.
    pub fn difference_after(&self, other: &Self, updates: u64) -> Option<String> {
        self.find_difference(other, self.has_rates_of(other, updates))
    }

    fn find_difference(&self, other: &Self, same_rates: bool) -> Option<String> {
        let values = |recipe: &Self| {
            serde_json::to_value(recipe).unwrap_or_else(|e| unreachable!("plain JSON: {e}"))
        };
        let (ours, theirs) = (values(self), values(other));
        for table in [
            "network",
            "teacher",
            "degradation",
            "strength",
            "data",
            "training",
            "schedule",
            "validation",
        ] {
            let keys = |of: &serde_json::Value| of[table].as_object().cloned().unwrap_or_default();
            let (ours, theirs) = (keys(&ours), keys(&theirs));
            for key in ours.keys().chain(theirs.keys()) {
                let is_path = matches!(
                    (table, key.as_str()),
                    ("teacher", "model")
                        | ("strength", "clean")
                        // The fingerprint of the dataset has the shifts.
                        | ("data", "folders" | "validation" | "shifts")
                );
                let is_later = same_rates
                    && (table == "schedule" || (table, &key[..]) == ("training", "updates"));
                let show = |keys: &serde_json::Map<String, serde_json::Value>| {
                    keys.get(key).map_or("unset".to_owned(), |v| v.to_string())
                };
                let (here, there) = (show(&ours), show(&theirs));
                if here != there && !is_path && !is_later {
                    return Some(format!("{table}.{key} is {there} there, {here} here"));
                }
            }
        }
        None
    }
}
