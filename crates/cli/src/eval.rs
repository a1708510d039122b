//! `wdsr eval`: scores a model on a set of images.
#![allow(clippy::print_stdout, reason = "the report is the command's output")]

use std::path::PathBuf;

use serde::Serialize;
use wdsr_eval::{MeanScore, Protocol, Report, Track, find_pairs, score_set};
use wdsr_model::Precision;

use crate::models::{self, Choice, ModelArguments};
use crate::{on_threads, progress};

/// Score a model: PSNR and SSIM beside bicubic interpolation
///
/// FOLDER of `--set` holds high-resolution images (the low-resolution ones are made by
/// MATLAB's imresize), or HR/ beside LR_bicubic/X2/, or DIV2K's folders.
///
/// With `--precision bf16` the scores are those of bf16, on any processor, and the loss against f32
/// is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Images to score on
    #[arg(long = "set", value_name = "FOLDER")]
    set: PathBuf,
    #[command(flatten)]
    model: ModelArguments,
    /// Scale of the model
    #[arg(short = 's', long, value_name = "N")]
    scale: Option<usize>,
    /// What to compare: benchmark, div2k or ntire
    ///
    /// benchmark: Y, as many border pixels cut as the scale; div2k: RGB, scale + 6 pixels cut;
    /// ntire: RGB, scale pixels cut.
    #[arg(long, default_value_t)]
    protocol: Protocol,
    /// DIV2K's track: bicubic, mild, difficult or wild
    ///
    /// Which of its low-resolution images are read.
    #[arg(long, default_value_t)]
    track: Track,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What `--json` prints in another precision than f32: the report's fields and these.
#[derive(Serialize)]
struct InPrecision {
    #[serde(flatten)]
    report: Report,
    precision: &'static str,
    f32_mean: MeanScore,
    /// How much lower the mean PSNR is than in f32.
    loss_db: f64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let precision = arguments.model.precision.asked();
    let report = score(arguments, precision)?;
    if precision == Precision::F32 {
        if arguments.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print!("{}", report.to_table());
        }
        return Ok(());
    }
    let f32_mean = score(arguments, Precision::F32)?.mean;
    let result = InPrecision {
        precision: precision.name(),
        loss_db: f32_mean.psnr_db - report.mean.psnr_db,
        f32_mean,
        report,
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&result)?);
    } else {
        print!("{}", result.report.to_table());
        println!(
            "\n{}: {:.4} dB; f32: {:.4} dB; loss {:.4} dB",
            result.precision, result.report.mean.psnr_db, result.f32_mean.psnr_db, result.loss_db
        );
    }
    Ok(())
}

/// Scores the model in the given precision.
fn score(arguments: &Arguments, precision: Precision) -> anyhow::Result<Report> {
    let Choice { name, model, .. } =
        models::load(arguments.model.model.as_deref(), arguments.scale)?;
    let upscaler = arguments.model.upscaler_of(&model, precision)?;
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
    Ok(Report::new(scale, arguments.protocol, set, name, scores))
}
