//! The engine of the page that upscales images in the browser: requests as those of the server ([`wdsr_request`]),
//! on the one thread of a Worker, on several Workers, or on a GPU.
//!
//! On WebAssembly, `exports` is the interface for JavaScript (`crates/web/page/worker.js`), and `device` the GPU and the
//! other Workers, which JavaScript reaches.
#![deny(unsafe_code)]

#[cfg(target_family = "wasm")]
mod device;
#[cfg(target_family = "wasm")]
mod exports;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use wdsr_image::Limits;
use wdsr_model::{Device, DeviceError, DeviceTile, Isa, Model, UpscaleError, Upscaler};
use wdsr_request::{Error, Networks, UpscaleRequest, Upscaled, media_type};
use wdsr_upscale::{Error as UpscaleImageError, ErrorKind, Settings};

/// Most memory in bytes for an image: a module of 32 bits has 4 GiB, of which its input and gaps take a part.
const MAX_MEMORY_BYTES: u64 = 3 << 30;

/// The built-in networks, on this thread or on a device.
pub struct Engine {
    networks: Networks,
    on_device: Option<Networks>,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            networks: Networks::new(isa()),
            on_device: None,
        }
    }
}

fn isa() -> Isa {
    // There is no environment that could name another instruction set.
    Isa::detect().unwrap_or(Isa::REFERENCE)
}

impl Engine {
    /// An engine that computes on a device. What the device cannot compute, this thread computes.
    pub fn on_device(device: Arc<dyn Device>) -> Self {
        let networks = Networks::new(isa()).on_device(device);
        Self {
            on_device: Some(networks),
            ..Self::default()
        }
    }

    /// What runs, and the models, as `GET /v1/models` of the server answers.
    pub fn describe(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "device": "WebAssembly in this browser",
            "instruction_set": self.networks.isa().to_string(),
            "threads": 1,
            "models": Networks::described(),
        })
    }

    /// Upscales the image in the bytes of a file by the parameters of a query. `progress` gets the share of the
    /// work done. Returns the status that a job of the server ends with, and the result. The report also has
    /// `device_warning` if a device should have computed and this thread did. Without a device that computes in f16, f16
    /// becomes f32, with a warning.
    pub fn upscale(
        &self,
        query: &str,
        (name, file): (&str, Vec<u8>),
        progress: impl Fn(f64) + Sync,
    ) -> (Value, Vec<u8>) {
        match self.run(query, (name, file), progress) {
            Ok(result) => {
                let status = json!({
                    "status": "done",
                    "media_type": media_type(result.head.format),
                    "report": result.head.report,
                    "warnings": result.head.warnings,
                });
                (status, result.file)
            }
            Err(error) => {
                let error = json!({ "code": error.code(), "message": error.to_string() });
                (json!({ "status": "failed", "error": error }), Vec::new())
            }
        }
    }

    fn run(
        &self,
        query: &str,
        (name, file): (&str, Vec<u8>),
        progress: impl Fn(f64) + Sync,
    ) -> Result<Upscaled, Error> {
        let settings = Settings {
            max_memory_bytes: Some(MAX_MEMORY_BYTES),
            ..Settings::default()
        };
        let mut request = UpscaleRequest::of_query(query, settings)?;
        let flow = |done: usize, total: usize| {
            progress(done as f64 / total as f64);
            ControlFlow::Continue(())
        };
        let upscale = |networks: &Networks, request: &UpscaleRequest, file| {
            networks.upscale(request, (name, file), &Limits::default(), &flow)
        };
        let on_device = self.on_device.as_ref();
        let mut lacks_f16 = !on_device.is_some_and(Networks::has_f16) && request.replace_f16();
        let mut device_warning = None;
        if let Some(networks) = on_device {
            match upscale(networks, &request, file.clone()) {
                Ok(mut result) => {
                    warn_of_f16(&mut result, lacks_f16);
                    return Ok(result);
                }
                Err(Error::Upscale(error)) => match (&error, error.kind()) {
                    (UpscaleImageError::Network { source, .. }, ErrorKind::Device) => {
                        device_warning = Some(warning(source));
                    }
                    // A device takes memory of this thread for its tiles.
                    (_, ErrorKind::Memory) => {}
                    _ => return Err(error.into()),
                },
                Err(error) => return Err(error),
            }
            // The device's warning says why f32 computes.
            lacks_f16 |= request.replace_f16() && device_warning.is_none();
        }
        let mut result = upscale(&self.networks, &request, file)?;
        if let Some(warning) = device_warning {
            result.head.report["device_warning"] = json!(warning);
        }
        warn_of_f16(&mut result, lacks_f16);
        Ok(result)
    }
}

