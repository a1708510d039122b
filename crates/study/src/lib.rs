//! Reports on trainings.
//!
//! [`TrainingReporter`] writes the report and the TensorBoard events of a training from the events
//! of its [`Trainer`](wdsr_train::Trainer). [`Study`] repeats a published table as trainings with
//! equal budgets and reports which statements held.
#![forbid(unsafe_code)]

mod crop;
mod error;
mod kind;
mod page;
mod plot;
mod reporter;
mod results;
mod study;
mod study_report;
mod table;
mod tensorboard;
#[cfg(test)]
mod tests;
mod training_report;

pub use error::Error;
pub use kind::StudyKind;
pub use reporter::{REPORT, TrainingReporter};
pub use results::{JudgedStatement, Outcome, Results, Verdict};
pub use study::{PlannedRun, Study};
pub use study_report::STUDY_REPORTS;
pub use table::{Configuration, PUBLISHED_UPDATES, Published, Statement, StudyOptions};
