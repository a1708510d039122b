//! Frames without headers, as `ffmpeg -f rawvideo` writes and reads them, upscaled one by one.

use std::fmt;
use std::io::{Read, Write};
use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, bail};
use wdsr_image::AtomicFile;
use wdsr_upscale::{ImageUpscaler, Size};

use super::Arguments;
use super::failure::{Refused, explained};
use super::frames::{self, Frame, FrameFormat, FrameUpscaler, FrameWriter};
use super::networks::Networks;
use super::pipe::{self, PipeInput, PipeOutput};
use super::yuv::{Coding, Layout, Matrix, Range};
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
    rawvideo: Option<RawFrames>,
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
        let RawFrames { size, format } = self.rawvideo?;
        let coding = Coding {
            matrix: self.matrix.unwrap_or(Matrix::usual(size)),
            range: self.range.unwrap_or(Range::Limited),
        };
        let format = match format {
            PixelFormat::Rgb24 => FrameFormat::Rgb24,
            PixelFormat::Yuv420p => FrameFormat::Planar(Layout::YUV420P, coding),
        };
        Some(Video { size, format })
    }
}

/// Size and pixel format of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RawFrames {
    size: Size,
    format: PixelFormat,
}

/// A pixel format, by ffmpeg's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PixelFormat {
    Rgb24,
    Yuv420p,
}

impl fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rgb24 => "rgb24",
            Self::Yuv420p => "yuv420p",
        })
    }
}

/// A text that is no [`RawFrames`].
#[derive(Debug, thiserror::Error)]
#[error("expected WxH:rgb24 or WxH:yuv420p, e.g. 640x360:yuv420p, found \"{0}\"")]
struct RawFramesError(String);

impl FromStr for RawFrames {
    type Err = RawFramesError;

    fn from_str(text: &str) -> Result<Self, RawFramesError> {
        let parse = || {
            let (size, format) = text.split_once(':')?;
            let formats = [PixelFormat::Rgb24, PixelFormat::Yuv420p];
            Some(Self {
                size: units::size(size).ok()?,
                format: formats.into_iter().find(|f| f.to_string() == format)?,
            })
        };
        parse().ok_or_else(|| RawFramesError(text.to_owned()))
    }
}

/// The size, the format and the colour coding of frames.
pub(super) struct Video {
    size: Size,
    format: FrameFormat,
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
    let &Video { size, format } = video;
    let networks = Networks::load(arguments.networks())?;
    let strength = networks.strength_of_frames(arguments.strength)?;
    let limits = arguments.reading_limits();
    limits
        .check(size.width_px, size.height_px, &input)
        .map_err(explained)?;
    let (upscalers, settings) = (networks.upscalers(), arguments.settings());
    let upscaler =
        ImageUpscaler::planned(&input, size, &upscalers, &settings).map_err(explained)?;
    let work = FrameUpscaler::new(&input, upscaler, strength, format, size);
    work.check_memory(arguments.max_memory())?;

    let mut stream = source.open()?;
    let frame_bytes = format.frame_bytes(size) as usize;
    let (name, mut number) = (input.clone(), 0);
    let frames = frames::read_ahead(move || {
        number += 1;
        let bytes = read_frame(&mut *stream, &name, frame_bytes, number)?;
        Ok(bytes.map(|bytes| Frame { pts: 0, bytes }))
    })?;
    let bar = progress::bar(0, "{pos} frames, {per_sec}", arguments.quiet);
    let done = work.run(&frames, writer(sink)?, &bar, |_| signals::requested())?;
    if let Some(file) = done.written.filter(|_| done.is_whole) {
        let _writing = signals::writing();
        file.publish()
            .with_context(|| format!("cannot write {}", output.display()))?;
    }
    let device = networks.device_used();
    if !arguments.quiet && done.count > 0 {
        let device = device.map_or(String::new(), |device| format!(" on {device}"));
        let plan = work.upscaler.plan();
        progress::note(&format!(
            "{} -> {} ({}: {plan}{device}; {} frames; {:.1} s)",
            input.display(),
            output.display(),
            plan.target(),
            done.count,
            started.elapsed().as_secs_f64()
        ));
    }
    done.result
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

/// Writes frames to the sink. Its outcome is the file, if they went into one.
fn writer(sink: PipeOutput) -> anyhow::Result<FrameWriter<Option<AtomicFile>>> {
    let name = sink.name();
    let mut pipe = sink.open()?;
    let mut file = match pipe {
        Some(_) => None,
        None => {
            let write = || format!("cannot write {}", name.display());
            Some(AtomicFile::create(&name).with_context(write)?)
        }
    };
    FrameWriter::start(move |frames| {
        for (frame, number) in frames.iter().flatten().zip(1_u64..) {
            let what = format!("frame {number}");
            if let Some(pipe) = &mut pipe {
                pipe::write_to(&mut **pipe, &name, &frame.bytes, &what)?;
            } else if let Some(file) = &mut file {
                let cannot_write = || format!("{}: cannot write {what}", name.display());
                file.write_all(&frame.bytes).with_context(cannot_write)?;
            }
        }
        if let Some(file) = &file {
            let cannot_write = || format!("cannot write {}", name.display());
            file.synchronise().with_context(cannot_write)?;
        }
        Ok(file)
    })
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
        for (text, format) in [
            ("640x361:rgb24", PixelFormat::Rgb24),
            ("640x361:yuv420p", PixelFormat::Yuv420p),
        ] {
            let expected = RawFrames { size, format };
            assert_eq!(text.parse::<RawFrames>().ok(), Some(expected));
        }
        for wrong in [
            "640x361",
            "640x361:",
            "640:rgb24",
            "0x1:rgb24",
            "4x4:yuv444p",
            "4x4:RGB24",
        ] {
            wrong.parse::<RawFrames>().expect_err(wrong);
        }
    }
}
