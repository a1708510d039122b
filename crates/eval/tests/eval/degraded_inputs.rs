//! Scoring of degraded inputs (JPEG), and over shifts (NTIRE 2018).

use std::path::Path;

use wdsr_eval::{
    Error, Protocol, Report, Scoring, Track, find_pairs, psnr_db_and_ssim_over_shifts,
    score_set_with,
};
use wdsr_image::imresize::{Rounding, imresize_u8_rounded};
use wdsr_image::{Colour, Format, Image, Samples, encode};
use wdsr_testing::paths::test_set;
use wdsr_testing::random::bytes;

const SIDE_PX: usize = 164;

/// A part of an image of noise, levels 40..140 before `gain`.
fn texture(dx: usize, dy: usize, gain: f64) -> Vec<u8> {
    const WIDTH_PX: usize = SIDE_PX + 100;
    let noise = bytes(WIDTH_PX * WIDTH_PX * 3, 1);
    let level = |i: usize| {
        let (x, y) = (i / 3 % SIDE_PX + dx, i / 3 / SIDE_PX + dy);
        (gain * f64::from(40 + noise[(y * WIDTH_PX + x) * 3 + i % 3] % 100)).round() as u8
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

fn baseline(set: &Path, scale: usize, scoring: Scoring) -> Report {
    let pairs = find_pairs(set, scale, Track::Bicubic).expect("pairs");
    let upscale = |low: &[u8], w, h| -> Result<Vec<u8>, Error> {
        Ok(imresize_u8_rounded(low, w, h, 3, scale as f64, Rounding::Float).pixels)
    };
    let scores = score_set_with(&pairs, scoring, upscale, |_| ()).expect("scores");
    Report::new(
        scale,
        scoring,
        set.display().to_string(),
        "none".to_owned(),
        scores,
    )
}

#[test]
#[ignore = "needs LIVE1: set WDSR_DATA to the folder that contains it"]
fn jpeg_inputs_of_live1_score_as_published() {
    for (grey, figures) in [
        (true, [27.77, 30.07, 31.41, 32.35]),
        (false, [25.69, 28.06, 29.37, 30.28]),
    ] {
        for (quality, expected_db) in [10, 20, 30, 40].into_iter().zip(figures) {
            let report = baseline(&test_set("LIVE1"), 1, Scoring::Jpeg { quality, grey });
            let found_db = report.mean.bicubic_psnr_db;
            assert!(
                (found_db - expected_db).abs() < 0.006,
                "quality {quality}, grey {grey}: {found_db} dB, expected {expected_db}"
            );
            assert_eq!(report.mean.psnr_db, found_db, "the input is the baseline");
        }
    }
}

#[test]
#[ignore = "needs DIV2K_valid_center256: set WDSR_DATA to the folder that contains it"]
fn bicubic_upscaling_of_jpeg_inputs_scores_as_measured() {
    for (quality, expected_db) in [(90, 28.17), (75, 27.25), (50, 26.34)] {
        let report = baseline(
            &test_set("DIV2K_valid_center256"),
            2,
            Scoring::SrJpeg { quality },
        );
        let found_db = report.mean.bicubic_psnr_db;
        assert!(
            (found_db - expected_db).abs() < 0.01,
            "quality {quality}: {found_db} dB, expected {expected_db}"
        );
        assert_eq!(report.mean.psnr_db, found_db, "bicubic is the baseline");
    }
}

#[test]
fn jpeg_inputs_of_low_quality_score_lower() {
    let folder = tempfile::tempdir().expect("a folder");
    let samples = Samples::U8(texture(0, 0, 1.0));
    let image = Image::new(SIDE_PX, SIDE_PX, Colour::Rgb, samples);
    let path = folder.path().join("a.png");
    encode(&image, &path, Format::Png).expect("an image");
    let mean = |scale, scoring| baseline(folder.path(), scale, scoring).mean;
    let clean = mean(2, Protocol::Ntire.into());
    let [q90, q10] = [90, 10].map(|quality| mean(2, Scoring::SrJpeg { quality }));
    assert_eq!(q90.psnr_db, q90.bicubic_psnr_db, "bicubic is the baseline");
    assert!(
        clean.psnr_db > q90.psnr_db && q90.psnr_db > q10.psnr_db,
        "{clean:?}, {q90:?}, {q10:?}"
    );
}
