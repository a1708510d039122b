//! The tiled image equals the whole one for every tile width, number of threads and symmetry, and
//! outputs that cannot be an image are errors.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;

use proptest::prelude::*;
use wdsr_kernels::is_short_pair;
use wdsr_model::{
    BlockKind, BuiltinModel, Calibration, ConvWeights, Isa, Model, Network, NetworkConfig,
    Precision, UpscaleError, Upscaler,
};
use wdsr_testing::random;

/// A network with weights for which every pixel within the receptive radius matters.
fn model(config: &NetworkConfig) -> Model {
    Model::random(config, 1)
}

fn image(width: usize, height: usize, seed: u32) -> Vec<f32> {
    random::units(width * height * 3, seed.into())
}

fn rrdb(features: usize, growth: usize, blocks: usize, scale: usize) -> NetworkConfig {
    NetworkConfig {
        growth,
        ..NetworkConfig::rrdb(features, blocks, scale)
    }
}

fn configs() -> Vec<NetworkConfig> {
    vec![
        NetworkConfig::wdsr_b(8, 2, 2),
        NetworkConfig::wdsr_a(4, 1, 3),
        NetworkConfig::edsr(4, 1, 4),
        NetworkConfig::wdsr_b(5, 1, 1),
        // With enough channels for Winograd's form.
        NetworkConfig::wdsr_a(9, 1, 2),
        NetworkConfig::wdsr_b(13, 2, 3),
        NetworkConfig::edsr(10, 1, 2),
        NetworkConfig::compact(17, 2, 4),
        NetworkConfig::compact(8, 1, 1),
        NetworkConfig::msr_resnet(9, 1, 3),
        NetworkConfig::msr_resnet(4, 2, 4),
        rrdb(4, 3, 2, 4),
        // With enough channels for Winograd's form.
        rrdb(9, 8, 1, 1),
    ]
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn tiled_image_equals_the_whole_image(
        which in 0_usize..13,
        width in 1_usize..40,
        height in 1_usize..40,
        tile in 1_usize..45,
        threads in 1_usize..4,
        self_ensemble: bool,
        bf16: bool,
        seed: u32,
    ) {
        let model = model(&configs()[which]);
        let pixels = image(width, height, seed);
        let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
        // Plain loops of large images take long and show nothing else.
        let is_fast = |isa: &Isa| *isa != Isa::REFERENCE || width * height < 300;
        for isa in Isa::available().into_iter().filter(is_fast) {
            let run = |tile: Option<usize>, threads: usize| {
                let upscaler = Upscaler::with_isa(&model, isa)
                    .tile_px(tile)
                    .self_ensemble(self_ensemble)
                    .precision(precision);
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let pool = pool.expect("threads");
                pool.install(|| upscaler.upscale(&pixels, width, height)).expect("an image")
            };
            let whole = run(None, 1);
            prop_assert_eq!(bits(&run(Some(tile), threads)), bits(&whole), "{} on {}", which, isa);
        }
    }
}

/// Networks whose numbers of channels fill tiles of AMX, and exceed them.
fn configs_for_tiles() -> Vec<NetworkConfig> {
    let low_rank = |low_rank: usize, config: NetworkConfig| NetworkConfig { low_rank, ..config };
    vec![
        NetworkConfig::wdsr_b(32, 2, 2),
        low_rank(40, NetworkConfig::wdsr_b(33, 1, 4)),
        NetworkConfig::wdsr_a(16, 2, 3),
        NetworkConfig::edsr(26, 1, 4),
        NetworkConfig::compact(33, 1, 3),
        rrdb(32, 32, 1, 2),
    ]
}

