//! Builds a folder of images to train on, from Debian packages and folders of public sets.
//!
//! Each image is checked against the SHA-256 it is known by, left out where it has no detail or is
//! recognised as one that no training may see, reduced where it is soft, and written to a folder
//! for each source. `manifest.jsonl` there says of each where it comes from, under which licence,
//! and what was done; `contact-sheet.html` shows them all.
//!
//! An image appears under its name when it is complete, then its line in the manifest: a run that
//! was killed goes on, and a second one finds nothing to do.

mod contact_sheet;
mod detail;
mod packages;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wdsr_image::{
    Format, Limits, Metadata, decode_bytes, encode_bytes, images_by_content, images_in,
    write_atomically,
};

use self::contact_sheet::{html, small_jpeg};
use self::detail::without_detail;
use self::sources::Source;
pub use self::sources::Sources;
use crate::error::Error;

const MANIFEST: &str = "manifest.jsonl";
const CONTACT_SHEET: &str = "contact-sheet.html";
/// Names with a dot are passed over by a training.
const SMALL: &str = ".small";
const PACKAGES: &str = ".packages";

/// What to build.
pub struct Request<'a> {
    /// The folder that becomes `--data`.
    pub out: &'a Path,
    /// A folder with a folder for each source that it has.
    pub shared: Option<&'a Path>,
    /// Folders of sources by name; a name that is not known is a source of its own.
    pub folders: &'a [(String, PathBuf)],
    /// Sources not to use.
    pub without: &'a [String],
}

/// Where the work stands.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A package is downloaded and unpacked.
    Fetching(&'a str),
    /// Images of a source are prepared.
    Preparing {
        /// The source.
        source: &'a str,
        /// Images done.
        done: usize,
        /// Images to do.
        total: usize,
    },
}

/// What was built.
#[derive(Debug, Default)]
pub struct Report {
    /// Each source that has images in the folder.
    pub sources: Vec<SourceReport>,
    /// Images looked at in this run; the others were there.
    pub prepared: usize,
    /// Known sources that are no package and were not given.
    pub not_given: Vec<String>,
    /// Images in the folder that the manifest does not know; a training would use them.
    pub unknown: Vec<PathBuf>,
}

/// What a source gave.
#[derive(Debug)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// Images to train on.
    pub images: usize,
    /// Their pixels, in millions.
    pub megapixels: f64,
    /// Those whose licence is not recorded.
    pub without_licence: usize,
    /// Images left out, and why.
    pub left_out: Vec<(String, String)>,
}

/// A line of the manifest: an image, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    source: String,
    /// The image's place below the source's folder.
    original: String,
    original_sha256: String,
    licence: Option<String>,
    /// Whether its SHA-256 was known beforehand.
    listed: bool,
    /// "as it is" or "reduced by N".
    done: String,
    /// Its place in the folder; none where it is left out.
    file: Option<String>,
    sha256: Option<String>,
    width_px: usize,
    height_px: usize,
    left_out: Option<String>,
    /// Of the list of kept-out images that it was compared with.
    kept_out_list: String,
}

/// An image to prepare.
struct Wanted {
    path: PathBuf,
    original: String,
    sha256: String,
    reduce: u32,
    licence: Option<String>,
    listed: bool,
}

