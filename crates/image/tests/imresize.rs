//! `imresize` against the golden vectors and the published low-resolution images of Set5.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use wdsr_image::imresize::{imresize_f32, imresize_u8};
use wdsr_image::{Limits, decode, images_in};

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

const SCALES: [(&str, f64); 8] = [
    ("1/2", 1.0 / 2.0),
    ("1/3", 1.0 / 3.0),
    ("1/4", 1.0 / 4.0),
    ("2", 2.0),
    ("3", 3.0),
    ("4", 4.0),
    ("1.5", 1.5),
    ("0.7", 0.7),
];

#[test]
fn equals_the_golden_vectors() {
    let bytes = std::fs::read(shared().join("golden/imresize.safetensors")).expect("golden file");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    for image in ["image0", "image1", "image2"] {
        let source = tensors.tensor(image).expect("source image");
        let (height, width) = (source.shape()[0], source.shape()[1]);
        let floats: Vec<f32> = source
            .data()
            .iter()
            .map(|v| f32::from(*v) / 255.0)
            .collect();
        for (name, scale) in SCALES {
            let expected = tensors
                .tensor(&format!("{image}/uint8_passes/{name}"))
                .expect("result");
            let found = imresize_u8(source.data(), width, height, 3, scale);
            assert_eq!(
                [found.height_px, found.width_px, 3],
                expected.shape(),
                "{image} {name}"
            );
            assert!(
                found.pixels == expected.data(),
                "{image} {name}: not byte for byte"
            );

            let expected = tensors
                .tensor(&format!("{image}/float/{name}"))
                .expect("result");
            let found = imresize_f32(&floats, width, height, 3, scale);
            let (expected, _) = expected.data().as_chunks::<4>();
            assert_eq!(found.pixels.len(), expected.len(), "{image} {name}");
            for (found, expected) in found.pixels.iter().zip(expected) {
                let error = (found - f32::from_le_bytes(*expected)).abs();
                assert!(error <= 1e-6, "{image} {name}: off by {error}");
            }
        }
    }
}

#[test]
fn makes_the_published_low_resolution_images_of_set5() {
    let set = shared().join("data/test/Set5");
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
