//! The text of the kernels for gradients by weights. All sizes are constants of the text.

use std::fmt::Write;

use crate::matrices::{
    CONV_ROWS, Matrices, PADDING_F16, PADDING_F32, SUBGROUPS, VECTOR_OF_SUMS, keep,
};
use crate::wgsl::Patches;

/// Largest side of a convolution's kernel whose gradient matrices compute: a matrix of sums for each tap.
const LARGEST_SIDE: usize = 3;
/// Pixels that a workgroup of the kernel with vectors has in its memory at a time.
const WEIGHTS_PIXELS: usize = 16;
/// Groups of channels, and taps with groups, of a thread row of the kernel with vectors.
const WEIGHTS_SIDE: usize = 8;

/// The gradient by the weights and biases of a convolution, in tiles over taps with input groups (m) and output groups (n), of
/// a chunk of the pixels: a workgroup for each.
#[derive(Clone, Copy)]
pub(super) struct ByWeights {
    pub(super) patches: Patches,
    /// Side of the convolution's kernel.
    pub(super) side: usize,
    pub(super) in_groups: usize,
    pub(super) out_groups: usize,
    pub(super) chunks: usize,
    /// Vectors of all convolutions in a chunk.
    pub(super) chunk_len: usize,
    /// What it computes products with, if not with vectors.
    pub(super) matrices: Option<Matrices>,
}

impl ByWeights {
    fn rows(&self) -> usize {
        self.side * self.side * self.in_groups
    }

    /// Tiles of a thread along m and n.
    fn per_thread(&self) -> [usize; 2] {
        [self.rows(), self.out_groups].map(|len| 1 + usize::from(len > WEIGHTS_SIDE))
    }

    fn tiles(&self) -> [usize; 2] {
        let [m, n] = self.per_thread();
        [
            self.rows().div_ceil(m * WEIGHTS_SIDE),
            self.out_groups.div_ceil(n * WEIGHTS_SIDE),
        ]
    }

    /// The matrices for a convolution with a kernel of `side`, if they suit: sums for each tap stay in registers, and each
    /// thread copies some of the gradient.
    pub(super) fn suiting(
        matrices: Option<Matrices>,
        side: usize,
        groups: [usize; 2],
    ) -> Option<Matrices> {
        matrices.filter(|matrices| {
            side <= LARGEST_SIDE
                && matrices.elements() >= 2 * matrices.threads
                && groups.iter().all(|count| count * 4 >= matrices.side)
        })
    }

    pub(super) fn workgroups(&self) -> [u32; 3] {
        if let Some(matrices) = self.matrices {
            let [ins, outs] = self.blocks(matrices);
            return [self.chunks as u32, (ins * outs) as u32, 1];
        }
        let [m, n] = self.tiles();
        [self.chunks as u32, (m * n) as u32, 1]
    }

    fn pixels(&self) -> usize {
        self.patches.count * self.patches.side_px.pow(2)
    }

    pub(super) fn text(&self) -> String {
        match self.matrices {
            Some(matrices) => self.matrix_text(matrices),
            None => self.vector_text(),
        }
    }

    /// Blocks of input and output channels, two matrices wide each, of which a workgroup computes one.
    fn blocks(&self, matrices: Matrices) -> [usize; 2] {
        [self.in_groups, self.out_groups].map(|groups| (groups * 4).div_ceil(2 * matrices.side))
    }

