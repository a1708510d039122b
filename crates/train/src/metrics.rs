//! The metrics log of a run, `metrics.jsonl`: one JSON object a line for each validation.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::decibels;
use crate::error::Error;

/// The metrics of a validation. A PSNR is a number in JSON, `"inf"` if all pixels are equal, and
/// `null` without validation images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Updates done.
    pub update: u64,
    /// Mean loss since the last validation.
    pub loss: f64,
    /// Learning rate of the last update.
    pub learning_rate: f64,
    /// Mean PSNR of the validation images by the recipe's protocol.
    #[serde(default, with = "decibels::option")]
    pub psnr_db: Option<f64>,
    /// The same for bicubic interpolation.
    #[serde(default, with = "decibels::option")]
    pub bicubic_psnr_db: Option<f64>,
    /// Speed since the last validation, the validation itself excluded.
    pub patches_per_second: f64,
    /// Time spent on the updates of the run so far.
    pub seconds: f64,
    /// Time of the validation, in seconds since 1970.
    #[serde(default)]
    pub unix_seconds: f64,
}

impl Metrics {
    fn line(&self) -> String {
        let json = serde_json::to_string(self)
            .unwrap_or_else(|e| unreachable!("metrics are plain JSON: {e}"));
        json + "\n"
    }

    /// Appends a line to a metrics log.
    pub(crate) fn append_to(&self, path: &Path) -> Result<(), Error> {
        let append = || {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.create(true).append(true).open(path)?;
            file.write_all(self.line().as_bytes())
        };
        append().map_err(|source| Error::io(path, "write", source))
    }
}

/// Reads a metrics log. Skips lines that are incomplete because the disk was full or the process was
/// killed. Returns no metrics if there is no log.
///
/// # Errors
/// If the log cannot be read.
pub fn read_metrics(path: &Path) -> Result<Vec<Metrics>, Error> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, "read", source))?;
    let lines = text.lines();
    Ok(lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// Removes the lines after an update from a metrics log, as these updates will be repeated. Returns
/// the remaining metrics.
pub(crate) fn truncate_metrics(path: &Path, updates: u64) -> Result<Vec<Metrics>, Error> {
    let mut metrics = read_metrics(path)?;
    metrics.retain(|metrics| metrics.update <= updates);
    if path.exists() {
        let text: String = metrics.iter().map(Metrics::line).collect();
        wdsr_image::write_atomically(path, text.as_bytes())?;
    }
    Ok(metrics)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(psnr_db: Option<f64>) -> Metrics {
        Metrics {
            update: 7,
            loss: 0.25,
            learning_rate: 1e-3,
            psnr_db,
            bicubic_psnr_db: Some(31.5),
            patches_per_second: 100.0,
            seconds: 1.0,
            unix_seconds: 2.0,
        }
    }

    #[test]
    fn psnr_is_a_number_inf_or_null() {
        for (psnr_db, expected) in [
            (Some(33.25), "\"psnr_db\":33.25,"),
            (Some(f64::INFINITY), "\"psnr_db\":\"inf\","),
            (None, "\"psnr_db\":null,"),
        ] {
            let line = metrics(psnr_db).line();
            assert!(line.contains(expected), "{line}");
            let again: Metrics = serde_json::from_str(&line).expect("metrics");
            assert_eq!(again, metrics(psnr_db));
        }
    }

    #[test]
    fn truncation_removes_later_and_incomplete_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        assert_eq!(truncate_metrics(&path, 7).expect("no log"), []);
        let later = Metrics {
            update: 8,
            ..metrics(None)
        };
        metrics(None).append_to(&path).expect("written");
        later.append_to(&path).expect("written");
        let text = std::fs::read_to_string(&path).expect("read");
        std::fs::write(&path, format!("{text}{{\"update\":")).expect("written");
        assert_eq!(read_metrics(&path).expect("read"), [metrics(None), later]);
        assert_eq!(truncate_metrics(&path, 7).expect("read"), [metrics(None)]);
        assert_eq!(read_metrics(&path).expect("read"), [metrics(None)]);
    }
}
