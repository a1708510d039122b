//! Which metadata is copied, and the warnings about what is not.

use std::collections::HashSet;

use wdsr_image::MetadataPolicy;

/// [`MetadataPolicy`] as an argument.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum MetadataChoice {
    /// All that the result's format can hold
    Keep,
    /// Only what defines the colours, such as the ICC profile
    Strip,
    /// All but the location in EXIF, XMP and texts (place names and a camera maker's own note stay)
    StripGps,
}

impl MetadataChoice {
    pub(super) fn policy(self) -> MetadataPolicy {
        match self {
            Self::Keep => MetadataPolicy::Keep,
            Self::Strip => MetadataPolicy::Strip,
            Self::StripGps => MetadataPolicy::StripGps,
        }
    }
}

/// Warns of dropped metadata once in a batch: thousands of images of one camera lose the same.
#[derive(Default)]
pub(super) struct Warnings {
    shown: HashSet<String>,
}

impl Warnings {
    /// The warnings about an image that were not shown before.
    pub(super) fn new_ones(
        &mut self,
        name: &str,
        dropped: &[String],
        is_batch: bool,
    ) -> Vec<String> {
        let once = if is_batch {
            " (shown once; see --report)"
        } else {
            ""
        };
        let fresh = dropped
            .iter()
            .filter(|line| self.shown.insert((*line).clone()));
        fresh
            .map(|line| format!("{name}: dropped {line}{once}"))
            .collect()
    }
}
