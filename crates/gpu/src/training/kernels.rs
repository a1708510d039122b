//! The text of the kernels that only training needs. All sizes are constants of the text.
//!
//! - `table`: for each output channel of each convolution, its row, [`ROW_LEN`] numbers; then for each packed weight the place
//!   of its parameter and of its factor; then the clean weights at the places of the parameters, and what the loss on the
//!   spectrum needs.
//! - `state`: parameter, average, first and second moment of each parameter.
//! - `work`: see [`WorkLayout`].

use wdsr_model::DevicePrecision;
use wdsr_train::Loss;
use wdsr_train::optimizer::{BETA_1, BETA_2, EPSILON};
use wdsr_train::parameters::EDGE_FILTERS;

use crate::wgsl::Patches;

/// Numbers of a row of the table: weight, inputs of a channel, gain, bias; sums, input groups, output groups, channel; taps,
/// factor (its bits), sums of biases, 1x1 branch; weights of the first edge branch, its factor, from these to those of the next
/// edge branch.
pub(super) const ROW_LEN: usize = 15;
/// The gain of a row without weight normalisation, the 1x1 branch of one without branches, and the parameter of a packed weight that
/// is 0.
pub(super) const NONE: u32 = u32::MAX;
/// Workgroups along x for one workgroup a row; further ones are along y.
pub(super) const ROWS_ALONG_X: usize = 32_768;
/// Threads of a kernel over elements, and the most workgroups of it: a thread loops over the rest.
pub(super) const THREADS: usize = 256;
const MAX_WORKGROUPS: usize = 4_096;
/// Threads of a workgroup for a row.
const ROW_THREADS: usize = 64;
/// Workgroups that sum the loss.
pub(super) const LOSS_WORKGROUPS: usize = 1_024;
/// Places in `work`, in numbers.
#[derive(Clone, Copy)]
pub(super) struct WorkLayout {
    pub(super) rows: usize,
    /// Groups of channels of all batch normalisations.
    pub(super) norm_groups: usize,
    pub(super) parameters: usize,
}

impl WorkLayout {
    /// Squared length of the gradient of each row. Before them are for each row the factor of its weights, that of its bias, and
    /// the length of its direction.
    fn norms(self) -> usize {
        3 * self.rows
    }

    /// Squared length of the gradient of each group of channels of batch normalisations.
    pub(super) fn norms_of_groups(self) -> usize {
        self.norms() + self.rows
    }

    pub(super) fn losses(self) -> usize {
        self.norms_of_groups() + self.norm_groups
    }

    /// The factor that clips the gradient. Before it are the losses of [`LOSS_WORKGROUPS`] workgroups, and then those on the
    /// spectrum.
    fn clip(self) -> usize {
        self.losses() + 2 * LOSS_WORKGROUPS
    }

    pub(super) fn gradient(self) -> usize {
        self.clip() + 1
    }

    pub(super) fn len(self) -> usize {
        self.gradient() + self.parameters
    }
}

/// Workgroups of a kernel over elements.
pub(super) fn workgroups(elements: usize) -> [u32; 3] {
    [
        elements.div_ceil(THREADS).clamp(1, MAX_WORKGROUPS) as u32,
        1,
        1,
    ]
}

/// The head of a loop over elements `i`.
pub(super) fn each(elements: usize) -> String {
    let [groups, ..] = workgroups(elements);
    format!(
        "  for (var i = id.x; i < {elements}u; i += {}u) {{\n",
        groups as usize * THREADS
    )
}

/// A sum over the threads of a workgroup, in an order that does not change.
pub(super) fn total(threads: usize) -> String {
    total_of(threads, "f32")
}

/// The same of numbers or vectors.
pub(super) fn total_of(threads: usize, kind: &str) -> String {
    format!(
        "var<workgroup> sums: array<{kind}, {threads}>;
fn total(value: {kind}, lane: u32) -> {kind} {{
  sums[lane] = value;
  workgroupBarrier();
  for (var half = {half}u; half > 0u; half /= 2u) {{
    if (lane < half) {{ sums[lane] += sums[lane + half]; }}
    workgroupBarrier();
  }}
  let sum = sums[0];
  workgroupBarrier();
  return sum;
}}
",
        half = threads / 2
    )
}

