//! The results of earlier runs in an output folder, with their inputs and settings: a batch that was
//! stopped resumes, and a changed model or setting re-runs it.
//!
//! `.wdsr-manifest.jsonl` in the output folder has a line of JSON for each result that was written.
//! Each shard and each band has its own file, as machines cannot append to one file of a network folder; all of them
//! are read. The lines that count for a result are those with the checksum of its bytes, so neither
//! the order of lines and files nor a clock decides.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use wdsr_model::Model;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::inputs::Input;
use crate::{progress, signals};

const PREFIX: &str = ".wdsr-manifest";
/// How often to look whether another run has ended.
const LOCK_EVERY: Duration = Duration::from_millis(100);

/// A result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Path of the result below the output folder.
    pub(super) output: String,
    /// Its length.
    pub(super) output_bytes: u64,
    /// XXH3 of its bytes, by which a file of another program or a changed one is recognised.
    pub(super) output_hash: String,
    /// Path of the input below its folder.
    pub(super) input: String,
    /// XXH3 of the input's absolute path, which itself may be private.
    pub(super) input_place: String,
    /// XXH3 of the input's bytes.
    pub(super) input_hash: String,
    /// Program, models and options.
    pub(super) settings: String,
}

pub(super) struct Manifest {
    folder: PathBuf,
    path: PathBuf,
    other_paths: Vec<PathBuf>,
    /// Locked; `None` until [`Manifest::open`].
    file: Option<File>,
    /// The entries of each output.
    entries: HashMap<String, Vec<Rc<Entry>>>,
}

impl Manifest {
    /// Finds the manifests of a folder, which need not exist. Their entries are read by
    /// [`Manifest::open`]. The name of that of this run has `name_end`.
    pub(super) fn find(folder: &Path, name_end: &str) -> anyhow::Result<Self> {
        let path = folder.join(format!("{PREFIX}{name_end}.jsonl"));
        let mut other_paths = manifests_in(folder)?;
        other_paths.retain(|other| *other != path);
        Ok(Self {
            folder: folder.to_owned(),
            path,
            other_paths,
            file: None,
            entries: HashMap::new(),
        })
    }

    fn insert(&mut self, entry: Entry) {
        let of_output = self.entries.entry(entry.output.clone()).or_default();
        of_output.push(Rc::new(entry));
    }

    /// The file of this shard.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The files of other shards, which are only read.
    pub(super) fn other_paths(&self) -> impl Iterator<Item = &Path> {
        self.other_paths.iter().map(PathBuf::as_path)
    }

    /// Opens the file of this shard for [`Manifest::add`], creates it and the folder as needed, and reads
    /// the entries of all shards. While another run writes to the file, this one waits.
    ///
    /// Lines that are no entries (a run may have been killed amid one) are skipped: their images are
    /// upscaled again.
    pub(super) fn open(&mut self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("{}: cannot create the folder", self.folder.display()))?;
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .with_context(|| cannot_write(&self.path))?;
        self.lock(&file);
        for path in manifests_in(&self.folder)? {
            let bytes = fs::read(&path).with_context(|| cannot_read(&path))?;
            for line in bytes.split(|byte| *byte == b'\n') {
                if let Ok(entry) = serde_json::from_slice::<Entry>(line) {
                    self.insert(entry);
                }
            }
            if path == self.path && bytes.last().is_some_and(|byte| *byte != b'\n') {
                // The file ends within a line.
                file.write_all(b"\n").with_context(|| cannot_write(&path))?;
            }
        }
        wdsr_atomic_file::synchronise_folder(&self.folder)
            .with_context(|| cannot_write(&self.path))?;
        self.file = Some(file);
        Ok(())
    }

    /// Locks the file until it is closed, however the process ends. On file systems without locks,
    /// and after a signal, it stays unlocked.
    fn lock(&self, file: &File) {
        let mut is_told = false;
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if signals::requested() {
                return;
            }
            if !is_told {
                let folder = self.folder.display();
                progress::note(&format!(
                    "another run writes to {folder}; waiting for its end"
                ));
                is_told = true;
            }
            thread::sleep(LOCK_EVERY);
        }
    }

    /// The name of a result in the manifest.
    pub(super) fn name_of(&self, output: &Path) -> String {
        portable(output.strip_prefix(&self.folder).unwrap_or(output))
    }

    /// The entries of `output`, if that is this program's unchanged result of the image: made from
    /// the file of this path, or from one of the same bytes at the same place below its folder.
    pub(super) fn own_result(&self, output: &Path, input: &Input) -> Vec<Rc<Entry>> {
        let Some(entries) = self.entries.get(&self.name_of(output)) else {
            return Vec::new();
        };
        let length = fs::metadata(output).ok().filter(fs::Metadata::is_file);
        let length = length.map(|file| file.len());
        let of_length = |entry: &&Rc<Entry>| Some(entry.output_bytes) == length;
        let hash = |_| hash_of_file(output).ok();
        let Some(output_hash) = entries.iter().find(of_length).and_then(hash) else {
            return Vec::new();
        };
        let (input_place, place) = (hash_of_place(&input.path), portable(&input.relative));
        let input_hash = LazyCell::new(|| hash_of_file(&input.path).unwrap_or_default());
        let is_of_input = |entry: &Entry| {
            entry.input_place == input_place
                || entry.input == place && entry.input_hash == *input_hash
        };
        entries
            .iter()
            .filter(|entry| entry.output_hash == output_hash && is_of_input(entry))
            .cloned()
            .collect()
    }

    /// Adds an entry and synchronises it with the disk. Must be called before the result gets its
    /// name: a run that ends between the two leaves an entry without a file, which is upscaled again,
    /// and never a file without an entry.
    pub(super) fn add(&mut self, entry: Entry) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(&entry)?;
        line.push('\n');
        let Some(file) = &mut self.file else {
            unreachable!("{}: an entry before it is open", self.path.display());
        };
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_data())
            .with_context(|| cannot_write(&self.path))?;
        Ok(())
    }
}

