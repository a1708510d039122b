//! Alignment of a folder of pairs: files and report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use wdsr_atomic_file::write_pair;
use wdsr_eval::Pair;
use wdsr_image::{Depth, Format, Image, Limits, decode, encode_bytes};

use super::{Grey, Motion, Registration, Verdict, register};
use crate::error::Error;
use crate::parallel::map_or_first_error;

/// Name of the report in the folder of aligned pairs: JSON lines, one [`Line`] for each pair.
pub const REPORT: &str = "alignment.jsonl";

/// A line of a report: what became of a pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Name of the pair ([`Pair::name`]).
    pub name: String,
    /// Scale of the pair.
    pub scale: usize,
    /// What became of it.
    pub verdict: Verdict,
    /// Why it is not aligned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How the images lie.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// Width and height of the aligned low-resolution image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_size_px: Option<[usize; 2]>,
}

/// The files of aligned pairs in a folder, in a layout that
/// [`find_pairs`](wdsr_eval::find_pairs) reads.
#[derive(Clone, Debug)]
pub struct AlignedFolders {
    high: PathBuf,
    low: PathBuf,
    report: PathBuf,
}

impl AlignedFolders {
    /// Those in `folder` for pairs of a scale.
    pub fn new(folder: &Path, scale: usize) -> Self {
        Self {
            high: folder.join("HR"),
            low: folder.join(format!("LR_x{scale}")),
            report: folder.join(REPORT),
        }
    }

    /// The files of a pair, high resolution first. Images of floats are TIFF files, others PNG.
    fn files(&self, name: &str, format: Format) -> [PathBuf; 2] {
        let suffix = if format == Format::Png { "png" } else { "tif" };
        [&self.high, &self.low].map(|folder| folder.join(format!("{name}.{suffix}")))
    }

    /// All files that aligning `pairs` may write.
    pub fn all_files(&self, pairs: &[Pair]) -> impl Iterator<Item = PathBuf> {
        let of_pair =
            |pair: &Pair| [Format::Png, Format::Tiff].map(|format| self.files(&pair.name, format));
        let images: Vec<PathBuf> = pairs.iter().flat_map(of_pair).flatten().collect();
        images.into_iter().chain([self.report.clone()])
    }
}

/// Aligns pairs and writes those that can be aligned, each both images or none, and at the end the
/// report. Calls `progress` with the line of each pair that is done and the number of them. Returns the
/// lines, in the order of the pairs.
///
/// # Errors
/// If a pair has no low-resolution image, there are aligned pairs in the folders already, or a file
/// cannot be written. A pair that cannot be read or aligned is a line of the report.
pub fn align_pairs(
    pairs: &[Pair],
    motion: Motion,
    folders: &AlignedFolders,
    progress: &(dyn Fn(&Line, usize) + Sync),
) -> Result<Vec<Line>, Error> {
    if let Some(pair) = pairs.iter().find(|pair| pair.low.is_none()) {
        return Err(Error::NothingToAlign(pair.high.clone()));
    }
    for path in [&folders.high, &folders.low, &folders.report] {
        if path.is_file()
            || path
                .read_dir()
                .is_ok_and(|mut files| files.next().is_some())
        {
            return Err(Error::AlignedBefore(path.clone()));
        }
    }
    for folder in [&folders.high, &folders.low] {
        std::fs::create_dir_all(folder).map_err(|source| Error::io(folder, "create", source))?;
    }
    let done = AtomicUsize::new(0);
    let lines: Vec<Line> = map_or_first_error(pairs, |pair| -> Result<_, Error> {
        let line = align_pair(pair, motion, folders)?;
        progress(&line, done.fetch_add(1, Ordering::Relaxed) + 1);
        Ok(line)
    })?;
    let mut text = String::new();
    for line in &lines {
        text += &serde_json::to_string(line).unwrap_or_else(|e| unreachable!("plain JSON: {e}"));
        text.push('\n');
    }
    wdsr_image::write_atomically(&folders.report, text.as_bytes())?;
    Ok(lines)
}

/// Aligns a pair and writes it.
fn align_pair(pair: &Pair, motion: Motion, folders: &AlignedFolders) -> Result<Line, Error> {
    let mut line = Line {
        name: pair.name.clone(),
        scale: pair.scale,
        verdict: Verdict::Aligned,
        reason: None,
        registration: None,
        low_size_px: None,
    };
    let rejected = |verdict, reason: String| Line {
        verdict,
        reason: Some(reason),
        ..line.clone()
    };
    let low = pair.low.as_deref().unwrap_or(&pair.high);
    let decoded = [low, &pair.high].map(|path| decode(path, &Limits::default()));
    let [low, high] = match decoded {
        [Ok(low), Ok(high)] => [low, high],
        [Err(error), _] | [_, Err(error)] => {
            return Ok(rejected(Verdict::Broken, error.to_string()));
        }
    };
    let greys = [&low, &high].map(Grey::of_image);
    let registration = match register(&greys[0], &greys[1], pair.scale, motion) {
        Ok(registration) => registration,
        Err(rejection) => return Ok(rejected(rejection.verdict(), rejection.to_string())),
    };
    drop(greys);
    let placement = registration.placement;
    let size = |image: &Image| (image.width_px, image.height_px);
    let Some(part) = placement.common_part(size(&low), size(&high), pair.scale) else {
        let reason = format!("no overlap: shifted by {:?} pixels", placement.shift_px);
        return Ok(rejected(Verdict::NoOverlap, reason));
    };
    let aligned = placement.align_images(&low, &high, part, pair.scale);
    let is_float = [&low, &high]
        .into_iter()
        .any(|image| image.depth() == Depth::F32);
    let format = if is_float { Format::Tiff } else { Format::Png };
    let [low, high] = &aligned;
    let (low, high) = (encode_bytes(low, format)?, encode_bytes(high, format)?);
    let [high_path, low_path] = folders.files(&pair.name, format);
    write_pair((&high_path, &high), (&low_path, &low))
        .map_err(|(path, source)| Error::io(&path, "write", source))?;
    line.registration = Some(registration);
    line.low_size_px = Some([part.width_px, part.height_px]);
    Ok(line)
}

/// Reads a report: its lines by name.
///
/// # Errors
/// If it cannot be read, or a line is not one of a report.
pub fn read_report(path: &Path) -> Result<BTreeMap<String, Line>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, "read", source))?;
    let line = |(number, text): (usize, &str)| {
        let line: Line = serde_json::from_str(text).map_err(|source| Error::AlignmentLine {
            path: path.to_owned(),
            line: number + 1,
            source,
        })?;
        Ok((line.name.clone(), line))
    };
    text.lines().enumerate().map(line).collect()
}
