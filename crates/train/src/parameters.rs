//! What training changes: every convolution's weight (plain, or as gain and direction under
//! weight normalisation) and bias, and batch normalisation's factors.
//!
//! Weight normalisation, Salimans and Kingma 2016, equations 2 and 3, per output channel:
//! w = g v / |v|; with the gradient dw: dg = dw . v / |v|, dv = g / |v| (dw - dg v / |v|).
//! PyTorch's `weight_norm(dim=0)` starts at g = |v| and adds no epsilon.

use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wdsr_model::{ConvWeights, Network, Norm};

use crate::branches::{EDGE_FILTERS, Edge, add_branches, centre_gradient, edge_gradient};
use crate::recipe::Initialization;

/// PyTorch's `BatchNorm2d` defaults.
pub const BATCH_NORM_EPSILON: f32 = 1e-5;
const BATCH_NORM_MOMENTUM: f32 = 0.1;

/// A named tensor within the flat parameter vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// PyTorch state-dict key.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub range: Range<usize>,
}

/// Where each tensor of a network in training lies.
#[derive(Clone, Debug)]
pub struct Layout {
    /// All tensors in order; their ranges cover the parameter vector without gaps.
    pub slots: Vec<Slot>,
    /// For each convolution, its slots.
    convs: Vec<ConvSlots>,
    /// For each batch normalisation, the slots of its factor and offset.
    norms: Vec<[usize; 2]>,
    /// For each convolution, the batch normalisation after it.
    norm_of_conv: Vec<Option<usize>>,
}

#[derive(Clone, Debug)]
struct ConvSlots {
    weight: usize,
    gain: Option<usize>,
    bias: usize,
    branches: Option<BranchSlots>,
}

/// Those of a convolution's [branches](crate::branches).
#[derive(Clone, Debug)]
struct BranchSlots {
    centre: usize,
    /// Weight and factor.
    edges: [[usize; 2]; EDGE_FILTERS.len()],
}

/// Running statistics of one batch normalisation, per channel.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningStatistics {
    /// Mean over past batches.
    pub mean: Vec<f32>,
    /// Unbiased variance over past batches.
    pub variance: Vec<f32>,
}

impl RunningStatistics {
    /// What a fresh batch normalisation starts from: mean 0, variance 1.
    pub fn new(channels: usize) -> Self {
        Self {
            mean: vec![0.0; channels],
            variance: vec![1.0; channels],
        }
    }

    /// Moves the statistics towards a batch of `count` pixels with biased variance.
    pub fn update(&mut self, mean: &[f32], variance: &[f32], count: usize) {
        let unbias = count as f32 / (count as f32 - 1.0).max(1.0);
        for (running, new) in self.mean.iter_mut().zip(mean) {
            *running += BATCH_NORM_MOMENTUM * (new - *running);
        }
        for (running, new) in self.variance.iter_mut().zip(variance) {
            *running += BATCH_NORM_MOMENTUM * (new * unbias - *running);
        }
    }
}

