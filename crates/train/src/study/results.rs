//! What the finished runs of a study say.

use std::path::Path;

use serde::Serialize;

use super::report::JSON;
use super::{Run, Statement, Study, StudyKind};
use crate::checkpoint::{Inputs, load_inputs};
use crate::error::Error;
use crate::recipe::Recipe;
use crate::teacher::Teacher;
use crate::trainer::{LAST_CHECKPOINT, METRICS, Metrics, read_metrics};

/// Marks a run whose loss was no longer finite; holds the update.
const DIVERGED: &str = "diverged.txt";

/// How a run ended, or stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Trained to its last update; PSNR of the last model on the validation images (not the best
    /// one, which would be chosen on the images it is judged by).
    Finished {
        /// Of the model.
        psnr_db: f64,
        /// Of bicubic interpolation.
        bicubic_psnr_db: f64,
        /// Time spent on updates.
        seconds: f64,
    },
    /// Its loss was not finite.
    Diverged {
        /// At this update.
        update: u64,
    },
    /// Not done yet.
    Open {
        /// Updates done.
        updates: u64,
    },
}

impl Outcome {
    fn psnr_db(self) -> Option<f64> {
        match self {
            Self::Finished { psnr_db, .. } => Some(psnr_db),
            _ => None,
        }
    }
}

/// Whether a statement held at the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// With every seed.
    Held,
    /// With no seed.
    NotHeld,
    /// With some seeds only: the spread is larger than the difference.
    Undecided,
    /// Its runs are not finished.
    Open,
}

/// A statement with what the runs say to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// The statement.
    #[serde(flatten)]
    pub statement: Statement,
    /// Whether it held.
    pub verdict: Verdict,
    /// PSNR of the better minus that of the worse, for each seed where both finished.
    pub differences_db: Vec<f64>,
    /// Seeds with which the worse alone diverged (which counts for the statement), the better
    /// alone, and both (which count against it).
    pub diverged: [usize; 3],
}

impl Judged {
    /// Mean of the differences.
    pub fn mean_db(&self) -> Option<f64> {
        mean(&self.differences_db)
    }
}

/// What the runs of a study have come to.
#[derive(Clone, Debug)]
pub struct Results {
    /// For each configuration, the outcome with each seed.
    pub outcomes: Vec<Vec<Outcome>>,
    /// For each configuration, the metrics with each seed.
    pub metrics: Vec<Vec<Vec<Metrics>>>,
    /// In the study's order.
    pub statements: Vec<Judged>,
}

impl Study {
    /// How a run stands in its folder.
    ///
    /// # Errors
    /// When the folder holds a run with other settings, or cannot be read.
    pub fn outcome(&self, folder: &Path, run: &Run) -> Result<Outcome, Error> {
        let folder = self.run_folder(folder, run);
        let recipe_path = folder.join("recipe.toml");
        if !recipe_path.exists() {
            return Ok(Outcome::Open { updates: 0 });
        }
        let written = Recipe::load(&recipe_path, None)?;
        if let Some(difference) = run.recipe.difference(&written) {
            let reason = format!(
                "holds a run with other settings ({difference}); give the study another --out, or \
                 the same settings"
            );
            return Err(Error::Study {
                path: folder,
                reason,
            });
        }
        let marked = folder.join(DIVERGED);
        if marked.exists() {
            let text = std::fs::read_to_string(&marked);
            let text = text.map_err(|source| Error::io(&marked, "read", source))?;
            let update = text.trim().parse().unwrap_or(0);
            return Ok(Outcome::Diverged { update });
        }
        let metrics = read_metrics(&folder.join(METRICS))?;
        let Some(last) = metrics
            .last()
            .filter(|_| folder.join(LAST_CHECKPOINT).exists())
        else {
            return Ok(Outcome::Open { updates: 0 });
        };
        if last.update < run.recipe.training.updates {
            return Ok(Outcome::Open {
                updates: last.update,
            });
        }
        match (last.psnr_db, last.bicubic_psnr_db) {
            (Some(psnr_db), Some(bicubic_psnr_db)) => Ok(Outcome::Finished {
                psnr_db,
                bicubic_psnr_db,
                seconds: last.seconds,
            }),
            _ => Err(Error::Study {
                path: folder,
                reason: "has no validation images, without which there is nothing to compare; \
                         give --validation or --validation-images"
                    .to_owned(),
            }),
        }
    }

