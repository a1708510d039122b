//! The images that the arguments name, and the shard that each belongs to.

use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf, is_separator};
use std::str::FromStr;

use glob::{MatchOptions, Pattern};
use walkdir::WalkDir;
use wdsr_image::{Format, images_by_content, unread_by_suffix};
use xxhash_rust::xxh3::xxh3_64;

use crate::{Error, place};

/// One image to upscale.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its path.
    pub path: PathBuf,
    /// Its path below the folder it was found in, and the path of its result below the output
    /// folder; the name of a file that is named itself.
    pub relative: PathBuf,
    /// Length of the file or object; 0 if it is not known yet.
    pub bytes: u64,
}

/// An argument, folder or file that is not an input.
#[derive(Debug)]
pub struct InputError {
    /// The argument, folder or file.
    pub path: PathBuf,
    /// The reason.
    pub error: Error,
}

/// The images that the arguments name (files, folders, patterns), each once and in order, and the
/// errors. Results of earlier runs in `output`, if that is below a folder of inputs, are skipped.
pub fn collect(
    arguments: &[PathBuf],
    recursive: bool,
    output: Option<&Path>,
) -> (Vec<Input>, Vec<InputError>) {
    let mut inputs = Vec::new();
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    let url_of_output = output.filter(|output| place::is_url(output));
    let output = output.and_then(|output| output.canonicalize().ok());
    // Whether a path found below a folder is in an output folder below it.
    let is_result = |path: &Path, folder: &Path| {
        output.as_deref().is_some_and(|output| {
            let is_inside = folder
                .canonicalize()
                .is_ok_and(|folder| output.starts_with(&folder) && *output != folder);
            is_inside
                && path
                    .canonicalize()
                    .is_ok_and(|path| path.starts_with(output))
        })
    };
    let mut add = |path: PathBuf, relative: PathBuf, bytes: u64| {
        if seen.insert(path.clone()) {
            inputs.push(Input {
                path,
                relative,
                bytes,
            });
        }
    };
    let length_of = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    for argument in arguments {
        if place::is_url(argument) {
            match objects_of(argument, recursive, url_of_output) {
                Ok(objects) => {
                    for (path, relative, bytes) in objects {
                        add(path, relative, bytes);
                    }
                }
                Err(error) => errors.push(InputError {
                    path: argument.clone(),
                    error,
                }),
            }
            continue;
        }
        let mut paths = vec![argument.clone()];
        if is_pattern(argument) {
            let matches = expand(argument);
            paths = matches.paths;
            paths.retain(|path| !is_result(path, &matches.base));
            errors.extend(matches.errors);
        }
        for path in paths {
            if !path.is_dir() {
                let relative = PathBuf::from(path.file_name().unwrap_or(path.as_os_str()));
                let bytes = length_of(&path);
                add(path, relative, bytes);
                continue;
            }
            let (images, folder_errors) = images_by_content(&path, recursive);
            errors.extend(folder_errors.into_iter().map(|error| InputError {
                path: error.path().to_owned(),
                error: error.into(),
            }));
            for image in images {
                if !is_result(&image, &path) {
                    let relative = image.strip_prefix(&path).unwrap_or(&image).to_owned();
                    let bytes = length_of(&image);
                    add(image, relative, bytes);
                }
            }
        }
    }
    (inputs, errors)
}

/// Whether an argument is a pattern: it has a pattern's characters, and no file has that name.
pub fn is_pattern(argument: &Path) -> bool {
    !place::is_http(argument)
        && has_wildcard(argument.as_os_str().as_encoded_bytes())
        && argument.symlink_metadata().is_err()
}

