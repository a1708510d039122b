//! JPEG XL files that libjxl's `cjxl` wrote: what `tests/jxl/README.md` says of them comes out.

use std::path::Path;

use proptest::prelude::*;
use wdsr_image::{
    Colour, Depth, Error, Format, Image, Limits, Reader, Samples, decode_bytes, encode_bytes,
};

const WIDTH_PX: usize = 83;
const HEIGHT_PX: usize = 61;

fn file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jxl");
    std::fs::read(path.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn read(bytes: &[u8]) -> Result<Image, Error> {
    decode_bytes(bytes, Path::new("a.jxl"), &Limits::default())
}

fn image(name: &str) -> Image {
    read(&file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The sample of the generated image, 0 to 215, at a place and channel.
fn generated<T>(channels: usize, of: impl Fn(usize, usize) -> T) -> Vec<T> {
    let places = (0..HEIGHT_PX).flat_map(|y| (0..WIDTH_PX).map(move |x| (x, y)));
    places
        .flat_map(|(x, y)| {
            (0..channels).map(move |c| (x, (x * 5 + y * 3 + c * 40) % 200 + x * y % 17))
        })
        .map(|(x, value)| of(x, value))
        .collect()
}

#[test]
fn lossless_files_decode_to_every_sample() {
    let eight = |channels| Samples::U8(generated(channels, |_, value| value as u8));
    let sixteen = |value, x| (value * 257 + x) as u16;
    let rgb16 = Samples::U16(generated(3, |x, value| sixteen(value, x)));
    // `cjxl` stored the alpha in 8 bits.
    let mut grey_alpha = generated(2, |x, value| (sixteen(value, x), value as u16 * 257));
    let channels = grey_alpha.drain(..).enumerate();
    let channels = channels.map(|(i, (grey, alpha))| if i % 2 == 0 { grey } else { alpha });
    let grey_alpha = Samples::U16(channels.collect());
    let float = Samples::F32(generated(3, |_, value| value as f32 / 64.0 - 0.5));
    for (name, colour, samples) in [
        ("grey8.jxl", Colour::Grey, eight(1)),
        ("rgb8.jxl", Colour::Rgb, eight(3)),
        ("rgba8.jxl", Colour::RgbAlpha, eight(4)),
        ("greya16.jxl", Colour::GreyAlpha, grey_alpha),
        ("rgb16.jxl", Colour::Rgb, rgb16),
        ("float.jxl", Colour::Rgb, float),
        ("p3.jxl", Colour::Rgb, eight(3)),
        ("own-profile.jxl", Colour::Rgb, eight(3)),
    ] {
        let bytes = file(name);
        let reader = Reader::from_bytes(bytes, Path::new("whatever.png"), &Limits::default());
        let reader = reader.expect(name);
        assert_eq!(reader.format(), Format::JpegXl);
        let size = (WIDTH_PX, HEIGHT_PX);
        let image = image(name);
        assert_eq!(reader.outline(), image.outline(), "{name}");
        assert_eq!(reader.metadata(), &image.metadata, "{name}");
        assert_eq!((image.width_px, image.height_px), size, "{name}");
        assert_eq!(image.colour, colour, "{name}");
        assert_eq!(image.depth(), samples.depth(), "{name}");
        assert!(image.samples == samples, "{name}: other samples");
        assert_eq!(image.metadata.dropped, [""; 0], "{name}");
        // sRGB is what is meant without a profile.
        assert_eq!(
            image.metadata.icc_profile.is_some(),
            ["p3.jxl", "own-profile.jxl"].contains(&name),
            "{name}"
        );
    }
}

#[test]
fn lossy_files_are_near() {
    let expected = generated(3, |_, value| value as u8);
    for name in ["lossy.jxl", "p3-lossy.jxl"] {
        let image = image(name);
        let Samples::U8(samples) = &image.samples else {
            panic!("{name}: {:?}", image.depth());
        };
        let sum: u32 = samples
            .iter()
            .zip(&expected)
            .map(|(a, b)| u32::from(a.abs_diff(*b)))
            .sum();
        let mean = f64::from(sum) / samples.len() as f64;
        // libjxl's own decoder is 6.9 and 6.8 levels off: the image is steep.
        assert!(mean < 7.5, "{name}: {mean} levels off in the mean");
    }
    let profile = image("p3-lossy.jxl").metadata.icc_profile;
    let profile = profile.expect("the samples are of Display P3");
    assert_eq!(&profile[16..20], b"RGB ", "its colour space");
}

/// The lossless samples are of the embedded profile, which is kept as it is; the lossy ones are stored
/// apart from it and come out as sRGB.
#[test]
fn an_embedded_profile_is_kept_or_applied() {
    let profile = image("own-profile.jxl").metadata.icc_profile;
    let profile = profile.expect("the samples are of it");
    assert_eq!(profile.len(), 576);
    assert!(profile.windows(9).any(|name| name == b"wdsr test"));

    let lossy = image("own-profile-lossy.jxl");
    assert_eq!(lossy.metadata.icc_profile, None);
    assert!(
        lossy.metadata.dropped[0].contains("ICC profile"),
        "{:?}",
        lossy.metadata.dropped
    );
    let Samples::U8(samples) = &lossy.samples else {
        panic!("{:?}", lossy.depth());
    };
    let as_srgb = |(i, value): (usize, f64)| {
        let linear = (value / 255.0).powf([1.7, 2.0, 2.3][i % 3]);
        let encoded = if linear <= 0.003_130_8 {
            12.92 * linear
        } else {
            1.055 * linear.powf(1.0 / 2.4) - 0.055
        };
        encoded * 255.0
    };
    let stored = generated(3, |_, value| value as f64);
    let expected = stored.into_iter().enumerate().map(as_srgb);
    let sum: f64 = samples
        .iter()
        .zip(expected)
        .map(|(&a, b)| (f64::from(a) - b).abs())
        .sum();
    let mean = sum / samples.len() as f64;
    // Unconverted samples are 14.1 levels off, those of libjxl's decoder, asked for sRGB, 7.3.
    assert!(mean < 7.5, "{mean} levels off in the mean");
}

/// A JPEG of orientation 6 with XMP, recompressed: both boxes are brotli's.
#[test]
fn orientation_is_applied_once_and_metadata_kept() {
    let bytes = file("turned.jxl");
    let turned = read(&bytes).expect("an image");
    let size = (turned.width_px, turned.height_px);
    assert_eq!(size, (HEIGHT_PX, WIDTH_PX));
    let reader = Reader::from_bytes(bytes, Path::new("a"), &Limits::default());
    assert_eq!(reader.expect("a header").outline(), turned.outline());
    let Samples::U8(samples) = &turned.samples else {
        panic!("{:?}", turned.depth());
    };
    // Turned to the right: the left column, read upwards, is the first row.
    let stored = generated(3, |_, value| value as u8);
    let upright = |x: usize, y: usize| &stored[((HEIGHT_PX - 1 - x) * WIDTH_PX + y) * 3..][..3];
    let mut sum = 0;
    for (i, pixel) in samples.chunks(3).enumerate() {
        let expected = upright(i % HEIGHT_PX, i / HEIGHT_PX);
        sum += (0..3)
            .map(|c| usize::from(pixel[c].abs_diff(expected[c])))
            .sum::<usize>();
    }
    let mean = sum as f64 / samples.len() as f64;
    assert!(mean < 12.0, "{mean} levels off in the mean");
    let exif = turned.metadata.exif.as_ref().expect("EXIF");
    let field = exif
        .windows(4)
        .position(|tag| tag == [0x12, 1, 3, 0])
        .expect("an orientation");
    assert_eq!(exif[field + 8], 1, "the orientation is reset");
    let xmp = String::from_utf8(turned.metadata.xmp.clone().expect("XMP")).expect("text");
    assert!(xmp.contains("made by a test"), "{xmp}");
    assert_eq!(turned.metadata.dropped, [""; 0]);
}

/// Found by fuzzing: chroma of half the size where the header promises none.
#[test]
fn a_file_on_which_the_decoder_panics_is_damaged() {
    let error = read(&file("decoder-gives-up.jxl")).expect_err("damaged");
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
}

#[test]
fn truncated_and_corrupt_files_are_refused() {
    for name in [
        "rgb8.jxl",
        "greya16.jxl",
        "float.jxl",
        "lossy.jxl",
        "turned.jxl",
    ] {
        let whole = file(name);
        for cut in (2..whole.len() - 1).step_by(97).chain([whole.len() - 1]) {
            let error = match read(&whole[..cut]) {
                Ok(_) => panic!("{name} cut to {cut} of {} bytes is read", whole.len()),
                Err(error) => error,
            };
            let kind = matches!(
                error,
                Error::Truncated { .. } | Error::Damaged { .. } | Error::NotAnImage { .. }
            );
            assert!(kind, "{name} cut to {cut}: {error:?}");
        }
        let mut corrupt = whole.clone();
        let middle = whole.len() / 2;
        corrupt[middle..middle + 100].fill(0x55);
        let refused = matches!(read(&corrupt), Err(Error::Damaged { .. }));
        assert!(refused, "{name}: corrupt");
    }
    let limits = Limits {
        max_pixels: 5062,
        ..Limits::default()
    };
    let error = decode_bytes(&file("rgb8.jxl"), Path::new("a.jxl"), &limits);
    assert!(matches!(error, Err(Error::TooLarge { pixels: 5063, .. })));
    let limits = Limits {
        max_bytes: 5063 * 3 * 8,
        ..Limits::default()
    };
    let error = decode_bytes(&file("rgb8.jxl"), Path::new("a.jxl"), &limits);
    assert!(matches!(error, Err(Error::TooMuchMemory { .. })));
}

#[test]
fn jpeg_xl_is_not_written() {
    let image = Image::new(1, 1, Colour::Grey, Samples::U8(vec![0]));
    let error = encode_bytes(&image, Format::JpegXl).expect_err("read only");
    assert_eq!(
        error.to_string(),
        "cannot write image as jxl, which is only read; png, jpeg, webp, tiff, bmp and gif are written"
    );
    assert!(!Format::JpegXl.supports(Colour::Grey, Depth::U8));
    assert_eq!(Format::JpegXl.of_result(), Format::Png);
    for format in Format::WRITTEN {
        assert_eq!(format.of_result(), format);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_bytes_never_panic(
        name in prop::sample::select(vec!["rgba8.jxl", "greya16.jxl", "float.jxl", "lossy.jxl", "turned.jxl"]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        start in prop::collection::vec((0..64_usize, any::<u8>()), 0..3),
    ) {
        let mut bytes = file(name);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        for (at, value) in start {
            bytes[at] = value;
        }
        let limits = Limits {
            max_pixels: 1 << 20,
            ..Limits::default()
        };
        if let Err(error) = decode_bytes(&bytes, Path::new("a.jxl"), &limits) {
            prop_assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}
