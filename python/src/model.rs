//! `wdsr.load` and `wdsr.Model`.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyFileNotFoundError, PyRuntimeWarning, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wdsr_image::is_memory_free;
use wdsr_model::{BuiltinModel, DEFAULT_TILE_PX, Error, Isa, Precision, Upscaler};
use wdsr_upscale::{AlphaMethod, ImageUpscaler, Plan, Size};

use crate::error::{Failure, of_model};
use crate::pixels::Pixels;
use crate::size;
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
///     Name of models that come with the package ("base" or "small"), or path of a model file
///     (safetensors, as `wdsr train` writes it). A name wins over a file: "./small" is the file.
/// scale : int, optional
///     Output pixels per input pixel on each side; None: what the model has. A name without a scale
///     is its model of scale 2, and brings those of 3 and 4 for other sizes.
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
    let (name, networks) = match model {
        NameOrPath::Text(text) => match &BuiltinModel::of_kind(&text)[..] {
            [] => (text.clone(), vec![load_file(py, Path::new(&text))?]),
            all => {
                let models = of_scale(&text, all, scale)?;
                let networks = models.iter().map(BuiltinModel::load).collect();
                (models[0].name(), networks)
            }
        },
        NameOrPath::Path(path) => (path.display().to_string(), vec![load_file(py, &path)?]),
    };
    let model = Model {
        name,
        networks,
        prepared: Mutex::default(),
    };
    let found = model.scale();
    if let Some(asked) = scale.filter(|asked| usize::try_from(*asked) != Ok(found)) {
        return Err(PyValueError::new_err(format!(
            "scale is {asked}, but model {} upscales {found} times; load a model of that scale",
            model.name
        )));
    }
    Ok(model)
}

/// Of the models of a kind, the one of the scale asked for, or all of them.
fn of_scale(kind: &str, all: &[BuiltinModel], scale: Option<i64>) -> PyResult<Vec<BuiltinModel>> {
    let Some(scale) = scale else {
        return Ok(all.to_vec());
    };
    let asked = |model: &&BuiltinModel| usize::try_from(scale) == Ok(model.scale);
    let Some(model) = all.iter().find(asked) else {
        return Err(PyValueError::new_err(format!(
            "no model \"{kind}\" of scale {scale}; the package has {}",
            released_names()
        )));
    };
    Ok(vec![*model])
}

