use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Degradation {
    toml::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// All stages, on high and low resolution.
const ALL: &str = r#"
    untouched = 0.2
    [[stages]]
    kind = "blur"
    probability = 0.8
    shapes = ["isotropic", "anisotropic", "motion"]
    sigma_px = [0.3, 2.0]
    length_px = [2.0, 8.0]
    [[stages]]
    kind = "shift"
    probability = 0.5
    offset_px = [-1.5, 1.5]
    [[stages]]
    kind = "downsample"
    methods = ["bicubic", "bilinear", "area", "shifted_gaussian"]
    sigma_px = [0.5, 2.0]
    [[stages]]
    kind = "exposure"
    probability = 0.5
    gain = [0.8, 1.1]
    [[stages]]
    kind = "noise"
    probability = 0.7
    sigma_levels = [0.0, 10.0]
    poisson = [0.0, 0.3]
    grey = 0.3
    bayer = 0.3
    [[stages]]
    kind = "jpeg"
    probability = 0.8
    quality = [30, 98]
    subsampling = ["4:2:0", "4:2:2", "4:4:4"]
    twice = 0.3
"#;

fn photograph(width_px: usize, height_px: usize) -> Vec<u8> {
    let mut pixels = Vec::new();
    for y in 0..height_px {
        for x in 0..width_px {
            for c in 0..3 {
                let wave = (0.31 * x as f32 + 0.17 * y as f32 + c as f32).sin();
                let edge = if (x / 13 + y / 9) % 2 == 0 {
                    40.0
                } else {
                    -30.0
                };
                pixels.push((120.0 + 50.0 * wave + edge) as u8);
            }
        }
    }
    pixels
}

/// Where patches are from, as far as their values are drawn for each patch.
const ANYWHERE: Origin = Origin { seed: 1, image: 0 };

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

#[test]
fn equal_generators_give_equal_patches() {
    let degradation = parse(ALL);
    let pixels = photograph(96, 64);
    let region = Region::new(96, 64, &pixels);
    let mut different = 0;
    let mut last = None;
    for seed in 0..40 {
        let draws = [0, 1].map(|_| degradation.draw(2, ANYWHERE, &mut rng(seed)));
        assert_eq!(draws[0], draws[1], "seed {seed}");
        let found = draws.map(|draw| draw.apply(&region));
        assert_eq!(found[0], found[1], "seed {seed}");
        different += usize::from(last.as_ref() != Some(&found[0]));
        last = Some(found[0].clone());
    }
    assert!(different > 30, "{different} of 40 differ");
}

#[test]
fn an_untouched_patch_is_the_low_resolution_file() {
    let degradation =
        parse("untouched = 1.0\n[[stages]]\nkind = \"downsample\"\nmethods = [\"area\"]");
    for scale in [2, 3, 4] {
        let (w, h) = (24 * scale, 20 * scale);
        let pixels = photograph(w, h);
        let draw = degradation.draw(scale, ANYWHERE, &mut rng(1));
        assert!(draw.is_untouched());
        let expected = imresize_u8(&pixels, w, h, 3, 1.0 / scale as f64);
        assert_eq!(
            draw.apply(&Region::new(w, h, &pixels)).pixels,
            expected.pixels
        );
    }
    let draw = parse("untouched = 1.0").draw(1, ANYWHERE, &mut rng(1));
    let pixels = photograph(9, 7);
    assert_eq!(draw.apply(&Region::new(9, 7, &pixels)).pixels, pixels);
    assert_eq!(draw.margin_px(), 0);
}

#[test]
fn shares_are_those_of_the_recipe() {
    let degradation = parse(ALL);
    let mut rng = rng(5);
    let draws: Vec<Draw> = (0..4000)
        .map(|_| degradation.draw(2, ANYWHERE, &mut rng))
        .collect();
    let share = |is: &dyn Fn(&Step) -> bool| {
        let touched = draws.iter().filter_map(|draw| draw.steps.as_ref());
        let (with, all) = touched.fold((0_u32, 0_u32), |(with, all), steps| {
            (with + u32::from(steps.iter().any(is)), all + 1)
        });
        f64::from(with) / f64::from(all)
    };
    let close = |found: f64, expected: f64| {
        assert!((found - expected).abs() < 0.03, "{found} for {expected}");
    };
    let untouched = draws.iter().filter(|draw| draw.is_untouched()).count();
    close(untouched as f64 / 4000.0, 0.2);
    close(share(&|s| matches!(s, Step::Blur { .. })), 0.8);
    close(share(&|s| matches!(s, Step::Noise(_))), 0.7);
    close(share(&|s| matches!(s, Step::Jpeg(_))), 0.8);
    let is_bayer =
        |s: &Step| matches!(s, Step::Noise(n) if matches!(n.place, NoisePlace::Bayer(_)));
    close(share(&is_bayer), 0.7 * 0.3);
    for draw in &draws {
        let compressions = draw.steps.iter().flatten().filter_map(|step| match step {
            Step::Jpeg(compression) => Some(compression.quality),
            _ => None,
        });
        for quality in compressions {
            assert!((30..=98).contains(&quality), "{quality}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// The margin is enough: a patch cut out with it is the patch of the whole image, but for JPEG
    /// (whose grid is drawn relative to the region) and noise (drawn pixel by pixel).
    #[test]
    fn a_patch_with_its_margin_is_that_of_the_whole_image(seed in 0_u64..10_000, scale in 2_usize..5) {
        let without_jpeg = ALL.split("[[stages]]").filter(|stage| {
            !stage.contains("\"jpeg\"") && !stage.contains("\"noise\"")
        });
        let degradation = parse(&without_jpeg.collect::<Vec<_>>().join("[[stages]]"));
        let draw = degradation.draw(scale, ANYWHERE, &mut rng(seed));
        let (patch, margin) = (6, draw.margin_px());
        let low_side = 40 + patch;
        let side = low_side * scale;
        let image = photograph(side, side);
        let whole = draw.apply(&Region::new(side, side, &image));
        let at = (low_side - patch) / 2;
        let start = at.saturating_sub(margin);
        let len = (at + patch + margin).min(low_side) - start;
        let region: Vec<u8> = image
            .chunks_exact(3 * side)
            .skip(start * scale)
            .take(len * scale)
            .flat_map(|row| &row[3 * start * scale..3 * (start + len) * scale])
            .copied()
            .collect();
        let part = draw.apply(&Region::new(len * scale, len * scale, &region));
        for y in at..at + patch {
            for i in 3 * at..3 * (at + patch) {
                let expected = whole.pixels[y * 3 * low_side + i];
                let found = part.pixels[(y - start) * 3 * len + i - 3 * start];
                prop_assert!(found.abs_diff(expected) <= 1, "{found} for {expected} of {draw:?}");
            }
        }
    }
}

#[test]
fn gain_and_known_shift_are_reported() {
    let degradation = parse(
        r#"
        [[stages]]
        kind = "downsample"
        methods = ["bicubic"]
        [[stages]]
        kind = "exposure"
        gain = [0.5, 0.5]
        [[stages]]
        kind = "shift"
        offset_px = [1.5, 1.5]
        known = true
    "#,
    );
    let draw = degradation.draw(2, ANYWHERE, &mut rng(1));
    assert_eq!(draw.gain(), 0.5);
    assert_eq!(draw.known_shift_px(), [3.0, 3.0]);
    let pixels = vec![100; 32 * 32 * 3];
    let low = draw.apply(&Region::new(32, 32, &pixels));
    assert!(low.pixels.iter().all(|v| *v == 50), "{:?}", low.pixels);
}

#[test]
fn every_wrong_value_names_its_key() {
    let jpeg = |more: &str| {
        format!(
            "[[stages]]\nkind = \"jpeg\"\nquality = [30, 90]\nsubsampling = [\"4:2:0\"]\n{more}"
        )
    };
    let down = "[[stages]]\nkind = \"downsample\"\nmethods = [\"area\"]\n";
    let blur = "[[stages]]\nkind = \"blur\"\nshapes = [\"isotropic\"]\n";
    let cases = [
        (
            "untouched = 1.5".to_owned(),
            1,
            "degradation.untouched: expected a number from 0 to 1, found 1.5",
        ),
        (jpeg("twice = -0.1"), 1, "stages[0].twice"),
        (jpeg("").replace("30", "0"), 1, "stages[0].quality"),
        (
            jpeg("").replace("[30, 90]", "[90, 30]"),
            1,
            "stages[0].quality",
        ),
        (jpeg("").replace("90", "101"), 1, "stages[0].quality"),
        (
            jpeg("").replace("[\"4:2:0\"]", "[]"),
            1,
            "stages[0].subsampling is empty",
        ),
        (
            down.to_owned(),
            1,
            "expected no downsample stage at scale 1",
        ),
        (
            String::new(),
            2,
            "expected exactly one downsample stage at scale 2, found 0",
        ),
        (down.repeat(2), 2, "found 2"),
        (
            blur.to_owned(),
            1,
            "stages[0].sigma_px: expected [smallest, largest] above 0",
        ),
        (
            format!("{blur}sigma_px = [1, 2]\nkernel_px = 8"),
            1,
            "stages[0].kernel_px: expected an odd number",
        ),
        (
            format!("{blur}sigma_px = [1, 2]\nkernel_px = 4097"),
            1,
            "stages[0].kernel_px",
        ),
        (
            format!("{down}[[stages]]\nkind = \"exposure\"\ngain = [0, 1]"),
            2,
            "stages[1].gain",
        ),
        (
            "[[stages]]\nkind = \"noise\"\ngrey = 0.7\nbayer = 0.7".to_owned(),
            1,
            "stages[0].grey + bayer",
        ),
    ];
    for (text, scale, expected) in cases {
        let error = parse(&text).check(scale).expect_err(&text).to_string();
        assert!(error.contains(expected), "{error:?} for {text}");
    }
    for unknown in [
        "[[stages]]\nkind = \"sharpen\"",
        "[[stages]]\nkind = \"noise\"\nsigma = 3",
        "share = 1",
    ] {
        let error = toml::from_str::<Degradation>(unknown)
            .expect_err(unknown)
            .to_string();
        assert!(
            error.contains("expected one of") || error.contains("expected `untouched`"),
            "{error}"
        );
    }
}

/// One stage runs at the strength, the other at most at it, within the ranges of the stages.
#[test]
fn a_draw_by_strength_has_its_damage_and_no_more() {
    let degradation = parse(
        r#"
        [[stages]]
        kind = "noise"
        probability = 0.25
        sigma_levels = [0.0, 20.0]
        [[stages]]
        kind = "jpeg"
        probability = 0.75
        quality = [8, 99]
        subsampling = ["4:4:4"]
        twice = 0.2
        "#,
    );
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for strength in [0.0, 0.3, 0.7, 1.0] {
        let (quality, sigma) = (
            strength::jpeg_quality_at(strength).clamp(8, 99),
            strength::noise_at(strength).min(20.0),
        );
        let (mut by_jpeg, mut by_noise) = (0, 0);
        for _ in 0..400 {
            let draw = degradation.draw_at(1, strength, ANYWHERE, &mut rng);
            let steps = draw.steps.expect("untouched is 0");
            let (mut jpeg, mut noise) = (false, false);
            for step in &steps {
                match step {
                    Step::Jpeg(compression) => {
                        assert!(compression.quality >= quality, "{compression:?}");
                        jpeg |= compression.quality == quality;
                    }
                    Step::Noise(drawn) => {
                        assert!(drawn.sigma_levels <= sigma, "{drawn:?}");
                        noise |= drawn.sigma_levels == sigma;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert!(jpeg || noise, "strength {strength}: {steps:?}");
            by_jpeg += usize::from(jpeg);
            by_noise += usize::from(noise);
        }
        if strength > 0.2 {
            // 300 and 100 expected, standard deviation 9.
            assert!((265..335).contains(&by_jpeg), "{by_jpeg} of 400");
            assert!((65..135).contains(&by_noise), "{by_noise} of 400");
        }
    }
}

/// Values are drawn as often as their stage says, and noise is new in every patch.
#[test]
fn values_are_drawn_for_each_patch_image_or_dataset() {
    let degradation = parse(
        r#"
        [[stages]]
        kind = "blur"
        per = "dataset"
        shapes = ["anisotropic"]
        sigma_px = [1.0, 4.0]
        [[stages]]
        kind = "shift"
        per = "image"
        offset_px = [-4.0, 4.0]
        known = true
        [[stages]]
        kind = "downsample"
        methods = ["bicubic"]
        [[stages]]
        kind = "exposure"
        gain = [0.5, 1.0]
        [[stages]]
        kind = "noise"
        per = "dataset"
        sigma_levels = [5.0, 5.0]
        bayer = 1.0
        "#,
    );
    let draw = |image: u64, patch: u64| {
        let origin = Origin { seed: 3, image };
        degradation.draw(4, origin, &mut rng(patch))
    };
    let steps = |draw: &Draw| draw.steps.clone().expect("untouched is 0");
    let (first, second, other) = (draw(0, 1), draw(0, 2), draw(1, 1));
    for (draw, is_same_image) in [(&second, true), (&other, false)] {
        assert_eq!(steps(&first)[0], steps(draw)[0], "the kernel");
        assert_eq!(
            first.known_shift_px() == draw.known_shift_px(),
            is_same_image
        );
        assert_eq!(steps(&first)[4], steps(draw)[4], "the mosaic");
    }
    assert!(first.gain() != second.gain(), "the exposure");
    let pixels = photograph(160, 160);
    let apply = |draw: &Draw| draw.apply(&Region::new(160, 160, &pixels));
    assert!(apply(&first) != apply(&second), "the noise");
    assert_eq!(apply(&first), apply(&draw(0, 1)));
    // Another training has another kernel.
    let other_seed = degradation.draw(4, Origin { seed: 4, image: 0 }, &mut rng(1));
    assert!(steps(&first)[0] != steps(&other_seed)[0], "the kernel");
}