pub(super) const STATE: &str =
    "@group(0) @binding(1) var<storage, read_write> state: array<vec4<f32>>;\n";
pub(super) const TABLE: &str = "@group(0) @binding(2) var<storage, read> table: array<u32>;\n";
pub(super) const WORK: &str = "@group(0) @binding(3) var<storage, read_write> work: array<f32>;\n";
const RATES: &str =
    "struct Rates { step: f32, root: f32, average_share: f32, strength: f32, slot: u32 }
@group(0) @binding(0) var<uniform> rates: Rates;\n";

fn row_main(threads: usize) -> String {
    format!(
        "@compute @workgroup_size({threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {{
  let index = group.y * {ROWS_ALONG_X}u + group.x;
  let at = index * {ROW_LEN}u;
"
    )
}

pub(super) fn each_main() -> String {
    format!(
        "@compute @workgroup_size({THREADS})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
"
    )
}

/// The factors of each row: a workgroup for a row.
pub(super) fn factors() -> String {
    format!(
        "{STATE}{TABLE}{WORK}{total}{main}  let weight = table[at];
  let inputs = table[at + 1u];
  let gain = table[at + 2u];
  let factor = bitcast<f32>(table[at + 9u]);
  var squares = 0.0;
  for (var i = lane; i < inputs; i += {ROW_THREADS}u) {{
    let v = state[weight + i].x;
    squares = fma(v, v, squares);
  }}
  let row_length = sqrt(total(squares, lane));
  if (lane == 0u) {{
    var of_weights = factor;
    if (gain != {NONE}u) {{ of_weights = factor * (state[gain].x / row_length); }}
    work[3u * index] = of_weights;
    work[3u * index + 1u] = factor;
    work[3u * index + 2u] = row_length;
  }}
}}
",
        total = total(ROW_THREADS),
        main = row_main(ROW_THREADS)
    )
}

/// The edge filters.
fn edge_filters() -> String {
    let taps = EDGE_FILTERS.map(|(_, taps)| taps.map(|tap| format!("{tap:e}")).join(", "));
    format!(
        "var edge_filters = array<f32, {}>({});",
        9 * EDGE_FILTERS.len(),
        taps.join(", ")
    )
}

/// What the branches of a row add to a weight of it.
fn of_branches() -> String {
    format!(
        "fn of_branches(at: u32, weight: u32) -> f32 {{
  let centre = table[at + 11u];
  if (centre == {NONE}u) {{ return 0.0; }}
  {filters}
  let input = weight / 9u;
  let tap = weight % 9u;
  var sum = 0.0;
  if (tap == 4u) {{ sum = state[centre + input].x; }}
  for (var edge = 0u; edge < {edges}u; edge++) {{
    let weights = table[at + 12u] + edge * table[at + 14u];
    let factor = table[at + 13u] + edge * table[at + 14u];
    sum = fma(state[factor].x * state[weights + input].x, edge_filters[9u * edge + tap], sum);
  }}
  return sum;
}}
",
        filters = edge_filters(),
        edges = EDGE_FILTERS.len()
    )
}

/// The gradient by a weight of a row, given its input and tap, from that by the packed weights.
const SLOPE: &str = "factor * partial[first
        + (((tap * in_groups + input / 4u) * out_groups + channel / 4u) * 4u + input % 4u) * 4u + channel % 4u]";

