//! Networks on the adapters of this computer, software included, against the golden vectors and the
//! processor.
//!
//! They are ignored by default; `.ci/run gpu` installs Mesa's software where there is no driver, and runs them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use wdsr_gpu::{AdapterKind, Choice, Gpu, OpenError, adapters};
use wdsr_model::{
    BlockKind, Device, DeviceError, DevicePrecision, Isa, Model, Network, NetworkConfig,
    UpscaleError, Upscaler,
};
use wdsr_testing::floats::{assert_close, largest};
use wdsr_testing::golden;
use wdsr_testing::images::{interleaved, planar};
use wdsr_testing::random;
use wdsr_train::parameters::{ParameterLayout, RunningStatistics};

const F32_TOLERANCE: f64 = 1e-5;
const F16_TOLERANCE: f64 = 2e-3;

static GPU: LazyLock<Arc<Gpu>> = LazyLock::new(open);

/// The first adapter.
fn open() -> Arc<Gpu> {
    let gpu = Gpu::open(Choice::Index(0));
    Arc::new(gpu.unwrap_or_else(|error| panic!("{error}")))
}

/// The precisions of the adapter, and how far their results may be off.
fn precisions() -> impl Iterator<Item = (DevicePrecision, f64)> {
    let f16 = (GPU.has_f16()).then_some((DevicePrecision::F16, F16_TOLERANCE));
    [(DevicePrecision::F32, F32_TOLERANCE)]
        .into_iter()
        .chain(f16)
}

fn on(gpu: &Arc<Gpu>, model: &Model, precision: DevicePrecision) -> Upscaler {
    Upscaler::with_isa(model, Isa::REFERENCE).on_device(gpu.clone(), precision)
}

fn configs() -> Vec<NetworkConfig> {
    vec![
        NetworkConfig::wdsr_b(8, 2, 2),
        NetworkConfig::wdsr_a(4, 1, 3),
        NetworkConfig::edsr(4, 1, 4),
        NetworkConfig::wdsr_b(5, 1, 1),
        NetworkConfig::wdsr_a(9, 1, 2),
        NetworkConfig::wdsr_b(13, 2, 3),
        NetworkConfig::edsr(10, 1, 2),
        NetworkConfig::compact(17, 2, 4),
        NetworkConfig::compact(8, 1, 1),
        NetworkConfig::msr_resnet(9, 1, 3),
        NetworkConfig::msr_resnet(4, 2, 4),
        NetworkConfig::wdsr_b(40, 1, 2),
        NetworkConfig {
            residual_scale: 0.1,
            ..NetworkConfig::wdsr_a(8, 2, 8)
        },
    ]
}

