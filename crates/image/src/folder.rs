//! The images of a folder.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::error::Error;
use crate::format::Format;
use crate::unread;

/// The files of `folder` with the suffix of a format that is read ([`Format::from_extension`]), sorted by path;
/// with `recursive` those of the subfolders too.
///
/// Names that start with a dot are skipped, folders included. Symbolic links are followed.
///
/// # Errors
///
/// If the folder or, with `recursive`, a subfolder cannot be read, or there is no such file.
pub fn images_in(folder: &Path, recursive: bool) -> Result<Vec<PathBuf>, Error> {
    let by_suffix = |path: &Path| Format::from_extension(path).is_some();
    let (images, mut errors) = walk(folder, recursive, FolderLinks::Followed, &by_suffix);
    if errors.is_empty() {
        Ok(images)
    } else {
        Err(errors.swap_remove(0))
    }
}

/// The files of `folder` that are images by their content or by their suffix, also images that cannot be
/// read (broken ones, HEIC, GIF, camera raw files and others), so that none is skipped silently; sorted by
/// path. With `recursive` those of the subfolders too. The second list has an error for each folder that
/// cannot be read or has no image.
///
/// Names that start with a dot are skipped, folders included. Symbolic links to files are followed, links
/// to folders are not: a link that leads out of `folder` is an error, the others lead to images that are
/// found where they are.
pub fn images_by_content(folder: &Path, recursive: bool) -> (Vec<PathBuf>, Vec<Error>) {
    let wanted = |path: &Path| {
        Format::from_extension(path).is_some()
            || unread::unread_by_suffix(path).is_some()
            || match Format::of_file(path) {
                Ok(_) | Err(Error::UnreadFormat { .. }) => true,
                Err(Error::Read { .. }) => path.extension().is_none(),
                Err(_) => false,
            }
    };
    walk(folder, recursive, FolderLinks::Refused, &wanted)
}

/// How many files of `folder` and its subfolders are images by their suffix, but of formats that are not read
/// (HEIC, AVIF, camera raw and others), such as "3 images are of formats that are not read: 1 AVIF, 2 HEIC". `None` if
/// there are none or the folder cannot be read.
///
/// Names that start with a dot are skipped, folders included. Symbolic links are followed.
pub fn unread_images_in(folder: &Path) -> Option<String> {
    let by_suffix = |path: &Path| unread::unread_by_suffix(path).is_some();
    let (images, _) = walk(folder, true, FolderLinks::Followed, &by_suffix);
    let mut counts = BTreeMap::<_, usize>::new();
    for format in images
        .iter()
        .filter_map(|path| unread::unread_by_suffix(path))
    {
        *counts.entry(format).or_default() += 1;
    }
    let formats: Vec<String> = counts
        .iter()
        .map(|(format, n)| format!("{n} {format}"))
        .collect();
    let are = match images.len() {
        0 => return None,
        1 => "image is of a format that is",
        _ => "images are of formats that are",
    };
    Some(format!(
        "{} {are} not read: {}",
        images.len(),
        formats.join(", ")
    ))
}

/// What a walk does with symbolic links to folders.
#[derive(Clone, Copy, PartialEq)]
enum FolderLinks {
    Followed,
    /// A link that leads out of the tree is an error.
    Refused,
}

fn walk(
    folder: &Path,
    recursive: bool,
    links: FolderLinks,
    wanted: &dyn Fn(&Path) -> bool,
) -> (Vec<PathBuf>, Vec<Error>) {
    let hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
    let mut images = Vec::new();
    let mut errors = Vec::new();
    let depth = if recursive { usize::MAX } else { 1 };
    let root = folder.canonicalize().ok();
    // Depth 0 is the folder itself, which may be called "." or have a hidden name.
    let entries = WalkDir::new(folder)
        .max_depth(depth)
        .follow_links(links == FolderLinks::Followed)
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || !hidden(entry.file_name()));
    for entry in entries {
        match entry {
            Ok(entry) if entry.depth() == 0 && !entry.path().is_dir() => {
                errors.push(Error::Folder {
                    path: folder.to_owned(),
                    source: io::Error::from(io::ErrorKind::NotADirectory),
                });
            }
            Ok(entry) if entry.path_is_symlink() && links == FolderLinks::Refused => {
                let path = entry.into_path();
                match path.metadata() {
                    Ok(target) if target.is_dir() => {
                        let target = path.canonicalize().ok();
                        let is_inside = root
                            .as_ref()
                            .zip(target.as_ref())
                            .is_some_and(|(root, target)| target.starts_with(root));
                        if recursive && !is_inside {
                            let why = "it is a link out of the folder, which is not followed; name it itself";
                            let source = io::Error::other(why);
                            errors.push(Error::Folder { path, source });
                        }
                    }
                    Ok(_) if wanted(&path) => images.push(path),
                    Ok(_) => {}
                    Err(source) => errors.push(Error::Read { path, source }),
                }
            }
            Ok(entry) => {
                let is_image = match links {
                    FolderLinks::Followed => entry.file_type().is_file() && wanted(entry.path()),
                    // A pipe or a device with an image's name is reported when it is read.
                    FolderLinks::Refused => !entry.file_type().is_dir() && wanted(entry.path()),
                };
                if is_image {
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