/// On tiles in plain Rust, on any processor.
#[test]
fn tiles_of_amx_compute_every_network_in_any_division() {
    let (width, height) = (37, 5);
    let pixels = image(width, height, 5);
    let run = |model: &Model, isa: Isa, tile: usize, threads: usize, self_ensemble: bool| {
        let upscaler = Upscaler::with_isa(model, isa)
            .tile_px(Some(tile))
            .self_ensemble(self_ensemble)
            .precision(Precision::Bf16);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let run = || upscaler.upscale(&pixels, width, height).expect("an image");
        pool.expect("threads").install(run)
    };
    for config in configs().into_iter().chain(configs_for_tiles()) {
        let (model, label) = (model(&config), config.label());
        let whole: Vec<f32> = run(&model, Isa::emulated_amx(), 100, 1, false);
        let expected = run(&model, Isa::REFERENCE, 100, 1, false);
        let difference = difference(&whole, &expected);
        assert!(difference < 2e-2, "{label}: {difference}");
        for (tile, threads) in [(7, 2), (20, 1)] {
            let tiled = run(&model, Isa::emulated_amx(), tile, threads, false);
            assert_eq!(bits(&tiled), bits(&whole), "{label}, tiles of {tile}");
        }
        if config.features <= 5 {
            let [whole, tiled] =
                [100, 11].map(|tile| run(&model, Isa::emulated_amx(), tile, 2, true));
            assert_eq!(bits(&tiled), bits(&whole), "{label} in eight symmetries");
        }
    }
}

/// The model with scales for int8 that fit an image of noise.
fn with_int8(model: Model) -> Model {
    let mut calibration = Calibration::new(&model, Isa::REFERENCE).expect("a supported network");
    calibration.add(&image(24, 20, 3), 24, 20);
    calibration.finish(model)
}

#[test]
fn int8_has_the_same_bits_in_any_division_on_every_instruction_set() {
    let (width, height) = (37, 9);
    let pixels = image(width, height, 5);
    let run = |model: &Model, isa: Isa, tile: usize, threads: usize, self_ensemble: bool| {
        let upscaler = Upscaler::with_isa(model, isa)
            .tile_px(Some(tile))
            .self_ensemble(self_ensemble)
            .precision(Precision::Int8);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let run = || upscaler.upscale(&pixels, width, height).expect("an image");
        pool.expect("threads").install(run)
    };
    let scaled = NetworkConfig {
        residual_scale: -0.5,
        ..NetworkConfig::wdsr_b(12, 2, 2)
    };
    for config in configs().into_iter().chain([scaled]) {
        if matches!(config.block, BlockKind::MsrResNet | BlockKind::Rrdb) {
            continue;
        }
        let (model, label) = (with_int8(model(&config)), config.label());
        let whole: Vec<f32> = run(&model, Isa::REFERENCE, 100, 1, false);
        let f32: Vec<f32> = Upscaler::with_isa(&model, Isa::REFERENCE)
            .upscale(&pixels, width, height)
            .expect("an image");
        let difference = difference(&whole, &f32);
        assert!(
            difference > 0.0 && difference < 0.1,
            "{label}: {difference}"
        );
        let ensemble = (config.features <= 5).then(|| run(&model, Isa::REFERENCE, 100, 1, true));
        for isa in Isa::available().into_iter().chain([Isa::emulated_amx()]) {
            for (tile, threads) in [(7, 2), (20, 1), (100, 2)] {
                let tiled = run(&model, isa, tile, threads, false);
                assert_eq!(
                    bits(&tiled),
                    bits(&whole),
                    "{label}, tiles of {tile} on {isa}"
                );
            }
            if let Some(ensemble) = &ensemble {
                let tiled = run(&model, isa, 11, 2, true);
                assert_eq!(
                    bits(&tiled),
                    bits(ensemble),
                    "{label} in eight symmetries on {isa}"
                );
            }
        }
    }
}

