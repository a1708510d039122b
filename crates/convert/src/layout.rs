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
//! | basicsr | `conv_first` | `body.i.convj`, then `conv_after_body` | `upsample.{0,2,..}`, `conv_last` | |
//! | msrresnet | `conv_first` | `body.i.convj` | `upconv1`, `upconv2`, `conv_hr`, `conv_last` | |
//! | rrdb | `conv_first` | `body.i.rdbj.convk`, then `conv_body` | `conv_up1`, .., `conv_hr`, `conv_last` | |
//! | esrgan | `conv_first` | `RRDB_trunk.i.RDBj.convk`, then `trunk_conv` | `upconv1`, .., `HRconv`, `conv_last` | |
//! | old esrgan | `0` | `1.sub.i.RDBj.convk.0`, then `1.sub.N` | `3`, `6`, .. | |
//! | compact | `body.0` | `body.{2,4,..}`, each followed by slopes | `body.(2 N + 2)` | |
//!
//! In old ESRGAN a convolution follows each enlargement at 3, 6, ..; the last two are 2 and 4 behind it.
//! j is 0 and 2 in WDSR-A and EDSR (1 and 2 in basicsr and msrresnet), 0, 2 and 3 in WDSR-B. Sources:
//! JiahuiYu/wdsr_ntire2018 `wdsr_a.py`, `wdsr_b.py`; yjn870/WDSR-pytorch `models.py`; ychfan/wdsr
//! `models/wdsr.py`; compiler-aware-nas-sr (bare); sanghyun-son/EDSR-PyTorch `src/model/edsr.py`;
//! XPixelGroup/BasicSR `basicsr/archs/edsr_arch.py`, `srresnet_arch.py`; xinntao/Real-ESRGAN
//! `realesrgan/archs/srvgg_arch.py` (compact); XPixelGroup/BasicSR `basicsr/archs/rrdbnet_arch.py` (rrdb);
//! xinntao/ESRGAN `RRDBNet_arch.py` and, old, its `architecture.py`.

