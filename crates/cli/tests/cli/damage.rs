//! The model that `wdsr upscale` chooses by the damage of an image.

use std::fs;
use std::path::Path;

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use wdsr_image::imresize::imresize_u8;
use wdsr_image::{Colour, Format, Image, Samples, decode_bytes, encode_bytes};
use wdsr_testing::paths::checkout;

use super::sizes::{result, run};
use super::upscale::read;
use super::{wdsr, write};

/// The photograph at half its size, which has no marks of JPEG.
fn photograph() -> Image {
    let image = read(&checkout("samples/chelsea.png"));
    let half = imresize_u8(&image.to_rgb8(), image.width_px, image.height_px, 3, 0.5);
    let samples = Samples::U8(half.pixels);
    Image::new(half.width_px, half.height_px, Colour::Rgb, samples)
}

fn jpeg(quality: u8) -> Vec<u8> {
    let image = photograph();
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    let (width, height) = (image.width_px as u16, image.height_px as u16);
    let encoded = encoder.encode(&image.to_rgb8(), width, height, ColorType::Rgb);
    encoded.expect("encoded");
    file
}

/// What a JPEG file of a quality shows.
fn of_jpeg(quality: u8) -> Image {
    decode_bytes(&jpeg(quality), Path::new("in"), &Default::default()).expect("an image")
}

fn with_samples(colour: Colour, samples: Samples) -> Image {
    let Image {
        width_px,
        height_px,
        ..
    } = photograph();
    Image::new(width_px, height_px, colour, samples)
}

/// The lines of a report.
fn report(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).expect("a report");
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("JSON")
}

#[test]
fn a_batch_takes_photo_for_images_with_marks_of_jpeg_and_base_for_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("in")).expect("created");
    for quality in [60, 98, 99] {
        fs::write(path(&format!("in/q{quality}.jpg")), jpeg(quality)).expect("written");
    }
    let marked = of_jpeg(60);
    let rgb = marked.to_rgb8();
    write(&path("in/marks.png"), &marked);
    write(&path("in/clean.png"), &photograph());
    let grey = with_samples(
        Colour::Grey,
        Samples::U8(rgb.iter().step_by(3).copied().collect()),
    );
    let grey_file = jpeg_of_grey(&grey);
    let grey = decode_bytes(&grey_file, Path::new("in"), &Default::default());
    write(&path("in/grey.png"), &grey.expect("an image"));
    let deep = rgb.iter().map(|v| u16::from(*v) * 257).collect();
    let deep = with_samples(Colour::Rgb, Samples::U16(deep));
    write(&path("in/deep.png"), &deep);
    // Noise that nobody sees.
    let hidden = |i: usize| i < 20 * marked.width_px;
    let pixels = rgb.chunks_exact(3).enumerate();
    let pixels = pixels.flat_map(|(i, p)| match hidden(i) {
        true => [(i * 7919 % 251) as u8, (i * 104_729 % 241) as u8, 9, 0],
        false => [p[0], p[1], p[2], 255],
    });
    let cut_out = with_samples(Colour::RgbAlpha, Samples::U8(pixels.collect()));
    write(&path("in/alpha.png"), &cut_out);

    let output = wdsr()
        .arg("upscale")
        .args([path("in"), "-o".into(), path("out")])
        .args(["-f", "png", "--report"])
        .arg(path("report"))
        .output()
        .expect("it runs");
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("; photo at strength 0.56 (JPEG of quality 60); "),
        "{text}"
    );
    assert!(text.contains("; base (clean); "), "{text}");
    let lines = report(&path("report"));
    for (name, model, damage) in [
        ("alpha.png", "photo", "was a JPEG of quality 60"),
        ("clean.png", "base", "clean"),
        ("deep.png", "photo", "was a JPEG of quality 60"),
        ("grey.png", "photo", "was a JPEG of quality 60"),
        ("marks.png", "photo", "was a JPEG of quality 60"),
        ("q60.jpg", "photo", "JPEG of quality 60"),
        ("q98.jpg", "photo", "JPEG of quality 98"),
        ("q99.jpg", "base", "JPEG of quality 99"),
    ] {
        let is_of = |line: &&serde_json::Value| {
            line["input"]
                .as_str()
                .is_some_and(|input| input.ends_with(name))
        };
        let line = lines.iter().find(is_of).expect("a line");
        assert_eq!(
            (&line["model"], &line["damage"]),
            (&model.into(), &damage.into()),
            "{line}"
        );
        assert_eq!(line["strength"].is_number(), model == "photo", "{line}");
    }
    // The results are those of the models by name.
    for (input, model) in [("in/marks.png", "photo"), ("in/clean.png", "base")] {
        let named = result(&path(input), &path("named.png"), &["-m", model]);
        let name = Path::new(input).file_name().expect("a name");
        assert!(read(&path("out").join(name)) == named, "{input}");
    }
    // They are current in the next run.
    let (_, text) = run(&path("in"), &path("out"), &["-f", "png"]);
    assert!(text.contains("8 up to date"), "{text}");
}

