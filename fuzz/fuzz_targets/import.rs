//! Checkpoints of other trainers: whatever the bytes are, they are read or refused.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wdsr_convert::{Options, import_bytes};

fuzz_target!(|bytes: &[u8]| {
    // A refusal is as good as a model; a panic, an overflow or memory without bounds is not.
    let _ = import_bytes(bytes, Path::new("fuzzed.pt"), &Options::default());
});
