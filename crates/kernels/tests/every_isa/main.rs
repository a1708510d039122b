//! Every kernel on every instruction set of this processor against loops in f64, at sizes below,
//! at and above each register tile.

#![allow(
    clippy::print_stdout,
    reason = "the log of a run names the instruction sets checked"
)]

mod bytes;
mod invalid_arguments;
mod pairs;
mod pixels;
mod strips;

use wdsr_kernels::{
    ConvGradients, ConvLayer, Epilogue, Isa, Planes, PlanesConv, Precision, Scratch, pixel_shuffle,
    pixel_unshuffle,
};

/// Rounding of a sum of K products of numbers up to 1: each of K additions may round by half a
/// unit in the last place of a partial sum, which stays below K.
fn tolerance(terms: usize) -> f64 {
    terms as f64 * f64::from(f32::EPSILON)
}

/// How much larger than that of a direct sum the rounding error of Winograd's form may be: the
/// largest absolute row sums of its input and output transforms are 10 and 19, but each of them
/// multiplies errors of terms that the direct sum has as well. Measured, the error is twice that
/// of the direct sum.
const WINOGRAD_AMPLIFICATION: f64 = 10.0;

/// The largest error of a rounded product of numbers up to 1: each factor is rounded by half of the
/// last of bfloat16's 8 bits.
const BF16_PRODUCT: f64 = 1.0 / 256.0;

/// The largest error of a convolution of bf16 in Winograd's form. Errors of products add up like
/// random steps; in this form, whose numbers are up to ten times larger, a step was measured to be
/// 3 times longer than in the direct form.
fn bf16_tolerance(terms: usize) -> f64 {
    8.0 * BF16_PRODUCT * (terms as f64).sqrt()
}

/// The largest error of a sum of so many terms in a convolution or its gradients.
fn conv_tolerance(layer: ConvLayer<'_>, terms: usize, precision: Precision) -> f64 {
    let many = layer.kernel == 3 && layer.in_channels.min(layer.out_channels) >= 8;
    match precision {
        Precision::Bf16 if many => bf16_tolerance(terms),
        _ if layer.kernel == 3 => tolerance(terms) * WINOGRAD_AMPLIFICATION,
        _ => tolerance(terms),
    }
}

/// The nearest number of the precision.
fn rounded(precision: Precision, value: f32) -> f32 {
    let bits = value.to_bits();
    match precision {
        Precision::F32 | Precision::Int8 => value,
        Precision::Bf16 => f32::from_bits((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000),
    }
}

/// Whether the emulator of `.ci/avx512-emulated` computes tiles of so many channels wrongly: Bochs
/// scales the address of vdpbf16ps's operand in memory, which the compiler uses for tiles of one
/// channel, by 4 instead of 64.
fn is_misread_by_bochs(precision: Precision, channels: usize) -> bool {
    let is_bochs = cfg!(target_arch = "x86_64") && are_cases_small();
    is_bochs && precision == Precision::Bf16 && channels == 1
}

/// Deterministic values in -1..1.
fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 * 2.0 - 1.0
        })
        .collect()
}

fn planes(channels: usize, width: usize, height: usize, seed: u32) -> Planes {
    let mut planes = Planes::zeros(channels, width, height);
    planes.copy_from_chw(&values(channels * width * height, seed));
    planes
}

struct Case {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    width: usize,
    height: usize,
}

/// Whether `WDSR_TEST_CASES` is `small`, for emulated processors.
fn are_cases_small() -> bool {
    std::env::var("WDSR_TEST_CASES").is_ok_and(|v| v == "small")
}

/// Whether a case of so many multiply-adds is tested: all are, but in plain loops, which have no cases of their own for large
/// shapes, and with small cases those of few.
fn is_tested(isa: Isa, multiply_adds: usize) -> bool {
    multiply_adds < 100_000 || (isa != Isa::REFERENCE && !are_cases_small())
}

fn cases(isa: Isa) -> Vec<Case> {
    let mut cases = Vec::new();
    for kernel in [1, 3, 5] {
        for (inputs, outputs) in [
            (1, 1),
            (3, 5),
            (2, 4),
            (5, 6),
            (7, 11),
            (4, 8),
            (9, 8),
            (25, 32),
        ] {
            for (width, height) in [
                (1, 1),
                (1, 7),
                (7, 1),
                (8, 3),
                (15, 2),
                (16, 4),
                (17, 5),
                (48, 19),
            ] {
                cases.push(Case {
                    inputs,
                    outputs,
                    kernel,
                    width,
                    height,
                });
            }
        }
    }
    // Several blocks of channels, the last ones not full.
    cases.push(Case {
        inputs: 40,
        outputs: 70,
        kernel: 3,
        width: 17,
        height: 5,
    });
    cases.retain(|c| {
        is_tested(
            isa,
            c.inputs * c.outputs * c.kernel * c.kernel * c.width * c.height,
        )
    });
    cases
}

