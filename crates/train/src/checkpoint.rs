//! Checkpoints: files from which a training is resumed to the same bits.
//!
//! A checkpoint is a safetensors file. Its tensors are `parameters/KEY`, `average/KEY`,
//! `first_moment/KEY` and `second_moment/KEY` for each tensor in training, and the running statistics
//! of batch normalisation. Its metadata has the recipe, the rest of the [`TrainingState`] and a
//! checksum of the tensors.

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use wdsr_model::{Model, Network};

use crate::error::{CheckpointError, Error};
use crate::optimizer::Adam;
use crate::parameters::{ParameterLayout, RunningStatistics};
use crate::recipe::Recipe;
use crate::state::{InputFingerprints, TrainingState};

const FORMAT: &str = "wdsr-checkpoint";
const VERSION: &str = "1";
/// Key of the checksum in the metadata.
const CHECKSUM: &str = "crc32c";

/// Writes a checkpoint, completely or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn save(
    path: &Path,
    state: &TrainingState,
    recipe: &Recipe,
    network: &Network,
    layout: &ParameterLayout,
) -> Result<(), Error> {
    let tensors = tensors(state, network, layout);
    let views = tensors.iter().map(|(name, shape, data)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), data)
            .unwrap_or_else(|e| unreachable!("shape {shape:?} of {name}: {e}"));
        (name.clone(), view)
    });
    let mut metadata = state_metadata(state);
    metadata.extend([
        ("format".to_owned(), FORMAT.to_owned()),
        ("version".to_owned(), VERSION.to_owned()),
        ("recipe".to_owned(), recipe.to_json()),
        (
            CHECKSUM.to_owned(),
            checksum(tensors.iter().map(|(name, _, data)| (&name[..], &data[..]))),
        ),
    ]);
    let bytes = safetensors::serialize(views, Some(metadata))
        .unwrap_or_else(|e| unreachable!("valid tensors serialise: {e}"));
    wdsr_image::write_atomically(path, &bytes)?;
    Ok(())
}

/// Name, shape and bytes of each tensor of a checkpoint.
fn tensors(
    state: &TrainingState,
    network: &Network,
    layout: &ParameterLayout,
) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let mut tensors = Vec::new();
    let mut push = |name: String, shape: &[usize], values: &[f32]| {
        let words: Vec<_> = values.iter().map(|v| v.to_le_bytes()).collect();
        tensors.push((name, shape.to_vec(), words.into_flattened()));
    };
    for (part, values) in state.vectors() {
        for tensor in &layout.tensors {
            let name = format!("{part}/{}", tensor.name);
            push(name, &tensor.shape, &values[tensor.range.clone()]);
        }
    }
    for (norm, running) in network.batch_norms.iter().zip(&state.running) {
        let (name, shape) = (&norm.name, [norm.channels]);
        push(format!("running_mean/{name}"), &shape, &running.mean);
        push(format!("running_var/{name}"), &shape, &running.variance);
    }
    tensors
}

/// The scalars of a state; what is `None` is an empty text.
fn state_metadata(state: &TrainingState) -> HashMap<String, String> {
    fn optional<T: ToString>(value: &Option<T>) -> String {
        value.as_ref().map(T::to_string).unwrap_or_default()
    }
    let entries = [
        ("updates", state.updates.to_string()),
        ("best_psnr_db", optional(&state.best_psnr_db)),
        ("seconds", state.seconds.to_string()),
        ("unvalidated_updates", state.unvalidated_updates.to_string()),
        ("unvalidated_losses", state.unvalidated_losses.to_string()),
        ("rollbacks", state.rollbacks.to_string()),
        (
            "learning_rate_factor",
            state.learning_rate_factor.to_string(),
        ),
        ("went_back_to", optional(&state.rolled_back_to)),
        ("images", optional(&state.inputs.dataset)),
        ("teacher", optional(&state.inputs.teacher)),
    ];
    let owned = entries.map(|(key, value)| (key.to_owned(), value));
    HashMap::from(owned)
}

