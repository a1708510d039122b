//! Training on an open adapter.
//!
//! `kernels` writes the kernels that inference does not have, `plan` lists those of an update, `patches` cuts its patches. An update is submitted without
//! waiting for the one before; its loss is read later. All sums have a fixed order, so that a training gives
//! the same bits on one adapter and driver.

mod by_weights;
mod kernels;
mod norms;
mod patches;
mod plan;
mod spectrum;

use std::sync::Arc;

use wdsr_model::{Device, DeviceError, DevicePrecision, Model};
use wdsr_train::dataset::{DrawnBatch, ImageCache, PatchPixels};
use wdsr_train::device::{
    DeviceTask, DeviceTraining, MAX_UNDER_WAY, TrainingDevice, UpdateRates, UpdateResult,
};
use wdsr_train::state::TrainingState;
use wgpu::BufferUsages;

use crate::adapter::AdapterKind;
use crate::gpu::{Gpu, Open};
use crate::matrices::Matrices;
use crate::plan::SUBMITTED_OPERATIONS;
use crate::tuning::agrees;
use patches::{PatchCutter, PatchShape};
use plan::{Bound, TrainingPlan};

/// Bytes of a parameter with its average and moments.
const STATE_BYTES: usize = 16;
/// Bytes of the numbers that change from one update to the next.
const RATES_BYTES: usize = 20;
/// Bytes of the result of an update.
const RESULT_BYTES: usize = 8;

/// Most workgroups of a kernel along a side.
const MAX_WORKGROUPS: u32 = 65_535;

impl TrainingDevice for Gpu {
    fn prepare_training(
        &self,
        task: &DeviceTask<'_>,
    ) -> Result<Box<dyn DeviceTraining>, DeviceError> {
        let open = self.current()?;
        let mut matrices = open.matrices_in(task.precision);
        if let Some(found) = matrices
            && open.kind != AdapterKind::Software
            && !agrees(&open, &Model::random(&task.network.config, 1), found)?
        {
            self.warn(self.matrices_warning());
            matrices = None;
        }
        Ok(Box::new(GpuTraining::new(open, task, matrices)?))
    }
}

struct GpuTraining {
    open: Arc<Open>,
    patches: PatchCutter,
    steps: Vec<CompiledStep>,
    parameters: usize,
    samples: usize,
    precision: DevicePrecision,
    under_way: usize,
    target: wgpu::Buffer,
    state: wgpu::Buffer,
    rates: wgpu::Buffer,
    results: wgpu::Buffer,
    /// For each batch normalisation its running means, and then its variances, in vectors.
    running: wgpu::Buffer,
    /// The channels of each batch normalisation.
    norms: Vec<usize>,
    /// For what the program reads.
    read: wgpu::Buffer,
}

struct CompiledStep {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 3],
    multiply_adds: usize,
}

