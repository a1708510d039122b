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
    let original = cut(&original, width, [left, top], PATCH_PX);
    // The part of the image that patches lie in.
    let image = cut(&image, width, [left - SHIFT_PX, top - SHIFT_PX], REACH_PX);
    let of_image: Vec<Windows> = image
        .iter()
        .map(|plane| Windows::of(plane, REACH_PX))
        .collect();
    let of_original: Vec<Windows> = original
        .iter()
        .map(|plane| Windows::of(plane, PATCH_PX))
        .collect();
    let expected = original.concat();
    let sum: f64 = expected.iter().sum();
    let shifts = 2 * SHIFT_PX + 1;
    let scores = (0..shifts * shifts).into_par_iter().map(|i| {
        let (dy, dx) = (i / shifts, i % shifts);
        let patches = cut(&image, REACH_PX, [dx, dy], PATCH_PX);
        let found = patches.concat();
        // A black patch has no brightness to scale.
        let gain = match found.iter().sum::<f64>() {
            0.0 => 1.0,
            found => sum / found,
        };
        let squares = found.iter().zip(&expected);
        let squares: f64 = squares.map(|(f, e)| (gain * f - e).powi(2)).sum();
        let similarity = if dx.is_multiple_of(2) && dy.is_multiple_of(2) {
            let of = |channel: usize| {
                let (found, expected) = (&patches[channel], &original[channel]);
                of_image[channel].similarity([dx, dy], found, &of_original[channel], expected)
            };
            (0..3).map(of).sum::<f64>() / 3.0
        } else {
            0.0
        };
        (squares / expected.len() as f64, similarity)
    });
    let (least, similarity) =
        scores.reduce(|| (f64::INFINITY, 0.0), |a, b| (a.0.min(b.0), a.1.max(b.1)));
    (10.0 * (255.0 * 255.0 / least).log10(), similarity)
}

/// A square part of each plane.
fn cut(planes: &[Vec<f64>], width: usize, [left, top]: [usize; 2], side: usize) -> Vec<Vec<f64>> {
    let part = |plane: &Vec<f64>| {
        let mut part = Vec::with_capacity(side * side);
        for y in top..top + side {
            part.extend_from_slice(&plane[y * width + left..][..side]);
        }
        part
    };
    planes.iter().map(part).collect()
}

/// What the similarity of a plane's windows needs of this plane alone.
struct Windows {
    weights: [f64; WINDOW_PX],
    /// Windows in a row.
    width: usize,
    means: Vec<f64>,
    means_of_squares: Vec<f64>,
}

impl Windows {
    fn of(plane: &[f64], width: usize) -> Self {
        let rows = plane.len() / width + 1 - WINDOW_PX;
        let weights = gaussian();
        let row = |y: usize| &plane[y * width..][..width];
        let mean = |y| row_of_means(&weights, width, |dy| row(y + dy).iter().copied());
        let square = |y| row_of_means(&weights, width, |dy| products(row(y + dy), row(y + dy)));
        Self {
            width: width + 1 - WINDOW_PX,
            means: (0..rows).flat_map(mean).collect(),
            means_of_squares: (0..rows).flat_map(square).collect(),
            weights,
        }
    }

    /// The mean similarity of the patches `found`, which lies at `left` and `top` of this plane, and `expected`, whose windows are
    /// `original`.
    fn similarity(
        &self,
        [left, top]: [usize; 2],
        found: &[f64],
        original: &Self,
        expected: &[f64],
    ) -> f64 {
        let count = PATCH_PX + 1 - WINDOW_PX;
        let row = |y: usize| {
            let products = row_of_means(&self.weights, PATCH_PX, |dy| {
                let at = (y + dy) * PATCH_PX;
                products(&found[at..][..PATCH_PX], &expected[at..][..PATCH_PX])
            });
            let of = |x: usize| {
                let (a, b) = ((top + y) * self.width + left + x, y * original.width + x);
                similarity(
                    [self.means[a], original.means[b]],
                    [self.means_of_squares[a], original.means_of_squares[b]],
                    products[x],
                )
            };
            (0..count).map(of).sum::<f64>()
        };
        (0..count).map(row).sum::<f64>() / (count * count) as f64
    }
}
