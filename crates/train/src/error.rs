use std::path::{Path, PathBuf};

use crate::dataset::AlignmentProblem;

/// An error of a training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What failed: "read", "write", "create", "remove", "lock" or "find".
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// The recipe is invalid.
    #[error("{}: {source}", path.display())]
    Recipe {
        /// The recipe's file.
        path: PathBuf,
        /// What is wrong with it.
        source: RecipeError,
    },
    /// The checkpoint is corrupt or does not belong to the training.
    #[error("{}: {source}", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// The folder already contains a run.
    #[error(
        "{}: the folder already contains a run; resume it with --resume, or choose another --out",
        checkpoint.display()
    )]
    RunExists {
        /// The checkpoint found.
        checkpoint: PathBuf,
    },
    /// Another process is training in the folder.
    #[error(
        "{}: another process is training here; wait until it ends, or choose another --out",
        folder.display()
    )]
    FolderInUse {
        /// The folder of the run.
        folder: PathBuf,
    },
    /// Too few images are large enough for a patch.
    #[error(
        "{}: expected more than {validation} images of at least {patch_px} low-resolution pixels on \
         each side, found {found} ({too_small} are smaller); add images, or lower \
         validation.images, of which {validation} are kept from training, or training.patch_px",
        folder.display()
    )]
    TooFewImages {
        /// The first folder of images.
        folder: PathBuf,
        /// Images that are large enough.
        found: usize,
        /// Images kept from training for validation.
        validation: usize,
        /// Images that are smaller than a patch.
        too_small: usize,
        /// Side of a patch in low-resolution pixels.
        patch_px: usize,
    },
    /// A validation image is smaller than the border that its protocol cuts off.
    #[error(
        "{}: {width_px} x {height_px} pixels to validate on, expected at least {least_px} on each \
         side, as validation.protocol cuts {shave_px} off each; remove the image, or raise \
         training.patch_px, which skips small images",
        image.display()
    )]
    ValidationImageTooSmall {
        /// The image.
        image: PathBuf,
        /// Its width.
        width_px: usize,
        /// Its height.
        height_px: usize,
        /// The least side that can be scored.
        least_px: usize,
        /// Border that the protocol cuts off each side.
        shave_px: usize,
    },
    /// A folder with a weight has no image to train on.
    #[error(
        "{}: the folder has a weight but no image to train on; add images that are large enough, or \
         remove it from data.folders",
        folder.display()
    )]
    EmptyWeightedFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// An image has changed since the dataset was scanned.
    #[error(
        "{}: expected {} x {} low-resolution pixels, found {} x {}: the image has changed since the \
         training started; do not change images during a training",
        image.display(), expected.0, expected.1, found.0, found.1
    )]
    ImageChanged {
        /// The image.
        image: PathBuf,
        /// Low-resolution width and height at the scan.
        expected: (usize, usize),
        /// Low-resolution width and height now.
        found: (usize, usize),
    },
    /// A pair cannot be used with the shifts that the recipe asks for.
    #[error("{}: {problem}", image.display())]
    Alignment {
        /// The low-resolution image, or the original if there is none.
        image: PathBuf,
        /// What is wrong.
        problem: AlignmentProblem,
    },
    /// A report of an alignment cannot be read.
    #[error(transparent)]
    Data(#[from] wdsr_data::Error),
    /// The decoded images exceed the memory limit and cannot be kept on disk.
    #[error(
        "{}: cannot keep the decoded images in a temporary file: {source}; free disk space, or raise \
         --image-memory",
        folder.display()
    )]
    ImageCache {
        /// The folder of the temporary file.
        folder: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The loss is not finite, and rolling back did not help.
    #[error(
        "the loss of update {update} is {loss} after {rollbacks} rollbacks; the last good checkpoint \
         is {}; start from it with --from in another --out, with a lower schedule.learning_rate, a \
         longer schedule.warm_up_updates or training.gradient_clip_norm",
        checkpoint.as_ref().map_or("none".to_owned(), |path| path.display().to_string())
    )]
    NonFiniteLoss {
        /// The update that failed.
        update: u64,
        /// Its loss.
        loss: f64,
        /// Rollbacks before it.
        rollbacks: u32,
        /// The last good checkpoint.
        checkpoint: Option<PathBuf>,
    },
    /// There are more processes than patches of a batch.
    #[error(
        "{count} processes cannot share a batch of {batch} patches; start at most {batch}, or raise training.batch \
         in the recipe"
    )]
    TooManyRanks {
        /// Patches of a batch.
        batch: usize,
        /// The processes.
        count: usize,
    },
    /// Two processes of a training would compute different trainings.
    #[error(
        "the {what} of rank {rank} is not that of rank 0; start all ranks with the same program, recipe and images, \
         on processors with the same arithmetic (training.precision = \"f32\" is the same on all)"
    )]
    RanksDiffer {
        /// The rank.
        rank: usize,
        /// What differs.
        what: &'static str,
    },
    /// A device does not train by the recipe.
    #[error("{device} cannot train with {key}; use --device cpu, or change the recipe")]
    NotOnDevice {
        /// The device.
        device: String,
        /// The key that it does not support.
        key: &'static str,
    },
    /// A device was lost during the training.
    #[error(
        "{device} was lost ({reason}) after update {update}; the last checkpoint is {}; resume from it with --resume. If \
         this repeats, update the driver or use --device cpu",
        checkpoint.as_ref().map_or("none".to_owned(), |path| path.display().to_string())
    )]
    DeviceLost {
        /// The device.
        device: String,
        /// What the driver says.
        reason: String,
        /// Updates whose loss is known.
        update: u64,
        /// The last checkpoint.
        checkpoint: Option<PathBuf>,
    },
    /// The memory of a device does not suffice.
    #[error(
        "{device} has not enough memory for this training; lower training.batch or training.patch_px, or use --device cpu"
    )]
    DeviceMemory {
        /// The device.
        device: String,
    },
    /// A device failed.
    #[error(transparent)]
    Device(#[from] wdsr_model::DeviceError),
    /// The training was asked to stop; its state is saved.
    #[error(
        "stopped after update {update}; resume from {} with --resume", checkpoint.display()
    )]
    Stopped {
        /// Updates done.
        update: u64,
        /// The checkpoint.
        checkpoint: PathBuf,
    },
    /// The training cannot start from the model.
    #[error("{}: {source}", path.display())]
    Start {
        /// The model's file.
        path: PathBuf,
        /// Why it does not fit.
        source: StartError,
    },
    /// The model of strength 0 has another network.
    #[error(
        "{}: expected {expected}, the recipe's network, found {found}; name another in [strength] clean",
        path.display()
    )]
    CleanNetwork {
        /// The model's file.
        path: PathBuf,
        /// The recipe's network.
        expected: String,
        /// The model's.
        found: String,
    },
    /// The model that a recipe with `training.int8` starts from has another network than the recipe.
    #[error(
        "{}: expected {expected}, the recipe's network, found {found}; training.int8 starts from a model of the same network",
        path.display()
    )]
    Int8Network {
        /// The model's file.
        path: PathBuf,
        /// The recipe's network.
        expected: String,
        /// The model's.
        found: String,
    },
    /// The model that a recipe with `training.int8` starts from has no scales.
    #[error(
        "{}: expected a model with scales for int8, found none; add them by `wdsr quantize`",
        path.display()
    )]
    NoInt8 {
        /// The model's file.
        path: PathBuf,
    },
    /// The teacher has another scale than the network.
    #[error(
        "{}: expected a teacher of scale {expected}, found one of scale {found}; name another in \
         [teacher] model",
        path.display()
    )]
    TeacherScale {
        /// The teacher's file.
        path: PathBuf,
        /// The network's scale.
        expected: usize,
        /// The teacher's scale.
        found: usize,
    },
    /// A model cannot be read or written.
    #[error(transparent)]
    Model(#[from] wdsr_model::Error),
    /// The network or its teacher returned an invalid image.
    #[error("{}: {source}", path.display())]
    Upscale {
        /// The validation image, or the teacher's file.
        path: PathBuf,
        /// What is invalid.
        source: wdsr_model::UpscaleError,
    },
    /// An image cannot be read, or a file cannot be written.
    #[error(transparent)]
    Image(#[from] wdsr_image::Error),
    /// The dataset cannot be scanned or a pair cannot be read.
    #[error(transparent)]
    Eval(#[from] wdsr_eval::Error),
    /// `WDSR_ISA` is not a known instruction set.
    #[error(transparent)]
    Isa(#[from] wdsr_kernels::UnknownIsa),
}

impl Error {
    pub(crate) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action,
            source,
        }
    }
}

/// An invalid recipe.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The text is not TOML, or has an unknown key or a value of another type.
    #[error("line {line}: {message}")]
    Syntax {
        /// Line number from 1.
        line: usize,
        /// What was expected and what was found.
        message: String,
    },
    /// A key has no effect.
    #[error("{key} has no effect without {needs}; remove it, or set {needs}")]
    NoEffect {
        /// The key.
        key: &'static str,
        /// What it depends on.
        needs: &'static str,
    },
    /// Two keys exclude each other.
    #[error("{key} has no effect with {other}; remove one of them")]
    Excluded {
        /// The key without effect.
        key: &'static str,
        /// The other.
        other: &'static str,
    },
    /// Neither the recipe nor a model describes the network.
    #[error(
        "no [network] table; add one (an empty one is the paper's network), or give a model whose \
         network is trained further with --from"
    )]
    NoNetwork,
    /// The network cannot be built.
    #[error("[network] {0}")]
    Network(String),
    /// A value is out of range.
    #[error("{key} is {found}, expected {expected}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// The valid range.
        expected: String,
    },
    /// An update has too many pixels.
    #[error(
        "training.batch patches of training.patch_px x network.scale pixels on each side are \
         {found} pixels an update, expected at most {most}; lower training.batch or \
         training.patch_px"
    )]
    BatchTooLarge {
        /// High-resolution pixels of an update.
        found: usize,
        /// The limit.
        most: usize,
    },
    /// A degradation that cannot be carried out.
    #[error("{0}")]
    Degradation(wdsr_degrade::Error),
    /// A strength needs a model for clean images.
    #[error(
        "strength.clean is missing; name a model of scale {scale} and of the recipe's network, whose \
         weights are those of strength 0"
    )]
    NoCleanModel {
        /// The network's scale.
        scale: usize,
    },
    /// Some folders have weights and others do not.
    #[error(
        "data.folders has {weights} weights for {folders} folders, expected one for each or none"
    )]
    MissingWeights {
        /// Folders with a weight.
        weights: usize,
        /// All folders.
        folders: usize,
    },
}

