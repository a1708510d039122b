//! From the network's equations to the stages that strips stream through.

use wdsr_kernels::{STRIP_ROWS, StripConv, StripPair};

use super::Arithmetic;
use super::symmetry::Symmetry;
use crate::model::{ConvWeights, Model};
use crate::network::{Conv, Network, Operation, Value, ValueShape};

/// Feature maps between stages.
pub(super) struct Map {
    pub(super) shape: ValueShape,
    /// The last stage that reads it; none reads the result.
    pub(super) last_reader: Option<usize>,
    /// Pixels of the image by which it lags behind the image's columns and waves.
    pub(super) lag_px: usize,
    /// Its own pixels that are read left of a column and above a wave.
    pub(super) margin_px: usize,
}

impl Map {
    /// Its row that a wave begins at.
    pub(super) fn first_row(&self, wave: usize) -> isize {
        ((wave * STRIP_ROWS) as isize - self.lag_px as isize) * self.shape.scale as isize
    }
}

/// A stage makes the strips of one map from those of others.
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) kernel: Kernel,
    /// The map it reads; that of the first stage is filled from the image.
    pub(super) input: Option<usize>,
    /// A map of the output's shape that is added to the result.
    pub(super) term: Option<usize>,
    pub(super) output: usize,
    pub(super) multiply_adds_per_pixel: usize,
}

pub(super) enum Kernel {
    /// From the image.
    Read,
    Conv {
        conv: StripConv,
        relu: bool,
        /// Pixels that it reads on each side.
        reach_px: usize,
    },
    Pair(StripPair),
    /// Pixel shuffle in the middle of a network.
    Shuffle {
        scale: usize,
    },
}

impl Stage {
    /// Pixels that it reads on each side.
    fn reach_px(&self) -> usize {
        match self.kernel {
            Kernel::Conv { reach_px, .. } => reach_px,
            _ => 0,
        }
    }
}

/// The stages, each after those whose maps it reads.
pub(crate) struct Plan {
    pub(super) maps: Vec<Map>,
    pub(super) stages: Vec<Stage>,
    /// The map that the result is read off: `3 * output_shuffle^2` channels.
    pub(super) output: usize,
    /// Pixel shuffle left to the reader of the result.
    pub(crate) output_shuffle: usize,
    /// Factor by which the result is to be multiplied: networks side by side are summed.
    pub(crate) output_factor: f32,
}

impl Plan {
    pub(super) fn new(model: &Model, arithmetic: Arithmetic, symmetries: &[Symmetry]) -> Self {
        let network = model.network();
        let mut plan = Plan {
            maps: Vec::new(),
            stages: Vec::new(),
            output: 0,
            output_shuffle: 1,
            output_factor: 1.0 / symmetries.len() as f32,
        };
        let input = plan.map(network.shape(network.input));
        plan.stages.push(Stage {
            name: "image in".to_owned(),
            kernel: Kernel::Read,
            input: None,
            term: None,
            output: input,
            multiply_adds_per_pixel: 0,
        });
        let mut sum = None;
        for symmetry in symmetries {
            let first = plan.stages.len();
            plan.append(model, arithmetic, *symmetry, input);
            if let Some(sum) = sum {
                plan.add_to_result(first, sum);
            }
            sum = Some(plan.output);
        }
        plan.sort();
        plan.lag();
        plan.connect();
        plan
    }

    /// The maps that a stage is the last one to read.
    pub(super) fn read_last_by(&self, stage: usize) -> impl Iterator<Item = usize> + use<> {
        let Stage { input, term, .. } = self.stages[stage];
        let term = term.filter(|term| Some(*term) != input);
        let is_last = |map: &usize| self.maps[*map].last_reader == Some(stage);
        input
            .filter(is_last)
            .into_iter()
            .chain(term.filter(is_last))
    }

    /// Rows of the image that the result lags behind.
    pub(crate) fn lag_rows(&self) -> usize {
        self.maps[self.output].lag_px
    }

    /// Waves of an image of so many rows: the result lags.
    pub(super) fn waves(&self, height_px: usize) -> usize {
        (height_px + self.lag_rows()).div_ceil(STRIP_ROWS)
    }

    fn map(&mut self, shape: ValueShape) -> usize {
        self.maps.push(Map {
            shape,
            last_reader: None,
            lag_px: 0,
            margin_px: 0,
        });
        self.maps.len() - 1
    }

