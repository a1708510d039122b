//! One image by standard input or to standard output: `-` for an input or for OUT.
//!
//! It is in memory as a whole, both as a file and decoded: a pipe cannot be read twice, and what goes
//! out is complete before its first byte does.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use wdsr_image::{Error, Limits, NewFile, decode_bytes, dimensions_of_bytes, format_of_bytes};
use wdsr_model::Isa;
use wdsr_upscale::Size;

use super::existing::{self, IfExists, Target};
use super::image::{self, Asked, Method};
use super::metadata::Losses;
use super::report::{Outcome, Report};
use super::{Arguments, interrupt, load_networks, size_plan};
use crate::exit::OutOfMemory;
use crate::file_claims::{Conflict, FileClaims};
use crate::{WrongUsage, progress};

/// The path that means standard input or output.
const PIPE: &str = "-";

/// Whether standard input or output takes part.
pub(super) fn is_used(arguments: &Arguments) -> bool {
    let pipe = Path::new(PIPE);
    arguments.output == pipe || arguments.inputs().iter().any(|input| input == pipe)
}

/// The one input of a run with pipes.
pub(super) enum Source {
    Standard,
    File(PathBuf),
}

impl Source {
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

    /// As messages call it.
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

    /// All bytes, of which there may be so many.
    fn read(&self, max_bytes: Option<u64>) -> anyhow::Result<Vec<u8>> {
        const STEP: usize = 1 << 20;
        let path = self.name();
        let mut stream = self.open()?;
        let mut bytes = Vec::new();
        loop {
            let fits = max_bytes.is_none_or(|most| bytes.len() as u64 <= most);
            if !fits || bytes.try_reserve(STEP).is_err() {
                return Err(OutOfMemory(format!(
                    "{}: more than {} bytes, and a pipe's image is in memory as a whole; raise \
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
pub(super) enum Sink {
    Standard,
    File(PathBuf),
}

impl Sink {
    /// `None` if the file exists and is to be left.
    ///
    /// # Errors
    /// [`WrongUsage`] for a terminal, a folder, or an option that does not go together; an error
    /// for a file that exists, with `--if-exists error`.
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
                Target::Write(path) => Some(Self::File(path)),
                Target::Own(path) | Target::Skip(path) => {
                    if !arguments.quiet {
                        progress::note(&format!("skipped, {} exists", path.display()));
                    }
                    None
                }
            },
        )
    }

    /// As messages call it.
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
/// Names `what` if its reader went away before it had all of it.
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

/// Claims the files of a run with pipes, for which a shell may have put files.
pub(super) fn claim_files(arguments: &Arguments, source: &Source) -> Result<(), Conflict> {
    let input = match source {
        Source::Standard => ("standard input", Path::new("/dev/stdin")),
        Source::File(path) => ("input", &**path),
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
    let source = Source::of(arguments)?;
    let sink = Sink::of(arguments)?;
    claim_files(arguments, &source)?;
    let mut report = Report::create(arguments.report.as_deref())?;
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
    let outcome = result?;
    let shown = input.display().to_string();
    let mut remarks = Vec::from_iter(outcome.remark(&shown));
    if let Outcome::Done { left_out, .. } = &outcome {
        remarks.extend(Losses::default().remarks(&shown, left_out, false));
    }
    for remark in remarks.iter().filter(|_| !arguments.quiet) {
        progress::note(remark);
    }
    Ok(())
}

fn upscale_to(
    arguments: &Arguments,
    source: &Source,
    sink: &Sink,
    started: Instant,
) -> anyhow::Result<Outcome> {
    let (input, output) = (source.name(), sink.name());
    let precision = arguments.model.precision.or_f32(Isa::detect()?);
    let networks = load_networks(arguments, precision)?;
    let file = source.read(arguments.max_memory)?;
    let format = match arguments.asked_format(false) {
        Some(format) => format,
        None => format_of_bytes(&file, &input)?.of_result(),
    };
    let (width_px, height_px) = dimensions_of_bytes(&file, &input)?;
    let size = Size {
        width_px,
        height_px,
    };
    let plan = size_plan(arguments, &networks, &input, size)?;
    let target = plan.target();
    arguments.limits.check(
        &input,
        (width_px, height_px),
        (target.width_px, target.height_px),
    )?;
    let mut method = Method::new(arguments, &plan, &networks);
    // The file stays beside the image until that is decoded.
    method.max_bytes = method
        .max_bytes
        .map(|most| most.saturating_sub(file.len() as u64));
    let asked = Asked {
        output: &output,
        format,
        metadata: arguments.metadata,
    };
    let bar = progress::bar_of_files(file.len() as u64, arguments.quiet);
    bar.set_message(input.display().to_string());
    let progress = |done: usize, total: usize| {
        bar.set_position(progress::share(file.len() as u64, done, total));
        interrupt::flow()
    };
    let decode = |limits: &Limits| decode_bytes(&file, &input, limits);
    let (bytes, left_out) = image::upscale_file(&input, decode, &asked, &method, &progress)?;
    bar.finish_and_clear();
    let _writing = interrupt::writing();
    match sink {
        Sink::Standard => write_standard(&bytes, "the image")?,
        Sink::File(path) => NewFile::with(path, &bytes)?.publish()?,
    }
    Ok(Outcome::Done {
        output: output.display().to_string(),
        width_px: target.width_px,
        height_px: target.height_px,
        steps: plan.to_string(),
        seconds: started.elapsed().as_secs_f64(),
        left_out,
    })
}
