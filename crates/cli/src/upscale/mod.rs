//! `wdsr upscale`: upscales images.

mod existing;
mod image;
mod inputs;
mod interrupt;
mod limits;
mod manifest;
mod metadata;
mod pipe;
mod rawvideo;
mod report;
mod rows;
mod size;
mod yuv;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use wdsr_image::{Format, Limits, NewFile, decode, dimensions, format_of_file};
use wdsr_model::{Isa, Precision, UpscaleError};
use wdsr_upscale::{AlphaMethod, Plan, Size, SizeRequest};

use crate::file_claims::{Conflict, FileClaims, is_same_file};
use crate::models::{self, Choice, ModelArguments};
use crate::{WrongUsage, exit, on_threads, progress};
use existing::{IfExists, Target};
use image::{Asked, Method, Network, Refused};
use inputs::{Input, Shard};
use limits::LimitArguments;
use manifest::{Entry, Manifest, portable};
use metadata::{Losses, MetadataChoice};
use rawvideo::RawVideoArguments;
use report::{Outcome, Report};
use size::SizeArguments;

/// Upscale images
///
/// Depth, transparency, colour profile and metadata are kept. An image that fails is reported and the
/// others are done. Into a folder, a batch that was stopped goes on where it was, and another
/// model, option or input does its results again (`.wdsr-manifest.jsonl` there remembers).
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Images, folders of images, and patterns (`*`, `?`, `[...]`, `**`); `-` is standard input
    #[arg(required_unless_present = "input")]
    inputs: Vec<PathBuf>,
    /// The same as INPUTS, as other upscalers want it
    #[arg(short = 'i', long, value_name = "INPUT", conflicts_with = "inputs")]
    input: Vec<PathBuf>,
    /// A file for one image; a folder for several; `-` for standard output
    #[arg(short = 'o', long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    size: SizeArguments,
    #[command(flatten)]
    model: ModelArguments,
    /// What upscales transparency
    ///
    /// Where it is not the same everywhere; where it is, it stays exact.
    #[arg(long, value_enum, value_name = "HOW", default_value = "network")]
    alpha: AlphaArgument,
    /// Folders below the given ones too; OUT gets the same tree
    #[arg(short = 'r', long)]
    recursive: bool,
    /// When a file of the result's name exists
    ///
    /// That was not made from the same image: an own result is kept, or made again when input,
    /// model or options changed.
    #[arg(long, value_enum, value_name = "WHAT", default_value = "overwrite")]
    if_exists: IfExists,
    /// Only part I of N of the batch, as 2/8
    ///
    /// For several machines on the same folders.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Memory to stay within, as 500M or 4G
    ///
    /// PNG and TIFF without transparency, upscaled by one pass of a network, flow through it
    /// whatever their size; another image that needs more is refused.
    #[arg(long, value_name = "SIZE", value_parser = rows::parse_bytes)]
    max_memory: Option<u64>,
    /// Write to FILE what became of each input
    ///
    /// A line of JSON each.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Format of the results: png, jpg, webp, tif or bmp
    ///
    /// Without it, by the suffix of OUT, or as the input; PNG for JPEG XL, which is only read.
    #[arg(short = 'f', long)]
    format: Option<Format>,
    /// What goes along of EXIF, XMP, IPTC, resolution, texts
    ///
    /// Into the results.
    #[arg(long, value_enum, value_name = "WHAT", default_value = "keep")]
    metadata: MetadataChoice,
    #[command(flatten)]
    limits: LimitArguments,
    /// Say nothing but errors
    #[arg(short = 'q', long)]
    quiet: bool,
    #[command(flatten)]
    rawvideo: RawVideoArguments,
}

/// [`AlphaMethod`] as an argument.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum AlphaArgument {
    /// The network, as it upscales grey: sharp edges, twice the work
    Network,
    /// Lanczos interpolation: softer edges, no work
    Lanczos,
}

