//! Sizes and times on the command line, in one grammar for all commands: bytes, pixels, widths with
//! heights, seconds.
//!
//! Bytes have binary units: `K`, `M`, `G` and `T` are powers of 1024, with or without `B` or `iB`. Pixels
//! are counted in decimal units: `k`, `M` and `G` are powers of 1000. Units may have any case.

use std::time::Duration;

use wdsr_upscale::{MAX_SIDE_PX, Size};

/// A text that is not of the grammar.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnitError {
    #[error("expected a size in bytes such as 500M or 2G (M is 1024 x 1024 bytes), found \"{0}\"")]
    Bytes(String),
    #[error("expected a number of pixels such as 250000000, 250M or 2G, found \"{0}\"")]
    Pixels(String),
    #[error("expected a time above 0 such as 90 (seconds), 160m or 1h30m, found \"{0}\"")]
    Duration(String),
    #[error("expected a side of 1 to {MAX_SIDE_PX} pixels, found \"{0}\"")]
    Side(String),
    #[error("expected WIDTHxHEIGHT such as 3840x2160, found \"{0}\"")]
    Size(String),
    #[error("expected a strength from 0 to 1 such as 0.5, found \"{0}\"")]
    Strength(String),
}

/// Parses a strength, 0..=1.
pub(crate) fn strength(text: &str) -> Result<f32, UnitError> {
    let strength = text.parse().ok();
    let strength = strength.filter(|strength: &f32| (0.0..=1.0).contains(strength));
    strength.ok_or_else(|| UnitError::Strength(text.to_owned()))
}

/// Parses a size in bytes, at least 1.
pub(crate) fn bytes(text: &str) -> Result<u64, UnitError> {
    let units = ["", "K", "M", "G", "T"];
    let without_suffix = |unit: &str| {
        let unit = unit.to_ascii_uppercase();
        match unit.as_bytes() {
            [_, b'I', b'B'] | [_, b'B'] => unit[..1].to_owned(),
            [b'B'] => String::new(),
            _ => unit,
        }
    };
    scaled(text, 1024, |unit| {
        let unit = without_suffix(unit);
        units.iter().position(|known| *known == unit)
    })
    .ok_or_else(|| UnitError::Bytes(text.to_owned()))
}

/// Parses a number of pixels, at least 1.
pub(crate) fn pixels(text: &str) -> Result<u64, UnitError> {
    let units = ["", "K", "M", "G"];
    scaled(text, 1000, |unit| {
        let unit = unit.to_ascii_uppercase();
        units.iter().position(|known| *known == unit)
    })
    .ok_or_else(|| UnitError::Pixels(text.to_owned()))
}

/// A whole number above 0 and the unit behind it, which stands for a power of `base`.
fn scaled(text: &str, base: u64, power: impl Fn(&str) -> Option<usize>) -> Option<u64> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = base.checked_pow(power(unit)? as u32)?;
    let number: u64 = number.parse().ok()?;
    number.checked_mul(factor).filter(|product| *product > 0)
}

/// Parses a time: seconds, or numbers with the units `s`, `m`, `h` and `d`, such as `90`, `2.5h` or
/// `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, UnitError> {
    let parse = || {
        let (mut rest, mut total) = (text, Duration::ZERO);
        while !rest.is_empty() {
            let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
            let (number, unit) = rest.split_at(number_len.unwrap_or(rest.len()));
            let unit_len = unit.find(|c: char| c.is_ascii_digit());
            let (unit, next) = unit.split_at(unit_len.unwrap_or(unit.len()));
            let seconds = match unit {
                "" if rest.len() == text.len() => 1.0,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return None,
            };
            let number: f64 = number.parse().ok()?;
            total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
            rest = next;
        }
        (!total.is_zero()).then_some(total)
    };
    parse().ok_or_else(|| UnitError::Duration(text.to_owned()))
}

/// Parses the length of a side in pixels.
pub(crate) fn side(text: &str) -> Result<usize, UnitError> {
    match text.parse() {
        Ok(side @ 1..=MAX_SIDE_PX) => Ok(side),
        _ => Err(UnitError::Side(text.to_owned())),
    }
}

/// Parses a width and a height in pixels, such as `3840x2160`.
pub(crate) fn size(text: &str) -> Result<Size, UnitError> {
    let parse = || {
        let (width, height) = text.split_once(['x', 'X'])?;
        let (width_px, height_px) = (side(width).ok()?, side(height).ok()?);
        Some(Size {
            width_px,
            height_px,
        })
    };
    parse().ok_or_else(|| UnitError::Size(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_binary_units() {
        for (text, expected) in [
            ("4096", 4096),
            ("500M", 500 << 20),
            ("2GiB", 2 << 30),
            ("1gb", 1 << 30),
            ("3k", 3 << 10),
            ("1T", 1 << 40),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for wrong in [
            "",
            "G",
            "0",
            "-1M",
            "1.5G",
            "1X",
            "4iB",
            "1MiBs",
            "99999999999T",
            "1 G",
            "1é",
        ] {
            assert_eq!(bytes(wrong), Err(UnitError::Bytes(wrong.to_owned())));
        }
    }

    #[test]
    fn pixels_have_decimal_units() {
        for (text, expected) in [
            ("12", 12),
            ("3k", 3_000),
            ("250M", 250_000_000),
            ("2g", 2_000_000_000),
        ] {
            assert_eq!(pixels(text), Ok(expected), "{text}");
        }
        for wrong in [
            "",
            "0",
            "M",
            "1.5G",
            "-1",
            "1T",
            "99999999999G",
            "1é",
            "1MiB",
        ] {
            assert_eq!(pixels(wrong), Err(UnitError::Pixels(wrong.to_owned())));
        }
    }

    #[test]
    fn times_have_units_or_are_seconds() {
        for (text, expected) in [
            ("90", 90.0),
            ("0.5", 0.5),
            ("160m", 9600.0),
            ("1h30m", 5400.0),
            ("2.5h", 9000.0),
            ("1d1s", 86401.0),
        ] {
            assert_eq!(
                duration(text),
                Ok(Duration::from_secs_f64(expected)),
                "{text}"
            );
        }
        for wrong in [
            "", "0", "0s", "m", "-1", "1w", "1h30", "1.2.3s", "1 h", "1H", "1e99d", "9é",
        ] {
            assert_eq!(duration(wrong), Err(UnitError::Duration(wrong.to_owned())));
        }
    }

    #[test]
    fn sizes_are_width_and_height() {
        let expected = Size {
            width_px: 3840,
            height_px: 2160,
        };
        assert_eq!(size("3840x2160"), Ok(expected));
        for wrong in ["3840", "0x5", "5x", "axb", "-3x4", "3x4x5", "4294967296x1"] {
            assert_eq!(size(wrong), Err(UnitError::Size(wrong.to_owned())));
        }
    }
}
