//! Bands of results: the rows of the whole result, bit for bit, and joined the same file.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use wdsr_image::{
    Colour, Depth, Format, Image, JoinError, Limits, Reader, Resolution, Samples, decode,
    encode_bytes, join_bands,
};
use wdsr_model::{Model, NetworkConfig, Upscaler};
use wdsr_upscale::{BandError, BandRequest, Error, Job, Settings, SizeRequest, Wrap};

const ORIGIN: &str = "test, x2";

fn go_on(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn upscaler(config: &NetworkConfig) -> Upscaler {
    let model = Model::random(config, 1);
    Upscaler::new(&model).expect("an instruction set")
}

fn image(width_px: usize, height_px: usize, colour: Colour, depth: Depth) -> Image {
    let count = width_px * height_px * colour.channels();
    let noise = (0..count).map(|i| (i as u32).wrapping_mul(2_654_435_761) >> 8);
    let samples = match depth {
        Depth::U8 => Samples::U8(noise.map(|v| v as u8).collect()),
        // Values that are stretched.
        Depth::U16 => Samples::U16(noise.map(|v| v as u16 / 64).collect()),
        Depth::F32 => Samples::F32(noise.map(|v| v as f32 / (1 << 24) as f32).collect()),
    };
    let mut image = Image::new(width_px, height_px, colour, samples);
    image.metadata.resolution = Some(Resolution::PerInch { x: 300.0, y: 300.0 });
    image
}

fn job<'a>(file: &[u8], network: &'a Upscaler, settings: Settings) -> Job<'a> {
    let reader = Reader::from_bytes(file, Path::new("in"), &Limits::default()).expect("an image");
    Job::new(reader, &[network], settings).expect("a plan")
}

/// Writes the result, or a band of it, as TIFF.
fn write(
    path: &Path,
    file: &[u8],
    network: &Upscaler,
    settings: Settings,
    band: Option<BandRequest>,
) -> Result<(), Error> {
    let mut job = job(file, network, settings);
    if let Some(band) = band {
        job = job.band(band, ORIGIN)?;
    }
    let (file, summary) = job.into_file(path, Format::Tiff, &go_on)?;
    assert_eq!(summary.band.is_some(), band.is_some());
    file.publish().expect("published");
    Ok(())
}

fn join(bands: &[PathBuf], output: &Path) -> Result<(), JoinError> {
    let (file, _) = join_bands(bands, output, &Limits::default(), &go_on)?;
    file.publish().expect("published");
    Ok(())
}

#[test]
fn joined_bands_are_the_file_of_the_whole_result() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let networks = [
        upscaler(&NetworkConfig::wdsr_b(6, 2, 2)),
        upscaler(&NetworkConfig::wdsr_a(6, 2, 3)),
        upscaler(&NetworkConfig::edsr(6, 2, 4)),
        upscaler(&NetworkConfig::wdsr_b(6, 2, 2)).self_ensemble(true),
    ];
    for (number, network) in networks.iter().enumerate() {
        for (format, colour, depth) in [
            (Format::Tiff, Colour::Rgb, Depth::U8),
            (Format::Png, Colour::Grey, Depth::U16),
            (Format::Tiff, Colour::Rgb, Depth::F32),
        ] {
            for wrap in [Wrap::None, Wrap::X, Wrap::Xy] {
                let file = encode_bytes(&image(23, 131, colour, depth), format).expect("a file");
                let settings = Settings {
                    wrap,
                    ..Settings::default()
                };
                let (whole, joined) = (path("whole.tif"), path("joined.tif"));
                write(&whole, &file, network, settings, None).expect("a result");
                let height_px = 131 * network.scale();
                // Bands of any height that begin anywhere in a group of rows, in any order.
                let ends = [0, 1, 9, 50, 51, 103, height_px - 1, height_px];
                let mut bands: Vec<PathBuf> = (1..ends.len())
                    .map(|i| {
                        let band = path(&format!("band-{i}.tif"));
                        let end = (i + 1 < ends.len()).then_some(ends[i]);
                        let rows = BandRequest::Rows {
                            start: ends[i - 1],
                            end,
                        };
                        write(&band, &file, network, settings, Some(rows)).expect("a band");
                        band
                    })
                    .collect();
                bands.reverse();
                join(&bands, &joined).expect("an image");
                assert!(
                    fs::read(&joined).expect("read") == fs::read(&whole).expect("read"),
                    "network {number}, {format} {colour} {depth} {wrap:?}"
                );
            }
        }
    }
}

