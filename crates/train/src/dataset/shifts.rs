//! Shifts of low-resolution images against their originals, known or estimated.

use std::collections::BTreeMap;

use wdsr_data::align::{
    Grey, Line, Motion, Placement, Registration, Rejection, Verdict, read_report, register,
};

use super::cache::PairSource;
use crate::error::Error;
use crate::recipe::Shifts;

/// Where the shifts come from.
pub(super) enum ShiftSource {
    /// The images are aligned.
    None,
    /// Each pair is registered.
    Estimated,
    /// Lines of reports, by the names of the pairs.
    Reports(BTreeMap<String, Line>),
}

/// How the low-resolution image of a pair lies against its original.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageShift {
    /// Name of the pair.
    pub name: String,
    /// Where it lies.
    pub placement: Placement,
}

impl ImageShift {
    /// That of a pair, if it is corrected.
    pub(super) fn of(source: &PairSource) -> Option<Self> {
        let (placement, _) = source.alignment?;
        let name = source.pair.name.clone();
        Some(Self { name, placement })
    }
}

/// Why a pair cannot be used with `data.shifts`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AlignmentProblem {
    /// Its low-resolution image is computed from the original.
    #[error(
        "data.shifts is set, but there is no low-resolution image for it; remove data.shifts, or give \
         pairs (data.track names those of NTIRE 2018)"
    )]
    NoLowImage,
    /// Its shift cannot be estimated.
    #[error(
        "data.shifts = \"estimate\" failed: {0}; remove the pair, or run wdsr data align, which skips \
         such pairs, and train on its folder without data.shifts"
    )]
    Rejected(Rejection),
    /// Nothing is left of it.
    #[error("data.shifts leaves nothing of it; remove the pair")]
    NoCommonPart,
    /// No report has a line for it.
    #[error(
        "the reports of data.shifts have no line for {name} at x{scale}; add the report of wdsr data \
         align for its folder"
    )]
    NotInReports {
        /// Name of the pair.
        name: String,
        /// Its scale.
        scale: usize,
    },
}

impl ShiftSource {
    pub(super) fn new(shifts: Option<&Shifts>) -> Result<Self, Error> {
        let Some(shifts) = shifts else {
            return Ok(Self::None);
        };
        let Shifts::Reports(paths) = shifts else {
            return Ok(Self::Estimated);
        };
        let mut lines = BTreeMap::new();
        for path in paths {
            lines.extend(read_report(path)?);
        }
        Ok(Self::Reports(lines))
    }

    /// The pair with its alignment; none if its report says that it cannot be aligned.
    pub(super) fn align(&self, mut source: PairSource) -> Result<Option<PairSource>, Error> {
        if matches!(self, Self::None) {
            return Ok(Some(source));
        }
        let pair = &source.pair;
        let path = pair.low.as_ref().unwrap_or(&pair.high).clone();
        let fails = |problem| Error::Alignment {
            image: path.clone(),
            problem,
        };
        if pair.low.is_none() {
            return Err(fails(AlignmentProblem::NoLowImage));
        }
        let found = match self {
            Self::None | Self::Estimated => estimate(&source)?
                .map_err(|rejection| fails(AlignmentProblem::Rejected(rejection)))?,
            Self::Reports(lines) => {
                let (name, scale) = (&pair.name, pair.scale);
                let line = lines.get(name).filter(|line| line.scale == scale);
                match line.map(|line| (line.verdict, line.registration)) {
                    Some((Verdict::Aligned, Some(registration))) => registration,
                    Some(_) => return Ok(None),
                    None => {
                        let name = name.clone();
                        return Err(fails(AlignmentProblem::NotInReports { name, scale }));
                    }
                }
            }
        };
        let size = (source.low_width_px, source.low_height_px);
        let high_size = (size.0 * pair.scale, size.1 * pair.scale);
        let placement = found.placement;
        let Some(part) = placement.common_part(size, high_size, pair.scale) else {
            return Err(fails(AlignmentProblem::NoCommonPart));
        };
        source.low_width_px = part.width_px;
        source.low_height_px = part.height_px;
        source.alignment = Some((placement, part));
        Ok(Some(source))
    }
}

/// Registers a pair.
fn estimate(source: &PairSource) -> Result<Result<Registration, Rejection>, Error> {
    let pair = source.load()?;
    let (high_width_px, high_height_px) = pair.high_size_px();
    let low = Grey::of_rgb8(&pair.low, pair.low_width_px, pair.low_height_px);
    let high = Grey::of_rgb8(&pair.high, high_width_px, high_height_px);
    Ok(register(&low, &high, pair.scale, Motion::Shift))
}
