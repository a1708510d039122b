//! A network with its weights, and the file it lives in.
//!
//! A model file is a safetensors file of plain convolutions: `KEY.weight` (`[out, in, k, k]`) and
//! `KEY.bias` (`[out]`), float32, float16 or bfloat16, under the keys of the official implementation
//! (JiahuiYu/wdsr_ntire2018), for images in 0..1. Its metadata holds `format` = `wdsr`,
//! `version`, `config` (the [`NetworkConfig`] as JSON) and notes on the training.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::atomic_file;
use crate::config::{NetworkConfig, Norm};
use crate::error::Error;
use crate::export::{ExportPrecision, float16};
use crate::network::Network;

const FORMAT: &str = "wdsr";
const VERSION: &str = "1";
/// What a checkpoint of `wdsr-train` says of itself.
const CHECKPOINT_FORMAT: &str = "wdsr-checkpoint";
/// Metadata keys that the program itself writes.
const RESERVED: [&str; 3] = ["format", "version", "config"];

/// Weight `[out, in, kernel, kernel]` and bias `[out]` of one convolution, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvWeights {
    /// `[out, in, kernel, kernel]`
    pub weight: Vec<f32>,
    /// `[out]`
    pub bias: Vec<f32>,
}

/// A network ready for use: plain convolutions, normalisations folded in.
#[derive(Clone, Debug)]
pub struct Model {
    network: Network,
    convs: Vec<ConvWeights>,
    notes: BTreeMap<String, String>,
}

impl Model {
    /// A model from weights, one entry for each of the network's convolutions in their order.
    /// `notes` (how it was trained, scores) travel with the model's file.
    ///
    /// # Panics
    /// When the description is not valid or a length does not fit it.
    pub fn new(
        config: &NetworkConfig,
        convs: Vec<ConvWeights>,
        notes: BTreeMap<String, String>,
    ) -> Self {
        let network = Network::new(&NetworkConfig {
            norm: Norm::None,
            ..config.clone()
        });
        assert_eq!(convs.len(), network.convs.len(), "convolutions");
        for (conv, weights) in network.convs.iter().zip(&convs) {
            assert_eq!(
                weights.weight.len(),
                conv.weights(),
                "weights of {}",
                conv.name
            );
            assert_eq!(
                weights.bias.len(),
                conv.out_channels,
                "biases of {}",
                conv.name
            );
        }
        Self {
            network,
            convs,
            notes,
        }
    }

    /// A model with weights that follow from the seed, of a size that keeps values in the range of
    /// images: for measurements and tests.
    ///
    /// # Panics
    /// When the description is not valid.
    pub fn random(config: &NetworkConfig, seed: u32) -> Self {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let network = Network::new(config);
        let convs = network
            .convs
            .iter()
            .map(|conv| {
                let size = 2.5 / (conv.weights() as f32 / conv.out_channels as f32).sqrt();
                ConvWeights {
                    weight: (0..conv.weights()).map(|_| next() * size).collect(),
                    bias: (0..conv.out_channels).map(|_| next() * 0.1).collect(),
                }
            })
            .collect();
        Self::new(config, convs, BTreeMap::new())
    }

    /// The description. Its norm is always none.
    pub fn config(&self) -> &NetworkConfig {
        &self.network.config
    }

    /// The equations.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Weights in the order of `network().convs`.
    pub fn convs(&self) -> &[ConvWeights] {
        &self.convs
    }

    /// Remarks kept in the file, such as how the model was trained.
    pub fn notes(&self) -> &BTreeMap<String, String> {
        &self.notes
    }