impl AlphaArgument {
    fn method(self) -> AlphaMethod {
        match self {
            Self::Network => AlphaMethod::Network,
            Self::Lanczos => AlphaMethod::Lanczos,
        }
    }
}

impl Arguments {
    fn inputs(&self) -> &[PathBuf] {
        match &self.input[..] {
            [] => &self.inputs,
            input => input,
        }
    }

    /// The format asked for by -f, or by the suffix of OUT unless that is a folder.
    fn asked_format(&self, into_folder: bool) -> Option<Format> {
        let by_name = || Format::from_extension(&self.output).filter(|_| !into_folder);
        self.format.or_else(by_name)
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    refuse_unwritten(arguments)?;
    interrupt::listen()?;
    on_threads(arguments.model.threads, || {
        if let Some(video) = arguments.rawvideo.video() {
            code_of_one(rawvideo::upscale(arguments, &video))
        } else if pipe::is_used(arguments) {
            code_of_one(pipe::upscale(arguments))
        } else {
            upscale_all(arguments)
        }
    })?
}

/// Refuses a format that is only read, asked for by -f or by OUT's suffix.
fn refuse_unwritten(arguments: &Arguments) -> anyhow::Result<()> {
    let output = &arguments.output;
    match arguments.asked_format(output.is_dir()) {
        Some(format) if !format.is_written() => {
            let written = Format::WRITTEN.map(Format::extension).join(", ");
            let message = format!(
                "{}: {format} is only read; expected a result of {written} (-f or OUT's suffix)",
                output.display()
            );
            Err(WrongUsage(message).into())
        }
        _ => Ok(()),
    }
}

/// The exit code of a run over one input; errors without an own code are left to the caller.
fn code_of_one(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    let mut tally = Tally::default();
    match result {
        Ok(()) => tally.done = 1,
        Err(error) if error.downcast_ref() == Some(&UpscaleError::Stopped) => {}
        Err(error) if image::is_refusal(&error) && !exit::ran_out(&error) => {
            progress::print_error(&error);
            (tally.failures, tally.refusals) = (1, 1);
        }
        Err(error) => return Err(error),
    }
    Ok(tally.code())
}

/// The networks that `-m` means, ready to run.
fn load_networks(arguments: &Arguments, precision: Precision) -> anyhow::Result<Vec<Network>> {
    let networks = models::choose(arguments.model.model.as_deref())?
        .into_iter()
        .map(|Choice { name, model }| {
            Ok(Network {
                name,
                model_hash: manifest::hash_of_model(&model)?,
                upscaler: arguments.model.upscaler_of(&model, precision)?,
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    if arguments.size.request() != SizeRequest::OnePass
        && networks.iter().all(|network| network.upscaler.scale() == 1)
    {
        let name = &networks[0].name;
        let message = format!("model {name} upscales 1 time; leave the size out");
        return Err(WrongUsage(message).into());
    }
    Ok(networks)
}

/// Which size an image gets, and how; `name` stands for it in messages.
fn size_plan(
    arguments: &Arguments,
    networks: &[Network],
    name: &Path,
    input: Size,
) -> Result<Plan, Refused> {
    let scales: Vec<usize> = networks.iter().map(|n| n.upscaler.scale()).collect();
    Plan::new(input, arguments.size.request(), &scales)
        .map_err(|error| Refused(format!("{}: {}", name.display(), size::in_words(&error))))
}

/// What all images of a run share.
struct Batch<'a> {
    arguments: &'a Arguments,
    into_folder: bool,
    networks: Vec<Network>,
    /// Program and options that results depend on, but for size and networks.
    settings: String,
    /// Of an output folder.
    manifest: Option<Manifest>,
    losses: Losses,
    bar: ProgressBar,
}

fn upscale_all(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let precision = arguments.model.precision.or_f32(Isa::detect()?);
    let networks = load_networks(arguments, precision)?;
    let named = arguments.inputs();
    let first = &named[0];
    let into_folder = named.len() > 1
        || first.is_dir()
        || inputs::is_pattern(first)
        || arguments.output.is_dir()
        || Format::from_extension(&arguments.output).is_none() && arguments.format.is_none();
    let (mut inputs, errors) = inputs::collect(named, arguments.recursive, &arguments.output);
    let mut manifest = into_folder
        .then(|| Manifest::read(&arguments.output, arguments.shard))
        .transpose()?;
    // Inputs of all shards, as results of one could replace inputs of another.
    let images = inputs.iter().map(|input| ("input", &*input.path));
    let read = manifest.iter().flat_map(Manifest::other_paths);
    let read = images.chain(read.map(|path| ("manifest of another shard", path)));
    let mut claims = FileClaims::of_inputs(arguments.model.file_claim().chain(read));
    if let Some(shard) = arguments.shard {
        inputs.retain(|input| shard.contains(&input.relative));
    }
    let plans = plan_results(
        arguments,
        into_folder,
        &inputs,
        manifest.as_ref(),
        &mut claims,
    );
    if let Some(manifest) = &manifest {
        claims.write("manifest", "-o", manifest.path())?;
    }
    if let Some(report) = &arguments.report {
        claims.write("report", "--report", report)?;
    }
    drop(claims);
    let mut report = Report::create(arguments.report.as_deref())?;
    if let Some(manifest) = &mut manifest {
        manifest.open()?;
    }
    let bytes: Vec<u64> = inputs
        .iter()
        .map(|input| std::fs::metadata(&input.path).map_or(0, |file| file.len()))
        .collect();
    let mut batch = Batch {
        arguments,
        into_folder,
        networks,
        settings: format!(
            "wdsr {}, {}, self-ensemble {}, alpha {:?}, metadata {}",
            env!("CARGO_PKG_VERSION"),
            precision.name(),
            arguments.model.self_ensemble,
            arguments.alpha.method(),
            arguments.metadata.name()
        ),
        manifest,
        losses: Losses::default(),
        bar: progress::bar_of_files(bytes.iter().sum(), arguments.quiet),
    };

    let mut tally = Tally::default();
    for error in errors {
        // Such an error names what could not be read.
        tally.failures += 1;
        tally.refusals += usize::from(image::is_refusal(&error));
        progress::print_error(&error);
        let error = progress::one_line(&error);
        report.add(&arguments_of(named), &Outcome::Failed { error })?;
    }
    let count = inputs.len();
    for (at, ((input, plan), bytes)) in inputs.iter().zip(plans).zip(bytes).enumerate() {
        if interrupt::requested() {
            break;
        }
        let name = input.path.file_name().unwrap_or_default();
        let place = if count > 1 {
            format!("[{}/{count}] ", at + 1)
        } else {
            String::new()
        };
        batch
            .bar
            .set_message(format!("{place}{}", name.to_string_lossy()));
        let result = batch.one(input, plan, bytes);
        let shown = report::shown(&input.path);
        let (outcome, stop) = match result {
            Ok(outcome) => {
                tally.done += 1;
                (outcome, None)
            }
            // Dropped as told.
            Err(error) if error.downcast_ref() == Some(&UpscaleError::Stopped) => break,
            Err(error) => {
                tally.failures += 1;
                tally.refusals += usize::from(image::is_refusal(&error));
                batch.bar.suspend(|| progress::print_error(&error));
                let text = progress::one_line(&error);
                let stop = exit::ran_out(&error).then_some(exit::RAN_OUT);
                (Outcome::Failed { error: text }, stop)
            }
        };
        let _writing = interrupt::writing();
        report.add(&shown, &outcome)?;
        let mut remarks = Vec::from_iter(outcome.remark(&shown));
        if let Outcome::Done { left_out, .. } = &outcome {
            remarks.extend(batch.losses.remarks(&shown, left_out, count > 1));
        }
        for remark in remarks.iter().filter(|_| !arguments.quiet) {
            batch
                .bar
                .suspend(|| progress::note(&format!("{place}{remark}")));
        }
        if let Some(code) = stop {
            return Ok(ExitCode::from(code));
        }
    }
    batch.bar.finish_and_clear();
    Ok(tally.code())
}

/// The inputs as the report names them where none of them is at fault alone.
fn arguments_of(inputs: &[PathBuf]) -> String {
    let names: Vec<String> = inputs.iter().map(|i| i.display().to_string()).collect();
    names.join(" ")
}

/// How the inputs of a batch ended.
#[derive(Default)]
struct Tally {
    /// Upscaled, up to date or skipped.
    done: usize,
    failures: usize,
    /// Failures for which the input is to blame.
    refusals: usize,
}

impl Tally {
    fn code(&self) -> ExitCode {
        if interrupt::requested() {
            ExitCode::from(exit::INTERRUPTED)
        } else if self.failures == 0 {
            ExitCode::SUCCESS
        } else if self.done == 0 && self.refusals == self.failures {
            ExitCode::from(exit::REFUSED)
        } else {
            ExitCode::from(exit::FAILED)
        }
    }
}

impl Batch<'_> {
    /// Upscales one image, unless its result is there.
    fn one(
        &mut self,
        input: &Input,
        plan: anyhow::Result<ResultPlan>,
        bytes: u64,
    ) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let start = self.bar.position();
        let outcome = plan.and_then(|plan| self.upscale(input, plan, bytes, started));
        if matches!(outcome, Ok(Outcome::Done { .. })) {
            self.bar.set_position(start + bytes);
        } else {
            // What takes no work is no measure of what is left.
            self.bar.set_position(start);
            let length = self.bar.length().unwrap_or(0);
            self.bar.set_length(length.saturating_sub(bytes));
        }
        outcome
    }

    fn upscale(
        &mut self,
        input: &Input,
        result: ResultPlan,
        bytes: u64,
        started: Instant,
    ) -> anyhow::Result<Outcome> {
        let format = result.format;
        let input_hash = match self.manifest {
            Some(_) => manifest::hash_of_file(&input.path)
                .with_context(|| format!("{}: cannot read it", input.path.display()))?,
            None => String::new(),
        };
        let (width_px, height_px) = dimensions(&input.path)?;
        let size = Size {
            width_px,
            height_px,
        };
        let plan = size_plan(self.arguments, &self.networks, &input.path, size)?;
        let models: Vec<&str> = plan
            .passes()
            .iter()
            .filter_map(|scale| self.networks.iter().find(|n| n.upscaler.scale() == *scale))
            .map(|network| network.model_hash.as_str())
            .collect();
        let settings = format!(
            "{}, models [{}], {}, {format}",
            self.settings,
            models.join(" "),
            plan.target()
        );
        let place = &input.relative;
        let manifest = self.manifest.as_ref();
        let is_current = |output: &Path| {
            let own = manifest.and_then(|manifest| manifest.own_result(output, place));
            own.is_some_and(|own| own.input_hash == input_hash && own.settings == settings)
        };
        let output = match result
            .target
            .with_context(|| input.path.display().to_string())?
        {
            Target::Own(output) if is_current(&output) => {
                let output = report::shown(&output);
                return Ok(Outcome::UpToDate { output });
            }
            Target::Skip(output) => {
                let output = report::shown(&output);
                return Ok(Outcome::Skipped { output });
            }
            // Another program may have created it since the results were planned.
            Target::Write(output)
                if self.arguments.if_exists != IfExists::Overwrite
                    && output.symlink_metadata().is_ok() =>
            {
                if self.arguments.if_exists == IfExists::Skip {
                    let output = report::shown(&output);
                    return Ok(Outcome::Skipped { output });
                }
                bail!(
                    "{}: {} was created by another program during this run; run it again",
                    input.path.display(),
                    output.display()
                );
            }
            Target::Write(output) | Target::Own(output) => output,
        };
        result
            .claim
            .with_context(|| input.path.display().to_string())?;

        let (bar, start) = (&self.bar, self.bar.position());
        let progress = |done: usize, total: usize| {
            bar.set_position(start + progress::share(bytes, done, total));
            interrupt::flow()
        };
        let [size, result] =
            [plan.input(), plan.target()].map(|size| (size.width_px, size.height_px));
        self.arguments.limits.check(&input.path, size, result)?;
        let method = Method::new(self.arguments, &plan, &self.networks);
        let asked = Asked {
            output: &output,
            format,
            metadata: self.arguments.metadata,
        };
        if let (Some(folder), true) = (output.parent(), self.into_folder) {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{}: cannot create the folder", folder.display()))?;
        }
        let path = &input.path;
        let flowed = rows::upscale_file(path, &asked, &method, &progress)?;
        let (file, left_out) = match flowed {
            Some(done) => done,
            None => {
                let read = |limits: &Limits| decode(path, limits);
                let (bytes, left_out) =
                    image::upscale_file(path, read, &asked, &method, &progress)?;
                (NewFile::with(&output, &bytes)?, left_out)
            }
        };
        let _writing = interrupt::writing();
        if let Some(manifest) = &mut self.manifest {
            manifest.add(Entry {
                output: manifest.name_of(&output),
                output_bytes: file.bytes()?,
                input: portable(place),
                input_hash,
                settings,
            })?;
        }
        file.publish()?;
        Ok(Outcome::Done {
            output: report::shown(&output),
            width_px: plan.target().width_px,
            height_px: plan.target().height_px,
            steps: plan.to_string(),
            seconds: started.elapsed().as_secs_f64(),
            left_out,
        })
    }
}

/// Where the result of an input goes.
struct ResultPlan {
    format: Format,
    target: anyhow::Result<Target>,
    /// A conflict fails only the image whose result would be written.
    claim: Result<(), Conflict>,
}

/// Chooses and claims the files of all results before the first is written. What is wrong with one
/// image's result is an error of that image alone.
fn plan_results(
    arguments: &Arguments,
    into_folder: bool,
    inputs: &[Input],
    manifest: Option<&Manifest>,
    claims: &mut FileClaims,
) -> Vec<anyhow::Result<ResultPlan>> {
    let mut first_of_name = HashMap::new();
    let mut plan = |input| {
        let (output, format) = result_name(arguments, into_folder, input)?;
        if let Some(other) = first_of_name.insert(output.clone(), &input.path) {
            bail!(
                "{}: its result {} is already that of {}; upscale them into different folders",
                input.path.display(),
                output.display(),
                other.display()
            );
        }
        let taken = |path: &Path| claims.contains(path);
        let (place, policy) = (&input.relative, arguments.if_exists);
        let target = existing::target(&output, place, policy, manifest, &taken);
        let path = target.as_ref().map_or(&*output, Target::path);
        let claim = claims.write("result", "-o", path);
        Ok(ResultPlan {
            format,
            target,
            claim,
        })
    };
    inputs.iter().map(|input: &Input| plan(input)).collect()
}

/// The name of an input's result, unless it exists and another has to be found, and its format.
fn result_name(
    arguments: &Arguments,
    into_folder: bool,
    input: &Input,
) -> anyhow::Result<(PathBuf, Format)> {
    let out = &arguments.output;
    let format = match arguments.asked_format(into_folder) {
        Some(format) => format,
        None => format_of_file(&input.path)?.of_result(),
    };
    let output = if into_folder {
        let mut name = input.relative.file_stem().unwrap_or_default().to_owned();
        name.push(".");
        name.push(format.extension());
        out.join(&input.relative).with_file_name(name)
    } else {
        out.clone()
    };
    if is_same_file(&input.path, &output) {
        bail!(
            "{}: the result would replace the input; give -o another folder",
            input.path.display()
        );
    }
    Ok((output, format))
}
