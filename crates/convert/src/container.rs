//! The files that `torch.save` writes: a pickle, and the numbers that its tensors are views of.
//!
//! - zip (torch 1.6 and later): `NAME/data.pkl`, and `NAME/data/KEY` for each storage, stored
//!   without compression. Source: pytorch, `caffe2/serialize/inline_container.h`.
//! - legacy: pickles of a magic number, a protocol version, properties of the system, the object and
//!   the keys of the storages; then, for each key, the number of elements as an i64 and the
//!   elements. Source: pytorch, `torch/serialization.py`, `_legacy_save`.
//!
//! The first bytes of a file decide between them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use zip::{CompressionMethod, ZipArchive};

use crate::pickle::{Pickle, Storage, TensorView, Value, kind};
use crate::tensor::{Array, gather};

pub(crate) const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// The number 0x1950a86a20f9469cfc6c as a pickle of protocol 2.
pub(crate) const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
const LEGACY_VERSION: i64 = 1001;

/// A checkpoint file: its object and its storages.
pub(crate) struct Container<'a> {
    pub(crate) pickle: Pickle,
    /// Each storage with its bytes, by its key.
    storages: BTreeMap<String, (Storage, Cow<'a, [u8]>)>,
}

impl<'a> Container<'a> {
    /// Reads the zip container.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub(crate) fn zip(bytes: &'a [u8]) -> Result<Self, String> {
        let damaged = |e| format!("not a complete zip file ({e}); download it again");
        let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
        if archive.has_duplicate_names() {
            return Err("two entries of the zip file have the same name; save it again".to_owned());
        }
        let pickles: Vec<String> = archive
            .file_names()
            .filter_map(Result::ok)
            .filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl"))
            .map(Into::into)
            .collect();
        let [name] = &pickles[..] else {
            return Err(format!(
                "expected a zip file with one data.pkl, as torch.save writes it, found {}",
                pickles.len()
            ));
        };
        let root = name.trim_end_matches("data.pkl");
        // Entries that overlap can together be larger than the file.
        let mut budget = bytes.len() as u64;
        let pickle = Pickle::read(&entry(&mut archive, name, &mut budget)?)?;
        let order = format!("{root}byteorder");
        if archive.index_for_name(&order).is_some() {
            let order = entry(&mut archive, &order, &mut budget)?;
            if order != b"little" {
                return Err(format!(
                    "expected numbers in little-endian order, found `{}`",
                    String::from_utf8_lossy(&order)
                ));
            }
        }
        let mut storages = BTreeMap::new();
        for (key, storage) in storages_of(&pickle)? {
            let bytes = entry(&mut archive, &format!("{root}data/{key}"), &mut budget)?;
            storages.insert(key, (storage, Cow::Owned(bytes)));
        }
        Self { pickle, storages }.checked()
    }

    /// Reads the legacy container.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub(crate) fn legacy(bytes: &'a [u8]) -> Result<Self, String> {
        let mut rest = &bytes[LEGACY_MAGIC.len()..];
        let mut next = |what: &str| {
            let pickle = Pickle::read(rest).map_err(|e| format!("{what}: {e}"))?;
            rest = &rest[pickle.length..];
            Ok::<_, String>(pickle)
        };
        let version = next("version of the format")?;
        match version.value(version.root) {
            Value::Int(LEGACY_VERSION) => {}
            other => {
                return Err(format!(
                    "expected version {LEGACY_VERSION} of torch.save's format, found {}",
                    kind(other)
                ));
            }
        }
        let system = next("properties of the system")?;
        if let Value::Dict(facts) = system.value(system.root) {
            for (key, value) in facts {
                if system.text(*key) == Some("little_endian")
                    && matches!(system.value(*value), Value::Bool(false))
                {
                    return Err("expected numbers in little-endian order".to_owned());
                }
            }
        }
        let pickle = next("object")?;
        let keys = next("keys of the storages")?;
        let Value::List(order) = keys.value(keys.root) else {
            return Err("expected the keys of the storages as a list".to_owned());
        };
        let mut unread = storages_of(&pickle)?;
        let mut storages = BTreeMap::new();
        for key in order {
            let key = keys.text(*key).ok_or("expected a storage's key as text")?;
            let storage = unread
                .remove(key)
                .ok_or_else(|| format!("storage `{key}` is unknown or repeated"))?;
            let (elements, after) = rest
                .split_first_chunk::<8>()
                .ok_or_else(|| format!("truncated before storage `{key}`; download it again"))?;
            if u64::from_le_bytes(*elements) != storage.elements as u64 {
                return Err(format!(
                    "expected {} numbers in storage `{key}`, found {}; download it again",
                    storage.elements,
                    i64::from_le_bytes(*elements)
                ));
            }
            let length = storage.elements.checked_mul(storage.element.bytes());
            let (numbers, after) = length
                .and_then(|length| after.split_at_checked(length))
                .ok_or_else(|| format!("truncated within storage `{key}`; download it again"))?;
            rest = after;
            storages.insert(key.to_owned(), (storage, Cow::Borrowed(numbers)));
        }
        if let Some(key) = unread.keys().next() {
            return Err(format!(
                "the numbers of storage `{key}` are missing; download it again"
            ));
        }
        Self { pickle, storages }.checked()
    }

    fn checked(self) -> Result<Self, String> {
        for (key, (storage, numbers)) in &self.storages {
            let (expected, found) = (
                storage.elements.checked_mul(storage.element.bytes()),
                numbers.len(),
            );
            if expected != Some(found) {
                return Err(format!(
                    "storage `{key}`: expected {} numbers of {} bytes, found {found} bytes; download it again",
                    storage.elements,
                    storage.element.bytes(),
                ));
            }
        }
        Ok(self)
    }

    /// Elements of all storages.
    pub(crate) fn elements(&self) -> usize {
        let storages = self.storages.values();
        storages.map(|(storage, _)| storage.elements).sum()
    }

    /// The storage of a view.
    pub(crate) fn storage_of(&self, view: &TensorView) -> &Storage {
        match self.pickle.value(view.storage) {
            Value::Storage(storage) => storage,
            other => unreachable!("views are made of storages, not of {}", kind(other)),
        }
    }

    /// The tensor of a view.
    ///
    /// # Errors
    /// If it reaches beyond its storage.
    pub(crate) fn gather(&self, view: &TensorView) -> Result<Array, String> {
        let storage = self.storage_of(view);
        let (_, numbers) = &self.storages[&*storage.key];
        gather(
            numbers,
            storage.element,
            view.offset,
            &view.shape,
            &view.strides,
        )
    }
}