fn released_names() -> String {
    let names: Vec<String> = BuiltinModel::ALL.iter().map(BuiltinModel::name).collect();
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

/// A super-resolution network with its weights. `wdsr.load` makes one; it never changes, any number of
/// threads may use it at once, and it can be pickled (with its weights).
#[pyclass(frozen, module = "wdsr")]
pub(crate) struct Model {
    name: String,
    /// The model, and those of other scales that come with its name.
    networks: Vec<wdsr_model::Model>,
    prepared: Mutex<Prepared>,
}

/// The weights of each network arranged as the last call wanted them, where it wanted that network.
#[derive(Default)]
struct Prepared {
    options: Option<Options>,
    upscalers: Vec<Option<Arc<Upscaler>>>,
}

/// How an image is to be computed.
#[derive(Clone, Copy, PartialEq)]
struct Options {
    /// 0: the image's width.
    tile_px: usize,
    precision: Precision,
    self_ensemble: bool,
}

#[pymethods]
impl Model {
    /// Upscales an image, bit for bit as the program `wdsr upscale` does: `scale` times, or to the
    /// size that one of `factor`, `width`, `height`, `longest` and `size` asks for.
    ///
    /// Parameters
    /// ----------
    /// image : numpy.ndarray or PIL.Image.Image
    ///     Array of uint8 (0..255), uint16 (0..65535) or float32 (0..1), [height, width] or
    ///     [height, width, channels] with 1 (grey), 2 (grey, alpha), 3 (R G B) or 4 (R G B, alpha)
    ///     channels; or a Pillow image of mode L, LA, RGB, RGBA or I;16. Alpha is straight (not
    ///     premultiplied), 0 is transparent. A contiguous RGB array upscaled `scale` times is read
    ///     where it lies; do not write to it before the call returns.
    /// factor : float, optional
    ///     So many times as large on each side, any number above 0.
    /// width, height, longest : int, optional
    ///     This width, height or longer side in pixels, the other side in proportion.
    /// size : (int, int), optional
    ///     This width and height in pixels. What would stretch the image by more than a pixel is refused.
    /// alpha : {"network", "lanczos"}, default "network"
    ///     What upscales alpha that is not the same everywhere: the network (sharp edges, twice the
    ///     work) or Lanczos interpolation.
    /// threads : int, default 0
    ///     Threads; 0: one for each processor. The result is the same.
    /// tile : int, default 640
    ///     Width in pixels of the columns computed at once; 0: the image's width. The result is the
    ///     same; what is computed at once should fit the cache.
    /// precision : {"f32", "bf16"}, default "f32"
    ///     Arithmetic of the network. bf16 is faster on processors with AVX512-BF16 and differs in
    ///     the last bits; others compute in f32 with a RuntimeWarning.
    /// self_ensemble : bool, default False
    ///     Average over the 8 flips and rotations: slightly better, 8 times the work.
    /// progress : callable, optional
    ///     Called as progress(done, total) from time to time, in the calling thread, the last time
    ///     with done == total; never, if the size needs no network.
    ///
    /// Returns
    /// -------
    /// numpy.ndarray or PIL.Image.Image
    ///     The same dtype and number of axes, [height, width, channels]; floats are not clipped. Of
    ///     an image an image, with its mode and `info`. Sizes that passes of the network do not make
    ///     are resized down from the next that they make (Lanczos). Colours under fully transparent
    ///     pixels are those visible beside them; alpha that is the same everywhere stays so.
    ///
    /// Raises
    /// ------
    /// TypeError
    ///     The image is neither, or of another dtype.
    /// ValueError
    ///     Another shape or mode, a sample that is NaN or infinite, an argument out of range, more than
    ///     one size, or a size that would stretch the image.
    /// MemoryError
    ///     The work does not fit the memory.
    /// RuntimeError
    ///     The network gives what cannot be an image: the model is damaged.
    ///
    /// What `progress` raises, and KeyboardInterrupt, stops the work and comes out of the call.
    #[pyo3(signature = (image, *, factor = None, width = None, height = None, longest = None,
        size = None, alpha = "network", threads = 0, tile = DEFAULT_TILE_PX as i64,
        precision = "f32", self_ensemble = false, progress = None),
        text_signature = "($self, image, *, factor=None, width=None, height=None, longest=None, \
        size=None, alpha='network', threads=0, tile=640, precision='f32', \
        self_ensemble=False, progress=None)")]
    #[allow(
        clippy::too_many_arguments,
        reason = "they are Python's keyword arguments"
    )]
    fn upscale<'py>(
        &self,
        image: &Bound<'py, PyAny>,
        factor: Option<f64>,
        width: Option<i64>,
        height: Option<i64>,
        longest: Option<i64>,
        size: Option<(i64, i64)>,
        alpha: &str,
        threads: i64,
        tile: i64,
        precision: &str,
        self_ensemble: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = image.py();
        let pixels = Pixels::read(image, "image")?;
        let input = Size {
            width_px: pixels.width_px,
            height_px: pixels.height_px,
        };
        let request = size::request(factor, width, height, longest, size)?;
        let scales: Vec<usize> = self.networks.iter().map(|n| n.config().scale).collect();
        let plan = Plan::new(input, request, &scales)
            .map_err(|error| PyValueError::new_err(format!("image: {error}")))?;
        let alpha = parse_alpha(alpha)?;
        let options = Options {
            tile_px: count("tile", tile)?,
            precision: parse_precision(precision)?,
            self_ensemble,
        };
        let upscalers = self.prepare(py, options, plan.passes())?;
        let (samples, colour) = (pixels.samples()?, pixels.colour);
        let large = work::run(py, threads, progress.as_ref(), |tell| {
            let networks: Vec<&Upscaler> = upscalers.iter().map(Arc::as_ref).collect();
            let image_upscaler = ImageUpscaler::new(&plan, &networks).alpha(alpha);
            let bytes = image_upscaler.memory_bytes(colour, samples.depth())
                + image_upscaler.working_bytes();
            // A failed allocation in the midst of the work would end the interpreter.
            if !is_memory_free(bytes) {
                return Err(Failure::Memory(bytes));
            }
            image_upscaler
                .upscale_samples(samples, colour, tell)
                .map_err(Failure::Upscale)
        })??;
        pixels.give_back(large)
    }

    /// What `pickle` and `copy` call.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        let of_bytes = py.get_type::<Self>().getattr("_of_bytes")?;
        let files = self
            .networks
            .iter()
            .map(|n| PyBytes::new(py, &n.to_bytes()));
        Ok((of_bytes, (self.name.clone(), files.collect())))
    }

    /// The inverse of `__reduce__`: a model of the name, and the bytes of its networks' files.
    #[staticmethod]
    fn _of_bytes(name: String, files: Vec<Bound<'_, PyBytes>>) -> PyResult<Self> {
        let load = |file: &Bound<'_, PyBytes>| {
            wdsr_model::Model::from_bytes(file.as_bytes(), Path::new(&name)).map_err(of_model)
        };
        let networks: Vec<_> = files.iter().map(load).collect::<PyResult<_>>()?;
        if networks.is_empty() {
            return Err(PyValueError::new_err(format!("{name}: no network")));
        }
        Ok(Self {
            name,
            networks,
            prepared: Mutex::default(),
        })
    }

    /// What `wdsr.load` was given, such as "small x2" or a path.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Output pixels per input pixel on each side.
    #[getter]
    fn scale(&self) -> usize {
        self.model().config().scale
    }

    /// Kind of the residual blocks: "wdsr-a", "wdsr-b" or "edsr".
    #[getter]
    fn block(&self) -> &'static str {
        self.model().config().block.name()
    }

    /// Residual blocks.
    #[getter]
    fn blocks(&self) -> usize {
        self.model().config().blocks
    }

    /// Channels of the identity path.
    #[getter]
    fn features(&self) -> usize {
        self.model().config().features
    }

    /// Width of a block's activation over `features`.
    #[getter]
    fn expansion(&self) -> usize {
        self.model().config().expansion
    }

    /// Channels of WDSR-B's low-rank convolutions; 0 for other kinds.
    #[getter]
    fn low_rank(&self) -> usize {
        self.model().config().low_rank
    }

    /// Weights and biases.
    #[getter]
    fn parameters(&self) -> usize {
        self.model().network().parameters()
    }

    /// Multiply-adds for each pixel of the input.
    #[getter]
    fn multiply_adds_per_pixel(&self) -> usize {
        self.model().network().multiply_adds_per_pixel()
    }

    /// How far, in pixels of the input, a pixel of the result depends on the input.
    #[getter]
    fn receptive_radius_px(&self) -> usize {
        self.model().network().receptive_radius_px()
    }

    /// Remarks in the model's file, such as how it was trained.
    #[getter]
    fn notes(&self) -> BTreeMap<String, String> {
        self.model().notes().clone()
    }

    fn __repr__(&self) -> String {
        format!(
            "<wdsr.Model {}: {}, {} parameters>",
            self.name,
            self.model().config().label(),
            self.parameters()
        )
    }
}