    /// Adds the stages of one form of the network, which reads the map `input`.
    fn append(&mut self, model: &Model, arithmetic: Arithmetic, symmetry: Symmetry, input: usize) {
        let network = model.network();
        let shuffles = shuffles(network);
        let weights = |conv: usize, output: Value, factor: f32| {
            let (w, shape) = (&model.convs()[conv], &network.convs[conv]);
            let shuffle = shuffles[output.0];
            let (o, k) = (shape.out_channels, shape.kernel);
            let mut turned = ConvWeights {
                weight: symmetry.turn_weight(&w.weight, o, k, shuffle),
                bias: symmetry.turn_bias(&w.bias, shuffle),
            };
            let all = turned.weight.iter_mut().chain(&mut turned.bias);
            all.for_each(|value| *value *= factor);
            turned
        };
        // The map of each value made so far, and convolutions that a later stage takes in.
        let mut map_of = vec![None; network.values.len()];
        let mut waiting = vec![None; network.values.len()];
        map_of[network.input.0] = Some(input);
        let made = |map_of: &[Option<usize>], value: Value| {
            map_of[value.0].unwrap_or_else(|| unreachable!("value {} is read first", value.0))
        };
        for operation in &network.operations {
            match *operation {
                Operation::Conv {
                    conv,
                    input,
                    output,
                    relu,
                } => {
                    if taken_in(network, conv, output, relu) {
                        waiting[output.0] = Some((conv, input));
                        continue;
                    }
                    let stage = match waiting[input.0] {
                        Some((first, narrow)) => {
                            let [a, b] = [first, conv].map(|conv| &network.convs[conv]);
                            let expand = weights(first, input, 1.0);
                            let reduce = weights(conv, output, 1.0);
                            Stage {
                                name: format!("{}+{}", a.name, b.name),
                                kernel: Kernel::Pair(StripPair::new(
                                    arithmetic.isa,
                                    arithmetic.precision,
                                    a.layer(&expand),
                                    b.layer(&reduce),
                                )),
                                input: Some(made(&map_of, narrow)),
                                term: None,
                                output: self.map(network.shape(output)),
                                multiply_adds_per_pixel: a.weights() + b.weights(),
                            }
                        }
                        None => {
                            let w = weights(conv, output, 1.0);
                            let input = made(&map_of, input);
                            self.conv_stage(arithmetic, &network.convs[conv], &w, relu, input, None)
                        }
                    };
                    map_of[output.0] = Some(stage.output);
                    self.stages.push(stage);
                }
                Operation::BatchNorm { .. } => {
                    unreachable!("a network in use has its batch normalisations folded")
                }
                Operation::Add {
                    branch,
                    identity,
                    output,
                    scale,
                } => {
                    let (conv, input) = waiting[branch.0]
                        .unwrap_or_else(|| unreachable!("a branch ends in a convolution"));
                    let w = weights(conv, branch, scale);
                    let (input, term) = (made(&map_of, input), made(&map_of, identity));
                    let conv = &network.convs[conv];
                    let stage = self.conv_stage(arithmetic, conv, &w, false, input, Some(term));
                    map_of[output.0] = Some(stage.output);
                    self.stages.push(stage);
                }
                Operation::PixelShuffle {
                    input,
                    output,
                    scale,
                } => {
                    let from = made(&map_of, input);
                    if output == network.output {
                        self.output_shuffle = scale;
                        map_of[output.0] = Some(from);
                        continue;
                    }
                    let map = self.map(network.shape(output));
                    self.stages.push(Stage {
                        name: "pixel shuffle".to_owned(),
                        kernel: Kernel::Shuffle { scale },
                        input: Some(from),
                        term: None,
                        output: map,
                        multiply_adds_per_pixel: 0,
                    });
                    map_of[output.0] = Some(map);
                }
            }
        }
        self.output = made(&map_of, network.output);
    }

