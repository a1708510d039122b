//! What happens when a file of the result's name exists.

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::manifest::Manifest;

/// For a file that this program did not make from the same input.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum IfExists {
    /// Leave the file, do not upscale the image
    Skip,
    /// Replace the file
    Overwrite,
    /// Report the image as failed
    Error,
    /// Write NAME-1, NAME-2, ... instead
    Rename,
}

/// Where a result goes, or why it need not be made.
pub(super) enum Target {
    Write(PathBuf),
    UpToDate(PathBuf),
    Skip(PathBuf),
}

/// Chooses the file for a result. What an earlier run made from the image at `place` is kept if
/// its hash and the settings, beside the manifest, are still the same, and replaced otherwise, whatever
/// the policy. `taken` are names of other results of this run.
pub(super) fn target(
    output: &Path,
    place: &Path,
    policy: IfExists,
    manifest: Option<(&Manifest, &str, &str)>,
    taken: &dyn Fn(&Path) -> bool,
) -> anyhow::Result<Target> {
    let mut candidate = output.to_owned();
    let mut number = 0;
    loop {
        let free = number == 0 || !taken(&candidate);
        if free && candidate.symlink_metadata().is_err() {
            return Ok(Target::Write(candidate));
        }
        if let Some((manifest, input_hash, settings)) = manifest.filter(|_| free)
            && let Some(own) = manifest.own_result(&candidate, place)
        {
            let current = own.input_hash == input_hash && own.settings == settings;
            return Ok(if current {
                Target::UpToDate(candidate)
            } else {
                Target::Write(candidate)
            });
        }
        match policy {
            IfExists::Skip => return Ok(Target::Skip(candidate)),
            IfExists::Overwrite => return Ok(Target::Write(candidate)),
            IfExists::Error => bail!(
                "{} exists already; --if-exists skip, overwrite or rename goes on",
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
