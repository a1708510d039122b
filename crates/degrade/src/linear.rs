//! Blur, shift and reduction in one pass.
//!
//! These steps are linear and, away from the image's ends, the same everywhere, so their order does not
//! matter: the separable ones make one kernel for each axis, and a blur that is not separable follows
//! them, at the pixels that the reduction keeps only. Beyond an edge of the original its pixel repeats.

use crate::apply::{Region, Step};
use crate::blur::BlurKernel;
use crate::planes::Planes;
use crate::resample::Taps;

/// The steps up to the reduction.
pub(crate) struct LinearChain {
    scale: usize,
    across: Taps,
    down: Taps,
    blur: Option<(BlurKernel, usize)>,
}

/// A weight and the distance of its sample from that of the first output.
pub(crate) struct PlacedTap {
    pub(crate) offset: usize,
    pub(crate) weight: f32,
}

impl LinearChain {
    /// The chain that the steps start with, and the steps after it. None if they do not start with linear
    /// steps that end with a reduction, or contain several blurs that are not separable.
    pub(crate) fn of(steps: &[Step], scale: usize) -> Option<(Self, &[Step])> {
        let mut chain = Self {
            scale,
            across: Taps::ONE,
            down: Taps::ONE,
            blur: None,
        };
        for (index, step) in steps.iter().enumerate() {
            match *step {
                Step::Blur { kernel, kernel_px } => match kernel.separable(kernel_px) {
                    Some(taps) => {
                        chain.across = chain.across.followed_by(&taps);
                        chain.down = chain.down.followed_by(&taps);
                    }
                    None if chain.blur.is_some() => return None,
                    None => chain.blur = Some((kernel, kernel_px)),
                },
                Step::Shift {
                    offset_px: [right, down],
                    ..
                } => {
                    chain.across = chain.across.followed_by(&Taps::shift(right));
                    chain.down = chain.down.followed_by(&Taps::shift(down));
                }
                Step::Downsample { method, sigma_px } => {
                    let taps = Taps::reduction(method, scale as f64, sigma_px);
                    chain.across = chain.across.followed_by(&taps);
                    chain.down = chain.down.followed_by(&taps);
                    return Some((chain, &steps[index + 1..]));
                }
                Step::Exposure { .. } | Step::Noise(_) | Step::Jpeg(_) => return None,
            }
        }
        None
    }

    /// The region reduced to `width_px` x `height_px`.
    pub(crate) fn apply(
        &self,
        region: &Region<'_>,
        size @ (width_px, height_px): (usize, usize),
    ) -> Planes {
        let radius = self.blur.map_or(0, |(kernel, px)| kernel.radius_px(px));
        let columns = Extent::of(self.scale, width_px, &self.across, radius);
        let rows = Extent::of(self.scale, height_px, &self.down, radius);
        let mut output = Planes::zeros(width_px, height_px);
        let mut padded = vec![0.0; columns.input * rows.input];
        let mut work = Work::default();
        for (channel, output) in output.planes_mut().enumerate() {
            region.pad(channel, &columns, &rows, &mut padded);
            match self.blur {
                None => self.reduce(&padded, &columns, size, output, &mut work),
                Some((kernel, kernel_px)) => {
                    self.filter(&padded, &columns, &rows, &mut work);
                    // Of a row of phases, see `deinterleave`.
                    let phase_len = columns.filtered.div_ceil(self.scale);
                    let row_len = self.scale * phase_len;
                    let tap = |right: usize, down: usize| {
                        down * row_len + right % self.scale * phase_len + right / self.scale
                    };
                    let taps = kernel.placed_taps(kernel_px, tap);
                    for (y, to) in output.chunks_exact_mut(width_px).enumerate() {
                        sum_taps(&work.phases[y * self.scale * row_len..], to, &taps);
                    }
                }
            }
        }
        output
    }

    /// Both separable kernels at the reduced pixels.
    fn reduce(
        &self,
        padded: &[f32],
        columns: &Extent,
        (width_px, _): (usize, usize),
        output: &mut [f32],
        work: &mut Work,
    ) {
        let down = self.down.placed(columns.input);
        let phase_len = columns.input.div_ceil(self.scale);
        let across = self
            .across
            .placed_by(|i| i % self.scale * phase_len + i / self.scale);
        work.row.resize(columns.input, 0.0);
        work.phases.resize(self.scale * phase_len, 0.0);
        for (y, to) in output.chunks_exact_mut(width_px).enumerate() {
            sum_taps(
                &padded[y * self.scale * columns.input..],
                &mut work.row,
                &down,
            );
            deinterleave(&work.row, self.scale, &mut work.phases);
            sum_taps(&work.phases, to, &across);
        }
    }

    /// Both separable kernels at every pixel that the blur reads, as rows of phases.
    fn filter(&self, padded: &[f32], columns: &Extent, rows: &Extent, work: &mut Work) {
        let down = self.down.placed(columns.input);
        let across = self.across.placed(1);
        let row_len = self.scale * columns.filtered.div_ceil(self.scale);
        work.row.resize(columns.input, 0.0);
        work.filtered.resize(columns.filtered, 0.0);
        work.phases.resize(rows.filtered * row_len, 0.0);
        for (y, phases) in work.phases.chunks_exact_mut(row_len).enumerate() {
            sum_taps(&padded[y * columns.input..], &mut work.row, &down);
            sum_taps(&work.row, &mut work.filtered, &across);
            deinterleave(&work.filtered, self.scale, phases);
        }
    }
}

/// Buffers of a plane.
#[derive(Default)]
struct Work {
    row: Vec<f32>,
    filtered: Vec<f32>,
    phases: Vec<f32>,
}

