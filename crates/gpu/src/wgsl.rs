//! The text of the kernels.
//!
//! A map holds four channels of a pixel as a vector: element `(group * height + y) * width + x`. A thread
//! computes a few rows of one column, so that neighbouring threads read neighbouring vectors and each weight serves several
//! pixels. Inner loops are written out: a driver then keeps sums in registers.

use std::fmt::Write;

use wdsr_model::{Activation, DevicePrecision};

use crate::matrices::{Matrices, SUBGROUPS};

/// Bytes of four channels of a pixel.
pub(crate) fn vector_bytes(precision: DevicePrecision) -> usize {
    match precision {
        DevicePrecision::F32 => 16,
        DevicePrecision::F16 => 8,
    }
}

/// Threads of a workgroup along columns and rows, unless measurements choose others.
pub(crate) const WORKGROUP: [u32; 2] = [32, 4];

/// Threads of a workgroup on patches.
const PATCHES_WORKGROUP: usize = 128;

/// The sizes of a tile, with its halo, and the wanted part.
const TILE: &str = "struct Tile { width: u32, height: u32, x: u32, y: u32, columns: u32, rows: u32, a: u32, b: u32 }
@group(0) @binding(0) var<uniform> tile: Tile;
";

/// Rows that a thread of a convolution computes.
const CONV_ROWS: usize = 4;

/// Most output groups that a thread of a convolution computes.
const CONV_GROUPS: usize = 4;

/// Vectors of a pixel that a thread of a pair keeps in registers, to compute two rows.
const PAIR_VECTORS: usize = 17;

/// Hidden products that a pair sums in f16 before they are added in f32.
const PAIR_F16_GROUPS: usize = 4;

/// Number formats of what a kernel reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Formats {
    /// Of products and weights.
    pub(crate) products: DevicePrecision,
    pub(crate) source: DevicePrecision,
    pub(crate) term: Option<DevicePrecision>,
    pub(crate) result: DevicePrecision,
}

/// A kernel; all sizes are constants of its text, except for those of the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Kernel {
    pub(crate) work: Work,
    pub(crate) formats: Formats,
    /// Pixels of the result's map for each pixel of the image, on a side.
    pub(crate) scale: usize,
    /// The patches of a batch, side by side in each map; a tile if there are none.
    pub(crate) patches: Option<Patches>,
    /// Threads of a workgroup along columns and rows, unless it computes patches. With matrices, threads of a subgroup,
    /// and subgroups.
    pub(crate) workgroup: [u32; 2],
    /// What it computes products with, if not with vectors.
    pub(crate) matrices: Option<Matrices>,
}

/// The square patches of a batch. A map of them has element `((group * count + patch) * height + y) * width + x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patches {
    pub(crate) count: usize,
    /// Their side, of the input.
    pub(crate) side_px: usize,
}

/// What a kernel computes. Groups are vectors of four channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Work {
    /// A convolution, its activation, and the term that is added.
    Conv {
        /// Side of the convolution's kernel.
        side: usize,
        in_groups: usize,
        out_groups: usize,
        activation: Activation,
        /// Whether the result is 0 where the term is not positive, instead of its sum with it: the gradient through a ReLU.
        masks: bool,
    },
    /// Two 1x1 convolutions with a ReLU between them.
    Pair {
        in_groups: usize,
        hidden_groups: usize,
        out_groups: usize,
    },
    /// Pixel shuffle.
    Shuffle { factor: usize, out_groups: usize },
    /// The inverse of pixel shuffle.
    #[cfg_attr(
        not(feature = "train"),
        allow(dead_code, reason = "gradients alone have it")
    )]
    Unshuffle { factor: usize, out_groups: usize },
    /// Each channel `times` times in a row.
    Repeat { times: usize, out_groups: usize },
    /// Bilinear interpolation.
    Enlarge { factor: usize, groups: usize },
    /// Pixel shuffle of the wanted pixels into R G B interleaved.
    Finish { shuffle: usize },
}

