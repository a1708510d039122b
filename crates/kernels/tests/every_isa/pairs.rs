//! The fused pair of 1x1 convolutions on planes, and its gradients, against the two convolutions
//! one after the other: their own tests hold those to the definition.

use wdsr_kernels::{
    Epilogue, Isa, PackedConv2d, PairGradients, Planes, PointwisePair, Scratch, conv2d,
    conv2d_backward_weight,
};

use crate::{border_is_zero, planes, tolerance, values, wanted};

/// Both in the order of [`PairGradients`].
struct Sums([Vec<f32>; 4]);

impl Sums {
    /// Not zero: gradients are added.
    fn new(inputs: usize, wide: usize, outputs: usize) -> Self {
        Self([wide * inputs, wide, outputs * wide, outputs].map(|len| vec![0.25; len]))
    }
}

fn compare(what: &str, isa: Isa, found: &[f32], expected: &[f32], allowed: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = f64::from((found - expected).abs());
        assert!(
            error <= allowed,
            "{what} {at} on {isa}: {found}, expected {expected}, allowed {allowed:e}"
        );
    }
}

pub(crate) fn forward_and_backward(isa: Isa) {
    for (inputs, wide, outputs) in [(1, 1, 1), (3, 7, 2), (9, 24, 13), (32, 192, 25)] {
        for (width, height) in [(1, 1), (7, 3), (16, 2), (33, 5), (48, 12)] {
            let pixels = width * height;
            if !wanted((inputs + outputs) * wide * pixels) {
                continue;
            }
            let expand = (values(wide * inputs, 1), values(wide, 2));
            let reduce = (values(outputs * wide, 3), values(outputs, 4));
            let input = planes(inputs, width, height, 5);
            let gradient = planes(outputs, width, height, 6);
            let before = planes(inputs, width, height, 7);
            let mut scratch = Scratch::default();

            // One after the other, in plain loops.
            let reference = Isa::REFERENCE;
            let of = |w: &(Vec<f32>, Vec<f32>), i, o| {
                let forward = PackedConv2d::forward(reference, &w.0, &w.1, i, o, 1);
                (forward, PackedConv2d::backward(reference, &w.0, i, o, 1))
            };
            let (first, first_back) = of(&expand, inputs, wide);
            let (second, second_back) = of(&reduce, wide, outputs);
            let mut hidden = Planes::zeros(wide, width, height);
            let mut expected = Planes::zeros(outputs, width, height);
            conv2d(&input, &first, &mut hidden, Epilogue::Relu, &mut scratch);
            conv2d(
                &hidden,
                &second,
                &mut expected,
                Epilogue::Store,
                &mut scratch,
            );
            let mut by_hidden = Planes::zeros(wide, width, height);
            let gate = Epilogue::WherePositive(&hidden);
            conv2d(&gradient, &second_back, &mut by_hidden, gate, &mut scratch);
            let mut by_input = before.clone();
            let accumulate = Epilogue::Accumulate;
            conv2d(
                &by_hidden,
                &first_back,
                &mut by_input,
                accumulate,
                &mut scratch,
            );
            let Sums([mut expand_w, mut expand_b, mut reduce_w, mut reduce_b]) =
                Sums::new(inputs, wide, outputs);
            for (from, by, w, b) in [
                (&input, &by_hidden, &mut expand_w, &mut expand_b),
                (&hidden, &gradient, &mut reduce_w, &mut reduce_b),
            ] {
                conv2d_backward_weight(reference, from, by, 1, w, b, &mut scratch);
            }

            let pair =
                PointwisePair::new(isa, (&expand.0, &expand.1), (&reduce.0, &reduce.1), inputs);
            let mut output = planes(outputs, width, height, 8);
            pair.forward(&input, &mut output, &mut scratch);
            let mut found_by_input = before.clone();
            let mut found = Sums::new(inputs, wide, outputs);
            let [a, b, c, d] = &mut found.0;
            pair.backward(
                &input,
                &gradient,
                &mut found_by_input,
                Epilogue::Accumulate,
                PairGradients {
                    expand: a,
                    expand_bias: b,
                    reduce: c,
                    reduce_bias: d,
                },
                &mut scratch,
            );

            // Values are up to 1, the wide activation up to `inputs` and its gradient up to
            // `outputs`.
            let hidden_size = (inputs + 1) as f64;
            let terms = inputs + wide + outputs + 3;
            let allowed = hidden_size * tolerance(terms);
            compare("output", isa, &output.to_chw(), &expected.to_chw(), allowed);
            let allowed = outputs as f64 * tolerance(terms);
            let (found_chw, expected_chw) = (found_by_input.to_chw(), by_input.to_chw());
            compare("input gradient", isa, &found_chw, &expected_chw, allowed);
            assert!(border_is_zero(&output), "border of the output on {isa}");
            assert!(
                border_is_zero(&found_by_input),
                "border of the input gradient on {isa}"
            );
            let allowed = hidden_size.max(outputs as f64) * tolerance(pixels + terms);
            for (what, found, expected) in [
                ("expand", &found.0[0], &expand_w),
                ("expand bias", &found.0[1], &expand_b),
                ("reduce", &found.0[2], &reduce_w),
                ("reduce bias", &found.0[3], &reduce_b),
            ] {
                compare(what, isa, found, expected, allowed);
            }
        }
    }
}
