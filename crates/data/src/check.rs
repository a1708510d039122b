//! Finds unusable images in the folders of a dataset.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::Serialize;
use wdsr_eval::{ImagePair, Pair, Track, describe_low_images, find_pairs_and_problems};

use crate::error::Error;
use crate::perceptual_hash::PerceptualHash;

/// Maximum of differing bits, of 128, between near-duplicates. Over 796 photographs, halving and saving
/// as JPEG changed up to 9 bits; any two of them differ in at least 16.
const NEAR_BITS: u32 = 9;
/// Maximum of differing bits between the images of a pair, including shifted and degraded ones.
const PAIR_BITS: u32 = 40;
/// Maximum factor between the aspect ratios of near-duplicates.
const NEAR_ASPECT: f64 = 1.05;

/// Kind of a problem with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The file cannot be read.
    Broken,
    /// The low-resolution image has no original, another one's content, or a wrong size.
    WronglyPaired,
    /// The image is smaller than a patch.
    TooSmall,
    /// The image has no colour.
    Grey,
    /// The image has the same pixels as another.
    Duplicate,
    /// The image looks like another.
    NearDuplicate,
}

impl ProblemKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Broken,
        Self::WronglyPaired,
        Self::TooSmall,
        Self::Grey,
        Self::Duplicate,
        Self::NearDuplicate,
    ];
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Broken => "broken",
            Self::WronglyPaired => "wrongly paired",
            Self::TooSmall => "too small",
            Self::Grey => "grey",
            Self::Duplicate => "duplicate",
            Self::NearDuplicate => "near-duplicate",
        })
    }
}

/// A problem with an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its kind.
    pub kind: ProblemKind,
    /// The image.
    pub path: PathBuf,
    /// What was found, and the remedy.
    pub detail: String,
}

/// Result of a check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckReport {
    /// The folders.
    pub folders: Vec<PathBuf>,
    /// Scale of the pairs.
    pub scale: usize,
    /// Side of a patch in low-resolution pixels.
    pub patch_px: usize,
    /// Where the low-resolution images come from.
    pub low_images: String,
    /// Number of images; a pair counts once.
    pub images: usize,
    /// Number of images that a training can use: not broken, wrongly paired or too small.
    pub usable: usize,
    /// Their high-resolution pixels in millions.
    pub megapixels: f64,
    /// All problems, sorted by kind and path.
    pub problems: Vec<Problem>,
}

impl CheckReport {
    /// Number of problems of a kind.
    pub fn count(&self, kind: ProblemKind) -> usize {
        self.problems.iter().filter(|p| p.kind == kind).count()
    }
}

/// An image as it is compared with the others.
struct ImageDigest {
    path: PathBuf,
    size_px: (usize, usize),
    checksum: u32,
    hash: Option<PerceptualHash>,
}

/// Checks all images of the folders, each in any layout that
/// [`find_pairs`](wdsr_eval::find_pairs) knows; duplicates are found across folders too.
/// Calls `progress` with (images read, all images).
///
/// # Errors
/// If a folder cannot be read or has no images. A problem with an image is not an error.
pub fn check_data(
    folders: &[PathBuf],
    scale: usize,
    track: Track,
    patch_px: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<CheckReport, Error> {
    let mut pairs = Vec::new();
    let mut problems = Vec::new();
    for folder in folders {
        let (found, misfits) = find_pairs_and_problems(folder, scale, track)?;
        pairs.extend(found);
        problems.extend(misfits.into_iter().map(|error| problem_of(folder, error)));
    }
    let images = pairs.len() + problems.len();
    let done = AtomicUsize::new(0);
    let checked: Vec<(Option<ImageDigest>, Vec<Problem>)> = pairs
        .par_iter()
        .map(|pair| {
            let result = check_pair(pair, patch_px);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, pairs.len());
            result
        })
        .collect();
    let mut seen = Vec::new();
    for (image, wrong) in checked {
        seen.extend(image);
        problems.extend(wrong);
    }
    problems.extend(duplicates(&seen));
    let unusable = [
        ProblemKind::Broken,
        ProblemKind::WronglyPaired,
        ProblemKind::TooSmall,
    ];
    let is_unusable = |path: &Path| {
        let mut of_path = problems.iter().filter(|problem| problem.path == path);
        of_path.any(|problem| unusable.contains(&problem.kind))
    };
    let usable: Vec<&ImageDigest> = seen.iter().filter(|s| !is_unusable(&s.path)).collect();
    let pixels: usize = usable.iter().map(|s| s.size_px.0 * s.size_px.1).sum();
    let usable = usable.len();
    problems.sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
    Ok(CheckReport {
        folders: folders.to_owned(),
        scale,
        patch_px,
        low_images: describe_low_images(&pairs),
        images,
        usable,
        megapixels: pixels as f64 / 1e6,
        problems,
    })
}