#[test]
fn parts_are_bands_too() {
    let network = upscaler(&NetworkConfig::wdsr_b(4, 1, 2));
    let folder = tempfile::tempdir().expect("a folder");
    let file = encode_bytes(&image(9, 40, Colour::Rgb, Depth::U8), Format::Png).expect("a file");
    let settings = Settings::default();
    let bands: Vec<PathBuf> = (1..=3)
        .map(|index| {
            let path = folder.path().join(format!("{index}.tif"));
            let part = BandRequest::Part { index, count: 3 };
            write(&path, &file, &network, settings, Some(part)).expect("a band");
            path
        })
        .collect();
    let (whole, joined) = (
        folder.path().join("whole.tif"),
        folder.path().join("all.tif"),
    );
    write(&whole, &file, &network, settings, None).expect("a result");
    join(&bands, &joined).expect("joined");
    assert_eq!(
        fs::read(&joined).expect("read"),
        fs::read(&whole).expect("read")
    );
    // A band is an image of its own, and knows its place.
    let band = decode(&bands[1], &Limits::default()).expect("an image");
    assert_eq!((band.width_px, band.height_px), (18, 27));
    let place = band.metadata.band.expect("a place");
    assert_eq!((place.rows, place.height_px), (26..53, 80));
    assert_eq!(place.origin, ORIGIN);
}

#[test]
fn images_that_do_not_stream_are_refused() {
    let network = upscaler(&NetworkConfig::wdsr_b(4, 1, 2));
    let rgb = image(9, 40, Colour::Rgb, Depth::U8);
    let alpha = image(9, 40, Colour::RgbAlpha, Depth::U8);
    let mut beyond = image(90, 400, Colour::Grey, Depth::F32);
    if let Samples::F32(samples) = &mut beyond.samples {
        samples[100] = 1e3;
    }
    let file = |image: &Image, format| encode_bytes(image, format).expect("a file");
    let band = BandRequest::Part { index: 1, count: 2 };
    let error = |file: &[u8], size, to| {
        let settings = Settings {
            size,
            ..Settings::default()
        };
        let job = job(file, &network, settings).band(band, ORIGIN);
        let done = job.and_then(|job| job.into_bytes(Path::new("out"), to, &go_on));
        done.map(|_| ()).expect_err("no band").to_string()
    };
    let (one, tiff) = (SizeRequest::OnePass, Format::Tiff);
    for (file, size, to, reason) in [
        (
            file(&rgb, Format::Jpeg),
            one,
            tiff,
            "a jpeg image of its kind is read as a whole",
        ),
        (file(&alpha, Format::Png), one, tiff, "it has transparency"),
        (
            file(&rgb, Format::Png),
            SizeRequest::Factor(2.5),
            tiff,
            "its result is made by x2, x2",
        ),
        (
            file(&rgb, Format::Png),
            SizeRequest::Factor(1.0),
            tiff,
            "its result is made by",
        ),
        (
            file(&rgb, Format::Png),
            one,
            Format::Png,
            "its result is png",
        ),
        (
            file(&beyond, Format::Tiff),
            one,
            tiff,
            "values without data or beyond the usual range",
        ),
    ] {
        let error = error(&file, size, to);
        assert!(error.contains(reason), "{error}");
        assert!(error.starts_with("in: "), "{error}");
        assert!(
            error.contains("a band takes a PNG or TIFF image of one page"),
            "{error}"
        );
    }
    let outside = BandRequest::Rows {
        start: 10,
        end: Some(81),
    };
    let file = file(&rgb, Format::Png);
    let refused = job(&file, &network, Settings::default()).band(outside, ORIGIN);
    let Some(Error::Band { source, .. }) = refused.err() else {
        panic!("a band outside");
    };
    let expected = BandError::Outside {
        start: 10,
        end: 81,
        height_px: 80,
    };
    assert_eq!(source, expected);
}

