//! Kernels of pixels on tiles against loops in f64: on AMX where the processor has it, and on tiles in plain Rust, whose
//! bits are the same.

use wdsr_kernels::{
    ConvLayer, Epilogue, Isa, PixelConv, PixelPair, Precision, Scratch, Strip, StripConv,
    StripFormat, StripLayout, convert_strip,
};

use crate::invalid_arguments::panics;
use crate::pairs::pointwise;
use crate::strips::{Maps, PLACES, conv_sums, layout, pixels, used};
use crate::{BF16_PRODUCT, is_tested, rounded, tolerance, values};

/// Runs a test on tiles in plain Rust, and on AMX if this processor has it: the bits that it returns must be equal.
fn on_tiles(test: fn(Isa) -> Vec<u32>) {
    let expected = test(Isa::emulated_amx());
    crate::on("amx", |isa| {
        assert_eq!(test(isa), expected, "bits on {isa}")
    });
}

#[test]
fn convolution_of_pixels_equals_the_definition() {
    on_tiles(convolutions);
}

#[test]
fn pair_of_pixels_equals_the_definition() {
    on_tiles(pairs);
}

#[test]
fn planes_become_pixels_and_planes_again() {
    on_tiles(conversions);
}

/// The strip from row `first_row` on as pixels, with the rows above it.
fn strip_of_pixels(isa: Isa, maps: &Maps, first_row: isize, format: StripFormat) -> Strip {
    let mut strip = Strip::new(maps.channels, layout_of(maps.width, format));
    maps.fill(&mut strip, first_row, |strip, first_row| {
        let from = match format {
            StripFormat::Bf16Pixels => strip_of_pixels(isa, maps, first_row, StripFormat::Pixels),
            _ => maps.strip(first_row),
        };
        convert_strip(isa, &from, None, strip);
    });
    strip
}

fn layout_of(width_px: usize, format: StripFormat) -> StripLayout {
    StripLayout {
        format,
        ..layout(width_px)
    }
}

/// A strip for results, with the pixels of an earlier image.
fn used_pixels(
    [channels, height, width]: [usize; 3],
    first_row: isize,
    format: StripFormat,
) -> Strip {
    let earlier = Maps::random([channels, 20, width], 9);
    let mut strip = strip_of_pixels(Isa::emulated_amx(), &earlier, 0, format);
    strip.place(0..width, first_row, height);
    strip
}

/// The planes of a strip of pixels.
fn to_planes(isa: Isa, strip: &Strip, first_row: isize, height: usize) -> Strip {
    let shape = [strip.channels(), height, strip.width_px()];
    let mut planes = used(shape, first_row);
    if strip.layout().format == StripFormat::Pixels {
        convert_strip(isa, strip, None, &mut planes);
        return planes;
    }
    // Each channel times one.
    let channels = strip.channels();
    let mut weight = vec![0.0; channels * channels];
    weight
        .iter_mut()
        .step_by(channels + 1)
        .for_each(|w| *w = 1.0);
    let one = PixelConv::new(isa, pointwise(channels, &(weight, vec![0.0; channels])));
    let mut pixels = Strip::new(channels, layout_of(strip.width_px(), StripFormat::Pixels));
    pixels.place(strip.columns(), first_row, height);
    one.run(strip, &mut pixels, Epilogue::Store, &mut Scratch::default());
    convert_strip(isa, &pixels, None, &mut planes);
    planes
}

/// Adds the bits of a strip of planes.
fn add_bits(bits: &mut Vec<u32>, strip: &Strip) {
    for channel in 0..strip.channels() {
        for y in strip.rows() {
            bits.extend(strip.row(channel, y).iter().map(|value| value.to_bits()));
        }
    }
}

/// The nearest bf16.
fn round(value: f32) -> f64 {
    f64::from(rounded(Precision::Bf16, value))
}

