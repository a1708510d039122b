//! The text of kernels on cooperative matrices: products of squares of f16, which the threads of a subgroup compute
//! together, summed in f32.
//!
//! The first factor of a product is weights, a row for each output channel; the second is pixels, a column for each. Pixels are
//! copied into workgroup memory, where the channels of a pixel follow each other. A shader cannot see the elements of a
//! matrix, so sums go through workgroup memory to what is done with each: biases, activations, terms and the conversion to f16.

use std::fmt::Write;

use wdsr_model::{Activation, Conv, ConvWeights};

use crate::plan::groups;
use crate::wgsl::{Kernel, Work, activated};

/// The matrices of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matrices {
    /// Rows and columns of each, 8 or 16.
    pub(crate) side: usize,
    /// Threads of a subgroup.
    pub(crate) threads: usize,
}

/// Subgroups of a workgroup, unless measurements choose fewer.
pub(crate) const SUBGROUPS: usize = 4;

/// Workgroup memory that all adapters with matrices have.
pub(crate) const MEMORY_BYTES: usize = 32 << 10;

/// Output channels that a subgroup computes at a time: those of a convolution, and the hidden ones of a pair.
const BLOCK: usize = 32;

/// Rows that a subgroup of a convolution computes, and that are in workgroup memory for gradients by weights.
pub(crate) const CONV_ROWS: usize = 4;

/// Groups of a pixel, read and written, up to which a subgroup of a pair computes two columns of matrices.
const PAIR_GROUPS: usize = 17;

/// Elements between the channels of two pixels in workgroup memory. Without them the pixels of a matrix lie in few banks. Places
/// and strides of matrices are multiples of 16 bytes, which Vulkan demands (`VK_KHR_cooperative_matrix`).
pub(crate) const PADDING_F16: usize = 8;
pub(crate) const PADDING_F32: usize = 4;

/// Workgroups along x of a pair, whose pixels are counted without rows.
const PAIR_WORKGROUPS_ALONG_X: usize = 1 << 15;

/// Independent sums of the peak kernel, and products of each in a round.
#[cfg(any(feature = "wgpu", test))]
const PEAK_SUMS: usize = 8;
#[cfg(any(feature = "wgpu", test))]
const PEAK_UNROLLED: usize = 4;

/// A function that reads four sums.
pub(crate) const VECTOR_OF_SUMS: &str = "fn vector_of_sums(start: i32) -> vec4<f32> {
  return vec4<f32>(sums[start], sums[start + 1], sums[start + 2], sums[start + 3]);
}
";

/// A function that writes four numbers to an array in workgroup memory.
pub(crate) fn keep(name: &str, array: &str) -> String {
    format!(
        "fn {name}(to: i32, v: vec4<f16>) {{
  {array}[to] = v.x;
  {array}[to + 1] = v.y;
  {array}[to + 2] = v.z;
  {array}[to + 3] = v.w;
}}
"
    )
}

/// Sizes of a convolution's kernel.
struct ConvSizes {
    in_tiles: usize,
    /// Tiles of input channels in workgroup memory at a time.
    chunk: usize,
    /// Tiles of output channels of a subgroup.
    block: usize,
    blocks: usize,
    /// Rows that a workgroup computes.
    rows: usize,
    /// Pixels in workgroup memory.
    region: [usize; 2],
    /// Elements of a pixel in workgroup memory.
    stride: usize,
    sum_stride: usize,
}

/// Sizes of a pair's kernel.
struct PairSizes {
    in_tiles: usize,
    out_tiles: usize,
    /// Tiles of hidden channels in a round.
    block: usize,
    rounds: usize,
    /// Columns of matrices that a subgroup computes.
    columns: usize,
    /// Pixels that a subgroup computes.
    pixels: usize,
    stride: usize,
    sum_stride: usize,
}