    /// The stage of a convolution, and the map it makes.
    fn conv_stage(
        &mut self,
        arithmetic: Arithmetic,
        shape: &Conv,
        w: &ConvWeights,
        relu: bool,
        input: usize,
        term: Option<usize>,
    ) -> Stage {
        let channels = shape.out_channels;
        let scale = self.maps[input].shape.scale;
        Stage {
            name: shape.name.clone(),
            kernel: Kernel::Conv {
                conv: StripConv::new(arithmetic.isa, arithmetic.precision, shape.layer(w)),
                relu,
                reach_px: shape.kernel / 2,
            },
            input: Some(input),
            term,
            output: self.map(ValueShape { channels, scale }),
            multiply_adds_per_pixel: shape.weights() * scale * scale,
        }
    }

    /// Adds the map `sum` to the result of the form of the network whose stages begin at `first`:
    /// at the first stage of the chain of sums that its result is.
    fn add_to_result(&mut self, first: usize, sum: usize) {
        let mut map = self.output;
        loop {
            let stage = self.stages[first..]
                .iter_mut()
                .find(|stage| stage.output == map)
                .unwrap_or_else(|| unreachable!("map {map} is made by no stage"));
            match stage.term {
                Some(term) => map = term,
                None => {
                    stage.term = Some(sum);
                    return;
                }
            }
        }
    }

    /// Puts each stage behind those whose maps it reads.
    fn sort(&mut self) {
        let mut made = vec![false; self.maps.len()];
        let mut sorted = Vec::with_capacity(self.stages.len());
        while !self.stages.is_empty() {
            let next = self
                .stages
                .iter()
                .position(|stage| stage.input.iter().chain(&stage.term).all(|&map| made[map]))
                .unwrap_or_else(|| unreachable!("stages read each other"));
            let stage = self.stages.remove(next);
            made[stage.output] = true;
            sorted.push(stage);
        }
        self.stages = sorted;
    }

    /// Notes by how much each map lags. A stage reads beyond the end of what it makes, so its map lags
    /// behind those that it is made from; and it does as much as its readers allow, since what they read
    /// further back must be kept.
    fn lag(&mut self) {
        for stage in &self.stages {
            let lag_px = stage.input.map_or(0, |input| {
                let input = &self.maps[input];
                input.lag_px + stage.reach_px().div_ceil(input.shape.scale)
            });
            let of_term = stage.term.map_or(0, |term| self.maps[term].lag_px);
            self.maps[stage.output].lag_px = lag_px.max(of_term);
        }
        // The image's map is filled as it comes.
        for stage in self.stages[1..].iter().rev() {
            let map = stage.output;
            let allowed = self.stages.iter().flat_map(|reader| {
                let lag_px = self.maps[reader.output].lag_px;
                let reach_px = reader.reach_px().div_ceil(self.maps[map].shape.scale);
                let of_input = (reader.input == Some(map)).then(|| lag_px - reach_px);
                let of_term = (reader.term == Some(map)).then_some(lag_px);
                of_input.into_iter().chain(of_term)
            });
            if let Some(lag_px) = allowed.min() {
                self.maps[map].lag_px = lag_px;
            }
        }
    }

    /// Notes each map's margin and last reader.
    fn connect(&mut self) {
        for (index, stage) in self.stages.iter().enumerate() {
            let lag_px = self.maps[stage.output].lag_px;
            for (read, reach_px) in [(stage.input, stage.reach_px()), (stage.term, 0)] {
                let Some(read) = read else { continue };
                let map = &mut self.maps[read];
                let behind_px = (lag_px - map.lag_px) * map.shape.scale + reach_px;
                map.margin_px = map.margin_px.max(behind_px);
                map.last_reader = Some(index);
            }
        }
    }
}

/// Whether a convolution is made part of a later stage: the wide half of a pair of 1x1
/// convolutions, or the branch of a sum.
fn taken_in(network: &Network, conv: usize, output: Value, relu: bool) -> bool {
    let mut readers = network
        .operations
        .iter()
        .filter(|operation| operation.inputs().any(|value| value == output));
    match (readers.next(), readers.next()) {
        (
            Some(Operation::Conv {
                conv: next,
                relu: false,
                ..
            }),
            None,
        ) => relu && network.convs[conv].kernel == 1 && network.convs[*next].kernel == 1,
        (Some(Operation::Add { branch, .. }), None) => !relu && *branch == output,
        _ => false,
    }
}

/// For each value, the scale of the pixel shuffle that its channels go into, 1 where none.
fn shuffles(network: &Network) -> Vec<usize> {
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
