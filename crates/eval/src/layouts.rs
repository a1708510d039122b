//! Folder layouts of test sets: which low-resolution image belongs to which high-resolution one.
//!
//! Known layouts, for x2, in any case:
//! - `HR/` or `GT/` beside `LR_bicubic/X2/`, `LR_x2/`, `LRbicx2/`, `LR/`, `LQ/` or `X2/`: Set5 and
//!   similar sets (`baby.png`, and `baby.png` or `babyx2.png`), RealSR and RealESRGAN; `GTmod12/` beside
//!   `LRbicx2/`: BasicSR; `target/` beside `input/`
//! - `NAME_HR/` beside `NAME_LR_bicubic/X2/`, with NAME `DIV2K_valid`, `DIV2K_train` or
//!   `Flickr2K` (`0801.png`, `0801x2.png`); also `NAME_LR_bicubic_X2/` and `NAME_LR_x8/`
//!   (`0801x8.png`); the realistic tracks of NTIRE 2018 in `NAME_LR_mild/` (`0801x4m.png`),
//!   `NAME_LR_difficult/` (`0801x4d.png`) and `NAME_LR_wild/` (`0801x4w1.png` to `w4`, or `0801x4w.png`);
//!   the track of unknown downscaling of NTIRE 2017 in `NAME_LR_unknown/X2/` (`0801x2.png`)
//! - `NAME_HR.png` beside `NAME_LR2.png` in one folder: RealSR; in `image_SRF_2/`: SelfExSR
//! - any other folder of images, and its subfolders: all high resolution
//!
//! The folder given is the one that contains them, or that of the originals itself.
//!
//! If there is no folder of low-resolution images, or only of other scales, `imresize` computes them.
//! Images are never paired by guess: one without its counterpart is an error, and so are
//! low-resolution images in a layout that is not known.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wdsr_image::images_in;
use wdsr_image::imresize::Rounding;

use crate::error::Error;
use crate::pairs::Pair;
use crate::recognition::{FileKind, Layout, recognise, refuse_low_among, stem_of};

/// How low-resolution images were computed. The realistic tracks of NTIRE 2018 are x4 only. Their
/// images are shifted against the originals; that is not corrected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Track {
    /// Downscaled by bicubic interpolation.
    #[default]
    Bicubic,
    /// NTIRE 2017, downscaling by an unknown kernel (x2, x3, x4).
    Unknown,
    /// NTIRE 2018, realistic mild (x4).
    Mild,
    /// NTIRE 2018, realistic difficult (x4).
    Difficult,
    /// NTIRE 2018, realistic wild (x4); four low-resolution images for each training image.
    Wild,
}

impl Track {
    pub(crate) const ALL: [Self; 5] = [
        Self::Bicubic,
        Self::Unknown,
        Self::Mild,
        Self::Difficult,
        Self::Wild,
    ];

    /// Whether it is one of the realistic tracks of NTIRE 2018.
    pub(crate) fn is_realistic(self) -> bool {
        matches!(self, Self::Mild | Self::Difficult | Self::Wild)
    }

    /// The suffixes after `x4` in the names of its images.
    fn name_suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Bicubic | Self::Unknown => &[""],
            Self::Mild => &["m"],
            Self::Difficult => &["d"],
            Self::Wild => &["w", "w1", "w2", "w3", "w4"],
        }
    }
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bicubic => "bicubic",
            Self::Unknown => "unknown",
            Self::Mild => "mild",
            Self::Difficult => "difficult",
            Self::Wild => "wild",
        })
    }
}

/// A text that is not the name of a track.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected bicubic, unknown, mild, difficult or wild, found `{0}`")]
pub struct UnknownTrack(pub String);

impl FromStr for Track {
    type Err = UnknownTrack;

    fn from_str(text: &str) -> Result<Self, UnknownTrack> {
        let found = Self::ALL
            .into_iter()
            .find(|track| track.to_string() == text);
        found.ok_or_else(|| UnknownTrack(text.to_owned()))
    }
}

