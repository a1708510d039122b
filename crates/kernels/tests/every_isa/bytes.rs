//! Kernels of bytes on every instruction set: the very bits of loops in integers, which round as the definition says.

use wdsr_kernels::{
    ByteConv, ByteLayer, BytePair, ByteScale, Epilogue, Isa, Scratch, Strip, StripFormat,
    StripLayout, quantize_strip,
};

use crate::invalid_arguments::panics;
use crate::strips::{Maps, PLACES, layout, pixels, used};
use crate::{is_tested, values};

/// Steps of bytes, some of them so small that values reach both ends of the range.
struct Steps {
    steps: Vec<f32>,
    is_signed: bool,
}

impl Steps {
    fn random(channels: usize, seed: u32, is_signed: bool) -> Self {
        let steps = values(channels, seed).into_iter();
        Self {
            steps: steps.map(|v| 0.009 + 0.005 * v).collect(),
            is_signed,
        }
    }

    fn scale(&self) -> ByteScale {
        ByteScale::new(&self.steps, self.is_signed)
    }

    fn zero(&self) -> i64 {
        if self.is_signed { 128 } else { 0 }
    }

    /// The byte of a value, less the byte of 0.
    fn level(&self, channel: usize, value: f32) -> i64 {
        let byte = value.mul_add(1.0 / self.steps[channel], self.zero() as f32);
        (byte.round_ties_even() as i64).clamp(0, 255) - self.zero()
    }
}

/// A convolution of random 8-bit weights.
struct Layer {
    shape: [usize; 3],
    weight: Vec<i8>,
    steps: Vec<f32>,
    bias: Vec<f32>,
}

impl Layer {
    fn random(in_channels: usize, out_channels: usize, kernel: usize, seed: u32) -> Self {
        let taps = kernel * kernel;
        let weight = values(out_channels * in_channels * taps, seed).into_iter();
        // By lanes of four channels: any weights, short pairs, and those whose sums in two lanes are short.
        let weight = weight.enumerate().map(|(at, w)| {
            let size = [129.0, 64.9, 32.9][at / taps % in_channels / 4 % 3];
            (w * size) as i8
        });
        let size = 0.02 / (in_channels as f32 * taps as f32).sqrt();
        let steps = values(out_channels, seed + 1).into_iter();
        Self {
            shape: [in_channels, out_channels, kernel],
            // Both ends of the range of weights are among them.
            weight: weight.collect(),
            steps: steps.map(|v| size * (1.5 + v)).collect(),
            bias: values(out_channels, seed + 2),
        }
    }

    fn layer(&self) -> ByteLayer<'_> {
        let [in_channels, out_channels, kernel] = self.shape;
        ByteLayer {
            in_channels,
            out_channels,
            kernel,
            weight: &self.weight,
            weight_steps: &self.steps,
            bias: &self.bias,
        }
    }

    /// The sum of an output channel whose kernel covers `level(channel, ky, kx)`.
    fn sum(&self, o: usize, level: impl Fn(usize, isize, isize) -> i64) -> f32 {
        let [in_channels, _, kernel] = self.shape;
        let reach = (kernel / 2) as isize;
        let mut sum = 0;
        for i in 0..in_channels {
            for ky in 0..kernel {
                for kx in 0..kernel {
                    let weight = self.weight[((o * in_channels + i) * kernel + ky) * kernel + kx];
                    sum += i64::from(weight) * level(i, ky as isize - reach, kx as isize - reach);
                }
            }
        }
        sum as f32
    }

    /// The value in f32 of a sum.
    fn value(&self, o: usize, sum: f32) -> f32 {
        sum.mul_add(self.steps[o], self.bias[o])
    }

    /// The level in bytes of a sum.
    fn level(&self, o: usize, sum: f32, output: &Steps) -> i64 {
        let inverse = 1.0 / output.steps[o];
        let term = self.bias[o].mul_add(inverse, output.zero() as f32);
        let byte = sum.mul_add(self.steps[o] * inverse, term);
        (byte.round_ties_even() as i64).clamp(0, 255) - output.zero()
    }
}

fn layout_of(width_px: usize, format: StripFormat) -> StripLayout {
    StripLayout {
        format,
        ..layout(width_px)
    }
}

