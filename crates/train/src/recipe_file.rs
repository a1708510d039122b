//! Recipes in files. A recipe without a `[network]` table takes its network from a model or a
//! checkpoint.

use std::path::{Path, PathBuf};

use wdsr_model::{Model, NetworkConfig};

use crate::checkpoint::{load_model, load_recipe};
use crate::error::Error;
use crate::recipe::keys::RecipeKeys;
use crate::recipe::{Recipe, Shifts};

impl Recipe {
    /// Reads and checks a recipe. `from` overrides the model or checkpoint to start from. Without a
    /// `[network]` table the network is that model's, with the normalisation that its kind is
    /// trained with.
    ///
    /// # Errors
    /// If the recipe or the model cannot be read, or the recipe is invalid
    /// ([`RecipeError`](crate::RecipeError)).
    pub fn load(path: &Path, from: Option<&Path>) -> Result<Self, Error> {
        let mut keys = read_keys(path)?;
        if let Some(from) = from {
            keys.start.from = Some(absolute(from)?);
        }
        let model = match &keys.start.from {
            Some(from) if keys.network.is_none() => Some(load_model(from)?),
            _ => None,
        };
        resolve(keys, path, model.as_ref().map(Model::config))
    }

    /// Reads and checks the recipe of a run that is resumed. Without a `[network]` table the
    /// network is the checkpoint's; the model that the run started from always is.
    ///
    /// # Errors
    /// As [`Recipe::load`], and if the checkpoint cannot be read.
    pub fn load_to_resume(path: &Path, checkpoint: &Path) -> Result<Self, Error> {
        let mut keys = read_keys(path)?;
        let written = load_recipe(checkpoint)?;
        keys.start = written.start;
        resolve(keys, path, Some(&written.network))
    }
}

/// Reads the keys of a recipe and makes its paths, which are relative to its folder, absolute.
fn read_keys(path: &Path) -> Result<RecipeKeys, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, "read", source))?;
    let mut keys = RecipeKeys::parse(&text).map_err(|source| Error::Recipe {
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
