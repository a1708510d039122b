//! A training step as work that is measured.

use std::time::{Duration, Instant};

use wdsr_kernels::{Isa, Planes};
use wdsr_model::{Network, NetworkConfig, Precision};
use wdsr_train::Initialization;
use wdsr_train::gradients::{Batch, BatchResult, GradientEngine};
use wdsr_train::optimizer::{Adam, average};
use wdsr_train::parameters::ParameterLayout;

use super::Work;

/// Patches of a batch.
pub(super) const PATCHES: usize = 16;
/// Side of a patch in pixels.
pub(super) const PATCH_PX: usize = 48;

/// Trains on the same batch repeatedly.
pub(super) struct Training {
    engine: GradientEngine,
    layout: ParameterLayout,
    parameters: Vec<f32>,
    average: Vec<f32>,
    adam: Adam,
    batch: Batch,
    updates: u64,
    times: Times,
}

/// Times of the parts of a training step.
#[derive(Default)]
struct Times {
    folding: Duration,
    patches: Duration,
    optimizer: Duration,
}

impl Training {
    pub(super) fn new(config: &NetworkConfig, isa: Isa, precision: Precision) -> Self {
        Self::of(config, isa, precision, PATCHES, PATCH_PX)
    }

    fn of(
        config: &NetworkConfig,
        isa: Isa,
        precision: Precision,
        patches: usize,
        patch_px: usize,
    ) -> Self {
        let config = NetworkConfig {
            norm: wdsr_model::Norm::Weight,
            ..config.clone()
        };
        let network = Network::for_training(&config);
        let layout = ParameterLayout::new(&network, false);
        let parameters = layout.initial(&network, Initialization::Pytorch, 1);
        let batch = Batch {
            low: (0..patches).map(|n| patch(patch_px, n)).collect(),
            high: (0..patches)
                .map(|n| patch(patch_px * config.scale, n))
                .collect(),
            taught: Vec::new(),
        };
        Self {
            engine: GradientEngine::new(network, isa).with_precision(precision),
            adam: Adam::new(layout.len()),
            average: parameters.clone(),
            parameters,
            layout,
            batch,
            updates: 0,
            times: Times::default(),
        }
    }

    fn gradients(&self) -> BatchResult {
        let convs = self.layout.convs(self.engine.network(), &self.parameters);
        let norms = self.layout.norms(&self.parameters);
        self.engine.run(&convs, &norms, &self.batch)
    }
}

impl Work for Training {
    fn run(&mut self) {
        let started = Instant::now();
        let convs = self.layout.convs(self.engine.network(), &self.parameters);
        let norms = self.layout.norms(&self.parameters);
        let folded = Instant::now();
        let result = self.engine.run(&convs, &norms, &self.batch);
        let ran = Instant::now();
        let gradient = self.layout.gradient(&self.parameters, &result.gradients);
        let unfolded = Instant::now();
        self.adam.update(&mut self.parameters, &gradient, 1e-4);
        self.updates += 1;
        average(&mut self.average, &self.parameters, 0.999, self.updates);
        self.times.folding += folded - started + (unfolded - ran);
        self.times.patches += ran - folded;
        self.times.optimizer += unfolded.elapsed();
    }

    /// By the usual count, the backward pass costs twice the forward pass.
    fn operations(&self) -> f64 {
        let pixels = (PATCHES * PATCH_PX * PATCH_PX) as f64;
        6.0 * self.engine.network().multiply_adds_per_pixel() as f64 * pixels
    }

    fn parts(&self) -> Vec<(String, Duration, Option<f64>)> {
        let part = |name: &str, time: Duration| (name.to_owned(), time, None);
        vec![
            part("forward and backward pass", self.times.patches),
            part("weight normalisation", self.times.folding),
            part("Adam and moving average", self.times.optimizer),
        ]
    }

    fn reset(&mut self) {
        self.times = Times::default();
    }
}

/// Largest difference between the gradients of an instruction set and of the plain loops, in the same
/// precision, relative to the largest of each tensor.
pub(super) fn error(config: &NetworkConfig, isa: Isa, precision: Precision) -> f64 {
    // The size is not a multiple of a strip.
    let gradients = |isa| {
        Training::of(config, isa, precision, 2, 18)
            .gradients()
            .gradients
    };
    let (found, expected) = (gradients(isa), gradients(Isa::REFERENCE));
    let mut worst = 0.0;
    for (found, expected) in found.convs.iter().zip(&expected.convs) {
        let largest = expected
            .weight
            .iter()
            .fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
        for (found, expected) in found.weight.iter().zip(&expected.weight) {
            let error = f64::from((found - expected).abs() / largest);
            // `max` would ignore a NaN.
            worst = if error <= worst { worst } else { error };
        }
    }
    worst
}

fn patch(side_px: usize, seed: usize) -> Planes {
    let mut planes = Planes::zeros(3, side_px, side_px);
    for channel in 0..3 {
        for y in 0..side_px {
            for (x, value) in planes.row_mut(channel, y).iter_mut().enumerate() {
                let (x, y) = (x as f32 / side_px as f32, y as f32 / side_px as f32);
                let phase = (seed + channel) as f32;
                *value = 0.45 + 0.4 * (x * 9.0 + phase).sin() * (y * 7.0 + phase).cos();
            }
        }
    }
    planes
}
