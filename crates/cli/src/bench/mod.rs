//! `wdsr bench`: speed of inference and training, compared with the processor's peak.

mod inference;
mod training;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;
use wdsr_kernels::multiply_add_burst;
use wdsr_model::{
    DeviceChoice, Isa, Model, NetworkConfig, Precision, PrecisionOn, Upscaler, WeightFormat,
};

use crate::device::OpenGpu;
use crate::exit::WrongUsage;
use crate::file_claims::FileClaims;
use crate::models::{Choice, PrecisionArgument};
use crate::threads::on_threads;
use crate::{models, stdout};

/// The least number of measured runs, and the least time that they take together.
const MIN_RUNS: usize = 5;
const MIN_TIME: Duration = Duration::from_secs(2);
/// Rounds of a burst of multiply-adds, about 10 ms.
const BURST_ROUNDS: usize = 1_500_000;
/// Time of a burst on a GPU.
const GPU_PEAK_SECONDS: f64 = 0.05;

/// Measure the speed of a network, compared with the peak of the processor
///
/// First the kernels are checked against plain loops. Then runs of the network alternate with bursts
/// of multiply-adds, which measure the peak; the medians of both are printed. GFLOP/s count two
/// operations for each multiply-add of the network's definition. Winograd's convolution needs fewer,
/// so the ratio to the peak can exceed 1.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Model file, or a built-in kind: base (the default, without --network), photo or small
    #[arg(
        short = 'm',
        long,
        value_name = "FILE|KIND",
        conflicts_with = "network"
    )]
    model: Option<PathBuf>,
    /// Network with random weights, e.g. wdsr-b-32x16
    ///
    /// The name consists of kind (wdsr-a, wdsr-b, edsr, compact, msrresnet or rrdb),
    /// features and blocks.
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Scale of --network or of the built-in model [default: 2]
    #[arg(short = 's', long, value_name = "N")]
    scale: Option<usize>,
    /// Size of the input image in pixels
    #[arg(long, value_name = "WxH", default_value = "256x256", value_parser = parse_size, conflicts_with = "train")]
    size: (usize, usize),
    /// Largest width of a tile in input pixels; 0 for the full width
    #[arg(short = 't', long, value_name = "PX", default_value_t = wdsr_model::DEFAULT_TILE_PX, conflicts_with = "train")]
    tile: usize,
    /// Number format of the network's arithmetic
    #[arg(long, value_enum, default_value_t = PrecisionArgument::F32)]
    precision: PrecisionArgument,
    /// What computes the network: cpu, gpu, gpu:N, or auto for a GPU if there is one
    ///
    /// `wdsr devices` lists GPUs and their numbers. Times include the transfers to and from a GPU.
    #[arg(
        long,
        value_name = "DEVICE",
        default_value = "cpu",
        conflicts_with = "train"
    )]
    device: DeviceChoice,
    /// Number of threads; 0 for one per processor
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Measure a training step instead of inference
    ///
    /// The batch has 16 patches of 48 x 48 pixels; the loss is L1, the optimiser Adam.
    #[arg(long)]
    train: bool,
    /// Print a JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Write the network to FILE as ONNX, to measure other engines
    #[arg(long, value_name = "FILE")]
    save_onnx: Option<PathBuf>,
}

/// The result, and the object that `--json` prints.
#[derive(Serialize)]
struct Report {
    /// `upscale` or `train`.
    work: &'static str,
    network: String,
    scale: usize,
    /// Width of the input image, or of a patch for `train`.
    width_px: usize,
    /// Height of the input image, or of a patch for `train`.
    height_px: usize,
    precision: &'static str,
    threads: usize,
    /// Of the processor.
    isa: &'static str,
    /// The GPU, if one computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<String>,
    runs: usize,
    /// Largest difference from the plain loops: of samples in 0..1, or of gradients relative to the
    /// largest of a tensor.
    error: f64,
    median_ms: f64,
    gflops: f64,
    peak_gflops: f64,
    ratio_to_peak: f64,
    /// Peak memory of the process; null if unknown.
    peak_memory_mb: Option<f64>,
    parts: Vec<Part>,
}

/// A part of the work, summed over the blocks of the network and over threads.
#[derive(Serialize)]
struct Part {
    name: String,
    /// Share of the time of all threads, 0..1.
    share: f64,
    /// Speed of one thread; null for parts without convolutions.
    gflops: Option<f64>,
}

