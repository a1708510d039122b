//! Kinds of JPEG files that other programs write: what `tests/jpeg/README.md` says of them comes out.

use std::path::Path;

use wdsr_image::{Colour, Image, Limits, Samples, decode_bytes};

const WIDTH_PX: usize = 83;
const HEIGHT_PX: usize = 61;

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jpeg");
    std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn image(bytes: &[u8], name: &str) -> Image {
    decode_bytes(bytes, Path::new(name), &Limits::default())
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn gradient(x: usize, y: usize) -> [usize; 3] {
    [3 * x, 4 * y, (255 - x).saturating_sub(2 * y)].map(|value| value.min(255))
}

/// Mean distance in levels to the pixels that `expected` gives.
fn distance(image: &Image, expected: impl Fn(usize, usize) -> [usize; 3]) -> f64 {
    assert_eq!(
        (image.width_px, image.height_px, image.colour),
        (WIDTH_PX, HEIGHT_PX, Colour::Rgb)
    );
    let Samples::U8(samples) = &image.samples else {
        panic!("{:?}", image.depth());
    };
    let pixels = samples.chunks_exact(3).enumerate();
    let sum: usize = pixels
        .flat_map(|(i, pixel)| {
            let expected = expected(i % WIDTH_PX, i / WIDTH_PX);
            [0, 1, 2].map(|c| expected[c].abs_diff(pixel[c].into()))
        })
        .sum();
    sum as f64 / samples.len() as f64
}

#[test]
fn every_order_of_blocks_and_colours_is_read() {
    // As far off as `djpeg` is: what chroma of half or a quarter the size costs.
    for (name, most) in [
        ("gradient-411.jpg", 1.8),
        ("gradient-440.jpg", 0.8),
        ("gradient-luma-quarter.jpg", 0.8),
        ("gradient-part-420.jpg", 0.8),
        ("gradient-planes-420.jpg", 0.8),
        ("gradient-progressive-422.jpg", 0.8),
        ("gradient-rgb.jpg", 0.8),
    ] {
        let found = distance(&image(&file(name), name), gradient);
        assert!(found < most, "{name}: {found} levels off in the mean");
    }
}

/// Adobe's marker says R G B, whatever the components are called.
#[test]
fn adobes_marker_decides_the_colours() {
    let mut jpeg = file("gradient-rgb.jpg");
    let adobe = jpeg.windows(5).position(|bytes| bytes == b"Adobe");
    let transform = adobe.expect("Adobe's marker") + 11;
    assert_eq!(jpeg[transform], 0, "no transform");
    // The names of the components, in the frame's header and in the scan's.
    for marker in [0xc0, 0xda] {
        let at = jpeg.windows(2).position(|bytes| bytes == [0xff, marker]);
        let (first, step) = match marker {
            0xc0 => (at.expect("a frame") + 10, 3),
            _ => (at.expect("a scan") + 5, 2),
        };
        for i in 0..3 {
            assert_eq!(jpeg[first + i * step], b"RGB"[i]);
            jpeg[first + i * step] = i as u8 + 1;
        }
    }
    let found = distance(&image(&jpeg, "of Adobe"), gradient);
    assert!(found < 0.8, "{found} levels off in the mean");
    jpeg[transform] = 1;
    let other = distance(&image(&jpeg, "taken for luma and chroma"), gradient);
    assert!(other > 20.0, "{other} levels off in the mean");
}

#[test]
fn inks_become_light() {
    let light = |x, y| {
        let black = 255 - (x + y);
        gradient(x, y).map(|ink| ((255 - ink) * black + 127) / 255)
    };
    let found = distance(&image(&file("gradient-cmyk.jpg"), "cmyk"), light);
    assert!(found < 0.8, "{found} levels off in the mean");
}
