//! `wdsr.upscale_file` and `wdsr.upscale_files`: from file to file, by the driver of the program.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator};
use wdsr_batch::{Computation, Entry, Input};
use wdsr_image::{Deadline, Encoding, Format, Limits, MetadataPolicy, PngCompression};
use wdsr_model::{DEFAULT_TILE_PX, Upscaler};
use wdsr_upscale::{ErrorKind, Job, Settings, Summary};

use crate::device::for_python;
use crate::manifest::Manifest;
use crate::model::{Model, NameOrPath, Options, load, parse_alpha, parse_precision, parse_wrap};
use crate::size;
use crate::work::{self, count};

/// A model, or what it is loaded by.
#[derive(FromPyObject)]
pub(crate) enum ModelOrName {
    Model(Py<Model>),
    Name(NameOrPath),
}

/// The model that was loaded last by a name, for the process.
static LOADED: Mutex<Option<(PathBuf, Py<Model>)>> = Mutex::new(None);

impl ModelOrName {
    /// The model of a call. One that is loaded by name is kept for the next call. A process that is forked
    /// while another thread holds the lock never gets it, so no call waits for it.
    fn loaded(given: Option<Self>, py: Python<'_>) -> PyResult<Py<Model>> {
        let name = match given {
            Some(Self::Model(model)) => return Ok(model),
            Some(Self::Name(name)) => Some(name),
            None => None,
        };
        let key = match &name {
            Some(NameOrPath::Text(text)) => PathBuf::from(text),
            Some(NameOrPath::Path(path)) => path.clone(),
            None => PathBuf::new(),
        };
        if let Ok(loaded) = LOADED.try_lock()
            && let Some((of, model)) = &*loaded
            && *of == key
        {
            return Ok(model.clone_ref(py));
        }
        let model = Py::new(py, load(py, name, None, "cpu")?)?;
        if let Ok(mut loaded) = LOADED.try_lock() {
            *loaded = Some((key, model.clone_ref(py)));
        }
        Ok(model)
    }
}

/// What to do if the target exists.
#[derive(Clone, Copy, PartialEq)]
enum IfExists {
    Overwrite,
    Skip,
    Error,
}

/// The arguments beside the files.
struct Call {
    networks: Vec<Arc<Upscaler>>,
    /// Empty unless each image chooses.
    for_damaged: Vec<Arc<Upscaler>>,
    /// Of the models of both.
    names: [String; 2],
    settings: Settings,
    /// Precision and device, as a manifest records them.
    arithmetic: String,
    self_ensemble: bool,
    /// Scales and hashes of the networks of both, if there is a manifest.
    hashes: [Vec<(usize, String)>; 2],
    manifest: Option<Py<Manifest>>,
    format: Option<Format>,
    if_exists: IfExists,
    limits: Limits,
    timeout: Option<Duration>,
}

