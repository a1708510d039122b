//! The results of earlier runs in an output folder, with their inputs and settings: a batch that was
//! stopped resumes, and a changed model or setting re-runs it.
//!
//! `.wdsr-manifest.jsonl` in the output folder has a line of JSON for each result that was written.
//! Each shard, band and worker has its own file, as machines cannot append to one file of a network folder; all of them
//! are read. The lines that count for a result are those with the checksum of its bytes, so neither
//! the order of lines and files nor a clock decides.

use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wdsr_atomic_file::AtomicFile;
use wdsr_model::Model;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::place::{self, Flow};
use crate::{Error, Input};

const PREFIX: &str = ".wdsr-manifest";
/// How often to look whether another run has ended.
const LOCK_EVERY: Duration = Duration::from_millis(100);

/// A result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Path of the result below the output folder.
    pub output: String,
    /// Its length.
    pub output_bytes: u64,
    /// XXH3 of its bytes, by which a file of another program or a changed one is recognised.
    pub output_hash: String,
    /// Path of the input below its folder.
    pub input: String,
    /// XXH3 of the input's absolute path, which itself may be private.
    pub input_place: String,
    /// XXH3 of the input's bytes.
    pub input_hash: String,
    /// Program, models and options.
    pub settings: String,
}

impl Entry {
    /// Whether the result was made from these bytes with these settings.
    pub fn is_current(&self, input_hash: &str, settings: &str) -> bool {
        let is_same = self.settings == settings || self.settings == hash_of_text(settings);
        self.input_hash == input_hash && is_same
    }

    /// The note of an object: one line of ASCII, as the metadata of stores must be, and short.
    fn note(&self) -> String {
        format!(
            "1 {} {} {} {} {} {}",
            self.output_bytes,
            self.output_hash,
            hash_of_text(&self.input),
            self.input_place,
            self.input_hash,
            hash_of_text(&self.settings)
        )
    }

    /// The inverse of [`note`](Self::note), with hashes of the input's path and of the settings. `None` for another text.
    fn of_note(note: &str, output: String) -> Option<Self> {
        let mut words = note.strip_prefix("1 ")?.split(' ').map(str::to_owned);
        Some(Self {
            output,
            output_bytes: words.next()?.parse().ok()?,
            output_hash: words.next()?,
            input: words.next()?,
            input_place: words.next()?,
            input_hash: words.next()?,
            settings: words.next()?,
        })
    }
}

/// The manifests of an output folder: that of this run, and those of other runs, which are only read.
#[derive(Debug)]
pub struct Manifest {
    folder: PathBuf,
    path: PathBuf,
    other_paths: Vec<PathBuf>,
    /// Locked; `None` until [`Manifest::open`] or the first entry.
    file: Option<File>,
    /// The entries of each output.
    entries: HashMap<String, Vec<Arc<Entry>>>,
    /// The paths of the results that a store has, which are listed once; `None` for a folder of this computer.
    objects: Option<HashSet<PathBuf>>,
    /// Whether each object is asked for instead.
    asks_for_objects: bool,
    /// How much of each file has been read, in whole lines.
    read_bytes: HashMap<PathBuf, u64>,
}

impl Manifest {
    /// Finds the manifests of a folder, which need not exist. Their entries are read by
    /// [`Manifest::open`]. The name of that of this run has `name_end`.
    ///
    /// # Errors
    /// If the folder cannot be read, or something else has the name of a manifest.
    pub fn find(folder: &Path, name_end: &str) -> Result<Self, Error> {
        let path = folder.join(format!("{PREFIX}{name_end}.jsonl"));
        let mut other_paths = manifests_in(folder)?;
        other_paths.retain(|other| *other != path);
        Ok(Self {
            folder: folder.to_owned(),
            path,
            other_paths,
            file: None,
            entries: HashMap::new(),
            objects: None,
            asks_for_objects: false,
            read_bytes: HashMap::new(),
        })
    }

    /// The manifests of a folder for one of many workers, whose own file has a random name, because workers cannot
    /// append to one file of a network folder. The file is created with the first entry.
    ///
    /// # Errors
    /// If the folder or a manifest cannot be read.
    pub fn of_worker(folder: &Path) -> Result<Self, Error> {
        let random = RandomState::new().build_hasher().finish();
        let mut manifest = Self::find(folder, &format!("-worker-{random:016x}"))?;
        manifest.asks_for_objects = true;
        manifest.read_new()?;
        Ok(manifest)
    }

    /// The output folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of this run.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files of other runs, which are only read.
    pub fn other_paths(&self) -> impl Iterator<Item = &Path> {
        self.other_paths.iter().map(PathBuf::as_path)
    }