use std::collections::BTreeMap;

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
    /// EDSR of BasicSR.
    BasicSr,
    MsrResNet,
    Compact,
    /// RRDB of BasicSR and Real-ESRGAN.
    Rrdb,
    /// RRDB of ESRGAN.
    Esrgan,
    /// RRDB of ESRGAN's first release.
    OldEsrgan,
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
        } else if has("conv_first") && has("conv_after_body") && has("body.0.conv1") {
            Ok(Self::BasicSr)
        } else if has("conv_first") && has("upconv1") && has("body.0.conv1") {
            Ok(Self::MsrResNet)
        } else if has("conv_first") && has("conv_body") {
            Ok(Self::Rrdb)
        } else if has("conv_first") && has("trunk_conv") {
            Ok(Self::Esrgan)
        } else if has("0") && has("1.sub.0.RDB1.conv1.0") {
            Ok(Self::OldEsrgan)
        } else if has("head.0") && has("body.0.module.0") {
            Ok(Self::Yjn870)
        } else if has("head.0") && has("tail.0") {
            Ok(Self::Official)
        } else if has("head") && has("tail") {
            Ok(Self::Bare)
        } else if has("body.0") && has("body.1.body.0") {
            Ok(Self::Ychfan)
        } else if has("body.0") && has("body.2") {
            Ok(Self::Compact)
        } else {
            let names: Vec<_> = convs.keys().take(6).map(|name| shortened(name)).collect();
            Err(format!(
                "expected a layout of JiahuiYu/wdsr_ntire2018, yjn870/WDSR-pytorch, ychfan/wdsr, \
                 compiler-aware-nas-sr, EDSR-PyTorch, BasicSR's EDSR or MSRResNet, \
                 Real-ESRGAN's Compact, or ESRGAN (RRDB), found convolutions `{}`, ...",
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
            Self::BasicSr => "BasicSR's EDSR",
            Self::MsrResNet => "BasicSR's MSRResNet",
            Self::Compact => "Real-ESRGAN's Compact (SRVGGNetCompact)",
            Self::Rrdb => "BasicSR's and Real-ESRGAN's RRDB",
            Self::Esrgan => "ESRGAN's RRDB",
            Self::OldEsrgan => "ESRGAN's first RRDB",
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
            Self::Edsr | Self::BasicSr => (Range::Byte, DIV2K_MEAN),
            Self::Compact | Self::MsrResNet | Self::Rrdb | Self::Esrgan | Self::OldEsrgan => {
                (Range::Unit, [0.0; 3])
            }
        };
        InputConvention { range, mean }
    }

    /// Renames the convolutions to those of [`Network`], the official names.
    pub(crate) fn rename(self, convs: Convolutions) -> Convolutions {
        let last_of_body = (0..)
            .find(|i| !convs.contains_key(&format!("body.{}.body.0", i + 1)))
            .map_or(0, |blocks| blocks + 1);
        let blocks = (0..)
            .find(|i| !convs.contains_key(&format!("body.{i}.conv1")))
            .unwrap_or(0);
        let old_last = convs.keys().filter_map(|name| name.parse().ok()).max();
        let old_last: usize = old_last.unwrap_or(0);
        let rename = |name: String| match self {
            Self::Official | Self::Edsr | Self::Compact | Self::MsrResNet | Self::Rrdb => name,
            Self::Esrgan => match name.as_str() {
                "trunk_conv" => "conv_body".to_owned(),
                "HRconv" => "conv_hr".to_owned(),
                _ => name
                    .replace("RRDB_trunk.", "body.")
                    .replace(".RDB", ".rdb")
                    .replace("upconv", "conv_up"),
            },
            Self::OldEsrgan => match name.strip_prefix("1.sub.") {
                Some(rest) if rest.contains('.') => {
                    let rest = rest.strip_suffix(".0").unwrap_or(rest);
                    format!("body.{}", rest.replace(".RDB", ".rdb"))
                }
                Some(_) => "conv_body".to_owned(),
                None => match name.parse::<usize>() {
                    Ok(0) => "conv_first".to_owned(),
                    Ok(at) if at + 2 == old_last => "conv_hr".to_owned(),
                    Ok(at) if at == old_last => "conv_last".to_owned(),
                    Ok(at) => format!("conv_up{}", at / 3),
                    Err(_) => name,
                },
            },
            Self::BasicSr => match name.as_str() {
                "conv_first" => "head.0".to_owned(),
                "conv_after_body" => format!("body.{blocks}"),
                "conv_last" => "tail.1".to_owned(),
                _ => name
                    .replace("upsample.", "tail.0.")
                    .replace(".conv1", ".body.0")
                    .replace(".conv2", ".body.2"),
            },
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
        match self {
            Self::Compact => return compact(convs),
            Self::MsrResNet => return msr_resnet(convs),
            Self::Rrdb | Self::Esrgan | Self::OldEsrgan => return rrdb(convs),
            _ => {}
        }
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
            (Self::Edsr | Self::BasicSr, _) => (BlockKind::Edsr, 0),
            (_, false) => (BlockKind::WdsrA, 0),
            (_, true) => (BlockKind::WdsrB, shape("body.0.body.2")?[0]),
        };
        let scale = match self {
            Self::Edsr | Self::BasicSr => (0..)
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
            growth: 0,
            norm: Norm::None,
            scale: scale.ok_or("expected 3 scale^2 output channels of the tail")?,
            residual_scale: 1.0,
            mean: [0.0; 3],
        };
        config.validate().map_err(|e| e.to_string())?;
        Ok(config)
    }
}

/// Describes MSRResNet.
fn msr_resnet(convs: &Convolutions) -> Result<NetworkConfig, String> {
    let out_channels = |name: &str| {
        let conv = convs.get(name);
        conv.map(|conv| conv.shape[0])
            .ok_or_else(|| format!("convolution `{name}` is missing"))
    };
    let (features, wide) = (out_channels("conv_first")?, out_channels("upconv1")?);
    let blocks = (0..).take_while(|i| convs.contains_key(&format!("body.{i}.conv1")));
    let scale = match convs.contains_key("upconv2") {
        true => Some(4),
        false => root(wide, features.max(1)),
    };
    let scale = scale.ok_or("expected scale^2 output channels of `upconv1` for each feature")?;
    let config = NetworkConfig::msr_resnet(features, blocks.count(), scale);
    config.validate().map_err(|e| e.to_string())?;
    Ok(config)
}

