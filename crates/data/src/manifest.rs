//! The manifest of a dataset, `manifest.jsonl`: one JSON object a line for each image.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use wdsr_image::write_atomically;

use crate::error::Error;

/// Name of the manifest in the folder of a dataset.
pub(crate) const MANIFEST: &str = "manifest.jsonl";

/// An image and how it was processed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ManifestEntry {
    pub(crate) source: String,
    /// The image's path below the source's folder.
    pub(crate) original: String,
    pub(crate) original_sha256: String,
    pub(crate) licence: Option<String>,
    /// Whether the image is in the built-in list.
    pub(crate) listed: bool,
    /// "as it is" or "reduced by N".
    pub(crate) done: String,
    /// Its path in the dataset; none if it is excluded.
    pub(crate) file: Option<String>,
    pub(crate) sha256: Option<String>,
    pub(crate) width_px: usize,
    pub(crate) height_px: usize,
    /// Why it is excluded.
    pub(crate) left_out: Option<String>,
    /// Checksum of the list of test-set images that it was compared with.
    pub(crate) kept_out_list: String,
}

/// Source and original path of an image.
pub(crate) type ImageKey = (String, String);

impl ManifestEntry {
    pub(crate) fn key(&self) -> ImageKey {
        (self.source.clone(), self.original.clone())
    }

    pub(crate) fn line(&self) -> String {
        let json = serde_json::to_string(self);
        json.unwrap_or_else(|e| unreachable!("an entry is plain JSON: {e}")) + "\n"
    }
}

/// Reads a manifest; the last entry of an image counts. Removes a last line that is incomplete
/// because the process was killed. Returns no entries if there is no manifest.
pub(crate) fn read_manifest(path: &Path) -> Result<BTreeMap<ImageKey, ManifestEntry>, Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Error::io(path, "read", error)),
    };
    let complete = text.rfind('\n').map_or(0, |end| end + 1);
    if complete < text.len() {
        // Else the next line would be appended to it.
        write_atomically(path, &text.as_bytes()[..complete])?;
    }
    let mut entries = BTreeMap::new();
    for (at, line) in text[..complete].lines().enumerate() {
        let entry: ManifestEntry =
            serde_json::from_str(line).map_err(|source| Error::Manifest {
                path: path.to_owned(),
                line: at + 1,
                source,
            })?;
        entries.insert(entry.key(), entry);
    }
    Ok(entries)
}
