//! The networks as equations, and everything that follows from the equations alone.
//!
//! With u = x - mean:
//!
//! - WDSR: y = shuffle(tail(body(head(u))) + skip(u)) + mean
//! - EDSR: y = last(upsample(h + closing(body(h)))) + mean, h = head(u)
//! - every block: block(x) = residual_scale * branch(x) + x
//!
//! head, tail, closing and last are 3x3 convolutions, skip is 5x5. [`Network::new`] writes them
//! down as a list of operations on values. Inference and training walk that list forwards, the
//! gradients walk it backwards, and parameter counts and the receptive radius are read off it.
//!
//! Source: Yu et al. 2018, figures 2 and 3; JiahuiYu/wdsr_ntire2018 (one shuffle of the sum
//! there equals the sum of two shuffles); EDSR-PyTorch for EDSR.

use wdsr_kernels::ConvLayer;

use crate::config::{BlockKind, NetworkConfig, Norm};
use crate::model::ConvWeights;

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
    /// Key of its tensors without `.weight` or `.bias`, in the official layout
    /// (`head.0`, `body.3.body.2`, ...).
    pub name: String,
    /// Channels it reads.
    pub in_channels: usize,
    /// Channels it writes.
    pub out_channels: usize,
    /// Side of the kernel: 1, 3 or 5.
    pub kernel: usize,
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

    /// Number of weights, without biases.
    pub fn weights(&self) -> usize {
        self.weight_shape().iter().product()
    }

    /// The convolution with weights, as kernels take it.
    pub fn layer<'w>(&self, weights: &'w ConvWeights) -> ConvLayer<'w> {
        ConvLayer {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            kernel: self.kernel,
            weight: &weights.weight,
            bias: &weights.bias,
        }
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

/// One step of the network.
#[allow(missing_docs, reason = "the equation at each variant names its fields")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    /// `output = conv(input)`, or `max(conv(input), 0)` with `relu`; `conv` is an index into
    /// [`Network::convs`].
    Conv {
        conv: usize,
        input: Value,
        output: Value,
        relu: bool,
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
}

impl Operation {
    /// The values it reads.
    pub fn inputs(&self) -> impl Iterator<Item = Value> {
        let (first, second) = match *self {
            Self::Conv { input, .. }
            | Self::BatchNorm { input, .. }
            | Self::PixelShuffle { input, .. } => (input, None),
            Self::Add {
                branch, identity, ..
            } => (branch, Some(identity)),
        };
        std::iter::once(first).chain(second)
    }

    /// The value it makes.
    pub fn output(&self) -> Value {
        match *self {
            Self::Conv { output, .. }
            | Self::BatchNorm { output, .. }
            | Self::PixelShuffle { output, .. }
            | Self::Add { output, .. } => output,
        }
    }
}

/// A network: its tensors, and the operations that turn `input` into `output`.
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
    /// The description it was made from.
    pub config: NetworkConfig,
    /// Convolutions, in the order they run.
    pub convs: Vec<Conv>,
    /// Batch normalisations, in the order they run; empty for a model in use.
    pub batch_norms: Vec<BatchNorm>,
    /// In the order they run.
    pub operations: Vec<Operation>,
    /// Shapes of all values.
    pub values: Vec<ValueShape>,
    /// 3 channels, the image minus the mean.
    pub input: Value,
    /// 3 channels at the network's scale; the mean is still to be added.
    pub output: Value,
}

impl Network {
    /// The network as it is used: normalisations folded into the convolutions.
    ///
    /// # Panics
    /// When the description is not valid.
    pub fn new(config: &NetworkConfig) -> Self {
        Self::build(config, false)
    }

    /// The network as it is trained: with batch normalisations where the description has them.
    ///
    /// # Panics
    /// When the description is not valid.
    pub fn for_training(config: &NetworkConfig) -> Self {
        Self::build(config, config.norm == Norm::Batch)
    }

