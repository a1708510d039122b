//! One image from standard input or to standard output: `-` for an input or for OUT.
//!
//! The image and the result are whole in memory: a pipe cannot be read twice, and a result is complete
//! before its first byte is written.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use wdsr_image::{Error, Reader};
use wdsr_upscale::{Job, Settings};

use super::existing::{self, IfExists, ResultFile};
use super::failure::explained;
use super::metadata::Warnings;
use super::networks::Networks;
use super::report::{BatchReport, Outcome};
use super::{Arguments, interrupt};
use crate::exit::OutOfMemory;
use crate::file_claims::{Conflict, FileClaims};
use crate::{WrongUsage, progress};

/// The path that means standard input or output.
const PIPE: &str = "-";

/// Whether standard input or output is used.
pub(super) fn is_used(arguments: &Arguments) -> bool {
    let pipe = Path::new(PIPE);
    arguments.output == pipe || arguments.inputs().iter().any(|input| input == pipe)
}

/// The input of a run with pipes.
pub(super) enum PipeInput {
    Standard,
    File(PathBuf),
}

impl PipeInput {
    /// # Errors
    /// [`WrongUsage`] for several inputs, options for several, or a terminal.
    pub(super) fn of(arguments: &Arguments) -> anyhow::Result<Self> {
        let [input] = arguments.inputs() else {
            let count = arguments.inputs().len();
            return wrong_usage(format!(
                "expected one input beside - or --rawvideo, found {count}"
            ));
        };
        if arguments.recursive || arguments.shard.is_some() {
            return wrong_usage(
                "-r and --shard are for folders, not for - or --rawvideo".to_owned(),
            );
        }
        if input != Path::new(PIPE) {
            return Ok(Self::File(input.clone()));
        }
        if io::stdin().is_terminal() {
            return wrong_usage(
                "standard input is a terminal; expected a pipe or a file (< FILE)".to_owned(),
            );
        }
        Ok(Self::Standard)
    }

    /// The name in messages.
    pub(super) fn name(&self) -> PathBuf {
        match self {
            Self::Standard => PathBuf::from("standard input"),
            Self::File(path) => path.clone(),
        }
    }

    pub(super) fn open(&self) -> Result<Box<dyn Read + Send>, Error> {
        Ok(match self {
            Self::Standard => Box::new(io::stdin()),
            Self::File(path) => Box::new(File::open(path).map_err(|source| Error::Read {
                path: path.clone(),
                source,
            })?),
        })
    }

    /// Reads to the end, up to `max_bytes`.
    fn read(&self, max_bytes: Option<u64>) -> anyhow::Result<Vec<u8>> {
        const STEP: usize = 1 << 20;
        let path = self.name();
        let mut stream = self.open()?;
        let mut bytes = Vec::new();
        loop {
            let fits = max_bytes.is_none_or(|most| bytes.len() as u64 <= most);
            if !fits || bytes.try_reserve(STEP).is_err() {
                return Err(OutOfMemory(format!(
                    "{}: more than {} bytes, and an image from a pipe must fit into memory; raise \
                     --max-memory, free memory, or give files instead of -",
                    path.display(),
                    bytes.len()
                ))
                .into());
            }
            let read = stream.by_ref().take(STEP as u64).read_to_end(&mut bytes);
            match read {
                Ok(0) => return Ok(bytes),
                Ok(_) => {}
                Err(source) => return Err(Error::Read { path, source }.into()),
            }
        }
    }
}

/// Where the result of a run with pipes goes.
pub(super) enum PipeOutput {
    Standard,
    File(PathBuf),
}

impl PipeOutput {
    /// `None` if the file exists and should be kept.
    ///
    /// # Errors
    /// [`WrongUsage`] for a terminal, a folder, or options that contradict each other; an error for a
    /// file that exists, with `--if-exists error`.
    pub(super) fn of(arguments: &Arguments) -> anyhow::Result<Option<Self>> {
        let output = &arguments.output;
        if output == Path::new(PIPE) {
            if arguments.if_exists != IfExists::Overwrite {
                return wrong_usage("--if-exists is for files, not for -o -".to_owned());
            }
            if io::stdout().is_terminal() {
                return wrong_usage(
                    "standard output is a terminal; expected a pipe or a file (> FILE)".to_owned(),
                );
            }
            return Ok(Some(Self::Standard));
        }
        if output.is_dir() {
            return wrong_usage(format!(
                "{} is a folder; expected a file beside - or --rawvideo",
                output.display()
            ));
        }
        let place = Path::new(PIPE);
        let never = |_: &Path| false;
        Ok(
            match existing::target(output, place, arguments.if_exists, None, &never)? {
                ResultFile::Write(path) => Some(Self::File(path)),
                ResultFile::Own(path) | ResultFile::Skip(path) => {
                    if !arguments.quiet {
                        progress::note(&format!("skipped, {} exists", path.display()));
                    }
                    None
                }
            },
        )
    }

