//! Reads the checkpoints that other trainers of WDSR and EDSR wrote, as models of this program.
//!
//! - [`import`] reads a file, recognises the published layout it is in, and folds weight
//!   normalisation and the range of pixels it was trained on into plain convolutions. Models of this
//!   program are read as they are.
//!
//! With the feature `keras` also weights of krasserm/super-resolution, in HDF5.
//!
//! Checkpoints of PyTorch are pickles, programs that may do anything. They are read here without
//! being run (`pickle.rs`); whatever is no checkpoint of weights is refused with a reason.
#![forbid(unsafe_code)]

mod container;
mod convention;
mod convolutions;
#[cfg(feature = "keras")]
mod keras;
mod layout;
mod pickle;
mod state_dict;
mod tensor;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use wdsr_model::{Model, Network};

pub use convention::Range;

use container::{Container, LEGACY_MAGIC, ZIP_MAGIC};
use convention::InputConvention;
use layout::Layout;
use tensor::{Element, Tensors, gather, row_major};

/// The largest file read. The largest published networks with their optimiser's state have half a
/// gigabyte.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// Why a checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: cannot read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no checkpoint this program knows, is damaged, or asks for something that a
    /// checkpoint of weights does not need.
    #[error("{}: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// The file is a damaged model of this program.
    #[error(transparent)]
    Model(#[from] wdsr_model::Error),
}

/// What a checkpoint cannot say, or says otherwise than its layout usually does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Key of the state dict, where a file has several; by default the usual ones, averaged
    /// weights first.
    pub weights: Option<String>,
    /// Range of the pixels that the network was trained on; by default the layout's.
    pub range: Option<Range>,
    /// Mean that was subtracted from them, R G B in 0..1; by default the layout's.
    pub mean: Option<[f32; 3]>,
    /// Factor of a block's body; by default 1. No checkpoint holds it.
    pub residual_scale: Option<f32>,
}

/// A model, and how it was recognised.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The network with its weights, for images in 0..1.
    pub model: Model,
    /// Layout and form of the weights, input convention, residual scale: a line each.
    pub recognised: Vec<String>,
}

/// Reads a checkpoint file, or a model of this program. Its content says which it is.
///
/// # Errors
/// When the file cannot be read, or for the reasons of [`import_bytes`].
pub fn import(path: &Path, options: &Options) -> Result<Imported, Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > MAX_FILE_BYTES {
        return Err(Error::Refused {
            path: path.to_owned(),
            reason: format!("expected at most {MAX_FILE_BYTES} bytes, found {length}"),
        });
    }
    let bytes = std::fs::read(path).map_err(io)?;
    import_bytes(&bytes, path, options)
}

/// Reads a checkpoint or model from the bytes of its file; `name` stands in messages. Memory stays within a
/// constant times the number of bytes.
///
/// # Errors
/// When the bytes are no checkpoint of a known layout, are damaged, or ask for more than a
/// checkpoint of weights needs.
pub fn import_bytes(bytes: &[u8], name: &Path, options: &Options) -> Result<Imported, Error> {
    let refused = |reason| Error::Refused {
        path: name.to_owned(),
        reason,
    };
    if is_model(bytes) {
        if *options != Options::default() {
            return Err(refused(
                "a model of this program says all by itself; leave out the weights, range, mean \
                 and residual scale"
                    .to_owned(),
            ));
        }
        return Ok(Imported {
            model: Model::from_bytes(bytes, name)?,
            recognised: vec!["model of this program".to_owned()],
        });
    }
    parse(bytes, name, options).map_err(refused)
}

/// Whether a file says that it is a model of this program.
fn is_model(bytes: &[u8]) -> bool {
    SafeTensors::read_metadata(bytes).is_ok_and(|(_, header)| {
        let metadata = header.metadata().as_ref();
        metadata.is_some_and(|metadata| metadata.get("format").is_some_and(|f| f == "wdsr"))
    })
}

/// The tensors of a file.
struct Source {
    tensors: Tensors,
    /// Keys that led to them.
    path: Vec<String>,
    /// Where the format leaves no choice.
    layout: Option<Layout>,
}

/// First bytes of an HDF5 file.
const HDF5_MAGIC: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Reads the tensors of a file in the format that its first bytes tell.
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
            "expected a checkpoint of torch.save, whose weights are chosen by the key `{weights}`, \
             found another file; leave the key out"
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
         by Keras (.h5), found another or a damaged file"
            .to_owned(),
    )
}

#[cfg(feature = "keras")]
fn hdf5(bytes: &[u8]) -> Result<Source, String> {
    Ok(Source {
        tensors: keras::read(bytes)?,
        path: Vec::new(),
        layout: Some(Layout::Krasserm),
    })
}

#[cfg(not(feature = "keras"))]
fn hdf5(_: &[u8]) -> Result<Source, String> {
    Err("an HDF5 file, which only builds with `--features keras` read".to_owned())
}

fn parse(bytes: &[u8], name: &Path, options: &Options) -> Result<Imported, String> {
    let Source {
        tensors,
        path,
        layout,
    } = source(bytes, options.weights.as_deref())?;
    let (mut convs, form) = convolutions::fold(tensors)?;
    let in_file = InputConvention::taken_from(&mut convs)?;
    let layout = match layout {
        Some(layout) => layout,
        None => Layout::of(&convs)?,
    };
    let convs = layout.rename(convs);
    let usual = in_file.unwrap_or_else(|| layout.convention());
    let convention = InputConvention {
        range: options.range.unwrap_or(usual.range),
        mean: options.mean.unwrap_or(usual.mean),
    };
    let mut config = layout.describe(&convs)?;
    config.mean = convention.mean;
    config.residual_scale = options.residual_scale.unwrap_or(1.0);
    config.validate()?;
    let network = Network::new(&config);
    let mut weights = layout::in_order(&network, convs)?;
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
                "as asked"
            } else if in_file.is_some() {
                "from the file"
            } else {
                "the layout's; --range and --mean say otherwise"
            }
        ),
        format!(
            "residual scale {} ({})",
            config.residual_scale,
            if options.residual_scale.is_some() {
                "as asked"
            } else {
                "no file tells it; --residual-scale says otherwise"
            }
        ),
    ];
    if config.low_rank > 0 {
        recognised.push(format!(
            "expansion {}, low-rank width {}",
            config.expansion, config.low_rank
        ));
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
