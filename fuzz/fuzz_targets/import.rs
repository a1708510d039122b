//! Checkpoints of other trainers: any bytes are a model or an error.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wdsr_convert::{Options, import_bytes};

fuzz_target!(|bytes: &[u8]| {
    // A panic, an overflow or unbounded memory is a find; an error is not.
    let _ = import_bytes(bytes, Path::new("fuzzed.pt"), &Options::default());
});
