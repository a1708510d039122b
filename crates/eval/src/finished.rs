//! Finished images, made by any program, beside the originals that they are scored against.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wdsr_image::{Limits, decode, images_in};

use crate::error::Error;
use crate::layouts::layout;
use crate::pairs::{ImagePair, Pair};

/// Ends of names that programs add to those of the originals, beside the scale.
const ADDED: [&str; 5] = ["sr", "out", "result", "restored", "upscaled"];
/// Ends of names of originals that finished images lack.
const OF_ORIGINALS: [&str; 2] = ["_hr", "_gt"];
/// What stands between a name and what is added.
const SEPARATORS: [char; 4] = ['_', '-', '.', ' '];

/// Finished images of a folder by their originals.
#[derive(Debug, Default)]
pub struct FinishedImages {
    /// Pairs with the file of their finished image, in the order of the pairs.
    pub found: Vec<(Pair, PathBuf)>,
    /// Errors of originals that have none or several.
    pub problems: Vec<Error>,
    /// Finished images without original.
    pub others: Vec<PathBuf>,
}

/// Finds the finished images of pairs in a folder and its subfolders by name: that of the original, or
/// with the scale (`x2`, `_x2`, `-2x`) or a word such as `_SR` added, in any case. A subfolder's images
/// belong to the originals of the subfolder of that name.
///
/// # Errors
/// If the folder cannot be read or has no images.
pub fn find_finished(folder: &Path, pairs: &[Pair]) -> Result<FinishedImages, Error> {
    let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
    for (index, pair) in pairs.iter().enumerate() {
        let name = pair.name.to_lowercase().replace('\\', "/");
        for end in OF_ORIGINALS {
            if let Some(name) = name.strip_suffix(end) {
                by_name.entry(name.to_owned()).or_insert(index);
            }
        }
        by_name.insert(name, index);
    }
    let mut files: Vec<Vec<PathBuf>> = vec![Vec::new(); pairs.len()];
    let mut finished = FinishedImages::default();
    for file in images_in(folder, true)? {
        let below = file
            .strip_prefix(folder)
            .unwrap_or(&file)
            .with_extension("");
        let name = below.to_string_lossy().to_lowercase().replace('\\', "/");
        let scale = pairs.first().map_or(1, |pair| pair.scale);
        let names = std::iter::successors(Some(&*name), |name| without_added(name, scale));
        match names.filter_map(|name| by_name.get(name)).next() {
            Some(&index) => files[index].push(file),
            None => finished.others.push(file),
        }
    }
    for (pair, files) in pairs.iter().zip(files) {
        match &files[..] {
            [file] => finished.found.push((pair.clone(), file.clone())),
            [] => {
                let reason = format!(
                    "no finished image for it in {}; expected {}, or a name with x{}, _x{} or _SR added",
                    folder.display(),
                    pair.name,
                    pair.scale,
                    pair.scale
                );
                finished.problems.push(layout(&pair.high, reason));
            }
            several => {
                let several: Vec<String> = several
                    .iter()
                    .map(|file| file.display().to_string())
                    .collect();
                let reason = format!(
                    "several finished images are for it: {}; leave one of them",
                    several.join(", ")
                );
                finished.problems.push(layout(&pair.high, reason));
            }
        }
    }
    Ok(finished)
}

/// A name without the last thing that a program added.
fn without_added(name: &str, scale: usize) -> Option<&str> {
    let bare = [format!("x{scale}"), format!("{scale}x")]
        .iter()
        .find_map(|marker| name.strip_suffix(marker.as_str()))
        // `2x` after a digit is a number.
        .filter(|rest| {
            !rest.ends_with(|c: char| c.is_ascii_digit()) || name.ends_with(&format!("x{scale}"))
        })
        .map(|rest| rest.trim_end_matches(SEPARATORS));
    let word = || {
        ADDED.iter().find_map(|word| {
            let rest = name.strip_suffix(word)?;
            rest.strip_suffix(SEPARATORS)
        })
    };
    bare.or_else(word)
        .filter(|rest| !rest.is_empty() && !rest.ends_with('/'))
}

/// Reads a finished image of a pair, R G B row-major, 0..255.
///
/// # Errors
/// If it cannot be read or has another size than the original, which is cropped to a multiple of the
/// scale.
pub fn load_finished(file: &Path, pair: &Pair, images: &ImagePair) -> Result<Vec<u8>, Error> {
    let image = decode(file, &Limits::default())?;
    let (width_px, height_px) = images.high_size_px();
    if (image.width_px, image.height_px) != (width_px, height_px) {
        let reason = format!(
            "{} x {} pixels, expected {width_px} x {height_px}, the size of {} cropped to a multiple of \
             the scale {}; check -s, or upscale the image again",
            image.width_px,
            image.height_px,
            pair.high.display(),
            pair.scale
        );
        return Err(layout(file, reason));
    }
    Ok(image.to_rgb8())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_add_to_names_is_removed_step_by_step() {
        let names = |name: &str| -> Vec<String> {
            let names = std::iter::successors(Some(name), |name| without_added(name, 2));
            names.skip(1).map(str::to_owned).collect()
        };
        assert_eq!(names("babyx2"), ["baby"]);
        assert_eq!(names("baby_x2"), ["baby"]);
        assert_eq!(names("baby-2x"), ["baby"]);
        assert_eq!(names("sub/baby_x2_sr"), ["sub/baby_x2", "sub/baby"]);
        assert_eq!(names("0801x2"), ["0801"]);
        assert!(names("baby_x4").is_empty());
        assert!(names("img_102x").is_empty());
        assert!(names("sub/x2").is_empty());
        assert!(names("laser").is_empty());
    }
}
