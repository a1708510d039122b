//! The strength of a model, given or read off the image.

use std::ops::ControlFlow;
use std::path::Path;

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use wdsr_image::imresize::imresize_u8;
use wdsr_image::{
    Colour, Format, Image, Limits, Reader, Samples, decode, decode_bytes, encode_bytes,
};
use wdsr_model::{Model, NetworkConfig, Upscaler, strength};
use wdsr_testing::paths::checkout;
use wdsr_testing::random::Random;
use wdsr_upscale::{Damage, Job, Settings, Strength};

fn model() -> Model {
    let config = NetworkConfig::wdsr_b(2, 1, 2);
    let strong = Model::random(&config, 2);
    Model::random(&config, 1).with_strong(strong.convs().to_vec())
}

/// The photograph at half its size, which has no marks of JPEG.
fn photograph() -> Image {
    let image = decode(&checkout("samples/chelsea.png"), &Limits::default()).expect("an image");
    let Samples::U8(pixels) = image.samples else {
        panic!("8 bits expected");
    };
    let half = imresize_u8(&pixels, image.width_px, image.height_px, 3, 0.5);
    Image::new(
        half.width_px,
        half.height_px,
        Colour::Rgb,
        Samples::U8(half.pixels),
    )
}

fn pixels(image: &Image) -> &[u8] {
    match &image.samples {
        Samples::U8(pixels) => pixels,
        other => panic!("8 bits expected, found {other:?}"),
    }
}

fn jpeg(image: &Image, quality: u8, sampling: SamplingFactor) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, quality);
    encoder.set_sampling_factor(sampling);
    let (width, height) = (image.width_px as u16, image.height_px as u16);
    let encoded = encoder.encode(pixels(image), width, height, ColorType::Rgb);
    encoded.expect("encoded");
    file
}

fn run(file: &[u8], format: Format, settings: Settings) -> (Image, Strength) {
    let upscaler = Upscaler::new(&model()).expect("an instruction set");
    let reader = Reader::from_bytes(file, Path::new("in"), &Limits::default()).expect("an image");
    let job = Job::new(reader, &[&upscaler], settings).expect("a job");
    let go_on = |_: usize, _: usize| ControlFlow::Continue(());
    let (bytes, summary) = job
        .into_bytes(Path::new("out"), format, &go_on)
        .expect("a result");
    let image = decode_bytes(&bytes, Path::new("out"), &Limits::default()).expect("an image");
    (image, summary.strength.expect("a strength"))
}

fn found(file: &[u8]) -> Strength {
    let (image, strength) = run(file, Format::Png, Settings::default());
    // The result is that of the strength.
    let settings = Settings {
        strength: Some(strength.value),
        ..Settings::default()
    };
    let (expected, given) = run(file, Format::Png, settings);
    assert_eq!(given.damage, Damage::Given);
    assert!(image == expected, "{strength}");
    strength
}

fn png(image: &Image) -> Vec<u8> {
    encode_bytes(image, Format::Png).expect("encoded")
}

#[test]
fn quality_is_read_off_the_tables_of_a_jpeg_file() {
    let image = photograph();
    for quality in [20, 50, 75, 90, 95] {
        for sampling in [SamplingFactor::F_1_1, SamplingFactor::F_2_2] {
            let strength = found(&jpeg(&image, quality, sampling));
            let Damage::JpegFile(read) = strength.damage else {
                panic!("quality {quality}: {strength}");
            };
            assert!(read.abs_diff(quality) <= 1, "{read} for {quality}");
            let expected = strength::of_jpeg_quality(quality) as f32;
            assert!((strength.value - expected).abs() < 0.02, "{strength}");
        }
    }
}

#[test]
fn quality_is_read_off_the_pixels_of_what_was_a_jpeg_file() {
    let image = photograph();
    for quality in [20, 50, 75, 85] {
        for sampling in [SamplingFactor::F_1_1, SamplingFactor::F_2_2] {
            let file = jpeg(&image, quality, sampling);
            let decoded = decode_bytes(&file, Path::new("in"), &Limits::default());
            let strength = found(&png(&decoded.expect("an image")));
            let Damage::JpegMarks(read) = strength.damage else {
                panic!("quality {quality}: {strength}");
            };
            assert!(read.abs_diff(quality) <= 2, "{read} for {quality}");
        }
    }
}

