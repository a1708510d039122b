//! The keys of a recipe's file and their defaults.

use std::ops::Not;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wdsr_degrade::Degradation;
use wdsr_model::{BlockKind, DIV2K_MEAN, NetworkConfig, Norm, Precision};

use super::check::check;
use super::{
    CoolDown, Data, Decay, Loss, Recipe, Schedule, Start, StrengthRange, Teacher, Training,
    Validation, suggestion,
};
use crate::error::RecipeError;

/// The published learning rates with weight normalisation and without.
const LEARNING_RATE_WEIGHT_NORM: f64 = 1e-3;
const LEARNING_RATE_PLAIN: f64 = 1e-4;
const FINAL_LEARNING_RATE: f64 = 1e-6;
/// The published trainings halve the rate after 200 of their 250 epochs.
const MILESTONE: (u64, u64) = (4, 5);
const MILESTONE_FACTOR: f64 = 0.5;
/// PyTorch's `OneCycleLR` rises over 3/10 of the updates.
const ONE_CYCLE_WARM_UP: (u64, u64) = (3, 10);
/// Lai et al. 2017.
const CHARBONNIER_EPSILON: f64 = 1e-3;
/// SAFMN's.
const FFT_WEIGHT: f64 = 0.05;

/// A recipe's file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RecipeKeys {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<NetworkKeys>,
    pub(crate) start: Start,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) teacher: Option<Teacher>,
    #[serde(skip_serializing_if = "Option::is_none")]
    degradation: Option<Degradation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) strength: Option<StrengthRange>,
    pub(crate) data: Data,
    training: TrainingKeys,
    schedule: ScheduleKeys,
    validation: Validation,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NetworkKeys {
    block: BlockKind,
    features: usize,
    blocks: usize,
    /// Default: 4 for WDSR-A, 6 for WDSR-B, 1 for EDSR.
    expansion: Option<usize>,
    /// Default: int(0.8 features) for WDSR-B.
    low_rank: Option<usize>,
    /// Default: weight normalisation for WDSR, none for EDSR.
    norm: Option<Norm>,
    scale: usize,
    residual_scale: f32,
    mean: [f32; 3],
}

