//! The kernels at the layer shapes of WDSR-A and WDSR-B with 32 features, on one thread.
//!
//! `cargo bench -p wdsr-kernels [FILTER]`. Items are multiply-adds of the convolutions as defined
//! (Winograd's form computes fewer), so `item/s` can be compared with `peak`.

use std::fmt;

use divan::Bencher;
use divan::counter::ItemsCount;
use wdsr_kernels::{
    ConvGradients, ConvLayer, Epilogue, Isa, PairGradients, Planes, PlanesConv, PlanesPair,
    Precision, STRIP_ROWS, Scratch, Strip, StripConv, StripFormat, StripLayout, StripPair,
    multiply_add_burst, pixel_shuffle,
};

fn main() {
    divan::main();
}

/// Pixels of a strip's row: strips of 32 channels stay in the second-level cache.
const STRIP_PX: usize = 256;

/// Side of a patch in training.
const PATCH_PX: usize = 48;

/// The instruction set and the precision that a kernel runs in.
#[derive(Clone, Copy)]
struct Version {
    isa: Isa,
    precision: Precision,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.isa, self.precision.name())
    }
}

/// All instruction sets of this processor with vectors, in the fastest precision of each.
fn versions() -> Vec<Version> {
    let vector_sets = Isa::available()
        .into_iter()
        .filter(|isa| *isa != Isa::REFERENCE && !isa.has_tiles());
    let version = |isa: Isa| Version {
        isa,
        precision: isa.precision_for(Precision::Bf16),
    };
    vector_sets.map(version).collect()
}

/// Values in -1..1.
fn values(count: usize) -> Vec<f32> {
    let value = |i: usize| (i.wrapping_mul(2_654_435_761) % 2001) as f32 / 1000.0 - 1.0;
    (0..count).map(value).collect()
}

/// A convolution's weights.
struct Layer {
    channels: [usize; 2],
    kernel: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Layer {
    fn new(in_channels: usize, out_channels: usize, kernel: usize) -> Self {
        Self {
            channels: [in_channels, out_channels],
            kernel,
            weight: values(in_channels * out_channels * kernel * kernel),
            bias: values(out_channels),
        }
    }

    fn view(&self) -> ConvLayer<'_> {
        ConvLayer {
            in_channels: self.channels[0],
            out_channels: self.channels[1],
            kernel: self.kernel,
            weight: &self.weight,
            bias: &self.bias,
        }
    }

    fn gradients(&mut self) -> ConvGradients<'_> {
        ConvGradients {
            weight: &mut self.weight,
            bias: &mut self.bias,
        }
    }
}

fn planes(channels: usize) -> Planes {
    let mut planes = Planes::zeros(channels, PATCH_PX, PATCH_PX);
    planes.copy_from_chw(&values(channels * PATCH_PX * PATCH_PX));
    planes
}

fn strip(channels: usize, first_row: isize) -> Strip {
    let layout = StripLayout {
        width_px: STRIP_PX,
        margin_px: 0,
        rows: STRIP_ROWS,
        rows_above: 4,
        format: StripFormat::Planes,
    };
    let mut strip = Strip::new(channels, layout);
    strip.place(0..STRIP_PX, first_row, 1000);
    for channel in 0..channels {
        for y in strip.rows() {
            strip.row_mut(channel, y).copy_from_slice(&values(STRIP_PX));
        }
    }
    strip
}

/// A convolution of a strip.
fn strip_conv(bencher: Bencher<'_, '_>, version: Version, [inputs, outputs, kernel]: [usize; 3]) {
    let layer = Layer::new(inputs, outputs, kernel);
    let conv = StripConv::new(version.isa, version.precision, layer.view());
    let reach = (kernel / 2) as isize;
    let (input, mut output) = (strip(inputs, 100), strip(outputs, 100 - reach));
    let mut scratch = Scratch::default();
    bencher
        .counter(ItemsCount::new(layer.weight.len() * STRIP_PX * STRIP_ROWS))
        .bench_local(|| conv.run(&input, &mut output, Epilogue::Relu, &mut scratch));
}

#[divan::bench(args = versions())]
fn strip_head_3x3_3_to_32(bencher: Bencher<'_, '_>, version: Version) {
    strip_conv(bencher, version, [3, 32, 3]);
}

#[divan::bench(args = versions())]
fn strip_skip_5x5_3_to_12(bencher: Bencher<'_, '_>, version: Version) {
    strip_conv(bencher, version, [3, 12, 5]);
}

#[divan::bench(args = versions())]
fn strip_wdsr_b_3x3_25_to_32(bencher: Bencher<'_, '_>, version: Version) {
    strip_conv(bencher, version, [25, 32, 3]);
}