/// What `wdsr quantize` makes, released models among it, is as fast as AVX2 can be.
#[test]
fn calibrated_weights_are_short_pairs() {
    let built_in = BuiltinModel::ALL.iter().map(BuiltinModel::load);
    let calibrated = configs()
        .into_iter()
        .filter(|config| !matches!(config.block, BlockKind::MsrResNet | BlockKind::Rrdb));
    let calibrated = calibrated.map(|config| with_int8(model(&config)));
    let mut pairs = 0;
    for model in built_in.chain(calibrated) {
        let (network, label) = (model.network(), model.config().label());
        let scales = model.int8().into_iter().flatten();
        for (conv, scales) in network.int8_convs().zip(scales) {
            let shape = &network.convs[conv];
            let units = shape.int8_units(&model.convs()[conv].weight, scales);
            let weights: Vec<i8> = units
                .map(|units| units.round_ties_even().clamp(-127.0, 127.0) as i8)
                .collect();
            let taps = shape.kernel * shape.kernel;
            for row in weights.chunks_exact(shape.in_channels * taps) {
                for pair in row.chunks_exact(2 * taps) {
                    for tap in 0..taps {
                        let pair = [pair[tap], pair[taps + tap]];
                        assert!(is_short_pair(pair), "{label} {}: {pair:?}", shape.name);
                        pairs += 1;
                    }
                }
            }
        }
    }
    assert!(pairs > 100_000, "{pairs} pairs");
}

#[test]
#[should_panic(expected = "without scales")]
fn int8_without_scales_panics() {
    let model = model(&NetworkConfig::wdsr_b(8, 1, 2));
    let _ = Upscaler::with_isa(&model, Isa::REFERENCE).precision(Precision::Int8);
}

#[test]
fn calibration_names_what_it_does_not_support() {
    let refusal = |model: &Model| {
        Calibration::new(model, Isa::REFERENCE)
            .err()
            .map(|e| e.to_string())
    };
    let of_others = model(&NetworkConfig::msr_resnet(4, 1, 2));
    let message = refusal(&of_others).expect("a refusal");
    assert!(
        message.contains("msrresnet") && message.contains("wdsr-b"),
        "{message}"
    );
    let plain = model(&NetworkConfig::wdsr_b(4, 1, 2));
    let strong = plain.convs().to_vec();
    let message = refusal(&plain.with_strong(strong)).expect("a refusal");
    assert!(message.contains("strength"), "{message}");
}

/// The receptive radius is not larger than necessary.
#[test]
fn output_depends_on_pixels_at_the_receptive_radius() {
    for config in configs() {
        let mut model = model(&config);
        let mut grey = 0.5;
        if config.block == BlockKind::Rrdb {
            // Its many convolutions and factors of 0.2 leave of the pixel at the radius less than rounding does,
            // so all else is 0.
            grey = 0.0;
            let mut convs = model.convs().to_vec();
            for conv in &mut convs {
                conv.bias.fill(0.0);
                conv.weight.iter_mut().for_each(|weight| *weight *= 4.0);
            }
            model = Model::new(&config, convs, Default::default());
        }
        let radius = model.network().receptive_radius_px();
        let side = 2 * radius + 3;
        let mut pixels = vec![grey; side * side * 3];
        let upscaler = Upscaler::with_isa(&model, Isa::REFERENCE);
        let before: Vec<f32> = upscaler.upscale(&pixels, side, side).expect("an image");
        pixels[0] = 1.0;
        let after: Vec<f32> = upscaler.upscale(&pixels, side, side).expect("an image");
        let scale = config.scale;
        let reached = before
            .iter()
            .zip(&after)
            .enumerate()
            .filter(|(_, (a, b))| a.to_bits() != b.to_bits())
            .map(|(at, _)| at / 3 % (side * scale) / scale)
            .max();
        assert_eq!(reached, Some(radius), "{}", config.label());
    }
}

/// Largest difference of two images.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    let pairs = a.iter().zip(b);
    pairs.fold(0.0, |max, (a, b)| max.max((a - b).abs()))
}

