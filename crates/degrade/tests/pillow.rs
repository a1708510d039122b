//! JPEG compression against Pillow.
//!
//! `pillow.png` was made by Pillow (libjpeg-turbo) from columns 137..174 and rows 93..122 of
//! `samples/chelsea.png`: images of 37 x 29 pixels one below another, the crop first, then for each
//! quality of [`QUALITIES`] the crop saved in 4:4:4, 4:2:2, 4:2:0 and as grey, and read back.

use std::path::Path;

use wdsr_degrade::{Subsampling, jpeg_grey, jpeg_rgb, luma};
use wdsr_image::{Limits, decode};

const QUALITIES: [u8; 5] = [10, 50, 75, 90, 98];
const WIDTH_PX: usize = 37;
const HEIGHT_PX: usize = 29;

#[test]
fn decoded_samples_equal_those_of_pillow() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pillow.png");
    let image = decode(&path, &Limits::default()).expect("golden images");
    let pixels = image.to_rgb8();
    let mut images = pixels.chunks_exact(3 * WIDTH_PX * HEIGHT_PX);
    assert_eq!(images.len(), 1 + 4 * QUALITIES.len());
    let crop = images.next().expect("the crop");
    let grey: Vec<u8> = crop.as_chunks::<3>().0.iter().map(|&p| luma(p)).collect();
    for quality in QUALITIES {
        let colour = [Subsampling::S444, Subsampling::S422, Subsampling::S420]
            .map(|subsampling| jpeg_rgb(crop, WIDTH_PX, HEIGHT_PX, quality, subsampling));
        let grey = jpeg_grey(&grey, WIDTH_PX, HEIGHT_PX, quality);
        let grey = grey.iter().flat_map(|&v| [v; 3]).collect();
        for (kind, found) in ["4:4:4", "4:2:2", "4:2:0", "grey"]
            .into_iter()
            .zip(colour.into_iter().chain([grey]))
        {
            let expected = images.next().expect("a golden image");
            assert_ne!(crop, expected, "quality {quality}, {kind}");
            let differing = found.iter().zip(expected).filter(|(a, b)| a != b).count();
            assert_eq!(differing, 0, "samples at quality {quality}, {kind}");
        }
    }
}
