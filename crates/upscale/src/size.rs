//! The size of a result, and the passes of networks that make it.

use std::fmt;

use wdsr_image::Image;

/// Longest side of a result in pixels: no format of images holds more.
pub const MAX_SIDE_PX: usize = u32::MAX as usize;

/// A requested size. Sides have 1 to [`MAX_SIDE_PX`] pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SizeRequest {
    /// What one pass of the first network makes.
    OnePass,
    /// Both sides times this factor, rounded to nearest; finite and above 0, also below 1.
    Factor(f64),
    /// This width, the height in proportion.
    Width(usize),
    /// This height, the width in proportion.
    Height(usize),
    /// This length of the longer side, the other in proportion.
    Longest(usize),
    /// This size, which may stretch the image by less than a pixel.
    Exactly(Size),
}

/// Width and height of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels in a row.
    pub width_px: usize,
    /// Rows.
    pub height_px: usize,
}

impl Size {
    /// The size of an image.
    pub fn of(image: &Image) -> Self {
        Self {
            width_px: image.width_px,
            height_px: image.height_px,
        }
    }

    fn times(self, factor: usize) -> Self {
        Self {
            width_px: self.width_px.saturating_mul(factor),
            height_px: self.height_px.saturating_mul(factor),
        }
    }

    fn covers(self, other: Self) -> bool {
        self.width_px >= other.width_px && self.height_px >= other.height_px
    }

    /// Width times height.
    pub fn pixels(self) -> u128 {
        self.width_px as u128 * self.height_px as u128
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.width_px, self.height_px)
    }
}

/// Why there is no [`Plan`] for a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// The requested size has other proportions than the image.
    #[error(
        "{requested} would stretch its {input}; a width of {} gives {by_width}, a height of {} gives \
         {by_height}",
        requested.width_px, requested.height_px
    )]
    Stretches {
        /// The image's size.
        input: Size,
        /// The requested size.
        requested: Size,
        /// The size of that width in the image's proportions.
        by_width: Size,
        /// The size of that height in the image's proportions.
        by_height: Size,
    },
    /// No format can hold the result.
    #[error(
        "a side of the result would have more than {MAX_SIDE_PX} pixels, which no format holds"
    )]
    TooLarge,
    /// All networks have scale 1.
    #[error(
        "{requested} is more than its {input}, and the network has scale 1; use another network"
    )]
    NotUpscaling {
        /// The image's size.
        input: Size,
        /// The requested size.
        requested: Size,
    },
}

/// How an image of one size gets another: passes of networks, then a reduction if they make more than
/// was requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    input: Size,
    passes: Vec<usize>,
    target: Size,
}

impl Plan {
    /// Chooses the fewest passes of networks of the given scales that reach the requested size, and of
    /// those the passes that exceed it least. Smaller scales come first: that is better and less work
    /// (`docs/experiments/upscaling.md`). An image at least as large as requested goes through a network of
    /// scale 1, which restores it, or through none.
    ///
    /// # Errors
    /// If the size would stretch the image, no format can hold it, or it is larger than the image and
    /// no scale is above 1.
    ///
    /// # Panics
    /// If no scale is given or one is 0, a side of the image is 0, or the request is out of its range.
    pub fn new(input: Size, request: SizeRequest, scales: &[usize]) -> Result<Self, SizeError> {
        assert!(
            !scales.is_empty() && !scales.contains(&0),
            "networks of scales {scales:?}"
        );
        assert!(input.pixels() > 0, "empty image: {input}");
        if request == SizeRequest::OnePass {
            let target = input.times(scales[0]);
            return Ok(Self {
                input,
                passes: vec![scales[0]],
                target,
            });
        }
        let target = target(input, request)?;
        let mut passes = passes(input, target, scales)?;
        if passes.is_empty() && scales.contains(&1) {
            passes.push(1);
        }
        Ok(Self {
            input,
            passes,
            target,
        })
    }

    /// The size of the input.
    pub fn input(&self) -> Size {
        self.input
    }

    /// The scales of the networks in the order of the passes.
    pub fn passes(&self) -> &[usize] {
        &self.passes
    }

    /// The size of the result.
    pub fn target(&self) -> Size {
        self.target
    }

    /// The scale, if one pass of a network makes the result.
    pub fn only_pass(&self) -> Option<usize> {
        match self.passes[..] {
            [scale] if !self.is_resized() => Some(scale),
            _ => None,
        }
    }

