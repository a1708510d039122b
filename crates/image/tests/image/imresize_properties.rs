//! Properties of `imresize` that hold for every image.

use proptest::prelude::*;
use wdsr_image::imresize::{
    Kernel, Rounding, imresize_f32, imresize_to_f32, imresize_u8, imresize_u8_rounded, imresize_u16,
};
use wdsr_image::{Colour, Image, Samples};
use wdsr_testing::random;

fn scales() -> impl Strategy<Value = f64> {
    prop_oneof![
        prop::sample::select(vec![0.5, 1.0 / 3.0, 0.25, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0]),
        0.1..5.0f64,
    ]
}

proptest! {
    #[test]
    fn a_constant_stays_and_the_size_is_the_ceiling(
        (w, h, channels) in (1..40usize, 1..40usize, 1..=4usize),
        scale in scales(),
        value in any::<u16>(),
    ) {
        let size = ((w as f64 * scale).ceil() as usize, (h as f64 * scale).ceil() as usize);
        let len = w * h * channels;
        let low = imresize_u8(&vec![value as u8; len], w, h, channels, scale);
        prop_assert_eq!((low.width_px, low.height_px), size);
        prop_assert_eq!(low.pixels, vec![value as u8; size.0 * size.1 * channels]);
        let low = imresize_u16(&vec![value; len], w, h, channels, scale);
        prop_assert_eq!((low.width_px, low.height_px), size);
        prop_assert_eq!(low.pixels, vec![value; size.0 * size.1 * channels]);
        let low = imresize_f32(&vec![f32::from(value); len], w, h, channels, scale);
        prop_assert_eq!((low.width_px, low.height_px), size);
        prop_assert_eq!(low.pixels, vec![f32::from(value); size.0 * size.1 * channels]);
    }

    /// Mirroring commutes with resizing where the output grid is symmetric too: a whole number of
    /// output pixels.
    #[test]
    fn mirrored_input_gives_mirrored_output(
        (w, h) in (1..12usize, 1..12usize),
        scale in prop::sample::select(vec![0.5, 0.25, 2.0, 3.0]),
        seed in any::<u64>(),
    ) {
        let (w, h) = (w * 4, h * 4);
        let pixels = random::units(w * h, seed);
        let mirrored: Vec<f32> =
            pixels.chunks_exact(w).flat_map(|row| row.iter().rev().copied()).collect();
        let a = imresize_f32(&pixels, w, h, 1, scale);
        let b = imresize_f32(&mirrored, w, h, 1, scale);
        for (a, b) in a.pixels.chunks_exact(a.width_px).zip(b.pixels.chunks_exact(a.width_px)) {
            for (a, b) in a.iter().zip(b.iter().rev()) {
                prop_assert!((a - b).abs() <= 1e-6, "{} and {}", a, b);
            }
        }
    }

    #[test]
    fn channels_do_not_mix(
        (w, h, channels) in (1..20usize, 1..20usize, 2..=4usize),
        scale in scales(),
        seed in any::<u64>(),
    ) {
        let pixels = random::bytes(w * h * channels, seed);
        let all = imresize_u8(&pixels, w, h, channels, scale);
        for c in 0..channels {
            let plane: Vec<u8> = pixels.iter().skip(c).step_by(channels).copied().collect();
            let one = imresize_u8(&plane, w, h, 1, scale);
            let found: Vec<u8> = all.pixels.iter().skip(c).step_by(channels).copied().collect();
            prop_assert_eq!(found, one.pixels, "channel {} of {}", c, channels);
        }
    }

    #[test]
    fn eight_bit_without_rounding_between_is_the_rounded_float(
        (w, h) in (1..20usize, 1..20usize),
        seed in any::<u64>(),
    ) {
        let pixels = random::bytes(w * h, seed);
        let floats: Vec<f32> = pixels.iter().map(|&v| f32::from(v)).collect();
        // At 1/2 the sums are exact, so that there is no doubt about ties.
        let found = imresize_u8_rounded(&pixels, w, h, 1, 0.5, Rounding::Float);
        let float = imresize_f32(&floats, w, h, 1, 0.5);
        for (found, float) in found.pixels.iter().zip(float.pixels) {
            prop_assert_eq!(f32::from(*found), (float + 0.5).floor().clamp(0.0, 255.0));
        }
    }

    #[test]
    fn a_given_size_is_met((w, h) in (1..20usize, 1..20usize), (tw, th) in (1..30usize, 1..30usize)) {
        for kernel in [Kernel::Cubic, Kernel::Lanczos3] {
            let to = imresize_to_f32(&vec![0.25; w * h], w, h, 1, tw, th, kernel);
            prop_assert_eq!((to.width_px, to.height_px), (tw, th));
            prop_assert_eq!(to.pixels, vec![0.25; tw * th]);
        }
    }
}