/// Builds or completes the folder.
///
/// # Errors
/// When a source's folder or package cannot be had, a listed image is missing or has another
/// content, an image cannot be read, or nothing can be written. What was done until then stays.
pub fn fetch(
    known: &Sources,
    request: &Request<'_>,
    progress: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Report, Error> {
    let out = request.out;
    fs::create_dir_all(out).map_err(|e| Error::io(out, "create", e))?;
    let mut entries = read_manifest(&out.join(MANIFEST))?;
    let mut report = Report::default();
    for source in wanted_sources(known, request)? {
        let done = |original: &str, sha256: &str, reduce: u32| {
            let entry: Option<&Entry> = entries.get(&(source.name.clone(), original.to_owned()));
            entry.is_some_and(|entry| is_done(entry, sha256, reduce, known, out))
        };
        let open: Vec<_> = source
            .images
            .iter()
            .filter(|listed| !done(&listed.file, &listed.sha256, listed.reduce))
            .collect();
        if !source.images.is_empty() && open.is_empty() {
            continue;
        }
        let Some(folder) = folder_of(&source, request, progress)? else {
            report.not_given.push(source.name.clone());
            continue;
        };
        let wanted = if source.images.is_empty() {
            let mut all = unlisted(&source, &folder)?;
            all.retain(|wanted| !done(&wanted.original, &wanted.sha256, wanted.reduce));
            all
        } else {
            listed(&source, &open, &folder)?
        };
        let fresh = prepare_all(known, &source, wanted, &entries, out, progress)?;
        report.prepared += fresh.len();
        entries.extend(fresh.into_iter().map(|entry| (entry.key(), entry)));
        let package = out.join(PACKAGES).join(&source.name);
        if package.is_dir() {
            fs::remove_dir_all(&package).map_err(|e| Error::io(&package, "remove", e))?;
        }
    }
    let packages = out.join(PACKAGES);
    if packages.is_dir() {
        fs::remove_dir_all(&packages).map_err(|e| Error::io(&packages, "remove", e))?;
    }
    finish(entries.into_values().collect(), out, &mut report)?;
    Ok(report)
}

/// Known sources in their order, then those only the request names.
fn wanted_sources(known: &Sources, request: &Request<'_>) -> Result<Vec<Source>, Error> {
    let is_known = |name: &str| known.sources.iter().any(|source| source.name == name);
    for name in request.without {
        if !is_known(name) {
            return Err(Error::Data {
                path: name.into(),
                reason: format!(
                    "no such source, expected one of {}",
                    known.names().join(", ")
                ),
            });
        }
    }
    let mut sources = known.sources.clone();
    sources.retain(|source| !request.without.contains(&source.name));
    for (name, folder) in request.folders {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(Error::Data {
                path: folder.clone(),
                reason: format!(
                    "its source is called {name:?}, expected letters, digits, '-', '_' and '.'"
                ),
            });
        }
        if request.without.contains(name) {
            let reason = format!("--from and --without name {name} both; leave one out");
            let path = folder.clone();
            return Err(Error::Data { path, reason });
        }
        if !is_known(name) {
            sources.push(Source::unknown(name));
        }
    }
    Ok(sources)
}

