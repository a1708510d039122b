//! The devices that JavaScript reaches: a GPU through WebGPU, and other Workers.
//!
//! JavaScript computes while this module waits: `prepare` and `finish_tile` suspend it (JavaScript Promise Integration).
#![allow(
    unsafe_code,
    reason = "names of imports, which get addresses of slices and write within them"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use wdsr_gpu::NetworkKernels;
use wdsr_model::{
    Device, DeviceError, DeviceNetwork, DevicePrecision, DeviceTile, Model, PendingTile,
};

use crate::exports::take_text;

#[link(wasm_import_module = "wdsr")]
unsafe extern "C" {
    /// Prepares a network by its description, JSON, or for Workers nothing, and its weights, or for Workers its model file.
    /// Returns its number, or a negative code of an error.
    safe fn prepare(text: *const u8, text_len: usize, bytes: *const u8, bytes_len: usize) -> i32;
    /// Forgets a network.
    safe fn release(network: i32);
    /// Starts a tile: a uniform of 8 numbers, 3 numbers of workgroups for each step on a GPU, and pixels of four floats.
    /// Returns its number.
    safe fn start_tile(
        network: i32,
        numbers: *const u32,
        numbers_len: usize,
        pixels: *const [f32; 4],
        pixels_len: usize,
    ) -> i32;
    /// Waits for a tile and writes its result. Returns [`DONE`], [`PROGRESS`] if it is to be called again, or the code of an
    /// error.
    safe fn finish_tile(tile: i32, result: *mut f32, result_len: usize) -> i32;
    /// Pixels that are done of the tiles under way.
    safe fn pixels_done() -> f64;
}

const DONE: i32 = 0;
const PROGRESS: i32 = 1;
const OUT_OF_MEMORY: i32 = -1;
const LOST: i32 = -2;

/// Bytes of the tiles of all Workers in this module's memory.
const WORKERS_BYTES: usize = 768 << 20;

/// A GPU, or other Workers.
pub(crate) struct PageDevice(Arc<Setup>);

/// A device as it is for the next image.
struct Setup {
    name: &'static str,
    /// Workers; 0 if it is a GPU.
    workers: AtomicUsize,
    max_buffer_bytes: AtomicU64,
    is_software: AtomicBool,
    has_f16: AtomicBool,
    warnings: Mutex<Vec<String>>,
}

impl PageDevice {
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self(Arc::new(Setup {
            name,
            workers: AtomicUsize::new(0),
            max_buffer_bytes: AtomicU64::new(0),
            is_software: AtomicBool::new(false),
            has_f16: AtomicBool::new(false),
            warnings: Mutex::default(),
        })))
    }

    pub(crate) fn set_workers(&self, workers: usize) {
        self.0.workers.store(workers, Ordering::Relaxed);
    }

    pub(crate) fn set_gpu(&self, max_buffer_bytes: u64, is_software: bool, has_f16: bool) {
        self.0
            .max_buffer_bytes
            .store(max_buffer_bytes, Ordering::Relaxed);
        self.0.is_software.store(is_software, Ordering::Relaxed);
        self.0.has_f16.store(has_f16, Ordering::Relaxed);
    }
}

impl Setup {
    /// The error of a code, with the message that JavaScript has left.
    fn error(&self, code: i32) -> DeviceError {
        let (device, reason) = (self.name.to_owned(), take_text());
        match code {
            OUT_OF_MEMORY => DeviceError::OutOfMemory { device },
            LOST => DeviceError::Lost { device, reason },
            _ => DeviceError::Failed { device, reason },
        }
    }
}

impl Device for PageDevice {
    fn name(&self) -> &str {
        self.0.name
    }

    fn has_f16(&self) -> bool {
        self.0.has_f16.load(Ordering::Relaxed)
    }

    fn prepare(
        &self,
        model: &Model,
        precision: DevicePrecision,
    ) -> Result<Box<dyn DeviceNetwork>, DeviceError> {
        let setup = Arc::clone(&self.0);
        let scale = model.config().scale;
        let (kernels, text, bytes) = match setup.workers.load(Ordering::Relaxed) {
            0 => {
                let kernels = NetworkKernels::new(model, precision);
                let (text, weights) = described(&kernels);
                (Some(kernels), text, weights)
            }
            _ => (None, String::new(), model.to_bytes()),
        };
        match prepare(text.as_ptr(), text.len(), bytes.as_ptr(), bytes.len()) {
            number if number >= 0 => Ok(Box::new(PageNetwork {
                setup,
                number,
                scale,
                kernels,
            })),
            code => Err(setup.error(code)),
        }
    }

