//! Starting from a model's weights: which are copied, and when the function stays the same.

use std::collections::BTreeMap;

use wdsr_kernels::{Isa, Planes};
use wdsr_model::{Model, Network, NetworkConfig, Norm};
use wdsr_train::gradients::{Batch, GradientEngine};
use wdsr_train::parameters::ParameterLayout;
use wdsr_train::start::{StartSummary, start_from};
use wdsr_train::state::TrainingState;
use wdsr_train::{Initialization, StartError};

/// A model with random weights.
fn model(config: &NetworkConfig, seed: u64) -> Model {
    let network = Network::for_training(config);
    let layout = ParameterLayout::new(&network, false);
    let state = TrainingState::initial(&network, &layout, Initialization::Pytorch, seed);
    let convs = layout.folded(&network, &state.parameters, &state.running);
    Model::new(config, convs, BTreeMap::new())
}

fn batch(scale: usize) -> Batch {
    let planes = |side: usize| {
        let mut planes = Planes::zeros(3, side, side);
        let values: Vec<f32> = (0..3 * side * side)
            .map(|i| ((i * i * 31 + 7 * i) % 251) as f32 / 251.0)
            .collect();
        planes.copy_from_chw(&values);
        planes
    };
    Batch {
        low: vec![planes(9)],
        high: vec![planes(9 * scale)],
        taught: Vec::new(),
    }
}

struct Started {
    summary: StartSummary,
    /// Of one batch, and its gradient by the parameters.
    loss: f64,
    layout: ParameterLayout,
    parameters: Vec<f32>,
    gradient: Vec<f32>,
}

fn start(model: &Model, to: &NetworkConfig, insert_blocks: bool) -> Result<Started, StartError> {
    let network = Network::for_training(to);
    let layout = ParameterLayout::new(&network, false);
    let mut parameters = layout.initial(&network, Initialization::Pytorch, 99);
    let summary = start_from(model, insert_blocks, &network, &layout, &mut parameters)?;
    let engine = GradientEngine::new(network.clone(), Isa::detect().expect("an ISA"));
    let convs = layout.convs(&network, &parameters);
    let result = engine.run(&convs, &layout.norms(&parameters), &batch(to.scale));
    let gradient = layout.gradient(&parameters, &result.gradients);
    Ok(Started {
        summary,
        loss: result.loss,
        layout,
        parameters,
        gradient,
    })
}

fn loss(model: &Model) -> f64 {
    let engine = GradientEngine::new(model.network().clone(), Isa::detect().expect("an ISA"));
    engine
        .run(model.convs(), &[], &batch(model.config().scale))
        .loss
}

fn close(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() < 1e-6 * expected,
        "loss {found}, expected {expected}"
    );
}

fn plain(config: NetworkConfig) -> NetworkConfig {
    NetworkConfig {
        norm: Norm::None,
        ..config
    }
}

#[test]
fn a_copied_network_is_the_same_function() {
    for config in [
        NetworkConfig::wdsr_a(6, 2, 2),
        NetworkConfig::wdsr_b(10, 2, 3),
        NetworkConfig::edsr(6, 2, 2),
    ] {
        let model = model(&config, 1);
        for norm in [Norm::Weight, Norm::None] {
            let to = NetworkConfig {
                norm,
                ..config.clone()
            };
            let started = start(&model, &to, false).expect("it fits");
            assert!(started.summary.random.is_empty(), "{}", started.summary);
            close(started.loss, loss(&model));
        }
    }
}

#[test]
fn another_scale_copies_head_and_body() {
    let model = model(&NetworkConfig::wdsr_b(10, 3, 2), 1);
    let to = NetworkConfig::wdsr_b(10, 3, 4);
    let started = start(&model, &to, false).expect("it fits");
    assert_eq!(
        started.summary.to_string(),
        "copied head.0, body.0 to body.2; random: tail.0, skip.0"
    );
    let network = Network::for_training(&to);
    let convs = started.layout.convs(&network, &started.parameters);
    for (conv, (found, expected)) in network.convs.iter().zip(convs.iter().zip(model.convs())) {
        if started.summary.copied.contains(&conv.name) {
            let far = found.weight.iter().zip(&expected.weight);
            let far = far.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-6, "{}: {far}", conv.name);
            assert_eq!(found.bias, expected.bias, "{}", conv.name);
        }
    }
}

