//! Frames without headers, as `ffmpeg -f rawvideo` writes and reads them, upscaled one by one.
//!
//! One thread reads ahead and another writes, so that both overlap with the network. At most one
//! frame waits on either side, which bounds the memory.

use std::fmt;
use std::io::{Read, Write};
use std::panic::resume_unwind;
use std::path::Path;
use std::str::FromStr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use wdsr_image::{AtomicFile, Colour, Depth, Image, Samples};
use wdsr_model::UpscaleError;
use wdsr_upscale::{Error, ImageUpscaler, Size};

use super::Arguments;
use super::failure::{Refused, explained};
use super::networks::Networks;
use super::pipe::{self, PipeInput, PipeOutput};
use super::yuv::{self, Coding, Matrix, Range};
use crate::WrongUsage;
use crate::exit::OutOfMemory;
use crate::{progress, signals, units};

#[derive(clap::Args)]
#[command(next_help_heading = "Raw video")]
pub(super) struct RawVideoArguments {
    /// Read and write raw video frames of this size and pixel format, as ffmpeg -f rawvideo
    ///
    /// The frames have no headers. The result has the same pixel format.
    #[arg(
        long,
        value_name = "WxH:rgb24|yuv420p",
        conflicts_with_all = ["recursive", "shard", "report", "format", "metadata", "alpha", "timeout"]
    )]
    rawvideo: Option<FrameFormat>,
    /// YUV matrix of input and output
    ///
    /// By default bt709 for frames of 1280 or more columns or more than 576 rows, else bt601.
    #[arg(long, value_enum, requires = "rawvideo")]
    matrix: Option<Matrix>,
    /// YUV range of input and output [default: limited]
    #[arg(long, value_enum, requires = "rawvideo")]
    range: Option<Range>,
}

impl RawVideoArguments {
    /// The frames, with --rawvideo.
    pub(super) fn video(&self) -> Option<Video> {
        self.rawvideo.map(|frames| Video {
            frames,
            coding: Coding {
                matrix: self.matrix.unwrap_or(Matrix::usual(frames.size)),
                range: self.range.unwrap_or(Range::Limited),
            },
        })
    }
}

/// A pixel format, by ffmpeg's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PixelFormat {
    /// R G B interleaved, 8 bit.
    Rgb24,
    /// A plane of luma, two of chroma with half its columns and rows.
    Yuv420p,
}

impl PixelFormat {
    fn frame_bytes(self, size: Size) -> u128 {
        match self {
            Self::Rgb24 => size.pixels() * 3,
            Self::Yuv420p => yuv::frame_bytes(size),
        }
    }

    /// Depth of the frames between input and output.
    fn depth(self) -> Depth {
        match self {
            Self::Rgb24 => Depth::U8,
            // Rounded only once, when they become YUV again.
            Self::Yuv420p => Depth::F32,
        }
    }
}

impl fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rgb24 => "rgb24",
            Self::Yuv420p => "yuv420p",
        })
    }
}

/// Size and pixel format of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameFormat {
    size: Size,
    format: PixelFormat,
}

/// A text that is no [`FrameFormat`].
#[derive(Debug, thiserror::Error)]
#[error("expected WxH:rgb24 or WxH:yuv420p, e.g. 640x360:yuv420p, found \"{0}\"")]
pub(super) struct FrameFormatError(String);

impl FromStr for FrameFormat {
    type Err = FrameFormatError;

    fn from_str(text: &str) -> Result<Self, FrameFormatError> {
        let parse = || {
            let (size, format) = text.split_once(':')?;
            Some(Self {
                size: units::size(size).ok()?,
                format: match format {
                    "rgb24" => PixelFormat::Rgb24,
                    "yuv420p" => PixelFormat::Yuv420p,
                    _ => return None,
                },
            })
        };
        parse().ok_or_else(|| FrameFormatError(text.to_owned()))
    }
}

/// The format and the colour coding of frames.
pub(super) struct Video {
    frames: FrameFormat,
    coding: Coding,
}

impl Video {
    fn image_of(&self, frame: Vec<u8>) -> Image {
        let FrameFormat { size, format } = self.frames;
        let samples = match format {
            PixelFormat::Rgb24 => Samples::U8(frame),
            PixelFormat::Yuv420p => Samples::F32(yuv::to_rgb(&frame, size, self.coding)),
        };
        Image::new(size.width_px, size.height_px, Colour::Rgb, samples)
    }

