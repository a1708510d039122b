//! Scoring of degraded inputs (JPEG), and over shifts (NTIRE 2018).

use wdsr_eval::{
    Error, Report, Scoring, Track, find_pairs, psnr_db_and_ssim_over_shifts, score_set_with,
};
use wdsr_image::imresize::{Rounding, imresize_u8_rounded};
use wdsr_testing::paths::test_set;

const SIDE_PX: usize = 164;

fn texture(dx: usize, dy: usize, gain: f64) -> Vec<u8> {
    let level = |i: usize| {
        let (x, y) = (i / 3 % SIDE_PX + dx, i / 3 / SIDE_PX + dy);
        let hash = (x * 7919 + y * 104_729 + i % 3 * 31).wrapping_mul(2_654_435_761) >> 7;
        (gain * (40 + hash % 100) as f64).round() as u8
    };
    (0..SIDE_PX * SIDE_PX * 3).map(level).collect()
}

#[test]
fn shifts_up_to_40_pixels_and_brightness_are_corrected() {
    let score =
        |image: &[u8]| psnr_db_and_ssim_over_shifts(image, &texture(50, 50, 1.0), SIDE_PX, SIDE_PX);
    assert_eq!(score(&texture(10, 90, 1.0)), (f64::INFINITY, 1.0));
    let (psnr_db, ssim) = score(&texture(57, 50, 1.0));
    assert_eq!(psnr_db, f64::INFINITY);
    assert!(ssim < 0.5, "SSIM has even shifts only: {ssim}");
    let (psnr_db, ssim) = score(&texture(50, 50, 1.5));
    assert!(psnr_db > 52.0, "only rounding differs: {psnr_db} dB");
    assert!((0.5..0.98).contains(&ssim), "brightness counts: {ssim}");
    assert!(score(&texture(91, 50, 1.0)).0 < 25.0, "41 pixels");
}

fn baseline(set: &str, scale: usize, scoring: Scoring) -> Report {
    let pairs = find_pairs(&test_set(set), scale, Track::Bicubic).expect("pairs");
    let upscale = |low: &[u8], w, h| -> Result<Vec<u8>, Error> {
        Ok(imresize_u8_rounded(low, w, h, 3, scale as f64, Rounding::Float).pixels)
    };
    let scores = score_set_with(&pairs, scoring, upscale, |_| ()).expect("scores");
    Report::new(scale, scoring, set.to_owned(), "none".to_owned(), scores)
}

#[test]
#[ignore = "needs LIVE1: set WDSR_DATA to the folder that contains it"]
fn jpeg_inputs_of_live1_score_as_published() {
    for (grey, figures) in [
        (true, [27.77, 30.07, 31.41, 32.35]),
        (false, [25.69, 28.06, 29.37, 30.28]),
    ] {
        for (quality, expected_db) in [10, 20, 30, 40].into_iter().zip(figures) {
            let report = baseline("LIVE1", 1, Scoring::Jpeg { quality, grey });
            let found_db = report.mean.bicubic_psnr_db;
            assert!(
                (found_db - expected_db).abs() < 0.006,
                "quality {quality}, grey {grey}: {found_db} dB, expected {expected_db}"
            );
            assert_eq!(report.mean.psnr_db, found_db, "the input is the baseline");
        }
    }
}
