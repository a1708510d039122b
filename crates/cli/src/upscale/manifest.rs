//! The results of earlier runs in an output folder, with their inputs and settings: a batch that was
//! stopped resumes, and a changed model or setting re-runs it.
//!
//! `.wdsr-manifest.jsonl` in the output folder has a line of JSON for each result; of several
//! lines for a result the last counts. Each shard has its own file, as machines cannot append to one
//! file of a network folder; all of them are read.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use wdsr_model::Model;
use xxhash_rust::xxh3::Xxh3;

use super::inputs::Shard;

const PREFIX: &str = ".wdsr-manifest";

/// A result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Path of the result below the output folder.
    pub(super) output: String,
    /// Its length, by which a file of another program is recognised.
    pub(super) output_bytes: u64,
    /// Path of the input below its folder.
    pub(super) input: String,
    /// XXH3 of the input's bytes.
    pub(super) input_hash: String,
    /// Program, models and options.
    pub(super) settings: String,
}

pub(super) struct Manifest {
    folder: PathBuf,
    path: PathBuf,
    other_paths: Vec<PathBuf>,
    /// `None` until [`Manifest::open`].
    file: Option<File>,
    /// Whether the file ends within a line.
    torn: bool,
    entries: HashMap<String, Entry>,
}

impl Manifest {
    /// Reads the manifests of a folder, which need not exist. Lines that are no entries (a run may
    /// have been killed amid one) are skipped: their images are upscaled again.
    pub(super) fn read(folder: &Path, shard: Option<Shard>) -> anyhow::Result<Self> {
        let name = match shard {
            Some(Shard { index, count }) => format!("{PREFIX}-{index}-of-{count}.jsonl"),
            None => format!("{PREFIX}.jsonl"),
        };
        let mut manifest = Self {
            folder: folder.to_owned(),
            path: folder.join(name),
            other_paths: Vec::new(),
            file: None,
            torn: false,
            entries: HashMap::new(),
        };
        if !folder.is_dir() {
            return Ok(manifest);
        }
        let read = |path: &Path| format!("{}: cannot read the manifest", path.display());
        for file in fs::read_dir(folder).with_context(|| read(folder))? {
            let other = file.with_context(|| read(folder))?.path();
            let is_manifest = |name: &str| name.starts_with(PREFIX) && name.ends_with(".jsonl");
            if !other
                .file_name()
                .and_then(|n| n.to_str())
                .is_some_and(is_manifest)
            {
                continue;
            }
            let bytes = fs::read(&other).with_context(|| read(&other))?;
            let ends_within_a_line = bytes.last().is_some_and(|byte| *byte != b'\n');
            for line in bytes.split(|byte| *byte == b'\n') {
                if let Ok(entry) = serde_json::from_slice::<Entry>(line) {
                    manifest.entries.insert(entry.output.clone(), entry);
                }
            }
            if other == manifest.path {
                manifest.torn = ends_within_a_line;
            } else {
                manifest.other_paths.push(other);
            }
        }
        Ok(manifest)
    }

    /// The file of this shard.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The files of other shards, which are only read.
    pub(super) fn other_paths(&self) -> impl Iterator<Item = &Path> {
        self.other_paths.iter().map(PathBuf::as_path)
    }

    /// Opens the file of this shard for [`Manifest::add`], and creates it and the folder as needed.
    pub(super) fn open(&mut self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("{}: cannot create the folder", self.folder.display()))?;
        let write = || format!("{}: cannot write the manifest", self.path.display());
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .with_context(write)?;
        if self.torn {
            file.write_all(b"\n").with_context(write)?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// The name of a result in the manifest.
    pub(super) fn name_of(&self, output: &Path) -> String {
        portable(output.strip_prefix(&self.folder).unwrap_or(output))
    }

    /// The entry of `output`, if that is this program's result of the input at that path.
    pub(super) fn own_result(&self, output: &Path, input: &Path) -> Option<&Entry> {
        let entry = self.entries.get(&self.name_of(output))?;
        let length = fs::metadata(output).ok()?.len();
        (entry.input == portable(input) && entry.output_bytes == length).then_some(entry)
    }

    /// Adds an entry. Must be called before the result gets its name: a run that is killed between the
    /// two leaves an entry without a file, which is upscaled again, and never a file without an entry.
    pub(super) fn add(&mut self, entry: Entry) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(&entry)?;
        line.push('\n');
        let Some(file) = &mut self.file else {
            unreachable!("{}: an entry before it is open", self.path.display());
        };
        file.write_all(line.as_bytes())
            .with_context(|| format!("{}: cannot write the manifest", self.path.display()))?;
        self.entries.insert(entry.output.clone(), entry);
        Ok(())
    }
}

/// A relative path with `/` between its parts. Bytes that are not UTF-8 and backslashes are escaped, so
/// that no two paths become one.
pub(super) fn portable(path: &Path) -> String {
    let part = |part: std::path::Component<'_>| match part.as_os_str().to_str() {
        Some(text) => text.replace('\\', r"\\"),
        None => part
            .as_os_str()
            .as_encoded_bytes()
            .escape_ascii()
            .to_string(),
    };
    path.components().map(part).collect::<Vec<_>>().join("/")
}

/// XXH3 of a model's description and weights, without its notes.
pub(super) fn hash_of_model(model: &Model) -> anyhow::Result<String> {
    let mut hash = Xxh3::new();
    hash.update(&serde_json::to_vec(model.config())?);
    for conv in model.convs() {
        for value in conv.weight.iter().chain(&conv.bias) {
            hash.update(&value.to_le_bytes());
        }
    }
    Ok(format!("{:032x}", hash.digest128()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(output: &str) -> Entry {
        Entry {
            output: output.to_owned(),
            output_bytes: 3,
            input: "sub/a.jpg".to_owned(),
            input_hash: "1".to_owned(),
            settings: "x2".to_owned(),
        }
    }

    #[test]
    fn an_incomplete_line_loses_only_its_own_entry() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = || {
            let mut manifest = Manifest::read(folder.path(), None).expect("read");
            manifest.open().expect("opened");
            manifest
        };
        let mut manifest = opened();
        manifest.add(entry("a.png")).expect("added");
        drop(manifest);
        let path = folder.path().join(".wdsr-manifest.jsonl");
        let whole = fs::read_to_string(&path).expect("read");
        fs::write(&path, format!("{whole}{}", &whole[..20])).expect("written");
        let mut manifest = opened();
        manifest.add(entry("b.png")).expect("added");
        drop(manifest);
        // Another shard sees all of it.
        let shard = Shard { index: 1, count: 2 };
        let manifest = Manifest::read(folder.path(), Some(shard)).expect("read");
        for name in ["a.png", "b.png"] {
            let output = folder.path().join(name);
            let found = |input| manifest.own_result(&output, Path::new(input)).cloned();
            assert_eq!(found("sub/a.jpg"), None, "{name} is not there");
            fs::write(&output, "abc").expect("written");
            assert_eq!(found("sub/a.jpg"), Some(entry(name)));
            assert_eq!(found("sub/b.jpg"), None, "of another input");
            fs::write(&output, "changed").expect("written");
            assert_eq!(found("sub/a.jpg"), None, "{name} is another file");
        }
    }
}
