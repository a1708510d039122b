//! The range of pixels that a network was trained on, and its conversion to 0..1.
//!
//! A network f that was trained on k (x - m), x in 0..1, computes y = f(k (x - m)) / k + m. Models of
//! wdsr have k = 1, so the first convolution is multiplied by k and the last ones, with their biases,
//! are divided by k. WDSR's skip is both first and last: its weights stay, its bias is divided.

use wdsr_model::{ConvWeights, Network};

use crate::convolutions::Convolutions;

/// The range of the pixels that a network was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// 0..1: x - m, as ychfan/wdsr.
    Unit,
    /// (255 x - 255 m) / 127.5, as the official WDSR, yjn870 and krasserm.
    Signed,
    /// 0..255: 255 x - 255 m, as EDSR-PyTorch.
    Byte,
}

impl Range {
    /// k.
    pub(crate) fn factor(self) -> f32 {
        match self {
            Self::Unit => 1.0,
            Self::Signed => 2.0,
            Self::Byte => 255.0,
        }
    }
}

/// The conversion of a pixel x in 0..1 to the input of a network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct InputConvention {
    pub(crate) range: Range,
    /// m, R G B in 0..1.
    pub(crate) mean: [f32; 3],
}

impl InputConvention {
    /// The formula.
    pub(crate) fn text(&self) -> String {
        let formula = match self.range {
            Range::Unit => "x - m",
            Range::Signed => "(255 x - 255 m) / 127.5",
            Range::Byte => "255 x - 255 m",
        };
        let [r, g, b] = self.mean;
        format!("{formula}, m = ({r}, {g}, {b})")
    }

    /// Removes the 1x1 convolutions `sub_mean` and `add_mean`, in which EDSR-PyTorch and its
    /// descendants store the convention, and reads it from them.
    ///
    /// # Errors
    /// If they do more than subtract and add a mean.
    pub(crate) fn take_from(convs: &mut Convolutions) -> Result<Option<Self>, String> {
        let (sub, add) = match (convs.remove("sub_mean"), convs.remove("add_mean")) {
            (None, None) => return Ok(None),
            (Some(sub), Some(add)) => (sub, add),
            _ => return Err("expected both `sub_mean` and `add_mean`, found one".to_owned()),
        };
        let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let is_identity = |weights: &ConvWeights| weights.weight == identity;
        let opposite = || {
            let pairs = sub.weights.bias.iter().zip(&add.weights.bias);
            pairs.into_iter().all(|(sub, add)| *sub == -*add)
        };
        let (true, true, true, [r, g, b]) = (
            is_identity(&sub.weights),
            is_identity(&add.weights),
            opposite(),
            &add.weights.bias[..],
        ) else {
            return Err(
                "expected `sub_mean` and `add_mean` to subtract a mean and add it again".to_owned(),
            );
        };
        let range = if [r, g, b].into_iter().any(|m| *m > 1.0) {
            Range::Byte
        } else {
            Range::Unit
        };
        let mean = [r, g, b].map(|m| m / range.factor());
        Ok(Some(Self { range, mean }))
    }

    /// Converts the weights of `network` to inputs x - m.
    pub(crate) fn fold(&self, network: &Network, weights: &mut [ConvWeights]) {
        let k = self.range.factor();
        rescale(network, weights, k, 1.0 / k);
    }
}

impl Range {
    /// Converts the weights of `network` from inputs x - m to those of this range.
    pub(crate) fn unfold(self, network: &Network, weights: &mut [ConvWeights]) {
        let k = self.factor();
        rescale(network, weights, 1.0 / k, k);
    }
}

/// Multiplies the weights that read the image by `input`, and what is written to it by `output`, its
/// inverse.
fn rescale(network: &Network, weights: &mut [ConvWeights], input: f32, output: f32) {
    let (reads, writes) = (network.input_convs(), network.output_convs());
    for (conv, ConvWeights { weight, bias, .. }) in weights.iter_mut().enumerate() {
        let (reads, writes) = (reads.contains(&conv), writes.contains(&conv));
        if reads && !writes {
            weight.iter_mut().for_each(|w| *w *= input);
        }
        if writes && !reads {
            weight.iter_mut().for_each(|w| *w *= output);
        }
        if writes {
            bias.iter_mut().for_each(|b| *b *= output);
        }
    }
}