impl Matrices {
    /// Whether a kernel of this work computes with matrices: little of them is padding, and its pixels fit into workgroup memory.
    pub(crate) fn suit(self, work: Work) -> bool {
        match work {
            Work::Conv {
                side,
                in_groups,
                out_groups,
                ..
            } => {
                let sizes = self.conv_sizes(side, in_groups, out_groups, SUBGROUPS);
                in_groups * 4 >= self.side && sizes.bytes(self, SUBGROUPS) <= MEMORY_BYTES
            }
            Work::Pair {
                in_groups,
                hidden_groups,
                out_groups,
            } => {
                let sizes = self.pair_sizes(in_groups, hidden_groups, out_groups);
                in_groups * 4 >= self.side && sizes.bytes(SUBGROUPS) <= MEMORY_BYTES
            }
            _ => false,
        }
    }

    /// Workgroups of a kernel for a map, or a patch, of `width` x `height` pixels.
    pub(crate) fn workgroups(self, kernel: &Kernel, [width, height]: [usize; 2]) -> [u32; 3] {
        let subgroups = kernel.workgroup[1] as usize;
        let counts = match kernel.work {
            Work::Conv {
                side,
                in_groups,
                out_groups,
                ..
            } => {
                let sizes = self.conv_sizes(side, in_groups, out_groups, subgroups);
                let maps = kernel.patches.map_or(1, |patches| patches.count);
                let columns = maps * width.div_ceil(self.side);
                [columns, height.div_ceil(sizes.rows), sizes.blocks]
            }
            Work::Pair {
                in_groups,
                hidden_groups,
                out_groups,
            } => {
                let sizes = self.pair_sizes(in_groups, hidden_groups, out_groups);
                let count = (width * height).div_ceil(sizes.pixels * subgroups);
                let along_x = count.min(PAIR_WORKGROUPS_ALONG_X);
                [along_x, count.div_ceil(PAIR_WORKGROUPS_ALONG_X), 1]
            }
            work => unreachable!("{work:?} on matrices"),
        };
        counts.map(|count| count as u32)
    }

    /// The text of a kernel behind its declarations.
    pub(crate) fn text(self, kernel: &Kernel) -> String {
        match kernel.work {
            Work::Conv {
                side,
                in_groups,
                out_groups,
                activation,
                masks,
            } => self.conv(kernel, side, [in_groups, out_groups], activation, masks),
            Work::Pair {
                in_groups,
                hidden_groups,
                out_groups,
            } => self.pair(kernel, in_groups, hidden_groups, out_groups),
            work => unreachable!("{work:?} on matrices"),
        }
    }

    fn tiles(self, channels: usize) -> usize {
        channels.div_ceil(self.side)
    }

    fn conv_sizes(
        self,
        side: usize,
        in_groups: usize,
        out_groups: usize,
        subgroups: usize,
    ) -> ConvSizes {
        let (in_tiles, out_tiles) = (self.tiles(in_groups * 4), self.tiles(out_groups * 4));
        let block = out_tiles.min(BLOCK / self.side);
        let rows = CONV_ROWS * subgroups;
        let mut sizes = ConvSizes {
            in_tiles,
            chunk: 0,
            block,
            blocks: out_tiles.div_ceil(block),
            rows,
            region: [self.side + side - 1, rows + side - 1],
            stride: 0,
            sum_stride: self.side + PADDING_F32,
        };
        for chunk in (1..=in_tiles.min(BLOCK / self.side)).rev() {
            sizes.chunk = chunk;
            sizes.stride = chunk * self.side + PADDING_F16;
            if sizes.bytes(self, subgroups) <= MEMORY_BYTES {
                break;
            }
        }
        sizes
    }

    fn pair_sizes(self, in_groups: usize, hidden_groups: usize, out_groups: usize) -> PairSizes {
        let in_tiles = self.tiles(in_groups * 4);
        let block = BLOCK / self.side;
        let columns = 1 + usize::from(in_groups + out_groups <= PAIR_GROUPS);
        PairSizes {
            in_tiles,
            out_tiles: self.tiles(out_groups * 4),
            block,
            rounds: self.tiles(hidden_groups * 4).div_ceil(block),
            columns,
            pixels: columns * self.side,
            stride: (in_tiles * self.side).max(BLOCK) + PADDING_F16,
            sum_stride: BLOCK + PADDING_F32,
        }
    }

