//! The parameter vector: the places of its tensors, and the convolutions that they make up.

use std::ops::Range;

use wdsr_model::{ConvWeights, Network, Norm};

use super::branches::{EDGE_FILTERS, EdgeBranch, add_branches, centre_gradient, edge_gradient};
use super::gradients::Gradients;
use super::running_statistics::RunningStatistics;

/// Epsilon of PyTorch's `BatchNorm2d`.
pub const BATCH_NORM_EPSILON: f32 = 1e-5;

/// A named tensor in the parameter vector.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterTensor {
    /// Key in PyTorch's state dict.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// Its range in the parameter vector.
    pub range: Range<usize>,
}

/// The tensors of a network in training and their places in the parameter vector.
#[derive(Clone, Debug)]
pub struct ParameterLayout {
    /// All tensors in order; their ranges cover the parameter vector without gaps.
    pub tensors: Vec<ParameterTensor>,
    /// In the order of `Network::convs`.
    pub(super) convs: Vec<ConvRanges>,
    /// Ranges of factor and offset, in the order of `Network::batch_norms`.
    pub(super) norms: Vec<[Range<usize>; 2]>,
    /// The batch normalisation after each convolution.
    norm_of_conv: Vec<Option<usize>>,
}

/// The ranges of a convolution's tensors.
#[derive(Clone, Debug)]
pub struct ConvRanges {
    /// The weights, or with weight normalisation the directions: `[out, in, kernel, kernel]`.
    pub weight: Range<usize>,
    /// The gains of weight normalisation.
    pub gain: Option<Range<usize>>,
    /// The biases.
    pub bias: Range<usize>,
    pub(super) branches: Option<BranchRanges>,
}

/// The ranges of a convolution's [branches](super::branches).
#[derive(Clone, Debug)]
pub(super) struct BranchRanges {
    centre: Range<usize>,
    /// Weight and factor.
    pub(super) edges: [[Range<usize>; 2]; EDGE_FILTERS.len()],
}

impl ConvRanges {
    /// Where the branches begin, if there are some: the 1x1 branch `[out, in]`, and then for each of
    /// [`EDGE_FILTERS`] the 1x1 weights before it `[out, in]` and its factors `[out]`.
    pub fn branches_at(&self) -> Option<usize> {
        self.branches.as_ref().map(|branches| branches.centre.start)
    }
}

impl BranchRanges {
    fn edge<'p>(&self, at: usize, parameters: &'p [f32]) -> EdgeBranch<'p> {
        let [weight, factor] = &self.edges[at];
        EdgeBranch {
            weight: &parameters[weight.clone()],
            factor: &parameters[factor.clone()],
        }
    }
}

impl ParameterLayout {
    /// The layout for a network made by [`Network::for_training`]. With `branches` its 3x3
    /// convolutions are trained as sums of branches (ECB, Zhang et al. 2021).
    pub fn new(network: &Network, branches: bool) -> Self {
        let mut tensors: Vec<ParameterTensor> = Vec::new();
        let mut push = |name: String, shape: Vec<usize>| {
            let start = tensors.last().map_or(0, |tensor| tensor.range.end);
            let range = start..start + shape.iter().product::<usize>();
            tensors.push(ParameterTensor {
                name,
                shape,
                range: range.clone(),
            });
            range
        };
        let weight_norm = network.config.norm == Norm::Weight;
        let convs = network
            .convs
            .iter()
            .map(|conv| {
                let key = &conv.name;
                let bias = push(format!("{key}.bias"), vec![conv.out_channels]);
                let gain = weight_norm
                    .then(|| push(format!("{key}.weight_g"), vec![conv.out_channels, 1, 1, 1]));
                let name = if weight_norm { "weight_v" } else { "weight" };
                let weight = push(format!("{key}.{name}"), conv.weight_shape().to_vec());
                let one_by_one = vec![conv.out_channels, conv.in_channels, 1, 1];
                let branches = (branches && conv.kernel == 3).then(|| BranchRanges {
                    centre: push(format!("{key}.branches.centre"), one_by_one.clone()),
                    edges: EDGE_FILTERS.map(|(filter, _)| {
                        let key = format!("{key}.branches.{filter}");
                        [
                            push(format!("{key}.weight"), one_by_one.clone()),
                            push(format!("{key}.factor"), vec![conv.out_channels]),
                        ]
                    }),
                });
                ConvRanges {
                    weight,
                    gain,
                    bias,
                    branches,
                }
            })
            .collect();
        let norms = network
            .batch_norms
            .iter()
            .map(|norm| {
                ["weight", "bias"]
                    .map(|part| push(format!("{}.{part}", norm.name), vec![norm.channels]))
            })
            .collect();
        let norm_after = |conv: usize| {
            let mut norms = network.batch_norms.iter();
            norms.position(|norm| norm.conv == conv)
        };
        let norm_of_conv = (0..network.convs.len()).map(norm_after).collect();
        Self {
            tensors,
            convs,
            norms,
            norm_of_conv,
        }
    }

