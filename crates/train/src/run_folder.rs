//! The files of a run.
//!
//! - `last.checkpoint`: the state at the last validation, which `--resume` continues from;
//!   `best.checkpoint`: the state at the best validation
//! - `stable.checkpoint`: the state before a cool-down, from which the run can be lengthened
//! - `model.safetensors`: the model at the last validation; `best.safetensors`: at the best one
//! - `cooled-UPDATES.safetensors`: the model after a cool-down that ended at that update
//! - `clean.safetensors`: the model at strength 0, of a recipe with `[strength]`
//! - `int8.safetensors`: the model that a recipe with `training.int8` starts from, whose scales it keeps
//! - `metrics.jsonl`: one line for each validation
//! - `recipe.toml`: the recipe with all defaults

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::Error;

/// The checkpoint of the last validation.
pub const LAST_CHECKPOINT: &str = "last.checkpoint";
/// The checkpoint of the best validation.
pub const BEST_CHECKPOINT: &str = "best.checkpoint";
/// The checkpoint before the cool-down.
pub const STABLE_CHECKPOINT: &str = "stable.checkpoint";
/// The model of the last validation.
pub const LAST_MODEL: &str = "model.safetensors";
/// The model of the best validation.
pub const BEST_MODEL: &str = "best.safetensors";
/// The model at strength 0, of a recipe with `[strength]`.
pub const CLEAN_MODEL: &str = "clean.safetensors";
/// The model whose scales a recipe with `training.int8` keeps.
pub const INT8_MODEL: &str = "int8.safetensors";
/// The metrics log.
pub const METRICS: &str = "metrics.jsonl";
/// The recipe with all defaults.
pub const RECIPE: &str = "recipe.toml";
/// Locked by the process that trains in the folder.
const LOCK: &str = ".wdsr-lock";

/// All files that a trainer replaces.
pub const FILES: [&str; 10] = [
    LOCK,
    RECIPE,
    LAST_CHECKPOINT,
    BEST_CHECKPOINT,
    STABLE_CHECKPOINT,
    METRICS,
    LAST_MODEL,
    BEST_MODEL,
    CLEAN_MODEL,
    INT8_MODEL,
];

/// The model after a cool-down that ended after so many updates.
pub fn cooled_model(updates: u64) -> String {
    format!("cooled-{updates}.safetensors")
}

/// Locks a folder for this process until the returned file is closed, however the process ends.
pub(crate) fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(|source| Error::io(&path, "write", source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::FolderInUse {
            folder: folder.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(Error::io(&path, "lock", source)),
    }
}
