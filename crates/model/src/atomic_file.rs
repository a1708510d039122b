//! Files that appear under their name only when complete.

use std::io::Write;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::Error;

/// Writes a file: to a temporary file beside it, then renamed, so that no half file ever has the
/// name.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_together(&[(path, bytes)])
}

/// Writes files of which none is of use without the others: each is renamed only when all are
/// complete, and where a rename fails those renamed before it are removed.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write_together(files: &[(&Path, &[u8])]) -> Result<(), Error> {
    let complete: Vec<NamedTempFile> = files
        .iter()
        .map(|(path, bytes)| temporary(path, bytes).map_err(|source| cannot_write(path, source)))
        .collect::<Result<_, Error>>()?;
    for (at, (file, (path, _))) in complete.into_iter().zip(files).enumerate() {
        if let Err(error) = file.persist(path) {
            for (renamed, _) in &files[..at] {
                // The rename's own error says more than what became of its companions.
                let _ = std::fs::remove_file(renamed);
            }
            return Err(cannot_write(path, error.error));
        }
    }
    Ok(())
}

/// A complete file beside `path`, removed unless it is renamed.
fn temporary(path: &Path, bytes: &[u8]) -> std::io::Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".wdsr-").suffix(".part");
    #[cfg(unix)]
    {
        // As for any new file: what the umask leaves, not the owner only.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn cannot_write(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        action: "write",
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_written_together_are_all_there_or_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        let names = || {
            let entries = std::fs::read_dir(folder.path()).expect("a folder");
            entries
                .filter(|e| e.as_ref().is_ok_and(|e| e.path().is_file()))
                .count()
        };
        // A folder of the second file's name: its rename fails after the first one's.
        std::fs::create_dir(&second).expect("a folder");
        std::fs::write(second.join("content"), b"").expect("written");
        let error = write_together(&[(&first, b"1"), (&second, b"2")]).expect_err("a folder");
        assert!(
            error.to_string().contains("second: cannot write"),
            "{error}"
        );
        assert_eq!(names(), 0, "files left");

        std::fs::remove_dir_all(&second).expect("removed");
        write_together(&[(&first, b"1"), (&second, b"2")]).expect("written");
        assert_eq!(std::fs::read(&first).expect("read"), b"1");
        assert_eq!(std::fs::read(&second).expect("read"), b"2");
        assert_eq!(names(), 2, "files left");
    }
}