/// The workgroup of a kernel with or without matrices, unless measurements choose another.
pub(crate) fn default_workgroup(matrices: Option<Matrices>) -> [u32; 2] {
    matrices.map_or(WORKGROUP, |matrices| {
        [matrices.threads as u32, SUBGROUPS as u32]
    })
}

/// Output groups of a convolution that a thread computes: few threads and little padding.
pub(crate) fn conv_block(out_groups: usize) -> usize {
    let cost = |&block: &usize| out_groups.div_ceil(block) * (2 * block + 1);
    let blocks = (1..=CONV_GROUPS).rev();
    blocks.min_by_key(cost).unwrap_or(1)
}

impl Kernel {
    /// Whether it reads weights.
    pub(crate) fn has_weights(&self) -> bool {
        matches!(self.work, Work::Conv { .. } | Work::Pair { .. })
    }

    /// Rows that a thread computes.
    fn rows(&self) -> usize {
        match self.work {
            Work::Conv { .. } => CONV_ROWS,
            Work::Pair {
                in_groups,
                out_groups,
                ..
            } => 1 + usize::from(in_groups + out_groups <= PAIR_VECTORS),
            _ => 1,
        }
    }

    /// Workgroups for a tile, with its halo and wanted pixels.
    pub(crate) fn workgroups(&self, [width, height]: [u32; 2], wanted: [u32; 2]) -> [u32; 3] {
        let layers = match self.work {
            Work::Conv { out_groups, .. } => out_groups.div_ceil(conv_block(out_groups)),
            Work::Shuffle { out_groups, .. }
            | Work::Unshuffle { out_groups, .. }
            | Work::Repeat { out_groups, .. } => out_groups,
            Work::Enlarge { groups, .. } => groups,
            Work::Pair { .. } | Work::Finish { .. } => 1,
        };
        if let (Some(matrices), Some(patches)) = (self.matrices, self.patches) {
            return matrices.workgroups(self, [patches.side_px * self.scale; 2]);
        }
        if let Some(patches) = self.patches {
            let side = patches.side_px * self.scale;
            let threads = patches.count * side.div_ceil(self.rows()) * side;
            return [threads.div_ceil(PATCHES_WORKGROUP) as u32, 1, layers as u32];
        }
        let [columns, rows] = match self.work {
            Work::Finish { .. } => wanted,
            _ => [width, height],
        };
        let scale = self.scale as u32;
        if let Some(matrices) = self.matrices {
            return matrices.workgroups(self, [columns * scale, rows * scale].map(|n| n as usize));
        }
        [
            (columns * scale).div_ceil(self.workgroup[0]),
            (rows * scale).div_ceil(self.workgroup[1] * self.rows() as u32),
            layers as u32,
        ]
    }

    /// The text, in WGSL.
    pub(crate) fn text(&self) -> String {
        let mut text = self.declarations();
        match self.matrices {
            Some(matrices) => text += &matrices.text(self),
            None => self.main(&mut text),
        }
        text += "}\n";
        text
    }

    /// Extensions and bindings.
    fn declarations(&self) -> String {
        let Formats {
            products,
            source,
            term,
            result,
        } = self.formats;
        let all = [Some(products), Some(source), term, Some(result)];
        let mut text = String::new();
        if all.contains(&Some(DevicePrecision::F16)) {
            text += "enable f16;\n";
        }
        if self.matrices.is_some() {
            text += "enable wgpu_cooperative_matrix;\n";
        }
        let result = match self.work {
            Work::Finish { .. } => result.name().to_owned(),
            _ => format!("vec4<{}>", result.name()),
        };
        let _ = write!(
            text,
            "{}@group(0) @binding(1) var<storage, read> source: array<vec4<{}>>;
@group(0) @binding(2) var<storage, read_write> result: array<{result}>;
",
            match self.patches {
                None => TILE,
                Some(_) => "",
            },
            source.name()
        );
        if self.has_weights() {
            let weight = match self.matrices {
                Some(_) => products.name().to_owned(),
                None => format!("vec4<{}>", products.name()),
            };
            let _ = writeln!(
                text,
                "@group(0) @binding(3) var<storage, read> weights: array<{weight}>;"
            );
        }
        if let Some(term) = term {
            let name = term.name();
            let _ = writeln!(
                text,
                "@group(0) @binding(4) var<storage, read> term: array<vec4<{name}>>;"
            );
        }
        text
    }