fn cannot_read(path: &Path) -> String {
    format!("{}: cannot read the manifest", path.display())
}

fn cannot_write(path: &Path) -> String {
    format!("{}: cannot write the manifest", path.display())
}

/// The manifests in a folder, which need not exist.
fn manifests_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    if !folder.is_dir() {
        return Ok(paths);
    }
    for file in fs::read_dir(folder).with_context(|| cannot_read(folder))? {
        let path = file.with_context(|| cannot_read(folder))?.path();
        let is_manifest = |name: &str| name.starts_with(PREFIX) && name.ends_with(".jsonl");
        let name = path.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(is_manifest) {
            continue;
        }
        // A pipe would be waited for, a device read without end.
        let file = fs::metadata(&path).with_context(|| cannot_read(&path))?;
        if !file.is_file() {
            bail!(
                "{}: expected a manifest, found a device, a pipe or a folder; remove it",
                path.display()
            );
        }
        paths.push(path);
    }
    Ok(paths)
}

/// XXH3 of a file's absolute path.
pub(super) fn hash_of_place(path: &Path) -> String {
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    format!("{:032x}", xxh3_128(absolute.as_os_str().as_encoded_bytes()))
}

/// XXH3 of a file's bytes.
pub(crate) fn hash_of_file(path: &Path) -> io::Result<String> {
    hash_of(&File::open(path)?)
}

/// XXH3 of a file's bytes.
pub(super) fn hash_of(mut file: &File) -> io::Result<String> {
    file.rewind()?;
    Ok(format!("{:032x}", wdsr_image::hash_of(file)?))
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

    fn entry(output: &str, bytes: &[u8], input: &Input) -> Entry {
        Entry {
            output: output.to_owned(),
            output_bytes: bytes.len() as u64,
            output_hash: format!("{:032x}", xxh3_128(bytes)),
            input: portable(&input.relative),
            input_place: hash_of_place(&input.path),
            input_hash: hash_of_file(&input.path).expect("read"),
            settings: "x2".to_owned(),
        }
    }

    /// An input `root/relative` of the given bytes.
    fn input(root: &Path, relative: &str, bytes: &str) -> Input {
        let path = root.join(relative);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(&path, bytes).expect("written");
        Input {
            path,
            relative: relative.into(),
        }
    }

    fn opened(folder: &Path) -> Manifest {
        let mut manifest = Manifest::find(folder, "").expect("found");
        manifest.open().expect("opened");
        manifest
    }

    #[test]
    fn an_incomplete_line_loses_only_its_own_entry() {
        let folder = tempfile::tempdir().expect("a folder");
        let image = input(&folder.path().join("in"), "sub/a.jpg", "image");
        let out = folder.path().join("out");
        opened(&out)
            .add(entry("a.png", b"abc", &image))
            .expect("added");
        let path = out.join(".wdsr-manifest.jsonl");
        let whole = fs::read_to_string(&path).expect("read");
        fs::write(&path, format!("{whole}{}", &whole[..20])).expect("written");
        opened(&out)
            .add(entry("b.png", b"abc", &image))
            .expect("added");
        // Another shard sees all of it.
        let mut manifest = Manifest::find(&out, "-1-of-2").expect("found");
        manifest.open().expect("opened");
        for name in ["a.png", "b.png"] {
            let output = out.join(name);
            let count = || manifest.own_result(&output, &image).len();
            assert_eq!(count(), 0, "{name} is not there");
            fs::write(&output, "abc").expect("written");
            assert_eq!(count(), 1, "{name}");
            fs::write(&output, "xyz").expect("written");
            assert_eq!(count(), 0, "{name} has other bytes of the same length");
        }
    }

    #[test]
    fn a_result_is_of_the_file_at_the_same_path_or_of_the_same_bytes_at_the_same_place() {
        let root = tempfile::tempdir().expect("a folder");
        let (folder, out) = (|name| root.path().join(name), root.path().join("out"));
        let image = input(&folder("in"), "a.png", "image");
        let mut manifest = opened(&out);
        manifest.add(entry("a.png", b"abc", &image)).expect("added");
        fs::write(out.join("a.png"), "abc").expect("written");
        drop(manifest);
        let manifest = opened(&out);
        let is_own = |input: Input| !manifest.own_result(&out.join("a.png"), &input).is_empty();
        assert!(
            is_own(input(&folder("in"), "a.png", "changed")),
            "the same path"
        );
        assert!(
            is_own(input(&folder("moved"), "a.png", "image")),
            "the same bytes"
        );
        assert!(
            !is_own(input(&folder("other"), "a.png", "other")),
            "another image"
        );
        assert!(
            !is_own(input(&folder("in"), "b.png", "image")),
            "another name"
        );
    }

    #[test]
    fn a_second_run_waits_and_reads_what_the_first_wrote() {
        let root = tempfile::tempdir().expect("a folder");
        let image = input(&root.path().join("in"), "a.png", "image");
        let out = root.path().join("out");
        let mut first = opened(&out);
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            let second = scope.spawn(|| {
                let second = opened(&out);
                sender.send(()).expect("sent");
                second.entries.len()
            });
            let early = receiver.recv_timeout(Duration::from_millis(300));
            early.expect_err("it waits for the first");
            first.add(entry("a.png", b"abc", &image)).expect("added");
            drop(first);
            assert_eq!(second.join().expect("joined"), 1);
        });
    }
}
