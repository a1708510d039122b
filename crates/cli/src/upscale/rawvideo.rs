//! Frames without headers, as `ffmpeg -f rawvideo` writes and reads them, upscaled one by one.
//!
//! A thread reads ahead, another writes behind, so that both overlap with the network. Between them
//! and it one frame each may wait, which bounds memory.

use std::fmt;
use std::io::{Read, Write};
use std::panic::resume_unwind;
use std::path::Path;
use std::str::FromStr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use wdsr_image::{Colour, Depth, Image, NewFile, Samples};
use wdsr_model::{Isa, UpscaleError};
use wdsr_upscale::Size;

use super::image::{self, Method, Refused};
use super::pipe::{self, Sink, Source};
use super::size::parse_size;
use super::yuv::{self, Coding, Matrix, Range};
use super::{Arguments, interrupt, load_networks, size_plan};
use crate::progress;

#[derive(clap::Args)]
#[command(next_help_heading = "Raw video")]
pub(super) struct RawVideoArguments {
    /// Input and result are frames without headers, as ffmpeg's `-f rawvideo`, of this size and
    /// pixel format; the result has the same format
    #[arg(
        long,
        value_name = "WxH:rgb24|yuv420p",
        conflicts_with_all = ["recursive", "shard", "report", "format", "metadata", "alpha"]
    )]
    rawvideo: Option<Layout>,
    /// What yuv420p means, before and after. Unless given bt709 for frames of 1280 or more columns
    /// or above 576 rows, else bt601
    #[arg(long, value_enum, requires = "rawvideo")]
    matrix: Option<Matrix>,
    /// Codes of black and white in yuv420p [default: limited]
    #[arg(long, value_enum, requires = "rawvideo")]
    range: Option<Range>,
}

impl RawVideoArguments {
    /// The frames, if raw video is asked for.
    pub(super) fn video(&self) -> Option<Video> {
        self.rawvideo.map(|layout| Video {
            layout,
            coding: Coding {
                matrix: self.matrix.unwrap_or(Matrix::usual(layout.size)),
                range: self.range.unwrap_or(Range::Limited),
            },
        })
    }
}

/// A pixel format, as ffmpeg calls it.
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

    /// Of images on their way through the network.
    fn depth(self) -> Depth {
        match self {
            Self::Rgb24 => Depth::U8,
            // Rounded once only, when they are YUV again.
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
pub(super) struct Layout {
    size: Size,
    format: PixelFormat,
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (size, format) = text.split_once(':')?;
            Some(Self {
                size: parse_size(size).ok()?,
                format: match format {
                    "rgb24" => PixelFormat::Rgb24,
                    "yuv420p" => PixelFormat::Yuv420p,
                    _ => return None,
                },
            })
        };
        parse().ok_or_else(|| {
            format!("expected WxH:rgb24 or WxH:yuv420p, as 640x360:yuv420p, found {text}")
        })
    }
}

/// Frames and what they mean.
pub(super) struct Video {
    layout: Layout,
    coding: Coding,
}

