//! Outcomes of the runs of a study, and verdicts on its statements.

use std::path::Path;

use serde::{Serialize, Serializer};
use wdsr_kernels::Isa;
use wdsr_train::checkpoint::load_inputs;
use wdsr_train::metrics::read_metrics;
use wdsr_train::run_folder::{LAST_CHECKPOINT, METRICS, RECIPE};
use wdsr_train::state::InputFingerprints;
use wdsr_train::teacher::TeacherModel;
use wdsr_train::{Metrics, Overrides, Recipe, decibels};

use crate::error::Error;
use crate::kind::StudyKind;
use crate::study::{PlannedRun, Study};
use crate::table::Statement;

/// The file that marks a run whose loss was not finite; it contains the update.
const DIVERGED: &str = "diverged.txt";
/// Name of the JSON report.
pub(crate) const JSON_REPORT: &str = "report.json";

/// The outcome of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Trained to its last update.
    Finished {
        /// PSNR of the last model on the validation images. (The best model would be selected on
        /// the images that it is judged by.)
        #[serde(with = "decibels")]
        psnr_db: f64,
        /// PSNR of bicubic interpolation.
        #[serde(with = "decibels")]
        bicubic_psnr_db: f64,
        /// Time spent on updates.
        seconds: f64,
    },
    /// The loss was not finite.
    Diverged {
        /// The update that failed.
        update: u64,
    },
    /// Not finished.
    Open {
        /// Updates done.
        updates: u64,
    },
}

impl Outcome {
    /// Whether the model is worse than bicubic interpolation.
    fn is_below_bicubic(&self) -> bool {
        matches!(self, Self::Finished { psnr_db, bicubic_psnr_db, .. } if psnr_db < bicubic_psnr_db)
    }
}

/// Whether a statement held at the budget of the study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// With every seed.
    Held,
    /// With no seed.
    NotHeld,
    /// With some seeds: the spread is larger than the difference.
    Undecided,
    /// No verdict: with some seed no network reached bicubic interpolation, so the budget is too
    /// small to compare them.
    Untrained,
    /// No verdict yet: some runs are not finished.
    Open,
}

/// A statement and its verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JudgedStatement {
    /// The statement.
    #[serde(flatten)]
    pub statement: Statement,
    /// Its verdict.
    pub verdict: Verdict,
    /// PSNR of the better minus that of the worse configuration, for each seed with which both
    /// finished.
    #[serde(serialize_with = "serialize_all")]
    pub differences_db: Vec<f64>,
    /// Number of seeds with which only the worse configuration diverged (which supports the
    /// statement), only the better one, and both (which contradict it).
    pub diverged: [usize; 3],
}

impl JudgedStatement {
    /// Mean of the differences.
    pub fn mean_db(&self) -> Option<f64> {
        mean(&self.differences_db)
    }
}

/// The results of a study so far.
#[derive(Clone, Debug)]
pub struct Results {
    /// For each configuration, the outcome with each seed.
    pub outcomes: Vec<Vec<Outcome>>,
    /// For each configuration, the metrics with each seed.
    pub metrics: Vec<Vec<Vec<Metrics>>>,
    /// The statements in the study's order.
    pub statements: Vec<JudgedStatement>,
}

impl Study {
    /// The outcome of a run.
    ///
    /// # Errors
    /// If its folder contains a run with other settings, or cannot be read.
    pub fn outcome(&self, folder: &Path, run: &PlannedRun) -> Result<Outcome, Error> {
        let metrics = read_metrics(&self.run_folder(folder, run).join(METRICS))?;
        self.outcome_of(folder, run, &metrics)
    }

