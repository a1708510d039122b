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
    /// Of the pictures it is trained on; none where a checkpoint does not say.
    pub pictures: Option<String>,
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
            pictures: None,
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
        let metadata = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("version".to_owned(), VERSION.to_owned()),
            ("recipe".to_owned(), recipe.to_json()),
            ("updates".to_owned(), self.updates.to_string()),
            (
                "best_psnr_db".to_owned(),
                self.best_psnr_db.map_or(String::new(), |v| v.to_string()),
            ),
            ("seconds".to_owned(), self.seconds.to_string()),
            ("rollbacks".to_owned(), self.rollbacks.to_string()),
            (
                "learning_rate_factor".to_owned(),
                self.learning_rate_factor.to_string(),
            ),
            (
                "pictures".to_owned(),
                self.pictures.clone().unwrap_or_default(),
            ),
        ]);
        let bytes = safetensors::serialize(views, Some(metadata))
            .unwrap_or_else(|e| unreachable!("valid tensors serialise: {e}"));
        wdsr_picture::write_atomically(path, &bytes)?;
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
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|e| format!("not a complete checkpoint ({e})"))?;
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
        let updates = field("updates")
            .parse()
            .map_err(|_| format!("updates `{}`", field("updates")))?;
        Ok(Self {
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
            best_psnr_db: if field("best_psnr_db").is_empty() {
                None
            } else {
                Some(number("best_psnr_db")?)
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
            pictures: Some(field("pictures").to_owned()).filter(|text| !text.is_empty()),
        })
    }
}

/// What a checkpoint says of itself.
fn metadata(bytes: &[u8]) -> Result<HashMap<String, String>, String> {
    let (_, header) = SafeTensors::read_metadata(bytes)
        .map_err(|e| format!("not a complete checkpoint ({e})"))?;
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
    let bytes = std::fs::read(path).map_err(|source| Error::io(path, "read", source))?;
    let recipe = metadata(&bytes).and_then(|metadata| written_recipe(&metadata));
    recipe.map_err(|reason| Error::Checkpoint {
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
    let Ok(metadata) = metadata(&bytes) else {
        return Ok(Model::from_bytes(&bytes, path)?);
    };
    let model = written_recipe(&metadata).and_then(|recipe| {
        let network = Network::for_training(&recipe.network);
        let layout = Layout::new(&network, recipe.training.branches);
        let state = State::parse(&bytes, &recipe, &network, &layout)?;
        Ok(state.model(&recipe, &network, &layout))
    });
    model.map_err(|reason| Error::Checkpoint {
        path: path.to_owned(),
        reason,
    })
}
