//! The average of several models' weights.

use std::collections::BTreeMap;

use crate::config::NetworkConfig;
use crate::model::{ConvWeights, Model};

/// Two models that cannot be averaged: `at` differs from the first.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct AverageError {
    /// Index of the other model.
    pub at: usize,
    /// The network of the first.
    pub expected: String,
    /// The network of the other one.
    pub found: String,
}

impl Model {
    /// The model whose weights are the means of those of `models`: several ends of one training
    /// (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization").
    /// Models of different trainings average to nothing useful.
    ///
    /// # Errors
    /// If their networks differ, or only some have a strength.
    ///
    /// # Panics
    /// If there is no model.
    pub fn average(models: &[Self]) -> Result<Self, AverageError> {
        let first = models.first().expect("models to average");
        let describe = |config: &NetworkConfig, has_strength: bool| {
            let strength = if has_strength { " with a strength" } else { "" };
            format!("{config:?}{strength}")
        };
        for (at, other) in models.iter().enumerate() {
            let networks = [first, other].map(|m| (m.config(), m.strong().is_some()));
            if networks[0] != networks[1] {
                let [expected, found] = networks.map(|(config, strong)| describe(config, strong));
                return Err(AverageError {
                    at,
                    expected,
                    found,
                });
            }
        }
        let notes = BTreeMap::from([("average_of_models".to_owned(), models.len().to_string())]);
        let convs: Vec<_> = models.iter().map(Self::convs).collect();
        let average = Self::new(first.config(), mean_of_each(&convs), notes);
        let strong: Vec<_> = models.iter().filter_map(Self::strong).collect();
        Ok(match strong.is_empty() {
            true => average,
            false => average.with_strong(mean_of_each(&strong)),
        })
    }
}

/// The mean of each convolution over models of one network.
fn mean_of_each(models: &[&[ConvWeights]]) -> Vec<ConvWeights> {
    let mean = |values: fn(&ConvWeights) -> &[f32], conv: usize| -> Vec<f32> {
        let len = values(&models[0][conv]).len();
        let at = |index| {
            let sum: f64 = models
                .iter()
                .map(|m| f64::from(values(&m[conv])[index]))
                .sum();
            (sum / models.len() as f64) as f32
        };
        (0..len).map(at).collect()
    };
    let convs = 0..models[0].len();
    convs
        .map(|conv| ConvWeights {
            weight: mean(|c| &c.weight, conv),
            bias: mean(|c| &c.bias, conv),
            slopes: mean(|c| &c.slopes, conv),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_is_the_mean_of_each_weight() {
        let config = NetworkConfig::wdsr_b(8, 2, 2);
        let [a, b] = [1, 2].map(|seed| Model::random(&config, seed));
        let strong = |model: &Model| model.clone().with_strong(b.convs().to_vec());
        let average = Model::average(&[strong(&a), strong(&b)]).expect("an average");
        let [mean, of_a, of_b] = [&average, &a, &b].map(|m| m.convs()[1].weight[7]);
        assert!((mean - (of_a + of_b) / 2.0).abs() < 1e-7, "{mean}");
        assert_eq!(average.strong(), Some(b.convs()));
        // Of one model: its very weights.
        assert_eq!(
            Model::average(std::slice::from_ref(&a))
                .expect("one")
                .convs(),
            a.convs()
        );
    }

    #[test]
    fn other_networks_are_named() {
        let models = [2, 3].map(|scale| Model::random(&NetworkConfig::wdsr_b(8, 2, scale), 1));
        let error = Model::average(&models).expect_err("scales differ");
        assert!(error.at == 1 && error.found.contains("scale: 3"), "{error}");
        let strong = models[0].clone().with_strong(models[0].convs().to_vec());
        let error = Model::average(&[models[0].clone(), strong]).expect_err("one has a strength");
        assert!(error.found.contains("with a strength"), "{error}");
    }
}