impl CompiledStep {
    fn new(
        open: &Open,
        text: &str,
        entries: &[wgpu::BindGroupEntry<'_>],
        workgroups: [u32; 3],
        multiply_adds: usize,
    ) -> Result<Self, DeviceError> {
        let pipeline = open.pipeline(text)?;
        let bind_group = open.checked(|| {
            open.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pipeline.get_bind_group_layout(0),
                entries,
            })
        })?;
        Ok(Self {
            pipeline,
            bind_group,
            workgroups,
            multiply_adds,
        })
    }

    fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>) {
        let [x, y, z] = self.workgroups;
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

impl GpuTraining {
    fn new(
        open: Arc<Open>,
        task: &DeviceTask<'_>,
        matrices: Option<Matrices>,
    ) -> Result<Self, DeviceError> {
        let plan = TrainingPlan::new(task, matrices);
        let parameters = task.layout.len();
        let targets = 1 + usize::from(task.teacher_weight.is_some());
        let (state_bytes, target_bytes) = (STATE_BYTES * parameters, 4 * targets * plan.samples);
        let largest = plan.buffers.iter().copied().chain([
            state_bytes,
            target_bytes,
            plan.partial_bytes,
            4 * plan.packed_len,
            2 * plan.packed_f16_len,
            4 * plan.table.len(),
        ]);
        let is_too_large = |bytes: usize| bytes as u64 > open.max_buffer_bytes;
        let all_workgroups = plan.steps.iter().flat_map(|step| step.workgroups);
        if largest.into_iter().any(is_too_large) || all_workgroups.max() > Some(MAX_WORKGROUPS) {
            return Err(DeviceError::OutOfMemory {
                device: open.name.clone(),
            });
        }
        let buffers = open.checked(|| {
            let buffer = |bytes: usize, usage| open.buffer(bytes as u64, usage);
            let storage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
            let copied = storage | BufferUsages::COPY_SRC;
            let result_bytes = RESULT_BYTES * MAX_UNDER_WAY;
            let running_bytes = 16 * 2 * plan.work.norm_groups.max(1);
            Buffers {
                maps: plan.buffers.iter().map(|&b| buffer(b, storage)).collect(),
                target: buffer(target_bytes, storage),
                packed: buffer(4 * plan.packed_len, storage),
                packed_f16: buffer(2 * plan.packed_f16_len, storage),
                partial: buffer(plan.partial_bytes, storage),
                state: buffer(state_bytes, copied),
                table: buffer(4 * plan.table.len(), storage),
                work: buffer(4 * plan.work.len(), storage),
                rates: buffer(RATES_BYTES, BufferUsages::UNIFORM | BufferUsages::COPY_DST),
                results: buffer(result_bytes, copied),
                running: buffer(running_bytes, copied),
                read: buffer(
                    state_bytes.max(result_bytes).max(running_bytes),
                    BufferUsages::MAP_READ | BufferUsages::COPY_DST,
                ),
            }
        })?;
        open.checked(|| {
            open.queue
                .write_buffer(&buffers.table, 0, bytemuck::cast_slice(&plan.table));
        })?;
        let steps = plan.steps.iter().map(|step| {
            let entry = |(binding, bound): &(u32, Bound)| wgpu::BindGroupEntry {
                binding: *binding,
                resource: buffers.bound(bound, &plan.maps),
            };
            let entries: Vec<_> = step.bound.iter().map(entry).collect();
            let (groups, multiply_adds) = (step.workgroups, step.multiply_adds);
            CompiledStep::new(&open, &step.text, &entries, groups, multiply_adds)
        });
        let steps = steps.collect::<Result<_, DeviceError>>()?;
        let shape = PatchShape {
            count: task.batch,
            low_px: task.patch_px,
            scale: task.network.config.scale,
            mean: task.network.config.mean,
        };
        Ok(Self {
            patches: PatchCutter::new(&open, shape, &buffers.maps[0], &buffers.target)?,
            steps,
            parameters,
            samples: plan.samples,
            precision: matrices.map_or(DevicePrecision::F32, |_| DevicePrecision::F16),
            under_way: 0,
            target: buffers.target,
            state: buffers.state,
            rates: buffers.rates,
            results: buffers.results,
            running: buffers.running,
            norms: plan.norms,
            read: buffers.read,
            open,
        })
    }
}

impl DeviceTraining for GpuTraining {
    fn precision(&self) -> DevicePrecision {
        self.precision
    }

    fn write_state(&mut self, state: &TrainingState) -> Result<(), DeviceError> {
        let vectors = [
            &state.parameters,
            &state.average,
            &state.adam.first_moment,
            &state.adam.second_moment,
        ];
        let numbers: Vec<[f32; 4]> = (0..self.parameters)
            .map(|at| vectors.map(|vector| vector[at]))
            .collect();
        let mut running = Vec::new();
        for statistics in &state.running {
            for values in [&statistics.mean, &statistics.variance] {
                running.extend_from_slice(values);
                running.resize(running.len().next_multiple_of(4), 0.0);
            }
        }
        self.open.checked(|| {
            let queue = &self.open.queue;
            queue.write_buffer(&self.state, 0, bytemuck::cast_slice(&numbers));
            if !running.is_empty() {
                queue.write_buffer(&self.running, 0, bytemuck::cast_slice(&running));
            }
        })
    }

    fn read_state(&mut self, state: &mut TrainingState) -> Result<(), DeviceError> {
        let numbers = self
            .open
            .numbers(&self.state, &self.read, 4 * self.parameters)?;
        let vectors = [
            &mut state.parameters,
            &mut state.average,
            &mut state.adam.first_moment,
            &mut state.adam.second_moment,
        ];
        for (part, vector) in vectors.into_iter().enumerate() {
            let of_part = numbers.iter().skip(part).step_by(4);
            vector
                .iter_mut()
                .zip(of_part)
                .for_each(|(to, from)| *to = *from);
        }
        if self.norms.is_empty() {
            return Ok(());
        }
        let count = self.running.size() as usize / 4;
        let running = self.open.numbers(&self.running, &self.read, count)?;
        let mut rest = &running[..];
        for (statistics, &channels) in state.running.iter_mut().zip(&self.norms) {
            for values in [&mut statistics.mean, &mut statistics.variance] {
                let (first, after) = rest.split_at(channels.next_multiple_of(4));
                values.copy_from_slice(&first[..channels]);
                rest = after;
            }
        }
        Ok(())
    }

    fn reserve_images(&mut self, images: &ImageCache) -> Result<bool, DeviceError> {
        // Its memory is the processor's, which has the images.
        if self.open.kind == AdapterKind::Integrated {
            return Ok(false);
        }
        let sizes: Vec<_> = (0..images.len()).map(|at| images.low_size_px(at)).collect();
        self.patches.reserve(&sizes)
    }

    fn write_image(&mut self, image: usize, pixels: &PatchPixels) -> Result<(), DeviceError> {
        self.patches.write(image, pixels)
    }

    fn start_update(
        &mut self,
        batch: &DrawnBatch,
        taught: &[f32],
        rates: UpdateRates,
    ) -> Result<(), DeviceError> {
        assert!(
            self.under_way < MAX_UNDER_WAY,
            "{} updates under way, at most {MAX_UNDER_WAY}",
            self.under_way
        );
        let target_bytes = 4 * (self.samples + taught.len()) as u64;
        assert_eq!(
            target_bytes,
            self.target.size(),
            "bytes of the targets, and of the training's"
        );
        let slot = self.under_way as u32;
        let rates = [
            rates.step.to_bits(),
            rates.root.to_bits(),
            rates.average_share.to_bits(),
            batch.strength.unwrap_or(1.0).to_bits(),
            slot,
        ];
        let (device, queue) = (&self.open.device, &self.open.queue);
        self.open.check_lost()?;
        self.open.checked(|| {
            queue.write_buffer(&self.rates, 0, bytemuck::cast_slice(&rates));
            if !taught.is_empty() {
                let at = 4 * self.samples as u64;
                queue.write_buffer(&self.target, at, bytemuck::cast_slice(taught));
            }
            let mut steps = self.patches.start(batch);
            steps.extend(&self.steps);
            let mut rest = &steps[..];
            while !rest.is_empty() {
                // At least one kernel, and as many as a driver does not take for a hang.
                let mut multiply_adds = 0;
                let count = rest.iter().take_while(|step| {
                    let is_first = multiply_adds == 0;
                    multiply_adds += step.multiply_adds;
                    is_first || 2 * multiply_adds as u64 <= SUBMITTED_OPERATIONS
                });
                let (steps, later) = rest.split_at(count.count());
                let mut encoder = device.create_command_encoder(&Default::default());
                let mut pass = encoder.begin_compute_pass(&Default::default());
                for step in steps {
                    step.dispatch(&mut pass);
                }
                drop(pass);
                queue.submit([encoder.finish()]);
                rest = later;
            }
        })?;
        self.under_way += 1;
        Ok(())
    }

    fn finish_updates(&mut self) -> Result<Vec<UpdateResult>, DeviceError> {
        if self.under_way == 0 {
            return Ok(Vec::new());
        }
        let numbers = self
            .open
            .numbers(&self.results, &self.read, 2 * self.under_way)?;
        self.under_way = 0;
        let result = |pair: &[f32]| UpdateResult {
            loss: pair[0].into(),
            gradient_length: pair[1].into(),
        };
        Ok(numbers.chunks_exact(2).map(result).collect())
    }
}

/// All buffers of a training.
struct Buffers {
    maps: Vec<wgpu::Buffer>,
    target: wgpu::Buffer,
    packed: wgpu::Buffer,
    packed_f16: wgpu::Buffer,
    partial: wgpu::Buffer,
    state: wgpu::Buffer,
    table: wgpu::Buffer,
    work: wgpu::Buffer,
    rates: wgpu::Buffer,
    results: wgpu::Buffer,
    running: wgpu::Buffer,
    read: wgpu::Buffer,
}

impl Buffers {
    fn bound<'b>(&'b self, bound: &Bound, maps: &[usize]) -> wgpu::BindingResource<'b> {
        let part = |buffer: &'b wgpu::Buffer, start: usize, end: Option<usize>| {
            wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset: start as u64,
                size: end.and_then(|end| wgpu::BufferSize::new((end - start) as u64)),
            })
        };
        match bound {
            Bound::Map(map) => self.maps[maps[*map]].as_entire_binding(),
            Bound::Packed(bytes) => part(&self.packed, bytes.start, Some(bytes.end)),
            Bound::PackedF16(bytes) => part(&self.packed_f16, bytes.start, Some(bytes.end)),
            Bound::Partial(start) => part(&self.partial, *start, None),
            Bound::Target => self.target.as_entire_binding(),
            Bound::State => self.state.as_entire_binding(),
            Bound::Table => self.table.as_entire_binding(),
            Bound::Work => self.work.as_entire_binding(),
            Bound::Rates => self.rates.as_entire_binding(),
            Bound::Results => self.results.as_entire_binding(),
            Bound::Running => self.running.as_entire_binding(),
        }
    }
}
