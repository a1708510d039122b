//! Models as a pair of ncnn files, for Upscayl, the ncnn tools and chaiNNer.
//!
//! The graph is the network's list of operations between the blobs that those tools expect,
//! three planes each, of any size:
//!
//! - `data`: R G B in 0..1
//! - `output`: R G B, `scale` times as wide and high, not clamped
//!
//! It uses five kinds of layers, which every reader of ncnn files supports: `Input`,
//! `Convolution` (with its ReLU), `BinaryOp` (a sum), `PixelShuffle` and `Split` (ncnn requires that
//! each blob is read once); Compact has `PReLU` too, MSRResNet `PReLU` and `Interp`,
//! RRDB `PReLU`, `Concat` and `BinaryOp` for products with a number. The rest is in the weights: a residual scale in the last convolution of
//! its branch, the mean of the output in the biases of the convolution that writes it. The mean of
//! the input is subtracted by a convolution of its own, because zero padding follows it.
//! `Scale` and `MemoryData` are avoided: chaiNNer misreads the first and rejects the second
//! (backend/src/nodes/impl/ncnn/model.py).
//!
//! Source: Tencent/ncnn, `src/net.cpp` and `src/modelbin.cpp` for the files, `src/layer` for the
//! layers' parameters; upscayl/upscayl-ncnn, `src/realesrgan.cpp` for names and ranges.

#[cfg(test)]
mod tests;

use std::fmt::Write;

use half::f16;
use wdsr_model::{
    Activation, Conv, ConvWeights, Float16RangeError, Model, Network, Operation, Value,
    WeightFormat, float16,
};

/// First line of a `.param` file.
const MAGIC: u32 = 7_767_517;
/// Tags before weights in a `.bin` file.
const FLOAT32_TAG: u32 = 0;
const FLOAT16_TAG: u32 = 0x0130_6B47;

/// An ncnn model: the contents of its two files.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NcnnFiles {
    /// `.param`: the layers, as text.
    pub param: String,
    /// `.bin`: weights and biases, in the order of the layers.
    pub bin: Vec<u8>,
}

/// An ncnn model that computes the same as [`Upscaler`](wdsr_model::Upscaler), without clamping.
///
/// With [`WeightFormat::F16`] the weights are float16; whether ncnn also computes in it is an option
/// of ncnn. The output differs by about 1e-3.
///
/// # Shapes
/// - blob `data`: 3 planes, R G B in 0..1
/// - blob `output`: 3 planes, `scale` times as wide and high
///
/// # Errors
/// With [`WeightFormat::F16`], if a weight lies outside the range of float16.
///
/// # Examples
/// ```
/// use wdsr_convert::to_ncnn;
/// use wdsr_model::{Model, NetworkConfig, WeightFormat};
///
/// let model = Model::random(&NetworkConfig::wdsr_b(32, 8, 2), 1);
/// let files = to_ncnn(&model, WeightFormat::F32)?;
/// assert!(files.param.starts_with("7767517\n"));
/// # Ok::<(), wdsr_model::Float16RangeError>(())
/// ```
pub fn to_ncnn(model: &Model, format: WeightFormat) -> Result<NcnnFiles, Float16RangeError> {
    let model = &model.with_residual_scale_in_weights();
    let mut writer = FileWriter {
        model,
        format,
        layers: Vec::new(),
        blobs: 0,
        bin: Vec::new(),
        unread: readers(model.network()),
    };
    writer.layer("Input", "data", &[], "data", "");
    writer.subtract_mean();
    for operation in &model.network().operations {
        writer.operation(*operation)?;
    }
    let mut param = format!("{MAGIC}\n{} {}\n", writer.layers.len(), writer.blobs);
    for layer in writer.layers {
        param += &layer;
        param.push('\n');
    }
    Ok(NcnnFiles {
        param,
        bin: writer.bin,
    })
}

