//! The fused pair of 1x1 convolutions on planes, and its gradients, against the two convolutions
//! one after the other: their own tests hold those to the definition.

use wdsr_kernels::{
    ConvGradients, ConvLayer, Epilogue, Isa, PairGradients, Planes, PlanesConv, PlanesPair,
    Precision, Scratch,
};

use crate::{
    BF16_PRODUCT, border_is_zero, is_misread_by_bochs, is_tested, planes, rounded, tolerance,
    values,
};

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

/// A 1x1 convolution of weight and bias.
pub(crate) fn pointwise(in_channels: usize, layer: &(Vec<f32>, Vec<f32>)) -> ConvLayer<'_> {
    ConvLayer {
        in_channels,
        out_channels: layer.1.len(),
        kernel: 1,
        weight: &layer.0,
        bias: &layer.1,
    }
}

/// All pixels rounded to the precision.
fn rounded_planes(precision: Precision, from: &Planes) -> Planes {
    let mut planes = from.clone();
    for value in planes.as_mut_slice() {
        *value = rounded(precision, *value);
    }
    planes
}

pub(crate) fn forward_and_backward(isa: Isa) {
    forward_and_backward_in(isa, Precision::F32);
}

pub(crate) fn forward_and_backward_in_bf16(isa: Isa) {
    forward_and_backward_in(isa, Precision::Bf16);
}

fn forward_and_backward_in(isa: Isa, precision: Precision) {
    for (inputs, wide, outputs) in [
        (1, 1, 1),
        (3, 7, 2),
        (9, 24, 13),
        (32, 192, 25),
        (40, 70, 35),
    ] {
        for (width, height) in [(1, 1), (7, 3), (16, 2), (33, 5), (48, 12)] {
            let pixels = width * height;
            if is_misread_by_bochs(precision, inputs.min(outputs))
                || !is_tested(isa, (inputs + outputs) * wide * pixels)
            {
                continue;
            }
            let expand = (values(wide * inputs, 1), values(wide, 2));
            let reduce = (values(outputs * wide, 3), values(outputs, 4));
            let input = planes(inputs, width, height, 5);
            let gradient = planes(outputs, width, height, 6);
            let before = planes(inputs, width, height, 7);

            // One after the other, in plain loops on numbers that are rounded before each.
            let round = |planes: &Planes| rounded_planes(precision, planes);
            let plain_conv = |layer: ConvLayer<'_>| {
                let weight: Vec<f32> = layer
                    .weight
                    .iter()
                    .map(|v| rounded(precision, *v))
                    .collect();
                let layer = ConvLayer {
                    weight: &weight,
                    ..layer
                };
                PlanesConv::new(Isa::REFERENCE, Precision::F32, layer)
            };
            let expand = pointwise(inputs, &expand);
            let reduce = pointwise(wide, &reduce);
            let (first, second) = (plain_conv(expand), plain_conv(reduce));
            let rounded_input = round(&input);
            let rounded_gradient = round(&gradient);
            let scratch = &mut Scratch::default();
            let mut hidden = Planes::zeros(wide, width, height);
            first.forward(&rounded_input, &mut hidden, Epilogue::Relu, scratch);
            let rounded_hidden = round(&hidden);
            let mut expected = Planes::zeros(outputs, width, height);
            second.forward(&rounded_hidden, &mut expected, Epilogue::Store, scratch);
            let mut by_hidden = Planes::zeros(wide, width, height);
            let gate = Epilogue::WherePositive(&hidden);
            second.backward_input(&rounded_gradient, &mut by_hidden, gate, scratch);
            let rounded_by_hidden = round(&by_hidden);
            let mut by_input = before.clone();
            let accumulate = Epilogue::Accumulate;
            first.backward_input(&rounded_by_hidden, &mut by_input, accumulate, scratch);
            let Sums([mut expand_w, mut expand_b, mut reduce_w, mut reduce_b]) =
                Sums::new(inputs, wide, outputs);
            // Sums for the biases are of the numbers before they are rounded.
            for (conv, from, by, exact_by, weight, bias) in [
                (
                    &first,
                    &rounded_input,
                    &rounded_by_hidden,
                    &by_hidden,
                    &mut expand_w,
                    &mut expand_b,
                ),
                (
                    &second,
                    &rounded_hidden,
                    &rounded_gradient,
                    &gradient,
                    &mut reduce_w,
                    &mut reduce_b,
                ),
            ] {
                let unused_bias = &mut vec![0.0; bias.len()];
                let unused_weight = &mut vec![0.0; weight.len()];
                for (by, weight, bias) in
                    [(by, weight, unused_bias), (exact_by, unused_weight, bias)]
                {
                    let gradients = ConvGradients { weight, bias };
                    conv.backward_weight(from, by, gradients, scratch);
                }
            }

            let pair = PlanesPair::new(isa, precision, expand, reduce);
            let mut output = planes(outputs, width, height, 8);
            pair.forward(&input, &mut output, scratch);
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
                scratch,
            );

            // Values are up to 1, the wide activation up to `inputs` and its gradient up to
            // `outputs`. Another order of summation may round a few of them to the next bfloat16.
            let hidden_size = (inputs + 1) as f64;
            let terms = inputs + wide + outputs + 3;
            let tolerance = |terms| match precision {
                Precision::F32 | Precision::Int8 => tolerance(terms),
                Precision::Bf16 => tolerance(terms) + BF16_PRODUCT,
            };
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