    /// The types of weights, pixels and sums: of first factors, second factors and results.
    pub(crate) fn types(self) -> [String; 3] {
        let side = self.side;
        [("f16", "A"), ("f16", "B"), ("f32", "C")]
            .map(|(number, role)| format!("coop_mat{side}x{side}<{number}, {role}>"))
    }

    /// Elements of a matrix.
    pub(crate) fn elements(self) -> usize {
        self.side * self.side
    }

    /// Workgroup memory, and the first lines of `main`.
    fn head(self, kernel: &Kernel, pixels: usize, sums: usize) -> String {
        let [threads, subgroups] = kernel.workgroup;
        let scale = kernel.scale;
        let sizes = match kernel.patches {
            None => format!(
                "  let width = i32(tile.width) * {scale};
  let height = i32(tile.height) * {scale};
  let plane = width * height;"
            ),
            Some(patches) => {
                let side = patches.side_px * scale;
                format!(
                    "  const width = {side};
  const height = {side};
  const plane = {} * width * height;",
                    patches.count
                )
            }
        };
        format!(
            "var<workgroup> pixels: array<f16, {pixels}>;
var<workgroup> sums: array<f32, {sums}>;
{keep}{VECTOR_OF_SUMS}fn sum(start: i32, by_channel: i32) -> vec4<f32> {{
  return vector_of_sums(start) + weight(by_channel);
}}
fn weight(at: i32) -> vec4<f32> {{
  return vec4<f32>(vec4<f16>(weights[at], weights[at + 1], weights[at + 2], weights[at + 3]));
}}
@compute @workgroup_size({total})
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) index: u32) {{
  let thread = i32(index);
  let part = thread / {threads};
  let lane = thread % {threads};
{sizes}
",
            keep = keep("keep", "pixels"),
            total = threads * subgroups
        )
    }

