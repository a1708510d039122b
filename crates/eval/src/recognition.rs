//! Recognition of the layout of a set by the names of its folders and files.
//!
//! Names are compared without regard to case.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use wdsr_image::images_in;

use crate::error::Error;
use crate::layouts::{Track, layout};

/// The layouts that are understood, for messages.
const UNDERSTOOD: &str = "understood are, for x2, HR/ or GT/ beside LR_bicubic/X2/, LR_x2/, LRbicx2/, \
    LR/ or LQ/; GTmod12/ beside LRbicx2/; target/ beside input/; NAME_HR/ beside \
    NAME_LR_bicubic/X2/; image_SRF_2/; and NAME_HR.png beside NAME_LR2.png";

/// Names of folders of originals.
const HIGH_NAMES: [&str; 3] = ["gtmod12", "hr", "gt"];
/// Names of folders of originals where low-resolution images stand beside them.
const WEAK_HIGH_NAMES: [&str; 4] = ["original", "originals", "target", "high"];
/// Names of folders of low-resolution images beside originals.
const WEAK_LOW_NAMES: [&str; 2] = ["input", "low"];

/// How the images of a set are arranged.
pub(crate) enum Layout {
    /// A folder of originals, and one of low-resolution images, which `imresize` computes if there is
    /// none.
    Folders { high: PathBuf, low: Option<PathBuf> },
    /// `NAME_HR.png` beside `NAME_LR2.png` in this folder.
    Files(PathBuf),
    /// Every image of the folder and its subfolders is an original.
    Originals,
}

/// Recognises the layout of a folder.
///
/// # Errors
/// If it contains several sets, or low-resolution images in a layout that is not understood.
pub(crate) fn recognise(folder: &Path, scale: usize, track: Track) -> Result<Layout, Error> {
    let inside = subfolders(folder);
    if track != Track::Bicubic {
        return of_track(folder, &inside, scale, track);
    }
    if let Some(high) = high_among(folder, &inside)? {
        let low = match low_beside(&high, &inside, scale)? {
            Some(low) => Some(low),
            None => {
                refuse_copies(&high, &inside)?;
                None
            }
        };
        return Ok(Layout::Folders { high, low });
    }
    let srf = format!("image_srf_{scale}");
    if let Some(files) = inside.iter().find(|path| name_of(path) == srf) {
        return Ok(Layout::Files(files.clone()));
    }
    if let Some(kind) = FileKinds::in_folder(folder).mixed() {
        return match kind.scales.is_empty() || kind.scales.contains(&scale) {
            true => Ok(Layout::Files(folder.to_owned())),
            false => Err(layout(folder, kind.other_scales(scale))),
        };
    }
    let canonical = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    if let Some(parent) = canonical.parent() {
        let beside = subfolders(parent);
        let name = name_of(&canonical);
        if is_high(&name) || WEAK_HIGH_NAMES.contains(&name.as_str()) {
            let low = low_beside(&canonical, &beside, scale)?;
            let low = low.map(|low| match low.strip_prefix(parent) {
                // As the caller spells it, where that is possible.
                Ok(below) if folder.file_name().is_some() => folder.with_file_name("").join(below),
                _ => low,
            });
            return Ok(Layout::Folders {
                high: folder.to_owned(),
                low,
            });
        }
        refuse_low_folder(folder, &canonical, &beside)?;
    }
    Ok(Layout::Originals)
}

/// The tracks other than bicubic, which only DIV2K has.
fn of_track(
    folder: &Path,
    inside: &[PathBuf],
    scale: usize,
    track: Track,
) -> Result<Layout, Error> {
    let end = format!("_lr_{track}");
    let of_high = |high: &Path, beside: &[PathBuf]| {
        let low_name = name_of(high)
            .strip_suffix("_hr")
            .map(|set| format!("{set}{end}"))?;
        let low = beside.iter().find(|path| name_of(path) == low_name);
        let expected = || high.with_file_name(shown_low(high, track));
        Some((high.to_owned(), low.cloned().unwrap_or_else(expected)))
    };
    let parent = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let beside = subfolders(parent.unwrap_or(Path::new(".")));
    let own = of_high(folder, &beside);
    let high = inside.iter().filter(|path| name_of(path).ends_with("_hr"));
    let high: Vec<&PathBuf> = high.collect();
    let found = match (&high[..], own) {
        (_, Some(own)) => Some(own),
        ([first, second, ..], None) => return Err(several(folder, first, second)),
        ([one], None) => of_high(one, inside),
        ([], None) => None,
    };
    let Some((high, low)) = found else {
        let reason = match inside.iter().any(|path| name_of(path) == "hr") {
            true => format!(
                "found HR/, which has bicubic images only; expected NAME_HR/ beside NAME_LR_{track}/, \
                 as in DIV2K"
            ),
            false => format!(
                "expected NAME_HR/ beside NAME_LR_{track}/, as in DIV2K, found neither; give the \
                 folder of the set"
            ),
        };
        return Err(layout(folder, reason));
    };
    // Track unknown has a folder for each scale.
    let low = match track {
        Track::Unknown => {
            let of_scale = |path: &PathBuf| scale_of(&name_of(path)) == Some(scale);
            let found = subfolders(&low).into_iter().find(of_scale);
            found.unwrap_or_else(|| low.join(format!("X{scale}")))
        }
        _ => low,
    };
    if !low.is_dir() {
        let reason = format!(
            "no such folder, expected the low-resolution images of the {track} track; copy them there"
        );
        return Err(layout(&low, reason));
    }
    let low = Some(low);
    Ok(Layout::Folders { high, low })
}