#[test]
fn inserted_blocks_keep_the_function_and_have_gradients() {
    for (from, to) in [
        (
            NetworkConfig::wdsr_a(6, 2, 2),
            NetworkConfig::wdsr_a(6, 5, 2),
        ),
        (
            NetworkConfig::wdsr_b(10, 2, 2),
            NetworkConfig::wdsr_b(10, 4, 2),
        ),
        (NetworkConfig::edsr(6, 2, 2), NetworkConfig::edsr(6, 3, 2)),
        (
            plain(NetworkConfig::wdsr_b(10, 2, 2)),
            plain(NetworkConfig::wdsr_b(10, 3, 2)),
        ),
    ] {
        let model = model(&from, 1);
        let started = start(&model, &to, true).expect("it fits");
        let inserted = to.blocks - from.blocks;
        assert_eq!(
            started.summary.inserted.len(),
            inserted,
            "{}",
            started.summary
        );
        assert!(started.summary.random.is_empty(), "{}", started.summary);
        close(started.loss, loss(&model));
        // The zero convolution of each inserted block has a gradient.
        for block in &started.summary.inserted {
            let last = started
                .layout
                .tensors
                .iter()
                .rfind(|tensor| tensor.name.starts_with(&format!("body.{block}.body.")))
                .expect("a tensor");
            let (conv, _) = last.name.rsplit_once('.').expect("a name");
            let moving = started.layout.tensors.iter().any(|tensor| {
                let gain = tensor.name == format!("{conv}.weight_g");
                let weight = tensor.name == format!("{conv}.weight");
                let gradient = &started.gradient[tensor.range.clone()];
                (gain || weight) && gradient.iter().any(|g| *g != 0.0)
            });
            assert!(moving, "{conv} of {}", to.label());
        }
        assert!(started.gradient.iter().all(|g| g.is_finite()));
    }
}

#[test]
fn blocks_are_spread_evenly() {
    let model = model(&NetworkConfig::wdsr_a(4, 3, 2), 1);
    let started = start(&model, &NetworkConfig::wdsr_a(4, 7, 2), true).expect("it fits");
    assert_eq!(started.summary.inserted, [1, 3, 5, 6]);
}

#[test]
fn a_channel_of_zeros_stays_trainable_under_weight_normalisation() {
    let config = NetworkConfig::wdsr_a(6, 1, 2);
    let mut convs = model(&config, 1).convs().to_vec();
    let row = convs[1].weight.len() / convs[1].bias.len();
    convs[1].weight[..row].fill(0.0);
    let model = Model::new(&config, convs, BTreeMap::new());
    let started = start(&model, &config, false).expect("it fits");
    close(started.loss, loss(&model));
    assert!(started.gradient.iter().all(|g| g.is_finite()));
}

#[test]
fn refuses_models_that_do_not_fit_and_reports_differences() {
    let small = model(&NetworkConfig::wdsr_b(10, 2, 2), 1);
    let refused = |to: &NetworkConfig, insert: bool| match start(&small, to, insert) {
        Err(error) => error.to_string(),
        Ok(started) => panic!("accepted: {}", started.summary),
    };
    // Not deeper; deeper and wider.
    assert!(refused(&NetworkConfig::wdsr_b(10, 2, 2), true).contains("with more blocks"));
    assert!(refused(&NetworkConfig::wdsr_b(20, 4, 2), true).contains("with more blocks"));
    let reason = refused(&NetworkConfig::edsr(7, 2, 4), false);
    assert!(reason.contains("no convolution"), "{reason}");
    let other_mean = NetworkConfig {
        mean: [0.5; 3],
        ..NetworkConfig::wdsr_b(10, 2, 2)
    };
    let summary = start(&small, &other_mean, false).expect("it fits").summary;
    assert!(summary.to_string().contains("mean is"), "{summary}");
}
