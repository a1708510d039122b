//! Calibration: the scales of a model in int8, from what its convolutions read on sample images.
//!
//! For each convolution the steps of its input's channels, and of the weights of each output channel, are those of some candidates
//! that give the least squared error of its sums on the samples. Then the mean of the error is taken from the bias.

use rayon::prelude::*;
use wdsr_kernels::{
    ConvLayer, Epilogue, Isa, Planes, PlanesConv, Precision, Scratch, add_scaled, is_short_pair,
    pixel_shuffle,
};

use crate::config::BlockKind;
use crate::int8::{Int8Scales, LARGEST_WEIGHT, STEP_RANGE, integer};
use crate::model::{ConvWeights, Model};
use crate::network::{Activation, Conv, Operation, Value};

/// Pixels whose values are kept of an image: enough to see ranges, few enough to search quickly.
const SAMPLES_PER_IMAGE: usize = 128;

/// Samples that candidates are compared on; all of them decide about ranges and biases.
const SEARCH_SAMPLES: usize = 1024;

/// Which share of a channel's samples lie in the range of its bytes, by candidate.
const SHARES: [f64; 3] = [1.0, 0.9999, 0.999];

/// How much of a channel's own range is in its step; the rest is the largest channel's.
const EQUALISATIONS: [f32; 4] = [0.0, 0.5, 0.75, 1.0];

/// Largest weight of an output channel that is not limited, as a part of its largest pair's sum, by candidate.
const WEIGHT_LIMITS: [f32; 6] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.7];

/// Why a model has no int8.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The weights of a model with a strength are mixed for each image.
    #[error("a model with a strength; int8 supports models of one strength only")]
    Strength,
    /// Not a network that calibration runs.
    #[error("a network of kind {}; int8 supports wdsr-a, wdsr-b, edsr and compact", .0.name())]
    Kind(BlockKind),
}

/// What the convolutions of a model read on sample images.
pub struct Calibration {
    /// With residual scales in its weights.
    model: Model,
    isa: Isa,
    /// Of each convolution in int8: `[sample][in]`.
    samples: Vec<Vec<f32>>,
}

impl Calibration {
    /// Starts a calibration.
    ///
    /// # Errors
    /// If int8 does not support the model.
    pub fn new(model: &Model, isa: Isa) -> Result<Self, QuantizeError> {
        if model.strong().is_some() {
            return Err(QuantizeError::Strength);
        }
        let kind = model.config().block;
        if matches!(kind, BlockKind::MsrResNet | BlockKind::Rrdb) {
            return Err(QuantizeError::Kind(kind));
        }
        Ok(Self {
            samples: vec![Vec::new(); model.network().int8_convs().count()],
            model: model.with_residual_scale_in_weights(),
            isa: isa.without_tiles(),
        })
    }

