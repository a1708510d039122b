//! Arguments that would make kernels read or write beyond their memory must panic, on every
//! instruction set, and sizes that overflow must not wrap.

use std::panic::{AssertUnwindSafe, catch_unwind};

use wdsr_kernels::{
    ConvGradients, ConvLayer, Epilogue, Isa, PairGradients, Planes, PlanesConv, PlanesPair,
    Precision, STRIP_ROWS, Scratch, Strip, StripConv, StripFormat, StripLayout, StripPair,
    pixel_shuffle,
};

use crate::pairs::pointwise;
use crate::{planes, values};

const LAYOUT: StripLayout = StripLayout {
    width_px: 8,
    margin_px: 0,
    rows: STRIP_ROWS,
    rows_above: 4,
    format: StripFormat::Planes,
};

/// Asserts that a call panics with a message that contains all of `parts`.
pub(crate) fn panics(parts: &[&str], call: impl FnOnce()) {
    let payload = catch_unwind(AssertUnwindSafe(call)).expect_err("expected a panic");
    let message = payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_default();
    for part in parts {
        assert!(message.contains(part), "`{message}` does not name {part}");
    }
}

fn layer<'a>(
    [in_channels, out_channels, kernel]: [usize; 3],
    weight: &'a [f32],
    bias: &'a [f32],
) -> ConvLayer<'a> {
    ConvLayer {
        in_channels,
        out_channels,
        kernel,
        weight,
        bias,
    }
}

pub(crate) fn panic_with_both_values(isa: Isa) {
    for precision in [Precision::F32, Precision::Bf16] {
        planes_conv(isa, precision);
        planes_pair(isa, precision);
        strips(isa, precision);
    }
}

fn planes_conv(isa: Isa, precision: Precision) {
    let (weight, bias) = (values(9 * 8 * 9, 1), values(9, 2));
    let conv = PlanesConv::new(isa, precision, layer([8, 9, 3], &weight, &bias));
    let (input, gradient) = (planes(8, 7, 6, 3), planes(9, 7, 6, 4));
    let scratch = &mut Scratch::default();

    for (parts, input, mut output) in [
        (["8", "7"], planes(7, 7, 6, 5), planes(9, 7, 6, 6)),
        (["9", "8"], planes(8, 7, 6, 5), planes(8, 7, 6, 6)),
        (
            ["width_px: 7", "width_px: 6"],
            planes(8, 7, 6, 5),
            planes(9, 6, 6, 6),
        ),
        (
            ["height_px: 6", "height_px: 5"],
            planes(8, 7, 6, 5),
            planes(9, 7, 5, 6),
        ),
    ] {
        panics(&parts, || {
            conv.forward(&input, &mut output, Epilogue::Store, scratch);
        });
    }
    for slopes in [8, 10] {
        let mut output = planes(9, 7, 6, 6);
        panics(&["slopes, output channels"], || {
            conv.forward(
                &input,
                &mut output,
                Epilogue::PRelu(&vec![0.5; slopes]),
                scratch,
            );
        });
    }
    for maps in [planes(1, 7, 6, 5), planes(9, 7, 5, 5), planes(9, 6, 6, 5)] {
        let mut output = planes(9, 7, 6, 6);
        panics(&["maps of the epilogue"], || {
            conv.forward(&input, &mut output, Epilogue::Add(&maps), scratch);
        });
        let mut by_input = planes(8, 7, 6, 6);
        panics(&["maps of the epilogue"], || {
            let epilogue = Epilogue::WherePositive(&maps);
            conv.backward_input(&gradient, &mut by_input, epilogue, scratch);
        });
    }
    for (weight_len, bias_len) in [(9 * 8 * 9 - 1, 9), (9 * 8 * 9, 8)] {
        let (mut weight, mut bias) = (vec![0.0; weight_len], vec![0.0; bias_len]);
        panics(&["left", "right"], || {
            let gradients = ConvGradients {
                weight: &mut weight,
                bias: &mut bias,
            };
            conv.backward_weight(&input, &gradient, gradients, scratch);
        });
    }
    let (mut weight, mut bias) = (weight.clone(), bias.clone());
    panics(&["input channels", "9", "8"], || {
        let gradients = ConvGradients {
            weight: &mut weight,
            bias: &mut bias,
        };
        conv.backward_weight(&gradient, &gradient, gradients, scratch);
    });
    panics(&["kernel 2"], || {
        PlanesConv::new(isa, precision, layer([1, 1, 2], &[1.0; 4], &[1.0]));
    });
    // The number of weights would wrap to 0.
    panics(&["weights", "channels"], || {
        let half = 1 << (usize::BITS / 2);
        PlanesConv::new(isa, precision, layer([half, half, 1], &[], &[]));
    });
}

