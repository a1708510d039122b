//! A network described as data.

use serde::{Deserialize, Serialize};

/// Mean colour of DIV2K's training images, R G B in 0..1.
///
/// Source: JiahuiYu/wdsr_ntire2018, defaults of `--r_mean` and its siblings.
pub const DIV2K_MEAN: [f32; 3] = [0.4488, 0.4371, 0.4040];

/// What a residual block is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockKind {
    /// conv3x3(n, e n), ReLU, conv3x3(e n, n): wide activation (Yu et al. 2018, section 3.1).
    WdsrA,
    /// conv1x1(n, e n), ReLU, conv1x1(e n, r), conv3x3(r, n): wider activation by a linear
    /// low-rank convolution (section 3.2).
    WdsrB,
    /// conv3x3(n, n), ReLU, conv3x3(n, n): the baseline of Lim et al. 2017, whose network also
    /// has a convolution after the body, a residual over it, and upsampling before the last
    /// convolution.
    Edsr,
}

impl BlockKind {
    /// `wdsr-a`, `wdsr-b` or `edsr`.
    pub fn name(self) -> &'static str {
        match self {
            Self::WdsrA => "wdsr-a",
            Self::WdsrB => "wdsr-b",
            Self::Edsr => "edsr",
        }
    }
}

/// How convolutions are normalised in training; in a model for use nothing is left of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// Weight normalisation: w = g v / |v| per output channel (Salimans and Kingma 2016).
    Weight,
    /// Batch normalisation after each convolution of a block (Ioffe and Szegedy 2015).
    Batch,
    /// Plain convolutions.
    #[default]
    None,
}

/// Everything that decides which tensors a network has and how they are used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Kind of the residual blocks.
    pub block: BlockKind,
    /// Channels of the identity path (n).
    pub features: usize,
    /// Residual blocks (N).
    pub blocks: usize,
    /// Width of the activation over the identity path (e); 1 for EDSR.
    #[serde(default = "one")]
    pub expansion: usize,
    /// Channels of WDSR-B's low-rank convolution (r); 0 for the other kinds.
    #[serde(default)]
    pub low_rank: usize,
    /// Normalisation while training.
    #[serde(default)]
    pub norm: Norm,
    /// Output pixels per input pixel on each side: 1, 2, 3, 4 or 8.
    pub scale: usize,
    /// Factor of a block's body before its input is added.
    #[serde(default = "unit")]
    pub residual_scale: f32,
    /// Subtracted from the input and added to the output, R G B in 0..1.
    #[serde(default = "div2k_mean")]
    pub mean: [f32; 3],
}

fn one() -> usize {
    1
}
fn unit() -> f32 {
    1.0
}
fn div2k_mean() -> [f32; 3] {
    DIV2K_MEAN
}

/// The largest feature count, expansion or block count a description may ask for.
const MAX_SIZE: usize = 4096;

impl NetworkConfig {
    /// WDSR-A with the published expansion of 4.
    pub fn wdsr_a(features: usize, blocks: usize, scale: usize) -> Self {
        Self {
            block: BlockKind::WdsrA,
            features,
            blocks,
            expansion: 4,
            low_rank: 0,
            norm: Norm::Weight,
            scale,
            residual_scale: 1.0,
            mean: DIV2K_MEAN,
        }
    }

    /// WDSR-B with the published expansion of 6 and low-rank width of int(0.8 n).
    pub fn wdsr_b(features: usize, blocks: usize, scale: usize) -> Self {
        Self {
            block: BlockKind::WdsrB,
            expansion: 6,
            low_rank: features * 4 / 5,
            ..Self::wdsr_a(features, blocks, scale)
        }
    }

    /// The EDSR baseline.
    pub fn edsr(features: usize, blocks: usize, scale: usize) -> Self {
        Self {
            block: BlockKind::Edsr,
            expansion: 1,
            norm: Norm::None,
            ..Self::wdsr_a(features, blocks, scale)
        }
    }

    /// The published network of a name such as `wdsr-b-32x16`: kind (`wdsr-a`, `wdsr-b`, `edsr`),
    /// features, blocks.
    ///
    /// # Errors
    /// A line that says what was expected.
    pub fn from_name(name: &str, scale: usize) -> Result<Self, String> {
        let expected = || {
            format!(
                "network `{name}`: expected kind, features and blocks like wdsr-b-32x16, where the \
                 kind is wdsr-a, wdsr-b or edsr"
            )
        };
        let (kind, size) = name.rsplit_once('-').ok_or_else(expected)?;
        let (features, blocks) = size.split_once('x').ok_or_else(expected)?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| expected());
        let (features, blocks) = (number(features)?, number(blocks)?);
        let config = match kind {
            "wdsr-a" => Self::wdsr_a(features, blocks, scale),
            "wdsr-b" => Self::wdsr_b(features, blocks, scale),
            "edsr" => Self::edsr(features, blocks, scale),
            _ => return Err(expected()),
        };
        config.validate()?;
        Ok(config)
    }

    /// Checks that the description makes sense.
    ///
    /// # Errors
    /// A line that names the field, what was found and what is expected.
    pub fn validate(&self) -> Result<(), String> {
        let within = |name: &str, value: usize, least: usize| {
            if (least..=MAX_SIZE).contains(&value) {
                Ok(())
            } else {
                Err(format!("{name} is {value}, expected {least} to {MAX_SIZE}"))
            }
        };
        within("features", self.features, 1)?;
        within("blocks", self.blocks, 0)?;
        within("expansion", self.expansion, 1)?;
        match self.block {
            BlockKind::WdsrB => within("low_rank", self.low_rank, 1)?,
            _ if self.low_rank != 0 => {
                return Err(format!(
                    "low_rank is {}, expected 0 for every kind but wdsr-b",
                    self.low_rank
                ));
            }
            _ => {}
        }
        if self.block == BlockKind::Edsr && self.expansion != 1 {
            return Err(format!(
                "expansion is {}, expected 1 for edsr",
                self.expansion
            ));
        }
        if !matches!(self.scale, 1 | 2 | 3 | 4 | 8) {
            return Err(format!("scale is {}, expected 1, 2, 3, 4 or 8", self.scale));
        }
        if !self.residual_scale.is_finite() || self.mean.iter().any(|m| !m.is_finite()) {
            return Err("residual_scale and mean must be finite".to_owned());
        }
        Ok(())
    }

    /// A short name such as `wdsr-b 32/8 x2`: kind, features / blocks, scale.
    pub fn label(&self) -> String {
        format!(
            "{} {}/{} x{}",
            self.block.name(),
            self.features,
            self.blocks,
            self.scale
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let read = |name| NetworkConfig::from_name(name, 2);
        assert_eq!(read("wdsr-b-32x16"), Ok(NetworkConfig::wdsr_b(32, 16, 2)));
        assert_eq!(read("wdsr-a-8x1"), Ok(NetworkConfig::wdsr_a(8, 1, 2)));
        assert_eq!(read("edsr-64x16"), Ok(NetworkConfig::edsr(64, 16, 2)));
        for wrong in [
            "wdsr-c-32x16",
            "wdsr-b",
            "wdsr-b-32",
            "wdsr-b-x",
            "wdsr-b-0x1",
            "",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(NetworkConfig::from_name("wdsr-b-32x16", 7).is_err());
    }
}
