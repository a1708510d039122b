use super::*;

/// Samples that differ from pixel to pixel and channel to channel.
fn noise(seed: u32, samples: usize) -> Vec<u8> {
    wdsr_testing::random::bytes(samples, seed.into())
}

const CHANNELS: [Channel; 3] = [Channel::Rgb, Channel::Y, Channel::Grey];

#[test]
fn equal_images_have_infinite_psnr() {
    let a = noise(1, 17 * 13 * 3);
    for channel in CHANNELS {
        assert_eq!(psnr_db(&a, &a, 17, 13, channel, 1), f64::INFINITY);
        let similarity = ssim(&a, &a, 17, 13, channel, 1);
        assert!((similarity - 1.0).abs() < 1e-12, "{channel:?} {similarity}");
    }
}

#[test]
fn psnr_of_a_known_difference_is_exact() {
    // Every sample off by 5: MSE is 25 in RGB and grey. Y counts 219/255 of it.
    let a = vec![100; 20 * 20 * 3];
    let b = vec![105; 20 * 20 * 3];
    let rgb_db = 20.0 * (255.0_f64 / 5.0).log10();
    let y_db = 20.0 * (255.0_f64 * 255.0 / (5.0 * 219.0)).log10();
    for (channel, expected) in CHANNELS.into_iter().zip([rgb_db, y_db, rgb_db]) {
        let found = psnr_db(&a, &b, 20, 20, channel, 3);
        assert!((found - expected).abs() < 1e-9, "{channel:?} {found}");
    }
}

#[test]
fn exactly_the_border_is_cropped_on_each_side() {
    let (w, h, shave) = (19, 16, 2);
    let a = noise(2, w * h * 3);
    for y in 0..h {
        for x in 0..w {
            let mut b = a.clone();
            b[(y * w + x) * 3 + 1] ^= 64;
            let inside = (shave..w - shave).contains(&x) && (shave..h - shave).contains(&y);
            let equal = psnr_db(&a, &b, w, h, Channel::Rgb, shave) == f64::INFINITY;
            assert_eq!(equal, !inside, "difference at {x}, {y}");
        }
    }
}

#[test]
fn grey_is_the_rounded_mean_of_the_channels() {
    // (1, 1, 3) has mean 5/3, (1, 1, 2) mean 4/3: they round to 2 and 1.
    let [up, down, one, two] = [[1, 1, 3], [1, 1, 2], [1; 3], [2; 3]].map(|p| p.repeat(121));
    let same = |a, b| psnr_db(a, b, 11, 11, Channel::Grey, 0) == f64::INFINITY;
    assert!(same(&up, &two), "5/3");
    assert!(same(&down, &one), "4/3");
    assert!(!same(&up, &one), "5/3 against 1");
}

/// SSIM by its definition: two-dimensional windows, variances as means of squared deviations.
fn reference_ssim(a: &[f64], b: &[f64], width: usize, height: usize) -> f64 {
    let (c1, c2) = ((0.01 * 255.0_f64).powi(2), (0.03 * 255.0_f64).powi(2));
    let weight = |dy: usize, dx: usize| {
        let square = (dy as f64 - 5.0).powi(2) + (dx as f64 - 5.0).powi(2);
        (-square / (2.0 * 1.5 * 1.5)).exp()
    };
    let offsets: Vec<(usize, usize)> = (0..121).map(|i| (i / 11, i % 11)).collect();
    let total: f64 = offsets.iter().map(|&(dy, dx)| weight(dy, dx)).sum();
    let (mut sum, mut windows) = (0.0, 0.0);
    for y in 0..=height - 11 {
        for x in 0..=width - 11 {
            let mean = |of: &dyn Fn(usize) -> f64| {
                let terms = offsets
                    .iter()
                    .map(|&(dy, dx)| weight(dy, dx) / total * of((y + dy) * width + x + dx));
                terms.sum::<f64>()
            };
            let (mean_a, mean_b) = (mean(&|i| a[i]), mean(&|i| b[i]));
            let variance_a = mean(&|i| (a[i] - mean_a).powi(2));
            let variance_b = mean(&|i| (b[i] - mean_b).powi(2));
            let covariance = mean(&|i| (a[i] - mean_a) * (b[i] - mean_b));
            sum += (2.0 * mean_a * mean_b + c1) * (2.0 * covariance + c2)
                / ((mean_a.powi(2) + mean_b.powi(2) + c1) * (variance_a + variance_b + c2));
            windows += 1.0;
        }
    }
    sum / windows
}

#[test]
fn ssim_follows_the_definition() {
    // 11 is the smallest side: one window.
    for (w, h) in [(11, 11), (11, 14), (23, 11), (16, 19)] {
        let a = noise(3, w * h * 3);
        let b: Vec<u8> = a
            .iter()
            .zip(noise(4, w * h * 3))
            .map(|(&a, n)| a / 2 + n / 3)
            .collect();
        let plane = |rgb: &[u8], c: usize| -> Vec<f64> {
            rgb.chunks_exact(3).map(|p| f64::from(p[c])).collect()
        };
        let channels = [0, 1, 2].map(|c| reference_ssim(&plane(&a, c), &plane(&b, c), w, h));
        let expected = channels.iter().sum::<f64>() / 3.0;
        let found = ssim(&a, &b, w, h, Channel::Rgb, 0);
        assert!(
            (found - expected).abs() < 1e-11,
            "{w} x {h}: {found}, expected {expected}"
        );
        assert!(found < 0.9, "{w} x {h}: {found} tells nothing");
    }
}

#[test]
#[should_panic(expected = "samples of 12 x 12 RGB")]
fn different_sizes_panic() {
    psnr_db(&[0; 432], &[0; 429], 12, 12, Channel::Y, 0);
}

#[test]
#[should_panic(expected = "8 x 8 pixels, cropped by 4 on each side")]
fn images_not_larger_than_the_border_panic() {
    psnr_db(&[0; 192], &[0; 192], 8, 8, Channel::Y, 4);
}

#[test]
#[should_panic(expected = "10 x 12 pixels, expected at least 11 x 11")]
fn images_smaller_than_the_window_panic() {
    ssim(&[0; 12 * 14 * 3], &[0; 12 * 14 * 3], 12, 14, Channel::Y, 1);
}