/// `DIV2K_train_LR_mild` for `DIV2K_train_HR`.
fn shown_low(high: &Path, track: Track) -> String {
    let name = high.file_name().unwrap_or_default().to_string_lossy();
    let set = name.get(..name.len().saturating_sub(3)).unwrap_or(&name);
    format!("{set}_LR_{track}")
}

/// The folder of originals among the folders of a set.
fn high_among(folder: &Path, inside: &[PathBuf]) -> Result<Option<PathBuf>, Error> {
    let named = |names: &[&str]| {
        let is_named = |name: &&str| inside.iter().find(|path| name_of(path) == *name);
        names.iter().find_map(is_named).cloned()
    };
    if let Some(high) = named(&HIGH_NAMES) {
        return Ok(Some(high));
    }
    let mut of_sets = inside.iter().filter(|path| is_high(&name_of(path)));
    match (of_sets.next(), of_sets.next()) {
        (Some(first), Some(second)) => return Err(several(folder, first, second)),
        (Some(high), None) => return Ok(Some(high.clone())),
        _ => {}
    }
    let has_low = inside.iter().any(|path| {
        let name = name_of(path);
        is_low(&name) || WEAK_LOW_NAMES.contains(&name.as_str())
    });
    Ok(named(&WEAK_HIGH_NAMES).filter(|_| has_low))
}

fn several(folder: &Path, first: &Path, second: &Path) -> Error {
    let reason = format!(
        "contains several sets, such as {} and {}; give one of these folders",
        first.display(),
        second.display()
    );
    layout(folder, reason)
}

/// A folder beside originals.
struct LowFolder {
    path: PathBuf,
    rank: Rank,
}

/// How sure it is that a folder has the bicubic images.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Bicubic,
    /// Just low-resolution images.
    Plain,
    /// Of an unknown degradation.
    Unknown,
}

/// The low-resolution images of the scale beside originals; `None` if there are none of this scale.
///
/// # Errors
/// If there are two such folders, or only ones of an unknown degradation.
fn low_beside(high: &Path, beside: &[PathBuf], scale: usize) -> Result<Option<PathBuf>, Error> {
    let high_name = name_of(high);
    let set = ["_hr", "_gt"]
        .iter()
        .find_map(|end| high_name.strip_suffix(end));
    let mut found = Vec::new();
    for path in beside.iter().filter(|path| *path != high) {
        let name = name_of(path);
        let name = match set {
            // `DIV2K_valid_LR_bicubic` beside `DIV2K_valid_HR`.
            Some(set) => match name
                .strip_prefix(set)
                .and_then(|rest| rest.strip_prefix('_'))
            {
                Some(rest) => rest.to_owned(),
                None => continue,
            },
            None => name,
        };
        let is_weak = set.is_none() && WEAK_LOW_NAMES.contains(&name.as_str());
        let is_scale_alone = set.is_none() && name.starts_with('x') && scale_of(&name).is_some();
        let is_named_low = ["lr", "lq"].iter().any(|low| name.starts_with(low));
        if !(is_named_low || is_weak || is_scale_alone) {
            continue;
        }
        let (base, marked) = split_scale(&name);
        let base = base.trim_end_matches('_');
        let rank = match base {
            "lr" | "lq" | "input" | "low" | "" => Rank::Plain,
            _ if base.contains("bic") => Rank::Bicubic,
            // Images of a track are asked for by its name.
            _ if Track::ALL
                .iter()
                .any(|track| track.is_realistic() && base.ends_with(&track.to_string())) =>
            {
                continue;
            }
            _ => Rank::Unknown,
        };
        let of_scales = subfolders(path);
        let mut of_scales = of_scales
            .into_iter()
            .filter(|path| scale_of(&name_of(path)).is_some())
            .peekable();
        if let Some(marked) = marked {
            if marked == scale {
                found.push(LowFolder {
                    path: path.clone(),
                    rank,
                });
            }
        } else if of_scales.peek().is_some() {
            let path = of_scales.find(|path| scale_of(&name_of(path)) == Some(scale));
            found.extend(path.map(|path| LowFolder { path, rank }));
        } else if images_in(path, false).is_ok() {
            found.push(LowFolder {
                path: path.clone(),
                rank,
            });
        }
    }
    found.sort_by_key(|low| low.rank);
    match &found[..] {
        [] => Ok(None),
        [first, ..] if first.rank == Rank::Unknown => Err(layout(
            &first.path,
            format!(
                "low-resolution images of an unknown kind beside {}; {UNDERSTOOD}; rename the folder, or \
                 move it away to compute them; those of DIV2K are read as the track unknown",
                high.display()
            ),
        )),
        [first, second, ..] if first.rank == second.rank => Err(layout(
            &second.path,
            format!(
                "{} has low-resolution images of x{scale} too; move one of the folders away",
                first.path.display()
            ),
        )),
        [first, ..] => Ok(Some(first.path.clone())),
    }
}

