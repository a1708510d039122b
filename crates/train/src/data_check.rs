//! What is wrong with the images of a folder, before a training finds out.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::Serialize;
use wdsr_eval::{ImagePair, Pair, Track, find_pairs_and_problems};

use crate::error::Error;
use crate::perceptual_hash::PerceptualHash;

/// Bits of 128 in which near-duplicates differ at most. Over 796 photographs, halving and saving as
/// JPEG moved 9 at most; no two of them differed in fewer than 16.
const NEAR_BITS: u32 = 9;
/// Bits in which an image and its reduced one differ at most, shifted and degraded ones included.
const PAIR_BITS: u32 = 40;
/// Aspect ratios of near-duplicates differ by this factor at most.
const NEAR_ASPECT: f64 = 1.05;

/// What is wrong with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Cannot be read.
    Broken,
    /// A low-resolution image without its original, with another's, or of another size.
    WronglyPaired,
    /// Smaller than a patch.
    TooSmall,
    /// Has no colour.
    Grey,
    /// The same pixels as another image.
    Duplicate,
    /// Looks like another image.
    NearDuplicate,
}

impl Kind {
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

impl fmt::Display for Kind {
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

/// One thing wrong with one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What.
    pub kind: Kind,
    /// The image.
    pub path: PathBuf,
    /// What was found and what to do.
    pub detail: String,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataReport {
    /// Folders checked.
    pub folders: Vec<PathBuf>,
    /// Scale of the pairs.
    pub scale: usize,
    /// Side of a patch in low-resolution pixels.
    pub patch_px: usize,
    /// Images found, each pair once.
    pub images: usize,
    /// Images that a training can use: neither broken, wrongly paired nor too small.
    pub usable: usize,
    /// High-resolution pixels of those, in millions.
    pub megapixels: f64,
    /// All problems, by kind, then by path.
    pub problems: Vec<Problem>,
}

impl DataReport {
    /// How many problems of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.problems.iter().filter(|p| p.kind == kind).count()
    }
}

/// What is remembered of an image to compare it with the others.
struct Seen {
    path: PathBuf,
    size_px: (usize, usize),
    checksum: u32,
    hash: Option<PerceptualHash>,
}

/// Checks all images of the folders, each in any layout that
/// [`find_pairs`](wdsr_eval::find_pairs) knows; duplicates are found across folders too.
/// `progress` is told (images read, images in all).
///
/// # Errors
/// When a folder cannot be read or holds no images. An image that is wrong is no error.
pub fn check_data(
    folders: &[PathBuf],
    scale: usize,
    track: Track,
    patch_px: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<DataReport, Error> {
    let mut pairs = Vec::new();
    let mut problems = Vec::new();
    for folder in folders {
        let (found, misfits) = find_pairs_and_problems(folder, scale, track)?;
        pairs.extend(found);
        problems.extend(misfits.into_iter().map(|error| of_error(folder, error)));
    }
    let images = pairs.len() + problems.len();
    let done = AtomicUsize::new(0);
    let checked: Vec<(Option<Seen>, Vec<Problem>)> = pairs
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
    let unusable = [Kind::Broken, Kind::WronglyPaired, Kind::TooSmall];
    let is_unusable = |path: &Path| {
        let mut of_path = problems.iter().filter(|problem| problem.path == path);
        of_path.any(|problem| unusable.contains(&problem.kind))
    };
    let usable: Vec<&Seen> = seen.iter().filter(|s| !is_unusable(&s.path)).collect();
    let pixels: usize = usable.iter().map(|s| s.size_px.0 * s.size_px.1).sum();
    let usable = usable.len();
    problems.sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
    Ok(DataReport {
        folders: folders.to_owned(),
        scale,
        patch_px,
        images,
        usable,
        megapixels: pixels as f64 / 1e6,
        problems,
    })
}

/// An error of the pairing or of a file as a problem of the image it names.
fn of_error(folder: &Path, error: wdsr_eval::Error) -> Problem {
    let detail = error.to_string();
    let (kind, path) = match error {
        wdsr_eval::Error::Image(error) => (Kind::Broken, error.path().to_owned()),
        wdsr_eval::Error::SizeMismatch { low, .. } => (Kind::WronglyPaired, low),
        wdsr_eval::Error::Layout { path, .. } => (Kind::WronglyPaired, path),
        wdsr_eval::Error::SmallerThanScale { path, .. }
        | wdsr_eval::Error::TooSmall { path, .. } => (Kind::TooSmall, path),
        _ => (Kind::Broken, folder.to_owned()),
    };
    // The path stands before the detail already.
    let prefix = format!("{}: ", path.display());
    let detail = detail.strip_prefix(&prefix).unwrap_or(&detail).to_owned();
    Problem { kind, path, detail }
}

fn check_pair(pair: &Pair, patch_px: usize) -> (Option<Seen>, Vec<Problem>) {
    let images = match pair.load() {
        Ok(images) => images,
        Err(error) => return (None, vec![of_error(&pair.high, error)]),
    };
    let mut problems = Vec::new();
    let mut add = |kind, detail: String| {
        let path = pair.high.clone();
        problems.push(Problem { kind, path, detail });
    };
    let (low_width, low_height) = (images.low_width_px, images.low_height_px);
    if low_width.min(low_height) < patch_px {
        add(
            Kind::TooSmall,
            format!(
                "{low_width} x {low_height} low-resolution pixels, expected {patch_px} on each \
                 side at least; it is left out of a training with such patches"
            ),
        );
    }
    if images.grey {
        add(Kind::Grey, "stored as grey".to_owned());
    } else if images
        .high
        .chunks_exact(3)
        .all(|p| p[0] == p[1] && p[1] == p[2])
    {
        add(Kind::Grey, "no pixel has a colour".to_owned());
    }
    let (width, height) = images.high_size_px();
    let hash = PerceptualHash::of(&images.high, width, height);
    if let (Some(low), Some(high)) = (&pair.low, hash) {
        let bits = distance_to_low(&images, high);
        if bits.is_some_and(|bits| bits > PAIR_BITS) {
            problems.push(Problem {
                kind: Kind::WronglyPaired,
                path: low.clone(),
                detail: format!(
                    "does not look like {}; check which image it was made from",
                    pair.high.display()
                ),
            });
        }
    }
    let seen = Seen {
        path: pair.high.clone(),
        size_px: (width, height),
        checksum: crc32c::crc32c(&images.high),
        hash,
    };
    (Some(seen), problems)
}

fn distance_to_low(images: &ImagePair, high: PerceptualHash) -> Option<u32> {
    let (width, height) = (images.low_width_px, images.low_height_px);
    let low = PerceptualHash::of(&images.low, width, height)?;
    Some(low.distance(high))
}

/// Every image that an earlier one equals or resembles.
fn duplicates(seen: &[Seen]) -> Vec<Problem> {
    let aspect = |s: &Seen| s.size_px.0 as f64 / s.size_px.1 as f64;
    let near = |a: &Seen, b: &Seen| {
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
            Some(first) => Some((Kind::Duplicate, first)),
            None => {
                let alike = (0..at).find(|before| near(&seen[*before], image));
                alike.map(|before| (Kind::NearDuplicate, before))
            }
        };
        // The wild track has several low-resolution images of one original.
        let found = found.filter(|(_, before)| seen[*before].path != image.path);
        if let Some((kind, before)) = found {
            let other = seen[before].path.display();
            problems.push(Problem {
                kind,
                path: image.path.clone(),
                detail: match kind {
                    Kind::Duplicate => format!("the same pixels as {other}"),
                    _ => format!("looks like {other}"),
                },
            });
        }
    }
    problems
}
