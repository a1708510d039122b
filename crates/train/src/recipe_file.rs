//! Recipes in files. A recipe without a `[network]` table takes its network from a model or a
//! checkpoint.

use std::path::{Path, PathBuf};

use wdsr_model::{Model, NetworkConfig};

use crate::checkpoint::{load_model, load_recipe};
use crate::error::Error;
use crate::recipe::keys::RecipeKeys;
use crate::recipe::{Overrides, Recipe, Shifts};

impl Recipe {
    /// Reads and checks a recipe, with some values overridden. Without a `[network]` table the network is that model's, with the normalisation that its kind is
    /// trained with.
    ///
    /// # Errors
    /// If the recipe or the model cannot be read, or the recipe is invalid
    /// ([`RecipeError`](crate::RecipeError)).
    pub fn load(path: &Path, overrides: Overrides<'_>) -> Result<Self, Error> {
        let mut keys = read_keys(path, overrides)?;
        if let Some(from) = overrides.from {
            keys.start.from = Some(absolute(from)?);
        }
        let model = match &keys.start.from {
            Some(from) if keys.network.is_none() => Some(load_model(from)?),
            _ => None,
        };
        resolve(keys, path, model.as_ref().map(Model::config))
    }

    /// Reads and checks the recipe of a run that is resumed. Without a `[network]` table the
    /// network is the checkpoint's; the model that the run started from always is. A cool-down that
    /// overrides the recipe's begins at once, and so sets the number of updates too.
    ///
    /// # Errors
    /// As [`Recipe::load`], and if the checkpoint cannot be read.
    pub fn load_to_resume(
        path: &Path,
        mut overrides: Overrides<'_>,
        checkpoint: &Path,
    ) -> Result<Self, Error> {
        let (written, done) = load_recipe(checkpoint)?;
        if let Some(cool_down) = overrides.cool_down_updates {
            let stable = done.min(written.updates_before_cool_down());
            overrides.updates = overrides.updates.or(Some(stable.saturating_add(cool_down)));
        }
        let mut keys = read_keys(path, overrides)?;
        keys.start = written.start;
        resolve(keys, path, Some(&written.network))
    }
}

/// Reads the keys of a recipe and makes its paths, which are relative to its folder, absolute.
fn read_keys(path: &Path, overrides: Overrides<'_>) -> Result<RecipeKeys, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, "read", source))?;
    let keys = RecipeKeys::parse(&text).and_then(|mut keys| {
        keys.set_updates(overrides.updates, overrides.cool_down_updates)?;
        Ok(keys)
    });
    let mut keys = keys.map_err(|source| Error::Recipe {
        path: path.to_owned(),
        source,
    })?;
    let folder = absolute(&path.parent().unwrap_or(Path::new("")).join("."))?;
    let (start, data) = (&mut keys.start, &mut keys.data);
    let folders = data.folders.iter_mut().map(|folder| &mut folder.path);
    let teacher = keys.teacher.iter_mut().map(|teacher| &mut teacher.model);
    let strength = keys.strength.iter_mut();
    let clean = strength.filter_map(|strength| strength.clean.as_mut());
    let models = start.from.iter_mut().chain(teacher).chain(clean);
    let reports = match &mut data.shifts {
        Some(Shifts::Reports(paths)) => paths.as_mut_slice(),
        _ => &mut [],
    };
    let images = folders.chain(&mut data.validation).chain(reports);
    for path in images.chain(models) {
        *path = folder.join(&*path);
    }
    Ok(keys)
}

fn resolve(keys: RecipeKeys, path: &Path, model: Option<&NetworkConfig>) -> Result<Recipe, Error> {
    keys.resolve(model).map_err(|source| Error::Recipe {
        path: path.to_owned(),
        source,
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|source| Error::io(path, "find", source))
}
