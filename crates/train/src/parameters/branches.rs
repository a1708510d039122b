//! Branches of a 3x3 convolution during training, which are merged into it afterwards.
//!
//! A sum of linear branches is one convolution, so branches cost nothing in inference and only sums
//! over the weights in training; they change the path of the optimiser. They are the branches of
//! ECB (Zhang, Zeng and Zhang 2021, "Edge-oriented Convolution Block for Real-time Super Resolution
//! on Mobile Devices", section 3.2; xindongzhang/ECBSR) that add to a kernel: a 1x1 convolution, and
//! 1x1 convolutions followed by a fixed edge filter and a factor for each output channel. With the
//! 1x1 weights w1 and u_k, the factors s_k and the filters F_k the kernel is
//! w[o, i] + w1[o, i] at the centre + sum_k s_k[o] u_k[o, i] F_k.
//!
//! w1 and the factors start at zero, so a training starts as the function without branches.

/// Taps of a 3x3 kernel, row by row.
const TAPS: usize = 9;
const CENTRE: usize = 4;

/// Name and taps, row by row, of each edge filter of the branches of a 3x3 convolution.
pub const EDGE_FILTERS: [(&str, [f32; TAPS]); 3] = [
    ("sobel_x", [1.0, 0.0, -1.0, 2.0, 0.0, -2.0, 1.0, 0.0, -1.0]),
    ("sobel_y", [1.0, 2.0, 1.0, 0.0, 0.0, 0.0, -1.0, -2.0, -1.0]),
    ("laplacian", [0.0, 1.0, 0.0, 1.0, -4.0, 1.0, 0.0, 1.0, 0.0]),
];

/// A branch with an edge filter. Shapes: weight `[out, in]` and factor `[out]`.
pub(super) struct EdgeBranch<'a> {
    pub(super) weight: &'a [f32],
    pub(super) factor: &'a [f32],
}

/// Adds the branches to a kernel `[out, in, 3, 3]`; `centre` is `[out, in]`.
pub(super) fn add_branches(
    kernel: &mut [f32],
    centre: &[f32],
    edges: [EdgeBranch<'_>; EDGE_FILTERS.len()],
) {
    for (taps, weight) in kernel.chunks_exact_mut(TAPS).zip(centre) {
        taps[CENTRE] += weight;
    }
    for (edge, (_, filter)) in edges.into_iter().zip(EDGE_FILTERS) {
        let in_channels = edge.weight.len() / edge.factor.len();
        let rows = kernel.chunks_exact_mut(in_channels * TAPS);
        let weights = edge.weight.chunks_exact(in_channels);
        for ((row, weights), factor) in rows.zip(weights).zip(edge.factor) {
            for (taps, weight) in row.chunks_exact_mut(TAPS).zip(weights) {
                for (tap, filter) in taps.iter_mut().zip(filter) {
                    *tap += factor * weight * filter;
                }
            }
        }
    }
}

/// The gradient by the 1x1 branch, `[out, in]`, from that by the merged kernel.
pub(super) fn centre_gradient(by_kernel: &[f32]) -> impl Iterator<Item = f32> {
    by_kernel.chunks_exact(TAPS).map(|taps| taps[CENTRE])
}

/// The gradients by weight and factor of an edge branch from that by the merged kernel.
pub(super) fn edge_gradient(
    by_kernel: &[f32],
    edge: &EdgeBranch<'_>,
    filter: [f32; TAPS],
) -> (Vec<f32>, Vec<f32>) {
    let in_channels = edge.weight.len() / edge.factor.len();
    // By the product of factor and weight.
    let by_product = by_kernel.chunks_exact(TAPS).map(|taps| {
        let terms = taps.iter().zip(filter).map(|(tap, filter)| tap * filter);
        terms.sum::<f32>()
    });
    let by_product: Vec<f32> = by_product.collect();
    let factors = edge.factor.iter().flat_map(|f| [*f].repeat(in_channels));
    let by_weight = by_product.iter().zip(factors).map(|(g, f)| g * f).collect();
    let rows = by_product.chunks_exact(in_channels);
    let by_factor = rows.zip(edge.weight.chunks_exact(in_channels));
    let by_factor = by_factor.map(|(g, w)| g.iter().zip(w).map(|(g, w)| g * w).sum());
    (by_weight, by_factor.collect())
}
