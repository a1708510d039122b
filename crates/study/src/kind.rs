use std::fmt;

use serde::{Deserialize, Serialize};

/// A published table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StudyKind {
    /// EDSR, WDSR-A and WDSR-B at 1, 3, 5 and 8 blocks: the paper's table (README of
    /// JiahuiYu/wdsr_ntire2018). With fewer updates than the paper's, EDSR is also trained at WDSR's
    /// rate, as a short training with its own rate, a tenth of WDSR's, lags behind.
    Depth,
    /// Weight normalisation, batch normalisation and none, each at 1e-3 and 1e-4 (section 3.3 of
    /// the paper; issues #1 and #15).
    Norm,
    /// The width of the activation at equal parameters (sections 3.1 and 3.2; issue #26).
    Width,
    /// Optional keys of a recipe, each alone, on one WDSR-B.
    Gains,
}

impl fmt::Display for StudyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Depth => "depth",
            Self::Norm => "norm",
            Self::Width => "width",
            Self::Gains => "gains",
        })
    }
}
