//! Images whose edges continue at the opposite side: a rolled image gives the rolled result.

use std::ops::ControlFlow;
use std::path::Path;

use wdsr_image::{
    Colour, Depth, Format, Image, Limits, Reader, Samples, decode_bytes, encode_bytes,
};
use wdsr_kernels::Isa;
use wdsr_model::{BuiltinModel, Model, NetworkConfig, Upscaler};
use wdsr_upscale::{AlphaMethod, ImageUpscaler, Job, Plan, Settings, Size, SizeRequest, Wrap};

/// Multiples of the rows that kernels compute at a time.
const WIDTH_PX: usize = 36;
const HEIGHT_PX: usize = 28;

fn go_on(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn noise(i: usize) -> u32 {
    (i as u32).wrapping_mul(2_654_435_761) >> 8
}

fn image(colour: Colour, depth: Depth) -> Image {
    let count = WIDTH_PX * HEIGHT_PX * colour.channels();
    let noise = (0..count).map(noise);
    let samples = match depth {
        Depth::U8 => Samples::U8(noise.map(|v| v as u8).collect()),
        Depth::U16 => Samples::U16(noise.map(|v| v as u16).collect()),
        Depth::F32 => Samples::F32(noise.map(|v| v as f32 / (1 << 24) as f32).collect()),
    };
    Image::new(WIDTH_PX, HEIGHT_PX, colour, samples)
}

/// The image moved right and down; what leaves it comes in at the opposite side.
fn rolled(image: &Image, x_px: usize, y_px: usize) -> Image {
    fn roll<T: Copy>(v: &[T], (w, h, c): (usize, usize, usize), by: (usize, usize)) -> Vec<T> {
        let mut out = Vec::with_capacity(v.len());
        for y in 0..h {
            for x in 0..w {
                let from = (y + h - by.1 % h) % h * w + (x + w - by.0 % w) % w;
                out.extend_from_slice(&v[from * c..][..c]);
            }
        }
        out
    }
    let shape = (image.width_px, image.height_px, image.colour.channels());
    let by = (x_px, y_px);
    let samples = match &image.samples {
        Samples::U8(v) => Samples::U8(roll(v, shape, by)),
        Samples::U16(v) => Samples::U16(roll(v, shape, by)),
        Samples::F32(v) => Samples::F32(roll(v, shape, by)),
    };
    Image::new(shape.0, shape.1, image.colour, samples)
}

fn upscaled(image: &Image, network: &Upscaler, request: SizeRequest, wrap: Wrap) -> Image {
    with_alpha(image, network, request, wrap, AlphaMethod::Network)
}

fn with_alpha(
    image: &Image,
    network: &Upscaler,
    request: SizeRequest,
    wrap: Wrap,
    alpha: AlphaMethod,
) -> Image {
    let plan = Plan::new(Size::of(image), request, &[network.scale()]).expect("a plan");
    let upscaler = ImageUpscaler::new(plan, &[network]).wrap(wrap).alpha(alpha);
    upscaler.upscale(image.clone()).expect("an image")
}

/// Rolls by columns of several vectors, and by multiples of four rows: same bits.
const ROLLS: [(usize, usize); 5] = [(1, 4), (4, 0), (17, 12), (32, 24), (0, 8)];

/// The largest difference of samples, in parts of the range from black to white.
fn difference(a: &Image, b: &Image) -> f32 {
    fn most<T: Copy>(a: &[T], b: &[T], unit: impl Fn(T) -> f32) -> f32 {
        let pairs = a.iter().zip(b);
        pairs
            .map(|(a, b)| (unit(*a) - unit(*b)).abs())
            .fold(0.0, f32::max)
    }
    assert_eq!(Size::of(a), Size::of(b));
    match (&a.samples, &b.samples) {
        (Samples::U8(a), Samples::U8(b)) => most(a, b, |v| f32::from(v) / 255.0),
        (Samples::U16(a), Samples::U16(b)) => most(a, b, |v| f32::from(v) / 65535.0),
        (Samples::F32(a), Samples::F32(b)) => most(a, b, |v| v),
        _ => panic!("other depths"),
    }
}

#[test]
fn a_rolled_image_gives_the_rolled_result_with_every_instruction_set() {
    for isa in Isa::available() {
        for scale in [2, 3] {
            for self_ensemble in [false, true] {
                // Plain loops take long.
                let (features, blocks) = if isa == Isa::REFERENCE {
                    (3, 1)
                } else {
                    (8, 2)
                };
                let model = Model::random(&NetworkConfig::wdsr_b(features, blocks, scale), 1);
                let network = Upscaler::with_isa(&model, isa).self_ensemble(self_ensemble);
                for (colour, depth) in [
                    (Colour::Rgb, Depth::U8),
                    (Colour::Grey, Depth::U16),
                    (Colour::Rgb, Depth::F32),
                ] {
                    let image = image(colour, depth);
                    let of =
                        |image: &Image, wrap| upscaled(image, &network, SizeRequest::OnePass, wrap);
                    let expected = of(&image, Wrap::Xy);
                    let panorama = of(&image, Wrap::X);
                    // With self-ensemble columns are rows too.
                    let rolls = ROLLS.iter().filter(|(x, _)| !self_ensemble || x % 4 == 0);
                    for &(x, y) in rolls {
                        let kind = format!("{} x{scale} {colour} {depth} {x} {y}", isa.name());
                        let found = of(&rolled(&image, x, y), Wrap::Xy);
                        assert!(found == rolled(&expected, x * scale, y * scale), "{kind}");
                        let found = of(&rolled(&image, x, 0), Wrap::X);
                        assert!(found == rolled(&panorama, x * scale, 0), "{kind}");
                    }
                    // The rounding of four rows depends on the place among them.
                    let found = of(&rolled(&image, 3, 2), Wrap::Xy);
                    let most = difference(&found, &rolled(&expected, 3 * scale, 2 * scale));
                    let step = match depth {
                        Depth::U8 => 1.0 / 255.0,
                        Depth::U16 => 1.0 / 65535.0,
                        Depth::F32 => 0.0,
                    };
                    assert!(
                        most < step + 1e-5,
                        "{} {colour} {depth}: {most}",
                        isa.name()
                    );
                }
            }
        }
    }
}

#[test]
fn built_in_models_wrap_and_equal_the_middle_of_a_repeated_image() {
    for model in BuiltinModel::ALL
        .iter()
        .filter(|model| model.kind == "small" || model.scale == 2)
    {
        let network = Upscaler::new(&model.load()).expect("an instruction set");
        let image = image(Colour::Rgb, Depth::U8);
        let scale = network.scale();
        let expected = upscaled(&image, &network, SizeRequest::OnePass, Wrap::Xy);
        let found = upscaled(
            &rolled(&image, 5, 8),
            &network,
            SizeRequest::OnePass,
            Wrap::Xy,
        );
        assert!(
            found == rolled(&expected, 5 * scale, 8 * scale),
            "{}",
            model.name()
        );
        let Samples::U8(samples) = &image.samples else {
            panic!("8 bits");
        };
        let row = |y: usize| samples[y * WIDTH_PX * 3..][..WIDTH_PX * 3].repeat(3);
        let nine: Vec<u8> = (0..3 * HEIGHT_PX)
            .flat_map(|y| row(y % HEIGHT_PX))
            .collect();
        let nine = Image::new(3 * WIDTH_PX, 3 * HEIGHT_PX, Colour::Rgb, Samples::U8(nine));
        let nine = upscaled(&nine, &network, SizeRequest::OnePass, Wrap::None);
        let (Samples::U8(nine), Samples::U8(one)) = (&nine.samples, &expected.samples) else {
            panic!("8 bits");
        };
        // The middle is near the edges of the nine, where the last bits differ.
        let len = WIDTH_PX * scale * 3;
        for y in 0..HEIGHT_PX * scale {
            let middle = ((HEIGHT_PX * scale + y) * 3 + 1) * len;
            let mut pairs = nine[middle..][..len].iter().zip(&one[y * len..][..len]);
            assert!(
                pairs.all(|(a, b)| a.abs_diff(*b) <= 1),
                "{} row {y}",
                model.name()
            );
        }
    }
}

#[test]
fn alpha_wraps_too() {
    let model = Model::random(&NetworkConfig::wdsr_b(4, 1, 2), 1);
    let network = Upscaler::new(&model).expect("an instruction set");
    let noisy = image(Colour::RgbAlpha, Depth::U8);
    // Transparent but for a corner and a shadow: colours spread far, across the edges.
    let mut hard = noisy.clone();
    if let Samples::U8(samples) = &mut hard.samples {
        for (i, pixel) in samples.chunks_exact_mut(4).enumerate() {
            let (x, y) = (i % WIDTH_PX, i / WIDTH_PX);
            pixel[3] = match () {
                () if x < 5 && y < 6 => 255,
                () if x > 30 && y < 4 => 100,
                () => 0,
            };
        }
    }
    // Two passes.
    for request in [SizeRequest::OnePass, SizeRequest::Factor(4.0)] {
        for image in [&noisy, &hard] {
            for method in AlphaMethod::ALL {
                let of = |image: &Image| with_alpha(image, &network, request, Wrap::Xy, method);
                let expected = of(image);
                let scale = expected.width_px / WIDTH_PX;
                for (x, y) in ROLLS {
                    let found = of(&rolled(image, x, y));
                    let expected = rolled(&expected, x * scale, y * scale);
                    let (Samples::U8(found), Samples::U8(expected)) =
                        (&found.samples, &expected.samples)
                    else {
                        panic!("8 bits");
                    };
                    let pairs = found.iter().zip(expected);
                    let most = pairs.map(|(a, b)| a.abs_diff(*b)).max().expect("samples");
                    // Weights of the resizer differ in the last bit of 64 from place to place.
                    let is_resized = method == AlphaMethod::Lanczos || image == &hard;
                    assert!(
                        most <= u8::from(is_resized),
                        "{request:?} {method:?} {x} {y}: {most}"
                    );
                }
            }
        }
    }
}

#[test]
fn resized_images_wrap_where_the_roll_is_whole_pixels() {
    // 36 x 28 to 72 x 56 by a network of scale 3: a roll by 1 is one of 2.
    let model = Model::random(&NetworkConfig::wdsr_b(4, 1, 3), 1);
    let network = Upscaler::new(&model).expect("an instruction set");
    let image = image(Colour::Rgb, Depth::F32);
    let request = SizeRequest::Factor(2.0);
    let of = |image: &Image| upscaled(image, &network, request, Wrap::Xy);
    let expected = of(&image);
    assert_eq!(expected.width_px, 72);
    for (x, y) in ROLLS {
        let (found, expected) = (of(&rolled(&image, x, y)), rolled(&expected, 2 * x, 2 * y));
        let (Samples::F32(found), Samples::F32(expected)) = (&found.samples, &expected.samples)
        else {
            panic!("floats");
        };
        let mut pairs = found.iter().zip(expected);
        assert!(pairs.all(|(a, b)| (a - b).abs() < 1e-6), "{x} {y}");
    }
}

#[test]
fn streamed_tiled_and_whole_results_are_the_same() {
    let model = Model::random(&NetworkConfig::wdsr_b(4, 2, 2), 1);
    let network = |tile_px| {
        let network = Upscaler::new(&model).expect("an instruction set");
        network.tile_px(tile_px)
    };
    let name = Path::new("x");
    for wrap in [Wrap::X, Wrap::Xy] {
        for (colour, depth) in [
            (Colour::Rgb, Depth::U8),
            (Colour::Grey, Depth::U8),
            // Values that are stretched.
            (Colour::Rgb, Depth::U16),
        ] {
            let mut image = image(colour, depth);
            if let Samples::U16(samples) = &mut image.samples {
                samples.iter_mut().for_each(|v| *v /= 64);
            }
            let file = encode_bytes(&image, Format::Png).expect("a file");
            let result = |streams, tile_px| {
                let reader = Reader::from_bytes(file.clone(), name, &Limits::default())?;
                let settings = Settings {
                    wrap,
                    streams,
                    ..Settings::default()
                };
                let network = network(tile_px);
                let job = Job::new(reader, &[&network], settings)?;
                let (bytes, summary) = job.into_bytes(name, Format::Png, &go_on)?;
                assert_eq!(summary.streamed, streams);
                Ok::<_, wdsr_upscale::Error>(decode_bytes(&bytes, name, &Limits::default())?)
            };
            let expected = result(false, None).expect("an image");
            for (streams, tile_px) in [(true, None), (true, Some(8)), (false, Some(16))] {
                let found = result(streams, tile_px).expect("an image");
                assert!(
                    found == expected,
                    "{wrap:?} {colour} {depth} {streams} {tile_px:?}"
                );
            }
        }
    }
}

#[test]
fn images_smaller_than_the_halo_wrap() {
    let model = Model::random(&NetworkConfig::wdsr_b(4, 4, 2), 1);
    let network = Upscaler::new(&model).expect("an instruction set");
    for (width_px, height_px) in [(1, 1), (2, 1), (3, 2)] {
        let samples = (0..width_px * height_px * 3).map(|i| noise(i) as u8);
        let image = Image::new(
            width_px,
            height_px,
            Colour::Rgb,
            Samples::U8(samples.collect()),
        );
        let of = |image: &Image| upscaled(image, &network, SizeRequest::OnePass, Wrap::Xy);
        let expected = of(&image);
        assert!(
            of(&rolled(&image, 1, 0)) == rolled(&expected, 2, 0),
            "{width_px} x {height_px}"
        );
    }
}