/// Says in a result that f16 was requested and f32 computed.
fn warn_of_f16(result: &mut Upscaled, lacks_f16: bool) {
    if lacks_f16 {
        let warning = "precision f16: no GPU with f16 computed, so f32 was used";
        result.head.warnings.push(warning.to_owned());
    }
}

/// What a device's failure means for an image that is then computed without it.
fn warning(error: &UpscaleError) -> String {
    let why = match error {
        UpscaleError::Device(DeviceError::Lost { device, reason }) => {
            format!("{device} was lost ({reason})")
        }
        UpscaleError::Device(DeviceError::Failed { device, reason }) => {
            format!("{device} failed ({reason})")
        }
        other => other.to_string(),
    };
    format!("{why}, so one Worker computed the image")
}

/// A model of another Worker, of whose images this one computes tiles.
pub struct TileEngine {
    upscaler: Upscaler,
}

impl TileEngine {
    /// Prepares the model of a model file.
    ///
    /// # Errors
    /// If it is not one.
    pub fn new(file: &[u8]) -> Result<Self, wdsr_model::Error> {
        let model = Model::from_bytes(file, Path::new("a Worker's model"))?;
        let upscaler = Upscaler::with_isa(&model, isa());
        Ok(Self { upscaler })
    }

    /// Computes a tile ([`Upscaler::compute_tile`]). `progress` gets the share of the work done.
    ///
    /// # Errors
    /// Those of [`Upscaler::compute_tile`].
    pub fn compute(
        &self,
        tile: &DeviceTile,
        progress: impl Fn(f64) + Sync,
    ) -> Result<Vec<f32>, UpscaleError> {
        let flow = |done: usize, total: usize| {
            progress(done as f64 / total as f64);
            ControlFlow::Continue(())
        };
        self.upscaler.compute_tile(tile, &flow)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use wdsr_model::{
        BuiltinModel, Device, DeviceError, DeviceNetwork, DevicePrecision, DeviceTile, Isa, Model,
        Upscaler,
    };

    use super::{Engine, TileEngine};

    const IMAGE: &[u8] = b"P5 4 3 255 ABCDEFGHIJKL";

    #[test]
    fn upscales_and_reports_progress() {
        let shares = Mutex::new(Vec::new());
        let progress = |share| shares.lock().expect("one thread").push(share);
        let image = ("a.pgm", IMAGE.to_vec());
        let (status, file) = Engine::default().upscale("model=small&scale=2", image, progress);
        assert_eq!(status["status"], "done", "{status}");
        assert_eq!(status["media_type"], "image/png");
        assert_eq!(status["report"]["width_px"], 8);
        assert!(file.starts_with(b"\x89PNG"), "{:?}", &file[..8]);
        let shares = shares.into_inner().expect("one thread");
        assert_eq!(shares.last(), Some(&1.0), "{shares:?}");
    }

    #[test]
    fn says_what_is_wrong_as_the_server_does() {
        let failed = |query: &str, file: &[u8]| {
            let (status, result) = Engine::default().upscale(query, ("a", file.to_vec()), |_| ());
            assert_eq!(status["status"], "failed", "{status}");
            assert!(result.is_empty(), "{} bytes", result.len());
            status["error"]["code"].clone()
        };
        assert_eq!(failed("scale=9", IMAGE), "invalid_request");
        assert_eq!(failed("model=small", b"text"), "unsupported_format");
        assert_eq!(failed("model=small", &IMAGE[..14]), "unusable_image");
    }

    /// A device that is always lost.
    struct Lost {
        has_f16: bool,
    }

    impl Device for Lost {
        fn name(&self) -> &str {
            "a test device"
        }

        fn has_f16(&self) -> bool {
            self.has_f16
        }

        fn prepare(
            &self,
            _: &Model,
            _: DevicePrecision,
        ) -> Result<Box<dyn DeviceNetwork>, DeviceError> {
            Err(DeviceError::Lost {
                device: self.name().to_owned(),
                reason: "a test".to_owned(),
            })
        }

        fn is_optional(&self) -> bool {
            false
        }

        fn warn(&self, message: String) {
            unreachable!("{message}");
        }

        fn take_warnings(&self) -> Vec<String> {
            Vec::new()
        }
    }

    #[test]
    fn computes_what_a_device_does_not_and_reports_it() {
        let upscale = |engine: Engine| {
            let image = ("a.pgm", IMAGE.to_vec());
            engine.upscale("model=small&scale=2", image, |_| ())
        };
        let (status, file) = upscale(Engine::on_device(Arc::new(Lost { has_f16: false })));
        let report = &status["report"];
        assert_eq!(
            report["device_warning"],
            "a test device was lost (a test), so one Worker computed the image",
            "{status}"
        );
        assert_eq!(report["device"], "CPU", "{status}");
        assert_eq!(file, upscale(Engine::default()).1);
    }

    #[test]
    fn f16_becomes_f32_without_a_gpu_that_has_it() {
        let upscale = |engine: Engine, query: &str| {
            let (status, file) = engine.upscale(query, ("a.pgm", IMAGE.to_vec()), |_| ());
            assert_eq!(status["status"], "done", "{status}");
            (status, file)
        };
        let expected = upscale(Engine::default(), "model=small&scale=2").1;
        let query = "model=small&scale=2&precision=f16";
        for (has_f16, engine) in [
            (false, Engine::default()),
            (false, Engine::on_device(Arc::new(Lost { has_f16: false }))),
            (true, Engine::on_device(Arc::new(Lost { has_f16: true }))),
        ] {
            let (status, file) = upscale(engine, query);
            assert_eq!(status["report"]["precision"], "f32", "{status}");
            let warnings = &status["warnings"];
            match has_f16 {
                // The loss is the reason.
                true => assert!(status["report"]["device_warning"].is_string(), "{status}"),
                false => assert_eq!(
                    warnings[0],
                    "precision f16: no GPU with f16 computed, so f32 was used"
                ),
            }
            assert_eq!(
                warnings.as_array().map(Vec::len),
                Some(usize::from(!has_f16))
            );
            assert_eq!(file, expected, "{status}");
        }
    }

    #[test]
    fn computes_tiles_of_a_model_file() {
        let model = BuiltinModel::of_kind("small")[0].load();
        let engine = TileEngine::new(&model.to_bytes()).expect("a model file");
        let tile = DeviceTile {
            pixels: (0..48).map(|i| [i as f32 / 48.0; 4]).collect(),
            width_px: 8,
            columns: 1..7,
            rows: 0..5,
        };
        let values = engine.compute(&tile, |_| ()).expect("finite values");
        let isa = Isa::detect().expect("an instruction set");
        let upscaler = Upscaler::with_isa(&model, isa);
        let expected = upscaler.compute_tile(&tile, &|_, _| std::ops::ControlFlow::Continue(()));
        assert_eq!(values, expected.expect("finite values"));
        assert_eq!(values.len(), 6 * 5 * 3 * upscaler.scale().pow(2));
        assert!(TileEngine::new(b"no model").is_err());
    }

    #[test]
    fn describes_every_model() {
        let described = Engine::default().describe();
        assert_eq!(described["threads"], 1);
        assert_eq!(described["models"].as_array().map(Vec::len), Some(9));
    }
}
