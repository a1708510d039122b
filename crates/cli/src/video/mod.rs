//! `wdsr video`: upscales videos with the ffmpeg on the PATH, or Y4M from standard input to standard output.

mod decode;
mod encode;
mod ffmpeg;
mod mux;
mod nut;
mod probe;
mod segments;
mod y4m;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use wdsr_image::Format;
use wdsr_upscale::{ImageUpscaler, Settings, Size};

use crate::file_claims::FileClaims;
use crate::models::ModelArguments;
use crate::upscale::existing::{self, IfExists, ResultFile};
use crate::upscale::failure::{Refused, explained};
use crate::upscale::frames::{self, FrameFormat, FrameUpscaler, FrameWriter};
use crate::upscale::networks::{NetworkArguments, Networks};
use crate::upscale::size::SizeArguments;
use crate::upscale::yuv::{Coding, Matrix, Range};
use crate::upscale::{code_of_one, write_to};
use crate::{WrongUsage, on_threads, progress, signals, units};
use decode::Decoder;
use encode::Encoding;
use mux::Mux;
use probe::{Probe, Video};
use segments::{Dependencies, Segments};

/// Standard input or output.
const PIPE: &str = "-";

/// Upscale a video
///
/// ffmpeg and ffprobe (5.1 or newer) must be on the PATH. The result keeps pixel format, colour tags and
/// time stamps; sound, subtitles, chapters, attachments and metadata are copied. What the result's
/// container cannot hold is named.
///
/// The video is encoded in segments, in the folder OUT.wdsr-segments. An interrupted run resumes at the
/// first missing segment when the same command runs again. OUT appears when it is complete.
///
/// `wdsr video - -` upscales Y4M from standard input to standard output, without ffmpeg.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Video that ffmpeg reads; `-` for Y4M from standard input
    input: PathBuf,
    /// Result, whose suffix names the container, e.g. .mp4 or .mkv; `-` for Y4M to standard output
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Options of ffmpeg for the encoder, e.g. `-- -c:v libx265 -crf 18`
    ///
    /// The default is H.264 of high quality (-c:v libx264 -crf 16), for .webm VP9 (-c:v libvpx-vp9 -crf 20
    /// -b:v 0), and H.265 for more than 10 bits (-c:v libx265 -crf 16).
    #[arg(last = true, value_name = "ENCODER OPTIONS")]
    encoder: Vec<String>,
    #[command(flatten)]
    size: SizeArguments,
    #[command(flatten)]
    model: ModelArguments,
    /// How much damage to remove, 0 to 1; implies -m photo
    #[arg(long, value_name = "S", value_parser = units::strength)]
    strength: Option<f32>,
    /// YUV matrix of input and output [default: that of the file]
    ///
    /// A file without one has bt709 for frames of 1280 or more columns or more than 576 rows, else bt601.
    #[arg(long, value_enum)]
    matrix: Option<Matrix>,
    /// YUV range of input and output [default: that of the file, else limited]
    #[arg(long, value_enum)]
    range: Option<Range>,
    /// What to do with interlaced video, which is refused by default
    #[arg(long, value_enum, value_name = "ACTION")]
    interlaced: Option<Interlaced>,
    /// Frames of a segment: what an interrupted run may lose
    ///
    /// A segment begins with a key frame.
    #[arg(long, value_name = "FRAMES", default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..))]
    segment: u64,
    /// What to do if OUT exists [default: overwrite]
    #[arg(long, value_enum, value_name = "ACTION")]
    if_exists: Option<IfExists>,
    /// Limit the memory, e.g. 500M or 4G (M is 2^20 bytes), without that of ffmpeg
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    max_memory: Option<u64>,
    /// Print errors only
    #[arg(short = 'q', long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Interlaced {
    /// Make each frame of its two fields, by ffmpeg's bwdif
    Deinterlace,
    /// Upscale frames as they are, for video that is only marked as interlaced
    Keep,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    signals::listen(
        "interrupted: finishing this segment, from which the same command resumes; interrupt again to drop it",
    )?;
    on_threads(arguments.model.threads, || {
        let pipes = [&arguments.input, &arguments.output].map(|path| path == Path::new(PIPE));
        code_of_one(match pipes {
            [true, true] => upscale_y4m(arguments),
            [false, false] => upscale_file(arguments),
            _ => Err(WrongUsage(
                "expected two files, or - and - for Y4M from pipe to pipe (ffmpeg -f yuv4mpegpipe)"
                    .to_owned(),
            )
            .into()),
        })
    })?
}

