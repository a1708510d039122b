//! Folder layouts of test sets: which low-resolution image belongs to which high-resolution one.
//!
//! Known layouts, for x2:
//! - `HR/` beside `LR_bicubic/X2/`: Set5 and similar sets (`baby.png`, and
//!   `baby.png` or `babyx2.png`)
//! - `NAME_HR/` beside `NAME_LR_bicubic/X2/`, with NAME `DIV2K_valid`, `DIV2K_train` or
//!   `Flickr2K` (`0801.png`, `0801x2.png`); x8 also in `NAME_LR_x8/` (`0801x8.png`); the realistic
//!   tracks of NTIRE 2018 in `NAME_LR_mild/` (`0801x4m.png`), `NAME_LR_difficult/` (`0801x4d.png`)
//!   and `NAME_LR_wild/` (`0801x4w1.png` to `w4`, or `0801x4w.png`). The folder given is the one
//!   that contains them, or `NAME_HR` itself if there are several sets in it
//! - any other folder of images, and its subfolders: all high resolution
//!
//! If there is no folder of low-resolution images, `imresize` computes them. Images are never paired
//! by guess: one without its counterpart is an error.

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

/// How low-resolution images were computed. The realistic tracks of NTIRE 2018 are x4 only. Their
/// images are shifted against the originals; that is not corrected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Track {
    /// Downscaled by bicubic interpolation.
    #[default]
    Bicubic,
    /// NTIRE 2018, realistic mild (x4).
    Mild,
    /// NTIRE 2018, realistic difficult (x4).
    Difficult,
    /// NTIRE 2018, realistic wild (x4); four low-resolution images for each training image.
    Wild,
}

impl Track {
    const ALL: [Self; 4] = [Self::Bicubic, Self::Mild, Self::Difficult, Self::Wild];

    /// The suffixes after `x4` in the names of its images.
    fn name_suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Bicubic => &[""],
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
            Self::Mild => "mild",
            Self::Difficult => "difficult",
            Self::Wild => "wild",
        })
    }
}

/// A text that is not the name of a track.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected bicubic, mild, difficult or wild, found `{0}`")]
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
    if track != Track::Bicubic && scale != 4 {
        let reason = format!(
            "the {track} track has x4 images only, expected x4, found x{scale}; use a model of x4"
        );
        return Err(layout(folder, reason));
    }
    let Some((high_folder, low_folder)) = paired_folders(folder, scale, track)? else {
        return Ok((all_high(folder, scale, track)?, Vec::new()));
    };
    let mut problems = Vec::new();
    let high = by_stem(&high_folder, &mut problems)?;
    if !low_folder.is_dir() {
        if track != Track::Bicubic {
            let reason = format!(
                "no such folder, expected the low-resolution images of the {track} track; copy \
                 them there"
            );
            return Err(layout(&low_folder, reason));
        }
        let pairs = high
            .into_iter()
            .map(|(name, high)| pair(name, high, None, scale));
        return Ok((pairs.collect(), problems));
    }
    let mut pairs = BTreeMap::new();
    let mut paired = BTreeSet::new();
    for (low_stem, low) in by_stem(&low_folder, &mut problems)? {
        // The name of an original can end with a marker, as `linux2`.
        let original = without_marker(&low_stem, scale, track)
            .into_iter()
            .chain([low_stem.as_str()])
            .find_map(|name| high.get_key_value(name));
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

fn layout(path: &Path, reason: String) -> Error {
    Error::Layout {
        path: path.to_owned(),
        reason,
    }
}

/// All images of a folder and its subfolders as high-resolution images.
fn all_high(folder: &Path, scale: usize, track: Track) -> Result<Vec<Pair>, Error> {
    if track != Track::Bicubic {
        let reason = format!(
            "expected NAME_HR/ beside NAME_LR_{track}/, as in DIV2K, found neither; give the folder of \
             the set"
        );
        return Err(layout(folder, reason));
    }
    let mut pairs = Vec::new();
    for high in images_in(folder, true)? {
        let below = high.strip_prefix(folder).unwrap_or(&high);
        // Low-resolution images of a set in a subfolder must not be taken for originals.
        let is_low = |part: &str| part.starts_with("LR_") || part.contains("_LR_");
        let low = below.ancestors().skip(1).find(|ancestor| {
            ancestor
                .file_name()
                .is_some_and(|name| is_low(&name.to_string_lossy()))
        });
        if let Some(low) = low {
            let reason = format!(
                "contains low-resolution images in {}, expected one set; give the folder of the set",
                low.display()
            );
            return Err(layout(folder, reason));
        }
        let name = below.with_extension("").to_string_lossy().into_owned();
        pairs.push(pair(name, high, None, scale));
    }
    Ok(pairs)
}

/// The folders of high and low resolution, if the layout has them. The low one may not exist.
fn paired_folders(
    folder: &Path,
    scale: usize,
    track: Track,
) -> Result<Option<(PathBuf, PathBuf)>, Error> {
    let plain = folder.join("HR");
    if plain.is_dir() {
        if track != Track::Bicubic {
            let reason = format!(
                "found HR/, which has bicubic images only; expected NAME_HR/ beside \
                 NAME_LR_{track}/, as in DIV2K"
            );
            return Err(layout(folder, reason));
        }
        let low = folder.join("LR_bicubic").join(format!("X{scale}"));
        return Ok(Some((plain, low)));
    }
    if let (Some(name), Some(parent)) = (name_of_high(folder), folder.parent()) {
        return Ok(Some((
            folder.to_owned(),
            low_folder(parent, &name, scale, track),
        )));
    }
    let mut found: Vec<(PathBuf, String)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = name_of_high(&path)?;
            path.is_dir().then_some((path, name))
        })
        .collect();
    found.sort();
    if let [(first, _), (second, _), ..] = &found[..] {
        let reason = format!(
            "contains several sets, such as {} and {}; give one of these folders",
            first.display(),
            second.display()
        );
        return Err(layout(folder, reason));
    }
    Ok(found.pop().map(|(high, name)| {
        let low = low_folder(folder, &name, scale, track);
        (high, low)
    }))
}

/// `DIV2K_valid` for `.../DIV2K_valid_HR`.
fn name_of_high(folder: &Path) -> Option<String> {
    let name = folder.file_name()?.to_str()?;
    name.strip_suffix("_HR").map(str::to_owned)
}

fn low_folder(parent: &Path, name: &str, scale: usize, track: Track) -> PathBuf {
    if track != Track::Bicubic {
        return parent.join(format!("{name}_LR_{track}"));
    }
    let of_scale = parent.join(format!("{name}_LR_x{scale}"));
    if of_scale.is_dir() {
        return of_scale;
    }
    parent
        .join(format!("{name}_LR_bicubic"))
        .join(format!("X{scale}"))
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