/// Finds the pairs of a folder, sorted by name. A pair of the wild track is named after its
/// low-resolution image, because several share an original.
///
/// # Errors
/// If the folder cannot be read, has no images, contains several sets, has images without their
/// counterpart, or has no low-resolution images of the track (bicubic ones can be computed).
///
/// # Panics
/// If the scale is 0.
pub fn find_pairs(folder: &Path, scale: usize, track: Track) -> Result<Vec<Pair>, Error> {
    let (pairs, problems) = find_pairs_and_problems(folder, scale, track)?;
    match problems.into_iter().next() {
        Some(problem) => Err(problem),
        None => Ok(pairs),
    }
}

/// Finds the pairs of a folder as [`find_pairs`], and returns the errors of images that have no
/// counterpart beside the pairs of the others.
///
/// # Errors
/// If the folder cannot be read, has no images, contains several sets or has no low-resolution images
/// of the track.
///
/// # Panics
/// If the scale is 0.
pub fn find_pairs_and_problems(
    folder: &Path,
    scale: usize,
    track: Track,
) -> Result<(Vec<Pair>, Vec<Error>), Error> {
    assert!(scale > 0, "scale {scale}");
    if track.is_realistic() && scale != 4 {
        let reason = format!(
            "the {track} track has x4 images only, expected x4, found x{scale}; use a model of x4"
        );
        return Err(layout(folder, reason));
    }
    let (high_folder, low_folder) = match recognise(folder, scale, track)? {
        Layout::Folders { high, low } => (high, low),
        Layout::Files(files) => return paired_files(&files, scale),
        Layout::Originals => return Ok((all_high(folder, scale)?, Vec::new())),
    };
    let mut problems = Vec::new();
    let high = by_stem(&high_folder, &mut problems)?;
    let Some(low_folder) = low_folder else {
        let pairs = high
            .into_iter()
            .map(|(name, high)| pair(name, high, None, scale));
        return Ok((pairs.collect(), problems));
    };
    let mut pairs = BTreeMap::new();
    let mut paired = BTreeSet::new();
    for (low_stem, low) in by_stem(&low_folder, &mut problems)? {
        // The name of an original can end with a marker, as `linux2`.
        let original = without_marker(&low_stem, scale, track)
            .into_iter()
            .chain([low_stem.as_str()])
            .find_map(|name| high.get_key_value(name))
            .or_else(|| of_low_name(&low_stem, &high));
        let Some((stem, found)) = original else {
            let reason = format!(
                "no high-resolution image for it in {}; add it, or remove this one",
                high_folder.display()
            );
            problems.push(layout(&low, reason));
            continue;
        };
        paired.insert(stem.clone());
        let name = match track {
            Track::Wild => low_stem,
            _ => stem.clone(),
        };
        let new = pair(name.clone(), found.clone(), Some(low.clone()), scale);
        if let Some(other) = pairs.insert(name, new) {
            let other = other.low.unwrap_or_default();
            let reason = format!(
                "{} is also a low-resolution image of {}; remove one of them",
                other.display(),
                found.display()
            );
            problems.push(layout(&low, reason));
        }
    }
    for (_, alone) in high.iter().filter(|(stem, _)| !paired.contains(*stem)) {
        let reason = format!(
            "no low-resolution image for it in {}; add it, or remove this one",
            low_folder.display()
        );
        problems.push(layout(alone, reason));
    }
    Ok((pairs.into_values().collect(), problems))
}

fn pair(name: String, high: PathBuf, low: Option<PathBuf>, scale: usize) -> Pair {
    Pair {
        name,
        high,
        low,
        scale,
        low_rounding: Rounding::default(),
    }
}

pub(crate) fn layout(path: &Path, reason: String) -> Error {
    Error::Layout {
        path: path.to_owned(),
        reason,
    }
}

/// All images of a folder and its subfolders as high-resolution images.
fn all_high(folder: &Path, scale: usize) -> Result<Vec<Pair>, Error> {
    let images = images_in(folder, true)?;
    refuse_low_among(folder, &images)?;
    let pair_of = |high: PathBuf| {
        let below = high.strip_prefix(folder).unwrap_or(&high);
        let name = below.with_extension("").to_string_lossy().into_owned();
        pair(name, high, None, scale)
    };
    Ok(images.into_iter().map(pair_of).collect())
}