/// Describes RRDB.
fn rrdb(convs: &Convolutions) -> Result<NetworkConfig, String> {
    let shape = |name: &str| {
        let conv = convs.get(name);
        conv.map(|conv| conv.shape)
            .ok_or_else(|| format!("convolution `{name}` is missing"))
    };
    let [features, colours, ..] = shape("conv_first")?;
    if matches!(colours, 12 | 48) {
        return Err(format!(
            "expected an RRDB network that reads 3 channels, found one of scale {} that reads \
             {colours}: wdsr does not run networks that reduce the image first (pixel unshuffle); \
             use one of scale 4",
            if colours == 12 { 2 } else { 1 }
        ));
    }
    let [growth, ..] = shape("body.0.rdb1.conv1")?;
    let blocks = (0..).take_while(|i| convs.contains_key(&format!("body.{i}.rdb1.conv1")));
    let stages = (1..).take_while(|stage| convs.contains_key(&format!("conv_up{stage}")));
    let (blocks, stages) = (blocks.count(), stages.count());
    let scale = u32::try_from(stages)
        .ok()
        .and_then(|stages| 2_usize.checked_pow(stages));
    let scale = scale.ok_or_else(|| format!("expected at most 3 enlargements, found {stages}"))?;
    let config = NetworkConfig {
        growth,
        ..NetworkConfig::rrdb(features, blocks, scale)
    };
    config.validate().map_err(|e| e.to_string())?;
    Ok(config)
}

/// Describes Compact: a chain of convolutions at even positions, the last one for the output.
fn compact(convs: &Convolutions) -> Result<NetworkConfig, String> {
    let Some(between) = convs.len().checked_sub(2) else {
        return Err("expected two convolutions or more".to_owned());
    };
    let out_channels = |conv: usize| convs.get(&format!("body.{}", 2 * conv)).map(|c| c.shape[0]);
    let (Some(features), Some(colours)) = (out_channels(0), out_channels(between + 1)) else {
        let last = 2 * (between + 1);
        return Err(format!(
            "expected convolutions `body.0`, `body.2`, ... `body.{last}`"
        ));
    };
    let scale =
        root(colours, 3).ok_or("expected 3 scale^2 output channels of the last convolution")?;
    let config = NetworkConfig::compact(features, between, scale);
    config.validate().map_err(|e| e.to_string())?;
    Ok(config)
}

/// The s of `channels` = `of` * s^2.
fn root(channels: usize, of: usize) -> Option<usize> {
    let scale = (channels / of).isqrt();
    (scale.checked_mul(scale)?.checked_mul(of)? == channels).then_some(scale)
}

/// The convolutions in the order of the network, with their slopes.
///
/// # Errors
/// If one is missing, has another shape, or does not belong to the network.
pub(crate) fn in_order(
    network: &Network,
    mut convs: Convolutions,
    mut slopes: BTreeMap<String, Vec<f32>>,
) -> Result<Vec<ConvWeights>, String> {
    // ychfan/wdsr adds the image itself if input and output have the same size.
    let is_wdsr = matches!(network.config.block, BlockKind::WdsrA | BlockKind::WdsrB);
    if network.config.scale == 1 && is_wdsr {
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
            let slopes = match &conv.slopes {
                Some(name) => slopes
                    .remove(name)
                    .ok_or_else(|| format!("{label}: slopes `{name}.weight` are missing"))?,
                None => Vec::new(),
            };
            if slopes.len() != conv.slope_count() {
                return Err(format!(
                    "{label}: expected {} slopes behind `{}`, found {}",
                    conv.slope_count(),
                    conv.name,
                    slopes.len()
                ));
            }
            Ok(ConvWeights {
                slopes,
                ..found.weights
            })
        })
        .collect::<Result<_, String>>()?;
    let convs = convs.keys().map(|name| ("convolution", name));
    let slopes = slopes.keys().map(|name| ("slopes", name));
    match convs.chain(slopes).next() {
        Some((kind, name)) => Err(format!("{label}: expected no {kind} `{}`", shortened(name))),
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
            slopes: Vec::new(),
        },
    }
}
