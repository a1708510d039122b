//! Images without detail, from which a network learns nothing.

use wdsr_image::imresize::imresize_u8;

/// Least root mean square error of bicubic interpolation, 0..255. An error below one level is rounding
/// to 8 bits and compression noise. None of the 671 photographs of cid, bsds and wall is below.
const LEAST_RMS: f64 = 1.0;
/// Maximum share of pixels that equal their right and their lower neighbour. None of the 944
/// photographs of cid, bsds, wall and endless-sky-high-dpi has more than 0.68; flat vector art has 0.76
/// to 1. Shaded drawings have as few as photographs.
const MAX_EQUAL: f64 = 0.75;

/// The reason to exclude an R G B image (0..255, row-major), if any.
pub(crate) fn without_detail(rgb: &[u8], width_px: usize, height_px: usize) -> Option<String> {
    let equal = equal_share(rgb, width_px, height_px);
    if equal > MAX_EQUAL {
        return Some(format!(
            "drawn: {:.0}% of its pixels equal their neighbours, expected at most {:.0}%",
            100.0 * equal,
            100.0 * MAX_EQUAL
        ));
    }
    let rms = bicubic_rms(rgb, width_px, height_px);
    (rms < LEAST_RMS).then(|| {
        format!(
            "flat: the error of bicubic interpolation is {rms:.2} of 255 levels, expected at least \
             {LEAST_RMS}"
        )
    })
}

fn equal_share(rgb: &[u8], width_px: usize, height_px: usize) -> f64 {
    let pixel = |x: usize, y: usize| &rgb[3 * (y * width_px + x)..][..3];
    let mut equal = 0;
    for y in 0..height_px - 1 {
        for x in 0..width_px - 1 {
            let here = pixel(x, y);
            equal += usize::from(here == pixel(x + 1, y) && here == pixel(x, y + 1));
        }
    }
    equal as f64 / ((width_px - 1) * (height_px - 1)).max(1) as f64
}

/// Error of an image that is halved and upscaled, without an odd last row or column.
fn bicubic_rms(rgb: &[u8], width_px: usize, height_px: usize) -> f64 {
    let (width, height) = (width_px / 2 * 2, height_px / 2 * 2);
    let even: Vec<u8> = (0..height)
        .flat_map(|y| &rgb[3 * y * width_px..][..3 * width])
        .copied()
        .collect();
    let low = imresize_u8(&even, width, height, 3, 0.5);
    let again = imresize_u8(&low.pixels, low.width_px, low.height_px, 3, 2.0);
    let squares = even
        .iter()
        .zip(&again.pixels)
        .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
    (squares.sum::<f64>() / even.len() as f64).sqrt()
}
