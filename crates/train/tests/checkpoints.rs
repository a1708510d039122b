//! What a checkpoint remembers comes back, and files that are neither model nor checkpoint are
//! named.

use wdsr_model::{Model, Network};
use wdsr_testing::paths::{built_in_model, checkout};
use wdsr_train::checkpoint::{Inputs, State, load_inputs, load_model};
use wdsr_train::parameters::Layout;
use wdsr_train::{Initialization, Recipe};

#[test]
fn what_a_training_remembers_survives_its_checkpoint() {
    let recipe = Recipe::parse(
        "[network]\nfeatures = 4\nblocks = 1\nnorm = \"batch\"",
        None,
    )
    .expect("a recipe");
    let network = Network::for_training(&recipe.network);
    let layout = Layout::new(&network, false);
    let mut state = State::initial(&network, &layout, Initialization::Pytorch, 3);
    state.updates = 70;
    state.adam.updates = 70;
    state.best_psnr_db = Some(31.25);
    state.rollbacks = 2;
    state.learning_rate_factor = 0.25;
    state.went_back_to = Some(60);
    state.inputs = Inputs {
        images: Some("0123abcd".to_owned()),
        teacher: None,
    };
    state.running[0].mean[1] = 0.5;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("last.checkpoint");
    state
        .save(&path, &recipe, &network, &layout)
        .expect("saved");
    let loaded = State::load(&path, &recipe, &network, &layout).expect("loaded");
    assert_eq!(loaded, state);
    assert_eq!(load_inputs(&path).expect("loaded"), state.inputs);
    // Cut short anywhere, it is refused by name.
    let bytes = std::fs::read(&path).expect("bytes");
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).expect("written");
        let error = State::load(&path, &recipe, &network, &layout).expect_err("cut short");
        assert!(error.to_string().contains("last.checkpoint"), "{error}");
        let error = load_model(&path).expect_err("cut short");
        assert!(error.to_string().contains("last.checkpoint"), "{error}");
    }
    // One bit changed among its numbers.
    let mut changed = bytes.clone();
    let last = changed.len() - 3;
    changed[last] ^= 1;
    std::fs::write(&path, &changed).expect("written");
    let error = State::load(&path, &recipe, &network, &layout).expect_err("damaged");
    let text = error.to_string();
    assert!(
        text.contains("checksum") && text.contains("best.checkpoint"),
        "{text}"
    );
    // A state that is not finite says so, and is not taken for one.
    state.adam.second_moment[0] = f32::NAN;
    assert!(!state.is_finite());
    state
        .save(&path, &recipe, &network, &layout)
        .expect("saved");
    let error = State::load(&path, &recipe, &network, &layout).expect_err("not finite");
    assert!(error.to_string().contains("not finite"), "{error}");
}

#[test]
fn models_are_read_as_such() {
    let path = built_in_model("small-x2");
    let model = load_model(&path).expect("a model");
    assert_eq!(model.convs(), Model::load(&path).expect("a model").convs());
    let error = load_model(&checkout("README.md")).expect_err("no model");
    assert!(error.to_string().contains("README.md"), "{error}");
}
