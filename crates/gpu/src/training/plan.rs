//! From a training to the kernels of an update.

use std::ops::Range;

use wdsr_model::{
    Activation, Conv, ConvWeights, DevicePrecision, FusedOperation, Operation, Value,
};
use wdsr_train::Loss;
use wdsr_train::device::DeviceTask;

use super::by_weights::ByWeights;
use super::kernels::{self, LOSS_WORKGROUPS, LossKernel, NONE, ROW_LEN, ROWS_ALONG_X, WorkLayout};
use super::norms::NormKernels;
use super::spectrum::Spectrum;
use crate::matrices::Matrices;
use crate::plan::{conv_vectors, groups};
use crate::wgsl::{Formats, Kernel, Patches, Work, default_workgroup};

/// Alignment of what is bound at an offset, in bytes and in numbers of four bytes.
const ALIGNED_BYTES: usize = 256;
const ALIGNED: usize = ALIGNED_BYTES / 4;

/// Most chunks of pixels whose gradients by weights are computed at the same time, and the most bytes of these gradients.
const MAX_CHUNKS: usize = 128;
const MAX_PARTIAL_BYTES: usize = 1 << 28;

/// Least pixels of a chunk.
const MIN_CHUNK_PIXELS: usize = 256;

/// A kernel of an update, and what it reads and writes, by the numbers of its bindings.
pub(super) struct Step {
    pub(super) text: String,
    pub(super) bound: Vec<(u32, Bound)>,
    pub(super) workgroups: [u32; 3],
    pub(super) multiply_adds: usize,
}

/// What a kernel reads or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// A map of the batch.
    Map(usize),
    /// The originals, and behind them the teacher's output.
    Target,
    /// Bytes of the packed weights.
    Packed(Range<usize>),
    /// Bytes of the packed weights in f16, which are those of matrices.
    PackedF16(Range<usize>),
    /// The partial gradients by weights, from a byte on.
    Partial(usize),
    State,
    Table,
    Work,
    Rates,
    Results,
    /// The running statistics of batch normalisations.
    Running,
}

/// The kernels of an update.
pub(super) struct TrainingPlan {
    pub(super) steps: Vec<Step>,
    /// The buffer of each map, of which the first is the input. Maps that are not needed at the same time share one.
    pub(super) maps: Vec<usize>,
    /// Bytes of the buffers of maps.
    pub(super) buffers: Vec<usize>,
    pub(super) table: Vec<u32>,
    pub(super) work: WorkLayout,
    /// Numbers of the packed weights, and of those in f16.
    pub(super) packed_len: usize,
    pub(super) packed_f16_len: usize,
    pub(super) partial_bytes: usize,
    /// Samples of the originals.
    pub(super) samples: usize,
    /// The channels of each batch normalisation.
    pub(super) norms: Vec<usize>,
}

/// A convolution's packed weights.
struct PackedConv {
    forward: Bound,
    backward: Bound,
}

/// The place of a packed weight's parameter and of its factor; none for padding.
type Entry = Option<(u32, u32)>;

struct Builder<'t> {
    task: &'t DeviceTask<'t>,
    work: WorkLayout,
    matrices: Option<Matrices>,
    steps: Vec<Step>,
    /// Bytes of each map.
    maps: Vec<usize>,
    packed: Vec<PackedConv>,
    /// First of the partial gradients of each convolution, in numbers.
    partial: Vec<usize>,
    chunks: usize,
    /// Numbers of a chunk.
    chunk_len: usize,
    table: Vec<u32>,
    /// The map of what kernels need of the channels of each batch normalisation.
    norms: Vec<usize>,
}