/// Reads a checkpoint of a recipe.
///
/// # Errors
/// If the file cannot be read, is corrupt, or was written by another recipe.
pub fn load(
    path: &Path,
    recipe: &Recipe,
    network: &Network,
    layout: &ParameterLayout,
) -> Result<TrainingState, Error> {
    let bytes = read(path)?;
    let state = Metadata::parse(&bytes).and_then(|metadata| {
        let difference = recipe.difference_after(&metadata.recipe()?, metadata.number("updates")?);
        match difference {
            Some(difference) => Err(CheckpointError::OtherRecipe(difference)),
            None => parse(&bytes, &metadata, network, layout),
        }
    });
    state.map_err(|source| in_file(path, source))
}

/// Reads the recipe of a checkpoint and the updates done.
///
/// # Errors
/// If the file cannot be read or is no checkpoint.
pub fn load_recipe(path: &Path) -> Result<(Recipe, u64), Error> {
    let metadata = Metadata::parse(&read(path)?);
    let recipe = metadata.and_then(|m| Ok((m.recipe()?, m.number("updates")?)));
    recipe.map_err(|source| in_file(path, source))
}

/// Reads the fingerprints of a checkpoint's inputs.
///
/// # Errors
/// If the file cannot be read or is no checkpoint.
pub fn load_inputs(path: &Path) -> Result<InputFingerprints, Error> {
    let metadata = Metadata::parse(&read(path)?).map_err(|source| in_file(path, source))?;
    Ok(metadata.inputs())
}

/// Reads the model of a model file or of a checkpoint.
///
/// # Errors
/// If the file cannot be read, is neither, or is corrupt.
pub fn load_model(path: &Path) -> Result<Model, Error> {
    parse_model(&read(path)?, path)
}

/// Parses the content of a model file or of a checkpoint; `path` is for messages.
pub(crate) fn parse_model(bytes: &[u8], path: &Path) -> Result<Model, Error> {
    let Ok(metadata) = Metadata::parse(bytes) else {
        return Ok(Model::from_bytes(bytes, path)?);
    };
    let model = metadata.recipe().and_then(|recipe| {
        let network = Network::for_training(&recipe.network);
        let layout = ParameterLayout::new(&network, recipe.training.branches);
        let state = parse(bytes, &metadata, &network, &layout)?;
        Ok(state.model(&recipe, &network, &layout))
    });
    model.map_err(|source| in_file(path, source))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::io(path, "read", source))
}

fn in_file(path: &Path, source: CheckpointError) -> Error {
    let path = path.to_owned();
    Error::Checkpoint { path, source }
}

/// The state in a checkpoint.
fn parse(
    bytes: &[u8],
    metadata: &Metadata,
    network: &Network,
    layout: &ParameterLayout,
) -> Result<TrainingState, CheckpointError> {
    let tensors = SafeTensors::deserialize(bytes).map_err(CheckpointError::Incomplete)?;
    if let Some(expected) = metadata.text(CHECKSUM) {
        let found = checksum(tensors.iter().map(|(name, view)| (name, view.data())));
        if found != expected {
            let expected = expected.to_owned();
            return Err(CheckpointError::Checksum { expected, found });
        }
    }
    let vector = |part: &str| -> Result<Vec<f32>, CheckpointError> {
        let mut values = Vec::with_capacity(layout.len());
        for tensor in &layout.tensors {
            let name = format!("{part}/{}", tensor.name);
            values.extend(tensor_values(&tensors, &name, &tensor.shape)?);
        }
        Ok(values)
    };
    let running = network.batch_norms.iter().map(|norm| {
        let (name, shape) = (&norm.name, [norm.channels]);
        Ok(RunningStatistics {
            mean: tensor_values(&tensors, &format!("running_mean/{name}"), &shape)?,
            variance: tensor_values(&tensors, &format!("running_var/{name}"), &shape)?,
        })
    });
    let updates = metadata.number("updates")?;
    let state = TrainingState {
        updates,
        parameters: vector("parameters")?,
        average: vector("average")?,
        adam: Adam {
            first_moment: vector("first_moment")?,
            second_moment: vector("second_moment")?,
            updates,
        },
        running: running.collect::<Result<_, CheckpointError>>()?,
        best_psnr_db: metadata.optional("best_psnr_db")?,
        seconds: metadata.number("seconds")?,
        // Checkpoints of older versions have none of the following.
        unvalidated_updates: metadata.optional("unvalidated_updates")?.unwrap_or(0),
        unvalidated_losses: metadata.optional("unvalidated_losses")?.unwrap_or(0.0),
        rollbacks: metadata.optional("rollbacks")?.unwrap_or(0),
        learning_rate_factor: metadata.optional("learning_rate_factor")?.unwrap_or(1.0),
        rolled_back_to: metadata.optional("went_back_to")?,
        inputs: metadata.inputs(),
    };
    if !state.is_finite() {
        return Err(CheckpointError::NotFinite);
    }
    Ok(state)
}