    /// The size before each pass, and after the last.
    pub(crate) fn sizes(&self) -> Vec<Size> {
        let mut sizes = vec![self.input];
        for &scale in &self.passes {
            sizes.push(sizes[sizes.len() - 1].times(scale));
        }
        sizes
    }

    /// The size after the passes.
    pub(crate) fn upscaled(&self) -> Size {
        self.input.times(self.passes.iter().product())
    }

    /// Whether the passes end in another size than the result's.
    pub(crate) fn is_resized(&self) -> bool {
        self.upscaled() != self.target
    }
}

/// The steps, such as `x2, x2, resized from 400 x 400`.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps: Vec<String> = self
            .passes
            .iter()
            .map(|scale| format!("x{scale}"))
            .collect();
        if self.is_resized() {
            steps.push(format!("resized from {}", self.upscaled()));
        } else if steps.is_empty() {
            steps.push("already that size".to_owned());
        }
        f.write_str(&steps.join(", "))
    }
}

/// The size of the result. A side that follows in proportion has at least one pixel.
fn target(input: Size, request: SizeRequest) -> Result<Size, SizeError> {
    let Size {
        width_px,
        height_px,
    } = input;
    let in_range = match request {
        SizeRequest::OnePass => true,
        SizeRequest::Factor(factor) => factor.is_finite() && factor > 0.0,
        SizeRequest::Width(side) | SizeRequest::Height(side) | SizeRequest::Longest(side) => {
            (1..=MAX_SIDE_PX).contains(&side)
        }
        SizeRequest::Exactly(size) => [size.width_px, size.height_px]
            .iter()
            .all(|side| (1..=MAX_SIDE_PX).contains(side)),
    };
    assert!(
        in_range,
        "{request:?}, expected a factor above 0 or sides of 1 to {MAX_SIDE_PX} pixels"
    );
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
        SizeRequest::OnePass => input,
        SizeRequest::Factor(factor) => Size {
            width_px: times(width_px, factor),
            height_px: times(height_px, factor),
        },
        SizeRequest::Width(width) => by_width(width),
        SizeRequest::Height(height) => by_height(height),
        SizeRequest::Longest(longest) if width_px >= height_px => by_width(longest),
        SizeRequest::Longest(longest) => by_height(longest),
        SizeRequest::Exactly(size) => {
            let crossed = [
                size.width_px as u128 * height_px as u128,
                size.height_px as u128 * width_px as u128,
            ];
            // Within a pixel of the proportional height, or width.
            if crossed[0].abs_diff(crossed[1]) > width_px.max(height_px) as u128 {
                return Err(SizeError::Stretches {
                    input,
                    requested: size,
                    by_width: by_width(size.width_px),
                    by_height: by_height(size.height_px),
                });
            }
            size
        }
    };
    if target.width_px.max(target.height_px) > MAX_SIDE_PX {
        return Err(SizeError::TooLarge);
    }
    Ok(target)
}

