//! `wdsr train`: trains a network as a recipe describes, on folders of images.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context;
use wdsr_model::DeviceChoice;
use wdsr_study::TrainingReporter;
use wdsr_train::export::BATCHES;
use wdsr_train::run_folder::{self, LAST_CHECKPOINT, LAST_MODEL};
use wdsr_train::{DataFolder, Overrides, Ranks, Recipe, Shifts, Trainer};

use crate::device::OpenGpu;
use crate::file_claims::{Conflict, FileClaims};
use crate::progress::{self, print_line};
use crate::time_limit::{TimeArgument, TimeLimit};
use crate::training_view::TrainingView;
use crate::{WrongUsage, on_threads, ranks, signals, units};

/// What the first Ctrl-C prints.
pub(crate) const STOPPING: &str =
    "interrupted: saving a checkpoint; to end at once, interrupt twice more";

/// Train a network as a recipe describes
///
/// A folder of --data contains images (subfolders are read; low-resolution images are made by
/// imresize) or pairs in DIV2K's layout. The folder of --out receives checkpoints, models, reports
/// and a log of metrics as JSON lines. Ctrl-C, SIGTERM and SIGHUP save a checkpoint and end the
/// program. A training that was stopped or killed is resumed from its last checkpoint with --resume, to
/// the same result. mpirun -n N wdsr train ... trains by N processes, to the same result too (needs a
/// program with the feature mpi).
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to train and how (TOML; see recipes/)
    recipe: PathBuf,
    #[command(flatten)]
    images: ImageArguments,
    /// Write checkpoints, models and metrics to FOLDER
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Resume the run in the folder of --out
    #[arg(long)]
    resume: bool,
    /// Train N updates
    ///
    /// Overrides the recipe's training.updates. With --resume it lengthens or shortens a run, to the same
    /// bits as if it had been so long from the start, if the learning rates so far do not depend on it
    /// (schedule.kind = "constant").
    #[arg(long, value_name = "N")]
    updates: Option<u64>,
    /// Cool down in the last N updates
    ///
    /// Overrides the recipe's schedule.cool_down_updates. With --resume and without --updates the
    /// cool-down begins at once. The run can be lengthened from the point before it.
    #[arg(long, value_name = "N")]
    cool_down: Option<u64>,
    #[command(flatten)]
    time: TimeArgument,
    /// Start from the weights of this model or checkpoint
    ///
    /// Overrides the recipe's start.from. Convolutions that match by name and shape are copied, so
    /// an x4 network can start from an x2 one.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    from: Option<PathBuf>,
    /// Spread the blocks of --from, or of start.from, over a deeper network
    ///
    /// The blocks between them start as the identity.
    #[arg(long, conflicts_with = "resume")]
    insert_blocks: bool,
    /// Export the batches of N updates without training
    ///
    /// They and the initial checkpoint are written to the folder of --out, where reference/twin.py
    /// trains on them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    export_batches: Option<u64>,
    /// Export the training images without training
    ///
    /// They, in files of about 24 MiB, and the initial checkpoint are written to the folder of --out,
    /// where reference/twin.py trains on them.
    #[arg(long, conflicts_with = "export_batches")]
    export_images: bool,
    /// What computes updates and validations: cpu, gpu, gpu:N, or auto for a GPU if there is one
    ///
    /// `wdsr devices` lists GPUs and their numbers. A run may be resumed on another device; the last bits of weights then
    /// differ. GPUs compute in f32, or in f16 if the recipe has
    /// precision = "bf16" and they multiply matrices.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceChoice,
    /// Number of threads; 0: one for each processor
    ///
    /// The result does not depend on it.
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Print the recipe with all its values; it is also in the folder of --out
    #[arg(short = 'v', long)]
    verbose: bool,
}

/// Options for the dataset.
#[derive(clap::Args)]
struct ImageArguments {
    /// Train on the images in FOLDER; may be given several times
    ///
    /// Overrides the recipe's data.folders.
    #[arg(long, value_name = "FOLDER")]
    data: Vec<PathBuf>,
    /// Validate on the images in FOLDER
    ///
    /// Overrides the recipe's data.validation. Without either, validation.images (10 by default) of the
    /// training images are kept for validation; if they are more than a tenth, the summary says so.
    #[arg(long, value_name = "FOLDER")]
    validation: Option<PathBuf>,
    #[command(flatten)]
    memory: ImageMemory,
}

/// The memory limit for decoded images.
#[derive(clap::Args)]
pub(crate) struct ImageMemory {
    /// Memory for decoded images, such as 500M or 4G
    ///
    /// If the images need more, they are kept in a temporary file in the folder of --out. The result
    /// is the same.
    #[arg(long = "image-memory", value_name = "SIZE", value_parser = units::bytes, default_value = "2G")]
    pub(crate) bytes: u64,
}