/// The storages of a pickle, by key.
fn storages_of(pickle: &Pickle) -> Result<BTreeMap<String, Storage>, String> {
    let mut all: BTreeMap<String, Storage> = BTreeMap::new();
    for storage in pickle.storages() {
        let known = all
            .entry(storage.key.to_string())
            .or_insert_with(|| storage.clone());
        if known != storage {
            return Err(format!(
                "storage `{}` has {} numbers in one place and {} in another; download it again",
                storage.key, known.elements, storage.elements
            ));
        }
    }
    Ok(all)
}

/// An entry of the zip file, checked by its CRC.
fn entry(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    name: &str,
    budget: &mut u64,
) -> Result<Vec<u8>, String> {
    let mut entry = archive
        .by_name(name)
        .map_err(|e| format!("entry {name} of the zip file: {e}"))?;
    if entry.compression() != CompressionMethod::Stored {
        return Err(format!(
            "entry {name} of the zip file: expected no compression, as torch.save writes it, found {}; save it by torch.save",
            entry.compression()
        ));
    }
    let length = entry.size();
    *budget = budget.checked_sub(length).ok_or(
        "the entries of the zip file are together larger than the file; download it again",
    )?;
    let mut bytes = Vec::new();
    // One byte more, because the checksum is compared at the end of the entry.
    entry
        .by_ref()
        .take(length.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| format!("entry {name} of the zip file is damaged ({e}); download it again"))?;
    if bytes.len() as u64 != length {
        return Err(format!(
            "entry {name} of the zip file: expected {length} bytes, found {}",
            bytes.len()
        ));
    }
    Ok(bytes)
}
