//! Batch normalisation over the patches of a batch, forwards and backwards (Ioffe and Szegedy 2015).
//!
//! A sum over the pixels of a channel takes two kernels: one sums chunks, the other these sums, and writes what is made of them. What
//! other kernels need of the channels is in one buffer, [`NUMBERS`] vectors for each group of four: mean, 1 / standard
//! deviation, factor and offset; backwards the means of the gradient, and of the gradient times the normalised input.

use wdsr_train::parameters::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM};

use super::kernels::{STATE, WORK, WorkLayout, each, each_main, total_of, workgroups};
use crate::plan::groups;

/// Vectors of a group of channels.
const NUMBERS: usize = 6;
/// Threads that sum a chunk.
const THREADS: usize = 256;
/// Least pixels of a chunk.
const CHUNK_PIXELS: usize = 4 * THREADS;
/// Most chunks, which as many threads sum.
const MAX_CHUNKS: usize = 64;

const SOURCE: &str = "@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>;\n";
const CHANNELS: &str = "@group(0) @binding(2) var<storage, read> numbers: array<vec4<f32>>;\n";
const INPUT: &str = "@group(0) @binding(3) var<storage, read> input: array<vec4<f32>>;\n";
const RESULT: &str = "@group(0) @binding(4) var<storage, read_write> result: array<vec4<f32>>;\n";

/// A kernel's text and its workgroups.
type Text = (String, [u32; 3]);

/// The kernels of a batch normalisation.
#[derive(Clone, Copy)]
pub(super) struct NormKernels {
    pub(super) channels: usize,
    /// Pixels of the batch.
    pub(super) pixels: usize,
    /// A factor on its output: the residual scale.
    pub(super) scale: f32,
    pub(super) relu: bool,
    /// The first parameter of the factors, and of the offsets.
    pub(super) factor: usize,
    pub(super) offset: usize,
    /// The first vector of its running means; the variances follow.
    pub(super) running: usize,
    /// The number of its first group of channels among those of all normalisations.
    pub(super) first_group: usize,
}

impl NormKernels {
    pub(super) fn groups(&self) -> usize {
        groups(self.channels)
    }

    /// Bytes of what kernels need of the channels.
    pub(super) fn numbers_bytes(&self) -> usize {
        16 * NUMBERS * self.groups()
    }

    /// Bytes of the sums of chunks.
    pub(super) fn sums_bytes(&self) -> usize {
        2 * 16 * self.chunks() * self.groups()
    }

    fn chunks(&self) -> usize {
        self.pixels.div_ceil(CHUNK_PIXELS).min(MAX_CHUNKS)
    }

    /// Sums the input: 1 input, 4 sums.
    pub(super) fn sum_input(&self) -> Text {
        self.sum("", &["value"])
    }

    /// Sums the squares of the input around its mean: 1 input, 2 numbers, 4 sums.
    pub(super) fn sum_squares(&self) -> Text {
        self.sum(CHANNELS, &["(value - numbers[at]) * (value - numbers[at])"])
    }

    /// Sums the gradient by the output, and its product with the normalised input: 1 gradient, 2 numbers, 3 input, 4 sums.
    pub(super) fn sum_gradient(&self) -> Text {
        let product = "value * ((input[i] - numbers[at]) * numbers[at + 1u])";
        self.sum(&format!("{CHANNELS}{INPUT}"), &["value", product])
    }

