//! The file that a path leads to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Links that are followed from one path before it counts as a loop, as in Linux.
const MAX_LINKS: usize = 40;

/// The path of a file to create or replace, with symbolic links at its end followed.
///
/// # Errors
/// If the file is a device, a pipe or a socket, which a rename would replace, or links form a loop.
pub(crate) fn of(path: &Path) -> io::Result<PathBuf> {
    match fs::metadata(path) {
        Ok(file) if !file.is_file() && !file.is_dir() => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file, and a device, pipe or socket is never replaced; choose the \
                 path of a file",
            ));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut path = path.to_owned();
    // The target of the last link need not exist.
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    Ok(path)
}
