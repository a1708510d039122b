//! Files that appear under their name only when complete.

use std::io::Write;
use std::path::Path;

use crate::error::Error;

/// Writes a file: to a temporary file beside it, then renamed, so that no half file ever has the
/// name.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let write = || -> std::io::Result<()> {
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
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| Error::Io {
        path: path.to_owned(),
        action: "write",
        source,
    })
}
