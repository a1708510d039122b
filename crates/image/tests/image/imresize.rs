//! `imresize` against the golden vectors and the published low-resolution images of Set5.

use std::path::Path;

use wdsr_image::imresize::{imresize_f32, imresize_u8};
use wdsr_image::{Limits, decode, images_in};
use wdsr_testing::floats::assert_close;
use wdsr_testing::golden::{self, TensorFile};
use wdsr_testing::paths::test_set;

#[test]
fn equals_the_golden_vectors() {
    let vectors = TensorFile::read(&golden::folder().join("imresize.safetensors"));
    let mut compared = 0;
    for (key, expected) in &vectors.tensors {
        // IMAGE, or IMAGE/KIND/SCALE.
        let Some((image, result)) = key.split_once('/') else {
            continue;
        };
        let (kind, scale) = result.split_once('/').expect("IMAGE/KIND/SCALE");
        let scale = factor(scale);
        let source = vectors.tensor(image);
        let (height, width) = (source.shape[0], source.shape[1]);
        let size = match kind {
            "uint8_passes" => {
                let found = imresize_u8(source.bytes(), width, height, 3, scale);
                assert!(found.pixels == expected.bytes(), "{key}: not byte for byte");
                [found.height_px, found.width_px, 3]
            }
            "float" => {
                let floats: Vec<f32> = source
                    .bytes()
                    .iter()
                    .map(|v| f32::from(*v) / 255.0)
                    .collect();
                let found = imresize_f32(&floats, width, height, 3, scale);
                assert_close(&found.pixels, &expected.floats(), 1e-6, key);
                [found.height_px, found.width_px, 3]
            }
            other => panic!("{key}: unknown kind {other}"),
        };
        assert_eq!(size, expected.shape[..], "{key}");
        compared += 1;
    }
    assert!(compared >= 16, "{compared} results, expected more");
}

/// A number of the form `1/3` or `1.5`.
fn factor(text: &str) -> f64 {
    let number = |text: &str| text.parse::<f64>().expect("a number");
    match text.split_once('/') {
        Some((over, under)) => number(over) / number(under),
        None => number(text),
    }
}

#[test]
#[ignore = "needs Set5: set WDSR_DATA to the folder that contains it"]
fn makes_the_published_low_resolution_images_of_set5() {
    let set = test_set("Set5");
    let read = |path: &Path| decode(path, &Limits::default()).expect("an image of Set5");
    for scale in [2, 3, 4] {
        let mut compared = 0;
        for path in images_in(&set.join(format!("LR_bicubic/X{scale}")), false).expect("LR") {
            let low = read(&path);
            let stem = path
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let name = stem.trim_end_matches(&format!("x{scale}"));
            let high = images_in(&set.join("HR"), false).expect("HR");
            let high = high
                .iter()
                .find(|p| p.file_stem().is_some_and(|s| s == name));
            let high = read(high.expect("its original"));
            let (w, h) = (
                high.width_px / scale * scale,
                high.height_px / scale * scale,
            );
            let row = high.width_px * 3;
            let cut: Vec<u8> = high
                .to_rgb8()
                .chunks_exact(row)
                .take(h)
                .flat_map(|r| r[..w * 3].to_vec())
                .collect();
            let made = imresize_u8(&cut, w, h, 3, 1.0 / scale as f64);
            assert!(
                made.pixels == low.to_rgb8(),
                "{name} x{scale}: not byte for byte"
            );
            compared += 1;
        }
        assert_eq!(compared, 5, "images of Set5 at x{scale}");
    }
}