fn image(width: usize, height: usize, seed: u32) -> Vec<f32> {
    random::units(width * height * 3, seed.into())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Asserts that the model makes `expected` of `input`, both [image, channel, y, x].
fn check_golden(model: &Model, input: &golden::Tensor, expected: &[f32], name: &str) {
    let [_, 3, height, width] = input.shape[..] else {
        panic!("{name}: input of shape {:?}", input.shape)
    };
    for (precision, tolerance) in precisions() {
        let upscaler = on(&GPU, model, precision);
        let mut found: Vec<f32> = Vec::new();
        for planes in input.floats().chunks_exact(3 * height * width) {
            let large = upscaler.upscale(&interleaved(planes, 3), width, height);
            found.extend(planar(&large.expect("an image"), 3));
        }
        let allowed = tolerance * largest(expected).max(1.0);
        assert_close(&found, expected, allowed, format!("{name} {precision:?}"));
    }
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn golden_checkpoints_give_the_expected_output() {
    let (input, cases) = golden::checkpoints();
    for case in cases {
        let imported = wdsr_convert::import(&case.path, &wdsr_convert::Options::default());
        let model = imported.unwrap_or_else(|e| panic!("{e}")).model;
        if model.config().block == BlockKind::Rrdb {
            for (precision, _) in precisions() {
                let error = on(&GPU, &model, precision).upscale(&[0.5_f32; 3], 1, 1);
                let message = error.expect_err("not computed").to_string();
                let expected = "does not compute networks of kind rrdb";
                assert!(message.contains(expected), "{message}");
            }
            continue;
        }
        check_golden(&model, &input, &case.output, &case.file);
    }
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn golden_networks_give_the_expected_output() {
    for case in golden::networks() {
        let config: NetworkConfig = serde_json::from_str(&case.config).expect("a description");
        let network = Network::for_training(&config);
        let layout = ParameterLayout::new(&network, false);
        let values = |key: &str| case.vectors.floats(&format!("param/{key}"));
        let mut parameters = vec![0.0; layout.len()];
        for tensor in &layout.tensors {
            parameters[tensor.range.clone()].copy_from_slice(&values(&tensor.name));
        }
        let norms = network.batch_norms.iter().map(|norm| RunningStatistics {
            mean: values(&format!("{}.running_mean", norm.name)),
            variance: values(&format!("{}.running_var", norm.name)),
        });
        let norms: Vec<_> = norms.collect();
        let convs = layout.folded(&network, &parameters, &norms);
        let model = Model::new(&config, convs, BTreeMap::new());
        let (input, expected) = (
            case.vectors.tensor("input"),
            case.vectors.floats("output_eval"),
        );
        check_golden(&model, input, &expected, &case.name);
    }
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn every_kind_of_network_is_that_of_the_processor() {
    for (at, config) in configs().iter().enumerate() {
        let model = Model::random(config, 1);
        let (width, height) = (13 + 7 * at, 21);
        let pixels = image(width, height, 5);
        let processor = Upscaler::with_isa(&model, Isa::REFERENCE);
        let expected = processor.upscale(&pixels, width, height).expect("an image");
        for (precision, tolerance) in precisions() {
            let found = on(&GPU, &model, precision)
                .upscale(&pixels, width, height)
                .expect("an image");
            let allowed = tolerance * largest(&expected).max(1.0);
            let label = format!("{} {:?}", config.label(), precision);
            assert_close(&found, &expected, allowed, label);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    #[ignore = "needs a driver of a GPU: .ci/run gpu"]
    fn tiled_image_equals_the_whole_image(
        which in 0_usize..6,
        width in 1_usize..60,
        height in 1_usize..60,
        rows in 1_usize..64,
        seed: u32,
    ) {
        let model = Model::random(&configs()[which], seed);
        let pixels = image(width, height, seed);
        for (precision, _) in precisions() {
            let upscaler = on(&GPU, &model, precision);
            let whole = upscaler.upscale(&pixels, width, height).expect("an image");
            let (mut rest, mut large) = (&pixels[..], Vec::new());
            let streamed = upscaler.upscale_rows::<f32, UpscaleError>(
                (width, height),
                rows,
                |to| {
                    let (next, others) = rest.split_at(to.len());
                    to.copy_from_slice(next);
                    rest = others;
                    Ok(())
                },
                |from| {
                    large.extend_from_slice(from);
                    Ok(())
                },
                &|_, _| std::ops::ControlFlow::Continue(()),
            );
            streamed.expect("an image");
            prop_assert_eq!(bits(&whole), bits(&large));
        }
    }
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn tiles_of_columns_equal_the_whole_image() {
    // On software a tile has about 25 thousand pixels, so that this image needs tiles of columns.
    let model = Model::random(&NetworkConfig::wdsr_b(32, 8, 2), 1);
    let (width, height) = (900, 70);
    let pixels = image(width, height, 3);
    let whole = on(&GPU, &model, DevicePrecision::F32)
        .upscale(&pixels, width, height)
        .expect("an image");
    let part = 150..350;
    let rows = pixels.chunks_exact(width * 3);
    let cut: Vec<f32> = rows
        .flat_map(|row| &row[part.start * 3..part.end * 3])
        .copied()
        .collect();
    let small = on(&GPU, &model, DevicePrecision::F32)
        .upscale(&cut, part.len(), height)
        .expect("an image");
    // Within the receptive radius the cut shows.
    let radius = model.network().receptive_radius_px();
    for y in 0..2 * height {
        let from = |row: &[f32], x: std::ops::Range<usize>| bits(&row[x.start * 6..x.end * 6]);
        let of_whole = &whole[y * width * 6..][..width * 6];
        let of_part = &small[y * part.len() * 6..][..part.len() * 6];
        assert_eq!(
            from(of_whole, part.start + radius..part.end - radius),
            from(of_part, radius..part.len() - radius),
            "row {y}"
        );
    }
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn self_ensemble_is_that_of_the_processor() {
    for config in [
        NetworkConfig::wdsr_b(8, 2, 2),
        NetworkConfig::edsr(6, 1, 4),
        NetworkConfig::compact(8, 1, 4),
        NetworkConfig::msr_resnet(6, 1, 2),
    ] {
        let model = Model::random(&config, 4);
        let pixels = image(19, 23, 6);
        let processor = Upscaler::with_isa(&model, Isa::REFERENCE).self_ensemble(true);
        let expected = processor.upscale(&pixels, 19, 23).expect("an image");
        let found = on(&GPU, &model, DevicePrecision::F32)
            .self_ensemble(true)
            .upscale(&pixels, 19, 23);
        let allowed = F32_TOLERANCE * largest(&expected).max(1.0);
        assert_close(
            &found.expect("an image"),
            &expected,
            allowed,
            config.label(),
        );
    }
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn a_lost_device_fails_an_image_and_computes_the_next() {
    let gpu = open();
    let model = Model::random(&NetworkConfig::wdsr_b(8, 1, 2), 1);
    let upscaler = on(&gpu, &model, DevicePrecision::F32);
    let pixels = image(20, 10, 1);
    let before = upscaler.upscale(&pixels, 20, 10).expect("an image");
    gpu.lose();
    match upscaler.upscale(&pixels, 20, 10) {
        Err(UpscaleError::Device(DeviceError::Lost { device, .. })) => {
            assert_eq!(device, gpu.summary().name);
        }
        other => panic!("expected a lost device, found {other:?}"),
    }
    let after = upscaler.upscale(&pixels, 20, 10).expect("an image");
    assert_eq!(bits(&before), bits(&after));
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn samples_that_are_not_finite_are_errors() {
    let model = Model::random(&NetworkConfig::wdsr_b(8, 1, 2), 1);
    let mut pixels = image(20, 10, 1);
    pixels[(4 * 20 + 7) * 3 + 1] = f32::NAN;
    match on(&GPU, &model, DevicePrecision::F32).upscale(&pixels, 20, 10) {
        Err(UpscaleError::Input { x: 7, y: 4, value }) => assert!(value.is_nan(), "{value}"),
        other => panic!("expected an error at (7, 4), found {other:?}"),
    }
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn results_that_are_not_finite_are_errors() {
    let config = NetworkConfig::wdsr_b(8, 1, 2);
    let random = Model::random(&config, 1);
    let mut convs = random.convs().to_vec();
    for conv in &mut convs {
        conv.weight.iter_mut().for_each(|weight| *weight *= 1e30);
    }
    let model = Model::new(&config, convs, BTreeMap::new());
    for (precision, _) in precisions() {
        let found = on(&GPU, &model, precision).upscale(&image(20, 10, 1), 20, 10);
        assert!(
            matches!(found, Err(UpscaleError::NotFinite { .. })),
            "{:?}: {found:?}",
            precision
        );
    }
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn software_is_not_taken_for_hardware() {
    let all = adapters();
    let has_hardware = all
        .iter()
        .any(|adapter| adapter.kind != AdapterKind::Software);
    match Gpu::open(Choice::Hardware) {
        Ok(gpu) => assert_ne!(gpu.summary().kind, AdapterKind::Software),
        Err(OpenError::OnlySoftware { .. }) => assert!(!has_hardware, "{all:?}"),
        Err(error) => panic!("{error}"),
    }
    let missing = Gpu::open(Choice::Index(all.len()));
    let count = all.len();
    assert_eq!(
        missing.err(),
        Some(OpenError::NoSuchAdapter {
            index: count,
            count
        })
    );
}

#[test]
#[ignore = "needs a driver of a GPU: .ci/run gpu"]
fn the_peak_is_measured() {
    for (precision, _) in precisions() {
        let gflops = GPU.peak_gflops(precision, 0.2).expect("a device");
        assert!(
            gflops > 0.1 && gflops < 1e7,
            "{precision:?}: {gflops} GFLOP/s"
        );
    }
}
