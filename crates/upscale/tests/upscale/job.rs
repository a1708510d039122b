//! Images from a reader to a file: streamed or whole, within limits, or not at all.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::LazyLock;

use wdsr_image::{
    Colour, Depth, Error as ImageError, Format, Image, Limits, MetadataPolicy, Reader, Resolution,
    Samples, decode, decode_bytes, encode_bytes,
};
use wdsr_model::{Model, NetworkConfig, Upscaler};
use wdsr_upscale::{Error, ErrorKind, Job, Settings, Size, SizeError, SizeRequest, Summary, Work};

/// Networks of next to no work, of scales 2 and 3.
static NETWORKS: LazyLock<[Upscaler; 2]> = LazyLock::new(|| {
    [2, 3].map(|scale| {
        let model = Model::random(&NetworkConfig::wdsr_b(2, 1, scale), 1);
        Upscaler::new(&model).expect("an instruction set")
    })
});

const NAME: &str = "folder/in";

fn image(width_px: usize, height_px: usize, colour: Colour, depth: Depth) -> Image {
    let count = width_px * height_px * colour.channels();
    let noise = (0..count).map(|i| (i as u32).wrapping_mul(2_654_435_761) >> 8);
    let samples = match depth {
        Depth::U8 => Samples::U8(noise.map(|v| v as u8).collect()),
        Depth::U16 => Samples::U16(noise.map(|v| v as u16).collect()),
        Depth::F32 => Samples::F32(noise.map(|v| v as f32 / (1 << 24) as f32).collect()),
    };
    let mut image = Image::new(width_px, height_px, colour, samples);
    image.metadata.resolution = Some(Resolution::PerInch { x: 254.0, y: 254.0 });
    image
}

fn job(file: &[u8], settings: Settings) -> Result<Job<'static>, Error> {
    let reader = Reader::from_bytes(file, Path::new(NAME), &Limits::default())?;
    let networks: Vec<&Upscaler> = NETWORKS.iter().collect();
    Job::new(reader, &networks, settings)
}

