//! Ranges of a recipe's values.

use wdsr_degrade::{Per, Stage};
use wdsr_eval::Track;
use wdsr_model::{BlockKind, Norm, Precision};

use super::{Decay, Initialization, Loss, Recipe, Teacher};
use crate::error::RecipeError;

/// Maximum of high-resolution pixels in an update: a hundred times what is published, 0.8 GB.
const MAX_BATCH_PIXELS: usize = 1 << 26;

fn out_of_range(key: &'static str, found: impl ToString, expected: impl ToString) -> RecipeError {
    RecipeError::OutOfRange {
        key,
        found: found.to_string(),
        expected: expected.to_string(),
    }
}

/// Checks the values of a recipe.
pub(super) fn check(recipe: &Recipe) -> Result<(), RecipeError> {
    let block = recipe.network.block;
    if !block.is_trained() {
        let found = block.name();
        return Err(out_of_range(
            "network.block",
            found,
            "wdsr-a, wdsr-b or edsr",
        ));
    }
    recipe
        .network
        .validate()
        .map_err(|e| RecipeError::Network(e.to_string()))?;
    check_start(recipe)?;
    check_training(recipe)?;
    if recipe.training.int8 {
        check_int8(recipe)?;
    }
    check_schedule(recipe)?;
    check_folders(recipe)?;
    check_degradation(recipe)?;
    if let Some(Teacher { weight, .. }) = recipe.teacher
        && !(0.0..=1.0).contains(&weight)
    {
        return Err(out_of_range("teacher.weight", weight, "0 to 1"));
    }
    Ok(())
}

fn check_degradation(recipe: &Recipe) -> Result<(), RecipeError> {
    let scale = recipe.network.scale;
    if let Some(degradation) = &recipe.degradation {
        degradation
            .check(scale)
            .and_then(|()| degradation.check_patch(scale, recipe.training.patch_px))
            .map_err(RecipeError::Degradation)?;
        let data = &recipe.data;
        let without_effect = [
            ("data.track", data.track != Track::Bicubic),
            ("data.shifts", data.shifts.is_some()),
        ];
        if let Some((key, _)) = without_effect.into_iter().find(|(_, is_set)| *is_set) {
            let other = "[degradation], which makes the low-resolution images";
            return Err(RecipeError::Excluded { key, other });
        }
    }
    let Some(strength) = &recipe.strength else {
        return Ok(());
    };
    let [min, max] = strength.range;
    if !(0.0 <= min && min <= max && max <= 1.0) {
        let found = format!("[{min}, {max}]");
        let expected = "[smallest, largest] from 0 to 1";
        return Err(out_of_range("strength.range", found, expected));
    }
    let is_damage = |stage: &Stage| matches!(stage, Stage::Noise(_) | Stage::Jpeg(_));
    let stages = || recipe.degradation.iter().flat_map(|d| &d.stages);
    if stages().any(|stage| is_damage(stage) && stage.per() != Per::Patch) {
        return Err(RecipeError::Excluded {
            key: "degradation.stages[].per of noise or jpeg",
            other: "[strength], which each update draws anew",
        });
    }
    if !stages().any(is_damage) {
        return Err(RecipeError::NoEffect {
            key: "strength",
            needs: "a [[degradation.stages]] of kind \"noise\" or \"jpeg\"",
        });
    }
    if strength.clean.is_none() && scale != 1 {
        return Err(RecipeError::NoCleanModel { scale });
    }
    if recipe.network.norm == Norm::Batch {
        return Err(RecipeError::NoEffect {
            key: "strength",
            needs: "network.norm = \"weight\" or \"none\"",
        });
    }
    if scale == 1 && strength.clean.is_none() && recipe.network.block == BlockKind::Edsr {
        return Err(RecipeError::NoEffect {
            key: "strength without strength.clean",
            needs: "network.block = \"wdsr-a\" or \"wdsr-b\"",
        });
    }
    Ok(())
}

fn check_start(recipe: &Recipe) -> Result<(), RecipeError> {
    let norm = recipe.network.norm;
    if recipe.start.initialization == Initialization::Reloaded && norm != Norm::Weight {
        return Err(RecipeError::NoEffect {
            key: "start.initialization = \"reloaded\"",
            needs: "network.norm = \"weight\"",
        });
    }
    if recipe.start.insert_blocks && recipe.start.from.is_none() {
        return Err(RecipeError::NoEffect {
            key: "start.insert_blocks",
            needs: "start.from, the model whose blocks are spread",
        });
    }
    Ok(())
}