fn convolutions(isa: Isa) -> Vec<u32> {
    let mut bits = Vec::new();
    let shapes = [
        (1, 1, 1),
        (8, 8, 3),
        (25, 32, 3),
        (33, 26, 3),
        (64, 100, 3),
        (12, 65, 5),
    ];
    for (inputs, outputs, kernel) in shapes {
        for (place, width) in [1, 7, 16, 33, 65].into_iter().enumerate() {
            let (first_row, height) = PLACES[place];
            let taps: usize = kernel * kernel;
            if !is_tested(isa, inputs * outputs * taps * width * 8) {
                continue;
            }
            let reach = (kernel / 2) as isize;
            let weight = values(outputs * inputs * taps, 1);
            let bias = values(outputs, 2);
            let layer = ConvLayer {
                in_channels: inputs,
                out_channels: outputs,
                kernel,
                weight: &weight,
                bias: &bias,
            };
            let conv = PixelConv::new(isa, layer);
            let maps = Maps::random([inputs, height, width], 4);
            let input = strip_of_pixels(isa, &maps, first_row, StripFormat::Bf16Pixels);
            let shape = [outputs, height, width];
            let output_row = first_row - reach;
            let terms = Maps::random(shape, 6);
            let term = strip_of_pixels(isa, &terms, output_row + 1, StripFormat::Pixels);
            let slopes = values(outputs, 8);
            let places = pixels(&used(shape, output_row));
            let sums = conv_sums(layer, &maps, &places, round);
            for (epilogue, format) in [
                (Epilogue::Store, StripFormat::Bf16Pixels),
                (Epilogue::Relu, StripFormat::Bf16Pixels),
                (Epilogue::PRelu(&slopes), StripFormat::Pixels),
                (Epilogue::Add(&term), StripFormat::Pixels),
            ] {
                let mut output = used_pixels(shape, output_row, format);
                conv.run(&input, &mut output, epilogue, &mut Scratch::default());
                let output = to_planes(isa, &output, output_row, height);
                add_bits(&mut bits, &output);
                for (&(o, y, x), &sum) in places.iter().zip(&sums) {
                    let mut expected = sum;
                    let mut allowed = tolerance(inputs * taps + 2);
                    match epilogue {
                        Epilogue::Relu => expected = expected.max(0.0),
                        Epilogue::PRelu(slopes) if expected < 0.0 => {
                            expected *= f64::from(slopes[o])
                        }
                        Epilogue::Add(_) => {
                            expected += f64::from(terms.at(o, y as isize, x as isize))
                        }
                        _ => {}
                    }
                    if format == StripFormat::Bf16Pixels {
                        allowed += expected.abs() * BF16_PRODUCT;
                    }
                    let found = f64::from(output.row(o, y)[x]);
                    assert!(
                        (found - expected).abs() <= allowed,
                        "{inputs} -> {outputs} {kernel}x{kernel} at ({y}, {x}) of {width} x {height} on {isa}: \
                         {found}, expected {expected}"
                    );
                }
            }
        }
    }
    bits
}

fn pairs(isa: Isa) -> Vec<u32> {
    let mut bits = Vec::new();
    for (inputs, wide, outputs) in [
        (1, 1, 1),
        (3, 7, 2),
        (32, 192, 25),
        (48, 33, 40),
        (100, 64, 65),
    ] {
        for (place, width) in [1, 15, 16, 33, 70].into_iter().enumerate() {
            let (first_row, height) = PLACES[place];
            if !is_tested(isa, (inputs + outputs) * wide * width * 8) {
                continue;
            }
            let expand = (values(wide * inputs, 1), values(wide, 2));
            let reduce = (values(outputs * wide, 3), values(outputs, 4));
            let pair = PixelPair::new(isa, pointwise(inputs, &expand), pointwise(wide, &reduce));
            let maps = Maps::random([inputs, height, width], 5);
            let input = strip_of_pixels(isa, &maps, first_row, StripFormat::Pixels);
            // A row further up.
            let shape = [outputs, height, width];
            let mut output = used_pixels(shape, first_row - 1, StripFormat::Pixels);
            pair.run(&input, &mut output, &mut Scratch::default());
            let output = to_planes(isa, &output, first_row - 1, height);
            add_bits(&mut bits, &output);
            for y in output.rows() {
                for x in 0..width {
                    let hidden: Vec<f64> = (0..wide)
                        .map(|h| {
                            let terms = (0..inputs).map(|i| {
                                let pixel = maps.at(i, y as isize, x as isize);
                                round(expand.0[h * inputs + i]) * round(pixel)
                            });
                            let sum = f64::from(expand.1[h]) + terms.sum::<f64>();
                            round(sum.max(0.0) as f32)
                        })
                        .collect();
                    let size = hidden.iter().fold(1.0, |max: f64, v| max.max(*v));
                    for o in 0..outputs {
                        let terms = hidden.iter().enumerate();
                        let terms = terms.map(|(h, v)| round(reduce.0[o * wide + h]) * v);
                        let expected = f64::from(reduce.1[o]) + terms.sum::<f64>();
                        let found = f64::from(output.row(o, y)[x]);
                        // A few wide sums are rounded to the other of two near bf16.
                        let allowed = size * (tolerance(wide + inputs + 2) + 4.0 * BF16_PRODUCT);
                        assert!(
                            (found - expected).abs() <= allowed,
                            "pair {inputs} -> {wide} -> {outputs} at ({y}, {x}) of {width} x {height} on {isa}: \
                             {found}, expected {expected}"
                        );
                    }
                }
            }
        }
    }
    bits
}