/// The strip from row `first_row` on in bytes, with the rows above it.
fn strip_of_bytes(isa: Isa, maps: &Maps, first_row: isize, scale: &ByteScale) -> Strip {
    let mut strip = Strip::new(maps.channels, layout_of(maps.width, scale.format()));
    maps.fill(&mut strip, first_row, |strip, first_row| {
        quantize_strip(isa, &maps.strip(first_row), scale, strip);
    });
    strip
}

/// A strip for results, with the pixels of an earlier image.
fn used_bytes(
    [channels, height, width]: [usize; 3],
    first_row: isize,
    format: StripFormat,
) -> Strip {
    if format == StripFormat::Planes {
        return used([channels, height, width], first_row);
    }
    let earlier = Maps::random([channels, 20, width], 9);
    let scale = ByteScale::new(&vec![0.01; channels], format == StripFormat::SignedBytes);
    let mut strip = strip_of_bytes(Isa::REFERENCE, &earlier, 0, &scale);
    strip.place(0..width, first_row, height);
    strip
}

/// The levels of a strip of bytes as planes.
fn levels(strip: &Strip, first_row: isize, height: usize) -> Strip {
    let channels = strip.channels();
    let mut weight = vec![0; channels * channels];
    weight.iter_mut().step_by(channels + 1).for_each(|w| *w = 1);
    let layer = ByteLayer {
        in_channels: channels,
        out_channels: channels,
        kernel: 1,
        weight: &weight,
        weight_steps: &vec![1.0; channels],
        bias: &vec![0.0; channels],
    };
    let is_signed = strip.layout().format == StripFormat::SignedBytes;
    let scale = ByteScale::new(&vec![1.0; channels], is_signed);
    let mut planes = used([channels, height, strip.width_px()], first_row);
    ByteConv::new(Isa::REFERENCE, &scale, layer, None).run(
        strip,
        &mut planes,
        Epilogue::Store,
        &mut Scratch::default(),
    );
    planes
}

/// The next convolution reads two pixels beyond each edge, which have the level 0.
fn outside_is_zero(isa: Isa, output: &Strip, first_row: isize, height: usize) {
    let (channels, width) = (output.channels(), output.width_px());
    let inside = levels(output, first_row, height);
    let layer = ByteLayer {
        in_channels: channels,
        out_channels: 1,
        kernel: 5,
        weight: &vec![1; channels * 25],
        weight_steps: &[1.0],
        bias: &[0.0],
    };
    let is_signed = output.layout().format == StripFormat::SignedBytes;
    let scale = ByteScale::new(&vec![1.0; channels], is_signed);
    let mut output = output.clone();
    output.set_rows_above(None);
    let mut sums = Strip::new(1, layout(width));
    sums.place(0..width, first_row - 2, height);
    ByteConv::new(Isa::REFERENCE, &scale, layer, None).run(
        &output,
        &mut sums,
        Epilogue::Store,
        &mut Scratch::default(),
    );
    let rows = inside.rows();
    for y in sums.rows() {
        for x in [0, width - 1] {
            let mut expected = 0.0;
            for channel in 0..channels {
                for py in rows.start.max(y.saturating_sub(2))..rows.end.min(y + 3) {
                    for px in x.saturating_sub(2)..width.min(x + 3) {
                        expected += inside.row(channel, py)[px];
                    }
                }
            }
            assert_eq!(
                sums.row(0, y)[x],
                expected,
                "beside {width} x {height} on {isa}, at ({y}, {x})"
            );
        }
    }
}

