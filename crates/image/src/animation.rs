//! Animations: images of one size, each shown for a time.

use crate::pixels::Image;

/// What a file says of its animation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Animation {
    /// Number of frames.
    pub frames: usize,
    /// How often it is played; 0 is without end.
    pub plays: u32,
}

/// A frame of an animation, whole: what the file stores of it is laid over the frames before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The image, without metadata.
    pub image: Image,
    /// How long it is shown.
    pub delay: Delay,
}

impl From<Image> for Frame {
    /// The only frame.
    fn from(image: Image) -> Self {
        let delay = Delay::of_ms(0, 1);
        Self { image, delay }
    }
}

/// A time in milliseconds, as a fraction in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    numerator_ms: u32,
    denominator: u32,
}

impl Delay {
    /// A fraction of milliseconds; a denominator of 0 counts as 1.
    pub fn of_ms(numerator_ms: u32, denominator: u32) -> Self {
        let denominator = denominator.max(1);
        let divisor = greatest_common_divisor(numerator_ms, denominator).max(1);
        Self {
            numerator_ms: numerator_ms / divisor,
            denominator: denominator / divisor,
        }
    }

    /// The time in milliseconds.
    pub fn ms(self) -> f64 {
        f64::from(self.numerator_ms) / f64::from(self.denominator)
    }

    /// Numerator and denominator in seconds, to a millisecond if 16 bits do not hold the fraction, and to a
    /// second if they do not hold the milliseconds.
    pub(crate) fn seconds(self) -> (u16, u16) {
        let denominator = 1000 * u64::from(self.denominator);
        let divisor = greatest_common_divisor(u64::from(self.numerator_ms), denominator).max(1);
        let exact = u16::try_from(u64::from(self.numerator_ms) / divisor)
            .ok()
            .zip(u16::try_from(denominator / divisor).ok());
        let ms = self.ms().round();
        exact.unwrap_or(if ms <= f64::from(u16::MAX) {
            (ms as u16, 1000)
        } else {
            ((ms / 1000.0).round() as u16, 1)
        })
    }
}

fn greatest_common_divisor<T>(a: T, b: T) -> T
where
    T: Copy + PartialEq + std::ops::Rem<Output = T> + Default,
{
    if b == T::default() {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// Delays in whole units whose sum stays that of the exact times, however many there are.
#[derive(Default)]
pub(crate) struct WholeDelays {
    exact_ms: f64,
    written: u64,
}

impl WholeDelays {
    /// The next delay in units of so many milliseconds.
    pub(crate) fn next(&mut self, delay: Delay, unit_ms: f64) -> u64 {
        self.exact_ms += delay.ms();
        let whole = ((self.exact_ms / unit_ms).round() as u64).saturating_sub(self.written);
        self.written += whole;
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact_where_16_bits_hold_them() {
        for (ms, expected) in [
            ((0, 1), (0, 1)),
            ((40, 1), (1, 25)),
            ((1000, 30), (1, 30)),
            ((1001 * 1000, 30_000), (1001, 30_000)),
            ((5, 0), (1, 200)),
            ((65_537, 65_521), (1, 1000)),
            ((70_001, 1), (70, 1)),
            ((u32::MAX, 1), (u16::MAX, 1)),
        ] {
            assert_eq!(Delay::of_ms(ms.0, ms.1).seconds(), expected, "{ms:?} ms");
        }
    }

    #[test]
    fn rounded_delays_do_not_drift() {
        let mut delays = WholeDelays::default();
        let thirtieth = Delay::of_ms(1000, 30);
        let whole: Vec<u64> = (0..300).map(|_| delays.next(thirtieth, 10.0)).collect();
        assert_eq!(whole[..6], [3, 4, 3, 3, 4, 3]);
        assert_eq!(whole.iter().sum::<u64>(), 1000, "ten seconds in 1/100 s");
    }
}
