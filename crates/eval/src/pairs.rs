//! Which low-resolution picture belongs to which high-resolution one.
//!
//! Layouts understood:
//! - a folder of pictures: all high resolution, low resolution made by `imresize`
//! - `HR/` beside `LR_bicubic/X2/`: as Set5 and its siblings are packed (`baby.png`,
//!   `babyx2.png`)
//! - `DIV2K_valid_HR/` or `DIV2K_train_HR/` beside `DIV2K_..._LR_bicubic/X2/` (`0801x2.png`),
//!   `DIV2K_..._LR_x8/` (`0801x8.png`), and the realistic tracks `DIV2K_..._LR_mild/`
//!   (`0801x4m.png`), `_difficult/` (`0801x4d.png`) and `_wild/` (`0801x4w1.png` to `w4`)

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use wdsr_picture::imresize::imresize_u8;
use wdsr_picture::{Limits, decode, pictures_in};

use crate::error::Error;

/// How the low-resolution pictures came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Track {
    /// Reduced by bicubic interpolation.
    #[default]
    Bicubic,
    /// NTIRE 2018, realistic mild (x4).
    Mild,
    /// NTIRE 2018, realistic difficult (x4).
    Difficult,
    /// NTIRE 2018, realistic wild (x4); four low-resolution pictures for each of training.
    Wild,
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
        [Self::Bicubic, Self::Mild, Self::Difficult, Self::Wild]
            .into_iter()
            .find(|track| track.to_string() == text)
            .ok_or_else(|| format!("expected bicubic, mild, difficult or wild, found `{text}`"))
    }
}

/// Files that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Of the picture, without suffix.
    pub name: String,
    /// High resolution.
    pub high: PathBuf,
    /// Low resolution; made by `imresize` when the set has none.
    pub low: Option<PathBuf>,
    /// Scale of the pair.
    pub scale: usize,
}

/// A low- and a high-resolution picture, R G B interleaved; the high one is exactly `scale`
/// times as wide and high.
#[derive(Clone, Debug)]
pub struct PicturePair {
    /// Low resolution.
    pub low: Vec<u8>,
    /// High resolution.
    pub high: Vec<u8>,
    /// Of the low-resolution picture.
    pub low_width_px: usize,
    /// Of the low-resolution picture.
    pub low_height_px: usize,
    /// Between them.
    pub scale: usize,
    /// Whether the high-resolution picture is stored as grey.
    pub grey: bool,
}

/// Finds the pairs of a folder, sorted by name.
///
/// # Errors
/// When the folder cannot be read, has no pictures, or lacks the low-resolution pictures of the
/// track (for bicubic they can be made).
pub fn find_pairs(folder: &Path, scale: usize, track: Track) -> Result<Vec<Pair>, Error> {
    let Some((high_folder, low_folder)) = known_layout(folder, scale, track) else {
        if track != Track::Bicubic {
            return Err(layout(
                folder,
                format!("expected DIV2K's layout for the {track} track"),
            ));
        }
        let high = pictures_in(folder, true)?;
        return Ok(high
            .into_iter()
            .map(|high| Pair {
                name: relative_stem(folder, &high),
                high,
                low: None,
                scale,
            })
            .collect());
    };
    let high: BTreeMap<String, PathBuf> = pictures_in(&high_folder, false)?
        .into_iter()
        .map(|p| (stem(&p), p))
        .collect();
    if !low_folder.is_dir() {
        if track != Track::Bicubic {
            let reason =
                format!("the {track} track needs low-resolution pictures here; none found");
            return Err(layout(&low_folder, reason));
        }
        let pairs = high.into_iter().map(|(name, high)| Pair {
            name,
            high,
            low: None,
            scale,
        });
        return Ok(pairs.collect());
    }
    let mut pairs = Vec::new();
    for low in pictures_in(&low_folder, false)? {
        let low_stem = stem(&low);
        let name = strip_marker(&low_stem, scale);
        let Some(found) = high.get(name) else {
            let expected = high_folder.join(name);
            return Err(layout(
                &low,
                format!("no high-resolution picture {}.*", expected.display()),
            ));
        };
        // Wild pairs keep their marker: four of them share a high-resolution picture.
        let name = if track == Track::Wild {
            &low_stem
        } else {
            name
        }
        .to_owned();
        pairs.push(Pair {
            name,
            high: found.clone(),
            low: Some(low),
            scale,
        });
    }
    let with_low: Vec<&PathBuf> = pairs.iter().map(|pair| &pair.high).collect();
    if let Some(alone) = high.values().find(|path| !with_low.contains(path)) {
        let reason = format!(
            "no low-resolution picture of it in {}",
            low_folder.display()
        );
        return Err(layout(alone, reason));
    }
    pairs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(pairs)
}

