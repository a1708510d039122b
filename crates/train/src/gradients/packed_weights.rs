//! The weights of an update, packed for the kernels.

use rayon::prelude::*;
use wdsr_kernels::{Isa, PlanesConv, PlanesPair, Precision};
use wdsr_model::{ConvWeights, FusedOperation, Network};

/// The weights of an update.
pub(super) struct PackedWeights<'w> {
    convs: Vec<PackedConv>,
    /// Factor and offset of each batch normalisation.
    pub(super) norms: &'w [[&'w [f32]; 2]],
}

/// A convolution in the form that its step needs.
enum PackedConv {
    Single(PlanesConv),
    /// The first convolution of a pair, together with the second.
    Pair(PlanesPair),
    /// The second convolution of a pair.
    InPair,
}

impl<'w> PackedWeights<'w> {
    pub(super) fn new(
        network: &Network,
        steps: &[FusedOperation],
        (isa, precision): (Isa, Precision),
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
            if let FusedOperation::PointwisePair { expand, reduce, .. } = *step {
                second_of[expand] = Some(reduce);
                in_pair[reduce] = true;
            }
        }
        let layer = |conv: usize| network.convs[conv].layer(&convs[conv]);
        let pack = |conv: usize| match second_of[conv] {
            _ if in_pair[conv] => PackedConv::InPair,
            Some(second) => {
                let (expand, reduce) = (layer(conv), layer(second));
                PackedConv::Pair(PlanesPair::new(isa, precision, expand, reduce))
            }
            None => PackedConv::Single(PlanesConv::new(isa, precision, layer(conv))),
        };
        Self {
            convs: (0..convs.len()).into_par_iter().map(pack).collect(),
            norms,
        }
    }

    /// A convolution that is not in a pair.
    pub(super) fn conv(&self, conv: usize) -> &PlanesConv {
        match &self.convs[conv] {
            PackedConv::Single(packed) => packed,
            _ => unreachable!("convolution {conv} is in a pair"),
        }
    }

    /// The pair whose first convolution is `conv`.
    pub(super) fn pair(&self, conv: usize) -> &PlanesPair {
        match &self.convs[conv] {
            PackedConv::Pair(pair) => pair,
            _ => unreachable!("convolution {conv} is not the first of a pair"),
        }
    }
}
