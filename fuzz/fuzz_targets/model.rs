//! Model files: any bytes are an error, or a model that is the same after it is written and read again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wdsr_model::Model;

fuzz_target!(|bytes: &[u8]| {
    let name = Path::new("fuzzed.safetensors");
    let Ok(model) = Model::from_bytes(bytes, name) else {
        return;
    };
    let again = Model::from_bytes(&model.to_bytes(), name).expect("our own file is read");
    assert_eq!(again.config(), model.config());
    assert_eq!(again.convs(), model.convs());
    assert_eq!(again.notes(), model.notes());
});
