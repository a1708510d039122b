//! `wdsr convert`: writes a model in another format.

use std::path::{Path, PathBuf};

use anyhow::Context;
use wdsr_model::{ExportPrecision, Model};

use crate::{WrongUsage, progress};

/// Write a model for other engines
///
/// The suffix of OUT chooses the format. Input and output are R G B in 0..1, of any size.
///
/// .onnx (opset 17) for ONNX Runtime, OpenVINO, chaiNNer and others: `input` and `output`, float32
/// [batch, 3, height, width].
///
/// .param for ncnn: Upscayl, realesrgan-ncnn-vulkan, chaiNNer. The weights are written beside it as
/// .bin. Blobs `data` and `output`. Upscayl reads the scale off the name: small-x2.param.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Model file (.safetensors)
    model: PathBuf,
    /// File to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Weights in float16: half the size, slightly different results. ONNX also computes in it;
    /// input and output stay float32
    #[arg(long)]
    f16: bool,
    /// Say nothing but errors
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// A format that models are written in.
enum Target {
    Onnx,
    Ncnn,
}

impl Target {
    /// By the suffix of a file.
    fn of(path: &Path) -> Result<Self, WrongUsage> {
        let suffix = path.extension().unwrap_or_default().to_string_lossy();
        match suffix.to_ascii_lowercase().as_str() {
            "onnx" => Ok(Self::Onnx),
            "param" => Ok(Self::Ncnn),
            _ => Err(WrongUsage(format!(
                "{}: expected a name that ends in .onnx or .param, found {}; the suffix chooses \
                 the format",
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
    let precision = if arguments.f16 {
        ExportPrecision::F16
    } else {
        ExportPrecision::F32
    };
    match target {
        Target::Onnx => model.save_onnx(&arguments.output, precision),
        Target::Ncnn => model.save_ncnn(&arguments.output, precision),
    }
    .with_context(|| format!("{}: cannot be converted", arguments.model.display()))?;
    if !arguments.quiet {
        progress::note(&format!(
            "{} -> {} ({})",
            arguments.model.display(),
            arguments.output.display(),
            model.config().label()
        ));
        if let Target::Ncnn = target {
            note_upscayl_scale(&arguments.output, model.config().scale);
        }
    }
    Ok(())
}

/// Says so where Upscayl would enlarge by another factor than the model does.
fn note_upscayl_scale(path: &Path, scale: usize) {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let read = upscayl_scale(&name);
    if read != scale {
        progress::note(&format!(
            "Upscayl reads a scale of {read} off the name {name}; call it model-x{scale} for use there"
        ));
    }
}

/// The scale that Upscayl reads off a model's name: the first of these found anywhere in it, as in
/// wdsr-b-32x16, else 4.
///
/// Source: upscayl/upscayl-ncnn, `src/main.cpp`; upscayl/upscayl, `common/check-model-scale.ts`.
fn upscayl_scale(name: &str) -> usize {
    [1, 2, 3, 4, 8, 16]
        .into_iter()
        .find(|scale| name.contains(&format!("x{scale}")) || name.contains(&format!("{scale}x")))
        .unwrap_or(4)
}
