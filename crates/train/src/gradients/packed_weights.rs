//! The weights of an update, packed for the kernels.

use rayon::prelude::*;
use wdsr_kernels::{Isa, PackedConv2d, PointwisePair, Precision};
use wdsr_model::{ConvWeights, Network};

use super::steps::Step;

/// The weights of an update.
pub(super) struct PackedWeights<'w> {
    convs: Vec<PackedConv>,
    /// Factor and offset of each batch normalisation.
    pub(super) norms: &'w [[&'w [f32]; 2]],
}

/// A convolution in the form that its step needs.
enum PackedConv {
    Single {
        forward: PackedConv2d,
        backward: PackedConv2d,
    },
    /// The first convolution of a pair, together with the second.
    Pair(PointwisePair),
    /// The second convolution of a pair.
    InPair,
}

impl<'w> PackedWeights<'w> {
    pub(super) fn new(
        network: &Network,
        steps: &[Step],
        isa: Isa,
        precision: Precision,
        convs: &[ConvWeights],
        norms: &'w [[&'w [f32]; 2]],
    ) -> Self {
        assert_eq!(convs.len(), network.convs.len(), "convolutions");
        assert_eq!(
            norms.len(),
            network.batch_norms.len(),
            "batch normalisations"
        );
        let mut second_of = vec![None; convs.len()];
        let mut in_pair = vec![false; convs.len()];
        for step in steps {
            if let Step::Pair { first, second, .. } = *step {
                second_of[first] = Some(second);
                in_pair[second] = true;
            }
        }
        let pack = |conv: usize| {
            let (shape, w) = (&network.convs[conv], &convs[conv]);
            let (i, o, k) = (shape.in_channels, shape.out_channels, shape.kernel);
            if in_pair[conv] {
                return PackedConv::InPair;
            }
            match second_of[conv] {
                Some(second) => PackedConv::Pair(PointwisePair::new(
                    isa,
                    precision,
                    (&w.weight, &w.bias),
                    (&convs[second].weight, &convs[second].bias),
                    i,
                )),
                None => PackedConv::Single {
                    forward: PackedConv2d::forward(isa, precision, &w.weight, &w.bias, i, o, k),
                    backward: PackedConv2d::backward(isa, precision, &w.weight, i, o, k),
                },
            }
        };
        Self {
            convs: (0..convs.len()).into_par_iter().map(pack).collect(),
            norms,
        }
    }

    /// A convolution that is not in a pair, forwards.
    pub(super) fn forward(&self, conv: usize) -> &PackedConv2d {
        match &self.convs[conv] {
            PackedConv::Single { forward, .. } => forward,
            _ => unreachable!("convolution {conv} is in a pair"),
        }
    }

    /// A convolution that is not in a pair, backwards.
    pub(super) fn backward(&self, conv: usize) -> &PackedConv2d {
        match &self.convs[conv] {
            PackedConv::Single { backward, .. } => backward,
            _ => unreachable!("convolution {conv} is in a pair"),
        }
    }

    /// The pair whose first convolution is `conv`.
    pub(super) fn pair(&self, conv: usize) -> &PointwisePair {
        match &self.convs[conv] {
            PackedConv::Pair(pair) => pair,
            _ => unreachable!("convolution {conv} is not the first of a pair"),
        }
    }
}
