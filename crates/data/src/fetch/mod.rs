//! Builds a dataset from Debian packages and folders of public sets.
//!
//! Each image is checked against its known SHA-256, excluded if it has no detail or is recognised as
//! an image of a test set, reduced if it is soft, and written to a folder for its source.
//! `manifest.jsonl` has source, licence and processing of each image; `contact-sheet.html` shows them.
//!
//! An image is renamed to its name when it is complete, then its line is appended to the manifest.
//! So an interrupted run can be resumed, and a second run changes nothing.

mod prepare;
mod progress;
mod select;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use wdsr_image::{images_in, write_atomically};

use crate::contact_sheet::html;
use crate::error::Error;
use crate::manifest::{MANIFEST, ManifestEntry, read_manifest};
use crate::packages;
use crate::sources::{Source, Sources};
use prepare::{is_prepared, prepare_all, thumbnail_path};
pub use progress::FetchProgress;
use select::{listed_images, unlisted_images};

const CONTACT_SHEET: &str = "contact-sheet.html";
/// Hidden, so trainings skip it.
const PACKAGES: &str = ".packages";

/// What to build.
pub struct FetchRequest<'a> {
    /// Folder of the dataset.
    pub out: &'a Path,
    /// Folder with a folder for each source that it has.
    pub shared: Option<&'a Path>,
    /// Folders of sources by name. An unknown name is a new source.
    pub folders: &'a [(String, PathBuf)],
    /// Sources to exclude.
    pub without: &'a [String],
}

/// Summary of a dataset.
#[derive(Debug, Default)]
pub struct FetchReport {
    /// Each source that has images in the dataset.
    pub sources: Vec<SourceReport>,
    /// Images prepared by this run.
    pub prepared: usize,
    /// Known sources that are not packages and were not given.
    pub not_given: Vec<String>,
    /// Images in the folder that are not in the manifest; a training would use them.
    pub unknown: Vec<PathBuf>,
}

/// Summary of a source.
#[derive(Debug)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// Training images.
    pub images: usize,
    /// Their pixels in millions.
    pub megapixels: f64,
    /// Training images whose licence is unknown.
    pub without_licence: usize,
    /// Excluded images and the reason, which starts with its kind and a colon.
    pub excluded: Vec<(String, String)>,
}

