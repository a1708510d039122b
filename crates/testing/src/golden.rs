//! Golden vectors: outputs, losses and gradients that independent implementations computed in
//! float64. `tests/golden/README.md` describes the files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::paths;

/// The folder of golden vectors: `WDSR_GOLDEN`, or `tests/golden`.
pub fn folder() -> PathBuf {
    let Some(folder) = std::env::var_os("WDSR_GOLDEN") else {
        return paths::checkout("tests/golden");
    };
    let folder = PathBuf::from(folder);
    assert!(
        folder.is_absolute() && folder.join("cases.json").is_file(),
        "WDSR_GOLDEN: expected the absolute path of a folder with cases.json, found {}",
        folder.display()
    );
    folder
}

/// A tensor, row-major.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its sizes, outermost first.
    pub shape: Vec<usize>,
    dtype: Dtype,
    data: Vec<u8>,
}

impl Tensor {
    /// The values of a tensor of 32-bit floats.
    pub fn floats(&self) -> Vec<f32> {
        assert_eq!(self.dtype, Dtype::F32, "type of the tensor");
        let (numbers, _) = self.data.as_chunks::<4>();
        numbers.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// The values of a tensor of bytes.
    pub fn bytes(&self) -> &[u8] {
        assert_eq!(self.dtype, Dtype::U8, "type of the tensor");
        &self.data
    }
}

/// The contents of a safetensors file.
#[derive(Clone, Debug)]
pub struct TensorFile {
    path: PathBuf,
    /// All tensors by their keys.
    pub tensors: BTreeMap<String, Tensor>,
    /// The metadata, empty if there is none.
    pub metadata: HashMap<String, String>,
}

impl TensorFile {
    /// The file at a path.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be read.
    pub fn read(path: &Path) -> Self {
        let name = path.display();
        let bytes = read(path);
        let (_, header) =
            SafeTensors::read_metadata(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let views = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let tensors = views.iter().map(|(key, view)| {
            let tensor = Tensor {
                shape: view.shape().to_vec(),
                dtype: view.dtype(),
                data: view.data().to_vec(),
            };
            (key.to_owned(), tensor)
        });
        Self {
            path: path.to_owned(),
            tensors: tensors.collect(),
            metadata: header.metadata().clone().unwrap_or_default(),
        }
    }

    /// The tensor with a key.
    ///
    /// # Panics
    ///
    /// Panics if there is none.
    pub fn tensor(&self, key: &str) -> &Tensor {
        let tensor = self.tensors.get(key);
        tensor.unwrap_or_else(|| panic!("{}: no tensor {key}", self.path.display()))
    }

    /// The values of the float tensor with a key.
    ///
    /// # Panics
    ///
    /// Panics if there is none.
    pub fn floats(&self, key: &str) -> Vec<f32> {
        self.tensor(key).floats()
    }
}

/// A network with its parameters, a batch, and what one forward and ten training steps give.
#[derive(Clone, Debug)]
pub struct NetworkCase {
    /// Its name, as `wdsr-a_x2`.
    pub name: String,
    /// Its description, JSON as in a model file.
    pub config: String,
    /// The vectors.
    pub vectors: TensorFile,
}

/// The networks that `cases.json` lists.
pub fn networks() -> Vec<NetworkCase> {
    let folder = folder();
    let case = |case: &Value| {
        let name = text(case, "name");
        let vectors = TensorFile::read(&folder.join(format!("{name}.safetensors")));
        NetworkCase {
            name: name.to_owned(),
            config: vectors.metadata["config"].clone(),
            vectors,
        }
    };
    list(&folder.join("cases.json")).iter().map(case).collect()
}

/// A checkpoint as a public trainer writes it, and its network's output.
#[derive(Clone, Debug)]
pub struct CheckpointCase {
    /// The name of its file.
    pub file: String,
    /// The path of its file.
    pub path: PathBuf,
    /// Its entry in `checkpoints.json`: `layout`, `block`, `features` and so on.
    pub description: Value,
    /// The network's output for the input that all checkpoints share, `[1, 3, y, x]` in 0..1.
    pub output: Vec<f32>,
}

/// The input of all checkpoints, `[1, 3, y, x]` in 0..1, and the checkpoints that
/// `checkpoints.json` lists.
pub fn checkpoints() -> (Tensor, Vec<CheckpointCase>) {
    let folder = folder().join("checkpoints");
    let expected = TensorFile::read(&folder.join("expected.safetensors"));
    let case = |description: &Value| {
        let file = text(description, "file");
        CheckpointCase {
            file: file.to_owned(),
            path: folder.join(file),
            description: description.clone(),
            output: expected.floats(&format!("out/{file}")),
        }
    };
    let cases = list(&folder.join("checkpoints.json"));
    let input = expected.tensor("input").clone();
    (input, cases.iter().map(case).collect())
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The entries of a JSON list, at least one.
fn list(path: &Path) -> Vec<Value> {
    let name = path.display();
    let entries: Vec<Value> =
        serde_json::from_slice(&read(path)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(!entries.is_empty(), "{name}: expected one case at least");
    entries
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    let text = entry[key].as_str();
    text.unwrap_or_else(|| panic!("{key}: expected text in {entry}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_normalisation_and_scale_is_there() {
        let networks = networks();
        for expected in [
            r#""block": "wdsr-a""#,
            r#""block": "wdsr-b""#,
            r#""block": "edsr""#,
            r#""norm": "none""#,
            r#""norm": "weight""#,
            r#""norm": "batch""#,
            r#""scale": 1"#,
            r#""scale": 2"#,
            r#""scale": 3"#,
            r#""scale": 4"#,
            r#""scale": 8"#,
        ] {
            let count = networks.iter().filter(|n| n.config.contains(expected));
            assert!(count.count() > 0, "no network with {expected}");
        }
    }
}
