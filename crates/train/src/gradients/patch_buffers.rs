//! Per-thread buffers of a patch.

use wdsr_kernels::{Planes, Scratch, add_scaled};
use wdsr_model::Value;

/// The values of a patch and the gradients by them. Buffers are reused for later patches.
#[derive(Default)]
pub(super) struct PatchBuffers {
    pub(super) values: Vec<Planes>,
    pub(super) by_value: Vec<Option<Planes>>,
    /// Free buffers for gradients.
    pub(super) spare: Vec<Planes>,
    /// The rounded input of a convolution in int8.
    pub(super) rounded: Option<Planes>,
    pub(super) scratch: Scratch,
}

impl PatchBuffers {
    /// The buffer for the rounded input of a convolution, in any shape.
    pub(super) fn take_rounded(&mut self) -> Planes {
        let rounded = self.rounded.take();
        rounded.unwrap_or_else(|| Planes::zeros(1, 1, 1))
    }

    /// Takes the gradient by a value, which must be complete.
    pub(super) fn take_gradient(&mut self, value: Value) -> Planes {
        self.by_value[value.0]
            .take()
            .unwrap_or_else(|| unreachable!("no gradient has reached value {}", value.0))
    }

    /// Adds to the gradient by a value.
    pub(super) fn add_gradient(&mut self, value: Value, gradient: Planes) {
        match &mut self.by_value[value.0] {
            Some(sum) => {
                add_scaled(sum, 1.0, &gradient);
                self.spare.push(gradient);
            }
            empty => *empty = Some(gradient),
        }
    }

    /// The buffer for the gradient by a value, and whether the gradient is added to its content.
    pub(super) fn gradient_target(&mut self, value: Value) -> (Planes, bool) {
        match self.by_value[value.0].take() {
            Some(sum) => (sum, true),
            None => (self.buffer(value), false),
        }
    }

    /// A buffer in the shape of a value, with arbitrary pixels and a zero border.
    pub(super) fn buffer(&mut self, value: Value) -> Planes {
        let like = &self.values[value.0];
        let fits = |p: &Planes| p.geometry() == like.geometry() && p.channels() == like.channels();
        match self.spare.iter().position(fits) {
            Some(at) => self.spare.swap_remove(at),
            None => Planes::zeros(like.channels(), like.width_px(), like.height_px()),
        }
    }
}
