//! The peak of an adapter: multiply-adds without memory, of matrices in f16 where it has them.

use std::time::{Duration, Instant};

use wdsr_model::{DeviceError, DevicePrecision};
use wgpu::BufferUsages;

use crate::gpu::Open;
use crate::wgsl::{PEAK_UNROLLED, PEAK_VECTORS, peak_text};

/// Threads of a run.
const THREADS: usize = 1 << 18;

/// Threads of a workgroup of vectors, and the operations of one in a round.
const VECTORS: (usize, usize) = (64, 64 * PEAK_VECTORS * PEAK_UNROLLED * 4 * 2);

/// GFLOP/s of the best of some runs of what networks use in this precision, which take about `seconds`.
pub(crate) fn gflops(
    open: &Open,
    precision: DevicePrecision,
    seconds: f64,
) -> Result<f64, DeviceError> {
    let matrices = open.matrices_in(precision);
    let (text, (threads, operations)) = match matrices {
        Some(matrices) => (matrices.peak_text(), matrices.peak_workgroup()),
        None => (peak_text(precision), VECTORS),
    };
    let workgroups = THREADS / threads;
    let operations_of_round = (operations * workgroups) as f64;
    let pipeline = open.pipeline(&text)?;
    let device = &open.device;
    let (rounds_buffer, bind_group) = open.checked(|| {
        let buffer = |bytes: usize, usage| open.buffer(bytes as u64, usage);
        let rounds = buffer(16, BufferUsages::UNIFORM | BufferUsages::COPY_DST);
        let result = buffer(THREADS * 16, BufferUsages::STORAGE);
        let entries = [(0, &rounds), (1, &result)].map(|(binding, buffer)| wgpu::BindGroupEntry {
            binding,
            resource: buffer.as_entire_binding(),
        });
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        (rounds, bind_group)
    })?;
    let run = |rounds: u32| {
        let started = Instant::now();
        let submission = open.checked(|| {
            open.queue
                .write_buffer(&rounds_buffer, 0, bytemuck::cast_slice(&[rounds, 0, 0, 0]));
            let mut encoder = device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bind_group, &[]);
            pass.dispatch_workgroups(workgroups as u32, 1, 1);
            drop(pass);
            open.queue.submit([encoder.finish()])
        })?;
        open.wait(submission)?;
        Ok(started.elapsed())
    };
    let started = Instant::now();
    let mut rounds = 1;
    let mut best = 0.0_f64;
    // Longer runs, until one takes a tenth of the time and the driver's own time does not count.
    while best == 0.0 || started.elapsed().as_secs_f64() < seconds {
        let time: Duration = run(rounds)?;
        best = best.max(operations_of_round * f64::from(rounds) / time.as_secs_f64() / 1e9);
        if time.as_secs_f64() < seconds / 10.0 && rounds < 1 << 20 {
            rounds *= 2;
        }
    }
    Ok(best)
}
