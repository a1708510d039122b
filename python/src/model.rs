//! `wdsr.load` and `wdsr.Model`.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};

use pyo3::exceptions::{PyFileNotFoundError, PyRuntimeWarning, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wdsr_model::{
    BuiltinModel, DEFAULT_TILE_PX, Error, Isa, Precision, PrecisionChoice, PrecisionError,
    PrecisionOn, Upscaler,
};
use wdsr_upscale::{AlphaMethod, ImageUpscaler, Plan, Size, Strength, Wrap};

use crate::device::ModelDevice;
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
/// model : str or os.PathLike, optional
///     Name of built-in models ("base", "photo" or "small"), or path of a model file (safetensors, as
///     written by `wdsr train`). For a file called small use "./small". Without it each image chooses, as
///     for the program: "photo" upscales those with marks of JPEG or noise, "base" the others
///     (`Model.choose` tells which).
/// scale : int, optional
///     Output pixels per input pixel on each side; by default that of the model. A name without a
///     scale loads the models of scale 2, 3 and 4; `scale` is then 2.
/// device : str, default "cpu"
///     What computes: "cpu", "gpu" (the first card, else an integrated GPU), "gpu:N" (the GPU of that number in `wdsr
///     devices`, even if it is software), or "auto" (as "gpu", or the processor if there is none, with a
///     RuntimeWarning). Results of GPUs may differ by rounding. Where a GPU's memory does not suffice the processor
///     computes, with a RuntimeWarning.
///
/// Raises
/// ------
/// FileNotFoundError, PermissionError, OSError
///     The file cannot be read.
/// ValueError
///     The file is not a model file or is corrupt, the model has another scale, or the device is none of these.
/// RuntimeError
///     There is no such GPU, or the package was built without GPUs.
#[pyfunction]
#[pyo3(signature = (model = None, scale = None, *, device = "cpu"))]
pub(crate) fn load(
    py: Python<'_>,
    model: Option<NameOrPath>,
    scale: Option<i64>,
    device: &str,
) -> PyResult<Model> {
    let device = ModelDevice::open(py, device)?;
    let mut for_damaged = Vec::new();
    let (name, networks) = match model {
        None => {
            let (kind, all) = (BuiltinModel::DEFAULT.kind, BuiltinModel::ALL);
            let of_kind = |kind| all.iter().filter(move |model| model.kind == kind);
            let default: Vec<BuiltinModel> = of_kind(kind).copied().collect();
            let models = of_scale(kind, &default, scale)?;
            let scales: Vec<usize> = match scale {
                Some(_) => vec![models[0].scale],
                None => vec![2, 3, 4],
            };
            let damaged = of_kind(BuiltinModel::FOR_DAMAGED);
            let damaged = damaged.filter(|model| scales.contains(&model.scale));
            for_damaged.extend(damaged.map(BuiltinModel::load));
            let networks = models.iter().map(BuiltinModel::load).collect();
            let name = match &for_damaged[..] {
                [] => models[0].name(),
                _ => format!("{kind} or {}", BuiltinModel::FOR_DAMAGED),
            };
            (name, networks)
        }
        Some(NameOrPath::Text(text)) => match &BuiltinModel::of_kind(&text)[..] {
            [] => (text.clone(), vec![load_file(py, Path::new(&text))?]),
            all => {
                let models = of_scale(&text, all, scale)?;
                let networks = models.iter().map(BuiltinModel::load).collect();
                (models[0].name(), networks)
            }
        },
        Some(NameOrPath::Path(path)) => (path.display().to_string(), vec![load_file(py, &path)?]),
    };
    let model = Model {
        name,
        device,
        networks,
        for_damaged,
        prepared: Mutex::default(),
        hashes: OnceLock::new(),
    };
    let found = model.scale();
    if let Some(asked) = scale.filter(|asked| usize::try_from(*asked) != Ok(found)) {
        return Err(PyValueError::new_err(format!(
            "scale is {asked}, but model {} has scale {found}; load a model of that scale",
            model.name
        )));
    }
    Ok(model)
}

/// The model of a kind with the given scale, or all of the kind.
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
            // More likely a name than a path.
            Error::Io { source, .. }
                if source.kind() == ErrorKind::NotFound
                    && path.components().count() == 1
                    && path.extension().is_none() =>
            {
                PyFileNotFoundError::new_err(format!(
                    "{}: neither a file nor a built-in model; built-in are {}",
                    path.display(),
                    released_names()
                ))
            }
            _ => of_model(error),
        })
}

