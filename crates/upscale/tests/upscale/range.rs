//! Images of any range of values come out as images of the usual range do, and pixels without data stay so.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::LazyLock;

use wdsr_image::imresize::{Kernel, imresize_to_f32};
use wdsr_image::{
    Colour, Depth, Format, Image, Limits, Reader, Samples, decode_bytes, encode_bytes,
};
use wdsr_model::{Model, Upscaler};
use wdsr_upscale::{ImageUpscaler, Job, Plan, Settings, Size, SizeRequest};

static NETWORK: LazyLock<Upscaler> =
    LazyLock::new(|| Upscaler::new(&Model::builtin()).expect("an instruction set"));

const SIDE_PX: usize = 48;

/// Discs and stripes of sharp edges, RGB, from 0 to 1.
fn scene(side_px: usize) -> Vec<f32> {
    let at = |i: usize| (i as f32 + 0.5) / side_px as f32;
    let mut samples = Vec::new();
    for y in 0..side_px {
        for x in 0..side_px {
            let (x, y) = (at(x), at(y));
            let disc = f32::from((x - 0.4).powi(2) + (y - 0.5).powi(2) < 0.06);
            let stripe = f32::from((x * 7.0 + y * 3.0).fract() < 0.5);
            samples.extend([disc, 0.2 + 0.6 * stripe, 0.5 * x + 0.5 * disc * y]);
        }
    }
    samples
}

/// Decibels between samples, relative to a range.
fn psnr_db(found: &[f32], expected: &[f32], range: f32) -> f32 {
    let squares = found.iter().zip(expected).map(|(a, b)| (a - b) * (a - b));
    let mean = squares.sum::<f32>() / expected.len() as f32;
    10.0 * (range * range / mean).log10()
}

/// The scene at half the size, and the scene.
fn low_and_high() -> (Vec<f32>, Vec<f32>) {
    let high = scene(2 * SIDE_PX);
    let side = SIDE_PX;
    let low = imresize_to_f32(&high, 2 * side, 2 * side, 3, side, side, Kernel::Cubic).pixels;
    (low, high)
}

fn upscaled(low: Samples, colour: Colour) -> Samples {
    let size = Size {
        width_px: SIDE_PX,
        height_px: SIDE_PX,
    };
    let plan = Plan::new(size, SizeRequest::OnePass, &[2]).expect("a plan");
    let image = Image::new(SIDE_PX, SIDE_PX, colour, low);
    let large = ImageUpscaler::new(plan, &[&NETWORK]).upscale(image);
    large.expect("an image").samples
}

fn floats(samples: Samples) -> Vec<f32> {
    match samples {
        Samples::F32(samples) => samples,
        Samples::U16(samples) => samples
            .into_iter()
            .map(|v| f32::from(v) / 65535.0)
            .collect(),
        Samples::U8(samples) => samples.into_iter().map(|v| f32::from(v) / 255.0).collect(),
    }
}

#[test]
fn floats_of_any_range_come_out_as_well_as_those_from_0_to_1() {
    let (low, high) = low_and_high();
    let usual_db = psnr_db(
        &floats(upscaled(Samples::F32(low.clone()), Colour::Rgb)),
        &high,
        1.0,
    );
    for (factor, offset) in [
        (1.0 / 256.0, 0.0),
        (1.0 / 16.0, 0.5),
        (0.25, 0.0),
        (4.0, 0.0),
        (64.0, 0.0),
        (255.0, 0.0),
        (900.0, 3000.0),
        (1.0, -0.5),
    ] {
        let scaled = |samples: &[f32]| {
            samples
                .iter()
                .map(|v| v * factor + offset)
                .collect::<Vec<_>>()
        };
        let found = floats(upscaled(Samples::F32(scaled(&low)), Colour::Rgb));
        let found_db = psnr_db(&found, &scaled(&high), factor);
        assert!(
            found_db > usual_db - 0.3,
            "{factor}, {offset}: {found_db} dB, usual {usual_db} dB"
        );
    }
}

