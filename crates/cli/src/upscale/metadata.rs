//! What of an image's metadata goes into the result, and what is said about the rest.

use std::collections::HashSet;

use wdsr_image::{Colour, Format, Metadata, MetadataPolicy};

/// What of the metadata goes into the result.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum MetadataChoice {
    /// All that the result's format holds
    Keep,
    /// What defines the colours, and nothing else
    Strip,
    /// All but the place in EXIF, XMP and texts (not a camera maker's own note, nor place names)
    StripGps,
}

impl MetadataChoice {
    /// As in the manifest.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Strip => "strip",
            Self::StripGps => "strip-gps",
        }
    }

    /// Takes out what is not to be kept of an image of that colour. Returns what is lost against
    /// that choice when it is written as `format`, in words.
    pub(super) fn apply(
        self,
        metadata: &mut Metadata,
        colour: Colour,
        format: Format,
    ) -> Vec<String> {
        let read = std::mem::take(&mut metadata.left_out);
        metadata.apply(match self {
            Self::Keep => MetadataPolicy::Keep,
            Self::Strip => MetadataPolicy::Strip,
            Self::StripGps => MetadataPolicy::StripGps,
        });
        let mut lost = metadata.lost_in(format, colour);
        lost.append(&mut metadata.left_out);
        // What could not be read is no loss where only the colours are wanted.
        let wanted = |line: &String| self != Self::Strip || line.starts_with("ICC profile");
        lost.extend(read.into_iter().filter(wanted));
        lost
    }
}

/// Says each loss once in a batch: thousands of images of one camera lose the same.
#[derive(Default)]
pub(super) struct Losses {
    said: HashSet<String>,
}

impl Losses {
    /// The remarks on an image of that name that are still to be made.
    pub(super) fn remarks(&mut self, name: &str, lost: &[String], is_batch: bool) -> Vec<String> {
        let once = if is_batch {
            " (said once; --report tells it of each image)"
        } else {
            ""
        };
        let fresh = lost.iter().filter(|line| self.said.insert((*line).clone()));
        fresh
            .map(|line| format!("{name}: left out {line}{once}"))
            .collect()
    }
}