impl Layout {
    /// The tensors of a network made by [`Network::for_training`]; with `branches` its 3x3
    /// convolutions are trained as sums of branches (ECB, Zhang et al. 2021).
    pub fn new(network: &Network, branches: bool) -> Self {
        let mut slots: Vec<Slot> = Vec::new();
        let mut push = |name: String, shape: Vec<usize>| {
            let start = slots.last().map_or(0, |slot| slot.range.end);
            let len: usize = shape.iter().product();
            slots.push(Slot {
                name,
                shape,
                range: start..start + len,
            });
            slots.len() - 1
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
                let branches = (branches && conv.kernel == 3).then(|| BranchSlots {
                    centre: push(format!("{key}.branches.centre"), one_by_one.clone()),
                    edges: EDGE_FILTERS.map(|(filter, _)| {
                        let key = format!("{key}.branches.{filter}");
                        [
                            push(format!("{key}.weight"), one_by_one.clone()),
                            push(format!("{key}.factor"), vec![conv.out_channels]),
                        ]
                    }),
                });
                ConvSlots {
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
        let after = |conv: usize| {
            network
                .batch_norms
                .iter()
                .position(|norm| norm.conv == conv)
        };
        let norm_of_conv = (0..network.convs.len()).map(after).collect();
        Self {
            slots,
            convs,
            norms,
            norm_of_conv,
        }
    }

    /// Length of the parameter vector.
    pub fn len(&self) -> usize {
        self.slots.last().map_or(0, |slot| slot.range.end)
    }

    /// Whether there is nothing to train.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fresh parameters: PyTorch's default for convolutions (weights and biases uniform within
    /// 1 / sqrt(fan in)), gains at |v|, batch normalisation at factor 1 and offset 0; of branches,
    /// edge weights likewise and everything else 0. `initialization` may change gains and biases.
    pub fn initial(
        &self,
        network: &Network,
        initialization: Initialization,
        seed: u64,
    ) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Streams from 0 on belong to the updates' batches.
        rng.set_stream(u64::MAX);
        let mut values = vec![0.0; self.len()];
        for (conv, slots) in network.convs.iter().zip(&self.convs) {
            let fan_in = conv.in_channels * conv.kernel * conv.kernel;
            let bound = 1.0 / (fan_in as f32).sqrt();
            for slot in [slots.weight, slots.bias] {
                for value in &mut values[self.slots[slot].range.clone()] {
                    *value = rng.random_range(-bound..bound);
                }
            }
            if let Some(gain) = slots.gain {
                let lengths = row_lengths(&values[self.slots[slots.weight].range.clone()], fan_in);
                values[self.slots[gain].range.clone()].copy_from_slice(&lengths);
            }
        }
        for [factor, _] in &self.norms {
            values[self.slots[*factor].range.clone()].fill(1.0);
        }
        for (conv, slots) in network.convs.iter().zip(&self.convs) {
            let edges = slots.branches.iter().flat_map(|branches| branches.edges);
            let bound = 1.0 / (conv.in_channels as f32).sqrt();
            for [weight, _] in edges {
                for value in &mut values[self.slots[weight].range.clone()] {
                    *value = rng.random_range(-bound..bound);
                }
            }
        }
        if initialization == Initialization::Reloaded {
            let last_gain = 1.0 / (network.config.blocks as f32).sqrt();
            for (at, slots) in self.convs.iter().enumerate() {
                values[self.slots[slots.bias].range.clone()].fill(0.0);
                let block = |at: usize| network.convs.get(at).and_then(|c| block_of(&c.name));
                let gain = match block(at) {
                    None => 1.0,
                    here if here == block(at + 1) => 2.0,
                    Some(_) => last_gain,
                };
                if let Some(slot) = slots.gain {
                    values[self.slots[slot].range.clone()].fill(gain);
                }
            }
        }
        values
    }

    /// Makes a convolution run with the given weights: under weight normalisation v = w and
    /// g = |w| for each output channel. A channel of zeros keeps its direction, which would be
    /// undefined, and gets gain 0.
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub fn set_conv(&self, conv: usize, weights: &ConvWeights, parameters: &mut [f32]) {
        let slots = &self.convs[conv];
        parameters[self.slots[slots.bias].range.clone()].copy_from_slice(&weights.bias);
        self.clear_branches(conv, parameters);
        let weight = self.slots[slots.weight].range.clone();
        let Some(gain) = slots.gain else {
            parameters[weight].copy_from_slice(&weights.weight);
            return;
        };
        let fan_in = weights.weight.len() / weights.bias.len();
        let lengths = row_lengths(&weights.weight, fan_in);
        parameters[self.slots[gain].range.clone()].copy_from_slice(&lengths);
        let rows = parameters[weight].chunks_exact_mut(fan_in);
        for ((to, from), length) in rows.zip(weights.weight.chunks_exact(fan_in)).zip(lengths) {
            if length > 0.0 {
                to.copy_from_slice(from);
            }
        }
    }

    /// Makes a convolution, with the batch normalisation after it if there is one, give zeros.
    pub fn set_zero(&self, conv: usize, parameters: &mut [f32]) {
        let slots = &self.convs[conv];
        self.clear_branches(conv, parameters);
        let norm = self.norm_of_conv[conv].map(|norm| self.norms[norm]);
        let zero = [slots.bias, slots.gain.unwrap_or(slots.weight)];
        for slot in zero.into_iter().chain(norm.into_iter().flatten()) {
            parameters[self.slots[slot].range.clone()].fill(0.0);
        }
    }

    /// Makes a convolution's branches add nothing.
    fn clear_branches(&self, conv: usize, parameters: &mut [f32]) {
        if let Some(branches) = &self.convs[conv].branches {
            let factors = branches.edges.iter().map(|[_, factor]| *factor);
            for slot in factors.chain([branches.centre]) {
                parameters[self.slots[slot].range.clone()].fill(0.0);
            }
        }
    }

    /// The convolutions as they run: weight normalisation multiplied out, branches added.
    pub fn convs(&self, network: &Network, parameters: &[f32]) -> Vec<ConvWeights> {
        let of = |slot: usize| &parameters[self.slots[slot].range.clone()];
        network
            .convs
            .iter()
            .zip(&self.convs)
            .map(|(conv, slots)| {
                let mut weight = of(slots.weight).to_vec();
                if let Some(gain) = slots.gain {
                    let fan_in = conv.weights() / conv.out_channels;
                    let lengths = row_lengths(&weight, fan_in);
                    for (row, (gain, length)) in weight
                        .chunks_exact_mut(fan_in)
                        .zip(of(gain).iter().zip(lengths))
                    {
                        let factor = gain / length;
                        row.iter_mut().for_each(|w| *w *= factor);
                    }
                }
                if let Some(branches) = &slots.branches {
                    let edges = branches.edges.map(|[weight, factor]| Edge {
                        weight: of(weight),
                        factor: of(factor),
                    });
                    add_branches(&mut weight, of(branches.centre), edges);
                }
                ConvWeights {
                    weight,
                    bias: of(slots.bias).to_vec(),
                }
            })
            .collect()
    }

    /// Factor and offset of each batch normalisation.
    pub fn norms<'p>(&self, parameters: &'p [f32]) -> Vec<[&'p [f32]; 2]> {
        self.norms
            .iter()
            .map(|slots| slots.map(|slot| &parameters[self.slots[slot].range.clone()]))
            .collect()
    }

