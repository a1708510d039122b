//! Preparing the images of a source: exclusion, reduction, thumbnail, manifest entry.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use wdsr_image::{Format, Image, Limits, Metadata, decode_bytes, encode_bytes, write_atomically};

use super::progress::FetchProgress;
use super::select::{SourceImage, read, sha256_of};
use crate::contact_sheet::thumbnail;
use crate::detail::without_detail;
use crate::error::Error;
use crate::manifest::{ImageKey, MANIFEST, ManifestEntry};
use crate::parallel::map_or_first_error;
use crate::sources::{Source, Sources};

/// Hidden, so trainings skip it.
const THUMBNAILS: &str = ".small";

/// Whether an image has been prepared as this run would prepare it, and is unchanged since.
pub(super) fn is_prepared(
    entry: &ManifestEntry,
    sha256: &str,
    reduce: u32,
    known: &Sources,
    out: &Path,
) -> bool {
    let is_same = entry.original_sha256 == sha256
        && entry.done == processing(reduce)
        && entry.kept_out_list == known.kept_out_checksum;
    let is_unchanged = || {
        entry.file.as_ref().is_none_or(|file| {
            let bytes = fs::read(out.join(file));
            bytes.is_ok_and(|bytes| Some(sha256_of(&bytes)) == entry.sha256)
        })
    };
    is_same && is_unchanged()
}

fn processing(reduce: u32) -> String {
    if reduce == 1 {
        "as it is".to_owned()
    } else {
        format!("reduced by {reduce}")
    }
}

/// Prepares the images of a source and appends them to the manifest. `before` has the entries of
/// earlier runs.
pub(super) fn prepare_all(
    known: &Sources,
    source: &Source,
    images: Vec<SourceImage>,
    before: &BTreeMap<ImageKey, ManifestEntry>,
    out: &Path,
    progress: &(dyn Fn(FetchProgress<'_>) + Sync),
) -> Result<Vec<ManifestEntry>, Error> {
    check_names(source, &images)?;
    for folder in [
        out.join(&source.name),
        out.join(THUMBNAILS).join(&source.name),
    ] {
        fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, "create", e))?;
    }
    let path = out.join(MANIFEST);
    let file = fs::OpenOptions::new().create(true).append(true).open(&path);
    let manifest = Mutex::new(file.map_err(|e| Error::io(&path, "write", e))?);
    let (done, total) = (AtomicUsize::new(0), images.len());
    let prepare_one = |image: &SourceImage| {
        let entry = prepare(known, source, image, out)?;
        remove_replaced(&entry, before, out)?;
        let mut file = manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let written = file.write_all(entry.line().as_bytes());
        written.map_err(|e| Error::io(&path, "write", e))?;
        drop(file);
        progress(FetchProgress::Preparing {
            source: &source.name,
            done: done.fetch_add(1, Ordering::Relaxed) + 1,
            total,
        });
        Ok(entry)
    };
    map_or_first_error(&images, prepare_one)
}

/// Checks that no two images have the same name in the dataset, ignoring case.
fn check_names(source: &Source, images: &[SourceImage]) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    for image in images {
        let name = dataset_path(source, image);
        if !names.insert(name.to_lowercase()) {
            let path = image.path.clone();
            return Err(Error::DuplicateName { path, name });
        }
    }
    Ok(())
}

/// Removes the file of an earlier run that the new entry replaces or excludes.
fn remove_replaced(
    entry: &ManifestEntry,
    before: &BTreeMap<ImageKey, ManifestEntry>,
    out: &Path,
) -> Result<(), Error> {
    let old = before
        .get(&entry.key())
        .and_then(|old| old.file.as_ref())
        .filter(|old| entry.file.as_ref() != Some(old))
        .map(|old| out.join(old));
    match old {
        Some(old) if old.exists() => {
            fs::remove_file(&old).map_err(|e| Error::io(&old, "remove", e))
        }
        _ => Ok(()),
    }
}

/// An image's path in the dataset.
fn dataset_path(source: &Source, image: &SourceImage) -> String {
    let flat = flat_name(&image.original);
    let name = if image.reduce == 1 {
        flat
    } else {
        format!("{}.png", Path::new(&flat).with_extension("").display())
    };
    format!("{}/{name}", source.name)
}

/// A path as a file name.
fn flat_name(path: &str) -> String {
    path.replace(['/', '\\'], "_")
}

/// The path of an image's thumbnail for the contact sheet.
pub(super) fn thumbnail_path(out: &Path, source: &str, original: &str) -> PathBuf {
    let name = format!("{}.jpg", flat_name(original));
    out.join(THUMBNAILS).join(source).join(name)
}

fn prepare(
    known: &Sources,
    source: &Source,
    source_image: &SourceImage,
    out: &Path,
) -> Result<ManifestEntry, Error> {
    let bytes = read(&source_image.path)?;
    let mut image = decode_bytes(&bytes, &source_image.path, &Limits::default())?;
    let reduce = source_image.reduce;
    if reduce > 1 {
        image = image.split_alpha().0.imresize(1.0 / f64::from(reduce));
        image.metadata = Metadata::default();
    }
    let rgb = image.to_rgb8();
    let left_out = reason_to_exclude(known, &image, &rgb);
    let file = dataset_path(source, source_image);
    let small = thumbnail_path(out, &source.name, &source_image.original);
    write_atomically(&small, &thumbnail(&rgb, image.width_px, image.height_px)?)?;
    let mut sha256 = None;
    if left_out.is_none() {
        let bytes = if reduce > 1 {
            encode_bytes(&image, Format::Png)?
        } else {
            bytes
        };
        write_atomically(&out.join(&file), &bytes)?;
        sha256 = Some(sha256_of(&bytes));
    }
    Ok(ManifestEntry {
        source: source.name.clone(),
        original: source_image.original.clone(),
        original_sha256: source_image.sha256.clone(),
        licence: source_image.licence.clone(),
        listed: source_image.listed,
        done: processing(reduce),
        file: left_out.is_none().then_some(file),
        sha256,
        width_px: image.width_px,
        height_px: image.height_px,
        left_out,
        kept_out_list: known.kept_out_checksum.clone(),
    })
}

fn reason_to_exclude(known: &Sources, image: &Image, rgb: &[u8]) -> Option<String> {
    let (width_px, height_px) = (image.width_px, image.height_px);
    if width_px.min(height_px) < 2 {
        return Some(format!("too small: {width_px} x {height_px}"));
    }
    match known.kept_out.find(rgb, width_px, height_px) {
        Some(found) => Some(format!(
            "kept out: looks like {} or a part of it ({} of 128 bits differ)",
            found.name, found.bits
        )),
        None => without_detail(rgb, width_px, height_px),
    }
}
