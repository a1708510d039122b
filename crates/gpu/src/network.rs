//! A network on an open adapter.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use wdsr_model::{DeviceError, DeviceNetwork, DevicePrecision, DeviceTile, Model, PendingTile};
use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu::{BufferUsages, MapMode};

use crate::adapter::AdapterKind;
use crate::gpu::{Open, lock};
use crate::kernels::NetworkKernels;
use crate::plan::{Plan, SUBMITTED_OPERATIONS};
use crate::tuning::Workgroups;
use crate::wgsl::Kernel;

/// Buffers that wait for further results.
const SPARE_BUFFERS: usize = 3;

pub(crate) struct GpuNetwork {
    open: Arc<Open>,
    plan: Plan,
    steps: Vec<CompiledStep>,
    max_tile_pixels: usize,
    /// Work is submitted in order, so that one set serves all tiles.
    buffers: Mutex<Option<TileBuffers>>,
    /// For results that the program reads.
    spare: Mutex<Vec<wgpu::Buffer>>,
}

struct CompiledStep {
    pipeline: wgpu::ComputePipeline,
    weights: Option<wgpu::Buffer>,
}

/// The buffers of a tile.
struct TileBuffers {
    /// Most pixels of a tile, with its halo.
    pixels: usize,
    tile: wgpu::Buffer,
    image: wgpu::Buffer,
    result: wgpu::Buffer,
    /// Of each step.
    bind_groups: Vec<wgpu::BindGroup>,
}

impl GpuNetwork {
    pub(crate) fn new(
        open: Arc<Open>,
        model: &Model,
        precision: DevicePrecision,
        workgroups: Workgroups,
    ) -> Result<Self, DeviceError> {
        let matrices = open.matrices.filter(|_| workgroups.are_of_matrices);
        let mut plan = Plan::new(model, precision, matrices);
        for step in &mut plan.steps {
            step.kernel.workgroup = workgroups.of(&step.kernel);
        }
        let compiled = plan.steps.iter().map(|step| {
            let pipeline = open.pipeline(&step.kernel.text())?;
            let weights = match step.kernel.has_weights() {
                false => None,
                true => Some(open.checked(|| {
                    open.device.create_buffer_init(&BufferInitDescriptor {
                        label: None,
                        contents: &step.weight_bytes(),
                        usage: BufferUsages::STORAGE,
                    })
                })?),
            };
            Ok(CompiledStep { pipeline, weights })
        });
        Ok(Self {
            steps: compiled.collect::<Result<_, DeviceError>>()?,
            max_tile_pixels: plan
                .max_tile_pixels(open.max_buffer_bytes, open.kind == AdapterKind::Software),
            plan,
            open,
            buffers: Mutex::default(),
            spare: Mutex::default(),
        })
    }

    /// Its kernels.
    pub(crate) fn kernels(&self) -> impl Iterator<Item = &Kernel> + '_ {
        self.plan.steps.iter().map(|step| &step.kernel)
    }

    /// The result of a tile.
    pub(crate) fn compute(&self, tile: &DeviceTile) -> Result<Vec<f32>, DeviceError> {
        let mut values = Vec::new();
        self.start(tile)?
            .finish(&|_| (), &mut |result| values.extend_from_slice(result))?;
        Ok(values)
    }

    fn create_buffers(&self, pixels: usize) -> Result<TileBuffers, DeviceError> {
        let device = &self.open.device;
        self.open.checked(|| {
            let buffer = |bytes: usize, usage| self.open.buffer(bytes as u64, usage);
            let storage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
            let maps: Vec<_> = self
                .plan
                .buffers
                .iter()
                .map(|b| buffer(b * pixels, storage))
                .collect();
            let bytes = self.plan.result_bytes_per_pixel() * pixels;
            let result = buffer(bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
            let tile = buffer(32, BufferUsages::UNIFORM | BufferUsages::COPY_DST);
            let of_map = |map: usize| &maps[self.plan.maps[map].buffer];
            let bind_groups = self
                .plan
                .steps
                .iter()
                .zip(&self.steps)
                .map(|(step, compiled)| {
                    let output = step.output.map_or(&result, of_map);
                    let bound = [
                        (0, Some(&tile)),
                        (1, Some(of_map(step.source))),
                        (2, Some(output)),
                        (3, compiled.weights.as_ref()),
                        (4, step.term.map(of_map)),
                    ];
                    let entries: Vec<_> = bound
                        .into_iter()
                        .filter_map(|(binding, buffer)| {
                            Some(wgpu::BindGroupEntry {
                                binding,
                                resource: buffer?.as_entire_binding(),
                            })
                        })
                        .collect();
                    device.create_bind_group(&wgpu::BindGroupDescriptor {
                        label: None,
                        layout: &compiled.pipeline.get_bind_group_layout(0),
                        entries: &entries,
                    })
                });
            TileBuffers {
                pixels,
                bind_groups: bind_groups.collect(),
                image: of_map(0).clone(),
                tile,
                result,
            }
        })
    }

    fn read_buffer(&self, bytes: u64) -> Result<wgpu::Buffer, DeviceError> {
        let mut spare = lock(&self.spare);
        if let Some(at) = spare.iter().position(|buffer| buffer.size() >= bytes) {
            return Ok(spare.swap_remove(at));
        }
        spare.clear();
        self.open.checked(|| {
            self.open
                .buffer(bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST)
        })
    }
}

