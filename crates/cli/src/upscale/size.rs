//! Which size a result gets, and by which passes of which networks.

use std::fmt;
use std::str::FromStr;

/// Longest side of a result: no format of pictures holds more.
const MAX_SIDE_PX: usize = u32::MAX as usize;

/// Over the arguments of [`SizeArguments`] in the help.
const HEADING: &str = "Size of the result (one of these; without any, the model's scale)";

/// Without any of them: as large as one pass of the model makes it.
#[derive(clap::Args)]
#[group(multiple = false)]
pub(super) struct SizeArguments {
    /// Enlarge 2, 3, 4 or 8 times
    #[arg(help_heading = HEADING, short = 's', long, value_name = "N", value_parser = parse_scale)]
    scale: Option<usize>,
    /// Enlarge so many times; 2.7 is as good as 2
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
    /// A picture that it would stretch by more than a pixel is refused.
    #[arg(help_heading = HEADING, long, value_name = "WxH")]
    size: Option<Size>,
}

impl SizeArguments {
    /// What was asked for.
    pub(super) fn request(&self) -> Request {
        let side = |side: Option<usize>, request: fn(usize) -> Request| side.map(request);
        side(self.scale, Request::Scale)
            .or(self.factor.map(Request::Factor))
            .or(side(self.width, Request::Width))
            .or(side(self.height, Request::Height))
            .or(side(self.longest, Request::Longest))
            .or(self.size.map(Request::Exactly))
            .unwrap_or(Request::OnePass)
    }
}

/// A size asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Request {
    /// What one pass of the first network makes.
    OnePass,
    Scale(usize),
    Factor(f64),
    Width(usize),
    Height(usize),
    Longest(usize),
    Exactly(Size),
}

/// Width and height of a picture, upright.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width_px: usize,
    pub(super) height_px: usize,
}

impl Size {
    fn times(self, factor: usize) -> Self {
        Self {
            width_px: self.width_px.saturating_mul(factor),
            height_px: self.height_px.saturating_mul(factor),
        }
    }

    fn covers(self, other: Self) -> bool {
        self.width_px >= other.width_px && self.height_px >= other.height_px
    }

    pub(super) fn pixels(self) -> u128 {
        self.width_px as u128 * self.height_px as u128
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.width_px, self.height_px)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (width, height) = text.split_once(['x', 'X'])?;
            let (width_px, height_px) = (parse_side(width).ok()?, parse_side(height).ok()?);
            Some(Self {
                width_px,
                height_px,
            })
        };
        parse().ok_or_else(|| format!("expected WxH, as 3840x2160, found {text}"))
    }
}

fn parse_scale(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(scale @ (2 | 3 | 4 | 8)) => Ok(scale),
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

/// How a picture gets its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) input: Size,
    /// Scales of the networks it goes through, in order.
    pub(super) passes: Vec<usize>,
    /// Size of the result, to which the picture is resized after the passes where they make more.
    pub(super) target: Size,
}

impl Plan {
    /// Chooses the fewest passes of networks of the scales given, then those that make least more
    /// than is asked for. Smaller scales come first: that is better and less work (`docs/log.md`).
    /// A picture as large as asked for, or larger, goes through no network.
    ///
    /// # Errors
    /// When the size would stretch the picture, or no format could hold it.
    ///
    /// # Panics
    /// When no scale is given, or another size is asked for than one pass makes and no scale is
    /// above 1.
    pub(super) fn new(input: Size, request: Request, scales: &[usize]) -> Result<Self, String> {
        if request == Request::OnePass {
            let target = input.times(scales[0]);
            return Ok(Self {
                input,
                passes: vec![scales[0]],
                target,
            });
        }
        let target = target(input, request)?;
        Ok(Self {
            input,
            passes: passes(input, target, scales),
            target,
        })
    }

    /// The scale, where one pass of a network makes the result.
    pub(super) fn only_pass(&self) -> Option<usize> {
        match self.passes[..] {
            [scale] if !self.is_resized() => Some(scale),
            _ => None,
        }
    }

    /// The size before each pass, and after the last.
    pub(super) fn sizes(&self) -> Vec<Size> {
        let mut sizes = vec![self.input];
        for &scale in &self.passes {
            sizes.push(sizes[sizes.len() - 1].times(scale));
        }
        sizes
    }

    /// The size after the passes.
    pub(super) fn enlarged(&self) -> Size {
        self.input.times(self.passes.iter().product())
    }

    /// Whether the passes end in another size than the result's.
    pub(super) fn is_resized(&self) -> bool {
        self.enlarged() != self.target
    }
}

