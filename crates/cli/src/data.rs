//! `wdsr data`: builds, checks and aligns datasets.

mod align;
mod degrade;
mod fetch;

use std::path::PathBuf;
use std::process::ExitCode;

use wdsr_data::check::{CheckReport, ProblemKind, check_data};
use wdsr_eval::Track;

use crate::{on_threads, progress, stdout};

/// Build, check and align datasets
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Fetch(fetch::FetchArguments),
    Check(CheckArguments),
    Align(align::AlignArguments),
    Degrade(degrade::DegradeArguments),
}

/// List broken, too small, grey, wrongly paired and duplicate images
///
/// Folders are read as by `wdsr train --data`. Duplicates are found across folders, so training and
/// validation images can be checked against each other. Exits with 1 if there are any.
#[derive(clap::Args)]
struct CheckArguments {
    /// Folders to check
    #[arg(required = true, value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Scale of the training
    #[arg(short = 's', long, value_name = "N", default_value_t = 2)]
    scale: usize,
    /// Side of the training's patches in low-resolution pixels
    #[arg(long, value_name = "PX", default_value_t = 48)]
    patch: usize,
    /// Which low-resolution images of DIV2K: bicubic, unknown, mild, difficult or wild
    #[arg(long, default_value_t)]
    track: Track,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    /// Number of threads; 0: one for each processor
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Fetch(arguments) => fetch::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Check(arguments) => check(arguments),
        Command::Align(arguments) => align::run(arguments),
        Command::Degrade(arguments) => degrade::run(arguments).map(|()| ExitCode::SUCCESS),
    }
}

fn check(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    if !matches!(arguments.scale, 1 | 2 | 3 | 4 | 8) {
        let message = format!("-s {}: expected 1, 2, 3, 4 or 8", arguments.scale);
        return Err(crate::WrongUsage(message).into());
    }
    for folder in &arguments.folders {
        progress::warn_of_unread_images(folder);
    }
    let checking = progress::bar(0, "checking [{bar:30}] {pos}/{len}, {eta} left", false);
    let report = on_threads(arguments.threads, || {
        let (folders, track) = (&arguments.folders, arguments.track);
        check_data(
            folders,
            arguments.scale,
            track,
            arguments.patch,
            &|done, total| {
                checking.set_length(total as u64);
                checking.set_position(done as u64);
            },
        )
    })??;
    checking.finish_and_clear();
    if arguments.json {
        stdout::print_json(&report)?;
    } else {
        stdout::print_lines(&to_lines(&report))?;
    }
    Ok(if report.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn to_lines(report: &CheckReport) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        let (kind, path) = (problem.kind, problem.path.display());
        text += &format!("{kind:<16}{path}: {}\n", problem.detail);
    }
    let counts: Vec<String> = ProblemKind::ALL
        .into_iter()
        .map(|kind| (kind, report.count(kind)))
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    let found = if counts.is_empty() {
        "no problems".to_owned()
    } else {
        counts.join(", ")
    };
    text += &format!("low-resolution images: {}\n", report.low_images);
    text += &format!(
        "{} images, {} usable at x{} with patches of {} ({:.1} megapixels); {found}\n",
        report.images, report.usable, report.scale, report.patch_px, report.megapixels
    );
    text
}
