//! Files that appear under their name only when they are complete.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A temporary file that gets its final name on [`publish`](Self::publish).
///
/// It is created beside the final path under a hidden name, `.wdsr-*.part`, and removed when it is
/// dropped unpublished.
#[derive(Debug)]
pub struct AtomicFile {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl AtomicFile {
    /// Creates an empty file beside `path`.
    ///
    /// # Errors
    ///
    /// If the file cannot be created.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let create = || {
            let folder = match path.parent() {
                Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
                Some(folder) => folder,
                None => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
            };
            let mut builder = tempfile::Builder::new();
            builder.prefix(".wdsr-").suffix(".part");
            #[cfg(unix)]
            {
                // As for any new file, the umask decides. The default of the crate is the owner only.
                use std::os::unix::fs::PermissionsExt;
                builder.permissions(std::fs::Permissions::from_mode(0o666));
            }
            builder.tempfile_in(folder)
        };
        let path = path.to_owned();
        match create() {
            Ok(file) => Ok(Self { file, path }),
            Err(source) => Err(Error::Write { path, source }),
        }
    }

    /// Length of the file in bytes.
    ///
    /// # Errors
    ///
    /// If the system cannot tell.
    pub fn len_bytes(&self) -> Result<u64, Error> {
        let metadata = self.as_file().metadata();
        Ok(metadata.map_err(|source| self.failed(source))?.len())
    }

    /// Synchronises the file with the disk.
    ///
    /// # Errors
    ///
    /// If that fails, for instance because the disk is full.
    pub fn synchronise(&self) -> Result<(), Error> {
        let synchronised = self.as_file().sync_all();
        synchronised.map_err(|source| self.failed(source))
    }

    /// Gives the file its final name. An existing file of that name is replaced; a symbolic link is
    /// replaced by the file.
    ///
    /// # Errors
    ///
    /// If the file cannot be renamed; an existing file then keeps its content.
    pub fn publish(self) -> Result<(), Error> {
        let path = self.path;
        let published = self.file.persist(&path).map_err(|error| error.error);
        published.map_err(|source| Error::Write { path, source })?;
        Ok(())
    }

    fn as_file(&self) -> &File {
        self.file.as_file()
    }

    fn failed(&self, source: io::Error) -> Error {
        let path = self.path.clone();
        Error::Write { path, source }
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

/// Writes a file of any kind through an [`AtomicFile`].
///
/// # Errors
///
/// If the file cannot be written; an existing file then keeps its content.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = AtomicFile::create(path)?;
    let written = file.write_all(bytes);
    written.map_err(|source| file.failed(source))?;
    file.synchronise()?;
    file.publish()
}