/// Work that is measured.
trait Work {
    /// Runs it once.
    fn run(&mut self);
    /// Operations of a run, two for each multiply-add.
    fn operations(&self) -> f64;
    /// Name, time and, for convolutions, operations of each part, summed over the runs.
    fn parts(&self) -> Vec<(String, Duration, Option<f64>)>;
    /// Resets the times of the parts.
    fn reset(&mut self);
}

struct Measured {
    times: Vec<Duration>,
    peaks_gflops: Vec<f64>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(path) = &arguments.save_onnx {
        let model = models::file(arguments.model.as_deref());
        FileClaims::of_inputs(model.map(|file| ("model", file))).write(
            "ONNX model",
            "--save-onnx",
            path,
        )?;
    }
    let isa = Isa::detect()?;
    let choice = match &arguments.network {
        Some(name) => {
            let config = NetworkConfig::from_name(name, arguments.scale.unwrap_or(2))
                .map_err(|error| WrongUsage(error.to_string()))?;
            let model = Model::random(&config, 1);
            let model = match arguments.precision {
                PrecisionArgument::Int8 => inference::quantized(model, isa)?,
                _ => model,
            };
            let name = name.clone();
            Choice { name, model }
        }
        None => models::load(arguments.model.as_deref(), arguments.scale)?,
    };
    let model = &choice.model;
    if let Some(path) = &arguments.save_onnx {
        save_onnx(model, path)?;
    }
    let report = on_threads(arguments.threads, || measure(arguments, &choice, isa))??;
    if arguments.json {
        stdout::print_json(&report)
    } else {
        Ok(stdout::print(report.to_text(model))?)
    }
}

fn save_onnx(model: &Model, path: &Path) -> anyhow::Result<()> {
    let bytes = wdsr_convert::to_onnx(model, WeightFormat::F32)?;
    wdsr_atomic_file::write(path, &bytes)
        .with_context(|| format!("{}: cannot write", path.display()))
}

fn measure(
    arguments: &Arguments,
    Choice { name, model }: &Choice,
    isa: Isa,
) -> anyhow::Result<Report> {
    if arguments.train {
        arguments.precision.of_training()?;
    }
    let gpu = OpenGpu::open(arguments.device)?;
    let on = (arguments.precision).on(gpu.as_ref(), name, model, isa)?;
    let on = models::or_f32(on, isa);
    // That of the processor, which checks the results of a GPU in f32.
    let precision = match on {
        PrecisionOn::Processor(precision) => precision,
        PrecisionOn::Device(..) => Precision::F32,
    };
    // The one that multiplies.
    let isa = match precision {
        Precision::F32 => isa.without_tiles(),
        Precision::Bf16 | Precision::Int8 => isa,
    };
    let (mut work, error): (Box<dyn Work>, f64) = if arguments.train {
        let error = training::error(model.config(), isa, precision);
        (
            Box::new(training::Training::new(model.config(), isa, precision)),
            error,
        )
    } else {
        let upscaler = Upscaler::with_isa(model, isa).computed(&on);
        let upscaler = upscaler.tile_px(models::tile_px(arguments.tile));
        let error = inference::error(model, &upscaler, precision)?;
        let work = inference::Inference::new(model, upscaler, arguments.size);
        (Box::new(work), error)
    };
    let isa_name = isa.name().to_owned();
    let device = gpu.as_ref().map_or(isa_name, |gpu| gpu.name().to_owned());
    // Rounding errors of sums of a thousand values up to 1, through tens of layers.
    let allowed = match on.name() {
        "bf16" | "f16" => 1e-1,
        "int8" => 0.0,
        _ => 1e-3,
    };
    if error.is_nan() || error > allowed {
        bail!(
            "the kernels of {device} are wrong: expected results within {allowed:e} of the plain loops, found a difference of \
             {error:e}; please report this"
        );
    }
    let Measured {
        times,
        peaks_gflops,
    } = alternate(&mut *work, || match (&gpu, &on) {
        (Some(gpu), PrecisionOn::Device(_, precision)) => {
            gpu.peak_gflops(*precision, GPU_PEAK_SECONDS)
        }
        _ => Ok(processor_peak_gflops(isa, precision)),
    })?;
    let median_s = median(times.iter().map(Duration::as_secs_f64).collect());
    let gflops = work.operations() / median_s / 1e9;
    let peak_gflops = median(peaks_gflops);
    let parts = work.parts();
    let total: f64 = parts.iter().map(|(_, time, _)| time.as_secs_f64()).sum();
    let patch = (training::PATCH_PX, training::PATCH_PX);
    let (width_px, height_px) = if arguments.train {
        patch
    } else {
        arguments.size
    };
    Ok(Report {
        work: if arguments.train { "train" } else { "upscale" },
        network: arguments
            .network
            .clone()
            .unwrap_or_else(|| model.config().label()),
        scale: model.config().scale,
        width_px,
        height_px,
        precision: on.name(),
        threads: rayon::current_num_threads(),
        isa: isa.name(),
        gpu: gpu.as_ref().map(|gpu| gpu.name().to_owned()),
        runs: times.len(),
        error,
        median_ms: median_s * 1e3,
        gflops,
        peak_gflops,
        ratio_to_peak: gflops / peak_gflops,
        peak_memory_mb: peak_memory_mb(),
        parts: parts
            .into_iter()
            .map(|(name, time, operations)| Part {
                name,
                share: time.as_secs_f64() / total,
                gflops: operations.map(|operations| operations / time.as_secs_f64() / 1e9),
            })
            .collect(),
    })
}