    fn build(config: &NetworkConfig, batch_norm: bool) -> Self {
        config
            .validate()
            .unwrap_or_else(|message| panic!("network description: {message}"));
        let input = Value(0);
        let mut network = Self {
            config: config.clone(),
            convs: Vec::new(),
            batch_norms: Vec::new(),
            operations: Vec::new(),
            values: vec![ValueShape {
                channels: 3,
                scale: 1,
            }],
            input,
            output: input,
        };
        network.output = match config.block {
            BlockKind::WdsrA | BlockKind::WdsrB => network.wdsr(input, batch_norm),
            BlockKind::Edsr => network.edsr(input, batch_norm),
        };
        network
    }

    fn wdsr(&mut self, u: Value, batch_norm: bool) -> Value {
        let (features, scale) = (self.config.features, self.config.scale);
        let colours = 3 * scale * scale;
        let head = self.conv("head.0", u, features, 3);
        let body = self.body(head, batch_norm);
        let tail = self.conv("tail.0", body, colours, 3);
        let skip = self.conv("skip.0", u, colours, 5);
        let sum = self.add(tail, skip, 1.0);
        self.shuffle(sum, scale)
    }

    fn edsr(&mut self, u: Value, batch_norm: bool) -> Value {
        let NetworkConfig {
            features,
            blocks,
            scale,
            ..
        } = self.config;
        let head = self.conv("head.0", u, features, 3);
        let body = self.body(head, batch_norm);
        let closing = self.conv(&format!("body.{blocks}"), body, features, 3);
        let mut x = self.add(closing, head, 1.0);
        let stages: &[usize] = match scale {
            1 => &[],
            4 => &[2, 2],
            8 => &[2, 2, 2],
            _ => &[scale],
        };
        for (stage, &factor) in stages.iter().enumerate() {
            let wide = self.conv(
                &format!("tail.0.{}", 2 * stage),
                x,
                features * factor * factor,
                3,
            );
            x = self.shuffle(wide, factor);
        }
        self.conv("tail.1", x, 3, 3)
    }

    /// All residual blocks.
    fn body(&mut self, mut x: Value, batch_norm: bool) -> Value {
        let config = self.config.clone();
        let (n, wide) = (config.features, config.features * config.expansion);
        // (channels written, kernel, followed by a ReLU) of each convolution of a block.
        let convs: &[(usize, usize, bool)] = match config.block {
            BlockKind::WdsrA | BlockKind::Edsr => &[(wide, 3, true), (n, 3, false)],
            BlockKind::WdsrB => &[(wide, 1, true), (config.low_rank, 1, false), (n, 3, false)],
        };
        for block in 0..config.blocks {
            let mut branch = x;
            // Position in the published `nn.Sequential`, where norm and ReLU count too.
            let mut position = 0;
            for &(channels, kernel, relu) in convs {
                let name = format!("body.{block}.body.{position}");
                branch = self.push_conv(&name, branch, channels, kernel, relu && !batch_norm);
                if batch_norm {
                    position += 1;
                    branch =
                        self.batch_norm(&format!("body.{block}.body.{position}"), branch, relu);
                }
                position += if relu { 2 } else { 1 };
            }
            x = self.add(branch, x, config.residual_scale);
        }
        x
    }

    fn value(&mut self, channels: usize, scale: usize) -> Value {
        self.values.push(ValueShape { channels, scale });
        Value(self.values.len() - 1)
    }

    fn conv(&mut self, name: &str, input: Value, out_channels: usize, kernel: usize) -> Value {
        self.push_conv(name, input, out_channels, kernel, false)
    }

    fn push_conv(
        &mut self,
        name: &str,
        input: Value,
        out_channels: usize,
        kernel: usize,
        relu: bool,
    ) -> Value {
        let ValueShape {
            channels: in_channels,
            scale,
        } = self.shape(input);
        let output = self.value(out_channels, scale);
        self.convs.push(Conv {
            name: name.to_owned(),
            in_channels,
            out_channels,
            kernel,
        });
        self.operations.push(Operation::Conv {
            conv: self.convs.len() - 1,
            input,
            output,
            relu,
        });
        output
    }

