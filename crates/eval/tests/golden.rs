//! Metrics against the golden figures, pairing and baselines against the published ones.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use wdsr_eval::{Channel, Pair, Protocol, Track, bicubic, find_pairs, psnr_db, ssim};
use wdsr_picture::{Colour, Format, Picture, Samples, encode};

fn shared() -> PathBuf {
    let folder = std::env::var_os("WDSR_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    assert!(
        folder.join("golden").is_dir(),
        "{}: no golden vectors; put shared/ beside the workspace or set WDSR_SHARED",
        folder.display()
    );
    folder
}

#[test]
fn metrics_equal_the_golden_figures() {
    let golden = shared().join("golden");
    let bytes = std::fs::read(golden.join("metrics.safetensors")).expect("golden file");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let (a, b) = (
        tensors.tensor("a").expect("a"),
        tensors.tensor("b").expect("b"),
    );
    let (h, w) = (a.shape()[0], a.shape()[1]);
    let text = std::fs::read_to_string(golden.join("metrics.json")).expect("golden file");
    let figures: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&text).expect("JSON");
    assert_eq!(figures.len(), 7, "figures");
    for (name, expected) in figures {
        let (kind, shave) = name.rsplit_once("_shave").expect("a border in the name");
        let shave: usize = shave.parse().expect("a border in the name");
        let (a, b) = (a.data(), b.data());
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

fn bicubic_mean_db(set: &str, scale: usize) -> f64 {
    let folder = shared().join("data/test").join(set);
    let pairs = find_pairs(&folder, scale, Track::Bicubic).expect("pairs");
    let scores: Vec<f64> = pairs
        .iter()
        .map(|pair| {
            let p = pair.load().expect("a pair");
            let large = bicubic(&p);
            let (w, h) = p.high_size_px();
            let protocol = Protocol::Benchmark;
            psnr_db(
                &large,
                &p.high,
                w,
                h,
                protocol.channel(p.grey),
                protocol.shave_px(scale),
            )
        })
        .collect();
    scores.iter().sum::<f64>() / scores.len() as f64
}

#[test]
fn bicubic_baselines_are_the_published_ones() {
    for (set, scale, expected) in [
        ("Set5", 2, 33.68),
        ("Set5", 3, 30.40),
        ("Set5", 4, 28.43),
        ("Set14", 2, 30.24),
        ("Set14", 3, 27.54),
        ("Set14", 4, 26.00),
    ] {
        let found = bicubic_mean_db(set, scale);
        assert!(
            (found - expected).abs() < 0.01,
            "{set} x{scale}: {found}, expected {expected}"
        );
    }
}

fn picture(path: &Path, width: usize, height: usize) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let samples = (0..width * height * 3)
        .map(|i| (i * 7 % 251) as u8)
        .collect();
    let picture = Picture::new(width, height, Colour::Rgb, Samples::U8(samples));
    encode(&picture, path, Format::Png).expect("a picture");
}

fn names(pairs: &[Pair]) -> Vec<(String, bool)> {
    pairs
        .iter()
        .map(|pair| (pair.name.clone(), pair.low.is_some()))
        .collect()
}

#[test]
fn layouts_are_paired() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();

    let plain = root.join("plain");
    picture(&plain.join("a.png"), 9, 7);
    picture(&plain.join("sub/b.png"), 8, 8);
    let pairs = find_pairs(&plain, 2, Track::Bicubic).expect("pairs");
    assert_eq!(
        names(&pairs),
        [("a".to_owned(), false), ("sub/b".to_owned(), false)]
    );
    let loaded = pairs[0].load().expect("a pair");
    assert_eq!(
        (loaded.low_width_px, loaded.low_height_px, loaded.high.len()),
        (4, 3, 8 * 6 * 3)
    );

    let div2k = root.join("div2k");
    picture(&div2k.join("DIV2K_valid_HR/0801.png"), 16, 16);
    picture(&div2k.join("DIV2K_valid_LR_bicubic/X2/0801x2.png"), 8, 8);
    picture(&div2k.join("DIV2K_valid_LR_mild/0801x4m.png"), 4, 4);
    picture(&div2k.join("DIV2K_valid_LR_wild/0801x4w1.png"), 4, 4);
    picture(&div2k.join("DIV2K_valid_LR_wild/0801x4w2.png"), 4, 4);
    picture(&div2k.join("DIV2K_valid_LR_x8/0801x8.png"), 2, 2);
    let found = |scale, track| names(&find_pairs(&div2k, scale, track).expect("pairs"));
    assert_eq!(found(2, Track::Bicubic), [("0801".to_owned(), true)]);
    assert_eq!(found(8, Track::Bicubic), [("0801".to_owned(), true)]);
    assert_eq!(found(4, Track::Mild), [("0801".to_owned(), true)]);
    assert_eq!(found(3, Track::Bicubic), [("0801".to_owned(), false)]);
    assert_eq!(
        found(4, Track::Wild),
        [("0801x4w1".to_owned(), true), ("0801x4w2".to_owned(), true)]
    );
    let missing = find_pairs(&div2k, 4, Track::Difficult)
        .expect_err("no such folder")
        .to_string();
    assert!(missing.contains("DIV2K_valid_LR_difficult"), "{missing}");
}

#[test]
fn pictures_that_do_not_fit_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    picture(&root.join("HR/a.png"), 16, 16);
    picture(&root.join("LR_bicubic/X2/ax2.png"), 8, 7);
    let pairs = find_pairs(root, 2, Track::Bicubic).expect("pairs");
    let error = pairs[0].load().expect_err("sizes differ").to_string();
    assert!(
        error.contains("ax2.png: 8 x 7 pixels, expected 8 x 8"),
        "{error}"
    );

    picture(&root.join("HR/b.png"), 16, 16);
    let error = find_pairs(root, 2, Track::Bicubic)
        .expect_err("b has no pair")
        .to_string();
    assert!(error.contains("b.png"), "{error}");
}