fn tensor_values(
    tensors: &SafeTensors<'_>,
    name: &str,
    shape: &[usize],
) -> Result<Vec<f32>, CheckpointError> {
    let view = tensors
        .tensor(name)
        .map_err(|_| CheckpointError::MissingTensor(name.to_owned()))?;
    if view.shape() != shape || view.dtype() != Dtype::F32 {
        return Err(CheckpointError::TensorShape {
            name: name.to_owned(),
            found: format!("{:?} {:?}", view.dtype(), view.shape()),
            expected: shape.to_vec(),
        });
    }
    let (chunks, _) = view.data().as_chunks::<4>();
    Ok(chunks
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect())
}

/// CRC-32C of the names and bytes of all tensors, by name.
fn checksum<'t>(tensors: impl Iterator<Item = (&'t str, &'t [u8])>) -> String {
    let mut tensors: Vec<(&str, &[u8])> = tensors.collect();
    tensors.sort_by_key(|(name, _)| *name);
    let crc = tensors.iter().fold(0, |crc, (name, data)| {
        crc32c::crc32c_append(crc32c::crc32c_append(crc, name.as_bytes()), data)
    });
    format!("{crc:08x}")
}

/// The metadata of a checkpoint.
struct Metadata(HashMap<String, String>);

impl Metadata {
    fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(CheckpointError::Incomplete)?;
        let metadata = Self(header.metadata().clone().unwrap_or_default());
        let field = |key| metadata.text(key).unwrap_or_default();
        if (field("format"), field("version")) != (FORMAT, VERSION) {
            return Err(CheckpointError::Format {
                format: field("format").to_owned(),
                version: field("version").to_owned(),
            });
        }
        Ok(metadata)
    }

    /// The text of a key; none if it is empty.
    fn text(&self, key: &str) -> Option<&str> {
        let text = self.0.get(key).map(String::as_str);
        text.filter(|text| !text.is_empty())
    }

    fn optional<T: FromStr>(&self, key: &'static str) -> Result<Option<T>, CheckpointError> {
        let parse = |text: &str| {
            text.parse().map_err(|_| CheckpointError::Number {
                key,
                found: text.to_owned(),
            })
        };
        self.text(key).map(parse).transpose()
    }

    fn number<T: FromStr>(&self, key: &'static str) -> Result<T, CheckpointError> {
        self.optional(key)?.ok_or(CheckpointError::Number {
            key,
            found: String::new(),
        })
    }

    fn recipe(&self) -> Result<Recipe, CheckpointError> {
        let json = self.text("recipe").unwrap_or_default();
        serde_json::from_str(json).map_err(|e| CheckpointError::Recipe(e.to_string()))
    }

    fn inputs(&self) -> InputFingerprints {
        let owned = |key| self.text(key).map(str::to_owned);
        InputFingerprints {
            dataset: owned("images"),
            teacher: owned("teacher"),
        }
    }
}
