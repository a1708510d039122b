//! From a model to kernels: their order, their weights, and the buffers of their maps.

use half::f16;
use wdsr_model::{
    Activation, Conv, ConvWeights, DevicePrecision, FusedOperation, Model, Operation, Value,
};

use crate::matrices::Matrices;
use crate::wgsl::{
    Formats, Kernel, WORKGROUP, Work, conv_block, default_workgroup, has_slopes, vector_bytes,
};

/// Operations that are submitted at a time. A driver takes work of more than a second or two for a hang.
pub(crate) const SUBMITTED_OPERATIONS: u64 = 100_000_000_000;

/// Most pixels of a tile: while the next is computed, the program reads a result, so a large image has several.
const MAX_TILE_PIXELS: usize = 1 << 19;

/// Bytes of all buffers of a tile.
const MAX_TILE_BYTES: u64 = 3 << 29;

/// Operations of a tile on software, which computes them in a second or two.
const SOFTWARE_OPERATIONS: u64 = 20_000_000_000;

/// Pixels of a tile on software, where that is fewer.
const LEAST_SOFTWARE_PIXELS: usize = 96 * 96;

/// A kernel and what it reads and writes.
pub(crate) struct Step {
    pub(crate) kernel: Kernel,
    pub(crate) source: usize,
    pub(crate) term: Option<usize>,
    /// None for the last step, which writes the result.
    pub(crate) output: Option<usize>,
    pub(crate) weights: Vec<f32>,
    pub(crate) multiply_adds_per_pixel: usize,
}

impl Step {
    /// Its weights as its kernel reads them; empty if it has none.
    pub(crate) fn weight_bytes(&self) -> Vec<u8> {
        let weights = self.weights.iter();
        match self.kernel.formats.products {
            DevicePrecision::F32 => {
                let words: Vec<_> = weights.map(|weight| weight.to_le_bytes()).collect();
                words.into_flattened()
            }
            DevicePrecision::F16 => {
                let halves = weights.map(|&weight| f16::from_f32(weight).to_le_bytes());
                halves.collect::<Vec<_>>().into_flattened()
            }
        }
    }
}

/// The kernels of a network.
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// The first map is the image.
    pub(crate) maps: Vec<Map>,
    /// Bytes of each buffer for each pixel of the tile. Maps that are not needed at the same time share one.
    pub(crate) buffers: Vec<usize>,
    /// Output pixels per pixel on each side.
    pub(crate) scale: usize,
}

pub(crate) struct Map {
    format: DevicePrecision,
    bytes_per_pixel: usize,
    pub(crate) buffer: usize,
}

/// Vectors of four for so many channels.
pub(crate) fn groups(channels: usize) -> usize {
    channels.div_ceil(4)
}

