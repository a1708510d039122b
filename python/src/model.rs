//! `wdsr.load` and `wdsr.Model`.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyFileNotFoundError, PyRuntimeWarning, PyValueError};
use pyo3::prelude::*;
use wdsr_model::{DEFAULT_TILE_PX, Error, Isa, Precision, Released, Upscaler};
use wdsr_picture::Colour;

use crate::enlarge::enlarge;
use crate::error::{check_memory, of_model, of_upscale};
use crate::pixels::Pixels;
use crate::work::{self, count};

#[derive(FromPyObject)]
pub(crate) enum NameOrPath {
    #[pyo3(transparent, annotation = "str")]
    Text(String),
    #[pyo3(transparent, annotation = "os.PathLike")]
    Path(PathBuf),
}

/// Loads a model.
///
/// Parameters
/// ----------
/// model : str or os.PathLike
///     Name of a model that comes with the package ("small", of scale 2), or path of a model file
///     (safetensors, as `wdsr train` writes it). A name wins over a file: "./small" is the file.
/// scale : int, optional
///     Output pixels per input pixel on each side; None: what the model has.
///
/// Raises
/// ------
/// FileNotFoundError, PermissionError, OSError
///     The file cannot be read.
/// ValueError
///     The file is no model file or is damaged, or the model has another scale.
#[pyfunction]
#[pyo3(signature = (model, scale = None))]
pub(crate) fn load(py: Python<'_>, model: NameOrPath, scale: Option<i64>) -> PyResult<Model> {
    let (name, model) = match model {
        NameOrPath::Text(text) => match Released::ALL.iter().any(|model| model.kind == text) {
            true => {
                let model = released(&text, scale)?;
                (model.name(), model.load())
            }
            false => (text.clone(), load_file(py, Path::new(&text))?),
        },
        NameOrPath::Path(path) => (path.display().to_string(), load_file(py, &path)?),
    };
    let found = model.config().scale;
    if let Some(asked) = scale.filter(|asked| usize::try_from(*asked) != Ok(found)) {
        return Err(PyValueError::new_err(format!(
            "scale is {asked}, but model {name} enlarges {found} times; load a model of that scale"
        )));
    }
    Ok(Model {
        name,
        model,
        prepared: Mutex::new(None),
    })
}

/// The model of a kind that has the scale asked for, or its first.
fn released(kind: &str, scale: Option<i64>) -> PyResult<&'static Released> {
    let mut of_kind = Released::ALL.iter().filter(|model| model.kind == kind);
    of_kind
        .find(|model| scale.is_none_or(|scale| usize::try_from(scale) == Ok(model.scale)))
        .ok_or_else(|| {
            PyValueError::new_err(format!(
                "no model \"{kind}\" of scale {}; the package has {}",
                scale.unwrap_or_default(),
                released_names()
            ))
        })
}

fn released_names() -> String {
    let names: Vec<String> = Released::ALL.iter().map(Released::name).collect();
    names.join(", ")
}

fn load_file(py: Python<'_>, path: &Path) -> PyResult<wdsr_model::Model> {
    py.detach(|| wdsr_model::Model::load(path))
        .map_err(|error| match &error {
            // A name rather than a path.
            Error::Io { source, .. }
                if source.kind() == ErrorKind::NotFound
                    && path.components().count() == 1
                    && path.extension().is_none() =>
            {
                PyFileNotFoundError::new_err(format!(
                    "{}: neither a file nor a model of the package, which has {}",
                    path.display(),
                    released_names()
                ))
            }
            _ => of_model(error),
        })
}

/// A super-resolution network with its weights. `wdsr.load` makes one; it never changes, and any number of
/// threads may use it at once.
#[pyclass(frozen, module = "wdsr")]
pub(crate) struct Model {
    name: String,
    model: wdsr_model::Model,
    /// The weights arranged as the last call wanted them.
    prepared: Mutex<Option<(Options, Arc<Upscaler>)>>,
}