/// Samples along one axis.
pub(crate) struct Extent {
    /// The position in the region of the first padded sample.
    pub(crate) first: isize,
    /// Padded samples.
    pub(crate) input: usize,
    /// Samples after the separable kernel, before a blur.
    filtered: usize,
}

impl Extent {
    fn of(scale: usize, outputs: usize, taps: &Taps, radius: usize) -> Self {
        let filtered = scale * (outputs - 1) + 2 * radius + 1;
        Self {
            first: taps.first - radius as isize,
            input: filtered + taps.weights.len() - 1,
            filtered,
        }
    }
}

/// Sorts a row by its positions modulo `phases`: each phase is a run of as many samples.
fn deinterleave(row: &[f32], phases: usize, to: &mut [f32]) {
    let phase_len = row.len().div_ceil(phases);
    for (phase, to) in to.chunks_exact_mut(phase_len).enumerate() {
        for (to, from) in to
            .iter_mut()
            .zip(row[phase.min(row.len())..].iter().step_by(phases))
        {
            *to = *from;
        }
    }
}

/// Columns summed together: few enough to stay in registers.
const COLUMNS: usize = 32;

/// `to[x] = sum of weight * from[offset + x]` over the taps.
pub(crate) fn sum_taps(from: &[f32], to: &mut [f32], taps: &[PlacedTap]) {
    let Some(last_start) = to.len().checked_sub(COLUMNS) else {
        for (x, to) in to.iter_mut().enumerate() {
            *to = taps
                .iter()
                .map(|tap| tap.weight * from[tap.offset + x])
                .sum();
        }
        return;
    };
    for start in (0..to.len()).step_by(COLUMNS) {
        // The last block overlaps the one before it.
        let start = start.min(last_start);
        let mut sums = [0.0; COLUMNS];
        for tap in taps {
            let values = &from[tap.offset + start..][..COLUMNS];
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += tap.weight * value;
            }
        }
        to[start..start + COLUMNS].copy_from_slice(&sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Method;

    fn image(width_px: usize, height_px: usize) -> Vec<u8> {
        let sample = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
        (0..3 * width_px * height_px).map(sample).collect()
    }

    /// All shapes of blur with a shift and a reduction: where the image does not end, the same as one
    /// step after another.
    #[test]
    fn one_pass_equals_one_step_after_another() {
        let blurs = [
            BlurKernel::Isotropic { sigma_px: 1.3 },
            BlurKernel::Anisotropic {
                sigma_px: [2.4, 0.9],
                angle: 0.7,
            },
            BlurKernel::Motion {
                length_px: 7.3,
                angle: 2.0,
            },
        ];
        let methods = [
            Method::Bicubic,
            Method::Bilinear,
            Method::Area,
            Method::ShiftedGaussian,
        ];
        for (scale, low) in [(2, (47, 41)), (3, (40, 33)), (4, (36, 39))] {
            let (width_px, height_px) = (scale * low.0, scale * low.1);
            let pixels = image(width_px, height_px);
            let region = Region::new(width_px, height_px, &pixels);
            for kernel in blurs {
                for method in methods {
                    let steps = [
                        Step::Blur {
                            kernel,
                            kernel_px: 21,
                        },
                        Step::Shift {
                            offset_px: [1.3, -2.6],
                            is_known: false,
                        },
                        Step::Downsample {
                            method,
                            sigma_px: 1.7,
                        },
                    ];
                    let (chain, rest) = LinearChain::of(&steps, scale).expect("a chain");
                    assert!(rest.is_empty());
                    let found = chain.apply(&region, low);
                    let mut expected = Planes::from_interleaved(width_px, height_px, &pixels);
                    for step in &steps {
                        step.apply_alone(&mut expected, low, scale);
                    }
                    let margin = 12;
                    for (found, expected) in found.planes().zip(expected.planes()) {
                        for y in margin..low.1 - margin {
                            for x in margin..low.0 - margin {
                                let at = y * low.0 + x;
                                let (found, expected) = (found[at], expected[at]);
                                assert!(
                                    (found - expected).abs() < 2e-3,
                                    "x{scale} {kernel:?} {method:?} ({x}, {y}): {found} for {expected}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn beyond_an_edge_its_pixel_repeats() {
        let (scale, low) = (2, (9, 8));
        let (width_px, height_px) = (18, 16);
        let pixels = vec![77; 3 * width_px * height_px];
        let region = Region::new(width_px, height_px, &pixels);
        let steps = [
            Step::Blur {
                kernel: BlurKernel::Motion {
                    length_px: 12.0,
                    angle: 0.4,
                },
                kernel_px: 21,
            },
            Step::Shift {
                offset_px: [30.0, -30.0],
                is_known: false,
            },
            Step::Downsample {
                method: Method::Bicubic,
                sigma_px: 1.0,
            },
        ];
        let (chain, _) = LinearChain::of(&steps, scale).expect("a chain");
        let found = chain.apply(&region, low);
        assert!(found.samples.iter().all(|v| (v - 77.0).abs() < 1e-3));
    }

    #[test]
    fn other_steps_make_no_chain() {
        let reduction = Step::Downsample {
            method: Method::Area,
            sigma_px: 1.0,
        };
        let blur = Step::Blur {
            kernel: BlurKernel::Motion {
                length_px: 5.0,
                angle: 0.0,
            },
            kernel_px: 21,
        };
        assert!(LinearChain::of(&[blur], 2).is_none());
        assert!(LinearChain::of(&[Step::Exposure { gain: 0.9 }, reduction], 2).is_none());
        assert!(LinearChain::of(&[blur, blur, reduction], 2).is_none());
        let steps = [reduction, blur];
        let (_, rest) = LinearChain::of(&steps, 2).expect("a chain");
        assert_eq!(rest, [blur]);
    }
}
