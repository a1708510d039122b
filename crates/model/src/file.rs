//! Model files.
//!
//! A model file is a safetensors file of plain convolutions: `KEY.weight` (`[out, in, k, k]`) and
//! `KEY.bias` (`[out]`), float32, float16 or bfloat16, under the keys of the official implementation
//! (JiahuiYu/wdsr_ntire2018), for images in 0..1. Compact has `KEY.weight` (`[out]`) of each PReLU too,
//! under the keys of Real-ESRGAN. A model with a strength has all of them twice: those of strength 1 under
//! `strong/KEY`. A model with scales for int8 has `int8/KEY.input_steps` (`[in]`), `int8/KEY.weight_steps` and
//! `int8/KEY.bias` (`[out]`) of each convolution in int8, in float32 ([`Int8Scales`]), and the metadata `int8` = 1. Its metadata has `format` = `wdsr`, `version`,
//! `config` (the [`NetworkConfig`] as JSON) and notes on the training.

use std::collections::HashMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::config::{NetworkConfig, Norm};
use crate::error::{Error, Float16RangeError, InvalidFile};
use crate::int8::{Int8Scales, STEP_RANGE};
use crate::model::{ConvWeights, Model};
use crate::network::Network;

const FORMAT: &str = "wdsr";
const VERSION: &str = "1";
/// `format` of a checkpoint of `wdsr-train`.
const CHECKPOINT_FORMAT: &str = "wdsr-checkpoint";
/// What the keys of the tensors of strength 1 begin with.
const STRONG: &str = "strong/";
/// What the keys of the scales for int8 begin with.
const INT8: &str = "int8/";
/// Version of the scales for int8, in the metadata `int8`.
const INT8_VERSION: &str = "1";
/// Metadata keys that are not notes.
const RESERVED: [&str; 4] = ["format", "version", "config", "int8"];

/// Number format of the weights in a file. Input and output of the network are float32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightFormat {
    /// float32.
    #[default]
    F32,
    /// float16, rounded to 11 bits: half the size.
    F16,
}

/// A weight rounded to float16.
///
/// # Errors
/// If it lies outside the range. `tensor` is its tensor's key, for the message.
pub fn float16(tensor: &str, value: f32) -> Result<f16, Float16RangeError> {
    let rounded = f16::from_f32(value);
    if rounded.is_finite() {
        Ok(rounded)
    } else {
        Err(Float16RangeError {
            tensor: tensor.to_owned(),
            value,
        })
    }
}