/// How a picture is to be computed.
#[derive(Clone, Copy, PartialEq)]
struct Options {
    /// 0: the picture's width.
    tile_px: usize,
    precision: Precision,
    self_ensemble: bool,
}

#[pymethods]
impl Model {
    /// Enlarges a picture `scale` times, bit for bit as the program `wdsr upscale` does.
    ///
    /// Parameters
    /// ----------
    /// picture : numpy.ndarray or PIL.Image.Image
    ///     Array of uint8 (0..255), uint16 (0..65535) or float32 (0..1), [height, width] or
    ///     [height, width, channels] with 1 (grey) or 3 (R G B) channels; or a Pillow image of mode
    ///     L, RGB or I;16. A contiguous RGB array is read where it lies; do not write to it before
    ///     the call returns. Alpha is refused: give colour and alpha by themselves.
    /// threads : int, default 0
    ///     Threads; 0: one for each processor. The result is the same.
    /// tile : int, default 2048
    ///     Width in pixels of the columns computed at once; 0: the picture's width. The result is the
    ///     same; narrower ones take less memory and more time.
    /// precision : {"f32", "bf16"}, default "f32"
    ///     Arithmetic of the network. bf16 is faster on processors with AVX512-BF16 and differs in
    ///     the last bits; others compute in f32 with a RuntimeWarning.
    /// self_ensemble : bool, default False
    ///     Average over the 8 flips and rotations: slightly better, 8 times the work.
    /// progress : callable, optional
    ///     Called as progress(done, total) from time to time, in the calling thread, the last time
    ///     with done == total.
    ///
    /// Returns
    /// -------
    /// numpy.ndarray or PIL.Image.Image
    ///     The same dtype and number of axes, [height * scale, width * scale, channels]; floats are
    ///     not clipped. Of an image an image, with its mode and `info`.
    ///
    /// Raises
    /// ------
    /// TypeError
    ///     The picture is neither, or of another dtype.
    /// ValueError
    ///     Another shape or mode, a sample that is NaN or infinite, or an argument out of range.
    /// MemoryError
    ///     The result does not fit the memory.
    /// RuntimeError
    ///     The network gives what cannot be a picture: the model is damaged.
    ///
    /// What `progress` raises, and KeyboardInterrupt, stops the work and comes out of the call.
    #[pyo3(signature = (picture, *, threads = 0, tile = DEFAULT_TILE_PX as i64, precision = "f32",
        self_ensemble = false, progress = None),
        text_signature = "($self, picture, *, threads=0, tile=2048, precision='f32', \
        self_ensemble=False, progress=None)")]
    fn upscale<'py>(
        &self,
        picture: &Bound<'py, PyAny>,
        threads: i64,
        tile: i64,
        precision: &str,
        self_ensemble: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = picture.py();
        let pixels = Pixels::read(picture, "picture")?;
        if pixels.colour.has_alpha() {
            return Err(PyValueError::new_err(format!(
                "picture is {} (height x width x channels) with alpha, expected grey or RGB; give \
                 colour and alpha by themselves (arrays: picture[..., :{}] and picture[..., -1], \
                 images: convert and getchannel(\"A\")), or run the program wdsr",
                pixels.describe(),
                pixels.colour.channels() - 1
            )));
        }
        let upscaler = self.prepare(
            py,
            Options {
                tile_px: count("tile", tile)?,
                precision: parse_precision(precision)?,
                self_ensemble,
            },
        )?;
        let samples = pixels.samples()?;
        let (width_px, height_px, colour) = (pixels.width_px, pixels.height_px, pixels.colour);
        // The result; of grey also the same as RGB.
        let channels = if colour == Colour::Rgb { 3 } else { 4 };
        let bytes_per_pixel = upscaler.scale().pow(2) * channels * samples.bytes_per_sample();
        check_memory(
            width_px as u128 * height_px as u128 * bytes_per_pixel as u128,
            "the enlarged picture",
        )?;
        let large = work::run(py, threads, progress.as_ref(), |tell| {
            enlarge(samples, width_px, height_px, colour, &upscaler, tell)
        })?
        .map_err(of_upscale)?;
        pixels.give_back(large)
    }

    /// What `wdsr.load` was given, such as "small x2" or a path.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Output pixels per input pixel on each side.
    #[getter]
    fn scale(&self) -> usize {
        self.model.config().scale
    }

    /// Kind of the residual blocks: "wdsr-a", "wdsr-b" or "edsr".
    #[getter]
    fn block(&self) -> &'static str {
        self.model.config().block.name()
    }

    /// Residual blocks.
    #[getter]
    fn blocks(&self) -> usize {
        self.model.config().blocks
    }

    /// Channels of the identity path.
    #[getter]
    fn features(&self) -> usize {
        self.model.config().features
    }

    /// Width of a block's activation over `features`.
    #[getter]
    fn expansion(&self) -> usize {
        self.model.config().expansion
    }

    /// Channels of WDSR-B's low-rank convolutions; 0 for other kinds.
    #[getter]
    fn low_rank(&self) -> usize {
        self.model.config().low_rank
    }

    /// Weights and biases.
    #[getter]
    fn parameters(&self) -> usize {
        self.model.network().parameters()
    }

    /// Multiply-adds for each pixel of the input.
    #[getter]
    fn multiply_adds_per_pixel(&self) -> usize {
        self.model.network().multiply_adds_per_pixel()
    }

    /// How far, in pixels of the input, a pixel of the result depends on the input.
    #[getter]
    fn receptive_radius_px(&self) -> usize {
        self.model.network().receptive_radius_px()
    }

    /// Remarks in the model's file, such as how it was trained.
    #[getter]
    fn notes(&self) -> BTreeMap<String, String> {
        self.model.notes().clone()
    }

    fn __repr__(&self) -> String {
        format!(
            "<wdsr.Model {}: {}, {} parameters>",
            self.name,
            self.model.config().label(),
            self.parameters()
        )
    }
}

