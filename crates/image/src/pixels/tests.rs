use super::*;
use proptest::prelude::*;

fn every_colour_and_depth() -> Vec<Image> {
    let mut out = Vec::new();
    for colour in [
        Colour::Grey,
        Colour::GreyAlpha,
        Colour::Rgb,
        Colour::RgbAlpha,
    ] {
        let len = 5 * 3 * colour.channels();
        let raw: Vec<u16> = (0..len).map(|i| (i * 7919 % 65_536) as u16).collect();
        let u8s = raw.iter().map(|&v| v as u8).collect();
        let f32s = raw.iter().map(|&v| f32::from(v) / 40_000.0 - 0.2).collect();
        for samples in [Samples::U8(u8s), Samples::U16(raw), Samples::F32(f32s)] {
            let mut image = Image::new(5, 3, colour, samples);
            image.metadata.icc_profile = Some(vec![7; 3]);
            image.metadata.exif = Some(vec![8; 4]);
            out.push(image);
        }
    }
    out
}

#[test]
fn alpha_splits_and_joins_back() {
    for image in every_colour_and_depth() {
        let (colour, alpha) = image.clone().split_alpha();
        assert!(!colour.colour.has_alpha(), "{:?}", colour.colour);
        assert_eq!(alpha.is_some(), image.colour.has_alpha());
        let joined = match alpha {
            Some(alpha) => colour.join_alpha(&alpha),
            None => colour,
        };
        assert_eq!(joined, image);
    }
}

#[test]
fn alpha_is_the_last_channel() {
    let rgba = Samples::U8(vec![1, 2, 3, 4, 5, 6, 7, 8]);
    let (colour, alpha) = Image::new(2, 1, Colour::RgbAlpha, rgba).split_alpha();
    assert_eq!(colour.samples, Samples::U8(vec![1, 2, 3, 5, 6, 7]));
    assert_eq!(
        alpha.map(|alpha| alpha.samples),
        Some(Samples::U8(vec![4, 8]))
    );
}

#[test]
fn grey_goes_to_rgb_and_back() {
    for image in every_colour_and_depth() {
        let rgb = image.clone().grey_to_rgb();
        assert!(!rgb.colour.is_grey(), "{:?}", rgb.colour);
        assert_eq!(rgb.colour.has_alpha(), image.colour.has_alpha());
        if image.colour.is_grey() {
            assert_eq!(rgb.rgb_to_grey(), image);
        } else {
            assert_eq!(rgb, image);
        }
    }
}

#[test]
fn grey_is_the_rounded_mean() {
    let rgb = Samples::U8(vec![0, 0, 1, 0, 1, 1, 254, 255, 255, 255, 255, 255]);
    let grey = Image::new(2, 2, Colour::Rgb, rgb).rgb_to_grey();
    assert_eq!(grey.samples, Samples::U8(vec![0, 1, 255, 255]));
    let rgba = Samples::U16(vec![65_535, 65_535, 65_534, 9]);
    let grey = Image::new(1, 1, Colour::RgbAlpha, rgba).rgb_to_grey();
    assert_eq!(
        (grey.colour, grey.samples),
        (Colour::GreyAlpha, Samples::U16(vec![65_535, 9]))
    );
}

#[test]
fn rgb8_replicates_grey_and_drops_alpha() {
    let grey = Image::new(2, 1, Colour::GreyAlpha, Samples::U8(vec![9, 1, 200, 2]));
    assert_eq!(grey.to_rgb8(), [9, 9, 9, 200, 200, 200]);
    let rgba = Image::new(1, 1, Colour::RgbAlpha, Samples::U8(vec![1, 2, 3, 4]));
    assert_eq!(rgba.to_rgb8(), [1, 2, 3]);
}

#[test]
fn rgb8_rounds_every_16_bit_value_to_the_nearest() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let rgb8 = Image::new(256, 256, Colour::Grey, Samples::U16(all)).to_rgb8();
    for (v, pixel) in rgb8.chunks_exact(3).enumerate() {
        assert_eq!(f64::from(pixel[0]), (v as f64 / 257.0).round(), "{v}");
    }
}

#[test]
fn rgb8_clips_floats() {
    let floats = vec![-1.0, 0.0, 0.5, 1.0, 2.0, f32::NAN];
    let rgb8 = Image::new(6, 1, Colour::Grey, Samples::F32(floats)).to_rgb8();
    let first: Vec<u8> = rgb8.chunks_exact(3).map(|pixel| pixel[0]).collect();
    assert_eq!(first, [0, 0, 128, 255, 255, 0]);
}

#[test]
#[should_panic(expected = "samples of a 2 x 2 image of Rgb")]
fn new_checks_the_length() {
    let _ = Image::new(2, 2, Colour::Rgb, Samples::U8(vec![0; 11]));
}

#[test]
#[should_panic(expected = "at least one pixel, not 0 x 2")]
fn new_refuses_no_pixels() {
    let _ = Image::new(0, 2, Colour::Rgb, Samples::U8(Vec::new()));
}

proptest! {
    #[test]
    fn float_grey_survives_exactly(v in proptest::num::f32::NORMAL) {
        let grey = Image::new(1, 1, Colour::Grey, Samples::F32(vec![v]));
        prop_assert_eq!(grey.clone().grey_to_rgb().rgb_to_grey(), grey);
    }
}