    fn batch_norm(&mut self, name: &str, input: Value, relu: bool) -> Value {
        let ValueShape { channels, scale } = self.shape(input);
        let output = self.value(channels, scale);
        let conv = self.convs.len() - 1;
        self.batch_norms.push(BatchNorm {
            name: name.to_owned(),
            conv,
            channels,
        });
        let norm = self.batch_norms.len() - 1;
        self.operations.push(Operation::BatchNorm {
            norm,
            input,
            output,
            relu,
        });
        output
    }

    fn add(&mut self, branch: Value, identity: Value, factor: f32) -> Value {
        let ValueShape { channels, scale } = self.shape(identity);
        let output = self.value(channels, scale);
        self.operations.push(Operation::Add {
            branch,
            identity,
            output,
            scale: factor,
        });
        output
    }

    fn shuffle(&mut self, input: Value, factor: usize) -> Value {
        if factor == 1 {
            return input;
        }
        let ValueShape { channels, scale } = self.shape(input);
        let output = self.value(channels / (factor * factor), scale * factor);
        self.operations.push(Operation::PixelShuffle {
            input,
            output,
            scale: factor,
        });
        output
    }

    /// Shape of a value.
    pub fn shape(&self, value: Value) -> ValueShape {
        self.values[value.0]
    }

    /// Weights and biases of the convolutions.
    pub fn parameters(&self) -> usize {
        self.convs
            .iter()
            .map(|conv| conv.weights() + conv.out_channels)
            .sum()
    }

    /// Gains that weight normalisation adds in training, one for each output channel of each
    /// convolution. The counts in the READMEs of WDSR implementations include them.
    pub fn gains(&self) -> usize {
        self.convs.iter().map(|conv| conv.out_channels).sum()
    }

    /// Multiply-adds for each pixel of the input.
    pub fn multiply_adds_per_pixel(&self) -> usize {
        self.conv_multiply_adds_per_pixel().iter().sum()
    }

    /// Multiply-adds of each convolution, in the order of `convs`, for each pixel of the input.
    pub fn conv_multiply_adds_per_pixel(&self) -> Vec<usize> {
        let mut multiply_adds = vec![0; self.convs.len()];
        for operation in &self.operations {
            if let Operation::Conv { conv, output, .. } = *operation {
                multiply_adds[conv] = self.convs[conv].weights() * self.shape(output).scale.pow(2);
            }
        }
        multiply_adds
    }

    /// Multiply-adds for an output of the given size; published figures are for 1280 x 720.
    pub fn multiply_adds(&self, output_width_px: u64, output_height_px: u64) -> u64 {
        let scale = self.config.scale as u64;
        let per_pixel = self.multiply_adds_per_pixel() as u64;
        per_pixel * output_width_px * output_height_px / (scale * scale)
    }

