//! `wdsr upscale`: upscales images.

mod batch;
mod existing;
mod failure;
mod inputs;
mod interrupt;
mod manifest;
mod metadata;
mod networks;
mod pipe;
mod rawvideo;
mod report;
mod size;
mod yuv;

use std::path::PathBuf;
use std::process::ExitCode;

use wdsr_image::{Format, Limits};
use wdsr_upscale::{AlphaMethod, Settings};

use crate::models::ModelArguments;
use crate::{WrongUsage, exit, on_threads, progress, units};
use existing::IfExists;
use inputs::Shard;
use metadata::MetadataChoice;
use rawvideo::RawVideoArguments;
use size::SizeArguments;

/// Upscale images
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
    /// kept, or replaced if input, model or options changed.
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
    /// images that need more memory are refused.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    max_memory: Option<u64>,
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
    /// Refuse images of more pixels (M is 10^6)
    ///
    /// k, M and G are powers of 1000.
    #[arg(long, value_name = "PIXELS", value_parser = units::pixels, default_value = "1G")]
    max_pixels: u64,
    /// Refuse images whose result would have more pixels
    #[arg(long, value_name = "PIXELS", value_parser = units::pixels, default_value = "8G")]
    max_output_pixels: u64,
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

    fn reading_limits(&self) -> Limits {
        Limits {
            max_pixels: self.max_pixels,
            ..Limits::default()
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            size: self.size.request(),
            alpha: self.alpha.method(),
            metadata: self.metadata.policy(),
            max_output_pixels: self.max_output_pixels,
            max_memory_bytes: self.max_memory,
            streams: true,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    check_format(arguments)?;
    interrupt::listen()?;
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

/// Refuses a format that can only be read, chosen by -f or by OUT's suffix.
fn check_format(arguments: &Arguments) -> anyhow::Result<()> {
    let output = &arguments.output;
    match arguments.chosen_format(output.is_dir()) {
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
    /// Upscaled, up to date or skipped.
    done: usize,
    failures: usize,
    /// Failures that are the input's fault.
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
