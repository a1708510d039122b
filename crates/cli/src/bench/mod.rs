//! `wdsr bench`: how fast networks run and train here, against the limit of the processor.
#![allow(clippy::print_stdout, reason = "the figures are the command's output")]

mod inference;
mod training;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;
use wdsr_kernels::multiply_add_burst;
use wdsr_model::{ExportPrecision, Isa, Model, NetworkConfig, Precision};

use crate::file_claims::FileClaims;
use crate::models::PrecisionArgument;
use crate::{WrongUsage, models, on_threads};

/// Runs that are measured: at least so many, and for at least so long.
const MIN_RUNS: usize = 5;
const MIN_TIME: Duration = Duration::from_secs(2);
/// Rounds of a burst of multiply-adds, about 10 ms.
const BURST_ROUNDS: usize = 1_500_000;

/// Measure a network's speed against the limit of the processor
///
/// The kernels are first checked against the plain loops that define them. Then runs and bursts of
/// nothing but multiply-adds take turns; medians of both are compared. GFLOP/s count the network's
/// multiply-adds as it is defined, two operations each: Winograd's convolution, which needs fewer,
/// can pass the limit.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Model file, or a built-in kind: base (the default, without --network) or small
    #[arg(short = 'm', long, value_name = "FILE", conflicts_with = "network")]
    model: Option<PathBuf>,
    /// Network of random weights by name, as wdsr-b-32x16
    ///
    /// The name is kind, features, blocks.
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Scale of --network
    #[arg(
        short = 's',
        long,
        value_name = "N",
        default_value_t = 2,
        requires = "network"
    )]
    scale: usize,
    /// Size of the input
    #[arg(long, value_name = "WxH", default_value = "256x256", value_parser = parse_size, conflicts_with = "train")]
    size: (usize, usize),
    /// Width of the tiles in pixels of the input; 0: the full width
    #[arg(short = 't', long, value_name = "PX", default_value_t = wdsr_model::DEFAULT_TILE_PX, conflicts_with = "train")]
    tile: usize,
    /// Arithmetic of the network
    #[arg(long, value_enum, default_value_t = PrecisionArgument::F32)]
    precision: PrecisionArgument,
    /// Threads; 0: one for each processor
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Measure an update of a training instead
    ///
    /// 16 patches of 48 x 48 pixels, with L1 loss and Adam.
    #[arg(long)]
    train: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Write the network measured as ONNX, for other engines
    #[arg(long, value_name = "FILE")]
    save_onnx: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    /// `upscale` or `train`.
    work: &'static str,
    network: String,
    scale: usize,
    /// Of the input; of a patch where `work` is `train`.
    width_px: usize,
    height_px: usize,
    precision: &'static str,
    threads: usize,
    isa: &'static str,
    runs: usize,
    /// Largest difference to the plain loops, where 1 is white; of gradients, relative to the
    /// largest of a tensor.
    error: f64,
    median_ms: f64,
    gflops: f64,
    peak_gflops: f64,
    ratio_to_peak: f64,
    /// The process's largest memory so far; null where the system does not tell.
    peak_memory_mb: Option<f64>,
    parts: Vec<Part>,
}

/// A part of the work, summed over its places in the network and over threads.
#[derive(Serialize)]
struct Part {
    name: String,
    /// Of all threads' time.
    share: f64,
    /// Of one thread; null for what is no convolution.
    gflops: Option<f64>,
}

/// The work to be measured.
trait Work {
    /// Does it once.
    fn run(&mut self);
    /// Operations of one run, two for each multiply-add.
    fn operations(&self) -> f64;
    /// Time of each part so far, with its operations if it is made of multiply-adds.
    fn parts(&self) -> Vec<(String, Duration, Option<f64>)>;
    /// Forgets the times of the parts.
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
    let model = match &arguments.network {
        Some(name) => {
            let config = NetworkConfig::from_name(name, arguments.scale).map_err(WrongUsage)?;
            Model::random(&config, 1)
        }
        None => models::load(arguments.model.as_deref(), None)?.model,
    };
    if let Some(path) = &arguments.save_onnx {
        model
            .save_onnx(path, ExportPrecision::F32)
            .with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    let isa = Isa::detect()?;
    let report = on_threads(arguments.threads, || measure(arguments, &model, isa))??;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report, &model);
    }
    Ok(())
}

