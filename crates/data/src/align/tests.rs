use wdsr_image::{Colour, Image, Samples};

use super::*;

/// A scene without end: brightness at any place, with texture at many scales.
struct Scene {
    waves: Vec<[f64; 4]>,
}

impl Scene {
    /// Waves of random directions, with wavelengths of 5 px and more at high resolution.
    fn new(seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let wave = |_| {
            let wavelength = 5.0 * 20.0_f64.powf(random());
            let (angle, phase) = (random() * std::f64::consts::TAU, random() * 7.0);
            let frequency = std::f64::consts::TAU / wavelength;
            [
                frequency * angle.cos(),
                frequency * angle.sin(),
                phase,
                2.0 + 3.0 * random(),
            ]
        };
        Self {
            waves: (0..60).map(wave).collect(),
        }
    }

    fn at(&self, x: f64, y: f64) -> f64 {
        let waves = self.waves.iter();
        let sum: f64 = waves
            .map(|[u, v, phase, height]| height * (u * x + v * y + phase).sin())
            .sum();
        120.0 + sum
    }

    /// The image of `place`, which maps pixels to places of the scene.
    fn image(&self, width: usize, height: usize, place: impl Fn(f64, f64) -> (f64, f64)) -> Grey {
        let at = |i: usize| {
            let (x, y) = place((i % width) as f64, (i / width) as f64);
            self.at(x, y) as f32
        };
        Grey {
            width_px: width,
            height_px: height,
            samples: (0..width * height).map(at).collect(),
        }
    }
}

/// Adds noise of a deviation and multiplies by a gain, then rounds to levels.
fn exposed(mut image: Grey, gain: f32, noise: f32) -> Grey {
    let random = wdsr_testing::random::bytes(12 * image.samples.len(), 5);
    for (sample, bytes) in image.samples.iter_mut().zip(random.chunks_exact(12)) {
        // The sum of twelve even numbers is nearly normal.
        let sum: f32 = bytes.iter().map(|b| f32::from(*b) / 255.0).sum();
        *sample = (*sample * gain + noise * (sum - 6.0))
            .round()
            .clamp(0.0, 255.0);
    }
    image
}

/// A pair of a scene whose low-resolution image is shifted by `shift_px`.
fn pair(scene: &Scene, scale: usize, shift_px: [f64; 2], gain: f32, noise: f32) -> [Grey; 2] {
    let (width, height) = (140 * scale, 120 * scale);
    let high = scene.image(width, height, |x, y| (x, y));
    let shifted = scene.image(width, height, |x, y| (x - shift_px[0], y - shift_px[1]));
    [
        exposed(shifted.reduced(scale), gain, noise),
        exposed(high, 1.0, 0.0),
    ]
}

fn close(found: [f64; 2], expected: [f64; 2], tolerance: f64, what: &str) {
    for axis in 0..2 {
        let error = (found[axis] - expected[axis]).abs();
        assert!(error <= tolerance, "{what}: {found:?} for {expected:?}");
    }
}

#[test]
fn finds_sub_pixel_shifts() {
    for scale in [1, 2, 4] {
        for (seed, shift_px) in [
            (1, [0.0, 0.0]),
            (2, [0.37, -0.81]),
            (3, [5.5, -7.25]),
            (4, [-23.3, 14.9]),
        ] {
            let [low, high] = pair(&Scene::new(seed), scale, shift_px, 1.0, 0.0);
            let found = register(&low, &high, scale, Motion::Shift).expect("aligned");
            let what = format!("x{scale}");
            close(found.placement.shift_px, shift_px, 0.05, &what);
            assert!(found.correlation > 0.99, "{found:?}");
            assert!(found.uncertainty_px < 0.05, "{found:?}");
        }
    }
}

#[test]
fn noise_and_exposure_change_little() {
    for scale in [1, 2, 4] {
        let shift_px = [3.3, -6.6];
        let [low, high] = pair(&Scene::new(7), scale, shift_px, 0.87, 8.0);
        let found = register(&low, &high, scale, Motion::Shift).expect("aligned");
        let tolerance_px = 0.05_f64.max(0.025 * scale as f64);
        close(
            found.placement.shift_px,
            shift_px,
            tolerance_px,
            &format!("x{scale}"),
        );
        assert!((found.gain - 0.87).abs() < 0.01, "{found:?}");
        assert!(
            found.residual_before_levels > found.residual_after_levels,
            "{found:?}"
        );
        // What is left is the noise.
        assert!((found.residual_after_levels - 8.0).abs() < 1.0, "{found:?}");
    }
}

