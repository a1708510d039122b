//! Reads checkpoints of other trainers.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use wdsr_model::{Model, Network};

use crate::container::{Container, LEGACY_MAGIC, ZIP_MAGIC};
use crate::convention::{InputConvention, Range};
use crate::convolutions::Folded;
use crate::error::Error;
use crate::layout::Layout;
use crate::tensor::{Element, Tensors, gather, row_major};
use crate::{convolutions, layout, state_dict};

/// The largest file read. The largest published networks with their optimiser's state have half a
/// gigabyte.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// Properties that a checkpoint does not record, or in which it differs from its layout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Key of the state dict, if a file has several. By default the usual keys are searched, those of
    /// averaged weights first.
    pub weights: Option<String>,
    /// Range of the pixels that the network was trained on; by default that of the layout.
    pub range: Option<Range>,
    /// Mean that was subtracted from them, R G B in 0..1; by default that of the layout.
    pub mean: Option<[f32; 3]>,
    /// Residual scale: the factor of each block's branch; by default 1, and 0.2 for RRDB. No checkpoint
    /// records it.
    pub residual_scale: Option<f32>,
}

/// A model that was read, and how its file was recognised.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The network with its weights, for images in 0..1.
    pub model: Model,
    /// Lines of text: layout and form of the weights, input convention, residual scale, expansion.
    pub recognised: Vec<String>,
}

/// Reads a checkpoint file, or a model file of wdsr. The content decides which it is.
///
/// # Errors
/// If the file cannot be read, or for the reasons of [`import_bytes`].
pub fn import(path: &Path, options: &Options) -> Result<Imported, Error> {
    let io = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > MAX_FILE_BYTES {
        return Err(Error::Refused {
            path: path.to_owned(),
            reason: format!(
                "expected a checkpoint of at most {MAX_FILE_BYTES} bytes, found {length}; save the \
                 weights alone, without the state of the optimiser"
            ),
        });
    }
    let bytes = std::fs::read(path).map_err(io)?;
    import_bytes(&bytes, path, options)
}

/// Reads a checkpoint or model from the bytes of its file. `name` is the file's name in messages.
/// Memory stays within a constant times the number of bytes.
///
/// # Errors
/// If the bytes are not a checkpoint of a known layout, are damaged, or call code that a checkpoint
/// of weights does not need.
pub fn import_bytes(bytes: &[u8], name: &Path, options: &Options) -> Result<Imported, Error> {
    let refused = |reason| Error::Refused {
        path: name.to_owned(),
        reason,
    };
    if is_model(bytes) {
        if *options != Options::default() {
            return Err(refused(
                "a model of wdsr records its weights, range, mean and residual scale; omit these \
                 options"
                    .to_owned(),
            ));
        }
        return Ok(Imported {
            model: Model::from_bytes(bytes, name)?,
            recognised: vec!["model of wdsr".to_owned()],
        });
    }
    parse(bytes, name, options).map_err(refused)
}

/// Whether a file's metadata says that it is a model of wdsr.
fn is_model(bytes: &[u8]) -> bool {
    SafeTensors::read_metadata(bytes).is_ok_and(|(_, header)| {
        let metadata = header.metadata().as_ref();
        metadata.is_some_and(|metadata| metadata.get("format").is_some_and(|f| f == "wdsr"))
    })
}

/// Whether the bytes of a file are of another trainer: of torch.save or Keras, or a safetensors file
/// that is not of wdsr.
pub fn is_of_others(bytes: &[u8]) -> bool {
    let is_safetensors = SafeTensors::read_metadata(bytes).is_ok_and(|(_, header)| {
        let format = header.metadata().as_ref().and_then(|m| m.get("format"));
        format.is_none_or(|format| !format.starts_with("wdsr"))
    });
    let magics = [ZIP_MAGIC, LEGACY_MAGIC, HDF5_MAGIC];
    is_safetensors || magics.iter().any(|magic| bytes.starts_with(magic))
}

/// The tensors of a file.
struct Source {
    tensors: Tensors,
    /// Keys of the dicts that they were found in.
    path: Vec<String>,
    /// Set if the format has only one layout.
    layout: Option<Layout>,
}

/// First bytes of an HDF5 file.
const HDF5_MAGIC: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Reads the tensors of a file. Its first bytes decide the format.
fn source(bytes: &[u8], weights: Option<&str>) -> Result<Source, String> {
    let pickled = |container: Container<'_>| {
        let found = state_dict::find(&container, weights)?;
        Ok(Source {
            tensors: state_dict::without_prefixes(found.tensors),
            path: found.path,
            layout: None,
        })
    };
    if bytes.starts_with(ZIP_MAGIC) {
        return pickled(Container::zip(bytes)?);
    }
    if bytes.starts_with(LEGACY_MAGIC) {
        return pickled(Container::legacy(bytes)?);
    }
    if let Some(weights) = weights {
        return Err(format!(
            "expected a checkpoint of torch.save with weights under the key `{weights}`, found \
             another format; omit the key"
        ));
    }
    if bytes.starts_with(HDF5_MAGIC) {
        return hdf5(bytes);
    }
    if bytes.get(8) == Some(&b'{') {
        return Ok(Source {
            tensors: state_dict::without_prefixes(safetensors(bytes)?),
            path: Vec::new(),
            layout: None,
        });
    }
    Err(
        "expected a checkpoint of torch.save (zip or legacy), a safetensors file or weights saved \
         by Keras (.h5), found another format or a damaged file; save `model.state_dict()` with \
         torch.save"
            .to_owned(),
    )
}