fn go_on(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The result, and whether it streamed.
fn result(file: &[u8], format: Format, settings: Settings) -> Result<(Image, Summary), Error> {
    let (bytes, summary) = job(file, settings)?.into_bytes(Path::new("out"), format, &go_on)?;
    let image = decode_bytes(&bytes, Path::new("out"), &Limits::default())?;
    Ok((image, summary))
}

/// The error of a job that leaves no file, neither under its name nor under another.
fn error(file: &[u8], format: Format, settings: Settings) -> Error {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out");
    let done = job(file, settings).and_then(|job| job.into_file(&path, format, &go_on));
    let error = done.map(|_| ()).expect_err("a file");
    let left = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 0, "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

const WHOLE: Settings = Settings {
    strength: None,
    size: SizeRequest::OnePass,
    alpha: wdsr_upscale::AlphaMethod::Network,
    wrap: wdsr_upscale::Wrap::None,
    metadata: MetadataPolicy::Keep,
    encoding: wdsr_image::Encoding::DEFAULT,
    max_output_pixels: u64::MAX,
    max_memory_bytes: None,
    streams: false,
};

#[test]
fn streamed_results_are_those_of_whole_images() {
    let kinds = [
        (Format::Png, Depth::U8),
        (Format::Png, Depth::U16),
        (Format::Tiff, Depth::U8),
        (Format::Tiff, Depth::U16),
        (Format::Tiff, Depth::F32),
    ];
    for (from, depth) in kinds {
        for colour in [Colour::Grey, Colour::Rgb] {
            for (width_px, height_px) in [(1, 1), (1, 9), (300, 1), (5, 70), (130, 257)] {
                let low = image(width_px, height_px, colour, depth);
                let file = encode_bytes(&low, from).expect("a file");
                for to in [Format::Png, Format::Tiff] {
                    if !to.supports(colour, depth) {
                        continue;
                    }
                    for size in [SizeRequest::OnePass, SizeRequest::Factor(3.0)] {
                        let whole = Settings { size, ..WHOLE };
                        let streamed = Settings {
                            streams: true,
                            ..whole
                        };
                        let kind = format!("{from} {to} {width_px} x {height_px} {colour} {depth}");
                        let (expected, summary) = result(&file, to, whole).expect(&kind);
                        assert!(!summary.streamed, "{kind}");
                        let (found, summary) = result(&file, to, streamed).expect(&kind);
                        assert!(summary.streamed, "{kind}");
                        assert!(found == expected, "{kind}");
                        assert_eq!(Size::of(&found), summary.plan.target(), "{kind}");
                        assert_eq!(found.metadata.resolution, low.metadata.resolution);
                    }
                }
            }
        }
    }
}

#[test]
fn other_images_are_upscaled_whole() {
    let settings = Settings::default();
    let rgb = image(20, 10, Colour::Rgb, Depth::U8);
    let alpha = image(20, 10, Colour::RgbAlpha, Depth::U8);
    let file = |image: &Image, format| encode_bytes(image, format).expect("a file");
    for (file, to, size) in [
        (file(&rgb, Format::Jpeg), Format::Png, SizeRequest::OnePass),
        (file(&rgb, Format::Png), Format::WebP, SizeRequest::OnePass),
        (file(&alpha, Format::Png), Format::Png, SizeRequest::OnePass),
        (
            file(&rgb, Format::Png),
            Format::Png,
            SizeRequest::Factor(2.5),
        ),
        (
            file(&rgb, Format::Png),
            Format::Png,
            SizeRequest::Factor(1.0),
        ),
    ] {
        let settings = Settings { size, ..settings };
        let (large, summary) = result(&file, to, settings).expect("an image");
        assert!(!summary.streamed, "{to} {size:?}");
        assert_eq!(Size::of(&large), summary.plan.target());
    }
}

/// TIFF's numbers of compressions.
const UNCOMPRESSED: u32 = 1;
const DEFLATE: u32 = 8;
const FAX: u32 = 4;

/// A grey TIFF of one strip that claims any height, and has 10 bytes of samples.
fn lying_tiff(width: u32, height: u32, compression: u32) -> Vec<u8> {
    let mut file = b"II*\0\x12\0\0\0".to_vec();
    file.extend([7; 10]);
    let fields: [(u16, u16, u32); 9] = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, compression),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, 10),
    ];
    file.extend((fields.len() as u16).to_le_bytes());
    for (tag, kind, value) in fields {
        file.extend(tag.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend([0; 4]);
    file
}

#[test]
fn a_result_beyond_the_sides_of_the_format_is_refused_before_any_work() {
    let file = lying_tiff(1, 715_827_883, FAX);
    for streams in [true, false] {
        let settings = Settings {
            size: SizeRequest::Factor(3.0),
            streams,
            ..Settings::default()
        };
        let error = error(&file, Format::Png, settings);
        assert!(matches!(error, Error::Format { .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Input);
        let expected = "3 x 2147483649 pixels (at most 2147483647 a side)";
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains(NAME), "{error}");
    }
}

#[test]
fn headers_that_claim_more_than_the_file_holds_end_in_an_error() {
    let low = image(40, 30, Colour::Grey, Depth::U8);
    let png = encode_bytes(&low, Format::Png).expect("a file");
    let tiff = encode_bytes(&low, Format::Tiff).expect("a file");
    for (file, streams) in [
        (lying_tiff(3, 4, UNCOMPRESSED), true),
        (lying_tiff(3, 4, UNCOMPRESSED), false),
        (lying_tiff(30_000, 30_000, UNCOMPRESSED), true),
        (lying_tiff(30_000, 30_000, DEFLATE), true),
        (lying_tiff(300, 40, UNCOMPRESSED), true),
        (lying_tiff(300, 40, UNCOMPRESSED), false),
        (png[..png.len() / 2].to_vec(), true),
        (png[..png.len() / 2].to_vec(), false),
        (tiff[..tiff.len() / 2].to_vec(), true),
    ] {
        let settings = Settings {
            streams,
            ..Settings::default()
        };
        let error = error(&file, Format::Tiff, settings);
        assert_eq!(error.kind(), ErrorKind::Input, "{error}");
        assert!(error.to_string().contains(NAME), "{error}");
    }
}

#[test]
fn each_limit_is_an_error_of_its_own() {
    let low = image(30, 20, Colour::Rgb, Depth::U16);
    let file = encode_bytes(&low, Format::Png).expect("a file");
    let settings = Settings::default();

    let pixels = Settings {
        max_output_pixels: 2399,
        ..settings
    };
    let found = error(&file, Format::Png, pixels);
    let Error::ResultTooLarge {
        size, max_pixels, ..
    } = found
    else {
        panic!("{found:?}");
    };
    assert_eq!((size.pixels(), max_pixels), (2400, 2399));
    let enough = Settings {
        max_output_pixels: 2400,
        ..settings
    };
    result(&file, Format::Png, enough).expect("2400 pixels");

    let found = error(&file, Format::Jpeg, settings);
    let Error::Format { source, .. } = &found else {
        panic!("{found:?}");
    };
    assert!(
        matches!(source, ImageError::CannotHold { .. }),
        "{source:?}"
    );

    let square = Size {
        width_px: 60,
        height_px: 60,
    };
    let stretched = Settings {
        size: SizeRequest::Exactly(square),
        ..settings
    };
    let found = error(&file, Format::Png, stretched);
    let is_stretched = matches!(
        found,
        Error::Size {
            source: SizeError::Stretches { .. },
            ..
        }
    );
    assert!(is_stretched, "{found:?}");

    for (max_bytes, streams, is_work) in [
        (
            24 << 20,
            true,
            (|work| matches!(work, Work::Streaming { .. })) as fn(Work) -> bool,
        ),
        (3600, false, |work| work == Work::Decoding),
        ((24 << 20) + (20 << 10), false, |work| {
            matches!(work, Work::Upscaling(_))
        }),
    ] {
        let memory = Settings {
            max_memory_bytes: Some(max_bytes),
            streams,
            ..settings
        };
        let found = error(&file, Format::Png, memory);
        assert_eq!(found.kind(), ErrorKind::Memory);
        let Error::Memory { source, .. } = &found else {
            panic!("{found:?}");
        };
        assert!(is_work(source.work), "{source:?}");
        assert_eq!(source.allowed_bytes, Some(max_bytes));
        assert!(source.needed_bytes > u128::from(max_bytes), "{source:?}");
    }
}

#[test]
fn a_stopped_job_leaves_no_file() {
    let low = image(64, 200, Colour::Rgb, Depth::U8);
    let file = encode_bytes(&low, Format::Png).expect("a file");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.png");
    std::fs::write(&path, "old").expect("a file");
    for streams in [true, false] {
        let settings = Settings {
            streams,
            ..Settings::default()
        };
        let stop = |done: usize, total: usize| match done * 2 < total {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        let job = job(&file, settings).expect("a job");
        let stopped = job.into_file(&path, Format::Png, &stop);
        let error = stopped.map(|_| ()).expect_err("stopped");
        assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
        let names = std::fs::read_dir(folder.path()).expect("a folder");
        assert_eq!(names.count(), 1, "only the old file");
        assert_eq!(std::fs::read(&path).expect("the old file"), b"old");
    }
}

#[test]
fn a_file_appears_when_it_is_published() {
    let low = image(16, 9, Colour::RgbAlpha, Depth::U8);
    let file = encode_bytes(&low, Format::Png).expect("a file");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.webp");
    let job = job(&file, Settings::default()).expect("a job");
    assert_eq!(job.plan().to_string(), "x2");
    let (written, _) = job
        .into_file(&path, Format::WebP, &go_on)
        .expect("a result");
    assert!(!path.exists());
    written.publish().expect("a name");
    let large = decode(&path, &Limits::default()).expect("an image");
    assert_eq!((large.width_px, large.height_px), (32, 18));
}

#[test]
fn a_summary_names_the_metadata_that_the_result_lacks() {
    let mut low = image(16, 9, Colour::Rgb, Depth::U8);
    low.metadata.texts = vec![("Title".to_owned(), "A title".to_owned())];
    let file = encode_bytes(&low, Format::Png).expect("a file");
    for (format, policy, expected) in [
        (Format::Png, MetadataPolicy::Keep, 0),
        (Format::Tiff, MetadataPolicy::Keep, 1),
        (Format::Tiff, MetadataPolicy::Strip, 0),
    ] {
        let settings = Settings {
            metadata: policy,
            ..Settings::default()
        };
        let (_, summary) = result(&file, format, settings).expect("an image");
        assert_eq!(summary.dropped.len(), expected, "{:?}", summary.dropped);
    }
}