fn check_int8(recipe: &Recipe) -> Result<(), RecipeError> {
    let (key, network) = ("training.int8", &recipe.network);
    if recipe.strength.is_some() {
        let other = "[strength], whose weights are mixed for each image";
        return Err(RecipeError::Excluded { key, other });
    }
    if recipe.start.insert_blocks {
        let other = "start.insert_blocks, whose new blocks have no scales";
        return Err(RecipeError::Excluded { key, other });
    }
    let needed = [
        (
            recipe.start.from.is_some(),
            "start.from, a model with scales for int8",
        ),
        (
            network.norm != Norm::Batch,
            "network.norm = \"weight\" or \"none\"",
        ),
        (network.residual_scale == 1.0, "network.residual_scale = 1"),
        (
            recipe.training.precision == Precision::F32,
            "training.precision = \"f32\"",
        ),
    ];
    match needed.into_iter().find(|(is_met, _)| !is_met) {
        Some((_, needs)) => Err(RecipeError::NoEffect { key, needs }),
        None => Ok(()),
    }
}

fn check_training(recipe: &Recipe) -> Result<(), RecipeError> {
    let training = &recipe.training;
    for (key, value) in [
        ("training.updates", training.updates),
        ("training.batch", training.batch as u64),
        ("training.patch_px", training.patch_px as u64),
        ("validation.every_updates", recipe.validation.every_updates),
    ] {
        if value == 0 {
            return Err(out_of_range(key, value, "at least 1"));
        }
    }
    let side_px = training.patch_px.saturating_mul(recipe.network.scale);
    let pixels = side_px
        .saturating_mul(side_px)
        .saturating_mul(training.batch);
    if pixels > MAX_BATCH_PIXELS {
        return Err(RecipeError::BatchTooLarge {
            found: pixels,
            most: MAX_BATCH_PIXELS,
        });
    }
    let decay = training.average_decay;
    if !(0.0..1.0).contains(&decay) {
        return Err(out_of_range(
            "training.average_decay",
            decay,
            "at least 0 and below 1",
        ));
    }
    let of_loss = match training.loss {
        Loss::L1 | Loss::L2 => None,
        Loss::Charbonnier { epsilon } => Some(("training.charbonnier_epsilon", epsilon)),
        Loss::Fft { weight } => Some(("training.fft_weight", weight)),
    };
    let rest = [
        ("training.gradient_clip_norm", training.gradient_clip_norm),
        ("training.rollback_factor", training.rollback_factor),
        ("training.least_detail", training.least_detail),
    ];
    rest.into_iter()
        .chain(of_loss)
        .try_for_each(check_not_negative)
}

fn check_schedule(recipe: &Recipe) -> Result<(), RecipeError> {
    let (schedule, updates) = (&recipe.schedule, recipe.training.updates);
    check_not_negative(("schedule.learning_rate", schedule.learning_rate))?;
    match &schedule.decay {
        Decay::Constant { cool_down } => {
            if let Some(cool_down) = cool_down {
                check_not_negative((
                    "schedule.final_learning_rate",
                    cool_down.final_learning_rate,
                ))?;
                if cool_down.updates > updates {
                    return Err(out_of_range(
                        "schedule.cool_down_updates",
                        cool_down.updates,
                        format!("at most training.updates, {updates}"),
                    ));
                }
            }
        }
        Decay::Cosine {
            final_learning_rate,
        }
        | Decay::OneCycle {
            final_learning_rate,
        } => check_not_negative(("schedule.final_learning_rate", *final_learning_rate))?,
        Decay::Step { milestones, factor } => {
            check_not_negative(("schedule.factor", *factor))?;
            if let Some(late) = milestones.iter().find(|m| **m >= updates) {
                let expected = format!("milestones below training.updates, {updates}");
                return Err(out_of_range("schedule.milestones", late, expected));
            }
        }
    }
    if schedule.warm_up_updates > updates {
        return Err(out_of_range(
            "schedule.warm_up_updates",
            schedule.warm_up_updates,
            format!("at most training.updates, {updates}"),
        ));
    }
    Ok(())
}

fn check_folders(recipe: &Recipe) -> Result<(), RecipeError> {
    let folders = &recipe.data.folders;
    let weights: Vec<f64> = folders.iter().filter_map(|f| f.weight).collect();
    if let Some(wrong) = weights.iter().find(|w| !w.is_finite() || **w <= 0.0) {
        let key = "data.folders[].weight";
        return Err(out_of_range(key, wrong, "a number above 0"));
    }
    if !weights.is_empty() && weights.len() != folders.len() {
        return Err(RecipeError::MissingWeights {
            weights: weights.len(),
            folders: folders.len(),
        });
    }
    Ok(())
}

fn check_not_negative((key, value): (&'static str, f64)) -> Result<(), RecipeError> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(out_of_range(key, value, "a finite number of at least 0"))
    }
}