    fn sum(&self, bindings: &str, terms: &[&str]) -> Text {
        let (chunks, count, pixels) = (self.chunks(), terms.len(), self.pixels);
        let add = |(term, text): (usize, &&str)| format!("    sums_of_terms[{term}] += {text};\n");
        let adds: String = terms.iter().enumerate().map(add).collect();
        let text = format!(
            "{SOURCE}{bindings}{RESULT}{total}@compute @workgroup_size({THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {{
  let at = group.y * {NUMBERS}u;
  var sums_of_terms = array<vec4<f32>, {count}>();
  let end = (group.y + 1u) * {pixels}u;
  for (var i = group.y * {pixels}u + group.x * {THREADS}u + lane; i < end; i += {stride}u) {{
    let value = source[i];
{adds}  }}
  for (var term = 0u; term < {count}u; term++) {{
    let all = total(sums_of_terms[term], lane);
    if (lane == 0u) {{ result[(group.y * {count}u + term) * {chunks}u + group.x] = all; }}
  }}
}}
",
            total = total_of(THREADS, "vec4<f32>"),
            stride = chunks * THREADS,
        );
        (text, [chunks as u32, self.groups() as u32, 1])
    }

    /// Means: 2 sums, 4 numbers.
    pub(super) fn mean(&self) -> Text {
        let body = format!("    result[at] = all[0] * {};\n", self.share());
        self.finish("", 1, &body)
    }

    /// Deviations, factors and offsets, and the running statistics: 1 state, 2 sums, 4 numbers, 5 running statistics.
    pub(super) fn deviation(&self) -> Text {
        let unbias = self.pixels as f32 / (self.pixels as f32 - 1.0).max(1.0);
        let body = format!(
            "    let variance = all[0] * {share};
    result[at + 1u] = 1.0 / sqrt(variance + {BATCH_NORM_EPSILON:e});
    var factor = vec4<f32>();
    var offset = vec4<f32>();
    for (var part = 0u; part < channels; part++) {{
      factor[part] = {scale:e} * state[{factor_at}u + first + part].x;
      offset[part] = {scale:e} * state[{offset_at}u + first + part].x;
    }}
    result[at + 2u] = factor;
    result[at + 3u] = offset;
    let mean_at = {running}u + group.x;
    running[mean_at] += {BATCH_NORM_MOMENTUM:e} * (result[at] - running[mean_at]);
    let variance_at = mean_at + {groups}u;
    running[variance_at] += {BATCH_NORM_MOMENTUM:e} * (variance * {unbias:e} - running[variance_at]);
",
            share = self.share(),
            scale = self.scale,
            factor_at = self.factor,
            offset_at = self.offset,
            running = self.running,
            groups = self.groups(),
        );
        let running = "@group(0) @binding(5) var<storage, read_write> running: array<vec4<f32>>;\n";
        self.finish(&format!("{STATE}{running}"), 1, &body)
    }

    /// Means of the gradient and its product, and the gradients by the parameters: 2 sums, 3 work, 4 numbers. `samples` are those of
    /// the loss, by whose number gradients are divided.
    pub(super) fn by_parameters(&self, work: WorkLayout, samples: usize) -> Text {
        let body = format!(
            "    result[at + 4u] = all[0] * {share};
    result[at + 5u] = all[1] * {share};
    var squares = 0.0;
    for (var part = 0u; part < channels; part++) {{
      let by_offset = {scale:e} * all[0][part];
      let by_factor = {scale:e} * all[1][part];
      work[{by_factors}u + first + part] = by_factor;
      work[{by_offsets}u + first + part] = by_offset;
      squares += by_factor * by_factor + by_offset * by_offset;
    }}
    work[{norms}u + group.x] = squares;
",
            share = self.share(),
            scale = self.scale / samples as f32,
            by_factors = work.gradient() + self.factor,
            by_offsets = work.gradient() + self.offset,
            norms = work.norms_of_groups() + self.first_group,
        );
        self.finish(WORK, 2, &body)
    }

    /// One pixel's share of a mean.
    fn share(&self) -> String {
        format!("{:e}", 1.0 / self.pixels as f32)
    }

    /// Sums the chunks of each group of channels into `all`, and runs `body` on them.
    fn finish(&self, bindings: &str, terms: usize, body: &str) -> Text {
        let (chunks, channels) = (self.chunks(), self.channels);
        let text = format!(
            "{bindings}@group(0) @binding(2) var<storage, read> partial: array<vec4<f32>>;
{RESULT}{total}@compute @workgroup_size({MAX_CHUNKS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {{
  let at = group.x * {NUMBERS}u;
  let first = group.x * 4u;
  let channels = min(4u, {channels}u - first);
  var all = array<vec4<f32>, {terms}>();
  for (var term = 0u; term < {terms}u; term++) {{
    var sum = vec4<f32>();
    if (lane < {chunks}u) {{ sum = partial[(group.x * {terms}u + term) * {chunks}u + lane]; }}
    all[term] = total(sum, lane);
  }}
  if (lane == 0u) {{
{body}  }}
}}
",
            total = total_of(MAX_CHUNKS, "vec4<f32>"),
        );
        (text, [self.groups() as u32, 1, 1])
    }

    /// Normalises: 1 input, 2 numbers, 4 result.
    pub(super) fn normalise(&self) -> Text {
        let value =
            "(source[i] - numbers[at]) * numbers[at + 1u] * numbers[at + 2u] + numbers[at + 3u]";
        let value = match self.relu {
            true => format!("max({value}, vec4<f32>())"),
            false => value.to_owned(),
        };
        self.element_wise("", &value)
    }

    /// The gradient by the input: 1 gradient by the output, 2 numbers, 3 input, 4 result.
    pub(super) fn by_input(&self) -> Text {
        self.element_wise(
            INPUT,
            "numbers[at + 2u] * numbers[at + 1u] * (source[i] - numbers[at + 4u]
      - (input[i] - numbers[at]) * numbers[at + 1u] * numbers[at + 5u])",
        )
    }

    fn element_wise(&self, bindings: &str, value: &str) -> Text {
        let vectors = self.groups() * self.pixels;
        let text = format!(
            "{SOURCE}{CHANNELS}{bindings}{RESULT}{main}{each}    let at = i / {pixels}u * {NUMBERS}u;
    result[i] = {value};
  }}
}}
",
            main = each_main(),
            each = each(vectors),
            pixels = self.pixels,
        );
        (text, workgroups(vectors))
    }
}
