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
            "device": "this browser",
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
                    "media_type": media_type(result.format),
                    "report": result.report,
                    "warnings": result.warnings,
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
