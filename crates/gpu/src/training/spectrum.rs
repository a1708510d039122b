//! The kernels of the loss on the spectrum: Fourier transforms of the errors as sums over a line, which take a hundredth of the
//! network's work at 128 pixels a side.
//!
//! Planes are those of the targets: of each patch red, green and blue, and then those of the teacher. Spectra have element
//! `(plane * side + line) * half + frequency`.

use std::f64::consts::TAU;

use super::kernels::{
    LOSS_WORKGROUPS, LossKernel, TABLE, THREADS, WORK, WorkLayout, each, each_main, total,
    workgroups,
};

pub(super) struct Spectrum<'l> {
    pub(super) loss: &'l LossKernel,
    /// Weight of the spectrum in the loss.
    pub(super) weight: f64,
    /// First number of [`Spectrum::roots`] in the table.
    pub(super) roots_at: usize,
}

impl Spectrum<'_> {
    /// Side of a plane.
    pub(super) fn side(&self) -> usize {
        self.loss.patches.side_px * self.loss.factor
    }

    /// Frequencies along a row; the others mirror them.
    fn half(&self) -> usize {
        self.side() / 2 + 1
    }

    /// Planes of the originals.
    fn originals(&self) -> usize {
        3 * self.loss.patches.count
    }

    fn planes(&self) -> usize {
        self.originals() * (1 + usize::from(self.loss.teacher_weight.is_some()))
    }

    pub(super) fn errors_len(&self) -> usize {
        self.planes() * self.side().pow(2)
    }

    /// Complex numbers of a spectrum.
    pub(super) fn spectrum_len(&self) -> usize {
        self.planes() * self.side() * self.half()
    }

    /// The bits of cosine and sine of each part of a turn.
    pub(super) fn roots(side: usize) -> impl Iterator<Item = u32> {
        (0..side).flat_map(move |at| {
            let (sin, cos) = (TAU * at as f64 / side as f64).sin_cos();
            [cos, sin].map(|value| (value as f32).to_bits())
        })
    }

    fn head(&self) -> String {
        format!(
            "{TABLE}fn root(turns: u32) -> vec2<f32> {{
  let at = {}u + 2u * (turns % {}u);
  return vec2<f32>(bitcast<f32>(table[at]), bitcast<f32>(table[at + 1u]));
}}
",
            self.roots_at,
            self.side()
        )
    }

    /// The errors against all targets.
    pub(super) fn errors(&self) -> (String, [u32; 3]) {
        let LossKernel {
            patches,
            factor,
            mean: [red, green, blue],
            ..
        } = *self.loss;
        let low = patches.side_px;
        let text = format!(
            "@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> target_samples: array<f32>;
@group(0) @binding(4) var<storage, read_write> errors: array<f32>;
{main}  let mean = vec3<f32>({red:e}, {green:e}, {blue:e});
{each}    let x = i % {side}u;
    let y = i / {side}u % {side}u;
    let plane = i / {area}u;
    let wide = (plane % 3u * {factor}u + y % {factor}u) * {factor}u + x % {factor}u;
    let pixel = (plane / 3u % {count}u * {low}u + y / {factor}u) * {low}u + x / {factor}u;
    let value = source[wide / 4u * {pixels}u + pixel][wide % 4u] + mean[plane % 3u];
    errors[i] = value - target_samples[i];
  }}
}}
",
            main = each_main(),
            each = each(self.errors_len()),
            side = self.side(),
            area = self.side().pow(2),
            count = patches.count,
            pixels = patches.count * low * low,
        );
        (text, workgroups(self.errors_len()))
    }

    /// The spectra of the rows.
    pub(super) fn rows(&self) -> (String, [u32; 3]) {
        let text = format!(
            "@group(0) @binding(1) var<storage, read> errors: array<f32>;
@group(0) @binding(4) var<storage, read_write> spectrum: array<vec2<f32>>;
{head}{main}{each}    let u = i % {half}u;
    let row = i / {half}u;
    var sum = vec2<f32>();
    for (var x = 0u; x < {side}u; x++) {{
      sum += errors[row * {side}u + x] * root(u * x);
    }}
    spectrum[i] = vec2<f32>(sum.x, -sum.y);
  }}
}}
",
            head = self.head(),
            main = each_main(),
            each = each(self.spectrum_len()),
            half = self.half(),
            side = self.side(),
        );
        (text, workgroups(self.spectrum_len()))
    }

    /// The loss on the spectra, from those of the rows, and its gradient by the spectra.
    pub(super) fn columns(&self, work: WorkLayout) -> (String, [u32; 3]) {
        let (side, half) = (self.side(), self.half());
        let of_taught = f64::from(self.loss.teacher_weight.unwrap_or(0.0));
        let factor = self.weight * (side * side) as f64 / (2 * side * half) as f64;
        let text = format!(
            "@group(0) @binding(1) var<storage, read> rows: array<vec2<f32>>;
{WORK}@group(0) @binding(4) var<storage, read_write> slopes: array<vec2<f32>>;
{head}{total}@compute @workgroup_size({THREADS})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>) {{
  var sum = 0.0;
  for (var i = id.x; i < {elements}u; i += {stride}u) {{
    let u = i % {half}u;
    let v = i / {half}u % {side}u;
    let plane = i / {area}u;
    var value = vec2<f32>();
    for (var y = 0u; y < {side}u; y++) {{
      let z = rows[(plane * {side}u + y) * {half}u + u];
      let r = root(v * y);
      value += vec2<f32>(fma(z.x, r.x, z.y * r.y), fma(z.y, r.x, -z.x * r.y));
    }}
    let weight = select({by_original:e}, {by_teacher:e}, plane >= {originals}u);
    sum += weight * (abs(value.x) + abs(value.y));
    slopes[i] = weight * sign(value);
  }}
  let group_sum = total(sum, lane);
  if (lane == 0u) {{ work[{losses}u + group.x] = group_sum; }}
}}
",
            head = self.head(),
            total = total(THREADS),
            elements = self.spectrum_len(),
            stride = LOSS_WORKGROUPS * THREADS,
            area = side * half,
            by_original = (factor * (1.0 - of_taught)) as f32,
            by_teacher = (factor * of_taught) as f32,
            originals = self.originals(),
            losses = work.losses() + LOSS_WORKGROUPS,
        );
        (text, [LOSS_WORKGROUPS as u32, 1, 1])
    }

    /// The transposed transform of the columns.
    pub(super) fn columns_back(&self) -> (String, [u32; 3]) {
        let text = format!(
            "@group(0) @binding(1) var<storage, read> slopes: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> rows: array<vec2<f32>>;
{head}{main}{each}    let u = i % {half}u;
    let y = i / {half}u % {side}u;
    let plane = i / {area}u;
    var value = vec2<f32>();
    for (var v = 0u; v < {side}u; v++) {{
      let z = slopes[(plane * {side}u + v) * {half}u + u];
      let r = root(v * y);
      value += vec2<f32>(fma(z.x, r.x, -z.y * r.y), fma(z.y, r.x, z.x * r.y));
    }}
    rows[i] = value;
  }}
}}
",
            head = self.head(),
            main = each_main(),
            each = each(self.spectrum_len()),
            half = self.half(),
            side = self.side(),
            area = self.side() * self.half(),
        );
        (text, workgroups(self.spectrum_len()))
    }

    /// Adds the transposed transform of the rows to the gradient by the map.
    pub(super) fn rows_back(&self) -> (String, [u32; 3]) {
        let LossKernel {
            patches, factor, ..
        } = *self.loss;
        let (low, square) = (patches.side_px, factor * factor);
        let pixels = patches.count * low * low;
        let elements = self.loss.groups() * pixels;
        let text = format!(
            "@group(0) @binding(1) var<storage, read> rows: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> gradient: array<vec4<f32>>;
{head}{main}{each}    let pixel = i % {pixels}u;
    var slopes = gradient[i];
    for (var part = 0u; part < 4u; part++) {{
      let channel = i / {pixels}u * 4u + part;
      if (channel >= {channels}u) {{ break; }}
      let y = pixel / {low}u % {low}u * {factor}u + channel / {factor}u % {factor}u;
      let x = pixel % {low}u * {factor}u + channel % {factor}u;
      let first = pixel / {area}u * 3u + channel / {square}u;
      for (var plane = first; plane < {planes}u; plane += {originals}u) {{
        for (var u = 0u; u < {half}u; u++) {{
          let z = rows[(plane * {side}u + y) * {half}u + u];
          let r = root(u * x);
          slopes[part] += fma(z.x, r.x, -z.y * r.y);
        }}
      }}
    }}
    gradient[i] = slopes;
  }}
}}
",
            head = self.head(),
            main = each_main(),
            each = each(elements),
            channels = 3 * square,
            area = low * low,
            planes = self.planes(),
            originals = self.originals(),
            half = self.half(),
            side = self.side(),
        );
        (text, workgroups(elements))
    }
}