#[test]
fn instruction_sets_compute_the_same_image() {
    for config in configs() {
        let model = model(&config);
        let pixels = image(37, 22, 5);
        let expected: Vec<f32> = Upscaler::with_isa(&model, Isa::REFERENCE)
            .upscale(&pixels, 37, 22)
            .expect("an image");
        for isa in Isa::available() {
            // bf16 rounds to 8 bits.
            for (precision, allowed) in [(Precision::F32, 1e-5), (Precision::Bf16, 2e-2)] {
                let upscaler = Upscaler::with_isa(&model, isa).precision(precision);
                let found = upscaler.upscale(&pixels, 37, 22).expect("an image");
                let difference = difference(&found, &expected);
                assert!(
                    difference < allowed,
                    "{} on {isa} in {precision:?}: {difference}",
                    config.label()
                );
            }
        }
    }
}

/// The network turns its kernels instead of the image.
#[test]
fn self_ensemble_is_the_mean_over_turned_images() {
    let (w, h) = (14, 9);
    // The place of pixel (x, y) of an image of `w` x `h` in each symmetry.
    let place = |symmetry: usize, x: usize, y: usize, w: usize, h: usize| {
        let x = if symmetry & 1 == 0 { x } else { w - 1 - x };
        let y = if symmetry & 2 == 0 { y } else { h - 1 - y };
        if symmetry & 4 == 0 { (x, y) } else { (y, x) }
    };
    for config in configs() {
        let model = model(&config);
        let pixels = image(w, h, 6);
        let upscaler = Upscaler::with_isa(&model, Isa::REFERENCE);
        let (large_w, large_h) = (w * config.scale, h * config.scale);
        let mut mean = vec![0.0; large_w * large_h * 3];
        for symmetry in 0..8 {
            let turned_w = if symmetry & 4 == 0 { w } else { h };
            let mut turned = vec![0.0; pixels.len()];
            for (at, sample) in pixels.iter().enumerate() {
                let (x, y) = place(symmetry, at / 3 % w, at / 3 / w, w, h);
                turned[(y * turned_w + x) * 3 + at % 3] = *sample;
            }
            let large = upscaler
                .upscale(&turned, turned_w, w * h / turned_w)
                .expect("an image");
            for (at, sum) in mean.iter_mut().enumerate() {
                let (x, y) = (at / 3 % large_w, at / 3 / large_w);
                let (x, y) = place(symmetry, x, y, large_w, large_h);
                *sum += large[(y * turned_w * config.scale + x) * 3 + at % 3] / 8.0;
            }
        }
        let found = upscaler
            .self_ensemble(true)
            .upscale(&pixels, w, h)
            .expect("an image");
        let difference = difference(&found, &mean);
        assert!(difference < 1e-5, "{}: {difference}", config.label());
    }
}

#[test]
fn integer_results_are_the_rounded_float_results() {
    let model = model(&NetworkConfig::wdsr_b(8, 2, 2));
    let upscaler = Upscaler::with_isa(&model, Isa::REFERENCE);
    let bytes: Vec<u8> = image(9, 7, 3).iter().map(|v| (v * 255.0) as u8).collect();
    let floats: Vec<f32> = bytes.iter().map(|v| f32::from(*v) / 255.0).collect();
    let large: Vec<f32> = upscaler.upscale(&floats, 9, 7).expect("an image");
    let expected: Vec<u8> = large
        .iter()
        .map(|v| (v * 255.0).clamp(0.0, 255.0).round() as u8)
        .collect();
    assert_eq!(upscaler.upscale(&bytes, 9, 7), Ok(expected));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// For any number of rows at a time, and several tiles.
    #[test]
    fn image_in_rows_equals_the_whole_image(
        which in 0_usize..7,
        width in 1_usize..40,
        height in 1_usize..90,
        rows_px in 1_usize..100,
        tile in 1_usize..45,
        self_ensemble: bool,
        seed: u32,
    ) {
        let model = model(&configs()[which]);
        let pixels = image(width, height, seed);
        let upscaler = Upscaler::with_isa(&model, Isa::detect().expect("an instruction set"))
            .self_ensemble(self_ensemble)
            .tile_px(Some(tile));
        let whole = upscaler.upscale(&pixels, width, height).expect("an image");
        let (mut read, mut made, mut last) = (0, Vec::new(), (0, 0));
        let progress = Mutex::new(&mut last);
        upscaler
            .upscale_rows::<f32, UpscaleError>(
                (width, height),
                rows_px,
                |rows| {
                    rows.copy_from_slice(&pixels[read..][..rows.len()]);
                    read += rows.len();
                    Ok(())
                },
                |rows| {
                    made.extend_from_slice(rows);
                    Ok(())
                },
                &|done, total| {
                    let mut last = progress.lock().expect("no panic");
                    **last = (last.0.max(done), total);
                    ControlFlow::Continue(())
                },
            )
            .expect("an image");
        prop_assert_eq!(read, pixels.len());
        let differs = bits(&made).iter().zip(bits(&whole)).position(|(a, b)| *a != b);
        prop_assert_eq!((differs, made.len()), (None, whole.len()), "{}", which);
        prop_assert_eq!(last.0, last.1, "rows done and rows in all");
    }
}

