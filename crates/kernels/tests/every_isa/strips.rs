//! Kernels of strips on every instruction set against loops in f64.

use wdsr_kernels::{
    Epilogue, Isa, Precision, STRIP_ROWS, Scratch, Strip, StripConv, StripPair, Window,
};

use crate::{
    BF16_PRODUCT, WINOGRAD_AMPLIFICATION, bf16_tolerance, is_misread_by_bochs, rounded, tolerance,
    values, wanted,
};

/// A strip of random pixels whose borders would show if they were read: they stay zero.
fn strip(channels: usize, width: usize, rows: usize, seed: u32) -> Strip {
    let mut strip = Strip::zeros(channels, width, rows);
    let values = values(channels * width * rows, seed);
    for (index, row) in values.chunks_exact(width).enumerate() {
        strip
            .row_mut(index / rows, index % rows)
            .copy_from_slice(row);
    }
    strip
}

/// A strip as a kernel may find it: full of what an earlier picture left.
fn used(channels: usize, width: usize, rows: usize) -> Strip {
    let mut strip = Strip::zeros(channels, width, STRIP_ROWS);
    for channel in 0..channels {
        for y in 0..STRIP_ROWS {
            strip.row_mut(channel, y).fill(f32::NAN);
        }
    }
    strip.place(0..width, rows);
    strip
}

fn pixel(strips: [&Strip; 3], channel: usize, y: isize, x: isize) -> f64 {
    let y = (y + STRIP_ROWS as isize) as usize;
    let strip = strips[y / STRIP_ROWS];
    let inside = y % STRIP_ROWS < strip.rows() && (0..strip.width_px() as isize).contains(&x);
    if inside {
        f64::from(strip.row(channel, y % STRIP_ROWS)[x as usize])
    } else {
        0.0
    }
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
            for (width, rows) in [(1, 1), (7, 4), (16, 2), (33, 3), (64, 4), (65, 4), (130, 1)] {
                if !wanted(inputs * outputs * kernel * kernel * width * rows) {
                    continue;
                }
                let taps = kernel * kernel;
                let weight = values(outputs * inputs * taps, 1);
                let bias = values(outputs, 2);
                let conv = StripConv::new(isa, precision, &weight, &bias, inputs, outputs, kernel);
                let above = strip(inputs, width, STRIP_ROWS, 3);
                let centre = strip(inputs, width, rows, 4);
                // Below a strip that is not full the picture has ended.
                let below = if rows == STRIP_ROWS {
                    strip(inputs, width, 2, 5)
                } else {
                    Strip::zeros(inputs, width, STRIP_ROWS)
                };
                let term = strip(outputs, width, rows, 6);
                let before = strip(outputs, width, rows, 7);
                let mut scratch = Scratch::default();
                for (name, epilogue) in [
                    ("store", Epilogue::Store),
                    ("relu", Epilogue::Relu),
                    ("add", Epilogue::Add(&term)),
                    ("accumulate", Epilogue::Accumulate),
                    ("where positive", Epilogue::WherePositive(&term)),
                ] {
                    let mut output = match epilogue {
                        Epilogue::Accumulate => before.clone(),
                        _ => used(outputs, width, rows),
                    };
                    let window = Window {
                        above: &above,
                        centre: &centre,
                        below: &below,
                    };
                    conv.run(window, epilogue, &mut output, &mut scratch);
                    let reach = (kernel / 2) as isize;
                    for o in 0..outputs {
                        for y in 0..rows {
                            for x in 0..width {
                                let mut expected = f64::from(bias[o]);
                                for i in 0..inputs {
                                    for tap in 0..taps {
                                        let ky = (tap / kernel) as isize - reach;
                                        let kx = (tap % kernel) as isize - reach;
                                        let strips = [&above, &centre, &below];
                                        expected +=
                                            f64::from(weight[(o * inputs + i) * taps + tap])
                                                * pixel(
                                                    strips,
                                                    i,
                                                    y as isize + ky,
                                                    x as isize + kx,
                                                );
                                    }
                                }
                                match epilogue {
                                    Epilogue::Store => {}
                                    Epilogue::Relu => expected = expected.max(0.0),
                                    Epilogue::Accumulate => {
                                        expected += f64::from(before.row(o, y)[x]);
                                    }
                                    Epilogue::Add(_) => {
                                        expected += f64::from(term.row(o, y)[x]);
                                    }
                                    Epilogue::WherePositive(_) if term.row(o, y)[x] > 0.0 => {}
                                    Epilogue::WherePositive(_) => expected = 0.0,
                                }
                                let terms = inputs * taps + 2;
                                let many = kernel == 3 && inputs.min(outputs) >= 8;
                                let allowed = if many && precision == Precision::Bf16 {
                                    bf16_tolerance(terms)
                                } else if kernel == 3 {
                                    tolerance(terms) * WINOGRAD_AMPLIFICATION
                                } else {
                                    tolerance(terms)
                                };
                                let found = f64::from(output.row(o, y)[x]);
                                assert!(
                                    (found - expected).abs() <= allowed,
                                    "{name} {inputs} -> {outputs} {kernel}x{kernel} at ({y}, {x}) of \
                                     {width} x {rows} on {isa}: {found}, expected {expected}"
                                );
                            }
                        }
                    }
                    borders_are_zero(isa, &output, kernel);
                }
            }
        }
    }
}

