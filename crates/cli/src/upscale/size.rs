//! The arguments that choose the size of results.

use wdsr_upscale::{Size, SizeRequest};

use crate::units;

/// Above the arguments of [`SizeArguments`] in the help.
const HEADING: &str = "Size of the result (at most one of these; default: the scale of the model)";

/// Without any of them: what one pass of the model makes.
#[derive(clap::Args)]
#[group(multiple = false)]
pub(crate) struct SizeArguments {
    /// Upscale by 2, 3, 4 or 8; 1 only restores (-m photo)
    #[arg(help_heading = HEADING, short = 's', long, value_name = "N", value_parser = parse_scale)]
    scale: Option<f64>,
    /// Upscale by this factor; may be fractional, such as 2.7
    #[arg(help_heading = HEADING, long, value_name = "N", value_parser = parse_factor)]
    factor: Option<f64>,
    /// Upscale to this width; the height follows in proportion
    #[arg(help_heading = HEADING, long, value_name = "PX", value_parser = units::side)]
    width: Option<usize>,
    /// Upscale to this height; the width follows in proportion
    #[arg(help_heading = HEADING, long, value_name = "PX", value_parser = units::side)]
    height: Option<usize>,
    /// Upscale to this length of the longer side; the other follows in proportion
    #[arg(help_heading = HEADING, long, value_name = "PX", value_parser = units::side)]
    longest: Option<usize>,
    /// Upscale to exactly this size
    ///
    /// An image that it would stretch by more than a pixel is refused.
    #[arg(help_heading = HEADING, long, value_name = "WxH", value_parser = units::size)]
    size: Option<Size>,
}

impl SizeArguments {
    pub(crate) fn request(&self) -> SizeRequest {
        let side = |side: Option<usize>, request: fn(usize) -> SizeRequest| side.map(request);
        (self.scale.or(self.factor).map(SizeRequest::Factor))
            .or(side(self.width, SizeRequest::Width))
            .or(side(self.height, SizeRequest::Height))
            .or(side(self.longest, SizeRequest::Longest))
            .or(self.size.map(SizeRequest::Exactly))
            .unwrap_or(SizeRequest::OnePass)
    }
}

#[derive(Debug, thiserror::Error)]
enum FactorError {
    #[error("expected 1, 2, 3, 4 or 8, found \"{0}\"; --factor takes any other")]
    Scale(String),
    #[error("expected a number above 0 such as 2.7, found \"{0}\"")]
    Factor(String),
}

fn parse_scale(text: &str) -> Result<f64, FactorError> {
    match text {
        "1" | "2" | "3" | "4" | "8" => parse_factor(text),
        _ => Err(FactorError::Scale(text.to_owned())),
    }
}

fn parse_factor(text: &str) -> Result<f64, FactorError> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(factor),
        _ => Err(FactorError::Factor(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_above_0_and_scales_are_five() {
        for wrong in ["0", "-1", "nan", "inf", "two", "1e400"] {
            parse_factor(wrong).expect_err(wrong);
        }
        assert_eq!(parse_factor("2.7").ok(), Some(2.7));
        assert_eq!(parse_scale("8").ok(), Some(8.0));
        parse_scale("5").expect_err("--factor is for that");
    }
}
