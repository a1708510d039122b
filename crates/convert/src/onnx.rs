//! Models as ONNX files, which other engines run.
//!
//! The graph is the network's list of operations, in opset 17, between
//!
//! - `input`: float32 `[batch, 3, height, width]`, R G B in 0..1
//! - `output`: float32 `[batch, 3, scale * height, scale * width]`, not clamped
//!
//! for any batch, height and width. The mean is subtracted and added inside. Values are named
//! after their index in [`Network::values`](wdsr_model::Network::values), weights after their keys in
//! a model file; the file's metadata has the description (`config`, as JSON) and the notes.
//!
//! Source: onnx/onnx, `docs/Operators.md`.

mod messages;
#[cfg(test)]
mod tests;

use prost::Message;
use wdsr_model::{
    Activation, Conv, ConvWeights, Float16RangeError, Model, Operation, Value, WeightFormat,
    float16,
};

use self::messages::{
    AttributeProto, AttributeType, DataType, Dimension, DimensionValue, GraphProto, ModelProto,
    NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto,
    TensorType, TypeProto, ValueInfoProto,
};

/// The format that belongs to [`OPSET`].
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

/// The bytes of an ONNX file (opset 17) that computes the same as
/// [`Upscaler`](wdsr_model::Upscaler), without clamping.
///
/// With [`WeightFormat::F16`] it also computes in float16, between the subtraction of the mean and
/// its addition; the output differs by about 1e-3.
///
/// # Shapes
/// - `input`: float32 `[batch, 3, height, width]`, R G B in 0..1
/// - `output`: float32 `[batch, 3, scale * height, scale * width]`
///
/// # Errors
/// With [`WeightFormat::F16`], if a weight lies outside the range of float16.
///
/// # Examples
/// ```
/// use wdsr_convert::to_onnx;
/// use wdsr_model::{Model, NetworkConfig, WeightFormat};
///
/// let model = Model::random(&NetworkConfig::wdsr_b(32, 8, 2), 1);
/// let single = to_onnx(&model, WeightFormat::F32)?;
/// let half = to_onnx(&model, WeightFormat::F16)?;
/// assert!(half.len() < single.len());
/// # Ok::<(), wdsr_model::Float16RangeError>(())
/// ```
pub fn to_onnx(model: &Model, format: WeightFormat) -> Result<Vec<u8>, Float16RangeError> {
    let config = serde_json::to_string(model.config())
        .unwrap_or_else(|e| unreachable!("a description is plain JSON: {e}"));
    let entry = |(key, value): (&str, &str)| StringStringEntryProto {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let notes = model.notes().iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let file = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "wdsr".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph(model, format)?),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: OPSET,
        }],
        metadata_props: [("config", config.as_str())]
            .into_iter()
            .chain(notes)
            .map(entry)
            .collect(),
    };
    Ok(file.encode_to_vec())
}

fn graph(model: &Model, format: WeightFormat) -> Result<GraphProto, Float16RangeError> {
    let network = model.network();
    let config = model.config();
    let mut writer = GraphWriter {
        format,
        nodes: Vec::new(),
        initializers: Vec::new(),
    };
    let (first, last) = (value_name(network.input), value_name(network.output));
    // In float16 the network computes between two casts.
    let (before, after) = match format {
        WeightFormat::F32 => (first.clone(), last.clone()),
        WeightFormat::F16 => ("input_minus_mean".into(), "output_minus_mean".into()),
    };

    writer.float32("mean", &[1, 3, 1, 1], &config.mean);
    writer.node("Sub", "subtract_mean", &["input", "mean"], &before, vec![]);
    if format == WeightFormat::F16 {
        let to_f16 = vec![int("to", DataType::Float16 as i64)];
        writer.node("Cast", "to_float16", &[&before], &first, to_f16);
    }
    for operation in &network.operations {
        writer.operation(model, *operation)?;
    }
    if format == WeightFormat::F16 {
        let to_f32 = vec![int("to", DataType::Float as i64)];
        writer.node("Cast", "to_float32", &[&last], &after, to_f32);
    }
    writer.node("Add", "add_mean", &[&after, "mean"], "output", vec![]);

    // Dimensions of the same name have the same length.
    let prefix = if config.scale == 1 { "" } else { "output_" };
    let side = |name: &str| format!("{prefix}{name}");
    Ok(GraphProto {
        node: writer.nodes,
        name: config.label(),
        initializer: writer.initializers,
        input: vec![image("input", "height", "width")],
        output: vec![image("output", &side("height"), &side("width"))],
    })
}

fn value_name(value: Value) -> String {
    format!("value_{}", value.0)
}

struct GraphWriter {
    format: WeightFormat,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
}

