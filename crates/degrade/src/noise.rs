//! Sensor noise.

use rand::Rng;

use crate::mosaic::{Phase, demosaic, mosaic};
use crate::planes::Planes;

/// Noise with its values drawn: variance `sigma_levels^2 + poisson * level`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DrawnNoise {
    pub(crate) sigma_levels: f64,
    pub(crate) poisson: f64,
    pub(crate) place: NoisePlace,
}

/// Which samples have noise of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum NoisePlace {
    /// Each sample.
    Channels,
    /// Each pixel, the same in all channels.
    Grey,
    /// Each pixel of a mosaic, which is then interpolated.
    Bayer(Phase),
}

impl DrawnNoise {
    pub(crate) fn apply(&self, image: &mut Planes, rng: &mut impl Rng) {
        let noisy = |level: f32, normal: f32| level + self.deviation(level) * normal;
        let mut normals = Normals::default();
        match self.place {
            NoisePlace::Channels => {
                for v in &mut image.samples {
                    *v = noisy(*v, normals.next(rng));
                }
            }
            NoisePlace::Grey => {
                let count = image.width_px * image.height_px;
                for i in 0..count {
                    let [r, g, b] = [0, 1, 2].map(|c| image.samples[c * count + i]);
                    let grey = (r + g + b) / 3.0;
                    let noise = self.deviation(grey) * normals.next(rng);
                    for channel in 0..3 {
                        image.samples[channel * count + i] += noise;
                    }
                }
            }
            NoisePlace::Bayer(phase) => {
                let mut sensor = mosaic(image, phase);
                for v in &mut sensor {
                    *v = noisy(*v, normals.next(rng));
                }
                *image = demosaic(&sensor, image.width_px, image.height_px, phase);
            }
        }
    }

    fn deviation(&self, level: f32) -> f32 {
        let variance = self.sigma_levels * self.sigma_levels
            + self.poisson * f64::from(level.clamp(0.0, 255.0));
        (variance as f32).sqrt()
    }
}

/// Standard normal numbers by the polar method (Marsaglia and Bray 1964), two at a time.
#[derive(Default)]
struct Normals {
    second: Option<f32>,
}

impl Normals {
    fn next(&mut self, rng: &mut impl Rng) -> f32 {
        if let Some(second) = self.second.take() {
            return second;
        }
        loop {
            let (u, v): (f32, f32) = (rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0));
            let s = u * u + v * v;
            if s > 0.0 && s < 1.0 {
                let factor = (-2.0 * s.ln() / s).sqrt();
                self.second = Some(v * factor);
                return u * factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    /// Noise on grey of a level: per channel its standard deviation, and the correlation of red and
    /// green.
    fn measure(noise: DrawnNoise, level: f32) -> ([f64; 3], f64) {
        let side = 128;
        let mut image = Planes::zeros(side, side);
        image.samples.fill(level);
        noise.apply(&mut image, &mut ChaCha8Rng::seed_from_u64(3));
        let planes: Vec<Vec<f64>> = image
            .planes()
            .map(|plane| plane.iter().map(|v| f64::from(v - level)).collect())
            .collect();
        let mean_product = |a: usize, b: usize| {
            let pairs = planes[a].iter().zip(&planes[b]);
            pairs.map(|(a, b)| a * b).sum::<f64>() / (side * side) as f64
        };
        let deviation = [0, 1, 2].map(|c| mean_product(c, c).sqrt());
        let correlation = mean_product(0, 1) / (deviation[0] * deviation[1]);
        (deviation, correlation)
    }

    #[test]
    fn variance_follows_the_level() {
        for level in [0.0, 85.0, 200.0_f32] {
            let noise = DrawnNoise {
                sigma_levels: 6.0,
                poisson: 0.25,
                place: NoisePlace::Channels,
            };
            let (deviation, correlation) = measure(noise, level);
            let expected = (36.0 + 0.25 * f64::from(level)).sqrt();
            for found in deviation {
                assert!(
                    (found / expected - 1.0).abs() < 0.03,
                    "{found} for {expected}"
                );
            }
            assert!(correlation.abs() < 0.05, "{correlation}");
        }
    }

    #[test]
    fn grey_noise_is_the_same_in_all_channels() {
        let noise = DrawnNoise {
            sigma_levels: 5.0,
            poisson: 0.0,
            place: NoisePlace::Grey,
        };
        let (_, correlation) = measure(noise, 100.0);
        assert!(correlation > 0.9999, "{correlation}");
    }

    /// The published mild images: correlated channels, and less noise than on the sensor.
    #[test]
    fn noise_of_a_mosaic_is_correlated_after_demosaicing() {
        let place = NoisePlace::Bayer(Phase { x: 0, y: 1 });
        let noise = DrawnNoise {
            sigma_levels: 8.0,
            poisson: 0.0,
            place,
        };
        let (deviation, correlation) = measure(noise, 130.0);
        assert!(correlation > 0.3 && correlation < 0.8, "{correlation}");
        assert!(deviation[1] < 8.0, "{deviation:?}");
    }
}
