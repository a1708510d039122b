//! Event files of TensorBoard.
//!
//! A file is a sequence of records (TFRecord: length, its checksum, bytes, their checksum; checksums
//! are masked CRC-32C, little-endian), each an `Event` message of tensorflow/core/util/event.proto:
//! field 1 `wall_time` (double), 2 `step` (int64), 3 `file_version` (string), 5 `summary`, whose
//! field 1 repeats values of field 1 `tag` (string) and 2 `simple_value` (float).

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use wdsr_train::Metrics;

use crate::error::Error;

/// Start of the name of every event file, and end of the names of this program's.
const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".wdsr";

/// The event file of a run.
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Creates the event file of a folder with the metrics so far. Replaces an earlier one, as updates
    /// after a checkpoint are repeated and an event cannot be removed.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub(crate) fn create(folder: &Path, metrics: &[Metrics]) -> Result<Self, Error> {
        let entries =
            std::fs::read_dir(folder).map_err(|source| Error::io(folder, "read", source))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
                let path = entry.path();
                std::fs::remove_file(&path).map_err(|source| Error::io(&path, "remove", source))?;
            }
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.map_or(0.0, |since| since.as_secs_f64());
        let path = folder.join(format!("{PREFIX}{now:.0}{SUFFIX}"));
        let file = File::create(&path).map_err(|source| Error::io(&path, "write", source))?;
        let mut events = Self { path, file };
        let first = metrics.first().map_or(now, |m| m.unix_seconds);
        let version = [double(1, first), bytes(3, b"brain.Event:2")].concat();
        events.write(&record(&version))?;
        for metrics in metrics {
            events.append(metrics)?;
        }
        Ok(events)
    }

    /// Appends the metrics of a validation.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn append(&mut self, metrics: &Metrics) -> Result<(), Error> {
        self.write(&record(&event(metrics)))
    }

    fn write(&mut self, record: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(record)
            .map_err(|source| Error::io(&self.path, "write", source))
    }
}

fn event(metrics: &Metrics) -> Vec<u8> {
    let values = [
        ("train/loss", Some(metrics.loss)),
        ("train/learning_rate", Some(metrics.learning_rate)),
        ("train/patches_per_second", Some(metrics.patches_per_second)),
        ("validation/psnr_db", metrics.psnr_db),
        ("validation/bicubic_psnr_db", metrics.bicubic_psnr_db),
    ];
    let value = |(tag, value): (&str, Option<f64>)| {
        let value = value? as f32;
        let message = [bytes(1, tag.as_bytes()), float(2, value)].concat();
        Some(bytes(1, &message))
    };
    let summary: Vec<u8> = values.into_iter().filter_map(value).flatten().collect();
    [
        double(1, metrics.unix_seconds),
        [key(2, VARINT), varint(metrics.update)].concat(),
        bytes(5, &summary),
    ]
    .concat()
}

/// Wire types of Protocol Buffers.
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const LENGTH_AND_BYTES: u64 = 2;
const FOUR_BYTES: u64 = 5;

fn key(field: u64, wire_type: u64) -> Vec<u8> {
    varint(field << 3 | wire_type)
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut encoded = Vec::new();
    while value >= 0x80 {
        encoded.push(value as u8 | 0x80);
        value >>= 7;
    }
    encoded.push(value as u8);
    encoded
}

fn double(field: u64, value: f64) -> Vec<u8> {
    [key(field, EIGHT_BYTES), value.to_le_bytes().to_vec()].concat()
}

fn float(field: u64, value: f32) -> Vec<u8> {
    [key(field, FOUR_BYTES), value.to_le_bytes().to_vec()].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    let length = varint(value.len() as u64);
    [key(field, LENGTH_AND_BYTES), length, value.to_vec()].concat()
}

fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    [
        &length[..],
        &masked_checksum(&length).to_le_bytes(),
        message,
        &masked_checksum(message).to_le_bytes(),
    ]
    .concat()
}

/// A checksum may be part of data that is checked again, so it is rotated and offset
/// (tensorflow/core/lib/hash/crc32c.h).
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_match_tensorflow() {
        // Written by tensorboard 2.21's RecordWriter.
        let version = [double(1, 1.5), bytes(3, b"brain.Event:2")].concat();
        let expected = b"\x18\0\0\0\0\0\0\0\xa3\x7fK\"\t\0\0\0\0\0\0\xf8?\x1a\rbrain.Event:2*(dl";
        assert_eq!(record(&version), expected);
        let value = [bytes(1, b"train/loss"), float(2, 0.25)].concat();
        let scalar = [
            double(1, 2.0),
            [key(2, VARINT), varint(1_500_000)].concat(),
            bytes(5, &bytes(1, &value)),
        ];
        let expected =
            b"\"\0\0\0\0\0\0\0x\x11=\xfd\t\0\0\0\0\0\0\0@\x10\xe0\xc6[*\x13\n\x11\n\ntrain/loss\
            \x15\0\0\x80>\xf4\x84\xaf<";
        assert_eq!(record(&scalar.concat()), expected);
    }

    #[test]
    fn varints_are_little_endian_groups_of_seven_bits() {
        assert_eq!(varint(0), [0]);
        assert_eq!(varint(127), [127]);
        assert_eq!(varint(300), [0xac, 2]);
        assert_eq!(varint(1_500_000), [0xe0, 0xc6, 0x5b]);
    }
}