/// The images that a URL names, with their paths below it and their lengths: an object, those of a folder, or those that
/// match a pattern.
fn objects_of(
    url: &Path,
    recursive: bool,
    output: Option<&Path>,
) -> Result<Vec<(PathBuf, PathBuf, u64)>, Error> {
    let is_pattern = is_pattern(url);
    if !is_pattern && !place::is_folder(url) {
        let relative = PathBuf::from(url.file_name().unwrap_or(url.as_os_str()));
        return Ok(vec![(url.to_owned(), relative, 0)]);
    }
    let refused = |reason: &str| Error::Pattern {
        pattern: url.to_owned(),
        reason: reason.to_owned(),
    };
    let text = url.to_string_lossy();
    let (base, rest) = match is_pattern {
        false => (&*text, ""),
        true => {
            let wildcard = text.find(['*', '?', '[']).unwrap_or(text.len());
            text.split_at(text[..wildcard].rfind('/').map_or(0, |slash| slash + 1))
        }
    };
    let pattern = match is_pattern {
        false => None,
        true => Some(parsed(rest).map_err(|reason| refused(&reason))?),
    };
    let names_hidden = rest.split('/').any(|part| part.starts_with('.'));
    let base = Path::new(base);
    let mut images = Vec::new();
    for object in place::list(base, recursive || is_pattern)? {
        let below = object.path.strip_prefix(base).unwrap_or(&object.path);
        let is_hidden = below
            .components()
            .any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."));
        let is_result = output.is_some_and(|output| {
            output != base && output.starts_with(base) && object.path.starts_with(output)
        });
        let is_wanted = match &pattern {
            Some(pattern) => is_match(pattern, below) && (names_hidden || !is_hidden),
            None => !is_hidden,
        };
        let is_image =
            || Format::from_extension(below).is_some() || unread_by_suffix(below).is_some();
        if is_wanted && !is_result && is_image() {
            images.push((object.path.clone(), below.to_owned(), object.bytes));
        }
    }
    match images.is_empty() {
        true if is_pattern => Err(refused("no image matches this pattern")),
        true => Err(wdsr_image::Error::NoImages {
            path: url.to_owned(),
            recursive,
        }
        .into()),
        false => Ok(images),
    }
}

fn parsed(pattern: &str) -> Result<Pattern, String> {
    // As in shells, `[^` is `[!`, and `**` beside other characters is `*`.
    let parts = pattern.split(is_separator).map(|part| match part {
        "**" => part.to_owned(),
        _ => part.replace("[^", "[!").replace("**", "*"),
    });
    let text = parts.collect::<Vec<_>>().join("/");
    Pattern::new(&text).map_err(|error| error.msg.to_owned())
}

/// Bytes of a name that are not UTF-8 count as a character each, or a few together.
fn is_match(pattern: &Pattern, path: &Path) -> bool {
    const OPTIONS: MatchOptions = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: false,
    };
    pattern.matches_with(&path.to_string_lossy(), OPTIONS)
}

fn has_wildcard(text: &[u8]) -> bool {
    text.iter().any(|byte| b"*?[".contains(byte))
}

/// The files and folders that a pattern matches.
struct Matches {
    /// The folder before its first wildcard.
    base: PathBuf,
    /// Sorted.
    paths: Vec<PathBuf>,
    errors: Vec<InputError>,
}

