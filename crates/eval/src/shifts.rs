//! Scores of the realistic tracks of NTIRE 2018: the best of a patch over shifts.

use rayon::prelude::*;

use crate::metrics::{Channel, WINDOW_PX, gaussian, planes, products, row_of_means, similarity};

/// Side of the patch in the centre that is compared.
const PATCH_PX: usize = 60;
/// Largest shift along each axis.
const SHIFT_PX: usize = 40;
/// Side of what the patches at all shifts cover.
const REACH_PX: usize = PATCH_PX + 2 * SHIFT_PX;
/// Pixels cropped on each side first: scale + 6.
const SHAVE_PX: usize = 10;
/// The smallest side that can be scored.
pub(crate) const LEAST_PX: usize = 2 * (SHAVE_PX + SHIFT_PX) + PATCH_PX;

/// PSNR in dB and SSIM of an image by the scoring program of the realistic tracks of NTIRE 2018 (x4).
/// The central 60 x 60 pixels of the original are compared with those of the image at every shift of
/// -40..=40 pixels along both axes, and each figure is that of its best shift. PSNR is of RGB after
/// scaling the patch's brightness to the mean of the original's; SSIM is of the unscaled patch, at even
/// shifts only, and at least 0.
///
/// # Shapes
/// - image, original: `[height_px, width_px, 3]` R G B row-major, 0..255
///
/// # Panics
/// If the number of samples differs, or a side is shorter than 160 pixels.
///
/// # Source
/// jingliting/NTIRE2018@5a853a4 scoring_NTIRE2018_track2/evaluation.py, `output_measures`.
pub fn psnr_db_and_ssim_over_shifts(
    image: &[u8],
    original: &[u8],
    width_px: usize,
    height_px: usize,
) -> (f64, f64) {
    assert!(
        width_px.min(height_px) >= LEAST_PX,
        "{width_px} x {height_px} pixels, expected at least {LEAST_PX} x {LEAST_PX}"
    );
    let (image, width, height) = planes(image, width_px, height_px, Channel::Rgb, SHAVE_PX);
    let (original, ..) = planes(original, width_px, height_px, Channel::Rgb, SHAVE_PX);
    let (left, top) = (width / 2 - PATCH_PX / 2, height / 2 - PATCH_PX / 2);
    let original = cut(original, width, [left, top], PATCH_PX);
    // The part of the image that patches lie in.
    let image = cut(image, width, [left - SHIFT_PX, top - SHIFT_PX], REACH_PX);
    let sum: f64 = original.iter().flat_map(|plane| &plane.samples).sum();
    let sums_of_image = SquareSums::of(&image);
    let shifts = 2 * SHIFT_PX + 1;
    let scores = (0..shifts * shifts).into_par_iter().map(|i| {
        let shift = [i % shifts, i / shifts];
        // A black patch has no brightness to scale.
        let gain = match sums_of_image.at(shift) {
            0.0 => 1.0,
            found => sum / found,
        };
        // Sums of columns, which vectors add.
        let mut squares = [0.0; PATCH_PX];
        for (image, original) in image.iter().zip(&original) {
            for y in 0..PATCH_PX {
                let (found, expected) = (image.row(shift, y), original.row([0, 0], y));
                for (sum, (found, expected)) in squares.iter_mut().zip(found.iter().zip(expected)) {
                    *sum += (gain * found - expected).powi(2);
                }
            }
        }
        let similarity = if shift.iter().all(|along| along.is_multiple_of(2)) {
            let planes = image.iter().zip(&original);
            let of_planes = planes.map(|(image, original)| image.similarity(shift, original));
            of_planes.sum::<f64>() / image.len() as f64
        } else {
            0.0
        };
        let samples = image.len() * PATCH_PX * PATCH_PX;
        (squares.iter().sum::<f64>() / samples as f64, similarity)
    });
    let (least, similarity) =
        scores.reduce(|| (f64::INFINITY, 0.0), |a, b| (a.0.min(b.0), a.1.max(b.1)));
    (10.0 * (255.0 * 255.0 / least).log10(), similarity)
}