/// The pixel at (y, x), zero outside.
fn pixel(planes: &Planes, channel: usize, y: isize, x: isize) -> f64 {
    let inside = (0..planes.height_px() as isize).contains(&y)
        && (0..planes.width_px() as isize).contains(&x);
    if inside {
        f64::from(planes.row(channel, y as usize)[x as usize])
    } else {
        0.0
    }
}

fn expected_conv(
    case: &Case,
    input: &Planes,
    weight: &[f32],
    bias: &[f32],
    (o, y, x): (usize, usize, usize),
) -> f64 {
    let (k, reach) = (case.kernel, (case.kernel / 2) as isize);
    let mut sum = f64::from(bias[o]);
    for i in 0..case.inputs {
        for ky in 0..k {
            for kx in 0..k {
                let (py, px) = (
                    y as isize + ky as isize - reach,
                    x as isize + kx as isize - reach,
                );
                sum += f64::from(weight[((o * case.inputs + i) * k + ky) * k + kx])
                    * pixel(input, i, py, px);
            }
        }
    }
    sum
}

/// The border of planes must be zero after every kernel: the next one reads it.
fn border_is_zero(planes: &Planes) -> bool {
    let total: usize = planes.as_slice().iter().filter(|v| **v != 0.0).count();
    let inside: usize = (0..planes.channels())
        .map(|c| {
            (0..planes.height_px())
                .map(|y| planes.row(c, y).iter().filter(|v| **v != 0.0).count())
                .sum::<usize>()
        })
        .sum();
    total == inside
}

impl Case {
    fn layer<'a>(&self, weight: &'a [f32], bias: &'a [f32]) -> ConvLayer<'a> {
        ConvLayer {
            in_channels: self.inputs,
            out_channels: self.outputs,
            kernel: self.kernel,
            weight,
            bias,
        }
    }

    fn check(&self, what: &str, found: f32, expected: f64, allowed: f64) {
        assert!(
            (f64::from(found) - expected).abs() <= allowed,
            "{what} {} -> {} {2}x{2} on {3} x {4}: {found}, expected {expected}",
            self.inputs,
            self.outputs,
            self.kernel,
            self.width,
            self.height
        );
    }
}

fn convolution_and_gradients(isa: Isa) {
    convolution_and_gradients_in(isa, Precision::F32);
}

fn convolution_and_gradients_of_bf16(isa: Isa) {
    convolution_and_gradients_in(isa, Precision::Bf16);
}

