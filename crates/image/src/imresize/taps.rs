//! Which input samples make an output sample, and with which weights.

/// Fraction bits that a sum of products weight x 8-bit value may have to be exact in f32 (24
/// significant bits; the sum stays below 2^9) and leave room for the lift of the rounding.
pub(super) const EXACT_FRACTION_BITS: u32 = 12;

/// The function that weights input samples by their distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Cubic convolution with a = -0.5, MATLAB's "bicubic".
    ///
    /// Source: R. Keys, "Cubic convolution interpolation for digital image processing", 1981.
    Cubic,
    /// `sinc(x) sinc(x / 3)` within 3, MATLAB's "lanczos3": sharper, with more overshoot.
    ///
    /// Source: C. Duchon, "Lanczos filtering in one and two dimensions", 1979.
    Lanczos3,
}

impl Kernel {
    /// Distance from which on the weight is 0.
    fn radius(self) -> f64 {
        match self {
            Self::Cubic => 2.0,
            Self::Lanczos3 => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Cubic => cubic(x),
            Self::Lanczos3 => lanczos3(x),
        }
    }
}

/// The taps of every output position along one dimension.
#[derive(Clone, Debug)]
pub(super) struct Taps {
    /// Taps of each output position.
    count: usize,
    /// `len x count` input positions, inside the input.
    positions: Vec<usize>,
    /// `len x count` weights; those of one output position sum to 1.
    weights: Vec<f64>,
    /// Input length.
    input_len: usize,
}

impl Taps {
    /// Taps for `ceil(len scale)` output positions.
    pub(super) fn at_scale(len: usize, scale: f64) -> Self {
        assert!(
            scale.is_finite() && scale > 0.0,
            "scale is finite and above 0, not {scale}"
        );
        // A float to integer cast saturates, and such a length fails to allocate.
        Self::new(
            len,
            (len as f64 * scale).ceil() as usize,
            scale,
            Kernel::Cubic,
            reflect,
        )
    }

    /// Taps for `to_len` output positions at the scale `to_len / len`.
    pub(super) fn to_len(len: usize, to_len: usize, kernel: Kernel, edge: Edge) -> Self {
        Self::new(len, to_len, to_len as f64 / len as f64, kernel, edge)
    }

    fn new(input_len: usize, len: usize, scale: f64, kernel: Kernel, edge: Edge) -> Self {
        assert!(
            input_len > 0 && len > 0,
            "imresize from {input_len} to {len} pixels"
        );
        // Reducing widens the kernel: h(x) = scale kernel(scale x), which the normalisation makes
        // kernel(scale x).
        let shrink = scale.min(1.0);
        let kernel_width = 2.0 * kernel.radius() / shrink;
        let count = kernel_width.ceil() as usize + 2;
        let mut positions = Vec::with_capacity(len * count);
        let mut weights = Vec::with_capacity(len * count);
        for i in 0..len {
            // Positions count from 1, as in MATLAB: the centre of output i in input space.
            let centre = (i + 1) as f64 / scale + 0.5 * (1.0 - 1.0 / scale);
            let left = (centre - kernel_width / 2.0).floor();
            let row = weights.len();
            for tap in 0..count {
                let position = left + tap as f64;
                weights.push(shrink * kernel.weight(shrink * (centre - (position - 1.0) - 1.0)));
                positions.push(edge(position as i64 - 1, input_len));
            }
            let sum: f64 = weights[row..].iter().sum();
            for weight in &mut weights[row..] {
                *weight /= sum;
            }
        }
        Self {
            count,
            positions,
            weights,
            input_len,
        }
        .without_zero_taps()
    }