fn conversions(isa: Isa) -> Vec<u32> {
    let mut bits = Vec::new();
    for channels in [1, 25, 32, 100] {
        for (place, width) in [1, 16, 63, 64, 130].into_iter().enumerate() {
            let (first_row, height) = PLACES[place];
            let shape = [channels, height, width];
            let (maps, terms) = (Maps::random(shape, 1), Maps::random(shape, 2));
            let pixels = strip_of_pixels(isa, &maps, first_row, StripFormat::Pixels);
            let mut planes = used(shape, first_row);
            convert_strip(isa, &pixels, Some(&terms.strip(first_row)), &mut planes);
            add_bits(&mut bits, &planes);
            for (c, y, x) in crate::strips::pixels(&planes) {
                let [value, term] = [&maps, &terms].map(|maps| maps.at(c, y as isize, x as isize));
                assert_eq!(
                    planes.row(c, y)[x],
                    value + term,
                    "({c}, {y}, {x}) of {shape:?}"
                );
            }
        }
    }
    bits
}

#[test]
fn wrong_formats_and_instruction_sets_panic() {
    let isa = Isa::emulated_amx();
    let weights = (vec![0.0; 4], vec![0.0; 2]);
    let strip = |format| Strip::new(2, layout_of(8, format));
    let conv = PixelConv::new(isa, pointwise(2, &weights));
    let pair = PixelPair::new(isa, pointwise(2, &weights), pointwise(2, &weights));
    let planes = strip(StripFormat::Planes);
    let pixels = strip(StripFormat::Pixels);
    let scratch = &mut Scratch::default();
    panics(&["strip of Planes", "Bf16Pixels"], || {
        let output = &mut strip(StripFormat::Pixels);
        conv.run(&planes, output, Epilogue::Store, scratch);
    });
    panics(&["strip of Planes", "Pixels"], || {
        pair.run(
            &pixels,
            &mut strip(StripFormat::Planes),
            &mut Scratch::default(),
        );
    });
    panics(&["conversion of strips", "Bf16Pixels"], || {
        convert_strip(isa, &planes, None, &mut strip(StripFormat::Bf16Pixels));
    });
    panics(&["strip of Pixels", "Planes"], || {
        pixels.row(0, 0);
    });
    panics(&["reference", "no tiles"], || {
        PixelConv::new(Isa::REFERENCE, pointwise(2, &weights));
    });
    // Kernels of planes, whose pointers would be wrong.
    let conv = StripConv::new(Isa::REFERENCE, Precision::F32, pointwise(2, &weights));
    panics(&["strip of Pixels", "Planes"], || {
        let output = &mut strip(StripFormat::Planes);
        conv.run(&pixels, output, Epilogue::Store, &mut Scratch::default());
    });
    for isa in Isa::available() {
        let conv = StripConv::new(isa, Precision::F32, pointwise(2, &weights));
        panics(&["strip of Pixels", "Planes"], || {
            let output = &mut strip(StripFormat::Pixels);
            conv.run(&planes, output, Epilogue::Store, &mut Scratch::default());
        });
    }
}
