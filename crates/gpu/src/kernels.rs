//! The kernels of a network, for drivers outside this crate.

use wdsr_model::{DevicePrecision, DeviceTile, Model};

use crate::plan::{Plan, SUBMITTED_OPERATIONS};

/// The kernels of a network, their order and their buffers.
///
/// A driver makes the buffers for the pixels of a tile, writes the tile (four floats for a pixel, as
/// [`DeviceTile`](wdsr_model::DeviceTile) has them) to the first, and dispatches the steps one after another. The last one writes the
/// result, as [`PendingTile`](wdsr_model::PendingTile) has it.
pub struct NetworkKernels {
    plan: Plan,
}

/// A kernel, and the numbers of the buffers that it reads and writes.
///
/// Its bindings in group 0 are 0: the uniform of [`NetworkKernels::tile_uniform`], 1: source, 2: output, 3: weights and 4:
/// term, where it has them.
pub struct KernelStep {
    /// Its text, in WGSL, with one entry point.
    pub text: String,
    /// The buffer that it reads.
    pub source: usize,
    /// The buffer that it writes; `None` for the result.
    pub output: Option<usize>,
    /// The buffer whose values are added.
    pub term: Option<usize>,
    /// The bytes of its weights; empty if it has none.
    pub weights: Vec<u8>,
    /// Multiply-adds for each pixel of a tile.
    pub multiply_adds_per_pixel: usize,
}

impl NetworkKernels {
    /// Operations, two for a multiply-add, that a driver should submit at a time. More than a second of work is taken for
    /// a hang.
    pub const SUBMITTED_OPERATIONS: u64 = SUBMITTED_OPERATIONS;

    /// The kernels of a model. Those in f16 need the feature `shader-f16` of WebGPU.
    pub fn new(model: &Model, precision: DevicePrecision) -> Self {
        Self {
            plan: Plan::new(model, precision, None),
        }
    }

    /// Bytes of each buffer for each pixel of a tile, with its halo. The first is the image's.
    pub fn buffer_bytes_per_pixel(&self) -> &[usize] {
        &self.plan.buffers
    }

    /// Bytes of the result for each wanted pixel.
    pub fn result_bytes_per_pixel(&self) -> usize {
        self.plan.result_bytes_per_pixel()
    }

    /// Most pixels of a tile, with its halo, on a device with buffers of up to `max_buffer_bytes`.
    pub fn max_tile_pixels(&self, max_buffer_bytes: u64, is_software: bool) -> usize {
        self.plan.max_tile_pixels(max_buffer_bytes, is_software)
    }

    /// The steps, in their order.
    pub fn steps(&self) -> impl Iterator<Item = KernelStep> + '_ {
        let buffer = |map: usize| self.plan.maps[map].buffer;
        self.plan.steps.iter().map(move |step| KernelStep {
            text: step.kernel.text(),
            source: buffer(step.source),
            output: step.output.map(buffer),
            term: step.term.map(buffer),
            weights: step.weight_bytes(),
            multiply_adds_per_pixel: step.multiply_adds_per_pixel,
        })
    }

    /// The uniform of the kernels for a tile: its size, the first wanted column and row, and how many are wanted.
    pub fn tile_uniform(tile: &DeviceTile) -> [u32; 8] {
        let [width, height] = [tile.width_px as u32, tile.height_px() as u32];
        let (columns, rows) = (&tile.columns, &tile.rows);
        [
            width,
            height,
            columns.start as u32,
            rows.start as u32,
            columns.len() as u32,
            rows.len() as u32,
            0,
            0,
        ]
    }

    /// The workgroups of each step for a tile, along x, y and z.
    pub fn workgroups(&self, tile: &DeviceTile) -> impl Iterator<Item = [u32; 3]> + '_ {
        let size = [tile.width_px as u32, tile.height_px() as u32];
        let wanted = [tile.columns.len() as u32, tile.rows.len() as u32];
        let steps = self.plan.steps.iter();
        steps.map(move |step| step.kernel.workgroups(size, wanted))
    }
}
