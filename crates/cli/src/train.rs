//! `wdsr train`: trains a network by a recipe on folders of images.

use std::path::{Path, PathBuf};

use anyhow::Context;
use wdsr_train::export::BATCHES;
use wdsr_train::trainer::{self, LAST_CHECKPOINT};
use wdsr_train::{DataFolder, Error, Recipe, Trainer};

use crate::file_claims::{Conflict, FileClaims};
use crate::progress::{self, print_line};
use crate::training_view::TrainingView;
use crate::{WrongUsage, on_threads};

/// Train a network by a recipe
///
/// A folder of `--data` holds images (all subfolders are read; the low-resolution ones are made
/// by imresize) or pairs in DIV2K's layout. The folder of `--out` receives checkpoints, models,
/// and a log of metrics as JSON lines. A training that was stopped at any moment goes on from its
/// last checkpoint with `--resume`, to the same result.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to train and how (TOML; see recipes/)
    recipe: PathBuf,
    #[command(flatten)]
    images: ImageArguments,
    /// Where checkpoints, models and metrics go
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Go on with the training that stands in the folder of --out
    #[arg(long)]
    resume: bool,
    /// Start from the weights of this model or checkpoint
    ///
    /// In place of the recipe's start.from. What fits by name and shape is taken, so an x4
    /// network can start from an x2 one.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    from: Option<PathBuf>,
    /// Spread the blocks of --from, or of start.from, over a deeper network
    ///
    /// Those between begin as the identity.
    #[arg(long, conflicts_with = "resume")]
    insert_blocks: bool,
    /// Train nothing, write the batches of so many updates
    ///
    /// They and the checkpoint to begin with go into the folder of --out, where reference/twin.py
    /// trains on them.
    #[arg(long, value_name = "UPDATES", value_parser = clap::value_parser!(u64).range(1..))]
    export_batches: Option<u64>,
    /// Train nothing, write the images to train on
    ///
    /// They, in files of about 24 MiB, and the checkpoint to begin with go into the folder of
    /// --out, where reference/twin.py trains on them.
    #[arg(long, conflicts_with = "export_batches")]
    export_images: bool,
    /// Threads; 0: one for each processor
    ///
    /// The result is the same.
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

/// Arguments that say which images to train on.
#[derive(clap::Args)]
pub(crate) struct ImageArguments {
    /// Images to train on; may be given several times
    ///
    /// In place of the recipe's data.folders.
    #[arg(long, value_name = "FOLDER")]
    data: Vec<PathBuf>,
    /// Images to validate on
    ///
    /// In place of the recipe's data.validation; without either, validation.images of those to
    /// train on are kept for it.
    #[arg(long, value_name = "FOLDER")]
    validation: Option<PathBuf>,
    /// Memory for decoded images in MiB
    ///
    /// If they need more, they are kept in a temporary file in the folder of --out. The result is
    /// the same.
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    image_memory: u64,
}

impl ImageArguments {
    /// Puts the folders into a recipe.
    pub(crate) fn apply(&self, recipe: &mut Recipe) -> anyhow::Result<()> {
        let data = &mut recipe.data;
        if !self.data.is_empty() {
            data.folders = folders(&self.data)?;
        }
        if let Some(validation) = &self.validation {
            data.validation = Some(absolute(validation)?);
        }
        if data.folders.is_empty() {
            let message = "no images to train on: give --data FOLDER, or data.folders in the \
                           recipe";
            return Err(WrongUsage(message.to_owned()).into());
        }
        Ok(())
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.image_memory.saturating_mul(1 << 20)
    }
}

/// Folders without weights; their paths hold wherever the recipe is read.
pub(crate) fn folders(paths: &[PathBuf]) -> anyhow::Result<Vec<DataFolder>> {
    let folder = |path: &PathBuf| {
        Ok(DataFolder {
            path: absolute(path)?,
            weight: None,
        })
    };
    paths.iter().map(folder).collect()
}

/// The path wherever the program runs.
pub(crate) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{}: cannot find", path.display()))
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut recipe = if arguments.resume {
        Recipe::load_to_resume(&arguments.recipe, &arguments.out.join(LAST_CHECKPOINT))?
    } else {
        Recipe::load(&arguments.recipe, arguments.from.as_deref())?
    };
    arguments.images.apply(&mut recipe)?;
    recipe.start.insert_blocks |= arguments.insert_blocks;
    if recipe.start.insert_blocks && recipe.start.from.is_none() {
        let message = "--insert-blocks spreads the blocks of a model: give --from MODEL, or \
                       start.from in the recipe";
        return Err(WrongUsage(message.to_owned()).into());
    }
    claim_files(arguments, &recipe)?;
    on_threads(arguments.threads, || train(arguments, recipe))?
}

/// Claims the files of the run. A resumed run may be given the recipe in its own folder, which it
/// writes as it was, and does not read the model that it started from.
fn claim_files(arguments: &Arguments, recipe: &Recipe) -> Result<(), Conflict> {
    let start = [
        Some(("recipe", &*arguments.recipe)),
        recipe.start.from.as_deref().map(|from| ("model", from)),
    ];
    let start = start.into_iter().flatten().filter(|_| !arguments.resume);
    let teacher = recipe.teacher.iter().map(|t| ("teacher", &*t.model));
    let mut claims = FileClaims::of_inputs(start.chain(teacher));
    for name in trainer::FILES {
        claims.write("run's file", "--out", &arguments.out.join(name))?;
    }
    if arguments.export_batches.is_some() {
        claims.write("export", "--out", &arguments.out.join(BATCHES))?;
    }
    Ok(())
}

fn train(arguments: &Arguments, recipe: Recipe) -> anyhow::Result<()> {
    let reading = progress::bar(0, "reading images [{bar:30}] {pos}/{len}", false);
    let mut trainer = Trainer::prepare(
        recipe.clone(),
        &arguments.out,
        arguments.resume,
        arguments.images.memory_bytes(),
        &|done, total| {
            reading.set_length(total as u64);
            reading.set_position(done as u64);
        },
    )?;
    reading.finish_and_clear();
    print_line(recipe.to_toml().trim_end());
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
    let mut view = TrainingView::new(&trainer, &recipe);
    let result = trainer.run(|event| view.show(&event));
    view.finish();
    if let Err(error) = result {
        let checkpoint = arguments.out.join(LAST_CHECKPOINT);
        if matches!(error, Error::NonFiniteLoss { .. }) || !checkpoint.exists() {
            return Err(error.into());
        }
        return Err(Stopped {
            source: error,
            checkpoint,
        }
        .into());
    }
    let model = arguments.out.join("model.safetensors");
    print_line(&format!("model: {}", model.display()));
    Ok(())
}

/// A training that can go on.
#[derive(Debug, thiserror::Error)]
#[error("{source}; once that is put right, go on from {} by --resume", checkpoint.display())]
struct Stopped {
    source: Error,
    checkpoint: PathBuf,
}
