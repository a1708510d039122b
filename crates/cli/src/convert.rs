//! `wdsr convert`: reads models of other trainers, writes models for other engines.

use std::path::{Path, PathBuf};

use anyhow::Context;
use wdsr_import::{Imported, Options, Range};
use wdsr_model::OnnxPrecision;

use crate::{WrongUsage, progress};

/// Read another trainer's model, write a model for this program or other engines
///
/// IN is told by its content: a model of this program, or a checkpoint of PyTorch (.pt, .pth) or
/// safetensors file in the layout of wdsr_ntire2018, yjn870/WDSR-pytorch, ychfan/wdsr,
/// compiler-aware-nas-sr or EDSR-PyTorch, bare or within what a trainer saves; with the feature
/// `keras` also weights of krasserm/super-resolution (.h5). No code in it is run.
/// What was recognised is printed; the options are for what a file cannot say.
///
/// The suffix of OUT chooses the format: .safetensors for this program; .onnx (opset 17) for ONNX
/// Runtime, OpenVINO, chaiNNer and others. Input `input` and output `output` are float32 [batch, 3,
/// height, width], R G B in 0..1, of any size.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Model or checkpoint to read
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// File to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointArguments,
    /// Compute in float16: half the size, slightly different results; input and output stay
    /// float32
    #[arg(long)]
    f16: bool,
    /// Say nothing but errors
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// What another trainer's checkpoint cannot say.
#[derive(clap::Args)]
struct CheckpointArguments {
    /// Key of the weights in a checkpoint that has several, such as params or params_ema
    #[arg(long, value_name = "KEY")]
    weights: Option<String>,
    /// Range of pixels that a checkpoint was trained on, if not its layout's usual one
    #[arg(long, value_enum)]
    range: Option<RangeArgument>,
    /// Mean that was subtracted from its pixels, in 0..1: one number or R,G,B
    #[arg(long, value_parser = mean)]
    mean: Option<[f32; 3]>,
    /// Factor of its residual blocks, 1 if not given; no checkpoint holds it
    #[arg(long, value_name = "FACTOR")]
    residual_scale: Option<f32>,
}

impl CheckpointArguments {
    fn options(&self) -> Options {
        Options {
            weights: self.weights.clone(),
            range: self.range.map(|range| match range {
                RangeArgument::Unit => Range::Unit,
                RangeArgument::Signed => Range::Signed,
                RangeArgument::Byte => Range::Byte,
            }),
            mean: self.mean,
            residual_scale: self.residual_scale,
        }
    }
}

/// [`Range`] as an argument.
#[derive(Clone, Copy, clap::ValueEnum)]
enum RangeArgument {
    /// x - mean, x in 0..1
    Unit,
    /// (255 x - 255 mean) / 127.5
    Signed,
    /// 255 x - 255 mean
    Byte,
}

/// Reads `0.5` or `0.4488,0.4371,0.4040`.
fn mean(text: &str) -> Result<[f32; 3], String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    let mean = match numbers.as_deref() {
        Ok([all]) => [*all; 3],
        Ok([r, g, b]) => [*r, *g, *b],
        _ => return Err("expected one number, or three as R,G,B".to_owned()),
    };
    if mean.iter().all(|m| (0.0..=1.0).contains(m)) {
        Ok(mean)
    } else {
        Err("expected numbers in 0..1".to_owned())
    }
}

/// A format that models are written in.
enum Target {
    Model,
    Onnx,
}

impl Target {
    /// By the suffix of a file.
    fn of(path: &Path) -> Result<Self, WrongUsage> {
        let suffix = path.extension().unwrap_or_default().to_string_lossy();
        match suffix.to_ascii_lowercase().as_str() {
            "safetensors" => Ok(Self::Model),
            "onnx" => Ok(Self::Onnx),
            _ => Err(WrongUsage(format!(
                "{}: expected a name that ends in .safetensors or .onnx, found {}; the suffix chooses the format",
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
    if arguments.f16 && matches!(target, Target::Model) {
        return Err(WrongUsage(format!(
            "{}: --f16 is for .onnx files",
            arguments.output.display()
        ))
        .into());
    }
    let Imported { model, recognised } =
        wdsr_import::import(&arguments.input, &arguments.checkpoint.options())?;
    match target {
        Target::Model => model.save(&arguments.output)?,
        Target::Onnx => {
            let precision = if arguments.f16 {
                OnnxPrecision::F16
            } else {
                OnnxPrecision::F32
            };
            model
                .save_onnx(&arguments.output, precision)
                .with_context(|| format!("{}: cannot be converted", arguments.input.display()))?;
        }
    }
    if !arguments.quiet {
        for line in recognised {
            progress::note(&line);
        }
        progress::note(&format!(
            "{} -> {} ({})",
            arguments.input.display(),
            arguments.output.display(),
            model.config().label()
        ));
    }
    Ok(())
}