    /// Runs the model on an image and keeps samples of what its convolutions read.
    ///
    /// # Shapes
    /// - pixels: R G B interleaved, row by row, in 0..1
    ///
    /// # Panics
    /// If the number of samples differs, or a side is 0.
    pub fn add(&mut self, pixels: &[f32], width_px: usize, height_px: usize) {
        assert!(
            width_px > 0 && height_px > 0,
            "empty image: {width_px} x {height_px}"
        );
        assert_eq!(
            pixels.len(),
            width_px * height_px * 3,
            "samples of {width_px} x {height_px} RGB"
        );
        let network = self.model.network();
        let mut values: Vec<Option<Planes>> = network.values.iter().map(|_| None).collect();
        let mut image = Planes::zeros(3, width_px, height_px);
        for (channel, mean) in network.config.mean.into_iter().enumerate() {
            for y in 0..height_px {
                let from = pixels[(y * width_px * 3) + channel..].iter().step_by(3);
                for (to, from) in image.row_mut(channel, y).iter_mut().zip(from) {
                    *to = from - mean;
                }
            }
        }
        values[network.input.0] = Some(image);
        let mut scratch = Scratch::default();
        for operation in &network.operations {
            let planes = |value: Value| {
                values[value.0]
                    .as_ref()
                    .unwrap_or_else(|| unreachable!("{value:?} is read too early"))
            };
            let shape = network.shape(operation.output());
            let (width_px, height_px) = (width_px * shape.scale, height_px * shape.scale);
            let mut output = Planes::zeros(shape.channels, width_px, height_px);
            match *operation {
                Operation::Conv {
                    conv,
                    input,
                    activation,
                    ..
                } => {
                    let (shape, weights) = (&network.convs[conv], &self.model.convs()[conv]);
                    if let Some(at) = network.int8_convs().position(|index| index == conv) {
                        sample(planes(input), &mut self.samples[at]);
                    }
                    let slopes = weights.slopes_of(activation);
                    let epilogue = match activation {
                        Activation::None => Epilogue::Store,
                        Activation::Relu => Epilogue::Relu,
                        Activation::PRelu | Activation::LeakyRelu(_) => Epilogue::PRelu(&slopes),
                    };
                    let layer = shape.layer(weights);
                    self.convolve(layer, planes(input), &mut output, epilogue, &mut scratch);
                }
                Operation::Add {
                    branch,
                    identity,
                    scale,
                    ..
                } => {
                    output = planes(branch).clone();
                    add_scaled(&mut output, scale, planes(identity));
                }
                Operation::PixelShuffle { input, scale, .. } => {
                    pixel_shuffle(planes(input), scale, &mut output);
                }
                Operation::Repeat { input, times, .. } => {
                    let channels = network.shape(input).channels;
                    let (shape, weights) = Conv::repetition(String::new(), channels, times);
                    let (layer, from) = (shape.layer(&weights), planes(input));
                    self.convolve(layer, from, &mut output, Epilogue::Store, &mut scratch);
                }
                Operation::BatchNorm { .. }
                | Operation::Enlarge { .. }
                | Operation::Concat { .. } => {
                    unreachable!("{operation:?} in calibration")
                }
            }
            values[operation.output().0] = Some(output);
        }
    }

    fn convolve(
        &self,
        layer: ConvLayer<'_>,
        input: &Planes,
        output: &mut Planes,
        epilogue: Epilogue<'_, Planes>,
        scratch: &mut Scratch,
    ) {
        let conv = PlanesConv::new(self.isa, Precision::F32, layer);
        conv.forward(input, output, epilogue, scratch);
    }

    /// The model with the scales that fit the samples, computed on rayon's current thread pool.
    ///
    /// # Panics
    /// If no image was added.
    pub fn finish(self, model: Model) -> Model {
        let network = self.model.network();
        let convs: Vec<(usize, &Vec<f32>)> = network.int8_convs().zip(&self.samples).collect();
        let scales = convs.into_par_iter().map(|(conv, samples)| {
            assert!(!samples.is_empty(), "calibration without images");
            let search = Search {
                conv: &network.convs[conv],
                weights: &self.model.convs()[conv],
                is_signed: network.has_signed_input(conv),
                samples,
            };
            search.best()
        });
        let scales = scales.collect();
        model.with_int8(scales)
    }
}

/// Adds the channels of some pixels, evenly spread over the planes.
fn sample(planes: &Planes, samples: &mut Vec<f32>) {
    let pixels = planes.width_px() * planes.height_px();
    let count = SAMPLES_PER_IMAGE.min(pixels);
    for index in 0..count {
        let at = (2 * index + 1) * pixels / (2 * count);
        let (y, x) = (at / planes.width_px(), at % planes.width_px());
        samples.extend((0..planes.channels()).map(|channel| planes.row(channel, y)[x]));
    }
}

/// The search for the scales of a convolution.
struct Search<'a> {
    conv: &'a Conv,
    weights: &'a ConvWeights,
    is_signed: bool,
    /// `[sample][in]`
    samples: &'a [f32],
}