impl Plan {
    /// The kernels of a model. Products in f16 are of `matrices`, if there are any, where these suit.
    pub(crate) fn new(
        model: &Model,
        precision: DevicePrecision,
        matrices: Option<Matrices>,
    ) -> Self {
        let matrices = matrices.filter(|_| precision == DevicePrecision::F16);
        let suiting = |work: Work| matrices.filter(|matrices| matrices.suit(work));
        let model = &model.with_residual_scale_in_weights();
        let network = model.network();
        let mut operations = network.fused_operations();
        // The last pixel shuffle is part of the last kernel.
        let (mut result, mut shuffle) = (network.output, 1);
        if let Some(&FusedOperation::Single(Operation::PixelShuffle { input, scale, .. })) =
            operations.last()
        {
            (result, shuffle) = (input, scale);
            operations.pop();
        }
        let formats = formats(model, &operations, result, precision);
        let mut plan = Self {
            steps: Vec::new(),
            maps: Vec::new(),
            buffers: Vec::new(),
            scale: model.config().scale,
        };
        let mut map_of = vec![None; network.values.len()];
        let map = |value: Value| {
            let shape = network.shape(value);
            let format = formats[value.0];
            Map {
                format,
                bytes_per_pixel: groups(shape.channels) * vector_bytes(format) * shape.scale.pow(2),
                buffer: 0,
            }
        };
        map_of[network.input.0] = Some(0);
        plan.maps.push(map(network.input));
        for operation in operations {
            let output = operation.output();
            let channels = |value: Value| groups(network.shape(value).channels);
            let conv = |conv: usize, activation: Activation| {
                let (shape, weights) = (&network.convs[conv], &model.convs()[conv]);
                let work = Work::Conv {
                    side: shape.kernel,
                    in_groups: groups(shape.in_channels),
                    out_groups: groups(shape.out_channels),
                    activation,
                    masks: false,
                };
                let slopes = has_slopes(activation).then(|| weights.slopes_of(activation));
                let slopes = slopes.as_deref();
                let values = match suiting(work) {
                    Some(matrices) => {
                        matrices.conv_weights(shape, &weights.weight, &weights.bias, slopes)
                    }
                    None => {
                        conv_vectors(shape, &weights.weight, &weights.bias, slopes).into_flattened()
                    }
                };
                (work, values, shape.weights())
            };
            let (source, identity, (work, weights, multiply_adds)) = match operation {
                FusedOperation::Single(Operation::Conv {
                    conv: index,
                    input,
                    activation,
                    ..
                }) => (input, None, conv(index, activation)),
                FusedOperation::ConvAdd {
                    conv: index,
                    input,
                    identity,
                    ..
                } => (input, Some(identity), conv(index, Activation::None)),
                FusedOperation::PointwisePair {
                    expand,
                    reduce,
                    input,
                    ..
                } => {
                    let shapes = [expand, reduce].map(|conv| &network.convs[conv]);
                    let weights = [expand, reduce].map(|conv| &model.convs()[conv]);
                    let work = Work::Pair {
                        in_groups: groups(shapes[0].in_channels),
                        hidden_groups: groups(shapes[0].out_channels),
                        out_groups: groups(shapes[1].out_channels),
                    };
                    let multiply_adds = shapes[0].weights() + shapes[1].weights();
                    let values = match suiting(work) {
                        Some(matrices) => matrices.pair_weights(shapes, weights),
                        None => pair_weights(shapes, weights).into_flattened(),
                    };
                    (input, None, (work, values, multiply_adds))
                }
                FusedOperation::Single(Operation::PixelShuffle { input, scale, .. }) => {
                    let work = Work::Shuffle {
                        factor: scale,
                        out_groups: channels(output),
                    };
                    (input, None, (work, Vec::new(), 0))
                }
                FusedOperation::Single(Operation::Repeat { input, times, .. }) => {
                    let work = Work::Repeat {
                        times,
                        out_groups: channels(output),
                    };
                    (input, None, (work, Vec::new(), 0))
                }
                FusedOperation::Single(Operation::Enlarge { input, scale, .. }) => {
                    let work = Work::Enlarge {
                        factor: scale,
                        groups: channels(output),
                    };
                    (input, None, (work, Vec::new(), 0))
                }
                FusedOperation::Single(
                    Operation::Add { .. } | Operation::BatchNorm { .. } | Operation::Concat { .. },
                ) => {
                    unreachable!("{operation:?} in a network that devices compute")
                }
            };
            let scale = network.shape(output).scale;
            let index = |value: Value| -> usize {
                map_of[value.0].unwrap_or_else(|| unreachable!("{value:?} is read too early"))
            };
            let step = Step {
                kernel: Kernel {
                    work,
                    formats: Formats {
                        products: precision,
                        source: formats[source.0],
                        term: identity.map(|value| formats[value.0]),
                        result: formats[output.0],
                    },
                    scale,
                    patches: None,
                    workgroup: default_workgroup(suiting(work)),
                    matrices: suiting(work),
                },
                source: index(source),
                term: identity.map(index),
                output: Some(plan.maps.len()),
                weights,
                multiply_adds_per_pixel: multiply_adds * scale * scale,
            };
            map_of[output.0] = Some(plan.maps.len());
            plan.maps.push(map(output));
            plan.steps.push(step);
        }
        let source = map_of[result.0]
            .unwrap_or_else(|| unreachable!("no operation computes the network's output"));
        plan.steps.push(Step {
            kernel: Kernel {
                work: Work::Finish { shuffle },
                formats: Formats {
                    products: DevicePrecision::F32,
                    source: plan.maps[source].format,
                    term: None,
                    result: DevicePrecision::F32,
                },
                scale: plan.scale,
                patches: None,
                workgroup: WORKGROUP,
                matrices: None,
            },
            source,
            term: None,
            output: None,
            weights: Vec::new(),
            multiply_adds_per_pixel: 0,
        });
        plan.assign_buffers();
        plan
    }

    /// Gives each map a buffer. A buffer is free after the last step that reads its map.
    fn assign_buffers(&mut self) {
        let reads = |step: &Step, map: usize| step.source == map || step.term == Some(map);
        let mut free: Vec<usize> = Vec::new();
        for map in 0..self.maps.len() {
            // Map n + 1 is the output of step n.
            if let Some(step) = map.checked_sub(1) {
                let wanted = self.maps[map].bytes_per_pixel;
                let found = free
                    .iter()
                    .position(|&buffer| self.buffers[buffer] == wanted);
                self.maps[map].buffer = match found {
                    Some(at) => free.swap_remove(at),
                    None => {
                        self.buffers.push(wanted);
                        self.buffers.len() - 1
                    }
                };
                let is_done = |&read: &usize| {
                    reads(&self.steps[step], read)
                        && !self.steps[step + 1..]
                            .iter()
                            .any(|later| reads(later, read))
                };
                let done = (0..map).filter(is_done);
                free.extend(done.map(|map| self.maps[map].buffer));
            } else {
                self.buffers.push(self.maps[0].bytes_per_pixel);
            }
        }
    }