fn convolution_and_gradients_in(isa: Isa, precision: Precision) {
    for case in cases(isa) {
        let taps = case.kernel * case.kernel;
        let weight = values(case.outputs * case.inputs * taps, 1);
        let bias = values(case.outputs, 2);
        let layer = case.layer(&weight, &bias);
        let conv = PlanesConv::new(isa, precision, layer);
        let close = |what: &str, found: f32, expected: f64, terms: usize| {
            case.check(
                what,
                found,
                expected,
                conv_tolerance(layer, terms, precision),
            );
        };
        let input = planes(case.inputs, case.width, case.height, 3);
        let gate = planes(case.outputs, case.width, case.height, 4);
        let before = planes(case.outputs, case.width, case.height, 5);
        let mut scratch = Scratch::default();
        let slopes = values(case.outputs, 6);
        let terms = case.inputs * taps + 2;
        let rows = (0..case.outputs).flat_map(|o| (0..case.height).map(move |y| (o, y)));
        let places =
            Vec::from_iter(rows.flat_map(|(o, y)| (0..case.width).map(move |x| (o, y, x))));
        let sum = |place: &_| expected_conv(&case, &input, &weight, &bias, *place);
        let sums = Vec::from_iter(places.iter().map(sum));
        for (name, epilogue) in [
            ("store", Epilogue::Store),
            ("relu", Epilogue::Relu),
            ("prelu", Epilogue::PRelu(&slopes)),
            ("add", Epilogue::Add(&gate)),
            ("add, prelu", Epilogue::AddPRelu(&gate, &slopes)),
            ("accumulate", Epilogue::Accumulate),
            ("where positive", Epilogue::WherePositive(&gate)),
        ] {
            let mut output = before.clone();
            conv.forward(&input, &mut output, epilogue, &mut scratch);
            assert!(border_is_zero(&output), "{name}: border on {isa}");
            for (&(o, y, x), &sum) in places.iter().zip(&sums) {
                let expected = match epilogue {
                    Epilogue::Store => sum,
                    Epilogue::Relu => sum.max(0.0),
                    Epilogue::PRelu(slopes) if sum < 0.0 => f64::from(slopes[o]) * sum,
                    Epilogue::PRelu(_) => sum,
                    Epilogue::Add(term) => sum + f64::from(term.row(o, y)[x]),
                    Epilogue::AddPRelu(term, slopes) => {
                        let sum = sum + f64::from(term.row(o, y)[x]);
                        sum.max(0.0) + f64::from(slopes[o]) * sum.min(0.0)
                    }
                    Epilogue::Accumulate => sum + f64::from(before.row(o, y)[x]),
                    Epilogue::WherePositive(_) if gate.row(o, y)[x] > 0.0 => sum,
                    Epilogue::WherePositive(_) => 0.0,
                };
                close(name, output.row(o, y)[x], expected, terms);
            }
        }

        // <conv(x), g> = <x, backward(g)> without bias, and the weight gradient by its sum.
        let gradient = planes(case.outputs, case.width, case.height, 6);
        let mut by_input = Planes::zeros(case.inputs, case.width, case.height);
        conv.backward_input(&gradient, &mut by_input, Epilogue::Store, &mut scratch);
        assert!(border_is_zero(&by_input), "backward: border on {isa}");
        let reach = (case.kernel / 2) as isize;
        for i in 0..case.inputs {
            for y in 0..case.height {
                for x in 0..case.width {
                    let mut expected = 0.0;
                    for o in 0..case.outputs {
                        for tap in 0..taps {
                            let (ky, kx) =
                                ((tap / case.kernel) as isize, (tap % case.kernel) as isize);
                            let at = (y as isize - (ky - reach), x as isize - (kx - reach));
                            expected += f64::from(weight[(o * case.inputs + i) * taps + tap])
                                * pixel(&gradient, o, at.0, at.1);
                        }
                    }
                    let terms = case.outputs * taps + 1;
                    close("backward by input", by_input.row(i, y)[x], expected, terms);
                }
            }
        }

        let start = 0.5;
        let mut by_weight = vec![start; weight.len()];
        let mut by_bias = vec![start; case.outputs];
        let gradients = ConvGradients {
            weight: &mut by_weight,
            bias: &mut by_bias,
        };
        conv.backward_weight(&input, &gradient, gradients, &mut scratch);
        let pixels = case.width * case.height;
        for o in 0..case.outputs {
            let sum: f64 = gradient.to_chw()[o * pixels..(o + 1) * pixels]
                .iter()
                .map(|v| f64::from(*v))
                .sum();
            let expected = f64::from(start) + sum;
            close("backward by bias", by_bias[o], expected, pixels + 1);
            for i in 0..case.inputs {
                for tap in 0..taps {
                    let (ky, kx) = ((tap / case.kernel) as isize, (tap % case.kernel) as isize);
                    let mut expected = f64::from(start);
                    for y in 0..case.height as isize {
                        for x in 0..case.width as isize {
                            expected += pixel(&gradient, o, y, x)
                                * pixel(&input, i, y + ky - reach, x + kx - reach);
                        }
                    }
                    let found = by_weight[(o * case.inputs + i) * taps + tap];
                    close("backward by weight", found, expected, pixels + 1);
                }
            }
        }
    }
}

/// Runs a test on the instruction set of that name if this processor has it. That none is skipped
/// which it has, `every_instruction_set_of_this_processor_is_available` ensures.
fn on(name: &str, test: impl FnOnce(Isa)) {
    match Isa::available().into_iter().find(|isa| isa.name() == name) {
        Some(isa) => test(isa),
        None => println!("{name}: not on this processor"),
    }
}

/// A test for each instruction set, `$name::reference` to `$name::relaxedsimd`.
macro_rules! on_every_isa {
    ($name:ident, $test:path) => {
        mod $name {
            #[test]
            fn reference() {
                crate::on("reference", $test);
            }
            #[test]
            fn avx2() {
                crate::on("avx2", $test);
            }
            #[test]
            fn avxvnni() {
                crate::on("avxvnni", $test);
            }
            #[test]
            fn avx512() {
                crate::on("avx512", $test);
            }
            #[test]
            fn avx512vnni() {
                crate::on("avx512vnni", $test);
            }
            #[test]
            fn avx512bf16() {
                crate::on("avx512bf16", $test);
            }
            #[test]
            fn amx() {
                crate::on("amx", $test);
            }
            #[test]
            fn neon() {
                crate::on("neon", $test);
            }
            #[test]
            fn neondot() {
                crate::on("neondot", $test);
            }
            #[test]
            fn neonbf16() {
                crate::on("neonbf16", $test);
            }
            #[test]
            fn simd128() {
                crate::on("simd128", $test);
            }
            #[test]
            fn relaxedsimd() {
                crate::on("relaxedsimd", $test);
            }
        }
    };
}