#[test]
fn only_all_bands_of_one_image_are_joined() {
    let network = upscaler(&NetworkConfig::wdsr_b(4, 1, 2));
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let low = image(9, 40, Colour::Rgb, Depth::U8);
    let file = encode_bytes(&low, Format::Png).expect("a file");
    let other = encode_bytes(&image(10, 40, Colour::Rgb, Depth::U8), Format::Png).expect("a file");
    let settings = Settings::default();
    let make = |name: &str, file: &[u8], start, end, origin: &str| {
        let rows = BandRequest::Rows { start, end };
        let job = job(file, &network, settings)
            .band(rows, origin)
            .expect("a band");
        let (file, _) = job
            .into_file(&path(name), Format::Tiff, &go_on)
            .expect("a file");
        file.publish().expect("published");
    };
    make("a.tif", &file, 0, Some(30), ORIGIN);
    make("b.tif", &file, 30, Some(50), ORIGIN);
    make("c.tif", &file, 50, None, ORIGIN);
    make("b-wide.tif", &other, 30, Some(50), ORIGIN);
    make("b-other.tif", &file, 30, Some(50), "test, another model");
    make("b-early.tif", &file, 25, Some(50), ORIGIN);
    write(&path("whole.tif"), &file, &network, settings, None).expect("a result");
    fs::write(path("text.tif"), "text").expect("written");
    let error = |names: &[&str]| {
        let bands: Vec<PathBuf> = names.iter().map(|name| path(name)).collect();
        let error = join(&bands, &path("joined.tif"))
            .expect_err("no image")
            .to_string();
        assert!(!path("joined.tif").exists());
        let files = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(files, 8, "a part is left: {error}");
        error
    };
    for (names, expected) in [
        (
            &["a.tif", "c.tif"][..],
            "rows 30:50 of 80 are in none of the 2 bands",
        ),
        (&["b.tif", "c.tif"], "rows 0:30 of 80 are in none"),
        (
            &["a.tif", "b.tif"],
            "make them by wdsr upscale --rows 50:80",
        ),
        (
            &["a.tif", "b-wide.tif", "c.tif"],
            "b-wide.tif: its width is 20, that of",
        ),
        (
            &["a.tif", "b-other.tif", "c.tif"],
            "its origin is \"test, another model\"",
        ),
        (
            &["a.tif", "b-early.tif", "c.tif"],
            "b-early.tif: its rows 25:30 are also in",
        ),
        (
            &["a.tif", "b.tif", "b.tif", "c.tif"],
            "its rows 30:50 are also in",
        ),
        (
            &["a.tif", "whole.tif"],
            "whole.tif: expected a band of an image",
        ),
        (&["a.tif", "text.tif"], "text.tif"),
        (&["a.tif", "gone.tif"], "gone.tif"),
    ] {
        let error = error(names);
        assert!(error.contains(expected), "{names:?}: {error}");
    }
}

#[test]
fn the_result_of_a_band_has_no_place() {
    let network = upscaler(&NetworkConfig::wdsr_b(4, 1, 2));
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let file = encode_bytes(&image(9, 40, Colour::Rgb, Depth::U8), Format::Png).expect("a file");
    let part = BandRequest::Part { index: 2, count: 2 };
    write(
        &path("band.tif"),
        &file,
        &network,
        Settings::default(),
        Some(part),
    )
    .expect("a band");
    let reader = Reader::open(&path("band.tif"), &Limits::default()).expect("a band");
    let job = Job::new(reader, &[&network], Settings::default()).expect("a plan");
    let done = job.into_file(&path("again.tif"), Format::Tiff, &go_on);
    let (file, summary) = done.expect("a result");
    file.publish().expect("published");
    let again = decode(&path("again.tif"), &Limits::default()).expect("an image");
    assert_eq!(again.metadata.band, None);
    let [line] = &summary.dropped[..] else {
        panic!("{:?}", summary.dropped);
    };
    assert!(line.starts_with("place in an image of 80 rows"), "{line}");
}