/// The gradient by the branches of a row, from that by its packed weights, and its squares.
fn by_branches(work: WorkLayout) -> String {
    format!(
        "  let centre = table[at + 11u];
  if (centre != {NONE}u) {{
    {filters}
    for (var edge = 0u; edge < {edges}u; edge++) {{
      let weights = table[at + 12u] + edge * table[at + 14u];
      let edge_factor = table[at + 13u] + edge * table[at + 14u];
      var by_factor = 0.0;
      for (var input = lane; input < inputs / 9u; input += {ROW_THREADS}u) {{
        var by_product = 0.0;
        for (var tap = 0u; tap < 9u; tap++) {{
          let slope = {SLOPE};
          by_product = fma(slope, edge_filters[9u * edge + tap], by_product);
          if (edge == 0u && tap == 4u) {{
            work[{gradient}u + centre + input] = slope;
            squares = fma(slope, slope, squares);
          }}
        }}
        let by_weight = by_product * state[edge_factor].x;
        work[{gradient}u + weights + input] = by_weight;
        squares = fma(by_weight, by_weight, squares);
        by_factor = fma(by_product, state[weights + input].x, by_factor);
      }}
      let by_factors = total(by_factor, lane);
      if (lane == 0u) {{
        work[{gradient}u + edge_factor] = by_factors;
        squares = fma(by_factors, by_factors, squares);
      }}
    }}
  }}
",
        filters = edge_filters(),
        edges = EDGE_FILTERS.len(),
        gradient = work.gradient()
    )
}

/// Packs the weights for the convolutions, `packed` of them, from `table[first..]`. With the place of clean weights they are
/// between these and the parameters.
pub(super) fn pack(
    first: usize,
    packed: usize,
    clean: Option<usize>,
    has_branches: bool,
    precision: DevicePrecision,
) -> String {
    let (branches, add_branches) = match has_branches {
        false => (String::new(), String::new()),
        true => {
            let add = format!(
                "
      let factor = table[{first}u + 2u * i + 1u];
      if (factor % 3u == 0u) {{
        let at = factor / 3u * {ROW_LEN}u;
        value += bitcast<f32>(table[at + 9u]) * of_branches(at, parameter - table[at]);
      }}"
            );
            (of_branches(), add)
        }
    };
    let number = precision.name();
    let mix = clean.map_or_else(String::new, |clean| {
        format!(
            "\n      value = bitcast<f32>(table[{clean}u + parameter]) * (1.0 - rates.strength) + value * rates.strength;"
        )
    });
    format!(
        "{enable}{RATES}{STATE}{TABLE}{WORK}@group(0) @binding(4) var<storage, read_write> packed: array<{number}>;
{branches}{main}{each}    let parameter = table[{first}u + 2u * i];
    var value = 0.0;
    if (parameter != {NONE}u) {{
      value = state[parameter].x * work[table[{first}u + 2u * i + 1u]];{add_branches}{mix}
    }}
    packed[i] = {number}(value);
  }}
}}
",
        enable = match precision {
            DevicePrecision::F32 => "",
            DevicePrecision::F16 => "enable f16;\n",
        },
        main = each_main(),
        each = each(packed)
    )
}

/// The loss of a map, shuffled by `factor`, and its gradient by the map.
pub(super) struct LossKernel {
    pub(super) loss: Loss,
    pub(super) mean: [f32; 3],
    pub(super) teacher_weight: Option<f32>,
    /// Of the map.
    pub(super) patches: Patches,
    pub(super) factor: usize,
}

impl LossKernel {
    pub(super) fn groups(&self) -> usize {
        (3 * self.factor * self.factor).div_ceil(4)
    }

    pub(super) fn samples(&self) -> usize {
        let side = self.patches.side_px * self.factor;
        3 * side * side * self.patches.count
    }