impl ImageArguments {
    /// Replaces the recipe's folders.
    fn apply(&self, recipe: &mut Recipe) -> anyhow::Result<()> {
        let data = &mut recipe.data;
        if !self.data.is_empty() {
            data.folders = folders(&self.data)?;
        }
        if let Some(validation) = &self.validation {
            data.validation = Some(absolute(validation)?);
        }
        if data.folders.is_empty() {
            let message = "no training images: give --data FOLDER, or data.folders in the recipe";
            return Err(WrongUsage(message.to_owned()).into());
        }
        Ok(())
    }
}

/// Folders without weights, with absolute paths.
pub(crate) fn folders(paths: &[PathBuf]) -> anyhow::Result<Vec<DataFolder>> {
    let folder = |path: &PathBuf| {
        Ok(DataFolder {
            path: absolute(path)?,
            weight: None,
        })
    };
    paths.iter().map(folder).collect()
}

pub(crate) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{}: cannot find", path.display()))
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let limit = arguments.time.start();
    on_threads(arguments.threads, || {
        let ranks = ranks::join()?;
        let result = run_among(&ranks, arguments, limit);
        if let Err(error) = &result
            && !is_stopped(error)
        {
            ranks::end_all(&*ranks, error);
        }
        result
    })?
}

fn run_among(ranks: &Rc<dyn Ranks>, arguments: &Arguments, limit: TimeLimit) -> anyhow::Result<()> {
    let overrides = Overrides {
        from: arguments.from.as_deref(),
        updates: arguments.updates,
        cool_down_updates: arguments.cool_down,
    };
    let mut recipe = if arguments.resume {
        let checkpoint = arguments.out.join(LAST_CHECKPOINT);
        Recipe::load_to_resume(&arguments.recipe, overrides, &checkpoint)?
    } else {
        Recipe::load(&arguments.recipe, overrides)?
    };
    arguments.images.apply(&mut recipe)?;
    recipe.start.insert_blocks |= arguments.insert_blocks;
    if recipe.start.insert_blocks && recipe.start.from.is_none() {
        let message = "--insert-blocks needs a model whose blocks are spread: give --from MODEL, or \
                       start.from in the recipe";
        return Err(WrongUsage(message.to_owned()).into());
    }
    if arguments.export_images && recipe.data.shifts.is_some() {
        let message = "--export-images exports the files as they are, without the alignment of data.shifts: \
                       train on a folder of `wdsr data align`, without data.shifts";
        return Err(WrongUsage(message.to_owned()).into());
    }
    if ranks.count() > 1 && (arguments.export_images || arguments.export_batches.is_some()) {
        let message = "--export-images and --export-batches are for one process";
        return Err(WrongUsage(message.to_owned()).into());
    }
    if ranks.count() > 1 && arguments.device != DeviceChoice::Cpu {
        let message =
            "several processes train on processors only: use --device cpu, or one process";
        return Err(WrongUsage(message.to_owned()).into());
    }
    if ranks.rank() == 0 {
        claim_files(arguments, &recipe)?;
    }
    let gpu = OpenGpu::open(arguments.device)?;
    train(ranks, arguments, recipe, gpu.as_ref(), limit)
}

/// Whether all processes of a training stopped it together.
fn is_stopped(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref();
    error.is_some_and(|error| {
        matches!(
            error,
            wdsr_study::Error::Train(wdsr_train::Error::Stopped { .. })
        )
    })
}

/// Claims the files of the run. A resumed run may read the recipe in its own folder, which it writes
/// unchanged, and does not read the model that it started from.
fn claim_files(arguments: &Arguments, recipe: &Recipe) -> Result<(), Conflict> {
    let start = [
        Some(("recipe", &*arguments.recipe)),
        recipe.start.from.as_deref().map(|from| ("model", from)),
    ];
    let start = start.into_iter().flatten().filter(|_| !arguments.resume);
    let teacher = recipe.teacher.iter().map(|t| ("teacher", &*t.model));
    let strength = recipe.strength.iter().filter(|_| !arguments.resume);
    let clean = strength.filter_map(|s| Some(("model", s.clean.as_deref()?)));
    let reports = match &recipe.data.shifts {
        Some(Shifts::Reports(reports)) => reports.as_slice(),
        _ => &[],
    };
    let reports = reports.iter().map(|report| ("report", &**report));
    let inputs = start.chain(teacher).chain(clean).chain(reports);
    let mut claims = FileClaims::of_inputs(inputs);
    for file in run_files(&arguments.out) {
        claims.write("run's file", "--out", &file)?;
    }
    if arguments.export_batches.is_some() {
        claims.write("export", "--out", &arguments.out.join(BATCHES))?;
    }
    Ok(())
}

