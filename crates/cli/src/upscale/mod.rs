//! `wdsr upscale`: upscales images.

mod batch;
mod existing;
mod failure;
mod inputs;
mod manifest;
mod metadata;
mod networks;
mod pipe;
mod rawvideo;
mod report;
mod size;
mod yuv;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use wdsr_image::{Format, Limits, unread_by_suffix};
use wdsr_upscale::{AlphaMethod, Settings};

use crate::models::ModelArguments;
use crate::{WrongUsage, exit, on_threads, progress, signals, units};
use existing::IfExists;
use inputs::Shard;
use metadata::MetadataChoice;
use rawvideo::RawVideoArguments;
use report::Outcome;
use size::SizeArguments;

/// Upscale images
///
/// Without -m an image with marks of JPEG (of quality 98 or less) or noise is upscaled by the model
/// photo, which removes them, and others by base; its line tells which and why.
///
/// Results keep depth, transparency, colour profile and metadata. Images that fail are reported and the
/// others are upscaled. A batch into a folder that was stopped resumes when it is run again; a changed
/// input, model or option re-runs the images that it affects (`.wdsr-manifest.jsonl` in the folder
/// records them).
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Images, folders of images, and patterns (`*`, `?`, `[...]`, `**`); `-` is standard input
    #[arg(required_unless_present = "input")]
    inputs: Vec<PathBuf>,
    /// Alias for INPUTS
    #[arg(short = 'i', long, value_name = "INPUT", conflicts_with = "inputs")]
    input: Vec<PathBuf>,
    /// File for one image, or folder for several; `-` is standard output
    #[arg(short = 'o', long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    size: SizeArguments,
    #[command(flatten)]
    model: ModelArguments,
    /// How much damage to remove, 0 to 1; implies -m photo
    ///
    /// 0 takes the image for clean; 1 is for JPEG of quality 10 or noise of 25 levels. By default it is read
    /// off each image: its JPEG tables, or the marks of JPEG and the noise in its pixels. The image's line
    /// and the report tell it.
    #[arg(long, value_name = "S", value_parser = units::strength)]
    strength: Option<f32>,
    /// How to upscale alpha
    ///
    /// Alpha that is the same everywhere stays exactly so.
    #[arg(long, value_enum, value_name = "METHOD", default_value = "network")]
    alpha: AlphaArgument,
    /// Include subfolders; OUT gets the same tree
    #[arg(short = 'r', long)]
    recursive: bool,
    /// What to do if a file of the result's name exists
    ///
    /// This is about files that were not made from the same image. The own result of an earlier run is
    /// kept, or replaced if input, model or options changed; a result that another program changed is
    /// no longer the own one. With rename, images of a batch whose results have the same name get
    /// numbers too.
    #[arg(long, value_enum, value_name = "ACTION", default_value = "overwrite")]
    if_exists: IfExists,
    /// Process shard I of N, e.g. 2/8
    ///
    /// Divides a batch among several machines that see the same folders.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Limit the memory, e.g. 500M or 4G (M is 2^20 bytes)
    ///
    /// K, M, G and T are powers of 1024. PNG and TIFF images without transparency that one pass of a
    /// network upscales into PNG or TIFF are streamed within the limit, whatever their size. Other
    /// images that need more memory fail, and the batch continues. With --untrusted 1G by default.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    max_memory: Option<u64>,
    /// Limit the time for each image in seconds, e.g. 30 or 2.5
    ///
    /// An image that takes longer fails, and the batch continues. With --untrusted 60 by default.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    timeout: Option<Duration>,
    /// Set tight limits, for images that you do not trust
    ///
    /// The defaults become --max-pixels 16M, --max-output-pixels 256M, --max-memory 1G and
    /// --timeout 60. A file of 8 KB may hold 8,000 x 8,000 pixels, which take minutes.
    #[arg(long)]
    untrusted: bool,
    /// Write a report to FILE
    ///
    /// It has one line of JSON for each input.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Format of the results: png, jpg, webp, tif or bmp
    ///
    /// By default the suffix of OUT decides, then the format of the input. JPEG XL inputs, whose format
    /// can only be read, give PNG.
    #[arg(short = 'f', long)]
    format: Option<Format>,
    /// Which metadata to copy
    ///
    /// Metadata is EXIF, XMP, IPTC, resolution and PNG texts. A warning tells what the result's format
    /// cannot hold.
    #[arg(long, value_enum, value_name = "CHOICE", default_value = "keep")]
    metadata: MetadataChoice,
    /// Refuse images of more pixels (M is 10^6) [default: 1G, with --untrusted 16M]
    ///
    /// k, M and G are powers of 1000.
    #[arg(long, value_name = "PIXELS", value_parser = units::pixels)]
    max_pixels: Option<u64>,
    /// Refuse images whose result would have more pixels [default: 8G, with --untrusted 256M]
    #[arg(long, value_name = "PIXELS", value_parser = units::pixels)]
    max_output_pixels: Option<u64>,
    /// Print errors only
    #[arg(short = 'q', long)]
    quiet: bool,
    #[command(flatten)]
    rawvideo: RawVideoArguments,
}