#[test]
fn finds_small_rotations_and_zooms() {
    for (scale, angle, zoom) in [(1, 0.6_f64, 1.0), (2, -0.8, 1.01), (4, 0.5, 0.985)] {
        let (width, height) = (160 * scale, 120 * scale);
        let scene = Scene::new(11);
        let (sin, cos) = angle.to_radians().sin_cos();
        let matrix = [[zoom * cos, -zoom * sin], [zoom * sin, zoom * cos]];
        let expected = Placement {
            shift_px: [2.4, -3.7],
            matrix,
        };
        let [cx, cy] = [width, height].map(|len| (len as f64 - 1.0) / 2.0);
        let high = scene.image(width, height, |x, y| (x, y));
        let low = scene.image(width, height, |x, y| {
            let (u, v) = (x - cx, y - cy);
            (
                cx + matrix[0][0] * u + matrix[0][1] * v - 2.4,
                cy + matrix[1][0] * u + matrix[1][1] * v + 3.7,
            )
        });
        let low = exposed(low.reduced(scale), 0.9, 3.0);
        let found = register(&low, &high, scale, Motion::Affine)
            .expect("aligned")
            .placement;
        close(
            found.shift_px,
            expected.shift_px,
            0.1 * scale as f64,
            "shift",
        );
        for axis in 0..2 {
            close(found.matrix[axis], matrix[axis], 5e-4, "matrix");
        }
    }
}

#[test]
fn periodic_textures_have_the_smallest_shift() {
    let place = |shift: f64| {
        move |x: f64, y: f64| {
            let wave = |at: f64| (at * std::f64::consts::TAU / 16.0).sin();
            120.0 + 40.0 * wave(x - shift) + 40.0 * wave(y)
        }
    };
    let image = |shift: f64| {
        let at = place(shift);
        let samples = (0..128 * 128).map(|i| at((i % 128) as f64, (i / 128) as f64) as f32);
        Grey {
            width_px: 128,
            height_px: 128,
            samples: samples.collect(),
        }
    };
    let found = register(&image(2.3), &image(0.0), 1, Motion::Shift).expect("aligned");
    close(found.placement.shift_px, [2.3, 0.0], 0.05, "periodic");
}

#[test]
fn flat_and_striped_images_are_rejected() {
    let flat = |level: f32| Grey {
        width_px: 128,
        height_px: 96,
        samples: vec![level; 128 * 96],
    };
    let sky = |seed: f32| {
        let mut image = flat(170.0);
        for (i, sample) in image.samples.iter_mut().enumerate() {
            *sample += (i / 128) as f32 * 0.2 * seed;
        }
        image
    };
    let stripes = |shift: f64| {
        let mut image = flat(0.0);
        for (i, sample) in image.samples.iter_mut().enumerate() {
            *sample = 120.0 + 60.0 * (((i / 128) as f64 - shift) * 0.3).sin() as f32;
        }
        image
    };
    for [low, high] in [
        [flat(120.0), flat(130.0)],
        [exposed(flat(150.0), 0.9, 8.0), flat(150.0)],
        [exposed(sky(1.0), 0.9, 8.0), exposed(sky(1.0), 1.0, 0.5)],
        [stripes(1.5), stripes(0.0)],
    ] {
        let found = register(&low, &high, 1, Motion::Shift);
        assert_eq!(found, Err(Rejection::Flat));
    }
}

