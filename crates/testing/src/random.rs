//! Random numbers that follow from a seed: the same on every machine and in every version.

/// A SplitMix64 generator (Steele, Lea and Flood 2014). Every seed gives a full-quality stream.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator; equal seeds give equal numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A uniform value in 0..1.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 24) as f32
    }
}

/// Uniform values in 0..1.
pub fn units(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.unit()).collect()
}

/// Uniform values in -1..1.
pub fn signed_units(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| 2.0 * random.unit() - 1.0).collect()
}

/// Uniform bytes.
pub fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..count).map(|_| (random.bits() >> 56) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_splitmix64() {
        let mut random = Random::new(1_234_567);
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(published.map(|_| random.bits()), published);
    }

    #[test]
    fn values_fill_their_range() {
        for (values, range) in [
            (units(4096, 1), 0.0..1.0),
            (signed_units(4096, 1), -1.0..1.0),
        ] {
            assert!(values.iter().all(|v| range.contains(v)), "{range:?}");
            let mean = values.iter().sum::<f32>() / 4096.0;
            let middle = (range.start + range.end) / 2.0;
            assert!((mean - middle).abs() < 0.03, "mean {mean} in {range:?}");
        }
        let mut seen = [false; 256];
        for byte in bytes(4096, 1) {
            seen[usize::from(byte)] = true;
        }
        assert!(seen.iter().all(|s| *s), "every byte occurs");
    }
}