    /// The ranges of a convolution: an index into `Network::convs`.
    pub fn conv(&self, conv: usize) -> &ConvRanges {
        &self.convs[conv]
    }

    /// Length of the parameter vector.
    pub fn len(&self) -> usize {
        self.tensors.last().map_or(0, |tensor| tensor.range.end)
    }

    /// Whether the network has no parameters.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets a convolution to the given weights. With weight normalisation v = w and g = |w| for
    /// each output channel; a channel of zeros keeps its direction, which would be undefined, and
    /// gets gain 0.
    ///
    /// # Panics
    /// If the lengths do not match.
    pub fn set_conv(&self, conv: usize, weights: &ConvWeights, parameters: &mut [f32]) {
        let ranges = &self.convs[conv];
        parameters[ranges.bias.clone()].copy_from_slice(&weights.bias);
        self.clear_branches(conv, parameters);
        let weight = ranges.weight.clone();
        let Some(gain) = ranges.gain.clone() else {
            parameters[weight].copy_from_slice(&weights.weight);
            return;
        };
        let fan_in = weights.weight.len() / weights.bias.len();
        let lengths = row_lengths(&weights.weight, fan_in);
        parameters[gain].copy_from_slice(&lengths);
        let rows = parameters[weight].chunks_exact_mut(fan_in);
        for ((to, from), length) in rows.zip(weights.weight.chunks_exact(fan_in)).zip(lengths) {
            if length > 0.0 {
                to.copy_from_slice(from);
            }
        }
    }

    /// Makes the output of a convolution, and of the batch normalisation after it, zero.
    pub fn set_zero(&self, conv: usize, parameters: &mut [f32]) {
        let ranges = &self.convs[conv];
        self.clear_branches(conv, parameters);
        let weight = ranges.gain.as_ref().unwrap_or(&ranges.weight);
        let norm = self.norm_of_conv[conv].map(|norm| &self.norms[norm]);
        for range in [&ranges.bias, weight]
            .into_iter()
            .chain(norm.into_iter().flatten())
        {
            parameters[range.clone()].fill(0.0);
        }
    }

    /// Makes the branches of a convolution add nothing.
    fn clear_branches(&self, conv: usize, parameters: &mut [f32]) {
        if let Some(branches) = &self.convs[conv].branches {
            let factors = branches.edges.iter().map(|[_, factor]| factor);
            for range in factors.chain([&branches.centre]) {
                parameters[range.clone()].fill(0.0);
            }
        }
    }

    /// The merged convolutions: weight normalisation multiplied out, branches added.
    pub fn convs(&self, network: &Network, parameters: &[f32]) -> Vec<ConvWeights> {
        let merge = |(conv, ranges): (&wdsr_model::Conv, &ConvRanges)| {
            let mut weight = parameters[ranges.weight.clone()].to_vec();
            if let Some(gain) = &ranges.gain {
                let fan_in = conv.weights() / conv.out_channels;
                let lengths = row_lengths(&weight, fan_in);
                let gains = parameters[gain.clone()].iter().zip(lengths);
                for (row, (gain, length)) in weight.chunks_exact_mut(fan_in).zip(gains) {
                    let factor = gain / length;
                    row.iter_mut().for_each(|w| *w *= factor);
                }
            }
            if let Some(branches) = &ranges.branches {
                let edges = std::array::from_fn(|at| branches.edge(at, parameters));
                add_branches(&mut weight, &parameters[branches.centre.clone()], edges);
            }
            ConvWeights {
                weight,
                bias: parameters[ranges.bias.clone()].to_vec(),
                slopes: Vec::new(),
            }
        };
        network.convs.iter().zip(&self.convs).map(merge).collect()
    }

    /// The ranges of factor and offset of a batch normalisation: an index into `Network::batch_norms`.
    ///
    /// # Panics
    /// If there is no such one.
    pub fn norm(&self, norm: usize) -> [Range<usize>; 2] {
        self.norms[norm].clone()
    }

