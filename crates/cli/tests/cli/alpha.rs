//! `wdsr upscale` of images with transparency.

use wdsr_image::{Colour, Image, Samples};

use super::sizes::result;
use super::write;

const WIDTH: usize = 48;
const HEIGHT: usize = 40;

/// A bright, softly changing surface: what the object is made of, all over the image.
fn surface(channels: usize) -> Vec<u16> {
    let sample = |i: usize| {
        let (pixel, channel) = (i / channels, i % channels);
        let (x, y) = (pixel % WIDTH, pixel / WIDTH);
        let wave = ((x as f64 / 3.0).sin() + (y as f64 / 4.0).cos()) * 4000.0;
        (50_000.0 + channel as f64 * 3000.0 + wave) as u16
    };
    (0..WIDTH * HEIGHT * channels).map(sample).collect()
}

/// Alpha of a disc with a hard edge.
fn disc() -> Vec<u16> {
    let inside = |i: usize| {
        let (x, y) = ((i % WIDTH) as f64 - 23.3, (i / WIDTH) as f64 - 19.1);
        x.hypot(y) < 14.0
    };
    (0..WIDTH * HEIGHT)
        .map(|i| if inside(i) { 65_535 } else { 0 })
        .collect()
}

/// What lies under a transparent pixel.
type Garbage = fn(usize) -> u16;

/// The surface where alpha is not 0, `garbage` elsewhere, with alpha.
fn cut_out(channels: usize, alpha: &[u16], garbage: impl Fn(usize) -> u16) -> Vec<u16> {
    let surface = surface(channels);
    let pixels = surface.chunks_exact(channels).zip(alpha).enumerate();
    pixels
        .flat_map(|(i, (pixel, &alpha))| {
            let mut pixel = pixel.to_vec();
            if alpha == 0 {
                pixel.fill(garbage(i));
            }
            pixel.push(alpha);
            pixel
        })
        .collect()
}

/// An image of these samples in 16 or in 8 bits.
fn image(colour: Colour, samples: Vec<u16>, deep: bool) -> Image {
    let samples = if deep {
        Samples::U16(samples)
    } else {
        Samples::U8(
            samples
                .into_iter()
                .map(|sample| (sample / 257) as u8)
                .collect(),
        )
    };
    Image::new(WIDTH, HEIGHT, colour, samples)
}

/// Samples in 0..1.
fn unit(image: &Image) -> Vec<f64> {
    match &image.samples {
        Samples::U8(samples) => samples.iter().map(|v| f64::from(*v) / 255.0).collect(),
        Samples::U16(samples) => samples.iter().map(|v| f64::from(*v) / 65_535.0).collect(),
        Samples::F32(samples) => samples.iter().map(|v| f64::from(*v)).collect(),
    }
}

/// A bright disc, cut out with black, white or noise under the transparent pixels, looks over any
/// background as the upscaled surface cut out by the upscaled alpha: nothing of what lay under it
/// shows in its edge.
#[test]
fn colour_under_transparent_pixels_does_not_show() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for (colour, deep, request) in [
        (Colour::RgbAlpha, false, &["-s", "2"]),
        (Colour::RgbAlpha, true, &["-s", "2"]),
        (Colour::GreyAlpha, false, &["-s", "2"]),
        (Colour::RgbAlpha, false, &["--factor", "2.7"]),
        (Colour::GreyAlpha, true, &["--factor", "1.5"]),
    ] {
        let opaque = colour.without_alpha();
        let channels = opaque.channels();
        write(&path("whole.png"), &image(opaque, surface(channels), deep));
        let whole = unit(&result(&path("whole.png"), &path("out.png"), request));
        let garbages: [(&str, Garbage); 3] = [
            ("black", |_| 0),
            ("white", |_| 65_535),
            ("noise", |i| (i * 7919 % 65_521) as u16),
        ];
        for (name, garbage) in garbages {
            for method in ["network", "lanczos"] {
                let samples = cut_out(channels, &disc(), garbage);
                write(&path("in.png"), &image(colour, samples, deep));
                let extra = [&request[..], &["--alpha", method]].concat();
                let large = result(&path("in.png"), &path("out.png"), &extra);
                assert_eq!(large.colour, colour);
                assert_eq!(large.depth() == wdsr_image::Depth::U16, deep);
                let large = unit(&large);
                let pixels = large
                    .chunks_exact(channels + 1)
                    .zip(whole.chunks_exact(channels));
                // The background falls out of the difference of both over it.
                let differences = pixels.flat_map(|(pixel, whole)| {
                    let alpha = pixel[channels];
                    pixel
                        .iter()
                        .zip(whole)
                        .map(move |(c, w)| (c - w).abs() * alpha)
                });
                let largest = differences.fold(0.0, f64::max);
                let place = format!("{colour:?}, {deep}, {request:?}, {name}, {method}");
                assert!(
                    largest < 0.03,
                    "{place}: off by {:.1} of 255 levels",
                    largest * 255.0
                );
            }
        }
    }
}