    /// The convolutions for a model in use: batch normalisation by its running statistics
    /// folded in as well.
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

    /// Turns the gradients by the running convolutions and batch normalisations into the
    /// gradient by the parameter vector.
    pub fn gradient(&self, parameters: &[f32], by_conv: &Gradients) -> Vec<f32> {
        let mut gradient = vec![0.0; self.len()];
        for (slots, conv) in self.convs.iter().zip(&by_conv.convs) {
            gradient[self.slots[slots.bias].range.clone()].copy_from_slice(&conv.bias);
            if let Some(branches) = &slots.branches {
                let of = |slot: usize| self.slots[slot].range.clone();
                let by_centre = gradient[of(branches.centre)].iter_mut();
                let from = centre_gradient(&conv.weight);
                by_centre.zip(from).for_each(|(to, from)| *to = from);
                for ([weight, factor], (_, filter)) in branches.edges.into_iter().zip(EDGE_FILTERS)
                {
                    let edge = Edge {
                        weight: &parameters[of(weight)],
                        factor: &parameters[of(factor)],
                    };
                    let (by_weight, by_factor) = edge_gradient(&conv.weight, &edge, filter);
                    gradient[of(weight)].copy_from_slice(&by_weight);
                    gradient[of(factor)].copy_from_slice(&by_factor);
                }
            }
            let range = self.slots[slots.weight].range.clone();
            let Some(gain) = slots.gain else {
                gradient[range].copy_from_slice(&conv.weight);
                continue;
            };
            let gain = self.slots[gain].range.clone();
            let fan_in = range.len() / gain.len();
            let lengths = row_lengths(&parameters[range.clone()], fan_in);
            for (channel, length) in lengths.into_iter().enumerate() {
                let rows = channel * fan_in..(channel + 1) * fan_in;
                let v = &parameters[range.clone()][rows.clone()];
                let dw = &conv.weight[rows.clone()];
                let g = parameters[gain.start + channel];
                let along = dw.iter().zip(v).map(|(a, b)| f64::from(a * b)).sum::<f64>() as f32;
                let dg = along / length;
                gradient[gain.start + channel] = dg;
                for ((dv, dw), v) in gradient[range.clone()][rows].iter_mut().zip(dw).zip(v) {
                    *dv = g / length * (dw - dg * v / length);
                }
            }
        }
        for (slots, norm) in self.norms.iter().zip(&by_conv.norms) {
            for (slot, values) in slots.iter().zip(norm) {
                gradient[self.slots[*slot].range.clone()].copy_from_slice(values);
            }
        }
        gradient
    }
}

/// Gradients by the convolutions as they run, and by factor and offset of each batch
/// normalisation.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// In the order of `Network::convs`.
    pub convs: Vec<ConvWeights>,
    /// In the order of `Network::batch_norms`: factor, offset.
    pub norms: Vec<[Vec<f32>; 2]>,
}

impl Gradients {
    /// Zeros in the shape of a network's tensors.
    pub fn zeros(network: &Network) -> Self {
        let convs = network
            .convs
            .iter()
            .map(|conv| ConvWeights {
                weight: vec![0.0; conv.weights()],
                bias: vec![0.0; conv.out_channels],
            })
            .collect();
        let norms = network
            .batch_norms
            .iter()
            .map(|n| [vec![0.0; n.channels], vec![0.0; n.channels]])
            .collect();
        Self { convs, norms }
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        for (sum, term) in self.tensors_mut().zip(other.tensors()) {
            for (sum, term) in sum.iter_mut().zip(term) {
                *sum += term;
            }
        }
    }

    /// Multiplies all by a factor.
    pub fn scale(&mut self, factor: f32) {
        self.tensors_mut()
            .flatten()
            .for_each(|value| *value *= factor);
    }

    fn tensors(&self) -> impl Iterator<Item = &Vec<f32>> {
        self.convs
            .iter()
            .flat_map(|c| [&c.weight, &c.bias])
            .chain(self.norms.iter().flatten())
    }

    fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        self.convs
            .iter_mut()
            .flat_map(|c| [&mut c.weight, &mut c.bias])
            .chain(self.norms.iter_mut().flatten())
    }
}

/// 3 of `body.3.body.2`.
pub(crate) fn block_of(name: &str) -> Option<usize> {
    let (block, _) = name.strip_prefix("body.")?.split_once(".body.")?;
    block.parse().ok()
}

/// Euclidean length of each row.
fn row_lengths(rows: &[f32], row_len: usize) -> Vec<f32> {
    rows.chunks_exact(row_len)
        .map(|row| {
            row.iter()
                .map(|v| f64::from(*v).powi(2))
                .sum::<f64>()
                .sqrt() as f32
        })
        .collect()
}