    /// Drops the taps at either end that are 0 at every position.
    fn without_zero_taps(self) -> Self {
        let used = |tap: &usize| {
            self.weights
                .iter()
                .skip(*tap)
                .step_by(self.count)
                .any(|&weight| weight != 0.0)
        };
        let first = (0..self.count).find(used).unwrap_or(0);
        let last = (0..self.count).rfind(used).unwrap_or(0);
        let kept = |k: &usize| (first..=last).contains(&(k % self.count));
        let keep: Vec<usize> = (0..self.weights.len()).filter(kept).collect();
        Self {
            count: last + 1 - first,
            positions: keep.iter().map(|&k| self.positions[k]).collect(),
            weights: keep.iter().map(|&k| self.weights[k]).collect(),
            input_len: self.input_len,
        }
    }

    /// Number of output positions.
    pub(super) fn len(&self) -> usize {
        self.weights.len() / self.count
    }

    /// Number of input positions.
    pub(super) fn input_len(&self) -> usize {
        self.input_len
    }

    /// Taps of each output position.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Input positions, `count` for each output position.
    pub(super) fn positions(&self) -> &[usize] {
        &self.positions
    }

    /// Weights, `count` for each output position.
    pub(super) fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Whether every weight has so few fraction bits that sums over 8-bit values are exact in
    /// f32, as at the scales 1/2, 1/4, 2 and 4. There the order of summation does not matter.
    pub(super) fn exact_in_f32(&self) -> bool {
        let unit = f64::from(1u32 << EXACT_FRACTION_BITS);
        // Absolute weights sum to at most 1.25, so 8-bit sums stay below 2^9.
        self.weights
            .iter()
            .all(|weight| (weight * unit).fract() == 0.0)
    }
}

fn cubic(x: f64) -> f64 {
    let x = x.abs();
    // Where a sum is a tie, the last bit of a weight decides its rounding: products are taken
    // left to right and the cube by `powf`, as NumPy takes them.
    if x <= 1.0 {
        1.5 * x.powf(3.0) - 2.5 * x * x + 1.0
    } else if x <= 2.0 {
        -0.5 * x.powf(3.0) + 2.5 * x * x - 4.0 * x + 2.0
    } else {
        0.0
    }
}

fn lanczos3(x: f64) -> f64 {
    let x = x.abs();
    if x < 1e-8 {
        1.0
    } else if x < 3.0 {
        let x = std::f64::consts::PI * x;
        3.0 * x.sin() * (x / 3.0).sin() / (x * x)
    } else {
        0.0
    }
}

/// The sample that stands for a position outside `0..len`.
pub(super) type Edge = fn(position: i64, len: usize) -> usize;

/// The sample that a position outside `0..len` mirrors: ... 1 0 | 0 1 2 | 2 1 ...
pub(super) fn reflect(position: i64, len: usize) -> usize {
    let period = 2 * len as i64;
    let inside = position.rem_euclid(period);
    inside.min(period - 1 - inside) as usize
}

/// The sample at a position of the samples repeated without end.
pub(super) fn wrap(position: i64, len: usize) -> usize {
    position.rem_euclid(len as i64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_mirror_about_the_border() {
        let mirrored: Vec<usize> = (-4..7).map(|position| reflect(position, 3)).collect();
        assert_eq!(mirrored, [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]);
        assert!((-9..9).all(|position| reflect(position, 1) == 0));
    }

    #[test]
    fn halving_has_eight_exact_taps() {
        let taps = Taps::at_scale(10, 0.5);
        assert_eq!((taps.len(), taps.count()), (5, 8));
        assert_eq!(taps.weights()[..8].iter().sum::<f64>(), 1.0);
        assert!(taps.exact_in_f32());
        assert_eq!(
            taps.positions()[..8],
            [2, 1, 0, 0, 1, 2, 3, 4].map(|p: usize| p)
        );
    }

    #[test]
    fn dyadic_scales_are_exact_and_others_are_not() {
        for (scale, exact) in [
            (0.5, true),
            (0.25, true),
            (2.0, true),
            (4.0, true),
            (1.0 / 3.0, false),
            (3.0, false),
        ] {
            assert_eq!(
                Taps::at_scale(24, scale).exact_in_f32(),
                exact,
                "scale {scale}"
            );
        }
    }
}
