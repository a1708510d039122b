//! `wdsr study`: repeats a published table as runs with equal budgets.

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context;
use wdsr_eval::Protocol;
use wdsr_model::DeviceChoice;
use wdsr_study::{
    Error, Outcome, PUBLISHED_UPDATES, PlannedRun, Results, STUDY_REPORTS, Study, StudyKind,
    StudyOptions, Verdict,
};
use wdsr_train::dataset::{CacheOptions, Dataset, DecodedDataset};
use wdsr_train::run_folder::LAST_CHECKPOINT;
use wdsr_train::{Data, Trainer, Validation};

use crate::device::OpenGpu;
use crate::file_claims::{Conflict, FileClaims};
use crate::models::PrecisionArgument;
use crate::progress::{self, print_line};
use crate::time_limit::{TimeArgument, TimeLimit};
use crate::train::{
    ImageMemory, STOPPING, absolute, folders, run_files, run_with_reports, stopped_in_time,
};
use crate::{WrongUsage, on_threads, signals};

/// Validations of a run, unless --validate-every is given.
const VALIDATIONS: u64 = 20;

/// Repeat a published table at a budget of your own, and report which statements held
///
/// Trains every network of the table with every seed, all with the same number of updates, one after
/// the other. The same command resumes an interrupted study; with more seeds or rows it trains only
/// the new runs. After each run, report.md, report.html and report.json in the folder of --out are
/// updated.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The table
    #[arg(value_enum)]
    name: Name,
    /// Train on the images in FOLDER; may be given several times
    #[arg(long, value_name = "FOLDER", required = true)]
    data: Vec<PathBuf>,
    /// Validate on the images in FOLDER
    ///
    /// Without it, --validation-images of the training images are kept for validation.
    #[arg(long, value_name = "FOLDER")]
    validation: Option<PathBuf>,
    /// Number of validation images; 0, with --validation only: all
    #[arg(long, value_name = "N", default_value_t = 10)]
    validation_images: usize,
    /// Write runs and reports to FOLDER
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Updates of each run (published: 250,000)
    #[arg(long, value_name = "N", default_value_t = PUBLISHED_UPDATES)]
    updates: u64,
    /// Runs of each network, with the seeds 1 to N
    #[arg(long, value_name = "N", default_value_t = 3)]
    seeds: u64,
    /// Residual blocks, separated by commas
    ///
    /// The rows of depth's table, or the depth of the other studies.
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    blocks: Vec<usize>,
    /// Expansions of width, separated by commas
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    expansions: Vec<usize>,
    /// Teacher of gains, a model of scale 2
    ///
    /// Without it, gains skips distillation.
    #[arg(long, value_name = "FILE")]
    teacher: Option<PathBuf>,
    /// Patches of an update
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// Side of a patch in low-resolution pixels
    #[arg(long, value_name = "PX", default_value_t = 48)]
    patch: usize,
    /// Arithmetic of the trainings
    ///
    /// A processor on which bf16 is not faster uses f32.
    #[arg(long, value_enum, default_value_t = PrecisionArgument::F32)]
    precision: PrecisionArgument,
    /// Updates between validations; 0: a twentieth of all
    #[arg(long, value_name = "N", default_value_t = 0)]
    validate_every: u64,
    /// What the PSNR compares: benchmark, div2k or ntire
    ///
    /// As in `wdsr eval`; the published figures are div2k's.
    #[arg(long, default_value_t = Protocol::Div2k)]
    protocol: Protocol,
    /// What computes updates and validations: cpu, gpu, gpu:N, or auto for a GPU if there is one
    ///
    /// As for `wdsr train`. auto trains on the processor what GPUs do not, such as the batch normalisation of norm.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceChoice,
    #[command(flatten)]
    time: TimeArgument,
    #[command(flatten)]
    memory: ImageMemory,
    /// Number of threads; 0: one for each processor
    ///
    /// The result does not depend on it.
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Name {
    /// EDSR, WDSR-A and WDSR-B at 1, 3, 5 and 8 blocks
    Depth,
    /// Weight, batch and no normalisation at 1e-3 and 1e-4
    Norm,
    /// Expansions at equal parameters
    Width,
    /// Optional keys of a recipe, each alone, on one WDSR-B
    Gains,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let limit = arguments.time.start();
    let study = arguments.study()?;
    on_threads(arguments.threads, || run_study(arguments, &study, limit))?
}

impl Arguments {
    fn study(&self) -> anyhow::Result<Study> {
        let kind = match self.name {
            Name::Depth => StudyKind::Depth,
            Name::Norm => StudyKind::Norm,
            Name::Width => StudyKind::Width,
            Name::Gains => StudyKind::Gains,
        };
        if self.validation.is_none() && self.validation_images == 0 {
            let message = "--validation-images 0 leaves no validation images; give at least 1, or \
                           --validation FOLDER";
            return Err(WrongUsage(message.to_owned()).into());
        }
        let every = if self.validate_every > 0 {
            self.validate_every
        } else {
            (self.updates / VALIDATIONS).max(1)
        };
        let options = StudyOptions {
            updates: self.updates,
            seeds: self.seeds,
            blocks: self.blocks.clone(),
            expansions: self.expansions.clone(),
            teacher: self.teacher.as_deref().map(absolute).transpose()?,
            batch: self.batch,
            patch_px: self.patch,
            precision: self.precision.of_training()?,
            data: Data {
                folders: folders(&self.data)?,
                validation: self.validation.as_deref().map(absolute).transpose()?,
                ..Data::default()
            },
            validation: Validation {
                every_updates: every,
                images: self.validation_images,
                protocol: self.protocol,
            },
        };
        Ok(Study::new(kind, options).map_err(|e| WrongUsage(e.to_string()))?)
    }
}