    fn frame_of(&self, image: Image) -> Vec<u8> {
        let size = Size::of(&image);
        match image.samples {
            Samples::U8(samples) => samples,
            Samples::F32(samples) => yuv::from_rgb(&samples, size, self.coding),
            Samples::U16(_) => unreachable!("frames have 8 bits or floats"),
        }
    }
}

/// Upscales all frames of the input.
pub(super) fn upscale(arguments: &Arguments, video: &Video) -> anyhow::Result<()> {
    let started = Instant::now();
    let source = PipeInput::of(arguments)?;
    let Some(sink) = PipeOutput::of(arguments)? else {
        return Ok(());
    };
    pipe::claim_files(arguments, &source)?;
    let (input, output) = (source.name(), sink.name());
    let FrameFormat { size, format } = video.frames;
    let networks = Networks::load(arguments)?;
    let strength = arguments.strength.unwrap_or_default();
    if networks.have_strength() && arguments.strength.is_none() {
        let message = "raw video: frames of different strengths would flicker; give --strength";
        return Err(WrongUsage(message.to_owned()).into());
    }
    let limits = arguments.reading_limits();
    limits
        .check(size.width_px, size.height_px, &input)
        .map_err(explained)?;
    let (upscalers, settings) = (networks.upscalers(), arguments.settings());
    let upscaler = ImageUpscaler::planned(&input, size, &upscalers, &settings)
        .map_err(explained)?
        // Frames of different ranges would flicker.
        .stretch_range(false)
        .at_strength(strength);
    let plan = upscaler.plan();
    let frame_bytes = format.frame_bytes(size);
    // One that is read, one that waits, and the current one, on either side.
    let waiting_bytes = 3 * (frame_bytes + format.frame_bytes(plan.target()));
    upscaler
        .check_memory(
            Colour::Rgb,
            format.depth(),
            waiting_bytes,
            arguments.max_memory(),
        )
        .map_err(|error| {
            let input = input.display();
            OutOfMemory(format!(
                "{input}: {error}; raise --max-memory or use smaller frames"
            ))
        })?;

    let frames = read_ahead(&source, frame_bytes as usize)?;
    let writer = FrameWriter::start(sink)?;
    let bar = progress::bar(0, "{pos} frames, {per_sec}", arguments.quiet);
    let report = |_: usize, _: usize| signals::flow();
    let mut count = 0_u64;
    let frame_error = |number: u64, source: UpscaleError| {
        let name = format!("{}: frame {number}", input.display()).into();
        explained(Error::Network { name, source })
    };
    let (whole, result) = loop {
        if signals::requested() {
            break (false, Err(frame_error(count + 1, UpscaleError::Stopped)));
        }
        let frame = match frames.recv_timeout(Duration::from_millis(100)) {
            Ok(Next::Frame(frame)) => frame,
            Ok(Next::End(result)) => break (count > 0, result),
            // An idle source must not delay an interrupt.
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => panic!("the reader ended without an end"),
        };
        let large = match upscaler.upscale_with_progress(video.image_of(frame), &report) {
            Ok(large) => large,
            Err(error) => break (false, Err(frame_error(count + 1, error))),
        };
        if !writer.send(video.frame_of(large)) {
            // `finish` returns the error.
            break (false, Ok(()));
        }
        count += 1;
        bar.inc(1);
    };
    bar.finish_and_clear();
    let file = writer.finish()?;
    if let Some(file) = file.filter(|_| whole) {
        let _writing = signals::writing();
        file.publish()
            .with_context(|| format!("cannot write {}", output.display()))?;
    }
    if !arguments.quiet && count > 0 {
        progress::note(&format!(
            "{} -> {} ({}: {plan}; {count} frames; {:.1} s)",
            input.display(),
            output.display(),
            plan.target(),
            started.elapsed().as_secs_f64()
        ));
    }
    result
}

/// A message of the reader; [`Next::End`] is the last.
enum Next {
    Frame(Vec<u8>),
    /// Whether the source ended after a whole frame.
    End(anyhow::Result<()>),
}

