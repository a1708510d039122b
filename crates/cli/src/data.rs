//! `wdsr data`: images to train on.

mod fetch;

use std::path::PathBuf;
use std::process::ExitCode;

use wdsr_eval::Track;
use wdsr_train::data_check::{DataReport, Kind, check_data};

use crate::{on_threads, progress, stdout};

/// Gather and check images to train on
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Fetch(fetch::FetchArguments),
    Check(CheckArguments),
}

/// Name every broken, too small, grey, wrongly paired or duplicate image
///
/// Folders are read as `wdsr train --data` reads them. Duplicates are found across folders, so
/// training and validation images can be checked against each other. Exits with 1 when it has
/// found something.
#[derive(clap::Args)]
struct CheckArguments {
    /// Folders of images
    #[arg(required = true, value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Scale of the training
    #[arg(short = 's', long, value_name = "N", default_value_t = 2)]
    scale: usize,
    /// Side of its patches in low-resolution pixels
    #[arg(long, value_name = "PX", default_value_t = 48)]
    patch: usize,
    /// DIV2K's track: bicubic, mild, difficult or wild
    ///
    /// Which of its low-resolution images are read.
    #[arg(long, default_value_t)]
    track: Track,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
    /// Threads; 0: one for each processor
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Fetch(arguments) => fetch::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Check(arguments) => check(arguments),
    }
}

fn check(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    if !matches!(arguments.scale, 1 | 2 | 3 | 4 | 8) {
        let message = format!("-s {}: expected 1, 2, 3, 4 or 8", arguments.scale);
        return Err(crate::WrongUsage(message).into());
    }
    let reading = progress::bar(0, "checking [{bar:30}] {pos}/{len}, {eta} left", false);
    let report = on_threads(arguments.threads, || {
        let (folders, track) = (&arguments.folders, arguments.track);
        check_data(
            folders,
            arguments.scale,
            track,
            arguments.patch,
            &|done, total| {
                reading.set_length(total as u64);
                reading.set_position(done as u64);
            },
        )
    })??;
    reading.finish_and_clear();
    if arguments.json {
        stdout::print_json(&report)?;
    } else {
        stdout::print(to_lines(&report))?;
    }
    Ok(if report.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn to_lines(report: &DataReport) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        let (kind, path) = (problem.kind, problem.path.display());
        text += &format!("{kind:<16}{path}: {}\n", problem.detail);
    }
    let counts: Vec<String> = Kind::ALL
        .into_iter()
        .map(|kind| (kind, report.count(kind)))
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    let found = if counts.is_empty() {
        "nothing wrong".to_owned()
    } else {
        counts.join(", ")
    };
    text += &format!(
        "{} images, {} usable at x{} with patches of {} ({:.1} megapixels); {found}\n",
        report.images, report.usable, report.scale, report.patch_px, report.megapixels
    );
    text
}