    /// Reads a model file.
    ///
    /// # Examples
    /// ```
    /// use wdsr_model::Model;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("small.safetensors");
    /// Model::embedded().save(&path)?;
    /// let model = Model::load(&path)?;
    /// assert_eq!(model.config().label(), "wdsr-b 32/16 x2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the file cannot be read, is no model file, is cut short, or holds another version,
    /// other shapes than its description asks for, or weights that are not finite.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            action: "read",
            source,
        })?;
        Self::from_bytes(&bytes, path)
    }

    /// Reads a model from the bytes of a model file; `name` stands in messages.
    ///
    /// # Errors
    /// As for [`Model::load`].
    pub fn from_bytes(bytes: &[u8], name: &Path) -> Result<Self, Error> {
        Self::parse(bytes).map_err(|reason| Error::Invalid {
            path: name.to_owned(),
            reason,
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| {
            format!(
                "not a complete safetensors file ({e}); fetch it again, or make one of another \
                 trainer's checkpoint by `wdsr convert`"
            )
        })?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let field = |key: &str| {
            metadata.get(key).ok_or_else(|| {
                format!(
                    "expected a wdsr model, found a safetensors file without `{key}` metadata; \
                     another trainer's is converted by `wdsr convert`"
                )
            })
        };
        let format = field("format")?;
        if format == CHECKPOINT_FORMAT {
            return Err(
                "a checkpoint of a training, expected a model; it is model.safetensors or \
                 best.safetensors beside it"
                    .to_owned(),
            );
        }
        if format != FORMAT {
            return Err(format!("expected format `{FORMAT}`, found `{format}`"));
        }
        let version = field("version")?;
        if version != VERSION {
            return Err(format!(
                "model file version {version}, this program reads version {VERSION}; \
                 update the program"
            ));
        }
        let config: NetworkConfig = serde_json::from_str(field("config")?)
            .map_err(|e| format!("network description: {e}"))?;
        config
            .validate()
            .map_err(|e| format!("network description: {e}"))?;

        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|e| format!("not a complete safetensors file ({e}); fetch it again"))?;
        let network = Network::new(&NetworkConfig {
            norm: Norm::None,
            ..config.clone()
        });
        let expected = 2 * network.convs.len();
        if tensors.len() != expected {
            return Err(format!(
                "{} has {expected} tensors, found {}",
                config.label(),
                tensors.len()
            ));
        }
        let convs = network
            .convs
            .iter()
            .map(|conv| {
                Ok(ConvWeights {
                    weight: tensor(
                        &tensors,
                        &format!("{}.weight", conv.name),
                        &conv.weight_shape(),
                    )?,
                    bias: tensor(
                        &tensors,
                        &format!("{}.bias", conv.name),
                        &[conv.out_channels],
                    )?,
                })
            })
            .collect::<Result<_, String>>()?;
        let notes = metadata
            .into_iter()
            .filter(|(key, _)| !RESERVED.contains(&key.as_str()))
            .collect();
        Ok(Self {
            network,
            convs,
            notes,
        })
    }

    /// The bytes of the model's file, in float32.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (tensors, metadata) = self.contents();
        serialize(tensors, metadata)
    }

    /// What the file holds: each tensor's key, shape and values, and the metadata.
    fn contents(&self) -> (Vec<Tensor>, HashMap<String, String>) {
        let mut tensors = Vec::new();
        for (conv, weights) in self.network.convs.iter().zip(&self.convs) {
            let shape = conv.weight_shape().to_vec();
            let (weight, bias) = (weights.weight.clone(), weights.bias.clone());
            tensors.push((format!("{}.weight", conv.name), shape, weight));
            tensors.push((format!("{}.bias", conv.name), vec![conv.out_channels], bias));
        }
        let config = serde_json::to_string(self.config())
            .unwrap_or_else(|e| unreachable!("a description is plain JSON: {e}"));
        let mut metadata: HashMap<String, String> = self.notes.clone().into_iter().collect();
        for (key, value) in RESERVED.into_iter().zip([FORMAT, VERSION, &config]) {
            metadata.insert(key.to_owned(), value.to_owned());
        }
        (tensors, metadata)
    }

    /// Writes the model's file: to a temporary file beside it, then renamed, so that no half
    /// file ever has the name.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        atomic_file::write(path, &self.to_bytes())
    }

    /// [`Model::save`] with weights in another precision: in float16, half the size, they are
    /// rounded to 11 bits.
    ///
    /// # Errors
    /// When the file cannot be written, or a weight lies outside float16's range.
    pub fn save_in(&self, path: &Path, precision: ExportPrecision) -> Result<(), Error> {
        match precision {
            ExportPrecision::F32 => self.save(path),
            ExportPrecision::F16 => {
                let (tensors, metadata) = self.contents();
                let narrow = |(key, shape, values): Tensor| {
                    let mut bytes = Vec::with_capacity(2 * values.len());
                    for value in values {
                        bytes.extend(float16(&key, value)?.to_le_bytes());
                    }
                    Ok((key, shape, bytes))
                };
                let tensors = tensors
                    .into_iter()
                    .map(narrow)
                    .collect::<Result<_, Error>>()?;
                atomic_file::write(path, &serialize_bytes(Dtype::F16, tensors, metadata))
            }
        }
    }
}

/// Key, shape, and values in row-major order.
type Tensor = (String, Vec<usize>, Vec<f32>);

/// The bytes of a safetensors file of float32 tensors.
pub(crate) fn serialize(tensors: Vec<Tensor>, metadata: HashMap<String, String>) -> Vec<u8> {
    let bytes = tensors
        .into_iter()
        .map(|(key, shape, values)| {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (key, shape, bytes)
        })
        .collect();
    serialize_bytes(Dtype::F32, bytes, metadata)
}

fn serialize_bytes(
    dtype: Dtype,
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
    metadata: HashMap<String, String>,
) -> Vec<u8> {
    let views = tensors.iter().map(|(key, shape, data)| {
        let view = TensorView::new(dtype, shape.clone(), data)
            .unwrap_or_else(|e| unreachable!("shape {shape:?} of {key}: {e}"));
        (key, view)
    });
    safetensors::serialize(views, Some(metadata))
        .unwrap_or_else(|e| unreachable!("valid tensors serialise: {e}"))
}

fn tensor(tensors: &SafeTensors<'_>, key: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
    let view = tensors
        .tensor(key)
        .map_err(|_| format!("tensor `{key}` is missing"))?;
    if view.shape() != shape {
        return Err(format!(
            "tensor `{key}` has shape {:?}, expected {shape:?}",
            view.shape()
        ));
    }
    let words = || view.data().as_chunks::<4>().0.iter();
    let halves = || view.data().as_chunks::<2>().0.iter();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => words().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::F16 => halves()
            .map(|bytes| f16::from_le_bytes(*bytes).to_f32())
            .collect(),
        Dtype::BF16 => halves()
            .map(|bytes| bf16::from_le_bytes(*bytes).to_f32())
            .collect(),
        other => {
            return Err(format!(
                "tensor `{key}` is {other:?}, expected F32, F16 or BF16"
            ));
        }
    };
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        return Err(format!(
            "tensor `{key}` holds {} at index {at}; expected finite weights",
            values[at]
        ));
    }
    Ok(values)
}