    fn conv(
        self,
        kernel: &Kernel,
        side: usize,
        [in_groups, out_groups]: [usize; 2],
        activation: Activation,
        masks: bool,
    ) -> String {
        let [weights, pixels, zero] = self.types();
        let [threads, subgroups] = kernel.workgroup.map(|count| count as usize);
        let sizes = self.conv_sizes(side, in_groups, out_groups, subgroups);
        let ConvSizes {
            in_tiles,
            chunk,
            block,
            blocks,
            stride,
            sum_stride,
            region: [columns, rows],
            ..
        } = sizes;
        let (matrix, elements, radius) = (self.side, self.elements(), side / 2);
        let sum_len = matrix * sum_stride;
        let channels = blocks * block * matrix;
        let has_slopes = crate::wgsl::has_slopes(activation);
        let first = channels * (1 + usize::from(has_slopes));
        let mut text = self.head(kernel, columns * rows * stride, subgroups * sum_len);
        let _ = write!(
            text,
            "  let columns = (width + {matrix} - 1) / {matrix};
  let origin = i32(id.x) / columns * (width * height);
  let left = i32(id.x) % columns * {matrix};
  let top = i32(id.y) * {region_rows};
",
            region_rows = sizes.rows
        );
        for m in 0..block {
            for row in 0..CONV_ROWS {
                let _ = writeln!(text, "  var s{m}_{row} = {zero}();");
            }
        }
        let _ = write!(
            text,
            "  var at = {first} + i32(id.z) * {block_len};
  for (var c = 0; c < {in_tiles}; c += {chunk}) {{
    for (var i = thread; i < {loaded}; i += {total}) {{
      let x = left + i % {columns} - {radius};
      let y = top + i / {columns} % {rows} - {radius};
      let g = i / {area};
      let channels = c * {tile_groups} + g;
      let is_inside = u32(x) < u32(width) && u32(y) < u32(height) && channels < {in_groups};
      let start = select(0, origin + channels * plane + y * width + x, is_inside);
      keep(i % {area} * {stride} + g * 4, select(vec4<f16>(), vec4<f16>(source[start]), is_inside));
    }}
    workgroupBarrier();
    for (var k = 0; k < min({chunk}, {in_tiles} - c); k++) {{
      for (var dx = 0; dx < {side}; dx++) {{
        let start = (part * {part_len} + dx) * {stride} + k * {matrix};
",
            block_len = in_tiles * side * side * block * elements,
            loaded = columns * rows * chunk * matrix / 4,
            total = threads * subgroups,
            area = columns * rows,
            tile_groups = matrix / 4,
            part_len = CONV_ROWS * columns,
        );
        for row in 0..CONV_ROWS + side - 1 {
            let _ = writeln!(
                text,
                "        let p{row} = coopLoad<{pixels}>(&pixels[start + {}], {stride});",
                row * columns * stride
            );
        }
        for dy in 0..side {
            for m in 0..block {
                let _ = writeln!(
                    text,
                    "        let w{dy}_{m} = coopLoadT<{weights}>(&weights[at + {}], {matrix});",
                    (dy * block + m) * elements
                );
                for row in 0..CONV_ROWS {
                    let _ = writeln!(
                        text,
                        "        s{m}_{row} = coopMultiplyAdd(w{dy}_{m}, p{}, s{m}_{row});",
                        row + dy
                    );
                }
            }
        }
        let _ = write!(
            text,
            "        at += {};
      }}
    }}
    workgroupBarrier();
  }}
",
            side * block * elements
        );
        let value = kernel.with_term(activated(activation, "value"), "to", masks);
        for m in 0..block {
            for row in 0..CONV_ROWS {
                let _ = write!(
                    text,
                    "  coopStore(s{m}_{row}, &sums[part * {sum_len}], {sum_stride});
  workgroupBarrier();
  for (var i = lane; i < {vectors}; i += {threads}) {{
    let x = left + i % {matrix};
    let y = top + part * {CONV_ROWS} + {row};
    let g = i32(id.z) * {block_groups} + {first_group} + i / {matrix};
    if (x < width && y < height && g < {out_groups}) {{
      let value = sum(part * {sum_len} + i % {matrix} * {sum_stride} + i / {matrix} * 4, g * 4);
{slope}      let to = origin + g * plane + y * width + x;
      result[to] = vec4<{result}>({value});
    }}
  }}
  workgroupBarrier();
",
                    vectors = elements / 4,
                    block_groups = block * matrix / 4,
                    first_group = m * matrix / 4,
                    slope = match has_slopes {
                        true => format!("      let slope = weight({channels} + g * 4);\n"),
                        false => String::new(),
                    },
                    result = kernel.formats.result.name(),
                );
            }
        }
        text
    }