/// The next convolution reads two pixels beyond each edge: a 5x5 kernel of ones over the output
/// sums what is there.
fn borders_are_zero(isa: Isa, output: &Strip, kernel: usize) {
    let (channels, width, rows) = (output.channels(), output.width_px(), output.rows());
    let sum_all = StripConv::new(
        Isa::REFERENCE,
        Precision::F32,
        &vec![1.0; channels * 25],
        &[0.0],
        channels,
        1,
        5,
    );
    let zeros = Strip::zeros(channels, width, STRIP_ROWS);
    let mut sums = Strip::zeros(1, width, rows);
    let window = Window {
        above: &zeros,
        centre: output,
        below: &zeros,
    };
    sum_all.run(window, Epilogue::Store, &mut sums, &mut Scratch::default());
    for y in 0..rows {
        for x in [0, width - 1] {
            let mut expected = 0.0;
            for channel in 0..channels {
                for py in y.saturating_sub(2)..rows.min(y + 3) {
                    for px in x.saturating_sub(2)..width.min(x + 3) {
                        expected += f64::from(output.row(channel, py)[px]);
                    }
                }
            }
            let found = f64::from(sums.row(0, y)[x]);
            let size = 40.0 * tolerance(channels * 25);
            assert!(
                (found - expected).abs() <= size,
                "border after {kernel}x{kernel} of {width} x {rows} on {isa}: {found}, not {expected}"
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
        for (width, rows) in [(1, 1), (15, 4), (32, 2), (33, 3), (70, 4)] {
            if is_misread_by_bochs(precision, outputs)
                || !wanted((inputs + outputs) * wide * width * rows)
            {
                continue;
            }
            let expand = (values(wide * inputs, 1), values(wide, 2));
            let reduce = (values(outputs * wide, 3), values(outputs, 4));
            let pair = StripPair::new(
                isa,
                precision,
                (&expand.0, &expand.1),
                (&reduce.0, &reduce.1),
                inputs,
            );
            let round = |value: f32| f64::from(rounded(precision, value));
            let input = strip(inputs, width, rows, 5);
            let mut output = used(outputs, width, rows);
            pair.run(&input, &mut output, &mut Scratch::default());
            for y in 0..rows {
                for x in 0..width {
                    let hidden: Vec<f64> = (0..wide)
                        .map(|h| {
                            let terms = (0..inputs).map(|i| {
                                round(expand.0[h * inputs + i]) * round(input.row(i, y)[x])
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
                            // A few wide sums may lie so near the middle that the other neighbour
                            // is taken.
                            allowed += 4.0 * BF16_PRODUCT;
                        }
                        assert!(
                            (found - expected).abs() <= size * allowed,
                            "pair {inputs} -> {wide} -> {outputs} at ({y}, {x}) of {width} x {rows} \
                             on {isa}: {found}, expected {expected}"
                        );
                    }
                }
            }
            borders_are_zero(isa, &output, 1);
        }
    }
}