impl Model {
    /// Arranges the weights, unless the last call wanted them the same way.
    fn prepare(&self, py: Python<'_>, asked: Options) -> PyResult<Arc<Upscaler>> {
        let isa = Isa::detect().map_err(|e| PyValueError::new_err(e.to_string()))?;
        let options = Options {
            precision: or_f32(py, asked.precision, isa)?,
            ..asked
        };
        // The lock is taken and left without the GIL, which its holder would wait for.
        Ok(py.detach(|| {
            let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((found, upscaler)) = &*prepared
                && *found == options
            {
                return upscaler.clone();
            }
            let upscaler = Upscaler::with_isa(&self.model, isa)
                .tile_px((options.tile_px > 0).then_some(options.tile_px))
                .self_ensemble(options.self_ensemble)
                .precision(options.precision);
            let upscaler = Arc::new(upscaler);
            *prepared = Some((options, upscaler.clone()));
            upscaler
        }))
    }
}

fn parse_precision(text: &str) -> PyResult<Precision> {
    [Precision::F32, Precision::Bf16]
        .into_iter()
        .find(|precision| precision.name() == text)
        .ok_or_else(|| {
            PyValueError::new_err(format!("precision is '{text}', expected 'f32' or 'bf16'"))
        })
}

/// What was asked for, or f32 with a warning where that would be slower than f32.
fn or_f32(py: Python<'_>, precision: Precision, isa: Isa) -> PyResult<Precision> {
    if precision == Precision::F32 || isa.has_bf16() {
        return Ok(precision);
    }
    let warning = CString::new(format!(
        "precision {}: expected a processor with AVX512-BF16, found {isa}; computing in f32",
        precision.name()
    ))?;
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &warning, 1)?;
    Ok(Precision::F32)
}
