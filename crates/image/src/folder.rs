//! The images of a folder.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::error::Error;
use crate::format::Format;

/// The files of `folder` with a known suffix (png, jpg, jpeg, webp, tif, tiff, bmp, jxl, any case),
/// sorted by path; with `recursive` those of the subfolders too.
///
/// Names that start with a dot are skipped, folders included. Symbolic links are followed.
///
/// # Errors
///
/// If the folder or, with `recursive`, a subfolder cannot be read, or there is no such file.
pub fn images_in(folder: &Path, recursive: bool) -> Result<Vec<PathBuf>, Error> {
    let by_suffix = |path: &Path| Format::from_extension(path).is_some();
    let (images, mut errors) = walk(folder, recursive, &by_suffix);
    if errors.is_empty() {
        Ok(images)
    } else {
        Err(errors.swap_remove(0))
    }
}

/// The files of `folder` whose content is an image, whatever their suffix, and the files with a known
/// suffix, so that a broken image is not skipped; sorted by path. With `recursive` those of the
/// subfolders too. The second list has an error for each folder that cannot be read or has no image.
///
/// Names that start with a dot are skipped, folders included. Symbolic links are followed.
pub fn images_by_content(folder: &Path, recursive: bool) -> (Vec<PathBuf>, Vec<Error>) {
    walk(folder, recursive, &|path| {
        Format::from_extension(path).is_some() || Format::of_file(path).is_ok()
    })
}

fn walk(
    folder: &Path,
    recursive: bool,
    wanted: &dyn Fn(&Path) -> bool,
) -> (Vec<PathBuf>, Vec<Error>) {
    let hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
    let mut images = Vec::new();
    let mut errors = Vec::new();
    let depth = if recursive { usize::MAX } else { 1 };
    // Depth 0 is the folder itself, which may be called "." or have a hidden name.
    let entries = WalkDir::new(folder)
        .max_depth(depth)
        .follow_links(true)
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || !hidden(entry.file_name()));
    for entry in entries {
        match entry {
            Ok(entry) if entry.depth() == 0 && !entry.file_type().is_dir() => {
                errors.push(Error::Folder {
                    path: folder.to_owned(),
                    source: io::Error::from(io::ErrorKind::NotADirectory),
                });
            }
            Ok(entry) => {
                if entry.file_type().is_file() && wanted(entry.path()) {
                    images.push(entry.into_path());
                }
            }
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_owned();
                // A dangling link with a hidden name (an editor's lock) does not pass the filter.
                if error.depth() > 0 && path.file_name().is_some_and(hidden) {
                    continue;
                }
                // The system's message, as walkdir's repeats the path.
                let source = error
                    .into_io_error()
                    .unwrap_or_else(|| io::Error::other("a link leads back to a folder above it"));
                errors.push(Error::Folder { path, source });
            }
        }
    }
    if images.is_empty() && errors.is_empty() {
        errors.push(Error::NoImages {
            path: folder.to_owned(),
            recursive,
        });
    }
    images.sort();
    (images, errors)
}
