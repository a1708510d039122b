//! `wdsr convert`: reads models of other trainers and writes models for other engines.

use std::path::{Path, PathBuf};

use anyhow::Context;
use wdsr_convert::{
    Imported, NcnnFiles, Options, Range, import, pytorch_options, to_ncnn, to_onnx, to_pytorch,
};
use wdsr_model::{BlockKind, Model, NetworkConfig, WeightFormat};

use crate::exit::WrongUsage;
use crate::file_claims::FileClaims;
use crate::models::{self, Choice};
use crate::{progress, units};

/// Convert models: from other trainers, to ONNX, ncnn, PyTorch or this program
///
/// IN is a model of this program, a built-in kind (base, photo or small), or a PyTorch checkpoint (.pt,
/// .pth) or safetensors file in the layout of wdsr_ntire2018, yjn870/WDSR-pytorch, ychfan/wdsr, compiler-aware-nas-sr,
/// EDSR-PyTorch, BasicSR (EDSR, MSRResNet), Real-ESRGAN's Compact or ESRGAN (RRDB): the weights alone,
/// or inside a trainer's checkpoint. Builds with the feature `keras` also read weights of
/// krasserm/super-resolution (.h5). The content of the file decides its
/// format. No code in a checkpoint is run. The program prints what it recognised; options set what a
/// file does not record.
///
/// The suffix of OUT selects the format. Input and output of the network are R G B in 0..1, of any
/// size.
///
/// .onnx (opset 17): for ONNX Runtime, OpenVINO, chaiNNer and others. `input` and `output` are
/// float32 [batch, 3, height, width].
///
/// .param: for ncnn, Upscayl, realesrgan-ncnn-vulkan, chaiNNer. The weights are written beside it
/// as .bin. The blobs are `data` and `output`. Upscayl reads the scale from the file name, as in
/// small-x2.param.
///
/// .safetensors: for this program, or with `--layout official` for the published PyTorch code
/// (wdsr_ntire2018, EDSR-PyTorch, BasicSR, Real-ESRGAN).
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Model or checkpoint to read, or a built-in kind; for a file of that name use ./small
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// File to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Scale of the built-in model [default: 2]
    #[arg(short = 's', long, value_name = "N")]
    scale: Option<usize>,
    #[command(flatten)]
    checkpoint: CheckpointArguments,
    /// Write weights in float16: half the size
    ///
    /// The results differ slightly. An ONNX file also computes in float16; its input and output stay
    /// float32.
    #[arg(long)]
    f16: bool,
    /// Layout of a .safetensors file: names and ranges of the weights
    #[arg(long, value_enum, default_value = "wdsr")]
    layout: Layout,
    /// Strength of a model that has one, 0 to 1: OUT has the weights of that strength
    ///
    /// Without it, a .safetensors file of this program keeps all strengths; other formats need one.
    #[arg(long, value_name = "S", value_parser = units::strength)]
    strength: Option<f32>,
    /// Print errors only
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// [`Arguments::layout`]
#[derive(Clone, Copy, clap::ValueEnum)]
enum Layout {
    /// Of this program
    Wdsr,
    /// Of the published PyTorch code
    Official,
}

/// Properties that another trainer's checkpoint does not record.
#[derive(clap::Args)]
struct CheckpointArguments {
    /// Key of the weights in a checkpoint with several, e.g. params_ema
    #[arg(long, value_name = "KEY")]
    weights: Option<String>,
    /// Range of the pixels that the network was trained on
    ///
    /// By default that of the layout.
    #[arg(long, value_enum)]
    range: Option<RangeArgument>,
    /// Mean that was subtracted from the pixels, in 0..1: a number or R,G,B
    ///
    /// By default that of the layout.
    #[arg(long, value_parser = mean)]
    mean: Option<[f32; 3]>,
    /// Residual scale: factor of each block's branch [default: 1]
    ///
    /// No checkpoint records it.
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
        _ => return Err(format!("expected a number or three as R,G,B, found {text}")),
    };
    if mean.iter().all(|m| (0.0..=1.0).contains(m)) {
        Ok(mean)
    } else {
        Err(format!("expected numbers in 0..1, found {text}"))
    }
}

/// The format of OUT.
#[derive(Clone, Copy)]
enum Target {
    Model,
    Official,
    Onnx,
    Ncnn,
}

