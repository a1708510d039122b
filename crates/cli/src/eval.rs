//! `wdsr eval`: scores a model on a set of images.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use serde::Serialize;
use wdsr_eval::{
    FailedImage, FinishedImages, ImagePair, ImageScore, MeanScore, Pair, Protocol, Report, Scoring,
    Track, describe_low_images, find_finished, find_pairs_and_problems, load_finished, score_pair,
    score_pair_with,
};
use wdsr_image::SamplesRef;
use wdsr_model::{Precision, Upscaler};
use wdsr_upscale::Strength;

use crate::device::Computing;
use crate::models::{self, Choice, ModelArguments};
use crate::threads::on_threads;
use crate::{exit, progress, stdout, units};

/// Score a model or finished images: PSNR and SSIM, beside bicubic interpolation
///
/// The folder of `--set` contains high-resolution images (MATLAB's imresize then computes the
/// low-resolution ones), or a layout of pairs: HR/ or GT/ beside LR_bicubic/X2/, LR_x2/, LRbicx2/, LR/ or
/// LQ/, the folders of DIV2K, or files NAME_HR.png and NAME_LR2.png. Other layouts are refused. The
/// heading tells where the low-resolution images come from.
///
/// Images that cannot be scored are reported and skipped; the exit code is then 1.
///
/// With `--images FOLDER` finished images of any program are scored. Their names are those of the
/// originals, also with x2, _x2, -2x or _SR added. An original without a finished image, or with several,
/// and a finished image of another size are reported.
///
/// With `--precision bf16` or `int8` the scores are those of that precision on every processor, and the loss
/// against f32 is reported.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder of images to score on
    #[arg(long = "set", value_name = "FOLDER")]
    set: PathBuf,
    /// Score the images of FOLDER instead of a model; needs -s, except for jpeg and ntire2018
    #[arg(
        long,
        value_name = "FOLDER",
        conflicts_with_all = ["model", "strength", "self_ensemble", "precision", "tile"]
    )]
    images: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArguments,
    /// Scale of the model or of the finished images
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
    /// Strength of a model that has one: 0 to 1, or auto (the default)
    ///
    /// With auto it is read off each low-resolution image as `wdsr upscale` does: off the tables of a
    /// JPEG file, also of one that the protocol makes, or off the marks and the noise in the pixels.
    #[arg(long, value_name = "S|auto")]
    strength: Option<StrengthArgument>,
    /// Low-resolution images of DIV2K: bicubic, unknown, mild, difficult or wild
    #[arg(long, default_value_t)]
    track: Track,
    /// Print a JSON object instead of a table
    ///
    /// An infinite PSNR, that of equal images, is null.
    #[arg(long)]
    json: bool,
}

/// The strength of a model.
#[derive(Clone, Copy, Debug)]
enum StrengthArgument {
    /// Read off each image.
    Auto,
    Given(f32),
}