/// The speed of a burst of multiply-adds on all threads.
fn processor_peak_gflops(isa: Isa, precision: Precision) -> f64 {
    let started = Instant::now();
    let operations = rayon::broadcast(|_| multiply_add_burst(isa, precision, BURST_ROUNDS));
    let operations: u64 = operations.into_iter().sum();
    operations as f64 / started.elapsed().as_secs_f64() / 1e9
}

/// Runs the work and bursts of multiply-adds alternately.
fn alternate(
    work: &mut dyn Work,
    peak_gflops: impl Fn() -> anyhow::Result<f64>,
) -> anyhow::Result<Measured> {
    work.run();
    work.reset();
    let mut measured = Measured {
        times: Vec::new(),
        peaks_gflops: Vec::new(),
    };
    let start = Instant::now();
    while measured.times.len() < MIN_RUNS || start.elapsed() < MIN_TIME {
        measured.peaks_gflops.push(peak_gflops()?);
        let started = Instant::now();
        work.run();
        measured.times.push(started.elapsed());
    }
    Ok(measured)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Peak memory of the process, as Linux reports it.
fn peak_memory_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

impl Report {
    fn to_text(&self, model: &Model) -> String {
        let name = match self.network == model.config().label() {
            true => self.network.clone(),
            false => format!("{} x{}", self.network, self.scale),
        };
        let size = format!("{} x {}", self.width_px, self.height_px);
        let work = match self.work {
            "train" => format!(
                "training step, {} patches of {size} pixels",
                training::PATCHES
            ),
            _ => format!("input of {size} pixels"),
        };
        let threads = match self.threads {
            1 => "1 thread".to_owned(),
            threads => format!("{threads} threads"),
        };
        let mut text = format!(
            "{name}, {work}, {}, {}\n",
            self.precision,
            match &self.gpu {
                Some(gpu) => gpu.clone(),
                None => format!("{}, {threads}", self.isa),
            }
        );
        let mut line = |label: &str, value: String| {
            let _ = writeln!(text, "  {label:<32}{value:>16}");
        };
        line("difference from plain loops", format!("{:.1e}", self.error));
        line(
            &format!("median time of {} runs", self.runs),
            format!("{:.1} ms", self.median_ms),
        );
        line("speed", format!("{:.1} GFLOP/s", self.gflops));
        line(
            "peak of multiply-adds",
            format!("{:.1} GFLOP/s", self.peak_gflops),
        );
        line("speed / peak", format!("{:.2}", self.ratio_to_peak));
        if let Some(memory) = self.peak_memory_mb {
            line("peak memory", format!("{memory:.0} MB"));
        }
        let _ = writeln!(
            text,
            "\n  {:32} {:>7} {:>9}  / peak",
            "part", "time", "GFLOP/s"
        );
        let thread_peak = match self.gpu {
            Some(_) => self.peak_gflops,
            None => self.peak_gflops / self.threads as f64,
        };
        for part in &self.parts {
            let (gflops, ratio) = match part.gflops {
                Some(gflops) => (
                    format!("{gflops:.1}"),
                    format!("{:.2}", gflops / thread_peak),
                ),
                None => (String::new(), String::new()),
            };
            let _ = writeln!(
                text,
                "  {:32} {:>6.1}% {gflops:>9}  {ratio:>6}",
                part.name,
                part.share * 100.0
            );
        }
        text
    }
}

fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let expected = || format!("expected width and height as in 1280x720, found `{text}`");
    let (width, height) = text.split_once('x').ok_or_else(expected)?;
    match (width.parse(), height.parse()) {
        (Ok(width), Ok(height)) if width > 0 && height > 0 => Ok((width, height)),
        _ => Err(expected()),
    }
}
