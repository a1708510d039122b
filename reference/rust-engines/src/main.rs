//! Runs one Rust inference engine on an ONNX file of this project and prints its times as JSON:
//! `rust-engines ENGINE MODEL.onnx WIDTH HEIGHT THREADS SECONDS EXPECTED`.
//!
//! The twin of `reference/engine.py`: same arguments, same input, same output.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rten::{Model, RunOptions, ThreadPool, Value};
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

/// The input in, the output out, both `[1, 3, height, width]`, row-major.
type Engine = Box<dyn FnMut() -> Result<Vec<f32>>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, model, width, height, threads, seconds, expected] = arguments.as_slice() else {
        bail!(
            "expected ENGINE MODEL.onnx WIDTH HEIGHT THREADS SECONDS EXPECTED, found {} arguments",
            arguments.len()
        );
    };
    let shape = [1, 3, height.parse()?, width.parse()?];
    let budget = Duration::from_secs_f64(seconds.parse()?);
    let mut run = match engine.as_str() {
        "rten" => rten_engine(model, shape, threads.parse()?)?,
        "tract" => tract_engine(model, shape, threads.parse()?)?,
        other => bail!("expected rten or tract, found {other}"),
    };

    let output = run()?;
    let mut times_ms = Vec::new();
    let started = Instant::now();
    while times_ms.is_empty() || started.elapsed() < budget {
        let before = Instant::now();
        run()?;
        times_ms.push(1e3 * before.elapsed().as_secs_f64());
    }
    println!(
        "{{\"times_ms\": {times_ms:?}, \"peak_memory_mb\": {}, \
         \"difference\": {:e}}}",
        peak_memory_mb()?,
        difference(&output, expected)?
    );
    Ok(())
}

/// The image all engines get: `(2654435761 i mod 2^32) / 2^32` at index `i`.
fn input(shape: [usize; 4]) -> Vec<f32> {
    (0..shape.iter().product::<usize>() as u32)
        .map(|i| i.wrapping_mul(2_654_435_761) as f32 / 4_294_967_296.0)
        .collect()
}

fn rten_engine(model: &str, shape: [usize; 4], threads: usize) -> Result<Engine> {
    let model = Model::load_file(model)?;
    let pool = Arc::new(ThreadPool::with_num_threads(threads));
    let input = Value::from_shape(shape, input(shape))?;
    Ok(Box::new(move || {
        let options = RunOptions::default().with_thread_pool(Some(pool.clone()));
        let output = model.run_one((&input).into(), Some(options))?;
        Ok(output.into_shape_vec::<f32, 4>()?.1)
    }))
}

fn tract_engine(model: &str, shape: [usize; 4], threads: usize) -> Result<Engine> {
    if threads > 1 {
        set_default_executor(Executor::multithread(threads));
    }
    let model = tract_onnx::onnx()
        .model_for_path(model)?
        .with_input_fact(0, f32::fact(shape).into())?
        .with_output_fact(0, InferenceFact::default())?
        .into_optimized()?
        .into_runnable()?;
    let input = Tensor::from_shape(&shape, &input(shape))?;
    Ok(Box::new(move || {
        let output = model.run(tvec!(input.clone().into()))?;
        let view = output[0].to_plain_array_view::<f32>()?;
        Ok(view.iter().copied().collect())
    }))
}

/// Largest difference from the numbers in a file, over the largest of those.
fn difference(output: &[f32], expected: &str) -> Result<f32> {
    let bytes = std::fs::read(expected).with_context(|| format!("{expected}: cannot read"))?;
    ensure!(
        bytes.len() == 4 * output.len(),
        "{expected}: expected {} numbers, found {}",
        output.len(),
        bytes.len() / 4
    );
    let (mut largest, mut difference) = (0.0_f32, 0.0_f32);
    for (bytes, output) in bytes.as_chunks().0.iter().zip(output) {
        let expected = f32::from_le_bytes(*bytes);
        largest = largest.max(expected.abs());
        difference = difference.max((expected - output).abs());
    }
    Ok(difference / largest)
}

/// The most that was resident in this process so far, in MB of 10^6 bytes.
fn peak_memory_mb() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next())
        .context("/proc/self/status: expected a line VmHWM, found none")?;
    Ok(kilobytes.parse::<f64>()? * 1024.0 / 1e6)
}
