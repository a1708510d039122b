//! `wdsr devices`: what networks can be computed on.

use std::fmt::Write;
use std::time::{Duration, Instant};

use serde::Serialize;
use wdsr_kernels::multiply_add_burst;
use wdsr_model::{DeviceChoice, Isa, Precision};

use crate::device::OpenGpu;
use crate::{on_threads, stdout};

/// Time of the measurement of a device.
const SCORE_TIME: Duration = Duration::from_secs(1);
/// Rounds of a burst of multiply-adds, about 10 ms.
const BURST_ROUNDS: usize = 1_500_000;

/// List the processor and the GPUs that networks can be computed on
///
/// A GPU's number is that of --device gpu:N. The score is the speed of multiply-adds, measured for a second each, also in
/// f16 where a GPU has it, and then of matrices (tensor cores and their like) where it has those; networks reach a part
/// of it. Software imitates a GPU on the processor, slower than the processor itself; it is
/// used only if --device names it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
}

/// A device, and an object of `--json`.
#[derive(Serialize)]
struct Row {
    /// The value of `--device`.
    device: String,
    name: String,
    /// `processor`, `discrete`, `integrated`, `other` or `software`.
    kind: String,
    /// Of a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    /// Of a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_buffer_mib: Option<u64>,
    precisions: Vec<&'static str>,
    /// Of a GPU: whether its f16 is of matrices.
    #[serde(skip_serializing_if = "Option::is_none")]
    has_matrices: Option<bool>,
    /// In f32. Null if the device could not be opened.
    gflops: Option<f64>,
    /// Of a GPU that has f16.
    #[serde(skip_serializing_if = "Option::is_none")]
    f16_gflops: Option<f64>,
    /// Why the device could not be measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut rows = vec![processor()?];
    rows.extend(gpus());
    if arguments.json {
        return stdout::print_json(&rows);
    }
    let mut text = String::new();
    for row in &rows {
        let mut score = match row.gflops {
            Some(gflops) => format!("{gflops:.0} GFLOP/s"),
            None => "-".to_owned(),
        };
        if let Some(gflops) = row.f16_gflops {
            let _ = write!(score, ", {gflops:.0} in f16");
        }
        if row.has_matrices == Some(true) {
            score += " by matrices";
        }
        let _ = writeln!(
            text,
            "{:<6}  {}, {}, {}, {score}",
            row.device,
            row.name,
            row.kind,
            row.precisions.join(" ")
        );
        if let (Some(driver), Some(mib)) = (&row.driver, row.max_buffer_mib) {
            let _ = writeln!(text, "        {driver}; buffers up to {mib} MiB");
        }
        if let Some(error) = &row.error {
            let _ = writeln!(text, "        {error}");
        }
    }
    if rows.len() == 1 {
        text += if cfg!(feature = "gpu") {
            "no GPU found: no driver for Vulkan, Metal or Direct3D 12\n"
        } else {
            "this program was built without GPUs; build it with --features gpu\n"
        };
    }
    Ok(stdout::print(text)?)
}

fn processor() -> anyhow::Result<Row> {
    let isa = Isa::detect()?.without_tiles();
    let best = on_threads(0, || {
        let mut best = 0.0_f64;
        let end = Instant::now() + SCORE_TIME;
        while Instant::now() < end {
            let started = Instant::now();
            let operations =
                rayon::broadcast(|_| multiply_add_burst(isa, Precision::F32, BURST_ROUNDS));
            let operations: u64 = operations.into_iter().sum();
            best = best.max(operations as f64 / started.elapsed().as_secs_f64() / 1e9);
        }
        best
    })?;
    Ok(Row {
        device: "cpu".to_owned(),
        name: format!(
            "{} threads of {isa}",
            on_threads(0, rayon::current_num_threads)?
        ),
        kind: "processor".to_owned(),
        driver: None,
        max_buffer_mib: None,
        precisions: vec!["f32", "bf16", "int8"],
        has_matrices: None,
        gflops: Some(best),
        f16_gflops: None,
        error: None,
    })
}

#[cfg(feature = "gpu")]
fn gpus() -> Vec<Row> {
    use wdsr_model::DevicePrecision;

    let row = |adapter: wdsr_gpu::AdapterSummary| {
        let choice = DeviceChoice::Gpu(Some(adapter.index));
        let precisions = match adapter.has_f16 {
            true => vec![DevicePrecision::F32, DevicePrecision::F16],
            false => vec![DevicePrecision::F32],
        };
        let has_matrices = adapter.has_matrices();
        let measured = OpenGpu::open(choice).and_then(|gpu| {
            let gpu = gpu.into_iter();
            let scores = gpu.flat_map(|gpu| {
                let score = move |&precision| gpu.peak_gflops(precision, SCORE_TIME.as_secs_f64());
                precisions.iter().map(score).collect::<Vec<_>>()
            });
            scores.collect::<Result<Vec<_>, _>>()
        });
        let (scores, error) = match measured {
            Ok(scores) => (scores, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        Row {
            device: format!("gpu:{}", adapter.index),
            name: adapter.name,
            kind: adapter.kind.to_string(),
            driver: Some(format!("{} {}", adapter.backend, adapter.driver)),
            max_buffer_mib: Some(adapter.max_buffer_bytes >> 20),
            precisions: precisions
                .iter()
                .map(|precision| precision.name())
                .collect(),
            has_matrices: Some(has_matrices),
            gflops: scores.first().copied(),
            f16_gflops: scores.get(1).copied(),
            error,
        }
    };
    wdsr_gpu::adapters().into_iter().map(row).collect()
}

#[cfg(not(feature = "gpu"))]
fn gpus() -> Vec<Row> {
    let _ = (OpenGpu::open, DeviceChoice::Cpu);
    Vec::new()
}