impl Default for NetworkKeys {
    fn default() -> Self {
        Self {
            block: BlockKind::WdsrA,
            features: 32,
            blocks: 16,
            expansion: None,
            low_rank: None,
            norm: None,
            scale: 2,
            residual_scale: 1.0,
            mean: DIV2K_MEAN,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LossKind {
    #[default]
    L1,
    L2,
    Charbonnier,
    Fft,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PrecisionKey {
    F32,
    Bf16,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TrainingKeys {
    updates: u64,
    batch: usize,
    patch_px: usize,
    least_detail: f64,
    branches: bool,
    precision: PrecisionKey,
    #[serde(skip_serializing_if = "Not::not")]
    int8: bool,
    seed: u64,
    loss: LossKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    charbonnier_epsilon: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fft_weight: Option<f64>,
    gradient_clip_norm: f64,
    average_decay: f64,
    rollbacks: u32,
    rollback_factor: f64,
}

impl Default for TrainingKeys {
    fn default() -> Self {
        Self {
            updates: 250_000,
            batch: 16,
            patch_px: 48,
            least_detail: 0.0,
            branches: false,
            precision: PrecisionKey::F32,
            int8: false,
            seed: 1,
            loss: LossKind::L1,
            charbonnier_epsilon: None,
            fft_weight: None,
            gradient_clip_norm: 0.0,
            average_decay: 0.0,
            rollbacks: 3,
            rollback_factor: 0.5,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DecayKind {
    Constant,
    Cosine,
    #[default]
    Step,
    OneCycle,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ScheduleKeys {
    kind: DecayKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    learning_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    final_learning_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warm_up_updates: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cool_down_updates: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    milestones: Option<Vec<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
}

/// Values that take the place of a recipe's keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides<'o> {
    /// Of `start.from`.
    pub from: Option<&'o Path>,
    /// Of `training.updates`.
    pub updates: Option<u64>,
    /// Of `schedule.cool_down_updates`.
    pub cool_down_updates: Option<u64>,
}

impl RecipeKeys {
    /// Sets the number of updates and of those of the cool-down, where they are given.
    pub(crate) fn set_updates(
        &mut self,
        updates: Option<u64>,
        cool_down_updates: Option<u64>,
    ) -> Result<(), RecipeError> {
        self.training.updates = updates.unwrap_or(self.training.updates);
        let schedule = &mut self.schedule;
        schedule.cool_down_updates = cool_down_updates.or(schedule.cool_down_updates);
        self.refuse_keys_without_effect()
    }

    /// Parses the text of a recipe.
    pub(crate) fn parse(text: &str) -> Result<Self, RecipeError> {
        let keys: Self = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            RecipeError::Syntax {
                line: 1 + text[..start].matches('\n').count(),
                message: suggestion::with_nearest(error.message()),
            }
        })?;
        keys.refuse_keys_without_effect()?;
        Ok(keys)
    }

    /// Refuses keys that the recipe's loss or schedule never reads. (Recipes of checkpoints are
    /// read without this check: they may have such keys.)
    fn refuse_keys_without_effect(&self) -> Result<(), RecipeError> {
        let (training, schedule) = (&self.training, &self.schedule);
        let is_constant = schedule.kind == DecayKind::Constant;
        let has_final_rate = match schedule.kind {
            DecayKind::Cosine | DecayKind::OneCycle => true,
            DecayKind::Constant => schedule
                .cool_down_updates
                .is_some_and(|updates| updates > 0),
            DecayKind::Step => false,
        };
        let has_steps = schedule.kind == DecayKind::Step;
        let without_effect = [
            (
                "schedule.final_learning_rate",
                schedule.final_learning_rate.is_some() && !has_final_rate,
                "schedule.kind = \"cosine\" or \"one-cycle\", or schedule.cool_down_updates",
            ),
            (
                "schedule.cool_down_updates",
                schedule.cool_down_updates.is_some() && !is_constant,
                "schedule.kind = \"constant\"",
            ),
            (
                "schedule.milestones",
                schedule.milestones.is_some() && !has_steps,
                "schedule.kind = \"step\"",
            ),
            (
                "schedule.factor",
                schedule.factor.is_some() && !has_steps,
                "schedule.kind = \"step\"",
            ),
            (
                "training.charbonnier_epsilon",
                training.charbonnier_epsilon.is_some() && training.loss != LossKind::Charbonnier,
                "training.loss = \"charbonnier\"",
            ),
            (
                "training.fft_weight",
                training.fft_weight.is_some() && training.loss != LossKind::Fft,
                "training.loss = \"fft\"",
            ),
            (
                "start.insert_blocks",
                self.start.insert_blocks && self.network.is_none(),
                "a [network] table with more blocks than the model",
            ),
        ];
        match without_effect.into_iter().find(|(_, found, _)| *found) {
            Some((key, _, needs)) => Err(RecipeError::NoEffect { key, needs }),
            None => Ok(()),
        }
    }

    /// Fills in the defaults and checks all values. Without a `[network]` table the network is
    /// `model`'s, with the normalisation that its kind is trained with.
    pub(crate) fn resolve(self, model: Option<&NetworkConfig>) -> Result<Recipe, RecipeError> {
        let network = match (self.network, model) {
            (Some(keys), _) => keys.into(),
            (None, Some(model)) => NetworkConfig {
                norm: published_norm(model.block),
                ..model.clone()
            },
            (None, None) => return Err(RecipeError::NoNetwork),
        };
        let training = Training::from(self.training);
        let recipe = Recipe {
            schedule: self.schedule.resolve(network.norm, training.updates),
            network,
            start: self.start,
            teacher: self.teacher,
            degradation: self.degradation,
            strength: self.strength,
            data: self.data,
            training,
            validation: self.validation,
        };
        check(&recipe)?;
        Ok(recipe)
    }
}

impl Recipe {
    /// Parses the text of a recipe. Without a `[network]` table the network is `model`'s.
    ///
    /// # Errors
    /// If the text is not TOML, a key is unknown or has no effect, or a value is out of range; the
    /// message names line or key.
    pub fn parse(text: &str, model: Option<&NetworkConfig>) -> Result<Self, RecipeError> {
        RecipeKeys::parse(text)?.resolve(model)
    }

    /// The recipe as TOML with every key; [`Recipe::parse`] returns an equal recipe.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|e| unreachable!("a recipe is plain TOML: {e}"))
    }

    /// The recipe as one line of JSON, for the metadata of checkpoints and models.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|e| unreachable!("a recipe is plain JSON: {e}"))
    }
}

impl Serialize for Recipe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RecipeKeys::from(self.clone()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Recipe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = RecipeKeys::deserialize(deserializer)?;
        keys.resolve(None).map_err(serde::de::Error::custom)
    }
}

/// The normalisation that a kind of network is trained with.
fn published_norm(block: BlockKind) -> Norm {
    match block {
        BlockKind::WdsrA | BlockKind::WdsrB => Norm::Weight,
        _ => Norm::None,
    }
}

impl From<NetworkKeys> for NetworkConfig {
    fn from(keys: NetworkKeys) -> Self {
        let NetworkKeys {
            block,
            features,
            blocks,
            scale,
            ..
        } = keys;
        let published = match block {
            BlockKind::WdsrA => Self::wdsr_a(features, blocks, scale),
            BlockKind::WdsrB => Self::wdsr_b(features, blocks, scale),
            BlockKind::Edsr => Self::edsr(features, blocks, scale),
            BlockKind::Compact => Self::compact(features, blocks, scale),
            BlockKind::MsrResNet => Self::msr_resnet(features, blocks, scale),
            BlockKind::Rrdb => Self::rrdb(features, blocks, scale),
        };
        Self {
            expansion: keys.expansion.unwrap_or(published.expansion),
            low_rank: keys.low_rank.unwrap_or(published.low_rank),
            norm: keys.norm.unwrap_or(published_norm(block)),
            residual_scale: keys.residual_scale,
            mean: keys.mean,
            ..published
        }
    }
}

impl From<TrainingKeys> for Training {
    fn from(keys: TrainingKeys) -> Self {
        let epsilon = keys.charbonnier_epsilon.unwrap_or(CHARBONNIER_EPSILON);
        let weight = keys.fft_weight.unwrap_or(FFT_WEIGHT);
        Self {
            updates: keys.updates,
            batch: keys.batch,
            patch_px: keys.patch_px,
            least_detail: keys.least_detail,
            branches: keys.branches,
            precision: match keys.precision {
                PrecisionKey::F32 => Precision::F32,
                PrecisionKey::Bf16 => Precision::Bf16,
            },
            int8: keys.int8,
            seed: keys.seed,
            loss: match keys.loss {
                LossKind::L1 => Loss::L1,
                LossKind::L2 => Loss::L2,
                LossKind::Charbonnier => Loss::Charbonnier { epsilon },
                LossKind::Fft => Loss::Fft { weight },
            },
            gradient_clip_norm: keys.gradient_clip_norm,
            average_decay: keys.average_decay,
            rollbacks: keys.rollbacks,
            rollback_factor: keys.rollback_factor,
        }
    }
}

impl ScheduleKeys {
    fn resolve(self, norm: Norm, updates: u64) -> Schedule {
        let learning_rate = self.learning_rate.unwrap_or(match norm {
            Norm::Weight => LEARNING_RATE_WEIGHT_NORM,
            Norm::Batch | Norm::None => LEARNING_RATE_PLAIN,
        });
        let final_learning_rate = self.final_learning_rate.unwrap_or(FINAL_LEARNING_RATE);
        let share_of_updates = |(numerator, denominator): (u64, u64)| {
            let wide = u128::from(updates) * u128::from(numerator) / u128::from(denominator);
            u64::try_from(wide).unwrap_or(u64::MAX)
        };
        let warm_up_updates = match self.kind {
            DecayKind::OneCycle => share_of_updates(ONE_CYCLE_WARM_UP),
            _ => 0,
        };
        Schedule {
            learning_rate,
            warm_up_updates: self.warm_up_updates.unwrap_or(warm_up_updates),
            decay: match self.kind {
                DecayKind::Constant => Decay::Constant {
                    cool_down: match self.cool_down_updates {
                        None | Some(0) => None,
                        Some(updates) => Some(CoolDown {
                            updates,
                            final_learning_rate,
                        }),
                    },
                },
                DecayKind::Cosine => Decay::Cosine {
                    final_learning_rate,
                },
                DecayKind::OneCycle => Decay::OneCycle {
                    final_learning_rate,
                },
                DecayKind::Step => Decay::Step {
                    milestones: self
                        .milestones
                        .unwrap_or_else(|| vec![share_of_updates(MILESTONE)]),
                    factor: self.factor.unwrap_or(MILESTONE_FACTOR),
                },
            },
        }
    }
}

impl From<Recipe> for RecipeKeys {
    fn from(recipe: Recipe) -> Self {
        let network = recipe.network;
        Self {
            network: Some(NetworkKeys {
                block: network.block,
                features: network.features,
                blocks: network.blocks,
                expansion: Some(network.expansion),
                low_rank: Some(network.low_rank),
                norm: Some(network.norm),
                scale: network.scale,
                residual_scale: network.residual_scale,
                mean: network.mean,
            }),
            start: recipe.start,
            teacher: recipe.teacher,
            degradation: recipe.degradation,
            strength: recipe.strength,
            data: recipe.data,
            training: recipe.training.into(),
            schedule: recipe.schedule.into(),
            validation: recipe.validation,
        }
    }
}

impl From<Training> for TrainingKeys {
    fn from(training: Training) -> Self {
        let (loss, charbonnier_epsilon, fft_weight) = match training.loss {
            Loss::L1 => (LossKind::L1, None, None),
            Loss::L2 => (LossKind::L2, None, None),
            Loss::Charbonnier { epsilon } => (LossKind::Charbonnier, Some(epsilon), None),
            Loss::Fft { weight } => (LossKind::Fft, None, Some(weight)),
        };
        Self {
            updates: training.updates,
            batch: training.batch,
            patch_px: training.patch_px,
            least_detail: training.least_detail,
            branches: training.branches,
            precision: match training.precision {
                Precision::F32 => PrecisionKey::F32,
                Precision::Bf16 => PrecisionKey::Bf16,
                Precision::Int8 => unreachable!("a training in int8"),
            },
            int8: training.int8,
            seed: training.seed,
            loss,
            charbonnier_epsilon,
            fft_weight,
            gradient_clip_norm: training.gradient_clip_norm,
            average_decay: training.average_decay,
            rollbacks: training.rollbacks,
            rollback_factor: training.rollback_factor,
        }
    }
}

impl From<Schedule> for ScheduleKeys {
    fn from(schedule: Schedule) -> Self {
        let keys = Self {
            learning_rate: Some(schedule.learning_rate),
            warm_up_updates: Some(schedule.warm_up_updates),
            ..Self::default()
        };
        match schedule.decay {
            Decay::Constant { cool_down } => Self {
                kind: DecayKind::Constant,
                cool_down_updates: cool_down.map(|c| c.updates),
                final_learning_rate: cool_down.map(|c| c.final_learning_rate),
                ..keys
            },
            Decay::Cosine {
                final_learning_rate,
            } => Self {
                kind: DecayKind::Cosine,
                final_learning_rate: Some(final_learning_rate),
                ..keys
            },
            Decay::OneCycle {
                final_learning_rate,
            } => Self {
                kind: DecayKind::OneCycle,
                final_learning_rate: Some(final_learning_rate),
                ..keys
            },
            Decay::Step { milestones, factor } => Self {
                kind: DecayKind::Step,
                milestones: Some(milestones),
                factor: Some(factor),
                ..keys
            },
        }
    }
}