impl GraphWriter {
    /// Writes the nodes of one operation.
    fn operation(&mut self, model: &Model, operation: Operation) -> Result<(), Float16RangeError> {
        let target = value_name(operation.output());
        match operation {
            Operation::Conv {
                conv,
                input,
                activation,
                ..
            } => {
                let weights = &model.convs()[conv];
                let conv = &model.network().convs[conv];
                let result = match activation {
                    Activation::None => target.clone(),
                    _ => format!("{target}_before_relu"),
                };
                self.conv(conv, weights, &value_name(input), &result)?;
                match activation {
                    Activation::None => {}
                    Activation::Relu => {
                        let name = format!("{}.relu", conv.name);
                        self.node("Relu", &name, &[&result], &target, vec![]);
                    }
                    Activation::PRelu | Activation::LeakyRelu(_) => {
                        let name = format!("{}.prelu", conv.name);
                        let slopes = format!("{}.slopes", conv.name);
                        let values = weights.slopes_of(activation);
                        self.tensor(&slopes, &[conv.out_channels, 1, 1], &values)?;
                        self.node("PRelu", &name, &[&result, &slopes], &target, vec![]);
                    }
                }
            }
            Operation::BatchNorm { .. } => {
                unreachable!("a network in use has its batch normalisations folded")
            }
            Operation::Add {
                branch,
                identity,
                scale,
                ..
            } => {
                let mut branch = value_name(branch);
                if scale != 1.0 {
                    let scaled = format!("{target}_scaled_branch");
                    let constant = format!("{target}_scale");
                    self.tensor(&constant, &[], &[scale])?;
                    let name = format!("{target}.mul");
                    self.node("Mul", &name, &[&branch, &constant], &scaled, vec![]);
                    branch = scaled;
                }
                let name = format!("{target}.add");
                let inputs = [branch.as_str(), &value_name(identity)];
                self.node("Add", &name, &inputs, &target, vec![]);
            }
            Operation::Concat { first, second, .. } => {
                let name = format!("{target}.concat");
                let inputs = [value_name(first), value_name(second)];
                let inputs = inputs.each_ref().map(String::as_str);
                self.node("Concat", &name, &inputs, &target, vec![int("axis", 1)]);
            }
            Operation::Enlarge { input, scale, .. } => {
                // Pixels lie at their centres (`half_pixel`) by default.
                let (name, scales) = (format!("{target}.enlarge"), format!("{target}.scales"));
                self.float32(&scales, &[4], &[1.0, 1.0, scale as f32, scale as f32]);
                let inputs = [value_name(input), String::new(), scales];
                let inputs = inputs.each_ref().map(String::as_str);
                let attributes = vec![string("mode", "linear")];
                self.node("Resize", &name, &inputs, &target, attributes);
            }
            Operation::Repeat { input, times, .. } => {
                // A 1x1 convolution: every engine computes it for any size of image.
                let channels = model.network().shape(input).channels;
                let (conv, weights) = Conv::repetition(format!("{target}.repeat"), channels, times);
                self.conv(&conv, &weights, &value_name(input), &target)?;
            }
            Operation::PixelShuffle { input, scale, .. } => {
                // CRD: channel = (colour * scale + dy) * scale + dx, as PyTorch's PixelShuffle.
                let attributes = vec![int("blocksize", scale as i64), string("mode", "CRD")];
                let name = format!("{target}.pixel_shuffle");
                let input = value_name(input);
                self.node("DepthToSpace", &name, &[&input], &target, attributes);
            }
        }
        Ok(())
    }

    fn conv(
        &mut self,
        conv: &Conv,
        weights: &ConvWeights,
        input: &str,
        output: &str,
    ) -> Result<(), Float16RangeError> {
        let weight = format!("{}.weight", conv.name);
        let bias = format!("{}.bias", conv.name);
        self.tensor(&weight, &conv.weight_shape(), &weights.weight)?;
        self.tensor(&bias, &[conv.out_channels], &weights.bias)?;
        let attributes = vec![
            ints("kernel_shape", vec![conv.kernel as i64; 2]),
            ints("pads", vec![(conv.kernel / 2) as i64; 4]),
        ];
        let inputs = [input, &weight, &bias];
        self.node("Conv", &conv.name, &inputs, output, attributes);
        Ok(())
    }

    fn node(
        &mut self,
        op_type: &str,
        name: &str,
        inputs: &[&str],
        output: &str,
        attribute: Vec<AttributeProto>,
    ) {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: name.to_owned(),
            op_type: op_type.to_owned(),
            attribute,
        });
    }

    /// A constant in the file's number format.
    fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &[f32],
    ) -> Result<(), Float16RangeError> {
        if self.format == WeightFormat::F32 {
            self.float32(name, shape, values);
            return Ok(());
        }
        let mut raw_data = Vec::with_capacity(2 * values.len());
        for &value in values {
            raw_data.extend(float16(name, value)?.to_le_bytes());
        }
        self.constant(name, shape, DataType::Float16, raw_data);
        Ok(())
    }

    fn float32(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let words: Vec<_> = values.iter().map(|v| v.to_le_bytes()).collect();
        self.constant(name, shape, DataType::Float, words.into_flattened());
    }

    fn constant(&mut self, name: &str, shape: &[usize], data_type: DataType, raw_data: Vec<u8>) {
        self.initializers.push(TensorProto {
            dims: shape.iter().map(|&dim| dim as i64).collect(),
            data_type: data_type as i32,
            name: name.to_owned(),
            raw_data,
        });
    }
}

/// A float32 tensor of 3 channels and any size.
fn image(name: &str, height: &str, width: &str) -> ValueInfoProto {
    let any = |name: &str| DimensionValue::DimParam(name.to_owned());
    let dims = [
        any("batch"),
        DimensionValue::DimValue(3),
        any(height),
        any(width),
    ];
    let dim = dims.map(|value| Dimension { value: Some(value) }).to_vec();
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorType {
                elem_type: DataType::Float as i32,
                shape: Some(TensorShapeProto { dim }),
            }),
        }),
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        i,
        r#type: AttributeType::Int as i32,
        ..AttributeProto::default()
    }
}

fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        ints,
        r#type: AttributeType::Ints as i32,
        ..AttributeProto::default()
    }
}

fn string(name: &str, s: &str) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        s: s.as_bytes().to_vec(),
        r#type: AttributeType::String as i32,
        ..AttributeProto::default()
    }
}