    fn is_optional(&self) -> bool {
        false
    }

    fn warn(&self, message: String) {
        let warnings = self.0.warnings.lock();
        warnings
            .unwrap_or_else(PoisonError::into_inner)
            .push(message);
    }

    fn take_warnings(&self) -> Vec<String> {
        let warnings = self.0.warnings.lock();
        std::mem::take(&mut warnings.unwrap_or_else(PoisonError::into_inner))
    }
}

/// The description of a network for JavaScript, and its weights.
fn described(kernels: &NetworkKernels) -> (String, Vec<u8>) {
    let (mut texts, mut weights) = (Vec::new(), Vec::new());
    let steps: Vec<_> = kernels
        .steps()
        .map(|step| {
            let kernel = texts.iter().position(|text| *text == step.text);
            let kernel = kernel.unwrap_or_else(|| {
                texts.push(step.text);
                texts.len() - 1
            });
            let first = weights.len();
            weights.extend(step.weights);
            json!({
                "kernel": kernel,
                "source": step.source,
                "output": step.output,
                "term": step.term,
                "weights": [first, weights.len()],
                "operations": 2 * step.multiply_adds_per_pixel,
            })
        })
        .collect();
    let text = json!({
        "kernels": texts,
        "steps": steps,
        "buffer_bytes": kernels.buffer_bytes_per_pixel(),
        "result_bytes": kernels.result_bytes_per_pixel(),
        "submitted_operations": NetworkKernels::SUBMITTED_OPERATIONS,
    });
    (text.to_string(), weights)
}

/// A model on the device.
struct PageNetwork {
    setup: Arc<Setup>,
    number: i32,
    scale: usize,
    /// None for Workers.
    kernels: Option<NetworkKernels>,
}

impl Drop for PageNetwork {
    fn drop(&mut self) {
        release(self.number);
    }
}

impl DeviceNetwork for PageNetwork {
    fn max_tile_pixels(&self) -> usize {
        if let Some(kernels) = &self.kernels {
            let max_buffer_bytes = self.setup.max_buffer_bytes.load(Ordering::Relaxed);
            let is_software = self.setup.is_software.load(Ordering::Relaxed);
            return kernels.max_tile_pixels(max_buffer_bytes, is_software);
        }
        let tiles = self.setup.workers.load(Ordering::Relaxed) + 1;
        WORKERS_BYTES / tiles / (16 + 12 * self.scale * self.scale)
    }

    fn processors(&self) -> Option<usize> {
        match self.kernels {
            Some(_) => None,
            None => Some(self.setup.workers.load(Ordering::Relaxed)),
        }
    }

    fn start(&self, tile: &DeviceTile) -> Result<Box<dyn PendingTile + '_>, DeviceError> {
        let mut numbers = NetworkKernels::tile_uniform(tile).to_vec();
        if let Some(kernels) = &self.kernels {
            numbers.extend(kernels.workgroups(tile).flatten());
        }
        let number = start_tile(
            self.number,
            numbers.as_ptr(),
            numbers.len(),
            tile.pixels.as_ptr(),
            tile.pixels.len(),
        );
        let wanted = tile.columns.len() * tile.rows.len();
        Ok(Box::new(PageTile {
            setup: &self.setup,
            number,
            result_len: wanted * 3 * self.scale * self.scale,
        }))
    }
}

struct PageTile<'a> {
    setup: &'a Setup,
    number: i32,
    result_len: usize,
}

impl PendingTile for PageTile<'_> {
    fn finish(
        self: Box<Self>,
        progress: &dyn Fn(usize),
        read: &mut dyn FnMut(&[f32]),
    ) -> Result<(), DeviceError> {
        let mut result = vec![0.0; self.result_len];
        loop {
            match finish_tile(self.number, result.as_mut_ptr(), result.len()) {
                DONE => break,
                PROGRESS => progress(pixels_done() as usize),
                code => return Err(self.setup.error(code)),
            }
        }
        read(&result);
        Ok(())
    }
}
