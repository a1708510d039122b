//! The pictures of a folder.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::error::Error;
use crate::format::Format;

/// The files of `folder` with a known suffix (png, jpg, jpeg, webp, tif, tiff, bmp, any case),
/// sorted by path; with `recursive` those of the folders below too.
///
/// Names that start with a dot are skipped, folders included. Symbolic links are followed.
///
/// # Errors
///
/// If the folder or, with `recursive`, one below it cannot be read, or there is no such file.
pub fn pictures_in(folder: &Path, recursive: bool) -> Result<Vec<PathBuf>, Error> {
    let hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
    let mut pictures = Vec::new();
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
                let source = io::Error::from(io::ErrorKind::NotADirectory);
                return Err(Error::Folder {
                    path: folder.to_owned(),
                    source,
                });
            }
            Ok(entry) => {
                if entry.file_type().is_file() && Format::from_extension(entry.path()).is_some() {
                    pictures.push(entry.into_path());
                }
            }
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_owned();
                // A dangling link with a hidden name (an editor's lock) does not pass the filter.
                if error.depth() > 0 && path.file_name().is_some_and(hidden) {
                    continue;
                }
                // The system's own words: walkdir's repeat the path.
                let source = error
                    .into_io_error()
                    .unwrap_or_else(|| io::Error::other("a link leads back to a folder above it"));
                return Err(Error::Folder { path, source });
            }
        }
    }
    if pictures.is_empty() {
        return Err(Error::NoPictures {
            path: folder.to_owned(),
            recursive,
        });
    }
    pictures.sort();
    Ok(pictures)
}