fn planes_pair(isa: Isa, precision: Precision) {
    let (inputs, wide, outputs) = (8, 24, 5);
    let expand = (values(wide * inputs, 1), values(wide, 2));
    let reduce = (values(outputs * wide, 3), values(outputs, 4));
    let (first, second) = (pointwise(inputs, &expand), pointwise(wide, &reduce));
    let pair = PlanesPair::new(isa, precision, first, second);
    let input = planes(inputs, 8, 8, 5);
    let output_gradient = planes(outputs, 8, 8, 6);
    let scratch = &mut Scratch::default();
    let lengths = [wide * inputs, wide, outputs * wide, outputs];
    let mut backward = |by_output: &Planes,
                        by_input: &mut Planes,
                        epilogue: Epilogue<'_, Planes>,
                        lengths: [usize; 4]| {
        let [mut a, mut b, mut c, mut d] = lengths.map(|len| vec![0.0; len]);
        let gradients = PairGradients {
            expand: &mut a,
            expand_bias: &mut b,
            reduce: &mut c,
            reduce_bias: &mut d,
        };
        pair.backward(&input, by_output, by_input, epilogue, gradients, scratch);
    };
    for maps in [planes(1, 8, 8, 7), planes(inputs, 8, 7, 7)] {
        for epilogue in [Epilogue::Add(&maps), Epilogue::WherePositive(&maps)] {
            panics(&["maps of the epilogue"], || {
                let mut by_input = planes(inputs, 8, 8, 8);
                backward(&output_gradient, &mut by_input, epilogue, lengths);
            });
        }
    }
    for mut by_input in [planes(1, 8, 8, 8), planes(inputs, 7, 8, 8)] {
        panics(&["input gradient and input"], || {
            backward(&output_gradient, &mut by_input, Epilogue::Store, lengths);
        });
    }
    for by_output in [planes(1, 8, 8, 8), planes(outputs, 7, 8, 8)] {
        panics(&["output", "left", "right"], || {
            let mut by_input = planes(inputs, 8, 8, 8);
            backward(&by_output, &mut by_input, Epilogue::Store, lengths);
        });
    }
    for shorter in 0..4 {
        let mut lengths = lengths;
        lengths[shorter] -= 1;
        panics(&["gradients by the weights"], || {
            let mut by_input = planes(inputs, 8, 8, 8);
            backward(&output_gradient, &mut by_input, Epilogue::Store, lengths);
        });
    }
    panics(&["channels between", "24", "23"], || {
        let reduce = (values(outputs * 23, 3), values(outputs, 4));
        PlanesPair::new(isa, precision, first, pointwise(23, &reduce));
    });
    panics(&["kernels of a pair", "[1, 3]"], || {
        let weight = values(wide * 9, 3);
        StripPair::new(isa, precision, first, layer([wide, 1, 3], &weight, &[0.0]));
    });
}

fn strips(isa: Isa, precision: Precision) {
    let (weight, bias) = (values(9 * 8 * 9, 1), values(9, 2));
    let conv = StripConv::new(isa, precision, layer([8, 9, 3], &weight, &bias));
    let scratch = &mut Scratch::default();
    let strip = |channels, layout, columns, first_row| {
        let mut strip = Strip::new(channels, layout);
        strip.place(columns, first_row, 40);
        strip
    };
    let input = strip(8, LAYOUT, 0..8, 8);
    let wider = StripLayout {
        width_px: 9,
        ..LAYOUT
    };
    let higher = StripLayout {
        rows: 2 * STRIP_ROWS,
        ..LAYOUT
    };
    for (parts, mut output) in [
        (["output channels", "8"], strip(8, LAYOUT, 0..8, 7)),
        (["layout", "width_px: 9"], strip(9, wider, 0..8, 7)),
        (["layout", "rows: 8"], strip(9, higher, 0..8, 7)),
        // Rows that the input does not hold: below it, and too far above it.
        (["rows from 8", "from 8"], strip(9, LAYOUT, 0..8, 8)),
        (["rows from 4", "from 8"], strip(9, LAYOUT, 0..8, 4)),
        (["rows from", "from 8"], strip(9, LAYOUT, 0..8, isize::MIN)),
        (["rows from", "from 8"], strip(9, LAYOUT, 0..8, isize::MAX)),
        // Columns that it does not hold: to the right, and too far to the left.
        (["columns 1..9", "0..8"], strip(9, LAYOUT, 1..9, 7)),
    ] {
        panics(&parts, || {
            conv.run(&input, &mut output, Epilogue::Store, scratch);
        });
    }
    for (parts, columns) in [
        (["columns 0..8", "2..10"], 2..10),
        (
            ["columns 0..8", "18446744073709551615"],
            usize::MAX..usize::MAX,
        ),
    ] {
        if usize::BITS < 64 {
            continue;
        }
        let input = strip(8, LAYOUT, columns, 8);
        let mut output = strip(9, LAYOUT, 0..8, 7);
        panics(&parts, || {
            conv.run(&input, &mut output, Epilogue::Store, scratch);
        });
    }
    for slopes in [8, 10] {
        let mut output = strip(9, LAYOUT, 0..8, 7);
        panics(&["slopes, output channels"], || {
            conv.run(
                &input,
                &mut output,
                Epilogue::PRelu(&vec![0.5; slopes]),
                scratch,
            );
        });
    }
    for maps in [strip(1, LAYOUT, 0..8, 7), strip(9, LAYOUT, 0..8, 6)] {
        let mut output = strip(9, LAYOUT, 0..8, 7);
        panics(&[], || {
            conv.run(&input, &mut output, Epilogue::Add(&maps), scratch);
        });
    }
}

