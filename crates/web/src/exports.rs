//! The functions that JavaScript calls. Texts and files pass through numbered buffers: JavaScript reserves the
//! arguments' and writes them, and reads the results'.
#![allow(
    unsafe_code,
    reason = "names of exports and of the import; no memory is accessed by address"
)]

use std::cell::RefCell;

use crate::Engine;

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
    static BUFFERS: RefCell<[Vec<u8>; 3]> = RefCell::default();
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

/// Runs [`Engine::upscale`] from the buffers [`TEXT`] (the query), [`NAME`] and [`FILE`]; writes its results to
/// [`TEXT`] and [`FILE`].
#[unsafe(no_mangle)]
extern "C" fn upscale() {
    let [query, name] = [TEXT, NAME].map(|buffer| {
        let bytes = take(buffer);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let image = (name.as_str(), take(FILE));
    let (status, file) = ENGINE.with(|engine| engine.upscale(&query, image, |done| progress(done)));
    set(TEXT, status.to_string().into_bytes());
    set(FILE, file);
}
