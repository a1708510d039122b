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
