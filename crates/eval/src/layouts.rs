//! Which low-resolution image of a folder belongs to which high-resolution one.
//!
//! Layouts understood, for x2:
//! - `HR/` beside `LR_bicubic/X2/`: as Set5 and its siblings are packed (`baby.png`, and
//!   `baby.png` or `babyx2.png`)
//! - `NAME_HR/` beside `NAME_LR_bicubic/X2/`, with NAME `DIV2K_valid`, `DIV2K_train` or
//!   `Flickr2K` (`0801.png`, `0801x2.png`); x8 also in `NAME_LR_x8/` (`0801x8.png`); the realistic
//!   tracks of NTIRE 2018 in `NAME_LR_mild/` (`0801x4m.png`), `NAME_LR_difficult/` (`0801x4d.png`)
//!   and `NAME_LR_wild/` (`0801x4w1.png` to `w4`, or `0801x4w.png`). The folder named is the one
//!   that holds them, or `NAME_HR` itself where several lie side by side
//! - any other folder of images, and those below it: all high resolution
//!
//! Where there is no low-resolution folder, `imresize` makes the images. Low-resolution
//! images are never guessed to fit: one without its original, or the other way round, is an
//! error.

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

/// How the low-resolution images came about. The realistic tracks of NTIRE 2018 are x4
/// only, and their images are shifted against the originals, which nothing here corrects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Track {
    /// Reduced by bicubic interpolation.
    #[default]
    Bicubic,
    /// NTIRE 2018, realistic mild (x4).
    Mild,
    /// NTIRE 2018, realistic difficult (x4).
    Difficult,
    /// NTIRE 2018, realistic wild (x4); four low-resolution images for each of training.
    Wild,
}

impl Track {
    const ALL: [Self; 4] = [Self::Bicubic, Self::Mild, Self::Difficult, Self::Wild];

    /// What follows `x4` in the names of its images.
    fn name_ends(self) -> &'static [&'static str] {
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

impl FromStr for Track {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL
            .into_iter()
            .find(|track| track.to_string() == text);
        found.ok_or_else(|| format!("expected bicubic, mild, difficult or wild, found `{text}`"))
    }
}

/// Finds the pairs of a folder, sorted by name. A pair of the wild track is named after its
/// low-resolution image, as several share an original.
///
/// # Errors
/// When the folder cannot be read, has no images, holds several sets, has images without
/// their counterpart, or lacks the low-resolution images of the track (bicubic ones can be
/// made).
///
/// # Panics
/// When the scale is 0.
pub fn find_pairs(folder: &Path, scale: usize, track: Track) -> Result<Vec<Pair>, Error> {
    let (pairs, problems) = find_pairs_and_problems(folder, scale, track)?;
    match problems.into_iter().next() {
        Some(problem) => Err(problem),
        None => Ok(pairs),
    }
}

/// [`find_pairs`], going on after images that do not fit: the pairs without them, and what is
/// wrong with each.
///
/// # Errors
/// When the folder cannot be read, has no images, holds several sets or lacks the low-resolution
/// images of the track.
///
/// # Panics
/// When the scale is 0.
pub fn find_pairs_and_problems(
    folder: &Path,
    scale: usize,
    track: Track,
) -> Result<(Vec<Pair>, Vec<Error>), Error> {
    assert!(scale > 0, "scale {scale}");
    if track != Track::Bicubic && scale != 4 {
        let reason = format!(
            "the {track} track has x4 images only, x{scale} was asked for; use a model of x4"
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
                "no such folder, expected the low-resolution images of the {track} track; put \
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
        // A name may end like a marker by itself: `linux2` may be an original.
        let original = without_marker(&low_stem, scale, track)
            .into_iter()
            .chain([low_stem.as_str()])
            .find_map(|name| high.get_key_value(name));
        let Some((stem, found)) = original else {
            let reason = format!(
                "no high-resolution image of it in {}; add it, or remove this one",
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
                "{} is a low-resolution image of {} too; remove one of them",
                other.display(),
                found.display()
            );
            problems.push(layout(&low, reason));
        }
    }
    for (_, alone) in high.iter().filter(|(stem, _)| !paired.contains(*stem)) {
        let reason = format!(
            "no low-resolution image of it in {}; add it, or remove this one",
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

/// All images of a folder and of those below as high resolution.
fn all_high(folder: &Path, scale: usize, track: Track) -> Result<Vec<Pair>, Error> {
    if track != Track::Bicubic {
        let reason = format!("expected NAME_HR/ beside NAME_LR_{track}/, as DIV2K has; none found");
        return Err(layout(folder, reason));
    }
    let mut pairs = Vec::new();
    for high in images_in(folder, true)? {
        let below = high.strip_prefix(folder).unwrap_or(&high);
        // Low-resolution images of a set further down must not pass for originals.
        let is_low = |part: &str| part.starts_with("LR_") || part.contains("_LR_");
        let low = below.ancestors().skip(1).find(|ancestor| {
            ancestor
                .file_name()
                .is_some_and(|name| is_low(&name.to_string_lossy()))
        });
        if let Some(low) = low {
            let reason = format!(
                "holds low-resolution images in {}, expected one set; name the folder of the set",
                low.display()
            );
            return Err(layout(folder, reason));
        }
        let name = below.with_extension("").to_string_lossy().into_owned();
        pairs.push(pair(name, high, None, scale));
    }
    Ok(pairs)
}

/// Folders of high and low resolution where the layout has them; the low one need not exist.
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
                 NAME_LR_{track}/, as DIV2K has"
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
            "holds several sets, such as {} and {}; name one of these folders",
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

/// `DIV2K_valid` of `.../DIV2K_valid_HR`.
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

/// The images of a folder by their name without suffix; the first where several share it.
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
                    "{} has the same name but for the suffix; remove one of them",
                    other.get().display()
                );
                problems.push(layout(&path, reason));
            }
        }
    }
    Ok(images)
}

/// `0801` of `0801x4m`, `baby` of `babyx2`; none where the name has no such end.
fn without_marker(stem: &str, scale: usize, track: Track) -> Option<&str> {
    track
        .name_ends()
        .iter()
        .find_map(|end| stem.strip_suffix(&format!("x{scale}{end}")))
}
