//! `wdsr upscale`: upscales images.

mod batch;
mod destination;
mod encoding;
pub(crate) mod existing;
pub(crate) mod failure;
pub(crate) mod frames;
mod metadata;
pub(crate) mod networks;
mod pipe;
mod rawvideo;
mod report;
mod rows;
pub(crate) mod size;
mod video;
pub(crate) mod yuv;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::TypedValueParser;
use wdsr_batch::{Shard, is_http};
use wdsr_image::{Format, Limits, unread_by_suffix};
use wdsr_upscale::{AlphaMethod, Settings, Wrap};

use crate::models::ModelArguments;
use crate::{WrongUsage, exit, on_threads, progress, signals, units};
use destination::names_folder;
use encoding::EncodingArguments;
use existing::IfExists;
use metadata::MetadataChoice;
use networks::NetworkArguments;
pub(crate) use pipe::write_to;
use rawvideo::RawVideoArguments;
use report::Outcome;
use rows::Rows;
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
    ///
    /// In releases URLs too: s3://, gs:// and az:// objects, folders of them (with a slash at the end) and
    /// patterns, and http:// and https:// files. Credentials come from the environment.
    #[arg(required_unless_present = "input", value_parser = place())]
    inputs: Vec<PathBuf>,
    /// Alias for INPUTS
    #[arg(short = 'i', long, value_name = "INPUT", conflicts_with = "inputs", value_parser = place())]
    input: Vec<PathBuf>,
    /// File for one image, or folder for several; `-` is standard output
    ///
    /// A new folder for one image ends with a slash. By default results stand beside the images: photo-x2.jpg
    /// for photo.jpg; those of a folder of photos stand in the folder photos-x2 beside it; that of
    /// standard input is standard output.
    #[arg(short = 'o', long, value_name = "OUT", value_parser = place())]
    output: Option<PathBuf>,
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
    /// Which edges continue at the opposite side
    ///
    /// The network, the resizer and alpha read across these edges, so that the result of a texture or a
    /// panorama has no seam.
    #[arg(long, value_enum, value_name = "EDGES", default_value = "none")]
    wrap: WrapArgument,
    /// Include subfolders; OUT gets the same tree
    #[arg(short = 'r', long)]
    recursive: bool,
    /// What to do if a file of the result's name exists [default: overwrite, without -o error]
    ///
    /// This is about files that were not made from the same image. The own result of an earlier run is
    /// kept, or replaced if input, model or options changed; a result that another program changed is
    /// no longer the own one. With rename, images of a batch whose results have the same name get
    /// numbers too.
    #[arg(long, value_enum, value_name = "ACTION")]
    if_exists: Option<IfExists>,
    /// Process shard I of N, e.g. 2/8
    ///
    /// Divides a batch among several machines that see the same folders. 0/N is the same as N/N, for
    /// schedulers that count from 0.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Make these rows of the result only: A:B, A: or band I of N, e.g. 0:4000 or 2/8
    ///
    /// Divides a large image among several machines: each reads the rows that its band needs, and writes a TIFF file
    /// (photo-x2-rows-2-of-8.tif). wdsr join makes one image of them, the same as without --rows. Rows are
    /// counted from 0, B is not among them; 0/N is the same as N/N. It takes a PNG or TIFF image of one
    /// page without transparency, and a size that one pass of a network makes.
    #[arg(long, value_name = "ROWS")]
    rows: Option<Rows>,
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
    /// Format of the results: png, jpg, webp, tif, bmp or gif
    ///
    /// By default the suffix of OUT decides, then the format of the input. Inputs of formats that can only be
    /// read (JPEG XL, netpbm, DDS, QOI, TGA) give PNG.
    #[arg(short = 'f', long)]
    format: Option<Format>,
    #[command(flatten)]
    encoding: EncodingArguments,
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

/// [`Wrap`] as an argument.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum WrapArgument {
    /// No edge
    None,
    /// Left and right, as of a panorama of 360 degrees
    X,
    /// All, as of a seamless texture
    Xy,
}

