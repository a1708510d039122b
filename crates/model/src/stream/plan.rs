//! From the network's operations to the stages that strips stream through.

use wdsr_kernels::{
    ByteConv, BytePair, ByteScale, Epilogue, Isa, PixelConv, PixelPair, Precision, STRIP_ROWS,
    Scratch, Strip, StripConv, StripFormat, StripPair,
};

use super::symmetry::Symmetry;
use crate::fused::FusedOperation;
use crate::int8::{Int8Scales, Int8Weights};
use crate::model::{ConvWeights, Model};
use crate::network::{Activation, Conv, Network, Operation, Value, ValueShape};

/// How a network is computed.
#[derive(Clone, Copy)]
pub(crate) struct Arithmetic {
    pub(crate) isa: Isa,
    pub(crate) precision: Precision,
}

impl Arithmetic {
    /// Whether convolutions of many channels are products of tiles, which read and write pixels instead of planes.
    fn has_tiles(self) -> bool {
        self.isa.has_tiles() && self.precision == Precision::Bf16
    }
}

/// Feature maps between stages.
pub(super) struct Map {
    pub(super) shape: ValueShape,
    pub(super) format: StripFormat,
    /// The last stage that reads it; none reads the result.
    pub(super) last_reader: Option<usize>,
    /// Pixels of the image that it is behind the image's tiles and waves.
    pub(super) delay_px: usize,
    /// Its own pixels that are read left of a tile and above a wave.
    pub(super) margin_px: usize,
}

impl Map {
    /// The row that a wave starts at.
    pub(super) fn first_row(&self, wave: usize) -> isize {
        ((wave * STRIP_ROWS) as isize - self.delay_px as isize) * self.shape.scale as isize
    }
}

/// A stage computes the strips of one map from those of others.
#[derive(Clone)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) kernel: Kernel,
    /// The map that it reads; none for the stage that reads the image.
    pub(super) input: Option<usize>,
    /// A map of the output's shape that is added to the sums of a convolution, to the result of an
    /// enlargement, or of a conversion to planes. No ReLU follows it.
    pub(super) addend: Option<usize>,
    pub(super) output: usize,
    pub(super) multiply_adds_per_pixel: usize,
}

#[derive(Clone)]
pub(super) enum Kernel {
    /// Reads the image.
    Read,
    Conv {
        conv: ConvKernel,
        activation: Activation,
        /// Of PReLU and leaky ReLU.
        slopes: Vec<f32>,
        radius_px: usize,
    },
    Pair(PairKernel),
    /// Another format of the same map.
    Convert(Isa),
    /// Bytes of the same map.
    Quantize(Isa, ByteScale),
    /// Pixel shuffle in the middle of a network.
    Shuffle {
        scale: usize,
    },
    /// Bilinear interpolation.
    Enlarge {
        scale: usize,
    },
}

/// A convolution of planes, of pixels or of bytes.
#[derive(Clone)]
pub(super) enum ConvKernel {
    Planes(StripConv),
    Pixels(PixelConv),
    /// It reads bytes of the scale.
    Bytes(ByteConv, ByteScale),
}

impl ConvKernel {
    pub(super) fn run(
        &self,
        input: &Strip,
        output: &mut Strip,
        epilogue: Epilogue<'_, Strip>,
        scratch: &mut Scratch,
    ) {
        match self {
            Self::Planes(conv) => conv.run(input, output, epilogue, scratch),
            Self::Pixels(conv) => conv.run(input, output, epilogue, scratch),
            Self::Bytes(conv, _) => conv.run(input, output, epilogue, scratch),
        }
    }
}

/// A pair of 1x1 convolutions of planes or of pixels, or of planes that it rounds to bytes.
#[derive(Clone)]
pub(super) enum PairKernel {
    Planes(StripPair),
    Pixels(PixelPair),
    Bytes(Box<BytePair>),
}

impl PairKernel {
    pub(super) fn run(&self, input: &Strip, output: &mut Strip, scratch: &mut Scratch) {
        match self {
            Self::Planes(pair) => pair.run(input, output, scratch),
            Self::Pixels(pair) => pair.run(input, output, scratch),
            Self::Bytes(pair) => pair.run(input, output, scratch),
        }
    }
}

