//! One image from standard input or to standard output: `-` for an input or for OUT. An OUT that is a
//! named pipe or a device is one too.
//!
//! The image and the result are whole in memory: a pipe cannot be read twice, and a result is complete
//! before its first byte is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use wdsr_image::{Error, Reader};
use wdsr_upscale::Settings;

use super::existing::{self, IfExists, ResultFile};
use super::failure::{Deadline, explained};
use super::metadata::Warnings;
use super::networks::Networks;
use super::report::{BatchReport, Outcome};
use super::{Arguments, names_folder, video};
use crate::exit::OutOfMemory;
use crate::file_claims::{Conflict, FileClaims};
use crate::{WrongUsage, progress, signals};

/// The path that means standard input or output.
const PIPE: &str = "-";

/// Whether standard input or output is used.
pub(super) fn is_used(arguments: &Arguments) -> bool {
    let pipe = Path::new(PIPE);
    let is_pipe_or_special = |output: &Path| output == pipe || is_special(output);
    output(arguments).is_some_and(is_pipe_or_special) || reads_pipe(arguments)
}

fn reads_pipe(arguments: &Arguments) -> bool {
    let mut inputs = arguments.inputs().iter();
    inputs.any(|input| input == Path::new(PIPE))
}

/// OUT, which is standard output by default if the input is standard input.
fn output(arguments: &Arguments) -> Option<&Path> {
    let pipe = reads_pipe(arguments).then_some(Path::new(PIPE));
    arguments.output.as_deref().or(pipe)
}

/// Whether a path leads to a pipe, a device or a socket, which is written to and never replaced.
pub(super) fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| !file.is_file() && !file.is_dir())
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
        if arguments.recursive || arguments.shard.is_some() || arguments.rows.is_some() {
            return wrong_usage(
                "-r, --shard and --rows are for files, not for - or --rawvideo".to_owned(),
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
    /// A named pipe or a device.
    Special(PathBuf),
    File(PathBuf),
}

impl PipeOutput {
    /// `None` if the file exists and should be kept.
    ///
    /// # Errors
    /// [`WrongUsage`] for a terminal, a folder, or options that contradict each other; an error for a
    /// file that exists, with `--if-exists error`.
    pub(super) fn of(arguments: &Arguments) -> anyhow::Result<Option<Self>> {
        let Some(output) = output(arguments) else {
            return wrong_usage("--rawvideo: give a file or - by -o".to_owned());
        };
        if output == Path::new(PIPE) {
            if arguments
                .if_exists
                .is_some_and(|policy| policy != IfExists::Overwrite)
            {
                return wrong_usage("--if-exists is for files, not for -o -".to_owned());
            }
            if io::stdout().is_terminal() {
                return wrong_usage(
                    "standard output is a terminal; expected a pipe or a file (> FILE)".to_owned(),
                );
            }
            return Ok(Some(Self::Standard));
        }
        if is_special(output) {
            return Ok(Some(Self::Special(output.to_owned())));
        }
        if names_folder(output) {
            return wrong_usage(format!(
                "{} is a folder; expected a file beside - or --rawvideo",
                output.display()
            ));
        }
        Ok(
            match existing::target(
                output,
                arguments.if_exists(),
                &|_| Ok(Vec::new()),
                &|_| false,
                &wdsr_batch::exists,
            )? {
                ResultFile::Write(path) => Some(Self::File(path)),
                ResultFile::Own(path, _) | ResultFile::Skip(path) => {
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
            Self::Special(path) | Self::File(path) => path.clone(),
        }
    }

    /// Opens the pipe or device; `None` for a file.
    pub(super) fn open(&self) -> anyhow::Result<Option<Box<dyn Write + Send>>> {
        Ok(match self {
            Self::Standard => Some(Box::new(io::stdout())),
            Self::Special(path) => Some(Box::new(open_special(path)?)),
            Self::File(_) => None,
        })
    }
}

/// Opens a named pipe or a character device for writing.
///
/// # Errors
/// For a block device: an image would destroy the file system on it.
fn open_special(path: &Path) -> anyhow::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if fs::metadata(path).is_ok_and(|file| file.file_type().is_block_device()) {
            let message = format!("{} is a disk; expected a file or a folder", path.display());
            return wrong_usage(message);
        }
    }
    let file = OpenOptions::new().write(true).open(path);
    file.with_context(|| format!("{}: cannot open", path.display()))
}

/// Writes to a pipe or a device.
///
/// # Errors
/// Names `what` if the reader closed the pipe before it had all of it.
pub(crate) fn write_to(
    output: &mut dyn Write,
    name: &Path,
    bytes: &[u8],
    what: &str,
) -> anyhow::Result<()> {
    let name = name.display();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            bail!("{name}: its reader closed it before it had all of {what}")
        }
        written => written.with_context(|| format!("{name}: cannot write {what}")),
    }
}

/// Claims the files of a run with pipes; a shell may have redirected the pipes to files.
pub(super) fn claim_files(arguments: &Arguments, source: &PipeInput) -> Result<(), Conflict> {
    let input = match source {
        PipeInput::Standard => ("standard input", Path::new("/dev/stdin")),
        PipeInput::File(path) => ("input", &**path),
    };
    let (role, output) = match output(arguments).unwrap_or(Path::new(PIPE)) {
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
        let output = output(arguments)
            .unwrap_or(Path::new(PIPE))
            .display()
            .to_string();
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
    let networks = Networks::load(arguments.networks())?;
    let file = source.read(arguments.max_memory())?;
    let video = video::refusal_of_bytes(&file, &input);
    let len_bytes = file.len() as u64;
    let deadline = Deadline::start(arguments.timeout());
    let limits = deadline.limits(arguments.reading_limits());
    let reader =
        Reader::from_bytes(file, &input, &limits).map_err(|error| match (error, video) {
            (Error::NotAnImage { .. }, Some(video)) => video.into(),
            (error, _) => deadline.explained(&input, error),
        })?;
    let chosen = arguments.chosen_format();
    let format = chosen.unwrap_or(reader.format().of_result());
    arguments.encoding.check(format)?;
    let settings = Settings {
        streams: false,
        ..arguments.settings()
    };
    let bar = progress::bar_of_files(len_bytes, arguments.quiet);
    bar.set_message(input.display().to_string());
    let progress = |done: usize, total: usize| {
        bar.set_position(progress::share(len_bytes, done, total));
        deadline.flow()
    };
    let job = networks.job(reader, settings).map_err(explained)?;
    let summary = if let PipeOutput::File(path) = sink {
        let result = job.into_file(path, format, &progress);
        let (file, summary) = result.map_err(|error| deadline.explained(&input, error))?;
        bar.finish_and_clear();
        let _writing = signals::writing();
        let write = || format!("cannot write {}", path.display());
        file.publish().with_context(write)?;
        summary
    } else {
        let result = job.into_bytes(&output, format, &progress);
        let (bytes, summary) = result.map_err(|error| deadline.explained(&input, error))?;
        bar.finish_and_clear();
        if let Some(mut stream) = sink.open()? {
            write_to(&mut *stream, &output, &bytes, "the image")?;
        }
        summary
    };
    let model = networks.name_of(&summary);
    let device = networks.device_used();
    Ok(Outcome::done(&output, model, &summary, started.elapsed()).on_device(device))
}