impl Model {
    /// Reads a model file.
    ///
    /// # Examples
    /// ```
    /// use wdsr_model::{Model, NetworkConfig};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("small.safetensors");
    /// Model::random(&NetworkConfig::wdsr_b(32, 8, 2), 1).save(&path)?;
    /// let model = Model::load(&path)?;
    /// assert_eq!(model.config().label(), "wdsr-b 32/8 x2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the file cannot be read, is not a model file, is truncated, or has another version, tensors
    /// that do not fit its description, or weights that are not finite.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            action: "read",
            source,
        })?;
        Self::from_bytes(&bytes, path)
    }

    /// Reads a model from the bytes of a model file. `name` is the file's name in messages.
    ///
    /// # Errors
    /// As for [`Model::load`].
    pub fn from_bytes(bytes: &[u8], name: &Path) -> Result<Self, Error> {
        parse(bytes).map_err(|reason| Error::Invalid {
            path: name.to_owned(),
            reason,
        })
    }

    /// The bytes of the model's file, in float32.
    pub fn to_bytes(&self) -> Vec<u8> {
        let tensors = self.tensors().chain(self.int8_tensors()).map(f32_tensor);
        serialize(tensors.collect(), self.metadata())
    }

    /// The bytes of the model's file, in float16.
    fn to_f16_bytes(&self) -> Result<Vec<u8>, Float16RangeError> {
        let tensors = self.tensors().map(|(key, shape, values)| {
            let mut bytes = Vec::with_capacity(2 * values.len());
            for &value in values {
                bytes.extend(float16(&key, value)?.to_le_bytes());
            }
            Ok((key, Dtype::F16, shape, bytes))
        });
        // Steps may lie outside the range of float16.
        let tensors = tensors.chain(self.int8_tensors().map(|tensor| Ok(f32_tensor(tensor))));
        let tensors = tensors.collect::<Result<_, _>>()?;
        Ok(serialize(tensors, self.metadata()))
    }

    /// Key, shape and values of each tensor of scales for int8.
    fn int8_tensors(&self) -> impl Iterator<Item = (String, Vec<usize>, &[f32])> {
        let convs = self.network().int8_convs();
        let scales = self.int8().into_iter().flatten();
        convs.zip(scales).flat_map(|(conv, scales)| {
            let name = &self.network().convs[conv].name;
            let tensors = [
                ("input_steps", &scales.input_steps),
                ("weight_steps", &scales.weight_steps),
                ("bias", &scales.bias),
            ];
            tensors.map(|(kind, values)| {
                let key = format!("{INT8}{name}.{kind}");
                (key, vec![values.len()], &values[..])
            })
        })
    }

    /// Key, shape and row-major values of each tensor of the file.
    fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>, &[f32])> {
        let parts = [("", Some(self.convs())), (STRONG, self.strong())];
        let convs = parts.into_iter().flat_map(|(start, convs)| {
            let convs = convs.into_iter().flatten();
            let convs = self.network().convs.iter().zip(convs);
            convs.map(move |(conv, weights)| (start, conv, weights))
        });
        convs.flat_map(|(start, conv, weights)| {
            let weight = (
                format!("{start}{}.weight", conv.name),
                conv.weight_shape().to_vec(),
                &weights.weight[..],
            );
            let bias = (
                format!("{start}{}.bias", conv.name),
                vec![conv.out_channels],
                &weights.bias[..],
            );
            let slopes = conv.slopes.as_ref().map(|slopes| {
                let shape = vec![conv.out_channels];
                (
                    format!("{start}{slopes}.weight"),
                    shape,
                    &weights.slopes[..],
                )
            });
            [weight, bias].into_iter().chain(slopes)
        })
    }

    fn metadata(&self) -> HashMap<String, String> {
        let config = serde_json::to_string(self.config())
            .unwrap_or_else(|e| unreachable!("a description is plain JSON: {e}"));
        let mut metadata: HashMap<String, String> = self.notes().clone().into_iter().collect();
        for (key, value) in RESERVED.into_iter().zip([FORMAT, VERSION, &config]) {
            metadata.insert(key.to_owned(), value.to_owned());
        }
        if self.int8().is_some() {
            metadata.insert("int8".to_owned(), INT8_VERSION.to_owned());
        }
        metadata
    }

    /// Writes the model's file in float32. The file gets its name only when it is complete.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        write(path, &self.to_bytes())
    }

    /// Writes the model's file, as [`Model::save`], in the given number format.
    ///
    /// # Errors
    /// If the file cannot be written, or a weight lies outside the range of float16.
    pub fn save_in(&self, path: &Path, format: WeightFormat) -> Result<(), Error> {
        match format {
            WeightFormat::F32 => self.save(path),
            WeightFormat::F16 => write(path, &self.to_f16_bytes()?),
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    wdsr_atomic_file::write(path, bytes).map_err(|source| Error::Io {
        path: path.to_owned(),
        action: "write",
        source,
    })
}

fn parse(bytes: &[u8]) -> Result<Model, InvalidFile> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let field = |key: &'static str| metadata.get(key).ok_or(InvalidFile::NoMetadata(key));
    match field("format")?.as_str() {
        FORMAT => {}
        CHECKPOINT_FORMAT => return Err(InvalidFile::Checkpoint),
        other => return Err(InvalidFile::Format(other.to_owned())),
    }
    let version = field("version")?;
    if version != VERSION {
        return Err(InvalidFile::Version {
            expected: VERSION,
            found: version.clone(),
        });
    }
    let config: NetworkConfig = serde_json::from_str(field("config")?)?;
    config.validate()?;
    let config = NetworkConfig {
        norm: Norm::None,
        ..config
    };

    let tensors = SafeTensors::deserialize(bytes)?;
    let network = Network::new(&config);
    let has_strength = tensors.iter().any(|(key, _)| key.starts_with(STRONG));
    let slopes = network.convs.iter().filter(|conv| conv.slopes.is_some());
    let of_one = 2 * network.convs.len() + slopes.count();
    let has_int8 = match metadata.get("int8") {
        None => false,
        Some(_) if has_strength => return Err(InvalidFile::Int8OfStrength),
        Some(version) if version == INT8_VERSION => true,
        Some(version) => {
            return Err(InvalidFile::Int8Version {
                expected: INT8_VERSION,
                found: version.clone(),
            });
        }
    };
    let int8_tensors = if has_int8 {
        3 * network.int8_convs().count()
    } else {
        0
    };
    let expected = of_one * if has_strength { 2 } else { 1 } + int8_tensors;
    if tensors.len() != expected {
        return Err(InvalidFile::TensorCount {
            network: config.label(),
            expected,
            found: tensors.len(),
        });
    }
    let convs = |start: &str| {
        let convs = network.convs.iter().map(|conv| {
            let (weight, bias) = (
                format!("{start}{}.weight", conv.name),
                format!("{start}{}.bias", conv.name),
            );
            Ok(ConvWeights {
                weight: tensor(&tensors, weight, &conv.weight_shape())?,
                bias: tensor(&tensors, bias, &[conv.out_channels])?,
                slopes: match &conv.slopes {
                    Some(slopes) => {
                        let key = format!("{start}{slopes}.weight");
                        tensor(&tensors, key, &[conv.out_channels])?
                    }
                    None => Vec::new(),
                },
            })
        });
        convs.collect::<Result<Vec<_>, InvalidFile>>()
    };
    let notes = metadata
        .into_iter()
        .filter(|(key, _)| !RESERVED.contains(&key.as_str()))
        .collect();
    let model = Model::new(&config, convs("")?, notes);
    if has_strength {
        return Ok(model.with_strong(convs(STRONG)?));
    }
    if !has_int8 {
        return Ok(model);
    }
    let scales = network.int8_convs().map(|conv| {
        let conv = &network.convs[conv];
        let key = |kind: &str| format!("{INT8}{}.{kind}", conv.name);
        let outputs = &[conv.out_channels];
        Ok(Int8Scales {
            input_steps: steps(&tensors, key("input_steps"), &[conv.in_channels])?,
            weight_steps: steps(&tensors, key("weight_steps"), outputs)?,
            bias: tensor(&tensors, key("bias"), outputs)?,
        })
    });
    Ok(model.with_int8(scales.collect::<Result<_, InvalidFile>>()?))
}