#[test]
fn noise_is_read_off_the_pixels_and_a_clean_photograph_has_none() {
    let image = photograph();
    assert_eq!(found(&png(&image)).damage, Damage::None);
    for sigma in [4.0, 8.0, 16.0_f32] {
        let mut random = Random::new(1);
        let mut noisy = || {
            // The sum of twelve uniform numbers has a variance of 1.
            let normal: f32 = (0..12).map(|_| random.unit()).sum::<f32>() - 6.0;
            sigma * normal
        };
        let samples = pixels(&image).iter();
        let samples = samples.map(|v| (f32::from(*v) + noisy()).round().clamp(0.0, 255.0) as u8);
        let samples = Samples::U8(samples.collect());
        let noisy = Image::new(image.width_px, image.height_px, Colour::Rgb, samples);
        let strength = found(&png(&noisy));
        let Damage::Noise(found) = strength.damage else {
            panic!("noise of {sigma}: {strength}");
        };
        assert!((found / sigma - 1.0).abs() < 0.3, "{found} for {sigma}");
    }
}

/// Fine texture everywhere is as rough as noise; it deviates from planes by more.
#[test]
fn fine_texture_is_not_noise() {
    let (width, height) = (160, 160);
    let samples = (0..width * height).flat_map(|i| {
        let (x, y) = ((i % width) as f32, (i / width) as f32);
        let wave = (0.9 * x + 0.3 * y).sin() + (0.4 * x - 0.8 * y).sin() + (0.2 * x).sin();
        [(128.0 + 16.0 * wave) as u8; 3]
    });
    let samples = Samples::U8(samples.collect());
    let image = Image::new(width, height, Colour::Rgb, samples);
    assert_eq!(found(&png(&image)).damage, Damage::None);
}

#[test]
fn a_damaged_image_is_upscaled_by_the_networks_for_it_streamed_or_whole() {
    let base = Upscaler::new(&Model::random(&NetworkConfig::wdsr_b(2, 1, 2), 3));
    let base = base.expect("an instruction set");
    let photo = Upscaler::new(&model()).expect("an instruction set");
    let image = photograph();
    let file = jpeg(&image, 60, SamplingFactor::F_2_2);
    let marked = decode_bytes(&file, Path::new("in"), &Limits::default()).expect("an image");
    let run = |image: &Image, streams: bool, networks: [Option<&Upscaler>; 2]| {
        let settings = Settings {
            streams,
            ..Settings::default()
        };
        let reader = Reader::from_bytes(png(image), Path::new("in"), &Limits::default());
        let [first, for_damaged] = networks;
        let first = first.expect("a network");
        let mut job = Job::new(reader.expect("an image"), &[first], settings).expect("a job");
        if let Some(for_damaged) = for_damaged {
            job = job.for_damaged(&[for_damaged]).expect("a job");
            assert!(job.plan_if_damaged().is_some());
        }
        let go_on = |_: usize, _: usize| ControlFlow::Continue(());
        let result = job.into_bytes(Path::new("out"), Format::Png, &go_on);
        let (bytes, summary) = result.expect("a result");
        assert_eq!(summary.streamed, streams);
        let image = decode_bytes(&bytes, Path::new("out"), &Limits::default());
        (image.expect("an image"), summary)
    };
    for (image, is_for_damaged) in [(&image, false), (&marked, true)] {
        let expected = if is_for_damaged { &photo } else { &base };
        let (expected, by_name) = run(image, true, [Some(expected), None]);
        assert_eq!(by_name.choice, None);
        for streams in [true, false] {
            let (result, summary) = run(image, streams, [Some(&base), Some(&photo)]);
            assert!(
                result == expected,
                "damaged {is_for_damaged}, streams {streams}"
            );
            let choice = summary.choice.expect("a choice");
            assert_eq!(choice.is_for_damaged, is_for_damaged);
            assert_eq!(summary.strength, by_name.strength);
        }
    }
}

#[test]
fn grey_one_colour_and_tiny_images_are_clean() {
    for (width, height, colour) in [
        (64, 64, Colour::Grey),
        (7, 3, Colour::Rgb),
        (1, 1, Colour::Rgb),
    ] {
        let count = width * height * colour.channels();
        // From dark to light, so that the result has more than one colour.
        let samples = (0..count).map(|i| 60 + (i * 100 / count) as u8).collect();
        let image = Image::new(width, height, colour, Samples::U8(samples));
        assert_eq!(found(&png(&image)).value, 0.0, "{width} x {height}");
    }
}
