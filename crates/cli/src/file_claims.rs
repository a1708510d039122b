//! The files that a command reads and writes, which must not overlap.
//!
//! A command declares its inputs and outputs before it creates or changes anything. No output may be
//! the same file as an input or another output, whatever the paths look like: links, `..` and, on
//! file systems that ignore it, case are resolved by comparing files instead of names.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::path::{Component, Path, PathBuf};

use wdsr_batch::is_url;

/// Links that are followed from one path before it counts as a loop, as in Linux.
const MAX_LINKS: usize = 40;

/// The inputs and outputs of a run.
pub(crate) struct FileClaims(HashMap<Identity, Claim>);

#[derive(Clone, Debug)]
struct Claim {
    /// What the file is to the command, such as "model".
    role: &'static str,
    path: PathBuf,
    is_output: bool,
}

/// Two files of a run that are one.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}: the {role} would {} the {} {}; give {option} another path",
    path.display(),
    if other.is_output { "be the same file as" } else { "replace" },
    other.role,
    other.path.display()
)]
pub(crate) struct Conflict {
    role: &'static str,
    option: &'static str,
    path: PathBuf,
    other: Claim,
}

impl FileClaims {
    /// Claims inputs, each with its role. Files that do not exist are not claimed, as nothing of
    /// them can be lost. URLs are compared as text.
    pub(crate) fn of_inputs<'a>(
        inputs: impl IntoIterator<Item = (&'static str, &'a Path)>,
    ) -> Self {
        let claim = |(role, path): (_, &Path)| {
            let identity = Identity::of(path).filter(|of| of.exists() || is_url(path))?;
            let path = path.to_owned();
            let is_output = false;
            Some((
                identity,
                Claim {
                    role,
                    path,
                    is_output,
                },
            ))
        };
        Self(inputs.into_iter().filter_map(claim).collect())
    }

    /// Claims an output that `option` chooses the path of.
    ///
    /// # Errors
    /// When it is the same file as an input or an output claimed before.
    pub(crate) fn write(
        &mut self,
        role: &'static str,
        option: &'static str,
        path: &Path,
    ) -> Result<(), Conflict> {
        let Some(identity) = Identity::of(path) else {
            return Ok(());
        };
        let path = path.to_owned();
        match self.0.entry(identity) {
            Entry::Occupied(other) => Err(Conflict {
                role,
                option,
                path,
                other: other.get().clone(),
            }),
            Entry::Vacant(free) => {
                let is_output = true;
                free.insert(Claim {
                    role,
                    path,
                    is_output,
                });
                Ok(())
            }
        }
    }

    /// Claims a folder whose whole content is an output.
    ///
    /// # Errors
    /// When it is or contains an input.
    pub(crate) fn write_folder(
        &mut self,
        role: &'static str,
        option: &'static str,
        folder: &Path,
    ) -> Result<(), Conflict> {
        let is_inside = |claim: &&Claim| {
            let path = claim.path.canonicalize();
            path.is_ok_and(|path| path.ancestors().any(|parent| is_same_file(parent, folder)))
        };
        match self.0.values().find(is_inside) {
            None => self.write(role, option, folder),
            Some(other) => Err(Conflict {
                role,
                option,
                path: folder.to_owned(),
                other: other.clone(),
            }),
        }
    }

    /// Whether an input or output is this file.
    pub(crate) fn contains(&self, path: &Path) -> bool {
        Identity::of(path).is_some_and(|identity| self.0.contains_key(&identity))
    }
}

/// Whether both paths lead to one existing file or folder, or are one URL.
pub(crate) fn is_same_file(a: &Path, b: &Path) -> bool {
    if is_url(a) || is_url(b) {
        return a == b;
    }
    let existing = |path| Identity::of(path).filter(Identity::exists);
    existing(a).is_some_and(|a| existing(b) == Some(a))
}

/// A file or folder, whatever path leads to it.
#[derive(PartialEq, Eq, Hash)]
struct Identity {
    /// The file, or the deepest folder on its path that exists.
    existing: FileId,
    /// The rest of the path; empty where the file exists.
    missing: PathBuf,
}

