//! The strength of a model that removes damage, 0..=1, and the damage that each strength stands for.
//!
//! At strength 0 the model takes the image for clean. Strength 1 stands for a JPEG file of quality 10 or
//! for noise with a standard deviation of 25 levels; between them it grows with the logarithm of the
//! damage. Training draws damage by strength, and upscaling reads the strength off an image, by the same
//! functions.

/// Annex K's quantisation steps of luma (ITU-T T.81), row-major: those of libjpeg's quality 50.
pub const ANNEX_K_LUMA: [u8; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];

/// Factor of Annex K's quantisation tables (ITU-T T.81) at strength 1: libjpeg's quality 10.
const STRONGEST_JPEG_SCALE: f64 = 5.0;
/// Standard deviation of the noise at strength 1, in levels of 0..255.
const STRONGEST_SIGMA: f64 = 25.0;
/// Damage where the growth turns from linear to logarithmic.
const JPEG_UNIT: f64 = 0.1;
const SIGMA_UNIT: f64 = 2.0;

/// A quantisation step of libjpeg at a quality, 1..=100, for a step of Annex K; `jcparam.c`.
pub fn jpeg_step(base: u8, quality: u8) -> u8 {
    let quality = u32::from(quality).clamp(1, 100);
    let percent = match quality {
        ..50 => 5000 / quality,
        _ => 200 - 2 * quality,
    };
    ((u32::from(base) * percent + 50) / 100).clamp(1, 255) as u8
}

/// The strength for a JPEG file whose quantisation tables are Annex K's times `scale`.
pub fn of_jpeg_scale(scale: f64) -> f64 {
    of(scale, JPEG_UNIT, STRONGEST_JPEG_SCALE)
}

/// The strength for a JPEG file of a quality as libjpeg counts it, 1..=100.
pub fn of_jpeg_quality(quality: u8) -> f64 {
    let quality = f64::from(quality.clamp(1, 100));
    of_jpeg_scale(if quality < 50.0 {
        50.0 / quality
    } else {
        2.0 - quality / 50.0
    })
}

/// The strength for noise of a standard deviation in levels of 0..255.
pub fn of_noise(sigma_levels: f64) -> f64 {
    of(sigma_levels, SIGMA_UNIT, STRONGEST_SIGMA)
}

/// The quality, 1..=100, that a strength stands for: the nearest whole one.
pub fn jpeg_quality_at(strength: f64) -> u8 {
    let scale = damage_at(strength, JPEG_UNIT, STRONGEST_JPEG_SCALE);
    let quality = if scale > 1.0 {
        50.0 / scale
    } else {
        100.0 - 50.0 * scale
    };
    quality.round().clamp(1.0, 100.0) as u8
}

/// The standard deviation of noise, in levels of 0..255, that a strength stands for.
pub fn noise_at(strength: f64) -> f64 {
    damage_at(strength, SIGMA_UNIT, STRONGEST_SIGMA)
}

fn of(damage: f64, unit: f64, strongest: f64) -> f64 {
    let strength = (damage / unit).ln_1p() / (strongest / unit).ln_1p();
    strength.clamp(0.0, 1.0)
}

fn damage_at(strength: f64, unit: f64, strongest: f64) -> f64 {
    unit * (strength * (strongest / unit).ln_1p()).exp_m1()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_and_strength_are_inverse() {
        for quality in 10..=100 {
            assert_eq!(jpeg_quality_at(of_jpeg_quality(quality)), quality);
        }
        for sigma in [0.0, 0.5, 4.0, 8.0, 25.0] {
            assert!((noise_at(of_noise(sigma)) - sigma).abs() < 1e-9, "{sigma}");
        }
    }

    #[test]
    fn strength_ends_at_the_strongest_damage() {
        assert_eq!((of_jpeg_quality(100), of_jpeg_quality(10)), (0.0, 1.0));
        assert_eq!((of_jpeg_quality(1), of_noise(80.0)), (1.0, 1.0));
        assert!((of_jpeg_quality(75) - 0.4557).abs() < 1e-4);
        assert!((of_noise(8.0) - 0.6184).abs() < 1e-4);
    }
}
