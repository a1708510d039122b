//! The images that the arguments name, and the shard that each belongs to.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use wdsr_image::images_by_content;
use xxhash_rust::xxh3::xxh3_64;

use super::failure::Refused;

/// One image to upscale.
pub(super) struct Input {
    pub(super) path: PathBuf,
    /// Its path below the folder it was found in, and the path of its result below the output
    /// folder; the name of a file that is named itself.
    pub(super) relative: PathBuf,
}

/// The images that the arguments name (files, folders, patterns), each once and in order, and the
/// errors. Results of earlier runs in `output`, if that is below a folder of inputs, are skipped.
pub(super) fn collect(
    arguments: &[PathBuf],
    recursive: bool,
    output: &Path,
) -> (Vec<Input>, Vec<anyhow::Error>) {
    let mut inputs = Vec::new();
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    let output = output.canonicalize().ok();
    for argument in arguments {
        let paths = match expand(argument) {
            Ok(paths) => paths,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        for path in paths {
            if !path.is_dir() {
                let relative = PathBuf::from(path.file_name().unwrap_or(path.as_os_str()));
                if seen.insert(path.clone()) {
                    inputs.push(Input { path, relative });
                }
                continue;
            }
            let (images, folder_errors) = images_by_content(&path, recursive);
            errors.extend(folder_errors.into_iter().map(anyhow::Error::from));
            let own_results = output.as_deref().filter(|output| {
                path.canonicalize()
                    .is_ok_and(|folder| output.starts_with(&folder) && *output != folder)
            });
            for image in images {
                if own_results.is_some_and(|output| {
                    image
                        .canonicalize()
                        .is_ok_and(|image| image.starts_with(output))
                }) {
                    continue;
                }
                let relative = image.strip_prefix(&path).unwrap_or(&image).to_owned();
                if seen.insert(image.clone()) {
                    inputs.push(Input {
                        path: image,
                        relative,
                    });
                }
            }
        }
    }
    (inputs, errors)
}

/// Whether an argument is a pattern: it has a pattern's characters, and no file has that name.
pub(super) fn is_pattern(argument: &Path) -> bool {
    argument
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .any(|byte| b"*?[".contains(byte))
        && argument.symlink_metadata().is_err()
}

fn expand(argument: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !is_pattern(argument) {
        return Ok(vec![argument.to_owned()]);
    }
    let refuse = |what: &str| Refused(format!("{}: {what}", argument.display()));
    let pattern = argument
        .to_str()
        .ok_or_else(|| refuse("a pattern must be UTF-8; name the files or their folder"))?;
    // As a shell does: a leading dot is matched by a dot only.
    let options = glob::MatchOptions {
        require_literal_leading_dot: true,
        require_literal_separator: true,
        ..glob::MatchOptions::new()
    };
    let matches = glob::glob_with(pattern, options).map_err(|e| refuse(&e.to_string()))?;
    let paths = matches.collect::<Result<Vec<_>, _>>()?;
    if paths.is_empty() {
        return Err(refuse("no file has this name or matches this pattern").into());
    }
    Ok(paths)
}

/// A part of a batch: number `index` of `count`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) index: u64,
    pub(super) count: u64,
}

impl Shard {
    /// Whether an image belongs to this shard. Its path alone decides, so machines that see the folder
    /// at different times share it without gap or overlap. The suffix does not count: images whose
    /// results would have the same name are in one shard, which reports them.
    pub(super) fn contains(self, relative: &Path) -> bool {
        let without_suffix = relative.with_extension("");
        let place: Vec<&[u8]> = without_suffix
            .components()
            .map(Component::as_os_str)
            .map(std::ffi::OsStr::as_encoded_bytes)
            .collect();
        xxh3_64(&place.join(&b'/')) % self.count == self.index - 1
    }
}

/// A text that names no shard.
#[derive(Debug, thiserror::Error)]
#[error("expected I/N with I from 1 to N, e.g. 2/8 for the second of eight, found \"{0}\"")]
pub(super) struct ShardError(String);

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let parse = || {
            let (index, count) = text.split_once('/')?;
            let (index, count) = (index.parse().ok()?, count.parse().ok()?);
            (1..=count)
                .contains(&index)
                .then_some(Self { index, count })
        };
        parse().ok_or_else(|| ShardError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_in_exactly_one_shard() {
        let mut sizes = [0; 3];
        for image in 0..300 {
            let place = PathBuf::from(format!("album/{image}.png"));
            let holders: Vec<u64> = (1..=3)
                .filter(|&index| Shard { index, count: 3 }.contains(&place))
                .collect();
            assert_eq!(holders.len(), 1, "{place:?}: {holders:?}");
            sizes[holders[0] as usize - 1] += 1;
        }
        assert!(sizes.iter().all(|size| *size > 60), "{sizes:?}");
    }

    #[test]
    fn shards_parse() {
        let expected = Shard { index: 2, count: 8 };
        assert_eq!("2/8".parse::<Shard>().ok(), Some(expected));
        for wrong in ["0/8", "9/8", "2", "2/", "a/b", "0/0", "-1/2"] {
            let error = wrong.parse::<Shard>().expect_err(wrong);
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }
}