#[test]
fn sizes_that_overflow_panic() {
    for (width_px, height_px) in [
        (usize::MAX, 1),
        (1, usize::MAX),
        (usize::MAX / 4, 4),
        (1 << (usize::BITS / 2), 1 << (usize::BITS / 2)),
    ] {
        let parts = [&*width_px.to_string(), &*height_px.to_string()];
        panics(&parts, || drop(Planes::zeros(1, width_px, height_px)));
        let mut planes = planes(2, 3, 4, 1);
        let pixels = planes.to_chw();
        panics(&parts, || planes.resize(2, width_px, height_px));
        assert_eq!(planes.to_chw(), pixels, "after a size that overflows");
    }
    panics(&[&usize::MAX.to_string(), "3 x 4"], || {
        drop(Planes::zeros(usize::MAX, 3, 4));
    });
    let mut planes = planes(2, 3, 4, 1);
    let pixels = planes.to_chw();
    panics(&[&usize::MAX.to_string()], || {
        planes.resize(usize::MAX, 3, 4)
    });
    assert_eq!(planes.to_chw(), pixels, "after a size that overflows");

    for layout in [
        StripLayout {
            width_px: usize::MAX - 40,
            ..LAYOUT
        },
        StripLayout {
            margin_px: usize::MAX,
            ..LAYOUT
        },
        StripLayout {
            rows_above: usize::MAX,
            ..LAYOUT
        },
        StripLayout {
            rows: usize::MAX - 3,
            ..LAYOUT
        },
    ] {
        panics(&["address space"], || drop(Strip::new(3, layout)));
        panics(&["address space"], || {
            Strip::memory_bytes(3, layout);
        });
    }
    panics(&[&usize::MAX.to_string(), "address space"], || {
        drop(Strip::new(usize::MAX, LAYOUT));
    });
}

#[test]
fn strip_placed_anywhere_holds_only_rows_of_the_maps() {
    for first_row in [isize::MIN, -5, -4, -1, 0, 2, 3, isize::MAX] {
        for height_px in [0, 3, usize::MAX] {
            let mut strip = Strip::new(1, LAYOUT);
            strip.place(0..8, first_row, height_px);
            let rows = strip.rows();
            assert!(
                rows.len() <= STRIP_ROWS && (rows.is_empty() || rows.end <= height_px),
                "{rows:?} of {height_px} from {first_row} on"
            );
            for y in rows {
                strip.row_mut(0, y).fill(1.0);
            }
        }
    }
}

#[test]
fn shuffle_of_other_shapes_panics() {
    for scale in [0, 1, 3, 1 << (usize::BITS / 2), usize::MAX] {
        let small = planes(4, 3, 2, 1);
        let mut large = planes(1, 6, 4, 2);
        panics(&[&scale.to_string()], || {
            pixel_shuffle(&small, scale, &mut large)
        });
    }
}

#[test]
fn margins_of_other_lengths_panic() {
    let mut strip = Strip::new(2, LAYOUT);
    panics(&["margin of 3 pixels"], || strip.set_left_margin(3, None));
    panics(&["pixels of the margin"], || {
        strip.set_left_margin(2, Some(&[0.0]))
    });
    panics(&["margin of 3 pixels"], || {
        strip.copy_right_margin(3, &mut Vec::new());
    });
    panics(&["rows above"], || strip.set_rows_above(Some(&[0.0])));
    panics(&["columns 0..9"], || strip.place(0..9, 0, 4));
}
