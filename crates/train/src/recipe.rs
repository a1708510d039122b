//! What to train and how, read from a TOML file.

use std::path::Path;

use serde::{Deserialize, Serialize};
use wdsr_model::NetworkConfig;

use crate::error::Error;

/// A training, described completely: together with the pictures it decides every bit of the
/// result. Defaults are the paper's: 250 epochs of 1,000 updates of 16 patches of 48 x 48
/// low-resolution pixels, L1 loss, Adam, 1e-3 (right for weight normalisation; 1e-4 without).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The network.
    pub network: NetworkConfig,
    /// Updates and batches.
    #[serde(default)]
    pub training: Training,
    /// Learning rate.
    #[serde(default)]
    pub schedule: Schedule,
    /// Validation and checkpoints.
    #[serde(default)]
    pub validation: Validation,
}

/// Updates and batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    /// Updates of the weights.
    pub updates: u64,
    /// Patches in an update.
    pub batch: usize,
    /// Side of a patch in low-resolution pixels.
    pub patch_px: usize,
    /// Of all random choices.
    pub seed: u64,
    /// Decay of the moving average of the weights that is validated and saved; 0 turns it off.
    pub average_decay: f64,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            updates: 250_000,
            batch: 16,
            patch_px: 48,
            seed: 1,
            average_decay: 0.0,
        }
    }
}

/// How the learning rate goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Always the same.
    Constant,
    /// Half a cosine from `learning_rate` to `final_learning_rate`.
    Cosine,
    /// Times `factor` at each milestone.
    Step,
}

/// Learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Its course.
    pub kind: ScheduleKind,
    /// At the start, after the warm-up.
    pub learning_rate: f64,
    /// At the end of a cosine.
    pub final_learning_rate: f64,
    /// Updates over which the rate rises from 0.
    pub warm_up_updates: u64,
    /// Updates at which a step schedule multiplies by `factor`.
    pub milestones: Vec<u64>,
    /// Factor of a step schedule.
    pub factor: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::Step,
            learning_rate: 1e-3,
            final_learning_rate: 1e-6,
            warm_up_updates: 0,
            milestones: vec![200_000],
            factor: 0.5,
        }
    }
}

/// Validation and checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Validation {
    /// Updates from one validation, with its checkpoint, to the next.
    pub every_updates: u64,
    /// Pictures of the folder kept from training, spread evenly over it.
    pub pictures: usize,
}

impl Default for Validation {
    fn default() -> Self {
        Self {
            every_updates: 1000,
            pictures: 10,
        }
    }
}

impl Recipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, has an unknown key or a value out of range.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::io(path, "read", source))?;
        Self::parse(&text).map_err(|reason| Error::Recipe {
            path: path.to_owned(),
            reason,
        })
    }

    /// Reads and checks the text of a recipe.
    ///
    /// # Errors
    /// A message that names line and key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let recipe: Self =
            toml::from_str(text).map_err(|e| e.to_string().trim().replace('\n', " "))?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// The first key in which two recipes differ, with both values.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let of = |recipe: &Self| {
            serde_json::to_value(recipe).unwrap_or_else(|e| unreachable!("plain JSON: {e}"))
        };
        let (ours, theirs) = (of(self), of(other));
        for (table, keys) in ours.as_object()? {
            for (key, value) in keys.as_object()? {
                let found = &theirs[table][key];
                if value != found {
                    return Some(format!("{table}.{key} is {found} there, {value} here"));
                }
            }
        }
        None
    }

    fn validate(&self) -> Result<(), String> {
        self.network
            .validate()
            .map_err(|e| format!("[network] {e}"))?;
        let at_least_one = [
            ("training.updates", self.training.updates),
            ("training.batch", self.training.batch as u64),
            ("training.patch_px", self.training.patch_px as u64),
            ("validation.every_updates", self.validation.every_updates),
        ];
        for (name, value) in at_least_one {
            if value == 0 {
                return Err(format!("{name} is 0, expected at least 1"));
            }
        }
        if !(0.0..1.0).contains(&self.training.average_decay) {
            let found = self.training.average_decay;
            return Err(format!(
                "training.average_decay is {found}, expected 0 up to below 1"
            ));
        }
        for (name, rate) in [
            ("schedule.learning_rate", self.schedule.learning_rate),
            (
                "schedule.final_learning_rate",
                self.schedule.final_learning_rate,
            ),
            ("schedule.factor", self.schedule.factor),
        ] {
            if !rate.is_finite() || rate < 0.0 {
                return Err(format!("{name} is {rate}, expected a number from 0 up"));
            }
        }
        Ok(())
    }
}