impl TrainingPlan {
    /// The kernels of a task. Products in f16 are of `matrices`, where these suit; all others are f32.
    pub(super) fn new(task: &DeviceTask<'_>, matrices: Option<Matrices>) -> Self {
        let network = &task.network;
        let mut rows = Vec::new();
        let mut convs = 0..network.convs.len();
        let has_branches = convs.any(|conv| task.layout.conv(conv).branches_at().is_some());
        let (mut entries, mut f16_entries) = (Vec::new(), Vec::new());
        let (mut packed, mut partial, mut chunk_len) = (Vec::new(), Vec::new(), 0);
        for (index, conv) in network.convs.iter().enumerate() {
            let ranges = task.layout.conv(index);
            let (taps, inputs) = (conv.kernel * conv.kernel, conv.in_channels);
            let first_row = rows.len() / ROW_LEN;
            let vectors = 4 * taps * groups(inputs) * groups(conv.out_channels);
            partial.push(chunk_len);
            for channel in 0..conv.out_channels {
                let gain = ranges
                    .gain
                    .as_ref()
                    .map_or(NONE, |gain| (gain.start + channel) as u32);
                rows.extend([
                    (ranges.weight.start + channel * inputs * taps) as u32,
                    (inputs * taps) as u32,
                    gain,
                    (ranges.bias.start + channel) as u32,
                    chunk_len as u32,
                    groups(inputs) as u32,
                    groups(conv.out_channels) as u32,
                    channel as u32,
                    taps as u32,
                    task.conv_factors[index].to_bits(),
                    (chunk_len + 4 * vectors) as u32,
                ]);
                let of_all = inputs * conv.out_channels;
                rows.extend(match ranges.branches_at() {
                    None => [NONE, 0, 0, 0],
                    Some(centre) => [
                        centre + channel * inputs,
                        centre + of_all + channel * inputs,
                        centre + 2 * of_all + channel,
                        of_all + conv.out_channels,
                    ]
                    .map(|place| place as u32),
                });
            }
            chunk_len += 4 * (vectors + groups(conv.out_channels));
            chunk_len = chunk_len.next_multiple_of(ALIGNED);
            // A parameter and its factor; padding has none.
            let weights: Vec<_> = (ranges.weight.clone().enumerate())
                .map(|(at, from)| {
                    let row = first_row + at / (inputs * taps);
                    Some((from as u32, 3 * row as u32))
                })
                .collect();
            let biases: Vec<_> = (ranges.bias.clone().enumerate())
                .map(|(at, from)| Some((from as u32, (3 * (first_row + at) + 1) as u32)))
                .collect();
            let mut push = |conv: &Conv, weights: &[Entry], biases: &[Entry]| {
                let work = conv_work(conv, Activation::None, false);
                match matrices.filter(|matrices| matrices.suit(work)) {
                    Some(matrices) => {
                        let values = matrices.conv_weights(conv, weights, biases, None);
                        Bound::PackedF16(append(&mut f16_entries, values, 2))
                    }
                    None => {
                        let values = conv_vectors(conv, weights, biases, None);
                        Bound::Packed(append(&mut entries, values.into_flattened(), 4))
                    }
                }
            };
            packed.push(PackedConv {
                forward: push(conv, &weights, &biases),
                backward: {
                    let (transposed, weights) = transposed(conv, &weights);
                    push(&transposed, &weights, &vec![None; inputs])
                },
            });
        }
        let norms = network.batch_norms.iter().map(|norm| norm.channels);
        let norms: Vec<usize> = norms.collect();
        let work = WorkLayout {
            rows: rows.len() / ROW_LEN,
            norm_groups: norms.iter().copied().map(groups).sum(),
            parameters: task.layout.len(),
        };
        let first_entry = rows.len();
        let (packed_len, packed_f16_len) = (entries.len(), f16_entries.len());
        let mut table = rows;
        table.extend(
            (entries.into_iter().chain(f16_entries))
                .flat_map(|entry| entry.map_or([NONE; 2], |(from, factor)| [from, factor])),
        );
        let clean = task.clean.map(|clean| {
            let at = table.len();
            table.extend(clean_table(task, clean));
            at
        });
        let pixels = task.batch * task.patch_px.pow(2);
        let chunks = (MAX_PARTIAL_BYTES / (4 * chunk_len))
            .min(pixels / MIN_CHUNK_PIXELS)
            .clamp(1, MAX_CHUNKS);
        let mut builder = Builder {
            task,
            work,
            matrices,
            steps: Vec::new(),
            maps: Vec::new(),
            packed,
            partial,
            chunks,
            chunk_len,
            table,
            norms: vec![usize::MAX; norms.len()],
        };
        let by_row = [
            work.rows.min(ROWS_ALONG_X) as u32,
            work.rows.div_ceil(ROWS_ALONG_X) as u32,
            1,
        ];
        let parameters = [(1, Bound::State), (2, Bound::Table), (3, Bound::Work)];
        let with_rates = [&[(0, Bound::Rates)], &parameters[..]].concat();
        builder.push(kernels::factors(), &parameters, by_row);
        for (len, first, bound, precision) in [
            (
                packed_len,
                first_entry,
                Bound::Packed(0..packed_len * 4),
                DevicePrecision::F32,
            ),
            (
                packed_f16_len,
                first_entry + 2 * packed_len,
                Bound::PackedF16(0..packed_f16_len * 2),
                DevicePrecision::F16,
            ),
        ] {
            if len > 0 {
                let text = kernels::pack(first, len, clean, has_branches, precision);
                let bound = match clean {
                    None => [&parameters[..], &[(4, bound)]].concat(),
                    Some(_) => [&with_rates[..], &[(4, bound)]].concat(),
                };
                builder.push(text, &bound, kernels::workgroups(len));
            }
        }
        builder.network_steps();
        let samples = builder.samples();
        let vectors = chunk_len / 4;
        builder.push(
            kernels::sum_chunks(chunks, vectors),
            &[(1, Bound::Partial(0))],
            kernels::workgroups(vectors),
        );
        let bound = [&with_rates[..], &[(4, Bound::Partial(0))]].concat();
        builder.push(
            kernels::by_parameters(work, samples, has_branches),
            &bound,
            by_row,
        );
        builder.push(
            kernels::measure(work, samples, task.gradient_clip_norm),
            &[(0, Bound::Rates), (3, Bound::Work), (4, Bound::Results)],
            [1, 1, 1],
        );
        builder.push(
            kernels::adam(work),
            &[(0, Bound::Rates), (1, Bound::State), (3, Bound::Work)],
            kernels::workgroups(work.parameters),
        );
        let (maps, buffers) = assign_buffers(&builder.maps, &builder.steps);
        Self {
            steps: builder.steps,
            maps,
            buffers,
            table: builder.table,
            work,
            packed_len,
            packed_f16_len,
            partial_bytes: 4 * chunks * chunk_len,
            samples,
            norms,
        }
    }
}

