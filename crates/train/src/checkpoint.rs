//! Everything a training needs to go on exactly where it stood.
//!
//! A checkpoint is a safetensors file: `parameters/KEY`, `first_moment/KEY`, `second_moment/KEY`
//! and `average/KEY` for each tensor in training, running statistics of batch normalisation, and
//! in its metadata the recipe, the number of updates done and what else a training remembers.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use wdsr_model::{Model, Network};

use crate::error::Error;
use crate::optimizer::Adam;
use crate::parameters::{Layout, RunningStatistics};
use crate::recipe::{Initialization, Recipe};

const FORMAT: &str = "wdsr-checkpoint";
const VERSION: &str = "1";
/// Key of the checksum in a checkpoint's metadata.
const CHECKSUM: &str = "crc32c";

/// The state of a training between two updates.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Updates done.
    pub updates: u64,
    /// The parameter vector.
    pub parameters: Vec<f32>,
    /// Its moving average.
    pub average: Vec<f32>,
    /// The optimiser's memory.
    pub adam: Adam,
    /// Of each batch normalisation.
    pub running: Vec<RunningStatistics>,
    /// The best validation so far, dB.
    pub best_psnr_db: Option<f64>,
    /// Time spent so far.
    pub seconds: f64,
    /// Times the training fell back to a checkpoint because its loss was not finite.
    pub rollbacks: u32,
    /// What the schedule's learning rate is multiplied with since.
    pub learning_rate_factor: f64,
    /// The update of the checkpoint that it fell back to last.
    pub went_back_to: Option<u64>,
    /// What it learns from.
    pub inputs: Inputs,
}

/// Fingerprints of what a training learns from beside its recipe; none where a checkpoint does not
/// say, or there is no such thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Of the images' names and sizes, [`crate::images::Images::fingerprint`].
    pub images: Option<String>,
    /// Of the teacher's file.
    pub teacher: Option<String>,
}

impl Inputs {
    /// What is not the same in both, in words; where one does not say, nothing is known.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
        if differ(&self.images, &other.images) {
            Some("images (names, sizes or weights differ)")
        } else if differ(&self.teacher, &other.teacher) {
            Some("teacher")
        } else {
            None
        }
    }
}

impl State {
    /// Before the first update.
    pub fn initial(
        network: &Network,
        layout: &Layout,
        initialization: Initialization,
        seed: u64,
    ) -> Self {
        let parameters = layout.initial(network, initialization, seed);
        let channels = network.batch_norms.iter().map(|norm| norm.channels);
        Self {
            updates: 0,
            average: parameters.clone(),
            adam: Adam::new(parameters.len()),
            parameters,
            running: channels.map(RunningStatistics::new).collect(),
            best_psnr_db: None,
            seconds: 0.0,
            rollbacks: 0,
            learning_rate_factor: 1.0,
            went_back_to: None,
            inputs: Inputs::default(),
        }
    }

    /// Whether every number of the state is finite.
    pub fn is_finite(&self) -> bool {
        let vectors = self.vectors().into_iter();
        let running = self.running.iter().flat_map(|r| [&r.mean, &r.variance]);
        vectors
            .map(|(_, values)| values)
            .chain(running)
            .all(|values| values.iter().all(|v| v.is_finite()))
    }

    /// The model as it stands: averaged weights where the recipe averages.
    pub fn model(&self, recipe: &Recipe, network: &Network, layout: &Layout) -> Model {
        let convs = layout.folded(network, &self.average, &self.running);
        let mut notes = BTreeMap::from([
            ("recipe".to_owned(), recipe.to_json()),
            ("updates".to_owned(), self.updates.to_string()),
        ]);
        if let Some(psnr_db) = self.best_psnr_db {
            notes.insert("best_psnr_db".to_owned(), psnr_db.to_string());
        }
        Model::new(&recipe.network, convs, notes)
    }