/// Middle of a row by `Image.resize((width, 8), Image.LANCZOS)` of Pillow 12 in mode `F`, which
/// treats the edges in another way.
#[test]
fn lanczos_equals_pillow_away_from_the_edges() {
    let row: Vec<f32> = (0..40).map(|i| (i * 37 % 101) as f32 / 100.0).collect();
    let pixels = row.repeat(8);
    let cases = [
        (
            27,
            [
                0.525_395_3,
                0.535_300_1,
                0.600_784_8,
                0.709_461_9,
                0.443_694_6,
                0.250_636_8,
            ],
        ),
        (
            100,
            [
                0.922_228_3,
                0.993_510_2,
                0.797_041_4,
                0.460_850_7,
                0.330_512_6,
                0.515,
            ],
        ),
    ];
    for (width, expected) in cases {
        let found = imresize_to_f32(&pixels, 40, 8, 1, width, 8, Kernel::Lanczos3);
        let middle = &found.pixels[4 * width + width / 2 - 3..][..6];
        for (found, expected) in middle.iter().zip::<[f32; 6]>(expected) {
            assert!(
                (found - expected).abs() < 1e-6,
                "{width}: {found}, Pillow {expected}"
            );
        }
    }
}

#[test]
fn overshoot_is_clipped_in_integers_and_kept_in_floats() {
    let step = |low, high| {
        (0..64)
            .map(|i| if i % 8 < 4 { low } else { high })
            .collect::<Vec<f32>>()
    };
    let float = imresize_f32(&step(0.0, 1.0), 8, 8, 1, 2.0);
    assert!(float.pixels.iter().any(|&v| v < -0.01) && float.pixels.iter().any(|&v| v > 1.01));
    let wide: Vec<u16> = step(0.0, 65_535.0).into_iter().map(|v| v as u16).collect();
    let wide = imresize_u16(&wide, 8, 8, 1, 2.0);
    for (float, wide) in float.pixels.iter().zip(wide.pixels) {
        let expected = (f64::from(*float).clamp(0.0, 1.0) * 65_535.0).round();
        assert!(
            (f64::from(wide) - expected).abs() <= 1.0,
            "{wide} for {float}"
        );
    }
}

#[test]
fn an_image_keeps_its_depth_and_metadata() {
    for samples in [
        Samples::U8(vec![7; 8 * 6 * 2]),
        Samples::U16(vec![700; 8 * 6 * 2]),
        Samples::F32(vec![0.7; 8 * 6 * 2]),
    ] {
        let mut image = Image::new(8, 6, Colour::GreyAlpha, samples);
        image.metadata.icc_profile = Some(vec![1]);
        image.metadata.exif = Some(vec![2]);
        let low = image.imresize(0.5);
        assert_eq!(
            (low.width_px, low.height_px, low.colour),
            (4, 3, image.colour)
        );
        assert_eq!(low.depth(), image.depth());
        assert_eq!(low.metadata, image.metadata);
    }
}

#[test]
#[should_panic(expected = "scale is finite and above 0, not 0")]
fn a_scale_of_zero_is_refused() {
    let _ = imresize_u8(&[0], 1, 1, 1, 0.0);
}

#[test]
#[should_panic(expected = "samples of a 2 x 2 image of 3 channels")]
fn a_wrong_length_is_refused() {
    let _ = imresize_u8(&[0; 11], 2, 2, 3, 0.5);
}

#[test]
fn roundings_are_read_back_by_name() {
    for rounding in [Rounding::EightBitPasses, Rounding::Float] {
        assert_eq!(rounding.to_string().parse(), Ok(rounding));
    }
    let error = "f64".parse::<Rounding>().expect_err("no such rounding");
    assert_eq!(error.to_string(), "expected 8bit or float, found `f64`");
}