impl WrapArgument {
    fn wrap(self) -> Wrap {
        match self {
            Self::None => Wrap::None,
            Self::X => Wrap::X,
            Self::Xy => Wrap::Xy,
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

    /// Whether OUT needs no suffix of an image: -f names the format, OUT is a pipe or device, or gets frames.
    fn allows_any_suffix(&self, output: &Path) -> bool {
        self.format.is_some() || pipe::is_special(output) || self.rawvideo.video().is_some()
    }

    /// What happens to a file of a result's name. One that the user did not name is kept.
    fn if_exists(&self) -> IfExists {
        self.if_exists.unwrap_or(match self.output {
            Some(_) => IfExists::Overwrite,
            None => IfExists::Error,
        })
    }

    fn networks(&self) -> NetworkArguments<'_> {
        NetworkArguments {
            model: &self.model,
            strength: self.strength,
        }
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
            wrap: self.wrap.wrap(),
            metadata: self.metadata.policy(),
            encoding: self.encoding.encoding(),
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

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    check_urls(arguments)?;
    check_output(arguments)?;
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

/// A path or URL as an argument, without credentials.
fn place() -> impl TypedValueParser<Value = PathBuf> {
    clap::builder::OsStringValueParser::new().map(wdsr_batch::place)
}

/// Refuses results on HTTP servers, which are only read.
fn check_urls(arguments: &Arguments) -> Result<(), WrongUsage> {
    let (inputs, output) = (arguments.inputs(), arguments.output.as_deref());
    if let Some(output) = output.filter(|output| is_http(output)) {
        return Err(WrongUsage(format!(
            "{}: HTTP servers are only read; expected a file, a folder, or an s3://, gs:// or az:// URL",
            output.display()
        )));
    }
    if let (Some(input), None) = (inputs.iter().find(|input| is_http(input)), output) {
        return Err(WrongUsage(format!(
            "{}: HTTP servers are only read; give a file or folder for the result by -o",
            input.display()
        )));
    }
    Ok(())
}

/// Refuses a format that is not written or that -f and OUT's suffix contradict each other about, a new
/// folder that is named like an image, and options that have no effect on the format.
fn check_output(arguments: &Arguments) -> Result<(), WrongUsage> {
    let written = Format::WRITTEN.map(Format::extension).join(", ");
    let output = arguments.output.as_deref();
    let shown = output.map_or_else(|| "-f".to_owned(), |output| output.display().to_string());
    let chosen = arguments.chosen_format();
    let wrong = |message| Err(WrongUsage(message));
    if let Some(format) = chosen.filter(|format| !format.is_written()) {
        return wrong(format!(
            "{shown}: {format} is only read; expected a result of {written} (-f or OUT's suffix)"
        ));
    }
    if let (Some(_), Some(format)) = (arguments.rows, chosen.filter(|f| *f != Format::Tiff)) {
        return wrong(format!(
            "{shown}: --rows makes bands in TIFF files, found {format}; give -f tif or OUT that suffix"
        ));
    }
    if let Some(output) = output.filter(|output| !names_folder(output)) {
        let suffix = Format::from_extension(output);
        let is_image_unwritten = unread_by_suffix(output).is_some();
        let is_folder = arguments.is_into_folder(output);
        let is_unknown = suffix.is_none() && output.extension().is_some();
        let is_named_wrongly = match is_folder {
            true => suffix.is_some() || is_image_unwritten,
            false => is_image_unwritten || is_unknown && !arguments.allows_any_suffix(output),
        };
        if is_named_wrongly {
            return wrong(format!(
                "{shown}: expected a file for one image, of {written}, or a folder; for a new folder of that \
                 name give {shown}/"
            ));
        }
        if let (Some(format), Some(suffix)) = (arguments.format, suffix)
            && format != suffix
        {
            return wrong(format!(
                "{shown}: -f {format} contradicts the suffix; expected {}, or no -f",
                output.with_extension(format.extension()).display()
            ));
        }
    }
    match chosen {
        Some(format) => arguments.encoding.check(format),
        None => Ok(()),
    }
}

/// The exit code of a run with one input. Errors without a code of their own are left to the caller.
pub(crate) fn code_of_one(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
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