impl Target {
    /// Selects the format by the suffix of OUT.
    ///
    /// # Errors
    /// If the suffix is unknown, or the options do not apply to it.
    fn of(arguments: &Arguments) -> Result<Self, WrongUsage> {
        let path = &arguments.output;
        let suffix = path.extension().unwrap_or_default().to_string_lossy();
        let wrong = |reason: &str| Err(WrongUsage(format!("{}: {reason}", path.display())));
        let target = match (suffix.to_ascii_lowercase().as_str(), arguments.layout) {
            ("safetensors", Layout::Wdsr) => Self::Model,
            ("safetensors", Layout::Official) => Self::Official,
            ("onnx" | "param", Layout::Official) => {
                return wrong("--layout applies to .safetensors files only; omit it");
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
                    "expected a file name with the suffix .safetensors, .onnx or .param, which \
                     selects the format, found {found}"
                ));
            }
        };
        if arguments.f16 && matches!(target, Self::Official) {
            return wrong("--f16 does not apply to the official layout; omit it");
        }
        Ok(target)
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let target = Target::of(arguments)?;
    let file = models::file(Some(&arguments.input));
    let mut claims = FileClaims::of_inputs(file.map(|file| ("input", file)));
    claims.write("model", "OUT", &arguments.output)?;
    if let Target::Ncnn = target {
        claims.write("weights", "OUT", &arguments.output.with_extension("bin"))?;
    }
    let Imported { model, recognised } = read(arguments)?;
    let input = arguments.input.display();
    let model = match (arguments.strength, model.strong()) {
        (Some(strength), Some(_)) => model.at_strength(strength),
        (Some(_), None) => {
            let message = format!("--strength: {input} has no strength; omit it");
            return Err(WrongUsage(message).into());
        }
        (None, Some(_)) if !matches!(target, Target::Model) => {
            let message = format!("{input} has a strength, which OUT cannot hold; give --strength");
            return Err(WrongUsage(message).into());
        }
        (None, _) => model,
    };
    let format = if arguments.f16 {
        WeightFormat::F16
    } else {
        WeightFormat::F32
    };
    write(&model, target, format, &arguments.output)
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
            Target::Ncnn => warn_of_upscayl_scale(&arguments.output, model.config().scale),
            Target::Official => {
                progress::note(&format!("options: {}", pytorch_options(&model)));
                warn_of_fixed_widths(model.config());
            }
        }
    }
    Ok(())
}

/// Reads IN: a built-in model or a file.
fn read(arguments: &Arguments) -> anyhow::Result<Imported> {
    let (input, options) = (&arguments.input, arguments.checkpoint.options());
    if let Some(file) = models::file(Some(input)) {
        models::check_name(file)?;
        return match arguments.scale {
            None => Ok(import(file, &options)?),
            Some(_) => Err(models::scale_of_file().into()),
        };
    }
    if options != Options::default() {
        let message = format!(
            "{}: a built-in model has its weights, range, mean and residual scale; omit these options",
            input.display()
        );
        return Err(WrongUsage(message).into());
    }
    let Choice { name, model } = models::load(Some(input), arguments.scale)?;
    let recognised = vec![name];
    Ok(Imported { model, recognised })
}

/// Writes the model. Files get their names only when they are complete.
fn write(model: &Model, target: Target, format: WeightFormat, path: &Path) -> anyhow::Result<()> {
    let bytes = match target {
        Target::Model => return Ok(model.save_in(path, format)?),
        Target::Ncnn => {
            let NcnnFiles { param, bin, .. } = to_ncnn(model, format)?;
            let bin_path = path.with_extension("bin");
            let files = ((&*bin_path, &*bin), (path, param.as_bytes()));
            return wdsr_atomic_file::write_pair(files.0, files.1).map_err(|(path, error)| {
                anyhow::Error::from(error).context(format!("{}: cannot write", path.display()))
            });
        }
        Target::Official => to_pytorch(model),
        Target::Onnx => to_onnx(model, format)?,
    };
    wdsr_atomic_file::write(path, &bytes)
        .with_context(|| format!("{}: cannot write", path.display()))
}

/// Warns if the published code has no options for a network: it fixes two widths of WDSR-B.
fn warn_of_fixed_widths(config: &NetworkConfig) {
    let published = NetworkConfig::wdsr_b(config.features, config.blocks, config.scale);
    let (expansion, low_rank) = (config.expansion, config.low_rank);
    if config.block == BlockKind::WdsrB
        && (expansion, low_rank) != (published.expansion, published.low_rank)
    {
        progress::note(&format!(
            "wdsr_b.py has a fixed expansion of {} and {} low-rank channels; change them to \
             {expansion} and {low_rank}",
            published.expansion, published.low_rank
        ));
    }
}

/// Warns if Upscayl would read another scale from the file name than that of the model.
fn warn_of_upscayl_scale(path: &Path, scale: usize) {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let read = upscayl_scale(&name);
    if read != scale {
        progress::note(&format!(
            "Upscayl reads scale {read} from the name {name}; for Upscayl rename the files to \
             model-x{scale}"
        ));
    }
}

/// The scale that Upscayl reads from a model's name: the first of these anywhere in the name (x1 in
/// wdsr-b-32x16), or 4.
///
/// Source: upscayl/upscayl-ncnn, `src/main.cpp`; upscayl/upscayl, `common/check-model-scale.ts`.
fn upscayl_scale(name: &str) -> usize {
    [1, 2, 3, 4, 8, 16]
        .into_iter()
        .find(|scale| name.contains(&format!("x{scale}")) || name.contains(&format!("{scale}x")))
        .unwrap_or(4)
}