/// How the size comes about, in words: `x2, x2, resized from 400 x 400`.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps: Vec<String> = self
            .passes
            .iter()
            .map(|scale| format!("x{scale}"))
            .collect();
        if self.is_resized() {
            steps.push(format!("resized from {}", self.enlarged()));
        } else if steps.is_empty() {
            steps.push("as large before".to_owned());
        }
        f.write_str(&steps.join(", "))
    }
}

/// The size of the result, of whose sides no proportional one is 0.
fn target(input: Size, request: Request) -> Result<Size, String> {
    let Size {
        width_px,
        height_px,
    } = input;
    // The other side in proportion, rounded half up; at most `MAX_SIDE_PX` + 1.
    let other = |side: usize, of: usize, other: usize| {
        let (of, twice) = (of as u128, 2 * side as u128 * other as u128);
        ((twice + of) / (2 * of)).clamp(1, MAX_SIDE_PX as u128 + 1) as usize
    };
    let by_width = |width: usize| Size {
        width_px: width,
        height_px: other(width, width_px, height_px),
    };
    let by_height = |height: usize| Size {
        width_px: other(height, height_px, width_px),
        height_px: height,
    };
    // A cast to an integer saturates.
    let times = |side: usize, factor: f64| (side as f64 * factor).round().max(1.0) as usize;
    let target = match request {
        Request::OnePass => input,
        Request::Scale(scale) => input.times(scale),
        Request::Factor(factor) => Size {
            width_px: times(width_px, factor),
            height_px: times(height_px, factor),
        },
        Request::Width(width) => by_width(width),
        Request::Height(height) => by_height(height),
        Request::Longest(longest) if width_px >= height_px => by_width(longest),
        Request::Longest(longest) => by_height(longest),
        Request::Exactly(size) => {
            let crossed = [
                size.width_px as u128 * height_px as u128,
                size.height_px as u128 * width_px as u128,
            ];
            // Within a pixel of the proportional height, or width.
            if crossed[0].abs_diff(crossed[1]) > width_px.max(height_px) as u128 {
                return Err(format!(
                    "--size {size} would stretch its {input}; --width {} gives {}, --height {} \
                     gives {}",
                    size.width_px,
                    by_width(size.width_px),
                    size.height_px,
                    by_height(size.height_px)
                ));
            }
            size
        }
    };
    if target.width_px.max(target.height_px) > MAX_SIDE_PX {
        return Err(format!(
            "a side of the result would have more than {MAX_SIDE_PX} pixels, which no format holds"
        ));
    }
    Ok(target)
}