#[cfg(feature = "keras")]
fn hdf5(bytes: &[u8]) -> Result<Source, String> {
    Ok(Source {
        tensors: crate::keras::read(bytes)?,
        path: Vec::new(),
        layout: Some(Layout::Krasserm),
    })
}

#[cfg(not(feature = "keras"))]
fn hdf5(_: &[u8]) -> Result<Source, String> {
    Err(
        "expected a checkpoint, found an HDF5 file, which this build cannot read; build wdsr with \
         `--features keras`"
            .to_owned(),
    )
}

/// Networks of others, and a part of the name of a tensor that only they have.
///
/// Source: chaiNNer-org/spandrel, the `detect` conditions of its architectures.
const OTHER_NETWORKS: [(&str, &str); 21] = [
    ("RDB1.conv1x1", "ESRGAN+"),
    ("overlap_attn.relative_position_bias_table", "HAT"),
    ("swin1.attn", "DRCT"),
    ("residual_group.td", "ATD"),
    ("before_RG.", "DAT or RGT"),
    ("hf_blocks.0.attn", "CRAFT"),
    ("residual_group.blocks.0.attn", "SwinIR"),
    ("body.3.conv_du", "RCAN"),
    ("body.encoder.layers", "IPT"),
    ("block_1.c1_r", "SPAN or RLFN"),
    ("safm.mfr", "SAFMN"),
    ("feats.1.lk", "PLKSR"),
    ("gblocks.", "MoSR"),
    ("residual_layer.0.residual_layer", "OmniSR"),
    ("unet1.conv1.conv", "Real-CUGAN or waifu2x"),
    ("fea_conv.", "RFDN or DCTLSA"),
    ("UFONE.", "DITN"),
    ("m_head.", "SCUNet, DRUNet or FBCNN"),
    ("middle_blks.", "NAFNet or KBNet"),
    ("encoder_level1.", "Restormer or FFTformer"),
    ("stylegan_decoder.", "GFPGAN"),
];

/// The network of others that the names of the tensors belong to.
fn other_network(tensors: &Tensors) -> Option<&'static str> {
    let has = |part: &str| tensors.keys().any(|key| key.contains(part));
    let found = OTHER_NETWORKS.iter().find(|(part, _)| has(part));
    found.map(|(_, network)| *network)
}

fn parse(bytes: &[u8], name: &Path, options: &Options) -> Result<Imported, String> {
    let Source {
        tensors,
        path,
        layout,
    } = source(bytes, options.weights.as_deref())?;
    if let Some(network) = other_network(&tensors) {
        return Err(format!(
            "expected WDSR, EDSR, MSRResNet, ESRGAN (RRDB) or Real-ESRGAN's Compact, found {network}, \
             which wdsr does not run"
        ));
    }
    let Folded {
        mut convs,
        form,
        slopes,
    } = convolutions::fold(tensors)?;
    let in_file = InputConvention::take_from(&mut convs)?;
    let layout = match layout {
        Some(layout) => layout,
        None => Layout::of(&convs)?,
    };
    let convs = layout.rename(convs);
    let default = in_file.unwrap_or_else(|| layout.convention());
    let convention = InputConvention {
        range: options.range.unwrap_or(default.range),
        mean: options.mean.unwrap_or(default.mean),
    };
    let mut config = layout.describe(&convs)?;
    config.mean = convention.mean;
    config.residual_scale = options.residual_scale.unwrap_or(config.residual_scale);
    config.validate().map_err(|e| e.to_string())?;
    let network = Network::new(&config);
    let mut weights = layout::in_order(&network, convs, slopes)?;
    convention.fold(&network, &mut weights);

    let mut recognised = vec![
        format!(
            "layout {}{}, {}",
            layout.name(),
            match &path[..] {
                [] => String::new(),
                path => format!(" under `{}`", path.join(".")),
            },
            form.name()
        ),
        format!(
            "input {} ({})",
            convention.text(),
            if options.range.is_some() || options.mean.is_some() {
                "as given"
            } else if in_file.is_some() {
                "from the file"
            } else {
                "the layout's; override by --range and --mean"
            }
        ),
        format!(
            "residual scale {} ({})",
            config.residual_scale,
            if options.residual_scale.is_some() {
                "as given"
            } else {
                "not recorded in the file; set it by --residual-scale"
            }
        ),
    ];
    if config.low_rank > 0 {
        recognised.push(format!(
            "expansion {}, low-rank width {}",
            config.expansion, config.low_rank
        ));
    } else if config.growth > 0 {
        recognised.push(format!("growth {}", config.growth));
    } else {
        recognised.push(format!("expansion {}", config.expansion));
    }
    let file = name.file_name().unwrap_or(name.as_os_str());
    let notes = BTreeMap::from([(
        "imported_from".to_owned(),
        format!("{}, layout {}", file.display(), layout.name()),
    )]);
    Ok(Imported {
        model: Model::new(&config, weights, notes),
        recognised,
    })
}

/// The floating-point tensors of a safetensors file.
fn safetensors(bytes: &[u8]) -> Result<Tensors, String> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| format!("not a complete safetensors file ({e}); fetch it again"))?;
    let mut tensors = Tensors::new();
    for (name, view) in file.iter() {
        let element = match view.dtype() {
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            Dtype::F32 => Element::F32,
            Dtype::F64 => Element::F64,
            _ => continue,
        };
        let tensor = gather(
            view.data(),
            element,
            0,
            view.shape(),
            &row_major(view.shape()),
        )
        .map_err(|e| format!("tensor `{name}`: {e}"))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}