/// The pairs of a folder with both images of each, `NAME_HR.png` and `NAME_LR2.png`.
fn paired_files(folder: &Path, scale: usize) -> Result<(Vec<Pair>, Vec<Error>), Error> {
    let mut problems = Vec::new();
    let (mut high, mut low, mut others) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for path in images_in(folder, false)? {
        let (images, name) = match FileKind::of(&stem_of(&path)) {
            FileKind::High { name } => (&mut high, name),
            FileKind::Low {
                name,
                scale: of_name,
            } if of_name.is_none_or(|of_name| of_name == scale) => (&mut low, name),
            FileKind::Low { .. } => continue,
            FileKind::Other => {
                others.push(path);
                continue;
            }
        };
        if let Some(other) = images.insert(name, path.clone()) {
            let reason = format!(
                "{} is of the same image; remove one of them",
                other.display()
            );
            problems.push(layout(&path, reason));
        }
    }
    for path in others {
        // The results of methods stand beside the images of SelfExSR.
        let stem = stem_of(&path);
        if !high
            .keys()
            .any(|name| stem.starts_with(&format!("{name}_")))
        {
            let reason = "expected NAME_HR or NAME_LR among such images; remove it".to_owned();
            problems.push(layout(&path, reason));
        }
    }
    let mut pairs = Vec::new();
    for (name, high) in high {
        match low.remove(&name) {
            Some(low) => pairs.push(pair(name, high, Some(low), scale)),
            None => {
                let reason = format!("no low-resolution image {name}_LR{scale} beside it; add it");
                problems.push(layout(&high, reason));
            }
        }
    }
    for low in low.into_values() {
        let reason = "no high-resolution image for it; add it, or remove this one".to_owned();
        problems.push(layout(&low, reason));
    }
    Ok((pairs, problems))
}

/// The original `NAME_HR` or `NAME` of a low-resolution image `NAME_LR`.
fn of_low_name<'h>(
    low_stem: &str,
    high: &'h BTreeMap<String, PathBuf>,
) -> Option<(&'h String, &'h PathBuf)> {
    let FileKind::Low { name, .. } = FileKind::of(&low_stem.to_lowercase()) else {
        return None;
    };
    high.iter().find(|(stem, _)| {
        let stem = stem.to_lowercase();
        stem == name || matches!(FileKind::of(&stem), FileKind::High { name: own } if own == name)
    })
}

/// Where the low-resolution images of pairs come from: their folders, or `imresize`.
pub fn describe_low_images<'p>(pairs: impl IntoIterator<Item = &'p Pair>) -> String {
    let folders: BTreeSet<Option<&Path>> = pairs
        .into_iter()
        .map(|pair| pair.low.as_deref().and_then(Path::parent))
        .collect();
    let of_folder = |folder: &Option<&Path>| match folder {
        Some(folder) => folder.display().to_string(),
        None => "computed by imresize".to_owned(),
    };
    folders.iter().map(of_folder).collect::<Vec<_>>().join("; ")
}

/// The images of a folder by their name without suffix; the first one if several share it.
fn by_stem(folder: &Path, problems: &mut Vec<Error>) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut images = BTreeMap::new();
    for path in images_in(folder, false)? {
        let stem = path.file_stem().unwrap_or_default();
        let stem = stem.to_string_lossy().into_owned();
        match images.entry(stem) {
            Entry::Vacant(place) => {
                place.insert(path);
            }
            Entry::Occupied(other) => {
                let reason = format!(
                    "{} has the same name except for the suffix; remove one of them",
                    other.get().display()
                );
                problems.push(layout(&path, reason));
            }
        }
    }
    Ok(images)
}

/// `0801` for `0801x4m`, `baby` for `babyx2`; none if the name has no such suffix.
fn without_marker(stem: &str, scale: usize, track: Track) -> Option<&str> {
    track
        .name_suffixes()
        .iter()
        .find_map(|end| stem.strip_suffix(&format!("x{scale}{end}")))
}
