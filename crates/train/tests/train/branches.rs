//! 3x3 convolutions that are trained as sums of branches, and initial weights.

use wdsr_model::{ConvWeights, Network, NetworkConfig, Norm};
use wdsr_testing::random::signed_units;
use wdsr_train::Initialization;
use wdsr_train::parameters::{Gradients, ParameterLayout};

fn config() -> NetworkConfig {
    NetworkConfig::wdsr_b(4, 2, 2)
}

/// A parameter vector with non-zero branches.
fn random_parameters(layout: &ParameterLayout, network: &Network) -> Vec<f32> {
    let mut parameters = layout.initial(network, Initialization::Pytorch, 3);
    let noise = signed_units(parameters.len(), 4);
    parameters
        .iter_mut()
        .zip(noise)
        .for_each(|(p, n)| *p += 0.3 * n);
    parameters
}

/// The sum of all weights and biases, each times its own number.
fn probe(convs: &[ConvWeights], by_conv: &Gradients) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    let pairs = convs.iter().zip(&by_conv.convs);
    pairs
        .map(|(c, g)| dot(&c.weight, &g.weight) + dot(&c.bias, &g.bias))
        .sum()
}

#[test]
fn gradients_by_branches_match_finite_differences() {
    for norm in [Norm::Weight, Norm::None] {
        let network = Network::for_training(&NetworkConfig { norm, ..config() });
        let layout = ParameterLayout::new(&network, true);
        let parameters = random_parameters(&layout, &network);
        let mut by_conv = Gradients::zeros(&network);
        for (at, conv) in by_conv.convs.iter_mut().enumerate() {
            conv.weight = signed_units(conv.weight.len(), 50 + at as u64);
            conv.bias = signed_units(conv.bias.len(), 90 + at as u64);
        }
        let gradient = layout.gradient(&parameters, &by_conv);
        for tensor in &layout.tensors {
            for at in tensor.range.clone().step_by(tensor.range.len().div_ceil(5)) {
                let step = 1e-2;
                let moved = |by: f32| {
                    let mut moved = parameters.clone();
                    moved[at] += by;
                    probe(&layout.convs(&network, &moved), &by_conv)
                };
                let expected = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
                let found = f64::from(gradient[at]);
                assert!(
                    (found - expected).abs() < 2e-3 * (1.0 + expected.abs()),
                    "{} at {at}: {found}, expected {expected}",
                    tensor.name
                );
            }
        }
    }
}

#[test]
fn branches_start_as_the_function_without_them() {
    let network = Network::for_training(&config());
    let convs = |branches: bool| {
        let layout = ParameterLayout::new(&network, branches);
        let parameters = layout.initial(&network, Initialization::Pytorch, 8);
        (layout.len(), layout.convs(&network, &parameters))
    };
    let ((plain_len, plain), (len, with_branches)) = (convs(false), convs(true));
    assert!(
        len > plain_len,
        "{len} parameters with branches, {plain_len} without"
    );
    assert_eq!(with_branches, plain);
}

#[test]
fn set_weights_are_the_merged_ones() {
    let network = Network::for_training(&NetworkConfig {
        norm: Norm::None,
        ..config()
    });
    let layout = ParameterLayout::new(&network, true);
    let mut parameters = random_parameters(&layout, &network);
    let before = layout.convs(&network, &parameters);
    for (at, conv) in before.iter().enumerate() {
        let wanted = ConvWeights {
            weight: signed_units(conv.weight.len(), 7),
            bias: signed_units(conv.bias.len(), 9),
            slopes: Vec::new(),
        };
        layout.set_conv(at, &wanted, &mut parameters);
        assert_eq!(layout.convs(&network, &parameters)[at], wanted);
        layout.set_zero(at, &mut parameters);
        let zero = &layout.convs(&network, &parameters)[at];
        assert!(
            zero.weight.iter().chain(&zero.bias).all(|w| *w == 0.0),
            "{at}"
        );
    }
}

#[test]
fn reloaded_initialization_sets_gains_and_biases() {
    let network = Network::for_training(&NetworkConfig::wdsr_b(4, 4, 2));
    let layout = ParameterLayout::new(&network, false);
    let [plain, reloaded] = [Initialization::Pytorch, Initialization::Reloaded]
        .map(|initialization| layout.initial(&network, initialization, 5));
    let gains = [
        ("head.0", 1.0),
        ("body.1.body.0", 2.0),
        ("body.1.body.2", 2.0),
        ("body.3.body.3", 0.5),
        ("tail.0", 1.0),
        ("skip.0", 1.0),
    ];
    for tensor in &layout.tensors {
        let found = &reloaded[tensor.range.clone()];
        let (key, part) = tensor.name.rsplit_once('.').expect("a key");
        match part {
            "weight_v" => assert_eq!(found, &plain[tensor.range.clone()], "{key}"),
            "bias" => assert!(found.iter().all(|b| *b == 0.0), "{key}"),
            _ => {
                if let Some((_, gain)) = gains.iter().find(|(name, _)| *name == key) {
                    assert!(found.iter().all(|g| g == gain), "{key}: {found:?}");
                }
            }
        }
    }
    let names: Vec<&str> = layout.tensors.iter().map(|s| s.name.as_str()).collect();
    for (key, _) in gains {
        assert!(
            names.contains(&format!("{key}.weight_g").as_str()),
            "{key} of {names:?}"
        );
    }
}
