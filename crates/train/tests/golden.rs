//! Forward, gradients and ten Adam steps against the golden vectors of an independent
//! implementation in float64 (`../shared/golden`), for every network kind, norm and scale.

#![allow(
    clippy::print_stdout,
    reason = "the error reached is worth seeing with --nocapture"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use wdsr_kernels::{Isa, Planes, Precision};
use wdsr_model::{BatchNorm, Model, Network, NetworkConfig, Upscaler};
use wdsr_train::gradients::{Batch, BatchResult, GradientEngine};
use wdsr_train::optimizer::Adam;
use wdsr_train::parameters::{ParameterLayout, ParameterTensor, RunningStatistics};

/// Largest difference allowed, relative to the largest magnitude of the tensor.
const TOLERANCE: f64 = 1e-5;
/// The same after ten Adam steps: Adam divides by the root of the squared gradient, so where a
/// gradient nearly vanishes its rounding error grows.
const ADAM_TOLERANCE: f64 = 1e-4;
const LEARNING_RATE: f64 = 1e-3;

fn shared() -> PathBuf {
    let folder = std::env::var_os("WDSR_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    assert!(
        folder.join("golden").is_dir(),
        "{}: no golden vectors; put shared/ beside the workspace or set WDSR_SHARED",
        folder.display()
    );
    folder
}

struct Golden {
    name: String,
    config: NetworkConfig,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Golden {
    fn load(name: &str) -> Self {
        let path = shared().join("golden").join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("safetensors header");
        let config = &header.metadata().as_ref().expect("metadata")["config"];
        let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
        let tensors = tensors
            .iter()
            .filter(|(_, view)| view.dtype() == safetensors::Dtype::F32)
            .map(|(key, view)| {
                let (chunks, _) = view.data().as_chunks::<4>();
                let values = chunks.iter().map(|b| f32::from_le_bytes(*b)).collect();
                (key.to_owned(), (view.shape().to_vec(), values))
            })
            .collect();
        Self {
            name: name.to_owned(),
            config: serde_json::from_str(config).expect("network description"),
            tensors,
        }
    }

    fn values(&self, key: &str) -> &[f32] {
        let tensor = self.tensors.get(key);
        &tensor
            .unwrap_or_else(|| panic!("{}: no tensor {key}", self.name))
            .1
    }

    fn images(&self, key: &str) -> Vec<Planes> {
        let (shape, values) = &self.tensors[key];
        let [_, channels, height, width] = shape[..] else {
            panic!("{key}: shape {shape:?}")
        };
        values
            .chunks_exact(channels * height * width)
            .map(|image| {
                let mut planes = Planes::zeros(channels, width, height);
                planes.copy_from_chw(image);
                planes
            })
            .collect()
    }

    fn check(
        &self,
        what: &str,
        found: &[f32],
        expected: &[f32],
        tolerance: f64,
        floor: f64,
    ) -> f64 {
        assert_eq!(found.len(), expected.len(), "{}: {what}", self.name);
        let size = expected
            .iter()
            .fold(floor, |m, v| m.max(f64::from(v.abs())));
        let worst = found
            .iter()
            .zip(expected)
            .map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs())
            .fold(0.0, f64::max);
        let error = worst / size;
        assert!(
            error <= tolerance,
            "{} {what}: relative error {error:.2e}, allowed {tolerance:.0e}",
            self.name
        );
        error
    }
}

/// The golden input upscaled by inference.
fn upscale(golden: &Golden, model: &Model, isa: Isa) -> Vec<f32> {
    let upscaler = Upscaler::with_isa(model, isa);
    let mut all = Vec::new();
    for low in golden.images("input") {
        let (w, h) = (low.width_px(), low.height_px());
        let planes = low.to_chw();
        let pixels: Vec<f32> = (0..w * h * 3)
            .map(|at| planes[at % 3 * w * h + at / 3])
            .collect();
        let large = upscaler.upscale(&pixels, w, h).expect("an image");
        for channel in 0..3 {
            all.extend(large.iter().skip(channel).step_by(3));
        }
    }
    all
}

/// The golden parameters in their order.
fn parameters_of(golden: &Golden, layout: &ParameterLayout) -> Vec<f32> {
    let mut parameters = vec![0.0; layout.len()];
    for tensor in &layout.tensors {
        let (shape, values) = &golden.tensors[&format!("param/{}", tensor.name)];
        assert_eq!(shape, &tensor.shape, "{}: {}", golden.name, tensor.name);
        parameters[tensor.range.clone()].copy_from_slice(values);
    }
    parameters
}

fn batch_of(golden: &Golden) -> Batch {
    Batch {
        low: golden.images("input"),
        high: golden.images("target"),
        taught: Vec::new(),
    }
}