    /// `main`, but for its last brace.
    fn main(&self, text: &mut String) {
        let (scale, rows) = (self.scale, self.rows());
        let [x, y] = match self.patches {
            None => self.workgroup,
            Some(_) => [PATCHES_WORKGROUP as u32, 1],
        };
        let _ = write!(
            text,
            "@compute @workgroup_size({x}, {y})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
"
        );
        match self.patches {
            None => {
                let _ = write!(
                    text,
                    "  let x = i32(id.x);
  let y = i32(id.y) * {rows};
  let origin = 0;
"
                );
            }
            Some(Patches { count, side_px }) => {
                let side = side_px * scale;
                let _ = write!(
                    text,
                    "  const width = {side};
  const height = {side};
  const plane = {count} * width * height;
  let x = i32(id.x) % width;
  let row = i32(id.x) / width;
  let y = row % {blocks} * {rows};
  let patch_index = row / {blocks};
  let origin = patch_index * width * height;
  if (patch_index >= {count}) {{ return; }}
",
                    blocks = side.div_ceil(rows)
                );
            }
        }
        if !matches!(self.work, Work::Finish { .. }) && self.patches.is_none() {
            let _ = write!(
                text,
                "  let width = i32(tile.width) * {scale};
  let height = i32(tile.height) * {scale};
  let plane = width * height;
  if (x >= width || y >= height) {{ return; }}
"
            );
        }
        match self.work {
            Work::Conv {
                side,
                in_groups,
                out_groups,
                activation,
                masks,
            } => self.conv(text, side, in_groups, out_groups, activation, masks),
            Work::Pair {
                in_groups,
                hidden_groups,
                out_groups,
            } => self.pair(text, in_groups, hidden_groups, out_groups),
            Work::Shuffle { factor, .. } => self.shuffle(text, factor),
            Work::Unshuffle { factor, .. } => self.unshuffle(text, factor),
            Work::Repeat { times, .. } => self.repeat(text, times),
            Work::Enlarge { factor, .. } => self.enlarge(text, factor),
            Work::Finish { shuffle } => self.finish(text, shuffle),
        }
    }

