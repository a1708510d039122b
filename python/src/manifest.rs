//! `wdsr.Manifest` and `wdsr.find_images`: the inputs of a batch and its manifest, as the program has them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use wdsr_batch::{Entry, Error, Flow, Input, is_url, place};
use wdsr_image::{AtomicFile, Format};

use crate::files::parse_format;

/// The results in an output folder, by which a batch resumes: `upscale_file(..., manifest=manifest)` omits an image
/// whose result was made from the same bytes by the same model and options, and records those that it makes.
/// The program `wdsr upscale -o folder` reads and writes the same manifests.
///
/// Each object appends to a file of its own in the folder, so that any number of processes and machines may have one.
/// It cannot be pickled: a worker makes its own.
///
/// Parameters
/// ----------
/// folder : str or os.PathLike
///     The output folder, which need not exist.
///
/// Raises
/// ------
/// OSError
///     A manifest cannot be read.
#[pyclass(frozen, module = "wdsr")]
pub(crate) struct Manifest(Mutex<wdsr_batch::Manifest>);

#[pymethods]
impl Manifest {
    #[new]
    fn new(py: Python<'_>, folder: PathBuf) -> PyResult<Self> {
        let folder = place(folder);
        let manifest = py.detach(|| wdsr_batch::Manifest::of_worker(&folder));
        Ok(Self(Mutex::new(manifest.map_err(raised)?)))
    }
}

impl Manifest {
    fn lock(&self) -> MutexGuard<'_, wdsr_batch::Manifest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries of a target that is this program's unchanged result of the source.
    pub(crate) fn own_result(
        &self,
        target: &Path,
        source: &Path,
    ) -> Result<Vec<Arc<Entry>>, Error> {
        let input = self.input(target, source);
        let mut manifest = self.lock();
        let entries = manifest.own_result(target, &input)?;
        if !entries.is_empty() || target.symlink_metadata().is_err() {
            return Ok(entries);
        }
        // Another worker may have made it since.
        manifest.read_new()?;
        manifest.own_result(target, &input)
    }

    /// Records a result and publishes its file.
    pub(crate) fn publish(
        &self,
        file: AtomicFile,
        target: &Path,
        source: &Path,
        entry: impl FnOnce(String, &Input) -> Entry,
        flow: Flow<'_>,
    ) -> Result<(), Error> {
        let input = self.input(target, source);
        let mut manifest = self.lock();
        let entry = entry(manifest.name_of(target), &input);
        manifest.publish(file, target, &entry, flow)
    }

    /// The source, at the place of its target.
    fn input(&self, target: &Path, source: &Path) -> Input {
        let manifest = self.lock();
        let relative = target.strip_prefix(manifest.folder()).unwrap_or(target);
        Input {
            path: source.to_owned(),
            relative: relative.with_extension(source.extension().unwrap_or_default()),
            bytes: 0,
        }
    }
}

/// A path, or several.
#[derive(FromPyObject)]
pub(crate) enum OneOrMore {
    #[pyo3(transparent)]
    One(PathBuf),
    #[pyo3(transparent)]
    More(Vec<PathBuf>),
}

/// Lists images and the files of their results, as the program `wdsr upscale IMAGES -o OUT` does.
///
/// Parameters
/// ----------
/// images : str, os.PathLike or list of them
///     Images, folders of images, and patterns (`*`, `?`, `[...]`, `**`).
/// out : str or os.PathLike
///     The folder of the results. Images of a folder get its tree.
/// recursive : bool, default False
///     Whether to include subfolders.
/// format : str, optional
///     The format of the results; by default that of each image, or "png" if that is only read.
///
/// Returns
/// -------
/// list of (str, str)
///     Source and target of each image.
///
/// Raises
/// ------
/// OSError
///     A folder cannot be read, or has no images.
/// ValueError
///     A pattern matches nothing, or the results of two images have the same name.
#[pyfunction]
#[pyo3(signature = (images, out, *, recursive = false, format = None))]
pub(crate) fn find_images(
    py: Python<'_>,
    images: OneOrMore,
    out: PathBuf,
    recursive: bool,
    format: Option<&str>,
) -> PyResult<Vec<(OsString, OsString)>> {
    let images = match images {
        OneOrMore::One(path) => vec![path],
        OneOrMore::More(paths) => paths,
    };
    let images: Vec<PathBuf> = images.into_iter().map(place).collect();
    let out = place(out);
    let format = format.map(parse_format).transpose()?;
    let (inputs, errors) = py.detach(|| wdsr_batch::collect(&images, recursive, Some(&out)));
    if let Some(error) = errors.into_iter().next() {
        return Err(raised(error.error));
    }
    let mut first = HashMap::new();
    let pair = |input: Input| {
        // An image that cannot be read has a row of its own later.
        let found = match is_url(&input.path) {
            true => Format::from_extension(&input.path),
            false => Format::of_file(&input.path).ok(),
        };
        let found = found.unwrap_or(Format::Png);
        let format = format.unwrap_or(found.of_result());
        let target = out.join(input.relative.with_extension(format.extension()));
        let other: Option<PathBuf> = first.insert(target.clone(), input.path.clone());
        if let Some(other) = other {
            let (path, other) = (input.path.display(), other.display());
            return Err(PyValueError::new_err(format!(
                "{path}: its result {} is already that of {other}; upscale them into different folders",
                target.display()
            )));
        }
        // No pathlib.Path, which would make one slash of the two of a URL.
        Ok((input.path.into_os_string(), target.into_os_string()))
    };
    inputs.into_iter().map(pair).collect()
}

fn raised(error: Error) -> PyErr {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    match error {
        Error::Pattern { .. } => PyValueError::new_err(error.to_string()),
        Error::Image(error) => PyOSError::new_err(error.to_string()),
        error => PyOSError::new_err(format!("{error}{}", cause.unwrap_or_default())),
    }
}