    pub(super) fn text(&self, work: WorkLayout) -> String {
        let (factor, square) = (self.factor, self.factor * self.factor);
        let side = self.patches.side_px;
        let plane = self.patches.count * side * side;
        let elements = self.groups() * plane;
        let of = match self.loss {
            Loss::L1 | Loss::Fft { .. } => "vec2<f32>(abs(e), sign(e))".to_owned(),
            Loss::L2 => "vec2<f32>(e * e, 2.0 * e)".to_owned(),
            Loss::Charbonnier { epsilon } => {
                let square = (epsilon as f32).powi(2);
                format!("charbonnier(e, sqrt(fma(e, e, {square:e})))")
            }
        };
        let taught = match self.teacher_weight {
            None => String::new(),
            Some(weight) => format!(
                "      let by_teacher = loss(error - target_samples[at + {}u]);
      by_original += {weight:e} * (by_teacher - by_original);
",
                self.samples()
            ),
        };
        let [red, green, blue] = self.mean;
        format!(
            "@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> target_samples: array<f32>;
{WORK}@group(0) @binding(4) var<storage, read_write> gradient: array<vec4<f32>>;
{total}
fn charbonnier(e: f32, root: f32) -> vec2<f32> {{
  if (root == 0.0) {{ return vec2<f32>(); }}
  return vec2<f32>(root, e / root);
}}
fn loss(e: f32) -> vec2<f32> {{ return {of}; }}
@compute @workgroup_size({THREADS})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>) {{
  let mean = vec3<f32>({red:e}, {green:e}, {blue:e});
  var sum = 0.0;
  for (var i = id.x; i < {elements}u; i += {stride}u) {{
    let pixel = i % {plane}u;
    let x = pixel % {side}u;
    let y = pixel / {side}u % {side}u;
    let in_batch = pixel / {area}u;
    var slopes = vec4<f32>();
    for (var part = 0u; part < 4u; part++) {{
      let channel = i / {plane}u * 4u + part;
      if (channel >= {channels}u) {{ break; }}
      let colour = channel / {square}u;
      let row = y * {factor}u + channel / {factor}u % {factor}u;
      let column = x * {factor}u + channel % {factor}u;
      let at = ((in_batch * 3u + colour) * {high}u + row) * {high}u + column;
      let error = source[i][part] + mean[colour];
      var by_original = loss(error - target_samples[at]);
{taught}      sum += by_original.x;
      slopes[part] = by_original.y;
    }}
    gradient[i] = slopes;
  }}
  let group_sum = total(sum, lane);
  if (lane == 0u) {{ work[{losses}u + group.x] = group_sum; }}
}}
",
            total = total(THREADS),
            stride = LOSS_WORKGROUPS * THREADS,
            area = side * side,
            channels = 3 * square,
            high = side * factor,
            losses = work.losses(),
        )
    }
}

/// Sums the partial gradients of all chunks, `len` vectors each, into the first.
pub(super) fn sum_chunks(chunks: usize, len: usize) -> String {
    format!(
        "@group(0) @binding(1) var<storage, read_write> partial: array<vec4<f32>>;
{main}{each}    var sum = partial[i];
    for (var chunk = 1u; chunk < {chunks}u; chunk++) {{ sum += partial[chunk * {len}u + i]; }}
    partial[i] = sum;
  }}
}}
",
        main = each_main(),
        each = each(len)
    )
}