impl DeviceNetwork for GpuNetwork {
    fn max_tile_pixels(&self) -> usize {
        self.max_tile_pixels
    }

    fn start(&self, tile: &DeviceTile) -> Result<Box<dyn PendingTile + '_>, DeviceError> {
        self.open.check_lost()?;
        let pixels = tile.pixels.len();
        let size = [tile.width_px as u32, tile.height_px() as u32];
        let wanted = [tile.columns.len() as u32, tile.rows.len() as u32];
        let mut buffers = lock(&self.buffers);
        let buffers = match &mut *buffers {
            Some(buffers) if buffers.pixels >= pixels => buffers,
            buffers => {
                // Freed before others are allocated.
                *buffers = None;
                buffers.insert(self.create_buffers(pixels)?)
            }
        };
        let result_bytes =
            (self.plan.result_bytes_per_pixel() * tile.columns.len() * tile.rows.len()) as u64;
        let read = self.read_buffer(result_bytes)?;
        let header = NetworkKernels::tile_uniform(tile);
        let (device, queue) = (&self.open.device, &self.open.queue);
        let (sender, mapped) = channel();
        let submission = self.open.checked(|| {
            queue.write_buffer(&buffers.tile, 0, bytemuck::cast_slice(&header));
            queue.write_buffer(&buffers.image, 0, bytemuck::cast_slice(&tile.pixels));
            let new_encoder = || device.create_command_encoder(&Default::default());
            let mut encoder = new_encoder();
            let mut multiply_adds = 0;
            let steps = self.plan.steps.iter().zip(&self.steps);
            for ((step, compiled), bind_group) in steps.zip(&buffers.bind_groups) {
                let work = step.multiply_adds_per_pixel * pixels;
                if 2 * (multiply_adds + work) as u64 > SUBMITTED_OPERATIONS && multiply_adds > 0 {
                    let done = std::mem::replace(&mut encoder, new_encoder());
                    queue.submit([done.finish()]);
                    multiply_adds = 0;
                }
                multiply_adds += work;
                let [x, y, z] = step.kernel.workgroups(size, wanted);
                let mut pass = encoder.begin_compute_pass(&Default::default());
                pass.set_pipeline(&compiled.pipeline);
                pass.set_bind_group(0, bind_group, &[]);
                pass.dispatch_workgroups(x, y, z);
            }
            encoder.copy_buffer_to_buffer(&buffers.result, 0, &read, 0, result_bytes);
            let submission = queue.submit([encoder.finish()]);
            read.slice(..result_bytes)
                .map_async(MapMode::Read, move |result| {
                    // The receiver is gone if the image was given up.
                    let _ = sender.send(result);
                });
            submission
        })?;
        Ok(Box::new(Pending {
            network: self,
            submission,
            mapped,
            read,
            bytes: result_bytes,
        }))
    }
}

/// A tile that was submitted.
struct Pending<'a> {
    network: &'a GpuNetwork,
    submission: wgpu::SubmissionIndex,
    mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
    read: wgpu::Buffer,
    bytes: u64,
}

impl PendingTile for Pending<'_> {
    fn finish(
        self: Box<Self>,
        _: &dyn Fn(usize),
        read: &mut dyn FnMut(&[f32]),
    ) -> Result<(), DeviceError> {
        let open = &self.network.open;
        open.wait(self.submission)?;
        let failed = |reason: String| DeviceError::Failed {
            device: open.name.clone(),
            reason,
        };
        match self.mapped.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("it returned no result".to_owned())),
        }
        let view = self.read.slice(..self.bytes).get_mapped_range();
        let view = view.map_err(|error| failed(error.to_string()))?;
        // As it lies in the driver's memory: a copy of a frame of 4K (100 MB) takes tens of milliseconds.
        read(bytemuck::cast_slice(&view));
        drop(view);
        self.read.unmap();
        let mut spare = lock(&self.network.spare);
        if spare.len() < SPARE_BUFFERS {
            spare.push(self.read);
        }
        Ok(())
    }
}
