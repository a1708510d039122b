//! Kernels of strips on every instruction set against loops in f64.

use wdsr_kernels::{
    ConvLayer, Epilogue, Isa, Precision, STRIP_ROWS, Scratch, Strip, StripConv, StripFormat,
    StripLayout, StripPair,
};

use crate::pairs::pointwise;
use crate::{
    BF16_PRODUCT, conv_tolerance, is_misread_by_bochs, is_tested, rounded, tolerance, values,
};

/// Feature maps `[channel][row][column]`.
pub(crate) struct Maps {
    pub(crate) channels: usize,
    height: usize,
    pub(crate) width: usize,
    values: Vec<f32>,
}

impl Maps {
    pub(crate) fn random([channels, height, width]: [usize; 3], seed: u32) -> Self {
        let values = values(channels * height * width, seed);
        Self {
            channels,
            height,
            width,
            values,
        }
    }

    /// Zero outside.
    pub(crate) fn at(&self, channel: usize, y: isize, x: isize) -> f32 {
        let inside = |at: isize, len: usize| (0..len as isize).contains(&at);
        if inside(y, self.height) && inside(x, self.width) {
            let row = channel * self.height + y as usize;
            self.values[row * self.width + x as usize]
        } else {
            0.0
        }
    }

    /// The strip from row `first_row` on, with the rows above it.
    pub(crate) fn strip(&self, first_row: isize) -> Strip {
        let mut strip = Strip::new(self.channels, layout(self.width));
        self.fill(&mut strip, first_row, |strip, _| self.write(strip));
        strip
    }

    /// Places a strip from row `first_row` on and fills it by `write`, which gets its first row, and the rows
    /// above it.
    pub(crate) fn fill(
        &self,
        strip: &mut Strip,
        first_row: isize,
        write: impl Fn(&mut Strip, isize),
    ) {
        let mut above = Vec::new();
        for first_row in [first_row - strip.layout().rows as isize, first_row] {
            strip.place(0..self.width, first_row, self.height);
            write(strip, first_row);
            strip.set_rows_above((!above.is_empty()).then_some(&above));
            strip.copy_last_rows(&mut above);
        }
    }

    /// Writes the rows that a strip of planes has.
    fn write(&self, strip: &mut Strip) {
        for channel in 0..self.channels {
            for y in strip.rows() {
                let row = strip.row_mut(channel, y);
                for (x, pixel) in row.iter_mut().enumerate() {
                    *pixel = self.at(channel, y as isize, x as isize);
                }
            }
        }
    }
}

/// Two groups of rows, and as many rows above as a 5x5 kernel reads with its lag.
pub(crate) fn layout(width_px: usize) -> StripLayout {
    StripLayout {
        width_px,
        margin_px: 0,
        rows: 2 * STRIP_ROWS,
        rows_above: 4,
        format: StripFormat::Planes,
    }
}

/// First row of a strip, and rows of the maps: at the top, in the middle, at the bottom, with rows
/// outside on both sides, and with no row inside.
pub(crate) const PLACES: [(isize, usize); 6] =
    [(0, 20), (-3, 20), (6, 40), (14, 20), (-2, 3), (20, 20)];

/// A strip with the pixels of an earlier image.
pub(crate) fn used([channels, height, width]: [usize; 3], first_row: isize) -> Strip {
    let mut strip = Strip::new(channels, layout(width));
    for channel in 0..channels {
        for y in strip.rows() {
            strip.row_mut(channel, y).fill(f32::NAN);
        }
    }
    strip.place(0..width, first_row, height);
    strip
}

pub(crate) fn convolutions(isa: Isa) {
    convolutions_in(isa, Precision::F32);
}

pub(crate) fn convolutions_of_bf16(isa: Isa) {
    convolutions_in(isa, Precision::Bf16);
}

