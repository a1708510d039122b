//! The tiled picture equals the untiled one, whatever the tile, the threads and the symmetry.

use proptest::prelude::*;
use wdsr_model::{Isa, Model, NetworkConfig, Precision, Upscaler};

/// A network with weights that let every pixel within the receptive radius count.
fn model(config: &NetworkConfig) -> Model {
    Model::random(config, 1)
}

fn picture(width: usize, height: usize, seed: u32) -> Vec<f32> {
    let mut state = seed | 1;
    (0..width * height * 3)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32
        })
        .collect()
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
    ]
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn tiled_equals_untiled(
        which in 0_usize..7,
        width in 1_usize..40,
        height in 1_usize..40,
        tile in 1_usize..45,
        threads in 1_usize..4,
        self_ensemble: bool,
        bf16: bool,
        seed: u32,
    ) {
        let model = model(&configs()[which]);
        let pixels = picture(width, height, seed);
        let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
        for isa in Isa::available() {
            let run = |tile: Option<usize>, threads: usize| {
                let upscaler = Upscaler::with_isa(&model, isa)
                    .tile_px(tile)
                    .self_ensemble(self_ensemble)
                    .precision(precision);
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.expect("threads").install(|| upscaler.upscale(&pixels, width, height))
            };
            let whole = run(None, 1);
            prop_assert_eq!(bits(&run(Some(tile), threads)), bits(&whole), "{} on {}", which, isa);
        }
    }
}

/// With a halo one pixel short the tiles would show: the radius is not larger than it must be.
#[test]
fn the_receptive_radius_is_reached() {
    for config in configs() {
        let model = model(&config);
        let radius = model.network().receptive_radius_px();
        let side = 2 * radius + 3;
        let mut pixels = vec![0.5; side * side * 3];
        let upscaler = Upscaler::with_isa(&model, Isa::REFERENCE);
        let before: Vec<f32> = upscaler.upscale(&pixels, side, side);
        pixels[0] = 1.0;
        let after: Vec<f32> = upscaler.upscale(&pixels, side, side);
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

/// Largest difference of two pictures.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    let pairs = a.iter().zip(b);
    pairs.fold(0.0, |max, (a, b)| max.max((a - b).abs()))
}

#[test]
fn every_instruction_set_computes_the_same_picture() {
    for config in configs() {
        let model = model(&config);
        let pixels = picture(37, 22, 5);
        let expected: Vec<f32> =
            Upscaler::with_isa(&model, Isa::REFERENCE).upscale(&pixels, 37, 22);
        for isa in Isa::available() {
            // bf16 rounds to 8 bits, which random weights do not make better.
            for (precision, allowed) in [(Precision::F32, 1e-5), (Precision::Bf16, 2e-2)] {
                let upscaler = Upscaler::with_isa(&model, isa).precision(precision);
                let difference = difference(&upscaler.upscale(&pixels, 37, 22), &expected);
                assert!(
                    difference < allowed,
                    "{} on {isa} in {precision:?}: {difference}",
                    config.label()
                );
            }
        }
    }
}

/// Turned kernels on the picture are the kernels on the turned picture.
#[test]
fn the_self_ensemble_is_the_mean_over_turned_pictures() {
    let (w, h) = (14, 9);
    // Where each symmetry takes the pixel (x, y) of a picture of `w` x `h`.
    let place = |symmetry: usize, x: usize, y: usize, w: usize, h: usize| {
        let x = if symmetry & 1 == 0 { x } else { w - 1 - x };
        let y = if symmetry & 2 == 0 { y } else { h - 1 - y };
        if symmetry & 4 == 0 { (x, y) } else { (y, x) }
    };
    for config in configs() {
        let model = model(&config);
        let pixels = picture(w, h, 6);
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
            let large = upscaler.upscale(&turned, turned_w, w * h / turned_w);
            for (at, sum) in mean.iter_mut().enumerate() {
                let (x, y) = (at / 3 % large_w, at / 3 / large_w);
                let (x, y) = place(symmetry, x, y, large_w, large_h);
                *sum += large[(y * turned_w * config.scale + x) * 3 + at % 3] / 8.0;
            }
        }
        let found = upscaler.self_ensemble(true).upscale(&pixels, w, h);
        let difference = difference(&found, &mean);
        assert!(difference < 1e-5, "{}: {difference}", config.label());
    }
}

#[test]
fn integers_are_the_rounded_floats() {
    let model = model(&NetworkConfig::wdsr_b(8, 2, 2));
    let upscaler = Upscaler::with_isa(&model, Isa::REFERENCE);
    let bytes: Vec<u8> = picture(9, 7, 3).iter().map(|v| (v * 255.0) as u8).collect();
    let floats: Vec<f32> = bytes.iter().map(|v| f32::from(*v) / 255.0).collect();
    let large: Vec<f32> = upscaler.upscale(&floats, 9, 7);
    let expected: Vec<u8> = large
        .iter()
        .map(|v| (v * 255.0).clamp(0.0, 255.0).round() as u8)
        .collect();
    assert_eq!(upscaler.upscale(&bytes, 9, 7), expected);
}