impl Identity {
    /// `None` for devices and pipes, which lose nothing by being written to, and for what cannot be
    /// examined.
    fn of(path: &Path) -> Option<Self> {
        // A link without a target is followed too: creating a file through it creates the target.
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match fs::read_link(&path) {
                Ok(target) if !path.exists() => {
                    path = path.parent().unwrap_or(Path::new("")).join(target);
                }
                _ => break,
            }
        }
        let mut existing = PathBuf::from(".");
        let mut missing = PathBuf::new();
        for component in path.components() {
            let next = existing.join(component);
            if missing.as_os_str().is_empty() && next.exists() {
                existing = next;
            } else if component == Component::ParentDir {
                missing.pop();
            } else {
                missing.push(component);
            }
        }
        let metadata = fs::metadata(&existing).ok()?;
        (metadata.is_file() || metadata.is_dir()).then_some(())?;
        Some(Self {
            existing: file_id(&existing, &metadata)?,
            missing,
        })
    }

    fn exists(&self) -> bool {
        self.missing.as_os_str().is_empty()
    }
}

/// Device and inode.
#[cfg(unix)]
type FileId = (u64, u64);

#[cfg(unix)]
fn file_id(_: &Path, metadata: &fs::Metadata) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
type FileId = same_file::Handle;

#[cfg(not(unix))]
fn file_id(path: &Path, _: &fs::Metadata) -> Option<FileId> {
    same_file::Handle::from_path(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether an output at `written` is refused beside an input at `read`.
    fn is_conflict(read: &Path, written: &Path) -> bool {
        let mut claims = FileClaims::of_inputs([("input", read)]);
        claims.write("result", "-o", written).is_err()
    }

    #[test]
    fn finds_an_input_by_any_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let input = root.join("input");
        fs::write(&input, "").expect("written");
        fs::write(root.join("other"), "").expect("written");
        fs::hard_link(&input, root.join("hard")).expect("a link");
        fs::create_dir(root.join("folder")).expect("a folder");
        let mut same = vec!["input", "./input", "folder/../input", "hard"];
        if cfg!(unix) {
            same.extend(["symbolic", "linked-folder/input"]);
            #[cfg(unix)]
            std::os::unix::fs::symlink("input", root.join("symbolic")).expect("a link");
            #[cfg(unix)]
            std::os::unix::fs::symlink(".", root.join("linked-folder")).expect("a link");
        }
        for path in same {
            assert!(is_conflict(&input, &root.join(path)), "{path}");
        }
        for path in ["other", "new", "folder/input", "folder"] {
            assert!(!is_conflict(&input, &root.join(path)), "{path}");
        }
        let new = root.join("new");
        assert!(!is_conflict(&new, &new), "an input that does not exist");
    }

    #[test]
    fn finds_equal_outputs_that_do_not_exist() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let mut claims = FileClaims::of_inputs([]);
        let mut is_free = |path: &str| claims.write("result", "-o", &root.join(path)).is_ok();
        assert!(is_free("new/a"));
        assert!(is_free("new/b"));
        assert!(is_free("a"));
        assert!(!is_free("new/./a"));
        assert!(!is_free("new/c/../b"));
        assert!(!is_free("new/../a"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("a", root.join("dangling")).expect("a link");
            assert!(!is_free("dangling"));
        }
    }

    #[test]
    fn devices_are_never_in_conflict() {
        let mut claims = FileClaims::of_inputs([("input", Path::new("/dev/null"))]);
        for role in ["result", "report"] {
            let claimed = claims.write(role, "-o", Path::new("/dev/null"));
            assert!(!cfg!(unix) || claimed.is_ok(), "{claimed:?}");
        }
    }

    #[test]
    fn a_written_folder_contains_no_input() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::create_dir_all(root.join("out/inside")).expect("a folder");
        fs::create_dir_all(root.join("out-beside")).expect("a folder");
        for (input, is_free) in [
            ("out", false),
            ("out/inside", false),
            ("out-beside", true),
            (".", true),
        ] {
            let input = root.join(input);
            let mut claims = FileClaims::of_inputs([("source", &*input)]);
            let claimed = claims.write_folder("dataset", "FOLDER", &root.join("out"));
            assert_eq!(claimed.is_ok(), is_free, "{claimed:?}");
        }
    }
}