/// [`AlphaMethod`] as an argument.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum AlphaArgument {
    /// By the network, as grey: sharp edges, twice the work
    Network,
    /// By Lanczos interpolation: softer edges, no extra work
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

    /// The format that -f chooses, or the suffix of OUT unless that is a folder.
    fn chosen_format(&self, into_folder: bool) -> Option<Format> {
        let by_name = || Format::from_extension(&self.output).filter(|_| !into_folder);
        self.format.or_else(by_name)
    }

    /// Whether OUT is a folder for the results.
    fn is_into_folder(&self) -> bool {
        let inputs = self.inputs();
        inputs.len() > 1
            || inputs[0].is_dir()
            || inputs::is_pattern(&inputs[0])
            || names_folder(&self.output)
            || Format::from_extension(&self.output).is_none() && self.format.is_none()
    }

    /// A limit: as given, or the default for trusted or untrusted images.
    fn limit(&self, given: Option<u64>, trusted: u64, untrusted: u64) -> u64 {
        given.unwrap_or(if self.untrusted { untrusted } else { trusted })
    }

    fn max_memory(&self) -> Option<u64> {
        (self.max_memory).or(self.untrusted.then_some(UNTRUSTED_MAX_MEMORY_BYTES))
    }

    fn timeout(&self) -> Option<Duration> {
        (self.timeout).or(self.untrusted.then_some(UNTRUSTED_TIMEOUT))
    }

    fn reading_limits(&self) -> Limits {
        let trusted = Limits::default();
        Limits {
            max_pixels: self.limit(self.max_pixels, trusted.max_pixels, UNTRUSTED_MAX_PIXELS),
            ..trusted
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            size: self.size.request(),
            strength: self.strength,
            alpha: self.alpha.method(),
            metadata: self.metadata.policy(),
            max_output_pixels: self.limit(
                self.max_output_pixels,
                MAX_OUTPUT_PIXELS,
                UNTRUSTED_MAX_OUTPUT_PIXELS,
            ),
            max_memory_bytes: self.max_memory(),
            streams: true,
        }
    }
}

const MAX_OUTPUT_PIXELS: u64 = 8_000_000_000;
const UNTRUSTED_MAX_PIXELS: u64 = 16_000_000;
/// Four times both sides.
const UNTRUSTED_MAX_OUTPUT_PIXELS: u64 = 256_000_000;
const UNTRUSTED_MAX_MEMORY_BYTES: u64 = 1 << 30;
const UNTRUSTED_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether a path is that of a folder: there is one, or it ends with a separator.
fn names_folder(path: &Path) -> bool {
    let last = path.as_os_str().as_encoded_bytes().last();
    path.is_dir() || last.is_some_and(|byte| std::path::is_separator(char::from(*byte)))
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    check_format(arguments)?;
    signals::listen("interrupted: finishing this image; interrupt again to drop it")?;
    on_threads(arguments.model.threads, || {
        if let Some(video) = arguments.rawvideo.video() {
            code_of_one(rawvideo::upscale(arguments, &video))
        } else if pipe::is_used(arguments) {
            code_of_one(pipe::upscale(arguments))
        } else {
            batch::upscale(arguments)
        }
    })?
}