fn agrees(name: &str, isa: Isa) {
    let golden = Golden::load(name);
    let network = Network::for_training(&golden.config);
    let layout = ParameterLayout::new(&network, false);
    let mut parameters = parameters_of(&golden, &layout);
    let mut running: Vec<RunningStatistics> = network
        .batch_norms
        .iter()
        .map(|norm| RunningStatistics {
            mean: golden
                .values(&format!("param/{}.running_mean", norm.name))
                .to_vec(),
            variance: golden
                .values(&format!("param/{}.running_var", norm.name))
                .to_vec(),
        })
        .collect();

    let model = Model::new(
        &golden.config,
        layout.folded(&network, &parameters, &running),
        BTreeMap::new(),
    );
    let eval = upscale(&golden, &model, isa);
    let mut worst = golden.check(
        "output_eval",
        &eval,
        golden.values("output_eval"),
        TOLERANCE,
        1e-3,
    );

    let batch = batch_of(&golden);
    let engine = GradientEngine::new(network.clone(), isa);
    let step = |parameters: &[f32]| -> BatchResult {
        let norms = layout.norms(parameters);
        engine.run(&layout.convs(&network, parameters), &norms, &batch)
    };
    let result = step(&parameters);
    let loss = [result.loss as f32];
    worst = worst.max(golden.check("loss", &loss, golden.values("loss"), TOLERANCE, 1e-3));
    let gradient = layout.gradient(&parameters, &result.gradients);
    // The exact gradient by a bias before a batch normalisation is zero. The rounding error is
    // relative to the largest gradient of all.
    let largest = gradient.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let vanishes = |tensor: &ParameterTensor| {
        let of_norm =
            |norm: &BatchNorm| tensor.name == format!("{}.bias", network.convs[norm.conv].name);
        network.batch_norms.iter().any(of_norm)
    };
    for tensor in &layout.tensors {
        let expected = golden.values(&format!("grad/{}", tensor.name));
        let what = format!("gradient of {}", tensor.name);
        let floor = if vanishes(tensor) {
            f64::from(largest)
        } else {
            0.0
        };
        worst = worst.max(golden.check(
            &what,
            &gradient[tensor.range.clone()],
            expected,
            TOLERANCE,
            floor,
        ));
    }

    let mut adam = Adam::new(layout.len());
    let mut losses = Vec::new();
    for _ in 0..10 {
        let result = step(&parameters);
        losses.push(result.loss as f32);
        for (running, s) in running.iter_mut().zip(&result.statistics) {
            running.update(&s.mean, &s.variance, s.count);
        }
        let gradient = layout.gradient(&parameters, &result.gradients);
        adam.update(&mut parameters, &gradient, LEARNING_RATE);
    }
    let mut adam_worst = golden.check(
        "ten losses",
        &losses,
        golden.values("adam10_loss"),
        ADAM_TOLERANCE,
        1e-3,
    );
    for tensor in layout.tensors.iter().filter(|tensor| !vanishes(tensor)) {
        let expected = golden.values(&format!("adam10_param/{}", tensor.name));
        let what = format!("{} after ten steps", tensor.name);
        let found = &parameters[tensor.range.clone()];
        adam_worst = adam_worst.max(golden.check(&what, found, expected, ADAM_TOLERANCE, 0.0));
    }
    println!(
        "{name} on {isa}: relative error {worst:.1e} (output, loss, gradients), {adam_worst:.1e} \
         (losses and parameters of ten Adam steps)"
    );
}

const CASES: [&str; 15] = [
    "wdsr-a_x2",
    "wdsr-b_x2",
    "edsr_x2",
    "wdsr-a_x3",
    "wdsr-b_x3",
    "edsr_x3",
    "wdsr-a_x4",
    "wdsr-b_x4",
    "edsr_x4",
    "wdsr-a_x2_batch",
    "wdsr-b_x2_batch",
    "wdsr-a_x2_none",
    "wdsr-b_x2_none",
    "wdsr-a_x8_res0.1",
    "wdsr-b_x1",
];

#[test]
fn networks_match_the_golden_vectors() {
    for isa in Isa::available() {
        for name in CASES {
            agrees(name, isa);
        }
    }
}

/// Length of the error of the bf16 gradient of a golden case, relative to the length of the float64
/// gradient.
fn error_of_bf16(name: &str, isa: Isa) -> f64 {
    let golden = Golden::load(name);
    let network = Network::for_training(&golden.config);
    let layout = ParameterLayout::new(&network, false);
    let parameters = parameters_of(&golden, &layout);
    let engine = GradientEngine::new(network.clone(), isa).with_precision(Precision::Bf16);
    let convs = layout.convs(&network, &parameters);
    let result = engine.run(&convs, &layout.norms(&parameters), &batch_of(&golden));
    let loss = [result.loss as f32];
    golden.check("loss in bf16", &loss, golden.values("loss"), 1e-2, 1e-3);
    let gradient = layout.gradient(&parameters, &result.gradients);
    let (mut error, mut length) = (0.0, 0.0);
    for tensor in &layout.tensors {
        let expected = golden.values(&format!("grad/{}", tensor.name));
        for (found, expected) in gradient[tensor.range.clone()].iter().zip(expected) {
            error += f64::from(found - expected).powi(2);
            length += f64::from(*expected).powi(2);
        }
    }
    (error / length).sqrt()
}

/// Products are rounded to 8 bits, and a sign of the L1 loss may flip. Measured errors: up to 0.09 with
/// batch normalisation, which divides by small deviations, up to 0.03 without.
#[test]
fn bf16_gradients_match_up_to_rounding() {
    for isa in Isa::available() {
        for name in CASES {
            let error = error_of_bf16(name, isa);
            println!("{name} in bf16 on {isa}: error {error:.1e} of the gradient's length");
            let allowed = if name.ends_with("_batch") { 0.15 } else { 0.05 };
            // Below that it would not be bf16.
            let range = 5e-4..allowed;
            assert!(
                range.contains(&error),
                "{name} on {isa}: {error:e}, expected {range:?}"
            );
        }
    }
}