impl Arguments {
    fn networks(&self) -> anyhow::Result<Networks<'_>> {
        Networks::load(NetworkArguments {
            model: &self.model,
            strength: self.strength,
        })
    }

    /// The work on frames that are stored with a size and are upright with another.
    fn work<'a>(
        &self,
        name: &'a Path,
        networks: &'a Networks<'_>,
        format: FrameFormat,
        upright: Size,
    ) -> anyhow::Result<FrameUpscaler<'a>> {
        let settings = Settings {
            size: self.size.request(),
            max_memory_bytes: self.max_memory,
            ..Settings::default()
        };
        let strength = networks.strength_of_frames(self.strength)?;
        let upscaler = ImageUpscaler::planned(name, upright, &networks.upscalers(), &settings);
        let upscaler = upscaler.map_err(explained)?;
        Ok(FrameUpscaler::new(
            name, upscaler, strength, format, upright,
        ))
    }

    /// The options of the encoder.
    fn encoder(&self, video: &Video) -> Vec<String> {
        if !self.encoder.is_empty() {
            return self.encoder.clone();
        }
        let is_webm = self
            .output
            .extension()
            .is_some_and(|suffix| suffix == "webm");
        let is_deep = video.pixels.layout.bits > 10;
        let options = match (is_webm, is_deep, video.pixels.is_rgb) {
            (true, ..) => "-c:v libvpx-vp9 -crf 20 -b:v 0 -row-mt 1",
            (_, false, false) => "-c:v libx264 -crf 16",
            (_, false, true) if video.pixels.layout.bits == 8 => "-c:v libx264rgb -crf 16",
            _ => "-c:v libx265 -crf 16 -x265-params log-level=error",
        };
        options.split(' ').map(str::to_owned).collect()
    }

    fn refuse_interlaced(&self, is_interlaced: bool) -> Result<(), Refused> {
        if !is_interlaced || self.interlaced.is_some() {
            return Ok(());
        }
        Err(Refused(format!(
            "{}: the video is interlaced, and upscaled fields become combs; choose --interlaced deinterlace, or keep \
             if its frames are whole",
            self.input.display()
        )))
    }

    /// OUT, or its numbered name; `None` if it is kept.
    fn result_file(&self) -> anyhow::Result<Option<PathBuf>> {
        let (output, shown) = (&self.output, self.output.display());
        let wrong = |message: String| Err(WrongUsage(message).into());
        if output.extension().is_none_or(OsStr::is_empty)
            || Format::from_extension(output).is_some()
        {
            return wrong(format!(
                "{shown}: expected a suffix that names a container, e.g. .mp4 or .mkv"
            ));
        }
        if fs::metadata(output).is_ok_and(|file| !file.is_file()) {
            return wrong(format!(
                "{shown}: expected a file, found a folder, pipe or device"
            ));
        }
        let policy = self.if_exists.unwrap_or(IfExists::Overwrite);
        Ok(
            match existing::target(
                output,
                policy,
                &|_| Ok(Vec::new()),
                &|_| false,
                &wdsr_batch::exists,
            )? {
                // The target of a link is replaced, and the link stays.
                ResultFile::Write(path) if path.is_symlink() => {
                    Some(path.canonicalize().unwrap_or(path))
                }
                ResultFile::Write(path) => Some(path),
                ResultFile::Own(path, _) | ResultFile::Skip(path) => {
                    if !self.quiet {
                        progress::note(&format!("skipped, {} exists", path.display()));
                    }
                    None
                }
            },
        )
    }
}