    /// Opens the file of this run for [`Manifest::add`], creates it and the folder as needed, and reads
    /// the entries of all runs. While another run writes to the file, this one calls `waits` ten times a second, and
    /// stops waiting if that returns false.
    ///
    /// Lines that are no entries (a run may have been killed amid one) are skipped: their images are
    /// upscaled again.
    ///
    /// # Errors
    /// If a manifest cannot be read or written, or the folder not created.
    pub fn open(&mut self, waits: &mut dyn FnMut() -> bool) -> Result<(), Error> {
        if place::is_url(&self.folder) {
            let mut folder = self.folder.clone().into_os_string();
            folder.push("/");
            let objects = place::list(Path::new(&folder), true)?;
            let paths = objects.into_iter().map(|object| object.path);
            self.objects = Some(paths.collect());
            return Ok(());
        }
        fs::create_dir_all(&self.folder).map_err(|source| Error::CreateFolder {
            path: self.folder.clone(),
            source,
        })?;
        let cannot_write = |source| Error::WriteManifest {
            path: self.path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .create(true)
            .append(true)
            .open(&self.path)
            .map_err(cannot_write)?;
        // Locked until it is closed, however the process ends. File systems without locks leave it unlocked.
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if !waits() {
                break;
            }
            thread::sleep(LOCK_EVERY);
        }
        let ends_within_a_line = || {
            if file.seek(SeekFrom::End(0))? == 0 {
                return Ok(false);
            }
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            Ok(last != *b"\n")
        };
        if { ends_within_a_line }().map_err(cannot_write)? {
            file.write_all(b"\n").map_err(cannot_write)?;
        }
        wdsr_atomic_file::synchronise_folder(&self.folder).map_err(cannot_write)?;
        self.read_new()?;
        self.file = Some(file);
        Ok(())
    }

    /// Reads the entries that other runs have added.
    ///
    /// # Errors
    /// If a manifest cannot be read.
    pub fn read_new(&mut self) -> Result<(), Error> {
        for path in manifests_in(&self.folder)? {
            let start = self.read_bytes.get(&path).copied().unwrap_or(0);
            let read = || {
                let mut bytes = Vec::new();
                let mut file = File::open(&path)?;
                file.seek(SeekFrom::Start(start))?;
                file.read_to_end(&mut bytes)?;
                Ok(bytes)
            };
            let bytes = read().map_err(|source| Error::ReadManifest {
                path: path.clone(),
                source,
            })?;
            let lines = bytes.split_inclusive(|byte| *byte == b'\n');
            let mut whole_bytes = start;
            for line in lines.take_while(|line| line.ends_with(b"\n")) {
                whole_bytes += line.len() as u64;
                if let Ok(entry) = serde_json::from_slice::<Entry>(line) {
                    let of_output = self.entries.entry(entry.output.clone()).or_default();
                    of_output.push(Arc::new(entry));
                }
            }
            self.read_bytes.insert(path, whole_bytes);
        }
        Ok(())
    }

    /// Whether there is a file or an object of a result's name.
    ///
    /// # Errors
    /// If the store does not answer.
    pub fn has_result(&self, output: &Path) -> Result<bool, Error> {
        match &self.objects {
            Some(objects) => Ok(objects.contains(output)),
            // Objects are listed when the manifest is opened, before anything is written.
            None if place::is_url(output) => Ok(false),
            None => place::exists(output),
        }
    }

    /// The name of a result in the manifest.
    pub fn name_of(&self, output: &Path) -> String {
        portable(output.strip_prefix(&self.folder).unwrap_or(output))
    }

    /// The entries of `output`, if that is this program's unchanged result of the image: made from
    /// the file of this path, or from one of the same bytes at the same place below its folder.
    ///
    /// # Errors
    /// If the result is in a store that does not answer.
    pub fn own_result(&self, output: &Path, input: &Input) -> Result<Vec<Arc<Entry>>, Error> {
        if place::is_url(output) {
            return Ok(self.own_object(output, input)?.into_iter().collect());
        }
        Ok(self.own_file(output, input))
    }

    /// The entry that is the note of an object.
    fn own_object(&self, output: &Path, input: &Input) -> Result<Option<Arc<Entry>>, Error> {
        let is_missing = |objects: &HashSet<PathBuf>| !objects.contains(output);
        // Before they are listed, nothing is known of objects.
        if !self.asks_for_objects && self.objects.as_ref().is_none_or(is_missing) {
            return Ok(None);
        }
        let found = place::find(output)?;
        let name = self.name_of(output);
        let entry = found.and_then(|object| Entry::of_note(object.note.as_deref()?, name));
        let (input_place, place) = (
            hash_of_place(&input.path),
            hash_of_text(&portable(&input.relative)),
        );
        let is_same_image = |entry: &Entry| {
            entry.input == place
                && !place::is_url(&input.path)
                && hash_of_file(&input.path).is_ok_and(|hash| hash == entry.input_hash)
        };
        let entry = entry.filter(|entry| entry.input_place == input_place || is_same_image(entry));
        Ok(entry.map(Arc::new))
    }

