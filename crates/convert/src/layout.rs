//! The layouts of published implementations: the names of convolutions in their state dicts, and the
//! network that follows from their shapes.
//!
//! | layout | head | block i | tail | skip |
//! |---|---|---|---|---|
//! | official | `head.0` | `body.i.body.j` | `tail.0` | `skip.0` |
//! | yjn870 | `head.0` | `body.i.module.j` | `tail.0` | `skip.0` |
//! | ychfan | `body.0` | `body.(i+1).body.j` | `body.(N+1)` | `skip.0` |
//! | bare | `head` | `body.i.body.j` | `tail` | `skip.0` |
//! | edsr | `head.0` | `body.i.body.j`, then `body.N` | `tail.0.{0,2,..}`, `tail.1` | |
//!
//! j is 0 and 2 in WDSR-A and EDSR, 0, 2 and 3 in WDSR-B. Sources: JiahuiYu/wdsr_ntire2018
//! `wdsr_a.py`, `wdsr_b.py`; yjn870/WDSR-pytorch `models.py`; ychfan/wdsr `models/wdsr.py`;
//! compiler-aware-nas-sr (bare); sanghyun-son/EDSR-PyTorch `src/model/edsr.py`.

use wdsr_model::{BlockKind, ConvWeights, DIV2K_MEAN, Network, NetworkConfig, Norm};

use crate::convention::{InputConvention, Range};
use crate::convolutions::{Convolutions, FileConv};
use crate::state_dict::shortened;

/// The names of convolutions in a published implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Official,
    Yjn870,
    Ychfan,
    Bare,
    Edsr,
    /// Keras, converted to the official names by `keras.rs`.
    #[cfg(feature = "keras")]
    Krasserm,
}

impl Layout {
    /// Recognises the layout by the names of the convolutions.
    ///
    /// # Errors
    /// If it is not a known one.
    pub(crate) fn of(convs: &Convolutions) -> Result<Self, String> {
        let has = |name: &str| convs.contains_key(name);
        if has("head.0") && has("tail.1") {
            Ok(Self::Edsr)
        } else if has("head.0") && has("body.0.module.0") {
            Ok(Self::Yjn870)
        } else if has("head.0") && has("tail.0") {
            Ok(Self::Official)
        } else if has("head") && has("tail") {
            Ok(Self::Bare)
        } else if has("body.0") && has("body.1.body.0") {
            Ok(Self::Ychfan)
        } else {
            let names: Vec<_> = convs.keys().take(6).map(|name| shortened(name)).collect();
            Err(format!(
                "expected a layout of JiahuiYu/wdsr_ntire2018, yjn870/WDSR-pytorch, ychfan/wdsr, \
                 compiler-aware-nas-sr or EDSR-PyTorch, found convolutions `{}`, ...",
                names.join("`, `")
            ))
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Official => "official (JiahuiYu/wdsr_ntire2018)",
            Self::Yjn870 => "yjn870/WDSR-pytorch",
            Self::Ychfan => "ychfan/wdsr",
            Self::Bare => "bare (compiler-aware-nas-sr)",
            Self::Edsr => "EDSR-PyTorch",
            #[cfg(feature = "keras")]
            Self::Krasserm => "krasserm/super-resolution",
        }
    }

    /// The input convention of the implementation.
    pub(crate) fn convention(self) -> InputConvention {
        let (range, mean) = match self {
            Self::Official | Self::Yjn870 => (Range::Signed, DIV2K_MEAN),
            #[cfg(feature = "keras")]
            Self::Krasserm => (Range::Signed, DIV2K_MEAN),
            Self::Ychfan | Self::Bare => (Range::Unit, [0.5; 3]),
            Self::Edsr => (Range::Byte, DIV2K_MEAN),
        };
        InputConvention { range, mean }
    }

    /// Renames the convolutions to those of [`Network`], the official names.
    pub(crate) fn rename(self, convs: Convolutions) -> Convolutions {
        let last_of_body = (0..)
            .find(|i| !convs.contains_key(&format!("body.{}.body.0", i + 1)))
            .map_or(0, |blocks| blocks + 1);
        let rename = |name: String| match self {
            Self::Official | Self::Edsr => name,
            #[cfg(feature = "keras")]
            Self::Krasserm => name,
            Self::Yjn870 => name.replace(".module.", ".body."),
            Self::Bare if name == "head" || name == "tail" => format!("{name}.0"),
            Self::Bare => name,
            Self::Ychfan => {
                let Some(rest) = name.strip_prefix("body.") else {
                    return name;
                };
                let (block, rest) = match rest.split_once('.') {
                    Some((block, rest)) => (block, Some(rest)),
                    None => (rest, None),
                };
                match (block.parse::<usize>(), rest) {
                    (Ok(0), None) => "head.0".to_owned(),
                    (Ok(last), None) if last == last_of_body => "tail.0".to_owned(),
                    (Ok(block), Some(rest)) if block > 0 => format!("body.{}.{rest}", block - 1),
                    _ => name,
                }
            }
        };
        convs
            .into_iter()
            .map(|(name, conv)| (rename(name), conv))
            .collect()
    }

