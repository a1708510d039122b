//! `wdsr eval`: scores a model on a set of images.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use wdsr_eval::{
    FailedImage, ImageScore, MeanScore, Pair, Protocol, Report, Scoring, Track,
    describe_low_images, find_pairs_and_problems, score_pair,
};
use wdsr_model::{Precision, Upscaler};

use crate::models::{self, Choice, ModelArguments};
use crate::threads::on_threads;
use crate::{exit, progress, stdout, units};

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
    /// How to compare images
    #[arg(long, value_enum, default_value_t = ProtocolArgument::Benchmark)]
    protocol: ProtocolArgument,
    /// JPEG quality of the input, for the protocols jpeg (10 by default) and sr-jpeg (90 by default)
    #[arg(long, value_name = "Q", value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: Option<u8>,
    /// Convert colour images to grey first (Y of MATLAB's rgb2ycbcr), for the protocol jpeg
    #[arg(long)]
    grey: bool,
    /// Strength, 0..1, of a model that has one
    #[arg(long, value_name = "S", value_parser = units::strength)]
    strength: Option<f32>,
    /// Low-resolution images of DIV2K: bicubic, mild, difficult or wild
    #[arg(long, default_value_t)]
    track: Track,
    /// Print a JSON object instead of a table
    ///
    /// An infinite PSNR, that of equal images, is null.
    #[arg(long)]
    json: bool,
}

/// [`Scoring`] as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ProtocolArgument {
    /// Luma (Y), border of `scale` pixels cropped
    #[value(name = "benchmark")]
    Benchmark,
    /// RGB, `scale` + 6 pixels cropped
    #[value(name = "div2k")]
    Div2k,
    /// RGB, `scale` pixels cropped
    #[value(name = "ntire")]
    Ntire,
    /// Realistic tracks of 2018 (x4): RGB, central 60 x 60 pixels, best shift, equal brightness
    #[value(name = "ntire2018")]
    Ntire2018,
    /// Restoration (x1): input is the original as JPEG, 4:2:0
    #[value(name = "jpeg")]
    Jpeg,
    /// RGB, `scale` pixels cropped; input is reduced by imresize, then JPEG, 4:2:0
    #[value(name = "sr-jpeg")]
    SrJpeg,
}

impl Arguments {
    fn scoring(&self) -> Result<Scoring, exit::WrongUsage> {
        let has_jpeg = matches!(
            self.protocol,
            ProtocolArgument::Jpeg | ProtocolArgument::SrJpeg
        );
        if self.quality.is_some() && !has_jpeg {
            let message = "--quality: expected --protocol jpeg or sr-jpeg; remove it";
            return Err(exit::WrongUsage(message.to_owned()));
        }
        if self.grey && self.protocol != ProtocolArgument::Jpeg {
            let message = "--grey: expected --protocol jpeg; remove it";
            return Err(exit::WrongUsage(message.to_owned()));
        }
        Ok(match self.protocol {
            ProtocolArgument::Benchmark => Protocol::Benchmark.into(),
            ProtocolArgument::Div2k => Protocol::Div2k.into(),
            ProtocolArgument::Ntire => Protocol::Ntire.into(),
            ProtocolArgument::Ntire2018 => Scoring::Ntire2018,
            ProtocolArgument::Jpeg => Scoring::Jpeg {
                quality: self.quality.unwrap_or(10),
                grey: self.grey,
            },
            ProtocolArgument::SrJpeg => Scoring::SrJpeg {
                quality: self.quality.unwrap_or(90),
            },
        })
    }
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
    let scoring = arguments.scoring()?;
    let Choice { name, model } = models::load(arguments.model.model.as_deref(), arguments.scale)?;
    let model = match (model.strong().is_some(), arguments.strength) {
        (true, Some(strength)) => model.at_strength(strength),
        (true, None) => {
            let message = format!("{name}: this model has a strength; give --strength 0..1");
            return Err(exit::WrongUsage(message).into());
        }
        (false, Some(_)) => {
            let message = format!("--strength: {name} has no strength; remove it");
            return Err(exit::WrongUsage(message).into());
        }
        (false, None) => model,
    };
    let precision = Precision::from(arguments.model.precision);
    let upscaler = arguments.model.upscaler_of(&model, precision)?;
    let f32_upscaler = match precision {
        Precision::F32 => None,
        _ => Some(arguments.model.upscaler_of(&model, Precision::F32)?),
    };
    let scale = upscaler.scale();
    progress::warn_of_unread_images(&arguments.set);
    let (pairs, problems) = find_pairs_and_problems(&arguments.set, scale, arguments.track)?;
    let mut scores = Scores::default();
    for problem in problems {
        scores.fail(problem)?;
    }
    on_threads(arguments.model.threads, || {
        scores.score(&pairs, scoring, &upscaler, f32_upscaler.as_ref())
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
        Report::new(scale, scoring, set, name, images).with_low_images(describe_low_images(&pairs))
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
        scoring: Scoring,
        upscaler: &Upscaler,
        f32_upscaler: Option<&Upscaler>,
    ) -> anyhow::Result<()> {
        let bar = progress::bar(
            pairs.len() as u64,
            "scoring [{bar:30}] {pos}/{len}, {eta} left",
            false,
        );
        for pair in pairs {
            let score = |upscaler| score_pair(pair, upscaler, scoring);
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