impl Builder<'_> {
    fn push(&mut self, text: String, bound: &[(u32, Bound)], workgroups: [u32; 3]) {
        self.steps.push(Step {
            text,
            bound: bound.to_vec(),
            workgroups,
            multiply_adds: 0,
        });
    }

    /// A kernel that has maps alone.
    fn push_on_maps(&mut self, (text, workgroups): (String, [u32; 3]), maps: &[(u32, usize)]) {
        let bound = maps.iter().map(|&(at, map)| (at, Bound::Map(map)));
        self.push(text, &bound.collect::<Vec<_>>(), workgroups);
    }

    fn patches(&self, scale: usize) -> Patches {
        Patches {
            count: self.task.batch,
            side_px: self.task.patch_px * scale,
        }
    }

    fn pixels(&self, scale: usize) -> usize {
        self.task.batch * (self.task.patch_px * scale).pow(2)
    }

    /// A new map of so many bytes.
    fn raw_map(&mut self, bytes: usize) -> usize {
        self.maps.push(bytes);
        self.maps.len() - 1
    }

    /// A new map.
    fn map(&mut self, channels: usize, scale: usize) -> usize {
        self.raw_map(16 * groups(channels) * self.pixels(scale))
    }

    /// Samples of the loss.
    fn samples(&self) -> usize {
        3 * self.pixels(self.task.network.config.scale)
    }

    /// The kernels of the network forwards, of the loss, and of the network backwards.
    fn network_steps(&mut self) {
        let network = &self.task.network;
        let operations = network.fused_operations();
        // The last pixel shuffle is part of the loss.
        let (mut result, mut factor) = (network.output, 1);
        let mut count = operations.len();
        if let Some(&FusedOperation::Single(Operation::PixelShuffle { input, scale, .. })) =
            operations.last()
        {
            (result, factor, count) = (input, scale, count - 1);
        }
        let operations = &operations[..count];
        let mut maps = vec![usize::MAX; network.values.len()];
        maps[network.input.0] = self.map(3, 1);
        for operation in operations {
            maps[operation.output().0] = self.forward(operation, &maps);
        }
        let shape = network.shape(result);
        let loss = LossKernel {
            loss: self.task.loss,
            mean: network.config.mean,
            teacher_weight: self.task.teacher_weight,
            patches: self.patches(shape.scale),
            factor,
        };
        let mut gradients = vec![None; network.values.len()];
        let gradient = self.map(shape.channels, shape.scale);
        gradients[result.0] = Some(gradient);
        self.push(
            loss.text(self.work),
            &[
                (1, Bound::Map(maps[result.0])),
                (2, Bound::Target),
                (3, Bound::Work),
                (4, Bound::Map(gradient)),
            ],
            [LOSS_WORKGROUPS as u32, 1, 1],
        );
        self.spectrum(&loss, maps[result.0], gradient);
        for operation in operations.iter().rev() {
            self.backward(operation, &maps, &mut gradients);
        }
    }

    /// The kernels of the loss on the spectrum, if there is one.
    fn spectrum(&mut self, loss: &LossKernel, source: usize, gradient: usize) {
        let Loss::Fft { weight } = loss.loss else {
            return;
        };
        let spectrum = Spectrum {
            loss,
            weight,
            roots_at: self.table.len(),
        };
        self.table.extend(Spectrum::roots(spectrum.side()));
        let mut raw = |bytes: usize| Bound::Map(self.raw_map(bytes));
        let errors = raw(4 * spectrum.errors_len());
        let [rows, slopes, rows_back] = std::array::from_fn(|_| raw(8 * spectrum.spectrum_len()));
        let (source, gradient) = (Bound::Map(source), Bound::Map(gradient));
        let table = || (2, Bound::Table);
        let (text, groups) = spectrum.errors();
        let bound = [(1, source), (2, Bound::Target), (4, errors.clone())];
        self.push(text, &bound, groups);
        let (text, groups) = spectrum.rows();
        let bound = [(1, errors), table(), (4, rows.clone())];
        self.push(text, &bound, groups);
        let (text, groups) = spectrum.columns(self.work);
        let bound = [(1, rows), table(), (3, Bound::Work), (4, slopes.clone())];
        self.push(text, &bound, groups);
        let (text, groups) = spectrum.columns_back();
        let bound = [(1, slopes), table(), (4, rows_back.clone())];
        self.push(text, &bound, groups);
        let (text, groups) = spectrum.rows_back();
        let bound = [(1, rows_back), table(), (4, gradient)];
        self.push(text, &bound, groups);
    }

    /// Returns the map of the operation's output.
    fn forward(&mut self, operation: &FusedOperation, maps: &[usize]) -> usize {
        match *operation {
            FusedOperation::Single(Operation::Conv {
                conv,
                input,
                activation,
                ..
            }) => self.conv(conv, maps[input.0], input, activation, None),
            FusedOperation::PointwisePair {
                expand,
                reduce,
                input,
                ..
            } => {
                let wide = self.conv(expand, maps[input.0], input, Activation::Relu, None);
                self.conv(reduce, wide, input, Activation::None, None)
            }
            FusedOperation::ConvAdd {
                conv,
                input,
                identity,
                ..
            } => {
                let identity = Some(maps[identity.0]);
                self.conv(conv, maps[input.0], input, Activation::None, identity)
            }
            FusedOperation::Single(Operation::PixelShuffle {
                input,
                output,
                scale: factor,
            }) => {
                let out_groups = groups(self.task.network.shape(output).channels);
                let work = Work::Shuffle { factor, out_groups };
                self.element_wise(work, maps[input.0], output)
            }
            FusedOperation::Single(Operation::BatchNorm {
                norm,
                input,
                output,
                relu,
            }) => self.normalise(norm, maps[input.0], output, relu),
            FusedOperation::Single(Operation::Add {
                branch,
                identity,
                output,
                scale: 1.0,
            }) => self.add(maps[branch.0], maps[identity.0], output),
            FusedOperation::Single(_) => unreachable!("{operation:?} in training on a device"),
        }
    }

    fn backward(
        &mut self,
        operation: &FusedOperation,
        maps: &[usize],
        gradients: &mut [Option<usize>],
    ) {
        let gradient = gradients[operation.output().0].take();
        let gradient =
            gradient.unwrap_or_else(|| unreachable!("nothing reads the output of {operation:?}"));
        match *operation {
            FusedOperation::Single(Operation::Conv { conv, input, .. }) => {
                self.conv_backwards(conv, maps, input, gradient, gradients);
            }
            FusedOperation::PointwisePair {
                expand,
                reduce,
                input,
                ..
            } => {
                // The wide map is computed again: all of them would take most of the memory.
                let wide = self.conv(expand, maps[input.0], input, Activation::Relu, None);
                let scale = self.task.network.shape(input).scale;
                self.by_weights(reduce, wide, gradient, scale);
                let by_wide = self.by_input(reduce, gradient, scale, Some((wide, true)));
                self.conv_backwards(expand, maps, input, by_wide, gradients);
            }
            FusedOperation::ConvAdd {
                conv,
                input,
                identity,
                output,
            } => {
                self.conv_backwards(conv, maps, input, gradient, gradients);
                self.add_gradient(gradient, identity, output, gradients);
            }
            FusedOperation::Single(Operation::Add {
                branch,
                identity,
                output,
                ..
            }) => {
                gradients[branch.0] = Some(gradient);
                self.add_gradient(gradient, identity, output, gradients);
            }
            FusedOperation::Single(Operation::BatchNorm { norm, input, .. }) => {
                let by_input = self.normalise_backwards(norm, maps[input.0], gradient, input);
                gradients[input.0] = Some(by_input);
            }
            FusedOperation::Single(Operation::PixelShuffle {
                input,
                scale: factor,
                ..
            }) => {
                let out_groups = groups(self.task.network.shape(input).channels);
                let work = Work::Unshuffle { factor, out_groups };
                gradients[input.0] = Some(self.element_wise(work, gradient, input));
            }
            FusedOperation::Single(_) => unreachable!("{operation:?} in training on a device"),
        }
    }

    /// The gradients by weights and input of a convolution.
    fn conv_backwards(
        &mut self,
        conv: usize,
        maps: &[usize],
        input: Value,
        gradient: usize,
        gradients: &mut [Option<usize>],
    ) {
        let network = &self.task.network;
        let scale = network.shape(input).scale;
        self.by_weights(conv, maps[input.0], gradient, scale);
        if input == network.input {
            return;
        }
        let is_rectified = network.operations.iter().any(|operation| match *operation {
            Operation::Conv {
                activation, output, ..
            } => output == input && activation == Activation::Relu,
            Operation::BatchNorm { relu, output, .. } => output == input && relu,
            _ => false,
        });
        let term = match (is_rectified, gradients[input.0]) {
            (false, other) => other.map(|map| (map, false)),
            (true, None) => Some((maps[input.0], true)),
            (true, Some(_)) => unreachable!("the output of a ReLU is used twice"),
        };
        gradients[input.0] = Some(self.by_input(conv, gradient, scale, term));
    }

    /// A convolution of a map. `input` has its scale.
    fn conv(
        &mut self,
        conv: usize,
        source: usize,
        input: Value,
        activation: Activation,
        identity: Option<usize>,
    ) -> usize {
        let shape = &self.task.network.convs[conv];
        let work = conv_work(shape, activation, false);
        let scale = self.task.network.shape(input).scale;
        let output = self.map(shape.out_channels, scale);
        let packed = self.packed[conv].forward.clone();
        self.kernel(work, scale, source, output, Some(packed), identity);
        output
    }

    /// The gradient by the input of a convolution: that by its output, convolved by the weights transposed. With a term it is
    /// added to that, or is 0 where that is not positive.
    fn by_input(
        &mut self,
        conv: usize,
        gradient: usize,
        scale: usize,
        term: Option<(usize, bool)>,
    ) -> usize {
        let shape = &self.task.network.convs[conv];
        let work = Work::Conv {
            side: shape.kernel,
            in_groups: groups(shape.out_channels),
            out_groups: groups(shape.in_channels),
            activation: Activation::None,
            masks: term.is_some_and(|(_, masks)| masks),
        };
        let output = self.map(shape.in_channels, scale);
        let packed = self.packed[conv].backward.clone();
        let term = term.map(|(map, _)| map);
        self.kernel(work, scale, gradient, output, Some(packed), term);
        output
    }

    /// The partial gradients by the weights of a convolution.
    fn by_weights(&mut self, conv: usize, source: usize, gradient: usize, scale: usize) {
        let shape = &self.task.network.convs[conv];
        let kernel = ByWeights {
            patches: self.patches(scale),
            side: shape.kernel,
            in_groups: groups(shape.in_channels),
            out_groups: groups(shape.out_channels),
            chunks: self.chunks,
            chunk_len: self.chunk_len / 4,
            matrices: ByWeights::suiting(
                self.matrices,
                shape.kernel,
                [shape.in_channels, shape.out_channels].map(groups),
            ),
        };
        self.steps.push(Step {
            text: kernel.text(),
            bound: vec![
                (1, Bound::Map(source)),
                (2, Bound::Map(gradient)),
                (3, Bound::Partial(4 * self.partial[conv])),
            ],
            workgroups: kernel.workgroups(),
            multiply_adds: shape.weights() * self.pixels(scale),
        });
    }

    /// Adds a gradient to that by the identity of a residual.
    fn add_gradient(
        &mut self,
        gradient: usize,
        identity: Value,
        output: Value,
        gradients: &mut [Option<usize>],
    ) {
        gradients[identity.0] = Some(match gradients[identity.0] {
            None => gradient,
            Some(other) => self.add(gradient, other, output),
        });
    }

    /// The kernels of a batch normalisation, of which `value` is the input.
    fn norm(&self, norm: usize, value: Value, relu: bool) -> NormKernels {
        let network = &self.task.network;
        let [factor, offset] = self.task.layout.norm(norm);
        let before = network.batch_norms[..norm].iter();
        let first_group = before.map(|norm| groups(norm.channels)).sum();
        NormKernels {
            channels: network.batch_norms[norm].channels,
            pixels: self.pixels(network.shape(value).scale),
            scale: self.task.norm_factors[norm],
            relu,
            factor: factor.start,
            offset: offset.start,
            running: 2 * first_group,
            first_group,
        }
    }

    /// Returns the map of the normalised output.
    fn normalise(&mut self, norm: usize, source: usize, output: Value, relu: bool) -> usize {
        let kernels = self.norm(norm, output, relu);
        let shape = self.task.network.shape(output);
        let numbers = self.raw_map(kernels.numbers_bytes());
        let sums = self.raw_map(kernels.sums_bytes());
        self.norms[norm] = numbers;
        let result = self.map(shape.channels, shape.scale);
        self.push_on_maps(kernels.sum_input(), &[(1, source), (4, sums)]);
        self.push_on_maps(kernels.mean(), &[(2, sums), (4, numbers)]);
        let of_squares = [(1, source), (2, numbers), (4, sums)];
        self.push_on_maps(kernels.sum_squares(), &of_squares);
        let (text, workgroups) = kernels.deviation();
        let bound = [
            (1, Bound::State),
            (2, Bound::Map(sums)),
            (4, Bound::Map(numbers)),
            (5, Bound::Running),
        ];
        self.push(text, &bound, workgroups);
        let of_result = [(1, source), (2, numbers), (4, result)];
        self.push_on_maps(kernels.normalise(), &of_result);
        result
    }

    /// Returns the map of the gradient by the input, whose map is `source`.
    fn normalise_backwards(
        &mut self,
        norm: usize,
        source: usize,
        gradient: usize,
        input: Value,
    ) -> usize {
        let kernels = self.norm(norm, input, false);
        let shape = self.task.network.shape(input);
        let sums = self.raw_map(kernels.sums_bytes());
        let result = self.map(shape.channels, shape.scale);
        let numbers = self.norms[norm];
        let into = |result: usize| [(1, gradient), (2, numbers), (3, source), (4, result)];
        self.push_on_maps(kernels.sum_gradient(), &into(sums));
        let (text, workgroups) = kernels.by_parameters(self.work, self.samples());
        let bound = [
            (2, Bound::Map(sums)),
            (3, Bound::Work),
            (4, Bound::Map(numbers)),
        ];
        self.push(text, &bound, workgroups);
        self.push_on_maps(kernels.by_input(), &into(result));
        result
    }

    fn element_wise(&mut self, work: Work, source: usize, output: Value) -> usize {
        let shape = self.task.network.shape(output);
        let map = self.map(shape.channels, shape.scale);
        self.kernel(work, shape.scale, source, map, None, None);
        map
    }

    fn add(&mut self, a: usize, b: usize, value: Value) -> usize {
        let shape = self.task.network.shape(value);
        let vectors = groups(shape.channels) * self.pixels(shape.scale);
        let sum = self.map(shape.channels, shape.scale);
        self.push(
            kernels::add(vectors),
            &[(1, Bound::Map(a)), (2, Bound::Map(sum)), (4, Bound::Map(b))],
            kernels::workgroups(vectors),
        );
        sum
    }

    /// A kernel that inference has too.
    fn kernel(
        &mut self,
        work: Work,
        scale: usize,
        source: usize,
        output: usize,
        packed: Option<Bound>,
        term: Option<usize>,
    ) {
        let f32 = DevicePrecision::F32;
        let matrices = (self.matrices).filter(|_| matches!(packed, Some(Bound::PackedF16(_))));
        let kernel = Kernel {
            work,
            formats: Formats {
                products: matrices.map_or(f32, |_| DevicePrecision::F16),
                source: f32,
                term: term.map(|_| f32),
                result: f32,
            },
            scale,
            patches: Some(self.patches(1)),
            workgroup: default_workgroup(matrices),
            matrices,
        };
        let weights = match work {
            Work::Conv {
                side,
                in_groups,
                out_groups,
                ..
            } => side * side * in_groups * out_groups * 16,
            _ => 0,
        };
        let bound = [
            Some((1, Bound::Map(source))),
            Some((2, Bound::Map(output))),
            packed.map(|packed| (3, packed)),
            term.map(|map| (4, Bound::Map(map))),
        ];
        self.steps.push(Step {
            text: kernel.text(),
            bound: bound.into_iter().flatten().collect(),
            workgroups: kernel.workgroups([0; 2], [0; 2]),
            multiply_adds: weights * self.pixels(scale),
        });
    }
}

