//! The networks as equations.
//!
//! With u = x - mean:
//!
//! - WDSR: y = shuffle(tail(body(head(u))) + skip(u)) + mean
//! - EDSR: y = last(upsample(h + closing(body(h)))) + mean, h = head(u)
//! - every block: block(x) = residual_scale * branch(x) + x
//!
//! - Compact: y = shuffle(last(chain(u)) + repeat(u)), chain = conv, PReLU, conv, PReLU, ...
//! - MSRResNet: y = last(leaky(conv(upsample(body(leaky(head(u))))))) + enlarge(u), a leaky ReLU behind
//!   each convolution of upsample too
//! - RRDB: y = last(leaky(conv(enlarged(h + closing(body(h)))))), h = head(u), where enlarged is nearest
//!   neighbours by 2, convolution and leaky ReLU as often as the scale has factors of 2. A dense block's
//!   convolution i reads the concatenation of its input and the results of the i convolutions before;
//!   three dense blocks are the branch of a residual block, whose scale is 0.2
//!
//! head, tail, closing and last are 3x3 convolutions, skip is 5x5. [`Network::new`] writes them
//! down as a list of operations on values (`build.rs`). Inference and training run that list forwards,
//! the gradients run it backwards; parameter counts and the receptive radius follow from it (`cost.rs`).
//!
//! Source: Yu et al. 2018, figures 2 and 3; JiahuiYu/wdsr_ntire2018 (one shuffle of the sum
//! there equals the sum of two shuffles); EDSR-PyTorch for EDSR; xinntao/Real-ESRGAN,
//! `realesrgan/archs/srvgg_arch.py`, for Compact; XPixelGroup/BasicSR, `basicsr/archs/srresnet_arch.py`,
//! for MSRResNet; `rrdbnet_arch.py` there for RRDB.

mod build;
mod cost;

use crate::config::{NetworkConfig, Norm};

/// Feature maps at one point of the network: an index into [`Network::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Value(pub usize);

/// Size of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueShape {
    /// Planes.
    pub channels: usize,
    /// Pixels per input pixel on each side.
    pub scale: usize,
}

/// A convolution of the network, with bias and zero padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Key of its tensors without `.weight` or `.bias`, in the layout of the official implementation
    /// (`head.0`, `body.3.body.2`, ...).
    pub name: String,
    /// Channels of its input.
    pub in_channels: usize,
    /// Channels of its output.
    pub out_channels: usize,
    /// Side of the kernel in pixels: 1, 3 or 5.
    pub kernel: usize,
    /// Key of the slopes, without `.weight`, if a PReLU follows.
    pub slopes: Option<String>,
}

impl Conv {
    /// `[out, in, kernel, kernel]`
    pub fn weight_shape(&self) -> [usize; 4] {
        [
            self.out_channels,
            self.in_channels,
            self.kernel,
            self.kernel,
        ]
    }

    /// Number of slopes of the PReLU that follows, 0 if none does.
    pub fn slope_count(&self) -> usize {
        self.slopes.as_ref().map_or(0, |_| self.out_channels)
    }

    /// Number of weights, without biases.
    pub fn weights(&self) -> usize {
        self.weight_shape().iter().product()
    }
}

/// A batch normalisation of the network in training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchNorm {
    /// Key of its tensors without `.weight`, `.bias`, `.running_mean`, `.running_var`.
    pub name: String,
    /// The convolution it follows: an index into [`Network::convs`].
    pub conv: usize,
    /// Channels.
    pub channels: usize,
}

/// What a convolution applies to its sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// Nothing.
    None,
    /// max(x, 0)
    Relu,
    /// max(x, 0) + slope * min(x, 0), with a slope for each channel (He et al. 2015). In use only.
    PRelu,
    /// The same with this slope for all channels. In use only.
    LeakyRelu(f32),
}

/// An operation of the network.
#[allow(missing_docs, reason = "the equation at each variant names its fields")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    /// `output = activation(conv(input))`; `conv` is an index into [`Network::convs`].
    Conv {
        conv: usize,
        input: Value,
        output: Value,
        activation: Activation,
    },
    /// `output = norm(input)`, or `max(norm(input), 0)` with `relu`; `norm` is an index into
    /// [`Network::batch_norms`]. Training only.
    BatchNorm {
        norm: usize,
        input: Value,
        output: Value,
        relu: bool,
    },
    /// `output = scale * branch + identity`
    Add {
        branch: Value,
        identity: Value,
        output: Value,
        scale: f32,
    },
    /// `output = pixel_shuffle(input)`
    PixelShuffle {
        input: Value,
        output: Value,
        scale: usize,
    },
    /// Each channel of the input `times` times in a row. With a pixel shuffle behind it, the input
    /// enlarged by nearest neighbours. In use only.
    Repeat {
        input: Value,
        output: Value,
        times: usize,
    },
    /// The channels of `first`, and then those of `second`. In use only; convolutions and other
    /// concatenations alone read it.
    Concat {
        first: Value,
        second: Value,
        output: Value,
    },
    /// `output = bilinear(input)`, `scale` times as large each way. In use only.
    Enlarge {
        input: Value,
        output: Value,
        scale: usize,
    },
}

