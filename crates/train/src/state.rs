//! The state of a training between two updates.

use std::collections::BTreeMap;

use wdsr_model::{Model, Network};

use crate::error::InputDifference;
use crate::optimizer::Adam;
use crate::parameters::{ParameterLayout, RunningStatistics};
use crate::recipe::{Initialization, Recipe};

/// Everything that a training needs to be resumed to the same bits, besides its recipe and inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingState {
    /// Updates done.
    pub updates: u64,
    /// The parameter vector ([`ParameterLayout`]).
    pub parameters: Vec<f32>,
    /// Moving average of the parameter vector.
    pub average: Vec<f32>,
    /// The optimiser's moments.
    pub adam: Adam,
    /// Running statistics of each batch normalisation.
    pub running: Vec<RunningStatistics>,
    /// PSNR of the best validation so far.
    pub best_psnr_db: Option<f64>,
    /// Time spent on updates so far.
    pub seconds: f64,
    /// Updates since the last validation.
    pub unvalidated_updates: u64,
    /// Sum of their losses.
    pub unvalidated_losses: f64,
    /// Rollbacks so far.
    pub rollbacks: u32,
    /// Factor on the schedule's learning rate since the last rollback.
    pub learning_rate_factor: f64,
    /// Update of the checkpoint that the last rollback went to.
    pub rolled_back_to: Option<u64>,
    /// Fingerprints of the inputs.
    pub inputs: InputFingerprints,
}

/// Fingerprints of the inputs of a training; none if there is no such input or a checkpoint of an
/// older version does not have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputFingerprints {
    /// Of the image names, sizes and weights: [`Dataset::fingerprint`](crate::dataset::Dataset).
    pub dataset: Option<String>,
    /// Of the teacher's file.
    pub teacher: Option<String>,
}

impl InputFingerprints {
    /// The first input that differs. An unknown fingerprint is equal to any.
    pub fn difference(&self, other: &Self) -> Option<InputDifference> {
        let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
        if differ(&self.dataset, &other.dataset) {
            Some(InputDifference::Dataset)
        } else if differ(&self.teacher, &other.teacher) {
            Some(InputDifference::Teacher)
        } else {
            None
        }
    }
}

impl TrainingState {
    /// The state before the first update.
    pub fn initial(
        network: &Network,
        layout: &ParameterLayout,
        initialization: Initialization,
        seed: u64,
    ) -> Self {
        let parameters = layout.initial(network, initialization, seed);
        let channels = network.batch_norms.iter().map(|norm| norm.channels);
        Self {
            updates: 0,
            average: parameters.clone(),
            adam: Adam::new(parameters.len()),
            parameters,
            running: channels.map(RunningStatistics::new).collect(),
            best_psnr_db: None,
            seconds: 0.0,
            unvalidated_updates: 0,
            unvalidated_losses: 0.0,
            rollbacks: 0,
            learning_rate_factor: 1.0,
            rolled_back_to: None,
            inputs: InputFingerprints::default(),
        }
    }

    /// The last update that the metrics log may have a line for. A state that waits for its validation
    /// was saved before it, whether that came to its end or not.
    pub(crate) fn last_logged_update(&self) -> u64 {
        self.updates - self.unvalidated_updates.min(1)
    }

    /// Whether all parameters, moments and statistics are finite.
    pub fn is_finite(&self) -> bool {
        let vectors = self.vectors().into_iter().map(|(_, values)| values);
        let running = self.running.iter().flat_map(|r| [&r.mean, &r.variance]);
        vectors
            .chain(running)
            .all(|values| values.iter().all(|v| v.is_finite()))
    }

    /// The model of the averaged weights (the weights themselves if the recipe does not average).
    pub fn model(&self, recipe: &Recipe, network: &Network, layout: &ParameterLayout) -> Model {
        let convs = layout.folded(network, &self.average, &self.running);
        let mut notes = BTreeMap::from([
            ("recipe".to_owned(), recipe.to_json()),
            ("updates".to_owned(), self.updates.to_string()),
        ]);
        if let Some(psnr_db) = self.best_psnr_db {
            notes.insert("best_psnr_db".to_owned(), psnr_db.to_string());
        }
        Model::new(&recipe.network, convs, notes)
    }

    /// The vectors of the parameters' length, by their names in a checkpoint.
    pub(crate) fn vectors(&self) -> [(&'static str, &Vec<f32>); 4] {
        [
            ("parameters", &self.parameters),
            ("average", &self.average),
            ("first_moment", &self.adam.first_moment),
            ("second_moment", &self.adam.second_moment),
        ]
    }
}