    /// The name in messages.
    pub(super) fn name(&self) -> PathBuf {
        match self {
            Self::Standard => PathBuf::from("standard output"),
            Self::File(path) => path.clone(),
        }
    }
}

/// Writes to standard output.
///
/// # Errors
/// Names `what` if the reader closed the pipe before it had all of it.
pub(super) fn write_standard(bytes: &[u8], what: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    let written = output.write_all(bytes).and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            bail!("standard output: its reader closed it before it had all of {what}")
        }
        written => written.with_context(|| format!("standard output: cannot write {what}")),
    }
}

/// Claims the files of a run with pipes; a shell may have redirected the pipes to files.
pub(super) fn claim_files(arguments: &Arguments, source: &PipeInput) -> Result<(), Conflict> {
    let input = match source {
        PipeInput::Standard => ("standard input", Path::new("/dev/stdin")),
        PipeInput::File(path) => ("input", &**path),
    };
    let (role, output) = match &*arguments.output {
        path if path == Path::new(PIPE) => ("standard output", Path::new("/dev/stdout")),
        path => ("result", path),
    };
    let mut claims = FileClaims::of_inputs(arguments.model.file_claim().chain([input]));
    claims.write(role, "-o", output)?;
    match &arguments.report {
        Some(report) => claims.write("report", "--report", report),
        None => Ok(()),
    }
}

fn wrong_usage<T>(message: String) -> anyhow::Result<T> {
    Err(WrongUsage(message).into())
}

/// Upscales the image.
pub(super) fn upscale(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let source = PipeInput::of(arguments)?;
    let sink = PipeOutput::of(arguments)?;
    claim_files(arguments, &source)?;
    let mut report = BatchReport::create(arguments.report.as_deref())?;
    let input = source.name();
    let Some(sink) = sink else {
        let output = arguments.output.display().to_string();
        return report.add(&input.to_string_lossy(), &Outcome::Skipped { output });
    };
    let result = upscale_to(arguments, &source, &sink, started);
    let outcome = match &result {
        Ok(outcome) => outcome,
        Err(error) => &Outcome::Failed {
            error: progress::one_line(error),
        },
    };
    report.add(&input.to_string_lossy(), outcome)?;
    let shown = input.display().to_string();
    let lines = result?.lines(&shown, &mut Warnings::default(), false);
    for line in lines.iter().filter(|_| !arguments.quiet) {
        progress::note(line);
    }
    Ok(())
}

fn upscale_to(
    arguments: &Arguments,
    source: &PipeInput,
    sink: &PipeOutput,
    started: Instant,
) -> anyhow::Result<Outcome> {
    let (input, output) = (source.name(), sink.name());
    let networks = Networks::load(arguments)?;
    let file = source.read(arguments.max_memory)?;
    let len_bytes = file.len() as u64;
    let reader =
        Reader::from_bytes(file, &input, &arguments.reading_limits()).map_err(explained)?;
    let format = arguments
        .chosen_format(false)
        .unwrap_or(reader.format().of_result());
    let settings = Settings {
        streams: false,
        ..arguments.settings()
    };
    let bar = progress::bar_of_files(len_bytes, arguments.quiet);
    bar.set_message(input.display().to_string());
    let progress = |done: usize, total: usize| {
        bar.set_position(progress::share(len_bytes, done, total));
        interrupt::flow()
    };
    let upscalers = networks.upscalers();
    let job = Job::new(reader, &upscalers, settings).map_err(explained)?;
    let summary = match sink {
        PipeOutput::Standard => {
            let result = job.into_bytes(&output, format, &progress);
            let (bytes, summary) = result.map_err(explained)?;
            bar.finish_and_clear();
            let _writing = interrupt::writing();
            write_standard(&bytes, "the image")?;
            summary
        }
        PipeOutput::File(path) => {
            let result = job.into_file(path, format, &progress);
            let (file, summary) = result.map_err(explained)?;
            bar.finish_and_clear();
            let _writing = interrupt::writing();
            let write = || format!("cannot write {}", path.display());
            file.publish().with_context(write)?;
            summary
        }
    };
    Ok(Outcome::done(&output, summary, started.elapsed()))
}