/// Finds the files and folders that a pattern matches. As in a shell, `*` matches no leading dot, and
/// `**` does not follow links to folders.
fn expand(pattern: &Path) -> Matches {
    let is_literal = |part: &Component<'_>| !has_wildcard(part.as_os_str().as_encoded_bytes());
    let base: PathBuf = pattern.components().take_while(is_literal).collect();
    let rest: PathBuf = pattern.components().skip_while(is_literal).collect();
    let folder = match base.as_os_str().is_empty() {
        true => Path::new("."),
        false => &base,
    };
    let mut matches = Matches {
        base: folder.to_owned(),
        paths: Vec::new(),
        errors: Vec::new(),
    };
    let refused = |reason: &str| InputError {
        path: pattern.to_owned(),
        error: Error::Pattern {
            pattern: pattern.to_owned(),
            reason: reason.to_owned(),
        },
    };
    let Some(text) = rest.to_str() else {
        let reason = "a pattern must be UTF-8; name the files or their folder";
        matches.errors.push(refused(reason));
        return matches;
    };
    let parsed = match parsed(text) {
        Ok(parsed) => parsed,
        Err(reason) => {
            matches.errors.push(refused(&reason));
            return matches;
        }
    };
    let parts = || {
        rest.components()
            .map(|part| part.as_os_str().as_encoded_bytes())
    };
    let is_deep = parts().any(|part| part == b"**");
    let ends_deep = parts().next_back() == Some(b"**");
    let names_hidden = parts().any(|part| part.starts_with(b"."));
    let depth = if is_deep { usize::MAX } else { parts().count() };
    let entries = WalkDir::new(folder)
        .max_depth(depth)
        .follow_links(!is_deep)
        .into_iter()
        .filter_entry(|entry| {
            let name = entry.file_name().as_encoded_bytes();
            entry.depth() == 0 || names_hidden || !name.starts_with(b".")
        });
    for entry in entries {
        match entry {
            Ok(entry) => {
                let below = entry.path().strip_prefix(folder).unwrap_or(entry.path());
                let is_folder = entry.file_type().is_dir();
                let is_link_to_folder = entry.path_is_symlink() && entry.path().is_dir();
                // `photos/**` is all folders, each of whose images are inputs.
                let is_wanted = match ends_deep {
                    true => is_folder,
                    false => entry.depth() > 0 && !(is_deep && is_link_to_folder),
                };
                let is_matched = match ends_deep {
                    true => is_match(&parsed, &below.join("an image")),
                    false => is_match(&parsed, below),
                };
                if is_wanted && is_matched {
                    matches.paths.push(base.join(below));
                }
            }
            // A loop of links leads to nothing new.
            Err(error) if error.loop_ancestor().is_some() => {}
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_owned();
                let below = path.strip_prefix(folder).unwrap_or(&path).to_owned();
                if path.is_symlink() && !path.exists() {
                    // A link that leads nowhere: an error if it was meant.
                    if is_match(&parsed, &below) {
                        matches.paths.push(base.join(&below));
                    }
                } else if let Some(source) = error.into_io_error().filter(|_| path.exists()) {
                    let error = wdsr_image::Error::Folder {
                        path: path.clone(),
                        source,
                    };
                    let error = error.into();
                    matches.errors.push(InputError { path, error });
                }
            }
        }
    }
    matches.paths.sort();
    if matches.paths.is_empty() && matches.errors.is_empty() {
        let reason = "no file has this name or matches this pattern";
        matches.errors.push(refused(reason));
    }
    matches
}

/// A part of a batch: number `index` of `count`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The part, from 1.
    pub index: u64,
    /// The number of parts.
    pub count: u64,
}

impl Shard {
    /// What names of manifests have for the shard, such as `-2-of-8`.
    pub fn name_end(self) -> String {
        format!("-{}-of-{}", self.index, self.count)
    }

    /// Whether an image belongs to this shard. Its path alone decides, so machines that see the folder
    /// at different times share it without gap or overlap. The suffix does not count: images whose
    /// results would have the same name are in one shard, which reports them.
    pub fn contains(self, relative: &Path) -> bool {
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
#[error("expected I/N with I from 0 or 1 to N, e.g. 2/8 for the second of eight, found \"{0}\"")]
pub struct ShardError(String);

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let parse = || {
            let (index, count) = text.split_once('/')?;
            let (index, count) = (index.parse().ok()?, count.parse().ok()?);
            // Of schedulers that count from 0.
            let index = if index == 0 { count } else { index };
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
        let last = Shard { index: 8, count: 8 };
        for text in ["8/8", "0/8"] {
            assert_eq!(text.parse::<Shard>().ok(), Some(last));
        }
        for wrong in ["9/8", "2", "2/", "a/b", "0/0", "-1/2"] {
            let error = wrong.parse::<Shard>().expect_err(wrong);
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }
}