    /// Writes the checkpoint, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(
        &self,
        path: &Path,
        recipe: &Recipe,
        network: &Network,
        layout: &Layout,
    ) -> Result<(), Error> {
        let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        let mut push = |name: String, shape: &[usize], values: &[f32]| {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            tensors.push((name, shape.to_vec(), bytes));
        };
        for (part, values) in self.vectors() {
            for slot in &layout.slots {
                let name = format!("{part}/{}", slot.name);
                push(name, &slot.shape, &values[slot.range.clone()]);
            }
        }
        for (norm, running) in network.batch_norms.iter().zip(&self.running) {
            let shape = [norm.channels];
            push(format!("running_mean/{}", norm.name), &shape, &running.mean);
            push(
                format!("running_var/{}", norm.name),
                &shape,
                &running.variance,
            );
        }
        let views = tensors.iter().map(|(name, shape, data)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), data)
                .unwrap_or_else(|e| unreachable!("shape {shape:?} of {name}: {e}"));
            (name.clone(), view)
        });
        let optional = |value: &Option<String>| value.clone().unwrap_or_default();
        let metadata = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("version".to_owned(), VERSION.to_owned()),
            ("recipe".to_owned(), recipe.to_json()),
            ("updates".to_owned(), self.updates.to_string()),
            (
                "best_psnr_db".to_owned(),
                optional(&self.best_psnr_db.map(|v| v.to_string())),
            ),
            ("seconds".to_owned(), self.seconds.to_string()),
            ("rollbacks".to_owned(), self.rollbacks.to_string()),
            (
                "learning_rate_factor".to_owned(),
                self.learning_rate_factor.to_string(),
            ),
            (
                "went_back_to".to_owned(),
                optional(&self.went_back_to.map(|v| v.to_string())),
            ),
            ("images".to_owned(), optional(&self.inputs.images)),
            ("teacher".to_owned(), optional(&self.inputs.teacher)),
            (
                CHECKSUM.to_owned(),
                checksum(
                    tensors
                        .iter()
                        .map(|(name, _, data)| (name.as_str(), &data[..])),
                ),
            ),
        ]);
        let bytes = safetensors::serialize(views, Some(metadata))
            .unwrap_or_else(|e| unreachable!("valid tensors serialise: {e}"));
        wdsr_image::write_atomically(path, &bytes)?;
        Ok(())
    }

    fn vectors(&self) -> [(&'static str, &Vec<f32>); 4] {
        [
            ("parameters", &self.parameters),
            ("average", &self.average),
            ("first_moment", &self.adam.first_moment),
            ("second_moment", &self.adam.second_moment),
        ]
    }

    /// Reads a checkpoint of this recipe.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or was written by another recipe.
    pub fn load(
        path: &Path,
        recipe: &Recipe,
        network: &Network,
        layout: &Layout,
    ) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, "read", source))?;
        Self::parse(&bytes, recipe, network, layout).map_err(|reason| Error::Checkpoint {
            path: path.to_owned(),
            reason,
        })
    }

    fn parse(
        bytes: &[u8],
        recipe: &Recipe,
        network: &Network,
        layout: &Layout,
    ) -> Result<Self, String> {
        let metadata = metadata(bytes)?;
        let field = |key: &str| metadata.get(key).map(String::as_str).unwrap_or_default();
        let written = written_recipe(&metadata)?;
        if let Some(difference) = recipe.difference(&written) {
            return Err(format!(
                "written by another recipe ({difference}); give --out another folder, or start \
                 another training from its weights by --from"
            ));
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(incomplete)?;
        if let Some(written) = metadata.get(CHECKSUM) {
            let tensors = tensors.iter();
            let found = checksum(tensors.map(|(name, view)| (name, view.data())));
            if found != *written {
                return Err(format!(
                    "damaged: its numbers have the checksum {found}, expected {written}; {REMEDY}"
                ));
            }
        }
        let read = |name: &str, shape: &[usize]| -> Result<Vec<f32>, String> {
            let view = tensors
                .tensor(name)
                .map_err(|_| format!("tensor `{name}` is missing"))?;
            if view.shape() != shape || view.dtype() != Dtype::F32 {
                return Err(format!(
                    "tensor `{name}` is {:?} {:?}, expected F32 {shape:?}",
                    view.dtype(),
                    view.shape()
                ));
            }
            let (chunks, _) = view.data().as_chunks::<4>();
            Ok(chunks
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect())
        };
        let vector = |part: &str| -> Result<Vec<f32>, String> {
            let mut values = Vec::with_capacity(layout.len());
            for slot in &layout.slots {
                values.extend(read(&format!("{part}/{}", slot.name), &slot.shape)?);
            }
            Ok(values)
        };
        let number = |key: &str| {
            field(key)
                .parse()
                .map_err(|_| format!("`{key}` is `{}`, expected a number", field(key)))
        };
        let optional = |key: &str| Some(field(key).to_owned()).filter(|text| !text.is_empty());
        let updates = field("updates")
            .parse()
            .map_err(|_| format!("`updates` is `{}`, expected a number", field("updates")))?;
        let state = Self {
            updates,
            parameters: vector("parameters")?,
            average: vector("average")?,
            adam: Adam {
                first_moment: vector("first_moment")?,
                second_moment: vector("second_moment")?,
                updates,
            },
            running: network
                .batch_norms
                .iter()
                .map(|norm| {
                    Ok(RunningStatistics {
                        mean: read(&format!("running_mean/{}", norm.name), &[norm.channels])?,
                        variance: read(&format!("running_var/{}", norm.name), &[norm.channels])?,
                    })
                })
                .collect::<Result<_, String>>()?,
            best_psnr_db: match optional("best_psnr_db") {
                Some(_) => Some(number("best_psnr_db")?),
                None => None,
            },
            seconds: number("seconds")?,
            // Absent in the checkpoints of older versions.
            rollbacks: metadata.get("rollbacks").map_or(Ok(0), |text| {
                text.parse().map_err(|_| format!("`rollbacks` is `{text}`"))
            })?,
            learning_rate_factor: match metadata.contains_key("learning_rate_factor") {
                true => number("learning_rate_factor")?,
                false => 1.0,
            },
            went_back_to: match optional("went_back_to") {
                Some(text) => Some(text.parse().map_err(|_| {
                    format!("`went_back_to` is `{text}`, expected a number of updates")
                })?),
                None => None,
            },
            inputs: inputs(&metadata),
        };
        if !state.is_finite() {
            return Err(format!(
                "damaged: it has numbers that are not finite; {REMEDY}"
            ));
        }
        Ok(state)
    }
}

