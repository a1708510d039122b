//! Debian packages, downloaded and unpacked by apt-get and dpkg, without installing them.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, PackageProblem};

/// Downloads and unpacks a package into a folder below `folder`, unless it is there. apt-get checks
/// the signature of the archive; the caller checks the images.
pub(crate) fn download(package: &str, folder: &Path) -> Result<PathBuf, Error> {
    let unpacked = folder.join(package);
    if unpacked.is_dir() {
        return Ok(unpacked);
    }
    // Renamed when it is complete.
    let part = folder.join(format!("{package}.part"));
    if part.exists() {
        fs::remove_dir_all(&part).map_err(|e| Error::io(&part, "remove", e))?;
    }
    fs::create_dir_all(&part).map_err(|e| Error::io(&part, "create", e))?;
    let failed = |problem| Error::Package {
        package: package.to_owned(),
        problem,
    };
    let arguments = ["download".as_ref(), package.as_ref()];
    run("apt-get", &arguments, &part).map_err(failed)?;
    let entries = fs::read_dir(&part).map_err(|e| Error::io(&part, "read", e))?;
    let mut files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let deb = files.find(|path| path.extension() == Some(OsStr::new("deb")));
    let Some(deb) = deb.as_deref().and_then(Path::file_name) else {
        return Err(failed(PackageProblem::NoPackage(part)));
    };
    // dpkg runs in the folder, so the path may be relative.
    let content = "content";
    let arguments = ["-x".as_ref(), deb, content.as_ref()];
    run("dpkg", &arguments, &part).map_err(failed)?;
    fs::rename(part.join(content), &unpacked).map_err(|e| Error::io(&unpacked, "write", e))?;
    fs::remove_dir_all(&part).map_err(|e| Error::io(&part, "remove", e))?;
    Ok(unpacked)
}

fn run(program: &'static str, arguments: &[&OsStr], folder: &Path) -> Result<(), PackageProblem> {
    // The program's messages become part of an error message: in English, not on the terminal.
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("LC_ALL", "C")
        .output()
        .map_err(|source| match source.kind() {
            ErrorKind::NotFound => PackageProblem::NotInstalled(program),
            _ => PackageProblem::NotStarted { program, source },
        })?;
    if output.status.success() {
        return Ok(());
    }
    let messages = String::from_utf8_lossy(&output.stderr);
    let mut lines = messages.lines().map(str::trim);
    let last = lines.rfind(|line| !line.is_empty());
    Err(PackageProblem::Failed {
        program,
        status: output.status,
        message: last.unwrap_or("no message").to_owned(),
        hint: match program {
            "apt-get" => "; `apt-get update` may help",
            _ => "",
        },
    })
}
