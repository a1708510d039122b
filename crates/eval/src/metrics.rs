//! Peak signal-to-noise ratio and structural similarity of 8-bit RGB images.
//!
//! `PSNR = 10 log10(255^2 / MSE)` over all samples inside the border. Images are not registered: one
//! that is shifted against its original scores low.

use rayon::prelude::*;

/// The channel of an image that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// All three channels: one mean of squares over them for PSNR, the mean of the three for SSIM.
    Rgb,
    /// Luma, Y = (65.481 R + 128.553 G + 24.966 B) / 255 + 16, not rounded (ITU-R BT.601, as
    /// MATLAB's `rgb2ycbcr`).
    Y,
    /// The mean of the channels, rounded half up, as a grey image is written. For grey images, whose
    /// samples are luminance already (MATLAB's evaluation scripts convert only images of three
    /// channels).
    Grey,
}

/// An image without its border: planes of `f64`, 0..255, row-major, and their width and height.
pub(crate) fn planes(
    rgb: &[u8],
    width_px: usize,
    height_px: usize,
    channel: Channel,
    shave_px: usize,
) -> (Vec<Vec<f64>>, usize, usize) {
    assert_eq!(
        rgb.len(),
        width_px * height_px * 3,
        "samples of {width_px} x {height_px} RGB"
    );
    assert!(
        width_px > 2 * shave_px && height_px > 2 * shave_px,
        "{width_px} x {height_px} pixels, cropped by {shave_px} on each side"
    );
    let pixels = || {
        (shave_px..height_px - shave_px).flat_map(move |y| {
            let row = y * width_px;
            rgb[(row + shave_px) * 3..(row + width_px - shave_px) * 3].chunks_exact(3)
        })
    };
    let planes = match channel {
        Channel::Grey => {
            // A sum of three integers over three is never a tie.
            let grey = |p: &[u8]| (p.iter().map(|&v| u32::from(v)).sum::<u32>() + 1) / 3;
            vec![pixels().map(|p| f64::from(grey(p))).collect()]
        }
        Channel::Rgb => (0..3)
            .map(|c| pixels().map(|p| f64::from(p[c])).collect())
            .collect(),
        Channel::Y => {
            let luma = |p: &[u8]| {
                let [r, g, b] = [p[0], p[1], p[2]].map(f64::from);
                (65.481 * r + 128.553 * g + 24.966 * b) / 255.0 + 16.0
            };
            vec![pixels().map(luma).collect()]
        }
    };
    (planes, width_px - 2 * shave_px, height_px - 2 * shave_px)
}

/// Peak signal-to-noise ratio in dB with a peak of 255; `f64::INFINITY` for equal images.
///
/// # Shapes
/// - a, b: `[height_px, width_px, 3]` R G B row-major, 0..255
/// - shave_px: pixels cropped on each side before comparing
///
/// # Panics
/// If the number of samples differs, or the image is not larger than its border.
///
/// # Examples
/// ```
/// use wdsr_eval::{Channel, psnr_db};
///
/// let [a, b] = [[100_u8; 6 * 6 * 3], [101; 6 * 6 * 3]];
/// let db = psnr_db(&a, &b, 6, 6, Channel::Rgb, 2);
/// assert!((db - 20.0 * 255_f64.log10()).abs() < 1e-9);
/// ```
///
/// # Source
/// XPixelGroup/BasicSR@00755ef basicsr/metrics/psnr_ssim.py, `calculate_psnr`.
pub fn psnr_db(
    a: &[u8],
    b: &[u8],
    width_px: usize,
    height_px: usize,
    channel: Channel,
    shave_px: usize,
) -> f64 {
    let (a, ..) = planes(a, width_px, height_px, channel, shave_px);
    let (b, ..) = planes(b, width_px, height_px, channel, shave_px);
    let count: usize = a.iter().map(Vec::len).sum();
    let squares: f64 = a
        .iter()
        .flatten()
        .zip(b.iter().flatten())
        .map(|(a, b)| (a - b).powi(2))
        .sum();
    10.0 * (255.0 * 255.0 / (squares / count as f64)).log10()
}

/// Side of the Gaussian window of SSIM.
pub(crate) const WINDOW_PX: usize = 11;
/// Its standard deviation in pixels.
const SIGMA_PX: f64 = 1.5;