/// Refuses a folder beside originals that has images of the same names: they may be the
/// low-resolution ones, or the other way round.
fn refuse_copies(high: &Path, beside: &[PathBuf]) -> Result<(), Error> {
    let stems = |folder: &Path| -> BTreeSet<String> {
        let images = images_in(folder, false).unwrap_or_default();
        images.iter().map(|path| stem_of(path)).collect()
    };
    let originals = stems(high);
    let is_other = |path: &&PathBuf| {
        let name = name_of(path);
        // The low-resolution images of other scales and tracks are known, as are uncropped originals.
        *path != high
            && !is_low(&name)
            && !is_high(&name)
            && !WEAK_HIGH_NAMES.contains(&name.as_str())
    };
    for path in beside.iter().filter(is_other) {
        let copies = stems(path);
        if copies
            .iter()
            .any(|stem| originals.contains(stem) || originals.contains(split_scale(stem).0))
        {
            let reason = format!(
                "has images of the same names as {}, and it is unclear whether they are its \
                 low-resolution images; {UNDERSTOOD}; rename the folder, or give {} alone",
                high.display(),
                high.display()
            );
            return Err(layout(path, reason));
        }
    }
    Ok(())
}

/// Refuses a folder of low-resolution images beside its originals.
fn refuse_low_folder(folder: &Path, canonical: &Path, beside: &[PathBuf]) -> Result<(), Error> {
    let name = name_of(canonical);
    let parent = canonical.parent().unwrap_or(canonical);
    let (low, beside) = match scale_of(&name) {
        // `LR_bicubic/X2`.
        Some(_) if is_low(&name_of(parent)) => (
            name_of(parent),
            subfolders(parent.parent().unwrap_or(parent)),
        ),
        _ => (name, beside.to_vec()),
    };
    let is_weak = WEAK_LOW_NAMES.contains(&low.as_str());
    let high = high_among(canonical, &beside).unwrap_or_else(|_| beside.first().cloned());
    match high.filter(|_| is_low(&low) || is_weak) {
        Some(high) => {
            let reason = format!(
                "low-resolution images, whose originals are in {}; give the folder above both",
                high.display()
            );
            Err(layout(folder, reason))
        }
        None => Ok(()),
    }
}