    fn pair(
        self,
        kernel: &Kernel,
        in_groups: usize,
        hidden_groups: usize,
        out_groups: usize,
    ) -> String {
        let [weights, pixels, zero] = self.types();
        let [threads, subgroups] = kernel.workgroup.map(|count| count as usize);
        let PairSizes {
            in_tiles,
            out_tiles,
            block,
            rounds,
            columns,
            pixels: count,
            stride,
            sum_stride,
        } = self.pair_sizes(in_groups, hidden_groups, out_groups);
        let (matrix, elements) = (self.side, self.elements());
        let (out_channels, hidden_channels) = (out_tiles * matrix, rounds * BLOCK);
        let mut text = self.head(
            kernel,
            subgroups * count * stride,
            subgroups * count * sum_stride,
        );
        let _ = write!(
            text,
            "  let first = ((i32(id.y) * {PAIR_WORKGROUPS_ALONG_X} + i32(id.x)) * {subgroups} + part) * {count};
  let kept = part * {part_len};
  let summed = part * {part_sums};
  for (var i = lane; i < {loaded}; i += {threads}) {{
    let pixel = first + i % {count};
    let g = i / {count};
    let is_inside = pixel < plane && g < {in_groups};
    let start = select(0, g * plane + pixel, is_inside);
    keep(kept + i % {count} * {stride} + g * 4, select(vec4<f16>(), vec4<f16>(source[start]), is_inside));
  }}
  workgroupBarrier();
",
            part_len = count * stride,
            part_sums = count * sum_stride,
            loaded = count * in_tiles * matrix / 4,
        );
        for k in 0..in_tiles {
            for t in 0..columns {
                let _ = writeln!(
                    text,
                    "  let p{k}_{t} = coopLoad<{pixels}>(&pixels[kept + {}], {stride});",
                    t * matrix * stride + k * matrix
                );
            }
        }
        for m in 0..out_tiles {
            for t in 0..columns {
                let _ = writeln!(text, "  var s{m}_{t} = {zero}();");
            }
        }
        let round_len = block * (in_tiles + out_tiles) * elements;
        let _ = write!(
            text,
            "  workgroupBarrier();
  for (var round = 0; round < {rounds}; round++) {{
    let at = {} + round * {round_len};
",
            out_channels + hidden_channels
        );
        for h in 0..block {
            for t in 0..columns {
                let _ = writeln!(text, "    var h{h}_{t} = {zero}();");
            }
            for k in 0..in_tiles {
                let _ = writeln!(
                    text,
                    "    let e{h}_{k} = coopLoadT<{weights}>(&weights[at + {}], {matrix});",
                    (h * in_tiles + k) * elements
                );
                for t in 0..columns {
                    let _ = writeln!(
                        text,
                        "    h{h}_{t} = coopMultiplyAdd(e{h}_{k}, p{k}_{t}, h{h}_{t});"
                    );
                }
            }
            for t in 0..columns {
                let _ = writeln!(
                    text,
                    "    coopStore(h{h}_{t}, &sums[summed + {}], {sum_stride});",
                    t * matrix * sum_stride + h * matrix
                );
            }
        }
        let block_groups = BLOCK / 4;
        let vectors = count * block_groups;
        let _ = write!(
            text,
            "    workgroupBarrier();
    for (var i = lane; i < {vectors}; i += {threads}) {{
      let pixel = i / {block_groups};
      let g = i % {block_groups} * 4;
      let value = sum(summed + pixel * {sum_stride} + g, {out_channels} + round * {BLOCK} + g);
      keep(kept + pixel * {stride} + g, vec4<f16>(max(value, vec4<f32>())));
    }}
    workgroupBarrier();
"
        );
        for h in 0..block {
            for t in 0..columns {
                let _ = writeln!(
                    text,
                    "    let u{h}_{t} = coopLoad<{pixels}>(&pixels[kept + {}], {stride});",
                    t * matrix * stride + h * matrix
                );
            }
            for m in 0..out_tiles {
                let _ = writeln!(
                    text,
                    "    let r{h}_{m} = coopLoadT<{weights}>(&weights[at + {}], {matrix});",
                    (block * in_tiles + h * out_tiles + m) * elements
                );
                for t in 0..columns {
                    let _ = writeln!(
                        text,
                        "    s{m}_{t} = coopMultiplyAdd(r{h}_{m}, u{h}_{t}, s{m}_{t});"
                    );
                }
            }
        }
        text += "  }\n";
        for first_tile in (0..out_tiles).step_by(block) {
            for m in first_tile..out_tiles.min(first_tile + block) {
                for t in 0..columns {
                    let _ = writeln!(
                        text,
                        "  coopStore(s{m}_{t}, &sums[summed + {}], {sum_stride});",
                        t * matrix * sum_stride + (m - first_tile) * matrix
                    );
                }
            }
            let _ = write!(
                text,
                "  workgroupBarrier();
  for (var i = lane; i < {vectors}; i += {threads}) {{
    let pixel = first + i % {count};
    let g = {first_group} + i / {count};
    if (pixel < plane && g < {out_groups}) {{
      let value = sum(summed + i % {count} * {sum_stride} + i / {count} * 4, g * 4);
      result[g * plane + pixel] = vec4<{result}>(value);
    }}
  }}
  workgroupBarrier();
",
                first_group = first_tile * matrix / 4,
                result = kernel.formats.result.name(),
            );
        }
        text
    }

    /// The peak kernel: rounds of products of a pair of matrices, added to independent sums.
    #[cfg(any(feature = "wgpu", test))]
    pub(crate) fn peak_text(self) -> String {
        let [weights, pixels, sums] = self.types();
        let (side, elements, threads) = (self.side, self.elements(), self.threads);
        let total = threads * SUBGROUPS;
        let mut text = format!(
            "enable f16;
enable wgpu_cooperative_matrix;
@group(0) @binding(0) var<uniform> rounds: vec4<u32>;
@group(0) @binding(1) var<storage, read_write> result: array<vec4<f32>>;
var<workgroup> factors: array<f16, {elements}>;
var<workgroup> sums: array<f32, {all}>;
@compute @workgroup_size({total})
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) index: u32) {{
  for (var i = index; i < {elements}u; i += {total}u) {{
    factors[i] = f16(f32((i + id.x) % 7u) * 0.01);
  }}
  for (var i = index; i < {all}u; i += {total}u) {{ sums[i] = f32((i + id.x) % 11u); }}
  workgroupBarrier();
  let a = coopLoad<{weights}>(&factors[0], {side});
  let b = coopLoad<{pixels}>(&factors[0], {side});
",
            all = elements * SUBGROUPS
        );
        for sum in 0..PEAK_SUMS {
            // Different ones: a compiler could compute equal sums once.
            let _ = writeln!(
                text,
                "  var s{sum} = coopLoad<{sums}>(&sums[{}], {side});",
                4 * sum
            );
        }
        text += "  workgroupBarrier();\n  for (var i = 0u; i < rounds.x; i++) {\n";
        for _ in 0..PEAK_UNROLLED {
            for sum in 0..PEAK_SUMS {
                let _ = writeln!(text, "    s{sum} = coopMultiplyAdd(a, b, s{sum});");
            }
        }
        text += "  }\n  var all = 0.0;\n";
        for sum in 0..PEAK_SUMS {
            let _ = write!(
                text,
                "  coopStore(s{sum}, &sums[index / {threads}u * {elements}u], {side});
  workgroupBarrier();
  all += sums[index % {elements}u];
  workgroupBarrier();
"
            );
        }
        let _ = write!(
            text,
            "  result[id.x * {total}u + index] = vec4<f32>(all);\n}}\n"
        );
        text
    }

    /// Threads of a workgroup of the peak kernel, and the operations of one in a round.
    #[cfg(feature = "wgpu")]
    pub(crate) fn peak_workgroup(self) -> (usize, usize) {
        let products = SUBGROUPS * PEAK_SUMS * PEAK_UNROLLED;
        (self.threads * SUBGROUPS, products * self.side.pow(3) * 2)
    }

    /// Weights of a convolution in the order in which its kernel reads them: biases and slopes, and for each block of output
    /// channels, tile of input channels, column and row of the convolution's kernel and tile of output channels a matrix.
    pub(crate) fn conv_weights<T: Copy + Default>(
        self,
        conv: &Conv,
        weight: &[T],
        bias: &[T],
        slopes: Option<&[T]>,
    ) -> Vec<T> {
        let (ins, outs, side) = (conv.in_channels, conv.out_channels, conv.kernel);
        let sizes = self.conv_sizes(side, groups(ins), groups(outs), SUBGROUPS);
        let channels = sizes.blocks * sizes.block * self.side;
        let mut values = Vec::new();
        for by_channel in [Some(bias), slopes].into_iter().flatten() {
            values.extend((0..channels).map(|o| by_channel.get(o).copied().unwrap_or_default()));
        }
        for block in 0..sizes.blocks {
            for k in 0..sizes.in_tiles {
                for dx in 0..side {
                    for dy in 0..side {
                        for m in block * sizes.block..(block + 1) * sizes.block {
                            values.extend(self.matrix(m, k, [outs, ins], |o, i| {
                                weight[((o * ins + i) * side + dy) * side + dx]
                            }));
                        }
                    }
                }
            }
        }
        values
    }

    /// Weights of a pair: the biases of the second convolution and of the first, and for each round the matrices of the
    /// first and of the second.
    pub(crate) fn pair_weights(self, shapes: [&Conv; 2], weights: [&ConvWeights; 2]) -> Vec<f32> {
        let [expand, reduce] = weights;
        let (ins, hidden, outs) = (
            shapes[0].in_channels,
            shapes[0].out_channels,
            shapes[1].out_channels,
        );
        let sizes = self.pair_sizes(groups(ins), groups(hidden), groups(outs));
        let mut values = Vec::new();
        for (bias, channels) in [
            (&reduce.bias, sizes.out_tiles * self.side),
            (&expand.bias, sizes.rounds * BLOCK),
        ] {
            values.extend((0..channels).map(|o| bias.get(o).copied().unwrap_or(0.0)));
        }
        for round in 0..sizes.rounds {
            let block = round * sizes.block..(round + 1) * sizes.block;
            for h in block.clone() {
                for k in 0..sizes.in_tiles {
                    let weight = |o, i| expand.weight[o * ins + i];
                    values.extend(self.matrix(h, k, [hidden, ins], weight));
                }
            }
            for h in block {
                for m in 0..sizes.out_tiles {
                    let weight = |o, i| reduce.weight[o * hidden + i];
                    values.extend(self.matrix(m, h, [outs, hidden], weight));
                }
            }
        }
        values
    }

    /// The tile in row `m` and column `k` of a matrix with `rows` x `columns` elements; 0 beyond.
    fn matrix<T: Default>(
        self,
        m: usize,
        k: usize,
        [rows, columns]: [usize; 2],
        element: impl Fn(usize, usize) -> T,
    ) -> impl Iterator<Item = T> {
        (0..self.elements()).map(move |at| {
            let (row, column) = (
                m * self.side + at / self.side,
                k * self.side + at % self.side,
            );
            match row < rows && column < columns {
                true => element(row, column),
                false => T::default(),
            }
        })
    }
}

impl ConvSizes {
    fn bytes(&self, matrices: Matrices, subgroups: usize) -> usize {
        let pixels = self.region[0] * self.region[1] * self.stride;
        2 * pixels + 4 * subgroups * matrices.side * self.sum_stride
    }
}

impl PairSizes {
    fn bytes(&self, subgroups: usize) -> usize {
        subgroups * self.pixels * (2 * self.stride + 4 * self.sum_stride)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_multiples_of_16_bytes_and_what_suits_fits_into_memory() {
        for side in [8, 16] {
            let matrices = Matrices { side, threads: 32 };
            for (in_groups, out_groups) in (1..50).flat_map(|i| (1..50).map(move |o| (i, o))) {
                for kernel_side in [1, 3, 5, 7] {
                    let work = Work::Conv {
                        side: kernel_side,
                        in_groups,
                        out_groups,
                        activation: Activation::None,
                        masks: false,
                    };
                    for subgroups in [1, 2, SUBGROUPS] {
                        let sizes =
                            matrices.conv_sizes(kernel_side, in_groups, out_groups, subgroups);
                        let bytes = [2 * sizes.stride, 4 * sizes.sum_stride];
                        assert!(bytes.iter().all(|b| b % 16 == 0), "{work:?}: {bytes:?}");
                        let needed = sizes.bytes(matrices, subgroups);
                        assert!(
                            needed <= MEMORY_BYTES || !matrices.suit(work),
                            "{work:?}: {needed} bytes for {subgroups} subgroups"
                        );
                    }
                }
                let sizes = matrices.pair_sizes(in_groups, 6 * in_groups, out_groups);
                let bytes = [2 * sizes.stride, 4 * sizes.sum_stride];
                assert!(bytes.iter().all(|b| b % 16 == 0), "pair: {bytes:?}");
            }
        }
    }
}