/// Upscales an image file into another, as the program `wdsr upscale` does: streamed where that is possible,
/// with its metadata, all frames of an animation and all pages of a TIFF. The target appears under its name
/// only when complete; missing folders of it are made.
///
/// Parameters
/// ----------
/// source, target : str or os.PathLike
///     The files. The suffix of the target decides its format, unless `format` does.
/// model : Model, str or os.PathLike, optional
///     A model (of `wdsr.load`, which also chooses its device), or its name or path. A model that is loaded by name or
///     path is kept for the next calls of the process.
/// factor, width, height, longest, size, alpha, wrap, strength, threads, tile, precision, self_ensemble, progress
///     As for `Model.upscale`.
/// format : str, optional
///     "png", "jpg", "webp", "tiff", "bmp" or "gif".
/// metadata : {"keep", "strip", "strip-gps"}, default "keep"
///     Which metadata is copied.
/// quality : int, default 95
///     Quality of JPEG files, 1 to 100.
/// compression : {"none", "fastest", "fast", "balanced", "high"}, default "fast"
///     Compression of PNG files.
/// if_exists : {"overwrite", "skip", "error"}, default "overwrite"
///     What to do if the target exists.
/// manifest : Manifest, optional
///     Omits an image whose result is up to date, whatever `if_exists`, and records the result.
/// max_pixels, max_output_pixels : int, optional
///     Most pixels of an image and of a result; 1 and 8 thousand millions by default.
/// max_memory : int, optional
///     Most memory of the process in bytes, kept by streaming where that is possible.
/// timeout : float, optional
///     Most seconds for the image.
///
/// Returns
/// -------
/// dict
///     A row with always the same columns: "source", "target", "status" ("done", "up_to_date",
///     "skipped" or "failed"), "error" (the message) and "error_kind" ("input", "output", "memory", "model", "device" or "time"), "width",
///     "height", "frames", "pages", "model", "strength", "warnings" (what the result lacks of its input),
///     "bytes" and "xxh3" (length and XXH3-128 of the target's bytes), "milliseconds". What does not apply is
///     None.
///
/// Raises
/// ------
/// ValueError, TypeError
///     An argument is wrong, or the model is.
/// OSError
///     The model cannot be read.
///
/// What is wrong with an image, its target or the memory is told by the row. An exception in `progress`, and
/// KeyboardInterrupt, stops the work and is raised by the call.
#[pyfunction]
#[pyo3(signature = (source, target, *, model = None, factor = None, width = None, height = None,
    longest = None, size = None, format = None, alpha = "network", wrap = "none", strength = None,
    metadata = "keep", quality = 95, compression = "fast", if_exists = "overwrite", manifest = None, max_pixels = None,
    max_output_pixels = None, max_memory = None, timeout = None, threads = 0,
    tile = DEFAULT_TILE_PX as i64, precision = "f32", self_ensemble = false, progress = None),
    text_signature = "(source, target, *, model=None, factor=None, width=None, height=None, longest=None, \
    size=None, format=None, alpha='network', wrap='none', strength=None, metadata='keep', quality=95, \
    compression='fast', if_exists='overwrite', manifest=None, max_pixels=None, max_output_pixels=None, max_memory=None, \
    timeout=None, threads=0, tile=640, precision='f32', self_ensemble=False, progress=None)")]
#[allow(
    clippy::too_many_arguments,
    reason = "they are Python's keyword arguments"
)]
pub(crate) fn upscale_file<'py>(
    py: Python<'py>,
    source: PathBuf,
    target: PathBuf,
    model: Option<ModelOrName>,
    factor: Option<f64>,
    width: Option<i64>,
    height: Option<i64>,
    longest: Option<i64>,
    size: Option<(i64, i64)>,
    format: Option<&str>,
    alpha: &str,
    wrap: &str,
    strength: Option<f32>,
    metadata: &str,
    quality: i64,
    compression: &str,
    if_exists: &str,
    manifest: Option<Py<Manifest>>,
    max_pixels: Option<i64>,
    max_output_pixels: Option<i64>,
    max_memory: Option<i64>,
    timeout: Option<f64>,
    threads: i64,
    tile: i64,
    precision: &str,
    self_ensemble: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let model = ModelOrName::loaded(model, py)?;
    let model = model.get();
    model.check_strength(strength)?;
    let mut encoding = Encoding::DEFAULT;
    encoding.jpeg_quality = u8::try_from(quality)
        .ok()
        .filter(|quality| (1..=100).contains(quality))
        .ok_or_else(|| PyValueError::new_err(format!("quality is {quality}, expected 1 to 100")))?;
    encoding.png_compression = word("compression", compression, &PngCompression::NAMED)?;
    let defaults = Settings::default();
    let most = |name: &str, given: Option<i64>, default: u64| match given {
        Some(given) => Ok(count(name, given)? as u64),
        None => PyResult::Ok(default),
    };
    let settings = Settings {
        size: size::request(factor, width, height, longest, size)?,
        alpha: parse_alpha(alpha)?,
        wrap: parse_wrap(wrap)?,
        metadata: word("metadata", metadata, &MetadataPolicy::NAMED)?,
        encoding,
        strength,
        max_output_pixels: most(
            "max_output_pixels",
            max_output_pixels,
            defaults.max_output_pixels,
        )?,
        max_memory_bytes: match max_memory {
            Some(bytes) => Some(count("max_memory", bytes)? as u64),
            None => None,
        },
        ..defaults
    };
    let limits = Limits {
        max_pixels: most("max_pixels", max_pixels, Limits::default().max_pixels)?,
        ..Limits::default()
    };
    let options = Options {
        tile_px: count("tile", tile)?,
        precision: parse_precision(precision)?,
        self_ensemble,
    };
    // A strength that is given asks for the model that has one.
    let is_chosen = strength.is_some() && model.chooses();
    let reads_damage = strength.is_none() && model.chooses();
    model.check_precision(options.precision, strength)?;
    let (networks, precision) = model.prepare(py, options, None, is_chosen)?;
    let for_damaged = match reads_damage {
        true => model.prepare(py, options, None, true)?.0,
        false => Vec::new(),
    };
    let call = Call {
        networks,
        for_damaged,
        names: model.names(is_chosen),
        settings,
        arithmetic: precision.text(),
        self_ensemble,
        hashes: match manifest {
            Some(_) => model.hashes(is_chosen)?,
            None => Default::default(),
        },
        manifest,
        format: format.map(parse_format).transpose()?,
        if_exists: word("if_exists", if_exists, &IF_EXISTS)?,
        limits,
        timeout: timeout.map(parse_timeout).transpose()?,
    };
    let (source, target) = (wdsr_batch::place(source), wdsr_batch::place(target));
    let row = call.run(py, &source, &target, threads, progress.as_ref())?;
    model.device.warn(py)?;
    Ok(row)
}