#[test]
fn ten_bits_in_16_come_out_as_well_as_16_bits() {
    let (low, high) = low_and_high();
    let of_bits = |most: f32| {
        let low = low
            .iter()
            .map(|v| (v.clamp(0.0, 1.0) * most).round() as u16);
        let large = upscaled(Samples::U16(low.collect()), Colour::Rgb);
        let Samples::U16(samples) = &large else {
            panic!("depth {:?}", large.depth());
        };
        assert!(
            samples.iter().all(|&v| f32::from(v) <= most),
            "above {most}"
        );
        let found: Vec<f32> = floats(large).iter().map(|v| v * 65535.0 / most).collect();
        psnr_db(&found, &high, 1.0)
    };
    let (usual_db, found_db) = (of_bits(65535.0), of_bits(1023.0));
    assert!(
        found_db > usual_db - 0.3,
        "{found_db} dB, usual {usual_db} dB"
    );
}

#[test]
fn images_of_one_value_stay_so() {
    let count = SIDE_PX * SIDE_PX;
    for value in [0, 1, 1234, 40_000, 65_535] {
        let Samples::U16(found) = upscaled(Samples::U16(vec![value; count]), Colour::Grey) else {
            panic!("16 bits");
        };
        assert!(found.iter().all(|v| *v == value), "{value}: {found:?}");
    }
    for value in [0.0, -0.5, 1e-6, 0.3, 1.0, 5000.0, 1e30] {
        let found = floats(upscaled(Samples::F32(vec![value; count]), Colour::Grey));
        assert!(
            found.iter().all(|v| (v - value).abs() < 1e-30),
            "{value}: {found:?}"
        );
    }
}

#[test]
fn few_highlights_leave_the_rest_as_it_is() {
    let (mut low, _) = low_and_high();
    let plain = floats(upscaled(Samples::F32(low.clone()), Colour::Rgb));
    low[0] = 800.0;
    let found = floats(upscaled(Samples::F32(low), Colour::Rgb));
    assert!(found[0] > 300.0, "the highlight is {}", found[0]);
    // Beyond the reach of network and interpolation.
    let from = found.len() / 2;
    for (found, plain) in found[from..].iter().zip(&plain[from..]) {
        assert!((found - plain).abs() < 1e-3, "{found}, expected {plain}");
    }
}

#[test]
fn streamed_images_are_stretched_as_whole_ones_are() {
    let (low, _) = low_and_high();
    let heights = low.iter().map(|v| 4000.0 + 20.0 * v).collect();
    let ten_bits = low
        .iter()
        .map(|v| (v.clamp(0.0, 1.0) * 1023.0) as u16)
        .collect();
    for samples in [Samples::F32(heights), Samples::U16(ten_bits)] {
        let image = Image::new(SIDE_PX, SIDE_PX, Colour::Rgb, samples.clone());
        let file = encode_bytes(&image, Format::Tiff).expect("a file");
        let reader = Reader::from_bytes(file, Path::new("x"), &Limits::default()).expect("a file");
        let job = Job::new(reader, &[&*NETWORK], Settings::default()).expect("a job");
        let go_on = |_: usize, _: usize| ControlFlow::Continue(());
        let (file, summary) = job
            .into_bytes(Path::new("y"), Format::Tiff, &go_on)
            .expect("a result");
        assert!(summary.streamed);
        let found = decode_bytes(&file, Path::new("y"), &Limits::default()).expect("a file");
        assert!(found.samples == upscaled(samples, Colour::Rgb));
    }
}