#[test]
fn errors_of_reader_and_writer_are_returned() {
    #[derive(Debug, PartialEq)]
    enum Failure {
        Read,
        Write,
        Upscale(UpscaleError),
    }
    impl From<UpscaleError> for Failure {
        fn from(error: UpscaleError) -> Self {
            Self::Upscale(error)
        }
    }
    let upscaler = Upscaler::new(&model(&NetworkConfig::wdsr_b(5, 1, 2))).expect("an upscaler");
    let run = |reads: usize, writes: usize, strips: usize| {
        let (mut reads, mut writes) = (reads, writes);
        upscaler.upscale_rows::<f32, Failure>(
            (9, 40),
            8,
            |rows| {
                rows.copy_from_slice(&image(9, rows.len() / 27, 3));
                reads = reads.checked_sub(1).ok_or(Failure::Read)?;
                Ok(())
            },
            |_| {
                writes = writes.checked_sub(1).ok_or(Failure::Write)?;
                Ok(())
            },
            &|done, _| match done <= strips {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            },
        )
    };
    assert_eq!(run(2, 9, 99), Err(Failure::Read));
    assert_eq!(run(9, 2, 99), Err(Failure::Write));
    assert_eq!(run(9, 9, 3), Err(Failure::Upscale(UpscaleError::Stopped)));
    assert_eq!(run(9, 9, 99), Ok(()));
}

/// A network whose output is a single colour for every image; `bias` is that of its last convolution.
fn single_colour_model(bias: f32) -> Model {
    let config = NetworkConfig::wdsr_b(4, 1, 2);
    let convs = Network::new(&config).convs;
    let weights = convs.iter().map(|conv| ConvWeights {
        weight: vec![0.0; conv.weights()],
        bias: vec![bias; conv.out_channels],
        slopes: Vec::new(),
    });
    Model::new(&config, weights.collect(), BTreeMap::new())
}

