//! Published tables as runs with equal budgets.
//!
//! A study is a list of configurations, each a recipe, trained with several seeds. Each run has its
//! own folder, so an interrupted study can be resumed; the report is made from the finished runs.

use std::path::{Path, PathBuf};

use wdsr_train::Recipe;

use crate::error::Error;
use crate::kind::StudyKind;
use crate::table::{Configuration, Statement, StudyOptions, Table};

/// A study.
#[derive(Clone, Debug)]
pub struct Study {
    /// The published table.
    pub kind: StudyKind,
    /// The settings that its runs share.
    pub options: StudyOptions,
    /// The configurations, in the order of the report.
    pub configurations: Vec<Configuration>,
    /// The published statements about them.
    pub statements: Vec<Statement>,
}

/// A run of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRun {
    /// Index of its configuration in [`Study::configurations`].
    pub configuration: usize,
    /// Its seed.
    pub seed: u64,
    /// The configuration's recipe with this seed.
    pub recipe: Recipe,
}

impl Study {
    /// The configurations and statements of a published table.
    ///
    /// # Errors
    /// If an option is out of range or has no effect, or the options do not make valid recipes.
    pub fn new(kind: StudyKind, options: StudyOptions) -> Result<Self, Error> {
        let Table {
            configurations,
            statements,
            ..
        } = Table::new(kind, &options)?;
        for configuration in &configurations {
            // Parsing checks the values.
            Recipe::parse(&configuration.recipe.to_toml(), None)?;
        }
        Ok(Self {
            kind,
            options,
            configurations,
            statements,
        })
    }

    /// All runs, one seed after the other, so that every configuration has a result early.
    pub fn runs(&self) -> Vec<PlannedRun> {
        let with_seed = |seed| {
            let configurations = self.configurations.iter().enumerate();
            configurations.map(move |(configuration, c)| {
                let mut recipe = c.recipe.clone();
                recipe.training.seed = seed;
                PlannedRun {
                    configuration,
                    seed,
                    recipe,
                }
            })
        };
        (1..=self.options.seeds).flat_map(with_seed).collect()
    }

    /// The folder of a run in the folder of the study.
    pub fn run_folder(&self, folder: &Path, run: &PlannedRun) -> PathBuf {
        let name = &self.configurations[run.configuration].name;
        folder.join("runs").join(format!("{name}-seed{}", run.seed))
    }
}