#[test]
fn different_images_are_rejected() {
    for scale in [1, 2] {
        for seed in 0..6 {
            let [low, _] = pair(&Scene::new(2 * seed), scale, [0.0; 2], 1.0, 0.0);
            let [_, high] = pair(&Scene::new(2 * seed + 1), scale, [0.0; 2], 1.0, 0.0);
            for motion in [Motion::Shift, Motion::Affine] {
                let error = register(&low, &high, scale, motion).expect_err("different");
                let verdict = error.verdict();
                assert!(
                    matches!(verdict, Verdict::NoOverlap | Verdict::ResidualTooLarge),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn other_scales_and_sizes_are_rejected() {
    let [low, high] = pair(&Scene::new(3), 2, [0.0; 2], 1.0, 0.0);
    let error = register(&low, &high, 4, Motion::Shift)
        .expect_err("x2")
        .to_string();
    assert!(
        error.contains("scale mismatch: 140 x 120 pixels of 280 x 240 are not 1/4"),
        "{error}"
    );
    let small = Grey {
        width_px: 20,
        height_px: 40,
        samples: vec![0.0; 800],
    };
    let error = register(&small, &small, 1, Motion::Shift).expect_err("small");
    assert_eq!(error, Rejection::TooSmall((20, 40)));
    // Zoomed by a tenth.
    let scene = Scene::new(5);
    let zoomed = scene.image(240, 200, |x, y| (1.1 * x - 12.0, 1.1 * y - 10.0));
    let high = scene.image(240, 200, |x, y| (x, y));
    let error = register(&zoomed, &high, 1, Motion::Affine).expect_err("zoomed");
    let verdict = error.verdict();
    assert!(verdict != Verdict::Flat, "{error}");
}

/// Sizes need not be those of the scale: what both have in common is aligned.
#[test]
fn sizes_that_do_not_fit_are_cropped() {
    let scene = Scene::new(9);
    let high = scene.image(411, 330, |x, y| (x, y));
    let low = scene.image(400, 316, |x, y| (x + 8.0, y - 2.0)).reduced(2);
    let found = register(&low, &high, 2, Motion::Shift).expect("aligned");
    close(found.placement.shift_px, [-8.0, 2.0], 0.05, "shift");
    let part = found
        .placement
        .common_part((200, 158), (411, 330), 2)
        .expect("a part");
    let expected = Part {
        x: 0,
        y: 1,
        width_px: 200,
        height_px: 157,
    };
    assert_eq!(part, expected);
}

/// The low-resolution pixels are copied, and for a whole shift those of the original too.
#[test]
fn whole_shifts_keep_every_pixel() {
    let samples = |count: usize| (0..count).map(|i| (i * 7919 % 65_536) as u16).collect();
    let high = Image::new(40, 36, Colour::Rgb, Samples::U16(samples(40 * 36 * 3)));
    let low = Image::new(20, 18, Colour::Grey, Samples::U16(samples(20 * 18)));
    let placement = Placement::of_shift([3.0, -4.02]);
    let part = placement
        .common_part((20, 18), (40, 36), 2)
        .expect("a part");
    // The first low-resolution column would begin at -3, and the last rows end behind the original.
    assert_eq!(
        (part.x, part.y, part.width_px, part.height_px),
        (2, 0, 18, 16)
    );
    let [low_cut, high_cut] = placement.align_images(&low, &high, part, 2);
    assert_eq!((high_cut.width_px, high_cut.height_px), (36, 32));
    let (Samples::U16(from), Samples::U16(to)) = (&high.samples, &high_cut.samples) else {
        panic!("another depth");
    };
    assert_eq!(to[..3], from[3 * (4 * 40 + 1)..][..3]);
    assert_eq!(to[3 * (31 * 36 + 35)..], from[3 * (35 * 40 + 36)..][..3]);
    let (Samples::U16(from), Samples::U16(to)) = (&low.samples, &low_cut.samples) else {
        panic!("another depth");
    };
    assert_eq!(to[..18], from[2..20]);
    assert_eq!(low_cut.colour, Colour::Grey);
}

/// Fractions are interpolated, and the same way by a matrix as by a shift.
#[test]
fn fractions_are_interpolated() {
    let scene = Scene::new(21);
    let high = scene.image(96, 80, |x, y| (x, y));
    let bytes: Vec<u8> = high.samples.iter().map(|v| *v as u8).collect();
    let high = Image::new(96, 80, Colour::Grey, Samples::U8(bytes));
    let shift_px = [2.6, -1.3];
    let by_shift = Placement::of_shift(shift_px);
    let by_matrix = Placement {
        matrix: [[1.0 + 1e-9, 0.0], [0.0, 1.0]],
        ..by_shift
    };
    let part = by_shift.common_part((96, 80), (96, 80), 1).expect("a part");
    assert_eq!(by_matrix.common_part((96, 80), (96, 80), 1), Some(part));
    let [_, cut] = by_shift.align_images(&high, &high, part, 1);
    let [_, by_matrix] = by_matrix.align_images(&high, &high, part, 1);
    let (Samples::U8(cut), Samples::U8(by_matrix)) = (cut.samples, by_matrix.samples) else {
        panic!("another depth");
    };
    for (i, (found, other)) in cut.iter().zip(by_matrix).enumerate() {
        let (x, y) = (
            (part.x + i % part.width_px) as f64,
            (part.y + i / part.width_px) as f64,
        );
        let expected = scene.at(x - shift_px[0], y - shift_px[1]);
        // Rounding down costs one level, Lanczos' kernel on waves of 5 px another.
        assert!(
            (f64::from(*found) - expected).abs() < 2.5,
            "({x}, {y}): {found} for {expected}"
        );
        assert!(
            found.abs_diff(other) <= 1,
            "({x}, {y}): {found} and {other}"
        );
    }
}