    /// The description of the network, from the shapes.
    ///
    /// # Errors
    /// If they fit none.
    pub(crate) fn describe(self, convs: &Convolutions) -> Result<NetworkConfig, String> {
        let shape = |name: &str| {
            convs
                .get(name)
                .map(|conv| conv.shape)
                .ok_or_else(|| format!("convolution `{name}` is missing"))
        };
        let features = shape("head.0")?[0];
        let blocks = (0..)
            .take_while(|i| convs.contains_key(&format!("body.{i}.body.0")))
            .count();
        if features == 0 || blocks == 0 {
            return Err(format!(
                "expected features and blocks, found {features} and {blocks}"
            ));
        }
        let wide = shape("body.0.body.0")?[0];
        if wide == 0 || wide % features != 0 {
            return Err(format!(
                "expected a block's width in multiples of its {features} features, found {wide}"
            ));
        }
        let (block, low_rank) = match (self, convs.contains_key("body.0.body.3")) {
            (Self::Edsr, _) => (BlockKind::Edsr, 0),
            (_, false) => (BlockKind::WdsrA, 0),
            (_, true) => (BlockKind::WdsrB, shape("body.0.body.2")?[0]),
        };
        let scale = match self {
            Self::Edsr => (0..)
                .map_while(|stage| convs.get(&format!("tail.0.{}", 2 * stage)))
                .try_fold(1_usize, |scale, conv| {
                    scale.checked_mul(root(conv.shape[0], features)?)
                }),
            _ => root(shape("tail.0")?[0], 3),
        };
        let config = NetworkConfig {
            block,
            features,
            blocks,
            expansion: wide / features,
            low_rank,
            norm: Norm::None,
            scale: scale.ok_or("expected 3 scale^2 output channels of the tail")?,
            residual_scale: 1.0,
            mean: [0.0; 3],
        };
        config.validate().map_err(|e| e.to_string())?;
        Ok(config)
    }
}

/// The s of `channels` = `of` * s^2.
fn root(channels: usize, of: usize) -> Option<usize> {
    let scale = (channels / of).isqrt();
    (scale.checked_mul(scale)?.checked_mul(of)? == channels).then_some(scale)
}

/// The convolutions in the order of the network.
///
/// # Errors
/// If one is missing, has another shape, or does not belong to the network.
pub(crate) fn in_order(
    network: &Network,
    mut convs: Convolutions,
) -> Result<Vec<ConvWeights>, String> {
    // ychfan/wdsr adds the image itself if input and output have the same size.
    if network.config.scale == 1 && network.config.block != BlockKind::Edsr {
        convs
            .entry("skip.0".to_owned())
            .or_insert_with(identity_skip);
    }
    let label = network.config.label();
    let weights = network
        .convs
        .iter()
        .map(|conv| {
            let found = convs
                .remove(&conv.name)
                .ok_or_else(|| format!("{label}: convolution `{}` is missing", conv.name))?;
            if found.shape != conv.weight_shape() {
                return Err(format!(
                    "{label}: expected convolution `{}` of shape {:?}, found {:?}",
                    conv.name,
                    conv.weight_shape(),
                    found.shape
                ));
            }
            Ok(found.weights)
        })
        .collect::<Result<_, _>>()?;
    match convs.keys().next() {
        Some(name) => Err(format!(
            "{label}: expected no convolution `{}`",
            shortened(name)
        )),
        None => Ok(weights),
    }
}

/// The identity as a 5x5 convolution.
fn identity_skip() -> FileConv {
    const KERNEL: usize = 5;
    let mut weight = vec![0.0; 3 * 3 * KERNEL * KERNEL];
    for colour in 0..3 {
        weight[(colour * 3 + colour) * KERNEL * KERNEL + KERNEL * KERNEL / 2] = 1.0;
    }
    FileConv {
        shape: [3, 3, KERNEL, KERNEL],
        weights: ConvWeights {
            weight,
            bias: vec![0.0; 3],
        },
    }
}
