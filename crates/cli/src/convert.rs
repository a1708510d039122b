//! `wdsr convert`: reads models of other trainers, writes models for other engines.

use std::path::{Path, PathBuf};

use anyhow::Context;
use wdsr_import::{Imported, Options, Range};
use wdsr_model::{BlockKind, ExportPrecision, NetworkConfig};

use crate::file_claims::FileClaims;
use crate::{WrongUsage, progress};

/// Read another trainer's model, write a model for this program or other engines
///
/// IN is told by its content: a model of this program, or a checkpoint of PyTorch (.pt, .pth) or
/// safetensors file in the layout of wdsr_ntire2018, yjn870/WDSR-pytorch, ychfan/wdsr,
/// compiler-aware-nas-sr or EDSR-PyTorch, bare or within what a trainer saves; with the feature
/// `keras` also weights of krasserm/super-resolution (.h5). No code in it is run.
/// What was recognised is printed; the options are for what a file cannot say.
///
/// The suffix of OUT chooses the format. Input and output are R G B in 0..1, of any size.
///
/// .onnx (opset 17) for ONNX Runtime, OpenVINO, chaiNNer and others: `input` and `output`, float32
/// [batch, 3, height, width].
///
/// .param for ncnn: Upscayl, realesrgan-ncnn-vulkan, chaiNNer. The weights are written beside it as
/// .bin. Blobs `data` and `output`. Upscayl reads the scale off the name: small-x2.param.
///
/// .safetensors for this program, with `--layout official` for the published PyTorch code
/// (wdsr_ntire2018, EDSR-PyTorch).
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
    /// Weights in float16: half the size
    ///
    /// The results differ slightly. ONNX also computes in it; input and output stay float32.
    #[arg(long)]
    f16: bool,
    /// Keys and ranges of a .safetensors file
    #[arg(long, value_enum, default_value = "wdsr")]
    layout: Layout,
    /// Say nothing but errors
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// Whose keys a .safetensors file has.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Layout {
    /// This program's
    Wdsr,
    /// The published PyTorch code's
    Official,
}

/// What another trainer's checkpoint cannot say.
#[derive(clap::Args)]
struct CheckpointArguments {
    /// Key of the weights, as params or params_ema
    ///
    /// For a checkpoint that has several.
    #[arg(long, value_name = "KEY")]
    weights: Option<String>,
    /// Range of pixels that a checkpoint was trained on
    ///
    /// If it is not its layout's usual one.
    #[arg(long, value_enum)]
    range: Option<RangeArgument>,
    /// Mean subtracted from its pixels, in 0..1: a number or R,G,B
    #[arg(long, value_parser = mean)]
    mean: Option<[f32; 3]>,
    /// Factor of its residual blocks; without it 1
    ///
    /// No checkpoint holds it.
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
#[derive(Clone, Copy)]
enum Target {
    Model,
    Official,
    Onnx,
    Ncnn,
}

impl Target {
    /// By the suffix of the file to write, which the options must fit.
    fn of(arguments: &Arguments) -> Result<Self, WrongUsage> {
        let path = &arguments.output;
        let suffix = path.extension().unwrap_or_default().to_string_lossy();
        let wrong = |reason: &str| Err(WrongUsage(format!("{}: {reason}", path.display())));
        let target = match (suffix.to_ascii_lowercase().as_str(), arguments.layout) {
            ("safetensors", Layout::Wdsr) => Self::Model,
            ("safetensors", Layout::Official) => Self::Official,
            ("onnx" | "param", Layout::Official) => {
                return wrong("--layout is for .safetensors files");
            }
            ("onnx", _) => Self::Onnx,
            ("param", _) => Self::Ncnn,
            _ => {
                let found = if suffix.is_empty() {
                    "no suffix".to_owned()
                } else {
                    format!(".{suffix}")
                };
                return wrong(&format!(
                    "expected a name that ends in .safetensors, .onnx or .param, found {found}; \
                     the suffix chooses the format"
                ));
            }
        };
        if arguments.f16 && matches!(target, Self::Official) {
            return wrong("--f16 is not for the official layout");
        }
        Ok(target)
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let target = Target::of(arguments)?;
    let mut claims = FileClaims::of_inputs([("input", &*arguments.input)]);
    claims.write("model", "OUT", &arguments.output)?;
    if let Target::Ncnn = target {
        claims.write("weights", "OUT", &arguments.output.with_extension("bin"))?;
    }
    let Imported { model, recognised } =
        wdsr_import::import(&arguments.input, &arguments.checkpoint.options())?;
    let precision = if arguments.f16 {
        ExportPrecision::F16
    } else {
        ExportPrecision::F32
    };
    match target {
        Target::Model => model.save_in(&arguments.output, precision),
        Target::Official => model.save_official(&arguments.output),
        Target::Onnx => model.save_onnx(&arguments.output, precision),
        Target::Ncnn => model.save_ncnn(&arguments.output, precision),
    }
    .with_context(|| format!("{}: cannot be converted", arguments.input.display()))?;
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
        match target {
            Target::Model | Target::Onnx => {}
            Target::Ncnn => note_upscayl_scale(&arguments.output, model.config().scale),
            Target::Official => {
                progress::note(&format!("options: {}", model.official_options()));
                note_fixed_widths(model.config());
            }
        }
    }
    Ok(())
}

/// Says so where the official code has no options for a network: it fixes two widths of WDSR-B.
fn note_fixed_widths(config: &NetworkConfig) {
    let published = NetworkConfig::wdsr_b(config.features, config.blocks, config.scale);
    let (expansion, low_rank) = (config.expansion, config.low_rank);
    if config.block == BlockKind::WdsrB
        && (expansion, low_rank) != (published.expansion, published.low_rank)
    {
        progress::note(&format!(
            "wdsr_b.py fixes an expansion of {} and {} low-rank channels; change it to {expansion} \
             and {low_rank}",
            published.expansion, published.low_rank
        ));
    }
}

/// Says so where Upscayl would upscale by another factor than the model does.
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