impl Model {
    /// The one that the properties tell of.
    fn model(&self) -> &wdsr_model::Model {
        &self.networks[0]
    }

    /// The networks of the scales named. Arranges their weights, unless the last call wanted them
    /// the same way.
    fn prepare(
        &self,
        py: Python<'_>,
        asked: Options,
        scales: &[usize],
    ) -> PyResult<Vec<Arc<Upscaler>>> {
        let isa = Isa::detect().map_err(|e| PyValueError::new_err(e.to_string()))?;
        let options = Options {
            precision: or_f32(py, asked.precision, isa)?,
            ..asked
        };
        let arrange = |model: &wdsr_model::Model| {
            let upscaler = Upscaler::with_isa(model, isa)
                .tile_px((options.tile_px > 0).then_some(options.tile_px))
                .self_ensemble(options.self_ensemble)
                .precision(options.precision);
            Arc::new(upscaler)
        };
        // The lock is taken and left without the GIL, which its holder would wait for.
        Ok(py.detach(|| {
            let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            if prepared.options != Some(options) {
                *prepared = Prepared {
                    options: Some(options),
                    upscalers: vec![None; self.networks.len()],
                };
            }
            let networks = self.networks.iter().zip(&mut prepared.upscalers);
            networks
                .filter(|(model, _)| scales.contains(&model.config().scale))
                .map(|(model, place)| place.get_or_insert_with(|| arrange(model)).clone())
                .collect()
        }))
    }
}

/// A callable and its arguments, name and files, that make a model anew.
type Reduced<'py> = (Bound<'py, PyAny>, (String, Vec<Bound<'py, PyBytes>>));

fn parse_alpha(text: &str) -> PyResult<AlphaMethod> {
    AlphaMethod::ALL
        .into_iter()
        .find(|method| method.name() == text)
        .ok_or_else(|| {
            PyValueError::new_err(format!(
                "alpha is '{text}', expected 'network' or 'lanczos'"
            ))
        })
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
fn or_f32(py: Python<'_>, asked: Precision, isa: Isa) -> PyResult<Precision> {
    let precision = isa.precision_for(asked);
    if precision != asked {
        let warning = format!(
            "precision {}: expected a processor with AVX512-BF16, found {isa}; computing in {}",
            asked.name(),
            precision.name()
        );
        warn(py, &warning)?;
    }
    Ok(precision)
}

fn warn(py: Python<'_>, warning: &str) -> PyResult<()> {
    let warning = CString::new(warning)?;
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &warning, 1)
}
