//! Which images are compared with which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wdsr_image::images_in;

use super::images::Source;
use crate::WrongUsage;

/// Images of one scene, one of each source.
pub(super) struct ImageSet {
    /// The name of the images of folders; that of the first file.
    pub(super) name: String,
    pub(super) files: Vec<PathBuf>,
}

/// The sets of images of the sources: one of files, or one for each name in all folders, sorted. The second
/// list tells which images are skipped.
///
/// # Errors
/// If there are files beside folders, or a folder cannot be read or has no images.
pub(super) fn find_sets(sources: &[Source]) -> anyhow::Result<(Vec<ImageSet>, Vec<String>)> {
    let folders = sources.iter().filter(|source| source.path.is_dir());
    match folders.count() {
        0 => {
            let files = Vec::from_iter(sources.iter().map(|source| source.path.clone()));
            let name = file_name(&files[0]);
            return Ok((vec![ImageSet { name, files }], Vec::new()));
        }
        count if count < sources.len() => {
            let is_file = |source: &&Source| !source.path.is_dir();
            let file = sources.iter().find(is_file).map(|source| &source.path);
            let message = format!(
                "{}: expected a folder, as the others are, or all files",
                file.unwrap_or(&sources[0].path).display()
            );
            return Err(WrongUsage(message).into());
        }
        _ => {}
    }
    let mut places: BTreeMap<String, Vec<Option<PathBuf>>> = BTreeMap::new();
    let mut problems = Vec::new();
    for (at, source) in sources.iter().enumerate() {
        for path in images_in(&source.path, false)? {
            let stem = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let files = places
                .entry(stem)
                .or_insert_with(|| vec![None; sources.len()]);
            match &files[at] {
                Some(other) => problems.push(format!(
                    "{}: skipped, {} has the same name",
                    path.display(),
                    other.display()
                )),
                None => files[at] = Some(path),
            }
        }
    }
    let mut sets = Vec::new();
    for (name, files) in places {
        let missing = files.iter().zip(sources).find(|(file, _)| file.is_none());
        if let Some((_, source)) = missing {
            let found = files.iter().flatten().next();
            problems.push(format!(
                "{}: skipped, {} has no image of this name",
                found.map_or(Path::new(&name), |path| path).display(),
                source.path.display()
            ));
            continue;
        }
        let files = files.into_iter().flatten().collect();
        sets.push(ImageSet { name, files });
    }
    Ok((sets, problems))
}

/// The last part of a path.
pub(super) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}
