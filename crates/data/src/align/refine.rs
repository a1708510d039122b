//! Registration to fractions of a pixel by Gauss-Newton steps.
//!
//! Source: Cai et al. 2019, "Toward Real-World Single Image Super-Resolution" (RealSR), Alignment/: a
//! pyramid of grey images, damping 1e-4, weights 1 / (|residual| + 0.1) and a gain and an offset. Gain
//! and offset are those of least squares here, since matching of standard deviations counts the noise
//! of the low-resolution image as brightness.

use super::grey::{Grey, Spline};
use super::phase::Moments;

const DAMPING: f64 = 1e-4;
/// Levels that are added to a residual in its weight.
const WEIGHT_OFFSET: f32 = 0.1;
const MAX_STEPS: usize = 30;
/// A step that moves no corner further ends a level.
const CONVERGED_PX: f64 = 2e-4;
/// Pixels of a blur that both images get first: noise, aliasing and the interpolation's errors lie
/// above what it leaves.
const BLUR_PX: f32 = 1.0;

/// The least share of the slopes along one direction that those along the other have.
const LEAST_SLOPES: f64 = 1e-3;
/// The least side of a level of the pyramid.
const LEAST_SIDE_PX: usize = 16;

/// Pixels of the second image at those of the first: `(x, y) + offset + (matrix - 1) ((x, y) - centre)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Warp {
    pub(super) offset_px: [f64; 2],
    pub(super) matrix: [[f64; 2]; 2],
}

impl Warp {
    pub(super) fn of_offset(offset_px: [f64; 2]) -> Self {
        Self {
            offset_px,
            matrix: [[1.0, 0.0], [0.0, 1.0]],
        }
    }

    #[inline]
    pub(super) fn place(&self, x: f64, y: f64, centre: [f64; 2]) -> [f64; 2] {
        let (u, v) = (x - centre[0], y - centre[1]);
        let [[a, b], [c, d]] = self.matrix;
        [
            x + self.offset_px[0] + (a - 1.0) * u + b * v,
            y + self.offset_px[1] + c * u + (d - 1.0) * v,
        ]
    }

    /// The largest distance of a corner's places by two warps.
    fn distance_px(&self, other: &Self, (width_px, height_px): (usize, usize)) -> f64 {
        let centre = centre(width_px, height_px);
        let corners = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let distances = corners.map(|(right, down)| {
            let (x, y) = (
                (right * (width_px - 1)) as f64,
                (down * (height_px - 1)) as f64,
            );
            let (a, b) = (self.place(x, y, centre), other.place(x, y, centre));
            (a[0] - b[0]).abs().max((a[1] - b[1]).abs())
        });
        distances.into_iter().fold(0.0, f64::max)
    }
}

pub(super) fn centre(width_px: usize, height_px: usize) -> [f64; 2] {
    [width_px, height_px].map(|len| (len as f64 - 1.0) / 2.0)
}

/// The images of a level of the pyramid, blurred.
struct Level {
    first: Grey,
    second: Spline,
    factor: usize,
}

impl Level {
    fn new(first: &Grey, second: &Grey, factor: usize) -> Self {
        Self {
            first: first.reduced(factor).blurred(BLUR_PX),
            second: Spline::new(second.reduced(factor).blurred(BLUR_PX)),
            factor,
        }
    }
}

/// A refined registration.
pub(super) struct Refined {
    pub(super) warp: Warp,
    /// Standard deviation of the offset in pixels, along the worse of all directions.
    pub(super) uncertainty_px: f64,
}

/// Why a registration cannot be refined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Failure {
    /// The images leave each other.
    Apart,
    /// The images have no slopes, or along one direction only.
    NoSlope,
}

/// Refines an offset of `second` against `first`.
pub(super) fn refine(
    first: &Grey,
    second: &Grey,
    offset_px: [f64; 2],
    affine: bool,
) -> Result<Refined, Failure> {
    let pixels = (first.width_px * first.height_px) as f64;
    // RealSR's number of levels, as long as the shorter side allows it.
    let levels = ((pixels.log2() / 2.0 - 3.0).floor() - 1.0).max(1.0) as u32;
    let shorter_px = [first, second].map(|image| image.width_px.min(image.height_px));
    let most = (shorter_px[0].min(shorter_px[1]) / LEAST_SIDE_PX)
        .max(1)
        .ilog2()
        + 1;
    let levels = levels.min(most);
    let (mut warp, mut uncertainty_px) = (Warp::of_offset(offset_px), f64::INFINITY);
    for level in (0..levels).rev() {
        let factor = 1 << level;
        let images = Level::new(first, second, factor);
        let scaled = |warp: &Warp, by: f64| Warp {
            offset_px: warp.offset_px.map(|px| px * by),
            ..*warp
        };
        let mut at_level = scaled(&warp, 1.0 / factor as f64);
        if level + 1 == levels {
            descend(&images, &mut at_level, false)?;
        }
        if affine {
            descend(&images, &mut at_level, true)?;
        } else if level + 1 < levels {
            descend(&images, &mut at_level, false)?;
        }
        warp = scaled(&at_level, factor as f64);
        if level == 0 {
            let (_, equations) = step_equations(&images, &warp, false, Weights::Equal)?;
            uncertainty_px = equations.uncertainty_px();
        }
    }
    Ok(Refined {
        warp,
        uncertainty_px,
    })
}