    fn own_file(&self, output: &Path, input: &Input) -> Vec<Arc<Entry>> {
        let Some(entries) = self.entries.get(&self.name_of(output)) else {
            return Vec::new();
        };
        let length = fs::metadata(output).ok().filter(fs::Metadata::is_file);
        let length = length.map(|file| file.len());
        let of_length = |entry: &&Arc<Entry>| Some(entry.output_bytes) == length;
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

    /// Records a result and publishes its file, which was written to [`local_target`](crate::local_target).
    ///
    /// A file gets its name after its entry is on the disk: a run that ends between the two leaves an entry without a
    /// file, which is upscaled again, and never a file without an entry. An object has its entry as a note, which the
    /// request that creates it carries.
    ///
    /// # Errors
    /// If the manifest or the result cannot be written, or `flow` stops the copy of an object.
    pub fn publish(
        &mut self,
        file: AtomicFile,
        target: &Path,
        entry: &Entry,
        flow: Flow<'_>,
    ) -> Result<(), Error> {
        let is_url = place::is_url(target);
        if !is_url {
            self.add(entry)?;
        }
        place::publish_with(file, target, is_url.then(|| entry.note()).as_deref(), flow)
    }

    /// Adds an entry and synchronises it with the disk.
    ///
    /// # Errors
    /// If the manifest cannot be written.
    pub fn add(&mut self, entry: &Entry) -> Result<(), Error> {
        let mut write = || {
            let mut line = serde_json::to_string(entry)?;
            line.push('\n');
            let file = match &mut self.file {
                Some(file) => file,
                none => {
                    fs::create_dir_all(&self.folder)?;
                    let file = OpenOptions::new()
                        .create_new(true)
                        .append(true)
                        .open(&self.path)?;
                    wdsr_atomic_file::synchronise_folder(&self.folder)?;
                    none.insert(file)
                }
            };
            file.write_all(line.as_bytes())?;
            file.sync_data()
        };
        write().map_err(|source| Error::WriteManifest {
            path: self.path.clone(),
            source,
        })
    }
}

/// The manifests in a folder, which need not exist.
fn manifests_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    if !folder.is_dir() {
        return Ok(paths);
    }
    let cannot_read = |path: &Path, source| Error::ReadManifest {
        path: path.to_owned(),
        source,
    };
    for file in fs::read_dir(folder).map_err(|error| cannot_read(folder, error))? {
        let path = file.map_err(|error| cannot_read(folder, error))?.path();
        let is_manifest = |name: &str| name.starts_with(PREFIX) && name.ends_with(".jsonl");
        let name = path.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(is_manifest) {
            continue;
        }
        // A pipe would be waited for, a device read without end.
        let file = fs::metadata(&path).map_err(|error| cannot_read(&path, error))?;
        if !file.is_file() {
            return Err(Error::NoManifest { path });
        }
        paths.push(path);
    }
    Ok(paths)
}

fn hash_of_text(text: &str) -> String {
    format!("{:032x}", xxh3_128(text.as_bytes()))
}

/// XXH3 of a file's absolute path, or of an object's URL.
pub fn hash_of_place(path: &Path) -> String {
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    format!("{:032x}", xxh3_128(absolute.as_os_str().as_encoded_bytes()))
}

/// XXH3 of a file's bytes.
///
/// # Errors
/// If it cannot be read.
pub fn hash_of_file(path: &Path) -> io::Result<String> {
    hash_of(&File::open(path)?)
}

/// XXH3 of an open file's bytes, from its start.
///
/// # Errors
/// If it cannot be read.
pub fn hash_of(mut file: &File) -> io::Result<String> {
    file.rewind()?;
    Ok(format!("{:032x}", wdsr_image::hash_of(file)?))
}