/// What to do about a damaged checkpoint.
const REMEDY: &str = "if best.checkpoint beside it is whole, copy it over this one and go on from \
                      there";

fn incomplete(error: safetensors::SafeTensorError) -> String {
    format!("not a complete checkpoint ({error}); {REMEDY}")
}

/// Of the names and bytes of all tensors.
fn checksum<'t>(tensors: impl Iterator<Item = (&'t str, &'t [u8])>) -> String {
    let mut tensors: Vec<(&str, &[u8])> = tensors.collect();
    tensors.sort_by_key(|(name, _)| *name);
    let crc = tensors.iter().fold(0, |crc, (name, data)| {
        crc32c::crc32c_append(crc32c::crc32c_append(crc, name.as_bytes()), data)
    });
    format!("{crc:08x}")
}

fn inputs(metadata: &HashMap<String, String>) -> Inputs {
    let optional = |key: &str| metadata.get(key).cloned().filter(|text| !text.is_empty());
    Inputs {
        images: optional("images"),
        teacher: optional("teacher"),
    }
}

/// Reads what a checkpoint's training learns from.
///
/// # Errors
/// When the file cannot be read or is no checkpoint.
pub fn load_inputs(path: &Path) -> Result<Inputs, Error> {
    of_metadata(path, |metadata| Ok(inputs(metadata)))
}

/// What a checkpoint says of itself.
fn metadata(bytes: &[u8]) -> Result<HashMap<String, String>, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(incomplete)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let field = |key: &str| metadata.get(key).map(String::as_str).unwrap_or_default();
    if (field("format"), field("version")) != (FORMAT, VERSION) {
        return Err(format!(
            "expected format {FORMAT} version {VERSION}, found `{}` version `{}`",
            field("format"),
            field("version")
        ));
    }
    Ok(metadata)
}

fn written_recipe(metadata: &HashMap<String, String>) -> Result<Recipe, String> {
    let recipe = metadata.get("recipe").map(String::as_str);
    serde_json::from_str(recipe.unwrap_or_default())
        .map_err(|e| format!("recipe of the checkpoint: {e}"))
}

/// Reads the recipe of a checkpoint.
///
/// # Errors
/// When the file cannot be read or is no checkpoint.
pub fn load_recipe(path: &Path) -> Result<Recipe, Error> {
    of_metadata(path, written_recipe)
}

fn of_metadata<T>(
    path: &Path,
    read: impl FnOnce(&HashMap<String, String>) -> Result<T, String>,
) -> Result<T, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::io(path, "read", source))?;
    let found = metadata(&bytes).and_then(|metadata| read(&metadata));
    found.map_err(|reason| Error::Checkpoint {
        path: path.to_owned(),
        reason,
    })
}

/// Reads the model of a model file or of a checkpoint.
///
/// # Errors
/// When the file cannot be read or is neither, or is damaged.
pub fn load_model(path: &Path) -> Result<Model, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::io(path, "read", source))?;
    model_of(&bytes, path)
}

/// [`load_model`] of a file's content.
pub(crate) fn model_of(bytes: &[u8], path: &Path) -> Result<Model, Error> {
    let Ok(metadata) = metadata(bytes) else {
        return Ok(Model::from_bytes(bytes, path)?);
    };
    let model = written_recipe(&metadata).and_then(|recipe| {
        let network = Network::for_training(&recipe.network);
        let layout = Layout::new(&network, recipe.training.branches);
        let state = State::parse(bytes, &recipe, &network, &layout)?;
        Ok(state.model(&recipe, &network, &layout))
    });
    model.map_err(|reason| Error::Checkpoint {
        path: path.to_owned(),
        reason,
    })
}