/// The bits of the weights at strength 0, with their convolutions' factors, at the places of the parameters.
fn clean_table(task: &DeviceTask<'_>, clean: &[ConvWeights]) -> Vec<u32> {
    let mut table = vec![0; task.layout.len()];
    for (conv, (weights, factor)) in clean.iter().zip(&task.conv_factors).enumerate() {
        let ranges = task.layout.conv(conv);
        for (range, values) in [
            (&ranges.weight, &weights.weight),
            (&ranges.bias, &weights.bias),
        ] {
            let places = table[range.clone()].iter_mut();
            places
                .zip(values)
                .for_each(|(place, value)| *place = (value * factor).to_bits());
        }
    }
    table
}

/// Adds packed weights of some bytes each, and returns where they are, in bytes. The next ones are aligned.
fn append(entries: &mut Vec<Entry>, values: Vec<Entry>, bytes: usize) -> Range<usize> {
    let start = entries.len() * bytes;
    entries.extend(values);
    let end = entries.len() * bytes;
    entries.resize(end.next_multiple_of(ALIGNED_BYTES) / bytes, None);
    start..end
}

fn conv_work(conv: &Conv, activation: Activation, masks: bool) -> Work {
    Work::Conv {
        side: conv.kernel,
        in_groups: groups(conv.in_channels),
        out_groups: groups(conv.out_channels),
        activation,
        masks,
    }
}