#[divan::bench(args = versions())]
fn strip_wdsr_a_3x3_32_to_128(bencher: Bencher<'_, '_>, version: Version) {
    strip_conv(bencher, version, [32, 128, 3]);
}

#[divan::bench(args = versions())]
fn strip_wdsr_b_pair_32_to_192_to_25(bencher: Bencher<'_, '_>, version: Version) {
    let (expand, reduce) = (Layer::new(32, 192, 1), Layer::new(192, 25, 1));
    let pair = StripPair::new(version.isa, version.precision, expand.view(), reduce.view());
    let (input, mut output) = (strip(32, 100), strip(25, 100));
    let mut scratch = Scratch::default();
    let weights = expand.weight.len() + reduce.weight.len();
    bencher
        .counter(ItemsCount::new(weights * STRIP_PX * STRIP_ROWS))
        .bench_local(|| pair.run(&input, &mut output, &mut scratch));
}

/// A convolution of 25 channels to 32 on a patch.
struct PatchConv {
    layer: Layer,
    conv: PlanesConv,
    input: Planes,
    output: Planes,
    scratch: Scratch,
}

impl PatchConv {
    fn new(version: Version) -> Self {
        let layer = Layer::new(25, 32, 3);
        Self {
            conv: PlanesConv::new(version.isa, version.precision, layer.view()),
            input: planes(25),
            output: planes(32),
            scratch: Scratch::default(),
            layer,
        }
    }

    fn multiply_adds(&self) -> ItemsCount {
        ItemsCount::new(self.layer.weight.len() * PATCH_PX * PATCH_PX)
    }
}

#[divan::bench(args = versions())]
fn patch_3x3_forward(bencher: Bencher<'_, '_>, version: Version) {
    let mut p = PatchConv::new(version);
    bencher.counter(p.multiply_adds()).bench_local(|| {
        let epilogue = Epilogue::Store;
        p.conv
            .forward(&p.input, &mut p.output, epilogue, &mut p.scratch);
    });
}

#[divan::bench(args = versions())]
fn patch_3x3_backward_input(bencher: Bencher<'_, '_>, version: Version) {
    let mut p = PatchConv::new(version);
    bencher.counter(p.multiply_adds()).bench_local(|| {
        let epilogue = Epilogue::Store;
        p.conv
            .backward_input(&p.output, &mut p.input, epilogue, &mut p.scratch);
    });
}

#[divan::bench(args = versions())]
fn patch_3x3_backward_weight(bencher: Bencher<'_, '_>, version: Version) {
    let mut p = PatchConv::new(version);
    bencher.counter(p.multiply_adds()).bench_local(|| {
        let gradients = p.layer.gradients();
        p.conv
            .backward_weight(&p.input, &p.output, gradients, &mut p.scratch);
    });
}

/// Forward, backward by the weights and by the input, with the wide activation computed twice: 4
/// times the multiply-adds of the pair and those of its expansion.
#[divan::bench(args = versions())]
fn patch_pair_forward_and_backward(bencher: Bencher<'_, '_>, version: Version) {
    let (mut expand, mut reduce) = (Layer::new(32, 192, 1), Layer::new(192, 25, 1));
    let pair = PlanesPair::new(version.isa, version.precision, expand.view(), reduce.view());
    let (input, mut output) = (planes(32), planes(25));
    let (gradient, mut by_input) = (planes(25), planes(32));
    let mut scratch = Scratch::default();
    let weights = 4 * expand.weight.len() + 3 * reduce.weight.len();
    bencher
        .counter(ItemsCount::new(weights * PATCH_PX * PATCH_PX))
        .bench_local(|| {
            pair.forward(&input, &mut output, &mut scratch);
            let gradients = PairGradients {
                expand: &mut expand.weight,
                expand_bias: &mut expand.bias,
                reduce: &mut reduce.weight,
                reduce_bias: &mut reduce.bias,
            };
            let epilogue = Epilogue::Store;
            pair.backward(
                &input,
                &gradient,
                &mut by_input,
                epilogue,
                gradients,
                &mut scratch,
            );
        });
}

#[divan::bench]
fn patch_shuffle_12_to_3(bencher: Bencher<'_, '_>) {
    let input = planes(12);
    let mut output = Planes::zeros(3, 2 * PATCH_PX, 2 * PATCH_PX);
    bencher.bench_local(|| pixel_shuffle(&input, 2, &mut output));
}

/// The arithmetic peak of one core.
#[divan::bench(args = versions())]
fn peak(bencher: Bencher<'_, '_>, version: Version) {
    const ROUNDS: usize = 10_000;
    let burst = || multiply_add_burst(version.isa, version.precision, ROUNDS);
    let multiply_adds = burst() / 2;
    bencher
        .counter(ItemsCount::new(multiply_adds))
        .bench_local(burst);
}