/// A file that is not a usable checkpoint of the training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file is not a complete safetensors file.
    #[error("not a complete checkpoint ({0}); {RESTORE_BEST}")]
    Incomplete(safetensors::SafeTensorError),
    /// The file is no checkpoint, or one of another version.
    #[error("expected format wdsr-checkpoint version 1, found `{format}` version `{version}`")]
    Format {
        /// The file's format.
        format: String,
        /// The file's version.
        version: String,
    },
    /// The checkpoint's recipe cannot be read.
    #[error("the checkpoint's recipe is invalid: {0}")]
    Recipe(String),
    /// The checkpoint was written by another recipe.
    #[error(
        "written by another recipe ({0}); choose another --out, or start a new training from its \
         weights with --from"
    )]
    OtherRecipe(String),
    /// The dataset or the teacher differs from the checkpoint's.
    #[error(
        "the {0} from the checkpoint's; use the same, or start a new training from its weights with \
         --from"
    )]
    OtherInputs(InputDifference),
    /// The checksum does not match.
    #[error("corrupt: expected checksum {expected}, found {found}; {RESTORE_BEST}")]
    Checksum {
        /// The checksum in the file.
        expected: String,
        /// The checksum of its tensors.
        found: String,
    },
    /// A tensor is missing.
    #[error("tensor `{0}` is missing")]
    MissingTensor(String),
    /// A tensor has another shape or type.
    #[error("tensor `{name}` is {found}, expected F32 {expected:?}")]
    TensorShape {
        /// Its name.
        name: String,
        /// The type and shape found.
        found: String,
        /// The shape expected.
        expected: Vec<usize>,
    },
    /// A metadata value is not a number.
    #[error("`{key}` is `{found}`, expected a number")]
    Number {
        /// Its key.
        key: &'static str,
        /// Its value.
        found: String,
    },
    /// A value is NaN or infinite.
    #[error("corrupt: it has values that are not finite; {RESTORE_BEST}")]
    NotFinite,
}

/// The remedy for a corrupt checkpoint.
const RESTORE_BEST: &str =
    "if best.checkpoint beside it is intact, copy it over this file and resume from it";

/// Which input of two trainings differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputDifference {
    /// Names, sizes or weights of the images.
    Dataset,
    /// The teacher.
    Teacher,
}

impl std::fmt::Display for InputDifference {
    /// A clause that `from ...` completes, such as "teacher differs".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dataset => "dataset (image names, sizes or weights) differs",
            Self::Teacher => "teacher differs",
        })
    }
}

/// A model that a training cannot start from.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No convolution fits.
    #[error(
        "no convolution of {model} fits {network} by name and shape; start without --from, or from a \
         model of the same kind and width"
    )]
    NothingFits {
        /// The model's network.
        model: String,
        /// The recipe's network.
        network: String,
    },
    /// Blocks cannot be inserted.
    #[error(
        "start.insert_blocks needs a network that is {model} with more blocks (widths, scale, mean \
         and residual_scale must match), found {network}"
    )]
    NotDeeper {
        /// The model's network.
        model: String,
        /// The recipe's network.
        network: String,
    },
}