    /// Most pixels of a tile: no buffer exceeds the device's limit, and all together a bound. Dispatches stay within the limits
    /// that all devices have, because a side of 65,535 workgroups is more than two million pixels.
    pub(crate) fn max_tile_pixels(&self, max_buffer_bytes: u64, is_software: bool) -> usize {
        let result_bytes = self.result_bytes_per_pixel();
        let bytes = self.buffers.iter().copied().chain([result_bytes]);
        let largest = bytes.clone().max().unwrap_or(1) as u64;
        // Results are in two further buffers that the program reads.
        let all = bytes.sum::<usize>() + 2 * result_bytes;
        let pixels = (max_buffer_bytes / largest).min(MAX_TILE_BYTES / all as u64) as usize;
        let pixels = pixels.min(MAX_TILE_PIXELS);
        if !is_software {
            return pixels;
        }
        let operations = 2 * self.multiply_adds_per_pixel().max(1) as u64;
        pixels.min(((SOFTWARE_OPERATIONS / operations) as usize).max(LEAST_SOFTWARE_PIXELS))
    }

    /// Bytes of the result for each wanted pixel.
    pub(crate) fn result_bytes_per_pixel(&self) -> usize {
        12 * self.scale * self.scale
    }

    pub(crate) fn multiply_adds_per_pixel(&self) -> usize {
        self.steps
            .iter()
            .map(|step| step.multiply_adds_per_pixel)
            .sum()
    }
}

/// The number format of each value. The image, the result and what is added to the result are f32.
fn formats(
    model: &Model,
    operations: &[FusedOperation],
    result: Value,
    precision: DevicePrecision,
) -> Vec<DevicePrecision> {
    let network = model.network();
    let mut formats = vec![precision; network.values.len()];
    formats[network.input.0] = DevicePrecision::F32;
    formats[result.0] = DevicePrecision::F32;
    for operation in operations {
        if let FusedOperation::ConvAdd {
            identity, output, ..
        } = *operation
            && output == result
        {
            formats[identity.0] = DevicePrecision::F32;
        }
    }
    formats
}

/// The elements `values` of four channels from `first` on; 0 beyond the last.
fn vector<T: Default>(first: usize, channels: usize, value: impl Fn(usize) -> T) -> [T; 4] {
    std::array::from_fn(|part| match first + part {
        channel if channel < channels => value(channel),
        _ => T::default(),
    })
}

/// Weights in the order in which the kernel reads them: for each block of output groups biases, slopes, and for
/// input groups, rows and columns of the convolution's kernel, and output groups, four vectors.
pub(crate) fn conv_vectors<T: Copy + Default>(
    conv: &Conv,
    weight: &[T],
    bias: &[T],
    slopes: Option<&[T]>,
) -> Vec<[T; 4]> {
    let (ins, outs, side) = (conv.in_channels, conv.out_channels, conv.kernel);
    let block = conv_block(groups(outs));
    let mut vectors = Vec::new();
    for first in (0..groups(outs)).step_by(block) {
        let block = first..first + block;
        for by_channel in [Some(bias), slopes].into_iter().flatten() {
            vectors.extend(
                block
                    .clone()
                    .map(|g| vector(g * 4, outs, |o| by_channel[o])),
            );
        }
        for group in 0..groups(ins) {
            for dy in 0..side {
                for dx in 0..side {
                    for out_group in block.clone() {
                        for input in group * 4..group * 4 + 4 {
                            vectors.push(vector(out_group * 4, outs, |o| {
                                let at = ((o * ins + input) * side + dy) * side + dx;
                                if input < ins {
                                    weight[at]
                                } else {
                                    T::default()
                                }
                            }));
                        }
                    }
                }
            }
        }
    }
    vectors
}

/// Weights of a pair: the biases of the second convolution, and for each group of hidden channels the
/// biases and weights of the first and the weights of the second.
fn pair_weights(shapes: [&Conv; 2], weights: [&ConvWeights; 2]) -> Vec<[f32; 4]> {
    let [ins, hidden, outs] = [
        shapes[0].in_channels,
        shapes[0].out_channels,
        shapes[1].out_channels,
    ];
    let [expand, reduce] = weights;
    let biases = (0..groups(outs)).map(|g| vector(g * 4, outs, |o| reduce.bias[o]));
    let mut vectors: Vec<[f32; 4]> = biases.collect();
    for group in 0..groups(hidden) {
        vectors.push(vector(group * 4, hidden, |h| expand.bias[h]));
        for input in 0..groups(ins) * 4 {
            vectors.push(vector(group * 4, hidden, |h| match input < ins {
                true => expand.weight[h * ins + input],
                false => 0.0,
            }));
        }
        for out_group in 0..groups(outs) {
            for h in group * 4..group * 4 + 4 {
                vectors.push(vector(out_group * 4, outs, |o| match h < hidden {
                    true => reduce.weight[o * hidden + h],
                    false => 0.0,
                }));
            }
        }
    }
    vectors
}

