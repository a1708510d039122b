//! Processors beside the one that runs the program, such as GPUs, that compute the updates of a training.
//!
//! The trainer makes batches, sets the learning rate, validates, and writes checkpoints. A device keeps the vectors of the
//! [`TrainingState`] and updates them. The crate `wdsr-gpu` has the devices.

use wdsr_model::{
    ConvWeights, Device, DeviceError, DevicePrecision, FusedOperation, Model, Network,
    NetworkConfig, Operation, Precision,
};

use crate::dataset::{DrawnBatch, ImageCache, PatchPixels};
use crate::parameters::ParameterLayout;
use crate::recipe::{Loss, Recipe};
use crate::state::TrainingState;

/// A device that trains networks too.
pub trait TrainingDevice: Device {
    /// Prepares a training. Its state is unset until [`DeviceTraining::write_state`].
    ///
    /// # Errors
    /// If the device cannot compute it.
    fn prepare_training(
        &self,
        task: &DeviceTask<'_>,
    ) -> Result<Box<dyn DeviceTraining>, DeviceError>;
}

/// A training that is prepared for a device.
pub trait DeviceTraining {
    /// The format of its products: that of the task, or f32 where the device has no fast products in f16.
    fn precision(&self) -> DevicePrecision;

    /// Copies parameters, average and moments to the device.
    ///
    /// # Errors
    /// If the device fails.
    fn write_state(&mut self, state: &TrainingState) -> Result<(), DeviceError>;

    /// Copies parameters, average and moments from the device.
    ///
    /// # Errors
    /// If the device fails.
    fn read_state(&mut self, state: &mut TrainingState) -> Result<(), DeviceError>;

    /// Reserves memory for all images, so that batches may have places instead of pixels once
    /// [`write_image`](Self::write_image) has written them. Returns whether they fit.
    ///
    /// # Errors
    /// If the device fails.
    fn reserve_images(&mut self, images: &ImageCache) -> Result<bool, DeviceError>;

    /// Copies an image to the device.
    ///
    /// # Errors
    /// If the device fails.
    fn write_image(&mut self, image: usize, pixels: &PatchPixels) -> Result<(), DeviceError>;

    /// Starts an update, which comes after those started before. At most [`MAX_UNDER_WAY`] are under way. `taught` is the
    /// teacher's output, `[patch, channel, row, column]`, R G B, 0..1; empty without a teacher.
    ///
    /// # Errors
    /// If the device fails.
    fn start_update(
        &mut self,
        batch: &DrawnBatch,
        taught: &[f32],
        rates: UpdateRates,
    ) -> Result<(), DeviceError>;

    /// Waits for the updates under way, and returns the result of each, in their order.
    ///
    /// # Errors
    /// If the device fails.
    fn finish_updates(&mut self) -> Result<Vec<UpdateResult>, DeviceError>;
}

/// Most updates that are started before their results are awaited.
pub const MAX_UNDER_WAY: usize = 16;

/// What a device computes in each update.
pub struct DeviceTask<'t> {
    /// The network, whose residual scales are in the factors below.
    pub network: Network,
    /// A factor on weights and bias of each convolution, after weight normalisation.
    pub conv_factors: Vec<f32>,
    /// A factor on the output of each batch normalisation.
    pub norm_factors: Vec<f32>,
    /// The places of the parameters.
    pub layout: &'t ParameterLayout,
    /// The weights at strength 0, which stay as they are, if the parameters are those at strength 1
    /// ([`DrawnBatch::strength`]). Without the factors above.
    pub clean: Option<&'t [ConvWeights]>,
    /// The loss.
    pub loss: Loss,
    /// Share of the loss against the teacher's output; none without a teacher.
    pub teacher_weight: Option<f32>,
    /// Patches of a batch.
    pub batch: usize,
    /// Side of a patch in low-resolution pixels.
    pub patch_px: usize,
    /// Maximum length of the gradient; 0 turns clipping off.
    pub gradient_clip_norm: f32,
    /// The format of products that is asked for: f16 for a recipe with bf16, which is 16 bits too. Sums, parameters and
    /// maps in memory are f32.
    pub precision: DevicePrecision,
}

impl<'t> DeviceTask<'t> {
    /// The task of a recipe.
    ///
    /// # Errors
    /// The key of the recipe that devices do not support.
    pub(crate) fn new(
        recipe: &Recipe,
        layout: &'t ParameterLayout,
        clean: Option<&'t Model>,
    ) -> Result<Self, &'static str> {
        if recipe.training.int8 {
            return Err("training.int8 = true");
        }
        let training = &recipe.training;
        let unscaled = NetworkConfig {
            residual_scale: 1.0,
            ..recipe.network.clone()
        };
        let unscaled = Network::for_training(&unscaled);
        // The last convolution of a block, or the batch normalisation after it, adds to the block's input.
        let mut conv_factors = vec![1.0; unscaled.convs.len()];
        let mut norm_factors = vec![1.0; unscaled.batch_norms.len()];
        for operation in unscaled.fused_operations() {
            match operation {
                FusedOperation::ConvAdd { conv, .. }
                    if unscaled.convs[conv].name.contains(".body.") =>
                {
                    conv_factors[conv] = recipe.network.residual_scale;
                }
                FusedOperation::Single(Operation::Add { branch, .. }) => {
                    let is_last = |operation: &&Operation| operation.output() == branch;
                    if let Some(&Operation::BatchNorm { norm, .. }) =
                        unscaled.operations.iter().find(is_last)
                    {
                        norm_factors[norm] = recipe.network.residual_scale;
                    }
                }
                _ => {}
            }
        }
        Ok(Self {
            network: unscaled,
            conv_factors,
            norm_factors,
            layout,
            clean: clean.map(Model::convs),
            loss: training.loss,
            teacher_weight: recipe.teacher.as_ref().map(|t| t.weight as f32),
            batch: training.batch,
            patch_px: training.patch_px,
            gradient_clip_norm: training.gradient_clip_norm as f32,
            precision: match training.precision {
                Precision::Bf16 => DevicePrecision::F16,
                Precision::F32 | Precision::Int8 => DevicePrecision::F32,
            },
        })
    }
}

/// The numbers of an update that change from one to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateRates {
    /// Adam's learning rate, corrected for the first moment's start.
    pub step: f32,
    /// Root of the correction for the second moment's start.
    pub root: f32,
    /// Share of the parameters in their moving average.
    pub average_share: f32,
}

/// What an update has found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateResult {
    /// Mean loss over all samples of the batch, before the update.
    pub loss: f64,
    /// Euclidean length of the gradient, before it is clipped.
    pub gradient_length: f64,
}

impl UpdateResult {
    /// Whether loss and gradient are finite.
    pub(crate) fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.gradient_length.is_finite()
    }
}