on_every_isa!(
    convolution_and_gradients_equal_the_definition,
    crate::convolution_and_gradients
);
on_every_isa!(
    convolution_and_gradients_of_bf16_equal_the_definition,
    crate::convolution_and_gradients_of_bf16
);
on_every_isa!(
    convolution_of_strips_equals_the_definition,
    crate::strips::convolutions
);
on_every_isa!(
    pair_of_planes_and_gradients_equal_two_convolutions,
    crate::pairs::forward_and_backward
);
on_every_isa!(
    pair_of_planes_of_bf16_and_gradients_equal_two_convolutions,
    crate::pairs::forward_and_backward_in_bf16
);
on_every_isa!(
    convolution_of_strips_of_bf16_equals_the_definition,
    crate::strips::convolutions_of_bf16
);
on_every_isa!(pair_of_strips_equals_the_definition, crate::strips::pairs);
on_every_isa!(
    pair_of_strips_of_bf16_equals_the_definition,
    crate::strips::pairs_of_bf16
);
on_every_isa!(strips_become_bytes, crate::bytes::quantizations);
on_every_isa!(
    convolution_of_bytes_has_the_bits_of_the_definition,
    crate::bytes::convolutions
);
on_every_isa!(
    pair_of_bytes_has_the_bits_of_the_definition,
    crate::bytes::pairs
);
on_every_isa!(
    bytes_of_extreme_steps_have_the_bits_of_the_plain_loops,
    crate::bytes::extreme_steps
);
on_every_isa!(
    largest_products_of_bytes_are_exact,
    crate::bytes::largest_products
);
on_every_isa!(direct_sums_have_the_same_bits, crate::strips::direct_sums);
on_every_isa!(
    invalid_arguments_panic,
    crate::invalid_arguments::panic_with_both_values
);

#[test]
fn tiles_of_planes_equal_the_definition() {
    convolution_and_gradients_of_bf16(Isa::emulated_amx());
}

#[test]
fn tiles_of_pairs_of_planes_equal_two_convolutions() {
    pairs::forward_and_backward_in_bf16(Isa::emulated_amx());
}

/// The names of the instruction sets that this processor has, by other means than the kernels'.
fn expected_isas() -> Vec<&'static str> {
    let mut expected = vec!["reference"];
    #[cfg(target_arch = "x86_64")]
    {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let has = |flag: &str| text.split_whitespace().any(|word| word == flag);
        if has("avx2") && has("fma") {
            expected.push("avx2");
        }
        if has("avx_vnni") {
            expected.push("avxvnni");
        }
        if has("avx512f") {
            expected.push("avx512");
        }
        if has("avx512_vnni") {
            expected.push("avx512vnni");
        }
        if has("avx512_bf16") {
            expected.push("avx512bf16");
        }
        let is_named = std::env::var_os("WDSR_ISA").is_some_and(|name| name == "amx");
        if is_named && has("avx512_bf16") && has("amx_tile") && has("amx_bf16") {
            expected.push("amx");
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        // Every such processor has NEON.
        expected.push("neon");
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            expected.push("neondot");
        }
        if std::arch::is_aarch64_feature_detected!("bf16") {
            expected.push("neonbf16");
        }
    }
    if cfg!(target_feature = "relaxed-simd") {
        expected.push("relaxedsimd");
    } else if cfg!(target_feature = "simd128") {
        expected.push("simd128");
    }
    expected
}

#[test]
fn every_instruction_set_of_this_processor_is_available() {
    let expected = expected_isas();
    let checked: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
    println!(
        "isa checked: {} ({} of {})",
        checked.join(", "),
        checked.len(),
        expected.len()
    );
    assert!(
        expected.iter().all(|name| checked.contains(name)),
        "the processor has {expected:?}, but only {checked:?} are checked"
    );
    if std::env::var_os("WDSR_ISA").is_none() {
        let fastest = Isa::detect().expect("WDSR_ISA is not set").name();
        assert_eq!(Some(&fastest), expected.last(), "of {expected:?}");
    }
}

#[test]
fn unshuffle_undoes_shuffle() {
    for scale in [1, 2, 3, 4, 8] {
        let input = planes(3 * scale * scale, 5, 4, 7);
        let mut large = Planes::zeros(3, 5 * scale, 4 * scale);
        pixel_shuffle(&input, scale, &mut large);
        let mut back = Planes::zeros(3 * scale * scale, 5, 4);
        pixel_unshuffle(&large, scale, &mut back);
        assert_eq!(back.to_chw(), input.to_chw(), "scale {scale}");
        // PyTorch's order: channel 1, dy = 1, dx = 0 of a shuffle by 2.
        if scale == 2 {
            assert_eq!(large.row(1, 2 * 3 + 1)[2 * 4], input.row(4 + 2, 3)[4]);
        }
    }
}
