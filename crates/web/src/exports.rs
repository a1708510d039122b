//! The functions that JavaScript calls. Texts and files pass through numbered buffers: JavaScript reserves the
//! arguments' and writes them, and reads the results'.
#![allow(
    unsafe_code,
    reason = "names of exports and of the import; no memory is accessed by address"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use wdsr_model::{Device, DeviceTile};

use crate::device::PageDevice;
use crate::{Engine, TileEngine};

#[link(wasm_import_module = "wdsr")]
unsafe extern "C" {
    /// Takes the share of the work done.
    safe fn progress(done: f64);
}

/// The buffer of a query; then of a text in JSON.
const TEXT: usize = 0;
/// The buffer of the name of a file.
const NAME: usize = 1;
/// The buffer of a file; then of the result.
const FILE: usize = 2;

thread_local! {
    static ENGINE: Engine = Engine::default();
    static GPU: (Arc<PageDevice>, Engine) = on_device("WebGPU");
    static WORKERS: (Arc<PageDevice>, Engine) = on_device("Workers");
    static TILE_ENGINES: RefCell<BTreeMap<i32, TileEngine>> = RefCell::default();
    static BUFFERS: RefCell<[Vec<u8>; 3]> = RefCell::default();
}

fn on_device(name: &'static str) -> (Arc<PageDevice>, Engine) {
    let device = PageDevice::new(name);
    (Arc::clone(&device), Engine::on_device(device))
}

fn take(buffer: usize) -> Vec<u8> {
    BUFFERS.with_borrow_mut(|buffers| std::mem::take(&mut buffers[buffer]))
}

fn set(buffer: usize, bytes: Vec<u8>) {
    BUFFERS.with_borrow_mut(|buffers| buffers[buffer] = bytes);
}

/// Makes a buffer of so many bytes, and returns its address; 0 if there is no memory for it.
#[unsafe(no_mangle)]
extern "C" fn reserve(buffer: usize, len: usize) -> *mut u8 {
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(len).is_err() {
        return std::ptr::null_mut();
    }
    bytes.resize(len, 0);
    let start = bytes.as_mut_ptr();
    set(buffer, bytes);
    start
}

/// The address of a buffer.
#[unsafe(no_mangle)]
extern "C" fn start(buffer: usize) -> *const u8 {
    BUFFERS.with_borrow(|buffers| buffers[buffer].as_ptr())
}

/// The bytes of a buffer.
#[unsafe(no_mangle)]
extern "C" fn len(buffer: usize) -> usize {
    BUFFERS.with_borrow(|buffers| buffers[buffer].len())
}

/// Writes [`Engine::describe`] to the buffer [`TEXT`].
#[unsafe(no_mangle)]
extern "C" fn describe() {
    let text = ENGINE.with(Engine::describe).to_string();
    set(TEXT, text.into_bytes());
}

/// Takes the text that JavaScript has written.
pub(crate) fn take_text() -> String {
    String::from_utf8_lossy(&take(TEXT)).into_owned()
}

/// Runs [`Engine::upscale`] from the buffers [`TEXT`] (the query), [`NAME`] and [`FILE`]; writes its results to
/// [`TEXT`] and [`FILE`]. Computes on a GPU with buffers of up to `gpu_bytes`, if there are any, else on so many other
/// Workers, else on this thread.
#[unsafe(no_mangle)]
extern "C" fn upscale(workers: usize, gpu_bytes: f64, is_software: bool, has_f16: bool) {
    let [query, name] = [TEXT, NAME].map(|buffer| {
        let bytes = take(buffer);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let image = (name.as_str(), take(FILE));
    let run = |engine: &Engine| engine.upscale(&query, image, |done| progress(done));
    let (status, file) = if gpu_bytes > 0.0 {
        GPU.with(|(device, engine)| {
            device.set_gpu(gpu_bytes as u64, is_software, has_f16);
            let (mut status, file) = run(engine);
            if let [warning, ..] = &device.take_warnings()[..] {
                status["report"]["device_warning"] = warning.as_str().into();
            }
            (status, file)
        })
    } else if workers > 1 {
        WORKERS.with(|(device, engine)| {
            device.set_workers(workers);
            run(engine)
        })
    } else {
        ENGINE.with(run)
    };
    set(TEXT, status.to_string().into_bytes());
    set(FILE, file);
}

/// Prepares the model file in [`FILE`] for [`compute`] under a number. Writes an error's message to [`TEXT`], else nothing.
#[unsafe(no_mangle)]
extern "C" fn load(network: i32) {
    let message = match TileEngine::new(&take(FILE)) {
        Ok(engine) => {
            TILE_ENGINES.with_borrow_mut(|engines| engines.insert(network, engine));
            String::new()
        }
        Err(error) => error.to_string(),
    };
    set(TEXT, message.into_bytes());
}

/// Forgets a model.
#[unsafe(no_mangle)]
extern "C" fn forget(network: i32) {
    TILE_ENGINES.with_borrow_mut(|engines| engines.remove(&network));
}

/// Computes the tile whose pixels are in [`FILE`], four floats each, and writes its result there. Writes an error's message
/// to [`TEXT`], else nothing.
#[unsafe(no_mangle)]
extern "C" fn compute(
    network: i32,
    width: usize,
    column: usize,
    row: usize,
    columns: usize,
    rows: usize,
) {
    let numbers = take(FILE);
    let numbers = numbers.as_chunks::<4>().0.iter();
    let numbers: Vec<f32> = numbers.map(|&number| f32::from_le_bytes(number)).collect();
    let tile = DeviceTile {
        pixels: numbers.as_chunks::<4>().0.to_vec(),
        width_px: width,
        columns: column..column + columns,
        rows: row..row + rows,
    };
    let result = TILE_ENGINES.with_borrow(|engines| match engines.get(&network) {
        Some(engine) => engine
            .compute(&tile, |done| progress(done))
            .map_err(|error| error.to_string()),
        None => Err(format!("model {network} is not loaded")),
    });
    let (values, message) = match result {
        Ok(values) => (values, String::new()),
        Err(message) => (Vec::new(), message),
    };
    set(
        FILE,
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    );
    set(TEXT, message.into_bytes());
}