/// A TIFF of grey floats that declares a value of no data.
fn tiff_with_no_data(samples: &[f32], no_data: &str) -> Vec<u8> {
    let image = Image::new(
        SIDE_PX,
        SIDE_PX,
        Colour::Grey,
        Samples::F32(samples.to_vec()),
    );
    let mut file = encode_bytes(&image, Format::Tiff).expect("a file");
    // Longer than an entry holds.
    assert!(no_data.len() > 3, "{no_data:?}");
    // GDAL's tag comes after all others, so its entry is appended to a copy of the directory.
    let number =
        |at: usize| u32::from_le_bytes(*file[at..].first_chunk().expect("a number")) as usize;
    let directory = number(4);
    let count = usize::from(u16::from_le_bytes([file[directory], file[directory + 1]]));
    let entries = file[directory + 2..][..12 * count].to_vec();
    let text_at = file.len() as u32;
    file.extend(no_data.bytes().chain([0]));
    file.resize(file.len().next_multiple_of(2), 0);
    let copy = file.len() as u32;
    file.extend((count as u16 + 1).to_le_bytes());
    file.extend(entries);
    file.extend(42_113_u16.to_le_bytes());
    file.extend(2_u16.to_le_bytes());
    file.extend((no_data.len() as u32 + 1).to_le_bytes());
    file.extend(text_at.to_le_bytes());
    file.extend([0; 4]);
    file[4..8].copy_from_slice(&copy.to_le_bytes());
    file
}

#[test]
fn pixels_without_data_stay_so_and_the_others_do_not_notice() {
    let heights: Vec<f32> = low_and_high()
        .0
        .chunks_exact(3)
        .map(|p| 300.0 + 40.0 * p[2])
        .collect();
    // The right half of the lower part.
    let hole = |i: usize| i / SIDE_PX > 30 && i % SIDE_PX >= SIDE_PX / 2;
    let go_on = |_: usize, _: usize| ControlFlow::Continue(());
    for (declared, value) in [
        ("-99999", -99999.0),
        ("nan ", f32::NAN),
        ("-3.40282346638529e+38", f32::MIN),
        // Not declared.
        ("-9999", f32::MIN),
    ] {
        let samples: Vec<f32> = (0..heights.len())
            .map(|i| if hole(i) { value } else { heights[i] })
            .collect();
        let file = tiff_with_no_data(&samples, declared);
        let reader = Reader::from_bytes(file, Path::new("x"), &Limits::default()).expect("a file");
        let job = Job::new(reader, &[&*NETWORK], Settings::default()).expect("a job");
        let (file, _) = job
            .into_bytes(Path::new("y"), Format::Tiff, &go_on)
            .unwrap_or_else(|error| panic!("{declared}: {error}"));
        let large = decode_bytes(&file, Path::new("y"), &Limits::default()).expect("a file");
        let no_data = large.metadata.geo.no_data().expect("still declared");
        assert_eq!(
            no_data.to_bits(),
            declared.trim().parse::<f64>().expect("a number").to_bits()
        );
        assert_eq!(large.depth(), Depth::F32);
        let width = 2 * SIDE_PX;
        for (i, &found) in floats(large.samples).iter().enumerate() {
            let low_i = i / width / 2 * SIDE_PX + i % width / 2;
            if hole(low_i) {
                assert!(
                    found == value || found.is_nan() && value.is_nan(),
                    "{declared}: {found}"
                );
            } else {
                assert!(
                    (290.0..350.0).contains(&found),
                    "{declared}: {found} at {i}"
                );
            }
        }
    }
}

#[test]
fn not_a_number_is_refused_unless_it_is_declared() {
    let mut samples = vec![0.5; SIDE_PX * SIDE_PX];
    samples[7] = f32::NAN;
    let image = Image::new(SIDE_PX, SIDE_PX, Colour::Grey, Samples::F32(samples));
    let file = encode_bytes(&image, Format::Tiff).expect("a file");
    let reader = Reader::from_bytes(file, Path::new("x"), &Limits::default()).expect("a file");
    let job = Job::new(reader, &[&*NETWORK], Settings::default()).expect("a job");
    let go_on = |_: usize, _: usize| ControlFlow::Continue(());
    let result = job.into_bytes(Path::new("y"), Format::Tiff, &go_on);
    let error = result.map(drop).expect_err("not a number");
    assert!(error.to_string().contains("NaN"), "{error}");
}