/// Claims the files of a study and of its runs.
fn claim_files(arguments: &Arguments, study: &Study) -> Result<(), Conflict> {
    let out = &arguments.out;
    let teacher = arguments.teacher.as_deref();
    let mut claims = FileClaims::of_inputs(teacher.map(|file| ("teacher", file)));
    for name in STUDY_REPORTS {
        claims.write("report", "--out", &out.join(name))?;
    }
    for run in study.runs() {
        for file in run_files(&study.run_folder(out, &run)) {
            claims.write("run's file", "--out", &file)?;
        }
    }
    Ok(())
}

fn run_study(arguments: &Arguments, study: &Study, limit: TimeLimit) -> anyhow::Result<()> {
    let limit = Rc::new(limit);
    let out = &arguments.out;
    let runs = study.runs();
    claim_files(arguments, study)?;
    let gpu = OpenGpu::open(arguments.device)?;
    std::fs::create_dir_all(out).with_context(|| format!("{}: cannot create", out.display()))?;
    // All runs share one dataset: it is decoded once.
    let dataset = Dataset::scan(&runs[0].recipe)?;
    study.check(out, dataset.fingerprint())?;
    let mut decoded = None;
    for (at, run) in runs.iter().enumerate() {
        let name = &study.configurations[run.configuration].name;
        let outcome = study.outcome(out, run)?;
        print_line(&format!(
            "run {} of {}: {name}, seed {}: {}",
            at + 1,
            runs.len(),
            run.seed,
            describe(outcome)
        ));
        if matches!(outcome, Outcome::Open { .. }) {
            let images = match &decoded {
                Some(images) => images,
                None => {
                    let images = decode(arguments, &dataset)?;
                    signals::listen(STOPPING)?;
                    decoded.insert(images)
                }
            };
            let prepared = prepare(arguments, study, run, images.clone(), gpu.as_ref())?;
            let stopped = train(arguments, study, run, prepared, Rc::clone(&limit))?;
            if let Some(gpu) = &gpu {
                gpu.print_warnings();
            }
            study.write_report(out)?;
            if stopped {
                print_line("the time is over; the same command resumes the study");
                return Ok(());
            }
        }
    }
    let results = study.write_report(out)?;
    print_line(&summary(&results));
    print_line(&format!("report: {}", out.join("report.md").display()));
    Ok(())
}

fn decode(arguments: &Arguments, dataset: &Dataset) -> anyhow::Result<DecodedDataset> {
    let decoding = progress::bar(0, "reading images [{bar:30}] {pos}/{len}", false);
    let options = CacheOptions {
        memory_bytes: arguments.memory.bytes,
        folder: &arguments.out,
    };
    let decoded = dataset.decode(&options, &|done, total| {
        decoding.set_length(total as u64);
        decoding.set_position(done as u64);
    })?;
    decoding.finish_and_clear();
    Ok(decoded)
}

/// Prepares a run, or its rest.
fn prepare(
    arguments: &Arguments,
    study: &Study,
    run: &PlannedRun,
    dataset: DecodedDataset,
    gpu: Option<&OpenGpu>,
) -> anyhow::Result<Trainer> {
    let folder = study.run_folder(&arguments.out, run);
    let resume = folder.join(LAST_CHECKPOINT).exists();
    let mut trainer = Trainer::prepare_with(run.recipe.clone(), &folder, resume, dataset)?;
    if let Some(gpu) = gpu {
        gpu.train(&mut trainer)?;
    }
    Ok(trainer)
}

/// Trains a run; returns whether the time limit stopped it.
fn train(
    arguments: &Arguments,
    study: &Study,
    run: &PlannedRun,
    mut trainer: Trainer,
    limit: Rc<TimeLimit>,
) -> anyhow::Result<bool> {
    let folder = study.run_folder(&arguments.out, run);
    let result = run_with_reports(&mut trainer, limit);
    if stopped_in_time(&result).is_some() {
        return Ok(true);
    }
    match result {
        Err(Error::Train(wdsr_train::Error::NonFiniteLoss { update, loss, .. })) => {
            print_line(&format!("diverged: the loss of update {update} is {loss}"));
            study.mark_diverged(&arguments.out, run, update)?;
            Ok(false)
        }
        Err(Error::Train(wdsr_train::Error::Stopped { update, .. })) => anyhow::bail!(
            "{}: stopped after update {update}; the same command resumes the study",
            folder.display()
        ),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(false),
    }
}

fn describe(outcome: Outcome) -> String {
    match outcome {
        Outcome::Finished { psnr_db, .. } => format!("finished, {psnr_db:.3} dB"),
        Outcome::Diverged { update } => format!("diverged at update {update}"),
        Outcome::Open { updates: 0 } => "starting".to_owned(),
        Outcome::Open { updates } => format!("resuming after update {updates}"),
    }
}

fn summary(results: &Results) -> String {
    let count = |verdict| {
        let statements = results.statements.iter();
        statements.filter(|s| s.verdict == verdict).count()
    };
    let mut text = format!(
        "of {} statements {} held, {} did not, {} are undecided",
        results.statements.len(),
        count(Verdict::Held),
        count(Verdict::NotHeld),
        count(Verdict::Undecided)
    );
    let untrained = count(Verdict::Untrained);
    if untrained > 0 {
        text += &format!(", {untrained} have no verdict (untrained; train with more updates)");
    }
    text
}