const IF_EXISTS: [(&str, IfExists); 3] = [
    ("overwrite", IfExists::Overwrite),
    ("skip", IfExists::Skip),
    ("error", IfExists::Error),
];

/// The value of one of the words that an argument takes.
fn word<T: Copy>(name: &str, text: &str, words: &[(&str, T)]) -> PyResult<T> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<String> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
        let words = words.join(", ");
        PyValueError::new_err(format!("{name} is '{text}', expected one of {words}"))
    })
}

pub(crate) fn parse_format(name: &str) -> PyResult<Format> {
    let format: Result<Format, _> = name.parse();
    let format = format.map_err(|e| PyValueError::new_err(format!("format: {e}")))?;
    if format.is_written() {
        return Ok(format);
    }
    let message = format!("format is '{name}', which is only read");
    Err(PyValueError::new_err(message))
}

fn parse_timeout(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        PyValueError::new_err(format!("timeout is {seconds}, expected seconds above 0"))
    })
}

/// Upscales files one after the other; see `upscale_file` for the options, which are given as keywords.
///
/// Parameters
/// ----------
/// files : iterable of (source, target)
///     It is read as the work goes on.
///
/// Returns
/// -------
/// iterator of dict
///     The row of each file, in order, as `upscale_file` returns it. A file is upscaled when its row is asked for.
#[pyfunction]
#[pyo3(signature = (files, **options), text_signature = "(files, **options)")]
pub(crate) fn upscale_files(
    files: &Bound<'_, PyAny>,
    options: Option<Bound<'_, PyDict>>,
) -> PyResult<Rows> {
    Ok(Rows {
        files: files.try_iter()?.unbind(),
        options: options.map(Bound::unbind),
    })
}

/// The rows of `upscale_files`.
#[pyclass(frozen, module = "wdsr")]
pub(crate) struct Rows {
    files: Py<PyIterator>,
    options: Option<Py<PyDict>>,
}

#[pymethods]
impl Rows {
    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(pair) = self.files.bind(py).clone().next() else {
            return Ok(None);
        };
        let (source, target): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair?.extract()?;
        let function = py.import("wdsr")?.getattr("upscale_file")?;
        let options = self.options.as_ref().map(|options| options.bind(py));
        function.call((source, target), options).map(Some)
    }
}

