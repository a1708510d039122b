//! Checkpoints are read back as they were written, and corrupt files are refused by name.

use wdsr_model::{Model, Network};
use wdsr_testing::paths::{built_in_model, checkout};
use wdsr_train::checkpoint::{self, load_inputs, load_model};
use wdsr_train::parameters::ParameterLayout;
use wdsr_train::state::{InputFingerprints, TrainingState};
use wdsr_train::{Initialization, Recipe};

#[test]
fn loads_what_was_saved_and_refuses_corrupt_files() {
    let recipe = Recipe::parse(
        "[network]\nfeatures = 4\nblocks = 1\nnorm = \"batch\"",
        None,
    )
    .expect("a recipe");
    let network = Network::for_training(&recipe.network);
    let layout = ParameterLayout::new(&network, false);
    let mut state = TrainingState::initial(&network, &layout, Initialization::Pytorch, 3);
    state.updates = 70;
    state.adam.updates = 70;
    state.best_psnr_db = Some(31.25);
    state.rollbacks = 2;
    state.learning_rate_factor = 0.25;
    state.rolled_back_to = Some(60);
    state.inputs = InputFingerprints {
        dataset: Some("0123abcd".to_owned()),
        teacher: None,
    };
    state.running[0].mean[1] = 0.5;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("last.checkpoint");
    checkpoint::save(&path, &state, &recipe, &network, &layout).expect("saved");
    let loaded = checkpoint::load(&path, &recipe, &network, &layout).expect("loaded");
    assert_eq!(loaded, state);
    assert_eq!(load_inputs(&path).expect("loaded"), state.inputs);
    // Truncated anywhere, it is refused by name.
    let bytes = std::fs::read(&path).expect("bytes");
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).expect("written");
        let error = checkpoint::load(&path, &recipe, &network, &layout).expect_err("truncated");
        assert!(error.to_string().contains("last.checkpoint"), "{error}");
        let error = load_model(&path).expect_err("truncated");
        assert!(error.to_string().contains("last.checkpoint"), "{error}");
    }
    // One bit of a tensor changed.
    let mut changed = bytes.clone();
    let last = changed.len() - 3;
    changed[last] ^= 1;
    std::fs::write(&path, &changed).expect("written");
    let error = checkpoint::load(&path, &recipe, &network, &layout).expect_err("corrupt");
    let text = error.to_string();
    assert!(
        text.contains("checksum") && text.contains("best.checkpoint"),
        "{text}"
    );
    // A state that is not finite is refused.
    state.adam.second_moment[0] = f32::NAN;
    assert!(!state.is_finite());
    checkpoint::save(&path, &state, &recipe, &network, &layout).expect("saved");
    let error = checkpoint::load(&path, &recipe, &network, &layout).expect_err("not finite");
    assert!(error.to_string().contains("not finite"), "{error}");
}

#[test]
fn loads_the_model_of_a_model_file() {
    let path = built_in_model("small-x2");
    let model = load_model(&path).expect("a model");
    assert_eq!(model.convs(), Model::load(&path).expect("a model").convs());
    let error = load_model(&checkout("README.md")).expect_err("no model");
    assert!(error.to_string().contains("README.md"), "{error}");
}

/// Writes a checkpoint with other metadata, and loads it.
fn load_with_metadata(
    change: impl FnOnce(&mut std::collections::HashMap<String, String>),
) -> (TrainingState, TrainingState) {
    let text = "[network]\nfeatures = 4\nblocks = 1";
    let recipe = Recipe::parse(text, None).expect("a recipe");
    let network = Network::for_training(&recipe.network);
    let layout = ParameterLayout::new(&network, false);
    let mut state = TrainingState::initial(&network, &layout, Initialization::Pytorch, 3);
    state.inputs.dataset = Some("0123abcd".to_owned());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("last.checkpoint");
    checkpoint::save(&path, &state, &recipe, &network, &layout).expect("saved");
    let bytes = std::fs::read(&path).expect("bytes");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
    let mut metadata = header.metadata().clone().expect("metadata");
    change(&mut metadata);
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    let older = safetensors::serialize(tensors.iter(), Some(metadata)).expect("serialised");
    std::fs::write(&path, older).expect("written");
    let loaded = checkpoint::load(&path, &recipe, &network, &layout).expect("loaded");
    (loaded, state)
}

#[test]
fn loads_checkpoints_without_rollbacks_and_fingerprints() {
    let (loaded, mut state) = load_with_metadata(|metadata| {
        for key in [
            "rollbacks",
            "learning_rate_factor",
            "went_back_to",
            "images",
            "teacher",
            "crc32c",
        ] {
            assert!(metadata.remove(key).is_some(), "no {key}");
        }
    });
    state.inputs = InputFingerprints::default();
    assert_eq!(loaded, state);
}