    /// Factor and offset of each batch normalisation.
    pub fn norms<'p>(&self, parameters: &'p [f32]) -> Vec<[&'p [f32]; 2]> {
        let of = |range: &Range<usize>| &parameters[range.clone()];
        self.norms
            .iter()
            .map(|[factor, offset]| [of(factor), of(offset)])
            .collect()
    }

    /// The convolutions for inference: [merged](Self::convs), and batch normalisation by its running
    /// statistics folded in.
    pub fn folded(
        &self,
        network: &Network,
        parameters: &[f32],
        running: &[RunningStatistics],
    ) -> Vec<ConvWeights> {
        let mut convs = self.convs(network, parameters);
        let norms = self.norms(parameters);
        for ((norm, [factor, offset]), running) in
            network.batch_norms.iter().zip(norms).zip(running)
        {
            let conv = &mut convs[norm.conv];
            let fan_in = conv.weight.len() / norm.channels;
            for (channel, row) in conv.weight.chunks_exact_mut(fan_in).enumerate() {
                let deviation = (running.variance[channel] + BATCH_NORM_EPSILON).sqrt();
                let gain = factor[channel] / deviation;
                row.iter_mut().for_each(|w| *w *= gain);
                conv.bias[channel] =
                    (conv.bias[channel] - running.mean[channel]) * gain + offset[channel];
            }
        }
        convs
    }

    /// Backpropagates from the merged convolutions and the batch normalisations to the parameter
    /// vector.
    pub fn gradient(&self, parameters: &[f32], by_conv: &Gradients) -> Vec<f32> {
        let mut gradient = vec![0.0; self.len()];
        for (ranges, by_conv) in self.convs.iter().zip(&by_conv.convs) {
            gradient[ranges.bias.clone()].copy_from_slice(&by_conv.bias);
            if let Some(branches) = &ranges.branches {
                backward_branches(branches, parameters, &by_conv.weight, &mut gradient);
            }
            match &ranges.gain {
                Some(gain) => backward_weight_norm(
                    ranges.weight.clone(),
                    gain.clone(),
                    parameters,
                    &by_conv.weight,
                    &mut gradient,
                ),
                None => gradient[ranges.weight.clone()].copy_from_slice(&by_conv.weight),
            }
        }
        for (range, by_norm) in self
            .norms
            .iter()
            .flatten()
            .zip(by_conv.norms.iter().flatten())
        {
            gradient[range.clone()].copy_from_slice(by_norm);
        }
        gradient
    }
}

/// Gradients by the branches of a convolution from that by its merged kernel.
fn backward_branches(
    branches: &BranchRanges,
    parameters: &[f32],
    by_kernel: &[f32],
    gradient: &mut [f32],
) {
    let by_centre = gradient[branches.centre.clone()].iter_mut();
    by_centre
        .zip(centre_gradient(by_kernel))
        .for_each(|(to, from)| *to = from);
    for (at, (_, filter)) in EDGE_FILTERS.into_iter().enumerate() {
        let edge = branches.edge(at, parameters);
        let (by_weight, by_factor) = edge_gradient(by_kernel, &edge, filter);
        let [weight, factor] = &branches.edges[at];
        gradient[weight.clone()].copy_from_slice(&by_weight);
        gradient[factor.clone()].copy_from_slice(&by_factor);
    }
}

/// Gradients by direction and gain from that by the kernel.
fn backward_weight_norm(
    weight: Range<usize>,
    gain: Range<usize>,
    parameters: &[f32],
    by_kernel: &[f32],
    gradient: &mut [f32],
) {
    let fan_in = weight.len() / gain.len();
    let lengths = row_lengths(&parameters[weight.clone()], fan_in);
    for (channel, length) in lengths.into_iter().enumerate() {
        let row = channel * fan_in..(channel + 1) * fan_in;
        let v = &parameters[weight.clone()][row.clone()];
        let dw = &by_kernel[row.clone()];
        let g = parameters[gain.start + channel];
        let along = dw.iter().zip(v).map(|(a, b)| f64::from(a * b)).sum::<f64>() as f32;
        let dg = along / length;
        gradient[gain.start + channel] = dg;
        for ((dv, dw), v) in gradient[weight.clone()][row].iter_mut().zip(dw).zip(v) {
            *dv = g / length * (dw - dg * v / length);
        }
    }
}

/// Euclidean length of each row.
pub(super) fn row_lengths(rows: &[f32], row_len: usize) -> Vec<f32> {
    let length = |row: &[f32]| {
        let squares = row.iter().map(|v| f64::from(*v).powi(2));
        squares.sum::<f64>().sqrt() as f32
    };
    rows.chunks_exact(row_len).map(length).collect()
}