pub(crate) fn quantizations(isa: Isa) {
    for channels in [1, 3, 4, 25, 32] {
        for (place, width) in [1, 7, 16, 33, 70].into_iter().enumerate() {
            let (first_row, height) = PLACES[place];
            for is_signed in [false, true] {
                let steps = Steps::random(channels, 1, is_signed);
                let maps = Maps::random([channels, height, width], 2);
                let bytes = strip_of_bytes(isa, &maps, first_row, &steps.scale());
                let found = levels(&bytes, first_row, height);
                for (c, y, x) in pixels(&found) {
                    let expected = steps.level(c, maps.at(c, y as isize, x as isize)) as f32;
                    assert_eq!(found.row(c, y)[x], expected, "({c}, {y}, {x}) on {isa}");
                }
                outside_is_zero(isa, &bytes, first_row, height);
            }
        }
    }
    // Beyond the range, and no numbers.
    let cases = [
        (1e30, 127.0),
        (-1e30, -128.0),
        (f32::INFINITY, 127.0),
        (f32::NAN, -128.0),
        (1.5, 2.0),
        (2.5, 2.0),
    ];
    for (value, expected) in cases {
        let mut planes = Strip::new(1, layout(1));
        planes.row_mut(0, 0)[0] = value;
        let mut bytes = Strip::new(1, layout_of(1, StripFormat::SignedBytes));
        quantize_strip(isa, &planes, &ByteScale::new(&[1.0], true), &mut bytes);
        let height = planes.layout().rows;
        assert_eq!(
            levels(&bytes, 0, height).row(0, 0)[0],
            expected,
            "{value} on {isa}"
        );
    }
}

pub(crate) fn convolutions(isa: Isa) {
    for kernel in [1_usize, 3, 5] {
        for (inputs, outputs) in [
            (1, 1),
            (3, 5),
            (8, 8),
            (13, 25),
            (25, 32),
            (32, 12),
            (70, 40),
        ] {
            for (place, width) in [1, 7, 33, 64, 65, 130].into_iter().enumerate() {
                let (first_row, height) = PLACES[place];
                let multiply_adds = inputs * outputs * kernel * kernel * width * layout(width).rows;
                if !is_tested(isa, multiply_adds) || multiply_adds > 6_000_000 {
                    continue;
                }
                let reach = (kernel / 2) as isize;
                let steps = Steps::random(inputs, 1, place % 2 == 0);
                let layer = Layer::random(inputs, outputs, kernel, 3);
                let maps = Maps::random([inputs, height, width], 6);
                let input = strip_of_bytes(isa, &maps, first_row, &steps.scale());
                let (shape, output_row) = ([outputs, height, width], first_row - reach);
                let places = pixels(&used(shape, output_row));
                let sum = |&(o, y, x): &(usize, usize, usize)| {
                    layer.sum(o, |i, ky, kx| {
                        steps.level(i, maps.at(i, y as isize + ky, x as isize + kx))
                    })
                };
                let sums = Vec::from_iter(places.iter().map(sum));
                let terms = Maps::random(shape, 7);
                let term = terms.strip(output_row + 1);
                let slopes = values(outputs, 8);
                let conv = ByteConv::new(isa, &steps.scale(), layer.layer(), None);
                for (name, epilogue) in [
                    ("store", Epilogue::Store),
                    ("relu", Epilogue::Relu),
                    ("prelu", Epilogue::PRelu(&slopes)),
                    ("add", Epilogue::Add(&term)),
                ] {
                    let mut output = used(shape, output_row);
                    conv.run(&input, &mut output, epilogue, &mut Scratch::default());
                    for (&(o, y, x), &sum) in places.iter().zip(&sums) {
                        let value = layer.value(o, sum);
                        let expected = match epilogue {
                            Epilogue::Relu => value.max(0.0),
                            Epilogue::PRelu(slopes) => {
                                slopes[o].mul_add(value.min(0.0), value.max(0.0))
                            }
                            Epilogue::Add(_) => value + terms.at(o, y as isize, x as isize),
                            _ => value,
                        };
                        assert_eq!(
                            output.row(o, y)[x],
                            expected,
                            "{name} {inputs} -> {outputs} {kernel}x{kernel} at ({y}, {x}) of {width} on {isa}"
                        );
                    }
                }
                for is_signed in [false, true] {
                    let to = Steps::random(outputs, 2, is_signed);
                    let conv = ByteConv::new(isa, &steps.scale(), layer.layer(), Some(&to.scale()));
                    let mut output = used_bytes(shape, output_row, to.scale().format());
                    conv.run(
                        &input,
                        &mut output,
                        Epilogue::Store,
                        &mut Scratch::default(),
                    );
                    let found = levels(&output, output_row, height);
                    for (&(o, y, x), &sum) in places.iter().zip(&sums) {
                        assert_eq!(
                            found.row(o, y)[x],
                            layer.level(o, sum, &to) as f32,
                            "bytes {inputs} -> {outputs} {kernel}x{kernel} at ({y}, {x}) of {width} on {isa}"
                        );
                    }
                    outside_is_zero(isa, &output, output_row, height);
                }
            }
        }
    }
}

