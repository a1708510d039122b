//! Inference as work that is measured.

use std::ops::ControlFlow;
use std::time::Duration;

use wdsr_model::{
    Calibration, Isa, Model, Precision, QuantizeError, StageTime, UpscaleError, Upscaler,
};

use super::Work;

/// Size of the image that the kernels are checked on: not a multiple of a register tile or a strip.
const CHECKED_PX: (usize, usize) = (75, 22);

/// Upscales the same image repeatedly.
pub(super) struct Inference {
    upscaler: Upscaler,
    image: Vec<f32>,
    width_px: usize,
    height_px: usize,
    runs: usize,
    stages: Vec<StageTime>,
    operations_per_pixel: f64,
}

impl Inference {
    pub(super) fn new(
        model: &Model,
        upscaler: Upscaler,
        (width_px, height_px): (usize, usize),
    ) -> Self {
        Self {
            upscaler,
            image: image(width_px, height_px),
            width_px,
            height_px,
            runs: 0,
            stages: Vec::new(),
            operations_per_pixel: 2.0 * model.network().multiply_adds_per_pixel() as f64,
        }
    }

    fn pixels(&self) -> f64 {
        (self.width_px * self.height_px) as f64
    }
}

impl Work for Inference {
    fn run(&mut self) {
        let (width_px, height_px) = (self.width_px, self.height_px);
        let progress = |_: usize, _: usize| ControlFlow::Continue(());
        let (_, times) = self
            .upscaler
            .upscale_timed(&self.image, width_px, height_px, &progress)
            .unwrap_or_else(|error| panic!("the model failed after its check: {error}"));
        if self.stages.is_empty() {
            self.stages = times;
        } else {
            for (sum, stage) in self.stages.iter_mut().zip(times) {
                sum.time += stage.time;
            }
        }
        self.runs += 1;
    }

    fn operations(&self) -> f64 {
        self.operations_per_pixel * self.pixels()
    }

    fn parts(&self) -> Vec<(String, Duration, Option<f64>)> {
        // The stages of all blocks have one name: `body.3.body.0` becomes `body.*.body.0`.
        let mut parts: Vec<(String, Duration, Option<f64>)> = Vec::new();
        for stage in &self.stages {
            let name = block_independent_name(&stage.name);
            let multiply_adds = stage.multiply_adds_per_pixel;
            let operations = (multiply_adds > 0)
                .then(|| 2.0 * multiply_adds as f64 * self.pixels() * self.runs as f64);
            match parts.iter_mut().find(|part| part.0 == name) {
                Some((_, time, sum)) => {
                    *time += stage.time;
                    *sum = sum.zip(operations).map(|(a, b)| a + b);
                }
                None => parts.push((name, stage.time, operations)),
            }
        }
        parts
    }

    fn reset(&mut self) {
        self.runs = 0;
        self.stages.clear();
    }
}

fn block_independent_name(name: &str) -> String {
    let keys = name.split('+').map(|key| {
        let mut words: Vec<&str> = key.split('.').collect();
        if words.len() > 3 && words[0] == "body" {
            words[1] = "*";
        }
        words.join(".")
    });
    keys.collect::<Vec<_>>().join(" + ")
}

/// A model of random weights with scales for int8.
///
/// # Errors
/// If int8 does not support its network.
pub(super) fn quantized(model: Model, isa: Isa) -> Result<Model, QuantizeError> {
    let mut calibration = Calibration::new(&model, isa)?;
    let (w, h) = CHECKED_PX;
    calibration.add(&image(w, h), w, h);
    Ok(calibration.finish(model))
}

/// Largest difference between an upscaler and the plain loops in a precision.
///
/// # Errors
/// If the output of the model cannot be an image, or the device fails.
pub(super) fn error(
    model: &Model,
    upscaler: &Upscaler,
    precision: Precision,
) -> Result<f64, UpscaleError> {
    let (w, h) = CHECKED_PX;
    let image = image(w, h);
    let reference = Upscaler::with_isa(model, Isa::REFERENCE).precision(precision);
    let (found, expected) = (
        upscaler.upscale(&image, w, h)?,
        reference.upscale(&image, w, h)?,
    );
    let pairs = found.iter().zip(&expected);
    // `max` would ignore a NaN.
    Ok(pairs.fold(0.0, |worst, (found, expected)| {
        let error = f64::from((found - expected).abs());
        if error <= worst { worst } else { error }
    }))
}

/// An image of smooth waves, about as bright as a photograph.
fn image(width_px: usize, height_px: usize) -> Vec<f32> {
    (0..width_px * height_px * 3)
        .map(|at| {
            let (x, y, channel) = (at / 3 % width_px, at / 3 / width_px, at % 3);
            let wave = (x as f32 * 0.11 + channel as f32).sin() * (y as f32 * 0.07).cos();
            0.45 + 0.4 * wave
        })
        .collect()
}