impl Stage {
    /// A conversion of a map, plus another one.
    fn conversion(isa: Isa, input: usize, addend: Option<usize>, output: usize) -> Self {
        Self {
            name: "memory layout".to_owned(),
            kernel: Kernel::Convert(isa),
            input: Some(input),
            addend,
            output,
            multiply_adds_per_pixel: 0,
        }
    }

    /// Pixels that it reads on each side of a pixel.
    fn radius_px(&self) -> usize {
        match self.kernel {
            Kernel::Conv { radius_px, .. } => radius_px,
            Kernel::Enlarge { .. } => 1,
            Kernel::Read
            | Kernel::Pair(_)
            | Kernel::Convert(_)
            | Kernel::Quantize(..)
            | Kernel::Shuffle { .. } => 0,
        }
    }

    fn reads(&self) -> impl Iterator<Item = usize> {
        self.input.into_iter().chain(self.addend)
    }
}

/// The stages, each after those whose maps it reads.
pub(crate) struct Plan {
    pub(super) maps: Vec<Map>,
    pub(super) stages: Vec<Stage>,
    /// The map of the result: `3 * output_shuffle^2` channels.
    pub(super) output: usize,
    /// Pixel shuffle that remains to be applied to the result.
    pub(crate) output_shuffle: usize,
    /// Factor of the result: symmetric networks are summed, not averaged.
    pub(crate) output_factor: f32,
}

impl Plan {
    /// A plan of the network in each of the symmetries, whose results are summed.
    pub(super) fn new(model: &Model, arithmetic: Arithmetic, symmetries: &[Symmetry]) -> Self {
        let model = &model.with_residual_scale_in_weights();
        let network = model.network();
        let mut plan = Plan {
            maps: Vec::new(),
            stages: Vec::new(),
            output: 0,
            output_shuffle: 1,
            output_factor: 1.0 / symmetries.len() as f32,
        };
        let input = plan.push_map(network.shape(network.input), StripFormat::Planes);
        plan.stages.push(Stage {
            name: "image in".to_owned(),
            kernel: Kernel::Read,
            input: None,
            addend: None,
            output: input,
            multiply_adds_per_pixel: 0,
        });
        let mut sum = None;
        for &symmetry in symmetries {
            let first_stage = plan.stages.len();
            let form = SymmetricNetwork {
                model,
                arithmetic,
                symmetry,
                shuffles: output_shuffles(network),
            };
            form.push_stages(&mut plan, input);
            if let Some(sum) = sum {
                plan.add_to_result(first_stage, sum);
            }
            sum = Some(plan.output);
        }
        plan.sort_stages();
        plan.assign_delays();
        if plan.repeat_for_late_readers() {
            plan.sort_stages();
            plan.assign_delays();
        }
        plan.assign_margins();
        plan
    }

    /// The maps that a stage is the last one to read.
    pub(super) fn read_last_by(&self, stage: usize) -> impl Iterator<Item = usize> + use<> {
        let Stage { input, addend, .. } = self.stages[stage];
        let addend = addend.filter(|addend| Some(*addend) != input);
        let is_last = |map: &usize| self.maps[*map].last_reader == Some(stage);
        let [input, addend] = [input.filter(is_last), addend.filter(is_last)];
        input.into_iter().chain(addend)
    }

    /// Rows of the image that the result is behind.
    pub(crate) fn delay_rows(&self) -> usize {
        self.maps[self.output].delay_px
    }

    /// Waves of an image of the given height: the last ones compute the delayed rows.
    pub(super) fn waves(&self, height_px: usize) -> usize {
        (height_px + self.delay_rows()).div_ceil(STRIP_ROWS)
    }

    fn push_map(&mut self, shape: ValueShape, format: StripFormat) -> usize {
        self.maps.push(Map {
            shape,
            format,
            last_reader: None,
            delay_px: 0,
            margin_px: 0,
        });
        self.maps.len() - 1
    }

    /// A map in another format, by a new stage where there is none yet.
    fn in_format(&mut self, isa: Isa, map: usize, format: StripFormat) -> usize {
        if self.maps[map].format == format {
            return map;
        }
        let is_converted = |stage: &&Stage| {
            stage.input == Some(map)
                && matches!(stage.kernel, Kernel::Convert(_))
                && self.maps[stage.output].format == format
        };
        if let Some(stage) = self.stages.iter().find(is_converted) {
            return stage.output;
        }
        let input = match format {
            StripFormat::Bf16Pixels => self.in_format(isa, map, StripFormat::Pixels),
            _ => map,
        };
        let output = self.push_map(self.maps[map].shape, format);
        self.stages
            .push(Stage::conversion(isa, input, None, output));
        output
    }

