//! A network described as data.

use serde::{Deserialize, Serialize};

/// Mean colour of DIV2K's training images, R G B in 0..1.
///
/// Source: JiahuiYu/wdsr_ntire2018, defaults of `--r_mean` and its siblings.
pub const DIV2K_MEAN: [f32; 3] = [0.4488, 0.4371, 0.4040];

/// The kind of a network: of its residual blocks, which most have.
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
    /// A chain of conv3x3(n, n), PReLU, whose result is added to the image enlarged by nearest
    /// neighbours: Real-ESRGAN's small networks (xinntao/Real-ESRGAN, `realesrgan/archs/srvgg_arch.py`,
    /// `SRVGGNetCompact`). It has no residual blocks, and is not trained here.
    Compact,
    /// EDSR's blocks and upsampling with leaky ReLUs, whose result is added to the image enlarged by
    /// bilinear interpolation (XPixelGroup/BasicSR, `basicsr/archs/srresnet_arch.py`, `MSRResNet`). It is
    /// not trained here.
    #[serde(rename = "msrresnet")]
    MsrResNet,
    /// ESRGAN's residual-in-residual dense blocks (Wang et al. 2018, section 3.1; XPixelGroup/BasicSR,
    /// `basicsr/archs/rrdbnet_arch.py`, `RRDBNet`): blocks of three dense blocks, whose first four convolutions
    /// add `growth` channels each. It is not trained here.
    Rrdb,
}

impl BlockKind {
    /// `wdsr-a`, `wdsr-b`, `edsr`, `compact`, `msrresnet` or `rrdb`.
    pub fn name(self) -> &'static str {
        match self {
            Self::WdsrA => "wdsr-a",
            Self::WdsrB => "wdsr-b",
            Self::Edsr => "edsr",
            Self::Compact => "compact",
            Self::MsrResNet => "msrresnet",
            Self::Rrdb => "rrdb",
        }
    }

    /// Whether recipes train it.
    pub fn is_trained(self) -> bool {
        matches!(self, Self::WdsrA | Self::WdsrB | Self::Edsr)
    }

    /// Whether its blocks have a wide activation.
    pub fn is_wdsr(self) -> bool {
        matches!(self, Self::WdsrA | Self::WdsrB)
    }
}

/// How convolutions are normalised in training. A model in use has plain convolutions.
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

/// The description of a network: which tensors it has and how they are used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Kind of the residual blocks.
    pub block: BlockKind,
    /// Channels of the identity path (n).
    pub features: usize,
    /// Residual blocks (N); for Compact, convolutions between the first and the last.
    pub blocks: usize,
    /// Channels of the activation per channel of the identity path (e); 1 except for
    /// WDSR.
    #[serde(default = "one")]
    pub expansion: usize,
    /// Channels of WDSR-B's low-rank convolution (r); 0 for the other kinds.
    #[serde(default)]
    pub low_rank: usize,
    /// Channels that each convolution of a dense block adds; 0 except for RRDB.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub growth: usize,
    /// Normalisation while training.
    #[serde(default)]
    pub norm: Norm,
    /// Output pixels per input pixel on each side: 1, 2, 3, 4 or 8.
    pub scale: usize,
    /// Residual scale: factor of a block's branch before its input is added; for RRDB, of the branch of
    /// a dense block.
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
fn is_zero(growth: &usize) -> bool {
    *growth == 0
}
fn div2k_mean() -> [f32; 3] {
    DIV2K_MEAN
}

/// Factor of the branches of RRDB, whose outer one is fixed.
pub(crate) const RRDB_SCALE: f32 = 0.2;

/// The largest number of features or blocks, and the largest expansion.
const MAX_SIZE: usize = 4096;

/// Why a description is not of a network.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A name does not have the form of `wdsr-b-32x16`.
    #[error(
        "network `{0}`: expected kind, features and blocks as in wdsr-b-32x16; the kind is wdsr-a, \
         wdsr-b, edsr, compact, msrresnet or rrdb"
    )]
    Name(String),
    /// A size is out of range.
    #[error("{field} is {value}, expected {least} to {MAX_SIZE}")]
    Size {
        /// Field of [`NetworkConfig`].
        field: &'static str,
        /// Its value.
        value: usize,
        /// The least value allowed.
        least: usize,
    },
    /// A network other than WDSR-B has low-rank channels.
    #[error("low_rank is {0}, expected 0 for every kind except wdsr-b")]
    LowRank(usize),
    /// A network without wide activation has an expansion.
    #[error("expansion is {found}, expected 1 for {}", kind.name())]
    Expansion {
        /// The kind of the network.
        kind: BlockKind,
        /// Its expansion.
        found: usize,
    },
    /// A network that the other kinds alone have a field for has it.
    #[error("{field} is set, expected its default for {}", kind.name())]
    Unused {
        /// The kind of the network.
        kind: BlockKind,
        /// Field of [`NetworkConfig`].
        field: &'static str,
    },
    /// MSRResNet has no such scale.
    #[error("scale is {0}, expected 2, 3 or 4 for msrresnet")]
    MsrResNetScale(usize),
    /// RRDB has no such scale.
    #[error("scale is {0}, expected 1, 2, 4 or 8 for rrdb")]
    RrdbScale(usize),
    /// No network has this scale.
    #[error("scale is {0}, expected 1, 2, 3, 4 or 8")]
    Scale(usize),
    /// The residual scale or the mean is NaN or infinite.
    #[error("{field} is {value}, expected a finite number")]
    NotFinite {
        /// Field of [`NetworkConfig`].
        field: &'static str,
        /// Its value.
        value: f32,
    },
}