fn convolutions_in(isa: Isa, precision: Precision) {
    for kernel in [1_usize, 3, 5] {
        for (inputs, outputs) in [(1, 1), (3, 5), (5, 7), (8, 8), (12, 13), (13, 25), (25, 32)] {
            for (place, width) in [1, 7, 16, 33, 64, 65, 130].into_iter().enumerate() {
                let (first_row, height) = PLACES[place % PLACES.len()];
                if !is_tested(
                    isa,
                    inputs * outputs * kernel * kernel * width * layout(width).rows,
                ) {
                    continue;
                }
                let taps = kernel * kernel;
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
                let conv = StripConv::new(isa, precision, layer);
                let maps = Maps::random([inputs, height, width], 4);
                let input = maps.strip(first_row);
                // The output lags by the reach of the kernel at least, its term may lie lower.
                let shape = [outputs, height, width];
                let output_row = first_row - reach;
                let terms = Maps::random(shape, 6);
                let term = terms.strip(output_row + 1);
                let before = Maps::random(shape, 7);
                let slopes = values(outputs, 8);
                let mut scratch = Scratch::default();
                let places = pixels(&used(shape, output_row));
                let sums = conv_sums(layer, &maps, &places, f64::from);
                for (name, epilogue) in [
                    ("store", Epilogue::Store),
                    ("relu", Epilogue::Relu),
                    ("prelu", Epilogue::PRelu(&slopes)),
                    ("add", Epilogue::Add(&term)),
                    ("add, prelu", Epilogue::AddPRelu(&term, &slopes)),
                    ("accumulate", Epilogue::Accumulate),
                    ("where positive", Epilogue::WherePositive(&term)),
                ] {
                    let mut output = match epilogue {
                        Epilogue::Accumulate => before.strip(output_row),
                        _ => used(shape, output_row),
                    };
                    conv.run(&input, &mut output, epilogue, &mut scratch);
                    for (&(o, y, x), &sum) in places.iter().zip(&sums) {
                        let (row, column) = (y as isize, x as isize);
                        let mut expected = sum;
                        let other = f64::from(terms.at(o, row, column));
                        match epilogue {
                            Epilogue::Store => {}
                            Epilogue::Relu => expected = expected.max(0.0),
                            Epilogue::PRelu(slopes) if expected < 0.0 => {
                                expected *= f64::from(slopes[o]);
                            }
                            Epilogue::PRelu(_) => {}
                            Epilogue::Accumulate => {
                                expected += f64::from(before.at(o, row, column));
                            }
                            Epilogue::Add(_) => expected += other,
                            Epilogue::AddPRelu(_, slopes) => {
                                expected += other;
                                expected *= match expected < 0.0 {
                                    true => f64::from(slopes[o]),
                                    false => 1.0,
                                };
                            }
                            Epilogue::WherePositive(_) if other > 0.0 => {}
                            Epilogue::WherePositive(_) => expected = 0.0,
                        }
                        let allowed = conv_tolerance(layer, inputs * taps + 2, precision);
                        let found = f64::from(output.row(o, y)[x]);
                        assert!(
                            (found - expected).abs() <= allowed,
                            "{name} {inputs} -> {outputs} {kernel}x{kernel} at ({y}, {x}) of {width} x \
                             {height}, strip at {output_row}, on {isa}: {found}, expected {expected}"
                        );
                    }
                    outside_is_zero(isa, &output, output_row, height);
                }
            }
        }
    }
}

/// Beside convolutions of bytes, those in f32 have the bits of the plain loops.
pub(crate) fn direct_sums(isa: Isa) {
    for (inputs, outputs, kernel) in [(3, 32, 3), (3, 12, 5), (13, 9, 3)] {
        let weight = values(outputs * inputs * kernel * kernel, 1);
        let bias = values(outputs, 2);
        let layer = ConvLayer {
            in_channels: inputs,
            out_channels: outputs,
            kernel,
            weight: &weight,
            bias: &bias,
        };
        for width in [7, 65] {
            let input = Maps::random([inputs, 20, width], 4).strip(0);
            let on = |isa: Isa| {
                let conv = StripConv::new(isa, Precision::Int8, layer);
                let mut output = used([outputs, 20, width], -2);
                conv.run(
                    &input,
                    &mut output,
                    Epilogue::Store,
                    &mut Scratch::default(),
                );
                output
            };
            let (found, expected) = (on(isa), on(Isa::REFERENCE));
            for (o, y, x) in pixels(&found) {
                let [found, expected] = [&found, &expected].map(|strip| strip.row(o, y)[x]);
                assert_eq!(
                    found.to_bits(),
                    expected.to_bits(),
                    "({o}, {y}, {x}) on {isa}"
                );
            }
        }
    }
}

/// The sums of a convolution in f64, at places of the output: channel, row and column. `round` rounds weights and pixels.
pub(crate) fn conv_sums(
    layer: ConvLayer<'_>,
    maps: &Maps,
    places: &[(usize, usize, usize)],
    round: impl Fn(f32) -> f64,
) -> Vec<f64> {
    let (inputs, kernel, taps) = (layer.in_channels, layer.kernel, layer.kernel * layer.kernel);
    let reach = (kernel / 2) as isize;
    let sum = |&(o, y, x): &(usize, usize, usize)| {
        let mut sum = f64::from(layer.bias[o]);
        for i in 0..inputs {
            for tap in 0..taps {
                let ky = (tap / kernel) as isize - reach;
                let kx = (tap % kernel) as isize - reach;
                sum += round(layer.weight[(o * inputs + i) * taps + tap])
                    * round(maps.at(i, y as isize + ky, x as isize + kx));
            }
        }
        sum
    };
    places.iter().map(sum).collect()
}