/// Where a source's images are; none where it was not given.
fn folder_of(
    source: &Source,
    request: &Request<'_>,
    progress: &dyn Fn(Step<'_>),
) -> Result<Option<PathBuf>, Error> {
    let given = request
        .folders
        .iter()
        .find(|(name, _)| *name == source.name);
    let shared = request.shared.map(|shared| shared.join(&source.name));
    let folder = match given {
        Some((_, folder)) => folder.clone(),
        None => match shared.filter(|folder| folder.is_dir()) {
            Some(folder) => folder,
            None if source.package => {
                progress(Step::Fetching(&source.name));
                let packages = request.out.join(PACKAGES);
                packages::unpacked(&source.name, &packages)?
            }
            None => return Ok(None),
        },
    };
    let subfolder = source.subfolder.as_ref().map(|name| folder.join(name));
    Ok(Some(
        subfolder.filter(|path| path.is_dir()).unwrap_or(folder),
    ))
}

/// The listed images that are not done yet, each with the content that is known of it.
fn listed(source: &Source, open: &[&sources::Listed], folder: &Path) -> Result<Vec<Wanted>, Error> {
    // Packages have dangling links too; what is listed and not there is named below.
    let (files, errors) = images_by_content(folder, true);
    if files.is_empty() {
        return Err(errors.into_iter().next().map_or_else(
            || unreachable!("neither an image nor an error"),
            Error::from,
        ));
    }
    let found: Vec<Result<Wanted, String>> = open
        .par_iter()
        .map(|listed| {
            let mut named = files
                .iter()
                .filter(|path| path.ends_with(&listed.file))
                .peekable();
            if named.peek().is_none() {
                return Ok(Err(format!("there is no {}", listed.file)));
            }
            let mut other = String::new();
            for path in named {
                let sha256 = sha256_of(&read(path)?);
                if sha256 == listed.sha256 {
                    return Ok(Ok(Wanted {
                        path: path.clone(),
                        original: listed.file.clone(),
                        sha256,
                        reduce: listed.reduce,
                        licence: Some(listed.licence.clone()),
                        listed: true,
                    }));
                }
                other = format!(
                    "{} has SHA-256 {sha256}, expected {}",
                    path.display(),
                    listed.sha256
                );
            }
            Ok(Err(other))
        })
        .collect::<Result<_, Error>>()?;
    let wrong: Vec<&String> = found.iter().filter_map(|f| f.as_ref().err()).collect();
    if let Some(first) = wrong.first() {
        let name = &source.name;
        return Err(Error::Data {
            path: folder.to_owned(),
            reason: format!(
                "{} of {} images of {name} are not those that are known: {first}; get the set \
                 again, leave it out by --without {name}, or, to use what is there unchecked, \
                 give it another name by --without {name} --from my-{name}=FOLDER",
                wrong.len(),
                found.len()
            ),
        });
    }
    Ok(found.into_iter().flatten().collect())
}

/// All images of a folder.
fn unlisted(source: &Source, folder: &Path) -> Result<Vec<Wanted>, Error> {
    let files = images_in(folder, true)?;
    let wanted = files.into_par_iter().map(|path| {
        let below = path.strip_prefix(folder).unwrap_or(&path);
        let Some(original) = below.to_str().map(str::to_owned) else {
            let reason = "its name is no UTF-8, as the manifest is; rename it".to_owned();
            return Err(Error::Data { path, reason });
        };
        Ok(Wanted {
            sha256: sha256_of(&read(&path)?),
            original,
            path,
            reduce: 1,
            licence: source.licence.clone(),
            listed: false,
        })
    });
    wanted.collect()
}

/// Whether an image is there as this run would make it, unharmed.
fn is_done(entry: &Entry, sha256: &str, reduce: u32, known: &Sources, out: &Path) -> bool {
    let same = entry.original_sha256 == sha256
        && entry.done == done_text(reduce)
        && entry.kept_out_list == known.kept_out_checksum;
    let unharmed = || {
        entry.file.as_ref().is_none_or(|file| {
            let bytes = fs::read(out.join(file));
            bytes.is_ok_and(|bytes| Some(sha256_of(&bytes)) == entry.sha256)
        })
    };
    same && unharmed()
}

fn done_text(reduce: u32) -> String {
    if reduce == 1 {
        "as it is".to_owned()
    } else {
        format!("reduced by {reduce}")
    }
}

fn prepare_all(
    known: &Sources,
    source: &Source,
    wanted: Vec<Wanted>,
    before: &BTreeMap<(String, String), Entry>,
    out: &Path,
    progress: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Vec<Entry>, Error> {
    let mut names = BTreeSet::new();
    for image in &wanted {
        let name = file_name(source, image);
        if !names.insert(name.to_lowercase()) {
            let reason = format!("a second image of this source would be {name}; rename it");
            let path = image.path.clone();
            return Err(Error::Data { path, reason });
        }
    }
    for folder in [out.join(&source.name), out.join(SMALL).join(&source.name)] {
        fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, "create", e))?;
    }
    let path = out.join(MANIFEST);
    let file = fs::OpenOptions::new().create(true).append(true).open(&path);
    let manifest = Mutex::new(file.map_err(|e| Error::io(&path, "write", e))?);
    let (done, total) = (AtomicUsize::new(0), wanted.len());
    let prepared = wanted.par_iter().map(|image| {
        let entry = prepare(known, source, image, out)?;
        let key = entry.key();
        // What an earlier run took and this one leaves out must not stay.
        if let Some(old) = before.get(&key).and_then(|old| old.file.as_ref())
            && entry.file.as_ref() != Some(old)
            && out.join(old).exists()
        {
            let old = out.join(old);
            fs::remove_file(&old).map_err(|e| Error::io(&old, "remove", e))?;
        }
        let line = to_line(&entry);
        // A lock is poisoned by a panic alone.
        let mut file = manifest.lock().unwrap_or_else(|e| e.into_inner());
        let written = file.write_all(line.as_bytes());
        written.map_err(|e| Error::io(&path, "write", e))?;
        drop(file);
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        let source = &source.name;
        progress(Step::Preparing {
            source,
            done,
            total,
        });
        Ok(entry)
    });
    prepared.collect()
}

/// An image's place in the folder.
fn file_name(source: &Source, image: &Wanted) -> String {
    let flat = flat_name(&image.original);
    let name = if image.reduce == 1 {
        flat
    } else {
        format!("{}.png", Path::new(&flat).with_extension("").display())
    };
    format!("{}/{name}", source.name)
}

/// An image's place below its source's folder as one name.
fn flat_name(original: &str) -> String {
    original.replace(['/', '\\'], "_")
}

/// Where the small image for the contact sheet is.
fn small_path(out: &Path, source: &str, original: &str) -> PathBuf {
    let name = format!("{}.jpg", flat_name(original));
    out.join(SMALL).join(source).join(name)
}