/// A tensor of steps of int8.
fn steps(tensors: &SafeTensors<'_>, key: String, shape: &[usize]) -> Result<Vec<f32>, InvalidFile> {
    let steps = tensor(tensors, key.clone(), shape)?;
    let [least, largest] = STEP_RANGE;
    match steps
        .iter()
        .position(|step| !(least..=largest).contains(step))
    {
        Some(index) => Err(InvalidFile::Int8Step {
            tensor: key,
            value: steps[index],
            index,
        }),
        None => Ok(steps),
    }
}

fn tensor(
    tensors: &SafeTensors<'_>,
    key: String,
    shape: &[usize],
) -> Result<Vec<f32>, InvalidFile> {
    let Ok(view) = tensors.tensor(&key) else {
        return Err(InvalidFile::MissingTensor(key));
    };
    if view.shape() != shape {
        return Err(InvalidFile::Shape {
            tensor: key,
            expected: shape.to_vec(),
            found: view.shape().to_vec(),
        });
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
        found => return Err(InvalidFile::Type { tensor: key, found }),
    };
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(InvalidFile::NotFinite {
            tensor: key,
            value: values[index],
            index,
        }),
        None => Ok(values),
    }
}

/// A tensor of a file: key, number format, shape and bytes.
type FileTensor = (String, Dtype, Vec<usize>, Vec<u8>);

fn f32_tensor((key, shape, values): (String, Vec<usize>, &[f32])) -> FileTensor {
    let words: Vec<_> = values.iter().map(|v| v.to_le_bytes()).collect();
    (key, Dtype::F32, shape, words.into_flattened())
}

fn serialize(tensors: Vec<FileTensor>, metadata: HashMap<String, String>) -> Vec<u8> {
    let views = tensors.iter().map(|(key, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes)
            .unwrap_or_else(|e| unreachable!("shape {shape:?} of {key}: {e}"));
        (key, view)
    });
    safetensors::serialize(views, Some(metadata))
        .unwrap_or_else(|e| unreachable!("valid tensors serialise: {e}"))
}
