//! The part of a training that needs no images: a resumed or an initial state in a locked folder.

use std::fs::File;
use std::path::Path;

use wdsr_kernels::{Isa, Precision};
use wdsr_model::{Int8Scales, Model, Network};

use crate::checkpoint::{self, load_model};
use crate::clean::clean_model;
use crate::error::{CheckpointError, Error};
use crate::int8::{int8_scales, with_int8_biases};
use crate::parameters::ParameterLayout;
use crate::ranks::{Ranks, wait_for_first};
use crate::recipe::Recipe;
use crate::run_folder::{BEST_CHECKPOINT, CLEAN_MODEL, LAST_CHECKPOINT, STABLE_CHECKPOINT, lock};
use crate::start::{StartSummary, start_from};
use crate::state::TrainingState;
use crate::teacher::TeacherModel;

pub(super) struct Setup {
    pub(super) recipe: Recipe,
    pub(super) network: Network,
    pub(super) layout: ParameterLayout,
    pub(super) state: TrainingState,
    pub(super) start: Option<StartSummary>,
    pub(super) teacher: Option<TeacherModel>,
    /// The model at strength 0.
    pub(super) clean: Option<Model>,
    /// The scales for int8.
    pub(super) int8: Option<Vec<Int8Scales>>,
    pub(super) isa: Isa,
    pub(super) lock: Option<File>,
}

impl Setup {
    /// The ranks after the first wait for its files.
    pub(super) fn new(
        recipe: Recipe,
        folder: &Path,
        resume: bool,
        ranks: &dyn Ranks,
    ) -> Result<Self, Error> {
        let isa = Isa::detect()?;
        let network = Network::for_training(&recipe.network);
        let layout = ParameterLayout::new(&network, recipe.training.branches);
        let teacher = TeacherModel::load(&recipe, isa)?;
        if ranks.rank() > 0 {
            wait_for_first(ranks);
            let last = folder.join(LAST_CHECKPOINT);
            let state = if resume {
                checkpoint::load(&last, &recipe, &network, &layout)?
            } else {
                initial_state(&recipe, &network, &layout)?.0
            };
            let clean = match &recipe.strength {
                Some(_) => Some(load_model(&folder.join(CLEAN_MODEL))?),
                None => None,
            };
            let int8 = int8_scales(&recipe, folder, true)?;
            return Ok(Self {
                recipe,
                network,
                layout,
                state,
                start: None,
                teacher,
                clean,
                int8,
                isa,
                lock: None,
            });
        }
        if !resume {
            std::fs::create_dir_all(folder)
                .map_err(|source| Error::io(folder, "create", source))?;
        }
        let lock = lock(folder)?;
        let last = folder.join(LAST_CHECKPOINT);
        let (state, start) = if resume {
            (resumed_state(&recipe, folder, &network, &layout)?, None)
        } else if last.exists() {
            return Err(Error::RunExists { checkpoint: last });
        } else {
            initial_state(&recipe, &network, &layout)?
        };
        let first = || layout.convs(&network, &state.parameters);
        let clean = clean_model(&recipe, folder, resume, &network, first)?;
        let int8 = int8_scales(&recipe, folder, resume)?;
        wait_for_first(ranks);
        Ok(Self {
            recipe,
            network,
            layout,
            state,
            start,
            teacher,
            clean,
            int8,
            isa,
            lock: Some(lock),
        })
    }
}

/// Checks that the ranks compute the same training.
pub(super) fn check_same(
    ranks: &dyn Ranks,
    recipe: &Recipe,
    state: &TrainingState,
    precision: Precision,
) -> Result<(), Error> {
    let own = [
        ("program", env!("CARGO_PKG_VERSION").to_owned()),
        ("recipe", recipe.to_json()),
        ("dataset", format!("{:?}", state.inputs)),
        ("state", state.updates.to_string()),
        ("precision", precision.name().to_owned()),
    ];
    for (what, own) in own {
        let own = crc32c::crc32c(own.as_bytes()).to_le_bytes();
        let mut first = own;
        ranks.share(0, &mut first);
        if first != own {
            let rank = ranks.rank();
            return Err(Error::RanksDiffer { rank, what });
        }
    }
    Ok(())
}

/// The state of [`LAST_CHECKPOINT`]; if that has begun a cool-down which the recipe does not have there,
/// that of [`STABLE_CHECKPOINT`], from which the run then goes on for good.
fn resumed_state(
    recipe: &Recipe,
    folder: &Path,
    network: &Network,
    layout: &ParameterLayout,
) -> Result<TrainingState, Error> {
    let [last, best, stable] =
        [LAST_CHECKPOINT, BEST_CHECKPOINT, STABLE_CHECKPOINT].map(|name| folder.join(name));
    let load = |path: &Path| checkpoint::load(path, recipe, network, layout);
    let error = match load(&last) {
        Err(error) if stable.exists() => error,
        result => return result,
    };
    let (Error::Checkpoint { source, .. }, Ok(state)) = (&error, load(&stable)) else {
        return Err(error);
    };
    if !matches!(source, CheckpointError::OtherRecipe(_)) {
        return Err(error);
    }
    // A rollback goes to the best checkpoint, which may be one of the cool-down.
    for path in [best, last] {
        checkpoint::save(&path, &state, recipe, network, layout)?;
    }
    Ok(state)
}

/// The state before the first update: random weights, and those of the model that the recipe starts
/// from where they fit.
pub(super) fn initial_state(
    recipe: &Recipe,
    network: &Network,
    layout: &ParameterLayout,
) -> Result<(TrainingState, Option<StartSummary>), Error> {
    let (start, seed) = (&recipe.start, recipe.training.seed);
    let mut state = TrainingState::initial(network, layout, start.initialization, seed);
    let Some(path) = &start.from else {
        return Ok((state, None));
    };
    let mut model = load_model(path)?;
    if recipe.training.int8 {
        model = with_int8_biases(model);
    }
    let parameters = &mut state.parameters;
    let summary = start_from(&model, start.insert_blocks, network, layout, parameters);
    let summary = summary.map_err(|source| Error::Start {
        path: path.clone(),
        source,
    })?;
    state.average.clone_from(&state.parameters);
    Ok((state, Some(summary)))
}