    /// Refuses a folder that this study cannot go on in, before anything is trained: one that holds
    /// another study, or runs with other settings, other images (`fingerprint` is that of
    /// [`Images`](crate::images::Images)) or another teacher.
    ///
    /// # Errors
    /// When it is one of these, the teacher does not serve, or a file cannot be read.
    pub fn check(&self, folder: &Path, fingerprint: &str) -> Result<(), Error> {
        let refused = |path: &Path, reason: String| Error::Study {
            path: path.to_owned(),
            reason,
        };
        let report = folder.join(JSON);
        if report.exists() {
            let text = std::fs::read_to_string(&report)
                .map_err(|source| Error::io(&report, "read", source))?;
            let there: Option<StudyKind> = serde_json::from_str::<serde_json::Value>(&text)
                .ok()
                .and_then(|report| serde_json::from_value(report["study"].clone()).ok());
            if let Some(there) = there.filter(|there| *there != self.kind) {
                let reason = format!(
                    "the report of a study {there}, expected one of {}; give the study another --out",
                    self.kind
                );
                return Err(refused(&report, reason));
            }
        }
        let isa = wdsr_kernels::Isa::detect()?;
        for run in self.runs() {
            self.outcome(folder, &run)?;
            let inputs = Inputs {
                images: Some(fingerprint.to_owned()),
                teacher: Teacher::load(&run.recipe, isa)?.map(|t| t.fingerprint().to_owned()),
            };
            let checkpoint = self.run_folder(folder, &run).join(LAST_CHECKPOINT);
            if !checkpoint.exists() {
                continue;
            }
            if let Some(what) = load_inputs(&checkpoint)?.difference(&inputs) {
                let reason = format!(
                    "holds a run with other {what}; give the study another --out, or the same"
                );
                return Err(refused(&self.run_folder(folder, &run), reason));
            }
        }
        Ok(())
    }

    /// Notes that a run's loss was no longer finite, so that it is not tried again.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn mark_diverged(&self, folder: &Path, run: &Run, update: u64) -> Result<(), Error> {
        let path = self.run_folder(folder, run).join(DIVERGED);
        wdsr_image::write_atomically(&path, format!("{update}\n").as_bytes())?;
        Ok(())
    }

    /// Reads what the runs in a folder have come to.
    ///
    /// # Errors
    /// When a run has other settings, or a file cannot be read.
    pub fn results(&self, folder: &Path) -> Result<Results, Error> {
        let mut outcomes = vec![Vec::new(); self.configurations.len()];
        let mut metrics = vec![Vec::new(); self.configurations.len()];
        for run in self.runs() {
            outcomes[run.configuration].push(self.outcome(folder, &run)?);
            let path = self.run_folder(folder, &run).join(METRICS);
            metrics[run.configuration].push(read_metrics(&path)?);
        }
        let of = |name: &str| -> &[Outcome] {
            let at = self.configurations.iter().position(|c| c.name == name);
            at.map_or(&[], |at| &outcomes[at])
        };
        let statements = self
            .statements
            .iter()
            .map(|statement| judge(statement, of(&statement.better), of(&statement.worse)))
            .collect();
        Ok(Results {
            outcomes,
            metrics,
            statements,
        })
    }
}

/// Compares two configurations seed by seed: the same seed is the same order of patches.
pub(super) fn judge(statement: &Statement, better: &[Outcome], worse: &[Outcome]) -> Judged {
    let mut differences_db = Vec::new();
    let mut diverged = [0; 3];
    let mut open = better.is_empty();
    for pair in better.iter().zip(worse) {
        match pair {
            (Outcome::Finished { .. }, Outcome::Diverged { .. }) => diverged[0] += 1,
            (Outcome::Diverged { .. }, Outcome::Finished { .. }) => diverged[1] += 1,
            (Outcome::Diverged { .. }, Outcome::Diverged { .. }) => diverged[2] += 1,
            (better, worse) => match (better.psnr_db(), worse.psnr_db()) {
                (Some(better), Some(worse)) => differences_db.push(better - worse),
                _ => open = true,
            },
        }
    }
    let won = differences_db
        .iter()
        .filter(|d| **d > -statement.margin_db)
        .count()
        + diverged[0];
    let seeds = differences_db.len() + diverged.iter().sum::<usize>();
    let verdict = match won {
        _ if open => Verdict::Open,
        won if won == seeds => Verdict::Held,
        0 => Verdict::NotHeld,
        _ => Verdict::Undecided,
    };
    Judged {
        statement: statement.clone(),
        verdict,
        differences_db,
        diverged,
    }
}

pub(super) fn mean(values: &[f64]) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.iter().sum::<f64>() / count as f64)
}