    /// A map as bytes of a scale, by a new stage if it is not bytes already.
    fn in_bytes(&mut self, isa: Isa, map: usize, scale: &ByteScale) -> usize {
        if self.maps[map].format == scale.format() {
            return map;
        }
        let output = self.push_map(self.maps[map].shape, scale.format());
        self.stages.push(Stage {
            name: "to bytes".to_owned(),
            kernel: Kernel::Quantize(isa, scale.clone()),
            input: Some(map),
            addend: None,
            output,
            multiply_adds_per_pixel: 0,
        });
        output
    }

    /// Adds the map `sum` to the result of the network whose stages start at `first_stage`: at the
    /// first stage of the chain of sums that its result is.
    fn add_to_result(&mut self, first_stage: usize, sum: usize) {
        let mut map = self.output;
        loop {
            let stage = self.stages[first_stage..]
                .iter_mut()
                .find(|stage| stage.output == map)
                .unwrap_or_else(|| unreachable!("no stage computes map {map}"));
            match stage.addend {
                Some(addend) => map = addend,
                None => {
                    stage.addend = Some(sum);
                    return;
                }
            }
        }
    }

    /// Sorts the stages so that each is after those whose maps it reads.
    fn sort_stages(&mut self) {
        let mut computed = vec![false; self.maps.len()];
        let mut sorted = Vec::with_capacity(self.stages.len());
        while !self.stages.is_empty() {
            let next = self
                .stages
                .iter()
                .position(|stage| stage.reads().all(|map| computed[map]))
                .unwrap_or_else(|| unreachable!("stages read each other"));
            let stage = self.stages.remove(next);
            computed[stage.output] = true;
            sorted.push(stage);
        }
        self.stages = sorted;
    }

    /// Sets the delay of each map. A stage reads beyond the end of its output, so that is delayed
    /// against the input. It is delayed as much as its readers allow, because they keep all that they
    /// read further back.
    fn assign_delays(&mut self) {
        for stage in &self.stages {
            let of_input = stage.input.map_or(0, |input| {
                let input = &self.maps[input];
                input.delay_px + stage.radius_px().div_ceil(input.shape.scale)
            });
            let of_addend = stage.addend.map_or(0, |addend| self.maps[addend].delay_px);
            self.maps[stage.output].delay_px = of_input.max(of_addend);
        }
        // The image's map has no delay.
        for stage in self.stages[1..].iter().rev() {
            let map = stage.output;
            let allowed = self.stages.iter().flat_map(|reader| {
                let delay_px = self.maps[reader.output].delay_px;
                let radius_px = reader.radius_px().div_ceil(self.maps[map].shape.scale);
                let as_input = (reader.input == Some(map)).then(|| delay_px - radius_px);
                let as_addend = (reader.addend == Some(map)).then_some(delay_px);
                as_input.into_iter().chain(as_addend)
            });
            if let Some(delay_px) = allowed.min() {
                self.maps[map].delay_px = delay_px;
            }
        }
    }

    /// Adds, for each small convolution of the image that is read far behind it, the same one for these readers. It keeps rows of
    /// the image in place of its own, which have more channels. Returns whether there is one.
    fn repeat_for_late_readers(&mut self) -> bool {
        /// Rows that a convolution may keep for a reader.
        const LATE_PX: usize = 16;
        let image = self.stages[0].output;
        let multiply_adds = |stage: &Stage| stage.multiply_adds_per_pixel;
        let all: usize = self.stages.iter().map(multiply_adds).sum();
        let stages = self.stages.len();
        for index in 0..stages {
            let stage = &self.stages[index];
            let is_small_conv = matches!(stage.kernel, Kernel::Conv { .. })
                && 100 * stage.multiply_adds_per_pixel <= all;
            let is_of_image = stage.input == Some(image) && stage.addend.is_none();
            let early = stage.output;
            let is_late = |reader: &Stage| {
                self.maps[reader.output].delay_px > self.maps[early].delay_px + LATE_PX
            };
            let reads_late = self
                .stages
                .iter()
                .map(|s| s.addend == Some(early) && is_late(s));
            let reads_late: Vec<bool> = reads_late.collect();
            if !is_small_conv || !is_of_image || !reads_late.contains(&true) {
                continue;
            }
            let repeated = stage.clone();
            let Map { shape, format, .. } = self.maps[early];
            let late = self.push_map(shape, format);
            self.stages.push(Stage {
                output: late,
                ..repeated
            });
            for (reader, reads_late) in self.stages.iter_mut().zip(reads_late) {
                if reads_late {
                    reader.addend = Some(late);
                }
            }
        }
        self.stages.len() > stages
    }