    fn outcome_of(
        &self,
        folder: &Path,
        run: &PlannedRun,
        metrics: &[Metrics],
    ) -> Result<Outcome, Error> {
        let folder = self.run_folder(folder, run);
        let recipe_path = folder.join(RECIPE);
        if !recipe_path.exists() {
            return Ok(Outcome::Open { updates: 0 });
        }
        let written = Recipe::load(&recipe_path, Overrides::default())?;
        if let Some(difference) = run.recipe.difference(&written) {
            return Err(Error::OtherSettings { folder, difference });
        }
        let marker = folder.join(DIVERGED);
        if marker.exists() {
            let text = std::fs::read_to_string(&marker);
            let text = text.map_err(|source| Error::io(&marker, "read", source))?;
            let update = text.trim().parse().unwrap_or(0);
            return Ok(Outcome::Diverged { update });
        }
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
            _ => Err(Error::NoValidation(folder)),
        }
    }

    /// Checks, before anything is trained, that the study can be resumed in a folder: that it has no
    /// other study, and no run with other settings, another dataset or another teacher.
    /// `dataset_fingerprint` is that of [`Dataset`](wdsr_train::dataset::Dataset).
    ///
    /// # Errors
    /// If the folder has one of these, the teacher cannot be used, or a file cannot be read.
    pub fn check(&self, folder: &Path, dataset_fingerprint: &str) -> Result<(), Error> {
        self.check_report(&folder.join(JSON_REPORT))?;
        let isa = Isa::detect()?;
        for run in self.runs() {
            self.outcome(folder, &run)?;
            let teacher = TeacherModel::load(&run.recipe, isa)?;
            let inputs = InputFingerprints {
                dataset: Some(dataset_fingerprint.to_owned()),
                teacher: teacher.map(|t| t.fingerprint().to_owned()),
            };
            let folder = self.run_folder(folder, &run);
            let checkpoint = folder.join(LAST_CHECKPOINT);
            if !checkpoint.exists() {
                continue;
            }
            if let Some(difference) = load_inputs(&checkpoint)?.difference(&inputs) {
                return Err(Error::OtherInputs { folder, difference });
            }
        }
        Ok(())
    }

    /// Checks that a report is of this study.
    fn check_report(&self, report: &Path) -> Result<(), Error> {
        if !report.exists() {
            return Ok(());
        }
        let text = std::fs::read_to_string(report);
        let text = text.map_err(|source| Error::io(report, "read", source))?;
        let found: Option<StudyKind> = serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|report| serde_json::from_value(report["study"].clone()).ok());
        match found.filter(|found| *found != self.kind) {
            Some(found) => Err(Error::OtherStudy {
                report: report.to_owned(),
                expected: self.kind,
                found,
            }),
            None => Ok(()),
        }
    }

    /// Marks a run whose loss was not finite, so that it is not repeated.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn mark_diverged(&self, folder: &Path, run: &PlannedRun, update: u64) -> Result<(), Error> {
        let path = self.run_folder(folder, run).join(DIVERGED);
        wdsr_image::write_atomically(&path, format!("{update}\n").as_bytes())?;
        Ok(())
    }

    /// Reads the results of the runs in a folder.
    ///
    /// # Errors
    /// If a run has other settings, or a file cannot be read.
    pub fn results(&self, folder: &Path) -> Result<Results, Error> {
        let mut outcomes = vec![Vec::new(); self.configurations.len()];
        let mut metrics = vec![Vec::new(); self.configurations.len()];
        for run in self.runs() {
            let of_run = read_metrics(&self.run_folder(folder, &run).join(METRICS))?;
            outcomes[run.configuration].push(self.outcome_of(folder, &run, &of_run)?);
            metrics[run.configuration].push(of_run);
        }
        let outcomes_of = |name: &str| -> &[Outcome] {
            let at = self.configurations.iter().position(|c| c.name == name);
            at.map_or(&[], |at| &outcomes[at])
        };
        let judge = |statement: &Statement| {
            let (better, worse) = (&statement.better, &statement.worse);
            judge(statement, outcomes_of(better), outcomes_of(worse))
        };
        let statements = self.statements.iter().map(judge).collect();
        Ok(Results {
            outcomes,
            metrics,
            statements,
        })
    }
}

/// Compares two configurations seed by seed: a seed determines the order of the patches.
pub(crate) fn judge(
    statement: &Statement,
    better: &[Outcome],
    worse: &[Outcome],
) -> JudgedStatement {
    let mut differences_db = Vec::new();
    let mut diverged = [0; 3];
    let mut is_open = better.is_empty();
    let mut is_untrained = false;
    for (better, worse) in better.iter().zip(worse) {
        let reached_bicubic = [better, worse].map(|outcome| {
            matches!(outcome, Outcome::Finished { .. }) && !outcome.is_below_bicubic()
        });
        let is_below = better.is_below_bicubic() || worse.is_below_bicubic();
        is_untrained |= is_below && reached_bicubic == [false; 2];
        match (*better, *worse) {
            (Outcome::Open { .. }, _) | (_, Outcome::Open { .. }) => is_open = true,
            (Outcome::Finished { .. }, Outcome::Diverged { .. }) => diverged[0] += 1,
            (Outcome::Diverged { .. }, Outcome::Finished { .. }) => diverged[1] += 1,
            (Outcome::Diverged { .. }, Outcome::Diverged { .. }) => diverged[2] += 1,
            (Outcome::Finished { psnr_db: a, .. }, Outcome::Finished { psnr_db: b, .. }) => {
                // The difference of two infinite figures is not a number.
                differences_db.push(if a == b { 0.0 } else { a - b });
            }
        }
    }
    let wins = |d: &&f64| **d > -statement.margin_db;
    let won = differences_db.iter().filter(wins).count() + diverged[0];
    let seeds = differences_db.len() + diverged.iter().sum::<usize>();
    let verdict = match won {
        _ if is_open => Verdict::Open,
        _ if is_untrained => Verdict::Untrained,
        won if won == seeds => Verdict::Held,
        0 => Verdict::NotHeld,
        _ => Verdict::Undecided,
    };
    JudgedStatement {
        statement: statement.clone(),
        verdict,
        differences_db,
        diverged,
    }
}

pub(crate) fn mean(values: &[f64]) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.iter().sum::<f64>() / count as f64)
}

/// A PSNR or a difference in JSON ([`decibels`]).
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Decibels(#[serde(with = "decibels")] pub(crate) f64);

fn serialize_all<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().copied().map(Decibels))
}