impl Search<'_> {
    fn best(&self) -> Int8Scales {
        let channels = self.conv.in_channels;
        let stride = (self.samples.len() / channels).div_ceil(SEARCH_SAMPLES);
        let few = by_channel(self.samples, channels, stride);
        let exact: Vec<Vec<f32>> = (0..self.conv.out_channels)
            .map(|o| weighted_sum(&self.row_sums(o, |_, weight| weight), &few))
            .collect();
        let mut best: Option<(f64, Int8Scales)> = None;
        for ranges in SHARES.map(|share| self.ranges(share)) {
            let largest = ranges.iter().copied().fold(0.0, f32::max);
            for equalisation in EQUALISATIONS {
                let levels = if self.is_signed { 127.0 } else { 255.0 };
                let step = |range: &f32| {
                    // A channel that is always 0 has no range of its own.
                    let own = range.max(largest * 1e-3) / largest;
                    limited(largest * own.powf(equalisation) / levels)
                };
                let steps = match largest > 0.0 {
                    true => ranges.iter().map(step).collect(),
                    false => vec![1.0; channels],
                };
                let (error, scales) = self.with_input_steps(steps, &few, &exact);
                if best.as_ref().is_none_or(|(least, _)| error < *least) {
                    best = Some((error, scales));
                }
            }
        }
        let (_, mut scales) = best.unwrap_or_else(|| unreachable!("no candidates"));
        let all = by_channel(self.samples, channels, 1);
        let levels = self.levels(&scales.input_steps, &all);
        for o in 0..self.conv.out_channels {
            let exact = weighted_sum(&self.row_sums(o, |_, weight| weight), &all);
            let found = weighted_sum(&self.rounded_row(o, &scales), &levels);
            let errors = found.iter().zip(&exact).map(|(f, e)| f64::from(f - e));
            scales.bias[o] -= (errors.sum::<f64>() / exact.len() as f64) as f32;
        }
        scales
    }

    /// The range of each channel that holds a share of its samples.
    fn ranges(&self, share: f64) -> Vec<f32> {
        let channels = self.conv.in_channels;
        let range = |channel: usize| {
            let samples = self.samples[channel..].iter().step_by(channels);
            let mut sizes: Vec<f32> = samples.map(|value| value.abs()).collect();
            sizes.sort_by(f32::total_cmp);
            sizes[((sizes.len() - 1) as f64 * share).round() as usize]
        };
        (0..channels).map(range).collect()
    }

    /// The best steps of the weights for those of the input, and the squared error.
    fn with_input_steps(
        &self,
        input_steps: Vec<f32>,
        samples: &[Vec<f32>],
        exact: &[Vec<f32>],
    ) -> (f64, Int8Scales) {
        let levels = self.levels(&input_steps, samples);
        let mut scales = Int8Scales {
            input_steps,
            weight_steps: vec![1.0; self.conv.out_channels],
            bias: self.weights.bias.clone(),
        };
        let mut total = 0.0;
        for (o, exact) in exact.iter().enumerate() {
            let largest = self.largest_pair(o, &scales.input_steps);
            if largest == 0.0 {
                continue;
            }
            let mut best = (f64::INFINITY, 1.0);
            for limit in WEIGHT_LIMITS {
                let step = limited(largest * limit / LARGEST_WEIGHT);
                scales.weight_steps[o] = step;
                if limit < 1.0 && !self.has_short_pairs(o, &scales) {
                    continue;
                }
                let found = weighted_sum(&self.rounded_row(o, &scales), &levels);
                let errors = found.iter().zip(exact).map(|(f, e)| f64::from(f - e));
                let error = errors.map(|error| error * error).sum();
                if error < best.0 {
                    best = (error, step);
                }
            }
            scales.weight_steps[o] = best.1;
            total += best.0;
        }
        (total, scales)
    }

    /// The bytes of samples, less the byte of 0: `[in][sample]`.
    fn levels(&self, steps: &[f32], samples: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let zero = if self.is_signed { 128.0 } else { 0.0 };
        let level = |value: f32, inverse: f32| {
            (value * inverse + zero).round_ties_even().clamp(0.0, 255.0) - zero
        };
        let channels = samples.iter().zip(steps);
        channels
            .map(|(samples, step)| samples.iter().map(|v| level(*v, 1.0 / step)).collect())
            .collect()
    }

    /// The weights of an output channel.
    fn row(&self, o: usize) -> &[f32] {
        let len = self.conv.in_channels * self.conv.kernel * self.conv.kernel;
        &self.weights.weight[o * len..][..len]
    }

    /// The weights of an output channel for bytes, in pairs: those of an even channel and the one behind it, or 0, at one tap.
    fn pairs(&self, o: usize, input_steps: &[f32]) -> impl Iterator<Item = [f32; 2]> {
        let taps = self.conv.kernel * self.conv.kernel;
        let weight = move |i: usize, tap: usize| match input_steps.get(i) {
            Some(step) => self.row(o)[i * taps + tap] * step,
            None => 0.0,
        };
        let channels = (0..input_steps.len()).step_by(2);
        channels.flat_map(move |i| (0..taps).map(move |tap| [weight(i, tap), weight(i + 1, tap)]))
    }

    /// The largest sum of the weights of one sign in a pair; at least the largest weight.
    fn largest_pair(&self, o: usize, input_steps: &[f32]) -> f32 {
        let size = |[a, b]: [f32; 2]| (a.max(0.0) + b.max(0.0)).max(-a.min(0.0) - b.min(0.0));
        self.pairs(o, input_steps).map(size).fold(0.0, f32::max)
    }

    /// Whether all pairs of an output channel's 8-bit weights are short ([`is_short_pair`]).
    fn has_short_pairs(&self, o: usize, scales: &Int8Scales) -> bool {
        let mut pairs = self.pairs(o, &scales.input_steps);
        pairs.all(|pair| is_short_pair(pair.map(|weight| integer(weight / scales.weight_steps[o]))))
    }

    /// What an output channel multiplies its input by, summed over the kernel's taps, which are taken to read the same sample:
    /// `[in]`. `change` gets the input channel and the weight.
    fn row_sums(&self, o: usize, change: impl Fn(usize, f32) -> f32) -> Vec<f32> {
        let taps = self.conv.kernel * self.conv.kernel;
        let kernels = self.row(o).chunks_exact(taps).enumerate();
        kernels
            .map(|(i, kernel)| kernel.iter().map(|weight| change(i, *weight)).sum())
            .collect()
    }

    /// [`Search::row_sums`] of the 8-bit weights, for levels of the input.
    fn rounded_row(&self, o: usize, scales: &Int8Scales) -> Vec<f32> {
        let weight_step = scales.weight_steps[o];
        self.row_sums(o, |i, weight| {
            let units = weight * scales.input_steps[i] / weight_step;
            f32::from(integer(units)) * weight_step
        })
    }
}

/// Every `stride`th of samples `[sample][in]`, as `[in][sample]`.
fn by_channel(samples: &[f32], channels: usize, stride: usize) -> Vec<Vec<f32>> {
    let pixels = samples.chunks_exact(channels).step_by(stride);
    (0..channels)
        .map(|channel| pixels.clone().map(|pixel| pixel[channel]).collect())
        .collect()
}

/// The sum of channels `[in][sample]`, each times its factor.
fn weighted_sum(factors: &[f32], channels: &[Vec<f32>]) -> Vec<f32> {
    let mut sums = vec![0.0; channels[0].len()];
    for (factor, channel) in factors.iter().zip(channels) {
        for (sum, value) in sums.iter_mut().zip(channel) {
            *sum += factor * value;
        }
    }
    sums
}

/// A step in the range of files.
fn limited(step: f32) -> f32 {
    let [least, largest] = STEP_RANGE;
    step.clamp(least, largest)
}
