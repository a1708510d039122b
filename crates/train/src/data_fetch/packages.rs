//! Debian packages, downloaded and unpacked by Debian's own programs, without installing them.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;

/// The folder of an unpacked package below `folder`; downloaded where it is not there yet. apt
/// checks the signature of the archive, the caller the images.
pub(super) fn unpacked(name: &str, folder: &Path) -> Result<PathBuf, Error> {
    let unpacked = folder.join(name);
    if unpacked.is_dir() {
        return Ok(unpacked);
    }
    // Under its name only when it is complete.
    let part = folder.join(format!("{name}.part"));
    if part.exists() {
        fs::remove_dir_all(&part).map_err(|e| Error::io(&part, "remove", e))?;
    }
    fs::create_dir_all(&part).map_err(|e| Error::io(&part, "create", e))?;
    run(
        "apt-get",
        &["download".as_ref(), name.as_ref()],
        &part,
        name,
    )?;
    let entries = fs::read_dir(&part).map_err(|e| Error::io(&part, "read", e))?;
    let mut files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let package = files.find(|path| path.extension() == Some(OsStr::new("deb")));
    let Some(package) = package.as_deref().and_then(Path::file_name) else {
        let reason = format!("apt-get download {name} left no .deb file here");
        return Err(Error::Data { path: part, reason });
    };
    // It runs in that folder, which need not be named from the root.
    let content = "content";
    run(
        "dpkg",
        &["-x".as_ref(), package, content.as_ref()],
        &part,
        name,
    )?;
    fs::rename(part.join(content), &unpacked).map_err(|e| Error::io(&unpacked, "write", e))?;
    fs::remove_dir_all(&part).map_err(|e| Error::io(&part, "remove", e))?;
    Ok(unpacked)
}

fn run(program: &str, arguments: &[&OsStr], folder: &Path, package: &str) -> Result<(), Error> {
    let failed = |reason: String| Error::Data {
        path: package.into(),
        reason: format!(
            "{reason}; elsewhere than on Debian take the package from \
             https://packages.debian.org/{package}, unpack it (ar x, tar xf data.tar.*) and give \
             --from {package}=FOLDER, or leave it out by --without {package}"
        ),
    };
    // What these programs say goes into the message, so in English and not to the terminal.
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => failed(format!("there is no {program} here to fetch it with")),
            _ => failed(format!("cannot start {program}: {error}")),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    let hint = if program == "apt-get" {
        "; `apt-get update` may help"
    } else {
        ""
    };
    Err(failed(format!(
        "{program} failed ({}): {}{hint}",
        output.status,
        last.unwrap_or("it said nothing")
    )))
}
