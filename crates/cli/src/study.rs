//! `wdsr study`: repeats a published table as trainings with equal budgets.

use std::path::PathBuf;

use anyhow::Context;
use wdsr_eval::Protocol;
use wdsr_train::images::{Found, Images, Storage};
use wdsr_train::study::{
    Outcome, PUBLISHED_UPDATES, Results, Run, Study, StudyKind, StudyOptions, Verdict,
};
use wdsr_train::{Data, Error, Trainer, Validation, trainer};

use crate::file_claims::FileClaims;
use crate::models::PrecisionArgument;
use crate::progress::{self, print_line};
use crate::train::{absolute, folders};
use crate::training_view::TrainingView;
use crate::{WrongUsage, on_threads};

/// Validations of a training, unless --validate-every says otherwise.
const VALIDATIONS: u64 = 20;

/// Repeat a published table at a budget of your own, and report what held
///
/// Trains every network of the table with every seed, all with the same number of updates, one
/// after the other. Stopped at any moment, the same command goes on where it stood; more seeds or
/// points may be asked for later, and only those are trained. After each training, report.md,
/// report.html and report.json in the folder of --out say what has held so far.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which table
    #[arg(value_enum)]
    name: Name,
    /// Images to train on; may be given several times
    #[arg(long, value_name = "FOLDER", required = true)]
    data: Vec<PathBuf>,
    /// Images to validate on
    ///
    /// Without it, --validation-images of those to train on are kept.
    #[arg(long, value_name = "FOLDER")]
    validation: Option<PathBuf>,
    /// How many images to validate on; 0, with --validation only: all
    #[arg(long, value_name = "N", default_value_t = 10)]
    validation_images: usize,
    /// Where runs and reports go
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Updates of every training (published: 250,000)
    #[arg(long, value_name = "N", default_value_t = PUBLISHED_UPDATES)]
    updates: u64,
    /// Trainings of every network, each with a seed of its own
    #[arg(long, value_name = "N", default_value_t = 3)]
    seeds: u64,
    /// Residual blocks, separated by commas
    ///
    /// Which of depth's table, or the depth of the others.
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    blocks: Vec<usize>,
    /// Which expansions of width, separated by commas
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    expansions: Vec<usize>,
    /// Model of scale 2 that teaches in gains
    ///
    /// Without it that point is left out.
    #[arg(long, value_name = "FILE")]
    teacher: Option<PathBuf>,
    /// Patches in an update
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// Side of a patch in low-resolution pixels
    #[arg(long, value_name = "PX", default_value_t = 48)]
    patch: usize,
    /// Arithmetic of the trainings
    ///
    /// bf16 where the processor has AVX512-BF16; elsewhere f32 serves.
    #[arg(long, value_enum, default_value_t = PrecisionArgument::F32)]
    precision: PrecisionArgument,
    /// Updates from one validation to the next; 0: a twentieth of all
    #[arg(long, value_name = "N", default_value_t = 0)]
    validate_every: u64,
    /// What the PSNR compares: benchmark, div2k or ntire
    ///
    /// As in `wdsr eval`; the published figures are div2k's.
    #[arg(long, default_value_t = Protocol::Div2k)]
    protocol: Protocol,
    /// Memory for decoded images in MiB, as for `wdsr train`
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    image_memory: u64,
    /// Threads; 0: one for each processor
    ///
    /// The result is the same.
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
    /// A recipe's ways to train the same WDSR-B better, each alone
    Gains,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let study = arguments.study()?;
    on_threads(arguments.threads, || carry_out(arguments, &study))?
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
            let message = "--validation-images 0 keeps no image to compare by; give more, or \
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
            precision: self.precision.into(),
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
        Ok(Study::new(kind, options).map_err(WrongUsage)?)
    }
}

fn carry_out(arguments: &Arguments, study: &Study) -> anyhow::Result<()> {
    let out = &arguments.out;
    let runs = study.runs();
    let teacher = arguments.teacher.as_deref();
    let mut claims = FileClaims::of_inputs(teacher.map(|file| ("teacher", file)));
    for name in ["report.md", "report.html", "report.json"] {
        claims.write("report", "--out", &out.join(name))?;
    }
    for folder in runs.iter().map(|run| study.run_folder(out, run)) {
        for name in trainer::FILES {
            claims.write("run's file", "--out", &folder.join(name))?;
        }
    }
    std::fs::create_dir_all(out).with_context(|| format!("{}: cannot create", out.display()))?;
    // All trainings see the same images: they are decoded once.
    let found = Found::find(&runs[0].recipe)?;
    study.check(out, found.fingerprint())?;
    let mut images = None;
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
            let decoded = match images.take() {
                Some(decoded) => decoded,
                None => decode(arguments, &found)?,
            };
            train(arguments, study, run, decoded.clone())?;
            images = Some(decoded);
            study.write_report(out)?;
        }
    }
    let results = study.write_report(out)?;
    print_line(&summary(&results));
    print_line(&format!("report: {}", out.join("report.md").display()));
    Ok(())
}

fn decode(arguments: &Arguments, found: &Found) -> anyhow::Result<Images> {
    let reading = progress::bar(0, "reading images [{bar:30}] {pos}/{len}", false);
    let storage = Storage {
        memory_bytes: arguments.image_memory.saturating_mul(1 << 20),
        folder: &arguments.out,
    };
    let images = found.decode(&storage, &|done, total| {
        reading.set_length(total as u64);
        reading.set_position(done as u64);
    })?;
    reading.finish_and_clear();
    Ok(images)
}

fn train(arguments: &Arguments, study: &Study, run: &Run, images: Images) -> anyhow::Result<()> {
    let folder = study.run_folder(&arguments.out, run);
    let resume = folder.join(trainer::LAST_CHECKPOINT).exists();
    let mut trainer = Trainer::prepare_with(run.recipe.clone(), &folder, resume, images)?;
    let mut view = TrainingView::new(&trainer, &run.recipe);
    let result = trainer.run(|event| view.show(&event));
    view.finish();
    match result {
        Err(Error::NonFiniteLoss { update, loss, .. }) => {
            print_line(&format!("diverged: the loss of update {update} is {loss}"));
            study.mark_diverged(&arguments.out, run, update)?;
            Ok(())
        }
        other => Ok(other?),
    }
}

fn describe(outcome: Outcome) -> String {
    match outcome {
        Outcome::Finished { psnr_db, .. } => format!("done, {psnr_db:.3} dB"),
        Outcome::Diverged { update } => format!("diverged at update {update}"),
        Outcome::Open { updates: 0 } => "begins".to_owned(),
        Outcome::Open { updates } => format!("goes on after update {updates}"),
    }
}

fn summary(results: &Results) -> String {
    let count = |verdict| {
        let of = results.statements.iter().filter(|s| s.verdict == verdict);
        of.count()
    };
    format!(
        "of {} statements {} held, {} did not, {} are undecided",
        results.statements.len(),
        count(Verdict::Held),
        count(Verdict::NotHeld),
        count(Verdict::Undecided)
    )
}
