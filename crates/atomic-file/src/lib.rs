//! Files that get their name only when they are complete.
//!
//! A program that fails or is killed while it writes leaves no incomplete file under the final name.
#![forbid(unsafe_code)]
// The README's example compiles and runs.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A temporary file that gets its final name on [`publish`](Self::publish).
///
/// It is created beside the final path under a hidden name, `.wdsr-*.part`, and removed when it is
/// dropped unpublished.
#[derive(Debug)]
pub struct AtomicFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl AtomicFile {
    /// Creates an empty file beside `path`.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        let folder = match path.parent() {
            Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
            Some(folder) => folder,
            None => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".wdsr-").suffix(".part");
        #[cfg(unix)]
        {
            // The umask decides, as for any new file; by default only the owner may read it.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(folder)?;
        let path = path.to_owned();
        Ok(Self { file, path })
    }

    /// The final path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// Synchronises the file with the disk.
    ///
    /// # Errors
    /// If that fails, for instance because the disk is full.
    pub fn synchronise(&self) -> io::Result<()> {
        self.file.as_file().sync_all()
    }

    /// Synchronises the file with the disk and gives it its final name. An existing file of that name
    /// is replaced.
    ///
    /// # Errors
    /// If that fails; an existing file then keeps its content.
    pub fn publish(self) -> io::Result<()> {
        self.synchronise()?;
        self.file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Writes a file through an [`AtomicFile`].
///
/// # Errors
/// If the file cannot be written; an existing file then keeps its content.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.publish()
}

/// Writes two files of which neither is of use without the other. They get their names only when
/// both are complete.
///
/// # Errors
/// If one of them cannot be written; the error's path is that one. If the second cannot be renamed,
/// the first is removed.
pub fn write_pair(
    first: (&Path, &[u8]),
    second: (&Path, &[u8]),
) -> Result<(), (PathBuf, io::Error)> {
    let complete = |(path, bytes): (&Path, &[u8])| {
        let write = || {
            let mut file = AtomicFile::create(path)?;
            file.write_all(bytes)?;
            file.synchronise()?;
            Ok(file)
        };
        write().map_err(|error| (path.to_owned(), error))
    };
    let publish = |file: AtomicFile| {
        let path = file.path.clone();
        file.publish().map_err(|error| (path, error))
    };
    let files = (complete(first)?, complete(second)?);
    publish(files.0)?;
    publish(files.1).inspect_err(|_| {
        // The error of the rename matters more than one of the removal.
        let _ = std::fs::remove_file(first.0);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_in(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder).expect("a folder");
        entries
            .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_file()))
            .count()
    }

    #[test]
    fn an_unpublished_file_is_removed_and_the_old_one_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        write(&path, b"old").expect("written");
        let mut file = AtomicFile::create(&path).expect("created");
        file.write_all(b"new").expect("written");
        assert_eq!(files_in(folder.path()), 2);
        drop(file);
        assert_eq!(files_in(folder.path()), 1);
        assert_eq!(std::fs::read(&path).expect("read"), b"old");
        write(&path, b"new").expect("written");
        assert_eq!(std::fs::read(&path).expect("read"), b"new");
    }

    #[test]
    fn a_pair_is_written_completely_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        // The second file cannot be renamed over a folder; by then the first one has its name.
        std::fs::create_dir(&second).expect("a folder");
        std::fs::write(second.join("content"), b"").expect("written");
        let error = write_pair((&first, b"1"), (&second, b"2")).expect_err("a folder");
        assert_eq!(error.0, second);
        assert_eq!(files_in(folder.path()), 0, "files left");

        std::fs::remove_dir_all(&second).expect("removed");
        write_pair((&first, b"1"), (&second, b"2")).expect("written");
        assert_eq!(std::fs::read(&first).expect("read"), b"1");
        assert_eq!(std::fs::read(&second).expect("read"), b"2");
        assert_eq!(files_in(folder.path()), 2, "files left");
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let [atomic, plain] = ["atomic", "plain"].map(|name| folder.path().join(name));
        write(&atomic, b"").expect("written");
        std::fs::write(&plain, b"").expect("written");
        let mode = |path: &Path| {
            std::fs::metadata(path)
                .expect("a file")
                .permissions()
                .mode()
        };
        assert_eq!(mode(&atomic), mode(&plain));
    }
}
