//! Images that flow through the network, and what cannot be an image.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use wdsr_image::{Colour, Format, Image, Samples, encode};
use wdsr_model::{ConvWeights, Model, Network, NetworkConfig, Upscaler};
use wdsr_testing::random;

use super::upscale::{names, read};
use super::{program, wdsr, write};

/// An image with every value of a sample.
fn large_image(width_px: usize, height_px: usize, colour: Colour) -> Image {
    let count = width_px * height_px * colour.channels();
    let samples = random::bytes(count, 1);
    Image::new(width_px, height_px, colour, Samples::U8(samples))
}

/// A network of next to no work.
pub(super) fn small_network(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("small.safetensors");
    let model = Model::random(&NetworkConfig::wdsr_b(2, 1, 2), 1);
    model.save(&path).expect("a model");
    path
}

/// Runs the program and returns whether it succeeded and the most memory it had, as the kernel
/// counts it, without the pages of its own file, which is several times larger in tests.
fn peak_bytes(command: &mut Command) -> (bool, u64) {
    let mut child = command.stderr(Stdio::null()).spawn().expect("it starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let kilobytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        };
        if let (Some(all), Some(of_files)) = (kilobytes("VmHWM:"), kilobytes("RssFile:")) {
            peak = peak.max((all - of_files) * 1024);
        }
        if let Some(status) = child.try_wait().expect("its state") {
            return (status.success(), peak);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn streaming_stays_within_the_memory_limit_with_the_same_result() {
    const FREE: u64 = 64 << 20;
    // Of 32 MiB, beside the program's file.
    const BOUND: u64 = 20 << 20;
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let model = small_network(folder.path());
    // 36 MB, of which x2 makes 144.
    write(&at("in.png"), &large_image(6000, 2000, Colour::Rgb));
    let run = |output: &str, extra: &[&str]| {
        let mut command = Command::new(program::path());
        command
            .arg("upscale")
            .arg(at("in.png"))
            .arg("-o")
            .arg(at(output));
        command.arg("-m").arg(&model).args(extra);
        peak_bytes(&mut command)
    };
    // BMP is read and written as a whole.
    let (done, whole) = run("whole.bmp", &["-q"]);
    assert!(done && whole > 2 * FREE, "{whole} bytes for the whole");
    for (output, extra, bound) in [
        ("free.tif", &["-q"] as &[&str], FREE),
        ("bound.tif", &["-q", "--max-memory", "32M"], BOUND),
        ("bound.png", &["-q", "--max-memory", "32M"], BOUND),
    ] {
        let (done, peak) = run(output, extra);
        assert!(done, "{output}");
        assert!(peak < bound, "{output} took {peak} bytes");
        assert!(
            read(&at(output)).samples == read(&at("whole.bmp")).samples,
            "{output}"
        );
    }
}

#[test]
fn grey_and_16_bit_images_stream_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let model = small_network(folder.path());
    let sixteen = |image: Image| {
        let Samples::U8(samples) = &image.samples else {
            panic!("8 bit");
        };
        let samples = samples.iter().map(|&v| u16::from(v) * 250 + 3).collect();
        Image {
            samples: Samples::U16(samples),
            ..image
        }
    };
    for (name, image) in [
        ("grey", large_image(300, 400, Colour::Grey)),
        ("grey16", sixteen(large_image(300, 400, Colour::Grey))),
        ("rgb16", sixteen(large_image(300, 400, Colour::Rgb))),
    ] {
        let (input, output) = (at(&format!("{name}.tif")), at("out.tif"));
        encode(&image, &input, Format::Tiff).expect("a file");
        let mut command = wdsr();
        command.arg("upscale").arg(&input).arg("-o").arg(&output);
        command
            .arg("-m")
            .arg(&model)
            .args(["-q", "--max-memory", "40M"]);
        command.assert().success();

        let model = Model::load(&model).expect("a model");
        let upscaler = Upscaler::new(&model).expect("an upscaler");
        let (colour, rgb) = (image.colour, image.grey_to_rgb());
        let samples = match &rgb.samples {
            Samples::U8(v) => Samples::U8(upscaler.upscale(v, 300, 400).expect("an image")),
            Samples::U16(v) => Samples::U16(upscaler.upscale(v, 300, 400).expect("an image")),
            Samples::F32(_) => panic!("no floats here"),
        };
        let whole = Image::new(600, 800, Colour::Rgb, samples);
        let whole = if colour == Colour::Grey {
            whole.rgb_to_grey()
        } else {
            whole
        };
        assert!(read(&output).samples == whole.samples, "{name}");
    }
}

#[test]
fn too_little_memory_is_an_error_before_any_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    write(&at("in.png"), &large_image(4000, 30, Colour::Rgb));
    let mut command = wdsr();
    command
        .arg("upscale")
        .arg(at("in.png"))
        .arg("-o")
        .arg(at("out.png"));
    command.args(["--max-memory", "25M"]);
    let message = contains("upscaling 4000 x 30 pixels row by row needs about")
        .and(contains("memory, allowed are 25 MiB; raise --max-memory"));
    command.assert().code(4).stderr(message);
    assert_eq!(names(folder.path()), ["in.png"]);
}

#[test]
fn a_damaged_model_writes_no_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let config = NetworkConfig::wdsr_b(2, 1, 2);
    let convs = Network::new(&config).convs;
    let zeros = convs.iter().map(|conv| ConvWeights {
        weight: vec![0.0; conv.weights()],
        bias: vec![0.0; conv.out_channels],
        slopes: Vec::new(),
    });
    let model = Model::new(&config, zeros.collect(), BTreeMap::new());
    model.save(&at("zeros.safetensors")).expect("a model");
    for (name, colour) in [("flows.png", Colour::Rgb), ("whole.png", Colour::RgbAlpha)] {
        write(&at(name), &large_image(30, 20, colour));
        let mut command = wdsr();
        command
            .arg("upscale")
            .arg(at(name))
            .arg("-o")
            .arg(at("out.png"));
        command.arg("-m").arg(at("zeros.safetensors"));
        let message = contains(name).and(contains("a single colour for rows 0 to 20"));
        command.assert().code(1).stderr(message);
        assert!(!at("out.png").exists(), "{name}");
    }
}

#[test]
fn a_nan_sample_is_an_error_of_the_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let mut samples = vec![0.25_f32; 9 * 8 * 3];
    samples[(5 * 9 + 2) * 3] = f32::NAN;
    let image = Image::new(9, 8, Colour::Rgb, Samples::F32(samples));
    encode(&image, &at("in.tif"), Format::Tiff).expect("a file");
    let mut command = wdsr();
    command
        .arg("upscale")
        .arg(at("in.tif"))
        .arg("-o")
        .arg(at("out.tif"));
    let message = contains("in.tif: the image contains NaN at pixel (2, 5)");
    command.assert().code(3).stderr(message);
    assert_eq!(names(folder.path()), ["in.tif"]);
}