/// A relative path with `/` between its parts. Bytes that are not UTF-8 and backslashes are escaped, so
/// that no two paths become one.
pub fn portable(path: &Path) -> String {
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

/// XXH3 of all of a model that results depend on: its description, weights, those at strength 1 and scales for int8; without
/// its notes.
///
/// # Errors
/// If the description has no form in JSON.
pub fn hash_of_model(model: &Model) -> serde_json::Result<String> {
    let mut hash = Xxh3::new();
    hash.update(&serde_json::to_vec(model.config())?);
    let convs = model
        .convs()
        .iter()
        .chain(model.strong().into_iter().flatten());
    let of_convs = convs.flat_map(|conv| [&conv.weight, &conv.bias, &conv.slopes]);
    let scales = model.int8().into_iter().flatten();
    let of_scales =
        scales.flat_map(|scales| [&scales.input_steps, &scales.weight_steps, &scales.bias]);
    for values in of_convs.chain(of_scales) {
        let words: Vec<_> = values.iter().map(|v| v.to_le_bytes()).collect();
        hash.update(words.as_flattened());
    }
    Ok(format!("{:032x}", hash.digest128()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wdsr_model::{Int8Scales, NetworkConfig};

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
            bytes: 0,
        }
    }

    fn opened(folder: &Path) -> Manifest {
        let mut manifest = Manifest::find(folder, "").expect("found");
        manifest.open(&mut || true).expect("opened");
        manifest
    }

    #[test]
    fn an_incomplete_line_loses_only_its_own_entry() {
        let folder = tempfile::tempdir().expect("a folder");
        let image = input(&folder.path().join("in"), "sub/a.jpg", "image");
        let out = folder.path().join("out");
        opened(&out)
            .add(&entry("a.png", b"abc", &image))
            .expect("added");
        let path = out.join(".wdsr-manifest.jsonl");
        let whole = fs::read_to_string(&path).expect("read");
        fs::write(&path, format!("{whole}{}", &whole[..20])).expect("written");
        opened(&out)
            .add(&entry("b.png", b"abc", &image))
            .expect("added");
        // Another shard sees all of it.
        let mut manifest = Manifest::find(&out, "-1-of-2").expect("found");
        manifest.open(&mut || true).expect("opened");
        for name in ["a.png", "b.png"] {
            let output = out.join(name);
            let count = || manifest.own_file(&output, &image).len();
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
        manifest
            .add(&entry("a.png", b"abc", &image))
            .expect("added");
        fs::write(out.join("a.png"), "abc").expect("written");
        drop(manifest);
        let manifest = opened(&out);
        let is_own = |input: Input| !manifest.own_file(&out.join("a.png"), &input).is_empty();
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
    fn the_hash_of_a_model_is_that_of_all_its_numbers() {
        let [plain, other] =
            [1, 2].map(|seed| Model::random(&NetworkConfig::compact(8, 2, 2), seed));
        let with_slope = |slope: f32| {
            let mut convs = plain.convs().to_vec();
            convs[0].slopes[3] = slope;
            Model::new(plain.config(), convs, BTreeMap::new())
        };
        let with_int8 = |step: f32| {
            let scales = plain.network().int8_convs().map(|at| {
                let conv = &plain.network().convs[at];
                Int8Scales {
                    input_steps: vec![step; conv.in_channels],
                    weight_steps: vec![1.0; conv.out_channels],
                    bias: vec![0.0; conv.out_channels],
                }
            });
            plain.clone().with_int8(scales.collect())
        };
        let strong = |by: &Model| plain.clone().with_strong(by.convs().to_vec());
        let models = [
            &plain,
            &other,
            &with_slope(0.5),
            &with_slope(0.25),
            &with_int8(0.5),
            &with_int8(0.25),
            &strong(&plain),
            &strong(&other),
        ];
        let hashes = models.map(|model| hash_of_model(model).expect("a hash"));
        let distinct = HashSet::from(hashes.clone());
        assert_eq!(distinct.len(), models.len(), "{hashes:?}");
    }

    #[test]
    fn the_note_of_an_object_is_its_entry() {
        let folder = tempfile::tempdir().expect("a folder");
        let image = input(folder.path(), "sub/ä.jpg", "image");
        let entry = entry("a.png", b"abc", &image);
        let note = entry.note();
        assert!(note.is_ascii() && note.len() < 1024, "{note}");
        let read = Entry::of_note(&note, "a.png".to_owned()).expect("a note");
        assert!(read.is_current(&entry.input_hash, "x2"));
        assert!(!read.is_current(&entry.input_hash, "x3"));
        assert!(!read.is_current("0", "x2"));
        for wrong in ["", "2 3 a b c d e", "1 3 a b c", "1 x a b c d e"] {
            assert_eq!(Entry::of_note(wrong, String::new()), None, "{wrong}");
        }
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
            first.add(&entry("a.png", b"abc", &image)).expect("added");
            drop(first);
            assert_eq!(second.join().expect("joined"), 1);
        });
    }
}