fn layout(path: &Path, reason: String) -> Error {
    Error::Layout {
        path: path.to_owned(),
        reason,
    }
}

/// Folders of high and low resolution where the layout has them.
fn known_layout(folder: &Path, scale: usize, track: Track) -> Option<(PathBuf, PathBuf)> {
    let by_scale = |low: String| folder.join(low).join(format!("X{scale}"));
    let high = folder.join("HR");
    if high.is_dir() {
        return Some((high, by_scale("LR_bicubic".to_owned())));
    }
    for part in ["valid", "train"] {
        let high = folder.join(format!("DIV2K_{part}_HR"));
        if high.is_dir() {
            let low = match (track, scale) {
                (Track::Bicubic, 8) => folder.join(format!("DIV2K_{part}_LR_x8")),
                (Track::Bicubic, _) => by_scale(format!("DIV2K_{part}_LR_bicubic")),
                _ => folder.join(format!("DIV2K_{part}_LR_{track}")),
            };
            return Some((high, low));
        }
    }
    None
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn relative_stem(folder: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(folder).unwrap_or(path).with_extension("");
    relative.to_string_lossy().into_owned()
}

/// `0801x4m` -> `0801`, `babyx2` -> `baby`; a name without a marker stays.
fn strip_marker(stem: &str, scale: usize) -> &str {
    let marker = format!("x{scale}");
    match stem.rfind(&marker) {
        Some(at)
            if at > 0
                && matches!(
                    &stem[at + marker.len()..],
                    "" | "m" | "d" | "w" | "w1" | "w2" | "w3" | "w4"
                ) =>
        {
            &stem[..at]
        }
        _ => stem,
    }
}

impl Pair {
    /// Reads the pictures: the high-resolution one cut at the right and bottom to a multiple of
    /// the scale, the low-resolution one made from it by `imresize` with 8-bit passes where there
    /// is no file.
    ///
    /// # Errors
    /// When a picture cannot be read, or their sizes do not fit.
    pub fn load(&self) -> Result<PicturePair, Error> {
        let scale = self.scale;
        let limits = Limits::default();
        let picture = decode(&self.high, &limits)?;
        let (low_width_px, low_height_px) = (picture.width_px / scale, picture.height_px / scale);
        if low_width_px == 0 || low_height_px == 0 {
            return Err(Error::TooSmall {
                path: self.high.clone(),
                width_px: picture.width_px,
                height_px: picture.height_px,
                shave_px: scale,
            });
        }
        let row = picture.width_px * 3;
        let keep = low_width_px * scale * 3;
        let grey = picture.colour.is_grey();
        let mut high = picture.to_rgb8();
        if keep != row {
            high = high
                .chunks_exact(row)
                .flat_map(|r| &r[..keep])
                .copied()
                .collect();
        }
        high.truncate(keep * low_height_px * scale);
        let low = match &self.low {
            None => {
                let (w, h) = (low_width_px * scale, low_height_px * scale);
                imresize_u8(&high, w, h, 3, 1.0 / scale as f64).pixels
            }
            Some(path) => {
                let low = decode(path, &limits)?;
                if (low.width_px, low.height_px) != (low_width_px, low_height_px) {
                    return Err(Error::SizeMismatch {
                        low: path.clone(),
                        high: self.high.clone(),
                        low_width_px: low.width_px,
                        low_height_px: low.height_px,
                        expected_width_px: low_width_px,
                        expected_height_px: low_height_px,
                        scale,
                    });
                }
                low.to_rgb8()
            }
        };
        Ok(PicturePair {
            low,
            high,
            low_width_px,
            low_height_px,
            scale,
            grey,
        })
    }
}
