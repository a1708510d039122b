//! Where tests find and put files.

use std::path::{Path, PathBuf};

/// A file or folder of the checkout, by its path from the root.
pub fn checkout(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join(path);
    path.canonicalize()
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The file of a built-in model, by its name, as `small-x2`.
pub fn built_in_model(name: &str) -> PathBuf {
    checkout(&format!("models/{name}.safetensors"))
}

/// The folder of a published test set, as `Set5`. Tests that call this are ignored by default.
pub fn test_set(name: &str) -> PathBuf {
    let data = std::env::var_os("WDSR_DATA").unwrap_or_else(|| {
        panic!("WDSR_DATA is not set; expected the folder that contains {name}");
    });
    let folder = Path::new(&data).join(name);
    assert!(
        folder.join("HR").is_dir(),
        "{}: no test set; WDSR_DATA must be the folder that contains {name}/HR",
        folder.display()
    );
    folder
}