/// Channel, row and column of each pixel of a strip.
pub(crate) fn pixels(strip: &Strip) -> Vec<(usize, usize, usize)> {
    let mut all = Vec::new();
    for channel in 0..strip.channels() {
        for y in strip.rows() {
            all.extend((0..strip.width_px()).map(|x| (channel, y, x)));
        }
    }
    all
}

/// The next convolution reads two pixels beyond each edge: a 5x5 kernel of ones over the output
/// sums what is there. Its sums lie as far up as the rows above the output allow.
fn outside_is_zero(isa: Isa, output: &Strip, first_row: isize, height: usize) {
    let (channels, width) = (output.channels(), output.width_px());
    let layer = ConvLayer {
        in_channels: channels,
        out_channels: 1,
        kernel: 5,
        weight: &vec![1.0; channels * 25],
        bias: &[0.0],
    };
    let sum_all = StripConv::new(Isa::REFERENCE, Precision::F32, layer);
    let mut output = output.clone();
    output.set_rows_above(None);
    let mut sums = Strip::new(1, layout(width));
    sums.place(0..width, first_row - 2, height);
    sum_all.run(&output, &mut sums, Epilogue::Store, &mut Scratch::default());
    let rows = output.rows();
    for y in sums.rows() {
        for x in [0, width - 1] {
            let mut expected = 0.0;
            for channel in 0..channels {
                for py in rows.start.max(y.saturating_sub(2))..rows.end.min(y + 3) {
                    for px in x.saturating_sub(2)..width.min(x + 3) {
                        expected += f64::from(output.row(channel, py)[px]);
                    }
                }
            }
            let found = f64::from(sums.row(0, y)[x]);
            let size = 40.0 * tolerance(channels * 25);
            assert!(
                (found - expected).abs() <= size,
                "beside {width} x {height} on {isa}, at ({y}, {x}): {found}, expected {expected}"
            );
        }
    }
}

pub(crate) fn pairs(isa: Isa) {
    pairs_in(isa, Precision::F32);
}

pub(crate) fn pairs_of_bf16(isa: Isa) {
    pairs_in(isa, Precision::Bf16);
}

fn pairs_in(isa: Isa, precision: Precision) {
    for (inputs, wide, outputs) in [(1, 1, 1), (3, 7, 2), (6, 24, 13), (32, 192, 25)] {
        for (place, width) in [1, 15, 32, 33, 70].into_iter().enumerate() {
            let (first_row, height) = PLACES[place];
            if is_misread_by_bochs(precision, outputs)
                || !is_tested(isa, (inputs + outputs) * wide * width * layout(width).rows)
            {
                continue;
            }
            let expand = (values(wide * inputs, 1), values(wide, 2));
            let reduce = (values(outputs * wide, 3), values(outputs, 4));
            let (first, second) = (pointwise(inputs, &expand), pointwise(wide, &reduce));
            let pair = StripPair::new(isa, precision, first, second);
            let round = |value: f32| f64::from(rounded(precision, value));
            let maps = Maps::random([inputs, height, width], 5);
            // A row further up.
            let mut output = used([outputs, height, width], first_row - 1);
            let input = maps.strip(first_row);
            pair.run(&input, &mut output, &mut Scratch::default());
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
                        let expected = f64::from(reduce.1[o])
                            + terms
                                .map(|(h, v)| round(reduce.0[o * wide + h]) * v)
                                .sum::<f64>();
                        let found = f64::from(output.row(o, y)[x]);
                        let mut allowed = tolerance(wide + inputs + 2);
                        if precision == Precision::Bf16 {
                            // A few wide sums may lie so near the middle between two bf16 that
                            // they are rounded to the other one.
                            allowed += 4.0 * BF16_PRODUCT;
                        }
                        assert!(
                            (found - expected).abs() <= size * allowed,
                            "pair {inputs} -> {wide} -> {outputs} at ({y}, {x}) of {width} x {height} \
                             on {isa}: {found}, expected {expected}"
                        );
                    }
                }
            }
            outside_is_zero(isa, &output, first_row - 1, height);
        }
    }
}