/// The problem of an image that could not be paired or read.
fn problem_of(folder: &Path, error: wdsr_eval::Error) -> Problem {
    let detail = error.to_string();
    let (kind, path) = match error {
        wdsr_eval::Error::Image(error) => (ProblemKind::Broken, error.path().to_owned()),
        wdsr_eval::Error::SizeMismatch { low, .. } => (ProblemKind::WronglyPaired, low),
        wdsr_eval::Error::Layout { path, .. } => (ProblemKind::WronglyPaired, path),
        wdsr_eval::Error::SmallerThanScale { path, .. }
        | wdsr_eval::Error::TooSmall { path, .. } => (ProblemKind::TooSmall, path),
        _ => (ProblemKind::Broken, folder.to_owned()),
    };
    // The path is printed before the detail.
    let prefix = format!("{}: ", path.display());
    let detail = detail.strip_prefix(&prefix).unwrap_or(&detail).to_owned();
    Problem { kind, path, detail }
}

fn check_pair(pair: &Pair, patch_px: usize) -> (Option<ImageDigest>, Vec<Problem>) {
    let images = match pair.load() {
        Ok(images) => images,
        Err(error) => return (None, vec![problem_of(&pair.high, error)]),
    };
    let mut problems = Vec::new();
    let mut add = |kind, detail: String| {
        let path = pair.high.clone();
        problems.push(Problem { kind, path, detail });
    };
    let (low_width, low_height) = (images.low_width_px, images.low_height_px);
    if low_width.min(low_height) < patch_px {
        add(
            ProblemKind::TooSmall,
            format!(
                "{low_width} x {low_height} low-resolution pixels, expected at least {patch_px} on \
                 each side; a training with such patches skips it"
            ),
        );
    }
    if images.grey {
        add(ProblemKind::Grey, "stored as grey".to_owned());
    } else if images
        .high
        .chunks_exact(3)
        .all(|p| p[0] == p[1] && p[1] == p[2])
    {
        add(ProblemKind::Grey, "all pixels are grey".to_owned());
    }
    let (width, height) = images.high_size_px();
    let hash = PerceptualHash::of(&images.high, width, height);
    if let (Some(low), Some(high)) = (&pair.low, hash) {
        let bits = distance_to_low(&images, high);
        if bits.is_some_and(|bits| bits > PAIR_BITS) {
            problems.push(Problem {
                kind: ProblemKind::WronglyPaired,
                path: low.clone(),
                detail: format!(
                    "does not look like {}; check which original it was made from",
                    pair.high.display()
                ),
            });
        }
    }
    let digest = ImageDigest {
        path: pair.high.clone(),
        size_px: (width, height),
        checksum: crc32c::crc32c(&images.high),
        hash,
    };
    (Some(digest), problems)
}

fn distance_to_low(images: &ImagePair, high: PerceptualHash) -> Option<u32> {
    let (width, height) = (images.low_width_px, images.low_height_px);
    let low = PerceptualHash::of(&images.low, width, height)?;
    Some(low.distance(high))
}

/// The images that equal or resemble an earlier one.
fn duplicates(seen: &[ImageDigest]) -> Vec<Problem> {
    let aspect = |s: &ImageDigest| s.size_px.0 as f64 / s.size_px.1 as f64;
    let near = |a: &ImageDigest, b: &ImageDigest| {
        let (Some(a_hash), Some(b_hash)) = (a.hash, b.hash) else {
            return false;
        };
        let ratio = aspect(a) / aspect(b);
        a_hash.distance(b_hash) <= NEAR_BITS && (1.0 / NEAR_ASPECT..=NEAR_ASPECT).contains(&ratio)
    };
    let mut first_of: HashMap<(u32, (usize, usize)), usize> = HashMap::new();
    let mut problems = Vec::new();
    for (at, image) in seen.iter().enumerate() {
        let first = *first_of
            .entry((image.checksum, image.size_px))
            .or_insert(at);
        let equal = Some(first).filter(|first| *first != at);
        let found = match equal {
            Some(first) => Some((ProblemKind::Duplicate, first)),
            None => {
                let alike = (0..at).find(|before| near(&seen[*before], image));
                alike.map(|before| (ProblemKind::NearDuplicate, before))
            }
        };
        // The wild track has several low-resolution images of an original.
        let found = found.filter(|(_, before)| seen[*before].path != image.path);
        if let Some((kind, before)) = found {
            let other = seen[before].path.display();
            problems.push(Problem {
                kind,
                path: image.path.clone(),
                detail: match kind {
                    ProblemKind::Duplicate => format!("the same pixels as {other}"),
                    _ => format!("looks like {other}"),
                },
            });
        }
    }
    problems
}
