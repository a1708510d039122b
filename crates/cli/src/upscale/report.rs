//! The report of a batch for other programs: a line of JSON for each input.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

/// What became of an input.
#[derive(Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(super) enum Outcome {
    /// Upscaled.
    Done {
        output: String,
        width_px: usize,
        height_px: usize,
        /// Passes of networks and resizing, in words.
        steps: String,
        seconds: f64,
        /// Metadata of the input that the result does not have, though it was to be kept.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        left_out: Vec<String>,
    },
    /// An earlier run made the result from the same input, model and settings.
    UpToDate { output: String },
    /// A file of the result's name exists (`--if-exists skip`).
    Skipped { output: String },
    /// Not upscaled.
    Failed { error: String },
}

impl Outcome {
    /// A line for people, `None` for failures, whose errors have been printed.
    pub(super) fn remark(&self, input: &str) -> Option<String> {
        Some(match self {
            Self::Done {
                output,
                width_px,
                height_px,
                steps,
                seconds,
                ..
            } => format!("{input} -> {output} ({width_px} x {height_px}: {steps}; {seconds:.1} s)"),
            Self::UpToDate { output } => format!("{input}: {output} is up to date"),
            Self::Skipped { output } => format!("{input}: skipped, {output} exists"),
            Self::Failed { .. } => return None,
        })
    }
}

#[derive(Serialize)]
struct Line<'a> {
    /// As [`shown`].
    input: &'a str,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// A path in the report: as it is, or with its bytes escaped where they are no UTF-8.
pub(super) fn shown(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => path
            .as_os_str()
            .as_encoded_bytes()
            .escape_ascii()
            .to_string(),
    }
}

/// The file, if one is asked for.
pub(super) struct Report(Option<(PathBuf, File)>);

impl Report {
    pub(super) fn create(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else {
            return Ok(Self(None));
        };
        let file = File::create(path)
            .with_context(|| format!("{}: cannot write the report", path.display()))?;
        Ok(Self(Some((path.to_owned(), file))))
    }

    /// Adds a line.
    pub(super) fn add(&mut self, input: &str, outcome: &Outcome) -> anyhow::Result<()> {
        let Some((path, file)) = &mut self.0 else {
            return Ok(());
        };
        let mut line = serde_json::to_string(&Line { input, outcome })?;
        line.push('\n');
        file.write_all(line.as_bytes())
            .with_context(|| format!("{}: cannot write the report", path.display()))
    }
}