/// Mean structural similarity, -1..1, over all windows within the image; 1 for equal images. For RGB
/// the mean of the three channels. Rows are computed in parallel on rayon's current pool; the sum does
/// not depend on the number of threads.
///
/// # Shapes
/// - a, b: `[height_px, width_px, 3]` R G B row-major, 0..255
/// - shave_px: pixels cropped on each side before comparing
///
/// # Panics
/// If the number of samples differs, or a side is shorter than 11 pixels without the border.
///
/// # Source
/// Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity",
/// section III: 11x11 Gaussian window, sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255. The mean of the
/// channels: XPixelGroup/BasicSR@00755ef basicsr/metrics/psnr_ssim.py, `calculate_ssim`.
pub fn ssim(
    a: &[u8],
    b: &[u8],
    width_px: usize,
    height_px: usize,
    channel: Channel,
    shave_px: usize,
) -> f64 {
    let (a, width, height) = planes(a, width_px, height_px, channel, shave_px);
    let (b, ..) = planes(b, width_px, height_px, channel, shave_px);
    assert!(
        width >= WINDOW_PX && height >= WINDOW_PX,
        "{width} x {height} pixels, expected at least {WINDOW_PX} x {WINDOW_PX}"
    );
    let scores = a
        .iter()
        .zip(&b)
        .map(|(a, b)| ssim_plane(a, b, width, height));
    scores.sum::<f64>() / a.len() as f64
}

fn ssim_plane<'a>(a: &'a [f64], b: &'a [f64], width: usize, height: usize) -> f64 {
    let window = gaussian();
    let (out_width, out_height) = (width + 1 - WINDOW_PX, height + 1 - WINDOW_PX);
    let rows: Vec<f64> = (0..out_height)
        .into_par_iter()
        .map(|y| {
            let row = |plane: &'a [f64], dy: usize| &plane[(y + dy) * width..][..width];
            let means = |plane| row_of_means(&window, width, |dy| row(plane, dy).iter().copied());
            let products =
                |a, b| row_of_means(&window, width, |dy| products(row(a, dy), row(b, dy)));
            let [aa, bb, ab] = [products(a, a), products(b, b), products(a, b)];
            let [a, b] = [means(a), means(b)];
            let of = |x| similarity([a[x], b[x]], [aa[x], bb[x]], ab[x]);
            (0..out_width).map(of).sum::<f64>()
        })
        .collect();
    rows.iter().sum::<f64>() / (out_width * out_height) as f64
}

/// The structural similarity of two windows with these means, means of squares, and mean of products.
pub(crate) fn similarity([a, b]: [f64; 2], [aa, bb]: [f64; 2], ab: f64) -> f64 {
    let (c1, c2) = ((0.01 * 255.0_f64).powi(2), (0.03 * 255.0_f64).powi(2));
    let (variance_a, variance_b, covariance) = (aa - a * a, bb - b * b, ab - a * b);
    (2.0 * a * b + c1) * (2.0 * covariance + c2)
        / ((a * a + b * b + c1) * (variance_a + variance_b + c2))
}

/// The weighted means of a row of windows, columns first: `row` gets a row of the windows.
pub(crate) fn row_of_means<R: Iterator<Item = f64>>(
    window: &[f64; WINDOW_PX],
    width: usize,
    row: impl Fn(usize) -> R,
) -> Vec<f64> {
    let mut columns = vec![0.0; width];
    for (y, weight) in window.iter().enumerate() {
        for (sum, term) in columns.iter_mut().zip(row(y)) {
            *sum += weight * term;
        }
    }
    let mut means = vec![0.0; width + 1 - WINDOW_PX];
    for (x, weight) in window.iter().enumerate() {
        for (mean, column) in means.iter_mut().zip(&columns[x..]) {
            *mean += weight * column;
        }
    }
    means
}

/// The products of two rows.
pub(crate) fn products<'a>(a: &'a [f64], b: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    a.iter().zip(b).map(|(a, b)| a * b)
}

/// The weights of a window's columns, and of its rows.
pub(crate) fn gaussian() -> [f64; WINDOW_PX] {
    let centre = (WINDOW_PX / 2) as f64;
    let mut window: [f64; WINDOW_PX] =
        std::array::from_fn(|x| (-(x as f64 - centre).powi(2) / (2.0 * SIGMA_PX * SIGMA_PX)).exp());
    let sum: f64 = window.iter().sum();
    window.iter_mut().for_each(|weight| *weight /= sum);
    window
}

#[cfg(test)]
mod tests;