/// Steps at a level until they end or the images leave each other.
fn descend(level: &Level, warp: &mut Warp, affine: bool) -> Result<(), Failure> {
    let size = (level.first.width_px, level.first.height_px);
    for _ in 0..MAX_STEPS {
        let before = *warp;
        let (unit_px, equations) = step_equations(level, warp, affine, Weights::Robust)?;
        let [least, most] = equations.slopes();
        if least < LEAST_SLOPES * most {
            return Err(Failure::NoSlope);
        }
        let step = equations.solve().ok_or(Failure::NoSlope)?;
        warp.offset_px[0] += step[0];
        warp.offset_px[1] += step[1];
        if affine {
            for (row, step) in [&step[2..4], &step[4..6]].into_iter().enumerate() {
                warp.matrix[row][0] += step[0] / unit_px;
                warp.matrix[row][1] += step[1] / unit_px;
            }
        }
        if warp.distance_px(&before, size) < CONVERGED_PX {
            break;
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Weights {
    Robust,
    Equal,
}

/// Normal equations of a step.
struct Equations {
    unknowns: usize,
    matrix: [[f64; 6]; 6],
    right_side: [f64; 6],
    count: f64,
    squares: f64,
}

/// The least share of the first image's pixels that a step needs.
const LEAST_OVERLAP: f64 = 0.2;

/// The equations of a step at `warp`, and the length that the matrix's unknowns are counted in. At full
/// resolution the outer sixteenth of each side is left out: lenses and shifts spoil it first.
fn step_equations(
    level: &Level,
    warp: &Warp,
    affine: bool,
    weights: Weights,
) -> Result<(f64, Equations), Failure> {
    let (width, height) = (level.first.width_px, level.first.height_px);
    let centre = centre(width, height);
    let unit_px = width.max(height) as f64 / 2.0;
    let inset = |len: usize| if level.factor == 1 { len / 16 } else { 0 };
    let (columns, rows) = (
        inset(width)..width - inset(width),
        inset(height)..height - inset(height),
    );
    let mut moments = Moments::default();
    let mut warped = Vec::with_capacity(columns.len() * rows.len());
    for y in rows.clone() {
        for x in columns.clone() {
            let [at_x, at_y] = warp.place(x as f64, y as f64, centre);
            let value = level.second.at(at_x, at_y);
            if let Some([value, ..]) = value {
                moments.add(value, level.first.samples[y * width + x]);
            }
            warped.push(value);
        }
    }
    if moments.count < LEAST_OVERLAP * (width * height) as f64 {
        return Err(Failure::Apart);
    }
    let (gain, offset) = moments.line();
    let (gain, offset) = (gain as f32, offset as f32);
    let unknowns = if affine { 6 } else { 2 };
    let mut equations = Equations {
        unknowns,
        matrix: [[0.0; 6]; 6],
        right_side: [0.0; 6],
        count: moments.count,
        squares: 0.0,
    };
    let mut values = warped.into_iter();
    for y in rows {
        for x in columns.clone() {
            let Some(Some([value, right, down])) = values.next() else {
                continue;
            };
            let residual = gain * value + offset - level.first.samples[y * width + x];
            let weight = match weights {
                Weights::Robust => 1.0 / (residual.abs() + WEIGHT_OFFSET),
                Weights::Equal => 1.0,
            };
            let (right, down) = (gain * right, gain * down);
            let (u, v) = (
                ((x as f64 - centre[0]) / unit_px) as f32,
                ((y as f64 - centre[1]) / unit_px) as f32,
            );
            let slopes = [right, down, right * u, right * v, down * u, down * v];
            equations.squares += f64::from(residual * residual);
            for i in 0..unknowns {
                let weighted = weight * slopes[i];
                equations.right_side[i] -= f64::from(weighted * residual);
                for j in 0..=i {
                    equations.matrix[i][j] += f64::from(weighted * slopes[j]);
                }
            }
        }
    }
    Ok((unit_px, equations))
}

impl Equations {
    /// The solution by Cholesky's decomposition; none if the images have no slopes.
    fn solve(&self) -> Option<[f64; 6]> {
        let n = self.unknowns;
        let mut lower = self.matrix;
        for i in 0..n {
            lower[i][i] += DAMPING * self.matrix[i][i] + f64::MIN_POSITIVE;
        }
        for i in 0..n {
            for j in 0..=i {
                let known: f64 = (0..j).map(|k| lower[i][k] * lower[j][k]).sum();
                let rest = lower[i][j] - known;
                lower[i][j] = match i == j {
                    true if rest > 0.0 => rest.sqrt(),
                    true => return None,
                    false => rest / lower[j][j],
                };
            }
        }
        let mut solution = [0.0; 6];
        for i in 0..n {
            let known: f64 = (0..i).map(|k| lower[i][k] * solution[k]).sum();
            solution[i] = (self.right_side[i] - known) / lower[i][i];
        }
        for i in (0..n).rev() {
            let known: f64 = (i + 1..n).map(|k| lower[k][i] * solution[k]).sum();
            solution[i] = (solution[i] - known) / lower[i][i];
        }
        Some(solution)
    }

    /// The sums of squared slopes along the direction that has least and the one that has most.
    fn slopes(&self) -> [f64; 2] {
        let [a, b, c] = [self.matrix[0][0], self.matrix[1][0], self.matrix[1][1]];
        let (mean, deviation) = ((a + c) / 2.0, ((a - c).powi(2) / 4.0 + b * b).sqrt());
        [mean - deviation, mean + deviation]
    }

    /// The standard deviation of the offset along its worse direction.
    fn uncertainty_px(&self) -> f64 {
        let [least, _] = self.slopes();
        // Rounding to levels alone leaves a twelfth.
        let variance = (self.squares / self.count).max(1.0 / 12.0);
        // The blur correlates neighbours: so many pixels count as one.
        let correlated = 4.0 * std::f64::consts::PI * f64::from(BLUR_PX).powi(2);
        (correlated * variance / least.max(0.0)).sqrt()
    }
}