/// Opaque and transparent parts stay so, up to a pixel from the edge, and soft alpha stays soft.
#[test]
fn alpha_has_no_rings() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let ramp: Vec<u16> = (0..WIDTH * HEIGHT)
        .map(|i| (i % WIDTH * 65_535 / (WIDTH - 1)) as u16)
        .collect();
    for method in ["network", "lanczos"] {
        let extra = ["--alpha", method];
        let alpha_of = |alpha: &[u16]| -> Vec<f64> {
            write(
                &path("in.png"),
                &image(Colour::GreyAlpha, cut_out(1, alpha, |_| 0), false),
            );
            let large = unit(&result(&path("in.png"), &path("out.png"), &extra));
            large.chunks_exact(2).map(|pixel| pixel[1]).collect()
        };
        let disc = disc();
        let large = alpha_of(&disc);
        for (i, found) in large.iter().enumerate() {
            let (x, y) = (i % (WIDTH * 2) / 2, i / (WIDTH * 2) / 2);
            let columns = x.saturating_sub(1)..(x + 2).min(WIDTH);
            let mut around = (y.saturating_sub(1)..(y + 2).min(HEIGHT))
                .flat_map(|y| disc[y * WIDTH..][columns.clone()].iter());
            let first = around.clone().next().expect("a pixel");
            if around.all(|alpha| alpha == first) {
                assert_eq!(*found, f64::from(*first) / 65_535.0, "{method}: {x}, {y}");
            }
        }
        let large = alpha_of(&ramp);
        for (i, found) in large.iter().enumerate() {
            let x = (i % (WIDTH * 2)) as f64;
            let expected = ((x - 0.5) / 2.0 / (WIDTH - 1) as f64).clamp(0.0, 1.0);
            assert!(
                (found - expected).abs() < 0.02,
                "{method}: {found} for {expected}"
            );
        }
    }
}

/// The same alpha everywhere is no reason to change a colour, nor that alpha.
#[test]
fn constant_alpha_is_exact() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for request in [["-s", "2"], ["--factor", "2.7"], ["--width", "20"]] {
        write(&path("whole.png"), &image(Colour::Rgb, surface(3), true));
        let whole = result(&path("whole.png"), &path("out.png"), &request);
        for alpha in [65_535, 1, 0] {
            let samples = surface(3);
            let samples = samples
                .chunks_exact(3)
                .flat_map(|p| [p[0], p[1], p[2], alpha]);
            write(
                &path("in.png"),
                &image(Colour::RgbAlpha, samples.collect(), true),
            );
            let (colour, found) = result(&path("in.png"), &path("out.png"), &request).split_alpha();
            assert!(
                colour.samples == whole.samples,
                "{request:?}: other colours"
            );
            let found = found.expect("alpha").samples;
            let Samples::U16(found) = found else {
                panic!("another depth: {:?}", found.depth());
            };
            assert!(
                found.iter().all(|found| *found == alpha),
                "{request:?}: alpha {alpha}"
            );
        }
    }
}
