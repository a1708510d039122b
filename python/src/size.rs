//! The size that a caller requests.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use wdsr_upscale::{MAX_SIDE_PX, Size, SizeRequest};

/// The request by one of `factor`, `width`, `height`, `longest` and `size` (width, height); without any,
/// what one pass of the model makes.
pub(crate) fn request(
    factor: Option<f64>,
    width: Option<i64>,
    height: Option<i64>,
    longest: Option<i64>,
    size: Option<(i64, i64)>,
) -> PyResult<SizeRequest> {
    let given: Vec<(&str, SizeRequest)> = [
        ("factor", factor.map(parse_factor)),
        (
            "width",
            width.map(|px| side("width", px).map(SizeRequest::Width)),
        ),
        (
            "height",
            height.map(|px| side("height", px).map(SizeRequest::Height)),
        ),
        (
            "longest",
            longest.map(|px| side("longest", px).map(SizeRequest::Longest)),
        ),
        ("size", size.map(parse_size)),
    ]
    .into_iter()
    .filter_map(|(name, request)| Some((name, request?)))
    .map(|(name, request)| Ok((name, request?)))
    .collect::<PyResult<_>>()?;
    match given[..] {
        [] => Ok(SizeRequest::OnePass),
        [(_, request)] => Ok(request),
        [(first, _), (second, _), ..] => Err(PyValueError::new_err(format!(
            "{first} and {second} are given, expected one of factor, width, height, longest, size"
        ))),
    }
}

fn parse_factor(factor: f64) -> PyResult<SizeRequest> {
    if factor.is_finite() && factor > 0.0 {
        return Ok(SizeRequest::Factor(factor));
    }
    Err(PyValueError::new_err(format!(
        "factor is {factor}, expected a number above 0"
    )))
}

fn parse_size((width, height): (i64, i64)) -> PyResult<SizeRequest> {
    Ok(SizeRequest::Exactly(Size {
        width_px: side("width of size", width)?,
        height_px: side("height of size", height)?,
    }))
}

fn side(name: &str, px: i64) -> PyResult<usize> {
    usize::try_from(px)
        .ok()
        .filter(|px| (1..=MAX_SIDE_PX).contains(px))
        .ok_or_else(|| {
            PyValueError::new_err(format!(
                "{name} is {px}, expected 1 to {MAX_SIDE_PX} pixels"
            ))
        })
}
