//! The images of a source that are prepared.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wdsr_image::{images_by_content, images_in};

use crate::error::Error;
use crate::parallel::map_or_first_error;
use crate::sources::{ListedImage, Source};

/// An image to prepare.
pub(super) struct SourceImage {
    pub(super) path: PathBuf,
    /// Its path below the source's folder.
    pub(super) original: String,
    pub(super) sha256: String,
    /// Both sides are divided by this.
    pub(super) reduce: u32,
    pub(super) licence: Option<String>,
    pub(super) listed: bool,
}

/// The listed images in a folder, each with its known content.
pub(super) fn listed_images(
    source: &Source,
    listed: &[&ListedImage],
    folder: &Path,
) -> Result<Vec<SourceImage>, Error> {
    // Errors of single files are ignored, as packages have dangling links; a listed image that is
    // missing is reported below.
    let (files, errors) = images_by_content(folder, true);
    if files.is_empty() {
        return Err(errors.into_iter().next().map_or_else(
            || unreachable!("neither an image nor an error"),
            Error::from,
        ));
    }
    let found: Vec<Result<SourceImage, String>> =
        map_or_first_error(listed, |listed| find_listed(listed, &files))?;
    let total = found.len();
    let (images, problems): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
    if let Some(Err(first)) = problems.first() {
        return Err(Error::UnexpectedImages {
            folder: folder.to_owned(),
            name: source.name.clone(),
            wrong: problems.len(),
            total,
            first: first.clone(),
        });
    }
    Ok(images.into_iter().flatten().collect())
}

/// The file with the name and the content of a listed image, or the reason why there is none.
fn find_listed(
    listed: &ListedImage,
    files: &[PathBuf],
) -> Result<Result<SourceImage, String>, Error> {
    let mut problem = format!("{} is missing", listed.file);
    for path in files.iter().filter(|path| path.ends_with(&listed.file)) {
        let sha256 = sha256_of(&read(path)?);
        if sha256 == listed.sha256 {
            return Ok(Ok(SourceImage {
                path: path.clone(),
                original: listed.file.clone(),
                sha256,
                reduce: listed.reduce,
                licence: Some(listed.licence.clone()),
                listed: true,
            }));
        }
        problem = format!(
            "{} has SHA-256 {sha256}, expected {}",
            path.display(),
            listed.sha256
        );
    }
    Ok(Err(problem))
}

/// All images of a folder.
pub(super) fn unlisted_images(source: &Source, folder: &Path) -> Result<Vec<SourceImage>, Error> {
    let files = images_in(folder, true)?;
    let image = |path: &PathBuf| {
        let below = path.strip_prefix(folder).unwrap_or(path);
        let Some(original) = below.to_str().map(str::to_owned) else {
            return Err(Error::NotUtf8(path.clone()));
        };
        Ok(SourceImage {
            sha256: sha256_of(&read(path)?),
            original,
            path: path.clone(),
            reduce: 1,
            licence: source.licence.clone(),
            listed: false,
        })
    };
    map_or_first_error(&files, image)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|e| Error::io(path, "read", e))
}

pub(super) fn sha256_of(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
