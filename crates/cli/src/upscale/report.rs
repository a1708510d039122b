//! What became of each input: lines for people, and the report for other programs, a line of JSON each.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use wdsr_upscale::{Damage, Summary};

use super::metadata::Warnings;

/// What became of an input.
#[derive(Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and most are done"
)]
pub(super) enum Outcome {
    /// Upscaled.
    Done {
        output: String,
        width_px: usize,
        height_px: usize,
        /// Of an animation.
        #[serde(skip_serializing_if = "is_one")]
        frames: usize,
        /// Of a TIFF file; the rest is about the first.
        #[serde(skip_serializing_if = "is_one")]
        pages: usize,
        /// The first row of a band, and the row after its last.
        #[serde(skip_serializing_if = "Option::is_none")]
        rows: Option<[usize; 2]>,
        /// Passes of networks and resizing.
        steps: String,
        /// The kind of built-in models, or the file.
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Of a model with a strength.
        #[serde(skip_serializing_if = "Option::is_none")]
        strength: Option<f32>,
        /// The damage of the image, if it was looked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        damage: Option<String>,
        /// What was chosen by the damage, for people.
        #[serde(skip)]
        choice_text: Option<String>,
        seconds: f64,
        /// What computed the networks, unless that is the processor as by default.
        #[serde(skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// Metadata that the result lacks although it was to be copied.
        #[serde(rename = "left_out", skip_serializing_if = "Vec::is_empty")]
        dropped: Vec<String>,
    },
    /// The result of an earlier run has the same input, model and settings.
    UpToDate {
        output: String,
    },
    /// A file of the result's name exists (`--if-exists skip`).
    Skipped {
        output: String,
    },
    Failed {
        error: String,
    },
    /// The batch ended before.
    NotTried {
        reason: &'static str,
    },
}

impl Outcome {
    /// `model` is the name of the models that made the result.
    pub(super) fn done(output: &Path, model: &str, summary: &Summary, duration: Duration) -> Self {
        let has_passes = !summary.plan.passes().is_empty();
        let found = match (summary.choice, summary.strength) {
            (Some(choice), _) => Some(choice.damage),
            (None, strength) => strength.map(|strength| strength.damage),
        };
        let damage = found.filter(|damage| *damage != Damage::Given);
        Self::Done {
            output: shown(output),
            width_px: summary.plan.target().width_px,
            height_px: summary.plan.target().height_px,
            frames: summary.frames,
            pages: summary.pages,
            rows: summary.band.as_ref().map(|rows| [rows.start, rows.end]),
            steps: summary.plan.to_string(),
            model: has_passes.then(|| model.to_owned()),
            strength: summary.strength.map(|strength| strength.value),
            damage: damage.map(|damage| damage.to_string()),
            choice_text: match (summary.choice, summary.strength) {
                (Some(_), Some(strength)) => Some(format!("{model} at {strength}")),
                (Some(choice), None) => Some(format!("{model} ({})", choice.damage)),
                (None, strength) => strength.map(|strength| strength.to_string()),
            },
            seconds: duration.as_secs_f64(),
            device: None,
            dropped: summary.dropped.clone(),
        }
    }

    /// With the device that computed the image.
    pub(super) fn on_device(mut self, used: Option<String>) -> Self {
        if let Self::Done { device, .. } = &mut self {
            *device = used;
        }
        self
    }

    /// Lines for people, with the warnings that are new. Failures have none, as their errors have been
    /// printed, nor have images that were not tried, which the last line counts.
    pub(super) fn lines(
        &self,
        input: &str,
        warnings: &mut Warnings,
        is_batch: bool,
    ) -> Vec<String> {
        match self {
            Self::Done {
                output,
                width_px,
                height_px,
                frames,
                pages,
                rows,
                steps,
                choice_text,
                seconds,
                device,
                dropped,
                ..
            } => {
                let mut size = format!("{width_px} x {height_px}");
                for (count, noun) in [(*frames, "frames"), (*pages, "pages")] {
                    if count > 1 {
                        size += &format!(", {count} {noun}");
                    }
                }
                if let Some([start, end]) = rows {
                    size += &format!(", rows {start}:{end}");
                }
                let device = device.as_ref().map(|device| format!("on {device}"));
                let choice = choice_text.iter().chain(&device);
                let choice: String = choice.map(|text| format!("; {text}")).collect();
                let mut lines = vec![format!(
                    "{input} -> {output} ({size}: {steps}{choice}; {seconds:.1} s)"
                )];
                lines.extend(warnings.new_ones(input, dropped, is_batch));
                lines
            }
            Self::UpToDate { output } => vec![format!("{input}: {output} is up to date")],
            Self::Skipped { output } => vec![format!("{input}: skipped, {output} exists")],
            Self::Failed { .. } | Self::NotTried { .. } => Vec::new(),
        }
    }
}

/// Whether a count is not worth a word.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_one(frames: &usize) -> bool {
    *frames == 1
}

#[derive(Serialize)]
struct Line<'a> {
    /// A path by [`shown`].
    input: &'a str,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// A path in the report, its bytes escaped where they are not UTF-8.
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

/// The report's file, if there is one.
pub(super) struct BatchReport(Option<(PathBuf, File)>);

impl BatchReport {
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
