//! The scales of a recipe with `training.int8`, which stay as they are.

use std::path::Path;

use wdsr_model::{Int8Scales, Model, NetworkConfig, Norm};

use crate::checkpoint::load_model;
use crate::error::Error;
use crate::recipe::Recipe;
use crate::run_folder::INT8_MODEL;

/// The scales for int8: those of the run in `folder` if it is resumed, else those of the model that the recipe starts from,
/// which is copied there.
///
/// # Errors
/// If a file cannot be read or written, or the model has no scales or another network than the recipe.
pub(crate) fn int8_scales(
    recipe: &Recipe,
    folder: &Path,
    resume: bool,
) -> Result<Option<Vec<Int8Scales>>, Error> {
    if !recipe.training.int8 {
        return Ok(None);
    }
    let own = folder.join(INT8_MODEL);
    let path = match &recipe.start.from {
        Some(path) if !resume => path,
        _ => &own,
    };
    let model = load_model(path)?;
    let expected = NetworkConfig {
        norm: Norm::None,
        ..recipe.network.clone()
    };
    if *model.config() != expected {
        return Err(Error::Int8Network {
            path: path.clone(),
            expected: format!("{expected:?}"),
            found: format!("{:?}", model.config()),
        });
    }
    let Some(scales) = model.int8() else {
        return Err(Error::NoInt8 { path: path.clone() });
    };
    let scales = scales.to_vec();
    if !resume {
        model.save(&own)?;
    }
    Ok(Some(scales))
}

/// The model with the biases that it has in int8.
pub(crate) fn with_int8_biases(model: Model) -> Model {
    let Some(scales) = model.int8() else {
        return model;
    };
    let mut convs = model.convs().to_vec();
    for (conv, scales) in model.network().int8_convs().zip(scales) {
        convs[conv].bias.clone_from(&scales.bias);
    }
    let scales = scales.to_vec();
    let (config, notes) = (model.config(), model.notes().clone());
    Model::new(config, convs, notes).with_int8(scales)
}

/// The trained model with its scales: the biases in int8 are those of the weights.
pub(crate) fn with_scales(model: Model, scales: &[Int8Scales]) -> Model {
    let convs = model.network().int8_convs();
    let scales = convs.zip(scales).map(|(conv, scales)| Int8Scales {
        bias: model.convs()[conv].bias.clone(),
        ..scales.clone()
    });
    let scales = scales.collect();
    model.with_int8(scales)
}