impl NetworkConfig {
    /// WDSR-A with the published expansion of 4.
    pub fn wdsr_a(features: usize, blocks: usize, scale: usize) -> Self {
        Self {
            block: BlockKind::WdsrA,
            features,
            blocks,
            expansion: 4,
            low_rank: 0,
            growth: 0,
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

    /// Real-ESRGAN's Compact network, with as many convolutions of `features` channels between the
    /// first and the last as `blocks`.
    pub fn compact(features: usize, blocks: usize, scale: usize) -> Self {
        Self {
            block: BlockKind::Compact,
            mean: [0.0; 3],
            ..Self::edsr(features, blocks, scale)
        }
    }

    /// BasicSR's MSRResNet; `scale` is 2, 3 or 4.
    pub fn msr_resnet(features: usize, blocks: usize, scale: usize) -> Self {
        Self {
            block: BlockKind::MsrResNet,
            mean: [0.0; 3],
            ..Self::edsr(features, blocks, scale)
        }
    }

    /// ESRGAN's network of residual-in-residual dense blocks with the published growth of 32. Of the
    /// published networks most have 64 features and 23 blocks; `scale` is 1, 2, 4 or 8.
    pub fn rrdb(features: usize, blocks: usize, scale: usize) -> Self {
        Self {
            block: BlockKind::Rrdb,
            growth: 32,
            residual_scale: RRDB_SCALE,
            mean: [0.0; 3],
            ..Self::edsr(features, blocks, scale)
        }
    }

    /// The published network of a name such as `wdsr-b-32x16`: kind (`wdsr-a`, `wdsr-b`, `edsr`,
    /// `compact`, `msrresnet`, `rrdb`), features, blocks.
    ///
    /// # Errors
    /// If the name has another form, or a size is out of range.
    pub fn from_name(name: &str, scale: usize) -> Result<Self, ConfigError> {
        let expected = || ConfigError::Name(name.to_owned());
        let (kind, size) = name.rsplit_once('-').ok_or_else(expected)?;
        let (features, blocks) = size.split_once('x').ok_or_else(expected)?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| expected());
        let (features, blocks) = (number(features)?, number(blocks)?);
        let config = match kind {
            "wdsr-a" => Self::wdsr_a(features, blocks, scale),
            "wdsr-b" => Self::wdsr_b(features, blocks, scale),
            "edsr" => Self::edsr(features, blocks, scale),
            "compact" => Self::compact(features, blocks, scale),
            "msrresnet" => Self::msr_resnet(features, blocks, scale),
            "rrdb" => Self::rrdb(features, blocks, scale),
            _ => return Err(expected()),
        };
        config.validate()?;
        Ok(config)
    }

    /// Checks that all fields are in range and fit each other.
    ///
    /// # Errors
    /// If one is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let within = |field: &'static str, value: usize, least: usize| {
            if (least..=MAX_SIZE).contains(&value) {
                Ok(())
            } else {
                Err(ConfigError::Size {
                    field,
                    value,
                    least,
                })
            }
        };
        within("features", self.features, 1)?;
        within("blocks", self.blocks, 0)?;
        within("expansion", self.expansion, 1)?;
        match self.block {
            BlockKind::WdsrB => within("low_rank", self.low_rank, 1)?,
            _ if self.low_rank != 0 => return Err(ConfigError::LowRank(self.low_rank)),
            _ => {}
        }
        let kind = self.block;
        match kind {
            BlockKind::Rrdb => within("growth", self.growth, 1)?,
            _ if self.growth != 0 => {
                let field = "growth";
                return Err(ConfigError::Unused { kind, field });
            }
            _ => {}
        }
        if !kind.is_wdsr() && self.expansion != 1 {
            return Err(ConfigError::Expansion {
                kind,
                found: self.expansion,
            });
        }
        if kind == BlockKind::Compact && self.residual_scale != 1.0 {
            let field = "residual_scale";
            return Err(ConfigError::Unused { kind, field });
        }
        if !kind.is_trained() && self.mean != [0.0; 3] {
            let field = "mean";
            return Err(ConfigError::Unused { kind, field });
        }
        if kind == BlockKind::MsrResNet && !matches!(self.scale, 2..=4) {
            return Err(ConfigError::MsrResNetScale(self.scale));
        }
        if kind == BlockKind::Rrdb && !matches!(self.scale, 1 | 2 | 4 | 8) {
            return Err(ConfigError::RrdbScale(self.scale));
        }
        if !matches!(self.scale, 1 | 2 | 3 | 4 | 8) {
            return Err(ConfigError::Scale(self.scale));
        }
        let numbers = self.mean.map(|mean| ("mean", mean));
        for (field, value) in [("residual_scale", self.residual_scale)]
            .into_iter()
            .chain(numbers)
        {
            if !value.is_finite() {
                return Err(ConfigError::NotFinite { field, value });
            }
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
    fn published_names_are_parsed() {
        let read = |name| NetworkConfig::from_name(name, 2);
        assert_eq!(read("wdsr-b-32x16"), Ok(NetworkConfig::wdsr_b(32, 16, 2)));
        assert_eq!(read("wdsr-a-8x1"), Ok(NetworkConfig::wdsr_a(8, 1, 2)));
        assert_eq!(read("edsr-64x16"), Ok(NetworkConfig::edsr(64, 16, 2)));
        assert_eq!(read("compact-64x16"), Ok(NetworkConfig::compact(64, 16, 2)));
        for invalid in [
            "wdsr-c-32x16",
            "wdsr-b",
            "wdsr-b-32",
            "wdsr-b-x",
            "wdsr-b-0x1",
            "",
        ] {
            assert!(read(invalid).is_err(), "{invalid}");
        }
        assert!(NetworkConfig::from_name("wdsr-b-32x16", 7).is_err());
    }
}