/// The convolution whose output is the gradient by the input of `conv`, with its weights.
fn transposed<T: Copy>(conv: &Conv, weights: &[T]) -> (Conv, Vec<T>) {
    let (ins, outs, taps) = (
        conv.in_channels,
        conv.out_channels,
        conv.kernel * conv.kernel,
    );
    let turned = (0..ins * outs * taps).map(|at| {
        let (tap, out, input) = (at % taps, at / taps % outs, at / taps / outs);
        weights[(out * ins + input) * taps + taps - 1 - tap]
    });
    let shape = Conv {
        in_channels: outs,
        out_channels: ins,
        ..conv.clone()
    };
    (shape, turned.collect())
}

/// The buffer of each map, and the bytes of the buffers. A buffer is free after the last step that reads its map.
fn assign_buffers(maps: &[usize], steps: &[Step]) -> (Vec<usize>, Vec<usize>) {
    let mut last = vec![0; maps.len()];
    let of_step = |step: &Step| -> Vec<usize> {
        let maps = step.bound.iter().filter_map(|(_, bound)| match bound {
            Bound::Map(map) => Some(*map),
            _ => None,
        });
        maps.collect()
    };
    for (at, step) in steps.iter().enumerate() {
        for map in of_step(step) {
            last[map] = at;
        }
    }
    let (mut buffers, mut free) = (vec![maps[0]], Vec::<usize>::new());
    let mut of_map = vec![usize::MAX; maps.len()];
    // The program writes the input before the first step.
    of_map[0] = 0;
    for (at, step) in steps.iter().enumerate() {
        let used = of_step(step);
        for &map in &used {
            if of_map[map] != usize::MAX {
                continue;
            }
            let found = free.iter().position(|&buffer| buffers[buffer] == maps[map]);
            of_map[map] = match found {
                Some(found) => free.swap_remove(found),
                None => {
                    buffers.push(maps[map]);
                    buffers.len() - 1
                }
            };
        }
        let mut done: Vec<_> = used
            .into_iter()
            .filter(|&map| last[map] == at && map != 0)
            .collect();
        done.sort_unstable();
        done.dedup();
        free.extend(done.into_iter().map(|map| of_map[map]));
    }
    (of_map, buffers)
}