impl FromStr for StrengthArgument {
    type Err = units::UnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => units::strength(text).map(Self::Given),
        }
    }
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
    if let Some(folder) = &arguments.images {
        return score_finished(arguments, scoring, folder);
    }
    let Choice { name, model } = models::load(arguments.model.model.as_deref(), arguments.scale)?;
    let (model, strength) = match (model.strong().is_some(), arguments.strength) {
        (true, Some(StrengthArgument::Given(strength))) => {
            (model.at_strength(strength), Some(strength.to_string()))
        }
        (true, Some(StrengthArgument::Auto) | None) => {
            let how = match scoring {
                Scoring::Jpeg { .. } | Scoring::SrJpeg { .. } => "the tables of each input",
                _ => "each input: the tables of JPEG files, or marks and noise in the pixels",
            };
            (model, Some(format!("read off {how}")))
        }
        (false, Some(_)) => {
            let message = format!("--strength: {name} has no strength; remove it");
            return Err(exit::WrongUsage(message).into());
        }
        (false, None) => (model, None),
    };
    let computing = Computing::open(&arguments.model)?;
    let precision = computing.precision(arguments.model.precision, &name, &model)?;
    let upscaler = computing.upscaler(&model, &precision)?;
    let precision = precision.name();
    let f32_upscaler = match precision == Precision::F32.name() {
        true => None,
        false => Some(computing.f32_upscaler(&model)?),
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
    let exit_code = exit_code(&failed);
    let set = arguments.set.display().to_string();
    let report_of = |images| {
        Report::new(scale, scoring, set, name, images)
            .with_low_images(describe_low_images(&pairs))
            .with_strength(strength)
    };
    if let Some(gpu) = &computing.gpu {
        gpu.print_warnings();
    }
    if precision == Precision::F32.name() {
        print(arguments, &report_of(images).with_failed(failed))?;
        return Ok(exit_code);
    }
    let f32_mean = MeanScore::of(&f32_images);
    let report = report_of(images).with_failed(failed);
    let result = ReportInPrecision {
        precision,
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

/// Scores the finished images of a folder.
fn score_finished(
    arguments: &Arguments,
    scoring: Scoring,
    folder: &Path,
) -> anyhow::Result<ExitCode> {
    let scale = match (arguments.scale, scoring) {
        (Some(0), _) => None,
        (Some(scale), _) => Some(scale),
        (None, Scoring::Jpeg { .. }) => Some(1),
        (None, Scoring::Ntire2018) => Some(4),
        (None, _) => None,
    };
    let Some(scale) = scale else {
        let message = "--images: expected the scale of the images; give it by -s, such as -s 2";
        return Err(exit::WrongUsage(message.to_owned()).into());
    };
    let (pairs, problems) = find_pairs_and_problems(&arguments.set, scale, arguments.track)?;
    let FinishedImages {
        found,
        problems: without_one,
        others,
    } = find_finished(folder, &pairs)?;
    let mut scores = Scores::default();
    for problem in problems.into_iter().chain(without_one) {
        scores.fail(problem)?;
    }
    if !others.is_empty() {
        let names: Vec<String> = others.iter().map(|p| p.display().to_string()).collect();
        progress::note(&format!("without original: {}", names.join(", ")));
    }
    on_threads(arguments.model.threads, || {
        scores.score_each(&found, |(pair, file)| {
            let load = |images: &ImagePair| load_finished(file, pair, images);
            Ok((score_pair_with(pair, scoring, load)?, None))
        })
    })??;
    let Scores { images, failed, .. } = scores;
    if images.is_empty() {
        return Ok(ExitCode::from(exit::REFUSED));
    }
    let set = arguments.set.display().to_string();
    let name = format!("images of {}", folder.display());
    let exit_code = exit_code(&failed);
    let report = Report::new(scale, scoring, set, name, images)
        .with_low_images(describe_low_images(&pairs))
        .with_failed(failed);
    print(arguments, &report)?;
    Ok(exit_code)
}

fn exit_code(failed: &[FailedImage]) -> ExitCode {
    match failed {
        [] => ExitCode::SUCCESS,
        _ => ExitCode::from(exit::FAILED),
    }
}

fn print(arguments: &Arguments, report: &Report) -> anyhow::Result<()> {
    if arguments.json {
        stdout::print_json(report)
    } else {
        Ok(stdout::print_lines(&report.to_table())?)
    }
}

/// Scores a pair; a model with a strength runs at that of the input.
fn score_at_its_strength(
    pair: &Pair,
    upscaler: &Upscaler,
    scoring: Scoring,
) -> Result<ImageScore, wdsr_eval::Error> {
    if !upscaler.has_strength() {
        return score_pair(pair, upscaler, scoring);
    }
    let mut found = None;
    let mut score = score_pair_with(pair, scoring, |images| {
        let (width_px, height_px) = (images.low_width_px, images.low_height_px);
        let grey: Vec<u8>;
        let (samples, channels) = if images.grey {
            grey = images.low.iter().step_by(3).copied().collect();
            (&grey, 1)
        } else {
            (&images.low, 3)
        };
        let samples = SamplesRef::U8(samples);
        let strength = Strength::of_samples(samples, width_px, channels, images.jpeg_table_scale);
        found = Some(strength);
        let upscaler = upscaler.at_strength(strength.value);
        let upscaled = upscaler.upscale(&images.low, width_px, height_px);
        upscaled.map_err(|source| wdsr_eval::Error::Upscale {
            path: pair.high.clone(),
            source,
        })
    })?;
    score.strength = found.map(|strength| strength.value);
    score.damage = found.map(|strength| strength.damage.to_string());
    Ok(score)
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
        self.score_each(pairs, |pair| {
            let score = |upscaler| score_at_its_strength(pair, upscaler, scoring);
            Ok((score(upscaler)?, f32_upscaler.map(score).transpose()?))
        })
    }

    /// Scores items by `score`, also in f32 if that is another precision.
    fn score_each<T>(
        &mut self,
        items: &[T],
        score: impl Fn(&T) -> Result<(ImageScore, Option<ImageScore>), wdsr_eval::Error>,
    ) -> anyhow::Result<()> {
        let bar = progress::bar(
            items.len() as u64,
            "scoring [{bar:30}] {pos}/{len}, {eta} left",
            false,
        );
        for item in items {
            match score(item) {
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