/// The fewest passes, then the smallest product, that make `target` or more of `input`.
fn passes(input: Size, target: Size, scales: &[usize]) -> Vec<usize> {
    // Every choice of so many passes once: scales in ascending order.
    let mut choices: Vec<Vec<usize>> = vec![Vec::new()];
    loop {
        let product =
            |passes: &&Vec<usize>| passes.iter().fold(1, |p: usize, s| p.saturating_mul(*s));
        let reaching = choices
            .iter()
            .filter(|passes| input.times(product(passes)).covers(target));
        if let Some(best) = reaching.min_by_key(product) {
            return best.clone();
        }
        let more = choices.iter().flat_map(|passes| {
            let last = passes.last().copied().unwrap_or(0);
            let next = scales
                .iter()
                .filter(move |scale| **scale > 1 && **scale >= last);
            next.map(|scale| [&passes[..], &[*scale]].concat())
        });
        choices = more.collect();
        assert!(
            !choices.is_empty(),
            "no network of {scales:?} enlarges {input} to {target}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width_px: usize, height_px: usize) -> Size {
        Size {
            width_px,
            height_px,
        }
    }

    #[test]
    fn sizes_follow_from_requests() {
        let input = size(600, 401);
        let cases = [
            (Request::Scale(2), size(1200, 802)),
            (Request::Scale(8), size(4800, 3208)),
            (Request::Factor(2.7), size(1620, 1083)),
            (Request::Factor(0.0001), size(1, 1)),
            (Request::Width(1000), size(1000, 668)),
            (Request::Height(1000), size(1496, 1000)),
            (Request::Longest(1000), size(1000, 668)),
            (Request::Exactly(size(1200, 803)), size(1200, 803)),
            (Request::Exactly(size(1200, 801)), size(1200, 801)),
        ];
        for (request, expected) in cases {
            assert_eq!(target(input, request), Ok(expected), "{request:?}");
        }
        let upright = target(size(401, 600), Request::Longest(1000));
        assert_eq!(upright, Ok(size(668, 1000)));
        assert_eq!(target(size(5, 1), Request::Width(2)), Ok(size(2, 1)));
    }

    #[test]
    fn a_size_that_stretches_is_refused_with_sizes_that_do_not() {
        let request = Request::Exactly(size(800, 800));
        let error = target(size(600, 400), request).expect_err("stretched");
        assert!(error.contains("--width 800 gives 800 x 533"), "{error}");
        assert!(error.contains("--height 800 gives 1200 x 800"), "{error}");
        let error = target(size(600, 401), Request::Exactly(size(1200, 805)));
        error.expect_err("three pixels off");
        for request in [Request::Factor(1e300), Request::Width(MAX_SIDE_PX)] {
            target(size(3, 10), request).expect_err("more than any format holds");
        }
    }

    #[test]
    fn passes_are_few_and_make_little_more() {
        let of = |factor: f64, scales: &[usize]| {
            let plan = Plan::new(size(100, 80), Request::Factor(factor), scales);
            plan.expect("a plan").passes
        };
        let cases: [(f64, &[usize], &[usize]); 16] = [
            (1.0, &[2, 3, 4], &[]),
            (0.4, &[2], &[]),
            (1.2, &[2, 3, 4], &[2]),
            (2.0, &[2, 3, 4], &[2]),
            (2.7, &[2, 3, 4], &[3]),
            (2.7, &[2, 4], &[4]),
            (2.7, &[2], &[2, 2]),
            (4.0, &[2, 3, 4], &[4]),
            (4.0, &[2, 3], &[2, 2]),
            (5.0, &[2, 3, 4], &[2, 3]),
            (8.0, &[2, 3, 4], &[2, 4]),
            (8.0, &[2], &[2, 2, 2]),
            (10.0, &[2, 3, 4], &[3, 4]),
            (30.0, &[2, 3, 4], &[2, 4, 4]),
            (2.0, &[4], &[4]),
            (7.0, &[4, 2, 8], &[8]),
        ];
        for (factor, scales, expected) in cases {
            assert_eq!(of(factor, scales), expected, "{factor} by {scales:?}");
        }
        assert_eq!(of(1e6, &[2, 3, 4]).len(), 10);
    }

    #[test]
    fn every_plan_ends_in_its_target_or_more() {
        for scales in [&[2][..], &[3], &[2, 3, 4], &[2, 8]] {
            for width in [1, 2, 7, 640] {
                for longest in [1, 2, 640, 641, 1279, 1281, 5000] {
                    let plan = Plan::new(size(width, 640), Request::Longest(longest), scales)
                        .expect("a plan");
                    assert!(plan.enlarged().covers(plan.target), "{plan:?}");
                    let without_last: usize = plan.passes.iter().rev().skip(1).product();
                    let needed = !plan.input.times(without_last).covers(plan.target);
                    assert!(plan.passes.is_empty() || needed, "{plan:?}");
                }
            }
        }
    }

    #[test]
    fn one_pass_is_plain_however_it_is_asked_for() {
        let input = size(30, 20);
        for (request, scales) in [
            (Request::OnePass, &[2][..]),
            (Request::Scale(2), &[2, 3]),
            (Request::Factor(2.0), &[3, 2]),
            (Request::Width(60), &[2, 3]),
            (Request::Exactly(size(60, 40)), &[2]),
        ] {
            let plan = Plan::new(input, request, scales).expect("a plan");
            assert_eq!(plan.only_pass(), Some(2), "{request:?}");
        }
        let same = Plan::new(input, Request::OnePass, &[1]).expect("a plan");
        assert_eq!((same.only_pass(), same.target), (Some(1), input));
        for (longest, words) in [
            (90, "x2, x2, resized from 120 x 80"),
            (30, "as large before"),
            (15, "resized from 30 x 20"),
        ] {
            let plan = Plan::new(input, Request::Longest(longest), &[2]).expect("a plan");
            assert_eq!((plan.only_pass(), plan.to_string().as_str()), (None, words));
        }
    }

    #[test]
    fn sizes_parse() {
        assert_eq!("3840x2160".parse(), Ok(size(3840, 2160)));
        for wrong in ["3840", "0x5", "5x", "axb", "-3x4", "3x4x5", "4294967296x1"] {
            wrong.parse::<Size>().expect_err(wrong);
        }
        for wrong in ["0", "-1", "nan", "inf", "two", "1e400"] {
            parse_factor(wrong).expect_err(wrong);
        }
        assert_eq!(parse_factor("2.7"), Ok(2.7));
        parse_scale("5").expect_err("--factor is for that");
    }
}
