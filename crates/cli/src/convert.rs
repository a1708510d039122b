//! `wdsr convert`: writes a model in another format.

use std::path::{Path, PathBuf};

use anyhow::Context;
use wdsr_model::{Model, OnnxPrecision};

use crate::{WrongUsage, progress};

/// Write a model for other engines
///
/// The suffix of OUT chooses the format: .onnx (opset 17) for ONNX Runtime, OpenVINO, chaiNNer and
/// others. Input `input` and output `output` are float32 [batch, 3, height, width], R G B in 0..1,
/// of any size.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Model file (.safetensors)
    model: PathBuf,
    /// File to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Compute in float16: half the size, slightly different results; input and output stay
    /// float32
    #[arg(long)]
    f16: bool,
    /// Say nothing but errors
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// A format that models are written in.
enum Target {
    Onnx,
}

impl Target {
    /// By the suffix of a file.
    fn of(path: &Path) -> Result<Self, WrongUsage> {
        let suffix = path.extension().unwrap_or_default().to_string_lossy();
        match suffix.to_ascii_lowercase().as_str() {
            "onnx" => Ok(Self::Onnx),
            _ => Err(WrongUsage(format!(
                "{}: expected a name that ends in .onnx, found {}; the suffix chooses the format",
                path.display(),
                if suffix.is_empty() {
                    "no suffix".to_owned()
                } else {
                    format!(".{suffix}")
                }
            ))),
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let target = Target::of(&arguments.output)?;
    let model = Model::load(&arguments.model)?;
    match target {
        Target::Onnx => {
            let precision = if arguments.f16 {
                OnnxPrecision::F16
            } else {
                OnnxPrecision::F32
            };
            model
                .save_onnx(&arguments.output, precision)
                .with_context(|| format!("{}: cannot be converted", arguments.model.display()))?;
        }
    }
    if !arguments.quiet {
        progress::note(&format!(
            "{} -> {} ({})",
            arguments.model.display(),
            arguments.output.display(),
            model.config().label()
        ));
    }
    Ok(())
}