#[cfg(test)]
mod tests {
    use wdsr_model::{Model, Network, NetworkConfig, Norm};
    use wdsr_train::parameters::ParameterLayout;

    use super::*;
    use crate::plan::tests::validate;

    /// Plans of all kinds of networks, norms and losses.
    fn plans() -> Vec<TrainingPlan> {
        let of_side = |(side, threads)| Some(Matrices { side, threads });
        let sizes = [(8, 8), (16, 32), (8, 32), (8, 64)].map(of_side);
        let all = [None].into_iter().chain(sizes);
        all.flat_map(plans_with).collect()
    }

    fn plans_with(matrices: Option<Matrices>) -> Vec<TrainingPlan> {
        let unnormed = NetworkConfig {
            norm: Norm::None,
            ..NetworkConfig::edsr(6, 2, 4)
        };
        let normed = NetworkConfig {
            norm: Norm::Batch,
            ..NetworkConfig::wdsr_b(6, 2, 2)
        };
        let networks = [
            (NetworkConfig::wdsr_b(32, 2, 2), Loss::L1, None),
            (NetworkConfig::wdsr_b(5, 1, 1), Loss::L2, Some(0.5)),
            (
                NetworkConfig::wdsr_a(32, 1, 3),
                Loss::Charbonnier { epsilon: 1e-3 },
                None,
            ),
            (unnormed, Loss::Fft { weight: 0.05 }, None),
            (normed, Loss::L1, None),
            (
                NetworkConfig::wdsr_b(8, 1, 2),
                Loss::Fft { weight: 0.05 },
                Some(0.5),
            ),
        ];
        let plan = |(config, loss, teacher_weight): (NetworkConfig, Loss, Option<f32>)| {
            let network = Network::for_training(&config);
            let layout = ParameterLayout::new(&network, false);
            let clean = Model::random(&config, 1);
            let task = DeviceTask {
                conv_factors: vec![1.0; network.convs.len()],
                norm_factors: vec![1.0; network.batch_norms.len()],
                network,
                layout: &layout,
                clean: (config.scale == 1).then(|| clean.convs()),
                loss,
                teacher_weight,
                batch: 3,
                patch_px: 10,
                gradient_clip_norm: 0.5,
                precision: DevicePrecision::F16,
            };
            TrainingPlan::new(&task, matrices)
        };
        networks.into_iter().map(plan).collect()
    }