    /// A subgroup computes a matrix for each tap, of one tile of input channels and one of output channels. The first factor is the
    /// gradient, the second the input, and sums run over pixels.
    fn matrix_text(&self, matrices: Matrices) -> String {
        let Self {
            patches,
            side,
            in_groups,
            out_groups,
            chunks,
            chunk_len,
            ..
        } = *self;
        let [first_factor, second_factor, zero] = matrices.types();
        let (matrix, threads, elements) = (matrices.side, matrices.threads, matrices.elements());
        let total = threads * SUBGROUPS;
        let (width, pixels, radius) = (patches.side_px, self.pixels(), side / 2);
        let [in_blocks, _] = self.blocks(matrices);
        // Regions of a row of matrices by some rows, with the halo of the kernel.
        let (along_x, along_y) = (width.div_ceil(matrix), width.div_ceil(CONV_ROWS));
        let regions = patches.count * along_x * along_y;
        let chunk = regions.div_ceil(chunks);
        let [columns, rows] = [matrix, CONV_ROWS].map(|len| len + side - 1);
        let block_groups = matrix / 2;
        let stride = 2 * matrix + PADDING_F16;
        let sum_stride = matrix + PADDING_F32;
        let sum_len = matrix * sum_stride;
        let region_pixels = matrix * CONV_ROWS;
        // The vectors of the gradient that a thread copies, each of one group of channels.
        let copied = region_pixels * block_groups / total;
        assert_eq!(
            copied * total,
            region_pixels * block_groups,
            "vectors that {total} threads copy, for {matrices:?}"
        );
        let mut text = format!(
            "enable f16;
enable wgpu_cooperative_matrix;
@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gradient: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> partial: array<vec4<f32>>;
var<workgroup> inputs: array<f16, {inputs}>;
var<workgroup> slopes: array<f16, {slopes}>;
var<workgroup> sums: array<f32, {sums}>;
{keep_input}{keep_slope}{VECTOR_OF_SUMS}@compute @workgroup_size({total})
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) index: u32) {{
  let thread = i32(index);
  let part = thread / {threads};
  let lane = thread % {threads};
  let in_block = i32(id.y) % {in_blocks};
  let out_block = i32(id.y) / {in_blocks};
  let in_tile = part % 2;
  let out_tile = part / 2;
",
            keep_input = keep("keep_input", "inputs"),
            keep_slope = keep("keep_slope", "slopes"),
            inputs = columns * rows * stride,
            slopes = region_pixels * stride,
            sums = (SUBGROUPS * sum_len).max(4 * copied * total),
        );
        for tap in 0..side * side {
            let _ = writeln!(text, "  var s{tap} = {zero}();");
        }
        for b in 0..copied {
            let _ = writeln!(text, "  var b{b} = vec4<f32>();");
        }
        let _ = write!(
            text,
            "  let first = i32(id.x) * {chunk};
  for (var region = first; region < min(first + {chunk}, {regions}); region++) {{
    let left = region % {along_x} * {matrix};
    let top = region / {along_x} % {along_y} * {CONV_ROWS};
    let origin = region / {per_patch} * {area};
    for (var i = thread; i < {loaded}; i += {total}) {{
      let x = left + i % {columns} - {radius};
      let y = top + i / {columns} % {rows} - {radius};
      let g = i / {region_area};
      let group = in_block * {block_groups} + g;
      let is_inside = u32(x) < {width}u && u32(y) < {width}u && group < {in_groups};
      let start = select(0, group * {pixels} + origin + y * {width} + x, is_inside);
      let v = select(vec4<f16>(), vec4<f16>(source[start]), is_inside);
      keep_input(i % {region_area} * {stride} + g * 4, v);
    }}
",
            per_patch = along_x * along_y,
            area = width * width,
            loaded = columns * rows * block_groups,
            region_area = columns * rows,
        );
        for b in 0..copied {
            let _ = write!(
                text,
                "    {{
      let i = thread + {at};
      let pixel = i % {region_pixels};
      let x = left + pixel % {matrix};
      let y = top + pixel / {matrix};
      let g = i / {region_pixels};
      let group = out_block * {block_groups} + g;
      let is_inside = x < {width} && y < {width} && group < {out_groups};
      let start = select(0, group * {pixels} + origin + y * {width} + x, is_inside);
      let v = select(vec4<f32>(), gradient[start], is_inside);
      b{b} += v;
      keep_slope(pixel * {stride} + g * 4, vec4<f16>(v));
    }}
",
                at = b * total
            );
        }
        let _ = write!(
            text,
            "    workgroupBarrier();
    for (var row = 0; row < {CONV_ROWS}; row++) {{
      let g = coopLoad<{first_factor}>(&slopes[row * {row_len} + out_tile * {matrix}], {stride});
      let start = row * {halo_row} + in_tile * {matrix};
",
            row_len = matrix * stride,
            halo_row = columns * stride,
        );
        for tap in 0..side * side {
            let at = (tap / side * columns + tap % side) * stride;
            let _ = writeln!(
                text,
                "      let x{tap} = coopLoadT<{second_factor}>(&inputs[start + {at}], {stride});
      s{tap} = coopMultiplyAdd(g, x{tap}, s{tap});"
            );
        }
        let _ = write!(
            text,
            "    }}
    workgroupBarrier();
  }}
  let base = i32(id.x) * {chunk_len};
  let first_in = (in_block * 2 + in_tile) * {matrix};
  let first_out = (out_block * 2 + out_tile) * {tile_groups};
",
            tile_groups = matrix / 4
        );
        for tap in 0..side * side {
            let _ = write!(
                text,
                "  coopStore(s{tap}, &sums[part * {sum_len}], {sum_stride});
  workgroupBarrier();
  for (var i = lane; i < {vectors}; i += {threads}) {{
    let input = first_in + i % {matrix};
    let group = first_out + i / {matrix};
    if (input < {inputs} && group < {out_groups}) {{
      let start = part * {sum_len} + i % {matrix} * {sum_stride} + i / {matrix} * 4;
      let v = vector_of_sums(start);
      partial[base + (({tap} * {in_groups} + input / 4) * {out_groups} + group) * 4 + input % 4] = v;
    }}
  }}
  workgroupBarrier();
",
                vectors = elements / 4,
                inputs = in_groups * 4,
            );
        }
        for b in 0..copied {
            let at = b * total;
            let _ = writeln!(
                text,
                "  for (var c = 0; c < 4; c++) {{ sums[(thread + {at}) * 4 + c] = b{b}[c]; }}"
            );
        }
        let _ = write!(
            text,
            "  workgroupBarrier();
  let group = out_block * {block_groups} + thread;
  if (in_block == 0 && thread < {block_groups} && group < {out_groups}) {{
    var sum = vec4<f32>();
    for (var pixel = 0; pixel < {region_pixels}; pixel++) {{
      sum += vector_of_sums((thread * {region_pixels} + pixel) * 4);
    }}
    partial[base + {biases} + group] = sum;
  }}
}}
",
            biases = 4 * self.rows() * out_groups,
        );
        text
    }

    fn vector_text(&self) -> String {
        let Self {
            patches,
            side,
            in_groups,
            out_groups,
            chunks,
            chunk_len,
            ..
        } = *self;
        let [per_m, per_n] = self.per_thread();
        let [tiles_m, _] = self.tiles();
        let (width, pixels, rows) = (patches.side_px, self.pixels(), self.rows());
        let chunk = pixels.div_ceil(chunks).next_multiple_of(WEIGHTS_PIXELS);
        // A row more keeps the threads' reads in different banks.
        let stride = WEIGHTS_PIXELS + 1;
        let (len_m, len_n) = (per_m * WEIGHTS_SIDE, per_n * WEIGHTS_SIDE);
        let threads = WEIGHTS_SIDE * WEIGHTS_SIDE;
        let mut text = format!(
            "@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gradient: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> partial: array<vec4<f32>>;
var<workgroup> inputs: array<vec4<f32>, {inputs}>;
var<workgroup> slopes: array<vec4<f32>, {slopes}>;
@compute @workgroup_size({threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {{
  let first_m = i32(group.y) % {tiles_m} * {len_m};
  let first_n = i32(group.y) / {tiles_m} * {len_n};
  let m = i32(lane) / {WEIGHTS_SIDE};
  let n = i32(lane) % {WEIGHTS_SIDE};
  let pixel = i32(lane) % {WEIGHTS_PIXELS};
  let first_row = i32(lane) / {WEIGHTS_PIXELS};
",
            inputs = len_m * stride,
            slopes = len_n * stride,
        );
        for n in 0..per_n {
            let _ = writeln!(text, "  var b{n} = vec4<f32>();");
            for m in 0..per_m {
                for i in 0..4 {
                    let _ = writeln!(text, "  var s{m}{n}{i} = vec4<f32>();");
                }
            }
        }
        let _ = write!(
            text,
            "  let start = i32(group.x) * {chunk};
  for (var first = start; first < min(start + {chunk}, {pixels}); first += {WEIGHTS_PIXELS}) {{
    let p = first + pixel;
    let x = p % {width};
    let y = p / {width} % {width};
    for (var row = first_row; row < {len_m}; row += {row_step}) {{
      let place = first_m + row;
      let tap = place / {in_groups};
      let dx = tap % {side} - {radius};
      let dy = tap / {side} - {radius};
      let is_inside = place < {rows} && p < {pixels} && u32(x + dx) < {width}u && u32(y + dy) < {width}u;
      let at = place % {in_groups} * {pixels} + p + dy * {width} + dx;
      inputs[row * {stride} + pixel] = select(vec4<f32>(), source[select(0, at, is_inside)], is_inside);
    }}
    for (var row = first_row; row < {len_n}; row += {row_step}) {{
      let place = first_n + row;
      let is_inside = place < {out_groups} && p < {pixels};
      slopes[row * {stride} + pixel] = select(vec4<f32>(), gradient[select(0, place * {pixels} + p, is_inside)], is_inside);
    }}
    workgroupBarrier();
    for (var q = 0; q < {WEIGHTS_PIXELS}; q++) {{
",
            row_step = threads / WEIGHTS_PIXELS,
            radius = side / 2,
        );
        for m in 0..per_m {
            let _ = writeln!(
                text,
                "      let x{m} = inputs[(m + {}) * {stride} + q];",
                m * WEIGHTS_SIDE
            );
        }
        for n in 0..per_n {
            let _ = writeln!(
                text,
                "      let g{n} = slopes[(n + {}) * {stride} + q];
      if (first_m == 0) {{ b{n} += g{n}; }}",
                n * WEIGHTS_SIDE
            );
            for m in 0..per_m {
                for (i, part) in ["xxxx", "yyyy", "zzzz", "wwww"].into_iter().enumerate() {
                    let _ = writeln!(
                        text,
                        "      s{m}{n}{i} = fma(x{m}.{part}, g{n}, s{m}{n}{i});"
                    );
                }
            }
        }
        let _ = write!(
            text,
            "    }}
    workgroupBarrier();
  }}
  let base = i32(group.x) * {chunk_len};
"
        );
        for n in 0..per_n {
            let _ = writeln!(text, "  let to{n} = first_n + n + {};", n * WEIGHTS_SIDE);
            for m in 0..per_m {
                let _ = writeln!(
                    text,
                    "  let from{m}{n} = first_m + m + {offset};
  if (from{m}{n} < {rows} && to{n} < {out_groups}) {{
    let at = base + (from{m}{n} * {out_groups} + to{n}) * 4;",
                    offset = m * WEIGHTS_SIDE
                );
                for i in 0..4 {
                    let _ = writeln!(text, "    partial[at + {i}] = s{m}{n}{i};");
                }
                let _ = writeln!(text, "  }}");
            }
            let _ = writeln!(
                text,
                "  if (first_m == 0 && m == 0 && to{n} < {out_groups}) {{ partial[base + {} + to{n}] = b{n}; }}",
                4 * rows * out_groups
            );
        }
        text += "}\n";
        text
    }
}