impl Operation {
    /// The values that it reads.
    pub fn inputs(&self) -> impl Iterator<Item = Value> {
        let (first, second) = match *self {
            Self::Conv { input, .. }
            | Self::BatchNorm { input, .. }
            | Self::PixelShuffle { input, .. }
            | Self::Repeat { input, .. }
            | Self::Enlarge { input, .. } => (input, None),
            Self::Add {
                branch, identity, ..
            } => (branch, Some(identity)),
            Self::Concat { first, second, .. } => (first, Some(second)),
        };
        std::iter::once(first).chain(second)
    }

    /// The value that it computes.
    pub fn output(&self) -> Value {
        match *self {
            Self::Conv { output, .. }
            | Self::BatchNorm { output, .. }
            | Self::PixelShuffle { output, .. }
            | Self::Repeat { output, .. }
            | Self::Enlarge { output, .. }
            | Self::Concat { output, .. }
            | Self::Add { output, .. } => output,
        }
    }
}

/// A network: its tensors, and the operations that compute `output` from `input`.
///
/// # Examples
/// ```
/// use wdsr_model::{Network, NetworkConfig};
///
/// let network = Network::new(&NetworkConfig::wdsr_b(32, 16, 2));
/// assert_eq!(network.parameters(), 299_564);
/// assert_eq!(network.receptive_radius_px(), 18);
/// ```
#[derive(Clone, Debug)]
pub struct Network {
    /// Its description.
    pub config: NetworkConfig,
    /// Convolutions, in the order they run.
    pub convs: Vec<Conv>,
    /// Batch normalisations, in the order they run; empty in a network for use.
    pub batch_norms: Vec<BatchNorm>,
    /// Operations, in the order they run.
    pub operations: Vec<Operation>,
    /// Shapes of all values.
    pub values: Vec<ValueShape>,
    /// 3 channels, the image minus the mean.
    pub input: Value,
    /// 3 channels at the network's scale; the mean is still to be added.
    pub output: Value,
}

impl Network {
    /// The network for use: normalisations are folded into the convolutions.
    ///
    /// # Panics
    /// If the description is not valid.
    pub fn new(config: &NetworkConfig) -> Self {
        Self::build(config, false)
    }

    /// The network for training: with batch normalisations if the description has them.
    ///
    /// # Panics
    /// If the description is not valid.
    pub fn for_training(config: &NetworkConfig) -> Self {
        Self::build(config, config.norm == Norm::Batch)
    }

    /// The convolutions whose results, summed and shuffled, are the output: indices into `convs`. WDSR
    /// has two, its tail and its skip.
    pub fn output_convs(&self) -> Vec<usize> {
        let mut convs = Vec::new();
        let mut summed = vec![self.output];
        for operation in self.operations.iter().rev() {
            if !summed.contains(&operation.output()) {
                continue;
            }
            match *operation {
                Operation::Conv { conv, .. } => convs.push(conv),
                _ => summed.extend(operation.inputs()),
            }
        }
        convs
    }

    /// The convolutions that read the image: indices into `convs`.
    pub fn input_convs(&self) -> Vec<usize> {
        let mut convs = Vec::new();
        for operation in &self.operations {
            if let Operation::Conv { conv, input, .. } = *operation
                && input == self.input
            {
                convs.push(conv);
            }
        }
        convs
    }

    /// The values whose concatenation a value is, in the order of their channels; the value itself if it
    /// is none.
    pub fn parts(&self, value: Value) -> Vec<Value> {
        let concatenation = |operation: &Operation| match *operation {
            Operation::Concat {
                first,
                second,
                output,
            } if output == value => Some([first, second]),
            _ => None,
        };
        match self.operations.iter().find_map(concatenation) {
            Some(parts) => parts
                .into_iter()
                .flat_map(|part| self.parts(part))
                .collect(),
            None => vec![value],
        }
    }

    /// Shape of a value.
    pub fn shape(&self, value: Value) -> ValueShape {
        self.values[value.0]
    }
}