fn measure(arguments: &Arguments, model: &Model, isa: Isa) -> anyhow::Result<Report> {
    let precision = arguments.precision.or_f32(isa);
    let (mut work, error): (Box<dyn Work>, f64) = if arguments.train {
        let error = training::error(model.config(), isa, precision);
        (
            Box::new(training::Training::new(model.config(), isa, precision)),
            error,
        )
    } else {
        let error = inference::error(model, isa, precision)?;
        (
            Box::new(inference::Inference::new(
                model,
                isa,
                precision,
                arguments.size,
                models::tile_px(arguments.tile),
            )),
            error,
        )
    };
    // Rounding errors of values up to 1 summed over a thousand terms, through tens of layers.
    let allowed = match precision {
        Precision::F32 => 1e-3,
        Precision::Bf16 => 1e-1,
    };
    if error.is_nan() || error > allowed {
        bail!(
            "the kernels of {isa} are wrong here: their results differ by {error:e} from the plain loops'; please report this"
        );
    }
    let Measured {
        times,
        peaks_gflops,
    } = take_turns(&mut *work, isa, precision);
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
        precision: precision.name(),
        threads: rayon::current_num_threads(),
        isa: isa.name(),
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

/// Runs the work and bursts of multiply-adds in turn.
fn take_turns(work: &mut dyn Work, isa: Isa, precision: Precision) -> Measured {
    work.run();
    work.reset();
    let mut measured = Measured {
        times: Vec::new(),
        peaks_gflops: Vec::new(),
    };
    let begun = Instant::now();
    while measured.times.len() < MIN_RUNS || begun.elapsed() < MIN_TIME {
        let started = Instant::now();
        let operations = rayon::broadcast(|_| multiply_add_burst(isa, precision, BURST_ROUNDS));
        let operations: u64 = operations.into_iter().sum();
        let seconds = started.elapsed().as_secs_f64();
        measured
            .peaks_gflops
            .push(operations as f64 / seconds / 1e9);
        let started = Instant::now();
        work.run();
        measured.times.push(started.elapsed());
    }
    measured
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The largest memory that the process has had, from Linux's account of it.
fn peak_memory_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

fn print(report: &Report, model: &Model) {
    let name = match report.network == model.config().label() {
        true => report.network.clone(),
        false => format!("{} x{}", report.network, report.scale),
    };
    let size = format!("{} x {}", report.width_px, report.height_px);
    let work = match report.work {
        "train" => format!("an update with {} patches of {size}", training::PATCHES),
        _ => format!("{size} pixels"),
    };
    println!(
        "{name}, {work}, {}, {} on {} {}",
        report.precision,
        report.isa,
        report.threads,
        if report.threads == 1 {
            "thread"
        } else {
            "threads"
        }
    );
    println!("  kernels checked: error {:.1e}", report.error);
    println!(
        "  median of {}: {:.1} ms, {:.1} GFLOP/s",
        report.runs, report.median_ms, report.gflops
    );
    println!(
        "  multiply-adds alone: {:.1} GFLOP/s; ratio {:.2}",
        report.peak_gflops, report.ratio_to_peak
    );
    if let Some(memory) = report.peak_memory_mb {
        println!("  peak memory {memory:.0} MB");
    }
    println!("\n  {:32} {:>7} {:>9}  ratio", "part", "time", "GFLOP/s");
    let peak = report.peak_gflops / report.threads as f64;
    for part in &report.parts {
        let (gflops, ratio) = match part.gflops {
            Some(gflops) => (format!("{gflops:.1}"), format!("{:.2}", gflops / peak)),
            None => (String::new(), String::new()),
        };
        println!(
            "  {:32} {:>6.1}% {gflops:>9}  {ratio:>5}",
            part.name,
            part.share * 100.0
        );
    }
}

fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let expected = || format!("`{text}`: expected width and height like 1280x720");
    let (width, height) = text.split_once('x').ok_or_else(expected)?;
    match (width.parse(), height.parse()) {
        (Ok(width), Ok(height)) if width > 0 && height > 0 => Ok((width, height)),
        _ => Err(expected()),
    }
}