#[test]
fn outputs_that_cannot_be_an_image_are_errors() {
    let (w, h) = (11, 70);
    let pixels = image(w, h, 9);
    let bytes: Vec<u8> = pixels.iter().map(|v| (v * 255.0) as u8).collect();
    let flat = Upscaler::new(&single_colour_model(0.0)).expect("an upscaler");
    let constant = |rows| Err(UpscaleError::Constant { rows });
    assert_eq!(flat.upscale(&bytes, w, h), constant(0..h));
    assert!(
        flat.upscale(&vec![7_u8; w * h * 3], w, h).is_ok(),
        "one colour in, one out"
    );

    // A single colour except for one channel of one pixel.
    let mut nearly_flat = vec![7_u8; w * h * 3];
    nearly_flat[(20 * w + 8) * 3 + 2] = 8;
    assert_eq!(
        flat.tile_px(Some(6)).upscale(&nearly_flat, w, h),
        constant(0..h)
    );

    for value in [f32::NAN, f32::INFINITY] {
        let broken = Upscaler::new(&single_colour_model(value)).expect("an upscaler");
        let error = broken.upscale(&bytes, w, h).expect_err("no image");
        assert!(matches!(error, UpscaleError::NotFinite { .. }), "{error}");

        let mut wild = pixels.clone();
        wild[(31 * w + 4) * 3 + 1] = value;
        let error = Upscaler::new(&Model::builtin())
            .expect("an upscaler")
            .tile_px(Some(3))
            .upscale(&wild, w, h)
            .expect_err("no image");
        assert!(
            matches!(error, UpscaleError::Input { x: 4, y: 31, .. }),
            "{error}"
        );
    }
}

#[test]
fn single_colour_rows_of_an_image_in_rows_are_errors() {
    let (w, h) = (11, 70);
    let flat = Upscaler::new(&single_colour_model(0.0)).expect("an upscaler");
    // A single colour except for one channel of one pixel in row 20, which is read before row 19 is
    // computed.
    let mut nearly_flat = vec![7_u8; w * h * 3];
    nearly_flat[(20 * w + 8) * 3 + 2] = 8;
    let mut rows = nearly_flat.chunks_exact(w * 3);
    let mut rows_written = 0;
    let error = flat.upscale_rows::<u8, UpscaleError>(
        (w, h),
        4,
        |low| {
            for row in low.chunks_exact_mut(w * 3) {
                row.copy_from_slice(rows.next().expect("a row"));
            }
            Ok(())
        },
        |large| {
            rows_written += large.len() / (w * 2 * 3);
            Ok(())
        },
        &|_, _| ControlFlow::Continue(()),
    );
    let Err(UpscaleError::Constant { rows }) = error else {
        panic!("{error:?}");
    };
    assert!(rows.contains(&20) && rows.len() <= 4, "{rows:?}");
    assert_eq!(rows_written, 2 * rows.start);
}

#[test]
fn rows_at_a_time_fit_the_given_memory() {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    threads.expect("threads").install(|| {
        let upscaler = Upscaler::new(&Model::builtin()).expect("an upscaler");
        let rows = |max_bytes| upscaler.rows_within(30_000, 1, max_bytes);
        let bytes = |rows| upscaler.memory_bytes(30_000, rows, 1);
        let most = rows(1 << 40).expect("enough");
        assert_eq!(most, 64, "8 waves for each of 2 threads");
        assert_eq!(rows(bytes(most)), Ok(most));
        assert_eq!(rows(bytes(most) - 1), Ok(most - 8));
        assert_eq!(rows(bytes(8) - 1), Ok(4), "a wave for one of them");
        let least = rows(1_000_000).expect_err("too little");
        assert_eq!((rows(least - 1), rows(least)), (Err(least), Ok(4)));
        // Mostly the rows above the next wave: docs/upscaling.md says 7 KB for each pixel of width.
        assert!((6_000..7_000).contains(&(least / 30_000)), "{least}");
    });
}

/// Independently of which thread finds one first.
#[test]
fn the_first_non_finite_sample_is_reported() {
    let model = Model::random(&NetworkConfig::wdsr_b(4, 1, 2), 1);
    let upscaler = Upscaler::new(&model).expect("an instruction set");
    let threads = rayon::ThreadPoolBuilder::new().num_threads(4).build();
    let mut pixels = vec![f32::NAN; 8 * 40 * 3];
    pixels[..5 * 3].fill(0.5);
    threads.expect("threads").install(|| {
        for _ in 0..300 {
            let error = upscaler.upscale(&pixels, 8, 40).expect_err("NaN");
            assert!(
                matches!(error, UpscaleError::Input { x: 5, y: 0, .. }),
                "{error}"
            );
        }
    });
}