/// The gradient by the parameters of each row, from that by its packed weights: a workgroup for a row.
pub(super) fn by_parameters(work: WorkLayout, samples: usize, has_branches: bool) -> String {
    let by_branches = match has_branches {
        false => String::new(),
        true => by_branches(work),
    };
    format!(
        "{RATES}{STATE}{TABLE}{WORK}@group(0) @binding(4) var<storage, read> partial: array<f32>;
{total}{main}  let weight = table[at];
  let inputs = table[at + 1u];
  let gain = table[at + 2u];
  let bias = table[at + 3u];
  let first = table[at + 4u];
  let in_groups = table[at + 5u];
  let out_groups = table[at + 6u];
  let channel = table[at + 7u];
  let taps = table[at + 8u];
  // Packed weights are linear in the parameters: their share is the strength.
  let factor = bitcast<f32>(table[at + 9u]) * {scale:e} * rates.strength;
  var products = 0.0;
  var squares = 0.0;
  for (var i = lane; i < inputs; i += {ROW_THREADS}u) {{
    let input = i / taps;
    let tap = i % taps;
    let slope = {SLOPE};
    work[{gradient}u + weight + i] = slope;
    products = fma(slope, state[weight + i].x, products);
    squares = fma(slope, slope, squares);
  }}
  if (gain != {NONE}u) {{
    let row_length = work[3u * index + 2u];
    let by_gain = total(products, lane) / row_length;
    let ratio = state[gain].x / row_length;
    squares = 0.0;
    for (var i = lane; i < inputs; i += {ROW_THREADS}u) {{
      let slope = ratio * (work[{gradient}u + weight + i] - by_gain * state[weight + i].x / row_length);
      work[{gradient}u + weight + i] = slope;
      squares = fma(slope, slope, squares);
    }}
    if (lane == 0u) {{
      work[{gradient}u + gain] = by_gain;
      squares = fma(by_gain, by_gain, squares);
    }}
  }}
{by_branches}  if (lane == 0u) {{
    let slope = factor * partial[table[at + 10u] + channel];
    work[{gradient}u + bias] = slope;
    squares = fma(slope, slope, squares);
  }}
  let sum = total(squares, lane);
  if (lane == 0u) {{ work[{norms}u + index] = sum; }}
}}
",
        total = total(ROW_THREADS),
        main = row_main(ROW_THREADS),
        scale = 1.0 / samples as f32,
        gradient = work.gradient(),
        norms = work.norms(),
    )
}

/// Loss and length of the gradient, into the slot of the update, and the factor that clips the gradient: one workgroup.
pub(super) fn measure(work: WorkLayout, samples: usize, clip_norm: f32) -> String {
    let clip = match clip_norm > 0.0 {
        true => format!("select(1.0, {clip_norm:e} / all_length, all_length > {clip_norm:e})"),
        false => "1.0".to_owned(),
    };
    format!(
        "{RATES}{WORK}@group(0) @binding(4) var<storage, read_write> results: array<vec2<f32>>;
{total}@compute @workgroup_size({THREADS})
fn main(@builtin(local_invocation_index) lane: u32) {{
  var loss = 0.0;
  for (var i = lane; i < {losses_len}u; i += {THREADS}u) {{ loss += work[{losses}u + i]; }}
  var squares = 0.0;
  for (var i = lane; i < {rows}u; i += {THREADS}u) {{ squares += work[{norms}u + i]; }}
  let all_length = sqrt(total(squares, lane));
  let sum = total(loss, lane);
  if (lane == 0u) {{
    results[rates.slot] = vec2<f32>(sum * {scale:e}, all_length);
    work[{at}u] = {clip};
  }}
}}
",
        total = total(THREADS),
        losses = work.losses(),
        losses_len = 2 * LOSS_WORKGROUPS,
        rows = work.rows + work.norm_groups,
        norms = work.norms(),
        scale = 1.0 / samples as f32,
        at = work.clip(),
    )
}

/// Adam, and the moving average.
pub(super) fn adam(work: WorkLayout) -> String {
    format!(
        "{RATES}{STATE}{WORK}{main}  let clip = work[{clip}u];
{each}    var s = state[i];
    let gradient = work[{gradient}u + i] * clip;
    s.z += {first:e} * (gradient - s.z);
    s.w = {BETA_2:e} * s.w + {second:e} * gradient * gradient;
    s.x -= rates.step * s.z / (sqrt(s.w) / rates.root + {EPSILON:e});
    s.y += rates.average_share * (s.x - s.y);
    state[i] = s;
  }}
}}
",
        main = each_main(),
        each = each(work.parameters),
        clip = work.clip(),
        gradient = work.gradient(),
        first = 1.0 - BETA_1,
        second = 1.0 - BETA_2,
    )
}

/// The sum of two maps of so many vectors.
pub(super) fn add(vectors: usize) -> String {
    format!(
        "@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> term: array<vec4<f32>>;
{main}{each}    result[i] = source[i] + term[i];
  }}
}}
",
        main = each_main(),
        each = each(vectors)
    )
}