    /// How many pixels of the low-resolution image around a pixel its output depends on: the
    /// halo that makes a tile's output equal the whole image's. WDSR-A: 2 N + 2, WDSR-B: N + 2.
    pub fn receptive_radius_px(&self) -> usize {
        // Radius of each value in input pixels; a convolution at scale s reaches 1/s as far, and
        // a pixel's offset within its input pixel is covered by rounding up.
        let mut radius = vec![0.0_f64; self.values.len()];
        for operation in &self.operations {
            match *operation {
                Operation::Conv {
                    conv,
                    input,
                    output,
                    ..
                } => {
                    let reach = (self.convs[conv].kernel / 2) as f64;
                    radius[output.0] = radius[input.0] + reach / self.shape(input).scale as f64;
                }
                Operation::BatchNorm { input, output, .. } => radius[output.0] = radius[input.0],
                Operation::Add {
                    branch,
                    identity,
                    output,
                    ..
                } => {
                    radius[output.0] = radius[branch.0].max(radius[identity.0]);
                }
                Operation::PixelShuffle { input, output, .. } => radius[output.0] = radius[input.0],
            }
        }
        radius[self.output.0].ceil() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_multiply_adds_are_the_published_ones() {
        // facts.md 1.8: folded parameters, with gains, multiply-adds per low-resolution pixel, and
        // 10^8 of them for an output of 1280 x 720 (0: not stated).
        for (config, parameters, with_gains, multiply_adds, at_720p) in [
            (NetworkConfig::wdsr_a(32, 1, 2), 79_164, 79_380, 78_948, 182),
            (
                NetworkConfig::wdsr_a(32, 3, 2),
                226_940,
                227_476,
                226_404,
                522,
            ),
            (
                NetworkConfig::wdsr_a(32, 5, 2),
                374_716,
                375_572,
                373_860,
                861,
            ),
            (
                NetworkConfig::wdsr_a(32, 8, 2),
                596_380,
                597_716,
                595_044,
                1371,
            ),
            (
                NetworkConfig::wdsr_a(32, 16, 2),
                1_187_484,
                1_190_100,
                1_184_868,
                2730,
            ),
            (
                NetworkConfig::wdsr_a(32, 16, 3),
                1_192_959,
                1_195_605,
                1_190_313,
                1219,
            ),
            (
                NetworkConfig::wdsr_a(32, 16, 4),
                1_200_624,
                1_203_312,
                1_197_936,
                690,
            ),
            (
                NetworkConfig::wdsr_b(32, 8, 2),
                152_420,
                154_468,
                150_372,
                346,
            ),
            (
                NetworkConfig::wdsr_b(32, 8, 4),
                165_560,
                167_680,
                163_440,
                94,
            ),
            (
                NetworkConfig::wdsr_b(32, 16, 2),
                299_564,
                303_604,
                295_524,
                681,
            ),
            (
                NetworkConfig::wdsr_b(32, 16, 4),
                312_704,
                316_816,
                308_592,
                178,
            ),
            (
                NetworkConfig::wdsr_b(32, 32, 2),
                593_852,
                601_876,
                585_828,
                1350,
            ),
            (
                NetworkConfig::wdsr_b(32, 32, 4),
                606_992,
                615_088,
                598_896,
                345,
            ),
            (
                NetworkConfig::wdsr_b(64, 16, 2),
                1_194_188,
                1_202_260,
                1_186_116,
                2733,
            ),
            (
                NetworkConfig::edsr(64, 16, 2),
                1_369_859,
                1_372_294,
                1_372_608,
                3163,
            ),
        ] {
            let network = Network::new(&config);
            let label = config.label();
            assert_eq!(network.parameters(), parameters, "{label}");
            assert_eq!(
                network.parameters() + network.gains(),
                with_gains,
                "{label}"
            );
            assert_eq!(network.multiply_adds_per_pixel(), multiply_adds, "{label}");
            let hundred_millions = network.multiply_adds(1280, 720) as f64 / 1e8;
            assert!(
                (hundred_millions - f64::from(at_720p)).abs() <= 1.0,
                "{label}: {hundred_millions}, published {at_720p}"
            );
        }
        // 24 of the published counts are EDSR-PyTorch's frozen MeanShift convolutions.
        assert_eq!(
            Network::new(&NetworkConfig::edsr(64, 16, 2)).parameters(),
            1_369_883 - 24
        );
        assert_eq!(
            Network::new(&NetworkConfig::edsr(64, 16, 4)).parameters(),
            1_517_595 - 24
        );
    }

    #[test]
    fn receptive_radius_is_the_papers() {
        for blocks in [1, 8, 16] {
            let radius = |config| Network::new(&config).receptive_radius_px();
            assert_eq!(radius(NetworkConfig::wdsr_a(32, blocks, 2)), 2 * blocks + 2);
            assert_eq!(radius(NetworkConfig::wdsr_b(32, blocks, 3)), blocks + 2);
        }
    }
}