pub(crate) fn pairs(isa: Isa) {
    for (inputs, wide, outputs) in [(1, 1, 1), (3, 7, 2), (6, 24, 13), (32, 192, 25)] {
        for (place, width) in [1, 15, 33, 64, 70].into_iter().enumerate() {
            let (first_row, height) = PLACES[place];
            if !is_tested(isa, (inputs + outputs) * wide * width * layout(width).rows) {
                continue;
            }
            let steps = Steps::random(inputs, 1, true);
            let hidden = Steps::random(wide, 2, false);
            let to = Steps::random(outputs, 3, true);
            let expand = Layer::random(inputs, wide, 1, 4);
            let reduce = Layer::random(wide, outputs, 1, 7);
            let maps = Maps::random([inputs, height, width], 10);
            let input = maps.strip(first_row);
            let sum = |y: usize, x: usize| {
                let levels: Vec<i64> = (0..wide)
                    .map(|h| {
                        let level = |i: usize, _: isize, _: isize| {
                            steps.level(i, maps.at(i, y as isize, x as isize))
                        };
                        expand.level(h, expand.sum(h, level), &hidden)
                    })
                    .collect();
                let sums = (0..outputs).map(|o| reduce.sum(o, |h, _, _| levels[h]));
                sums.collect::<Vec<f32>>()
            };
            // A row further up.
            let (shape, output_row) = ([outputs, height, width], first_row - 1);
            for output_scale in [None, Some(to.scale())] {
                let pair = BytePair::new(
                    isa,
                    &steps.scale(),
                    expand.layer(),
                    &hidden.scale(),
                    reduce.layer(),
                    output_scale.as_ref(),
                );
                let format = output_scale
                    .as_ref()
                    .map_or(StripFormat::Planes, |to| to.format());
                let mut output = used_bytes(shape, output_row, format);
                pair.run(&input, &mut output, &mut Scratch::default());
                let found = match output_scale {
                    Some(_) => {
                        outside_is_zero(isa, &output, output_row, height);
                        levels(&output, output_row, height)
                    }
                    None => output,
                };
                for y in found.rows() {
                    for x in 0..width {
                        for (o, sum) in sum(y, x).into_iter().enumerate() {
                            let expected = match output_scale {
                                Some(_) => reduce.level(o, sum, &to) as f32,
                                None => reduce.value(o, sum),
                            };
                            assert_eq!(
                                found.row(o, y)[x],
                                expected,
                                "pair {inputs} -> {wide} -> {outputs} at ({y}, {x}) of {width} on {isa}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Results far beyond the range of integers become 0 or 255 everywhere.
pub(crate) fn extreme_steps(isa: Isa) {
    let layer = Layer::random(8, 4, 3, 1);
    let input = Steps::random(8, 1, true);
    let maps = Maps::random([8, 20, 33], 2);
    for step in [1e-18, 1e-9, 1e9, 1e18] {
        let on = |isa: Isa| {
            let output = ByteScale::new(&[step; 4], true);
            let conv = ByteConv::new(isa, &input.scale(), layer.layer(), Some(&output));
            let bytes = strip_of_bytes(isa, &maps, 0, &input.scale());
            let mut found = used_bytes([4, 20, 33], -1, StripFormat::SignedBytes);
            conv.run(&bytes, &mut found, Epilogue::Store, &mut Scratch::default());
            levels(&found, -1, 20)
        };
        let (found, expected) = (on(isa), on(Isa::REFERENCE));
        for (o, y, x) in pixels(&found) {
            let [found, expected] = [&found, &expected].map(|strip| strip.row(o, y)[x]);
            assert_eq!(found, expected, "step {step} at ({o}, {y}, {x}) on {isa}");
        }
    }
}

/// Bytes of 255 and weights whose products fit 16 bits, or just do not, in one lane and in two.
pub(crate) fn largest_products(isa: Isa) {
    const CHANNELS: usize = 8;
    let pairs: [[i8; 2]; 14] = [
        [64, 64],
        [64, 65],
        [127, 1],
        [127, 2],
        [1, 127],
        [64, 0],
        [65, 0],
        [-64, 0],
        [-65, 0],
        [-64, -64],
        [-64, -65],
        [-128, 0],
        [-128, -1],
        [127, -128],
    ];
    let steps = Steps {
        steps: vec![1.0; CHANNELS],
        is_signed: false,
    };
    let mut input = Strip::new(CHANNELS, layout(7));
    for channel in 0..CHANNELS {
        for y in input.rows() {
            input.row_mut(channel, y).fill(255.0);
        }
    }
    let mut bytes = Strip::new(CHANNELS, layout_of(7, StripFormat::UnsignedBytes));
    quantize_strip(isa, &input, &steps.scale(), &mut bytes);
    let none = [0; 2];
    let of_two = |first, second| {
        [
            [first, second, none, none],
            [first, none, second, none],
            [none, first, none, second],
        ]
    };
    let lanes = pairs
        .iter()
        .flat_map(|a| pairs.iter().flat_map(move |b| of_two(*a, *b)));
    for lanes in lanes {
        let layer = Layer {
            shape: [CHANNELS, 1, 1],
            weight: lanes.concat(),
            steps: vec![1.0],
            bias: vec![0.0],
        };
        let mut output = Strip::new(1, layout(7));
        let conv = ByteConv::new(isa, &steps.scale(), layer.layer(), None);
        conv.run(
            &bytes,
            &mut output,
            Epilogue::Store,
            &mut Scratch::default(),
        );
        let expected = layer.sum(0, |_, _, _| 255);
        for (o, y, x) in pixels(&output) {
            assert_eq!(output.row(o, y)[x], expected, "{lanes:?} on {isa}");
        }
    }
}

/// Tiles in plain Rust; those of AMX are among the instruction sets, if `WDSR_ISA` names them.
#[test]
fn tiles_have_the_bits_of_the_definition() {
    let isa = Isa::emulated_amx();
    quantizations(isa);
    convolutions(isa);
    pairs(isa);
    extreme_steps(isa);
    largest_products(isa);
}

#[test]
fn wrong_scales_and_formats_panic() {
    let layer = Layer::random(2, 2, 1, 1);
    let signed = ByteScale::new(&[1.0; 2], true);
    panics(&["step of bytes", "-1"], || {
        ByteScale::new(&[-1.0], true);
    });
    panics(&["sums of bytes", "70000 channels"], || {
        let wide = Layer::random(70_000, 1, 1, 1);
        let scale = ByteScale::new(&vec![1.0; 70_000], true);
        ByteConv::new(Isa::REFERENCE, &scale, wide.layer(), None);
    });
    panics(&["format of the wide activation"], || {
        let (first, second) = (layer.layer(), layer.layer());
        BytePair::new(Isa::REFERENCE, &signed, first, &signed, second, None);
    });
    for isa in Isa::available() {
        let strip = |format| Strip::new(2, layout_of(8, format));
        let conv = ByteConv::new(isa, &signed, layer.layer(), None);
        let output = || strip(StripFormat::Planes);
        panics(&["strip of UnsignedBytes", "SignedBytes"], || {
            let input = strip(StripFormat::UnsignedBytes);
            conv.run(
                &input,
                &mut output(),
                Epilogue::Store,
                &mut Scratch::default(),
            );
        });
        panics(&["strip of SignedBytes", "Planes"], || {
            let input = strip(StripFormat::SignedBytes);
            quantize_strip(isa, &input, &signed, &mut strip(StripFormat::SignedBytes));
        });
        panics(&["strip of SignedBytes", "Planes"], || {
            strip(StripFormat::SignedBytes).row(0, 0);
        });
        let to_bytes = ByteConv::new(isa, &signed, layer.layer(), Some(&signed));
        panics(&["epilogue of bytes"], || {
            let input = strip(StripFormat::SignedBytes);
            to_bytes.run(
                &input,
                &mut strip(StripFormat::SignedBytes),
                Epilogue::Relu,
                &mut Scratch::default(),
            );
        });
    }
}