/// Refuses originals with low-resolution images among them.
pub(crate) fn refuse_low_among(folder: &Path, images: &[PathBuf]) -> Result<(), Error> {
    let stems: BTreeSet<PathBuf> = images
        .iter()
        .map(|path| path.with_file_name(stem_of(path)))
        .collect();
    for image in images {
        let below = image.strip_prefix(folder).unwrap_or(image);
        let parents = below.ancestors().skip(1);
        let low = parents
            .filter(|parent| parent.file_name().is_some())
            .find(|parent| is_low(&name_of(parent)));
        if let Some(low) = low {
            let reason = format!(
                "contains low-resolution images in {}, expected one set; give the folder of the set; \
                 {UNDERSTOOD}",
                low.display()
            );
            return Err(layout(folder, reason));
        }
        let stem = stem_of(image);
        let original = match FileKind::of(&stem) {
            FileKind::Low { name, .. } => {
                let ends = ["_hr", "_gt"].iter();
                ends.map(|end| format!("{name}{end}"))
                    .find(|original| stems.contains(&image.with_file_name(original)))
            }
            _ => {
                let (original, scale) = split_scale(&stem);
                let original = original.strip_suffix('x').unwrap_or(original).to_owned();
                let is_marked = scale.is_some_and(|scale| [2, 3, 4, 8].contains(&scale))
                    && stem.len() == original.len() + 2;
                Some(original)
                    .filter(|original| is_marked && stems.contains(&image.with_file_name(original)))
            }
        };
        if let Some(original) = original {
            let reason = format!(
                "contains low-resolution images beside their originals, such as {} beside {original}; \
                 {UNDERSTOOD}; give the folder that has them",
                below.display()
            );
            return Err(layout(folder, reason));
        }
    }
    Ok(())
}

/// What an image is by the end of its name.
pub(crate) enum FileKind {
    /// `NAME_HR` or `NAME_GT`.
    High {
        name: String,
    },
    /// `NAME_LR`, `NAME_LQ`, `NAME_LR2`.
    Low {
        name: String,
        scale: Option<usize>,
    },
    Other,
}

impl FileKind {
    /// The kind of a file by its stem in lower case.
    pub(crate) fn of(stem: &str) -> Self {
        for end in ["_hr", "_gt"] {
            if let Some(name) = stem.strip_suffix(end) {
                let name = name.to_owned();
                return Self::High { name };
            }
        }
        let (base, scale) = split_scale(stem);
        for end in ["_lr", "_lq", "_lrx", "_lr_x"] {
            if let Some(name) = base.strip_suffix(end) {
                let name = name.to_owned();
                return Self::Low { name, scale };
            }
        }
        Self::Other
    }
}

/// The kinds of files in one folder.
struct FileKinds {
    has_high: bool,
    has_low: bool,
    /// Of the low-resolution images that have one in their name.
    scales: BTreeSet<usize>,
}

impl FileKinds {
    fn in_folder(folder: &Path) -> Self {
        let mut kinds = Self {
            has_high: false,
            has_low: false,
            scales: BTreeSet::new(),
        };
        for path in images_in(folder, false).unwrap_or_default() {
            match FileKind::of(&stem_of(&path)) {
                FileKind::High { .. } => kinds.has_high = true,
                FileKind::Low { scale, .. } => {
                    kinds.has_low = true;
                    kinds.scales.extend(scale);
                }
                FileKind::Other => {}
            }
        }
        kinds
    }

    /// If there are both.
    fn mixed(self) -> Option<Self> {
        (self.has_high && self.has_low).then_some(self)
    }

    fn other_scales(&self, scale: usize) -> String {
        let found: Vec<String> = self
            .scales
            .iter()
            .map(|scale| format!("x{scale}"))
            .collect();
        format!(
            "expected low-resolution images of x{scale}, found {}; use a model of that scale",
            found.join(", ")
        )
    }
}

/// The stem of a file's name in lower case.
pub(crate) fn stem_of(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase()
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase()
}

/// Whether a folder has originals by its name alone.
fn is_high(name: &str) -> bool {
    HIGH_NAMES.contains(&name) || name.ends_with("_hr") || name.ends_with("_gt")
}

/// Whether a folder has low-resolution images by its name alone: `LR`, `LRbicx2`, `DIV2K_LR_x8`.
fn is_low(name: &str) -> bool {
    let mut parts = name.split('_');
    parts.any(|part| {
        let rest = part.strip_prefix("lr").or_else(|| part.strip_prefix("lq"));
        rest.is_some_and(|rest| {
            rest.is_empty()
                || rest.starts_with("bic")
                || rest.starts_with(|c: char| c.is_ascii_digit())
                || rest
                    .strip_prefix('x')
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    })
}

/// A name without the scale at its end: (`lrbic`, 2) of `lrbicx2`.
fn split_scale(name: &str) -> (&str, Option<usize>) {
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match name[base.len()..].parse() {
        Ok(scale) if (1..=16).contains(&scale) => {
            let without_x = base.strip_suffix('x').unwrap_or(base);
            (without_x, Some(scale))
        }
        _ => (name, None),
    }
}

/// The scale of a folder that is named by nothing else: `X2` or `2`.
fn scale_of(name: &str) -> Option<usize> {
    match split_scale(name) {
        ("", scale) => scale,
        _ => None,
    }
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}
