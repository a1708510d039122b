//! What to do if a file of the result's name exists.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use wdsr_batch::Entry;

/// The policy for a file that is not the own result of the same input.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum IfExists {
    /// Keep the file and skip the image
    Skip,
    /// Replace the file
    Overwrite,
    /// Report the image as failed
    Error,
    /// Write NAME-1, NAME-2, ... instead
    Rename,
}

/// The entries of earlier runs for a result.
pub(crate) type Entries = Vec<Arc<Entry>>;

/// Where a result goes.
pub(crate) enum ResultFile {
    /// A new file, or one to replace.
    Write(PathBuf),
    /// The unchanged result of earlier runs, to replace unless an entry has the same input, model
    /// and options.
    Own(PathBuf, Entries),
    /// A file to keep.
    Skip(PathBuf),
}

impl ResultFile {
    pub(super) fn path(&self) -> &Path {
        let (Self::Write(path) | Self::Own(path, _) | Self::Skip(path)) = self;
        path
    }
}

/// Chooses the file for a result. `own` has the entries of a file that is the image's own result, which
/// is [`ResultFile::Own`] whatever the policy. `taken` are files of this run, and `exists` tells
/// whether there is a file of a name.
pub(crate) fn target(
    output: &Path,
    policy: IfExists,
    own: &dyn Fn(&Path) -> Result<Entries, wdsr_batch::Error>,
    taken: &dyn Fn(&Path) -> bool,
    exists: &dyn Fn(&Path) -> Result<bool, wdsr_batch::Error>,
) -> anyhow::Result<ResultFile> {
    let mut candidate = output.to_owned();
    let mut number = 0;
    loop {
        // Only under another number can a file of this run be avoided.
        let free = policy != IfExists::Rename || !taken(&candidate);
        if free && !exists(&candidate)? {
            return Ok(ResultFile::Write(candidate));
        }
        let entries = match free {
            true => own(&candidate)?,
            false => Vec::new(),
        };
        if !entries.is_empty() {
            return Ok(ResultFile::Own(candidate, entries));
        }
        match policy {
            IfExists::Skip => return Ok(ResultFile::Skip(candidate)),
            IfExists::Overwrite => return Ok(ResultFile::Write(candidate)),
            IfExists::Error => bail!(
                "{} already exists; choose --if-exists skip, overwrite or rename",
                candidate.display()
            ),
            IfExists::Rename => {
                number += 1;
                let mut name = output.file_stem().unwrap_or_default().to_owned();
                name.push(format!("-{number}"));
                if let Some(suffix) = output.extension() {
                    name.push(".");
                    name.push(suffix);
                }
                candidate = output.with_file_name(name);
            }
        }
    }
}