/// Refuses a format that can only be read, chosen by -f or by OUT's suffix, and a new folder that is
/// named like an image.
fn check_format(arguments: &Arguments) -> anyhow::Result<()> {
    let output = &arguments.output;
    let is_folder = arguments.is_into_folder();
    let shown = output.display();
    let is_named_like_image =
        Format::from_extension(output).is_some() || unread_by_suffix(output).is_some();
    let written = || Format::WRITTEN.map(Format::extension).join(", ");
    let message = match arguments.chosen_format(is_folder) {
        Some(format) if !format.is_written() => format!(
            "{shown}: {format} is only read; expected a result of {} (-f or OUT's suffix)",
            written()
        ),
        _ if is_folder && !names_folder(output) && is_named_like_image => format!(
            "{shown}: expected a file for one image, of {}, or a folder; for a new folder of that name \
             give {shown}/",
            written()
        ),
        _ => return Ok(()),
    };
    Err(WrongUsage(message).into())
}

/// The exit code of a run with one input. Errors without a code of their own are left to the caller.
fn code_of_one(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    let mut tally = Tally::default();
    match result {
        Ok(()) => tally.done = 1,
        Err(error) if failure::is_stopped(&error) => {}
        Err(error) if failure::is_refusal(&error) && !exit::ran_out(&error) => {
            progress::print_error(&error);
            (tally.failures, tally.refusals) = (1, 1);
        }
        Err(error) => return Err(error),
    }
    Ok(tally.code())
}

/// How the inputs of a batch ended.
#[derive(Default)]
struct Tally {
    done: usize,
    up_to_date: usize,
    skipped: usize,
    failures: usize,
    /// Failures that are the input's fault.
    refusals: usize,
    /// Failures for want of memory or disk space.
    ran_out: usize,
    not_tried: usize,
    /// Whether the batch ended because the disk is full.
    disk_full: bool,
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        let count = match outcome {
            Outcome::Done { .. } => &mut self.done,
            Outcome::UpToDate { .. } => &mut self.up_to_date,
            Outcome::Skipped { .. } => &mut self.skipped,
            Outcome::Failed { .. } => &mut self.failures,
            Outcome::NotTried { .. } => &mut self.not_tried,
        };
        *count += 1;
    }

    /// Classifies a failure, which is counted by [`add`](Self::add).
    fn classify(&mut self, error: &anyhow::Error) {
        self.refusals += usize::from(failure::is_refusal(error));
        self.ran_out += usize::from(exit::ran_out(error));
        self.disk_full |= exit::is_disk_full(error);
    }

    fn code(&self) -> ExitCode {
        if let Some(code) = signals::exit_code() {
            return code;
        }
        let has_none = self.done + self.up_to_date + self.skipped == 0;
        ExitCode::from(if self.disk_full {
            exit::RAN_OUT
        } else if self.failures == 0 {
            return ExitCode::SUCCESS;
        } else if has_none && self.refusals == self.failures {
            exit::REFUSED
        } else if has_none && self.ran_out == self.failures {
            exit::RAN_OUT
        } else {
            exit::FAILED
        })
    }

    /// The last line of a batch.
    fn line(&self, duration: Duration) -> String {
        let counts = [
            (self.done, "done"),
            (self.up_to_date, "up to date"),
            (self.skipped, "skipped"),
            (self.failures, "failed"),
            (self.not_tried, "not tried"),
        ];
        let inputs: usize = counts.iter().map(|(count, _)| count).sum();
        let parts: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let seconds = duration.as_secs_f64();
        format!("{inputs} inputs: {}; {seconds:.1} s", parts.join(", "))
    }
}
