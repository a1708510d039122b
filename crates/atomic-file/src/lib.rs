//! Files that get their name only when they are complete.
//!
//! A program that fails or is killed while it writes leaves no incomplete file under the final name.
#![forbid(unsafe_code)]
// The README's example compiles and runs.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod leftovers;
mod target;

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

pub use leftovers::remove_unpublished;
use leftovers::{PREFIX, SUFFIX};

/// A temporary file that gets its final name on [`publish`](Self::publish).
///
/// It is created beside the final path under a hidden name, `.wdsr-*.part`, and removed when it is
/// dropped unpublished. A process holds a lock on each of its temporary files. The first file that it
/// creates in a folder removes those that no process holds any more: a killed one left them.
#[derive(Debug)]
pub struct AtomicFile {
    file: NamedTempFile,
    path: PathBuf,
    /// Names the temporary file as one of this process.
    _own: leftovers::Own,
}

impl AtomicFile {
    /// Creates an empty temporary file for `path`. If `path` is a symbolic link, the file that it
    /// leads to is the one to replace, and the link stays.
    ///
    /// # Errors
    /// If the file cannot be created, or `path` is a device, a pipe or a socket.
    pub fn create(path: &Path) -> io::Result<Self> {
        let path = target::of(path)?;
        let folder = folder_of(&path)?;
        leftovers::remove_from(folder);
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX);
        #[cfg(unix)]
        {
            // The umask decides, as for any new file; by default only the owner may read it.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        loop {
            let file = builder.tempfile_in(folder)?;
            // Before the lock another process may take the file for a leftover.
            if leftovers::claim(file.as_file()) && file.path().exists() {
                let _own = leftovers::Own::new(file.path());
                return Ok(Self { file, path, _own });
            }
        }
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

    /// Synchronises the file with the disk, gives it its final name and synchronises the folder: it
    /// survives a loss of power. An existing file of that name is replaced.
    ///
    /// # Errors
    /// If that fails; unless only the folder could not be synchronised, an existing file then keeps
    /// its content.
    pub fn publish(self) -> io::Result<()> {
        self.synchronise()?;
        self.file.persist(&self.path).map_err(|error| error.error)?;
        synchronise_folder(folder_of(&self.path)?)
    }
}

fn folder_of(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(folder) => Ok(folder),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Synchronises the names in a folder with the disk, where the system offers that.
///
/// # Errors
/// If that fails.
pub fn synchronise_folder(folder: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    // A folder may be writable without being readable.
    let Ok(folder) = File::open(folder) else {
        return Ok(());
    };
    match folder.sync_all() {
        // The file system has nothing to synchronise.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synchronised => synchronised,
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
    fn a_link_stays_and_its_target_is_replaced() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        std::fs::create_dir(root.join("disk")).expect("a folder");
        std::fs::write(root.join("disk/file"), "old").expect("written");
        for (link, target) in [
            ("direct", "disk/file"),
            ("twice", "direct"),
            ("new", "disk/new"),
        ] {
            symlink(target, root.join(link)).expect("a link");
            write(&root.join(link), link.as_bytes()).expect("written");
            assert!(root.join(link).is_symlink(), "{link} is replaced");
            assert_eq!(
                std::fs::read(root.join(link)).expect("read"),
                link.as_bytes()
            );
        }
        assert_eq!(
            std::fs::read(root.join("disk/file")).expect("read"),
            b"twice"
        );
        symlink("loop", root.join("loop")).expect("a link");
        write(&root.join("loop"), b"").expect_err("a loop");
    }

    #[cfg(unix)]
    #[test]
    fn devices_pipes_and_sockets_are_never_replaced() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let _socket =
            std::os::unix::net::UnixListener::bind(root.join("socket")).expect("a socket");
        symlink("/dev/null", root.join("link")).expect("a link");
        for path in [root.join("socket"), root.join("link"), "/dev/full".into()] {
            let error = write(&path, b"bytes").expect_err("not a file").to_string();
            assert!(error.contains("not a regular file"), "{error}");
        }
        let socket = std::fs::metadata(root.join("socket")).expect("a socket");
        assert!(socket.file_type().is_socket(), "the socket is replaced");
        assert_eq!(files_in(root), 0);
    }

    #[test]
    fn leftovers_of_killed_processes_are_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let kept = [".wdsr-abc.part", ".wdsr-abc12_.part", "wdsr-abc123.part"];
        let [left, held] = [".wdsr-abc123.part", ".wdsr-Held99.part"];
        for name in kept.iter().chain(&[left, held]) {
            std::fs::write(path(name), "half").expect("written");
        }
        let holder = File::open(path(held)).expect("open");
        holder.try_lock().expect("a lock");
        write(&path("file"), b"whole").expect("written");
        assert!(!path(left).exists(), "{left} stays");
        for name in kept.iter().chain(&[held]) {
            assert!(path(name).exists(), "{name} is removed");
        }
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