impl Call {
    /// Upscales a file. What is wrong with it is told by the row.
    fn run<'py>(
        &self,
        py: Python<'py>,
        source: &Path,
        target: &Path,
        threads: i64,
        progress: Option<&Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let started = Instant::now();
        let outcome = work::run(py, threads, progress, |report| {
            let end = self
                .timeout
                .and_then(|timeout| started.checked_add(timeout));
            let deadline = end.map_or(Deadline::NONE, Deadline::at);
            let progress = |done: usize, all: usize| match deadline.is_over() {
                true => ControlFlow::Break(()),
                false => report(done, all),
            };
            self.upscale(source, target, &deadline, &progress)
        })?;
        let (status, failure, done, file) = match outcome {
            Ok(Outcome::Done(done)) => {
                let file = (done.bytes, format!("{:032x}", done.hash));
                ("done", None, Some(done), Some(file))
            }
            Ok(Outcome::UpToDate(entry)) => {
                let file = (entry.output_bytes, entry.output_hash.clone());
                ("up_to_date", None, None, Some(file))
            }
            Ok(Outcome::Skipped) => ("skipped", None, None, None),
            Err(failure) => ("failed", Some(failure), None, None),
        };
        let row = PyDict::new(py);
        // No pathlib.Path, which would make one slash of the two of a URL.
        row.set_item("source", source.as_os_str())?;
        row.set_item("target", target.as_os_str())?;
        row.set_item("status", status)?;
        row.set_item("error", failure.as_ref().map(|failure| &failure.message))?;
        row.set_item("error_kind", failure.as_ref().map(|failure| failure.kind))?;
        let summary = done.as_ref().map(|done| &done.summary);
        row.set_item("width", summary.map(|s| s.plan.target().width_px))?;
        row.set_item("height", summary.map(|s| s.plan.target().height_px))?;
        row.set_item("frames", summary.map(|s| s.frames))?;
        row.set_item("pages", summary.map(|s| s.pages))?;
        let name = summary.map(|summary| {
            let is_for_damaged = summary.choice.is_some_and(|choice| choice.is_for_damaged);
            &self.names[usize::from(is_for_damaged)]
        });
        row.set_item("model", name)?;
        let strength = summary.and_then(|summary| summary.strength);
        row.set_item("strength", strength.map(|strength| strength.value))?;
        let warnings = summary.map_or(&[][..], |summary| &summary.dropped);
        row.set_item("warnings", warnings)?;
        row.set_item("bytes", file.as_ref().map(|(bytes, _)| bytes))?;
        row.set_item("xxh3", file.as_ref().map(|(_, hash)| hash))?;
        row.set_item("milliseconds", started.elapsed().as_secs_f64() * 1000.0)?;
        Ok(row)
    }

    fn upscale(
        &self,
        source: &Path,
        target: &Path,
        deadline: &Deadline,
        progress: &wdsr_model::Progress<'_>,
    ) -> Result<Outcome, Failed> {
        let recorded = |error: wdsr_batch::Error| Failed::of(&error, "output");
        let manifest = self.manifest.as_ref().map(Py::get);
        let own = match manifest {
            Some(manifest) => manifest.own_result(target, source).map_err(recorded)?,
            None => Vec::new(),
        };
        let target_exists = own.is_empty()
            && self.if_exists != IfExists::Overwrite
            && wdsr_batch::exists(target).map_err(recorded)?;
        if target_exists && self.if_exists == IfExists::Skip {
            return Ok(Outcome::Skipped);
        }
        if target_exists && self.if_exists == IfExists::Error {
            let message = format!("{} exists", target.display());
            return Err(Failed {
                message,
                kind: "output",
            });
        }
        if wdsr_batch::is_http(target) {
            let target = target.display();
            let message = format!("{target}: HTTP servers are only read; give another target");
            return Err(Failed {
                message,
                kind: "output",
            });
        }
        let is_source = match (source.canonicalize(), target.canonicalize()) {
            (Ok(source), Ok(target)) => source == target,
            _ => wdsr_batch::is_url(source) && source == target,
        };
        if is_source {
            let source = source.display();
            let message =
                format!("{source}: the result would replace the input; give another target");
            return Err(Failed {
                message,
                kind: "output",
            });
        }
        let limits = Limits {
            deadline: deadline.clone(),
            ..self.limits
        };
        let failed = |error: wdsr_upscale::Error| {
            let message = match (error.kind(), self.timeout) {
                (ErrorKind::Stopped, Some(timeout)) if deadline.is_over() => {
                    let (name, seconds) = (source.display(), timeout.as_secs_f64());
                    format!("{name}: not done within {seconds} s; timeout allows more")
                }
                _ => for_python(&error.to_string()),
            };
            let kind = match error.kind() {
                ErrorKind::Input => "input",
                ErrorKind::Output => "output",
                ErrorKind::Memory => "memory",
                ErrorKind::Model => "model",
                ErrorKind::Device => "device",
                ErrorKind::Stopped => "time",
            };
            Failed { message, kind }
        };
        let flow = || progress(0, 1);
        let opened = wdsr_batch::open(source, &limits, &flow).map_err(|error| match error {
            wdsr_batch::Error::Image(error) => failed(error.into()),
            error => self.failed_place(source, &error, "input"),
        })?;
        let mut reader = opened.reader;
        let input_hash = match manifest {
            Some(_) => reader
                .content_hash()
                .map_err(|error| failed(error.into()))?,
            None => 0,
        };
        let format = self.format.or_else(|| Format::from_extension(target));
        let format = format.unwrap_or(reader.format().of_result());
        let clean: Vec<&Upscaler> = self.networks.iter().map(Arc::as_ref).collect();
        let damaged: Vec<&Upscaler> = self.for_damaged.iter().map(Arc::as_ref).collect();
        let job = Job::new(reader, &clean, self.settings).map_err(failed)?;
        let job = match damaged.is_empty() {
            true => job,
            false => job.for_damaged(&damaged).map_err(failed)?,
        };
        let entry = manifest.map(|manifest| {
            let computation = Computation {
                arithmetic: &self.arithmetic,
                self_ensemble: self.self_ensemble,
                have_strength: clean.iter().any(|network| network.has_strength()),
                networks: &self.hashes[0],
                networks_for_damaged: &self.hashes[1],
            };
            let settings = wdsr_batch::settings_text(&job, &self.settings, &computation, format);
            (manifest, settings, format!("{input_hash:032x}"))
        });
        if let Some((_, settings, input_hash)) = &entry {
            let is_current = |entry: &&Arc<Entry>| entry.is_current(input_hash, settings);
            if let Some(entry) = own.iter().find(is_current) {
                return Ok(Outcome::UpToDate(entry.clone()));
            }
        }
        let written = |error: std::io::Error| {
            failed(
                wdsr_image::Error::Write {
                    path: target.to_owned(),
                    source: error,
                }
                .into(),
            )
        };
        wdsr_batch::create_folder_of(target).map_err(recorded)?;
        let local = wdsr_batch::local_target(target);
        let (file, summary) = job.into_file(&local, format, progress).map_err(failed)?;
        let hash = || {
            let mut bytes = file.as_file();
            std::io::Seek::rewind(&mut bytes)?;
            Ok((wdsr_image::hash_of(bytes)?, bytes.metadata()?.len()))
        };
        let (hash, bytes) = hash().map_err(written)?;
        let published = if let Some((manifest, settings, input_hash)) = entry {
            let entry = |output, input: &Input| Entry {
                output,
                output_bytes: bytes,
                output_hash: format!("{hash:032x}"),
                input: wdsr_batch::portable(&input.relative),
                input_place: wdsr_batch::hash_of_place(source),
                input_hash,
                settings,
            };
            manifest.publish(file, target, source, entry, &flow)
        } else {
            wdsr_batch::publish(file, target, &flow)
        };
        published.map_err(|error| self.failed_place(source, &error, "output"))?;
        Ok(Outcome::Done(Done {
            summary,
            hash,
            bytes,
        }))
    }
}

impl Call {
    /// Why a source could not be opened or a target not published.
    fn failed_place(&self, source: &Path, error: &wdsr_batch::Error, kind: &'static str) -> Failed {
        match (self.timeout, error.is_stopped()) {
            (Some(timeout), true) => Failed {
                message: format!(
                    "{}: not done within {} s; timeout allows more",
                    source.display(),
                    timeout.as_secs_f64()
                ),
                kind: "time",
            },
            _ => Failed::of(error, kind),
        }
    }
}

/// What became of an image.
enum Outcome {
    Done(Done),
    /// The target is the result of the same image, model and options.
    UpToDate(Arc<Entry>),
    /// The target exists and is kept.
    Skipped,
}

/// A result that is written.
struct Done {
    summary: Summary,
    hash: u128,
    bytes: u64,
}

/// Why there is no result.
struct Failed {
    message: String,
    kind: &'static str,
}

impl Failed {
    fn of(error: &wdsr_batch::Error, kind: &'static str) -> Self {
        let cause = match error {
            wdsr_batch::Error::Image(_) => None,
            error => std::error::Error::source(error),
        };
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        let message = format!("{error}{cause}");
        Self { message, kind }
    }
}