fn jpeg_of_grey(image: &Image) -> Vec<u8> {
    let mut file = Vec::new();
    let Samples::U8(samples) = &image.samples else {
        panic!("8 bits expected");
    };
    let (width, height) = (image.width_px as u16, image.height_px as u16);
    let encoded = Encoder::new(&mut file, 60).encode(samples, width, height, ColorType::Luma);
    encoded.expect("encoded");
    file
}

#[test]
fn a_pipe_chooses_as_a_file_that_streams() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, image, model) in [
        ("marks", of_jpeg(60), "photo"),
        ("clean", photograph(), "base"),
    ] {
        let input = folder.path().join(format!("{name}.png"));
        write(&input, &image);
        let streamed = result(&input, &folder.path().join("out.png"), &[]);
        let report_path = folder.path().join("report");
        let output = wdsr()
            .args(["upscale", "-", "-o", "-", "-f", "png", "--report"])
            .arg(&report_path)
            .write_stdin(encode_bytes(&image, Format::Png).expect("encoded"))
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{output:?}");
        let piped = decode_bytes(&output.stdout, Path::new("out"), &Default::default());
        assert!(piped.expect("an image") == streamed, "{name}");
        assert_eq!(report(&report_path)[0]["model"], model);
    }
}

#[test]
fn sizes_strengths_and_names_decide_before_the_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in.jpg"), folder.path().join("out.png"));
    fs::write(&input, jpeg(60)).expect("written");
    for (arguments, words) in [
        // No photo of x3 is built in.
        (
            &["-s", "3"][..],
            "x4, resized from 904 x 600; photo at strength 0.56 (JPEG",
        ),
        (&["--factor", "8"], "x2, x4; photo at strength 0.56 (JPEG"),
        (
            &["--width", "500"],
            "x4, resized from 904 x 600; photo at strength 0.56 (JPEG",
        ),
        // Nothing is enlarged.
        (&["-s", "1"], "226 x 150: already that size; "),
        (&["--width", "100"], "resized from 226 x 150; "),
        (&["--strength", "0.3"], "x2; strength 0.30; "),
        (&["-m", "base"], "x2; "),
        (&["-m", "photo"], "x2; strength 0.56 (JPEG of quality 60); "),
    ] {
        let (code, text) = run(&input, &output, arguments);
        assert_eq!(code, 0, "{arguments:?}: {text}");
        let rest = text.split_once(words).map(|(_, rest)| rest);
        // The time follows where nothing else is expected.
        let ends =
            |rest: &str| !words.ends_with("; ") || rest.starts_with(|c: char| c.is_ascii_digit());
        assert!(rest.is_some_and(ends), "{arguments:?}: {text}");
    }
    let (code, text) = run(&input, &output, &["-m", "base", "--strength", "0.3"]);
    assert_eq!(code, 2, "{text}");
}
