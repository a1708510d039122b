//! Limits against files that claim, or become, more than the machine can hold.

use std::path::Path;

use anyhow::{Context, bail};
use wdsr_image::Limits;

use super::image::Refused;

#[derive(clap::Args)]
pub(super) struct LimitArguments {
    /// Refuse images of more pixels
    ///
    /// k, M, G: thousands, millions, billions.
    #[arg(long, value_name = "PIXELS", value_parser = pixels, default_value = "1G")]
    max_pixels: u64,
    /// Refuse images whose result would have more pixels
    #[arg(long, value_name = "PIXELS", value_parser = pixels, default_value = "8G")]
    max_output_pixels: u64,
}

/// A count of pixels: digits, and k, M or G for thousands, millions or billions.
fn pixels(text: &str) -> anyhow::Result<u64> {
    let (digits, factor) = match text.as_bytes() {
        [digits @ .., b'k' | b'K'] => (digits.len(), 1_000),
        [digits @ .., b'm' | b'M'] => (digits.len(), 1_000_000),
        [digits @ .., b'g' | b'G'] => (digits.len(), 1_000_000_000),
        digits => (digits.len(), 1),
    };
    let expected = "expected a number of pixels like 250000000, 250M or 2G";
    let number: u64 = text[..digits].parse().context(expected)?;
    match number.checked_mul(factor) {
        None | Some(0) => bail!("{expected}, at least 1 and at most {}", u64::MAX),
        Some(pixels) => Ok(pixels),
    }
}

impl LimitArguments {
    /// What decoders are told.
    pub(super) fn decoding(&self) -> Limits {
        Limits {
            max_pixels: self.max_pixels,
            ..Limits::default()
        }
    }

    /// Refuses an image or a result above its limit; sizes are width and height in pixels.
    pub(super) fn check(
        &self,
        input: &Path,
        size: (usize, usize),
        result: (usize, usize),
    ) -> Result<(), Refused> {
        for (what, flag, (width, height), most) in [
            ("it", "--max-pixels", size, self.max_pixels),
            (
                "its result",
                "--max-output-pixels",
                result,
                self.max_output_pixels,
            ),
        ] {
            let pixels = width as u128 * height as u128;
            if pixels > u128::from(most) {
                return Err(Refused(format!(
                    "{}: {what} is too large: {width} x {height} = {pixels} pixels, allowed are \
                     {most}; if you trust the file, {flag} {pixels} allows it",
                    input.display()
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::pixels;

    #[test]
    fn counts_have_suffixes() {
        let read = |text| pixels(text).ok();
        assert_eq!(read("12"), Some(12));
        assert_eq!(read("3k"), Some(3_000));
        assert_eq!(read("250M"), Some(250_000_000));
        assert_eq!(read("2g"), Some(2_000_000_000));
        for wrong in ["", "0", "M", "1.5G", "-1", "1T", "99999999999G", "1é"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
