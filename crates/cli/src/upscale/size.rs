//! Which size a result gets: arguments.

use wdsr_upscale::{MAX_SIDE_PX, Size, SizeError, SizeRequest};

/// Over the arguments of [`SizeArguments`] in the help.
const HEADING: &str = "Size of the result (one of these; without any, the model's scale)";

/// Without any of them: as large as one pass of the model makes it.
#[derive(clap::Args)]
#[group(multiple = false)]
pub(super) struct SizeArguments {
    /// Upscale 2, 3, 4 or 8 times
    #[arg(help_heading = HEADING, short = 's', long, value_name = "N", value_parser = parse_scale)]
    scale: Option<f64>,
    /// Upscale so many times; 2.7 is as good as 2
    #[arg(help_heading = HEADING, long, value_name = "N", value_parser = parse_factor)]
    factor: Option<f64>,
    /// To this width, the height in proportion
    #[arg(help_heading = HEADING, long, value_name = "PX", value_parser = parse_side)]
    width: Option<usize>,
    /// To this height, the width in proportion
    #[arg(help_heading = HEADING, long, value_name = "PX", value_parser = parse_side)]
    height: Option<usize>,
    /// To this length of the longer side, the other in proportion
    #[arg(help_heading = HEADING, long, value_name = "PX", value_parser = parse_side)]
    longest: Option<usize>,
    /// To exactly this size
    ///
    /// An image that it would stretch by more than a pixel is refused.
    #[arg(help_heading = HEADING, long, value_name = "WxH", value_parser = parse_size)]
    size: Option<Size>,
}

impl SizeArguments {
    /// What was asked for.
    pub(super) fn request(&self) -> SizeRequest {
        let side = |side: Option<usize>, request: fn(usize) -> SizeRequest| side.map(request);
        (self.scale.or(self.factor).map(SizeRequest::Factor))
            .or(side(self.width, SizeRequest::Width))
            .or(side(self.height, SizeRequest::Height))
            .or(side(self.longest, SizeRequest::Longest))
            .or(self.size.map(SizeRequest::Exactly))
            .unwrap_or(SizeRequest::OnePass)
    }
}

/// The error, with the arguments that help.
pub(super) fn in_words(error: &SizeError) -> String {
    match error {
        SizeError::Stretches {
            input,
            asked,
            by_width,
            by_height,
        } => format!(
            "--size {asked} would stretch its {input}; --width {} gives {by_width}, --height {} \
             gives {by_height}",
            asked.width_px, asked.height_px
        ),
        _ => error.to_string(),
    }
}

/// A size as `3840x2160`.
pub(super) fn parse_size(text: &str) -> Result<Size, String> {
    let parse = || {
        let (width, height) = text.split_once(['x', 'X'])?;
        let (width_px, height_px) = (parse_side(width).ok()?, parse_side(height).ok()?);
        Some(Size {
            width_px,
            height_px,
        })
    };
    parse().ok_or_else(|| format!("expected WxH, as 3840x2160, found {text}"))
}

fn parse_scale(text: &str) -> Result<f64, String> {
    match text {
        "2" | "3" | "4" | "8" => parse_factor(text),
        _ => Err(format!(
            "expected 2, 3, 4 or 8, found {text}; --factor takes any other"
        )),
    }
}

fn parse_factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(factor),
        _ => Err(format!("expected a number above 0, as 2.7, found {text}")),
    }
}

fn parse_side(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(side @ 1..=MAX_SIDE_PX) => Ok(side),
        _ => Err(format!("expected pixels, at least 1, found {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse() {
        let size = Size {
            width_px: 3840,
            height_px: 2160,
        };
        assert_eq!(parse_size("3840x2160"), Ok(size));
        for wrong in ["3840", "0x5", "5x", "axb", "-3x4", "3x4x5", "4294967296x1"] {
            parse_size(wrong).expect_err(wrong);
        }
        for wrong in ["0", "-1", "nan", "inf", "two", "1e400"] {
            parse_factor(wrong).expect_err(wrong);
        }
        assert_eq!(parse_factor("2.7"), Ok(2.7));
        assert_eq!(parse_scale("8"), Ok(8.0));
        parse_scale("5").expect_err("--factor is for that");
    }
}