/// Builds or completes a dataset.
///
/// # Errors
/// If a source's folder or package is not available, a listed image is missing or has another
/// content, an image cannot be read, or a file cannot be written. Images that are prepared remain.
pub fn fetch(
    known: &Sources,
    request: &FetchRequest<'_>,
    progress: &(dyn Fn(FetchProgress<'_>) + Sync),
) -> Result<FetchReport, Error> {
    let out = request.out;
    fs::create_dir_all(out).map_err(|e| Error::io(out, "create", e))?;
    let mut entries = read_manifest(&out.join(MANIFEST))?;
    let mut report = FetchReport::default();
    for source in wanted_sources(known, request)? {
        let is_prepared = |original: &str, sha256: &str, reduce: u32| {
            let entry: Option<&ManifestEntry> =
                entries.get(&(source.name.clone(), original.to_owned()));
            entry.is_some_and(|entry| is_prepared(entry, sha256, reduce, known, out))
        };
        let open: Vec<_> = source
            .images
            .iter()
            .filter(|listed| !is_prepared(&listed.file, &listed.sha256, listed.reduce))
            .collect();
        if !source.images.is_empty() && open.is_empty() {
            continue;
        }
        let Some(folder) = source_folder(&source, request, progress)? else {
            report.not_given.push(source.name.clone());
            continue;
        };
        let images = if source.images.is_empty() {
            let mut all = unlisted_images(&source, &folder)?;
            all.retain(|image| !is_prepared(&image.original, &image.sha256, image.reduce));
            all
        } else {
            listed_images(&source, &open, &folder)?
        };
        let prepared = prepare_all(known, &source, images, &entries, out, progress)?;
        report.prepared += prepared.len();
        entries.extend(prepared.into_iter().map(|entry| (entry.key(), entry)));
        remove_folder(&out.join(PACKAGES).join(&source.name))?;
    }
    remove_folder(&out.join(PACKAGES))?;
    let entries: Vec<ManifestEntry> = entries.into_values().collect();
    write_lists(&entries, out, report.prepared > 0)?;
    report.sources = source_reports(&entries);
    if report.sources.iter().all(|source| source.images == 0) {
        return Err(Error::NoImages(out.to_owned()));
    }
    report.unknown = unknown_images(&entries, out)?;
    Ok(report)
}

fn remove_folder(folder: &Path) -> Result<(), Error> {
    if folder.is_dir() {
        fs::remove_dir_all(folder).map_err(|e| Error::io(folder, "remove", e))?;
    }
    Ok(())
}

/// The known sources in their order, then the new ones of the request.
fn wanted_sources(known: &Sources, request: &FetchRequest<'_>) -> Result<Vec<Source>, Error> {
    let is_known = |name: &str| known.sources.iter().any(|source| source.name == name);
    for name in request.without {
        if !is_known(name) {
            return Err(Error::UnknownSource {
                name: name.clone(),
                known: known.names().join(", "),
            });
        }
    }
    let mut sources = known.sources.clone();
    sources.retain(|source| !request.without.contains(&source.name));
    for (name, folder) in request.folders {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
            return Err(Error::SourceName {
                folder: folder.clone(),
                name: name.clone(),
            });
        }
        if request.without.contains(name) {
            return Err(Error::SourceExcluded(name.clone()));
        }
        if !is_known(name) {
            sources.push(Source::new(name));
        }
    }
    Ok(sources)
}

/// The folder of a source's images; none if it is not given and not a package.
fn source_folder(
    source: &Source,
    request: &FetchRequest<'_>,
    progress: &dyn Fn(FetchProgress<'_>),
) -> Result<Option<PathBuf>, Error> {
    let mut folders = request.folders.iter();
    let given = folders.find(|(name, _)| *name == source.name);
    let shared = request.shared.map(|shared| shared.join(&source.name));
    let folder = match given {
        Some((_, folder)) => folder.clone(),
        None => match shared.filter(|folder| folder.is_dir()) {
            Some(folder) => folder,
            None if source.package => {
                progress(FetchProgress::Downloading(&source.name));
                packages::download(&source.name, &request.out.join(PACKAGES))?
            }
            None => return Ok(None),
        },
    };
    let subfolder = source.subfolder.as_ref().map(|name| folder.join(name));
    Ok(Some(
        subfolder.filter(|path| path.is_dir()).unwrap_or(folder),
    ))
}

/// Writes the manifest and the contact sheet if they have changed.
fn write_lists(entries: &[ManifestEntry], out: &Path, prepared: bool) -> Result<(), Error> {
    let (manifest, sheet) = (out.join(MANIFEST), out.join(CONTACT_SHEET));
    let text: String = entries.iter().map(ManifestEntry::line).collect();
    if fs::read(&manifest).ok().as_deref() != Some(text.as_bytes()) {
        write_atomically(&manifest, text.as_bytes())?;
    }
    if prepared || !sheet.exists() {
        let thumbnail = |entry: &ManifestEntry| {
            fs::read(thumbnail_path(out, &entry.source, &entry.original)).ok()
        };
        write_atomically(&sheet, html(entries, &thumbnail).as_bytes())?;
    }
    Ok(())
}

fn source_reports(entries: &[ManifestEntry]) -> Vec<SourceReport> {
    let report = |of_source: &[ManifestEntry]| {
        let used = || of_source.iter().filter(|entry| entry.file.is_some());
        let pixels: usize = used().map(|entry| entry.width_px * entry.height_px).sum();
        let excluded = of_source
            .iter()
            .filter_map(|e| Some((e.original.clone(), e.left_out.clone()?)));
        SourceReport {
            name: of_source[0].source.clone(),
            images: used().count(),
            megapixels: pixels as f64 / 1e6,
            without_licence: used().filter(|entry| entry.licence.is_none()).count(),
            excluded: excluded.collect(),
        }
    };
    let by_source = entries.chunk_by(|a, b| a.source == b.source);
    by_source.map(report).collect()
}

fn unknown_images(entries: &[ManifestEntry], out: &Path) -> Result<Vec<PathBuf>, Error> {
    let known: BTreeSet<PathBuf> = entries
        .iter()
        .filter_map(|entry| Some(out.join(entry.file.as_ref()?)))
        .collect();
    let mut images = images_in(out, true)?;
    images.retain(|path| !known.contains(path));
    Ok(images)
}