fn upscale_file(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let input = &*arguments.input;
    let Some(output) = arguments.result_file()? else {
        return Ok(());
    };
    let mut claims = FileClaims::of_inputs(arguments.model.file_claim().chain([("input", input)]));
    claims.write("result", "OUT", &output)?;
    let cannot_read = |error| Refused(format!("{}: cannot read: {error}", input.display()));
    File::open(input).map_err(cannot_read)?;
    let probe = Probe::of(input, "")?;
    let video = Video::of(&probe, input, arguments.matrix, arguments.range)?;
    arguments.refuse_interlaced(video.is_interlaced)?;
    let networks = arguments.networks()?;
    let format = FrameFormat::Planar(video.pixels.layout, video.coding);
    let upright = video.turn.size(video.stored);
    let work = FrameUpscaler {
        stored: video.stored,
        turn: video.turn,
        ..arguments.work(input, &networks, format, upright)?
    };
    work.check_memory(arguments.max_memory)?;
    let (plan, target) = (work.upscaler.plan(), work.upscaler.plan().target());
    let options = arguments.encoder(&video);
    let deinterlaces = video.is_interlaced && arguments.interlaced == Some(Interlaced::Deinterlace);

    let depends_on = Dependencies::from_iter(
        [
            (
                "input",
                wdsr_batch::hash_of_file(input).map_err(cannot_read)?,
            ),
            ("version of wdsr", env!("CARGO_PKG_VERSION").to_owned()),
            ("version of ffmpeg", probe.program_version.version.clone()),
            ("model", networks.hashes_of_plan(plan)),
            ("precision", networks.arithmetic_text()),
            ("strength", format!("{:?}", arguments.strength)),
            ("self-ensemble", arguments.model.self_ensemble.to_string()),
            ("size", format!("{target} by {plan}")),
            ("coding", format!("{:?}, {:?}", video.coding, video.tags)),
            ("treatment of fields", deinterlaces.to_string()),
            ("encoder", options.join(" ")),
            ("segment length", arguments.segment.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let segments = Segments::open(&output, arguments.segment, depends_on)?;
    let resumed = segments.frames();
    if resumed > 0 && !arguments.quiet {
        progress::note(&format!(
            "{}: resuming after {resumed} frames",
            output.display()
        ));
    }
    let decoder = match segments.have_end() {
        true => None,
        false => Decoder::start(input, &video, probe.start_s(), resumed, deinterlaces)?,
    };
    let encoding = decoder.as_ref().map(|decoder| {
        let name = output.display().to_string();
        Encoding::new(&video, decoder.stream(), target, &options, name)
    });
    let part = match (segments.first(), &encoding) {
        (None, Some(encoding)) => {
            let path = segments.temporary("trial.nut");
            encoding.try_out(path.clone(), format.frame_bytes(target) as usize)?;
            path
        }
        (first, _) => first.context("a first segment")?,
    };
    let suffix = output.extension().unwrap_or_default();
    let file_of = |name: &str| segments.temporary(name).with_extension(suffix);
    let complete = file_of("complete");
    let mux = Mux::plan(input, &probe, &video, &part, &file_of("trial"))?;
    let lost = [video.lost(), mux.lost.clone()].concat();
    for lost in &lost {
        progress::note(&format!(
            "warning: {}: the result will have no {lost}",
            input.display()
        ));
    }
    let stored = &mux.stored;
    if stored.replace("yuvj", "yuv") != video.pixels.encoded && !video.pixels.is_rgb {
        progress::note(&format!(
            "warning: {}: the encoder stores {stored}, frames are {}",
            output.display(),
            video.pixels.encoded
        ));
    }
    if let Some(hdr) = video.hdr().filter(|_| !arguments.quiet) {
        progress::note(&format!("{}: {hdr} is kept with its tags", input.display()));
    }

    let (segments, result) = match decoder.zip(encoding) {
        None => (segments, Ok(())),
        Some((mut decoder, encoding)) => {
            let total = video.expected_frames().unwrap_or(0);
            let template = "{msg} [{bar:30}] {pos}/{len} frames, {per_sec}, {eta} left";
            let bar = progress::bar(total, template, arguments.quiet);
            bar.set_message(progress::printable(&input.display().to_string()));
            bar.set_position(resumed);
            bar.reset_eta();
            let frames = frames::read_ahead(move || decoder.next())?;
            let stops = |count: u64| {
                let is_between = (resumed + count).is_multiple_of(arguments.segment);
                signals::is_dropping() || signals::requested() && is_between
            };
            let done = work.run(&frames, encoding.writer(segments)?, &bar, stops)?;
            if !done.is_whole {
                if !arguments.quiet {
                    let (output, frames) = (output.display(), done.written.frames());
                    progress::note(&format!(
                        "{output}: {frames} frames are ready; run the same command to resume"
                    ));
                }
                return done.result;
            }
            (done.written, done.result)
        }
    };
    let total = segments.frames();
    mux.run(&complete, false, |mut stdin| segments.join(&mut stdin))?;
    let (made, changed) = check_result(&complete, total, &probe, &mux)?;
    {
        let _writing = signals::writing();
        let publish = || {
            File::open(&complete)?.sync_all()?;
            fs::rename(&complete, &output)?;
            let folder = output
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            wdsr_atomic_file::synchronise_folder(folder.unwrap_or(Path::new(".")))
        };
        publish().with_context(|| format!("cannot write {}", output.display()))?;
    }
    segments.remove()?;
    if !arguments.quiet {
        let seconds = started.elapsed().as_secs_f64();
        let mut parts = vec![
            format!("{target}: {plan}"),
            format!("{total} frames"),
            format!("{seconds:.1} s"),
            format!("{:.2} frames/s", (total - resumed) as f64 / seconds),
            format!("{:.1} MB", made as f64 / 1e6),
        ];
        let mut copied = mux.copied();
        if !probe.chapters.is_empty() {
            copied.push(format!("{} chapters", probe.chapters.len()));
        }
        let all_lost = [lost, changed].concat();
        for (what, list) in [("copied: ", copied), ("lost: ", all_lost)] {
            if !list.is_empty() {
                parts.push(format!("{what}{}", list.join(", ")));
            }
        }
        progress::note(&format!(
            "{} -> {} ({})",
            input.display(),
            output.display(),
            parts.join("; ")
        ));
    }
    result
}

/// Checks the frames of a result. Returns its bytes, and what of the input it does not have although its
/// container was to hold it.
fn check_result(
    path: &Path,
    frames: u64,
    input: &Probe,
    mux: &Mux<'_>,
) -> anyhow::Result<(u64, Vec<String>)> {
    let result = Probe::of(path, "-count_packets")?;
    let found = result
        .video()
        .and_then(|stream| stream.nb_read_packets.clone());
    let found = found.unwrap_or_else(|| "no".to_owned());
    if found != frames.to_string() {
        bail!(
            "{}: expected {frames} frames, found {found}; the segments are kept; other options of the encoder, or \
             another container, may help",
            path.display()
        );
    }
    let made = Video::of(&result, path, None, None)?;
    let mut changed = mux.missing_in(&result);
    let mut compare = |name: &str, of_input: &Option<String>, of_result: &Option<String>| {
        if let Some(value) = of_input.as_ref().filter(|_| of_input != of_result) {
            changed.push(format!("{name} {value}"));
        }
    };
    let (before, after) = (&mux.video.tags, &made.tags);
    compare("range", &before.range, &after.range);
    compare("matrix", &before.matrix, &after.matrix);
    compare("primaries", &before.primaries, &after.primaries);
    compare("transfer", &before.transfer, &after.transfer);
    let (before, after) = (input.chapters.len(), result.chapters.len());
    if after < before {
        changed.push(format!("{} of {before} chapters", before - after));
    }
    let is_kept = |name: &str| {
        result
            .format
            .tags
            .keys()
            .any(|tag| tag.eq_ignore_ascii_case(name))
    };
    // Containers have their own.
    let of_container = [
        "major_brand",
        "minor_version",
        "compatible_brands",
        "encoder",
    ];
    for name in input.format.tags.keys() {
        if !is_kept(name)
            && !of_container
                .iter()
                .any(|own| name.eq_ignore_ascii_case(own))
        {
            changed.push(format!("metadata {name}"));
        }
    }
    Ok((fs::metadata(path)?.len(), changed))
}

fn upscale_y4m(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    if !arguments.encoder.is_empty() {
        return Err(
            WrongUsage("Y4M has no encoder; remove the options after --".to_owned()).into(),
        );
    }
    for (name, is_terminal) in [
        ("input", io::stdin().is_terminal()),
        ("output", io::stdout().is_terminal()),
    ] {
        if is_terminal {
            return Err(WrongUsage(format!(
                "standard {name} is a terminal; expected a pipe or a file"
            ))
            .into());
        }
    }
    let name = Path::new("standard input");
    let mut stdin = BufReader::new(io::stdin());
    let header = y4m::Y4mHeader::read(&mut stdin)?;
    arguments.refuse_interlaced(header.is_interlaced)?;
    if arguments.interlaced == Some(Interlaced::Deinterlace) && header.is_interlaced {
        let message = "Y4M is not deinterlaced; do so before (ffmpeg -vf bwdif)";
        return Err(WrongUsage(message.to_owned()).into());
    }
    let coding = Coding {
        matrix: arguments.matrix.unwrap_or(Matrix::usual(header.size)),
        range: arguments.range.or(header.range).unwrap_or(Range::Limited),
    };
    let networks = arguments.networks()?;
    let format = FrameFormat::Planar(header.layout, coding);
    let work = arguments.work(name, &networks, format, header.size)?;
    work.check_memory(arguments.max_memory)?;
    let plan = work.upscaler.plan();
    let mut text = Vec::new();
    header.write(&mut text, plan.target())?;
    let writer = FrameWriter::start(move |frames| {
        let (mut stdout, output) = (BufWriter::new(io::stdout()), Path::new("standard output"));
        write_to(&mut stdout, output, &text, "the header")?;
        for (frame, number) in frames.iter().flatten().zip(1_u64..) {
            let what = format!("frame {number}");
            write_to(&mut stdout, output, b"FRAME\n", &what)?;
            write_to(&mut stdout, output, &frame.bytes, &what)?;
        }
        stdout.flush().context("standard output: cannot write")
    })?;
    let mut number = 0;
    let frames = frames::read_ahead(move || {
        number += 1;
        header.frame(&mut stdin, number)
    })?;
    let bar = progress::bar(0, "{pos} frames, {per_sec}", arguments.quiet);
    let done = work.run(&frames, writer, &bar, |_| signals::requested())?;
    if !arguments.quiet && done.count > 0 {
        let seconds = started.elapsed().as_secs_f64();
        progress::note(&format!(
            "{} -> standard output ({}: {plan}; {} frames; {seconds:.1} s)",
            name.display(),
            plan.target(),
            done.count
        ));
    }
    done.result
}
