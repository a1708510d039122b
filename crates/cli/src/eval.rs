//! `wdsr eval`: scores a model on a set of images.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use wdsr_eval::{
    FailedImage, ImageScore, MeanScore, Pair, Protocol, Report, Track, describe_low_images,
    find_pairs_and_problems, score_pair,
};
use wdsr_model::{Precision, Upscaler};

use crate::models::{self, Choice, ModelArguments};
use crate::threads::on_threads;
use crate::{exit, progress, stdout};

/// Score a model: PSNR and SSIM, beside bicubic interpolation
///
/// The folder of `--set` contains high-resolution images (MATLAB's imresize then computes the
/// low-resolution ones), or a layout of pairs: HR/ or GT/ beside LR_bicubic/X2/, LR_x2/, LRbicx2/, LR/ or
/// LQ/, the folders of DIV2K, or files NAME_HR.png and NAME_LR2.png. Other layouts are refused. The
/// heading tells where the low-resolution images come from.
///
/// Images that cannot be scored are reported and skipped; the exit code is then 1.
///
/// With `--precision bf16` the scores are those of bf16 on every processor, and the loss against f32
/// is reported.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder of images to score on
    #[arg(long = "set", value_name = "FOLDER")]
    set: PathBuf,
    #[command(flatten)]
    model: ModelArguments,
    /// Scale of the model
    #[arg(short = 's', long, value_name = "N")]
    scale: Option<usize>,
    /// How to compare images: benchmark, div2k or ntire
    ///
    /// benchmark: luma (Y), border of `scale` pixels cropped; div2k: RGB, `scale` + 6 pixels cropped;
    /// ntire: RGB, `scale` pixels cropped.
    #[arg(long, default_value_t)]
    protocol: Protocol,
    /// Low-resolution images of DIV2K: bicubic, mild, difficult or wild
    #[arg(long, default_value_t)]
    track: Track,
    /// Print a JSON object instead of a table
    ///
    /// An infinite PSNR, that of equal images, is null.
    #[arg(long)]
    json: bool,
}

/// The JSON object in another precision than f32: the report's fields, and these.
#[derive(Serialize)]
struct ReportInPrecision {
    #[serde(flatten)]
    report: Report,
    precision: &'static str,
    /// Means of the same images in f32.
    f32_mean: MeanScore,
    /// Difference of the mean PSNR in f32 and in this precision; null if both are infinite.
    loss_db: f64,
}

/// Scores of the images of a set.
#[derive(Default)]
struct Scores {
    /// In the precision of the arguments.
    images: Vec<ImageScore>,
    /// In f32, if that is another precision.
    f32_images: Vec<ImageScore>,
    failed: Vec<FailedImage>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Choice { name, model } = models::load(arguments.model.model.as_deref(), arguments.scale)?;
    let precision = Precision::from(arguments.model.precision);
    let upscaler = arguments.model.upscaler_of(&model, precision)?;
    let f32_upscaler = match precision {
        Precision::F32 => None,
        _ => Some(arguments.model.upscaler_of(&model, Precision::F32)?),
    };
    let scale = upscaler.scale();
    let (pairs, problems) = find_pairs_and_problems(&arguments.set, scale, arguments.track)?;
    let mut scores = Scores::default();
    for problem in problems {
        scores.fail(problem)?;
    }
    on_threads(arguments.model.threads, || {
        scores.score(&pairs, arguments.protocol, &upscaler, f32_upscaler.as_ref())
    })??;

    let Scores {
        images,
        f32_images,
        failed,
    } = scores;
    if images.is_empty() {
        return Ok(ExitCode::from(exit::REFUSED));
    }
    let exit_code = if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::FAILED)
    };
    let set = arguments.set.display().to_string();
    let report_of = |images| {
        Report::new(scale, arguments.protocol, set, name, images)
            .with_low_images(describe_low_images(&pairs))
    };
    if precision == Precision::F32 {
        let report = report_of(images).with_failed(failed);
        if arguments.json {
            stdout::print_json(&report)?;
        } else {
            stdout::print_lines(&report.to_table())?;
        }
        return Ok(exit_code);
    }
    let f32_mean = MeanScore::of(&f32_images);
    let report = report_of(images).with_failed(failed);
    let result = ReportInPrecision {
        precision: precision.name(),
        loss_db: f32_mean.psnr_db - report.mean.psnr_db,
        f32_mean,
        report,
    };
    if arguments.json {
        stdout::print_json(&result)?;
    } else {
        stdout::print_lines(&format!(
            "{}\n{}: {:.4} dB; f32: {:.4} dB; loss {:.4} dB\n",
            result.report.to_table(),
            result.precision,
            result.report.mean.psnr_db,
            result.f32_mean.psnr_db,
            result.loss_db
        ))?;
    }
    Ok(exit_code)
}

impl Scores {
    /// Scores pairs on rayon's current thread pool. An image that cannot be scored is reported, and the
    /// next one is scored.
    fn score(
        &mut self,
        pairs: &[Pair],
        protocol: Protocol,
        upscaler: &Upscaler,
        f32_upscaler: Option<&Upscaler>,
    ) -> anyhow::Result<()> {
        let bar = progress::bar(
            pairs.len() as u64,
            "scoring [{bar:30}] {pos}/{len}, {eta} left",
            false,
        );
        for pair in pairs {
            let score = |upscaler| score_pair(pair, upscaler, protocol);
            let scores =
                score(upscaler).and_then(|first| Ok((first, f32_upscaler.map(score).transpose()?)));
            match scores {
                Ok((image, f32_image)) => {
                    self.images.push(image);
                    self.f32_images.extend(f32_image);
                }
                Err(error) => bar.suspend(|| self.fail(error))?,
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Reports an image that cannot be scored.
    ///
    /// # Errors
    /// If memory or disk ran out: other images would fail too.
    fn fail(&mut self, error: wdsr_eval::Error) -> anyhow::Result<()> {
        let file = error.path().display().to_string();
        let error = anyhow::Error::from(error);
        if exit::ran_out(&error) {
            return Err(error);
        }
        progress::print_error(&error);
        self.failed.push(FailedImage {
            file,
            error: progress::one_line(&error),
        });
        Ok(())
    }
}