/// A super-resolution network with its weights, loaded by `wdsr.load`. It is immutable, may be used by
/// any number of threads at once, and can be pickled (with its weights; its device is opened again). A model on a
/// GPU must not be used in a process that was forked after it was loaded.
#[pyclass(frozen, module = "wdsr")]
pub(crate) struct Model {
    name: String,
    pub(crate) device: ModelDevice,
    /// The model, and the models of other scales of its name.
    networks: Vec<wdsr_model::Model>,
    /// The models for images whose damage is worth removing, if each image chooses.
    for_damaged: Vec<wdsr_model::Model>,
    prepared: Mutex<Prepared>,
    hashes: OnceLock<[Vec<(usize, String)>; 2]>,
}

/// The networks that the last call used, their weights arranged by its options.
#[derive(Default)]
struct Prepared {
    options: Option<Options>,
    /// Of `Model::all_networks`, in the precision of each.
    upscalers: Vec<Option<Arc<Upscaler>>>,
}

/// How an image is computed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Options {
    /// 0: the image's width.
    pub(crate) tile_px: usize,
    pub(crate) precision: PrecisionChoice,
    pub(crate) self_ensemble: bool,
}

#[pymethods]
impl Model {
    /// Upscales an image by `scale`, or to the size given by one of `factor`, `width`, `height`,
    /// `longest` and `size`. The result is that of the program `wdsr upscale`, bit for bit.
    ///
    /// Parameters
    /// ----------
    /// image : numpy.ndarray or PIL.Image.Image
    ///     Array of uint8 (0..255), uint16 (0..65535) or float32 (0..1), [height, width] or
    ///     [height, width, channels] with 1 (grey), 2 (grey, alpha), 3 (R G B) or 4 (R G B, alpha)
    ///     channels; or a Pillow image of mode L, LA, RGB, RGBA or I;16. Alpha is straight (not
    ///     premultiplied), 0 is transparent. It is copied, and may be changed while the call runs.
    /// factor : float, optional
    ///     Factor of both sides, above 0; may be fractional.
    /// width, height, longest : int, optional
    ///     Width, height or longer side of the result in pixels; the other side follows in proportion.
    /// size : (int, int), optional
    ///     Width and height of the result in pixels. A size that would stretch the image by more than a
    ///     pixel is refused.
    /// alpha : {"network", "lanczos"}, default "network"
    ///     How to upscale alpha that is not the same everywhere: by the network (sharp edges, twice the
    ///     work) or by Lanczos interpolation.
    /// wrap : {"none", "x", "xy"}, default "none"
    ///     Edges that continue at the opposite side: "x" for a panorama of 360 degrees, "xy" for a
    ///     seamless texture. The result then has no seam there.
    /// strength : float, optional
    ///     How much damage a model with a strength ("photo") removes: 0 takes the image for clean, 1 is for
    ///     JPEG of quality 10 or noise of 25 levels. By default it is read off the image: off its pixels,
    ///     and off the tables of a JPEG file that Pillow opened.
    /// threads : int, default 0
    ///     Number of threads; 0: one for each processor. It does not change the result. More than 16 for
    ///     each processor are capped, with a RuntimeWarning.
    /// tile : int, default 640
    ///     Width in pixels of the columns computed at once, which should fit the cache; 0: the image's
    ///     width. It does not change the result.
    /// precision : {"f32", "bf16", "f16", "int8", "auto"}, default "f32"
    ///     Arithmetic of the network. bf16 is faster on AMD processors with AVX512-BF16 and ARM
    ///     processors with BF16 and differs in the last bits. int8 is the fastest where the processor has
    ///     dot products of bytes (VNNI, dotprod), and at most 0.03 dB lower; "base", "small" and models of `wdsr
    ///     quantize` have it. Processors on which the precision is not faster compute in f32, with a
    ///     RuntimeWarning; so does "photo" in int8, if each image chooses its model. "auto" is the fastest that the model has on
    ///     this processor. A GPU computes in f32, which "auto" means there, or in f16: twice as fast on many, and off by up to
    ///     0.002 of the range.
    /// self_ensemble : bool, default False
    ///     Average over the 8 flips and rotations: slightly better, 8 times the work.
    /// progress : callable, optional
    ///     Called as progress(done, total) from time to time in the calling thread, the last time with
    ///     done == total. It is not called if the size needs no network.
    ///
    /// Returns
    /// -------
    /// numpy.ndarray or PIL.Image.Image
    ///     The same dtype and number of axes, [height, width, channels]; floats are not clipped. For a
    ///     Pillow image, an image of the same mode and `info`. Sizes that passes of the network do not
    ///     reach exactly are reduced from the next larger one (Lanczos). Fully transparent pixels get
    ///     the colour of the visible pixels beside them; alpha that is the same everywhere stays exactly so.
    ///
    /// Raises
    /// ------
    /// TypeError
    ///     The image is neither, or has another dtype.
    /// ValueError
    ///     The image has another shape or mode or a sample that is NaN or infinite, an argument is out of
    ///     range, more than one size is given, the size would stretch the image, or the model has no int8.
    /// MemoryError
    ///     Upscaling needs more memory than is available.
    /// RuntimeError
    ///     The output of the network is not an image: the model is damaged. Or the GPU was lost; the next call opens it
    ///     again.
    ///
    /// An exception in `progress`, and KeyboardInterrupt, stops the work and is raised by the call.
    #[pyo3(signature = (image, *, factor = None, width = None, height = None, longest = None,
        size = None, alpha = "network", wrap = "none", strength = None, threads = 0, tile = DEFAULT_TILE_PX as i64,
        precision = "f32", self_ensemble = false, progress = None),
        text_signature = "($self, image, *, factor=None, width=None, height=None, longest=None, \
        size=None, alpha='network', wrap='none', strength=None, threads=0, tile=640, precision='f32', \
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
        wrap: &str,
        strength: Option<f32>,
        threads: i64,
        tile: i64,
        precision: &str,
        self_ensemble: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = image.py();
        self.check_strength(strength)?;
        let pixels = Pixels::read(image, "image")?;
        let input = Size {
            width_px: pixels.width_px,
            height_px: pixels.height_px,
        };
        let request = size::request(factor, width, height, longest, size)?;
        let plan_of = |networks: &[wdsr_model::Model]| {
            let scales: Vec<usize> = networks.iter().map(|n| n.config().scale).collect();
            Plan::new(input, request, &scales)
                .map_err(|error| PyValueError::new_err(format!("image: {error}")))
        };
        let mut plan = plan_of(&self.networks)?;
        let mut found = strength;
        let mut is_for_damaged = false;
        let chooses = self.chooses() && !plan.passes().is_empty();
        if chooses || found.is_none() && self.networks.iter().any(|n| n.strong().is_some()) {
            let read = match strength {
                None => Some(read_strength(py, image, &pixels)),
                Some(_) => None,
            };
            // A strength that is given asks for the model that has one.
            is_for_damaged = chooses && read.is_none_or(|read| read.is_worth_removing());
            found = found.or(read.map(|read| read.value));
        }
        if is_for_damaged {
            plan = plan_of(&self.for_damaged)?;
        }
        let (alpha, wrap) = (parse_alpha(alpha)?, parse_wrap(wrap)?);
        let options = Options {
            tile_px: count("tile", tile)?,
            precision: parse_precision(precision)?,
            self_ensemble,
        };
        self.check_precision(options.precision, strength)?;
        let (upscalers, _) = self.prepare(py, options, Some(plan.passes()), is_for_damaged)?;
        let (samples, colour) = (pixels.samples.borrowed(), pixels.colour);
        let large = work::run(py, threads, progress.as_ref(), |report| {
            let networks: Vec<&Upscaler> = upscalers.iter().map(Arc::as_ref).collect();
            let mut upscaler = ImageUpscaler::new(plan, &networks).alpha(alpha).wrap(wrap);
            if let Some(strength) = found.filter(|_| upscaler.has_strength()) {
                upscaler = upscaler.at_strength(strength);
            }
            // A failed allocation amid the work would end the interpreter.
            upscaler.check_memory(colour, samples.depth(), 0, None)?;
            upscaler
                .upscale_samples(samples, colour, report)
                .map_err(Failure::Upscale)
        })??;
        self.device.warn(py)?;
        pixels.give_back(large)
    }

    /// Which model upscales an image, and why: its name, the strength that the image's damage asks for
    /// (0 to 1), and the damage, such as "was a JPEG of quality 75" or "clean". `image` is as for
    /// `upscale`. A model that was loaded by name upscales every image.
    fn choose(&self, image: &Bound<'_, PyAny>) -> PyResult<(String, f32, String)> {
        let pixels = Pixels::read(image, "image")?;
        let read = read_strength(image.py(), image, &pixels);
        let [clean, damaged] = self.names(false);
        let name = match self.chooses() && read.is_worth_removing() {
            true => damaged,
            false => clean,
        };
        Ok((name, read.value, read.damage.to_string()))
    }

    /// Called by `pickle` and `copy`.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        let of_bytes = py.get_type::<Self>().getattr("_of_bytes")?;
        let files = |networks: &[wdsr_model::Model]| {
            let files = networks.iter().map(|n| PyBytes::new(py, &n.to_bytes()));
            files.collect()
        };
        let (networks, for_damaged) = (files(&self.networks), files(&self.for_damaged));
        let device = self.device.given().to_owned();
        Ok((of_bytes, (self.name.clone(), networks, for_damaged, device)))
    }

    /// The inverse of `__reduce__`: a model of the name, the bytes of its networks' files, and its device.
    #[staticmethod]
    #[pyo3(signature = (name, files, for_damaged = Vec::new(), device = "cpu"))]
    fn _of_bytes(
        py: Python<'_>,
        name: String,
        files: Vec<Bound<'_, PyBytes>>,
        for_damaged: Vec<Bound<'_, PyBytes>>,
        device: &str,
    ) -> PyResult<Self> {
        let load = |file: &Bound<'_, PyBytes>| {
            wdsr_model::Model::from_bytes(file.as_bytes(), Path::new(&name)).map_err(of_model)
        };
        let networks: Vec<_> = files.iter().map(load).collect::<PyResult<_>>()?;
        let for_damaged = for_damaged.iter().map(load).collect::<PyResult<_>>()?;
        if networks.is_empty() {
            return Err(PyValueError::new_err(format!("{name}: no network")));
        }
        Ok(Self {
            name,
            device: ModelDevice::open(py, device)?,
            networks,
            for_damaged,
            prepared: Mutex::default(),
            hashes: OnceLock::new(),
        })
    }

    /// Name of the model, such as "small x2" or a path.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Name of the GPU that computes, or "cpu".
    #[getter]
    fn device(&self) -> &str {
        self.device.name()
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

    /// Distance in pixels of the input at which the input still affects a pixel of the result.
    #[getter]
    fn receptive_radius_px(&self) -> usize {
        self.model().network().receptive_radius_px()
    }

    /// Notes in the model's file, such as how it was trained.
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
    /// The model that the properties describe.
    fn model(&self) -> &wdsr_model::Model {
        &self.networks[0]
    }

    fn all_networks(&self) -> impl Iterator<Item = &wdsr_model::Model> {
        self.networks.iter().chain(&self.for_damaged)
    }

    /// Whether each image chooses between networks for clean and for damaged images.
    pub(crate) fn chooses(&self) -> bool {
        !self.for_damaged.is_empty()
    }

    /// The names of the models for clean and for damaged images; those for damaged images alone, if these are
    /// chosen for all.
    pub(crate) fn names(&self, is_damaged_chosen: bool) -> [String; 2] {
        let damaged = || BuiltinModel::FOR_DAMAGED.to_owned();
        // A kind of several scales is called by its first.
        let kind = match self.networks.len() {
            1 => &self.name,
            _ => self
                .name
                .split_once(" x")
                .map_or(&*self.name, |(kind, _)| kind),
        };
        match (self.chooses(), is_damaged_chosen) {
            (false, _) => [kind.to_owned(), kind.to_owned()],
            (true, true) => [damaged(), damaged()],
            (true, false) => [BuiltinModel::DEFAULT.kind.to_owned(), damaged()],
        }
    }

    /// Checks a strength that was given.
    pub(crate) fn check_strength(&self, strength: Option<f32>) -> PyResult<()> {
        let Some(strength) = strength else {
            return Ok(());
        };
        let message = if !(0.0..=1.0).contains(&strength) {
            format!("strength is {strength}, expected 0 to 1")
        } else if self.all_networks().all(|n| n.strong().is_none()) {
            format!("strength: model {} has none; \"photo\" has one", self.name)
        } else {
            return Ok(());
        };
        Err(PyValueError::new_err(message))
    }

    /// Refuses int8 beside a strength, as no model has both, and precisions that the device or the model lacks.
    pub(crate) fn check_precision(
        &self,
        precision: PrecisionChoice,
        strength: Option<f32>,
    ) -> PyResult<()> {
        if precision == PrecisionChoice::Of(Precision::Int8) && strength.is_some() {
            let [_, model] = self.names(true);
            return Err(refused(PrecisionError::NoInt8 { model }));
        }
        let name = &self.names(false)[0];
        let on = precision.on(self.device.gpu(), name, &self.networks[0], detect()?);
        on.map(drop).map_err(refused)
    }

    /// Scale and hash of each network that is used, and of those for damaged images if each image chooses.
    pub(crate) fn hashes(&self, is_for_damaged: bool) -> PyResult<[Vec<(usize, String)>; 2]> {
        let of = |networks: &[wdsr_model::Model]| {
            let hash = |network: &wdsr_model::Model| {
                let hash = wdsr_batch::hash_of_model(network);
                let hash = hash.map_err(|error| PyValueError::new_err(error.to_string()))?;
                Ok((network.config().scale, hash))
            };
            networks.iter().map(hash).collect::<PyResult<Vec<_>>>()
        };
        let hashes = match self.hashes.get() {
            Some(hashes) => hashes,
            None => {
                let hashes = [of(&self.networks)?, of(&self.for_damaged)?];
                self.hashes.get_or_init(|| hashes)
            }
        };
        Ok(match is_for_damaged {
            true => [hashes[1].clone(), Vec::new()],
            false => hashes.clone(),
        })
    }

    /// The networks of the given scales, or of all, of those for damaged images or the others. Arranges their
    /// weights unless the last call used the same options. Returns their precision too.
    pub(crate) fn prepare(
        &self,
        py: Python<'_>,
        options: Options,
        scales: Option<&[usize]>,
        is_for_damaged: bool,
    ) -> PyResult<(Vec<Arc<Upscaler>>, PrecisionOn)> {
        let isa = detect()?;
        let precision = self.precision(py, options.precision, is_for_damaged, isa)?;
        let arrange = |model: &wdsr_model::Model| {
            let upscaler = Upscaler::with_isa(model, isa)
                .tile_px((options.tile_px > 0).then_some(options.tile_px))
                .self_ensemble(options.self_ensemble)
                .computed(&precision);
            Arc::new(upscaler)
        };
        // If a process is forked while another thread holds the lock, the child never gets it.
        // So no call waits: without the lock, it arranges the weights once more.
        let mut cached = vec![None; self.all_networks().count()];
        if let Some(prepared) = self.try_prepared()
            && prepared.options == Some(options)
        {
            cached.clone_from(&prepared.upscalers);
        }
        let upscalers = py.detach(|| {
            let (clean, damaged) = cached.split_at_mut(self.networks.len());
            let networks = match is_for_damaged {
                false => self.networks.iter().zip(clean),
                true => self.for_damaged.iter().zip(damaged),
            };
            networks
                .filter(|(model, _)| scales.is_none_or(|s| s.contains(&model.config().scale)))
                .map(|(model, place)| place.get_or_insert_with(|| arrange(model)).clone())
                .collect()
        });
        if let Some(mut prepared) = self.try_prepared() {
            *prepared = Prepared {
                options: Some(options),
                upscalers: cached,
            };
        }
        Ok((upscalers, precision))
    }

    /// The precision of the networks for damaged images or of the others; f32, with a warning, where that is faster
    /// or networks that images choose have no int8.
    fn precision(
        &self,
        py: Python<'_>,
        choice: PrecisionChoice,
        is_for_damaged: bool,
        isa: Isa,
    ) -> PyResult<PrecisionOn> {
        let name = &self.names(is_for_damaged)[usize::from(is_for_damaged)];
        let first = match is_for_damaged {
            true => &self.for_damaged[0],
            false => &self.networks[0],
        };
        let warning = match choice.on(self.device.gpu(), name, first, isa) {
            Ok(on) if on.is_slower_than_f32(isa) => format!(
                "precision {}: not faster than f32 on this processor ({isa}); computing in f32",
                on.name()
            ),
            Ok(on) => return Ok(on),
            Err(_) if is_for_damaged => format!(
                "precision int8: {name}, for images with damage, has no int8; it runs in f32"
            ),
            Err(error) => return Err(refused(error)),
        };
        warn(py, &warning)?;
        Ok(PrecisionOn::F32)
    }

    /// The networks of the last call, unless another thread uses them just now.
    fn try_prepared(&self) -> Option<MutexGuard<'_, Prepared>> {
        match self.prepared.try_lock() {
            Ok(prepared) => Some(prepared),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// The strength that an image asks for.
fn read_strength(py: Python<'_>, image: &Bound<'_, PyAny>, pixels: &Pixels<'_>) -> Strength {
    let scale = jpeg_table_scale(image);
    let (samples, width_px) = (pixels.samples.borrowed(), pixels.width_px);
    let channels = pixels.colour.channels();
    py.detach(|| Strength::of_samples(samples, width_px, channels, scale))
}

/// By how much the luma steps of a JPEG file that Pillow opened are larger than those of Annex K (ITU-T
/// T.81).
fn jpeg_table_scale(image: &Bound<'_, PyAny>) -> Option<f64> {
    /// The sum of Annex K's steps of luma.
    const ANNEX_K_SUM: f64 = 3688.0;
    let tables = image.getattr("quantization").ok()?;
    let steps: Vec<u16> = tables.get_item(0).ok()?.extract().ok()?;
    let sum: f64 = steps.iter().map(|step| f64::from(*step)).sum();
    (steps.len() == 64).then_some(sum / ANNEX_K_SUM)
}

/// A callable and its arguments, name and files, that recreate a model.
type Reduced<'py> = (Bound<'py, PyAny>, (String, Files<'py>, Files<'py>, String));
type Files<'py> = Vec<Bound<'py, PyBytes>>;

pub(crate) fn parse_alpha(text: &str) -> PyResult<AlphaMethod> {
    AlphaMethod::ALL
        .into_iter()
        .find(|method| method.name() == text)
        .ok_or_else(|| {
            PyValueError::new_err(format!(
                "alpha is '{text}', expected 'network' or 'lanczos'"
            ))
        })
}

pub(crate) fn parse_wrap(text: &str) -> PyResult<Wrap> {
    Wrap::ALL
        .into_iter()
        .find(|wrap| wrap.name() == text)
        .ok_or_else(|| {
            PyValueError::new_err(format!("wrap is '{text}', expected 'none', 'x' or 'xy'"))
        })
}

pub(crate) fn parse_precision(text: &str) -> PyResult<PrecisionChoice> {
    let mut named = PrecisionChoice::NAMED.into_iter();
    let found = named.find(|(name, _)| *name == text);
    found.map(|(_, precision)| precision).ok_or_else(|| {
        PyValueError::new_err(format!(
            "precision is '{text}', expected 'f32', 'bf16', 'f16', 'int8' or 'auto'"
        ))
    })
}

fn refused(error: PrecisionError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn detect() -> PyResult<Isa> {
    Isa::detect().map_err(|e| PyValueError::new_err(e.to_string()))
}

pub(crate) fn warn(py: Python<'_>, warning: &str) -> PyResult<()> {
    let warning = CString::new(warning)?;
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &warning, 1)
}