/// The files that a run and its reports replace.
pub(crate) fn run_files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let names = run_folder::FILES.into_iter().chain([wdsr_study::REPORT]);
    names.map(|name| folder.join(name))
}

fn train(
    ranks: &Rc<dyn Ranks>,
    arguments: &Arguments,
    recipe: Recipe,
    gpu: Option<&OpenGpu>,
    limit: TimeLimit,
) -> anyhow::Result<()> {
    let is_first = ranks.rank() == 0;
    let folders = recipe.data.folders.iter().map(|folder| &folder.path);
    for folder in folders.chain(&recipe.data.validation).filter(|_| is_first) {
        progress::warn_of_unread_images(folder);
    }
    let decoding = progress::bar(0, "reading images [{bar:30}] {pos}/{len}", !is_first);
    let mut trainer = Trainer::prepare_among(
        Rc::clone(ranks),
        recipe,
        &arguments.out,
        arguments.resume,
        arguments.images.memory.bytes,
        &|done, total| {
            decoding.set_length(total as u64);
            decoding.set_position(done as u64);
        },
    )?;
    decoding.finish_and_clear();
    if !is_first {
        signals::listen(STOPPING)?;
        // The first rank says how the training ended.
        return match trainer.run(|_| Ok(())) {
            Err(wdsr_train::Error::Stopped { .. }) => Ok(()),
            result => Ok(result?),
        };
    }
    if arguments.verbose {
        print_line(trainer.recipe().to_toml().trim_end());
    }
    let exported = match arguments.export_batches {
        Some(updates) => trainer.export_batches(updates)?,
        None if arguments.export_images => trainer.export_images()?,
        None => Vec::new(),
    };
    if !exported.is_empty() {
        for file in exported {
            print_line(&format!("written: {}", file.display()));
        }
        return Ok(());
    }
    if let Some(gpu) = gpu {
        gpu.train(&mut trainer)?;
    }
    signals::listen(STOPPING)?;
    let result = run_with_reports(&mut trainer, Rc::new(limit));
    if let Some(gpu) = gpu {
        gpu.print_warnings();
    }
    if let Some(stopped) = stopped_in_time(&result) {
        print_line(&stopped);
        return Ok(());
    }
    result.map_err(|error| with_remedy(error, &arguments.out))?;
    let model = arguments.out.join(LAST_MODEL);
    print_line(&format!("model: {}", model.display()));
    Ok(())
}

/// Runs a training, shows its progress and writes its reports.
///
/// Signals and the time limit stop it once its checkpoint is saved; before, while images are read, signals
/// end the program.
pub(crate) fn run_with_reports(
    trainer: &mut Trainer,
    limit: Rc<TimeLimit>,
) -> Result<(), wdsr_study::Error> {
    let mut reporter = TrainingReporter::new(trainer)?;
    let mut view = TrainingView::new(trainer);
    trainer.stop_when(move || signals::requested() || limit.is_over());
    let result = trainer.run(|event| {
        reporter.observe(&event)?;
        view.show(&event);
        Ok(())
    });
    view.finish();
    result
}

/// What a training says that the time limit has stopped, not a signal.
pub(crate) fn stopped_in_time(result: &Result<(), wdsr_study::Error>) -> Option<String> {
    match result {
        Err(wdsr_study::Error::Train(error @ wdsr_train::Error::Stopped { .. }))
            if !signals::requested() =>
        {
            Some(error.to_string())
        }
        _ => None,
    }
}

/// Adds how to resume to an error, unless the run has no checkpoint or the error names its remedy.
fn with_remedy(error: wdsr_study::Error, out: &Path) -> anyhow::Error {
    let checkpoint = out.join(LAST_CHECKPOINT);
    let names_remedy = matches!(
        error,
        wdsr_study::Error::Train(
            wdsr_train::Error::NonFiniteLoss { .. }
                | wdsr_train::Error::DeviceLost { .. }
                | wdsr_train::Error::Stopped { .. }
        )
    );
    if names_remedy || !checkpoint.exists() {
        return error.into();
    }
    let stopped = Interrupted {
        source: error,
        checkpoint,
    };
    stopped.into()
}

/// An error after which the run can be resumed.
#[derive(Debug, thiserror::Error)]
#[error("{source}; fix this, then resume from {} with --resume", checkpoint.display())]
struct Interrupted {
    source: wdsr_study::Error,
    checkpoint: PathBuf,
}
