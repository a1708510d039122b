//! The engine of the page that upscales images in the browser: requests as those of the server ([`wdsr_request`]),
//! on the one thread of a Worker.
//!
//! On WebAssembly, `exports` is the interface for JavaScript (`crates/web/page/worker.js`).
#![deny(unsafe_code)]

#[cfg(target_family = "wasm")]
mod exports;

use std::ops::ControlFlow;

use serde_json::{Value, json};
use wdsr_image::Limits;
use wdsr_model::Isa;
use wdsr_request::{Error, Networks, UpscaleRequest, Upscaled, media_type};
use wdsr_upscale::Settings;

/// Most memory in bytes for an image: a module of 32 bits has 4 GiB, of which its input and gaps take a part.
const MAX_MEMORY_BYTES: u64 = 3 << 30;

/// The built-in networks.
pub struct Engine {
    networks: Networks,
}

impl Default for Engine {
    fn default() -> Self {
        // There is no environment that could name another instruction set.
        let isa = Isa::detect().unwrap_or(Isa::REFERENCE);
        Self {
            networks: Networks::new(isa),
        }
    }
}

impl Engine {
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
    /// work done. Returns the status that a job of the server ends with, and the result.
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
        image: (&str, Vec<u8>),
        progress: impl Fn(f64) + Sync,
    ) -> Result<Upscaled, Error> {
        let settings = Settings {
            max_memory_bytes: Some(MAX_MEMORY_BYTES),
            ..Settings::default()
        };
        let request = UpscaleRequest::of_query(query, settings)?;
        let flow = |done: usize, total: usize| {
            progress(done as f64 / total as f64);
            ControlFlow::Continue(())
        };
        self.networks
            .upscale(&request, image, &Limits::default(), &flow)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::Engine;

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

    #[test]
    fn describes_every_model() {
        let described = Engine::default().describe();
        assert_eq!(described["threads"], 1);
        assert_eq!(described["models"].as_array().map(Vec::len), Some(9));
    }
}
