//! The weights at strength 0, of a recipe with `[strength]`: they stay as they are.

use std::collections::BTreeMap;
use std::path::Path;

use wdsr_model::{ConvWeights, Model, Network, NetworkConfig, Norm};

use crate::checkpoint::load_model;
use crate::error::Error;
use crate::recipe::Recipe;
use crate::run_folder::CLEAN_MODEL;

/// The model at strength 0: that of the run in `folder` if it is resumed, else the recipe's, which is
/// copied there. `first` are the first weights in training.
///
/// # Errors
/// If a file cannot be read or written, or the model has another network than the recipe.
pub(crate) fn clean_model(
    recipe: &Recipe,
    folder: &Path,
    resume: bool,
    network: &Network,
    first: impl FnOnce() -> Vec<ConvWeights>,
) -> Result<Option<Model>, Error> {
    let Some(strength) = &recipe.strength else {
        return Ok(None);
    };
    let own = folder.join(CLEAN_MODEL);
    let path = match &strength.clean {
        Some(path) if !resume => path,
        _ => &own,
    };
    let model = match &strength.clean {
        None if !resume => identity(network, first()),
        _ => load_model(path)?,
    };
    let expected = NetworkConfig {
        norm: Norm::None,
        ..recipe.network.clone()
    };
    if *model.config() != expected {
        return Err(Error::CleanNetwork {
            path: path.clone(),
            expected: format!("{expected:?}"),
            found: format!("{:?}", model.config()),
        });
    }
    if !resume {
        model.save(&own)?;
    }
    Ok(Some(model))
}

/// A network of scale 1 that returns its input: no colours from the tail, and a skip of one tap.
fn identity(network: &Network, mut convs: Vec<ConvWeights>) -> Model {
    for (conv, weights) in network.convs.iter().zip(&mut convs) {
        let is_skip = conv.name == "skip.0";
        if is_skip || conv.name == "tail.0" {
            weights.weight.fill(0.0);
            weights.bias.fill(0.0);
        }
        if is_skip {
            let taps = conv.kernel * conv.kernel;
            for channel in 0..conv.out_channels {
                let of_channel = (channel * conv.in_channels + channel) * taps;
                weights.weight[of_channel + taps / 2] = 1.0;
            }
        }
    }
    Model::new(&network.config, convs, BTreeMap::new())
}
