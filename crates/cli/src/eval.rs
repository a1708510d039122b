//! `wdsr eval`: scores a model on a set of pictures.
#![allow(clippy::print_stdout, reason = "the report is the command's output")]

use std::path::PathBuf;

use wdsr_eval::{Protocol, Report, Track, find_pairs, score_set};

use crate::models::ModelArguments;
use crate::{on_threads, progress};

/// Score a model: PSNR and SSIM beside bicubic interpolation
///
/// FOLDER of `--set` holds high-resolution pictures (the low-resolution ones are made by
/// MATLAB's imresize), or HR/ beside LR_bicubic/X2/, or DIV2K's folders.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Pictures to score on
    #[arg(long = "set", value_name = "FOLDER")]
    set: PathBuf,
    #[command(flatten)]
    model: ModelArguments,
    /// What to compare: benchmark (Y, scale pixels cut), div2k (RGB, scale + 6), ntire (RGB, scale)
    #[arg(long, default_value_t)]
    protocol: Protocol,
    /// Which low-resolution pictures of DIV2K: bicubic, mild, difficult or wild
    #[arg(long, default_value_t)]
    track: Track,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (name, upscaler) = arguments.model.upscaler()?;
    let scale = upscaler.scale();
    let pairs = find_pairs(&arguments.set, scale, arguments.track)?;
    let bar = progress::bar(
        pairs.len() as u64,
        "scoring [{bar:30}] {pos}/{len}, {eta} left",
        false,
    );
    let scores = on_threads(arguments.model.threads, || {
        score_set(&pairs, &upscaler, arguments.protocol, |_| bar.inc(1))
    })??;
    bar.finish_and_clear();
    let set = arguments.set.display().to_string();
    let report = Report::new(scale, arguments.protocol, set, name, scores);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.to_table());
    }
    Ok(())
}