impl Video {
    fn image_of(&self, frame: Vec<u8>) -> Image {
        let Layout { size, format } = self.layout;
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

/// Upscales all frames.
pub(super) fn upscale(arguments: &Arguments, video: &Video) -> anyhow::Result<()> {
    let started = Instant::now();
    let source = Source::of(arguments)?;
    let Some(sink) = Sink::of(arguments)? else {
        return Ok(());
    };
    pipe::claim_files(arguments, &source)?;
    let (input, output) = (source.name(), sink.name());
    let Layout { size, format } = video.layout;
    let precision = arguments.model.precision.or_f32(Isa::detect()?);
    let networks = load_networks(arguments, precision)?;
    let plan = size_plan(arguments, &networks, &input, size)?;
    let [low, high] = [size, plan.target()].map(|size| (size.width_px, size.height_px));
    arguments.limits.check(&input, low, high)?;
    let method = Method::new(arguments, &plan, &networks);
    let frame_bytes = format.frame_bytes(size);
    // Read, waiting, at work; and the same on the way out.
    let waiting = 3 * (frame_bytes + format.frame_bytes(plan.target()));
    let image_upscaler = &method.image_upscaler;
    let bytes = image_upscaler.memory_bytes(Colour::Rgb, format.depth())
        + image_upscaler.working_bytes()
        + waiting;
    image::check_memory(&input, bytes, &method, "or use smaller frames")?;

    let frames = read_ahead(&source, frame_bytes as usize)?;
    let writer = Writer::start(sink)?;
    let bar = progress::bar(0, "{pos} frames, {per_sec}", arguments.quiet);
    let report = |_: usize, _: usize| interrupt::flow();
    let mut count = 0_u64;
    let (whole, result) = loop {
        if interrupt::requested() {
            break (false, Err(UpscaleError::Stopped.into()));
        }
        let frame = match frames.recv_timeout(Duration::from_millis(100)) {
            Ok(Next::Frame(frame)) => frame,
            Ok(Next::End(result)) => break (count > 0, result),
            // A source that says nothing must not keep an interrupt waiting.
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => panic!("the reader ended without a word"),
        };
        let large = match image_upscaler.upscale_with_progress(video.image_of(frame), &report) {
            Ok(large) => large,
            Err(error) => {
                let frame = format!("{}: frame {}", input.display(), count + 1);
                break (false, Err(anyhow::Error::new(error).context(frame)));
            }
        };
        if !writer.send(video.frame_of(large)) {
            // It tells why when it is asked for its end.
            break (false, Ok(()));
        }
        count += 1;
        bar.inc(1);
    };
    bar.finish_and_clear();
    let file = writer.finish()?;
    if let Some(file) = file.filter(|_| whole) {
        let _writing = interrupt::writing();
        file.publish()?;
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

/// What comes from the reader, [`Next::End`] at last.
enum Next {
    Frame(Vec<u8>),
    /// Whether the source ended after a whole frame.
    End(anyhow::Result<()>),
}

/// Reads frames on a thread of its own, which ends with the source, or when nobody wants more.
fn read_ahead(source: &Source, frame_bytes: usize) -> anyhow::Result<Receiver<Next>> {
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

/// The next frame, the first of them number 1; `None` at the end.
///
/// # Errors
/// When the source ends amid a frame or without any ([`Refused`] if it had no whole one), or cannot
/// be read.
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
    let remedy = "do size and pixel format of --rawvideo fit?";
    match (number, found) {
        (1, _) => Err(Refused(format!(
            "{name}: no whole frame: expected {frame_bytes} bytes, found {found}; {remedy}"
        ))
        .into()),
        (_, 0) => Ok(None),
        _ => bail!(
            "{name}: frame {number} is truncated: expected {frame_bytes} bytes, found {found}; \
             the {} whole frames before it are done; {remedy}",
            number - 1
        ),
    }
}

/// A thread that writes frames.
struct Writer {
    frames: SyncSender<Vec<u8>>,
    thread: JoinHandle<anyhow::Result<Option<NewFile>>>,
}

impl Writer {
    fn start(sink: Sink) -> anyhow::Result<Self> {
        let mut file = match &sink {
            Sink::Standard => None,
            Sink::File(path) => Some(NewFile::create(path)?),
        };
        let (sender, receiver) = sync_channel::<Vec<u8>>(1);
        let write = move || {
            for (frame, number) in receiver.iter().zip(1_u64..) {
                let what = format!("frame {number}");
                match &mut file {
                    None => pipe::write_standard(&frame, &what)?,
                    Some(file) => file.write_all(&frame).with_context(|| {
                        format!("{}: cannot write {what}", sink.name().display())
                    })?,
                }
            }
            if let Some(file) = &file {
                file.synchronise()?;
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

    /// Hands a frame over; false if the thread has ended with an error.
    fn send(&self, frame: Vec<u8>) -> bool {
        self.frames.send(frame).is_ok()
    }

    /// Waits until all frames are written; the file, where they went into one.
    fn finish(self) -> anyhow::Result<Option<NewFile>> {
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
    fn layouts_parse() {
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
            assert_eq!(text.parse(), Ok(Layout { size, format }));
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
            wrong.parse::<Layout>().expect_err(wrong);
        }
    }
}