    /// Sets the margin and the last reader of each map.
    fn assign_margins(&mut self) {
        for (index, stage) in self.stages.iter().enumerate() {
            let delay_px = self.maps[stage.output].delay_px;
            for (read, radius_px) in [(stage.input, stage.radius_px()), (stage.addend, 0)] {
                let Some(read) = read else { continue };
                let map = &mut self.maps[read];
                let behind_px = (delay_px - map.delay_px) * map.shape.scale + radius_px;
                map.margin_px = map.margin_px.max(behind_px);
                map.last_reader = Some(index);
            }
        }
    }
}

/// A network in one of the eight symmetries.
struct SymmetricNetwork<'m> {
    model: &'m Model,
    arithmetic: Arithmetic,
    symmetry: Symmetry,
    /// See [`output_shuffles`].
    shuffles: Vec<usize>,
}

impl SymmetricNetwork<'_> {
    /// Adds the network's maps and stages to the plan; it reads the map `input`.
    fn push_stages(&self, plan: &mut Plan, input: usize) {
        let network = self.model.network();
        let operations = network.fused_operations();
        let formats = self.formats(&operations);
        let isa = self.arithmetic.isa;
        // The map of each value that is computed so far.
        let mut map_of = vec![None; network.values.len()];
        map_of[network.input.0] = Some(input);
        for operation in operations {
            let map = |value: Value| {
                map_of[value.0].unwrap_or_else(|| unreachable!("{value:?} is read too early"))
            };
            let output = operation.output();
            let (name, kernel, input, addend, multiply_adds_per_pixel) = match operation {
                FusedOperation::Single(Operation::Concat { .. }) => continue,
                FusedOperation::Single(Operation::Conv { conv, input, .. })
                | FusedOperation::ConvAdd { conv, input, .. }
                    if self.reads_parts(input) =>
                {
                    let maps = network.parts(input).into_iter().map(map).collect();
                    let (activation, addend) = match operation {
                        FusedOperation::ConvAdd { identity, .. } => {
                            (Activation::None, Some(map(identity)))
                        }
                        FusedOperation::Single(Operation::Conv { activation, .. }) => {
                            (activation, None)
                        }
                        _ => unreachable!("{operation:?} is a convolution"),
                    };
                    let shape = network.shape(output);
                    map_of[output.0] =
                        Some(self.push_conv_of_parts(plan, conv, maps, shape, activation, addend));
                    continue;
                }
                FusedOperation::Single(Operation::Add {
                    branch,
                    identity,
                    scale,
                    ..
                }) => {
                    let channels = network.shape(branch).channels;
                    let (shape, weights) = Conv::multiplication(channels, scale);
                    let kernel = self.pointwise(&shape, &weights);
                    ("sum".to_owned(), kernel, branch, Some(identity), 0)
                }
                FusedOperation::Single(Operation::PixelShuffle { input, scale, .. }) => {
                    if output == network.output {
                        plan.output_shuffle = scale;
                        map_of[output.0] = Some(map(input));
                        continue;
                    }
                    let name = "pixel shuffle".to_owned();
                    (name, Kernel::Shuffle { scale }, input, None, 0)
                }
                FusedOperation::Single(Operation::Conv {
                    conv,
                    input,
                    activation,
                    ..
                }) => {
                    let (name, kernel, multiply_adds) =
                        self.conv(conv, output, activation, &formats);
                    (name, kernel, input, None, multiply_adds)
                }
                FusedOperation::ConvAdd {
                    conv,
                    input,
                    identity,
                    ..
                } => {
                    let (name, kernel, multiply_adds) =
                        self.conv(conv, output, Activation::None, &formats);
                    (name, kernel, input, Some(identity), multiply_adds)
                }
                FusedOperation::PointwisePair {
                    expand,
                    reduce,
                    input,
                    ..
                } => {
                    let [first, second] = [expand, reduce].map(|conv| &network.convs[conv]);
                    let pair = self.pair([expand, reduce], output, &formats);
                    let name = format!("{}+{}", first.name, second.name);
                    let multiply_adds = first.weights() + second.weights();
                    (name, Kernel::Pair(pair), input, None, multiply_adds)
                }
                FusedOperation::Single(Operation::Enlarge { input, scale, .. }) => {
                    let name = "bilinear".to_owned();
                    (name, Kernel::Enlarge { scale }, input, None, 0)
                }
                FusedOperation::Single(Operation::Repeat { input, times, .. }) => {
                    let channels = network.shape(input).channels;
                    let (shape, weights) = Conv::repetition(String::new(), channels, times);
                    let kernel = self.pointwise(&shape, &weights);
                    ("repeat".to_owned(), kernel, input, None, 0)
                }
                FusedOperation::Single(Operation::BatchNorm { .. }) => {
                    unreachable!("{operation:?} in a network for use")
                }
            };
            let format = formats[output.0];
            let is_of_tiles = self.is_of_tiles(&operation);
            let input_format = match kernel {
                Kernel::Conv { .. } if is_of_tiles => StripFormat::Bf16Pixels,
                Kernel::Pair(_) if is_of_tiles => StripFormat::Pixels,
                _ => StripFormat::Planes,
            };
            let input = match &kernel {
                Kernel::Conv {
                    conv: ConvKernel::Bytes(_, scale),
                    ..
                } => plan.in_bytes(isa, map(input), scale),
                _ => plan.in_format(isa, map(input), input_format),
            };
            let addend = addend.map(|value| {
                let format = match format {
                    StripFormat::Planes => StripFormat::Planes,
                    _ => StripFormat::Pixels,
                };
                plan.in_format(isa, map(value), format)
            });
            // Tiles write pixels: planes are converted, with the term.
            let is_converted = is_of_tiles && format == StripFormat::Planes;
            let shape = network.shape(output);
            let kernel_format = match is_converted {
                true => StripFormat::Pixels,
                false => format,
            };
            let mut output_map = plan.push_map(shape, kernel_format);
            plan.stages.push(Stage {
                name,
                kernel,
                input: Some(input),
                addend: addend.filter(|_| !is_converted),
                output: output_map,
                multiply_adds_per_pixel,
            });
            if is_converted {
                let pixels = output_map;
                output_map = plan.push_map(shape, format);
                let conversion = Stage::conversion(isa, pixels, addend, output_map);
                plan.stages.push(conversion);
            }
            map_of[output.0] = Some(output_map);
        }
        plan.output = map_of[network.output.0]
            .unwrap_or_else(|| unreachable!("no operation computes the network's output"));
    }

    /// Whether an operation is products of tiles.
    fn is_of_tiles(&self, operation: &FusedOperation) -> bool {
        self.arithmetic.has_tiles()
            && match *operation {
                FusedOperation::PointwisePair { .. } => true,
                FusedOperation::ConvAdd { conv, input, .. }
                | FusedOperation::Single(Operation::Conv { conv, input, .. }) => {
                    let conv = &self.model.network().convs[conv];
                    PixelConv::suits(conv.kernel, conv.in_channels, conv.out_channels)
                        && !self.reads_parts(input)
                }
                FusedOperation::Single(_) => false,
            }
    }

    /// The format that each value is computed in: what all its readers want, or pixels in f32 if they want different ones. Tiles
    /// read bf16 in convolutions and f32 in pairs; the term of a sum has the format of the sum. All others read and
    /// write planes.
    ///
    /// In int8 a value is computed in bytes if a convolution in int8 is all that reads it; the others are planes.
    fn formats(&self, operations: &[FusedOperation]) -> Vec<StripFormat> {
        if self.arithmetic.precision == Precision::Int8 {
            return self.formats_in_int8(operations);
        }
        let network = self.model.network();
        let mut wanted = vec![None; network.values.len()];
        wanted[network.output.0] = Some(StripFormat::Planes);
        for operation in operations.iter().rev() {
            let output = &mut wanted[operation.output().0];
            let is_of_tiles = self.is_of_tiles(operation);
            if !is_of_tiles {
                *output = Some(StripFormat::Planes);
            }
            let of_term = match output {
                Some(StripFormat::Pixels | StripFormat::Bf16Pixels) => StripFormat::Pixels,
                _ => StripFormat::Planes,
            };
            let mut want = |value: Value, format: StripFormat| {
                let wanted = &mut wanted[value.0];
                *wanted = Some(match *wanted {
                    Some(other) if other != format => StripFormat::Pixels,
                    _ => format,
                });
            };
            match *operation {
                FusedOperation::Single(single) => {
                    let format = match is_of_tiles {
                        true => StripFormat::Bf16Pixels,
                        false => StripFormat::Planes,
                    };
                    single.inputs().for_each(|value| want(value, format));
                }
                FusedOperation::ConvAdd {
                    input, identity, ..
                } => {
                    let format = match is_of_tiles {
                        true => StripFormat::Bf16Pixels,
                        false => StripFormat::Planes,
                    };
                    want(input, format);
                    want(identity, of_term);
                }
                FusedOperation::PointwisePair { input, .. } => {
                    let format = match is_of_tiles {
                        true => StripFormat::Pixels,
                        false => StripFormat::Planes,
                    };
                    want(input, format);
                }
            }
        }
        let format = |wanted: Option<StripFormat>| wanted.unwrap_or_default();
        wanted.into_iter().map(format).collect()
    }

    /// [`SymmetricNetwork::formats`] in int8.
    fn formats_in_int8(&self, operations: &[FusedOperation]) -> Vec<StripFormat> {
        let network = self.model.network();
        let mut formats = vec![StripFormat::Planes; network.values.len()];
        for operation in operations {
            let is_written_in_bytes = match *operation {
                FusedOperation::PointwisePair { .. } => true,
                FusedOperation::Single(Operation::Conv {
                    conv, activation, ..
                }) => {
                    network.convs[conv].is_int8()
                        && matches!(activation, Activation::None | Activation::Relu)
                }
                _ => false,
            };
            if let Some(reader) = self.reader_in_int8(operations, operation.output())
                && is_written_in_bytes
            {
                formats[operation.output().0] = match network.has_signed_input(reader) {
                    true => StripFormat::SignedBytes,
                    false => StripFormat::UnsignedBytes,
                };
            }
        }
        formats
    }

    /// The convolution in int8 that is all that reads a value; pairs read planes.
    fn reader_in_int8(&self, operations: &[FusedOperation], value: Value) -> Option<usize> {
        let network = self.model.network();
        let mut reader = None;
        for operation in operations {
            let (conv, others) = match *operation {
                FusedOperation::Single(Operation::Conv { conv, input, .. }) => {
                    (Some(conv).filter(|_| input == value), false)
                }
                FusedOperation::ConvAdd {
                    conv,
                    input,
                    identity,
                    ..
                } => (Some(conv).filter(|_| input == value), identity == value),
                FusedOperation::PointwisePair { input, .. } => (None, input == value),
                FusedOperation::Single(single) => (None, single.inputs().any(|v| v == value)),
            };
            if others || (conv.is_some() && reader.is_some()) {
                return None;
            }
            reader = reader.or(conv);
        }
        reader.filter(|conv| value != network.output && network.convs[*conv].is_int8())
    }

    /// The scale of a value, if it is bytes.
    fn scale_of(&self, value: Value, formats: &[StripFormat]) -> Option<ByteScale> {
        let network = self.model.network();
        let is_bytes = matches!(
            formats[value.0],
            StripFormat::SignedBytes | StripFormat::UnsignedBytes
        );
        let reader =
            (0..network.convs.len()).find(|conv| is_bytes && network.run_of(*conv).0 == value)?;
        Some(network.input_scale(reader, self.int8(reader)))
    }

    /// The scales of a convolution in int8.
    fn int8(&self, conv: usize) -> &Int8Scales {
        self.model
            .int8_of(conv)
            .unwrap_or_else(|| panic!("int8 of a model without scales for it"))
    }

    /// The integers of a convolution in this symmetry; a pixel shuffle of scale `shuffle` follows it.
    fn int8_weights(&self, conv: usize, shuffle: usize) -> Int8Weights {
        let scales = self.int8(conv);
        let scales = Int8Scales {
            input_steps: scales.input_steps.clone(),
            weight_steps: self.symmetry.turn_bias(&scales.weight_steps, shuffle),
            bias: self.symmetry.turn_bias(&scales.bias, shuffle),
        };
        let shape = &self.model.network().convs[conv];
        Int8Weights::new(shape, &self.weights(conv, shuffle), scales)
    }

    /// A pair of 1x1 convolutions.
    fn pair(
        &self,
        [expand, reduce]: [usize; 2],
        output: Value,
        formats: &[StripFormat],
    ) -> PairKernel {
        let network = self.model.network();
        let Arithmetic { isa, precision } = self.arithmetic;
        let shuffle = self.shuffles[output.0];
        if precision == Precision::Int8 {
            let first = self.int8_weights(expand, 1);
            let second = self.int8_weights(reduce, shuffle);
            return PairKernel::Bytes(Box::new(BytePair::new(
                isa,
                &network.input_scale(expand, &first.scales),
                first.layer(),
                &network.input_scale(reduce, &second.scales),
                second.layer(),
                self.scale_of(output, formats).as_ref(),
            )));
        }
        let (first, second) = (self.weights(expand, 1), self.weights(reduce, shuffle));
        let [expand, reduce] = [(expand, &first), (reduce, &second)]
            .map(|(conv, weights)| network.convs[conv].layer(weights));
        match self.arithmetic.has_tiles() {
            true => PairKernel::Pixels(PixelPair::new(isa, expand, reduce)),
            false => PairKernel::Planes(StripPair::new(isa, precision, expand, reduce)),
        }
    }

    /// Name, kernel and multiply-adds per pixel of a convolution.
    fn conv(
        &self,
        conv: usize,
        output: Value,
        activation: Activation,
        formats: &[StripFormat],
    ) -> (String, Kernel, usize) {
        let network = self.model.network();
        let shape = &network.convs[conv];
        let shuffle = self.shuffles[output.0];
        let weights = self.weights(conv, shuffle);
        let Arithmetic { isa, precision } = self.arithmetic;
        let layer = shape.layer(&weights);
        let is_of_tiles = self.arithmetic.has_tiles()
            && PixelConv::suits(shape.kernel, shape.in_channels, shape.out_channels);
        let mut activation = activation;
        let conv = if precision == Precision::Int8 && shape.is_int8() {
            let weights = self.int8_weights(conv, shuffle);
            let input = network.input_scale(conv, &weights.scales);
            let output = self.scale_of(output, formats);
            if output.is_some() {
                // Bytes behind a ReLU are unsigned, so it is the limit of their range.
                activation = Activation::None;
            }
            let conv = ByteConv::new(isa, &input, weights.layer(), output.as_ref());
            ConvKernel::Bytes(conv, input)
        } else if is_of_tiles {
            ConvKernel::Pixels(PixelConv::new(isa, layer))
        } else {
            ConvKernel::Planes(StripConv::new(isa, precision, layer))
        };
        let kernel = Kernel::Conv {
            conv,
            activation,
            slopes: weights.slopes_of(activation).into_owned(),
            radius_px: shape.kernel / 2,
        };
        let scale = network.shape(output).scale;
        (shape.name.clone(), kernel, shape.weights() * scale * scale)
    }

    /// A 1x1 convolution in f32 that no model has the weights of.
    fn pointwise(&self, shape: &Conv, weights: &ConvWeights) -> Kernel {
        let conv = StripConv::new(self.arithmetic.isa, Precision::F32, shape.layer(weights));
        Kernel::Conv {
            conv: ConvKernel::Planes(conv),
            activation: Activation::None,
            slopes: Vec::new(),
            radius_px: 0,
        }
    }

    /// Whether a value is a concatenation.
    fn reads_parts(&self, input: Value) -> bool {
        self.model.network().parts(input).len() > 1
    }

    /// Adds a convolution of the concatenation of some maps: for each map a convolution of its channels,
    /// to which the sums of the one before are added. Returns the map of the output.
    ///
    /// The last map comes first, because it is the most delayed: so all sums have the same delay, and no
    /// rows of them are kept.
    fn push_conv_of_parts(
        &self,
        plan: &mut Plan,
        conv: usize,
        maps: Vec<usize>,
        output: ValueShape,
        activation: Activation,
        mut addend: Option<usize>,
    ) -> usize {
        let Arithmetic { isa, precision } = self.arithmetic;
        let shape = &self.model.network().convs[conv];
        let weights = self.weights(conv, 1);
        let taps = shape.kernel * shape.kernel;
        let mut first_channel = shape.in_channels;
        for (index, &map) in maps.iter().enumerate().rev() {
            let in_channels = plan.maps[map].shape.channels;
            first_channel -= in_channels;
            let of_output = weights.weight.chunks_exact(shape.in_channels * taps);
            let of_part =
                of_output.flat_map(|weight| &weight[first_channel * taps..][..in_channels * taps]);
            let is_first = index + 1 == maps.len();
            let part = ConvWeights {
                weight: of_part.copied().collect(),
                bias: match is_first {
                    true => weights.bias.clone(),
                    false => vec![0.0; shape.out_channels],
                },
                slopes: Vec::new(),
            };
            let conv = Conv {
                in_channels,
                ..shape.clone()
            };
            let activation = match index {
                0 => activation,
                _ => Activation::None,
            };
            let kernel = Kernel::Conv {
                conv: ConvKernel::Planes(StripConv::new(isa, precision, conv.layer(&part))),
                activation,
                slopes: weights.slopes_of(activation).into_owned(),
                radius_px: shape.kernel / 2,
            };
            let input = plan.in_format(isa, map, StripFormat::Planes);
            let sums = plan.push_map(output, StripFormat::Planes);
            plan.stages.push(Stage {
                name: shape.name.clone(),
                kernel,
                input: Some(input),
                addend,
                output: sums,
                multiply_adds_per_pixel: conv.weights() * output.scale.pow(2),
            });
            addend = Some(sums);
        }
        addend.unwrap_or_else(|| unreachable!("a concatenation of no maps"))
    }

    /// Weights of a convolution in this symmetry; a pixel shuffle of scale `shuffle` follows it.
    fn weights(&self, conv: usize, shuffle: usize) -> ConvWeights {
        let shape = &self.model.network().convs[conv];
        let ConvWeights {
            weight,
            bias,
            slopes,
        } = &self.model.convs()[conv];
        let (symmetry, channels) = (self.symmetry, shape.out_channels);
        ConvWeights {
            weight: symmetry.turn_weight(weight, channels, shape.kernel, shuffle),
            bias: symmetry.turn_bias(bias, shuffle),
            slopes: symmetry.turn_bias(slopes, shuffle),
        }
    }
}

