//! Metrics against golden figures, and baselines and low-resolution images against published ones.

use wdsr_eval::{
    Channel, Error, Protocol, Report, Track, find_pairs, psnr_db, score_set_with, ssim,
};
use wdsr_image::imresize::{Rounding, imresize_u8_rounded};
use wdsr_testing::golden::{self, TensorFile};
use wdsr_testing::paths::test_set;

#[test]
fn metrics_equal_the_golden_figures() {
    let golden = golden::folder();
    let images = TensorFile::read(&golden.join("metrics.safetensors"));
    let (a, b) = (images.tensor("a"), images.tensor("b"));
    let (h, w) = (a.shape[0], a.shape[1]);
    let text = std::fs::read_to_string(golden.join("metrics.json")).expect("golden file");
    let figures: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&text).expect("JSON");
    assert_eq!(figures.len(), 7, "figures");
    for (name, expected) in figures {
        let (kind, shave) = name.rsplit_once("_shave").expect("a border in the name");
        let shave: usize = shave.parse().expect("a border in the name");
        let (a, b) = (a.bytes(), b.bytes());
        let found = match kind {
            "psnr_rgb" => psnr_db(a, b, w, h, Channel::Rgb, shave),
            "psnr_y" => psnr_db(a, b, w, h, Channel::Y, shave),
            "ssim_y" => ssim(a, b, w, h, Channel::Y, shave),
            other => panic!("unknown figure {other}"),
        };
        let error = (found - expected.as_f64().expect("a number")).abs();
        assert!(error <= 1e-9, "{name}: {found}, expected {expected}");
    }
}

/// Bicubic interpolation, scored as a model: its gain is zero.
fn bicubic_report(set: &str, scale: usize) -> Report {
    let pairs = find_pairs(&test_set(set), scale, Track::Bicubic).expect("pairs");
    let upscale = |low: &[u8], w, h| -> Result<Vec<u8>, Error> {
        Ok(imresize_u8_rounded(low, w, h, 3, scale as f64, Rounding::Float).pixels)
    };
    let mut told = Vec::new();
    let protocol = Protocol::Benchmark;
    let scores = score_set_with(&pairs, protocol, upscale, |score| told.push(score.clone()))
        .expect("scores");
    assert_eq!(told, scores, "progress");
    Report::new(
        scale,
        protocol,
        set.to_owned(),
        "bicubic".to_owned(),
        scores,
    )
}

#[test]
#[ignore = "needs Set5 and Set14: set WDSR_DATA to the folder that contains them"]
fn bicubic_baselines_are_as_published() {
    for (set, images, scale, expected_db) in [
        ("Set5", 5, 2, 33.68),
        ("Set5", 5, 3, 30.40),
        ("Set5", 5, 4, 28.43),
        ("Set14", 14, 2, 30.24),
        ("Set14", 14, 3, 27.54),
        ("Set14", 14, 4, 26.00),
    ] {
        let report = bicubic_report(set, scale);
        assert_eq!(report.images.len(), images, "{set} x{scale}");
        let found_db = report.mean.bicubic_psnr_db;
        assert!(
            (found_db - expected_db).abs() < 0.01,
            "{set} x{scale}: {found_db} dB, expected {expected_db}"
        );
        for score in &report.images {
            let (figures, baseline) = (
                (score.psnr_db, score.ssim),
                (score.bicubic_psnr_db, score.bicubic_ssim),
            );
            assert_eq!(figures, baseline, "{set} x{scale} {}", score.name);
        }
    }
}

#[test]
#[ignore = "needs Set5: set WDSR_DATA to the folder that contains it"]
fn computed_low_images_equal_the_published_files() {
    let folder = test_set("Set5");
    for scale in [2, 3, 4] {
        for pair in find_pairs(&folder, scale, Track::Bicubic).expect("pairs") {
            assert!(pair.low.is_some(), "{} x{scale} has a file", pair.name);
            let published = pair.load().expect("a pair").low;
            let mut without_file = pair.clone();
            without_file.low = None;
            let made = without_file.load().expect("a pair").low;
            assert!(made == published, "{} x{scale} differs", pair.name);
            without_file.low_rounding = Rounding::Float;
            let float = without_file.load().expect("a pair").low;
            let other = float.iter().zip(&published).filter(|(a, b)| a != b).count();
            let share = other as f64 / float.len() as f64;
            assert!(
                (0.05..0.2).contains(&share),
                "{} x{scale}: {share} of the samples differ by the rounding",
                pair.name
            );
        }
    }
}