fn prepare(known: &Sources, source: &Source, wanted: &Wanted, out: &Path) -> Result<Entry, Error> {
    let bytes = read(&wanted.path)?;
    let mut image = decode_bytes(&bytes, &wanted.path, &Limits::default())?;
    if wanted.reduce > 1 {
        image = image
            .split_alpha()
            .0
            .imresize(1.0 / f64::from(wanted.reduce));
        image.metadata = Metadata::default();
    }
    let (width_px, height_px) = (image.width_px, image.height_px);
    let rgb = image.to_rgb8();
    let left_out = if width_px.min(height_px) < 2 {
        Some(format!("too small: {width_px} x {height_px}"))
    } else if let Some(found) = known.kept_out.find(&rgb, width_px, height_px) {
        let (name, bits) = (found.name, found.bits);
        Some(format!(
            "kept out: looks like {name} or a part of it ({bits} of 128 bits differ)"
        ))
    } else {
        without_detail(&rgb, width_px, height_px)
    };
    let file = file_name(source, wanted);
    let small = small_path(out, &source.name, &wanted.original);
    write_atomically(&small, &small_jpeg(&rgb, width_px, height_px)?)?;
    let mut sha256 = None;
    if left_out.is_none() {
        let bytes = if wanted.reduce > 1 {
            encode_bytes(&image, Format::Png)?
        } else {
            bytes
        };
        write_atomically(&out.join(&file), &bytes)?;
        sha256 = Some(sha256_of(&bytes));
    }
    Ok(Entry {
        source: source.name.clone(),
        original: wanted.original.clone(),
        original_sha256: wanted.sha256.clone(),
        licence: wanted.licence.clone(),
        listed: wanted.listed,
        done: done_text(wanted.reduce),
        file: left_out.is_none().then_some(file),
        sha256,
        width_px,
        height_px,
        left_out,
        kept_out_list: known.kept_out_checksum.clone(),
    })
}

/// Writes manifest and contact sheet where they are not as they would be, and fills the report.
fn finish(entries: Vec<Entry>, out: &Path, report: &mut Report) -> Result<(), Error> {
    let (manifest, sheet) = (out.join(MANIFEST), out.join(CONTACT_SHEET));
    let text: String = entries.iter().map(to_line).collect();
    if fs::read(&manifest).ok().as_deref() != Some(text.as_bytes()) {
        write_atomically(&manifest, text.as_bytes())?;
    }
    if report.prepared > 0 || !sheet.exists() {
        let small = |entry: &Entry| fs::read(small_path(out, &entry.source, &entry.original)).ok();
        write_atomically(&sheet, html(&entries, &small).as_bytes())?;
    }
    for of_source in entries.chunk_by(|a, b| a.source == b.source) {
        let kept = || of_source.iter().filter(|entry| entry.file.is_some());
        let pixels: usize = kept().map(|entry| entry.width_px * entry.height_px).sum();
        report.sources.push(SourceReport {
            name: of_source[0].source.clone(),
            images: kept().count(),
            megapixels: pixels as f64 / 1e6,
            without_licence: kept().filter(|entry| entry.licence.is_none()).count(),
            left_out: of_source
                .iter()
                .filter_map(|e| Some((e.original.clone(), e.left_out.clone()?)))
                .collect(),
        });
    }
    if report.sources.iter().all(|source| source.images == 0) {
        let reason = "no image to train on; give --shared or --from".to_owned();
        let path = out.to_owned();
        return Err(Error::Data { path, reason });
    }
    let files: BTreeSet<PathBuf> = entries
        .iter()
        .filter_map(|entry| Some(out.join(entry.file.as_ref()?)))
        .collect();
    report.unknown = images_in(out, true)?;
    report.unknown.retain(|path| !files.contains(path));
    Ok(())
}

impl Entry {
    fn key(&self) -> (String, String) {
        (self.source.clone(), self.original.clone())
    }
}

fn to_line(entry: &Entry) -> String {
    let json = serde_json::to_string(entry);
    json.unwrap_or_else(|e| unreachable!("an entry is text and numbers: {e}")) + "\n"
}

/// Entries by source and place; a later one of the same image counts. A last line without its
/// end is what a kill leaves.
fn read_manifest(path: &Path) -> Result<BTreeMap<(String, String), Entry>, Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Error::io(path, "read", error)),
    };
    let complete = text.rfind('\n').map_or(0, |end| end + 1);
    if complete < text.len() {
        // Or the next line would be added to it.
        write_atomically(path, &text.as_bytes()[..complete])?;
    }
    let mut entries = BTreeMap::new();
    for (at, line) in text[..complete].lines().enumerate() {
        let entry: Entry = serde_json::from_str(line).map_err(|error| Error::Data {
            path: path.to_owned(),
            reason: format!(
                "line {}: {error}; remove this file to have all images prepared again",
                at + 1
            ),
        })?;
        entries.insert(entry.key(), entry);
    }
    Ok(entries)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|e| Error::io(path, "read", e))
}

fn sha256_of(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