/// Reads frames on a thread of its own, which ends with the source or the receiver.
fn read_ahead(source: &PipeInput, frame_bytes: usize) -> anyhow::Result<Receiver<Next>> {
    let name = source.name();
    let mut stream = source.open()?;
    let (sender, receiver) = sync_channel(1);
    let read = move || {
        for number in 1_u64.. {
            let next = match read_frame(&mut *stream, &name, frame_bytes, number) {
                Ok(Some(frame)) => Next::Frame(frame),
                Ok(None) => Next::End(Ok(())),
                Err(error) => Next::End(Err(error)),
            };
            let ends = matches!(next, Next::End(_));
            if sender.send(next).is_err() || ends {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("reader".to_owned());
    thread.spawn(read).context("cannot start a thread")?;
    Ok(receiver)
}

/// Reads frame `number`, counted from 1; `None` at the end.
///
/// # Errors
/// If the source ends within a frame or without any ([`Refused`] if it had no whole one), or cannot be
/// read.
fn read_frame(
    stream: &mut (dyn Read + Send),
    name: &Path,
    frame_bytes: usize,
    number: u64,
) -> anyhow::Result<Option<Vec<u8>>> {
    let mut frame = Vec::with_capacity(frame_bytes);
    let found = stream
        .take(frame_bytes as u64)
        .read_to_end(&mut frame)
        .with_context(|| format!("{}: cannot read frame {number}", name.display()))?;
    if found == frame_bytes {
        return Ok(Some(frame));
    }
    let name = name.display();
    let remedy = "check the size and pixel format of --rawvideo";
    match (number, found) {
        (1, _) => Err(Refused(format!(
            "{name}: no whole frame: expected {frame_bytes} bytes, found {found}; {remedy}"
        ))
        .into()),
        (_, 0) => Ok(None),
        _ => bail!(
            "{name}: frame {number} is truncated: expected {frame_bytes} bytes, found {found}; \
             the {} whole frames before it are written; {remedy}",
            number - 1
        ),
    }
}

/// A thread that writes frames.
struct FrameWriter {
    frames: SyncSender<Vec<u8>>,
    thread: JoinHandle<anyhow::Result<Option<AtomicFile>>>,
}

impl FrameWriter {
    fn start(sink: PipeOutput) -> anyhow::Result<Self> {
        let name = sink.name();
        let mut pipe = sink.open()?;
        let mut file = match pipe {
            Some(_) => None,
            None => {
                let write = || format!("cannot write {}", name.display());
                Some(AtomicFile::create(&name).with_context(write)?)
            }
        };
        let (sender, receiver) = sync_channel::<Vec<u8>>(1);
        let write = move || {
            for (frame, number) in receiver.iter().zip(1_u64..) {
                let what = format!("frame {number}");
                if let Some(pipe) = &mut pipe {
                    pipe::write_to(&mut **pipe, &name, &frame, &what)?;
                } else if let Some(file) = &mut file {
                    let cannot_write = || format!("{}: cannot write {what}", name.display());
                    file.write_all(&frame).with_context(cannot_write)?;
                }
            }
            if let Some(file) = &file {
                let cannot_write = || format!("cannot write {}", name.display());
                file.synchronise().with_context(cannot_write)?;
            }
            Ok(file)
        };
        let thread = thread::Builder::new().name("writer".to_owned());
        let thread = thread.spawn(write).context("cannot start a thread")?;
        Ok(Self {
            frames: sender,
            thread,
        })
    }

    /// Sends a frame; false if the thread has ended with an error.
    fn send(&self, frame: Vec<u8>) -> bool {
        self.frames.send(frame).is_ok()
    }

    /// Waits until all frames are written. Returns the file, if they went into one.
    fn finish(self) -> anyhow::Result<Option<AtomicFile>> {
        drop(self.frames);
        self.thread
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_formats_parse() {
        let size = Size {
            width_px: 640,
            height_px: 361,
        };
        for (text, format, bytes) in [
            ("640x361:rgb24", PixelFormat::Rgb24, 640 * 361 * 3),
            (
                "640x361:yuv420p",
                PixelFormat::Yuv420p,
                640 * 361 + 2 * 320 * 181,
            ),
        ] {
            let expected = FrameFormat { size, format };
            assert_eq!(text.parse::<FrameFormat>().ok(), Some(expected));
            assert_eq!(format.frame_bytes(size), bytes, "{text}");
        }
        for wrong in [
            "640x361",
            "640x361:",
            "640:rgb24",
            "0x1:rgb24",
            "4x4:yuv444p",
            "4x4:RGB24",
        ] {
            wrong.parse::<FrameFormat>().expect_err(wrong);
        }
    }
}
