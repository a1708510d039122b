//! Gradients of the loss by a network's convolutions and batch normalisations.

use wdsr_model::{ConvWeights, Network};

/// Gradients by the merged convolutions, and by factor and offset of each batch normalisation.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// In the order of `Network::convs`.
    pub convs: Vec<ConvWeights>,
    /// Factor and offset, in the order of `Network::batch_norms`.
    pub norms: Vec<[Vec<f32>; 2]>,
}

impl Gradients {
    /// Zeros in the shapes of a network's tensors.
    pub fn zeros(network: &Network) -> Self {
        let convs = network
            .convs
            .iter()
            .map(|conv| ConvWeights {
                weight: vec![0.0; conv.weights()],
                bias: vec![0.0; conv.out_channels],
                slopes: Vec::new(),
            })
            .collect();
        let norms = network
            .batch_norms
            .iter()
            .map(|n| [vec![0.0; n.channels], vec![0.0; n.channels]])
            .collect();
        Self { convs, norms }
    }

    /// All gradients, one after the other.
    pub fn to_vec(&self) -> Vec<f32> {
        self.tensors().flatten().copied().collect()
    }

    /// Replaces the gradients by those of [`to_vec`](Self::to_vec).
    ///
    /// # Panics
    /// If their number differs.
    pub fn copy_from(&mut self, values: &[f32]) {
        let mut rest = values;
        for tensor in self.tensors_mut() {
            let (own, later) = rest.split_at(tensor.len());
            tensor.copy_from_slice(own);
            rest = later;
        }
        assert!(rest.is_empty(), "{} gradients too many", rest.len());
    }

    /// Multiplies all gradients by a factor.
    pub fn scale(&mut self, factor: f32) {
        self.tensors_mut()
            .flatten()
            .for_each(|value| *value *= factor);
    }

    fn tensors(&self) -> impl Iterator<Item = &Vec<f32>> {
        self.convs
            .iter()
            .flat_map(|c| [&c.weight, &c.bias])
            .chain(self.norms.iter().flatten())
    }

    fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        self.convs
            .iter_mut()
            .flat_map(|c| [&mut c.weight, &mut c.bias])
            .chain(self.norms.iter_mut().flatten())
    }
}