    fn conv(
        &self,
        text: &mut String,
        side: usize,
        in_groups: usize,
        out_groups: usize,
        activation: Activation,
        masks: bool,
    ) {
        let products = self.formats.products.name();
        let is_f16 = self.formats.products == DevicePrecision::F16;
        let (block, radius) = (conv_block(out_groups), side / 2);
        let has_slopes = has_slopes(activation);
        let block_len = conv_block_len(side, in_groups, block, has_slopes);
        let rows = CONV_ROWS;
        let _ = writeln!(text, "  var w = i32(id.z) * {block_len};");
        for group in 0..block {
            for row in 0..rows {
                let _ = writeln!(
                    text,
                    "  var s{group}_{row} = vec4<f32>(weights[w + {group}]);"
                );
            }
        }
        let head = if has_slopes { 2 * block } else { block };
        let _ = write!(
            text,
            "  w += {head};
  for (var c = 0; c < {in_groups}; c++) {{
    for (var dy = -{radius}; dy <= {radius}; dy++) {{
"
        );
        // In f16 the products of a row of the kernel are summed before they are added.
        let sum = if is_f16 { "t" } else { "s" };
        if is_f16 {
            for group in 0..block {
                for row in 0..rows {
                    let _ = writeln!(text, "      var t{group}_{row} = vec4<f16>();");
                }
            }
        }
        let _ = write!(
            text,
            "      for (var dx = -{radius}; dx <= {radius}; dx++) {{
        let is_column = u32(x + dx) < u32(width);
        let at = origin + c * plane + (y + dy) * width + x + dx;
"
        );
        for row in 0..rows {
            let _ = write!(
                text,
                "        let is{row} = is_column && u32(y + {row} + dy) < u32(height);
        let v{row} = select(vec4<{products}>(), \
                 vec4<{products}>(source[select(0, at + {row} * width, is{row})]), is{row});
"
            );
        }
        for group in 0..block {
            for (input, part) in ["x", "y", "z", "w"].into_iter().enumerate() {
                let weight = group * 4 + input;
                let _ = writeln!(text, "        let k{weight} = weights[w + {weight}];");
                for row in 0..rows {
                    let _ = writeln!(
                        text,
                        "        {sum}{group}_{row} = fma(k{weight}, v{row}.{part}{part}{part}{part}, \
                         {sum}{group}_{row});"
                    );
                }
            }
        }
        let _ = writeln!(text, "        w += {};\n      }}", block * 4);
        if is_f16 {
            for group in 0..block {
                for row in 0..rows {
                    let _ = writeln!(text, "      s{group}_{row} += vec4<f32>(t{group}_{row});");
                }
            }
        }
        let _ = writeln!(text, "    }}\n  }}\n  let first = i32(id.z) * {block};");
        let result = self.formats.result.name();
        for group in 0..block {
            let _ = writeln!(text, "  if (first + {group} < {out_groups}) {{");
            if has_slopes {
                let _ = writeln!(
                    text,
                    "    let slope = vec4<f32>(weights[i32(id.z) * {block_len} + {block} + {group}]);"
                );
            }
            for row in 0..rows {
                let sum = format!("s{group}_{row}");
                let mut value = activated(activation, &sum);
                let at = format!("origin + (first + {group}) * plane + (y + {row}) * width + x");
                value = self.with_term(value, &at, masks);
                let _ = writeln!(
                    text,
                    "    if (y + {row} < height) {{ result[{at}] = vec4<{result}>({value}); }}"
                );
            }
            *text += "  }\n";
        }
    }

    /// A value with the element `at` of the term, if there is one: their sum, or 0 where the term `masks`.
    pub(crate) fn with_term(&self, value: String, at: &str, masks: bool) -> String {
        let term = format!("vec4<f32>(term[{at}])");
        match self.formats.term {
            Some(_) if masks => format!("select(vec4<f32>(), {value}, {term} > vec4<f32>())"),
            Some(_) => format!("{value} + {term}"),
            None => value,
        }
    }

    fn pair(&self, text: &mut String, in_groups: usize, hidden_groups: usize, out_groups: usize) {
        let products = self.formats.products.name();
        let is_f16 = self.formats.products == DevicePrecision::F16;
        let rows = self.rows();
        let parts = ["x", "y", "z", "w"];
        for row in 0..rows {
            let _ = writeln!(
                text,
                "  let at{row} = min(y + {row}, height - 1) * width + x;"
            );
            for group in 0..in_groups {
                let _ = writeln!(
                    text,
                    "  let v{group}_{row} = vec4<{products}>(source[{group} * plane + at{row}]);"
                );
            }
            for group in 0..out_groups {
                let _ = writeln!(text, "  var s{group}_{row} = vec4<f32>(weights[{group}]);");
            }
        }
        let _ = write!(
            text,
            "  var w = {out_groups};
  for (var c = 0; c < {hidden_groups}; c++) {{
"
        );
        for row in 0..rows {
            let _ = writeln!(text, "    var h{row} = vec4<f32>(weights[w]);");
            if is_f16 {
                let _ = writeln!(text, "    var t{row} = vec4<f16>();");
            }
        }
        let hidden = if is_f16 { "t" } else { "h" };
        for group in 0..in_groups {
            for (input, part) in parts.into_iter().enumerate() {
                let weight = 1 + group * 4 + input;
                let _ = writeln!(text, "    let k{weight} = weights[w + {weight}];");
                for row in 0..rows {
                    let _ = writeln!(
                        text,
                        "    {hidden}{row} = fma(k{weight}, v{group}_{row}.{part}{part}{part}{part}, {hidden}{row});"
                    );
                }
            }
            if is_f16 && (group % PAIR_F16_GROUPS == PAIR_F16_GROUPS - 1 || group == in_groups - 1)
            {
                for row in 0..rows {
                    let _ = writeln!(
                        text,
                        "    h{row} += vec4<f32>(t{row}); t{row} = vec4<f16>();"
                    );
                }
            }
        }
        for row in 0..rows {
            let _ = writeln!(
                text,
                "    let u{row} = vec4<{products}>(max(h{row}, vec4<f32>()));"
            );
        }
        let reduce = 1 + in_groups * 4;
        for group in 0..out_groups {
            for (input, part) in parts.into_iter().enumerate() {
                let weight = reduce + group * 4 + input;
                let _ = writeln!(text, "    let k{weight} = weights[w + {weight}];");
                for row in 0..rows {
                    let hidden = format!("u{row}.{part}{part}{part}{part}");
                    let _ = match (is_f16, input) {
                        (false, _) => writeln!(
                            text,
                            "    s{group}_{row} = fma(k{weight}, {hidden}, s{group}_{row});"
                        ),
                        (true, 0) => {
                            writeln!(text, "    var p{group}_{row} = k{weight} * {hidden};")
                        }
                        (true, _) => writeln!(
                            text,
                            "    p{group}_{row} = fma(k{weight}, {hidden}, p{group}_{row});"
                        ),
                    };
                }
            }
            if is_f16 {
                for row in 0..rows {
                    let _ = writeln!(text, "    s{group}_{row} += vec4<f32>(p{group}_{row});");
                }
            }
        }
        let _ = write!(
            text,
            "    w += {};
  }}
",
            reduce + out_groups * 4
        );
        let result = self.formats.result.name();
        for row in 0..rows {
            let _ = writeln!(text, "  if (y + {row} < height) {{");
            for group in 0..out_groups {
                let _ = writeln!(
                    text,
                    "    result[{group} * plane + at{row}] = vec4<{result}>(s{group}_{row});"
                );
            }
            *text += "  }\n";
        }
    }

    /// Writes the result of an element-wise kernel, whose channel `channel` is the expression `value`.
    fn by_channel(&self, text: &mut String, value: &str) {
        let result = self.formats.result.name();
        let _ = write!(
            text,
            "  var out = vec4<{result}>();
  for (var part = 0; part < 4; part++) {{
    let channel = i32(id.z) * 4 + part;
{value}
    out[part] = {result}(value);
  }}
  result[origin + i32(id.z) * plane + y * width + x] = out;
"
        );
    }

    fn shuffle(&self, text: &mut String, factor: usize) {
        let value = format!(
            "    let place = (channel * {factor} + y % {factor}) * {factor} + x % {factor};
    let value = source[(origin + place / 4 * plane) / {} + y / {factor} * (width / {factor}) + x / {factor}][place % 4];",
            factor * factor
        );
        self.by_channel(text, &value);
    }

    fn unshuffle(&self, text: &mut String, factor: usize) {
        let value = format!(
            "    let wide = channel / {square};
    let column = x * {factor} + channel % {factor};
    let row = y * {factor} + channel / {factor} % {factor};
    let value = source[(origin + wide / 4 * plane) * {square} + row * width * {factor} + column][wide % 4];",
            square = factor * factor
        );
        self.by_channel(text, &value);
    }

    fn repeat(&self, text: &mut String, times: usize) {
        let value = format!(
            "    let place = channel / {times};
    let value = source[place / 4 * plane + y * width + x][place % 4];"
        );
        self.by_channel(text, &value);
    }

    fn enlarge(&self, text: &mut String, factor: usize) {
        let _ = write!(
            text,
            "  let low_width = width / {factor};
  let low_height = height / {factor};
  let phase = (vec2<f32>(f32(x % {factor}), f32(y % {factor})) * 2.0 + 1.0) / {}.0 - 0.5;
  let left = x / {factor} - select(0, 1, phase.x < 0.0);
  let top = y / {factor} - select(0, 1, phase.y < 0.0);
  let weight = select(phase, phase + 1.0, phase < vec2<f32>());
  let x0 = max(left, 0);
  let x1 = min(left + 1, low_width - 1);
  let row0 = i32(id.z) * (low_width * low_height) + max(top, 0) * low_width;
  let row1 = i32(id.z) * (low_width * low_height) + min(top + 1, low_height - 1) * low_width;
  let upper = mix(vec4<f32>(source[row0 + x0]), vec4<f32>(source[row0 + x1]), weight.x);
  let lower = mix(vec4<f32>(source[row1 + x0]), vec4<f32>(source[row1 + x1]), weight.x);
  result[i32(id.z) * plane + y * width + x] = vec4<{}>(mix(upper, lower, weight.y));
",
            2 * factor,
            self.formats.result.name()
        );
    }

    fn finish(&self, text: &mut String, shuffle: usize) {
        let map_scale = self.scale / shuffle;
        let _ = write!(
            text,
            "  let columns = i32(tile.columns) * {scale};
  if (x >= columns || y >= i32(tile.rows) * {scale}) {{ return; }}
  let width = i32(tile.width) * {map_scale};
  let plane = width * i32(tile.height) * {map_scale};
  let at = (i32(tile.y) * {map_scale} + y / {shuffle}) * width + i32(tile.x) * {map_scale} + x / {shuffle};
  for (var channel = 0; channel < 3; channel++) {{
    let place = (channel * {shuffle} + y % {shuffle}) * {shuffle} + x % {shuffle};
    result[(y * columns + x) * 3 + channel] = f32(source[place / 4 * plane + at][place % 4]);
  }}
",
            scale = self.scale
        );
    }
}

/// A sum after an activation, whose slopes are in `slope`.
pub(crate) fn activated(activation: Activation, sum: &str) -> String {
    match activation {
        Activation::None => sum.to_owned(),
        Activation::Relu => format!("max({sum}, vec4<f32>())"),
        Activation::PRelu | Activation::LeakyRelu(_) => {
            format!("max({sum}, vec4<f32>()) + slope * min({sum}, vec4<f32>())")
        }
    }
}

/// Whether an activation has a slope for each channel.
pub(crate) fn has_slopes(activation: Activation) -> bool {
    matches!(activation, Activation::PRelu | Activation::LeakyRelu(_))
}

/// Vectors of weights for a block of output groups of a convolution.
fn conv_block_len(side: usize, in_groups: usize, block: usize, has_slopes: bool) -> usize {
    block * (1 + usize::from(has_slopes) + in_groups * side * side * 4)
}

/// The peak kernel: `rounds` rounds of multiply-adds of eight independent vectors.
#[cfg(any(feature = "wgpu", test))]
pub(crate) fn peak_text(precision: DevicePrecision) -> String {
    let number = precision.name();
    let mut text = String::new();
    if precision == DevicePrecision::F16 {
        text += "enable f16;\n";
    }
    let _ = write!(
        text,
        "@group(0) @binding(0) var<uniform> rounds: vec4<u32>;
@group(0) @binding(1) var<storage, read_write> result: array<vec4<f32>>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
  let factor = vec4<{number}>({number}(0.5));
"
    );
    for sum in 0..PEAK_VECTORS {
        let _ = writeln!(
            text,
            "  var s{sum} = vec4<{number}>({number}(id.x % 7u + {sum}u));"
        );
    }
    text += "  for (var i = 0u; i < rounds.x; i++) {\n";
    for _ in 0..PEAK_UNROLLED {
        for sum in 0..PEAK_VECTORS {
            let _ = writeln!(text, "    s{sum} = fma(s{sum}, factor, factor);");
        }
    }
    text += "  }\n  result[id.x] = vec4<f32>(s0";
    for sum in 1..PEAK_VECTORS {
        let _ = write!(text, " + s{sum}");
    }
    text += ");\n}\n";
    text
}

/// Independent vectors of the peak kernel.
#[cfg(any(feature = "wgpu", test))]
pub(crate) const PEAK_VECTORS: usize = 8;
/// Multiply-adds of each vector in a round.
#[cfg(any(feature = "wgpu", test))]
pub(crate) const PEAK_UNROLLED: usize = 8;