#[cfg(test)]
pub(crate) mod tests {
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    use wdsr_model::NetworkConfig;

    use super::*;
    use crate::wgsl::peak_text;

    fn configs() -> Vec<NetworkConfig> {
        let scaled = NetworkConfig {
            residual_scale: 0.1,
            ..NetworkConfig::edsr(64, 2, 2)
        };
        vec![
            NetworkConfig::wdsr_b(32, 2, 2),
            NetworkConfig::wdsr_b(5, 1, 1),
            NetworkConfig::wdsr_b(128, 1, 3),
            NetworkConfig::wdsr_a(32, 2, 8),
            NetworkConfig::compact(17, 2, 4),
            NetworkConfig::compact(8, 1, 1),
            NetworkConfig::msr_resnet(9, 1, 4),
            scaled,
        ]
    }

    fn plans() -> impl Iterator<Item = Plan> {
        let of_side = |(side, threads)| Some(Matrices { side, threads });
        let f16 = [None, of_side((8, 8)), of_side((16, 32))].map(|m| (DevicePrecision::F16, m));
        let all = [(DevicePrecision::F32, None)].into_iter().chain(f16);
        all.flat_map(|(precision, matrices)| {
            let plan = move |config: &NetworkConfig| {
                Plan::new(&Model::random(config, 1), precision, matrices)
            };
            configs().iter().map(plan).collect::<Vec<_>>()
        })
    }

    pub(crate) fn validate(text: &str) {
        let module = naga::front::wgsl::parse_str(text);
        let module = module.unwrap_or_else(|error| panic!("{}", error.emit_to_string(text)));
        let capabilities = Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX;
        let validated = Validator::new(ValidationFlags::all(), capabilities).validate(&module);
        validated.unwrap_or_else(|error| panic!("{}\n{text}", error.emit_to_string(text)));
    }

    #[test]
    fn kernels_are_valid_in_both_precisions_and_on_matrices() {
        let mut on_matrices = 0;
        for plan in plans() {
            for step in &plan.steps {
                validate(&step.kernel.text());
                on_matrices += usize::from(step.kernel.matrices.is_some());
            }
        }
        assert!(on_matrices > 10, "{on_matrices} kernels");
        validate(&peak_text(DevicePrecision::F32));
        validate(&peak_text(DevicePrecision::F16));
        for (side, threads) in [(8, 8), (16, 32)] {
            validate(&Matrices { side, threads }.peak_text());
        }
    }

    #[test]
    fn a_map_keeps_its_buffer_until_it_is_read() {
        for plan in plans() {
            let mut holds = vec![None; plan.buffers.len()];
            holds[plan.maps[0].buffer] = Some(0);
            for step in &plan.steps {
                for map in [Some(step.source), step.term].into_iter().flatten() {
                    assert_eq!(
                        holds[plan.maps[map].buffer],
                        Some(map),
                        "buffer of map {map}"
                    );
                }
                if let Some(map) = step.output {
                    let buffer = plan.maps[map].buffer;
                    let is_read = |read: usize| plan.maps[read].buffer == buffer;
                    assert!(
                        !is_read(step.source),
                        "map {map} replaces what its step reads"
                    );
                    assert!(!step.term.is_some_and(is_read), "map {map} replaces a term");
                    assert!(
                        plan.buffers[buffer] >= plan.maps[map].bytes_per_pixel,
                        "map {map}"
                    );
                    holds[buffer] = Some(map);
                }
            }
        }
    }

    #[test]
    fn wdsr_b_needs_few_buffers_and_one_kernel_for_each_part() {
        let plan = Plan::new(
            &Model::random(&NetworkConfig::wdsr_b(32, 16, 2), 1),
            DevicePrecision::F32,
            None,
        );
        // Head, 16 pairs, 16 convolutions, tail, skip, finish.
        assert_eq!(plan.steps.len(), 36);
        let mut texts: Vec<String> = plan.steps.iter().map(|step| step.kernel.text()).collect();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), 6, "kernels");
        // The image, two of the body, the low-rank map, tail or skip, and their sum.
        assert!(plan.buffers.len() <= 7, "{:?}", plan.buffers);
        assert_eq!(plan.multiply_adds_per_pixel(), 295_524);
    }
}
