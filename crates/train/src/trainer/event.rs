use wdsr_eval::ImagePair;
use wdsr_kernels::Precision;

use crate::dataset::ImageShift;
use crate::metrics::Metrics;
use crate::start::StartSummary;

/// What happens during a training, in the order that it happens.
pub enum Event<'e> {
    /// An update is done.
    Update {
        /// Updates done.
        update: u64,
        /// Loss of this update.
        loss: f64,
        /// Learning rate of this update.
        learning_rate: f64,
    },
    /// A validation image has been upscaled.
    ValidationImage {
        /// Its name.
        name: &'e str,
        /// Low and high resolution.
        pair: &'e ImagePair,
        /// The model's output, in the layout of `pair.high`.
        upscaled: &'e [u8],
    },
    /// A validation is done: its models and its line of the metrics log are written, and
    /// `last.checkpoint` is written next.
    Validated {
        /// Its metrics.
        metrics: &'e Metrics,
        /// All metrics of the run, including these.
        history: &'e [Metrics],
        /// PSNR of the best validation so far.
        best_psnr_db: Option<f64>,
    },
    /// The loss was not finite, and the training is back at a checkpoint.
    RolledBack {
        /// The update that failed.
        update: u64,
        /// Its loss.
        loss: f64,
        /// Updates of the checkpoint.
        to_update: u64,
        /// Factor on the schedule's learning rate from now on.
        learning_rate_factor: f64,
        /// The metrics up to the checkpoint.
        history: &'e [Metrics],
    },
}

/// The dataset and the start of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingSummary {
    /// Number of training images.
    pub training_images: usize,
    /// Their high-resolution pixels.
    pub high_pixels: u64,
    /// Where their low-resolution images come from.
    pub low_images: String,
    /// How their low-resolution images are shifted, if the recipe says that they are.
    pub shifts: Vec<ImageShift>,
    /// Number of images that are skipped because they could not be aligned.
    pub not_aligned: usize,
    /// Whether they are kept in a temporary file.
    pub in_file: bool,
    /// Number of validation images.
    pub validation_images: usize,
    /// Number of images that are skipped because they are smaller than a patch.
    pub too_small: usize,
    /// The recipe's precision, or f32 if the processor does not have its arithmetic.
    pub precision: Precision,
    /// The weights copied from the model that the training starts from; none without such a model,
    /// and for a resumed run.
    pub start: Option<StartSummary>,
}
