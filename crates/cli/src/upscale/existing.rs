//! What to do if a file of the result's name exists.

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::manifest::Manifest;

/// The policy for a file that is not the own result of the same input.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum IfExists {
    /// Keep the file and skip the image
    Skip,
    /// Replace the file
    Overwrite,
    /// Report the image as failed
    Error,
    /// Write NAME-1, NAME-2, ... instead
    Rename,
}

/// Where a result goes.
pub(super) enum ResultFile {
    /// A new file, or one to replace.
    Write(PathBuf),
    /// The result of an earlier run, to replace where that had another input, model or options.
    Own(PathBuf),
    /// A file to keep.
    Skip(PathBuf),
}

impl ResultFile {
    pub(super) fn path(&self) -> &Path {
        let (Self::Write(path) | Self::Own(path) | Self::Skip(path)) = self;
        path
    }
}

/// Chooses the file for the result of the image at `place`. A result that the manifest has of that image
/// is [`ResultFile::Own`] whatever the policy. `taken` are files of this run.
pub(super) fn target(
    output: &Path,
    place: &Path,
    policy: IfExists,
    manifest: Option<&Manifest>,
    taken: &dyn Fn(&Path) -> bool,
) -> anyhow::Result<ResultFile> {
    let is_own = |path: &Path| manifest.is_some_and(|m| m.own_result(path, place).is_some());
    let mut candidate = output.to_owned();
    let mut number = 0;
    loop {
        let free = number == 0 || !taken(&candidate);
        if free && candidate.symlink_metadata().is_err() {
            return Ok(ResultFile::Write(candidate));
        }
        if free && is_own(&candidate) {
            return Ok(ResultFile::Own(candidate));
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
