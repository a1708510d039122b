//! Temporary files: those of this process, and those that killed processes left.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) const PREFIX: &str = ".wdsr-";
pub(crate) const SUFFIX: &str = ".part";
/// Random characters between them.
const RANDOM_CHARACTERS: usize = 6;

struct Known {
    /// Temporary files of this process.
    own: BTreeSet<PathBuf>,
    /// Folders whose leftovers are removed.
    swept: BTreeSet<PathBuf>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known {
    own: BTreeSet::new(),
    swept: BTreeSet::new(),
});

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks a new file for this process; false if another process holds it. File systems without locks
/// count as locked: there no file can be proved a leftover either.
pub(crate) fn claim(file: &File) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// A temporary file of this process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Own(PathBuf);

impl Own {
    pub(crate) fn new(path: &Path) -> Self {
        known().own.insert(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        known().own.remove(&self.0);
    }
}

/// Removes all temporary files of this process, before it ends without dropping its
/// [`AtomicFile`](crate::AtomicFile)s.
pub fn remove_unpublished() {
    for path in &known().own {
        let _gone = fs::remove_file(path);
    }
}

/// Removes the temporary files in a folder that no process holds, unless this process has done so.
/// An error is ignored, because no work depends on it.
pub(crate) fn remove_from(folder: &Path) {
    let known_path = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    if !known().swept.insert(known_path) {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_file = entry.file_type().is_ok_and(|file| file.is_file());
        if !is_file || !is_temporary(&path) {
            continue;
        }
        let file = OpenOptions::new().write(true).open(&path);
        if file.is_ok_and(|file| file.try_lock().is_ok()) {
            let _gone = fs::remove_file(&path);
        }
    }
}

/// Whether a file has a name that only [`AtomicFile`](crate::AtomicFile) gives.
fn is_temporary(path: &Path) -> bool {
    let random = path
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
    random.is_some_and(|random| {
        random.len() == RANDOM_CHARACTERS && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}
