//! From the network's operations to the stages that strips stream through.

use wdsr_kernels::{Isa, Precision, STRIP_ROWS, StripConv, StripPair};

use super::symmetry::Symmetry;
use crate::fused::FusedOperation;
use crate::model::{ConvWeights, Model};
use crate::network::{Activation, Conv, Network, Operation, Value, ValueShape};

/// How a network is computed.
#[derive(Clone, Copy)]
pub(crate) struct Arithmetic {
    pub(crate) isa: Isa,
    pub(crate) precision: Precision,
}

/// Feature maps between stages.
pub(super) struct Map {
    pub(super) shape: ValueShape,
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
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) kernel: Kernel,
    /// The map that it reads; none for the stage that reads the image.
    pub(super) input: Option<usize>,
    /// A map of the output's shape that is added to the result of a convolution without activation or
    /// of an enlargement.
    pub(super) addend: Option<usize>,
    pub(super) output: usize,
    pub(super) multiply_adds_per_pixel: usize,
}

pub(super) enum Kernel {
    /// Reads the image.
    Read,
    Conv {
        conv: StripConv,
        activation: Activation,
        /// Of PReLU and leaky ReLU.
        slopes: Vec<f32>,
        radius_px: usize,
    },
    Pair(StripPair),
    /// Pixel shuffle in the middle of a network.
    Shuffle {
        scale: usize,
    },
    /// Bilinear interpolation.
    Enlarge {
        scale: usize,
    },
}

impl Stage {
    /// Pixels that it reads on each side of a pixel.
    fn radius_px(&self) -> usize {
        match self.kernel {
            Kernel::Conv { radius_px, .. } => radius_px,
            Kernel::Enlarge { .. } => 1,
            Kernel::Read | Kernel::Pair(_) | Kernel::Shuffle { .. } => 0,
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
        let input = plan.push_map(network.shape(network.input));
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

    fn push_map(&mut self, shape: ValueShape) -> usize {
        self.maps.push(Map {
            shape,
            last_reader: None,
            delay_px: 0,
            margin_px: 0,
        });
        self.maps.len() - 1
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
        // The map of each value that is computed so far.
        let mut map_of = vec![None; network.values.len()];
        map_of[network.input.0] = Some(input);
        for operation in network.fused_operations() {
            let map = |value: Value| {
                map_of[value.0].unwrap_or_else(|| unreachable!("{value:?} is read too early"))
            };
            let output = operation.output();
            let (name, kernel, input, addend, multiply_adds_per_pixel) = match operation {
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
                    let (name, kernel, multiply_adds) = self.conv(conv, output, activation);
                    (name, kernel, input, None, multiply_adds)
                }
                FusedOperation::ConvAdd {
                    conv,
                    input,
                    identity,
                    ..
                } => {
                    let (name, kernel, multiply_adds) = self.conv(conv, output, Activation::None);
                    (name, kernel, input, Some(map(identity)), multiply_adds)
                }
                FusedOperation::PointwisePair {
                    expand,
                    reduce,
                    input,
                    ..
                } => {
                    let [first, second] = [expand, reduce].map(|conv| &network.convs[conv]);
                    let expand = self.weights(expand, 1);
                    let reduce = self.weights(reduce, self.shuffles[output.0]);
                    let Arithmetic { isa, precision } = self.arithmetic;
                    let layers = [first.layer(&expand), second.layer(&reduce)];
                    let pair = StripPair::new(isa, precision, layers[0], layers[1]);
                    let name = format!("{}+{}", first.name, second.name);
                    let multiply_adds = first.weights() + second.weights();
                    (name, Kernel::Pair(pair), input, None, multiply_adds)
                }
                FusedOperation::Single(Operation::Enlarge { input, scale, .. }) => {
                    let name = "bilinear".to_owned();
                    (name, Kernel::Enlarge { scale }, input, None, 0)
                }
                FusedOperation::Single(Operation::Repeat { input, times, .. }) => {
                    let kernel = self.repeat(network.shape(input).channels, times);
                    ("repeat".to_owned(), kernel, input, None, 0)
                }
                FusedOperation::Single(Operation::Add { .. } | Operation::BatchNorm { .. }) => {
                    unreachable!("{operation:?} in a network for use, with its scales in weights")
                }
            };
            let input = Some(map(input));
            let output_map = plan.push_map(network.shape(output));
            plan.stages.push(Stage {
                name,
                kernel,
                input,
                addend,
                output: output_map,
                multiply_adds_per_pixel,
            });
            map_of[output.0] = Some(output_map);
        }
        plan.output = map_of[network.output.0]
            .unwrap_or_else(|| unreachable!("no operation computes the network's output"));
    }

    /// Name, kernel and multiply-adds per pixel of a convolution.
    fn conv(&self, conv: usize, output: Value, activation: Activation) -> (String, Kernel, usize) {
        let network = self.model.network();
        let shape = &network.convs[conv];
        let weights = self.weights(conv, self.shuffles[output.0]);
        let Arithmetic { isa, precision } = self.arithmetic;
        let kernel = Kernel::Conv {
            conv: StripConv::new(isa, precision, shape.layer(&weights)),
            activation,
            slopes: weights.slopes_of(activation).into_owned(),
            radius_px: shape.kernel / 2,
        };
        let scale = network.shape(output).scale;
        (shape.name.clone(), kernel, shape.weights() * scale * scale)
    }

    /// Each channel `times` times, in f32.
    fn repeat(&self, channels: usize, times: usize) -> Kernel {
        let (shape, weights) = Conv::repetition("repeat".to_owned(), channels, times);
        Kernel::Conv {
            conv: StripConv::new(self.arithmetic.isa, Precision::F32, shape.layer(&weights)),
            activation: Activation::None,
            slopes: Vec::new(),
            radius_px: 0,
        }
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