    #[test]
    fn kernels_are_valid() {
        for plan in plans() {
            let mut texts: Vec<_> = plan.steps.iter().map(|step| &step.text).collect();
            texts.sort_unstable();
            texts.dedup();
            texts.into_iter().for_each(|text| validate(text));
        }
    }

    /// Each map is written once, before it is read, and no other map is written to its buffer in between.
    #[test]
    fn a_map_keeps_its_buffer_until_it_is_read() {
        for plan in plans() {
            let mut holds = vec![None; plan.buffers.len()];
            holds[0] = Some(0);
            for step in &plan.steps {
                let writes = |binding: u32| {
                    let at = format!("@binding({binding}) var<storage, read_write>");
                    step.text.contains(&at)
                };
                let maps = step
                    .bound
                    .iter()
                    .filter_map(|(binding, bound)| match bound {
                        Bound::Map(map) => Some((*map, writes(*binding))),
                        _ => None,
                    });
                let (written, read): (Vec<_>, Vec<_>) =
                    maps.partition(|(_, is_written)| *is_written);
                for (map, _) in read {
                    assert_eq!(holds[plan.maps[map]], Some(map), "{}", step.text);
                }
                for (map, _) in written {
                    holds[plan.maps[map]] = Some(map);
                }
            }
        }
    }

    #[test]
    fn what_is_bound_at_an_offset_is_aligned() {
        for step in plans().iter().flat_map(|plan| &plan.steps) {
            for (_, bound) in &step.bound {
                if let Bound::Packed(Range { start, .. })
                | Bound::PackedF16(Range { start, .. })
                | Bound::Partial(start) = bound
                {
                    assert_eq!(start % ALIGNED_BYTES, 0, "{bound:?}");
                }
            }
        }
    }
}