/// A square part of each plane.
fn cut(planes: Vec<Vec<f64>>, width: usize, [left, top]: [usize; 2], side: usize) -> Vec<Square> {
    let part = |plane: Vec<f64>| {
        let rows = (top..top + side).map(|y| &plane[y * width + left..][..side]);
        Square::of(rows.collect::<Vec<_>>().concat(), side)
    };
    planes.into_iter().map(part).collect()
}

/// A square part of a plane, and what the similarity of its windows needs of it alone.
struct Square {
    samples: Vec<f64>,
    side: usize,
    window: [f64; WINDOW_PX],
    means: Vec<f64>,
    means_of_squares: Vec<f64>,
}

impl Square {
    fn of(samples: Vec<f64>, side: usize) -> Self {
        let window = gaussian();
        let row = |y: usize| &samples[y * side..][..side];
        let mean = |y| row_of_means(&window, side, |dy| row(y + dy).iter().copied());
        let square = |y| row_of_means(&window, side, |dy| products(row(y + dy), row(y + dy)));
        let windows = side + 1 - WINDOW_PX;
        Self {
            means: (0..windows).flat_map(mean).collect(),
            means_of_squares: (0..windows).flat_map(square).collect(),
            samples,
            side,
            window,
        }
    }

    /// Row `y` of the patch at `left` and `top`.
    fn row(&self, [left, top]: [usize; 2], y: usize) -> &[f64] {
        &self.samples[(top + y) * self.side + left..][..PATCH_PX]
    }

    /// The mean similarity of the patch at `left` and `top` to the original's.
    fn similarity(&self, [left, top]: [usize; 2], original: &Self) -> f64 {
        let count = PATCH_PX + 1 - WINDOW_PX;
        let row = |y: usize| {
            let products = row_of_means(&self.window, PATCH_PX, |dy| {
                let found = self.row([left, top], y + dy);
                products(found, original.row([0, 0], y + dy))
            });
            let windows = self.side + 1 - WINDOW_PX;
            let (a, b) = ((top + y) * windows + left, y * count);
            let of = |x: usize| {
                similarity(
                    [self.means[a + x], original.means[b + x]],
                    [
                        self.means_of_squares[a + x],
                        original.means_of_squares[b + x],
                    ],
                    products[x],
                )
            };
            (0..count).map(of).sum::<f64>()
        };
        (0..count).map(row).sum::<f64>() / (count * count) as f64
    }
}

/// Sums over patches, exact as samples are integers.
struct SquareSums {
    /// The sum of what lies above and to the left of each corner, `[REACH_PX + 1, REACH_PX + 1]`.
    of_corners: Vec<f64>,
}

impl SquareSums {
    /// Over all planes together.
    fn of(planes: &[Square]) -> Self {
        const WIDTH: usize = REACH_PX + 1;
        let mut of_corners = vec![0.0; WIDTH * WIDTH];
        for y in 0..REACH_PX {
            let mut of_row = 0.0;
            for x in 0..REACH_PX {
                let samples = planes.iter().map(|plane| plane.samples[y * REACH_PX + x]);
                of_row += samples.sum::<f64>();
                of_corners[(y + 1) * WIDTH + x + 1] = of_corners[y * WIDTH + x + 1] + of_row;
            }
        }
        Self { of_corners }
    }

    /// Of the patch at `left` and `top`.
    fn at(&self, [left, top]: [usize; 2]) -> f64 {
        let corner = |x: usize, y: usize| self.of_corners[y * (REACH_PX + 1) + x];
        let (right, bottom) = (left + PATCH_PX, top + PATCH_PX);
        corner(right, bottom) - corner(left, bottom) - corner(right, top) + corner(left, top)
    }
}