/// The model in each of the eight symmetries, whose mean is the self-ensemble.
pub(crate) fn turned_models(model: &Model, arithmetic: Arithmetic) -> Vec<Model> {
    let model = &model.with_residual_scale_in_weights();
    let network = model.network();
    let turned = |symmetry| {
        let form = SymmetricNetwork {
            model,
            arithmetic,
            symmetry,
            shuffles: output_shuffles(network),
        };
        let mut convs = model.convs().to_vec();
        for operation in &network.operations {
            if let Operation::Conv { conv, output, .. } = *operation {
                convs[conv] = form.weights(conv, form.shuffles[output.0]);
            }
        }
        Model::new(model.config(), convs, model.notes().clone())
    };
    Symmetry::all().into_iter().map(turned).collect()
}

/// For each value, the scale of the pixel shuffle that its channels reach; 1 if they reach none.
fn output_shuffles(network: &Network) -> Vec<usize> {
    let mut shuffles = vec![1; network.values.len()];
    for operation in network.operations.iter().rev() {
        match *operation {
            Operation::PixelShuffle { input, scale, .. } => shuffles[input.0] = scale,
            Operation::Add {
                branch,
                identity,
                output,
                ..
            } => {
                for value in [branch, identity] {
                    shuffles[value.0] = shuffles[value.0].max(shuffles[output.0]);
                }
            }
            _ => {}
        }
    }
    shuffles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NetworkConfig;

    #[test]
    fn only_the_image_is_kept_for_late_readers() {
        let arithmetic = Arithmetic {
            isa: Isa::REFERENCE,
            precision: Precision::F32,
        };
        for (config, late) in [
            (NetworkConfig::edsr(16, 10, 2), 20),
            (NetworkConfig::rrdb(8, 4, 4), 60),
            (NetworkConfig::wdsr_b(16, 20, 2), 0),
        ] {
            let model = Model::random(&config, 1);
            let all = Symmetry::all();
            for symmetries in [&all[..1], &all] {
                let plan = Plan::new(&model, arithmetic, symmetries);
                let (image, others) = plan.maps.split_first().expect("the image");
                let label = config.label();
                let most = others.iter().map(|map| map.margin_px).max().expect("maps");
                assert!(image.margin_px > late, "{label}: {}", image.margin_px);
                assert!(most <= 17, "{label}: a map is kept for {most} pixels");
            }
        }
    }
}