/// The fewest passes, then those of the smallest product, that upscale `input` to `target` or more.
fn passes(input: Size, target: Size, scales: &[usize]) -> Result<Vec<usize>, SizeError> {
    // Every choice of so many passes once: scales in ascending order.
    let mut choices: Vec<Vec<usize>> = vec![Vec::new()];
    loop {
        let product =
            |passes: &&Vec<usize>| passes.iter().fold(1, |p: usize, s| p.saturating_mul(*s));
        let reaching = choices
            .iter()
            .filter(|passes| input.times(product(passes)).covers(target));
        if let Some(best) = reaching.min_by_key(product) {
            return Ok(best.clone());
        }
        let more = choices.iter().flat_map(|passes| {
            let last = passes.last().copied().unwrap_or(0);
            let next = scales
                .iter()
                .filter(move |scale| **scale > 1 && **scale >= last);
            next.map(|scale| [&passes[..], &[*scale]].concat())
        });
        choices = more.collect();
        if choices.is_empty() {
            return Err(SizeError::NotUpscaling {
                input,
                requested: target,
            });
        }
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
            (SizeRequest::Factor(2.0), size(1200, 802)),
            (SizeRequest::Factor(8.0), size(4800, 3208)),
            (SizeRequest::Factor(2.7), size(1620, 1083)),
            (SizeRequest::Factor(0.0001), size(1, 1)),
            (SizeRequest::Width(1000), size(1000, 668)),
            (SizeRequest::Height(1000), size(1496, 1000)),
            (SizeRequest::Longest(1000), size(1000, 668)),
            (SizeRequest::Exactly(size(1200, 803)), size(1200, 803)),
            (SizeRequest::Exactly(size(1200, 801)), size(1200, 801)),
        ];
        for (request, expected) in cases {
            assert_eq!(target(input, request), Ok(expected), "{request:?}");
        }
        let upright = target(size(401, 600), SizeRequest::Longest(1000));
        assert_eq!(upright, Ok(size(668, 1000)));
        assert_eq!(target(size(5, 1), SizeRequest::Width(2)), Ok(size(2, 1)));
    }

    #[test]
    fn a_size_that_stretches_is_refused_with_sizes_that_do_not() {
        let request = SizeRequest::Exactly(size(800, 800));
        let error = target(size(600, 400), request).expect_err("stretched");
        let words = "800 x 800 would stretch its 600 x 400; a width of 800 gives 800 x 533, a height \
                     of 800 gives 1200 x 800";
        assert_eq!(error.to_string(), words);
        let error = target(size(600, 401), SizeRequest::Exactly(size(1200, 805)));
        error.expect_err("three pixels off");
        for request in [SizeRequest::Factor(1e300), SizeRequest::Width(MAX_SIDE_PX)] {
            target(size(3, 10), request).expect_err("more than any format holds");
        }
    }

    #[test]
    fn passes_are_few_and_make_little_more() {
        let of = |factor: f64, scales: &[usize]| {
            let plan = Plan::new(size(100, 80), SizeRequest::Factor(factor), scales);
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
                    let plan = Plan::new(size(width, 640), SizeRequest::Longest(longest), scales)
                        .expect("a plan");
                    assert!(plan.upscaled().covers(plan.target), "{plan:?}");
                    let without_last: usize = plan.passes.iter().rev().skip(1).product();
                    let needed = !plan.input.times(without_last).covers(plan.target);
                    assert!(plan.passes.is_empty() || needed, "{plan:?}");
                }
            }
        }
    }

    #[test]
    fn one_pass_is_plain_however_it_is_requested() {
        let input = size(30, 20);
        for (request, scales) in [
            (SizeRequest::OnePass, &[2][..]),
            (SizeRequest::Factor(2.0), &[3, 2]),
            (SizeRequest::Width(60), &[2, 3]),
            (SizeRequest::Exactly(size(60, 40)), &[2]),
        ] {
            let plan = Plan::new(input, request, scales).expect("a plan");
            assert_eq!(plan.only_pass(), Some(2), "{request:?}");
        }
        let same = Plan::new(input, SizeRequest::OnePass, &[1]).expect("a plan");
        assert_eq!((same.only_pass(), same.target), (Some(1), input));
        for (longest, words) in [
            (90, "x2, x2, resized from 120 x 80"),
            (30, "already that size"),
            (15, "resized from 30 x 20"),
        ] {
            let plan = Plan::new(input, SizeRequest::Longest(longest), &[2]).expect("a plan");
            assert_eq!((plan.only_pass(), plan.to_string().as_str()), (None, words));
        }
    }

    #[test]
    fn a_network_that_does_not_upscale_makes_nothing_larger() {
        let (input, requested) = (size(30, 20), size(60, 40));
        let error = Plan::new(input, SizeRequest::Width(60), &[1]).expect_err("larger");
        assert_eq!(error, SizeError::NotUpscaling { input, requested });
        // It restores the image first.
        let plan = Plan::new(input, SizeRequest::Width(15), &[1]).expect("smaller");
        assert_eq!(plan.to_string(), "x1, resized from 30 x 20");
        let plan = Plan::new(input, SizeRequest::Factor(1.0), &[2, 1]).expect("as large");
        assert_eq!(
            (plan.only_pass(), plan.to_string().as_str()),
            (Some(1), "x1")
        );
        let plan = Plan::new(input, SizeRequest::Factor(2.0), &[2, 1]).expect("larger");
        assert_eq!(plan.passes(), [2]);
    }

    #[test]
    #[should_panic(expected = "Factor(NaN), expected a factor above 0")]
    fn a_factor_that_is_no_number_is_a_bug() {
        let _ = Plan::new(size(30, 20), SizeRequest::Factor(f64::NAN), &[2]);
    }
}