/// For each value, the names of the blobs that its readers have not read yet, the next one last.
fn readers(network: &Network) -> Vec<Vec<String>> {
    let mut count = vec![0; network.values.len()];
    for value in network.operations.iter().flat_map(Operation::inputs) {
        count[value.0] += 1;
    }
    let names = |(value, count): (usize, usize)| match count {
        // The output of the network, which nothing reads.
        0 => Vec::new(),
        1 => vec![format!("value_{value}")],
        _ => (0..count)
            .rev()
            .map(|reader| format!("value_{value}_{reader}"))
            .collect(),
    };
    count.into_iter().enumerate().map(names).collect()
}

struct FileWriter<'a> {
    model: &'a Model,
    format: WeightFormat,
    /// Lines of the `.param` file after its header.
    layers: Vec<String>,
    blobs: usize,
    bin: Vec<u8>,
    /// See [`readers`].
    unread: Vec<Vec<String>>,
}

impl FileWriter<'_> {
    /// Writes the layer of one operation.
    fn operation(&mut self, operation: Operation) -> Result<(), Float16RangeError> {
        let network = self.model.network();
        match operation {
            Operation::Conv {
                conv: index,
                input,
                output,
                activation,
            } => {
                let conv = &network.convs[index];
                let mut weights = self.model.convs()[index].clone();
                if index == network.output_convs()[0] {
                    // The channels of a colour follow each other.
                    let maps = conv.out_channels / 3;
                    for (map, bias) in weights.bias.iter_mut().enumerate() {
                        *bias += self.model.config().mean[map / maps];
                    }
                }
                let input = self.reader(input);
                match activation {
                    Activation::None => self.conv(conv, &weights, &input, output, "")?,
                    Activation::Relu => self.conv(conv, &weights, &input, output, " 9=1")?,
                    Activation::PRelu | Activation::LeakyRelu(_) => {
                        let sums = format!("value_{}_before_prelu", output.0);
                        let parameters = convolution(conv);
                        self.layer("Convolution", &conv.name, &[&input], &sums, &parameters);
                        self.weights(&format!("{}.weight", conv.name), &weights.weight)?;
                        self.floats(&weights.bias);
                        let name = format!("{}.prelu", conv.name);
                        let parameters = format!(" 0={}", conv.out_channels);
                        self.value("PReLU", &name, &[&sums], output, &parameters);
                        self.floats(&weights.slopes_of(activation));
                    }
                }
            }
            Operation::Enlarge {
                input,
                output,
                scale,
            } => {
                let input = self.reader(input);
                let name = format!("value_{}.enlarge", output.0);
                // Bilinear, by a factor along each axis.
                let parameters = format!(" 0=2 1={scale}.0 2={scale}.0");
                self.value("Interp", &name, &[&input], output, &parameters);
            }
            Operation::Repeat {
                input,
                output,
                times,
            } => {
                let channels = network.shape(input).channels;
                let name = format!("value_{}.repeat", output.0);
                let (conv, weights) = Conv::repetition(name, channels, times);
                let input = self.reader(input);
                self.conv(&conv, &weights, &input, output, "")?;
            }
            Operation::BatchNorm { .. } => {
                unreachable!("a network in use has its batch normalisations folded")
            }
            Operation::Concat {
                first,
                second,
                output,
            } => {
                let (first, second) = (self.reader(first), self.reader(second));
                let name = format!("value_{}.concat", output.0);
                self.value("Concat", &name, &[&first, &second], output, " 0=0");
            }
            Operation::Add {
                branch,
                identity,
                output,
                scale,
            } => {
                let (mut branch, identity) = (self.reader(branch), self.reader(identity));
                if scale != 1.0 {
                    // The product with a number.
                    let product = format!("value_{}_scaled_branch", output.0);
                    let (name, parameters) = (
                        format!("value_{}.mul", output.0),
                        format!(" 0=2 1=1 2={scale}"),
                    );
                    self.layer("BinaryOp", &name, &[&branch], &product, &parameters);
                    branch = product;
                }
                let name = format!("value_{}.add", output.0);
                self.value("BinaryOp", &name, &[&branch, &identity], output, " 0=0");
            }
            Operation::PixelShuffle {
                input,
                output,
                scale,
            } => {
                // Channel = (colour * scale + dy) * scale + dx, as PyTorch's PixelShuffle.
                let input = self.reader(input);
                let name = format!("value_{}.pixel_shuffle", output.0);
                self.value(
                    "PixelShuffle",
                    &name,
                    &[&input],
                    output,
                    &format!(" 0={scale}"),
                );
            }
        }
        Ok(())
    }

    /// u = x - mean, as a 1x1 convolution.
    fn subtract_mean(&mut self) {
        let input = self.model.network().input;
        let (conv, weights) = Conv::repetition("subtract_mean".to_owned(), 3, 1);
        let parameters = convolution(&conv);
        self.value("Convolution", &conv.name, &["data"], input, &parameters);
        // Always float32: exact, and no padding as in `weights`.
        self.bin.extend(FLOAT32_TAG.to_le_bytes());
        self.floats(&weights.weight);
        self.floats(&self.model.config().mean.map(|mean| -mean));
    }

    /// A convolution, with more parameters.
    fn conv(
        &mut self,
        conv: &Conv,
        weights: &ConvWeights,
        input: &str,
        output: Value,
        more: &str,
    ) -> Result<(), Float16RangeError> {
        let parameters = convolution(conv) + more;
        self.value("Convolution", &conv.name, &[input], output, &parameters);
        self.weights(&format!("{}.weight", conv.name), &weights.weight)?;
        self.floats(&weights.bias);
        Ok(())
    }

    /// The blob that the next operation reads a value from.
    fn reader(&mut self, value: Value) -> String {
        self.unread[value.0]
            .pop()
            .unwrap_or_else(|| unreachable!("value {} has a blob for each reader", value.0))
    }

    /// A layer that computes a value, and copies of it if several operations read it.
    fn value(&mut self, kind: &str, name: &str, inputs: &[&str], value: Value, parameters: &str) {
        let blob = if value == self.model.network().output {
            "output".to_owned()
        } else {
            format!("value_{}", value.0)
        };
        self.layer(kind, name, inputs, &blob, parameters);
        let readers: Vec<String> = self.unread[value.0].iter().rev().cloned().collect();
        if readers.len() > 1 {
            self.blobs += readers.len();
            let count = readers.len();
            let copies = readers.join(" ");
            self.layers
                .push(format!("Split {blob}.split 1 {count} {blob} {copies}"));
        }
    }

    /// A layer with one output: kind, name, numbers of inputs and outputs, their blobs, parameters.
    fn layer(&mut self, kind: &str, name: &str, inputs: &[&str], output: &str, parameters: &str) {
        self.blobs += 1;
        let mut line = format!("{kind} {name} {} 1", inputs.len());
        for blob in inputs.iter().chain([&output]) {
            let _ = write!(line, " {blob}");
        }
        self.layers.push(line + parameters);
    }

    /// Weights in the file's number format, after the tag of that format.
    fn weights(&mut self, name: &str, weights: &[f32]) -> Result<(), Float16RangeError> {
        match self.format {
            WeightFormat::F32 => {
                self.bin.extend(FLOAT32_TAG.to_le_bytes());
                self.floats(weights);
            }
            WeightFormat::F16 => {
                self.bin.extend(FLOAT16_TAG.to_le_bytes());
                for &weight in weights {
                    self.bin.extend(float16(name, weight)?.to_le_bytes());
                }
                // ncnn pads to 4 bytes, chaiNNer does not; only networks with an odd number of
                // features are affected.
                if weights.len() % 2 == 1 {
                    self.bin.extend(f16::ZERO.to_le_bytes());
                }
            }
        }
        Ok(())
    }

    /// float32 without a tag; ncnn stores biases so in every number format.
    fn floats(&mut self, values: &[f32]) {
        self.bin
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
}

/// Parameters of a convolution that keeps the size: outputs, kernel, padding, biases, weights.
fn convolution(conv: &Conv) -> String {
    format!(
        " 0={} 1={} 4={} 5=1 6={}",
        conv.out_channels,
        conv.kernel,
        conv.kernel / 2,
        conv.weights()
    )
}
